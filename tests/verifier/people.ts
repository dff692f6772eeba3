import { blankIsNone, group, json, type Recomputed } from "./recompute.ts";

const IS_DOCTOR = `(${group("Doctor", "u.id")}
  or exists (select from dispatch_doctorsetting d where d.user_id = u.id)
  or exists (select from dispatch_usersetting s where s.user_id = u.id)
  or exists (select from dispatch_office_doctors o where o.user_id = u.id)
  or exists (select from dispatch_patient dp where dp.doctor_id = u.id)
  or exists (select from dispatch_payment dm where dm.doctor_id = u.id)
  or exists (select from dispatch_offer f where f.doctor_id = u.id)
  or exists (select from dispatch_note n where n.doctor_id = u.id))`;

export const people: readonly Recomputed[] = [
  {
    entity: "offices",
    source: { from: "dispatch_office o", id: "o.id" },
    target: { from: "offices t", id: "t.legacy_office_id" },
    columns: {
      name: ["o.name"],
      address: ["o.address"],
      apartment: ["o.apt"],
      city: ["o.city"],
      state: ["o.state"],
      zip_code: ["o.zip"],
      country: ["o.country"],
      phone: ["o.phone"],
      tax_rate: ["o.tax_rate"],
      square_customer_id: ["o.sq_customer_id"],
      is_active: ["o.valid"],
      email_notifications: ["o.emails"],
    },
    application: ["notes"],
  },
  {
    entity: "profiles",
    source: { from: "auth_user u left join dispatch_patient p on p.user_id = u.id", id: "u.id" },
    target: { from: "profiles t", id: "t.legacy_user_id" },
    columns: {
      legacy_patient_id: ["p.id"],
      profile_type: [
        `case when p.id is not null then 'patient'
              when u.is_superuser or ${group("Master", "u.id")} then 'master'
              when ${group("Technician", "u.id")} then 'technician'
              when ${IS_DOCTOR} then 'doctor'
              when ${group("Sales", "u.id")} then 'sales_person' end`,
      ],
      first_name: [blankIsNone("u.first_name")],
      last_name: [blankIsNone("u.last_name")],
      email: [blankIsNone("u.email")],
      username: ["u.username"],
      gender: [
        "case when p.id is null then null when p.sex is null then 'unknown' else (array['other', 'male', 'female'])[p.sex + 1] end",
      ],
      date_of_birth: ["p.birthdate"],
      patient_suffix: ["nullif(p.suffix, '')"],
      is_active: ["u.is_active"],
      archived: ["coalesce(p.archived, false)"],
      suspended: ["coalesce(p.suspended, false)"],
      joined_at: ["u.date_joined"],
      last_login_at: ["u.last_login"],
    },
    // Nobody stops being a technician or doctor.
    unlessSaid: {
      profile_type: `case when exists (select from technicians k where k.legacy_user_id = t.legacy_user_id) then 'technician'
                          when exists (select from doctors d where d.legacy_user_id = t.legacy_user_id) then 'doctor' end`,
    },
    application: ["bio"],
  },
  {
    entity: "doctors",
    source: { from: "auth_user u left join dispatch_doctorsetting s on s.user_id = u.id", id: "u.id", where: IS_DOCTOR },
    target: { from: "doctors t left join profiles pr on pr.id = t.profile_id", id: "t.legacy_user_id" },
    keepsAbsent: true,
    columns: {
      profile_id: ["u.id", "pr.legacy_user_id"],
      doctor_number: ["'DOC-' || lpad(u.id::text, 6, '0')"],
      status: ["case when u.is_active then 'active' else 'inactive' end"],
      clinical_preferences: [json("s.clinical_preferences")],
      square_customer_id: ["s.sq_customer_id"],
      promised_payment: ["s.promised_payment"],
      credit: ["s.credit"],
      tier_type: ["s.tier_type"],
      tier_finish: ["s.tier_finish"],
      installment_payments: ["s.installment_payments"],
      company_account: ["s.company_account"],
      baa_agreed_at: ["s.baa_agreed_at"],
      eula_agreed_at: ["s.eula_agreed_at"],
      joined_practice_at: ["u.date_joined"],
    },
    application: ["npi_number"],
  },
  {
    entity: "technicians",
    source: { from: "auth_user u", id: "u.id", where: group("Technician", "u.id") },
    target: { from: "technicians t left join profiles pr on pr.id = t.profile_id", id: "t.legacy_user_id" },
    keepsAbsent: true,
    columns: {
      profile_id: ["u.id", "pr.legacy_user_id"],
      employee_id: ["u.username"],
      status: ["case when u.is_active then 'active' else 'inactive' end"],
      hired_at: ["u.date_joined"],
    },
    application: ["specialty"],
  },
  {
    entity: "patients",
    source: { from: "dispatch_patient p", id: "p.id" },
    target: {
      from: `patients t left join profiles pr on pr.id = t.profile_id left join doctors d on d.id = t.primary_doctor_id
             left join offices o on o.id = t.assigned_office_id`,
      id: "t.legacy_patient_id",
    },
    columns: {
      profile_id: ["p.user_id", "pr.legacy_user_id"],
      primary_doctor_id: ["p.doctor_id", "d.legacy_user_id"],
      assigned_office_id: ["p.office_id", "o.legacy_office_id"],
      patient_number: ["'PAT-' || lpad(p.id::text, greatest(6, length(p.id::text)), '0')"],
      suffix: ["nullif(p.suffix, '')"],
      sex: ["case when p.sex is null then 'unknown' else (array['other', 'male', 'female'])[p.sex + 1] end"],
      date_of_birth: ["p.birthdate"],
      status: ["case p.status when 1 then 'active' when 4 then 'active' when 2 then 'on_hold' when 10 then 'archived' end"],
      treatment_phase: [
        `case when p.archived or p.suspended or p.status = 10 then 'closed' when p.status = 2 then 'paused'
              when p.submitted_at is null then 'enrolment' when p.status in (1, 4) then 'in_treatment' end`,
      ],
      archived: ["p.archived"],
      suspended: ["p.suspended"],
      schemes: [json("p.schemes")],
      legacy_data: [
        `jsonb_build_object('legacy_id', p.id, 'source_table', 'dispatch_patient', 'original_status_id', p.status,
                            'sync_source', 'isthmus')`,
      ],
      enrolled_at: ["p.submitted_at"],
      source_updated_at: ["p.updated_at"],
    },
    application: ["medical_notes"],
  },
  {
    entity: "doctor_offices",
    source: { from: "dispatch_office_doctors m", id: "m.id" },
    target: {
      from: "doctor_offices t left join doctors d on d.id = t.doctor_id left join offices o on o.id = t.office_id",
      id: "t.legacy_office_doctor_id",
    },
    columns: { doctor_id: ["m.user_id", "d.legacy_user_id"], office_id: ["m.office_id", "o.legacy_office_id"] },
    application: ["is_primary"],
  },
  {
    entity: "patients_doctors_offices",
    source: { from: "dispatch_patient p", id: "p.id", where: "p.doctor_id is not null or p.office_id is not null" },
    target: {
      from: `patients_doctors_offices t left join patients p on p.id = t.patient_id left join doctors d on d.id = t.doctor_id
             left join offices o on o.id = t.office_id`,
      id: "t.legacy_patient_id",
    },
    columns: {
      patient_id: ["p.id", "p.legacy_patient_id"],
      doctor_id: ["p.doctor_id", "d.legacy_user_id"],
      office_id: ["p.office_id", "o.legacy_office_id"],
    },
  },
  {
    entity: "cases",
    source: { from: "dispatch_patient p", id: "p.id" },
    target: {
      from: `cases t left join patients p on p.id = t.patient_id left join doctors d on d.id = t.primary_doctor_id
             left join offices o on o.id = t.office_id`,
      id: "t.legacy_patient_id",
    },
    columns: {
      patient_id: ["p.id", "p.legacy_patient_id"],
      primary_doctor_id: ["p.doctor_id", "d.legacy_user_id"],
      office_id: ["p.office_id", "o.legacy_office_id"],
      case_number: ["'CASE-' || case when p.suffix <> '' then p.suffix || '-' else '' end || p.id"],
      status_code: ["p.status"],
      deleted: ["p.archived or p.suspended"],
    },
  },
];

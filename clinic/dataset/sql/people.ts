import { json, records, type LandedBefore, type Projection } from "./projection.ts";

const members = (name: string) =>
  `(select m.user_id from auth_user_groups m join auth_group g on g.id = m.group_id where g.name = '${name}')`;

const DOCTORS = `(
  select user_id from ${members("Doctor")} x
  union select user_id from dispatch_doctorsetting union select user_id from dispatch_usersetting
  union select user_id from dispatch_office_doctors
  union select doctor_id from dispatch_patient where doctor_id is not null
  union select doctor_id from dispatch_payment where doctor_id is not null
  union select doctor_id from dispatch_offer where doctor_id is not null
  union select doctor_id from dispatch_note where doctor_id is not null)`;

const name = (column: string) => `case when lower(btrim(${column})) in ('', 'null') then null else ${column} end`;

/** The first that matches; NULL where nothing does. Nobody stops being a technician or doctor. */
const profileType = (landedBefore: LandedBefore) => `case
  when p.id is not null then 'patient'
  when u.is_superuser or u.id in ${members("Master")} then 'master'
  when u.id in ${members("Technician")} then 'technician'
  when u.id in ${DOCTORS} then 'doctor'
  when u.id in ${members("Sales")} then 'sales_person'
  when u.id in ${landedBefore("technicians")} then 'technician'
  when u.id in ${landedBefore("doctors")} then 'doctor' end`;

export const PEOPLE: readonly Projection[] = [
  {
    entity: "offices",
    records: records({
      from: "dispatch_office",
      v: "name, address, apt, city, state, zip, country, phone, tax_rate, sq_customer_id, valid, emails",
    }),
    parents: [],
  },
  {
    entity: "profiles",
    records: (landedBefore) =>
      records({
        from: "auth_user u left join dispatch_patient p on p.user_id = u.id",
        id: "u.id",
        field: `case when ${profileType(landedBefore)} is null then 'profile_type' when p.sex not in (0, 1, 2) then 'gender' end`,
        v: `${profileType(landedBefore)}, p.id, ${name("u.first_name")}, ${name("u.last_name")}, ${name("u.email")}, u.username, p.sex, p.birthdate,
          p.suffix, u.is_active, p.archived, p.suspended, u.date_joined, u.last_login`,
      }),
    parents: [],
  },
  {
    entity: "doctors",
    records: records({
      from: "auth_user u left join dispatch_doctorsetting d on d.user_id = u.id",
      id: "u.id",
      refs: ["u.id"],
      v: `u.is_active, u.date_joined, ${json("d.clinical_preferences")}, d.sq_customer_id, d.promised_payment, d.credit, d.tier_finish,
          d.tier_type, d.installment_payments, d.baa_agreed_at, d.eula_agreed_at, d.company_account`,
      where: `u.id in ${DOCTORS}`,
    }),
    parents: [["profile_id", "profiles"]],
    keepsAbsent: true,
    money: { table: "dispatch_doctorsetting", key: "user_id", columns: { credit: "credit" } },
  },
  {
    entity: "technicians",
    records: records({
      from: "auth_user u",
      id: "u.id",
      refs: ["u.id"],
      v: "u.username, u.is_active, u.date_joined",
      where: `u.id in ${members("Technician")}`,
    }),
    parents: [["profile_id", "profiles"]],
    keepsAbsent: true,
  },
  {
    entity: "doctor_offices",
    records: records({ from: "dispatch_office_doctors", refs: ["user_id", "office_id"] }),
    parents: [
      ["doctor_id", "doctors"],
      ["office_id", "offices"],
    ],
  },
  {
    entity: "patients",
    records: records({
      from: "dispatch_patient",
      field: "case when sex not in (0, 1, 2) then 'sex' when status not in (1, 2, 4, 10) then 'status' end",
      passes: "birthdate >= '1900-01-01'",
      refs: ["user_id", "doctor_id", "office_id"],
      v: `nullif(suffix, ''), sex, birthdate, status, archived, suspended, ${json("schemes")}, submitted_at, updated_at`,
    }),
    parents: [
      ["profile_id", "profiles"],
      ["primary_doctor_id", "doctors"],
      ["assigned_office_id", "offices"],
    ],
  },
  {
    entity: "patients_doctors_offices",
    records: records({
      from: "dispatch_patient",
      refs: ["id", "doctor_id", "office_id"],
      where: "num_nonnulls(doctor_id, office_id) > 0",
    }),
    parents: [
      ["patient_id", "patients"],
      ["doctor_id", "doctors"],
      ["office_id", "offices"],
    ],
    waived: { rule: "related@1", rows: "dispatch_patient where num_nonnulls(doctor_id, office_id) = 0" },
  },
  {
    entity: "cases",
    records: records({
      from: "dispatch_patient",
      refs: ["id", "doctor_id", "office_id"],
      v: "suffix, status, archived or suspended",
    }),
    parents: [
      ["patient_id", "patients"],
      ["primary_doctor_id", "doctors"],
      ["office_id", "offices"],
    ],
  },
];

import { defineEntity } from "./define-entity.ts";

declare module "./define-entity.ts" {
  interface Entities {
    doctors: { source: "auth_user"; target: "doctors" };
  }
}

/**
 * A doctor is every user whom the legacy data treats as one. Any reference makes a user a doctor, so a doctor
 * reference never lacks its parent; and one who loses all traces stays as they were.
 */
export const doctors = defineEntity({
  name: "doctors",
  target: { table: "doctors", legacyKey: "legacy_user_id" },
  onDelete: "ignore",
  source: {
    table: "auth_user",
    key: "id",
    alias: "u",
    joins: { d: { table: "dispatch_doctorsetting", on: { user_id: "u.id" } } },
    where: `(d.id is not null
      or exists (select from public.auth_user_groups ug join public.auth_group g on g.id = ug.group_id where ug.user_id = u.id and g.name = 'Doctor')
      or exists (select from public.dispatch_usersetting s where s.user_id = u.id)
      or exists (select from public.dispatch_office_doctors od where od.user_id = u.id)
      or exists (select from public.dispatch_patient dp where dp.doctor_id = u.id)
      or exists (select from public.dispatch_payment dm where dm.doctor_id = u.id)
      or exists (select from public.dispatch_offer o where o.doctor_id = u.id)
      or exists (select from public.dispatch_note n where n.doctor_id = u.id))`,
    // Groups count by name, so that another name changes their members.
    watches: {
      ug: { table: "auth_user_groups", on: { user_id: "u.id" } },
      g: { table: "auth_group", on: { id: "ug.group_id" } },
      s: { table: "dispatch_usersetting", on: { user_id: "u.id" } },
      od: { table: "dispatch_office_doctors", on: { user_id: "u.id" } },
      dp: { table: "dispatch_patient", on: { doctor_id: "u.id" } },
      dm: { table: "dispatch_payment", on: { doctor_id: "u.id" } },
      o: { table: "dispatch_offer", on: { doctor_id: "u.id" } },
      n: { table: "dispatch_note", on: { doctor_id: "u.id" } },
    },
    columns: {
      user_id: "u.id",
      is_active: "u.is_active",
      date_joined: "u.date_joined",
      clinical_preferences: "d.clinical_preferences",
      sq_customer_id: "d.sq_customer_id",
      promised_payment: "d.promised_payment",
      credit: "d.credit",
      tier_finish: "d.tier_finish",
      tier_type: "d.tier_type",
      installment_payments: "d.installment_payments",
      baa_agreed_at: "d.baa_agreed_at",
      eula_agreed_at: "d.eula_agreed_at",
      company_account: "d.company_account",
    },
    ignored: {
      username: "on the profile",
      first_name: "on the profile",
      last_name: "on the profile",
      email: "on the profile",
      password: "secret: never leaves the source",
      is_superuser: "on the profile",
      is_staff: "on the profile",
      last_login: "on the profile",
    },
  },
  fields: (f) => ({
    profile_id: f.lookup("profiles", "user_id", { required: true }),
    doctor_number: f.calculate(["user_id"], (row) => `DOC-${(row["user_id"] ?? "").padStart(6, "0")}`),
    status: f.mapEnum("is_active", { true: "active", false: "inactive" }),
    clinical_preferences: f.json("clinical_preferences", { sensitive: true }),
    square_customer_id: f.copy("sq_customer_id"),
    promised_payment: f.copy("promised_payment"),
    credit: f.money("credit"),
    tier_type: f.copy("tier_type"),
    tier_finish: f.copy("tier_finish"),
    installment_payments: f.copy("installment_payments"),
    company_account: f.copy("company_account"),
    baa_agreed_at: f.copy("baa_agreed_at"),
    eula_agreed_at: f.copy("eula_agreed_at"),
    joined_practice_at: f.copy("date_joined"),
  }),
});

import { defineEntity } from "./define-entity.ts";

declare module "./define-entity.ts" {
  interface Entities {
    doctor_offices: { source: "dispatch_office_doctors"; target: "doctor_offices" };
  }
}

/** Where a doctor works. Which office is the primary one is recorded nowhere. */
export const doctorOffices = defineEntity({
  name: "doctor_offices",
  target: { table: "doctor_offices", legacyKey: "legacy_office_doctor_id" },
  onDelete: "hard",
  source: {
    table: "dispatch_office_doctors",
    key: "id",
    alias: "od",
    columns: { user_id: "od.user_id", office_id: "od.office_id" },
    ignored: {},
  },
  fields: (f) => ({
    doctor_id: f.lookup("doctors", "user_id", { required: true }),
    office_id: f.lookup("offices", "office_id", { required: true }),
  }),
});

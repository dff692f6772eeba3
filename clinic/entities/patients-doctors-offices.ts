import { defineEntity } from "./define-entity.ts";

declare module "./define-entity.ts" {
  interface Entities {
    patients_doctors_offices: { source: "dispatch_patient"; target: "patients_doctors_offices" };
  }
}

/** Who treats a patient, and where: a second record of the patient's own row. */
export const patientsDoctorsOffices = defineEntity({
  name: "patients_doctors_offices",
  target: { table: "patients_doctors_offices", legacyKey: "legacy_patient_id" },
  onDelete: "hard",
  source: {
    table: "dispatch_patient",
    key: "id",
    alias: "p",
    modified: "updated_at",
    filters: ["doctor_id", "office_id"],
    predicate: {
      name: "related",
      version: 1,
      where: "p.doctor_id is not null or p.office_id is not null",
      reason: "A patient with neither a doctor nor an office has no such relation.",
      onLeave: "delete",
    },
    columns: { id: "p.id", doctor_id: "p.doctor_id", office_id: "p.office_id" },
    ignored: {
      user_id: "on the patient",
      birthdate: "on the patient",
      sex: "on the patient",
      suffix: "on the patient",
      status: "on the patient",
      archived: "on the patient",
      suspended: "on the patient",
      schemes: "on the patient",
      submitted_at: "on the patient",
      updated_at: "on the patient",
    },
  },
  fields: (f) => ({
    patient_id: f.lookup("patients", "id", { required: true }),
    doctor_id: f.lookup("doctors", "doctor_id"),
    office_id: f.lookup("offices", "office_id"),
  }),
});

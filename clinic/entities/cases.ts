import { defineEntity } from "./define-entity.ts";

declare module "./define-entity.ts" {
  interface Entities {
    cases: { source: "dispatch_patient"; target: "cases" };
  }
}

/** One case per patient, archived ones too. The status travels as the code: what it means for a case is disputed. */
export const cases = defineEntity({
  name: "cases",
  target: { table: "cases", legacyKey: "legacy_patient_id" },
  onDelete: { soft: { deleted: true } },
  source: {
    table: "dispatch_patient",
    key: "id",
    alias: "p",
    modified: "updated_at",
    filters: ["doctor_id", "office_id", "status"],
    columns: {
      id: "p.id",
      doctor_id: "p.doctor_id",
      office_id: "p.office_id",
      suffix: "p.suffix",
      status: "p.status",
      archived: "p.archived",
      suspended: "p.suspended",
    },
    ignored: {
      user_id: "on the patient",
      birthdate: "on the patient",
      sex: "on the patient",
      schemes: "on the patient",
      submitted_at: "on the patient",
      updated_at: "on the patient",
    },
  },
  fields: (f) => ({
    patient_id: f.lookup("patients", "id", { required: true }),
    primary_doctor_id: f.lookup("doctors", "doctor_id"),
    office_id: f.lookup("offices", "office_id"),
    case_number: f.calculate(["suffix", "id"], (row) =>
      row["suffix"] ? `CASE-${row["suffix"]}-${row["id"] ?? ""}` : `CASE-${row["id"] ?? ""}`,
    ),
    status_code: f.copy("status"),
    deleted: f.calculate(
      ["archived", "suspended"],
      (row) => (row["archived"] === "true" || row["suspended"] === "true" ? "true" : "false"),
      { keepRaw: true },
    ),
  }),
});

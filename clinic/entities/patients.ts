import { defineEntity, type SourceRow } from "./define-entity.ts";

declare module "./define-entity.ts" {
  interface Entities {
    patients: { source: "dispatch_patient"; target: "patients" };
  }
}

/** Dates of four-digit years compare as texts; infinity and years before Christ do not. */
function isPlainDate(text: string | null): text is string {
  return text !== null && /^\d{4}-[^B]*$/.test(text);
}

/** Where a patient's treatment stands: the first that matches. */
function treatmentPhase(row: SourceRow): "enrolment" | "in_treatment" | "paused" | "closed" | null {
  const status = row["status"];
  if (row["archived"] === "true" || row["suspended"] === "true" || status === "10") return "closed";
  if (status === "2") return "paused";
  if (row["submitted_at"] === null) return "enrolment";
  return status === "1" || status === "4" ? "in_treatment" : null;
}

export const patients = defineEntity({
  name: "patients",
  target: { table: "patients", legacyKey: "legacy_patient_id" },
  source: {
    table: "dispatch_patient",
    key: "id",
    alias: "p",
    modified: "updated_at",
    filters: ["doctor_id", "office_id", "status"],
    columns: {
      id: "p.id",
      user_id: "p.user_id",
      doctor_id: "p.doctor_id",
      office_id: "p.office_id",
      birthdate: "p.birthdate",
      sex: "p.sex",
      suffix: "p.suffix",
      status: "p.status",
      archived: "p.archived",
      suspended: "p.suspended",
      schemes: "p.schemes",
      submitted_at: "p.submitted_at",
      updated_at: "p.updated_at",
    },
    ignored: {},
  },
  fields: (f) => ({
    profile_id: f.lookup("profiles", "user_id", { required: true }),
    primary_doctor_id: f.lookup("doctors", "doctor_id"),
    assigned_office_id: f.lookup("offices", "office_id"),
    patient_number: f.calculate(["id"], (row) => `PAT-${(row["id"] ?? "").padStart(6, "0")}`),
    suffix: f.calculate(["suffix"], (row) => (row["suffix"] === "" ? null : (row["suffix"] ?? null)), { keepRaw: true }),
    sex: f.mapEnum("sex", { "0": "other", "1": "male", "2": "female" }, { whenNull: "unknown" }),
    date_of_birth: f.copy("birthdate", { sensitive: true }),
    status: f.mapEnum("status", { "1": "active", "2": "on_hold", "4": "active", "10": "archived" }, { whenNull: null }),
    treatment_phase: f.calculate(["archived", "suspended", "status", "submitted_at"], treatmentPhase, {
      members: { enrolment: true, in_treatment: true, paused: true, closed: true },
    }),
    archived: f.copy("archived"),
    suspended: f.copy("suspended"),
    schemes: f.json("schemes", { sensitive: true }),
    // No time of the sync in it: it would change every record in every run. That is sync_row_states.synced_at.
    legacy_data: f.object({
      legacy_id: { number: "id" },
      source_table: { always: "dispatch_patient" },
      original_status_id: { number: "status" },
      sync_source: { always: "isthmus" },
    }),
    enrolled_at: f.copy("submitted_at"),
    source_updated_at: f.copy("updated_at"),
  }),
  rules: [
    {
      id: "patient_number_format",
      version: 1,
      severity: "park",
      fields: ["patient_number"],
      remedy: "A patient number is PAT- and at least six digits: correct the rule that makes it in the entity file.",
      holds: (record) => /^PAT-\d{6,}$/.test(record.patient_number ?? ""),
    },
    {
      id: "born_before_enrolment",
      version: 1,
      severity: "warn",
      fields: ["date_of_birth", "enrolled_at"],
      remedy: "The patient was enrolled before they were born: correct one of the two dates in the source.",
      holds: ({ date_of_birth: born, enrolled_at: enrolled }) =>
        !isPlainDate(born) || !isPlainDate(enrolled) || born.slice(0, 10) <= enrolled.slice(0, 10),
    },
  ],
});

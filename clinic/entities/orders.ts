import { defineEntity } from "./define-entity.ts";

declare module "./define-entity.ts" {
  interface Entities {
    orders: { source: "dispatch_instruction"; target: "orders" };
  }
}

/** An order is a dispatch_instruction (dispatch_order is another id space). Its doctor and office are its patient's. */
export const orders = defineEntity({
  name: "orders",
  target: { table: "orders", legacyKey: "legacy_instruction_id" },
  onDelete: { soft: { deleted: true } },
  source: {
    table: "dispatch_instruction",
    key: "id",
    alias: "i",
    modified: "updated_at",
    filters: ["patient_id", "course_id", "status"],
    joins: { p: { table: "dispatch_patient", on: { id: "i.patient_id" }, required: true } },
    columns: {
      id: "i.id",
      patient_id: "i.patient_id",
      doctor_id: "p.doctor_id",
      office_id: "p.office_id",
      patient_suffix: "p.suffix",
      course_id: "i.course_id",
      status: "i.status",
      deleted: "i.deleted",
      submitted_at: "i.submitted_at",
      updated_at: "i.updated_at",
      suffix: "i.suffix",
      objective: "i.objective",
      notes: "i.notes",
      complaint: "i.complaint",
      exports: "i.exports",
      model: "i.model",
      scanner: "i.scanner",
      scanner_notes: "i.scanner_notes",
      cbct: "i.cbct",
      comprehensive: "i.comprehensive",
      accept_extraction: "i.accept_extraction",
      conditions: "i.conditions",
      price: "i.price",
    },
    ignored: {
      order: "position in a list of the old application",
      upper_jaw_id: "belongs to the jaws",
      lower_jaw_id: "belongs to the jaws",
    },
  },
  fields: (f) => ({
    patient_id: f.lookup("patients", "patient_id", { required: true }),
    doctor_id: f.lookup("doctors", "doctor_id"),
    office_id: f.lookup("offices", "office_id"),
    order_number: f.calculate(["patient_suffix", "id"], (row) =>
      row["patient_suffix"] ? `${row["patient_suffix"]}-${row["id"] ?? ""}` : (row["id"] ?? null),
    ),
    course_type: f.mapEnum(
      "course_id",
      { "1": "main", "2": "refinement", "3": "replacement", "4": "any", "7": "invoice", "8": "merchandise" },
      { whenNull: null },
    ),
    status: f.mapEnum("status", { "0": "no_product", "1": "submitted", "2": "approved", "4": "shipped" }),
    amount: f.money("price"),
    suffix: f.copy("suffix"),
    notes: f.copy("notes", { sensitive: true }),
    complaint: f.copy("complaint", { sensitive: true }),
    objective: f.copy("objective", { sensitive: true }),
    exports: f.json("exports"),
    metadata: f.object(
      {
        model: { number: "model" },
        scanner: { number: "scanner" },
        scanner_notes: { text: "scanner_notes" },
        cbct: { boolean: "cbct" },
        comprehensive: { boolean: "comprehensive" },
        accept_extraction: { boolean: "accept_extraction" },
        conditions: { json: "conditions" },
      },
      { sensitive: true },
    ),
    deleted: f.copy("deleted"),
    submitted_at: f.copy("submitted_at"),
    source_updated_at: f.copy("updated_at"),
  }),
  rules: [
    {
      id: "shipped_was_submitted",
      version: 1,
      severity: "warn",
      fields: ["status", "submitted_at"],
      remedy: "The order is shipped but was never submitted: set submitted_at in the source.",
      holds: (record) => record.status !== "shipped" || record.submitted_at !== null,
    },
  ],
});

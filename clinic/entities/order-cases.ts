import { defineEntity } from "./define-entity.ts";

declare module "./define-entity.ts" {
  interface Entities {
    order_cases: { source: "dispatch_instruction"; target: "order_cases" };
  }
}

/** Every order with the case of its patient, whose id is the case's. */
export const orderCases = defineEntity({
  name: "order_cases",
  target: { table: "order_cases", legacyKey: "legacy_instruction_id" },
  onDelete: "hard",
  source: {
    table: "dispatch_instruction",
    key: "id",
    alias: "i",
    modified: "updated_at",
    filters: ["patient_id", "course_id", "status"],
    columns: { id: "i.id", patient_id: "i.patient_id" },
    ignored: {
      course_id: "belongs to the order",
      status: "belongs to the order",
      deleted: "belongs to the order",
      submitted_at: "belongs to the order",
      updated_at: "belongs to the order",
      suffix: "belongs to the order",
      order: "belongs to the order",
      model: "belongs to the order",
      scanner: "belongs to the order",
      scanner_notes: "belongs to the order",
      cbct: "belongs to the order",
      comprehensive: "belongs to the order",
      accept_extraction: "belongs to the order",
      objective: "belongs to the order",
      conditions: "belongs to the order",
      notes: "belongs to the order",
      complaint: "belongs to the order",
      exports: "belongs to the order",
      price: "belongs to the order",
      upper_jaw_id: "belongs to the order",
      lower_jaw_id: "belongs to the order",
    },
  },
  fields: (f) => ({
    order_id: f.lookup("orders", "id", { required: true }),
    case_id: f.lookup("cases", "patient_id", { required: true }),
  }),
});

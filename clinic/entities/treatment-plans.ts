import { defineEntity } from "./define-entity.ts";

declare module "./define-entity.ts" {
  interface Entities {
    treatment_plans: { source: "dispatch_plan"; target: "treatment_plans" };
  }
}

export const treatmentPlans = defineEntity({
  name: "treatment_plans",
  target: { table: "treatment_plans", legacyKey: "legacy_plan_id" },
  source: {
    table: "dispatch_plan",
    key: "id",
    alias: "p",
    filters: ["project_id", "instruction_id"],
    columns: {
      project_id: "p.project_id",
      instruction_id: "p.instruction_id",
      number: "p.number",
      name: "p.name",
      notes: "p.notes",
      original: "p.original",
    },
    ignored: {},
  },
  fields: (f) => ({
    project_id: f.lookup("projects", "project_id", { required: true }),
    order_id: f.lookup("orders", "instruction_id", { required: true }),
    plan_number: f.copy("number"),
    plan_name: f.copy("name", { sensitive: true }),
    plan_notes: f.copy("notes", { sensitive: true }),
    is_original: f.copy("original"),
  }),
});

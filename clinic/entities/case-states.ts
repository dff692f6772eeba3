import { defineEntity } from "./define-entity.ts";

declare module "./define-entity.ts" {
  interface Entities {
    case_states: { source: "dispatch_state"; target: "case_states" };
  }
}

/** The case is that of the instruction's patient, whose id is the case's. */
export const caseStates = defineEntity({
  name: "case_states",
  target: { table: "case_states", legacyKey: "legacy_state_id" },
  onDelete: "hard",
  source: {
    table: "dispatch_state",
    key: "id",
    alias: "s",
    dated: "changed_at",
    filters: ["instruction_id", "actor_id", "status"],
    joins: { i: { table: "dispatch_instruction", on: { id: "s.instruction_id" }, required: true } },
    columns: {
      patient_id: "i.patient_id",
      actor_id: "s.actor_id",
      status: "s.status",
      on: "s.on",
      changed_at: "s.changed_at",
    },
    ignored: {},
  },
  fields: (f) => ({
    case_id: f.lookup("cases", "patient_id", { required: true }),
    changed_by: f.lookup("profiles", "actor_id"),
    current_state: f.mapEnum("status", { "11": "treatment_active", "12": "case_closed" }),
    is_active: f.copy("on"),
    changed_at: f.copy("changed_at"),
  }),
});

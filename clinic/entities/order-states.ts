import { defineEntity } from "./define-entity.ts";

declare module "./define-entity.ts" {
  interface Entities {
    order_states: { source: "dispatch_state"; target: "order_states" };
  }
}

/** What happened to an order. The same row is a state of the case too: see case_states. */
export const orderStates = defineEntity({
  name: "order_states",
  target: { table: "order_states", legacyKey: "legacy_state_id" },
  onDelete: "hard",
  source: {
    table: "dispatch_state",
    key: "id",
    alias: "s",
    dated: "changed_at",
    filters: ["instruction_id", "actor_id", "status"],
    columns: {
      instruction_id: "s.instruction_id",
      actor_id: "s.actor_id",
      status: "s.status",
      on: "s.on",
      changed_at: "s.changed_at",
    },
    ignored: {},
  },
  fields: (f) => ({
    order_id: f.lookup("orders", "instruction_id", { required: true }),
    changed_by: f.lookup("profiles", "actor_id"),
    status_code: f.copy("status"),
    is_active: f.copy("on"),
    changed_at: f.copy("changed_at"),
  }),
});

import { defineEntity } from "./define-entity.ts";

declare module "./define-entity.ts" {
  interface Entities {
    tasks: { source: "dispatch_task"; target: "tasks" };
  }
}

/** order_id of the source is a merchandise order's: another id space than that of orders, which are instructions. */
export const tasks = defineEntity({
  name: "tasks",
  target: { table: "tasks", legacyKey: "legacy_task_id" },
  onDelete: "hard",
  source: {
    table: "dispatch_task",
    key: "id",
    alias: "t",
    dated: "done_at",
    filters: ["instruction_id", "actor_id", "checked"],
    columns: {
      template_id: "t.template_id",
      instruction_id: "t.instruction_id",
      plan_id: "t.plan_id",
      file_id: "t.file_id",
      actor_id: "t.actor_id",
      order_id: "t.order_id",
      text: "t.text",
      checked: "t.checked",
      done_at: "t.done_at",
      jaw: "t.jaw",
    },
    ignored: {},
  },
  fields: (f) => ({
    template_id: f.lookup("templates", "template_id", { required: true }),
    order_id: f.lookup("orders", "instruction_id"),
    plan_id: f.lookup("treatment_plans", "plan_id"),
    file_id: f.lookup("files", "file_id"),
    assigned_to: f.lookup("profiles", "actor_id"),
    legacy_order_id: f.copy("order_id"),
    description: f.copy("text", { sensitive: true }),
    checked: f.copy("checked"),
    completed_at: f.copy("done_at"),
    jaw_code: f.copy("jaw"),
  }),
});

import { defineEntity, type SourceRow } from "./define-entity.ts";

declare module "./define-entity.ts" {
  interface Entities {
    templates: { source: "dispatch_template"; target: "templates" };
  }
}

/** A template is called by its task's name, else by its text's; '' is no name. */
function nameOf(row: SourceRow): string | null {
  return [row["task_name"], row["text_name"]].find((name) => name) ?? null;
}

/** A template of a task of the clinic's work. */
export const templates = defineEntity({
  name: "templates",
  target: { table: "templates", legacyKey: "legacy_template_id" },
  source: {
    table: "dispatch_template",
    key: "id",
    alias: "t",
    columns: {
      category_id: "t.category_id",
      task_name: "t.task_name",
      action_name: "t.action_name",
      text_name: "t.text_name",
      function: "t.function",
      status: "t.status",
      duration: "t.duration",
      predefined: "t.predefined",
      read_only: "t.read_only",
      separate: "t.separate",
      extensions: "t.extensions",
      alerts: "t.alerts",
    },
    ignored: {},
  },
  fields: (f) => ({
    category_id: f.lookup("categories", "category_id"),
    name: f.calculate(["task_name", "text_name"], nameOf),
    task_name: f.copy("task_name"),
    action_name: f.copy("action_name"),
    text_name: f.copy("text_name"),
    function_name: f.copy("function"),
    status_code: f.copy("status"),
    is_active: f.calculate(["status"], (row) => (row["status"] === null ? null : row["status"] === "1" ? "true" : "false")),
    duration: f.copy("duration"),
    predefined: f.copy("predefined"),
    read_only: f.copy("read_only"),
    separate: f.copy("separate"),
    extensions: f.copy("extensions"),
    alerts: f.copy("alerts"),
  }),
});

import { defineEntity } from "./define-entity.ts";

declare module "./define-entity.ts" {
  interface Entities {
    template_predecessors: { source: "dispatch_template_predecessors"; target: "template_predecessors" };
  }
}

/** Which template comes before another: from the template to its predecessor. */
export const templatePredecessors = defineEntity({
  name: "template_predecessors",
  target: { table: "template_predecessors", legacyKey: "legacy_junction_id" },
  onDelete: "hard",
  source: {
    table: "dispatch_template_predecessors",
    key: "id",
    alias: "l",
    columns: { from_template_id: "l.from_template_id", to_template_id: "l.to_template_id" },
    ignored: {},
  },
  fields: (f) => ({
    template_id: f.lookup("templates", "from_template_id"),
    predecessor_id: f.lookup("templates", "to_template_id"),
  }),
});

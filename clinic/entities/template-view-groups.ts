import { defineEntity } from "./define-entity.ts";

declare module "./define-entity.ts" {
  interface Entities {
    template_view_groups: { source: "dispatch_template_view_groups"; target: "template_view_groups" };
  }
}

/** Which teams may see what is made from a template. */
export const templateViewGroups = defineEntity({
  name: "template_view_groups",
  target: { table: "template_view_groups", legacyKey: "legacy_junction_id" },
  onDelete: "hard",
  source: {
    table: "dispatch_template_view_groups",
    key: "id",
    alias: "l",
    columns: { template_id: "l.template_id", group_id: "l.group_id" },
    ignored: {},
  },
  fields: (f) => ({
    template_id: f.lookup("templates", "template_id"),
    team_id: f.lookup("teams", "group_id"),
  }),
});

import { defineEntity } from "./define-entity.ts";

declare module "./define-entity.ts" {
  interface Entities {
    template_view_roles: { source: "dispatch_template_view_roles"; target: "template_view_roles" };
  }
}

/** Which roles may see what is made from a template. */
export const templateViewRoles = defineEntity({
  name: "template_view_roles",
  target: { table: "template_view_roles", legacyKey: "legacy_junction_id" },
  onDelete: "hard",
  source: {
    table: "dispatch_template_view_roles",
    key: "id",
    alias: "l",
    columns: { template_id: "l.template_id", role_id: "l.role_id" },
    ignored: {},
  },
  fields: (f) => ({
    template_id: f.lookup("templates", "template_id"),
    role_id: f.lookup("roles", "role_id"),
  }),
});

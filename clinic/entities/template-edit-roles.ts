import { defineEntity } from "./define-entity.ts";

declare module "./define-entity.ts" {
  interface Entities {
    template_edit_roles: { source: "dispatch_template_edit_roles"; target: "template_edit_roles" };
  }
}

/** Which roles may edit what is made from a template. */
export const templateEditRoles = defineEntity({
  name: "template_edit_roles",
  target: { table: "template_edit_roles", legacyKey: "legacy_junction_id" },
  onDelete: "hard",
  source: {
    table: "dispatch_template_edit_roles",
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

import { defineEntity } from "./define-entity.ts";

declare module "./define-entity.ts" {
  interface Entities {
    role_permissions: { source: "dispatch_role_permissions"; target: "role_permissions" };
  }
}

/** A permission of a role, as text: permissions have no table in the target. */
export const rolePermissions = defineEntity({
  name: "role_permissions",
  target: { table: "role_permissions", legacyKey: "legacy_role_permission_id" },
  onDelete: "hard",
  source: {
    table: "dispatch_role_permissions",
    key: "id",
    alias: "rp",
    joins: {
      p: { table: "auth_permission", on: { id: "rp.permission_id" } },
      ct: { table: "django_content_type", on: { id: "p.content_type_id" } },
    },
    columns: {
      role_id: "rp.role_id",
      name: "p.name",
      codename: "p.codename",
      app_label: "ct.app_label",
      model: "ct.model",
    },
    ignored: {},
  },
  fields: (f) => ({
    role_id: f.lookup("roles", "role_id", { required: true }),
    permission: f.copy("name", { required: true }),
    codename: f.copy("codename", { required: true }),
    resource: f.calculate(["app_label", "model"], (row) =>
      row["app_label"] === null ? null : `${row["app_label"] ?? ""}.${row["model"] ?? ""}`,
    ),
  }),
});

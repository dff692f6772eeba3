import { defineEntity } from "./define-entity.ts";

declare module "./define-entity.ts" {
  interface Entities {
    technician_roles: { source: "dispatch_role"; target: "technician_roles" };
  }
}

/** The technicians' roles once more, in a table of their own. */
export const technicianRoles = defineEntity({
  name: "technician_roles",
  target: { table: "technician_roles", legacyKey: "legacy_role_id" },
  onDelete: "hard",
  source: {
    table: "dispatch_role",
    key: "id",
    alias: "r",
    // Groups count by name: another name changes which roles these are.
    joins: { g: { table: "auth_group", on: { id: "r.group_id" } } },
    predicate: {
      name: "technician_group",
      version: 1,
      where: "g.name = 'Technician'",
      reason: "Roles of other groups are no technicians' roles; they are among the roles.",
      onLeave: "delete",
    },
    columns: { name: "r.name", abbrev: "r.abbrev", user_id: "r.user_id" },
    ignored: { type: "on the role", order: "on the role" },
  },
  fields: (f) => ({
    technician_id: f.lookup("technicians", "user_id"),
    role_name: f.copy("name"),
    abbreviation: f.copy("abbrev"),
  }),
});

import { defineEntity } from "./define-entity.ts";

declare module "./define-entity.ts" {
  interface Entities {
    roles: { source: "dispatch_role"; target: "roles" };
  }
}

export const roles = defineEntity({
  name: "roles",
  target: { table: "roles", legacyKey: "legacy_role_id" },
  source: {
    table: "dispatch_role",
    key: "id",
    alias: "r",
    columns: {
      name: "r.name",
      abbrev: "r.abbrev",
      type: "r.type",
      order: "r.order",
      user_id: "r.user_id",
      group_id: "r.group_id",
    },
    ignored: {},
  },
  fields: (f) => ({
    name: f.copy("name"),
    abbreviation: f.copy("abbrev"),
    type_code: f.copy("type"),
    display_order: f.copy("order"),
    profile_id: f.lookup("profiles", "user_id"),
    team_id: f.lookup("teams", "group_id"),
  }),
});

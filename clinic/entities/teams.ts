import { defineEntity } from "./define-entity.ts";

declare module "./define-entity.ts" {
  interface Entities {
    teams: { source: "auth_group"; target: "teams" };
  }
}

export const teams = defineEntity({
  name: "teams",
  target: { table: "teams", legacyKey: "legacy_group_id" },
  source: { table: "auth_group", key: "id", alias: "g", columns: { name: "g.name" }, ignored: {} },
  fields: (f) => ({ name: f.copy("name") }),
});

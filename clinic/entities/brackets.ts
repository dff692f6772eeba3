import { defineEntity } from "./define-entity.ts";

declare module "./define-entity.ts" {
  interface Entities {
    brackets: { source: "dispatch_bracket"; target: "brackets" };
  }
}

/** A bracket is its name, type and project: its dimensions are not read out of the name. */
export const brackets = defineEntity({
  name: "brackets",
  target: { table: "brackets", legacyKey: "legacy_bracket_id" },
  source: {
    table: "dispatch_bracket",
    key: "id",
    alias: "b",
    columns: { project_id: "b.project_id", name: "b.name", type: "b.type" },
    ignored: {},
  },
  fields: (f) => ({
    project_id: f.lookup("projects", "project_id"),
    name: f.copy("name"),
    bracket_type: f.copy("type"),
  }),
});

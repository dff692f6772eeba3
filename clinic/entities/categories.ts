import { defineEntity } from "./define-entity.ts";

declare module "./define-entity.ts" {
  interface Entities {
    categories: { source: "dispatch_category"; target: "categories" };
  }
}

/** A category may belong to another one; it waits for that one like any record for its parent. */
export const categories = defineEntity({
  name: "categories",
  target: { table: "categories", legacyKey: "legacy_category_id" },
  source: {
    table: "dispatch_category",
    key: "id",
    alias: "c",
    columns: { name: "c.name", parent_id: "c.parent_id" },
    ignored: {},
  },
  fields: (f) => ({
    name: f.copy("name"),
    parent_id: f.lookup("categories", "parent_id"),
  }),
});

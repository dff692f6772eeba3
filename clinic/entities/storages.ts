import { defineEntity } from "./define-entity.ts";

declare module "./define-entity.ts" {
  interface Entities {
    storages: { source: "dispatch_storage"; target: "storages" };
  }
}

/** Nothing but the id is known of them. */
export const storages = defineEntity({
  name: "storages",
  target: { table: "storages", legacyKey: "legacy_storage_id" },
  source: { table: "dispatch_storage", key: "id", alias: "s", columns: {}, ignored: {} },
  fields: () => ({}),
});

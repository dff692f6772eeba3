import { defineEntity } from "./define-entity.ts";

declare module "./define-entity.ts" {
  interface Entities {
    wares: { source: "dispatch_ware"; target: "wares" };
  }
}

/** Nothing but the id is known of them. */
export const wares = defineEntity({
  name: "wares",
  target: { table: "wares", legacyKey: "legacy_ware_id" },
  source: { table: "dispatch_ware", key: "id", alias: "e", columns: {}, ignored: {} },
  fields: () => ({}),
});

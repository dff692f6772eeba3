import { defineEntity } from "./define-entity.ts";

declare module "./define-entity.ts" {
  interface Entities {
    discounts: { source: "dispatch_discount"; target: "discounts" };
  }
}

export const discounts = defineEntity({
  name: "discounts",
  target: { table: "discounts", legacyKey: "legacy_discount_id" },
  source: {
    table: "dispatch_discount",
    key: "id",
    alias: "d",
    columns: {
      offer_id: "d.offer_id",
      percent: "d.percent",
      reason: "d.reason",
      count: "d.count",
      used: "d.used",
      start: "d.start",
      finish: "d.finish",
      total: "d.total",
    },
    ignored: {},
  },
  fields: (f) => ({
    offer_id: f.lookup("offers", "offer_id", { required: true }),
    percentage: f.copy("percent"),
    reason: f.copy("reason", { sensitive: true }),
    max_uses: f.copy("count"),
    current_uses: f.copy("used"),
    valid_from: f.copy("start"),
    valid_until: f.copy("finish"),
    applies_to_total: f.copy("total"),
  }),
});

import { defineEntity } from "./define-entity.ts";

declare module "./define-entity.ts" {
  interface Entities {
    offers: { source: "dispatch_offer"; target: "offers" };
  }
}

/** What a product costs a doctor. */
export const offers = defineEntity({
  name: "offers",
  target: { table: "offers", legacyKey: "legacy_offer_id" },
  source: {
    table: "dispatch_offer",
    key: "id",
    alias: "o",
    filters: ["doctor_id", "product_id"],
    columns: {
      doctor_id: "o.doctor_id",
      product_id: "o.product_id",
      price_both: "o.price_both",
      price_upper: "o.price_upper",
      price_lower: "o.price_lower",
    },
    ignored: {},
  },
  fields: (f) => ({
    doctor_id: f.lookup("doctors", "doctor_id"),
    product_id: f.lookup("products", "product_id"),
    price_both: f.money("price_both"),
    price_upper: f.money("price_upper"),
    price_lower: f.money("price_lower"),
  }),
});

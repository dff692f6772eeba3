import { defineEntity } from "./define-entity.ts";

declare module "./define-entity.ts" {
  interface Entities {
    purchases: { source: "dispatch_purchase"; target: "purchases" };
  }
}

/** A line of a merchandise order (dispatch_order), which has no table in the target: its id stays a number. */
export const purchases = defineEntity({
  name: "purchases",
  target: { table: "purchases", legacyKey: "legacy_purchase_id" },
  source: {
    table: "dispatch_purchase",
    key: "id",
    alias: "p",
    filters: ["order_id", "product_id"],
    columns: {
      product_id: "p.product_id",
      order_id: "p.order_id",
      quantity: "p.quantity",
      price: "p.price",
    },
    ignored: {},
  },
  fields: (f) => ({
    product_id: f.lookup("products", "product_id", { required: true }),
    legacy_order_id: f.copy("order_id"),
    quantity: f.copy("quantity"),
    unit_price: f.money("price"),
  }),
});

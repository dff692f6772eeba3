import { defineEntity } from "./define-entity.ts";

declare module "./define-entity.ts" {
  interface Entities {
    operations: { source: "dispatch_operation"; target: "operations" };
  }
}

/** A card operation on a payment (not a medical one). */
export const operations = defineEntity({
  name: "operations",
  target: { table: "operations", legacyKey: "legacy_operation_id" },
  source: {
    table: "dispatch_operation",
    key: "id",
    alias: "c",
    dated: "made_at",
    filters: ["payment_id", "type"],
    columns: {
      id: "c.id",
      payment_id: "c.payment_id",
      type: "c.type",
      made_at: "c.made_at",
      price: "c.price",
      sq_order_id: "c.sq_order_id",
      sq_payment_id: "c.sq_payment_id",
      sq_refund_id: "c.sq_refund_id",
      card_brand: "c.card_brand",
      card_last: "c.card_last",
      office_card: "c.office_card",
      attempts: "c.attempts",
    },
    ignored: { card_bin: "denied unless opted in to: card data that nobody needs" },
  },
  fields: (f) => ({
    payment_id: f.lookup("payments", "payment_id"),
    operation_type: f.mapEnum("type", { "1": "payment", "2": "refund" }),
    amount: f.money("price"),
    made_at: f.copy("made_at"),
    square_order_id: f.copy("sq_order_id"),
    square_payment_id: f.copy("sq_payment_id"),
    square_refund_id: f.copy("sq_refund_id"),
    card_brand: f.copy("card_brand"),
    card_last: f.copy("card_last", { sensitive: true }),
    office_card: f.copy("office_card"),
    attempts: f.copy("attempts"),
    metadata: f.object(
      {
        legacy_id: { number: "id" },
        sq_order_id: { text: "sq_order_id" },
        sq_payment_id: { text: "sq_payment_id" },
        sq_refund_id: { text: "sq_refund_id" },
        card_brand: { text: "card_brand" },
        card_last: { text: "card_last" },
        office_card: { boolean: "office_card" },
        payment_id: { number: "payment_id" },
      },
      { sensitive: true },
    ),
  }),
  rules: [
    {
      id: "refund_names_payment",
      version: 1,
      severity: "warn",
      fields: ["operation_type", "payment_id"],
      remedy: "The refund names no payment that it belongs to: set payment_id in the source.",
      holds: (record) => record.operation_type !== "refund" || record.payment_id !== null,
    },
  ],
});

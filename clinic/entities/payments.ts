import { compareDecimals, defineEntity, type SourceRow } from "./define-entity.ts";

declare module "./define-entity.ts" {
  interface Entities {
    payments: { source: "dispatch_payment"; target: "payments" };
  }
}

function paymentStatus(row: SourceRow): "cancelled" | "completed" | "pending" {
  if (row["canceled"] === "true") return "cancelled";
  return row["paid"] === "true" || row["free"] === "true" ? "completed" : "pending";
}

export const payments = defineEntity({
  name: "payments",
  target: { table: "payments", legacyKey: "legacy_payment_id" },
  source: {
    table: "dispatch_payment",
    key: "id",
    alias: "m",
    dated: "made_at",
    filters: ["instruction_id", "doctor_id", "office_id", "order_id"],
    columns: {
      instruction_id: "m.instruction_id",
      doctor_id: "m.doctor_id",
      office_id: "m.office_id",
      order_id: "m.order_id",
      made_at: "m.made_at",
      total_price: "m.total_price",
      subtotal_price: "m.subtotal_price",
      paid_price: "m.paid_price",
      additional_price: "m.additional_price",
      custom_price: "m.custom_price",
      tax_rate: "m.tax_rate",
      tax_value: "m.tax_value",
      used_credit: "m.used_credit",
      paid: "m.paid",
      canceled: "m.canceled",
      free: "m.free",
      netsuite: "m.netsuite",
      installments: "m.installments",
    },
    ignored: {},
  },
  fields: (f) => ({
    order_id: f.lookup("orders", "instruction_id"),
    doctor_id: f.lookup("doctors", "doctor_id"),
    office_id: f.lookup("offices", "office_id"),
    legacy_order_id: f.copy("order_id"),
    amount: f.money("total_price"),
    subtotal_amount: f.money("subtotal_price"),
    paid_amount: f.money("paid_price"),
    additional_amount: f.money("additional_price"),
    custom_amount: f.money("custom_price"),
    tax_rate: f.copy("tax_rate"),
    tax_amount: f.money("tax_value"),
    used_credit: f.money("used_credit"),
    payment_status: f.calculate(["canceled", "paid", "free"], paymentStatus, {
      members: { cancelled: true, completed: true, pending: true },
      keepRaw: true,
    }),
    is_free: f.copy("free"),
    is_canceled: f.copy("canceled"),
    netsuite: f.copy("netsuite"),
    installments: f.json("installments"),
    processed_at: f.copy("made_at"),
  }),
  rules: [
    {
      id: "paid_within_total",
      version: 1,
      severity: "warn",
      fields: ["paid_amount", "amount"],
      remedy: "More was paid than the payment's total: correct one of the two in the source, or refund the difference.",
      holds: ({ paid_amount: paid, amount }) => paid === null || amount === null || compareDecimals(paid, amount) <= 0,
    },
  ],
});

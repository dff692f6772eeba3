import type { Clinic, Operation, Payment } from "../rows.ts";
import { cents } from "../values.ts";
import { operationKinds, paymentKinds } from "./golden-kinds.ts";
import type { Ledger } from "./ledger.ts";

const id = (row: { readonly id: number }) => row.id;

/** Payments and the card operations on them. */
export function judgeMoney(ledger: Ledger, clinic: Clinic): void {
  ledger.judgeAll<Payment>("payments", clinic.payments, {
    id,
    parents: [
      ["order_id", "orders", (row) => row.instruction],
      ["doctor_id", "doctors", (row) => row.doctor],
      ["office_id", "offices", (row) => row.office],
    ],
    amounts: {
      amount: (row) => row.total,
      subtotal_amount: (row) => row.subtotal,
      paid_amount: (row) => row.paidPrice,
      additional_amount: (row) => row.additional,
      custom_amount: (row) => row.custom,
      tax_amount: (row) => row.tax,
      used_credit: (row) => row.credit,
    },
    golden: paymentKinds(),
  });
  ledger.judgeAll<Operation>("operations", clinic.operations, {
    id,
    trouble: (row) => (row.type === 1 || row.type === 2 ? null : ["operation_type", "unknown_code"]),
    parents: [["payment_id", "payments", (row) => row.payment]],
    check: (row) => row.price === null || cents(row.price) >= 0n,
    amounts: { amount: (row) => row.price },
    golden: operationKinds(),
  });
}

import type { MigratedPeople } from "./migrated-people.ts";
import { copies, migratedRows, type Copy, type MigratedRows } from "./migrated-rows.ts";
import { Random } from "./random.ts";
import type { Clinic } from "./rows.ts";

const STATUS: Readonly<Record<number, string>> = { 1: "submitted", 2: "approved", 4: "shipped" };

export function migrateMoney(clinic: Clinic, seed: number, people: MigratedPeople): MigratedRows[] {
  const random = Random.for(seed, "migrated money");
  const orders = migrateOrders(clinic, random, people);
  const orderOf = new Map(orders.ids.map(({ id, legacyId }) => [legacyId, id]));
  const payments = migratePayments(clinic, random, orderOf);
  return [orders, payments, migrateOperations(clinic, random, payments.ids[0]?.id ?? null)];
}

/** Deleted ones left out, a doctor's profile in place of the doctor, an unknown status by default; two that the source has lost since. */
function migrateOrders(clinic: Clinic, random: Random, { profiles, patients }: MigratedPeople): MigratedRows {
  const doctorOf = new Map(clinic.patients.map((patient) => [patient.id, patient.doctor]));
  const kept = clinic.instructions.filter((row) => !row.deleted && patients.has(row.patient));
  const last = clinic.instructions.reduce((highest, { id }) => Math.max(highest, id), 0);
  const lost = kept.slice(0, 2).map((row, index) => ({ ...row, id: last + 1_000 + index }));
  return migratedRows(
    "orders",
    "legacy_instruction_id order_number patient_id doctor_id status deleted source_updated_at",
    copies(random, [...kept, ...lost]),
    ({ row }) => [
      ...[`ORD-${row.id}`, patients.get(row.patient) ?? null, profiles.get(doctorOf.get(row.patient) ?? 0) ?? null],
      ...[STATUS[row.status] ?? "no_product", false, row.updated],
    ],
  );
}

/** Imported up to three times, some of the copies robbed of their legacy id; what was paid in place of the amount. */
function migratePayments(clinic: Clinic, random: Random, orders: ReadonlyMap<number | null, string>): MigratedRows {
  const times = (row: { id: number }) => (row.id % 25 === 0 ? 3 : row.id % 10 === 1 ? 2 : 1);
  const seen = new Set<number>();
  const rows = copies(random, clinic.payments, times).map((copy) => {
    const again = seen.has(copy.row.id);
    seen.add(copy.row.id);
    return again && copy.row.id % 20 === 1 ? { ...copy, legacyId: null } : copy;
  });
  return migratedRows(
    "payments",
    "legacy_payment_id order_id amount subtotal_amount paid_amount additional_amount tax_rate tax_amount used_credit " +
      "payment_status is_free is_canceled netsuite",
    // The rows of one import lie together, far from those of the next.
    random.shuffle(rows),
    ({ row }) => [
      ...[orders.get(row.instruction) ?? null, row.paidPrice, row.subtotal, row.paidPrice, row.additional, row.taxRate],
      ...[row.tax, row.credit, "completed", row.free, row.canceled, row.netsuite],
    ],
  );
}

/** All on one payment, every twentieth imported twice; what is no refund is a payment. */
function migrateOperations(clinic: Clinic, random: Random, payment: string | null): MigratedRows {
  const rows: Copy<Clinic["operations"][number]>[] = copies(random, clinic.operations, (row) => (row.id % 20 === 0 ? 2 : 1));
  return migratedRows("operations", "legacy_operation_id payment_id operation_type made_at", rows, ({ row }) => [
    payment,
    row.type === 2 ? "refund" : "payment",
    row.made,
  ]);
}

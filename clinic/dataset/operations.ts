import { inventCode } from "./names.ts";
import type { Random } from "./random.ts";
import type { Instruction, Operation, Payment } from "./rows.ts";
import { spoiler } from "./spoil.ts";
import { idsWithGaps, moment, money } from "./values.ts";

export function makeOperations(
  random: Random,
  count: number,
  scale: number,
  payments: readonly Payment[],
  instructions: readonly Instruction[],
): Operation[] {
  const rows = idsWithGaps(random, count).map((id) => makeOperation(random, id, random.pick(payments).id));
  const spoil = spoiler(random, rows, scale);
  spoil(7, (row, index) => (row.type = index % 2 === 0 ? null : 3), 2);
  spoil(5, (row) => (row.price = "-12.34"));
  spoil(4, (row) => (row.price = null));
  spoil(5, (row) => (row.payment = null));
  spoil(2, (row) => (row.attempts = 0));
  // Operations that surely wait, at any scale: the order of their payment has a status that nobody knows.
  const held = new Set(instructions.filter((row) => row.status === 3 || row.status === 9).map((row) => row.id));
  const waiting = payments.filter((row) => row.instruction !== null && held.has(row.instruction));
  spoil(4, (row, index) => (row.payment = waiting[index % waiting.length]?.id ?? null));
  return rows;
}

function makeOperation(random: Random, id: number, payment: number): Operation {
  const refund = random.chance(0.06);
  return {
    id,
    payment,
    type: refund ? 2 : 1,
    made: random.chance(0.01) ? null : moment(random),
    price: money(random.between(1, 900_000)),
    sqOrder: random.chance(0.1) ? null : inventCode(random, 22),
    sqPayment: random.chance(0.1) ? null : inventCode(random, 22),
    sqRefund: refund ? inventCode(random, 22) : null,
    brand: random.pick(["VISA", "MASTERCARD", "AMEX", null]),
    bin: String(random.between(400_000, 499_999)),
    last: String(random.between(0, 9_999)).padStart(4, "0"),
    officeCard: random.chance(0.1) ? null : random.chance(0.3),
    attempts: random.chance(0.5) ? null : random.between(1, 4),
  };
}

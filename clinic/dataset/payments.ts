import { JSON_TEXTS } from "./names.ts";
import type { Roles } from "./people.ts";
import { at, type Random } from "./random.ts";
import type { Instruction, Patient, Payment } from "./rows.ts";
import { spoiler } from "./spoil.ts";
import { idsWithGaps, moment, money } from "./values.ts";

export interface Payable {
  readonly roles: Roles;
  readonly patients: readonly Patient[];
  readonly instructions: readonly Instruction[];
  readonly merchandise: readonly { id: number }[];
}

export function makePayments(random: Random, count: number, scale: number, payable: Payable): Payment[] {
  const patients = new Map(payable.patients.map((patient) => [patient.id, patient]));
  const held = heldInstructions(payable, patients);
  const free = payable.instructions.filter((row) => !held.has(row));
  const rows = idsWithGaps(random, count).map((id) => {
    const instruction = random.pick(free);
    return makePayment(random, id, instruction, patients.get(instruction.patient), payable.roles);
  });
  const spoil = spoiler(random, rows, scale);
  const ofMerchandise = (row: Payment) => Object.assign(row, { instruction: null, order: random.pick(payable.merchandise).id });
  spoil(620, ofMerchandise, 3);
  spoil(70, (row) => (row.instruction = null), 2);
  spoil(2, (row) => (row.total = "99999999.99"));
  spoil(2, (row) => (row.subtotal = "0.01"));
  spoil(2, (row) => (row.total = "0.00"));
  spoil(6, (row) => (row.additional = "-25.00"));
  // Every combination of the three flags.
  spoil(16, (row, index) => Object.assign(row, { canceled: (index & 1) > 0, paid: (index & 2) > 0, free: (index & 4) > 0 }), 8);
  spoil(12, (row, index) => (row.installments = at(JSON_TEXTS.broken, index % 5)), 5);
  spoil(2, (row, index) => (row.installments = at(JSON_TEXTS.unknownToJsonb, index % 2)), 2);
  spoil(8, (row, index) => (row.doctor = at(payable.roles.namedByPayment, index % payable.roles.namedByPayment.length)), 1);
  // Payments that surely wait, at any scale.
  const unknown = payable.instructions.filter((row) => row.status === 3 || row.status === 9);
  spoil(6, (row, index) => (row.instruction = at(unknown, index % unknown.length).id), 2);
  // Those two links away from what holds them up: the smallest data sets do without.
  const waiting = random.shuffle([...held]);
  spoil(40, (row, index) => (row.instruction = at(waiting, index % waiting.length).id), 0);
  return rows;
}

function makePayment(random: Random, id: number, instruction: Instruction, patient: Patient | undefined, roles: Roles): Payment {
  const subtotal = random.between(0, 900_000);
  const additional = random.chance(0.9) ? 0 : random.between(1, 20_000);
  const tax = Math.floor((subtotal * 825) / 10_000);
  const paid = random.chance(0.8);
  const total = subtotal + additional + tax;
  return {
    id,
    made: random.chance(0.03) ? null : moment(random),
    instruction: instruction.id,
    order: null,
    doctor: random.chance(0.02) ? null : (patient?.doctor ?? random.pick(roles.doctors)),
    office: random.chance(0.05) ? null : (patient?.office ?? null),
    total: money(total),
    subtotal: money(subtotal),
    paidPrice: money(paid ? total : 0),
    additional: money(additional),
    custom: random.chance(0.9) ? null : money(random.between(1, 500_000)),
    taxRate: random.pick(["0.0825", "8.2500", "0.0000", "10.2500"]),
    tax: money(tax),
    credit: money(random.chance(0.95) ? 0 : random.between(1, 10_000)),
    paid,
    canceled: random.chance(0.04),
    free: random.chance(0.03),
    netsuite: random.chance(0.6),
    installments: random.pick(["", "", "[]", '[{"n": 1, "amount": "10.00"}]']),
  };
}

/** Orders of patients who will not land: with a code that nobody knows, born too early, or with such a doctor. */
function heldInstructions(payable: Payable, patients: ReadonlyMap<number, Patient>): Set<Instruction> {
  const doctors = new Set(payable.roles.queuedDoctors);
  const held = ({ sex, status, birthdate, doctor }: Patient) =>
    sex === 7 ||
    [3, 7, 99].includes(status ?? 1) ||
    (birthdate !== null && birthdate < "1900") ||
    (doctor !== null && doctors.has(doctor));
  return new Set(
    payable.instructions.filter((row) => {
      const patient = patients.get(row.patient);
      return patient !== undefined && held(patient);
    }),
  );
}

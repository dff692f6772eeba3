import { HOSTILE_TEXTS, inventCode, inventName, JSON_TEXTS } from "./names.ts";
import { at, type Random } from "./random.ts";
import type { Instruction, Patient } from "./rows.ts";
import { spoiler } from "./spoil.ts";
import { idsWithGaps, moment, money } from "./values.ts";

/** About 100 KB, as notes into which somebody pasted a whole correspondence. */
const LONG_TEXT = `${"A very long note, line by line.\n".repeat(3_200)}end`;

export function makeInstructions(
  random: Random,
  count: number,
  scale: number,
  patients: readonly Patient[],
  jaws: readonly number[],
): Instruction[] {
  const rows = idsWithGaps(random, count).map((id) => makeInstruction(random, id, random.pickSkewed(patients).id));
  giveJaws(random, rows, jaws);
  const spoil = spoiler(random, rows, scale);
  spoil(238, (row) => (row.deleted = true));
  spoil(12, (row, index) => (row.status = at([3, 9], index % 2)), 2);
  spoil(20, (row, index) => (row.course = at([5, 9], index % 2)), 2);
  spoil(10, (row, index) => (row.exports = at(JSON_TEXTS.broken, index % 5)), 5);
  spoil(4, (row, index) => (row.exports = at(JSON_TEXTS.unknownToJsonb, index % 2)), 2);
  spoil(40, (row, index) => (row.notes = at(HOSTILE_TEXTS, index % HOSTILE_TEXTS.length)), HOSTILE_TEXTS.length);
  spoil(3, (row) => (row.notes = LONG_TEXT), 2);
  spoil(2, (row) => (row.price = "99999999.99"));
  spoil(2, (row) => (row.price = "0.01"));
  spoil(16, (row) => (row.suffix = ""));
  // Orders that surely wait, at any scale: their patient has a status that nobody knows.
  const held = patients.filter((patient) => [3, 7, 99].includes(patient.status ?? 1));
  spoil(10, (row, index) => (row.patient = at(held, index % held.length).id), 2);
  spoil(10, (row, index) => (row.conditions = at(JSON_TEXTS.broken, index % 5)), 5);
  spoil(4, (row, index) => (row.conditions = at(JSON_TEXTS.unknownToJsonb, index % 2)), 2);
  spoil(2, (row) => (row.scannerNotes = HOSTILE_TEXTS[2] ?? null));
  return rows;
}

function makeInstruction(random: Random, id: number, patient: number): Instruction {
  return {
    id,
    patient,
    course: random.chance(0.01) ? null : random.pick([1, 1, 1, 1, 2, 2, 3, 4, 7, 8]),
    status: random.pick([0, 1, 1, 2, 4, 4, 4]),
    deleted: false,
    submitted: random.chance(0.08) ? null : moment(random),
    updated: moment(random),
    suffix: inventCode(random, 4),
    notes: random.chance(0.5) ? null : `Notes ${inventName(random)} ${inventName(random)}.`,
    complaint: random.chance(0.7) ? null : `Complaint ${inventName(random)}`,
    objective: random.chance(0.6) ? null : `Objective ${inventName(random)}`,
    exports: random.chance(0.2) ? null : random.pick([...JSON_TEXTS.valid, ...JSON_TEXTS.empty]),
    ...clinicalColumns(id),
    price: random.chance(0.05) ? null : money(random.between(0, 900_000)),
    upperJaw: null,
    lowerJaw: null,
  };
}

/** What the doctor said about the case besides texts. Every combination occurs at any scale. */
function clinicalColumns(id: number) {
  const flags = [null, true, false];
  return {
    model: id % 5 === 0 ? null : id % 5,
    scanner: id % 4 === 0 ? null : id % 7,
    scannerNotes: id % 6 === 0 ? null : id % 6 === 1 ? "" : `Scanner notes ${id}`,
    cbct: id % 2 === 0,
    comprehensive: at(flags, id % 3),
    acceptExtraction: at(flags, Math.floor(id / 3) % 3),
    conditions: at([null, ...JSON_TEXTS.valid, ...JSON_TEXTS.empty], id % 8),
  };
}

/** Each jaw belongs to one order at most, except for one in a thousand, which two orders claim. */
function giveJaws(random: Random, rows: readonly Instruction[], jaws: readonly number[]): void {
  const free = random.shuffle(jaws);
  const take = () => (random.chance(0.001) ? random.pick(jaws) : (free.pop() ?? null));
  for (const row of rows) {
    row.upperJaw = random.chance(0.87) ? take() : null;
    row.lowerJaw = random.chance(0.87) ? take() : null;
  }
}

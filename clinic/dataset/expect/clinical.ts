import type { Clinic } from "../rows.ts";
import type { Note, State } from "../small-rows.ts";
import type { Ledger } from "./ledger.ts";

const id = (row: { readonly id: number }) => row.id;
const CASE_STATES: Readonly<Record<number, string>> = { 11: "treatment_active", 12: "case_closed" };

/** States, each of which is one of an order and one of a case, and notes about doctors. */
export function judgeClinical(ledger: Ledger, clinic: Clinic): void {
  const patientOf = new Map(clinic.instructions.map((row) => [row.id, row.patient]));
  ledger.judgeAll<State>("order_states", clinic.states, {
    id,
    parents: [
      ["order_id", "orders", (row) => row.instruction],
      ["changed_by", "profiles", (row) => row.actor],
    ],
    golden: [
      [({ status }) => status === 0, () => ({ status_code: "0" })],
      [({ status }) => status === 13, () => ({ status_code: "13" })],
      [({ status }) => status === 11, ({ on }) => ({ status_code: "11", is_active: String(on) })],
      [({ actor }) => actor === null, () => ({ changed_by: null })],
    ],
  });
  ledger.judgeAll<State>("case_states", clinic.states, {
    id,
    trouble: ({ status }) => (CASE_STATES[status] === undefined ? ["current_state", "unknown_code"] : null),
    parents: [
      ["case_id", "cases", (row) => patientOf.get(row.instruction) ?? null],
      ["changed_by", "profiles", (row) => row.actor],
    ],
    golden: [
      [({ status }) => status === 11, ({ on }) => ({ current_state: "treatment_active", is_active: String(on) })],
      [({ status }) => status === 12, () => ({ current_state: "case_closed" })],
      [({ actor }) => actor === null, () => ({ changed_by: null })],
    ],
  });
  ledger.judgeAll<Note>("doctor_notes", clinic.notes, {
    id,
    parents: [
      ["doctor_id", "doctors", (row) => row.doctor],
      ["author_id", "profiles", (row) => row.author],
    ],
    golden: [
      [({ text }) => text === null, () => ({ content: null })],
      [({ text }) => text === "", () => ({ content: "" })],
      [({ text }) => text === "  ", () => ({ content: "  " })],
      [({ text }) => text?.includes("\t") === true, ({ text }) => ({ content: text })],
      [({ author }) => author === null, () => ({ author_id: null })],
      [({ doctor }) => doctor === null, () => ({ doctor_id: null })],
    ],
  });
}

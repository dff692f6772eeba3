import type { Clinic, Instruction, Jaw } from "../rows.ts";
import { orderKinds } from "./golden-kinds.ts";
import type { Ledger } from "./ledger.ts";

const id = (row: { readonly id: number }) => row.id;

/** Orders, the case of each, and their jaws. */
export function judgeOrders(ledger: Ledger, clinic: Clinic): void {
  const patients = new Map(clinic.patients.map((patient) => [patient.id, patient]));
  ledger.judgeAll<Instruction>("orders", clinic.instructions, {
    id,
    trouble: (row) => {
      if (row.course !== null && ![1, 2, 3, 4, 7, 8].includes(row.course)) return ["course_type", "unknown_code"];
      return [0, 1, 2, 4].includes(row.status) ? null : ["status", "unknown_code"];
    },
    parents: [
      ["patient_id", "patients", (row) => row.patient],
      ["doctor_id", "doctors", (row) => patients.get(row.patient)?.doctor ?? null],
      ["office_id", "offices", (row) => patients.get(row.patient)?.office ?? null],
    ],
    amounts: { amount: (row) => row.price },
    golden: orderKinds(clinic),
  });
  ledger.judgeAll<Instruction>("order_cases", clinic.instructions, {
    id,
    parents: [
      ["order_id", "orders", id],
      ["case_id", "cases", (row) => row.patient],
    ],
  });
  judgeJaws(ledger, clinic);
}

function judgeJaws(ledger: Ledger, clinic: Clinic): void {
  const claims = new Map<number, { order: number; type: string }[]>();
  for (const row of clinic.instructions) {
    for (const [jaw, type] of [
      [row.upperJaw, "upper"],
      [row.lowerJaw, "lower"],
    ] as const) {
      if (jaw !== null) claims.set(jaw, [...(claims.get(jaw) ?? []), { order: row.id, type }]);
    }
  }
  const claim = (jaw: Jaw) => claims.get(jaw.id)?.[0] ?? null;
  ledger.judgeAll<Jaw>("jaws", clinic.jaws, {
    id,
    trouble: (jaw) => ((claims.get(jaw.id)?.length ?? 0) > 1 ? ["order_id", "one_order"] : null),
    parents: [
      ["order_id", "orders", (jaw) => claim(jaw)?.order ?? null],
      ["product_id", "products", (jaw) => jaw.product],
    ],
    golden: [
      [(jaw) => claim(jaw) === null, () => ({ order_id: null, jaw_type: null })],
      [(jaw) => claim(jaw)?.type === "upper", () => ({ jaw_type: "upper" })],
      [(jaw) => claim(jaw)?.type === "lower", () => ({ jaw_type: "lower" })],
      [(jaw) => jaw.product === null, () => ({ product_id: null })],
      [(jaw) => jaw.reason === 2, () => ({ reason_code: "2" })],
      [(jaw) => jaw.reason === 9, () => ({ reason_code: "9" })],
      [(jaw) => jaw.reason === null, (jaw) => ({ reason_code: null, bond_teeth: jaw.bond, extract_teeth: jaw.extract })],
    ],
  });
}

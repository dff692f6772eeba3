import { change, someDoctor, someOffice, type Edit } from "./edit.ts";

/** Patients move to another doctor and office: all their orders move, whose own rows say nothing of it. One patient has no doctor any more. */
export function moves(seed: number, count: number): Edit[] {
  return [
    change(
      seed,
      "dispatch_patient",
      count * 0.05,
      `doctor_id = ${someDoctor(seed, "t.id")}, office_id = ${someOffice(seed, "t.id")}`,
    ),
    change(seed + 2, "dispatch_patient", 1, "doctor_id = null, office_id = null"),
    change(seed + 1, "dispatch_payment", count * 0.05, "paid = true, paid_price = total_price", "not paid"),
  ];
}

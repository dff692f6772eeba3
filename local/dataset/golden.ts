import type { Golden } from "./manifest.ts";
import { doctorUsers, profileTypes } from "./membership.ts";
import { HOSTILE_TEXTS } from "./names.ts";
import type { Clinic, User } from "./rows.ts";

type Kind<Row> = readonly [is: (row: Row) => boolean, values: (row: Row) => Record<string, string | null>];

/** For each kind of dirt that lands: the first record that bears it, and what must then stand in the target. */
export function goldenValues(clinic: Clinic, landed: ReadonlyMap<string, ReadonlySet<number>>): Record<string, Golden> {
  const landedOf = <Row extends { id: number }>(entity: string, rows: readonly Row[]) =>
    rows.filter((row) => landed.get(entity)?.has(row.id));
  return {
    offices: goldenOffices(landedOf("offices", clinic.offices)),
    profiles: goldenProfiles(clinic, landedOf("profiles", clinic.users)),
    doctors: goldenDoctors(clinic, landedOf("doctors", clinic.users)),
    patients: goldenPatients(landedOf("patients", clinic.patients)),
    orders: goldenOrders(clinic, landedOf("orders", clinic.instructions)),
    payments: goldenPayments(landedOf("payments", clinic.payments)),
    operations: goldenOperations(landedOf("operations", clinic.operations)),
  };
}

function first<Row extends { id: number }>(rows: readonly Row[], kinds: readonly Kind<Row>[]): Golden {
  const golden: Record<string, Record<string, string | null>> = {};
  for (const [is, values] of kinds) {
    const row = rows.find(is);
    if (row) golden[row.id] = { ...golden[row.id], ...values(row) };
  }
  return golden;
}

const NOT_JSON = { object: "{'a': 1}", word: "None", nul: '{"a": "\\u0000"}' } as const;
/** As jsonb prints it. */
const UNPARSEABLE = {
  object: `{"_raw": "{'a': 1}", "_unparseable": true}`,
  word: '{"_raw": "None", "_unparseable": true}',
  nul: '{"_raw": "{\\"a\\": \\"\\\\u0000\\"}", "_unparseable": true}',
} as const;

function goldenOffices(rows: Clinic["offices"]): Golden {
  return first(rows, [
    [(row) => row.country === null, () => ({ country: null })],
    [(row) => row.country === "Japan", (row) => ({ country: "Japan", is_active: "false", phone: row.phone, zip_code: row.zip })],
    [(row) => row.taxRate === "10.2500", () => ({ tax_rate: "10.2500" })],
    [(row) => row.taxRate === "0.1025", () => ({ tax_rate: "0.1025" })],
    [(row) => row.name === "", () => ({ name: "" })],
    [(row) => row.name.startsWith("  "), (row) => ({ name: row.name })],
    [(row) => row.phone === "", () => ({ phone: "" })],
  ]);
}

function goldenProfiles(clinic: Clinic, rows: Clinic["users"]): Golden {
  const types = profileTypes(clinic, doctorUsers(clinic));
  const patients = new Set(clinic.patients.map((patient) => patient.user));
  const hostile = (part: string): Kind<User> => [(row) => row.last.includes(part), (row) => ({ last_name: row.last })];
  return first(rows, [
    [(row) => row.first === "", () => ({ first_name: null })],
    [(row) => row.first === "NULL", () => ({ first_name: null })],
    [(row) => row.last === "null", () => ({ last_name: null })],
    [(row) => row.last === "Null", () => ({ last_name: null })],
    [(row) => row.email === "", () => ({ email: null })],
    [(row) => row.email === "null", () => ({ email: null })],
    [(row) => row.email === "not an address", () => ({ email: "not an address" })],
    [(row) => row.email === "front.desk0@example.com", () => ({ email: "front.desk0@example.com" })],
    ...["\t", "\\", "\n", "😀", "  leading", "\u2028"].map(hostile),
    [(row) => row.lastLogin === null, () => ({ last_login_at: null })],
    [(row) => !row.active, () => ({ is_active: "false" })],
    [(row) => row.superuser && patients.has(row.id), () => ({ profile_type: "patient" })],
    ...["patient", "master", "technician", "doctor", "sales_person"].map((type): Kind<User> => [
      (row) => types.get(row.id) === type,
      () => ({ profile_type: type }),
    ]),
  ]);
}

function goldenDoctors(clinic: Clinic, rows: Clinic["users"]): Golden {
  const settings = new Map(clinic.doctorSettings.map((row) => [row.user, row]));
  const number = (row: User) => `DOC-${String(row.id).padStart(6, "0")}`;
  return first(rows, [
    [(row) => !settings.has(row.id), (row) => ({ doctor_number: number(row), credit: null, clinical_preferences: null })],
    [(row) => !row.active, () => ({ status: "inactive" })],
    [(row) => settings.get(row.id)?.preferences === NOT_JSON.object, () => ({ clinical_preferences: UNPARSEABLE.object })],
    [(row) => settings.get(row.id)?.preferences === NOT_JSON.nul, () => ({ clinical_preferences: UNPARSEABLE.nul })],
    [(row) => settings.get(row.id)?.preferences === "", () => ({ clinical_preferences: null })],
    [(row) => settings.get(row.id)?.credit === "-150.25", () => ({ credit: "-150.25" })],
  ]);
}

function goldenPatients(rows: Clinic["patients"]): Golden {
  return first(rows, [
    [(row) => row.suffix === "", (row) => ({ suffix: null, patient_number: `PAT-${String(row.id).padStart(6, "0")}` })],
    [(row) => row.suffix === "LONGER", () => ({ suffix: "LONGER" })],
    [(row) => row.sex === null, () => ({ sex: "unknown" })],
    [(row) => row.sex === 0, () => ({ sex: "other" })],
    [(row) => row.status === null, () => ({ status: null })],
    [(row) => row.status === 4, () => ({ status: "active" })],
    [(row) => row.status === 10, () => ({ status: "archived" })],
    [(row) => row.doctor === null && row.office === null, () => ({ primary_doctor_id: null, assigned_office_id: null })],
    [(row) => row.birthdate === "1900-01-01", () => ({ date_of_birth: "1900-01-01" })],
    [(row) => row.birthdate === null, () => ({ date_of_birth: null })],
    [(row) => row.schemes === NOT_JSON.word, () => ({ schemes: UNPARSEABLE.word })],
    [(row) => row.schemes === NOT_JSON.nul, () => ({ schemes: UNPARSEABLE.nul })],
    [(row) => row.schemes === "", () => ({ schemes: null })],
    [(row) => row.schemes === "[]", () => ({ schemes: "[]" })],
    [(row) => row.updated === null, () => ({ source_updated_at: null })],
    [(row) => row.archived && row.suspended, () => ({ archived: "true", suspended: "true" })],
  ]);
}

function goldenOrders(clinic: Clinic, rows: Clinic["instructions"]): Golden {
  const suffixes = new Map(clinic.patients.map((patient) => [patient.id, patient.suffix]));
  return first(rows, [
    [(row) => row.price === "99999999.99", () => ({ amount: "99999999.99" })],
    [(row) => row.price === "0.01", () => ({ amount: "0.01" })],
    [(row) => row.price === null, () => ({ amount: null })],
    [(row) => row.deleted, () => ({ deleted: "true" })],
    [(row) => row.course === null, () => ({ course_type: null })],
    [(row) => row.course === 3, () => ({ course_type: "replacement" })],
    [(row) => row.suffix === "", () => ({ suffix: "" })],
    [(row) => suffixes.get(row.patient) === "", (row) => ({ order_number: String(row.id) })],
    [(row) => suffixes.get(row.patient) !== "", (row) => ({ order_number: `${suffixes.get(row.patient) ?? ""}-${row.id}` })],
    [(row) => row.exports === "", () => ({ exports: null })],
    [(row) => row.exports === NOT_JSON.object, () => ({ exports: UNPARSEABLE.object })],
    [(row) => row.exports === NOT_JSON.nul, () => ({ exports: UNPARSEABLE.nul })],
    [(row) => (row.notes?.length ?? 0) > 90_000, (row) => ({ notes: row.notes })],
    [(row) => row.notes === HOSTILE_TEXTS[2], (row) => ({ notes: row.notes })],
  ]);
}

function goldenPayments(rows: Clinic["payments"]): Golden {
  return first(rows, [
    [(row) => row.total === "99999999.99", () => ({ amount: "99999999.99" })],
    [(row) => row.subtotal === "0.01", () => ({ subtotal_amount: "0.01" })],
    [(row) => row.additional === "-25.00", () => ({ additional_amount: "-25.00" })],
    [(row) => row.canceled && row.paid, () => ({ payment_status: "cancelled", is_canceled: "true" })],
    [(row) => !row.canceled && !row.paid && row.free, () => ({ payment_status: "completed", is_free: "true" })],
    [(row) => !row.canceled && !row.paid && !row.free, () => ({ payment_status: "pending" })],
    [(row) => row.order !== null, (row) => ({ legacy_order_id: String(row.order), order_id: null })],
    [(row) => row.order === null && row.instruction === null, () => ({ legacy_order_id: null, order_id: null })],
    [(row) => row.made === null, () => ({ processed_at: null })],
    [(row) => row.taxRate === "8.2500", () => ({ tax_rate: "8.2500" })],
    [(row) => row.installments === "", () => ({ installments: null })],
    [(row) => row.installments === "[]", () => ({ installments: "[]" })],
    [(row) => row.installments === NOT_JSON.object, () => ({ installments: UNPARSEABLE.object })],
  ]);
}

function goldenOperations(rows: Clinic["operations"]): Golden {
  return first(rows, [
    [(row) => row.type === 2, () => ({ operation_type: "refund" })],
    [(row) => row.price === null, () => ({ amount: null })],
    [(row) => row.payment === null, () => ({ payment_id: null })],
    [(row) => row.attempts === 0, () => ({ attempts: "0" })],
    [(row) => row.made === null, () => ({ made_at: null })],
  ]);
}

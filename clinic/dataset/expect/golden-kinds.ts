import { doctorsOfCore, doctorUsers, profileTypes } from "../membership.ts";
import { HOSTILE_TEXTS, JSON_TEXTS } from "../names.ts";
import type { Clinic, Core, Instruction, Office, Operation, Patient, Payment, User } from "../rows.ts";
import { jsonb, NOT_JSON, unparseable } from "./json.ts";
import type { Kind } from "./ledger.ts";

export function officeKinds(): readonly Kind<Office>[] {
  return [
    [(row) => row.country === null, () => ({ country: null })],
    [(row) => row.country === "Japan", (row) => ({ country: "Japan", is_active: "false", phone: row.phone, zip_code: row.zip })],
    [(row) => row.taxRate === "10.2500", () => ({ tax_rate: "10.2500" })],
    [(row) => row.taxRate === "0.1025", () => ({ tax_rate: "0.1025" })],
    [(row) => row.name === "", () => ({ name: "" })],
    [(row) => row.name.startsWith("  "), (row) => ({ name: row.name })],
    [(row) => row.phone === "", () => ({ phone: "" })],
  ];
}

export function profileKinds(clinic: Clinic): readonly Kind<User>[] {
  const types = profileTypes(clinic, doctorUsers(clinic));
  const patients = new Set(clinic.patients.map((patient) => patient.user));
  const hostile = (part: string): Kind<User> => [(row) => row.last.includes(part), (row) => ({ last_name: row.last })];
  return [
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
    ...doctorsByNameAlone(clinic).map((only): Kind<User> => [(row) => only.has(row.id), () => ({ profile_type: "doctor" })]),
  ];
}

/** Doctors whom nothing makes one but an offer, and but a note. */
function doctorsByNameAlone(clinic: Clinic): ReadonlySet<number>[] {
  const others = doctorsOfCore(clinic);
  return [clinic.offers, clinic.notes].map(
    (rows) => new Set(rows.flatMap(({ doctor }) => (doctor === null || others.has(doctor) ? [] : [doctor]))),
  );
}

export function doctorKinds(clinic: Clinic): readonly Kind<User>[] {
  const settings = new Map(clinic.doctorSettings.map((row) => [row.user, row]));
  const number = (row: User) => `DOC-${String(row.id).padStart(6, "0")}`;
  return [
    [(row) => !settings.has(row.id), (row) => ({ doctor_number: number(row), credit: null, clinical_preferences: null })],
    [(row) => !row.active, () => ({ status: "inactive" })],
    [
      (row) => settings.get(row.id)?.preferences === NOT_JSON.object,
      () => ({ clinical_preferences: unparseable(NOT_JSON.object) }),
    ],
    [(row) => settings.get(row.id)?.preferences === NOT_JSON.nul, () => ({ clinical_preferences: unparseable(NOT_JSON.nul) })],
    [(row) => settings.get(row.id)?.preferences === "", () => ({ clinical_preferences: null })],
    [(row) => settings.get(row.id)?.credit === "-150.25", () => ({ credit: "-150.25" })],
    ...doctorsByNameAlone(clinic).map((only): Kind<User> => [
      (row) => only.has(row.id),
      (row) => ({ doctor_number: number(row), status: row.active ? "active" : "inactive" }),
    ]),
  ];
}

export function patientKinds(): readonly Kind<Patient>[] {
  return [
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
    [(row) => row.schemes === NOT_JSON.word, () => ({ schemes: unparseable(NOT_JSON.word) })],
    [(row) => row.schemes === NOT_JSON.nul, () => ({ schemes: unparseable(NOT_JSON.nul) })],
    [(row) => row.schemes === "", () => ({ schemes: null })],
    [(row) => row.schemes === "[]", () => ({ schemes: "[]" })],
    [(row) => row.updated === null, () => ({ source_updated_at: null })],
    [(row) => row.archived && row.suspended, () => ({ archived: "true", suspended: "true" })],
    ...phaseKinds(),
    ...[null, 4].map((status): Kind<Patient> => [(row) => row.status === status, (row) => ({ legacy_data: legacyData(row) })]),
  ];
}

/** What decides the phase: the first that is true. */
function phaseKinds(): readonly Kind<Patient>[] {
  const open = (row: Patient) => !row.archived && !row.suspended;
  return [
    [(row) => row.archived && row.status === 2, () => ({ treatment_phase: "closed" })],
    [(row) => row.suspended && row.submitted === null, () => ({ treatment_phase: "closed" })],
    [(row) => open(row) && row.status === 10, () => ({ treatment_phase: "closed" })],
    [(row) => open(row) && row.status === 2 && row.submitted === null, () => ({ treatment_phase: "paused" })],
    [(row) => open(row) && row.status === 2 && row.submitted !== null, () => ({ treatment_phase: "paused" })],
    [(row) => open(row) && row.status === 1 && row.submitted === null, () => ({ treatment_phase: "enrolment" })],
    [(row) => open(row) && row.status === 4 && row.submitted !== null, () => ({ treatment_phase: "in_treatment" })],
    [(row) => open(row) && row.status === null && row.submitted === null, () => ({ treatment_phase: "enrolment" })],
    [(row) => open(row) && row.status === null && row.submitted !== null, () => ({ treatment_phase: null })],
  ];
}

function legacyData({ id, status }: Patient): string {
  return jsonb({
    legacy_id: id,
    source_table: "dispatch_patient",
    original_status_id: status,
    sync_source: "isthmus",
  });
}

export function orderKinds(clinic: Core): readonly Kind<Instruction>[] {
  const suffixes = new Map(clinic.patients.map((patient) => [patient.id, patient.suffix]));
  return [
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
    [(row) => row.exports === NOT_JSON.object, () => ({ exports: unparseable(NOT_JSON.object) })],
    [(row) => row.exports === NOT_JSON.nul, () => ({ exports: unparseable(NOT_JSON.nul) })],
    [(row) => (row.notes?.length ?? 0) > 90_000, (row) => ({ notes: row.notes })],
    [(row) => row.notes === HOSTILE_TEXTS[2], (row) => ({ notes: row.notes })],
    ...clinicalKinds(),
  ];
}

const NEVER_JSON: readonly string[] = [...JSON_TEXTS.broken, ...JSON_TEXTS.unknownToJsonb];

function clinicalKinds(): readonly Kind<Instruction>[] {
  const conditions = (text: string | null) => {
    if (text === null || text === "") return "null";
    return NEVER_JSON.includes(text) ? unparseable(text) : text;
  };
  const metadata = (row: Instruction) => ({
    metadata: jsonb({
      model: row.model,
      scanner: row.scanner,
      scanner_notes: row.scannerNotes,
      cbct: row.cbct,
      comprehensive: row.comprehensive,
      accept_extraction: row.acceptExtraction,
      conditions: { printed: conditions(row.conditions) },
    }),
  });
  return [
    ...[null, "", ...JSON_TEXTS.valid, ...NEVER_JSON].map((text): Kind<Instruction> => [
      (row) => row.conditions === text,
      metadata,
    ]),
    [(row) => row.model === null && row.comprehensive === null, metadata],
    [(row) => row.scanner === null && row.acceptExtraction === false, metadata],
    [(row) => row.scannerNotes === HOSTILE_TEXTS[2], metadata],
  ];
}

export function paymentKinds(): readonly Kind<Payment>[] {
  return [
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
    [(row) => row.installments === NOT_JSON.object, () => ({ installments: unparseable(NOT_JSON.object) })],
  ];
}

export function operationKinds(): readonly Kind<Operation>[] {
  return [
    [(row) => row.type === 2, () => ({ operation_type: "refund" })],
    [(row) => row.price === null, () => ({ amount: null })],
    [(row) => row.payment === null, () => ({ payment_id: null })],
    [(row) => row.attempts === 0, () => ({ attempts: "0" })],
    [(row) => row.made === null, () => ({ made_at: null })],
    ...[1, 2].map((type): Kind<Operation> => [(row) => row.type === type, (row) => ({ metadata: squareFields(row) })]),
    [(row) => row.officeCard === null && row.brand === null, (row) => ({ metadata: squareFields(row) })],
  ];
}

function squareFields(row: Operation): string {
  return jsonb({
    legacy_id: row.id,
    sq_order_id: row.sqOrder,
    sq_payment_id: row.sqPayment,
    sq_refund_id: row.sqRefund,
    card_brand: row.brand,
    card_last: row.last,
    office_card: row.officeCard,
    payment_id: row.payment,
  });
}

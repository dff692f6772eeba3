import { goldenValues } from "./golden.ts";
import { doctorUsers, profileTypes } from "./membership.ts";
import type { Clinic, Instruction, Operation, Patient, Payment, User } from "./rows.ts";
import { cents, money } from "./values.ts";

/** What a correct sync must make of the generated data, worked out here from docs/domain.md, apart from the pipeline. */
export interface Manifest {
  readonly seed: number;
  readonly scale: number;
  readonly logScale: number;
  /** Rows per legacy table. */
  readonly tables: Readonly<Record<string, number>>;
  readonly entities: Readonly<Record<string, EntityExpectation>>;
}

export interface EntityExpectation {
  /** Records of the entity on the source. */
  readonly eligible: number;
  readonly landed: number;
  /** Records that must not land, each with its reason. */
  readonly exceptions: readonly Exception[];
  /** Sums over landed records, exact, by target column. */
  readonly money: Readonly<Record<string, string>>;
  /** Target values of dirty records that must land, by legacy id. */
  readonly golden: Golden;
}

/** Target values as text, by legacy id and column. */
export type Golden = Readonly<Record<string, Readonly<Record<string, string | null>>>>;

export type Exception =
  | {
      readonly entity: string;
      readonly legacyId: number;
      readonly outcome: "open";
      readonly type: "business_rule_violation";
      /** null where the target's own check refuses the row. */
      readonly field: string | null;
      readonly reason: "unknown_code" | "check";
    }
  | {
      readonly entity: string;
      readonly legacyId: number;
      readonly outcome: "waiting";
      readonly type: "foreign_key_violation";
      readonly reason: "parent_missing";
      readonly field: string;
      readonly parent: string;
      readonly parentId: number;
    };

interface Rules<Row> {
  readonly rows: readonly Row[];
  /** The first field with a code that nobody knows. */
  readonly unknown?: (row: Row) => string | null;
  /** References in the order of the target's columns: a record waits for the first that has not landed. */
  readonly parents?: (row: Row) => readonly (readonly [field: string, parent: string, id: number | null])[];
  /** Whether the target's checks take it. They never see a record that waits. */
  readonly check?: (row: Row) => boolean;
  readonly amounts?: Readonly<Record<string, (row: Row) => string | null>>;
}

export function expectations(clinic: Clinic): Record<string, EntityExpectation> {
  const landed = new Map<string, ReadonlySet<number>>();
  const result: Record<string, EntityExpectation> = {};
  const judge = <Row extends { id: number }>(entity: string, rules: Rules<Row>) => {
    const exceptions: Exception[] = [];
    const good = rules.rows.filter((row) => {
      const exception = judgeRow(entity, row, rules, landed);
      if (exception) exceptions.push(exception);
      return exception === undefined;
    });
    landed.set(entity, new Set(good.map((row) => row.id)));
    const sums = Object.entries(rules.amounts ?? {}).map(([column, amount]) => [column, sum(good.map(amount))]);
    result[entity] = {
      eligible: rules.rows.length,
      landed: good.length,
      exceptions,
      money: Object.fromEntries(sums) as Record<string, string>,
      golden: {},
    };
  };
  judge("offices", { rows: clinic.offices });
  judgePeople(clinic, judge);
  judgeOrders(clinic, judge);
  judgeMoney(clinic, judge);
  const golden = goldenValues(clinic, landed);
  return Object.fromEntries(
    Object.entries(result).map(([entity, expected]) => [entity, { ...expected, golden: golden[entity] ?? {} }]),
  );
}

/** Its own trouble first, then its parents, then the target's checks. */
function judgeRow<Row extends { id: number }>(
  entity: string,
  row: Row,
  { unknown, parents, check }: Rules<Row>,
  landed: ReadonlyMap<string, ReadonlySet<number>>,
): Exception | undefined {
  const open = { entity, legacyId: row.id, outcome: "open", type: "business_rule_violation" } as const;
  const field = unknown?.(row) ?? null;
  if (field !== null) return { ...open, field, reason: "unknown_code" };
  for (const [name, parent, id] of parents?.(row) ?? []) {
    if (id === null || landed.get(parent)?.has(id) === true) continue;
    const waiting = { outcome: "waiting", type: "foreign_key_violation", reason: "parent_missing" } as const;
    return { entity, legacyId: row.id, ...waiting, field: name, parent, parentId: id };
  }
  return check?.(row) === false ? { ...open, field: null, reason: "check" } : undefined;
}

type Judge = <Row extends { id: number }>(entity: string, rules: Rules<Row>) => void;

function judgePeople(clinic: Clinic, judge: Judge): void {
  const doctors = doctorUsers(clinic);
  const types = profileTypes(clinic, doctors);
  const patientOf = new Map(clinic.patients.map((patient) => [patient.user, patient]));
  judge<User>("profiles", {
    rows: clinic.users,
    unknown: (user) => {
      if (!types.has(user.id)) return "profile_type";
      const patient = patientOf.get(user.id);
      return patient && unknownSex(patient) ? "gender" : null;
    },
  });
  const settings = new Map(clinic.doctorSettings.map((row) => [row.user, row]));
  judge<User>("doctors", {
    rows: clinic.users.filter((user) => doctors.has(user.id)),
    parents: (user) => [["profile_id", "profiles", user.id]],
    amounts: { credit: (user) => settings.get(user.id)?.credit ?? null },
  });
  judge<Patient>("patients", {
    rows: clinic.patients,
    unknown: (patient) => {
      if (unknownSex(patient)) return "sex";
      return patient.status === null || [1, 2, 4, 10].includes(patient.status) ? null : "status";
    },
    parents: (patient) => [
      ["profile_id", "profiles", patient.user],
      ["primary_doctor_id", "doctors", patient.doctor],
      ["assigned_office_id", "offices", patient.office],
    ],
    check: (patient) => patient.birthdate === null || patient.birthdate >= "1900-01-01",
  });
}

function judgeOrders(clinic: Clinic, judge: Judge): void {
  const patients = new Map(clinic.patients.map((patient) => [patient.id, patient]));
  judge<Instruction>("orders", {
    rows: clinic.instructions,
    unknown: (row) => {
      if (row.course !== null && ![1, 2, 3, 4, 7, 8].includes(row.course)) return "course_type";
      return [0, 1, 2, 4].includes(row.status) ? null : "status";
    },
    parents: (row) => [
      ["patient_id", "patients", row.patient],
      ["doctor_id", "doctors", patients.get(row.patient)?.doctor ?? null],
      ["office_id", "offices", patients.get(row.patient)?.office ?? null],
    ],
    amounts: { amount: (row) => row.price },
  });
}

function judgeMoney(clinic: Clinic, judge: Judge): void {
  judge<Payment>("payments", {
    rows: clinic.payments,
    parents: (row) => [
      ["order_id", "orders", row.instruction],
      ["doctor_id", "doctors", row.doctor],
      ["office_id", "offices", row.office],
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
  });
  judge<Operation>("operations", {
    rows: clinic.operations,
    unknown: (row) => (row.type === 1 || row.type === 2 ? null : "operation_type"),
    parents: (row) => [["payment_id", "payments", row.payment]],
    check: (row) => row.price === null || cents(row.price) >= 0n,
    amounts: { amount: (row) => row.price },
  });
}

function unknownSex(patient: Patient): boolean {
  return patient.sex !== null && ![0, 1, 2].includes(patient.sex);
}

function sum(amounts: readonly (string | null)[]): string {
  return money(amounts.reduce((all, amount) => all + (amount === null ? 0n : cents(amount)), 0n));
}

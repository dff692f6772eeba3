import type { Clinic, Instruction, Operation, Patient, Payment, User } from "./clinic.ts";
import { cents } from "./values.ts";

/** What a correct sync must make of the generated data, worked out here from docs/domain.md, apart from the pipeline. */
export interface Manifest {
  readonly seed: number;
  readonly scale: number;
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
  readonly golden: Readonly<Record<string, Readonly<Record<string, string | null>>>>;
}

export type Exception =
  | {
      readonly legacyId: number;
      readonly outcome: "open";
      readonly field: string | null;
      readonly reason: "unknown_code" | "check";
    }
  | {
      readonly legacyId: number;
      readonly outcome: "waiting";
      readonly field: string;
      readonly parent: string;
      readonly parentId: number;
    };

/** Users whom the legacy data treats as doctors, in any way. */
export function doctorUsers(clinic: Clinic): Set<number> {
  const doctorGroup = clinic.groups.find((group) => group.name === "Doctor")?.id;
  return new Set([
    ...clinic.userGroups.filter((row) => row.group === doctorGroup).map((row) => row.user),
    ...clinic.doctorSettings.map((row) => row.user),
    ...clinic.userSettings.map((row) => row.user),
    ...clinic.officeDoctors.map((row) => row.user),
    ...clinic.patients.flatMap((row) => (row.doctor === null ? [] : [row.doctor])),
    ...clinic.payments.flatMap((row) => (row.doctor === null ? [] : [row.doctor])),
  ]);
}

export function expectations(clinic: Clinic): Record<string, EntityExpectation> {
  const doctors = doctorUsers(clinic);
  const landed = new Map<string, Set<number>>();
  const result: Record<string, EntityExpectation> = {};
  const judge = <Row extends { id: number }>(
    entity: string,
    rows: readonly Row[],
    own: (row: Row) => Exception | undefined,
    parents: (row: Row) => readonly (readonly [field: string, parent: string, id: number | null])[],
    check: (row: Row) => boolean,
    amounts: Readonly<Record<string, (row: Row) => string | null>>,
    golden: EntityExpectation["golden"],
  ) => {
    const exceptions: Exception[] = [];
    const good: Row[] = [];
    for (const row of rows) {
      const missing = parents(row).find(([, parent, id]) => id !== null && landed.get(parent)?.has(id) !== true);
      const exception =
        own(row) ??
        (missing?.[2] != null
          ? ({ legacyId: row.id, outcome: "waiting", field: missing[0], parent: missing[1], parentId: missing[2] } as const)
          : check(row)
            ? undefined
            : ({ legacyId: row.id, outcome: "open", field: null, reason: "check" } as const));
      if (exception) exceptions.push(exception);
      else good.push(row);
    }
    landed.set(entity, new Set(good.map((row) => row.id)));
    const money = Object.fromEntries(Object.entries(amounts).map(([column, of]) => [column, sum(good.map(of))]));
    result[entity] = { eligible: rows.length, landed: good.length, exceptions, money, golden };
  };
  const unknown = (legacyId: number, field: string): Exception => ({ legacyId, outcome: "open", field, reason: "unknown_code" });
  const none = () => undefined;
  const always = () => true;

  judge("offices", clinic.offices, none, () => [], always, {}, {});

  const patientOf = new Map(clinic.patients.map((patient) => [patient.user, patient]));
  const typeOf = profileTypes(clinic, doctors, patientOf);
  judge(
    "profiles",
    clinic.users,
    (user) => {
      if (!typeOf.has(user.id)) return unknown(user.id, "profile_type");
      const patient = patientOf.get(user.id);
      return patient && unknownSex(patient) ? unknown(user.id, "gender") : undefined;
    },
    () => [],
    always,
    {},
    goldenProfiles(clinic.users, typeOf, patientOf),
  );

  const settings = new Map(clinic.doctorSettings.map((row) => [row.user, row]));
  judge(
    "doctors",
    clinic.users.filter((user) => doctors.has(user.id)),
    none,
    (user) => [["profile_id", "profiles", user.id]],
    always,
    { credit: (user) => settings.get(user.id)?.credit ?? null },
    {},
  );

  judge(
    "patients",
    clinic.patients,
    (patient) =>
      unknownSex(patient)
        ? unknown(patient.id, "sex")
        : patient.status !== null && ![1, 2, 4, 10].includes(patient.status)
          ? unknown(patient.id, "status")
          : undefined,
    (patient) => [
      ["profile_id", "profiles", patient.user],
      ["primary_doctor_id", "doctors", patient.doctor],
      ["assigned_office_id", "offices", patient.office],
    ],
    (patient) => patient.birthdate === null || patient.birthdate >= "1900-01-01",
    {},
    goldenPatients(clinic.patients),
  );

  const byPatientId = new Map(clinic.patients.map((patient) => [patient.id, patient]));
  judge(
    "orders",
    clinic.instructions,
    (row) =>
      row.course !== null && ![1, 2, 3, 4, 7, 8].includes(row.course)
        ? unknown(row.id, "course_type")
        : [0, 1, 2, 4].includes(row.status)
          ? undefined
          : unknown(row.id, "status"),
    (row) => [
      ["patient_id", "patients", row.patient],
      ["doctor_id", "doctors", byPatientId.get(row.patient)?.doctor ?? null],
      ["office_id", "offices", byPatientId.get(row.patient)?.office ?? null],
    ],
    always,
    { amount: (row: Instruction) => row.price },
    goldenOrders(clinic.instructions),
  );

  judge(
    "payments",
    clinic.payments,
    none,
    (row) => [
      ["order_id", "orders", row.instruction],
      ["doctor_id", "doctors", row.doctor],
      ["office_id", "offices", row.office],
    ],
    always,
    {
      amount: (row: Payment) => row.total,
      subtotal_amount: (row: Payment) => row.subtotal,
      paid_amount: (row: Payment) => row.paidPrice,
      additional_amount: (row: Payment) => row.additional,
      custom_amount: (row: Payment) => row.custom,
      tax_amount: (row: Payment) => row.tax,
      used_credit: (row: Payment) => row.credit,
    },
    {},
  );

  judge(
    "operations",
    clinic.operations,
    (row) => (row.type === 1 || row.type === 2 ? undefined : unknown(row.id, "operation_type")),
    (row) => [["payment_id", "payments", row.payment]],
    (row: Operation) => !row.price?.startsWith("-"),
    { amount: (row: Operation) => row.price },
    {},
  );
  return result;
}

/** Users with a type; the precedence of docs/domain.md. */
function profileTypes(clinic: Clinic, doctors: ReadonlySet<number>, patients: ReadonlyMap<number, Patient>): Map<number, string> {
  const members = (name: string) => {
    const group = clinic.groups.find((row) => row.name === name)?.id;
    return new Set(clinic.userGroups.filter((row) => row.group === group).map((row) => row.user));
  };
  const [masters, technicians, sales] = [members("Master"), members("Technician"), members("Sales")];
  const types = new Map<number, string>();
  for (const user of clinic.users) {
    if (patients.has(user.id)) types.set(user.id, "patient");
    else if (user.superuser || masters.has(user.id)) types.set(user.id, "master");
    else if (technicians.has(user.id)) types.set(user.id, "technician");
    else if (doctors.has(user.id)) types.set(user.id, "doctor");
    else if (sales.has(user.id)) types.set(user.id, "sales_person");
  }
  return types;
}

function unknownSex(patient: Patient): boolean {
  return patient.sex !== null && ![0, 1, 2].includes(patient.sex);
}

function sum(amounts: readonly (string | null)[]): string {
  const total = amounts.reduce((all, amount) => all + (amount === null ? 0n : cents(amount)), 0n);
  const digits = (total < 0n ? -total : total).toString().padStart(3, "0");
  return `${total < 0n ? "-" : ""}${digits.slice(0, -2)}.${digits.slice(-2)}`;
}

/** The first record of each kind of dirt, with what must stand in the target. */
function first<Row extends { id: number }>(
  rows: readonly Row[],
  kinds: readonly (readonly [(row: Row) => boolean, (row: Row) => Record<string, string | null>])[],
) {
  const golden: Record<string, Record<string, string | null>> = {};
  for (const [is, values] of kinds) {
    const row = rows.find(is);
    if (row) golden[String(row.id)] = { ...golden[String(row.id)], ...values(row) };
  }
  return golden;
}

function goldenProfiles(users: readonly User[], typeOf: ReadonlyMap<number, string>, patients: ReadonlyMap<number, Patient>) {
  const lands = (user: User) => {
    const patient = patients.get(user.id);
    return typeOf.has(user.id) && !(patient && unknownSex(patient));
  };
  return first(users.filter(lands), [
    [(user) => user.first === "", () => ({ first_name: null })],
    [(user) => user.last === "null", () => ({ last_name: null })],
    [(user) => user.email === "", () => ({ email: null })],
    [(user) => user.email === "null", () => ({ email: null })],
    [(user) => user.email === "not an address", () => ({ email: "not an address" })],
    [(user) => user.last.includes("\t") || user.last.includes("\\"), (user) => ({ last_name: user.last })],
    [(user) => user.lastLogin === null, () => ({ last_login_at: null })],
    [(user) => !user.active, () => ({ is_active: "false" })],
    ...["patient", "master", "technician", "doctor", "sales_person"].map(
      (type) => [(user: User) => typeOf.get(user.id) === type, () => ({ profile_type: type })] as const,
    ),
  ]);
}

function goldenPatients(patients: readonly Patient[]) {
  const plain = patients.filter(
    (patient) => !unknownSex(patient) && [null, 1, 2, 4, 10].includes(patient.status) && (patient.birthdate ?? "2000") > "1900",
  );
  return first(plain, [
    [(patient) => patient.suffix === "", () => ({ suffix: null })],
    [(patient) => patient.suffix.length > 4, (patient) => ({ suffix: patient.suffix })],
    [(patient) => patient.sex === null, () => ({ sex: "unknown" })],
    [(patient) => patient.sex === 0, () => ({ sex: "other" })],
    [(patient) => patient.status === null, () => ({ status: null })],
    [(patient) => patient.status === 4, () => ({ status: "active" })],
    [(patient) => patient.status === 10, () => ({ status: "archived" })],
    [(patient) => patient.doctor === null, () => ({ primary_doctor_id: null })],
    [(patient) => patient.schemes === "None", () => ({ schemes: '{"_raw": "None", "_unparseable": true}' })],
    [
      (patient) => patient.schemes?.includes("u0000") ?? false,
      () => ({ schemes: '{"_raw": "{\\"a\\": \\"\\\\u0000\\"}", "_unparseable": true}' }),
    ],
    [(patient) => patient.updated === null, () => ({ source_updated_at: null })],
  ]);
}

function goldenOrders(instructions: readonly Instruction[]) {
  const plain = instructions.filter((row) => [0, 1, 2, 4].includes(row.status) && [null, 1, 2, 3, 4, 7, 8].includes(row.course));
  return first(plain, [
    [(row) => row.price === "99999999.99", () => ({ amount: "99999999.99" })],
    [(row) => row.price === null, () => ({ amount: null })],
    [(row) => row.deleted, () => ({ deleted: "true" })],
    [(row) => row.course === null, () => ({ course_type: null })],
    [(row) => row.exports === "", () => ({ exports: null })],
    [(row) => row.exports === "{'a': 1}", () => ({ exports: `{"_raw": "{'a': 1}", "_unparseable": true}` })],
  ]);
}

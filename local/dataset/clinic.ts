import { HOSTILE_TEXTS, inventCode, inventName, JSON_TEXTS } from "./names.ts";
import { Random } from "./random.ts";
import { dirty, idsWithGaps, moment, money } from "./values.ts";

/** The seven entities' source rows, in memory: the tables that the manifest is computed from. */
export interface Clinic {
  readonly groups: readonly { id: number; name: string }[];
  readonly courses: readonly { id: number; name: string; type: number; customization: string }[];
  readonly offices: readonly Office[];
  readonly users: readonly User[];
  readonly userGroups: readonly { id: number; user: number; group: number }[];
  readonly doctorSettings: readonly DoctorSetting[];
  readonly userSettings: readonly { id: number; user: number }[];
  readonly officeDoctors: readonly { id: number; office: number; user: number }[];
  readonly patients: readonly Patient[];
  readonly merchandise: readonly { id: number; course: number | null }[];
  readonly instructions: readonly Instruction[];
  readonly payments: readonly Payment[];
  readonly operations: readonly Operation[];
}

export interface Office {
  id: number;
  name: string;
  address: string | null;
  apt: string | null;
  city: string | null;
  state: string | null;
  zip: string | null;
  country: string | null;
  phone: string | null;
  taxRate: string | null;
  valid: boolean;
  square: string | null;
  emails: boolean;
}
export interface User {
  id: number;
  username: string;
  first: string;
  last: string;
  email: string;
  superuser: boolean;
  staff: boolean;
  active: boolean;
  joined: string;
  lastLogin: string | null;
}
export interface DoctorSetting {
  id: number;
  user: number;
  preferences: string | null;
  square: string | null;
  promised: boolean | null;
  credit: string | null;
  tierFinish: string | null;
  tierType: string | null;
  installments: number | null;
  baa: string | null;
  eula: string | null;
  company: boolean | null;
}
export interface Patient {
  id: number;
  user: number;
  doctor: number | null;
  office: number | null;
  birthdate: string | null;
  sex: number | null;
  suffix: string;
  status: number | null;
  archived: boolean;
  suspended: boolean;
  schemes: string | null;
  submitted: string | null;
  updated: string | null;
}
export interface Instruction {
  id: number;
  patient: number;
  course: number | null;
  status: number;
  deleted: boolean;
  submitted: string | null;
  updated: string;
  suffix: string;
  notes: string | null;
  complaint: string | null;
  objective: string | null;
  exports: string | null;
  price: string | null;
}
export interface Payment {
  id: number;
  made: string | null;
  instruction: number | null;
  order: number | null;
  doctor: number | null;
  office: number | null;
  total: string;
  subtotal: string;
  paidPrice: string;
  additional: string;
  custom: string | null;
  taxRate: string;
  tax: string;
  credit: string;
  paid: boolean;
  canceled: boolean;
  free: boolean;
  netsuite: boolean;
  installments: string;
}
export interface Operation {
  id: number;
  payment: number | null;
  type: number | null;
  made: string | null;
  price: string | null;
  sqOrder: string | null;
  sqPayment: string | null;
  sqRefund: string | null;
  brand: string | null;
  bin: string | null;
  last: string | null;
  officeCard: boolean | null;
  attempts: number | null;
}

export const GROUPS = [
  "Patient",
  "Doctor",
  "Admin",
  "Master",
  "Technician",
  "Sales",
  "Support",
  "Billing",
  "Medical",
  "Export",
] as const;
/** As in the real installation, ids are not in the order of names. */
const GROUP_IDS: Readonly<Record<(typeof GROUPS)[number], number>> = {
  Patient: 1,
  Doctor: 2,
  Admin: 4,
  Master: 5,
  Technician: 11,
  Sales: 6,
  Support: 7,
  Billing: 8,
  Medical: 9,
  Export: 13,
};

export function makeClinic(seed: number, scale: number): Clinic {
  const size = (atScaleOne: number, least = 3) => Math.max(least, Math.round(atScaleOne * scale));
  const offices = makeOffices(Random.for(seed, "offices"), size(897, 12), scale);
  const people = makePeople(Random.for(seed, "people"), size, scale, offices);
  const courses = [1, 2, 3, 4, 5, 7, 8, 9].map((id) => ({
    id,
    name: `Course ${id}`,
    type: (id % 6) + 1,
    customization: id % 2 === 0 ? "{}" : "",
  }));
  const merchandise = idsWithGaps(Random.for(seed, "merchandise"), size(1_500)).map((id) => ({
    id,
    course: id % 7 === 0 ? null : 8,
  }));
  const instructions = makeInstructions(Random.for(seed, "instructions"), size(25_012, 40), scale, people.patients);
  const payments = makePayments(Random.for(seed, "payments"), size(17_235, 40), scale, people, instructions, merchandise);
  const operations = makeOperations(Random.for(seed, "operations"), size(3_720, 40), scale, payments);
  const groups = GROUPS.map((name) => ({ id: GROUP_IDS[name], name }));
  return { groups, courses, offices, ...people, merchandise, instructions, payments, operations };
}

/** Country texts of the real installation, with their numbers of offices. */
const COUNTRIES: readonly (readonly [string | null, number])[] = [
  ["USA", 557],
  ["India", 155],
  ["Japan", 110],
  ["Thailand", 64],
  ["Vietnam", 3],
  ["Australia", 3],
  ["Singapore", 1],
  [null, 4],
];

function makeOffices(random: Random, count: number, scale: number): Office[] {
  const countries = COUNTRIES.flatMap(([country, number]) => Array<string | null>(dirty(scale, number)).fill(country));
  return idsWithGaps(random, count).map((id, index) => {
    const country = index < countries.length ? (countries[(index * 7919) % countries.length] ?? null) : "USA";
    const domestic = country === "USA";
    return {
      id,
      name: index % 97 === 5 ? "" : `${inventName(random)} Dental ${index % 40 === 0 ? "  " : ""}`,
      address: random.chance(0.03) ? null : `${random.between(1, 9_999)} ${inventName(random)} St.`,
      apt: random.chance(0.7) ? null : `Suite ${random.between(1, 400)}`,
      city: random.chance(0.02) ? null : inventName(random),
      state: domestic ? random.pick(["CA", "ny", "Tx", "WA"]) : random.chance(0.5) ? null : inventName(random),
      zip: domestic
        ? String(random.between(10_000, 99_999))
        : random.pick([
            `〒${random.between(100, 999)}-000${random.between(1, 9)}`,
            `SW1A ${random.between(1, 9)}AA`,
            `${random.between(100_000, 699_999)}`,
          ]),
      country,
      phone: random.pick([
        `(${random.between(200, 999)}) 555-01${random.between(10, 99)}`,
        `+81 3-5550-${random.between(1000, 9999)}`,
        `555.01${random.between(10, 99)} ext. 4`,
        "",
        "n/a",
      ]),
      taxRate: random.pick([null, "0.0000", "0.0825", "0.1025", "10.2500", "8.8750", "0.5000"]),
      valid: domestic && random.chance(0.98),
      square: random.chance(0.6) ? `SQ${inventCode(random, 12)}` : null,
      emails: random.chance(0.8),
    };
  });
}

type Size = (atScaleOne: number, least?: number) => number;
type People = Pick<Clinic, "users" | "userGroups" | "doctorSettings" | "userSettings" | "officeDoctors" | "patients"> & {
  readonly doctorIds: readonly number[];
};

function makePeople(random: Random, size: Size, scale: number, offices: readonly Office[]): People {
  const counts = {
    patients: size(8_488, 30),
    doctors: size(1_216, 12),
    technicians: size(85),
    masters: size(6, 2),
    sales: size(8, 2),
    admins: dirty(scale, 24, 2),
    typeless: dirty(scale, 12, 2),
  };
  const roles = [
    ...Array<string>(counts.patients).fill("patient"),
    ...Array<string>(counts.doctors).fill("doctor"),
    ...Array<string>(counts.technicians).fill("technician"),
    ...Array<string>(counts.masters).fill("master"),
    ...Array<string>(counts.sales).fill("sales"),
    ...Array<string>(counts.admins).fill("admin"),
    ...Array<string>(counts.typeless).fill("typeless"),
  ];
  const shuffled = random.sample(roles, roles.length);
  const ids = idsWithGaps(random, shuffled.length);
  const role = new Map(ids.map((id, index) => [id, shuffled[index] ?? "patient"]));
  const withRole = (name: string) => ids.filter((id) => role.get(id) === name);

  const users = ids.map((id): User => {
    const first = random.chance(0.01) ? "" : random.chance(0.004) ? random.pick(["null", "NULL"]) : inventName(random);
    const last = random.chance(0.006) ? "null" : random.chance(0.004) ? random.pick(HOSTILE_TEXTS) : inventName(random);
    return {
      id,
      username: `user${id}`,
      first,
      last,
      email: random.chance(0.05)
        ? ""
        : random.chance(0.01)
          ? "null"
          : random.chance(0.01)
            ? "not an address"
            : `User.${id}@example.${random.pick(["com", "org"])}`,
      superuser: role.get(id) === "master" && random.chance(0.5),
      staff: role.get(id) !== "patient" && random.chance(0.2),
      active: random.chance(0.95),
      joined: moment(random),
      lastLogin: random.chance(0.25) ? null : moment(random),
    };
  });
  const doctors = withRole("doctor");
  // Shared addresses among doctors, one of them by eleven accounts.
  for (const [index, id] of doctors.slice(0, Math.min(11, doctors.length)).entries()) {
    const user = users[ids.indexOf(id)];
    if (user) user.email = index < 11 ? "front.desk@example.com" : user.email;
  }

  const patientUsers = withRole("patient");
  const alsoDoctors = random.sample(patientUsers, dirty(scale, 123, 2)).sort((a, b) => a - b);
  // Named as a doctor by patients alone, without any other trace.
  const byReferenceOnly = doctors.filter((_, index) => index % 25 === 3);
  const traced = [...doctors.filter((id) => !byReferenceOnly.includes(id)), ...alsoDoctors];

  const memberships = new Set<string>();
  const userGroups: { id: number; user: number; group: number }[] = [];
  const join = (user: number, group: (typeof GROUPS)[number]) => {
    const key = `${user}/${group}`;
    if (!memberships.has(key)) userGroups.push({ id: userGroups.length + 1, user, group: GROUP_IDS[group] });
    memberships.add(key);
  };
  for (const id of patientUsers) if (random.chance(0.97)) join(id, "Patient");
  for (const id of traced) if (random.chance(0.93)) join(id, "Doctor");
  for (const id of withRole("technician")) join(id, "Technician");
  for (const id of withRole("technician").filter((_, index) => index % 9 === 0)) join(id, "Doctor");
  for (const id of withRole("master")) join(id, "Master");
  for (const id of withRole("sales")) join(id, "Sales");
  for (const id of withRole("admin")) join(id, "Admin");
  for (const id of withRole("typeless").filter((_, index) => index % 2 === 0)) join(id, "Support");
  for (const id of random.sample(traced, dirty(scale, 40, 2)))
    join(id, random.pick(["Support", "Billing", "Medical", "Export", "Admin"]));

  const inDoctorGroup = (id: number) => memberships.has(`${id}/Doctor`);
  const settingIds = idsWithGaps(random, traced.length);
  const doctorSettings = traced
    // Whoever is not in the group has at least these settings: otherwise they would be no doctor.
    .filter((id) => !inDoctorGroup(id) || random.chance(0.9))
    .map((user, index): DoctorSetting => ({
      id: settingIds[index] ?? index,
      user,
      preferences: random.chance(0.4)
        ? null
        : random.chance(0.02)
          ? random.pick(JSON_TEXTS.broken)
          : random.pick([...JSON_TEXTS.valid, ...JSON_TEXTS.empty]),
      square: random.chance(0.5) ? `SQ${inventCode(random, 12)}` : null,
      promised: random.chance(0.3) ? null : random.chance(0.5),
      credit: random.chance(0.3) ? null : money(random.between(0, 500_000)),
      tierFinish: random.chance(0.8) ? null : "2025-12-31",
      tierType: random.chance(0.5) ? null : random.pick(["gold", "silver", ""]),
      installments: random.chance(0.6) ? null : random.between(1, 12),
      baa: random.chance(0.5) ? null : moment(random),
      eula: random.chance(0.5) ? null : moment(random),
      company: random.chance(0.5) ? null : random.chance(0.2),
    }));
  const userSettings = [...new Set([...traced.filter(() => random.chance(0.88))])].map((user, index) => ({
    id: index + 1,
    user,
  }));
  const pairs = new Set<string>();
  const officeDoctors: { id: number; office: number; user: number }[] = [];
  for (let index = 0; index < size(472, 6); index++) {
    const pair = { office: random.pick(offices).id, user: random.pickSkewed(traced) };
    const key = `${pair.office}/${pair.user}`;
    if (!pairs.has(key)) officeDoctors.push({ id: officeDoctors.length + 1, ...pair });
    pairs.add(key);
  }
  const doctorIds = [...traced, ...byReferenceOnly];
  const patients = makePatients(random, scale, patientUsers, alsoDoctors, doctorIds, byReferenceOnly, offices);
  return { users, userGroups, doctorSettings, userSettings, officeDoctors, patients, doctorIds };
}

function makePatients(
  random: Random,
  scale: number,
  users: readonly number[],
  alsoDoctors: readonly number[],
  doctors: readonly number[],
  byReferenceOnly: readonly number[],
  offices: readonly Office[],
): Patient[] {
  const ids = idsWithGaps(random, users.length, 3);
  const patients = random.sample(users, users.length).map((user, index): Patient => ({
    id: ids[index] ?? index,
    user,
    doctor: random.chance(0.02) ? null : (byReferenceOnly[index] ?? random.pickSkewed(doctors)),
    office: random.chance(0.03) ? null : random.pickSkewed(offices).id,
    birthdate: random.chance(0.04)
      ? null
      : `${random.between(1935, 2016)}-${String(random.between(1, 12)).padStart(2, "0")}-${String(random.between(1, 28)).padStart(2, "0")}`,
    sex: random.chance(0.05) ? null : random.chance(0.03) ? 0 : random.between(1, 2),
    suffix: random.chance(0.005) ? "" : inventCode(random, 4),
    status: random.chance(0.1) ? null : random.pick([1, 1, 1, 1, 2, 4, 4, 10]),
    archived: random.chance(0.12),
    suspended: random.chance(0.03),
    schemes: random.chance(0.3) ? null : random.pick([...JSON_TEXTS.valid, ...JSON_TEXTS.empty]),
    submitted: random.chance(0.1) ? null : moment(random),
    updated: random.chance(0.15) ? null : moment(random),
  }));
  // Every doctor without another trace is named by a patient.
  for (const [index, doctor] of byReferenceOnly.entries()) {
    const patient = patients[index];
    if (patient) patient.doctor = doctor;
  }
  const plain = patients.slice(byReferenceOnly.length).filter((patient) => !alsoDoctors.includes(patient.user));
  const spoil = (count: number, change: (patient: Patient, index: number) => void) => {
    random.sample(plain, dirty(scale, count)).forEach((patient, index) => {
      plain.splice(plain.indexOf(patient), 1);
      change(patient, index);
    });
  };
  spoil(3, (patient) => (patient.sex = 7));
  spoil(30, (patient, index) => (patient.status = [3, 7, 99][index % 3] ?? 99));
  spoil(4, (patient) => (patient.birthdate = "1753-01-01"));
  spoil(1, (patient) => (patient.suffix = "LONGER"));
  spoil(12, (patient, index) => (patient.schemes = JSON_TEXTS.broken[index % JSON_TEXTS.broken.length] ?? ""));
  spoil(4, (patient, index) => (patient.schemes = JSON_TEXTS.unknownToJsonb[index % 2] ?? ""));
  return patients;
}

function makeInstructions(random: Random, count: number, scale: number, patients: readonly Patient[]): Instruction[] {
  const instructions = idsWithGaps(random, count).map((id): Instruction => {
    const submitted = random.chance(0.08) ? null : moment(random);
    return {
      id,
      patient: random.pickSkewed(patients).id,
      course: random.chance(0.01) ? null : random.pick([1, 1, 1, 1, 2, 2, 3, 4, 7, 8]),
      status: random.pick([0, 1, 1, 2, 4, 4, 4]),
      deleted: random.chance(0.0095),
      submitted,
      updated: moment(random),
      suffix: random.chance(0.001) ? "" : inventCode(random, 4),
      notes: random.chance(0.5)
        ? null
        : random.chance(0.01)
          ? random.pick(HOSTILE_TEXTS)
          : `Notes ${inventName(random)} ${inventName(random)}.`,
      complaint: random.chance(0.7) ? null : `Complaint ${inventName(random)}`,
      objective: random.chance(0.6) ? null : `Objective ${inventName(random)}`,
      exports: random.chance(0.2) ? null : random.pick([...JSON_TEXTS.valid, ...JSON_TEXTS.empty]),
      price: random.chance(0.05) ? null : money(random.between(0, 900_000)),
    };
  });
  const plain = [...instructions];
  const spoil = (number: number, change: (instruction: Instruction, index: number) => void) => {
    random.sample(plain, dirty(scale, number)).forEach((instruction, index) => {
      plain.splice(plain.indexOf(instruction), 1);
      change(instruction, index);
    });
  };
  spoil(12, (instruction, index) => (instruction.status = [3, 9][index % 2] ?? 9));
  spoil(20, (instruction, index) => (instruction.course = [5, 9][index % 2] ?? 9));
  spoil(10, (instruction, index) => (instruction.exports = JSON_TEXTS.broken[index % JSON_TEXTS.broken.length] ?? ""));
  spoil(3, (instruction) => (instruction.notes = `${"A very long note. ".repeat(5_700)}end`));
  spoil(2, (instruction) => (instruction.price = "99999999.99"));
  return instructions;
}

function makePayments(
  random: Random,
  count: number,
  scale: number,
  people: People,
  instructions: readonly Instruction[],
  merchandise: readonly { id: number }[],
): Payment[] {
  const patientOf = new Map(people.patients.map((patient) => [patient.id, patient]));
  const payments = idsWithGaps(random, count).map((id): Payment => {
    const instruction = random.chance(0.96) ? random.pick(instructions) : undefined;
    const patient = instruction && patientOf.get(instruction.patient);
    const subtotal = random.between(0, 900_000);
    const additional = random.chance(0.9) ? 0 : random.between(1, 20_000);
    const tax = Math.floor(subtotal * 0.0825);
    const paid = random.chance(0.8);
    const total = subtotal + additional + tax;
    return {
      id,
      made: random.chance(0.03) ? null : moment(random),
      instruction: instruction?.id ?? null,
      order: !instruction && random.chance(0.9) ? random.pick(merchandise).id : null,
      doctor: random.chance(0.02) ? null : (patient?.doctor ?? random.pick(people.doctorIds)),
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
      installments: random.chance(0.002)
        ? random.pick(JSON_TEXTS.broken)
        : random.pick(["", "", "[]", '[{"n": 1, "amount": "10.00"}]']),
    };
  });
  random.sample(payments, dirty(scale, 2)).forEach((payment) => (payment.total = "99999999.99"));
  random.sample(payments, dirty(scale, 2)).forEach((payment) => (payment.subtotal = "0.01"));
  return payments;
}

function makeOperations(random: Random, count: number, scale: number, payments: readonly Payment[]): Operation[] {
  const operations = idsWithGaps(random, count).map((id): Operation => {
    const refund = random.chance(0.06);
    return {
      id,
      payment: random.pick(payments).id,
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
  });
  const plain = [...operations];
  const spoil = (number: number, change: (operation: Operation, index: number) => void) => {
    random.sample(plain, dirty(scale, number)).forEach((operation, index) => {
      plain.splice(plain.indexOf(operation), 1);
      change(operation, index);
    });
  };
  spoil(7, (operation, index) => (operation.type = index % 2 === 0 ? null : 3));
  spoil(5, (operation) => (operation.price = "-12.34"));
  spoil(4, (operation) => (operation.price = null));
  spoil(5, (operation) => (operation.payment = null));
  return operations;
}

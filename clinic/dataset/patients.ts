import { inventCode, JSON_TEXTS } from "./names.ts";
import type { Roles } from "./people.ts";
import { at, Random } from "./random.ts";
import type { Office, Patient } from "./rows.ts";
import { spoiler } from "./spoil.ts";
import { idsWithGaps, moment } from "./values.ts";

/** Status codes that nobody can explain. */
const UNKNOWN_STATUS = [3, 7, 99] as const;

export function makePatients(seed: number, scale: number, roles: Roles, offices: readonly Office[]): Patient[] {
  const random = Random.for(seed, "patients");
  const doctors = [...random.shuffle(roles.doctors), ...roles.namedByPatient];
  const ids = idsWithGaps(random, roles.patients.length, 3);
  const patients = roles.patients.map((user, index) => makePatient(random, at(ids, index), user, doctors, offices));

  const special = new Set([...roles.patientDoctors, ...roles.queuedDoctors]);
  // The younger half: it has fewer orders, so that a code that nobody knows holds up few of them.
  const young = patients.slice(Math.floor(patients.length / 2)).filter((patient) => !special.has(patient.user));
  const spoil = spoiler(random, young, scale);
  spoil(3, (patient) => (patient.sex = 7));
  spoil(30, (patient, index) => (patient.status = at(UNKNOWN_STATUS, index % 3)), 3);
  spoil(4, (patient) => (patient.birthdate = "1753-01-01"));
  spoil(1, (patient) => (patient.suffix = "LONGER"));
  spoil(1, (patient) => (patient.birthdate = "1900-01-01"));
  spoil(40, (patient) => (patient.suffix = ""));
  spoil(12, (patient, index) => (patient.schemes = at(JSON_TEXTS.broken, index % 5)), 5);
  spoil(4, (patient, index) => (patient.schemes = at(JSON_TEXTS.unknownToJsonb, index % 2)), 2);
  spoil(20, (patient) => Object.assign(patient, { doctor: null, office: null }));
  spoil(10, (patient) => Object.assign(patient, { archived: true, suspended: true }));
  // Every doctor without another trace is named by a patient. A doctor whose own profile is in the queue has one too.
  const named = [...roles.namedByPatient, ...roles.queuedDoctors];
  spoil(0, (patient, index) => (patient.doctor = at(named, index)), named.length);
  const queued = new Set(roles.queuedDoctors);
  for (const patient of patients) if (queued.has(patient.user)) patient.sex = 7;
  return patients;
}

function makePatient(random: Random, id: number, user: number, doctors: readonly number[], offices: readonly Office[]): Patient {
  const two = (value: number) => String(value).padStart(2, "0");
  const born = () => `${random.between(1935, 2016)}-${two(random.between(1, 12))}-${two(random.between(1, 28))}`;
  return {
    id,
    user,
    doctor: random.chance(0.02) ? null : random.pickSkewed(doctors),
    office: random.chance(0.03) ? null : random.pickSkewed(offices).id,
    birthdate: random.chance(0.04) ? null : born(),
    sex: random.chance(0.05) ? null : random.chance(0.03) ? 0 : random.between(1, 2),
    suffix: inventCode(random, 4),
    status: random.chance(0.1) ? null : random.pick([1, 1, 1, 1, 2, 4, 4, 10]),
    archived: random.chance(0.15),
    suspended: random.chance(0.03),
    schemes: random.chance(0.3) ? null : random.pick([...JSON_TEXTS.valid, ...JSON_TEXTS.empty]),
    submitted: random.chance(0.1) ? null : moment(random),
    updated: random.chance(0.15) ? null : moment(random),
  };
}

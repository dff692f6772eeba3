import { doctorsOfCore } from "./membership.ts";
import { at } from "./random.ts";
import type { Core } from "./rows.ts";

/** Records that surely stay in the queue, at any scale, for others to refer to: those must then wait. */
export interface Held {
  /** Their profile has a sex that nobody knows. */
  readonly users: readonly number[];
  /** Their status is one that nobody knows. */
  readonly patients: readonly number[];
  /** Their status is one that nobody knows. */
  readonly instructions: readonly number[];
  /** In order themselves, but of such a patient. */
  readonly instructionsOfPatients: readonly number[];
  /** Held as well, and a doctor by nothing but an offer and a note: these wait. */
  readonly namedDoctor: number;
  /** Patients who are not held, and nothing else. */
  readonly noDoctors: readonly number[];
}

export function findHeld(core: Core): Held {
  const doctors = doctorsOfCore(core);
  const patients = core.patients.filter(({ status }) => status !== null && ![1, 2, 4, 10].includes(status)).map(({ id }) => id);
  const held = new Set(patients);
  const known = ({ status }: { status: number }) => [0, 1, 2, 4].includes(status);
  const users = core.patients.filter(({ sex }) => sex === 7).map(({ user }) => user);
  return {
    users,
    namedDoctor: at(
      users.filter((user) => !doctors.has(user)),
      0,
    ),
    patients,
    instructions: core.instructions.filter((row) => !known(row)).map(({ id }) => id),
    instructionsOfPatients: core.instructions
      .filter((row) => known(row) && row.course !== 5 && row.course !== 9 && held.has(row.patient))
      .map(({ id }) => id),
    noDoctors: core.patients.filter(({ sex, user }) => sex !== 7 && !doctors.has(user)).map(({ user }) => user),
  };
}

import { doctorUsers } from "./membership.ts";
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
  /** Not held, but no doctors: as a doctor they are waited for. */
  readonly noDoctors: readonly number[];
}

export function findHeld(core: Core): Held {
  const doctors = doctorUsers(core);
  const patients = core.patients.filter(({ status }) => status !== null && ![1, 2, 4, 10].includes(status)).map(({ id }) => id);
  const held = new Set(patients);
  const known = ({ status }: { status: number }) => [0, 1, 2, 4].includes(status);
  return {
    users: core.patients.filter(({ sex }) => sex === 7).map(({ user }) => user),
    patients,
    instructions: core.instructions.filter((row) => !known(row)).map(({ id }) => id),
    instructionsOfPatients: core.instructions
      .filter((row) => known(row) && row.course !== 5 && row.course !== 9 && held.has(row.patient))
      .map(({ id }) => id),
    noDoctors: core.patients.filter(({ sex, user }) => sex !== 7 && !doctors.has(user)).map(({ user }) => user),
  };
}

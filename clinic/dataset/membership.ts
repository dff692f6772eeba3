import type { Core } from "./rows.ts";
import type { Note, Offer } from "./small-rows.ts";

type WithAllTraces = Core & { readonly offers: readonly Offer[]; readonly notes: readonly Note[] };

/** Users whom the legacy data treats as doctors, in any way. */
export function doctorUsers(clinic: WithAllTraces): Set<number> {
  return new Set([...doctorsOfCore(clinic), ...named(clinic.offers), ...named(clinic.notes)]);
}

/** Those who are doctors even without offers and notes. */
export function doctorsOfCore(clinic: Core): Set<number> {
  return new Set([
    ...members(clinic, "Doctor"),
    ...clinic.doctorSettings.map((row) => row.user),
    ...clinic.userSettings.map((row) => row.user),
    ...clinic.officeDoctors.map((row) => row.user),
    ...named(clinic.patients),
    ...named(clinic.payments),
  ]);
}

function named(rows: readonly { readonly doctor: number | null }[]): number[] {
  return rows.flatMap(({ doctor }) => (doctor === null ? [] : [doctor]));
}

/** Users with a type; the precedence of clinic/domain.md. */
export function profileTypes(clinic: Core, doctors: ReadonlySet<number>): Map<number, string> {
  const patients = new Set(clinic.patients.map((patient) => patient.user));
  const masters = members(clinic, "Master");
  const technicians = members(clinic, "Technician");
  const sales = members(clinic, "Sales");
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

/** The members of a group, by its name. */
export function members(clinic: Core, name: string): Set<number> {
  const group = clinic.groups.find((row) => row.name === name)?.id;
  return new Set(clinic.userGroups.filter((row) => row.group === group).map((row) => row.user));
}

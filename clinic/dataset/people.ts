import { makeDoctorTraces, type DoctorTraces } from "./doctor-traces.ts";
import { GROUP_IDS, type GroupName } from "./groups.ts";
import { inventName } from "./names.ts";
import { Random } from "./random.ts";
import type { Membership, Office, User } from "./rows.ts";
import { dirty, idsWithGaps, moment, type Size } from "./values.ts";
import { spoilUsers } from "./users.ts";

/** Who is what; a user may be several things. */
export interface Roles {
  readonly patients: readonly number[];
  /** Doctors with several traces: in the group, with settings. */
  readonly doctors: readonly number[];
  /** One trace each, by kind: none of the others may be given to them. */
  readonly onlyGroup: readonly number[];
  readonly onlyDoctorSetting: readonly number[];
  readonly onlyUserSetting: readonly number[];
  readonly onlyOffice: readonly number[];
  readonly namedByPatient: readonly number[];
  readonly namedByPayment: readonly number[];
  readonly namedByOffer: readonly number[];
  readonly namedByNote: readonly number[];
  /** Patients who are doctors as well; the second list gets a code that keeps their profile from landing. */
  readonly patientDoctors: readonly number[];
  readonly queuedDoctors: readonly number[];
  readonly technicians: readonly number[];
  readonly masters: readonly number[];
  readonly sales: readonly number[];
  readonly admins: readonly number[];
  readonly typeless: readonly number[];
}

export interface People extends DoctorTraces {
  readonly roles: Roles;
  readonly users: readonly User[];
  readonly userGroups: readonly Membership[];
}

export function makePeople(seed: number, size: Size, scale: number, offices: readonly Office[]): People {
  const random = Random.for(seed, "people");
  const roles = castRoles(random, size, scale);
  const users = makeUsers(random, roles);
  spoilUsers(random, users, roles, scale);
  return { roles, users, userGroups: makeMemberships(random, roles, scale), ...makeDoctorTraces(seed, size, roles, offices) };
}

/** 9,839 users at scale 1, of whom 1,339 have a trace of being a doctor. */
function castRoles(random: Random, size: Size, scale: number): Roles {
  const kinds = {
    patients: size(8_488, 60),
    doctors: size(1_216, 24),
    technicians: size(85, 9),
    masters: size(6, 3),
    sales: size(8, 2),
    admins: dirty(scale, 24, 2),
    typeless: dirty(scale, 12, 2),
  };
  const total = Object.values(kinds).reduce((sum, count) => sum + count, 0);
  const pool = random.shuffle(idsWithGaps(random, total));
  const take = (count: number) => pool.splice(0, count);
  const patients = take(kinds.patients);
  const doctors = take(kinds.doctors);
  const technicians = take(kinds.technicians);
  const masters = take(kinds.masters);
  const single = (atScaleOne: number) => doctors.splice(0, dirty(scale, atScaleOne));
  const singles = {
    onlyGroup: single(20),
    onlyDoctorSetting: single(20),
    onlyUserSetting: single(20),
    onlyOffice: single(12),
    namedByPatient: single(40),
    namedByPayment: single(8),
    namedByOffer: single(4),
    namedByNote: single(4),
  };
  // One more patient becomes a doctor by an offer and a note.
  const patientDoctors = patients.slice(0, dirty(scale, 112, 2));
  // From scale 0.025 on: the smallest data sets do without the longest chain of waiting.
  const queuedDoctors = patientDoctors.splice(0, dirty(scale, 20, 0));
  return {
    patients: random.shuffle(patients),
    // Technicians and masters who are doctors: their profile is of the stronger kind, and they are doctors all the
    // same.
    doctors: [...doctors, ...technicians.slice(0, dirty(scale, 8)), ...masters.slice(0, dirty(scale, 2)), ...patientDoctors],
    ...singles,
    patientDoctors,
    queuedDoctors,
    technicians,
    masters,
    sales: take(kinds.sales),
    admins: take(kinds.admins),
    typeless: take(kinds.typeless),
  };
}

function makeUsers(random: Random, roles: Roles): User[] {
  const doctors = new Set(roles.doctors);
  const patients = new Set(roles.patients);
  const masters = new Set(roles.masters);
  const everybody = [
    ...new Set(
      Object.values(roles)
        .flat()
        .map((id: number) => id),
    ),
  ].sort((a, b) => a - b);
  return everybody.map((id): User => ({
    id,
    username: `user${id}`,
    first: inventName(random),
    last: inventName(random),
    email: `User.${id}@example.${random.pick(["com", "org", "test"])}`,
    superuser: masters.has(id) && random.chance(0.5),
    staff: !patients.has(id) && random.chance(0.2),
    active: random.chance(doctors.has(id) ? 0.86 : 0.96),
    joined: moment(random),
    lastLogin: random.chance(0.3) ? null : moment(random),
  }));
}

function makeMemberships(random: Random, roles: Roles, scale: number): Membership[] {
  const seen = new Set<string>();
  const memberships: Omit<Membership, "id">[] = [];
  const join = (users: readonly number[], name: GroupName) => {
    for (const user of users) {
      if (seen.has(`${user}/${name}`)) continue;
      seen.add(`${user}/${name}`);
      memberships.push({ user, group: GROUP_IDS[name] });
    }
  };
  join(
    roles.patients.filter(() => random.chance(0.97)),
    "Patient",
  );
  join(
    [...roles.doctors, ...roles.queuedDoctors].filter(() => random.chance(0.95)),
    "Doctor",
  );
  join(roles.onlyGroup, "Doctor");
  join(roles.technicians, "Technician");
  join(roles.masters, "Master");
  join(roles.masters.slice(-1), "Technician");
  join(roles.patients.slice(0, dirty(scale, 3)), "Technician");
  join(roles.sales, "Sales");
  join(roles.admins, "Admin");
  for (const id of roles.typeless.slice(1)) join([id], random.pick(["Support", "Billing", "Medical", "Export"] as const));
  for (const id of random.sample(roles.doctors, dirty(scale, 60, 3)))
    join([id], random.pick(["Sales", "Support", "Billing", "Medical", "Export", "Admin"] as const));
  const ids = idsWithGaps(random, memberships.length);
  // The first of a user's groups, by id, says nothing: rows stand in no order.
  return random.shuffle(memberships).map((row, index) => ({ id: ids[index] ?? 0, ...row }));
}

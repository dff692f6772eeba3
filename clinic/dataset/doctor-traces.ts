import { inventCode, JSON_TEXTS } from "./names.ts";
import type { Roles } from "./people.ts";
import { at, Random } from "./random.ts";
import type { DoctorSetting, Office, OfficeDoctor } from "./rows.ts";
import { spoiler } from "./spoil.ts";
import { idsWithGaps, moment, money, type Size } from "./values.ts";

/** What makes a user a doctor besides the group: settings of either kind, and offices. */
export interface DoctorTraces {
  readonly doctorSettings: readonly DoctorSetting[];
  readonly userSettings: readonly { id: number; user: number }[];
  readonly officeDoctors: readonly OfficeDoctor[];
}

export function makeDoctorTraces(seed: number, size: Size, roles: Roles, offices: readonly Office[]): DoctorTraces {
  const random = Random.for(seed, "doctor traces");
  const doctors = random.shuffle([...roles.doctors, ...roles.queuedDoctors]);
  // The two kinds of settings overlap in the middle: every doctor outside the group has at least one of them.
  const withSetting = doctors.slice(0, size(1_213 - 20));
  const withUserSetting = doctors.slice(-size(1_181 - 20));
  const outside = doctors.slice(withSetting.length, doctors.length - withUserSetting.length);
  return {
    doctorSettings: makeSettings(random, [...withSetting, ...outside, ...roles.onlyDoctorSetting], size),
    userSettings: withIds(random, [...withUserSetting, ...roles.onlyUserSetting]).map(([id, user]) => ({ id, user })),
    officeDoctors: makeOfficeDoctors(random, size(472, 6), roles, offices),
  };
}

function withIds<T>(random: Random, items: readonly T[]): [number, T][] {
  const ids = idsWithGaps(random, items.length);
  return random.shuffle(items).map((item, index) => [at(ids, index), item]);
}

function makeSettings(random: Random, users: readonly number[], size: Size): DoctorSetting[] {
  const settings = withIds(random, users).map(([id, user]): DoctorSetting => ({
    id,
    user,
    preferences: random.chance(0.4) ? null : random.pick([...JSON_TEXTS.valid, ...JSON_TEXTS.empty]),
    square: random.chance(0.5) ? `SQ${inventCode(random, 12)}` : null,
    promised: random.chance(0.3) ? null : random.chance(0.5),
    credit: random.chance(0.3) ? null : money(random.between(0, 500_000)),
    tierFinish: random.chance(0.8) ? null : random.pick(["2025-12-31", "31/12/25", ""]),
    tierType: random.chance(0.5) ? null : random.pick(["gold", "silver", ""]),
    installments: random.chance(0.6) ? null : random.between(1, 12),
    baa: random.chance(0.5) ? null : moment(random),
    eula: random.chance(0.5) ? null : moment(random),
    company: random.chance(0.5) ? null : random.chance(0.2),
  }));
  const spoil = spoiler(random, settings, 1);
  spoil(size(12, 2), (row, index) => (row.preferences = at(JSON_TEXTS.broken, index % JSON_TEXTS.broken.length)));
  spoil(size(4, 1), (row, index) => (row.preferences = at(JSON_TEXTS.unknownToJsonb, index % 2)));
  // A doctor who owes.
  spoil(size(3, 1), (row) => (row.credit = "-150.25"));
  return settings;
}

/** Nearly as many users as rows: few doctors work in several offices. */
function makeOfficeDoctors(random: Random, count: number, roles: Roles, offices: readonly Office[]): OfficeDoctor[] {
  const users = [...roles.onlyOffice, ...random.sample(roles.doctors, Math.ceil(count * 0.87))];
  const pairs = new Map<string, { office: number; user: number }>();
  for (let index = 0; pairs.size < count; index++) {
    const user = users[index] ?? random.pickSkewed(roles.doctors);
    const office = random.pick(offices).id;
    pairs.set(`${office}/${user}`, { office, user });
  }
  return withIds(random, [...pairs.values()]).map(([id, pair]) => ({ id, ...pair }));
}

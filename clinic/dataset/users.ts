import { HOSTILE_TEXTS, INVALID_ADDRESSES, inventName } from "./names.ts";
import type { Roles } from "./people.ts";
import { at, type Random } from "./random.ts";
import type { User } from "./rows.ts";
import { spoiler } from "./spoil.ts";
import { dirty } from "./values.ts";

/** Accounts per shared address: 7 addresses, 62 accounts more than addresses. */
const SHARED_BY = [11, 11, 10, 10, 9, 9, 9] as const;

/** Names and addresses as people left them. */
export function spoilUsers(random: Random, users: readonly User[], roles: Roles, scale: number): void {
  shareAddresses(random, users, roles, scale);
  const shared = new Set(users.filter((user) => user.email.startsWith("front.desk")));
  const spoil = spoiler(
    random,
    users.filter((user) => !shared.has(user)),
    scale,
  );
  spoil(90, (user) => (user.first = ""));
  spoil(30, (user, index) => (user.first = index % 2 === 0 ? "null" : "NULL"), 2);
  spoil(20, (user) => (user.last = ""));
  spoil(50, (user, index) => (user.last = index % 2 === 0 ? "null" : "Null"), 2);
  spoil(45, (user, index) => (user.last = at(HOSTILE_TEXTS, index % HOSTILE_TEXTS.length)), HOSTILE_TEXTS.length);
  spoil(480, (user) => (user.email = ""));
  spoil(90, (user) => (user.email = "null"));
  spoil(90, (user, index) => (user.email = at(INVALID_ADDRESSES, index % INVALID_ADDRESSES.length)), 2);
  spoil(223, (user) => Object.assign(user, { first: "Test", username: `test${user.id}` }));
  duplicateNames(random, spoil, scale);
  // Patients first, whatever else they are.
  const patients = new Set(roles.patients);
  for (const user of random.sample(
    users.filter((candidate) => patients.has(candidate.id)),
    dirty(scale, 2),
  ))
    user.superuser = true;
}

function shareAddresses(random: Random, users: readonly User[], roles: Roles, scale: number): void {
  const doctors = new Set(roles.doctors);
  const pool = random.shuffle(users.filter((user) => doctors.has(user.id)));
  for (let address = 0; address < dirty(scale, SHARED_BY.length); address++) {
    for (const user of pool.splice(0, SHARED_BY[address])) user.email = `front.desk${address}@example.com`;
  }
}

/** 40 names are borne by several users, 122 users more than names. */
function duplicateNames(random: Random, spoil: ReturnType<typeof spoiler<User>>, scale: number): void {
  const names = Array.from({ length: dirty(scale, 40) }, () => ({ first: inventName(random), last: inventName(random) }));
  spoil(162, (user, index) => Object.assign(user, names[index % names.length]), 2 * names.length);
}

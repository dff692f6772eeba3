import { makeAccess } from "./access.ts";
import { makeCatalogue } from "./catalogue.ts";
import { makeClinical, makeJaws, spoilJaws } from "./clinical.ts";
import type { ContentTypes } from "./content-types.ts";
import { GROUP_IDS } from "./groups.ts";
import { findHeld, type Held } from "./held.ts";
import { makeInstructions } from "./instructions.ts";
import { makeOffices } from "./offices.ts";
import { makeOperations } from "./operations.ts";
import { makePatients } from "./patients.ts";
import { makePayments } from "./payments.ts";
import { makePeople, type Roles } from "./people.ts";
import { at, Random } from "./random.ts";
import type { Clinic, Core } from "./rows.ts";
import { idsWithGaps, sizeAt } from "./values.ts";

/** Courses 5 and 9 exist, and no map says what they are. */
const COURSES = [1, 2, 3, 4, 5, 7, 8, 9] as const;
const CUSTOMIZATIONS = ["", "{}", "{'a': 1}", '{"a": "\\u0000"}', null, "[]", '{"upper": {"stage": 3}}', ""] as const;

/** Makes the rows that are kept in memory, from which the manifest is computed too. Nothing but seed and scale matter. */
export function makeClinic(seed: number, scale: number, types: ContentTypes): Clinic & { readonly held: Held } {
  const { jawIds, roles, ...made } = makeCore(seed, scale);
  const core = { ...made, jaws: [] };
  const held = findHeld(core);
  spoilMemberships(core, held);
  spoilJaws(Random.for(seed, "jaws of orders"), core, held);
  const catalogue = makeCatalogue(seed, core, roles, held);
  return {
    ...core,
    jaws: makeJaws(Random.for(seed, "dispatch_jaw"), jawIds, catalogue.products),
    ...catalogue,
    ...makeAccess(seed, core, catalogue, types, held),
    ...makeClinical(seed, core, roles, held),
    held,
  };
}

interface MadeCore extends Omit<Core, "jaws"> {
  readonly jawIds: readonly number[];
  readonly roles: Roles;
}

function makeCore(seed: number, scale: number): MadeCore {
  const size = sizeAt(scale);
  const random = (table: string) => Random.for(seed, table);
  const offices = makeOffices(random("offices"), size(897, 24), scale);
  const { roles, ...people } = makePeople(seed, size, scale, offices);
  const patients = makePatients(seed, scale, roles, offices);
  const jawIds = idsWithGaps(random("jaws"), size(43_458, 40));
  const merchandise = idsWithGaps(random("merchandise"), size(1_500)).map((id) => ({ id, course: id % 7 === 0 ? null : 8 }));
  const instructions = makeInstructions(random("instructions"), size(25_012, 120), scale, patients, jawIds);
  const payable = { roles, patients, instructions, merchandise };
  const payments = makePayments(random("payments"), size(17_235, 120), scale, payable);
  return {
    scale,
    groups: Object.entries(GROUP_IDS).map(([name, id]) => ({ id, name })),
    courses: COURSES.map((id, index) => ({
      id,
      name: `Course ${id}`,
      type: id === 9 ? null : (id % 6) + 1,
      customization: at(CUSTOMIZATIONS, index),
    })),
    offices,
    ...people,
    roles,
    patients,
    jawIds,
    merchandise,
    instructions,
    payments,
    operations: makeOperations(random("operations"), size(3_720, 40), scale, payments, instructions),
  };
}

/** A technician whose own profile is in the queue, and a doctor of whom the same is true at an office, where there is one. */
function spoilMemberships({ userGroups, officeDoctors, doctorSettings }: Core, held: Held): void {
  const queued = new Set(held.users);
  const membership = userGroups.find(({ group }) => group === GROUP_IDS.Patient);
  if (membership) Object.assign(membership, { user: at(held.users, 0), group: GROUP_IDS.Technician });
  const doctor = doctorSettings.find(({ user }) => queued.has(user));
  // Somebody who is a doctor without this row as well.
  const row = officeDoctors.find(({ user }) => doctorSettings.some((setting) => setting.user === user));
  if (doctor && row) row.user = doctor.user;
}

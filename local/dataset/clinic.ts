import { GROUP_IDS } from "./groups.ts";
import { makeInstructions } from "./instructions.ts";
import { makeOffices } from "./offices.ts";
import { makeOperations } from "./operations.ts";
import { makePatients } from "./patients.ts";
import { makePayments } from "./payments.ts";
import { makePeople } from "./people.ts";
import { Random } from "./random.ts";
import type { Clinic } from "./rows.ts";
import { idsWithGaps, sizeAt } from "./values.ts";

/** Courses 5 and 9 exist, and no map says what they are. */
const COURSES = [1, 2, 3, 4, 5, 7, 8, 9] as const;

/** Makes the rows of the seven entities, in memory, from which the manifest is computed too. Nothing but seed and scale matter. */
export function makeClinic(seed: number, scale: number): Clinic {
  const size = sizeAt(scale);
  const random = (table: string) => Random.for(seed, table);
  const offices = makeOffices(random("offices"), size(897, 24), scale);
  const { roles, ...people } = makePeople(seed, size, scale, offices);
  const patients = makePatients(seed, scale, roles, offices);
  const jaws = idsWithGaps(random("jaws"), size(43_458, 40));
  const merchandise = idsWithGaps(random("merchandise"), size(1_500)).map((id) => ({ id, course: id % 7 === 0 ? null : 8 }));
  const instructions = makeInstructions(random("instructions"), size(25_012, 120), scale, patients, jaws);
  const payable = { roles, patients, instructions, merchandise };
  const payments = makePayments(random("payments"), size(17_235, 120), scale, payable);
  return {
    scale,
    groups: Object.entries(GROUP_IDS).map(([name, id]) => ({ id, name })),
    courses: COURSES.map((id) => ({ id, name: `Course ${id}`, type: (id % 6) + 1, customization: id % 2 === 0 ? "{}" : "" })),
    offices,
    ...people,
    patients,
    jaws,
    merchandise,
    instructions,
    payments,
    operations: makeOperations(random("operations"), size(3_720, 40), scale, payments, instructions),
  };
}

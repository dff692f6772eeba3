import type { Held } from "./held.ts";
import { HOSTILE_TEXTS, inventName } from "./names.ts";
import type { Roles } from "./people.ts";
import { at, Random } from "./random.ts";
import type { Core, Instruction, Jaw } from "./rows.ts";
import type { Clinical, Note, State } from "./small-rows.ts";
import { spoiler } from "./spoil.ts";
import { dirty, idsWithGaps, moment, sizeAt } from "./values.ts";

/** What hangs on orders and doctors. */
export function makeClinical(seed: number, core: Core, roles: Roles, held: Held): Clinical {
  const size = sizeAt(core.scale);
  const ids = (table: string, count: number) => idsWithGaps(Random.for(seed, `ids of ${table}`), count);
  return {
    states: makeStates(Random.for(seed, "dispatch_state"), ids("states", size(5_547, 24)), core, held),
    notes: makeNotes(Random.for(seed, "dispatch_note"), ids("notes", size(963, 24)), core, roles, held),
  };
}

/** The rows of jaws whose ids are known already: orders point to their jaws. */
export function makeJaws(random: Random, ids: readonly number[], products: readonly { id: number }[]): Jaw[] {
  const mask = (bits: number) => bits.toString(2).padStart(16, "0");
  return ids.map((id, index) => ({
    id,
    bond: mask(random.between(0, 65_535)),
    extract: mask(random.chance(0.9) ? 0 : random.between(0, 65_535)),
    reason: index < 4 ? at([1, 2, 3, 9], index) : random.chance(0.2) ? random.between(1, 3) : null,
    product: random.chance(0.95) ? random.pick(products).id : null,
    labial: random.chance(0.3),
  }));
}

/** Jaws that two orders claim, that one order claims twice, that nobody claims, and that an order has which will not land. */
export function spoilJaws(random: Random, core: Core, held: Held): void {
  const claims = new Map<number, number>();
  for (const jaw of core.instructions.flatMap((row) => [row.upperJaw, row.lowerJaw]))
    if (jaw !== null) claims.set(jaw, (claims.get(jaw) ?? 0) + 1);
  const own = (jaw: number | null): jaw is number => jaw !== null && claims.get(jaw) === 1;
  const waiting = new Set([...held.instructions, ...held.instructionsOfPatients]);
  const rows = core.instructions.filter((row) => !waiting.has(row.id) && own(row.upperJaw) && own(row.lowerJaw));
  const spoil = spoiler(random, rows, core.scale);
  const freed: number[] = [];
  spoil(
    200,
    (row) => {
      if (row.upperJaw !== null) freed.push(row.upperJaw);
      row.upperJaw = null;
    },
    6,
  );
  spoil(20, (row) => (row.lowerJaw = row.upperJaw), 1);
  const others = rows.filter((row) => own(row.upperJaw) && row.upperJaw !== row.lowerJaw);
  const claimed = random.sample(others, 2 * dirty(core.scale, 20, 2));
  for (let index = 0; index + 1 < claimed.length; index += 2) shareJaw(at(claimed, index), at(claimed, index + 1));
  for (const id of [at(held.instructions, 0), at(held.instructionsOfPatients, 0)]) {
    const row = core.instructions.find((instruction) => instruction.id === id);
    if (row) Object.assign(row, { upperJaw: freed.pop() ?? null, lowerJaw: freed.pop() ?? null });
  }
}

/** In the other place of the other order, in turn. */
function shareJaw(one: Instruction, other: Instruction): void {
  if (one.id % 2 === 0) other.upperJaw = one.upperJaw;
  else other.lowerJaw = one.upperJaw;
}

function makeStates(random: Random, ids: readonly number[], core: Core, held: Held): State[] {
  const rows = ids.map((id): State => ({
    id,
    status: random.chance(0.55) ? 11 : 12,
    on: random.chance(0.5),
    changed: moment(random),
    actor: random.chance(0.9) ? random.pick(core.users).id : null,
    instruction: random.pick(core.instructions).id,
  }));
  const spoil = spoiler(random, rows, core.scale);
  spoil(6, (row, index) => (row.status = at([0, 13, 99], index % 3)), 3);
  spoil(2, (row) => Object.assign(row, { status: 13, instruction: at(held.instructionsOfPatients, 0) }));
  spoil(2, (row) => (row.instruction = at(held.instructions, 0)));
  spoil(2, (row) => (row.instruction = at(held.instructionsOfPatients, 0)));
  spoil(2, (row) => (row.actor = at(held.users, 0)));
  spoil(2, (row) => (row.actor = null));
  return rows;
}

function makeNotes(random: Random, ids: readonly number[], core: Core, roles: Roles, held: Held): Note[] {
  const doctors = core.doctorSettings.map(({ user }) => user);
  const authors = random.sample(core.users, 21);
  const rows = ids.map((id): Note => ({
    id,
    created: moment(random),
    text: `Note ${inventName(random)}`,
    author: random.pick(authors).id,
    doctor: random.pickSkewed(doctors),
  }));
  const spoil = spoiler(random, rows, core.scale);
  spoil(10, (row) => (row.text = null));
  spoil(4, (row, index) => (row.text = at(["", "  "], index % 2)), 2);
  spoil(4, (row, index) => (row.text = at(HOSTILE_TEXTS, index % HOSTILE_TEXTS.length)), 2);
  spoil(2, (row) => (row.author = null));
  spoil(2, (row) => (row.author = at(held.users, 0)));
  spoil(2, (row) => (row.doctor = null));
  // Nothing else makes these users doctors: not even the one whose own profile is in the queue.
  spoil(0, (row, index) => (row.doctor = at(roles.namedByNote, index)), roles.namedByNote.length);
  spoil(2, (row) => (row.doctor = held.namedDoctor));
  spoil(1, (row) => Object.assign(row, { doctor: held.namedDoctor, author: at(held.users, 0) }));
  return rows;
}

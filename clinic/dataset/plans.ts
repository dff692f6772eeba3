import { spreader } from "./dirt.ts";
import type { Bracket, Plan, Project, Surroundings } from "./large-rows.ts";
import { HOSTILE_TEXTS, inventName, inventUid } from "./names.ts";
import { at } from "./random.ts";
import type { Stream } from "./stream.ts";
import { moment, nthId } from "./values.ts";

/** The first project is one of an unknown type, the fifth waits for its creator. */
export const QUEUED_PROJECT = nthId(1);
export const WAITING_PROJECT = nthId(5);

/** The first plan is of the queued project, the second of an order that is held, the third of a held patient. */
export const PLAN_OF_QUEUED_PROJECT = nthId(1);
export const PLAN_OF_HELD_ORDER = nthId(2);
export const PLAN_OF_HELD_PATIENT = nthId(3);
export const PLAN_OF_WAITING_PROJECT = nthId(4);

export function projects({ clinic, held, counts }: Surroundings): Stream<Project> {
  const spread = spreader<Project>([
    [9_000, (row, time) => (row.type = at([5, 1, 2, 4], time % 4))],
    [12_000, (row, time) => (row.status = at([1, 9], time % 2))],
    // Its own trouble is named, not that its creator is missing.
    [20_000, (row) => Object.assign(row, { type: 7, creator: at(held.users, 0) })],
    [9_001, (row) => Object.assign(row, { type: 6, status: 6 })],
    [9_002, (row) => (row.creator = at(held.users, 0))],
    [20, (row) => (row.creator = null)],
    [5_000, (row) => (row.status = 2)],
    [900, (row, time) => (row.name = at(HOSTILE_TEXTS, time % HOSTILE_TEXTS.length))],
    [901, (row) => (row.name = null)],
    [902, (row) => (row.size = null)],
    [903, (row) => (row.size = 9_000_000_000)],
    [904, (row) => (row.uid = "")],
  ]);
  return {
    table: "dispatch_project",
    columns: "id uid created_at name size public type status creator_id",
    count: counts.projects,
    make: (random, id, position) => {
      const row: Project = {
        id,
        uid: inventUid(random),
        created: moment(random),
        name: random.chance(0.9) ? `Project ${inventName(random)}` : null,
        size: random.chance(0.9) ? random.between(1, 50_000_000) : null,
        public: random.chance(0.2),
        // Half of them are of type 3.
        type: random.pick([3, 3, 3, 0, 10, 11]),
        status: 0,
        creator: random.pick(clinic.users).id,
      };
      spread(row, position);
      return row;
    },
    cells: (row) => [row.id, row.uid, row.created, row.name, row.size, row.public, row.type, row.status, row.creator],
  };
}

export function brackets({ counts }: Surroundings): Stream<Bracket> {
  const spread = spreader<Bracket>([
    [400, (row) => (row.project = null)],
    [800, (row) => (row.project = QUEUED_PROJECT)],
    [801, (row) => (row.project = WAITING_PROJECT)],
    [200, (row) => (row.name = null)],
    [201, (row) => (row.name = "")],
  ]);
  return {
    table: "dispatch_bracket",
    columns: "id name project_id type",
    count: counts.brackets,
    make: (random, id, position) => {
      const row: Bracket = {
        id,
        name: `Bracket ${id} .022 T-7`,
        project: nthId(random.between(1, counts.projects)),
        type: random.pick(["std", null]),
      };
      spread(row, position);
      return row;
    },
    cells: (row) => [row.id, row.name, row.project, row.type],
  };
}

/** Nearly three plans per project. */
export function plans({ clinic, held, counts }: Surroundings): Stream<Plan> {
  const spread = spreader<Plan>([
    [50_000, (row) => (row.project = QUEUED_PROJECT)],
    [50_001, (row) => (row.instruction = at(held.instructions, 0))],
    [50_002, (row) => (row.instruction = at(held.instructionsOfPatients, 0))],
    [50_003, (row) => (row.project = WAITING_PROJECT)],
    [50_004, (row) => Object.assign(row, { project: WAITING_PROJECT, instruction: at(held.instructions, 0) })],
    [10, (row) => (row.name = "")],
    [500, (row) => (row.name = "  ")],
    [501, (row) => (row.number = null)],
    [502, (row, time) => (row.notes = at(HOSTILE_TEXTS, time % HOSTILE_TEXTS.length))],
  ]);
  return {
    table: "dispatch_plan",
    columns: "id instruction_id project_id notes number name original",
    count: counts.plans,
    make: (random, id, position) => {
      const row: Plan = {
        id,
        instruction: random.pick(clinic.instructions).id,
        project: nthId(random.between(1, counts.projects)),
        notes: random.chance(0.2) ? "Plan notes" : null,
        number: random.chance(0.9) ? random.between(1, 9) : null,
        name: `Plan ${random.between(1, 99)}`,
        original: random.chance(0.4),
      };
      spread(row, position);
      return row;
    },
    cells: (row) => [row.id, row.instruction, row.project, row.notes, row.number, row.name, row.original],
  };
}

import { spreader } from "./dirt.ts";
import { GROUP_IDS } from "./groups.ts";
import type { Comment, LegacyRecord, Surroundings } from "./large-rows.ts";
import { HOSTILE_TEXTS, inventName } from "./names.ts";
import { PLAN_OF_HELD_ORDER, PLAN_OF_HELD_PATIENT, PLAN_OF_QUEUED_PROJECT, PLAN_OF_WAITING_PROJECT } from "./plans.ts";
import { at } from "./random.ts";
import type { Stream } from "./stream.ts";
import { moment, nthId } from "./values.ts";

/** Ids that no row has. */
const NOBODY = 2_000_000_000;

/** The first record has a recipient of a model that is gone, the fourth one who does not exist; the 17th surely lands. */
export const QUEUED_RECORD = nthId(1);
export const WAITING_RECORD = nthId(4);
export const LANDED_RECORD = nthId(17);

export function records({ clinic, types, held, counts }: Surroundings): Stream<LegacyRecord> {
  const patient = types.of("dispatch.patient");
  const user = types.of("auth.user");
  const to = (targetType: number | null, target: number) => (row: LegacyRecord) =>
    void Object.assign(row, { targetType, target });
  const group = GROUP_IDS.Support;
  const spread = spreader<LegacyRecord>([
    [5_000, to(types.of("retired_app.vanished"), 1)],
    [5_001, to(null, 1)],
    [15_000, to(types.of("dispatch.office"), 1)],
    [15_001, to(patient, NOBODY)],
    [15_002, to(user, NOBODY)],
    [15_003, (row) => Object.assign(row, { targetType: patient, target: at(held.patients, 0) })],
    [15_004, (row) => Object.assign(row, { targetType: user, target: at(held.users, 0) })],
    // A patient of another application, whose id is one of a patient here.
    [15_005, to(types.of("retired_app.patient"), at(clinic.patients, 0).id)],
    [15_006, (row) => (row.author = at(held.users, 0))],
    [15_007, (row) => (row.group = 99)],
    [15_008, (row) => Object.assign(row, { targetType: null, group })],
    [15_009, (row) => Object.assign(row, { author: at(held.users, 0), group })],
    [15_010, (row) => Object.assign(row, { targetType: patient, target: NOBODY, author: at(held.users, 0) })],
    [20, (row) => (row.author = null)],
    [300, (row, time) => (row.type = at([99, 0], time % 2))],
    [301, (row, time) => (row.text = at(HOSTILE_TEXTS, time % HOSTILE_TEXTS.length))],
    [302, (row) => Object.assign(row, { text: "", targetType: user, target: at(held.noDoctors, 0), author: null, group: null })],
    [303, (row) => Object.assign(row, { group, public: null })],
  ]);
  return {
    table: "dispatch_record",
    columns: "id target_type_id target_id type created_at text author_id group_id public",
    count: counts.records,
    make: (random, id, position) => {
      const toPatient = random.chance(0.8);
      const row: LegacyRecord = {
        id,
        targetType: toPatient ? patient : user,
        target: random.pick<{ readonly id: number }>(toPatient ? clinic.patients : clinic.users).id,
        type: random.pick([3, 5, 6, 8, 4]),
        created: moment(random),
        text: `Record ${inventName(random)}`,
        author: random.pick(clinic.users).id,
        group: random.chance(0.2) ? random.pick(clinic.groups).id : null,
        public: random.chance(0.9) ? random.chance(0.5) : null,
      };
      spread(row, position);
      return row;
    },
    cells: (row) => [...[row.id, row.targetType, row.target, row.type, row.created, row.text, row.author, row.group, row.public]],
  };
}

export function comments({ clinic, held, counts }: Surroundings): Stream<Comment> {
  const spread = spreader<Comment>([
    [300, (row) => (row.text = null)],
    [301, (row) => (row.text = "")],
    [302, (row) => (row.text = "  ")],
    [303, (row, time) => (row.text = at(HOSTILE_TEXTS, time % HOSTILE_TEXTS.length))],
    [4_000, (row) => (row.author = at(held.users, 0))],
    [50, (row) => (row.author = null)],
    [4_001, (row) => (row.plan = PLAN_OF_QUEUED_PROJECT)],
    [4_002, (row) => (row.plan = PLAN_OF_HELD_ORDER)],
    [4_003, (row) => (row.plan = PLAN_OF_HELD_PATIENT)],
    [4_004, (row) => (row.plan = PLAN_OF_WAITING_PROJECT)],
    [4_005, (row) => Object.assign(row, { plan: PLAN_OF_HELD_PATIENT, author: at(held.users, 0) })],
  ]);
  return {
    table: "dispatch_comment",
    columns: "id created_at text author_id plan_id",
    count: counts.comments,
    make: (random, id, position) => {
      const row: Comment = {
        id,
        created: moment(random),
        text: `Comment ${inventName(random)}?`,
        author: random.pick(clinic.users).id,
        plan: nthId(random.between(1, counts.plans)),
      };
      spread(row, position);
      return row;
    },
    cells: (row) => [row.id, row.created, row.text, row.author, row.plan],
  };
}

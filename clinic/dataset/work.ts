import { spreader } from "./dirt.ts";
import { WAITING_FILE } from "./files.ts";
import type { Action, Surroundings, Task } from "./large-rows.ts";
import { HOSTILE_TEXTS } from "./names.ts";
import { PLAN_OF_HELD_ORDER, PLAN_OF_QUEUED_PROJECT, PLAN_OF_WAITING_PROJECT } from "./plans.ts";
import { at } from "./random.ts";
import type { Stream } from "./stream.ts";
import { moment, nthId } from "./values.ts";

export function tasks({ clinic, held, counts }: Surroundings): Stream<Task> {
  const merchandise = at(clinic.merchandise, 0).id;
  const nothing = { instruction: null, plan: null, order: null, file: null };
  const spread = spreader<Task>([
    [200_000, (row) => (row.instruction = at(held.instructions, 0))],
    [200_001, (row) => (row.instruction = at(held.instructionsOfPatients, 0))],
    [200_002, (row) => (row.plan = PLAN_OF_QUEUED_PROJECT)],
    [200_003, (row) => (row.plan = PLAN_OF_HELD_ORDER)],
    [200_004, (row) => (row.plan = PLAN_OF_WAITING_PROJECT)],
    [200_005, (row) => Object.assign(row, { ...nothing, file: WAITING_FILE })],
    [200_006, (row) => Object.assign(row, { ...nothing, actor: at(held.users, 0) })],
    [200_007, (row) => Object.assign(row, { plan: PLAN_OF_QUEUED_PROJECT, instruction: null, actor: at(held.users, 0) })],
    [50, (row) => (row.instruction = null)],
    [100, (row) => Object.assign(row, { ...nothing, order: merchandise })],
    [1_000, (row) => (row.order = merchandise)],
    [1_001, (row) => Object.assign(row, nothing)],
    [30, (row) => (row.actor = null)],
    [1_002, (row) => Object.assign(row, { checked: true, done: null })],
    [1_003, (row) => Object.assign(row, { checked: false })],
    [1_004, (row) => (row.jaw = 9)],
    [1_005, (row, time) => (row.text = at(HOSTILE_TEXTS, time % HOSTILE_TEXTS.length))],
    [1_006, (row) => (row.text = "")],
  ]);
  return {
    table: "dispatch_task",
    columns: "id template_id text checked done_at actor_id instruction_id plan_id order_id file_id jaw",
    count: counts.tasks,
    make: (random, id, position) => {
      const row: Task = {
        id,
        template: random.pick(clinic.templates).id,
        text: random.chance(0.2) ? "Task text" : null,
        checked: random.chance(0.9),
        done: random.chance(0.9) ? moment(random) : null,
        actor: random.pick(clinic.users).id,
        instruction: random.pick(clinic.instructions).id,
        plan: random.chance(0.3) ? nthId(random.between(1, counts.plans)) : null,
        order: null,
        file: random.chance(0.1) ? nthId(random.between(1, counts.files)) : null,
        jaw: random.between(0, 2),
      };
      spread(row, position);
      return row;
    },
    cells: (row) => [
      ...[row.id, row.template, row.text, row.checked, row.done, row.actor, row.instruction, row.plan, row.order, row.file],
      row.jaw,
    ],
  };
}

export function actions({ clinic, types, held, counts }: Surroundings): Stream<Action> {
  const [instruction, user] = [types.of("dispatch.instruction"), types.of("auth.user")];
  const spread = spreader<Action>([
    [500_000, (row) => (row.user = at(held.users, 0))],
    [20, (row) => (row.user = null)],
    [1_000, (row) => (row.itemType = types.of("retired_app.vanished"))],
    [1_001, (row) => Object.assign(row, { itemType: null, item: null })],
    [1_002, (row) => (row.itemType = null)],
    [1_003, (row) => (row.item = null)],
    [1_004, (row) => Object.assign(row, { itemType: types.of("dispatch.patient"), item: 2_000_000_000 })],
    [1_005, (row) => Object.assign(row, { ownerType: null, owner: null })],
    [1_006, (row) => Object.assign(row, { ownerType: types.of("retired_app.patient"), owner: 1 })],
    [1_007, (row, time) => (row.data = at(HOSTILE_TEXTS, time % HOSTILE_TEXTS.length))],
    [1_008, (row) => (row.action = "")],
  ]);
  return {
    table: "dispatch_action",
    columns: "id action date item_id item_type_id owner_id owner_type_id data user_id",
    count: counts.actions,
    make: (random, id, position) => {
      const row: Action = {
        id,
        action: random.chance(0.75) ? "update" : "create",
        date: moment(random),
        item: random.pick(clinic.instructions).id,
        itemType: instruction,
        owner: random.pick(clinic.users).id,
        ownerType: user,
        data: null,
        user: random.pick(clinic.users).id,
      };
      spread(row, position);
      return row;
    },
    cells: (row) => [...[row.id, row.action, row.date, row.item, row.itemType, row.owner, row.ownerType, row.data, row.user]],
  };
}

import { spreader } from "./dirt.ts";
import type { Notification, Surroundings } from "./large-rows.ts";
import { HOSTILE_TEXTS } from "./names.ts";
import { at } from "./random.ts";
import type { Stream } from "./stream.ts";
import { moment } from "./values.ts";

/** At scale 1, notifications and those of them with sent and send. */
export const NOTIFICATIONS = 5_700_000;
const SENDABLE = 2_039_588;

/** Ids that no row has. */
const NOBODY = 2_000_000_000;

/** How many of the first rows are sendable: exactly the share that is on record, spread evenly. */
export function sendable(position: number): number {
  return Math.floor((position * SENDABLE) / NOTIFICATIONS);
}

/** Dirt is spread over the sendable ones: that of the others lands nowhere. */
export function notifications({ clinic, types, held, counts }: Surroundings): Stream<Notification> {
  const [instruction, patient] = [types.of("dispatch.instruction"), types.of("dispatch.patient")];
  const about = (itemType: number | null, item: number | null) => (row: Notification) =>
    void Object.assign(row, { itemType, item });
  const spread = spreader<Notification>([
    // 40 at scale 1.
    [50_990, (row) => (row.context = "{'broken")],
    [50_991, (row) => (row.context = '{"a": "\\u0000"}')],
    [400_000, (row) => (row.recipient = at(held.users, 0))],
    [400_001, about(instruction, at(held.instructions, 0))],
    [400_002, about(instruction, NOBODY)],
    [400_003, about(patient, at(held.patients, 0))],
    [400_004, about(patient, NOBODY)],
    [400_005, (row) => Object.assign(row, { recipient: at(held.users, 0), itemType: patient, item: NOBODY })],
    [100, (row) => (row.recipient = null)],
    [50, (row) => (row.context = "")],
    [51, (row) => (row.context = null)],
    [25, (row, time) => about(patient, at(clinic.patients, time % clinic.patients.length).id)(row)],
    [1_000, about(types.of("retired_app.vanished"), 7)],
    [1_001, about(types.of("retired_app.patient"), at(clinic.patients, 0).id)],
    [1_002, about(types.of("dispatch.plan"), 7)],
    [1_003, about(null, 7)],
    [1_004, about(null, null)],
    [1_005, about(instruction, null)],
    [1_006, (row) => Object.assign(row, { sender: null, template: null })],
    [1_007, (row, time) => (row.context = JSON.stringify({ note: at(HOSTILE_TEXTS, time % HOSTILE_TEXTS.length) }))],
    [1_008, (row) => (row.context = "[]")],
  ]);
  return {
    table: "dispatch_notification",
    columns: "id created_at sender template_name template_context read item_id item_type_id recipient_id sent send",
    count: counts.notifications,
    make: (random, id, position) => {
      const nth = sendable(position);
      const both = nth > sendable(position - 1);
      const row: Notification = {
        id,
        created: moment(random),
        sender: "system",
        template: `template_${position % 40}`,
        context: '{"order": 1}',
        read: random.chance(0.35),
        item: random.pick(clinic.instructions).id,
        itemType: instruction,
        recipient: random.pick(clinic.users).id,
        sent: both || position % 7 === 0,
        // Never both for one that is not sendable; neither for most.
        send: both || position % 7 === 1,
      };
      if (both) spread(row, nth);
      return row;
    },
    cells: (row) => [
      ...[row.id, row.created, row.sender, row.template, row.context, row.read, row.item, row.itemType, row.recipient],
      ...[row.sent, row.send],
    ],
  };
}

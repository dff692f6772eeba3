import { PRODUCTS } from "./catalogue-tables.ts";
import type { ContentTypes } from "./content-types.ts";
import { anyOf, madeTable, maybe, type MakeCells } from "./made-table.ts";
import { HOSTILE_TEXTS, inventName, inventUid, JSON_TEXTS } from "./names.ts";
import type { Random } from "./random.ts";
import type { Clinic } from "./rows.ts";
import type { TableRows } from "./table.ts";
import { dirty, moment, sizeAt } from "./values.ts";

/** At scale 1, notifications and those of them with sent and send. */
const NOTIFICATIONS = 5_700_000;
const SENT_AND_SEND = 2_039_588;

/** The tables that grow by the day, over ten million rows at scale 1: none of them is ever in memory. */
export function logTables(seed: number, scale: number, clinic: Clinic, types: ContentTypes): TableRows[] {
  const size = sizeAt(scale);
  const make = (name: string, columns: string, count: number, cells: MakeCells) => madeTable(seed, name, columns, count, cells);
  const users = clinic.users.map((user) => user.id);
  const instructions = clinic.instructions.map((row) => row.id);
  const patients = clinic.patients.map((row) => row.id);
  const user = (random: Random) => random.pick(users);
  const instruction = (random: Random) => random.pick(instructions);
  const counts = { project: size(72_155), plan: size(209_241), record: size(70_742), file: size(327_771) };
  const templates = sizeAt(clinic.scale)(169, 8);
  return [
    make("dispatch_project", "uid created_at name size public type status creator_id", counts.project, (random, _, position) => [
      inventUid(random),
      moment(random),
      maybe(random, 0.9, `Project ${inventName(random)}`),
      maybe(random, 0.9, random.between(1, 50_000_000)),
      random.chance(0.2),
      // Half of them are of type 3.
      random.pick([3, 3, 3, 0, 10, 11]),
      position % 5_000 === 1 ? 2 : 0,
      maybe(random, 0.95, user(random)),
    ]),
    make("dispatch_bracket", "name project_id type", size(1_720), (random, id) => [
      `Bracket ${id} .022 T-7`,
      anyOf(random, counts.project),
      random.pick(["std", null]),
    ]),
    // Several plans per project.
    make("dispatch_plan", "instruction_id project_id notes number name original", counts.plan, (random) => [
      instruction(random),
      anyOf(random, counts.project),
      maybe(random, 0.2, "Plan notes"),
      maybe(random, 0.9, random.between(1, 9)),
      random.chance(0.1) ? "" : `Plan ${random.between(1, 99)}`,
      random.chance(0.4),
    ]),
    make(
      "dispatch_record",
      "target_type_id target_id type created_at text author_id group_id public",
      counts.record,
      (random, _, position) => [...recordTarget(random, position), ...recordBody(random, position)],
    ),
    make("dispatch_record_roles", "record_id role_id", size(100), (random) => [
      anyOf(random, counts.record),
      anyOf(random, sizeAt(clinic.scale)(48, 8)),
    ]),
    // About half of all files have neither an instruction nor a record; some have both.
    make(
      "dispatch_file",
      "uid name ext size type status instruction_id record_id product_id description parameters created_at",
      counts.file,
      (random, id, position) => [
        inventUid(random),
        maybe(random, 0.98, `file${id}.stl${position % 90 === 0 ? ".stl" : ""}`),
        maybe(random, 0.98, ".stl"),
        random.between(1, 90_000_000),
        random.between(1, 13),
        random.between(0, 3),
        maybe(random, 0.5, instruction(random)),
        maybe(random, 0.03, anyOf(random, counts.record)),
        maybe(random, 0.01, anyOf(random, PRODUCTS)),
        null,
        position % 100 === 1 ? random.pick(JSON_TEXTS.broken) : "{}",
        moment(random),
      ],
    ),
    make("dispatch_comment", "created_at text author_id plan_id", size(16_312), (random, _, position) => [
      moment(random),
      position % 100 === 1 ? null : position % 100 === 2 ? random.pick(["", "  "]) : `Comment ${inventName(random)}?`,
      maybe(random, 0.98, user(random)),
      anyOf(random, counts.plan),
    ]),
    make(
      "dispatch_notification",
      "created_at sender template_name template_context read item_id item_type_id recipient_id sent send",
      size(NOTIFICATIONS),
      (random, _, position) => {
        // Exactly the share that is on record, spread evenly.
        const both =
          Math.floor((position * SENT_AND_SEND) / NOTIFICATIONS) > Math.floor(((position - 1) * SENT_AND_SEND) / NOTIFICATIONS);
        const odd = position % 7;
        return [
          moment(random),
          "system",
          `template_${position % 40}`,
          context(position),
          random.chance(0.35),
          maybe(random, 0.9, instruction(random)),
          position % 9 === 0 ? types.of("vanished") : position % 11 === 0 ? null : types.of("instruction"),
          maybe(random, 0.99, user(random)),
          both || odd === 0,
          both || odd === 1,
        ];
      },
    ),
    make(
      "dispatch_task",
      "template_id text checked done_at actor_id instruction_id plan_id order_id file_id jaw",
      size(969_000),
      (random) => [
        anyOf(random, templates),
        maybe(random, 0.2, "Task text"),
        random.chance(0.9),
        maybe(random, 0.9, moment(random)),
        maybe(random, 0.9, user(random)),
        maybe(random, 0.98, instruction(random)),
        maybe(random, 0.3, anyOf(random, counts.plan)),
        maybe(random, 0.01, random.pick(clinic.merchandise).id),
        maybe(random, 0.1, anyOf(random, counts.file)),
        random.between(0, 2),
      ],
    ),
    make("dispatch_action", "action date item_id item_type_id owner_id owner_type_id data user_id", size(3_130_000), (random) => [
      random.chance(0.75) ? "update" : "create",
      moment(random),
      maybe(random, 0.95, instruction(random)),
      types.of("instruction"),
      maybe(random, 0.5, user(random)),
      types.of("user"),
      null,
      maybe(random, 0.95, user(random)),
    ]),
  ];

  /** A generic reference: no foreign key holds it, and some point to a model that is gone. */
  function recordTarget(random: Random, position: number): readonly [number | null, number] {
    if (position % 500 === 1) return [types.of("vanished"), position];
    if (position % 50 === 2) return [null, position];
    return random.chance(0.8) ? [types.of("patient"), random.pick(patients)] : [types.of("user"), user(random)];
  }

  function recordBody(random: Random, position: number) {
    return [
      random.pick([3, 5, 6, 8, 4]),
      moment(random),
      position % 200 === 3 ? random.pick(HOSTILE_TEXTS) : `Record ${inventName(random)}`,
      maybe(random, 0.95, user(random)),
      maybe(random, 0.2, random.pick(clinic.groups).id),
      maybe(random, 0.9, random.chance(0.5)),
    ] as const;
  }

  /** 40 cannot be parsed at scale 1; '' and NULL occur. */
  function context(position: number): string | null {
    if (position <= dirty(scale, 40)) return "{'broken";
    return position % 50 === 0 ? "" : position % 50 === 1 ? null : '{"order": 1}';
  }
}

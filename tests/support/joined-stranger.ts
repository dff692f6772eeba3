import { ident } from "../../shared/db/ident.ts";
import { defineEntity, expression, type Entity } from "../../shared/entity/define-entity.ts";
import type { Pipeline } from "./pipeline.ts";

/** How many names a joined stranger needs. */
export const NAMES_OF_ONE = 16;
/** Ids of its records. */
const IDS = [1, 2, 3] as const;
/** Where the driving table's names stand, then thirteen joined tables, a watched one, and the one that the predicate asks about. */
const JOINED = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13] as const;
const WATCHED = 14;
const ASKED = 15;

/** What the SQL of these entities says itself, no alias of theirs can be called. */
const WORDS = ["select", "from", "where", "order", "by", "public"];

/**
 * An entity whose source is sixteen tables: a driving one, thirteen that it joins (one of them through another), one
 * that an expression asks about and one that the predicate does. Each table and its alias are called by one name of
 * sixteen, and their columns by the others.
 */
export interface JoinedStranger {
  readonly entity: Entity;
  /** The column of the driving table that a request may select its records by, with what it says. */
  readonly filter: string;
  /** Makes the source's tables, and the target's. */
  create(test: Pipeline): Promise<void>;
  /** Three records; the predicate waives the third. */
  fill(test: Pipeline): Promise<void>;
  /** Sets what a table says of a record, and stamps the driving row if that is the table. */
  say(test: Pipeline, table: number, id: number, value: string): Promise<void>;
  /** What both sides hold, by SQL of its own. */
  both(test: Pipeline): Promise<readonly [source: unknown[], target: unknown[]]>;
}

export const DRIVING = 0;
export const THROUGH_ANOTHER = 2;
export { ASKED, JOINED, WATCHED };

/** `names`: sixteen different ones; `target`: what its table is called there. */
export function joinedStranger(names: readonly string[], target: string): JoinedStranger {
  if (new Set(names).size !== NAMES_OF_ONE) throw new RangeError("A joined stranger needs sixteen names.");
  const name = (at: number) => names[at % NAMES_OF_ONE] ?? "";
  // Of the table `at`: its key, what it is found by, what it says, what leads on, and when it was changed.
  const column =
    (place: number): Column =>
    (at) =>
      name(at + place);
  const [key, link, said, next, stamp] = [column(1), column(2), column(3), column(4), column(5)];
  const alias = (at: number) => (WORDS.includes(name(at)) ? `${name(at)}_` : name(at));
  const reference = (at: number, of: Column) => `${alias(at)}.${of(at)}`;
  const sql = (at: number, of: Column) => `${ident(alias(at))}.${ident(of(at))}`;
  const from = (at: number) =>
    `from public.${ident(name(at))} ${ident(alias(at))} where ${sql(at, link)} = ${sql(DRIVING, link)}`;
  const step = (at: number) => ({
    table: name(at),
    key: key(at),
    on: { [link(at)]: at === THROUGH_ANOTHER ? reference(1, next) : reference(DRIVING, link) },
  });
  const define = defineEntity as unknown as (spec: object) => Entity;
  const columns = [DRIVING, ...JOINED, WATCHED].map((at) => `c${at}`);
  const entity = define({
    name: name(DRIVING),
    target: { table: target, legacyKey: "legacy_id" },
    source: {
      table: name(DRIVING),
      key: key(DRIVING),
      alias: alias(DRIVING),
      joins: Object.fromEntries(JOINED.map((at) => [alias(at), step(at)])),
      watches: Object.fromEntries([WATCHED, ASKED].map((at) => [alias(at), step(at)])),
      predicate: {
        name: "heard",
        version: 1,
        where: `(select bool_and(${sql(ASKED, said)} <> 'waived') ${from(ASKED)})`,
        reason: "nobody has heard of the others",
        onLeave: "delete",
      },
      modified: stamp(DRIVING),
      filters: [said(DRIVING)],
      columns: {
        ...Object.fromEntries([DRIVING, ...JOINED].map((at) => [`c${at}`, reference(at, said)])),
        [`c${WATCHED}`]: expression(
          "text",
          `(select string_agg(${sql(WATCHED, said)}, ',' order by ${sql(WATCHED, key)}) ${from(WATCHED)})`,
        ),
      },
      ignored: { [next(DRIVING)]: "leads on from the others alone" },
    },
    fields: ({ copy }: { copy: (one: string) => unknown }) => Object.fromEntries(columns.map((one) => [one, copy(one)])),
  });

  const all = [DRIVING, ...JOINED, WATCHED, ASKED];
  const table = (at: number) => `public.${ident(name(at))}`;
  /** By what a table's row belongs to a record. */
  const linked = (at: number, id: number) => (at === THROUGH_ANOTHER ? 1_000 : 10) * id;
  return {
    entity,
    filter: said(DRIVING),
    create: async ({ source, target: { admin } }) => {
      await source.admin.unsafe(
        all
          .map(
            (at) => `
        create table ${table(at)} (${ident(key(at))} bigint not null, ${ident(link(at))} bigint, ${ident(said(at))} text, ${ident(next(at))} bigint,
          ${ident(stamp(at))} timestamptz not null default clock_timestamp());
        create index on ${table(at)} (${ident(link(at))});
        grant select on ${table(at)} to isthmus_reader;`,
          )
          .join(""),
      );
      await admin.unsafe(`
        create table public.${ident(target)} (id uuid primary key, legacy_id bigint not null unique, ${columns.map((one) => `${one} text`).join(", ")});
        alter table public.${ident(target)} owner to postgres`);
    },
    fill: async ({ source }) => {
      await source.admin.unsafe(
        all
          .flatMap((at) =>
            IDS.map(
              (id) => `
        insert into ${table(at)} (${[key, link, said, next].map((of) => ident(of(at))).join(", ")})
        values (${id + 100 * at}, ${linked(at, id)}, '${at === ASKED && id === 3 ? "waived" : `${at} of ${id}`}', ${1_000 * id});`,
            ),
          )
          .join(""),
      );
    },
    say: async ({ source }, at, id, value) => {
      await source.admin.unsafe(
        `update ${table(at)} set ${ident(said(at))} = '${value}', ${ident(stamp(at))} = clock_timestamp() where ${ident(link(at))} = ${linked(at, id)}`,
      );
    },
    both: async ({ source, target: { admin } }) => {
      const value = (at: number) =>
        `(select x0.${ident(said(at))} from ${table(at)} x0 where x0.${ident(link(at))} = ${at === THROUGH_ANOTHER ? 1_000 : 10} * test_id)`;
      const there = await source.admin.unsafe(
        `select ${[DRIVING, ...JOINED, WATCHED].map((at) => `${value(at)} as c${at}`).join(", ")} from generate_series(1, 3) test_id
          where ${value(ASKED)} <> 'waived' order by test_id`,
      );
      const here = await admin.unsafe(`select ${columns.join(", ")} from public.${ident(target)} order by legacy_id`);
      return [[...there], [...here]];
    },
  };
}

type Column = (at: number) => string;

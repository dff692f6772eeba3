import { describe, expect, it } from "vitest";
import { ident } from "../shared/db/ident.ts";
import { tick } from "../shared/tick/tick.ts";
import type { Pipeline } from "./support/pipeline.ts";
import { createStranger, ENTITY } from "./support/stranger.ts";

interface Case {
  readonly index: string;
  readonly columns: Readonly<Record<string, string>>;
  /** The values of a row, as SQL over its number n. */
  readonly values: string;
}

/** A unique index of each kind; rows n and m exchange all of their values but for those named keep_. */
const CASES: readonly Case[] = [
  { index: "(keep_list, position)", columns: { keep_list: "integer not null", position: "integer not null" }, values: "7, n" },
  { index: "(position, keep_list)", columns: { keep_list: "integer not null", position: "smallint not null" }, values: "7, n" },
  { index: "(big)", columns: { big: "bigint not null" }, values: "n" },
  { index: "(price)", columns: { price: "numeric(5,2) not null" }, values: "n + 0.5" },
  { index: "(day)", columns: { day: "date not null" }, values: "date '2026-01-01' + n" },
  {
    index: "(at)",
    columns: { at: "timestamptz not null" },
    values: "timestamptz '2026-01-01 00:00:00+00' + n * interval '1 day'",
  },
  { index: "(token)", columns: { token: "uuid not null" }, values: "md5(n::text)::uuid" },
  { index: "(code)", columns: { code: "char(4) not null" }, values: "'C' || n" },
  {
    index: "(mail)",
    columns: { mail: "extensions.citext not null" },
    values: "case when n % 2 = 0 then 'Mail' else 'mAIL' end || n",
  },
  { index: "(lower(name))", columns: { name: "varchar(20) not null" }, values: "'Name ' || n" },
  { index: "(coalesce(nick, ''))", columns: { nick: "text" }, values: "'nick' || n" },
  { index: "(place) nulls not distinct", columns: { place: "text" }, values: "'place' || n" },
  {
    index: "(keep_list, lower(name)) include (n2) where alive",
    columns: { keep_list: "integer not null", name: "text not null", alive: "boolean not null", n2: "integer" },
    values: "1, 'Name ' || n, true, n",
  },
];

async function strange({ columns, index, values }: Case): Promise<Pipeline> {
  const test = await createStranger(
    {
      source: "old",
      target: "fresh",
      columns: Object.fromEntries(Object.entries(columns).map(([name, type]) => [name, { type }])),
      computed: true,
    },
    {},
    {},
    async ({ source, target }) => {
      for (const { admin } of [source, target])
        await admin.unsafe("create schema if not exists extensions; create extension if not exists citext schema extensions");
    },
  );
  await test.target.admin.unsafe(`create unique index one_of_each on public.fresh ${index}`);
  await test.source.admin.unsafe(`insert into public.old select n, ${values} from generate_series(1, 6) n`);
  await test.sync();
  expect(await test.live(ENTITY)).toEqual([]);
  return test;
}

/** Rows of the source get each other's values, round in a circle. */
const turn = (test: Pipeline, { columns }: Case, ids: readonly number[]) =>
  test.source.admin.unsafe(`
    with turned as (select a.id, b.* from unnest(array[${ids.join()}]) with ordinality x (id, n)
      join unnest(array[${ids.join()}]) with ordinality y (other, n) on y.n = x.n % ${ids.length} + 1
      join public.old a on a.id = x.id join lateral (select ${names(columns)} from public.old o where o.id = y.other) b on true)
    update public.old o set ${Object.keys(columns)
      .map((name) => `${ident(name)} = t.${ident(name)}`)
      .join(", ")} from turned t where o.id = t.id`);
const names = (columns: Case["columns"]) => Object.keys(columns).map(ident).join(", ");

async function expectEqual(test: Pipeline, { columns }: Case) {
  const list = Object.keys(columns)
    .map((name) => `${ident(name)}::text`)
    .join(", ");
  const here = await test.target.admin.unsafe(`select legacy_id::text as id, ${list} from public.fresh order by legacy_id`);
  expect(here).toEqual(await test.source.admin.unsafe(`select id::text, ${list} from public.old order by id`));
  expect(await test.live(ENTITY)).toEqual([]);
}

describe("unique values that records exchange land under an index of any kind", () => {
  it.each(CASES)("$index", async (one) => {
    await using test = await strange(one);
    await turn(test, one, [1, 2]);
    const { execution } = await test.start({ dryRun: true });
    await test.drain();
    const planned = await test.target.admin`
      select sum(updated)::integer as updated, sum(in_conflict)::integer as conflicts from public.sync_page_log where execution_id = ${execution}`;
    expect([...planned]).toEqual([{ updated: 2, conflicts: 0 }]);
    await test.sync();
    await expectEqual(test, one);
    // A longer circle, beside a record that comes to hold what none of them gives.
    await turn(test, one, [3, 4, 5]);
    await test.source.admin.unsafe(`insert into public.old select n, ${one.values} from generate_series(7, 7) n`);
    await test.sync();
    await expectEqual(test, one);
    // In several pages: what exchanges values is read together.
    await turn(test, one, [1, 6]);
    const next = await test.start();
    await test.target.admin`update public.sync_chains set page_size = 1 where execution_id = ${next.execution}`;
    await test.drain();
    for (let tries = 0; tries < 3; tries++) {
      await tick(test.context);
      await test.drain();
    }
    await expectEqual(test, one);
  });
});

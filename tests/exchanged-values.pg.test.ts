import { beforeAll, describe, expect, it } from "vitest";
import { ident } from "../shared/db/ident.ts";
import { tick } from "../shared/tick/tick.ts";
import type { Pipeline } from "./support/pipeline.ts";
import { createStranger, createStrangers, ENTITY, type Stranger } from "./support/stranger.ts";

interface Case {
  readonly title?: string;
  readonly index: string;
  readonly columns: Readonly<Record<string, string>>;
  /** The values of a row, as SQL over its number n. */
  readonly values: string;
  /** What both databases need before their tables. */
  readonly prepare?: string;
  /** How many rows there are (6), and which of them exchange their values in which order, one round after the other. */
  readonly rows?: number;
  readonly circles?: readonly (readonly number[])[];
}

const ANY_CASE = "create collation public.any_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false)";

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
  {
    index: "(folded)",
    columns: { folded: "text collate public.any_case not null" },
    values: "'Name ' || n",
    prepare: ANY_CASE,
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

const strangerOf = (
  columns: Case["columns"],
  { source, target, entity }: Record<"source" | "target" | "entity", string>,
): Stranger => ({
  name: entity,
  source,
  target,
  columns: Object.fromEntries(Object.entries(columns).map(([name, type]) => [name, { type }])),
  computed: true,
});

async function strange(
  { columns, index, values, prepare, rows = 6 }: Case,
  more: Parameters<typeof createStranger>[1] = {},
): Promise<Pipeline> {
  const test = await createStranger(
    strangerOf(columns, { source: "old", target: "fresh", entity: ENTITY }),
    more,
    {},
    async ({ source, target }) => {
      for (const { admin } of [source, target])
        await admin.unsafe(
          `create schema if not exists extensions; create extension if not exists citext schema extensions; ${prepare ?? ""}`,
        );
    },
  );
  await test.target.admin.unsafe(`create unique index one_of_each on public.fresh ${index}`);
  await test.source.admin.unsafe(`insert into public.old select n, ${values} from generate_series(1, ${rows}) n`);
  await test.sync();
  expect(await test.live(ENTITY)).toEqual([]);
  return test;
}

/** Rows of the source get each other's values, round in a circle. */
const turn = (test: Pipeline, { columns }: Case, ids: readonly number[], source = "old") =>
  test.source.admin.unsafe(`
    with turned as (select a.id, b.* from unnest(array[${ids.join()}]) with ordinality x (id, n)
      join unnest(array[${ids.join()}]) with ordinality y (other, n) on y.n = x.n % ${ids.length} + 1
      join public.${source} a on a.id = x.id join lateral (select ${names(columns)} from public.${source} o where o.id = y.other) b on true)
    update public.${source} o set ${Object.keys(columns)
      .map((name) => `${ident(name)} = t.${ident(name)}`)
      .join(", ")} from turned t where o.id = t.id`);
const names = (columns: Case["columns"]) => Object.keys(columns).map(ident).join(", ");

/** What both sides hold, and what the queue has. */
async function sides(
  test: Pipeline,
  { columns }: Case,
  { source, target, entity } = { source: "old", target: "fresh", entity: ENTITY },
) {
  const list = Object.keys(columns)
    .map((name) => `${ident(name)}::text`)
    .join(", ");
  return {
    here: [...(await test.target.admin.unsafe(`select legacy_id::text as id, ${list} from public.${target} order by legacy_id`))],
    there: [...(await test.source.admin.unsafe(`select id::text, ${list} from public.${source} t order by t.id`))],
    live: await test.live(entity),
  };
}

async function expectEqual(test: Pipeline, one: Case) {
  const { here, there, live } = await sides(test, one);
  expect(here).toEqual(there);
  expect(live).toEqual([]);
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

/** One column that is NOT NULL, under a unique index of its own. */
const one = (type: string, values: string, more: Partial<Case> = {}): Case => ({
  title: type,
  index: "(value)",
  columns: { value: `${type.replace(/ check .*/, "")} not null${/ check .*/.exec(type)?.[0] ?? ""}` },
  values,
  ...more,
});
const list = (type: string, values: string, more: Partial<Case> = {}): Case => ({
  title: `${type} in lists`,
  index: "(keep_list, value)",
  columns: { keep_list: "integer not null", value: `${type} not null` },
  values,
  ...more,
});
const LETTERS = "create type public.letter as enum ('a', 'b', 'c', 'd')";

/** Every family of types, and what constraints let stand in. */
const STAND_INS: readonly Case[] = [
  one("time", "time '10:00' + n * interval '1 minute'"),
  one("timetz", "timetz '10:00+02' + n * interval '1 minute'"),
  one("timestamp", "timestamp '2026-01-01 10:00' + n * interval '1 minute'"),
  one("interval", "n * interval '1 day'"),
  one("real", "n + 0.5"),
  one("double precision", "n + 0.5"),
  one("numeric", "n + 0.50"),
  one("bytea", "decode(lpad(n::text, 4, '0'), 'hex')"),
  one("inet", "('10.0.0.' || n)::inet"),
  one("cidr", "('10.' || n || '.0.0/16')::cidr"),
  one("macaddr", "('08:00:2b:01:02:0' || n)::macaddr"),
  one("bit(8)", "n::bit(8)"),
  one("bit varying", "n::bit(4)::bit varying"),
  one("pg_lsn", "('0/16B374' || n)::pg_lsn"),
  one("int4range", "int4range(n, n + 1)"),
  one("tstzrange", "tstzrange(timestamptz '2026-01-01 00:00+00' + n * interval '1 day', null)"),
  one("int4multirange", "int4multirange(int4range(n, n + 1))"),
  one("text[]", "array[n::text]"),
  one("integer[]", "array[n, 7]"),
  one("jsonb", "jsonb_build_object('a', n)"),
  one("public.pair", "row(n, 'x')::public.pair", { prepare: "create type public.pair as (a integer, b text)" }),
  one("tsvector", "to_tsvector('simple', 'word' || n)"),
  // One of the two has no character that another could take the place of.
  one("text, one of them empty", "case n when 1 then '' else 'Ż' || n end", { columns: { value: "text not null" } }),
  one("text of another script", "repeat('я', n) || 'ю'", { columns: { value: "text not null" } }),
  one("infinity", "case n when 1 then 'infinity' when 2 then '-infinity' else '2026-01-01'::date + n end::date", {
    columns: { value: "date not null" },
  }),
  one("jsonb, true and false", "case n when 1 then 'true' when 2 then 'false' else to_jsonb(n) end", {
    columns: { value: "jsonb not null" },
  }),
  one("integer check (value between 1 and 100)", "n"),
  one("date check (value between '2026-01-01' and '2026-12-31')", "date '2026-01-01' + n"),
  one("numeric(5,2) check (value > 0)", "n + 0.5"),
  one("text check (value ~ '^C[0-9]$')", "'C' || n"),
  one("text check (value ~ '^[a-z]+@[a-z]+[.]example$')", "chr(96 + n) || 'x@y.example'"),
  one("text check (length(value) = 5)", "'Nr. ' || n"),
  one("text check (substr(value, 2)::integer between 1 and 99)", "'C' || n"),
  one("public.digits", "lpad(n::text, 6, '0')", {
    prepare: "create domain public.digits as text check (value ~ '^[0-9]{6}$') check (value < '000100')",
  }),
  one("public.letter", "(array['a', 'b', 'c'])[n]::public.letter", {
    prepare: LETTERS,
    rows: 3,
    circles: [
      [1, 2],
      [1, 2, 3],
    ],
  }),
  { ...list("boolean", "7, n = 1"), rows: 2, circles: [[1, 2]] },
  {
    ...list("public.letter", "n / 5, (array['a', 'b', 'c', 'd'])[1 + n % 4]::public.letter"),
    prepare: LETTERS,
    rows: 4,
    circles: [
      [1, 2],
      [1, 2, 3],
    ],
  },
  list("integer", "7, n", {
    title: "two columns with a CHECK over both",
    columns: { keep_list: "integer not null", value: "integer not null check (value < keep_list)" },
  }),
  // A reference may stand in for another.
  {
    title: "a full enum beside a reference",
    index: "(keep_shop, value)",
    columns: { keep_shop: "integer not null references public.shops (id)", value: "public.letter not null" },
    values: "case when n = 5 then 2 else 1 end, (array['a', 'b', 'c', 'd', 'c'])[n]::public.letter",
    prepare: `create table public.shops (id integer primary key); insert into public.shops select generate_series(1, 3)`,
    rows: 5,
    circles: [[1, 2]],
  },
];

describe("what stands in meanwhile is a value of the column's own", () => {
  const circlesOf = ({ circles }: Case) => circles ?? CIRCLES;
  const CIRCLES = [
    [1, 2],
    [3, 4, 5],
  ];
  const tables = (n: number) => ({ source: `old_${n}`, target: `fresh_${n}`, entity: `things_${n}` });
  const rounds: { planned: unknown; live: unknown; here: unknown; there: unknown }[][] = STAND_INS.map(() => []);

  // All in one pipeline, each in tables of its own.
  beforeAll(async () => {
    await using test = await createStrangers(
      STAND_INS.map(({ columns }, n) => strangerOf(columns, tables(n))),
      {},
      {},
      async ({ source, target }) => {
        const prepared = new Set(STAND_INS.map(({ prepare }) => prepare ?? "select"));
        for (const { admin } of [source, target]) for (const statement of prepared) await admin.unsafe(statement);
      },
    );
    for (const [n, { index, values, rows = 6 }] of STAND_INS.entries()) {
      await test.target.admin.unsafe(`create unique index one_of_each_${n} on public.${tables(n).target} ${index}`);
      await test.source.admin.unsafe(
        `insert into public.${tables(n).source} select n, ${values} from generate_series(1, ${rows}) n`,
      );
    }
    await test.sync();
    for (const round of CIRCLES.keys()) {
      for (const [n, one] of STAND_INS.entries()) {
        const circle = circlesOf(one)[round];
        if (circle) await turn(test, one, circle, tables(n).source);
      }
      const { execution } = await test.start({ dryRun: true });
      await test.drain();
      await test.sync();
      for (const [n, one] of STAND_INS.entries()) {
        const planned = await test.target.admin`
          select coalesce(sum(updated), 0)::integer as updated, coalesce(sum(in_conflict), 0)::integer as conflicts from public.sync_page_log
           where execution_id = ${execution} and entity_id = (select id from public.sync_entities where entity_type = ${tables(n).entity})`;
        rounds[n]?.push({ planned: [...planned], ...(await sides(test, one, tables(n))) });
      }
    }
  }, 600_000);

  it.each(STAND_INS.map((one, n) => ({ ...one, n })))("$title", ({ n, ...one }) => {
    expect(rounds[n]).toHaveLength(CIRCLES.length);
    for (const [round, { planned, here, there, live }] of (rounds[n] ?? []).entries()) {
      expect(planned).toEqual([{ updated: circlesOf(one)[round]?.length ?? 0, conflicts: 0 }]);
      expect(here).toEqual(there);
      expect(live).toEqual([]);
    }
  });
});

describe("without a stand-in", () => {
  const letters = (more: Partial<Case> = {}) =>
    one("public.letter", "(array['a', 'b', 'c', 'd'])[n]::public.letter", { prepare: LETTERS, rows: 3, ...more });
  const set = async (test: Pipeline, values: Readonly<Record<number, string>>) => {
    for (const [id, value] of Object.entries(values))
      await test.source.admin`update public.old set value = ${value}::text::public.letter where id = ${id}`;
  };

  it("who gives a value is written before who takes it", async () => {
    await using test = await strange(letters());
    await set(test, { 1: "b", 2: "c", 3: "d" });
    await test.sync();
    await expectEqual(test, letters());
  });

  it("a row leaves the part of the table that the index is over, and another one comes to it", async () => {
    const part: Case = {
      index: "(keep_user) where preferred",
      columns: { keep_user: "integer not null", preferred: "boolean not null" },
      values: "7, n = 1",
      rows: 2,
    };
    await using test = await strange(part);
    await turn(test, part, [1, 2]);
    await test.sync();
    await expectEqual(test, part);
    await turn(test, part, [1, 2]);
    await test.sync();
    await expectEqual(test, part);
  });

  it("a circle in which every value is taken is told as such, and lands when one is free", async () => {
    await using test = await strange(letters({ rows: 4 }));
    await turn(test, letters(), [1, 2, 3, 4]);
    await test.sync();
    const live = await test.live(ENTITY);
    expect(live).toHaveLength(4);
    for (const { rule, remedy, state } of live) {
      expect([rule, state]).toEqual(["one_of_each", "open"]);
      expect(remedy).toMatch(
        /^The record exchanges values of the unique index one_of_each with others \(the next is record [1-4]\), and nothing can stand in/,
      );
    }
    const there = await test.target.admin`select value::text from public.fresh order by legacy_id`;
    expect(there.map(({ value }) => String(value)).join("")).toBe("abcd");
    await test.target.admin`alter type public.letter add value 'e'`;
    await test.sync({ legacyIds: { [ENTITY]: ["1", "2", "3", "4"] } });
    await expectEqual(test, letters());
  });

  it("circles that have one free value among them land one after the other", async () => {
    const many = letters({
      prepare: "create type public.letter as enum ('a', 'b', 'c', 'd', 'e', 'f', 'g')",
      values: "chr(96 + n)::text::public.letter",
      rows: 6,
    });
    await using test = await strange(many);
    for (const circle of [
      [1, 2],
      [3, 4],
      [5, 6],
    ])
      await turn(test, many, circle);
    await test.sync();
    await expectEqual(test, many);
  });

  it("a constraint that is deferrable lets all values change places", async () => {
    await using test = await strange(letters({ rows: 4 }));
    await test.target.admin`drop index public.one_of_each`;
    await test.target.admin`alter table public.fresh add constraint one_of_each unique (value) deferrable`;
    await turn(test, letters(), [1, 2, 3, 4]);
    await test.sync();
    await expectEqual(test, letters());
  });
});

it.each(["value collate public.any_case", "lower(value) collate public.any_case"])(
  "what an index takes for equal by a collation of its own is exchanged: %s",
  async (key) => {
    const plain = one("text", "'Ñame ' || n", {
      index: `(${key})`,
      prepare: "create collation public.any_case (provider = icu, locale = 'und-u-ks-level1', deterministic = false)",
    });
    await using test = await strange(plain);
    await test.source.admin`update public.old set value = 'name ' || 3 - id where id in (1, 2)`;
    await test.sync();
    await expectEqual(test, plain);
  },
);

it("values are exchanged under an index over a generated column", async () => {
  const plain = one("text", "'Name ' || n");
  await using test = await strange(plain);
  await test.target.admin`drop index public.one_of_each`;
  await test.target.admin`alter table public.fresh add column lowered text generated always as (lower(value)) stored`;
  await test.target.admin`create unique index one_of_each on public.fresh (lowered)`;
  for (const circle of [
    [1, 2],
    [3, 4, 5],
  ])
    await turn(test, plain, circle);
  await test.sync();
  await expectEqual(test, plain);
});

it("no stand-in survives a trigger that cancels the write of the value", async () => {
  const plain = one("integer", "n");
  await using test = await strange(plain);
  await test.target.admin.unsafe(`
    create function public.cancel() returns trigger language plpgsql as
      'begin if new.legacy_id = 1 and new.value = 2 then return null; end if; return new; end';
    create trigger cancel before update on public.fresh for each row execute function public.cancel()`);
  await turn(test, plain, [1, 2]);
  await test.sync();
  const there = await test.target
    .admin`select legacy_id::integer as id, value from public.fresh where value is distinct from legacy_id`;
  expect([...there]).toEqual([]);
  const live = await test.live(ENTITY);
  expect(live.map(({ id, rule }) => [id, rule])).toEqual([
    [1, "write_cancelled"],
    [2, "one_of_each"],
  ]);
});

describe("a value moves on from a record that the source deleted", () => {
  const plain = one("text", "'Name ' || n");
  const moved = async (test: Pipeline) => {
    await test.source.admin`delete from public.old where id = 1`;
    await test.source.admin`update public.old set value = 'Name ' || id - 1 where id in (2, 3)`;
    await test.source.admin`insert into public.old values (7, 'Name 3')`;
    // The row goes when all records of the execution are through; what waited for its value lands when it is tried
    // again.
    await test.sync({ capture: "digest" });
    await test.target
      .admin`update public.sync_conflicts set next_attempt_at = now() where state = 'open' and next_attempt_at is not null`;
    await tick(test.context);
    await test.drain();
  };

  it("when deletes are carried out", async () => {
    await using test = await strange(plain, { onDelete: "hard" });
    await moved(test);
    await expectEqual(test, plain);
  });

  it("once a person has let the row go, when people are asked", async () => {
    await using test = await strange(plain, { onDelete: "review" });
    await moved(test);
    const { here, live } = await sides(test, plain);
    expect(here[0]).toEqual({ id: "1", value: "Name 1" });
    expect(live).toMatchObject([
      { id: 1, rule: "deleted_in_source" },
      { id: 2, rule: "one_of_each", remedy: "Record 1 holds the same unique value: correct one of the two." },
      { id: 3, rule: "one_of_each" },
      { id: 7, rule: "one_of_each" },
    ]);
    await test.target.admin`
      update public.sync_conflicts set resolution_strategy = 'source_wins' where rule = 'deleted_in_source' and state = 'open'`;
    await test.sync({ legacyIds: { [ENTITY]: ["2", "3", "7"] } });
    await expectEqual(test, plain);
  });
});

it("rows that refer to a unique value keep their references while it is exchanged", async () => {
  const plain = one("text", "'Name ' || n", { columns: { value: "text" } });
  await using test = await strange(plain);
  await test.target.admin.unsafe(`
    drop index public.one_of_each;
    alter table public.fresh add constraint one_of_each unique (value);
    create table public.notes (legacy_id bigint primary key, name text references public.fresh (value) on update cascade);
    insert into public.notes select legacy_id, value from public.fresh`);
  await turn(test, plain, [1, 2]);
  await turn(test, plain, [3, 4, 5]);
  await test.sync();
  await expectEqual(test, plain);
  const lost = await test.target.admin`
    select n.legacy_id::integer as id from public.notes n left join public.fresh f on f.value = n.name
     where f.legacy_id is distinct from n.legacy_id`;
  expect([...lost]).toEqual([]);
});

it("what only others refer to is not touched while values are exchanged beside it", async () => {
  const full = list("public.letter", "7, (array['a', 'b', 'c', 'd'])[n]::public.letter", { prepare: LETTERS, rows: 4 });
  await using test = await strange(full);
  await test.target.admin.unsafe(`
    alter table public.fresh add constraint named unique (keep_list, legacy_id);
    create table public.notes (id bigint primary key, list integer, record bigint,
      foreign key (list, record) references public.fresh (keep_list, legacy_id) on update set null);
    insert into public.notes select legacy_id, keep_list, legacy_id from public.fresh`);
  await turn(test, full, [1, 2]);
  await test.sync();
  const lost = await test.target.admin`select id::integer from public.notes where record is distinct from id`;
  expect([...lost]).toEqual([]);
  const live = await test.live(ENTITY);
  expect(live.map(({ id }) => id)).toEqual([1, 2]);
  for (const { remedy } of live) expect(remedy).toMatch(/nothing can stand in/);
});

it("a circle in several pages is told as such once its records were read together", async () => {
  const full = one("public.letter", "(array['a', 'b', 'c', 'd'])[n]::public.letter", { prepare: LETTERS, rows: 4 });
  await using test = await strange(full);
  await turn(test, full, [1, 2, 3, 4]);
  const { execution } = await test.start();
  await test.target.admin`update public.sync_chains set page_size = 1 where execution_id = ${execution}`;
  await test.drain();
  for (let tries = 0; tries < 3; tries++) {
    await tick(test.context);
    await test.drain();
  }
  const live = await test.live(ENTITY);
  expect(live).toHaveLength(4);
  for (const { remedy } of live) expect(remedy).toMatch(/nothing can stand in/);
});

it(
  "a page tries for many circles as often as for a few, and later pages for those that are left",
  { timeout: 600_000 },
  async () => {
    const [impossible, possible] = [400, 10];
    const ids = Array.from({ length: impossible + possible }, (_, n) => n + 1);
    const many = one("integer", "n", { rows: ids.length });
    await using test = await strange(many);
    await test.target.admin.unsafe(`
    alter table public.fresh add constraint own_values check ((value + 1) / 2 = (legacy_id + 1) / 2 or legacy_id > ${impossible});
    create sequence public.tries;
    create function public.count_tries() returns trigger language plpgsql security definer as
      'begin perform nextval(''public.tries''); return new; end';
    create trigger count_tries before update on public.fresh for each row execute function public.count_tries()`);
    for (let id = 1; id < ids.length; id += 2) await turn(test, many, [id, id + 1]);
    const { execution } = await test.sync();
    const { read, outcomes } = await test.sums(execution);
    expect(outcomes).toBe(read);
    const [tried] = await test.target.admin`
    select s.last_value::integer as updates, (select count(*)::integer from public.sync_page_log where execution_id = ${execution}) as pages from public.tries s`;
    // Two times 2,000 in a page, and what each record is written for besides, on its way to stand alone.
    expect(Number(tried?.["updates"])).toBeLessThan(Number(tried?.["pages"]) * (4_000 + 30 * ids.length));
    const remedies = (await test.live(ENTITY)).map(({ remedy }) => remedy);
    expect(remedies.filter((remedy) => !/nothing can stand in|as often as a page may/.test(remedy))).toEqual([]);
    expect(remedies.some((remedy) => remedy.includes("as often as a page may"))).toBe(true);
    for (let again = 0; again < 12 && (await test.live(ENTITY)).some(({ id }) => id > impossible); again++)
      await test.sync({ legacyIds: { [ENTITY]: ids.map(String) } });
    const { here, there, live } = await sides(test, many);
    expect(here.slice(impossible)).toEqual(there.slice(impossible));
    // Neither lost nor half.
    expect(here.slice(0, impossible)).toEqual(ids.slice(0, impossible).map((id) => ({ id: String(id), value: String(id) })));
    expect(live.map(({ id }) => id)).toEqual(ids.slice(0, impossible));
    const stood = live.filter(({ remedy }) => remedy.includes("nothing can stand in"));
    expect(stood.length).toBeGreaterThan(0);
  },
);

it.each(["P0001", "42704", "42P01", "42601"])(
  "a value that the SQL of an index refuses (%s) is told alone, and does not end the page",
  async (state) => {
    const plain = one("text", "'Name ' || n");
    await using test = await strange(plain);
    await test.target.admin.unsafe(`
      create function public.key_of(text) returns text language plpgsql immutable as
        $f$ begin if $1 = 'no' then raise exception 'refused' using errcode = '${state}'; end if; return lower($1); end $f$;
      create unique index by_key on public.fresh (public.key_of(value))`);
    await turn(test, plain, [1, 2]);
    await test.source.admin`update public.old set value = 'no' where id = 6`;
    await test.sync();
    const { here, live } = await sides(test, plain);
    expect(live).toMatchObject([{ id: 6, rule: state, type: "business_rule_violation" }]);
    expect(here.slice(0, 2)).toEqual([
      { id: "1", value: "Name 2" },
      { id: "2", value: "Name 1" },
    ]);
  },
);

it("a value that a row holds and the SQL of an index refuses by now is replaced, and does not end the page", async () => {
  const plain = one("text", "'Name ' || n");
  await using test = await strange(plain);
  await test.target.admin.unsafe(`
    create table public.known (name text primary key);
    grant select on public.known to isthmus_worker;
    insert into public.known select 'Name ' || n from generate_series(1, 9) n;
    create function public.key_of(text) returns text language plpgsql immutable as $f$
      begin
        if not exists (select from public.known where name = $1) then raise exception 'unknown' using errcode = '42704'; end if;
        return $1;
      end $f$;
    create unique index by_key on public.fresh (public.key_of(value));
    delete from public.known where name = 'Name 6'`);
  await turn(test, plain, [1, 2]);
  await turn(test, plain, [3, 4, 5]);
  await test.source.admin`update public.old set value = 'Name 7' where id = 6`;
  await test.sync();
  await expectEqual(test, plain);
});

it("all rows of a slice give up their values at once where the type has others that look like them", async () => {
  const plain = one("text", "'Name ' || n", { rows: 20 });
  await using test = await strange(plain);
  await test.target.admin.unsafe(`
    create sequence public.given;
    create function public.count_given() returns trigger language plpgsql security definer as $f$
      begin
        if current_setting('isthmus.stand_in', true) = 'new' then perform nextval('public.given'); end if;
        return new;
      end $f$;
    create trigger count_given before update on public.fresh for each row execute function public.count_given()`);
  for (let id = 1; id < 20; id += 2) await turn(test, plain, [id, id + 1]);
  await test.sync();
  await expectEqual(test, plain);
  // Written in order, one row of each circle would.
  const [given] = await test.target.admin<{ n: number }[]>`select last_value::integer as n from public.given`;
  expect(given?.n).toBe(20);
});

describe("a page does not look for stand-ins for ever", () => {
  /** A trigger that counts the stand-ins that are tried, does something besides, and refuses each. */
  const refusing = (test: Pipeline, also: string) =>
    test.target.admin.unsafe(`
      create sequence public.tries;
      create function public.refuse() returns trigger language plpgsql security definer as $f$
        begin
          if current_setting('isthmus.stand_in', true) = 'new' then
            perform nextval('public.tries');
            ${also};
            raise exception 'refused';
          end if;
          return new;
        end $f$;
      create trigger refuse before update on public.fresh for each row execute function public.refuse()`);
  const tried = async (test: Pipeline) => {
    const [row] = await test.target.admin<{ n: number }[]>`select last_value::integer as n from public.tries`;
    return row?.n ?? 0;
  };

  it("however little the type reads of the values: rows for which it reads nothing count", async () => {
    const rows = 600;
    // Two of the three that a list may have: the third can stand in, and no text that looks like one of them is read.
    const plain = list("public.weekend", `n / 2, case n % 2 when 0 then 'friday' else 'sunday' end`, {
      rows,
      prepare: `
        create sequence public.looks;
        create function public.looked(text) returns boolean language plpgsql security definer as
          $f$ begin
                if $1 not in ('friday', 'saturday', 'sunday') then perform nextval('public.looks'); return false; end if;
                return true;
              end $f$;
        create domain public.weekend as text check (public.looked(value))`,
    });
    await using test = await strange(plain);
    await test.target.admin`alter sequence public.looks restart`;
    await test.source
      .admin`update public.old set value = case value::text when 'friday' then 'sunday' else 'friday' end where id between 2 and ${rows - 1}`;
    const { execution } = await test.start();
    await test.target.admin`update public.sync_chains set page_size = ${rows} where execution_id = ${execution}`;
    await test.drain();
    const { read, outcomes } = await test.sums(execution);
    expect(outcomes).toBe(read);
    const [looks] = await test.target.admin<{ n: number }[]>`select last_value::integer as n from public.looks`;
    const [pages] = await test.target.admin<{ n: number }[]>`
      select count(*)::integer as n from public.sync_page_log where execution_id = ${execution}`;
    // Two times 2,000 in a page, and fifteen for a slice; with fifteen for each row, a slice of all alone has 9,000.
    expect(looks?.n).toBeLessThan((pages?.n ?? 0) * 7_000);
    const { here, there, live } = await sides(test, plain);
    const told = new Set(live.map(({ id }) => String(id)));
    expect(here.filter(({ id }) => !told.has(String(id)))).toEqual(there.filter(({ id }) => !told.has(String(id))));
  }, 300_000);

  it("however long each value takes: the clock ends it, and the queue says so and what makes it slow", async () => {
    const plain = one("text", "'Name ' || n");
    await using test = await strange(plain);
    await test.target.admin.unsafe(`
      drop index public.one_of_each;
      alter table public.fresh add constraint one_of_each unique (value);
      create table public.notes (id bigint primary key, name text references public.fresh (value) on update cascade)`);
    await refusing(test, "perform pg_sleep(2)");
    await turn(test, plain, [1, 2]);
    await turn(test, plain, [3, 4, 5]);
    const { execution } = await test.sync();
    const { read, outcomes } = await test.sums(execution);
    expect(outcomes).toBe(read);
    const [pages] = await test.target.admin<{ n: number }[]>`
      select count(*)::integer as n from public.sync_page_log where execution_id = ${execution}`;
    // Ten seconds a page, and once more for circles that other rejects had parted; each time the try that it ends in.
    expect(await tried(test)).toBeLessThanOrEqual((pages?.n ?? 0) * 2 * (10 / 2 + 1));
    const live = await test.live(ENTITY);
    expect(live.map(({ id }) => id)).toEqual([1, 2, 3, 4, 5]);
    for (const { remedy, rule } of live) {
      expect(rule).toBe("one_of_each");
      expect(remedy).toMatch(/as long as a page may; it is tried again by itself, .* create one on public\.notes \(name\)\.$/);
    }
    await test.target.admin`drop trigger refuse on public.fresh`;
    await test.sync({ legacyIds: { [ENTITY]: ["1", "2", "3", "4", "5"] } });
    await expectEqual(test, plain);
  }, 120_000);
});

it.each([
  ["the stand-in alone", "current_setting('isthmus.stand_in', true) = 'new'", []],
  ["every write", "true", [1, 2]],
] as const)("a row whose trigger cancels %s costs no other circle of its page", async (_, when, told) => {
  const plain = one("integer", "n", { rows: 40 });
  await using test = await strange(plain);
  await test.target.admin.unsafe(`
    create function public.cancel() returns trigger language plpgsql as
      $f$ begin if new.legacy_id = 1 and ${when} then return null; end if; return new; end $f$;
    create trigger cancel before update on public.fresh for each row execute function public.cancel()`);
  for (let id = 1; id < 40; id += 2) await turn(test, plain, [id, id + 1]);
  await test.sync();
  const { here, there, live } = await sides(test, plain);
  expect(live.map(({ id }) => id)).toEqual(told);
  expect(here.slice(told.length)).toEqual(there.slice(told.length));
});

describe("what the target does because of a stand-in", () => {
  const named = list("text", "n / 3, (array['english', 'german', 'french', 'dutch'])[1 + n % 4]", { rows: 4 });

  it("is not in the way of rules that do more than the update", async () => {
    const plain = one("text", "'Name ' || n");
    await using test = await strange(plain);
    await test.target.admin.unsafe(`
      create table public.seen (name text);
      alter table public.seen owner to postgres;
      create rule seen as on update to public.fresh do also insert into public.seen values (new.value)`);
    await turn(test, plain, [1, 2]);
    await test.sync();
    await expectEqual(test, plain);
    const seen = await test.target.admin`select distinct name from public.seen where name in ('Name 1', 'Name 2')`;
    expect(seen).toHaveLength(2);
  });

  it.each(["42704", "42501", "3F000"])("is %s: another value may stand in, and the page goes on", async (state) => {
    await using test = await strange(named);
    await test.target.admin.unsafe(`
      create function public.check_language() returns trigger language plpgsql as $f$
        begin
          if '${state}' = '42704' then perform new.value::regconfig;
          elsif new.value not in ('english', 'german', 'french', 'dutch') then raise exception 'refused' using errcode = '${state}';
          end if;
          return new;
        end $f$;
      create trigger check_language before update on public.fresh for each row execute function public.check_language()`);
    await turn(test, named, [1, 2]);
    await test.sync();
    await expectEqual(test, named);
  });

  it.each([
    ["all give up", one("text", "'Name ' || n")],
    ["one is parked", one("public.letter", "(array['a', 'b', 'c', 'd'])[n]::public.letter", { prepare: LETTERS, rows: 3 })],
  ] as const)("is told apart by a setting, so that a history gets real values alone: %s", async (_, plain) => {
    await using test = await strange(plain);
    await test.target.admin.unsafe(`
      create table public.history (value text, stands text);
      create function public.keep_history() returns trigger language plpgsql security definer as $f$
        begin
          if current_setting('isthmus.stand_in', true) = 'new' then return new; end if;
          insert into public.history values (new.value, coalesce(current_setting('isthmus.stand_in', true), ''));
          return new;
        end $f$;
      create trigger keep_history before update on public.fresh for each row execute function public.keep_history()`);
    const { here } = await sides(test, plain);
    await turn(test, plain, [1, 2]);
    await test.sync();
    await expectEqual(test, plain);
    const kept = await test.target.admin`select value, stands from public.history order by value`;
    expect([...kept]).toEqual([here[0], here[1]].map((row) => ({ value: row?.["value"] as string, stands: "old" })));
  });

  it("may refuse the write after it: the circle is told, and the page goes on", async () => {
    await using test = await strange(named);
    await test.target.admin.unsafe(`
      create function public.check_language() returns trigger language plpgsql as
        'begin perform old.value::regconfig; return new; end';
      create trigger check_language before update on public.fresh for each row execute function public.check_language()`);
    await turn(test, named, [1, 2]);
    await test.source.admin`update public.old set value = 'simple' where id = 4`;
    await test.sync();
    const { here, live } = await sides(test, named);
    expect(live.map(({ id, rule }) => [id, rule])).toEqual([
      [1, "one_of_each"],
      [2, "one_of_each"],
    ]);
    expect(here.map(({ value }) => String(value))).toEqual(["german", "french", "dutch", "simple"]);
  });
});

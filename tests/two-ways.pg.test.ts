import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { acknowledge } from "../shared/contract/check.ts";
import { cancelExecutions } from "../shared/target/ends.ts";
import type { Pipeline } from "./support/pipeline.ts";
import { createStranger, entityOf, ENTITY } from "./support/stranger.ts";

/** The target holds less than the source may say: some values do not fit. */
const TABLES = {
  source: "old",
  target: "fresh",
  columns: {
    name: { type: "varchar(6)", sourceType: "text" },
    n: { type: "integer" },
    price: { type: "numeric(6,2)", sourceType: "numeric" },
    data: { type: "jsonb" },
    at: { type: "timestamptz" },
  },
} as const;

const full = { capture: "full" } as const;

/** Every record is read, and compared on three sides: what a page does without any shortcut. */
async function theLongWay(test: Pipeline): Promise<void> {
  await test.target.admin.unsafe(`
    create or replace function sync.load_new(p_entity public.sync_entities, p_count integer) returns boolean language sql as 'select false';
    create or replace function sync.untouched_records(p_chain uuid, p_legacy_ids bigint[], p_definition_hash text)
    returns table (keys bigint[], digests bigint[]) language sql as $$ select '{}'::bigint[], '{}'::bigint[] $$`);
}

const value = {
  name: fc.constantFrom("'a'", "'A'", "'short'", "'too long a name'", "null"),
  n: fc.constantFrom("0", "7", "null"),
  price: fc.constantFrom("1.5", "1.50", "2.005", "99999", "null"),
  data: fc.constantFrom(`'{"a": 1}'`, `'{"a": 1.0}'`, "'null'", "null"),
  at: fc.constantFrom("'2026-01-01 00:00:00.123456+00'", "'infinity'", "null"),
};
const id = fc.integer({ min: 1, max: 16 });
const change = fc
  .tuple(id, fc.record(value, { requiredKeys: [] }))
  .filter(([, changed]) => Object.keys(changed).length > 0)
  .map(([key, changed]) => ({
    key,
    set: Object.entries(changed)
      .map(([name, sql]) => `${name} = ${sql}`)
      .join(", "),
  }));

/** One thing that happens between two executions, the same to both installations. */
const step = fc.oneof(
  { weight: 5, arbitrary: change.map(({ key, set }) => ["source", `update public.old set ${set} where id = ${key}`] as const) },
  {
    weight: 2,
    arbitrary: id.map(
      (key) => ["source", `insert into public.old (id, name, n) values (${key}, 'new', 1) on conflict do nothing`] as const,
    ),
  },
  { weight: 2, arbitrary: id.map((key) => ["source", `delete from public.old where id = ${key}`] as const) },
  // As it was read first: what a hash of then tells is true again.
  {
    weight: 4,
    arbitrary: id.map(
      (key) =>
        [
          "source",
          `update public.old o set (name, n, price, data, at) = (f.name, f.n, f.price, f.data, f.at) from public.first f where f.id = o.id and o.id = ${key}`,
        ] as const,
    ),
  },
  {
    weight: 2,
    arbitrary: id.map(
      (key) => ["source", `insert into public.old select * from public.first where id = ${key} on conflict do nothing`] as const,
    ),
  },
  // A person may write what fits.
  {
    weight: 3,
    arbitrary: id.map((key) => ["target", `update public.fresh set name = 'mine', n = ${key} where legacy_id = ${key}`] as const),
  },
  { weight: 2, arbitrary: id.map((key) => ["target", `update public.fresh set n = n where legacy_id = ${key}`] as const) },
  { weight: 1, arbitrary: id.map((key) => ["target", `delete from public.fresh where legacy_id = ${key}`] as const) },
  { weight: 1, arbitrary: id.map((key) => ["target", `delete from public.sync_row_states where legacy_id = ${key}`] as const) },
  {
    weight: 1,
    arbitrary: id.map((key) => ["target", `delete from public.uuid_mappings_enhanced where legacy_id = ${key}`] as const),
  },
  {
    weight: 1,
    arbitrary: id.map(
      (key) =>
        [
          "target",
          `update public.sync_conflicts set resolution_strategy = 'target_wins' where source_record_id = ${key} and state = 'open'`,
        ] as const,
    ),
  },
);
const history = fc.record({
  // All of these fit: what is stopped later has landed before.
  rows: fc.array(fc.record({ ...value, name: fc.constantFrom("'a'", "'b'"), price: fc.constantFrom("1.50", "null") }), {
    minLength: 14,
    maxLength: 14,
  }),
  more: fc.record({
    history: fc.constantFrom("values", "hashes"),
    onDelete: fc.constantFrom("hard", "ignore"),
    conflicts: fc.record({ strategy: fc.constantFrom("manual_review", "source_wins", "target_wins") }),
  }),
  trigger: fc.constantFrom(
    null,
    "before insert or update|new.name := upper(new.name); return new;",
    "after insert|update public.fresh set n = coalesce(n, 0) + 1 where id = new.id; return null;",
    "before insert|if new.n = 7 then return null; end if; return new;",
  ),
  rounds: fc.array(fc.array(step, { minLength: 8, maxLength: 16 }), { minLength: 4, maxLength: 4 }),
});

/** All that an execution leaves, but for times, ids that are made at random and who wrote a row when. */
async function leftBy(test: Pipeline): Promise<object> {
  const { admin } = test.target;
  return {
    rows: [...(await admin`select * from public.fresh order by id`)],
    states: [
      ...(await admin`select s.legacy_id, s.seen, s."left", s.raw, s.seen_hash, s.left_hash, s.source_digest, s.gone_at is null as there,
                             s.written_by is not distinct from t.xmin as as_written
                        from public.sync_row_states s left join public.uuid_mappings_enhanced m using (legacy_id)
                        left join public.fresh t on t.id = m.entity_uuid order by 1`),
    ],
    mappings: [...(await admin`select legacy_id, entity_uuid, sync_status from public.uuid_mappings_enhanced order by 1`)],
    queue: [
      ...(await admin`select source_record_id, state, conflict_type, rule, field, differences, remedy, policy, standing, resolution_strategy, source_digest, retry_class
                        from public.sync_conflicts order by 1, 2, 4, 5, 9, 10`),
    ],
    warnings: [...(await admin`select legacy_id, rule from public.sync_warnings order by 1, 2`)],
    pending: [...(await admin`select legacy_id, reason, gone from public.sync_pending_keys order by 1, 2`)],
    pages: [
      ...(await admin`select row_number() over (order by min(l.id)) as execution, sum(read) as read, sum(inserted) as inserted, sum(updated) as updated,
                             sum(unchanged) as unchanged, sum(deleted) as deleted, sum(waiting) as waiting, sum(in_conflict) as in_conflict,
                             sum(waived) as waived, sum(absent) as absent, sum(overwritten) as overwritten
                        from public.sync_page_log l group by execution_id order by 1`),
    ],
  };
}

type History = typeof history extends fc.Arbitrary<infer One> ? One : never;

async function installation({ rows, more, trigger }: History): Promise<Pipeline> {
  const test = await createStranger(TABLES, more, { ISTHMUS_BRAKE_RECORDS: "1000", ISTHMUS_PAGE_SIZE: "2" });
  for (const [n, row] of rows.entries())
    await test.source.admin.unsafe(
      `insert into public.old (id, ${Object.keys(row).join(", ")}) values (${n + 1}, ${Object.values(row).join(", ")})`,
    );
  await test.source.admin`create table public.first as table public.old`;
  if (trigger !== null) {
    const [when = "", body = ""] = trigger.split("|");
    await test.target.admin.unsafe(`
      create function public.meddle() returns trigger language plpgsql security definer as $$ begin ${body} end $$;
      create trigger meddle ${when} on public.fresh for each row execute function public.meddle()`);
    await acknowledge(test.context, undefined, "a test");
  }
  return test;
}

async function run(test: Pipeline): Promise<string> {
  const { execution } = await test.start(full);
  await test.drain();
  return (await test.status(execution)).status;
}

describe("a page that leaves out what it can tell without reading or comparing", () => {
  const cases = fc.sample(history, { numRuns: 8, seed: 20_261_130 }).map((one, n) => [n, one] as const);
  let unread = 0;

  it.each(cases)("ends as one that reads and compares every record: history %i", async (_, one) => {
    await using short = await installation(one);
    await using long = await installation(one);
    await theLongWay(long);
    for (const steps of [[], ...one.rounds, []]) {
      for (const [side, sql] of steps) {
        await short[side].admin.unsafe(sql);
        await long[side].admin.unsafe(sql);
      }
      expect(await run(short), "status").toBe(await run(long));
      expect(await leftBy(short)).toEqual(await leftBy(long));
    }
    const [told] = await short.target.admin<{ n: number }[]>`select sum(untouched)::integer as n from public.sync_page_log`;
    unread += told?.n ?? 0;
  });
  it("and most of what nobody has changed was not read at all", () => expect(unread).toBeGreaterThan(8 * 15));
});

describe("what a page saves", () => {
  const rows = (test: Pipeline, n: number, from = 1) =>
    test.source
      .admin`insert into public.old (id, name, n) select i, 'x' || i, i from generate_series(${from}::integer, ${from + n - 1}::integer) i`;
  const log = async (test: Pipeline) =>
    (
      await test.target
        .admin`select read, inserted, updated, unchanged, untouched from public.sync_page_log where read > 0 order by id desc limit 1`
    )[0];

  it("classifies nothing of a first load, and compares a page with one known record", async () => {
    await using test = await createStranger(TABLES);
    await test.target.admin`alter function sync.classify_statement(public.sync_entities, text, text) rename to set_aside`;
    await rows(test, 20);
    await test.sync(full);
    expect(await log(test)).toMatchObject({ inserted: 20 });
    await test.target.admin`alter function sync.set_aside(public.sync_entities, text, text) rename to classify_statement`;
    await rows(test, 5, 21);
    await test.source.admin`update public.old set n = 0 where id = 20`;
    await test.sync();
    expect(await log(test)).toMatchObject({ inserted: 5, updated: 1 });
  });

  it("reads of a full pass what either side has changed, and what a warning or an open question is about", async () => {
    await using test = await createStranger(TABLES);
    await rows(test, 20);
    await test.sync(full);
    await test.sync(full);
    expect(await log(test)).toEqual({ read: 20, inserted: 0, updated: 0, unchanged: 20, untouched: 20 });
    await test.source.admin`update public.old set n = 0 where id = 3`;
    await test.target.admin`update public.fresh set n = n where legacy_id = 5`;
    await test.target
      .admin`insert into public.sync_warnings (entity_id, legacy_id, rule) select id, 7, 'a_rule@1' from public.sync_entities where entity_type = ${ENTITY}`;
    await test.sync(full);
    expect(await log(test)).toEqual({ read: 20, inserted: 0, updated: 1, unchanged: 19, untouched: 17 });
  });

  it("reads what is in the queue, though the source is back to what it was and the row as it was left", async () => {
    await using test = await createStranger(TABLES);
    await rows(test, 3);
    await test.sync(full);
    await test.source.admin`update public.old set name = 'much too long' where id = 2`;
    await test.sync(full);
    expect((await test.live(ENTITY)).map(({ id: key, state }) => [key, state])).toEqual([[2, "open"]]);
    await test.source.admin`update public.old set name = 'x2' where id = 2`;
    await test.sync(full);
    expect(await test.live(ENTITY)).toEqual([]);
    expect(await log(test)).toMatchObject({ unchanged: 3, untouched: 2 });
  });

  it("reads what the source has again as it was when it went", async () => {
    await using test = await createStranger(TABLES, { onDelete: "ignore" } as never);
    await rows(test, 3);
    await test.sync(full);
    await test.source.admin`delete from public.old where id = 2`;
    await test.sync(full);
    await rows(test, 1, 2);
    await test.sync(full);
    const [state] = await test.target.admin`select gone_at from public.sync_row_states where legacy_id = 2`;
    expect(state).toEqual({ gone_at: null });
  });

  it("reads everything under another definition, and after one that ended half way", async () => {
    await using test = await createStranger(TABLES);
    await rows(test, 20);
    await test.sync(full);
    (test.context.hashes as Map<string, string>).set(ENTITY, "another");
    await test.sync(full);
    expect(await log(test)).toMatchObject({ unchanged: 20, untouched: 0 });
    await test.target.admin`update public.sync_checkpoints set definition_hash = 'unfinished'`;
    await test.sync(full);
    expect(await log(test)).toMatchObject({ unchanged: 20, untouched: 0 });
    await test.sync(full);
    expect(await log(test)).toMatchObject({ unchanged: 20, untouched: 20 });
  });

  it("reads everything under a definition that came back after a pass under another one was given up", async () => {
    await using test = await createStranger(TABLES, {}, { ISTHMUS_PAGE_SIZE: "10", ISTHMUS_PAGE_SIZE_MAX: "10" });
    await rows(test, 20);
    await test.sync(full);
    const hashes = test.context.hashes as Map<string, string>;
    const before = hashes.get(ENTITY) ?? "";
    hashes.set(ENTITY, "another");
    const { execution } = await test.start(full);
    await test.runJoins();
    expect(await test.runOne()).toMatchObject({ outcome: "committed" });
    await cancelExecutions(test.context.target, execution, "a test");
    await test.drain();
    hashes.set(ENTITY, before);
    await test.sync(full);
    const [told] = await test.target.admin<{ read: number; untouched: number }[]>`
      select sum(read)::integer as read, sum(untouched)::integer as untouched from public.sync_page_log
       where execution_id = (select id from public.sync_executions order by started_at desc limit 1)`;
    expect(told).toEqual({ read: 20, untouched: 0 });
  });

  it("gets by a record that is too large for its page, behind others that nobody has changed", { timeout: 60_000 }, async () => {
    await using test = await createStranger({ source: "old", target: "fresh", columns: { name: { type: "text" } } });
    const add = (from: number, to: number, length: number) =>
      test.source
        .admin`insert into public.old (id, name) select i, repeat('x', ${length}::integer) from generate_series(${from}::integer, ${to}::integer) i`;
    await add(1, 3, 10);
    await test.sync(full);
    await add(4, 4, 9 * 2 ** 20);
    await add(5, 7, 10);
    await test.sync(full);
    expect((await test.target.admin`select from public.fresh`).length).toBe(7);
    // The same where many records together are too much.
    await add(8, 30, 2 ** 20);
    await test.sync(full);
    expect((await test.target.admin`select from public.fresh`).length).toBe(30);
  });

  it("goes on leaving records unread though a predicate waives most rows", async () => {
    const { source } = entityOf(TABLES);
    const predicate = { name: "every_twentieth", version: 1, where: "s.n % 20 = 0", reason: "a test", onLeave: "keep" } as const;
    await using test = await createStranger(TABLES, { source: { ...source, predicate } }, { ISTHMUS_PAGE_SIZE: "4" });
    await rows(test, 1_000);
    await test.sync(full);
    await test.sync(full);
    const pages = await test.target.admin<{ read: number; waived: number; untouched: number }[]>`
      select read, waived, untouched from public.sync_page_log
       where read > 0 and execution_id = (select id from public.sync_executions order by started_at desc limit 1)`;
    expect(pages.length).toBeGreaterThan(1);
    expect(pages.map(({ read, waived, untouched }) => read - waived - untouched)).toEqual(pages.map(() => 0));
  });

  it("ends a page where there was no time for more hashes", async () => {
    await using test = await createStranger(TABLES, {}, { ISTHMUS_PAGE_SIZE: "200", ISTHMUS_PAGE_SIZE_MAX: "200" });
    await rows(test, 800);
    await test.sync(full);
    let now = Date.now();
    // Every look at the clock is a second later: a statement of hashes seems to take that long.
    Object.assign(test.context, { clock: () => (now += 1_000) });
    await test.sync(full);
    const pages = await test.target.admin<{ read: number; untouched: number }[]>`
      select read, untouched from public.sync_page_log
       where read > 0 and execution_id = (select id from public.sync_executions order by started_at desc limit 1)`;
    expect(pages.length).toBeGreaterThan(1);
    expect(pages.reduce((sum, { untouched }) => sum + untouched, 0)).toBe(800);
  });

  it("looks at four keys for each record that it may read, and never reads more than that", async () => {
    await using test = await createStranger(TABLES, {}, { ISTHMUS_PAGE_SIZE: "10", ISTHMUS_PAGE_SIZE_MAX: "10" });
    await rows(test, 80);
    await test.sync(full);
    await test.sync(full);
    const pages = () => test.target.admin<{ read: number; untouched: number }[]>`
      select read, untouched from public.sync_page_log where read > 0 and execution_id = (select id from public.sync_executions order by started_at desc limit 1) order by id`;
    expect((await pages()).map(({ read }) => read)).toEqual([40, 40]);
    await test.source.admin`update public.old set n = -1 where id between 31 and 60`;
    await test.sync(full);
    const read = [...(await pages())];
    expect(read.reduce((sum, page) => sum + page.read, 0)).toBe(80);
    expect(Math.max(...read.map((page) => page.read - page.untouched))).toBe(10);
  });
});

import { beforeAll, describe, expect, it } from "vitest";
import { ident } from "../shared/db/ident.ts";
import { adopt } from "./support/adoption.ts";
import { createTestTarget } from "./support/databases.ts";
import { differencesFound } from "./support/digest-differences.ts";
import type { Pipeline } from "./support/pipeline.ts";
import { sqlNames, type SqlNames } from "./support/sql-names.ts";
import { createStrangers, type Stranger } from "./support/stranger.ts";

/** What no new table of the application can be called. */
let own: readonly string[];
let names: SqlNames;
beforeAll(async () => {
  await using target = await createTestTarget();
  names = await sqlNames(target.admin);
  const [row] = await target.admin<{ own: string[] }[]>`select to_json(sync.own_tables()) as own`;
  own = row?.own ?? [];
  const tables = await target.admin<{ name: string }[]>`
    select tablename::text as name from pg_tables where schemaname = 'public' and tablename ~ '^(sync_|uuid_mappings)' order by 1`;
  expect([...own].sort()).toEqual(tables.map(({ name }) => name));
  const [there] = await target.admin<{ names: string[] }[]>`
    select to_json(array_agg(relname::text)) as names from pg_class where relnamespace = 'public'::regnamespace`;
  own = [...own, ...(there?.names ?? [])];
});

/** Keys that the strangers' tables have anyway. */
const KEYS = ["id", "legacy_id", "modified_at"];

/** Entities that share the names out among their columns; the tables are called like some of them, too. */
function strangersOf(parts: number, all: readonly string[]): Stranger[] {
  const columns = all.filter((name) => !KEYS.includes(name));
  return ["x", "page_rows", "t", "q", "w", "held", "m", "page_plan"].slice(0, parts).map((table, part) => ({
    name: table,
    source: table,
    target: table,
    alias: table,
    columns: Object.fromEntries(columns.filter((_, at) => at % parts === part).map((name) => [name, { type: "text" }])),
  }));
}

/** Values of all columns: each tells its column and record. */
async function fill(test: Pipeline, strangers: readonly Stranger[], ids: readonly number[], said: string): Promise<void> {
  for (const { source, columns } of strangers) {
    const list = Object.keys(columns);
    await test.source.admin.unsafe(
      `insert into public.${ident(source)} (id, ${list.map(ident).join(", ")})
       select i, ${list.map((name) => `'${said} ${name} ' || i`).join(", ")} from unnest(array[${ids.join(",")}]) i`,
    );
  }
}

/** Both sides of all tables, without the ids. */
async function expectEqual(test: Pipeline, strangers: readonly Stranger[]): Promise<void> {
  for (const { source, target, columns } of strangers) {
    const list = Object.keys(columns).map(ident).join(", ");
    const there = await test.source.admin.unsafe(`select ${list} from public.${ident(source)} order by id`);
    const here = await test.target.admin.unsafe(`select ${list} from public.${ident(target)} order by legacy_id`);
    expect([...here], source).toEqual([...there]);
  }
}

/** What strangers go through in their life, by every capture: loads, changes, conflicts, decisions, lost rows and deletes. Both sides are compared after each. */
async function live(test: Pipeline, strangers: readonly Stranger[]): Promise<void> {
  const each = async (work: (stranger: Stranger, columns: readonly string[]) => Promise<unknown>) => {
    for (const stranger of strangers) await work(stranger, Object.keys(stranger.columns));
  };
  const nothingFound = async () => {
    await expectEqual(test, strangers);
    expect(await differencesFound(test, (await test.sync({ capture: "digest" })).execution)).toBe(0);
  };
  await fill(test, strangers, [1, 2, 3], "a");
  await test.sync({ capture: "full" });
  await expectEqual(test, strangers);

  const change = (id: number, said: string) =>
    each(({ source }, columns) => {
      const sets = columns.map((name) => `${ident(name)} = '${said} ' || ${ident(name)}`);
      return test.source.admin.unsafe(
        `update public.${ident(source)} set ${sets.join(", ")}, modified_at = clock_timestamp() where id = ${id}`,
      );
    });
  await change(2, "b");
  await test.sync();
  await nothingFound();
  await change(2, "c");
  await test.sync({ legacyIds: Object.fromEntries(strangers.map(({ name = "" }) => [name, ["2"]])) });
  await nothingFound();
  await change(2, "d");
  await test.sync({ capture: "digest" });
  await nothingFound();
  await change(2, "e");
  for (const dryRun of [true, false]) {
    const { execution } = await test.sync({ capture: "modified", dryRun });
    const [counts] = await test.target
      .admin`select sum(updated)::integer as updated from public.sync_page_log where execution_id = ${execution}`;
    expect(counts).toEqual({ updated: strangers.length });
  }
  await nothingFound();

  // Both sides change every column of one record; a person decides.
  await each(async ({ source, target }, columns) => {
    const sets = (said: string) => columns.map((name) => `${ident(name)} = '${said} ${name}'`).join(", ");
    await test.source.admin.unsafe(
      `update public.${ident(source)} set ${sets("source")}, modified_at = clock_timestamp() where id = 1`,
    );
    await test.target.admin.unsafe(`update public.${ident(target)} set ${sets("person")} where legacy_id = 1`);
  });
  await test.sync();
  const open = await test.target.admin`select from public.sync_conflicts where state = 'open'`;
  expect(open).toHaveLength(strangers.length);
  await test.target.admin`update public.sync_conflicts set resolution_strategy = 'source_wins' where state = 'open'`;
  await nothingFound();

  // A row that somebody deleted is written again by a decision, and a record that the source deletes goes.
  await each(async ({ target, source }) => {
    await test.target.admin.unsafe(`delete from public.${ident(target)} where legacy_id = 2`);
    await test.source.admin.unsafe(`delete from public.${ident(source)} where id = 3`);
  });
  await test.sync({ capture: "digest" });
  await test.target
    .admin`update public.sync_conflicts set resolution_strategy = 'source_wins' where state = 'open' and rule = 'target_deleted'`;
  await nothingFound();
}

/** Rows of an earlier migration are taken over. */
async function takeOver(test: Pipeline, strangers: readonly Stranger[]): Promise<void> {
  await fill(test, strangers, [1, 2], "a");
  for (const { target, columns } of strangers) {
    const list = Object.keys(columns);
    await test.target.admin.unsafe(
      `insert into public.${ident(target)} (id, legacy_id, ${list.map(ident).join(", ")})
       select gen_random_uuid(), i, ${list.map((name) => `'old ${name}'`).join(", ")} from generate_series(1, 2) i`,
    );
  }
  await adopt(test);
  await test.sync();
  await expectEqual(test, strangers);
}

const createModified = (
  strangers: readonly Stranger[],
  ...more: Parameters<typeof createStrangers> extends [unknown, ...infer Rest] ? Rest : never
) =>
  createStrangers(
    strangers.map((stranger) => ({ ...stranger, modified: "modified_at" })),
    ...more,
  );
const LIVING = { conflicts: { strategy: "manual_review" }, onDelete: "hard" } as const;

describe("a column may be called like anything in our SQL", () => {
  it("through every capture, dry runs, conflicts, decisions and deletes", { timeout: 300_000 }, async () => {
    const strangers = strangersOf(6, names.columns);
    await using test = await createModified(strangers, LIVING);
    await live(test, strangers);
  });

  it("through a dry run, unique values that are exchanged, and clashes", { timeout: 300_000 }, async () => {
    // Each column is unique, and checked: the names that a whole row could be taken for. What a table's many indexes
    // cost grows with their square.
    const strangers = strangersOf(
      8,
      names.columns.filter((name) => names.relations.includes(name) || /^_|^page_|^held/.test(name)),
    );
    await using test = await createStrangers(strangers);
    for (const { target, columns } of strangers)
      for (const [at, name] of Object.keys(columns).entries())
        await test.target.admin.unsafe(`
create unique index ${ident(at === 0 ? "page_plan_pkey" + target : `page_keys${target}${at}`)} on public.${ident(target)} (${ident(name)});
          alter table public.${ident(target)} add constraint ${ident(name)} check (${ident(name)} <> 'refused')`);
    await fill(test, strangers, [1, 2, 3], "a");
    const planned = await test.sync({ dryRun: true, capture: "full" });
    const [plan] = await test.target.admin<{ inserted: number }[]>`
      select sum((e -> 'counts' ->> 'inserted')::integer)::integer as inserted
        from public.sync_reports r cross join lateral jsonb_array_elements(r.body -> 'entities') e where r.execution_id = ${planned.execution} and r.kind = 'plan'`;
    expect(plan?.inserted).toBe(3 * strangers.length);
    await test.sync({ capture: "full" });
    await expectEqual(test, strangers);

    // Two records exchange all their values, a third gets one that the target refuses.
    for (const { source, columns } of strangers) {
      const list = Object.keys(columns);
      const sets = list.map(
        (name) => `${ident(name)} = (select o.${ident(name)} from public.${ident(source)} o where o.id = 3 - w.id)`,
      );
      await test.source.admin.unsafe(`update public.${ident(source)} w set ${sets.join(", ")} where w.id in (1, 2)`);
      await test.source.admin.unsafe(`update public.${ident(source)} set ${ident(list.at(-1) ?? "")} = 'refused' where id = 3`);
    }
    for (const dryRun of [true, false]) {
      const { execution } = await test.sync({ dryRun });
      const [counts] = await test.target.admin<{ updated: number; stopped: number }[]>`
        select sum(updated)::integer as updated, sum(in_conflict)::integer as stopped from public.sync_page_log where execution_id = ${execution}`;
      expect(counts, String(dryRun)).toEqual({ updated: 2 * strangers.length, stopped: strangers.length });
    }
    const queued = await test.target.admin<{ rule: string }[]>`select rule from public.sync_conflicts where state = 'open'`;
    expect(queued).toHaveLength(strangers.length);
    for (const { source } of strangers) await test.source.admin.unsafe(`delete from public.${ident(source)} where id = 3`);
    for (const { target } of strangers) await test.target.admin.unsafe(`delete from public.${ident(target)} where legacy_id = 3`);
    await expectEqual(test, strangers);
  });

  it("through an adoption", { timeout: 300_000 }, async () => {
    const strangers = strangersOf(4, names.columns);
    await using test = await createStrangers(strangers);
    await takeOver(test, strangers);
  });
});

/** A table, an alias, an entity and a column of each name. */
const tableStrangers = (list: readonly string[]): Stranger[] =>
  list.map((name) => ({
    name,
    source: name,
    target: own.includes(name) ? `${name} of the application` : name,
    alias: name,
    columns: KEYS.includes(name) ? { value: { type: "text" } } : { [name]: { type: "text" }, value: { type: "text" } },
  }));
/** Names of temporary tables, of tables of ours, and those that are no word: what our SQL calls most of its rows. */
const isShort = (name: string) => name.length <= 3 || /^(page_|sync_|uuid_)/.test(name);
const ONCE = { ISTHMUS_CHAINS_PER_ENTITY: "1" };

describe("a table, an alias and an entity may be called like any alias, table or query of ours", () => {
  it.each([0, 1, 2, 3])("part %i", { timeout: 240_000 }, async (part) => {
    const strangers = tableStrangers(names.relations.filter(isShort).filter((_, at) => at % 4 === part));
    {
      await using test = await createModified(strangers, LIVING, ONCE);
      await live(test, strangers);
    }
    await using test = await createStrangers(strangers, {}, ONCE);
    await takeOver(test, strangers);
  });

  it.each([0, 1, 2, 3])("or like any other word of our SQL, part %i", { timeout: 240_000 }, async (part) => {
    const strangers = tableStrangers(names.relations.filter((name) => !isShort(name)).filter((_, at) => at % 4 === part));
    await using test = await createStrangers(strangers, {}, ONCE);
    await fill(test, strangers, [1, 2], "a");
    await test.sync({ capture: "full" });
    await expectEqual(test, strangers);
  });
});

describe("an amount may be called like anything in our SQL", () => {
  it("and its sum is compared after a load, with no other's in its place", { timeout: 300_000 }, async () => {
    const columns = names.columns.filter((name) => !KEYS.includes(name));
    // What "bucket" would be told as, which a total has a word of its own for.
    const beside = "bucket (money)";
    const strangers = ["t", "w"].map((table, part) => ({
      name: table,
      source: table,
      target: table,
      alias: table,
      money: true,
      columns: Object.fromEntries(
        [...columns.filter((_, at) => at % 2 === part), beside].map((name) => [name, { type: "numeric(12,2)" }]),
      ),
    }));
    await using test = await createStrangers(strangers, {}, ONCE);
    for (const { source, columns: own } of strangers) {
      const list = Object.keys(own);
      await test.source.admin.unsafe(
        `insert into public.${ident(source)} (id, ${list.map(ident).join(", ")})
         select i, ${list.map((_, n) => `${n} + i / 100.0`).join(", ")} from generate_series(1, 3) i`,
      );
    }
    const { execution } = await test.sync({ capture: "full" });
    await expectEqual(test, strangers);
    const totals = await test.target.admin<{ source: object; target: object }[]>`
        select body -> 'source' as source, body -> 'target' as target from public.sync_reports
         where execution_id = ${execution} and kind like 'control_totals%'`;
    // One sum for each column, beside the count of records.
    const summed = totals.flatMap(({ source }) => Object.keys(source)).filter((name) => name !== "n" && name !== "count");
    expect(summed).toHaveLength(columns.length + strangers.length);
    for (const { source, target } of totals) expect(target).toEqual(source);
    expect(await differencesFound(test, (await test.sync({ capture: "digest" })).execution)).toBe(0);
  });
});

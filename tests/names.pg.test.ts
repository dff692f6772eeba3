import { beforeAll, describe, expect, it } from "vitest";
import { ident } from "../shared/db/ident.ts";
import { adopt } from "./support/adoption.ts";
import { createTestTarget } from "./support/databases.ts";
import type { Pipeline } from "./support/pipeline.ts";
import { sqlNames, type SqlNames } from "./support/sql-names.ts";
import { createStrangers, type Stranger } from "./support/stranger.ts";

/** What no table of an application can be called. */
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
});

/** Keys that the strangers' tables have anyway. */
const KEYS = ["id", "legacy_id"];

/** Entities that share the names out among their columns; the tables are called like some of them, too. */
function columnStrangers(parts: number): Stranger[] {
  const columns = names.columns.filter((name) => !KEYS.includes(name));
  return ["x", "page_rows", "t", "q"].slice(0, parts).map((table, part) => ({
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

async function found(test: Pipeline, execution: string): Promise<number> {
  const [row] = await test.target.admin<{ n: number }[]>`
    select coalesce(sum((f.value ->> 'count')::integer), 0)::integer as n
      from public.sync_reports r cross join lateral jsonb_each(r.body) f
     where r.execution_id = ${execution} and r.kind like 'digest:%' and f.key <> 'records'`;
  return row?.n ?? -1;
}

describe("a column may be called like anything in our SQL", () => {
  it("through full and changed passes, digests, conflicts, decisions and deletes", { timeout: 120_000 }, async () => {
    const strangers = columnStrangers(4);
    await using test = await createStrangers(strangers, {
      conflicts: { strategy: "manual_review" },
      onDelete: "hard",
    });
    await fill(test, strangers, [1, 2, 3], "a");
    await test.sync({ capture: "full" });
    await expectEqual(test, strangers);

    for (const { source, columns } of strangers) {
      const sets = Object.keys(columns).map((name) => `${ident(name)} = 'b ' || ${ident(name)}`);
      await test.source.admin.unsafe(`update public.${ident(source)} set ${sets.join(", ")} where id = 2`);
    }
    await test.sync();
    await expectEqual(test, strangers);
    expect(await found(test, (await test.sync({ capture: "digest" })).execution)).toBe(0);

    // Both sides change every column of one record; a person decides.
    for (const { source, target, columns } of strangers) {
      const sets = (said: string) =>
        Object.keys(columns)
          .map((name) => `${ident(name)} = '${said} ${name}'`)
          .join(", ");
      await test.source.admin.unsafe(`update public.${ident(source)} set ${sets("source")} where id = 1`);
      await test.target.admin.unsafe(`update public.${ident(target)} set ${sets("person")} where legacy_id = 1`);
    }
    await test.sync();
    const open = await test.target.admin`select from public.sync_conflicts where state = 'open'`;
    expect(open).toHaveLength(strangers.length);
    await test.target.admin`update public.sync_conflicts set resolution_strategy = 'source_wins' where state = 'open'`;
    await expectEqual(test, strangers);
    expect(await found(test, (await test.sync({ capture: "digest" })).execution)).toBe(0);

    // A row that somebody deleted is written again by a decision, and a record that the source deletes goes.
    for (const { target, source } of strangers) {
      await test.target.admin.unsafe(`delete from public.${ident(target)} where legacy_id = 2`);
      await test.source.admin.unsafe(`delete from public.${ident(source)} where id = 3`);
    }
    await test.sync({ capture: "digest" });
    await test.target
      .admin`update public.sync_conflicts set resolution_strategy = 'source_wins' where state = 'open' and rule = 'target_deleted'`;
    await expectEqual(test, strangers);
    expect(await found(test, (await test.sync({ capture: "digest" })).execution)).toBe(0);
  });

  it("through a dry run, unique values that are exchanged, and clashes", { timeout: 120_000 }, async () => {
    // Short names are those of aliases: each is unique, and checked.
    const strangers = columnStrangers(4).map((stranger) => ({
      ...stranger,
      columns: Object.fromEntries(
        Object.entries(stranger.columns).filter(([name]) => name.length <= 4 || /^_|^page_|^held/.test(name)),
      ),
    }));
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

  it("through an adoption", { timeout: 120_000 }, async () => {
    const strangers = columnStrangers(4);
    await using test = await createStrangers(strangers);
    await fill(test, strangers, [1, 2], "a");
    for (const { target, columns } of strangers)
      await test.target.admin.unsafe(
        `insert into public.${ident(target)} (id, legacy_id, ${Object.keys(columns).map(ident).join(", ")})
         select gen_random_uuid(), i, ${Object.keys(columns)
           .map((name) => `'old ${name}'`)
           .join(", ")} from generate_series(1, 2) i`,
      );
    await adopt(test);
    await test.sync();
    await expectEqual(test, strangers);
  });
});

describe("a table, an alias and an entity may be called like any alias, table or query of ours", () => {
  it.each([0, 1])("part %i", { timeout: 120_000 }, async (part) => {
    const strangers = names.relations
      // What is a word of English besides is no table of ours.
      .filter((name) => name.length <= 3 || /^(page_|sync_|uuid_)/.test(name))
      .filter((_, at) => at % 2 === part)
      .map((name) => ({
        name,
        source: name,
        target: own.includes(name) ? `${name} of the application` : name,
        alias: name,
        columns: { [name]: { type: "text" }, value: { type: "text" } },
      }))
      .map((stranger) => (KEYS.includes(stranger.name) ? { ...stranger, columns: { value: { type: "text" } } } : stranger));
    await using test = await createStrangers(strangers, {}, { ISTHMUS_CHAINS_PER_ENTITY: "1" });
    await fill(test, strangers, [1, 2], "a");
    await test.sync({ dryRun: true });
    await test.sync();
    await expectEqual(test, strangers);
    expect(await found(test, (await test.sync({ capture: "digest" })).execution)).toBe(0);
  });
});

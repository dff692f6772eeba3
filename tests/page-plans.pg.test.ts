import { describe, expect, it } from "vitest";
import postgres from "postgres";
import { defineEntity, type Entity } from "../shared/entity/define-entity.ts";
import { workerGrants } from "../shared/operate/grants.ts";
import { startAdoption } from "../shared/plan/adopt.ts";
import { tick } from "../shared/tick/tick.ts";
import type { PageOutcome } from "../shared/page/page-outcome.ts";
import { createPipeline, type Pipeline } from "./support/pipeline.ts";
import { dear, explainAll, explained, type Explained } from "./support/plans.ts";
import { createStranger, entityOf } from "./support/stranger.ts";

/**
 * Records in the tables, and in a page. Nothing is ever analysed: the planner knows no more of these tables than
 * their size in blocks, and of the temporary ones nothing.
 */
const RECORDS = 20_000;
const PAGE = 100;
/**
 * Rows that one node of a plan may meet, by the page's records: these are met by their four fields, on several sides,
 * and a comparison looks at more records than it writes. A sixth of what a look through one of the tables meets.
 */
const AT_MOST = 30 * PAGE;

const TABLES = {
  source: "old",
  target: "fresh",
  columns: { name: { type: "text" }, n: { type: "integer" }, data: { type: "jsonb" } },
} as const;

/** What reads whole tables by its nature. */
const BY_NATURE = [
  // How widely people edit is asked once, at the end of a comparison of everything.
  (text: string) => text.startsWith("v_edited"),
  // What was written since a horizon is found by a walk through the table's file, in windows of blocks.
  (text: string) => text.includes("w.ctid >"),
];

/** Runs the pages that are due; @returns the statements of those that a page of this outcome ran and that met more rows than a page may. */
async function dearPages(test: Pipeline, outcomes: readonly PageOutcome["outcome"][]): Promise<string[]> {
  const statements: Explained[] = [];
  let pages = 0;
  while (test.queue.length > 0) {
    let outcome: PageOutcome | undefined;
    const ran = await explained(async () => (outcome = await test.runOne()));
    if (outcome === undefined || !outcomes.includes(outcome.outcome)) continue;
    pages++;
    expect(ran.length).toBeGreaterThan(10);
    statements.push(...ran.filter(({ text }) => !BY_NATURE.some((one) => one(text))));
  }
  expect(pages).toBeGreaterThan(0);
  return dear(statements, AT_MOST);
}

/** Runs an execution page by page; @returns the dear statements of its pages of records, or of their hashes. */
async function dearStatements(test: Pipeline, request: Parameters<Pipeline["start"]>[0]): Promise<string[]> {
  await test.start({ ...request, pageSize: PAGE });
  return dearPages(test, ["committed", "compared", "fanned_out"]);
}

const rows = (test: Pipeline, from: number, to: number) =>
  test.source.admin`
    insert into public.old (id, name, n, data) select i, 'name ' || i, i, jsonb_build_object('n', i) from generate_series(${from}::integer, ${to}::integer) i`;

describe("the cost of a page follows the page, of tables that nobody has analysed", () => {
  const environment = {
    ...{ ISTHMUS_DIGEST_ROWS: String(4 * PAGE), ISTHMUS_BRAKE_RECORDS: "100000" },
  };

  const { source } = entityOf(TABLES);
  const waiving = {
    ...source,
    predicate: { name: "positive", version: 1, where: "s.n >= 0", reason: "debts", onLeave: "delete" },
  } as const;
  it.each([
    { what: "hashes are kept, and deleted rows go", entity: { history: "hashes", onDelete: "hard" } },
    {
      what: "values are kept, deleted rows are marked, and a predicate waives some",
      entity: { history: "values", onDelete: { soft: { name: "gone" } }, source: waiving },
    },
  ] as const)("of pages that land, compare, ask and delete, where $what", { timeout: 600_000 }, async ({ entity }) => {
    await using test = await createStranger(TABLES, entity, environment);
    await rows(test, 1, RECORDS);
    await test.sync({ capture: "full" });
    // Open questions, warnings and requests of other records than the page's.
    await test.target.admin`
      insert into public.sync_conflicts (state, entity_id, entity_type, source_record_id, conflict_type, rule, remedy, conflict_data, source_table, target_table)
      select 'open', id, entity_type, i, 'business_rule_violation', 'a_rule@1', 'look', '{}', source_table, target_table
        from public.sync_entities, generate_series(${RECORDS - 599}::integer, ${RECORDS}::integer) i`;
    await test.target.admin`
      insert into public.sync_warnings (entity_id, legacy_id, rule)
      select id, i, 'a_rule@1' from public.sync_entities, generate_series(${RECORDS - 1_199}::integer, ${RECORDS - 600}::integer) i`;
    await explainAll(test);

    await rows(test, RECORDS + 1, RECORDS + 500);
    await test.source.admin`update public.old set n = 0 where id % 50 = 0`;
    await test.source.admin`update public.old set n = -1 where id % 90 = 0`;
    await test.target.admin`update public.fresh set n = 1 where legacy_id % 70 = 0`;
    expect(await dearStatements(test, { capture: "xmin" }), "of what was written").toEqual([]);
    expect(await dearStatements(test, { capture: "digest" }), "of a digest").toEqual([]);
    await test.source.admin`update public.old set n = 2 where id % 50 = 0`;
    await test.source.admin`delete from public.old where id % 100 = 1`;
    expect(await dearStatements(test, { capture: "full" }), "of a full pass").toEqual([]);
  });
});

interface Builders {
  readonly copy: (column: string) => unknown;
  readonly lookup: (parent: string, column: string) => unknown;
}
const define = defineEntity as unknown as (spec: object) => Entity;

/** Records that show a label of another table's row, one each. */
const labelled = define({
  name: "things",
  target: { table: "fresh", legacyKey: "legacy_id" },
  source: {
    table: "old",
    key: "id",
    alias: "s",
    joins: { p: { table: "side", key: "id", on: { id: "s.side_id" } } },
    columns: { name: "s.name", label: "p.label" },
  },
  fields: ({ copy }: Builders) => ({ name: copy("name"), label: copy("label") }),
});

/** Records that refer to others of another entity. */
const sides = define({
  name: "sides",
  target: { table: "sides", legacyKey: "legacy_id" },
  source: { table: "side", key: "id", alias: "p", columns: { label: "p.label" } },
  fields: ({ copy }: Builders) => ({ label: copy("label") }),
});
const referring = define({
  name: "things",
  target: { table: "fresh", legacyKey: "legacy_id" },
  source: { table: "old", key: "id", alias: "s", columns: { name: "s.name", side: "s.side_id" } },
  fields: ({ copy, lookup }: Builders) => ({ name: copy("name"), side_id: lookup("sides", "side") }),
});

/** Both tables with their rows, the second's row of each record the one of its key. */
async function createSides(entities: readonly Entity[], environment: Record<string, string> = {}): Promise<Pipeline> {
  const test = await createPipeline({ entities, env: { ISTHMUS_BRAKE_RECORDS: "100000", ...environment } });
  await test.source.admin.unsafe(`
    create table public.side (id bigint primary key, label text);
    create table public.old (id bigint primary key, name text, side_id bigint);
    create index on public.old (side_id);
    grant select on public.side, public.old to isthmus_reader;
    insert into public.side select i, 'label ' || i from generate_series(1, ${RECORDS}) i;
    insert into public.old select i, 'name ' || i, i from generate_series(1, ${RECORDS}) i`);
  await test.target.admin.unsafe(`
    create table public.sides (id uuid primary key, legacy_id bigint not null unique, label text);
    create table public.fresh (id uuid primary key, legacy_id bigint not null unique, name text, label text, side_id uuid references public.sides (id));
    alter table public.sides owner to postgres; alter table public.fresh owner to postgres`);
  await test.target.admin.unsafe(workerGrants(entities));
  return test;
}

describe("what a page does besides landing records follows the page, of tables that nobody has analysed", () => {
  it("joined rows that have changed", { timeout: 600_000 }, async () => {
    await using test = await createSides([labelled], { ISTHMUS_JOIN_ROWS: String(PAGE) });
    await test.sync({ capture: "full", pageSize: 5_000 });
    await explainAll(test);
    await test.source.admin`update public.side set label = 'another' where id % 50 = 0`;
    expect(await dearStatements(test, { capture: "xmin" })).toEqual([]);
  });

  it("records that wait, and are released when their parents land", { timeout: 600_000 }, async () => {
    await using test = await createSides([sides, referring]);
    await test.source
      .admin`insert into public.old select i, 'waits', i from generate_series(${RECORDS + 1}::integer, ${RECORDS + 2_000}::integer) i`;
    await test.sync({ capture: "full", pageSize: 5_000 });
    expect(await test.live("things")).toHaveLength(2_000);
    await explainAll(test);
    await test.source
      .admin`insert into public.side select i, 'late' from generate_series(${RECORDS + 1}::integer, ${RECORDS + 500}::integer) i`;
    expect(await dearStatements(test, { capture: "xmin" })).toEqual([]);
    expect(await test.live("things")).toHaveLength(1_500);
  });

  it("decisions on its records", { timeout: 600_000 }, async () => {
    await using test = await createStranger(TABLES, { history: "values", conflicts: { strategy: "manual_review" } });
    await rows(test, 1, RECORDS);
    await test.sync({ capture: "full", pageSize: 5_000 });
    await test.source.admin`update public.old set n = 0 where id % 40 = 0`;
    await test.target.admin`update public.fresh set n = 1 where legacy_id % 40 = 0`;
    await test.sync({ capture: "xmin" });
    expect(await test.live("things")).toHaveLength(RECORDS / 40);
    await explainAll(test);
    const studio = postgres(test.target.superuserUrl, { max: 1, onnotice: () => undefined });
    const decide = (from: number, strategy: string) => async () => {
      await studio.begin(async (tx) => {
        await tx`set local role postgres`;
        const decided = await tx`
          update public.sync_conflicts set resolution_strategy = ${strategy}::public.conflict_resolution_strategy
           where entity_type = 'things' and source_record_id between ${from} and ${from + 40 * PAGE - 1} and state = 'open'`;
        expect(decided.count).toBe(PAGE);
      });
    };
    try {
      expect(dear(await explained(decide(1, "source_wins")), AT_MOST), "for the source").toEqual([]);
      expect(dear(await explained(decide(1 + 40 * PAGE, "target_wins")), AT_MOST), "for the target").toEqual([]);
    } finally {
      await studio.end();
    }
  });

  it("adoptions", { timeout: 600_000 }, async () => {
    await using test = await createStranger(TABLES, {}, { ISTHMUS_ADOPT_PAGE_SIZE: "500" });
    await rows(test, 1, RECORDS);
    await test.target.admin`
      insert into public.fresh (id, legacy_id, name) select gen_random_uuid(), i, 'name' from generate_series(1, ${RECORDS}::integer) i`;
    await explainAll(test);
    await startAdoption(test.context, { triggeredBy: "http:test" });
    expect(await dearPages(test, ["adopted"])).toEqual([]);
  });

  it("plans", { timeout: 600_000 }, async () => {
    await using test = await createStranger(TABLES, { onDelete: "hard" }, { ISTHMUS_BRAKE_RECORDS: "100000" });
    await rows(test, 1, RECORDS);
    await test.sync({ capture: "full", pageSize: 5_000 });
    await explainAll(test);
    await rows(test, RECORDS + 1, RECORDS + 300);
    await test.source.admin`update public.old set n = 0 where id % 50 = 0`;
    expect(await dearStatements(test, { capture: "xmin", dryRun: true })).toEqual([]);
  });

  it("the brake, and what was overwritten before", { timeout: 600_000 }, async () => {
    await using test = await createStranger(TABLES, {}, { ISTHMUS_BRAKE_OVERWRITE_RECORDS: "200" });
    await rows(test, 1, RECORDS);
    await test.sync({ capture: "full", pageSize: 5_000 });
    await explainAll(test);
    await test.source.admin`update public.old set n = 0 where id % 20 = 0`;
    expect(await dearStatements(test, { capture: "xmin" })).toEqual([]);
  });
});

it("a tick costs what is due, whatever has been", { timeout: 600_000 }, async () => {
  await using test = await createStranger(TABLES);
  await rows(test, 1, 10);
  const { execution } = await test.sync({ capture: "full" });
  const copies = async (table: string, columns: string, changed: string) => {
    await test.target.admin.unsafe(
      `insert into public.${table} (${columns}) select ${changed} from public.${table} t cross join generate_series(1, ${RECORDS}) i where ${table === "sync_executions" ? "id" : "execution_id"} = '${execution}' limit ${RECORDS}`,
    );
  };
  const history = "entities, horizon, snapshot_xmax, system_identifier, timeline, database_oid, server_start, source_time";
  await copies(
    "sync_executions",
    `${history}, source_id, triggered_by, started_at, completed_at, status, metrics`,
    `${history}, source_id, 'job:' || i, started_at - i * interval '1 minute', completed_at - i * interval '1 minute', status, metrics`,
  );
  await test.target.admin.unsafe(`
    insert into public.sync_chains (execution_id, entity_id, capture, state, page_size, closed_at)
    select x.id, e.id, 'full', 'done', 100, now() from public.sync_executions x cross join public.sync_entities e where x.triggered_by like 'job:%';
    insert into public.sync_page_log (execution_id, chain_id, entity_id, page, read, inserted, updated, unchanged, waiting, in_conflict, wall_ms)
    select execution_id, id, entity_id, 1, 0, 0, 0, 0, 0, 0, 1 from public.sync_chains where entity_id is not null and execution_id <> '${execution}';
    insert into public.sync_conflicts (state, entity_id, entity_type, source_record_id, conflict_type, rule, remedy, conflict_data, source_table, target_table, resolved_at)
    select 'resolved', id, entity_type, i, 'business_rule_violation', 'a_rule@1', 'look', '{}', source_table, target_table, now() from public.sync_entities, generate_series(1, ${RECORDS}) i;
    insert into public.sync_alerts (kind, severity, message, closed_at, subject) select 'job_late', 'warning', 'm', now(), i::text from generate_series(1, ${RECORDS}) i;
    insert into public.sync_ticks (created_at, begun_at, ended_at) select t.at, t.at, t.at from generate_series(1, ${RECORDS}) i cross join lateral (select now() - i * interval '4 seconds' as at) t`);
  await explainAll(test);
  expect(dear(await explained(() => tick(test.context)), AT_MOST)).toEqual([]);
});

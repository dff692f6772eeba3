import { closeSync, openSync, readSync, statSync } from "node:fs";
import { describe, expect, it } from "vitest";
import type { PageOutcome } from "../shared/pipeline/types.ts";
import type { Pipeline } from "./support/pipeline.ts";
import { until } from "./support/replica.ts";
import { testServer } from "./support/servers.ts";
import { createStranger, entityOf } from "./support/stranger.ts";

/**
 * Records in the tables, and in a page. Nothing is ever analysed: the planner knows no more of these tables than their size in
 * blocks, and of the temporary ones nothing.
 */
const RECORDS = 20_000;
const PAGE = 100;
/**
 * Rows that one node of a plan may meet, by the page's records: these are met by their four fields, on several sides, and a comparison
 * looks at more records than it writes. A sixth of what a look
 * through one of the tables meets.
 */
const AT_MOST = 30 * PAGE;

const TABLES = {
  source: "old",
  target: "fresh",
  columns: { name: { type: "text" }, n: { type: "integer" }, data: { type: "jsonb" } },
} as const;

interface PlanNode {
  readonly "Node Type": string;
  readonly "Relation Name"?: string;
  readonly "Actual Rows": number;
  readonly "Actual Loops": number;
  readonly "Rows Removed by Filter"?: number;
  readonly "Rows Removed by Join Filter"?: number;
  readonly Plans?: readonly PlanNode[];
}

const NOTHING: PlanNode = { "Node Type": "", "Actual Rows": 0, "Actual Loops": 0 };

const nodesOf = (node: PlanNode): readonly PlanNode[] => [node, ...(node.Plans ?? []).flatMap(nodesOf)];
const met = (node: PlanNode) =>
  (node["Actual Rows"] + (node["Rows Removed by Filter"] ?? 0) + (node["Rows Removed by Join Filter"] ?? 0)) *
  node["Actual Loops"];

/** What a file holds from an offset on. */
function readFrom(path: string, offset: number): string {
  const file = openSync(path, "r");
  try {
    const rest = Buffer.alloc(statSync(path).size - offset);
    return rest.toString("utf8", 0, readSync(file, rest, 0, rest.length, offset));
  } finally {
    closeSync(file);
  }
}

/** What the statements of some work did, by the server's own account: for each the most rows that a node of its plan met. */
async function explained(test: Pipeline, work: () => Promise<unknown>): Promise<{ text: string; node: string; rows: number }[]> {
  const { log: logFile } = await testServer();
  const before = statSync(logFile).size;
  await work();
  const parts = readFrom(logFile, before)
    .split(/LOG: {2}duration: [\d.]+ ms {2}plan:\n/)
    .slice(1);
  return parts.map((part) => {
    const all = part.split("\n");
    const lines = all.slice(
      0,
      all.findIndex((line) => !line.startsWith("\t")),
    );
    const { "Query Text": text, Plan } = JSON.parse(lines.join("\n")) as { "Query Text": string; Plan: PlanNode };
    const worst = nodesOf(Plan).reduce((most, node) => (met(node) > met(most) ? node : most), NOTHING);
    return { text, node: `${worst["Node Type"]} ${worst["Relation Name"] ?? ""}`, rows: met(worst) };
  });
}

/** Every session of the target writes the plan of each statement, those within functions included, into the server's log. */
async function explainAll(test: Pipeline): Promise<void> {
  const { admin, name } = test.target;
  for (const setting of [
    "session_preload_libraries = 'auto_explain'",
    ...["auto_explain.log_min_duration = 0", "auto_explain.log_nested_statements = on", "auto_explain.log_analyze = on"],
    ...["auto_explain.log_timing = off", "auto_explain.log_format = 'json'"],
    // As hosted databases have it, whose disks find a block anywhere as quickly.
    "random_page_cost = 1.1",
  ])
    await admin.unsafe(`alter database "${name}" set ${setting}`);
  // Sessions that are open already have no such setting.
  await admin`select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and usename = 'isthmus_worker'`;
  await until("the worker's sessions are new ones", () =>
    test.context.target.unsafe("select 1").then(
      () => true,
      () => false,
    ),
  );
}

/** Runs an execution page by page; @returns the statements of its pages of records, or of their hashes, that met more rows than a page may. */
async function dearStatements(test: Pipeline, request: Parameters<Pipeline["start"]>[0]): Promise<string[]> {
  await test.start({ ...request, pageSize: PAGE });
  const dear = new Map<string, string>();
  let pages = 0;
  while (test.queue.length > 0) {
    let outcome: PageOutcome | undefined;
    const statements = await explained(test, async () => (outcome = await test.runOne()));
    if (outcome?.outcome !== "committed" && outcome?.outcome !== "compared") continue;
    pages++;
    expect(statements.length).toBeGreaterThan(10);
    for (const { text, node, rows } of statements)
      // How widely people edit is asked once, at the end of a comparison of everything.
      if (rows > AT_MOST && !text.startsWith("v_edited"))
        dear.set(text.replace(/\s+/g, " ").slice(0, 300), `${String(rows)} rows in ${node}`);
  }
  expect(pages).toBeGreaterThan(0);
  return [...dear].map(([text, where]) => `${where}: ${text}`);
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

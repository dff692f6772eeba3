import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import type { PageOutcome } from "../shared/pipeline/types.ts";
import type { Pipeline } from "./support/pipeline.ts";
import { testServer } from "./support/servers.ts";
import { createStranger } from "./support/stranger.ts";

/**
 * Records in the tables, and in a page. Nothing is ever analysed: the planner knows no more of these tables than their size in
 * blocks, and of the temporary ones nothing.
 */
const RECORDS = 6_000;
const PAGE = 200;
/** Rows that one node of a plan may meet, by the page's records: those of a range are met on several sides. */
const AT_MOST = 8 * PAGE;

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

const nodesOf = (node: PlanNode): readonly PlanNode[] => [node, ...(node.Plans ?? []).flatMap(nodesOf)];
const met = (node: PlanNode) =>
  (node["Actual Rows"] + (node["Rows Removed by Filter"] ?? 0) + (node["Rows Removed by Join Filter"] ?? 0)) *
  node["Actual Loops"];

/** What the statements of some work did, by the server's own account: for each the most rows that a node of its plan met. */
async function explained(test: Pipeline, work: () => Promise<unknown>): Promise<{ text: string; node: string; rows: number }[]> {
  const { log: logFile } = await testServer();
  const before = readFileSync(logFile, "utf8").length;
  await work();
  const parts = readFileSync(logFile, "utf8")
    .slice(before)
    .split(/LOG: {2}duration: [\d.]+ ms {2}plan:\n/)
    .slice(1);
  return parts.map((part) => {
    const all = part.split("\n");
    const lines = all.slice(
      0,
      all.findIndex((line) => !line.startsWith("\t")),
    );
    const { "Query Text": text, Plan } = JSON.parse(lines.join("\n")) as { "Query Text": string; Plan: PlanNode };
    const worst = nodesOf(Plan).reduce((most, node) => (met(node) > met(most) ? node : most));
    return { text, node: `${worst["Node Type"]} ${worst["Relation Name"] ?? ""}`, rows: met(worst) };
  });
}

/** Every session of the two databases writes the plan of each statement, those within functions included, into the server's log. */
async function explainAll(test: Pipeline): Promise<void> {
  for (const { admin, name } of [test.source, test.target]) {
    for (const setting of [
      ...[
        "session_preload_libraries = 'auto_explain'",
        "auto_explain.log_min_duration = 0",
        "auto_explain.log_nested_statements = on",
      ],
      ...["auto_explain.log_analyze = on", "auto_explain.log_timing = off", "auto_explain.log_format = 'json'"],
    ])
      await admin.unsafe(`alter database "${name}" set ${setting}`);
    // Sessions that are open already have no such setting.
    await admin`select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and usename ~ '^isthmus'`;
  }
  for (const sql of [test.context.source, test.context.target])
    for (let tries = 0; tries < 20; tries++) {
      const works = await sql.unsafe("select 1").then(
        () => true,
        () => false,
      );
      if (works) break;
    }
}

/** Runs an execution page by page; @returns the statements of its pages of records, or of their hashes, that met more rows than a page may. */
async function dearStatements(test: Pipeline, request: Parameters<Pipeline["start"]>[0]): Promise<string[]> {
  await test.start(request);
  const dear: string[] = [];
  let pages = 0;
  while (test.queue.length > 0) {
    let outcome: PageOutcome | undefined;
    const statements = await explained(test, async () => (outcome = await test.runOne()));
    if (outcome?.outcome !== "committed" && outcome?.outcome !== "compared") continue;
    pages++;
    expect(statements.length).toBeGreaterThan(10);
    for (const { text, node, rows } of statements)
      if (rows > AT_MOST) dear.push(`${String(rows)} rows in ${node}: ${text.replace(/\s+/g, " ").slice(0, 300)}`);
  }
  expect(pages).toBeGreaterThan(0);
  return [...new Set(dear)];
}

const rows = (test: Pipeline, from: number, to: number) =>
  test.source.admin`
    insert into public.old (id, name, n, data) select i, 'name ' || i, i, jsonb_build_object('n', i) from generate_series(${from}::integer, ${to}::integer) i`;

describe("the cost of a page follows the page, of tables that nobody has analysed", () => {
  const environment = {
    ...{ ISTHMUS_PAGE_SIZE: String(PAGE), ISTHMUS_PAGE_SIZE_MAX: String(PAGE), ISTHMUS_DIGEST_ROWS: String(PAGE) },
    ISTHMUS_BRAKE_RECORDS: "100000",
  };

  it.each(["hashes", "values"] as const)(
    "of pages that land, compare, ask and delete, where %s are kept",
    { timeout: 600_000 },
    async (history) => {
      await using test = await createStranger(TABLES, { history, onDelete: "hard" }, environment);
      await rows(test, 1, RECORDS);
      await test.sync({ capture: "full" });
      // Open questions, warnings and requests of other records than the page's.
      await test.target.admin`
      insert into public.sync_conflicts (state, entity_id, entity_type, source_record_id, conflict_type, rule, remedy, conflict_data, source_table, target_table)
      select 'open', id, entity_type, i, 'business_rule_violation', 'a_rule@1', 'look', '{}', source_table, target_table
        from public.sync_entities, generate_series(${RECORDS - 1_999}::integer, ${RECORDS}::integer) i`;
      await test.target.admin`
      insert into public.sync_warnings (entity_id, legacy_id, rule)
      select id, i, 'a_rule@1' from public.sync_entities, generate_series(${RECORDS - 3_999}::integer, ${RECORDS - 2_000}::integer) i`;
      await explainAll(test);

      await rows(test, RECORDS + 1, RECORDS + 500);
      await test.source.admin`update public.old set n = 0 where id % 50 = 0`;
      await test.target.admin`update public.fresh set n = 1 where legacy_id % 70 = 0`;
      expect(await dearStatements(test, { capture: "xmin" }), "of what was written").toEqual([]);
      expect(await dearStatements(test, { capture: "digest" }), "of a digest").toEqual([]);
      await test.source.admin`update public.old set n = 2 where id % 50 = 0`;
      await test.source.admin`delete from public.old where id % 100 = 1`;
      expect(await dearStatements(test, { capture: "full" }), "of a full pass").toEqual([]);
    },
  );
});

import { closeSync, openSync, readSync, statSync } from "node:fs";
import type { Pipeline } from "./pipeline.ts";
import { until } from "./replica.ts";
import { testServer } from "./servers.ts";

interface PlanNode {
  readonly "Node Type": string;
  readonly "Relation Name"?: string;
  readonly "Actual Rows": number;
  readonly "Actual Loops": number;
  readonly "Rows Removed by Filter"?: number;
  readonly "Rows Removed by Join Filter"?: number;
  readonly "Rows Removed by Index Recheck"?: number;
  readonly Plans?: readonly PlanNode[];
}

const NOTHING: PlanNode = { "Node Type": "", "Actual Rows": 0, "Actual Loops": 0 };

const nodesOf = (node: PlanNode): readonly PlanNode[] => [node, ...(node.Plans ?? []).flatMap(nodesOf)];
const met = (node: PlanNode) =>
  (node["Actual Rows"] +
    (node["Rows Removed by Filter"] ?? 0) +
    (node["Rows Removed by Join Filter"] ?? 0) +
    (node["Rows Removed by Index Recheck"] ?? 0)) *
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

/** A statement as it was run, and the node of its plan that met the most rows. */
export interface Explained {
  readonly text: string;
  readonly node: string;
  readonly rows: number;
}

/** What the statements of some work did, on either side, by the server's own account. */
export async function explained(work: () => Promise<unknown>): Promise<Explained[]> {
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

/** Each statement once, of those that met more rows than they may. */
export function dear(statements: readonly Explained[], most: number): string[] {
  const told = new Map<string, string>();
  for (const { text, node, rows } of statements)
    if (rows > most) told.set(text.replace(/\s+/g, " ").slice(0, 300), `${String(rows)} rows in ${node}`);
  return [...told].map(([text, where]) => `${where}: ${text}`);
}

/** Every session of both sides writes the plan of each statement, those within functions included, into the server's log. */
export async function explainAll(test: Pipeline): Promise<void> {
  for (const { admin, name } of [test.source, test.target]) {
    for (const setting of [
      "session_preload_libraries = 'auto_explain'",
      ...["auto_explain.log_min_duration = 0", "auto_explain.log_nested_statements = on", "auto_explain.log_analyze = on"],
      ...["auto_explain.log_timing = off", "auto_explain.log_format = 'json'"],
      // As hosted databases have it, whose disks find a block anywhere as quickly.
      "random_page_cost = 1.1",
    ])
      await admin.unsafe(`alter database "${name}" set ${setting}`);
    // Sessions that are open already have no such setting.
    await admin`select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and usename in ('isthmus_worker', 'isthmus_reader')`;
  }
  for (const side of [test.context.source, test.context.target])
    await until("the sessions are new ones", () =>
      side.unsafe("select 1").then(
        () => true,
        () => false,
      ),
    );
}

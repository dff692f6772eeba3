import { COUNT_HEADINGS, countCells } from "./count-columns.ts";
import { failuresOf, type EntityState, type ExecutionState } from "./answers.ts";
import { formatTable } from "./output.ts";
import { showTroubles } from "./show-troubles.ts";

/** The state of an execution for a person. */
export function showExecution(state: ExecutionState, clock: (iso: string) => string): string {
  const parts = [
    `Execution ${state.execution}: ${state.status}\n`,
    `started ${clock(state.startedAt)} by ${state.triggeredBy}${state.completedAt === null ? "" : `, closed ${clock(state.completedAt)}`}\n`,
    "\n",
    formatTable(
      ["entity", "capture", "chains", ...COUNT_HEADINGS],
      (state.entities ?? []).map(({ entity, capture, chains, counts }) => [
        entity,
        capture ?? "-",
        showChains(chains),
        ...countCells(counts),
      ]),
    ),
  ];
  if (state.queue.length > 0) {
    const rows = state.queue.map(({ entity, state: queued, rule, count }) => [entity, queued, rule, count]);
    parts.push("\nIn the queue of these entities:\n", formatTable(["entity", "state", "rule", "records"], rows));
  }
  if (state.waivers.length > 0) {
    const rows = state.waivers.map(({ rule, count }) => [rule, count]);
    parts.push("\nNot transferred, by predicate:\n", formatTable(["predicate", "records"], rows));
  }
  if (state.warnings.length > 0) {
    const rows = state.warnings.map(({ rule, count }) => [rule, count]);
    parts.push(
      "\nLanded although they break a rule, or otherwise than they were written:\n",
      formatTable(["rule", "records"], rows),
    );
  }
  for (const { entity, counts } of state.entities ?? [])
    if (counts.absent > 0)
      parts.push(`\n${entity}: ${counts.absent} of the records that were looked for have no row in the source.\n`);
  for (const notice of state.notices) parts.push(`\n${notice}\n`);
  const metrics = Object.entries(state.metrics ?? {});
  if (metrics.length > 0) {
    parts.push(
      "\n",
      formatTable(
        ["metric", "value"],
        metrics.map(([name, value]) => [name, value === null ? "-" : String(value)]),
      ),
    );
  }
  if (state.troubles.length > 0 && (state.idleSeconds ?? 0) >= 60) parts.push("\n", showTroubles(state));
  for (const { code, message, remedy } of failuresOf(state)) parts.push(`\n${code}: ${message}\n  What to do: ${remedy}\n`);
  return parts.join("");
}

/** How many chains of an entity are closed, and of how many. */
export function chainProgress(chains: EntityState["chains"]): { closed: number; all: number } {
  const states = Object.entries(chains ?? {});
  const open = states.filter(([name]) => name === "blocked" || name === "open").reduce((sum, [, n]) => sum + n, 0);
  const all = states.reduce((sum, [, n]) => sum + n, 0);
  return { closed: all - open, all };
}

function showChains(chains: EntityState["chains"]): string {
  const { closed, all } = chainProgress(chains);
  const failed = (chains?.["failed"] ?? 0) + (chains?.["cancelled"] ?? 0);
  return all === 0 ? "nothing to do" : `${closed}/${all}${failed > 0 ? ` (${failed} failed)` : ""}`;
}

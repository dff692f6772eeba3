import { countCells } from "../../cli/count-columns.ts";
import type { Sql } from "postgres";
import type { Platform } from "../platform.ts";
import type { Money } from "./demo.ts";
import { bad, dim, good, line, table } from "./terminal.ts";
import type { ExecutionState } from "./watch.ts";

/** What happened to every record, what it cost (`cpuMs`: of sync-page), and whether both sides' money agrees. Every number is recomputable with SQL. */
export async function printSummary(
  platform: Platform,
  target: Sql,
  source: Sql,
  state: ExecutionState,
  cpuMs: number,
  money: readonly Money[],
): Promise<void> {
  const seconds = (Date.parse(state.completedAt ?? state.startedAt) - Date.parse(state.startedAt)) / 1_000;
  line();
  const busy = state.entities.filter(({ counts }) => counts.pages > 0);
  table(
    ["entity", "capture", "read", "inserted", "updated", "unchanged", "deleted", "waiting", "in queue", "waived"],
    busy.map(({ entity, capture, counts }) => [entity, capture ?? "keys", ...countCells(counts)]),
  );
  if (busy.length < state.entities.length)
    line(dim(`  Nothing had changed in ${state.entities.length - busy.length} other entities.`));
  printQueue(state);
  printWaivers(state);
  printWarnings(state);
  await printCost(platform, target, state, seconds, cpuMs);
  await printMoney(target, source, money);
  const verdict = state.status === "succeeded" ? good("succeeded") : bad(state.status);
  line(`\n  Execution ${state.execution} ${verdict}: every record read is accounted for.`);
  if (state.errors !== null) line(bad(`  ${JSON.stringify(state.errors)}`));
}

function printQueue(state: ExecutionState): void {
  if (state.queue.length === 0) return;
  line(`\n  Waiting and in the queue now (public.sync_conflicts):`);
  table(
    ["entity", "state", "type", "why", "records"],
    state.queue.map((row) => [row.entity, row.state, row.type, row.rule, row.count]),
  );
}

function printWaivers(state: ExecutionState): void {
  if (state.waivers.length === 0) return;
  line(`\n  Not transferred, by predicate (public.sync_page_log):`);
  table(
    ["predicate", "records"],
    state.waivers.map((row) => [row.rule, row.count]),
  );
}

function printWarnings(state: ExecutionState): void {
  if (state.warnings.length === 0) return;
  line(`\n  Landed although they break a rule, or otherwise than they were written (public.sync_warnings):`);
  table(
    ["rule", "records"],
    state.warnings.map((row) => [row.rule, row.count]),
  );
}

/** CPU of all isolates of sync-page so far: they live across executions, and requests share them. */
export function pageCpuMs({ functions }: Platform): number {
  return functions
    .isolates()
    .filter((isolate) => isolate.function === "sync-page")
    .reduce((sum, { cpuMs }) => sum + cpuMs, 0);
}

async function printCost(platform: Platform, target: Sql, state: ExecutionState, seconds: number, cpuMs: number): Promise<void> {
  const [log] = await target<{ pages: number; read: number; lookups: number; hits: number }[]>`
    select count(*)::integer as pages, coalesce(sum(read), 0)::integer as read,
           coalesce(sum(cache_lookups), 0)::integer as lookups, coalesce(sum(cache_hits), 0)::integer as hits
      from public.sync_page_log where execution_id = ${state.execution}`;
  const since = Date.parse(state.startedAt);
  const invocations = platform.functions.invocations().filter((one) => one.function === "sync-page" && one.startedAt >= since);
  const isolates = new Set(invocations.map(({ isolate }) => isolate));
  const peak = Math.max(0, ...invocations.map(({ peakHeapBytes }) => peakHeapBytes));
  const read = log?.read ?? 0;
  line();
  line(
    `  ${seconds.toFixed(1)} s, ${read.toLocaleString("en")} records in ${log?.pages ?? 0} pages, ${Math.round(read / Math.max(seconds, 0.001)).toLocaleString("en")} records/s`,
  );
  line(
    `  function CPU ${((cpuMs / Math.max(read, 1)) * 1_000).toFixed(1)} ms per 1,000 records, peak heap ${(peak / 1024 / 1024).toFixed(0)} MB, ${invocations.length} invocations in ${isolates.size} isolates`,
  );
  line(
    `  mapping cache: ${percent(log?.hits ?? 0, log?.lookups ?? 0)} of ${(log?.lookups ?? 0).toLocaleString("en")} look-ups hit (${platform.redis.backing})`,
  );
}

function percent(part: number, whole: number): string {
  return whole === 0 ? "none" : `${((100 * part) / whole).toFixed(1)} %`;
}

/** Both sides' totals, straight from the tables: source = target + what waits or is in the queue. */
async function printMoney(target: Sql, source: Sql, all: readonly Money[]): Promise<void> {
  const rows: (string | number)[][] = [];
  for (const money of all) {
    const [queued] = await target<{ ids: string }[]>`
      select coalesce(pg_catalog.array_agg(source_record_id), '{}')::text as ids from public.sync_conflicts c
       where entity_type = ${money.entity} and state in ('waiting', 'open')
         and (rule = 'target_deleted' or not exists (
               select from public.uuid_mappings_enhanced m where m.entity_type = ${money.entity} and m.legacy_id = c.source_record_id))`;
    const [there] = await source.unsafe<{ total: string; held: string }[]>(
      `select coalesce(sum(${money.price}), 0)::text as total,
              coalesce(sum(${money.price}) filter (where ${money.key} = any ($1::text::bigint[])), 0)::text as held
         from public.${money.table}`,
      [queued?.ids ?? "{}"],
    );
    const [here] = await target.unsafe<{ total: string; difference: string }[]>(
      `select coalesce(sum(${money.column}), 0)::text as total,
              trim_scale($1::text::numeric - $2::text::numeric - coalesce(sum(${money.column}), 0))::text as difference
         from public.${money.entity}`,
      [there?.total ?? "0", there?.held ?? "0"],
    );
    rows.push([
      `${money.entity}.${money.column}`,
      there?.total ?? "",
      there?.held ?? "",
      here?.total ?? "",
      here?.difference ?? "",
    ]);
  }
  line(`\n  Money, both sides:`);
  table(["column", "source", "held in queue", "target", "difference"], rows);
  line(dim("  source − held in queue − target = difference"));
}

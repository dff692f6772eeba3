import type { Queryable } from "../db/connect.ts";
import { query, queryOne } from "../db/query.ts";

/** Minutes after which a person is told, where a job says so (sync_jobs.alarms). */
export interface Alarms {
  readonly lag_minutes?: number;
  readonly window_minutes?: number;
}

export interface WatchedJob {
  readonly name: string;
  /** Runs by itself. */
  readonly enabled: boolean;
  readonly cron_expression: string | null;
  readonly time_zone: string;
  readonly configuration: unknown;
  readonly alarms: Alarms;
  /** Has succeeded at least once. */
  readonly worked: boolean;
}

export interface Work {
  readonly jobs: readonly WatchedJob[];
  /** Since when each entity is known to be in step. */
  readonly entities: readonly { readonly entity: string; readonly since: string }[];
  /** Executions of jobs; usualSeconds null: none like it has succeeded yet. */
  readonly running: readonly {
    readonly execution: string;
    readonly job: string;
    readonly alarms: Alarms;
    readonly since: string;
    readonly usualSeconds: number | null;
  }[];
}

export interface Told {
  readonly severity: "warning" | "critical";
  readonly message: string;
  readonly details: object;
}

/** What the jobs of a source do, and how far its entities have come. */
export async function workAt(target: Queryable, sourceId: number): Promise<Work> {
  return (await queryOne<{ work: Work }>(target, "target", "select sync.work_at($1::integer::smallint) as work", [sourceId]))
    .work;
}

/** Opens, counts and closes the alerts entities_lag and job_late. */
export async function tellWork(
  target: Queryable,
  sourceId: number,
  lag: Told | null,
  late: readonly (Told & { readonly job: string; readonly execution: string })[],
): Promise<void> {
  await query(target, "target", "select sync.tell_work($1::integer::smallint, $2::text::jsonb, $3::text::jsonb)", [
    sourceId,
    lag === null ? null : JSON.stringify(lag),
    JSON.stringify(late),
  ]);
}

import type { Queryable } from "../db/connect.ts";
import { query } from "../db/query.ts";

export interface DueJob {
  readonly id: string;
  readonly name: string;
  readonly cron_expression: string | null;
  readonly time_zone: string;
  readonly configuration: unknown;
  /** Null: its first time has not been set yet. */
  readonly next_execution_at: string | null;
}

/** Enabled jobs that are due or have no next time yet, held for a while so that only one tick starts them. */
export async function takeDueJobs(target: Queryable, now: Date, holdSeconds: number): Promise<DueJob[]> {
  return query<DueJob>(
    target,
    "target",
    `update public.sync_jobs j
        set next_execution_at = $1::text::timestamptz + make_interval(secs => $2)
       from (select id, next_execution_at from public.sync_jobs
              where enabled and cron_expression is not null
                and (next_execution_at is null or next_execution_at <= $1::text::timestamptz)
              for update skip locked) due
      where due.id = j.id
     returning j.id, j.name, j.cron_expression, j.time_zone, j.configuration, due.next_execution_at::text`,
    [now.toISOString(), holdSeconds],
  );
}

/** What the enabled jobs ask for that run by themselves. */
export async function scheduledConfigurations(target: Queryable): Promise<unknown[]> {
  const rows = await query<{ configuration: unknown }>(
    target,
    "target",
    "select configuration from public.sync_jobs where enabled and cron_expression is not null",
  );
  return rows.map((row) => row.configuration);
}

export async function setNextExecution(target: Queryable, jobId: string, at: Date | null): Promise<void> {
  await query(target, "target", "update public.sync_jobs set next_execution_at = $2::text::timestamptz where id = $1", [
    jobId,
    at?.toISOString() ?? null,
  ]);
}

export async function failJob(target: Queryable, jobId: string, at: Date | null): Promise<void> {
  await query(
    target,
    "target",
    "update public.sync_jobs set status = 'failed', next_execution_at = $2::text::timestamptz where id = $1",
    [jobId, at?.toISOString() ?? null],
  );
}

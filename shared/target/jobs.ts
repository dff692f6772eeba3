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
  /** Tries in vain since it last began an execution. */
  readonly attempts: number;
  /** How many of these, the last ones, ended with an error which nobody has expected. */
  readonly defects: number;
  /** A tick has held it for all of that while, and come to no end with it. */
  readonly killed: boolean;
}

/**
 * Enabled jobs that are due or have no next time yet, held for a while so that only one tick starts them. One that
 * has failed without a next time is left alone until somebody changes it. One without an expression is on demand: due
 * when somebody says when.
 */
export async function takeDueJobs(target: Queryable, now: Date, holdSeconds: number): Promise<DueJob[]> {
  return query<DueJob>(
    target,
    "target",
    `update public.sync_jobs j
        set next_execution_at = $1::text::timestamptz + make_interval(secs => $2), taken_at = $1::text::timestamptz
       from (select id, next_execution_at, coalesce(taken_at <= $1::text::timestamptz - make_interval(secs => $2), false) as killed from public.sync_jobs
              where enabled and control is null
                and (cron_expression is not null and next_execution_at is null and last_error is null or next_execution_at <= $1::text::timestamptz)
              for update skip locked) due
      where due.id = j.id
     returning j.id, j.name, j.cron_expression, j.time_zone, j.configuration, j.attempts,
               case when j.last_error ->> 'code' = 'INTERNAL' then j.attempts else 0 end as defects, due.next_execution_at::text, due.killed`,
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
  await query(
    target,
    "target",
    "update public.sync_jobs set next_execution_at = $2::text::timestamptz, taken_at = null where id = $1",
    [jobId, at?.toISOString() ?? null],
  );
}

/** The job could not begin for a reason that passes: it keeps the reason, and is tried again at that time. */
export async function putOffJob(target: Queryable, jobId: string, error: object, at: Date): Promise<void> {
  await query(target, "target", "select sync.put_off_job($1, $2::text::jsonb, $3::text::timestamptz)", [
    jobId,
    JSON.stringify(error),
    at.toISOString(),
  ]);
}

/** The job cannot begin until somebody does something: it keeps the reason, and an alert tells it. Null: no next time either. */
export async function failJob(target: Queryable, jobId: string, error: object, at: Date | null): Promise<void> {
  await query(target, "target", "select sync.fail_job($1, $2::text::jsonb, $3::text::timestamptz)", [
    jobId,
    JSON.stringify(error),
    at?.toISOString() ?? null,
  ]);
}

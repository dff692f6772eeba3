import { z } from "zod";
import { query } from "../shared/db/query.ts";
import { ERRORS, type ErrorCode } from "../shared/errors.ts";
import { onTarget } from "./on-target.ts";
import { formatTable } from "./output.ts";
import type { Environment } from "./settings.ts";

const failure = z.looseObject({ code: z.string(), message: z.string().optional(), remedy: z.string().optional() });
const job = z.object({
  name: z.string(),
  enabled: z.boolean(),
  paused: z.boolean(),
  status: z.string(),
  attempts: z.number(),
  lastBegun: z.string().nullable(),
  next: z.string().nullable(),
  execution: z.string().nullable(),
  errors: z.array(failure),
});
export type Job = z.output<typeof job>;

/** What runs when, and why a job could not begin or its last execution failed; read over TARGET_DB_URL. */
export async function readJobs(env: Environment): Promise<readonly Job[]> {
  const rows = await onTarget(env, (target) =>
    query(
      target,
      "target",
      `select name, enabled, coalesce(control = 'pause', false) as paused, status::text as status, attempts,
              to_char(last_execution_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI"Z"') as "lastBegun",
              to_char(next_execution_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI"Z"') as next,
              last_error ->> 'execution' as execution,
              case when last_error ? 'code' then jsonb_build_array(last_error)
                   when last_error is not null then coalesce(nullif(last_error -> 'errors', 'null'), '[]') else '[]' end as errors
         from public.sync_jobs order by name`,
    ),
  );
  return z.array(job).parse(rows);
}

/** The jobs as a table, and below it what keeps those that failed or are tried again, with what to do. */
export function showJobs(jobs: readonly Job[], clock: (iso: string) => string): string {
  if (jobs.length === 0) return "There are no jobs.\n";
  const rows = jobs.map((one) => [
    one.name,
    one.paused ? "paused" : one.enabled ? one.status : "off",
    one.lastBegun === null ? "-" : clock(one.lastBegun),
    one.next === null ? "-" : clock(one.next),
    one.attempts,
  ]);
  const reasons = jobs.flatMap((one) => one.errors.map((error) => showReason(one, error)));
  return [formatTable(["job", "status", "last begun", "next", "tries in vain"], rows), ...reasons].join("");
}

/** Whether a job that is to run has failed or left entities out: a scheduler of one's own wants to know. */
export function anyFailed(jobs: readonly Job[]): boolean {
  return jobs.some(({ enabled, status }) => enabled && (status === "failed" || status === "incomplete"));
}

function showReason({ name, execution }: Job, { code, message, remedy }: z.output<typeof failure>): string {
  const known = code in ERRORS ? ERRORS[code as ErrorCode] : undefined;
  const where = execution === null ? "" : ` (execution ${execution})`;
  return `\n${name}${where}: ${code}: ${message ?? known?.meaning ?? "It failed."}\n  What to do: ${remedy ?? known?.remedy ?? "See docs/errors.md."}\n`;
}

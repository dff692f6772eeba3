import { Cron } from "croner";
import { describeError, describeIssues, IsthmusError, type DescribedError } from "../errors.ts";
import { CATEGORIES, categoryOf } from "../recovery.ts";
import type { Context } from "../context.ts";
import { failJob, putOffJob, setNextExecution, takeDueJobs, type DueJob } from "../target/jobs.ts";
import { selectiveSync, type SelectiveSyncConfig } from "../plan/selective-sync.ts";
import { start } from "../plan/start.ts";

/** A job taken by a tick that dies is due again after this long. */
const HOLD_SECONDS = 300;
/** Pauses before the first, second, ... further try of a job that could not begin for a passing reason; the last one goes on. */
const PAUSE_MINUTES = [1, 2, 5, 10, 30] as const;

/** So often a job is tried that ends with an error which nobody has expected. */
const DEFECT_TRIES = 5;

/**
 * Starts every job that is due. One that cannot begin keeps the reason in sync_jobs, and holds up no other.
 * @param refusal why the source refuses: then no job asks it.
 */
export async function startDueJobs(context: Context, refusal: DescribedError | null = null): Promise<string[]> {
  const now = new Date(context.clock());
  const started: string[] = [];
  for (const job of await takeDueJobs(context.target, now, HOLD_SECONDS)) {
    try {
      // What has killed one tick may kill each: it is tried again, after pauses that grow, and told.
      if (job.killed) throw new IsthmusError("TICK_KILLED");
      const next = nextTime(job, now);
      if (job.next_execution_at !== null) {
        if (refusal !== null) {
          await keepReason(context, job, now, refusal);
          continue;
        }
        const begun = await start(context, { ...requestOf(context, job), triggeredBy: `job:${job.name}`, jobId: job.id });
        started.push(begun.execution);
      }
      await setNextExecution(context.target, job.id, next);
    } catch (error) {
      await keepReason(context, job, now, describeError(error));
    }
  }
  return started;
}

/** The next time of a job after `now`. @throws IsthmusError REQUEST_INVALID when the expression or zone is not valid, or never comes. */
export function nextTime(job: Pick<DueJob, "cron_expression" | "time_zone">, now: Date): Date | null {
  if (job.cron_expression === null) return null;
  let next: Date | null;
  try {
    next = new Cron(job.cron_expression, { timezone: job.time_zone, paused: true }).nextRun(now);
  } catch (error) {
    throw new IsthmusError("REQUEST_INVALID", "The job's cron_expression or time_zone is not valid.", { cause: error });
  }
  if (next === null) throw new IsthmusError("REQUEST_INVALID", "The job's cron_expression names a time that never comes.");
  return next;
}

/** When a job that could not begin is tried again: after a pause that grows, and at its next time at the latest. */
export function nextTry(attempts: number, now: Date, next: Date | null): Date {
  const minutes = PAUSE_MINUTES[Math.min(attempts, PAUSE_MINUTES.length - 1)] ?? PAUSE_MINUTES[0];
  const again = now.getTime() + minutes * 60_000;
  return new Date(next === null ? again : Math.min(again, next.getTime()));
}

async function keepReason(context: Context, job: DueJob, now: Date, described: DescribedError): Promise<void> {
  // A defect that stays is not tried for ever: the job has failed until its next time.
  const defect = described.code === "INTERNAL" && (job.defects + 1) % DEFECT_TRIES === 0;
  const category = categoryOf(described);
  const passing = (CATEGORIES[category].retried && !defect) || category === "turn";
  context.log.error("job.not_started", { job: job.name, again: passing, ...described });
  const next = nextTimeOrNull(job, now);
  if (passing) await putOffJob(context.target, job.id, described, nextTry(job.attempts, now, next));
  else await failJob(context.target, job.id, described, next);
}

function nextTimeOrNull(job: DueJob, now: Date): Date | null {
  try {
    return nextTime(job, now);
  } catch {
    return null;
  }
}

function requestOf({ entities, columns }: Context, job: DueJob): SelectiveSyncConfig {
  const parsed = selectiveSync(entities, columns.source).safeParse(job.configuration);
  if (parsed.success) return parsed.data;
  throw new IsthmusError("REQUEST_INVALID", `The job's configuration is not valid. ${describeIssues(parsed.error.issues)}`);
}

import { Cron } from "croner";
import { describeError, describeIssues, ERRORS, IsthmusError } from "../errors.ts";
import type { Context } from "../pipeline/types.ts";
import { sendPages } from "../queue/send-pages.ts";
import { failJob, setNextExecution, takeDueJobs, type DueJob } from "../sql/jobs.ts";
import { beginExecution, beginSource, checkpoints } from "../sql/plan.ts";
import { advanceExecutions, entitiesWithPendingKeys, releaseWaiting, tendQueue } from "../sql/release.ts";
import { forgetClosedPlans } from "../sql/planned-records.ts";
import { overduePages, tellRefusedSends } from "../sql/sending.ts";
import { sourcePosition } from "../sql/source-position.ts";
import { holdsWhatWasRead } from "./choose-capture.ts";
import { keepContract } from "./contract/keep-contract.ts";
import { brakeOf } from "./plan.ts";
import { FORGET_ROWS } from "./report-plan.ts";
import { selectiveSync, type SelectiveSyncConfig } from "./selective-sync.ts";
import { start } from "./start.ts";

/** A job taken by a tick that dies is due again after this long. */
const HOLD_SECONDS = 300;
/** A job that could not start for a passing reason is tried again after this long. */
const RETRY_SECONDS = 60;
/** Pages that one tick sends again at most; the rest follows with the next tick. */
const SWEEP_LIMIT = 200;

export interface TickReport {
  readonly started: readonly string[];
  readonly resent: number;
  readonly released: readonly string[];
}

/** Once a minute: start due jobs, send overdue pages again, read released records again. Every part survives the failure of another. */
export async function tick(context: Context): Promise<TickReport> {
  const resent = await guarded(context, "sweep", () => sweep(context), 0);
  const started = await guarded(context, "jobs", () => startDueJobs(context), []);
  await guarded(context, "queue", () => tend(context), undefined);
  const released = await guarded(context, "release", () => release(context), []);
  await guarded(context, "forget", () => forgetClosedPlans(context.target, FORGET_ROWS), undefined);
  return { started, resent, released };
}

/** The next time of a job after `now`. @throws IsthmusError REQUEST_INVALID when the expression or zone is not valid. */
export function nextTime(job: Pick<DueJob, "cron_expression" | "time_zone">, now: Date): Date | null {
  if (job.cron_expression === null) return null;
  try {
    return new Cron(job.cron_expression, { timezone: job.time_zone, paused: true }).nextRun(now);
  } catch (error) {
    throw new IsthmusError("REQUEST_INVALID", "The job's cron_expression or time_zone is not valid.", { cause: error });
  }
}

function requestOf({ entities }: Context, job: DueJob): SelectiveSyncConfig {
  const parsed = selectiveSync(entities).safeParse(job.configuration);
  if (parsed.success) return parsed.data;
  throw new IsthmusError("REQUEST_INVALID", `The job's configuration is not valid. ${describeIssues(parsed.error.issues)}`);
}

async function sweep(context: Context): Promise<number> {
  const sourceId = await beginSource(context.target, context.config.SOURCE_NAME);
  await advanceExecutions(context.target, sourceId);
  const sent = await sendPages(context, await overduePages(context.target, SWEEP_LIMIT));
  await tellRefusedSends(context.target, sourceId);
  return sent;
}

async function startDueJobs(context: Context): Promise<string[]> {
  const now = new Date(context.clock());
  const started: string[] = [];
  for (const job of await takeDueJobs(context.target, now, HOLD_SECONDS)) {
    try {
      const next = nextTime(job, now);
      if (job.next_execution_at !== null) {
        const begun = await start(context, { ...requestOf(context, job), triggeredBy: `job:${job.name}`, jobId: job.id });
        started.push(begun.execution);
      }
      await setNextExecution(context.target, job.id, next);
    } catch (error) {
      const described = describeError(error);
      const again = ERRORS[described.code].retryable || described.code === "EXECUTION_ACTIVE";
      context.log.error("job.not_started", { job: job.name, again, ...described });
      if (again) await setNextExecution(context.target, job.id, new Date(now.getTime() + RETRY_SECONDS * 1_000));
      else await failJob(context.target, job.id, nextTimeOrNull(job, now));
    }
  }
  return started;
}

function nextTimeOrNull(job: DueJob, now: Date): Date | null {
  try {
    return nextTime(job, now);
  } catch {
    return null;
  }
}

async function tend({ target, config }: Context): Promise<void> {
  await tendQueue(target, await beginSource(target, config.SOURCE_NAME), config.ISTHMUS_QUEUE_AGE_HOURS);
}

/** Waiting records whose parents have landed since, outside of any running execution. */
async function release(context: Context): Promise<string[]> {
  const { target, source, config } = context;
  const sourceId = await beginSource(target, config.SOURCE_NAME);
  await releaseWaiting(target, sourceId);
  const pending = (await entitiesWithPendingKeys(target, sourceId)).flatMap((name) => context.entities.get(name) ?? []);
  if (pending.length === 0) return [];
  const { runnable } = await keepContract(context, sourceId, pending, "sync", "keys");
  const position = await sourcePosition(source);
  const known = new Map((await checkpoints(target, sourceId)).map((checkpoint) => [checkpoint.entity, checkpoint]));
  // Another source, or an older state of it, is for an execution that reads everything.
  const entities = runnable.map((entity) => entity.name).filter((name) => holdsWhatWasRead(known.get(name), position));
  if (entities.length === 0) return [];
  const begun = await beginExecution(target, position, {
    kind: "release",
    source_id: sourceId,
    job_id: null,
    triggered_by: "release",
    request: { entities, page_size: config.ISTHMUS_PAGE_SIZE },
    entities,
    page_size: config.ISTHMUS_PAGE_SIZE,
    chains: [],
    idle: [],
    brake: brakeOf(config),
  });
  await sendPages(context, begun.dispatch);
  return entities;
}

async function guarded<T>(context: Context, part: string, work: () => Promise<T>, otherwise: T): Promise<T> {
  try {
    return await work();
  } catch (error) {
    context.log.error("tick.failed", { part, ...describeError(error) });
    return otherwise;
  }
}

import { describeError } from "../errors.ts";
import type { Context } from "../context.ts";
import { sendPages, SWEEP_LIMIT } from "../queue/send-pages.ts";
import { carryOut, tellPaused } from "../target/control.ts";
import { stopStalled } from "../target/ends.ts";
import { beginSource } from "../target/plan.ts";
import { advanceExecutions, maintainQueue } from "../target/release.ts";
import { forgetClosedPlans } from "../target/planned-records.ts";
import { overduePages, tellRefusedSends, tellRetriedPages, tellUnrunPages } from "../target/sending.ts";
import { beginTick, endTick, undelivered } from "../target/ticks.ts";
import { isAtHome } from "../contract/identities.ts";
import { startRelease } from "../plan/start-release.ts";
import { FORGET_ROWS } from "../page/report-plan.ts";
import { startDueJobs } from "./start-jobs.ts";
import { watchDeadLetters, watchRefusals } from "./watch-deliveries.ts";
import { lookAtSource } from "./watch-databases.ts";
import { watchWork } from "./watch-work.ts";

/** So long the answer of a tick waits for whether it begins; pg_net waits for 10 seconds, and with it the other calls of its batch. */
const ANSWER_MS = 5_000;

/** The functions and the database do not fit: a tick can do nothing until a person has upgraded one of them. */
const MISFITS: readonly string[] = ["SCHEMA_OUTDATED", "SCHEMA_AHEAD", "TRIGGERS_OFF"];

/** What the call is answered at once, and the watch over the ticks reads in the target itself. */
const TOLD: readonly string[] = ["TARGET_UNAVAILABLE", ...MISFITS];

export interface TickReport {
  readonly started: readonly string[];
  readonly resent: number;
  /** Executions of which pages were stopped because they made no progress. */
  readonly stopped: readonly string[];
  readonly released: readonly string[];
}

/**
 * Once a minute: stop what makes no progress, start due jobs, send overdue pages again, read released records again.
 * Every part survives the failure of another.
 * @param begins what admitTick() has begun.
 * @param call the call of the target's own schedule that this answers, null: another's. Only what is written at the
 * end proves there that ticks work.
 */
export async function tick(
  context: Context,
  call: string | null = null,
  begins: Promise<boolean> = admitTick(context),
): Promise<TickReport> {
  // At a target that is a copy, or another installation's, not one message is sent before a person has accepted that.
  // Of a target that does not answer each part would wait as long as the first; of one that has another version each
  // would be refused.
  const failed: string[] = [];
  const goesOn = (error: unknown) => {
    const { code } = describeError(error);
    failed.push(`identity: ${code}`);
    return !TOLD.includes(code);
  };
  if (!(await guarded(context, "identity", () => begins, goesOn))) return { started: [], resent: 0, stopped: [], released: [] };
  const idle: string[] = [];
  const part = <T>(name: string, work: () => Promise<T>, otherwise: T) =>
    guarded(context, name, work, (error) => {
      failed.push(`${name}: ${describeError(error).code}`);
      return otherwise;
    });
  const begun = await part("begin", () => beginTick(context.target, call), null);
  // Before all that asks the source, since of one that says nothing each would wait as long as the first; and before
  // what has waited for it too long is ended: where it answers again, that goes on. A look that fails is no answer:
  // nothing begins behind one, and what is due keeps its error as the reason.
  const refusal = await guarded(
    context,
    "source",
    () => asSource(context, lookAtSource),
    (error) => {
      failed.push(`source: ${describeError(error).code}`);
      return describeError(error);
    },
  );
  const stopped = await part("ends", () => endWhatEnds(context), []);
  const resent = await part("sweep", () => sweep(context), 0);
  const started = await part("jobs", () => startDueJobs(context, refusal), []);
  await part("queue", () => maintain(context), undefined);
  const released = refusal === null ? await part("release", () => startRelease(context), []) : [];
  // These ask QStash every few minutes: a tick in which they do not is no success of theirs.
  if (!(await part("refusals", () => asSource(context, watchRefusals), true))) idle.push("refusals");
  if (!(await part("deliveries", () => asSource(context, watchDeadLetters), true))) idle.push("deliveries");
  await part("work", () => asSource(context, watchWork), undefined);
  await part("forget", () => forgetClosedPlans(context.target, FORGET_ROWS), undefined);
  await part("alerts", () => tellUndelivered(context), undefined);
  if (begun !== null) await guarded(context, "end", () => endTick(context.target, begun, failed, idle), undefined);
  return { started, resent, stopped, released };
}

/** Whether a tick may work at this target. @throws IsthmusError where the target does not answer, or does not fit the functions. */
export async function admitTick(context: Context): Promise<boolean> {
  return isAtHome(context, await beginSource(context.target, context.config.SOURCE_NAME));
}

/**
 * Waits until a tick has begun, 5 seconds at most.
 * @throws IsthmusError SCHEMA_OUTDATED, SCHEMA_AHEAD, TRIGGERS_OFF, TARGET_UNAVAILABLE: who called is told, and the
 * watch over the ticks reads the answer in the target itself.
 */
export async function untilBegun(begins: Promise<boolean>): Promise<void> {
  let late: ReturnType<typeof setTimeout> | undefined;
  const tooLate = new Promise<void>((enough) => (late = setTimeout(enough, ANSWER_MS)));
  const begun = begins.then(
    () => undefined,
    (error: unknown) => {
      if (TOLD.includes(describeError(error).code)) throw error;
    },
  );
  try {
    await Promise.race([begun, tooLate]);
  } finally {
    clearTimeout(late);
  }
}

/** What people have said is carried out: what was cancelled is closed, what is to be retried is opened; and what makes no progress is stopped, before anything is sent again. */
async function endWhatEnds({ target, config }: Context): Promise<string[]> {
  // What makes no progress ends whatever becomes of people's words.
  const said = await carryOut(target).catch((error: unknown) => ({ error }));
  const stopped = await stopStalled(target, config.ISTHMUS_PAGE_TRIES, config.ISTHMUS_STALLED_MINUTES);
  if (said !== undefined) throw said.error;
  return stopped;
}

async function sweep(context: Context): Promise<number> {
  const sourceId = await beginSource(context.target, context.config.SOURCE_NAME);
  await advanceExecutions(context.target, sourceId);
  const sent = await sendPages(context, await overduePages(context.target, SWEEP_LIMIT));
  await tellRefusedSends(context.target, sourceId);
  await tellUnrunPages(context.target, sourceId);
  await tellRetriedPages(context.target, sourceId, context.config.ISTHMUS_PAGE_TRIES);
  await tellPaused(context.target, sourceId, context.config.ISTHMUS_PAUSED_HOURS);
  return sent;
}

async function maintain({ target, config }: Context): Promise<void> {
  await maintainQueue(target, await beginSource(target, config.SOURCE_NAME), config.ISTHMUS_QUEUE_AGE_HOURS);
}

async function asSource<T>(context: Context, look: (context: Context, sourceId: number) => Promise<T>): Promise<T> {
  return look(context, await beginSource(context.target, context.config.SOURCE_NAME));
}

/** Whoever is not told by a message may read the log of sync-tick. */
async function tellUndelivered({ target, log }: Context): Promise<void> {
  const message = await undelivered(target);
  if (message !== null) log.error("alerts.undelivered", { message });
}

async function guarded<T>(
  context: Context,
  part: string,
  work: () => Promise<T>,
  otherwise: T | ((error: unknown) => T),
): Promise<T> {
  try {
    return await work();
  } catch (error) {
    context.log.error("tick.failed", { part, ...describeError(error) });
    return otherwise instanceof Function ? otherwise(error) : otherwise;
  }
}

import { Cron } from "croner";
import type { Context } from "../context.ts";
import { tellWork, workAt, type Told, type WatchedJob, type Work } from "../target/work.ts";

const MINUTE = 60_000;
/** An entity that no job reads by itself is expected to be in step once a day, and two hours. */
const UNSCHEDULED_LAG_MINUTES = 26 * 60;
/** The work of a job takes a while. */
const GRACE_MINUTES = 60;
/** Nobody is called at night because of a lag that a long execution explains. */
const CRITICAL_LAG_MINUTES = 26 * 60;
const WINDOW_MINUTES = 60;
/** So many times what it usually takes. */
const WINDOW_FACTOR = 3;

/** Tells of entities that have not been in step, and of jobs that have worked, for longer than they should. */
export async function watchWork({ target, clock, entities }: Context, sourceId: number): Promise<void> {
  const work = await workAt(target, sourceId);
  const now = clock();
  const known = { ...work, entities: work.entities.filter(({ entity }) => entities.has(entity)) };
  await tellWork(target, sourceId, lagOf(known, now), lateJobs(work, now));
}

/**
 * Which entities have not been in step for longer than the jobs promise that read them: each time of such a job, but
 * for one that fails, and an hour for its work, or what its alarms say. Null: none, or nothing has been set up to run
 * by itself yet.
 */
export function lagOf({ jobs, entities }: Pick<Work, "jobs" | "entities">, now: number): Told | null {
  if (!jobs.some(({ enabled, worked }) => enabled || worked)) return null;
  const promises = jobs.flatMap((job) => (keepsInStep(job) ? [{ names: namesOf(job), minutes: promisedMinutes(job, now) }] : []));
  const lags = entities.flatMap(({ entity, since }) => {
    const promised = promises.flatMap(({ names, minutes }) => (names === null || names.includes(entity) ? [minutes] : []));
    const allowed = promised.length === 0 ? UNSCHEDULED_LAG_MINUTES : Math.min(...promised);
    const minutes = Math.floor((now - Date.parse(since)) / MINUTE);
    return minutes > allowed ? [{ entity, since, minutes, allowed, scheduled: promised.length > 0 }] : [];
  });
  const [oldest] = lags.toSorted((a, b) => b.minutes - a.minutes);
  if (oldest === undefined) return null;
  const unscheduled = lags.filter(({ scheduled }) => !scheduled).length;
  return {
    severity: lags.some(({ minutes, allowed }) => minutes > 2 * Math.max(allowed, CRITICAL_LAG_MINUTES)) ? "critical" : "warning",
    message: [
      `${counted(lags.length, "entity has", "entities have")} not been in step for longer than expected; the oldest, ${oldest.entity}, since ${shownTime(oldest.since)}.`,
      ...(unscheduled > 0 ? [`Of these ${unscheduled} ${unscheduled === 1 ? "is" : "are"} read by no enabled job.`] : []),
    ].join(" "),
    details: Object.fromEntries(lags.map(({ entity, since, allowed }) => [entity, { since, expected_minutes: allowed }])),
  };
}

/** Which executions of jobs run for longer than their window: an hour, or three times what the job usually takes, or what its alarms say. */
export function lateJobs({ running }: Pick<Work, "running">, now: number): (Told & { job: string; execution: string })[] {
  return running.flatMap(({ execution, job, alarms, since, usualSeconds }) => {
    const usual = usualSeconds === null ? null : Math.round(usualSeconds / 60);
    const window = alarms.window_minutes ?? Math.max(WINDOW_MINUTES, WINDOW_FACTOR * (usual ?? 0));
    const minutes = Math.floor((now - Date.parse(since)) / MINUTE);
    if (minutes <= window) return [];
    return [
      {
        job,
        execution,
        severity: minutes > 2 * window ? "critical" : "warning",
        message: `The job ${job} has worked for ${minutes} minutes; its window is ${window}${usual === null ? "" : `, and it usually takes ${usual}`}. npm run sync -- status ${execution} shows how far it has come.`,
        details: { since, window_minutes: window, usual_minutes: usual },
      } as const,
    ];
  });
}

/** Whether a job reads what has changed, and not only certain records, a plan, or ids. */
function keepsInStep({ enabled, configuration }: WatchedJob): boolean {
  const asked = (configuration ?? {}) as Readonly<Record<string, unknown>>;
  return enabled && ["legacyIds", "filters", "dateRange", "dryRun", "adopt"].every((name) => !asked[name]);
}

/** The entities of a job; null: all. */
function namesOf({ configuration }: WatchedJob): readonly unknown[] | null {
  const { entities } = (configuration ?? {}) as { readonly entities?: unknown };
  return Array.isArray(entities) ? (entities as unknown[]) : null;
}

/** How long ago an entity of the job may have been in step: as of the time before the latest one, as that one may have failed, and later by the grace. */
function promisedMinutes({ cron_expression, time_zone, alarms }: WatchedJob, now: number): number {
  if (alarms.lag_minutes !== undefined) return alarms.lag_minutes;
  try {
    const past = new Cron(cron_expression ?? "", { timezone: time_zone, paused: true }).previousRuns(3, new Date(now));
    const [latest, before, earlier] = past.map((time) => (now - time.getTime()) / MINUTE);
    // A time that never comes, or has come too seldom, promises nothing.
    if (latest === undefined || before === undefined || earlier === undefined) return UNSCHEDULED_LAG_MINUTES;
    return Math.ceil(Math.max(GRACE_MINUTES, latest > GRACE_MINUTES ? before : earlier));
  } catch {
    // That its expression is not valid is told of the job.
    return UNSCHEDULED_LAG_MINUTES;
  }
}

function counted(n: number, one: string, many: string): string {
  return `${n} ${n === 1 ? one : many}`;
}

function shownTime(text: string): string {
  return `${new Date(text).toISOString().slice(0, 16).replace("T", " ")} UTC`;
}

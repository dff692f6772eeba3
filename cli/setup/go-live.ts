import { createSchedule } from "../schedule.ts";
import { Problem } from "../problem.ts";
import { checkFromInside } from "./ask-functions.ts";
import type { Setup } from "./context.ts";
import { DELIVER, scheduler, startTicks, tickJobs, TICK, WATCH } from "./schedule-ticks.ts";
import type { Step } from "./step.ts";

/** pg_cron fires each minute; the call, its answer and its work come after that. */
const FIRST_TICK_MS = 150_000;
const PAUSE_MS = 1_000;

/** Nothing that a person has to look at is left, as the functions see it. */
const ready: Step<Setup> = {
  title: "check from inside",
  async look(setup) {
    const { ok, findings, error } = await checkFromInside(setup);
    if (ok) return { state: "done", text: "nothing stops an execution" };
    const fatal = (findings ?? []).filter(({ severity }) => severity === "fatal").length;
    throw new Problem(
      "NOT_READY",
      error === null ? `${fatal} findings would stop entities.` : `${error.code}: ${error.message}`,
      "npm run sync -- check names each with what to do; then run this again. Nothing was begun.",
    );
  },
};

const ticks: Step<Setup> = {
  title: "schedule",
  async look(setup) {
    if ((await scheduler(setup)) === "qstash")
      return { state: began.has(setup) ? "done" : "due", text: "QStash calls sync-tick every minute" };
    const jobs = await tickJobs(setup);
    return {
      state: [TICK, WATCH, DELIVER].every((name) => jobs.get(name) === true) ? "done" : "due",
      text: "pg_cron calls sync-tick every minute",
    };
  },
  async act(setup) {
    if ((await scheduler(setup)) === "pg_cron") await startTicks(setup);
    else await createSchedule(setup.env());
    began.add(setup);
  },
};
/** What QStash schedules is not asked back: creating a schedule again overwrites it. */
const began = new WeakSet<Setup>();

const firstTick: Step<Setup> = {
  title: "first tick",
  async look(setup) {
    return (await hasTicked(setup, "now() - interval '5 minutes'"))
      ? { state: "done", text: "the schedule has called sync-tick, and the tick has done its work" }
      : { state: "due", text: "wait for it, two minutes at most" };
  },
  act: (setup) => nextTick(setup),
};

const daily: Step<Setup> = {
  title: "job daily",
  async look({ owner }) {
    const [row] = await owner<{ enabled: boolean; at: string }[]>`
      select enabled, cron_expression || ' ' || time_zone as at from public.sync_jobs where name = 'daily'`;
    if (!row) return { state: "done", text: "there is none any more; sync_jobs says what runs when" };
    return { state: row.enabled ? "done" : "due", text: `runs at ${row.at} (sync_jobs)` };
  },
  async act({ owner }) {
    await owner`update public.sync_jobs set enabled = true, next_execution_at = null where name = 'daily'`;
  },
};

/** What ends the installation: from here on the sync runs by itself. */
export const GO_LIVE: readonly Step<Setup>[] = [ready, ticks, firstTick, daily];

/** Whether a tick that the schedule has called since then has done its work. A call by hand proves nothing of the schedule. */
async function hasTicked(setup: Setup, since: string): Promise<boolean> {
  const called = (await scheduler(setup)) === "pg_cron";
  const [row] = await setup.owner.unsafe<{ worked: boolean }[]>(
    `select exists (select from public.sync_ticks where ended_at is not null and created_at > ${since} and (request_id is not null or not ${called})) as worked`,
  );
  return row?.worked === true;
}

/** Waits until the schedule has called a tick from now on, and the tick has done its work. @throws Problem with what the database knows of those that have not. */
export async function nextTick(setup: Setup): Promise<void> {
  const { owner } = setup;
  // The target's clock: this machine's may be minutes away.
  const [now] = await owner<{ at: string }[]>`select quote_literal(clock_timestamp()) || '::timestamptz' as at`;
  for (const until = Date.now() + FIRST_TICK_MS; Date.now() < until;) {
    if (await hasTicked(setup, now?.at ?? "now()")) return;
    await new Promise((later) => setTimeout(later, PAUSE_MS));
  }
  const [last] = await owner<{ said: string | null }[]>`
    select message as said from public.sync_alerts where kind like 'tick_%' and closed_at is null order by last_seen_at desc limit 1`;
  throw new Problem(
    "TICK_MISSING",
    `No tick has done its work within ${FIRST_TICK_MS / 1_000} s.${last?.said ? ` ${last.said}` : ""}`,
    "Look at sync_ticks, sync_alerts and the job's history on the Cron page (docs/runbook.md).",
  );
}

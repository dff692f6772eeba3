import { describe, expect, it } from "vitest";
import { connect } from "../shared/db/connect.ts";
import { startDueJobs } from "../shared/tick/start-jobs.ts";
import { tick } from "../shared/tick/tick.ts";
import type { Context } from "../shared/context.ts";
import type { PageOutcome } from "../shared/page/page-outcome.ts";
import { createPipeline, type Pipeline } from "./support/pipeline.ts";
import { createRefusingPooler } from "./support/refusing-pooler.ts";

const NOON = Date.UTC(2027, 0, 5, 12);
const MINUTE = 60_000;

async function addJob(test: Pipeline, cron: string, configuration: object = { entities: ["offices"] }): Promise<void> {
  await test.target.admin`delete from public.sync_jobs`;
  await test.target.admin`
    insert into public.sync_jobs (name, schedule_type, cron_expression, next_execution_at, configuration)
    values ('daily', 'daily', ${cron}, ${new Date(NOON).toISOString()}, ${test.target.admin.json(configuration as never)})`;
}

async function job(test: Pipeline) {
  const [row] = await test.target.admin<
    { status: string; attempts: number; next: Date | null; code: string | null; reason: string | null; remedy: string | null }[]
  >`select status, attempts, next_execution_at as next, last_error ->> 'code' as code, last_error ->> 'reason' as reason,
           last_error ->> 'remedy' as remedy from public.sync_jobs where name = 'daily'`;
  if (!row) throw new Error("no job");
  return { ...row };
}

async function alerts(test: Pipeline) {
  return [
    ...(await test.target.admin<{ open: boolean; jobs: string[]; occurrences: number }[]>`
      select closed_at is null as open, array(select jsonb_object_keys(details)) as jobs, occurrences from public.sync_alerts where kind = 'job_failed'`),
  ];
}

const through = (port: number) =>
  connect({
    side: "source",
    url: `postgres://isthmus_reader:local-reader@127.0.0.1:${port}/source`,
    tls: "disable",
    poolSize: 1,
    idleTimeoutSeconds: 5,
    connectTimeoutSeconds: 5,
    applicationName: "isthmus",
  });

it("a pooler that refuses never ends a job for a day: it is tried again after pauses that grow, and says why", async () => {
  await using test = await createPipeline();
  await test.seed.office(1);
  await addJob(test, "0 12 * * *");
  await using pooler = await createRefusingPooler({
    code: "XX000",
    message: "(ECHECKOUTTIMEOUT) unable to check out connection from the pool",
  });
  const source = through(pooler.port);
  let now = NOON;
  const behind: Context = { ...test.context, source, clock: () => now };
  const waited: number[] = [];
  for (const [code, reason] of [
    ["XX000", "pooler_refused"],
    ["28P01", "credentials_refused"],
    ["08P01", "pooler_refused"],
    ["3D000", "no_such_database"],
    ["53300", "too_many_connections"],
    ["57P03", "57P03"],
  ] as const) {
    pooler.says = { code, message: "refused" };
    expect(await startDueJobs(behind)).toEqual([]);
    const held = await job(test);
    expect(held).toMatchObject({ status: "pending", code: "SOURCE_UNAVAILABLE", reason, attempts: waited.length + 1 });
    waited.push(((held.next?.getTime() ?? 0) - now) / MINUTE);
    now = held.next?.getTime() ?? 0;
  }
  expect(waited).toEqual([1, 2, 5, 10, 30, 30]);
  await source.end({ timeout: 1 });
  expect(await alerts(test)).toEqual([]);

  expect(await startDueJobs({ ...test.context, clock: () => now })).toHaveLength(1);
  expect(await job(test)).toMatchObject({ status: "running", attempts: 0, code: null, next: new Date(NOON + 24 * 60 * MINUTE) });
  await test.drain();
  expect(await job(test)).toMatchObject({ status: "succeeded", code: null });
});

it("a job is tried again at its next time at the latest", async () => {
  await using test = await createPipeline();
  await addJob(test, "*/5 * * * *");
  await test.target.admin`update public.sync_jobs set attempts = 9`;
  await using pooler = await createRefusingPooler({ code: "XX000", message: "Max client connections reached" });
  const source = through(pooler.port);
  await startDueJobs({ ...test.context, source, clock: () => NOON });
  expect((await job(test)).next).toEqual(new Date(NOON + 5 * MINUTE));
  await source.end({ timeout: 1 });
});

it("a job that cannot begin until somebody does something fails, keeps why, is told once, and begins again when it is mended", async () => {
  await using test = await createPipeline();
  await test.seed.office(1);
  await addJob(test, "0 12 * * *", { entity: ["offices"] });
  const lines: string[] = [];
  const at = (now: number): Context => ({
    ...test.context,
    clock: () => now,
    log: { ...test.context.log, error: (event) => lines.push(event) },
  });
  await startDueJobs(at(NOON));
  expect(await job(test)).toMatchObject({ status: "failed", code: "REQUEST_INVALID", next: new Date(NOON + 24 * 60 * MINUTE) });
  expect(await alerts(test)).toEqual([{ open: true, jobs: ["daily"], occurrences: 1 }]);
  expect(lines).toEqual(["job.not_started"]);

  await test.target
    .admin`update public.sync_jobs set configuration = '{"entities": ["offices"]}', next_execution_at = ${new Date(NOON).toISOString()}`;
  expect(await job(test)).toMatchObject({ status: "pending", code: null, attempts: 0 });
  expect(await startDueJobs(at(NOON + MINUTE))).toHaveLength(1);
  expect(await alerts(test)).toEqual([{ open: false, jobs: ["daily"], occurrences: 1 }]);
});

it.each([
  ["whenever", "not valid"],
  ["0 0 30 2 *", "never comes"],
])("a job with the time %s is told once, not at every tick, until it is changed", async (cron) => {
  await using test = await createPipeline();
  await addJob(test, cron);
  const lines: string[] = [];
  const context: Context = {
    ...test.context,
    clock: () => NOON,
    log: { ...test.context.log, error: (event) => lines.push(event) },
  };
  for (let tick = 0; tick < 3; tick++) await startDueJobs(context);
  expect(lines).toEqual(["job.not_started"]);
  expect(await job(test)).toMatchObject({ status: "failed", code: "REQUEST_INVALID", next: null });
  await test.target.admin`update public.sync_jobs set cron_expression = '0 2 * * *'`;
  await startDueJobs(context);
  expect(await job(test)).toMatchObject({ status: "pending", code: null, next: new Date(NOON + 14 * 60 * MINUTE) });
});

describe("a job of which an entity was left out, and whose execution failed", () => {
  const TRIES = 3;

  /** The job's execution, of whose pages each fails as often as is tried, as `breaks` has it. */
  async function failed(test: Pipeline, breaks: (test: Pipeline) => Promise<Partial<Context> & AsyncDisposable>) {
    await test.seed.office(1);
    await test.source.admin`alter table dispatch_operation rename column card_brand to brand`;
    await addJob(test, "0 12 * * *", { entities: ["offices", "operations"] });
    expect(await startDueJobs({ ...test.context, clock: () => NOON })).toHaveLength(1);
    const [message] = test.queue.splice(0);
    if (!message) throw new Error("no page");
    await using broken = await breaks(test);
    const outcomes: PageOutcome[] = [];
    for (let tries = 0; tries < TRIES; tries++) outcomes.push(await test.run(message, { ...test.context, ...broken }));
    await tick(test.context);
    const [ended] = await test.target.admin<{ status: string; errors: string[]; passes: boolean | null; soon: boolean }[]>`
      select x.status, j.next_execution_at between now() + interval '29 minutes' and now() + interval '30 minutes' as soon,
             array(select one ->> 'code' from jsonb_array_elements(x.errors) one) as errors,
             (select (one -> 'passes')::boolean from jsonb_array_elements(x.errors) one where one ? 'passes') as passes
        from public.sync_jobs j join public.sync_executions x on x.id::text = j.last_error ->> 'execution' where j.name = 'daily'`;
    const { status, next } = await job(test);
    return { ...ended, status, next, outcomes: outcomes.map(({ outcome }) => outcome) };
  }
  const refused = async () => {
    const pooler = await createRefusingPooler({ code: "XX000", message: "Max client connections reached" });
    const source = through(pooler.port);
    const close = async () => {
      await source.end({ timeout: 1 });
      await pooler[Symbol.asyncDispose]();
    };
    return { source, [Symbol.asyncDispose]: close };
  };

  it("for nothing but what passes by itself is due again in half an hour: what was left out does not wait for less", async () => {
    await using test = await createPipeline({ env: { ISTHMUS_PAGE_TRIES: String(TRIES) } });
    const errors = ["PAGE_STALLED", "ENTITY_LEFT_OUT"];
    expect(await failed(test, refused)).toMatchObject({
      status: "failed",
      errors,
      passes: true,
      soon: true,
      outcomes: ["failed", "failed", "failed"],
    });
  });

  it("for something else waits for its next time", async () => {
    await using test = await createPipeline({ env: { ISTHMUS_PAGE_TRIES: String(TRIES) } });
    const renamed = async () => {
      await test.source.admin`alter table dispatch_office rename column city to town`;
      return { [Symbol.asyncDispose]: () => Promise.resolve() };
    };
    expect(await failed(test, renamed)).toMatchObject({
      status: "failed",
      soon: false,
      next: new Date(NOON + 24 * 60 * MINUTE),
      outcomes: ["failed", "closed", "closed"],
    });
  });
});

import { describe, expect, it } from "vitest";
import { startDueJobs } from "../shared/tick/start-jobs.ts";
import type { Pipeline } from "./support/pipeline.ts";
import { createStranger, ENTITY, type Stranger } from "./support/stranger.ts";

const TABLES: Stranger = { source: "old", target: "new", columns: { name: { type: "text" } } };

interface Told {
  readonly severity: string;
  readonly message: string;
  readonly execution_id: string;
  readonly details: { findings: { entity?: string; found: string; measure: string; value: number; runs: number }[] };
}

const told = async (test: Pipeline) => [
  ...(await test.target.admin<Told[]>`
    select severity, message, execution_id, details from public.sync_alerts where kind = 'unusual_run' and closed_at is null`),
];
const found = async (test: Pipeline) =>
  (await told(test)).flatMap(({ details }) =>
    details.findings.map((one) => `${one.entity ?? "all"}: ${one.found} ${one.measure}`),
  );
/** So many records that the source did not have before. */
async function added(test: Pipeline, records: number, name = "x"): Promise<void> {
  await test.source.admin`
    insert into public.old select coalesce((select max(id) from public.old), 0) + n, ${name} from generate_series(1, ${records}::integer) n`;
}
/** All that has run so far was so long ago. */
async function later(test: Pipeline, interval = "1 day"): Promise<void> {
  await test.target.admin`
    update public.sync_executions set started_at = started_at - ${interval}::interval, completed_at = completed_at - ${interval}::interval`;
}
/** A first load, and a run a day that reads so many new records each. */
async function daily(test: Pipeline, ...runs: number[]): Promise<void> {
  await added(test, 1);
  await test.sync();
  for (const records of runs) {
    await later(test);
    await added(test, records);
    await test.sync();
  }
  await later(test);
}
const days = (n: number, records: number) => Array.from({ length: n }, () => records);

describe("an execution that has come through", () => {
  it("and read nothing, where each of the last fourteen like it read something, is told at once, with the band, until one reads something", async () => {
    await using test = await createStranger(TABLES);
    await daily(test, ...days(13, 2));
    await test.sync();
    expect(await told(test)).toEqual([]);
    await test.target.admin`delete from public.sync_executions where started_at > now() - interval '1 hour'`;
    await added(test, 4);
    await test.sync();
    await later(test);
    expect(await told(test)).toEqual([]);
    // A plan, and what was asked for by its key, are no runs like these.
    await test.sync({ dryRun: true });
    await test.sync({ legacyIds: { [ENTITY]: ["1"] } });
    expect(await told(test)).toEqual([]);
    const { execution } = await test.sync();
    expect(await told(test)).toMatchObject([
      {
        severity: "critical",
        message:
          "An execution by http:test has come through, and is far from the last ones like it: things, records read: 0 (usually 2 to 2, median 2).",
        execution_id: execution,
        details: { findings: [{ entity: ENTITY, found: "nothing", value: 0, runs: 14 }] },
      },
    ]);
    // As long as nothing is read.
    for (let n = 0; n < 3; n++) {
      await later(test);
      await test.sync();
      expect(await told(test)).toHaveLength(1);
    }
    expect(await found(test)).toEqual(["things: nothing records read"]);
    await added(test, 1);
    await test.sync();
    expect(await told(test)).toEqual([]);
  });

  it("and read nothing a moment after another one had read what there was, or much after a long pause, is as usual", async () => {
    await using test = await createStranger(TABLES);
    await daily(test, ...days(14, 200));
    await added(test, 200);
    await test.sync();
    await test.target
      .admin`update public.sync_executions set triggered_by = 'job:other' where started_at > now() - interval '1 hour'`;
    await test.sync();
    expect(await told(test)).toEqual([]);
    await later(test, "4 days");
    await added(test, 1000);
    await test.sync();
    expect(await told(test)).toEqual([]);
    await later(test);
    await added(test, 1000);
    await test.sync();
    expect(await found(test)).toEqual(["things: more records read"]);
  });

  it("and cannot be weighed has come through all the same, and that is told", async () => {
    await using test = await createStranger(TABLES);
    await daily(test, 1);
    await test.target.admin`
      create or replace function sync.weigh_run(p_execution uuid, p_factor numeric, p_before timestamptz) returns jsonb language sql as
        $$ select to_jsonb(now() at time zone 'Nowhere/Nothing') $$`;
    expect(await test.sync()).toMatchObject({ execution: expect.any(String) as unknown });
    expect((await told(test)).map(({ message }) => message)).toEqual([
      "An execution by http:test has come through, and could not be weighed against the last ones like it (SQLSTATE 22023): look at time_zone and alarms of its job.",
    ]);
  });

  it("and read far more, or far less, than usual is a warning; one of fewer than seven like it is not weighed, nor one of the same day", async () => {
    await using test = await createStranger(TABLES);
    await daily(test, ...days(6, 300));
    for (let n = 0; n < 8; n++) await test.sync();
    await added(test, 2000);
    await test.sync();
    expect(await told(test)).toEqual([]);
    await later(test);
    await test.target.admin`delete from public.sync_executions where started_at > now() - interval '36 hours'`;
    await added(test, 310);
    await test.sync();
    await later(test);
    await added(test, 500);
    await test.sync();
    expect(await found(test)).toEqual([]);
    await later(test);
    await added(test, 50);
    await test.sync();
    expect(await found(test)).toEqual(["things: less records read"]);
    // What goes on like this is no usual run before a person says so.
    for (let n = 0; n < 3; n++) {
      await later(test);
      await added(test, 50);
      await test.sync();
      expect(await found(test)).toEqual(["things: less records read"]);
    }
    await later(test);
    await added(test, 1500);
    await test.sync();
    expect(await told(test)).toMatchObject([{ severity: "warning" }]);
    expect(await found(test)).toEqual(["things: more records read"]);
    // The next full pass reads all of it again, and is another look.
    await later(test);
    await test.sync({ capture: "full" });
    expect(await found(test)).toEqual(["things: more records read"]);
    await later(test);
    await added(test, 290);
    await test.sync();
    expect(await told(test)).toEqual([]);
  });

  it("and rejected far more of what it read than usual is told, until fewer are", async () => {
    await using test = await createStranger(TABLES);
    await test.target.admin`alter table public.new add constraint no_bad_name check (name <> 'bad')`;
    await daily(test, ...days(7, 40));
    await added(test, 20);
    await added(test, 20, "bad");
    await test.sync();
    expect(await found(test)).toEqual(["things: more share of rejects"]);
    expect((await told(test))[0]?.message).toContain("things, share of rejects: 50.0 % (usually 0.0 % to 0.0 %, median 0.0 %).");
    await later(test);
    await added(test, 40);
    await test.sync();
    expect(await told(test)).toEqual([]);
  });

  it("and took far longer than usual is told of its job; what the job says of its band counts, and its alert goes with its name", async () => {
    await using test = await createStranger(TABLES);
    await test.target.admin`delete from public.sync_jobs`;
    await test.target.admin`
      insert into public.sync_jobs (name, schedule_type, cron_expression, configuration) values ('a', 'daily', '0 12 * * *', '{}')`;
    const run = async (minutes: number) => {
      await later(test);
      await test.target.admin`update public.sync_jobs set next_execution_at = now() - interval '1 hour'`;
      const [execution = ""] = await startDueJobs({ ...test.context, clock: Date.now });
      await test.target
        .admin`update public.sync_executions set started_at = now() - ${`${minutes} minutes`}::interval where id = ${execution}`;
      await test.drain();
    };
    for (let n = 0; n < 8; n++) await run(1);
    expect(await told(test)).toEqual([]);
    await test.target.admin`update public.sync_jobs set alarms = '{"band_factor": 10}'`;
    await run(12);
    expect(await told(test)).toEqual([]);
    await test.target.admin`update public.sync_jobs set alarms = '{}'`;
    await run(12);
    expect(await found(test)).toEqual(["all: more seconds from begin to end"]);
    await test.target.admin`update public.sync_jobs set enabled = false`;
    expect(await told(test)).toHaveLength(1);
    await test.target.admin`update public.sync_jobs set name = 'b'`;
    expect(await told(test)).toEqual([]);
  });

  it("and is the last by its trigger leaves its alert until a day after somebody has acknowledged it", async () => {
    await using test = await createStranger(TABLES);
    await daily(test, ...days(14, 1));
    await test.sync();
    expect(await told(test)).toHaveLength(1);
    await test.target.admin`update public.sync_alerts set acknowledged_by = 'somebody'`;
    const tick = () => test.target.admin`select sync.end_tick(sync.begin_tick(null))`;
    await tick();
    expect(await told(test)).toHaveLength(1);
    await test.target
      .admin`update public.sync_alerts set acknowledged_at = now() - interval '25 hours', last_seen_at = now() - interval '25 hours'`;
    await tick();
    expect(await told(test)).toEqual([]);
  });
});

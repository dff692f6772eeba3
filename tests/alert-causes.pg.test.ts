import { describe, expect, it } from "vitest";
import { startDueJobs } from "../shared/tick/start-jobs.ts";
import { tick } from "../shared/tick/tick.ts";
import { takeDueJobs } from "../shared/target/jobs.ts";
import { IsthmusError } from "../shared/errors.ts";
import type { Context } from "../shared/context.ts";
import type { Pipeline } from "./support/pipeline.ts";
import { createStranger, createStrangers, ENTITY, type Stranger } from "./support/stranger.ts";

const TABLES: Stranger = { source: "old", target: "new", columns: { name: { type: "text" } } };
const OTHER: Stranger = { name: "others", source: "old_other", target: "new_other", columns: { name: { type: "text" } } };

const open = async (test: Pipeline) =>
  (
    await test.target.admin<{ one: string }[]>`
      select concat_ws(': ', kind, nullif(subject, '')) as one from public.sync_alerts
       where closed_at is null and kind not like 'tick%' and kind <> 'contract_warning' order by 1`
  ).map(({ one }) => one);
const asWorker = (test: Pipeline, statement: string) =>
  test.target.admin.begin(async (tx) => {
    await tx.unsafe("set local role isthmus_worker");
    await tx.unsafe(statement);
  });
/** An execution of these entities that has begun and fails. */
async function fails(test: Pipeline, ...options: Parameters<Pipeline["start"]>): Promise<void> {
  const { execution } = await test.start(...options);
  await test.target
    .admin`update public.sync_chains set state = 'failed', closed_at = now(), due_at = null where execution_id = ${execution}`;
  await asWorker(test, `select sync.finish_execution('${execution}', 'failed', '[]')`);
}
/** An execution that has begun comes through, as its chains say: nothing was read. */
async function comesThrough(test: Pipeline, execution: string): Promise<void> {
  await test.target.admin.begin(async (tx) => {
    await tx.unsafe("set local session_replication_role = replica");
    await tx`update public.sync_chains set state = 'done', closed_at = now(), due_at = null where execution_id = ${execution}`;
  });
  await asWorker(test, `select sync.finish_execution('${execution}', 'succeeded', null)`);
}
async function two(): Promise<Pipeline> {
  const test = await createStrangers([TABLES, OTHER]);
  for (const { source } of [TABLES, OTHER]) await test.source.admin.unsafe(`insert into public.${source} values (1, 'x')`);
  await test.sync();
  return test;
}
/** Another source in the same target, with an entity of the same name. */
async function anotherSource(test: Pipeline): Promise<void> {
  await test.target.admin`insert into public.sync_sources (name) values ('another')`;
  await test.target.admin`
    insert into public.sync_entities (source_id, entity_type, source_table, target_table, legacy_key, columns, definition_hash)
    select s.id, e.entity_type, e.source_table, e.target_table, e.legacy_key, e.columns, e.definition_hash
      from public.sync_entities e, public.sync_sources s where s.name = 'another'`;
}

describe("each cause has an alert of its own", () => {
  it("execution_failed: one of other entities neither hides nor closes it, and one of more closes both", async () => {
    await using test = await two();
    await fails(test, { entities: [ENTITY] });
    await fails(test, { entities: ["others"] });
    expect(await open(test)).toEqual(["execution_failed: others", "execution_failed: things"]);
    await test.sync({ entities: ["others"] });
    expect(await open(test)).toEqual(["execution_failed: things"]);
    await fails(test, { entities: ["others"] });
    await fails(test, { legacyIds: { [ENTITY]: ["1"] } });
    expect(await open(test)).toEqual([
      "execution_failed: others",
      "execution_failed: things",
      "execution_failed: things (selection)",
    ]);
    await test.sync();
    expect(await open(test)).toEqual([]);
  });

  it("page_stalled: each capture of an entity; single records, or other keys, tell nothing of what stands", async () => {
    await using test = await two();
    await asWorker(
      test,
      `select sync.raise_alert('page_stalled', 'critical', source_id, null, id, 'x', '{"capture": "keys"}', 'keys'),
              sync.raise_alert('page_stalled', 'critical', source_id, null, id, 'x', '{"capture": "full"}', 'full') from public.sync_entities where entity_type = '${ENTITY}'`,
    );
    expect(await open(test)).toEqual(["page_stalled: full", "page_stalled: keys"]);
    // The key whose page stalled is still to be read.
    await test.target.admin`
      insert into public.sync_pending_keys (entity_id, legacy_id, reason, requested_at) select id, 7, 'gone', now() - interval '1 hour' from public.sync_entities where entity_type = ${ENTITY}`;
    const { execution } = await test.start({ legacyIds: { [ENTITY]: ["1"] } });
    await test.target.admin`
      insert into public.sync_chains (execution_id, entity_id, capture, state, closed_at, page_size)
      select ${execution}, id, 'keys', 'done', now(), 10 from public.sync_entities where entity_type = ${ENTITY}`;
    test.queue.length = 0;
    await comesThrough(test, execution);
    expect(await open(test)).toEqual(["page_stalled: full", "page_stalled: keys"]);
    await test.sync();
    expect(await open(test)).toEqual([]);
  });

  it("brake: each kind and field, and each closes with its own", async () => {
    await using test = await two();
    const { execution } = await test.start();
    await asWorker(
      test,
      `select sync.pull_brake('${execution}', id, 'delete', null, 500, 600), sync.pull_brake('${execution}', id, 'null', 'name', 500, 600)
         from public.sync_entities where entity_type = '${ENTITY}'`,
    );
    expect(await open(test)).toEqual(["brake: delete", "brake: null name"]);
  });

  it("two sources with entities of the same name have an alert each, and an execution of the one closes none of the other", async () => {
    await using test = await two();
    await anotherSource(test);
    await asWorker(
      test,
      `select sync.raise_alert('page_stalled', 'critical', source_id, null, id, 'x', '{"capture": "full"}', 'full') from public.sync_entities where entity_type = '${ENTITY}';
       select sync.raise_alert('page_stalled', 'critical', id, null, null, 'x', '{"capture": "validate"}', 'validate') from public.sync_sources;
       select sync.raise_alert('horizon_held', 'warning', id, null, null, 'x', '{}') from public.sync_sources`,
    );
    expect(await open(test)).toHaveLength(6);
    await test.sync();
    expect(await open(test)).toEqual(["horizon_held", "page_stalled: full", "page_stalled: validate"]);
  });

  it("surplus: a full chain of some rows alone does not close it", async () => {
    await using test = await two();
    const { execution } = await test.start();
    await asWorker(
      test,
      `select sync.raise_alert('surplus', 'warning', source_id, null, id, 'x', '{}') from public.sync_entities where entity_type = '${ENTITY}'`,
    );
    await test.target.admin`
      insert into public.sync_chains (execution_id, entity_id, capture, state, closed_at, page_size, range_from, range_to)
      select ${execution}, id, 'full', 'done', now(), 10, 1, 1 from public.sync_entities where entity_type = ${ENTITY}`;
    await test.drain();
    expect(await open(test)).toEqual(["surplus"]);
    await test.sync({ capture: "full" });
    expect(await open(test)).toEqual([]);
  });

  it("an entity that was removed a day ago leaves no alert, and no execution waits for it", async () => {
    await using test = await two();
    await fails(test);
    await asWorker(
      test,
      `select sync.raise_alert('unmapped_rows', 'warning', source_id, null, id, 'x', '{}') from public.sync_entities where entity_type = 'others'`,
    );
    const remove = () =>
      test.target.admin`update public.sync_entities set removed_at = now() - interval '2 days' where entity_type = 'others'`;
    await remove();
    await asWorker(test, "select sync.close_removed(id, 100) from public.sync_sources");
    expect(await open(test)).toEqual(["execution_failed: others, things"]);
    const { execution } = await test.start({ entities: [ENTITY] });
    await remove();
    await comesThrough(test, execution);
    expect(await open(test)).toEqual([]);
  });
});

describe("a job that does not begin", () => {
  const NOON = Date.UTC(2027, 0, 5, 12);
  const jobs = async (test: Pipeline, ...names: string[]) => {
    await test.target.admin`delete from public.sync_jobs`;
    for (const name of names)
      await test.target.admin`
        insert into public.sync_jobs (name, schedule_type, cron_expression, next_execution_at, configuration)
        values (${name}, 'daily', '0 12 * * *', ${new Date(NOON).toISOString()}, ${test.target.admin.json({ entities: [name === "b" ? "others" : ENTITY] })})`;
  };
  /** A context whose source does not answer. */
  const down = (test: Pipeline, now: number): Context => ({
    ...test.context,
    clock: () => now,
    source: new Proxy(test.context.source, {
      apply: () => {
        throw new IsthmusError("SOURCE_UNAVAILABLE", "The source does not answer.");
      },
      get: () => {
        throw new IsthmusError("SOURCE_UNAVAILABLE", "The source does not answer.");
      },
    }),
  });
  const due = (test: Pipeline) =>
    test.target.admin`update public.sync_jobs set next_execution_at = ${new Date(NOON).toISOString()} where enabled`;
  const waiting = async (test: Pipeline) => [
    ...(await test.target.admin<{ severity: string; message: string }[]>`
      select severity, message from public.sync_alerts where kind = 'job_waits' and closed_at is null order by subject`),
  ];

  it("is told after three tries as a warning, after an hour as critical, with the code and what to do, until it begins", async () => {
    await using test = await two();
    await jobs(test, "a");
    for (let tries = 1; tries <= 2; tries++) {
      await startDueJobs(down(test, NOON));
      await due(test);
    }
    expect(await waiting(test)).toEqual([]);
    await startDueJobs(down(test, NOON));
    expect(await waiting(test)).toEqual([
      {
        severity: "warning",
        message: expect.stringMatching(/^The job a has waited since .* \(SOURCE_UNAVAILABLE\): .+\. .+\.$/) as unknown,
      },
    ]);
    await test.target.admin`update public.sync_jobs set waits_since = now() - interval '61 minutes'`;
    await due(test);
    await startDueJobs(down(test, NOON));
    expect(await waiting(test)).toMatchObject([{ severity: "critical" }]);
    await due(test);
    expect(await startDueJobs({ ...test.context, clock: () => NOON })).toHaveLength(1);
    expect(await open(test)).toEqual([]);
    expect([...(await test.target.admin`select waits_since from public.sync_jobs`)]).toEqual([{ waits_since: null }]);
  });

  it("behind another execution is no news for six hours, and then a warning", async () => {
    await using test = await two();
    await jobs(test, "a");
    const putOff = (since: string) =>
      test.target.admin.begin(async (tx) => {
        await tx`update public.sync_jobs set waits_since = now() - ${since}::interval`;
        await tx`select sync.put_off_job(id, '{"code": "EXECUTION_ACTIVE"}', now()) from public.sync_jobs`;
      });
    for (let tries = 1; tries <= 5; tries++) await putOff("5 hours");
    expect(await waiting(test)).toEqual([]);
    await putOff("361 minutes");
    expect(await waiting(test)).toMatchObject([{ severity: "warning" }]);
    // What is wrong after that has waited for no time yet.
    await test.target.admin`update public.sync_alerts set closed_at = now()`;
    await test.target.admin`select sync.put_off_job(id, '{"code": "SOURCE_UNAVAILABLE"}', now()) from public.sync_jobs`;
    expect(await waiting(test)).toEqual([]);
  });

  it("for a quarter of an hour is told before its third try", async () => {
    await using test = await two();
    await jobs(test, "a");
    await startDueJobs(down(test, NOON));
    await test.target.admin`update public.sync_jobs set waits_since = now() - interval '16 minutes'`;
    await due(test);
    await startDueJobs(down(test, NOON));
    expect(await waiting(test)).toMatchObject([{ severity: "warning" }]);
  });

  it("is told by an alert of its own, which closes without the other's", async () => {
    await using test = await two();
    await jobs(test, "a", "b");
    await test.target.admin`update public.sync_jobs set configuration = '{"entity": "no"}'`;
    await due(test);
    await startDueJobs({ ...test.context, clock: () => NOON });
    expect(await open(test)).toEqual(["job_failed: a", "job_failed: b"]);
    await test.target.admin`update public.sync_jobs set configuration = '{"entities": ["others"]}' where name = 'b'`;
    await due(test);
    await startDueJobs({ ...test.context, clock: () => NOON });
    expect(await open(test)).toEqual(["job_failed: a"]);
  });

  it.each([
    ["deleted", "delete from public.sync_jobs where name = 'a'"],
    ["paused", "update public.sync_jobs set enabled = false where name = 'a'"],
    ["renamed", "update public.sync_jobs set name = 'c' where name = 'a'"],
    ["without a time", "update public.sync_jobs set schedule_type = 'on_demand', cron_expression = null where name = 'a'"],
  ])("is told no more when it is %s", async (_, statement) => {
    await using test = await createStranger(TABLES);
    await jobs(test, "a");
    await asWorker(
      test,
      `select sync.fail_job(id, '{"code": "X"}', null) from public.sync_jobs;
       select sync.put_off_job(id, '{"code": "X"}', now()) from public.sync_jobs, generate_series(1, 3)`,
    );
    expect(await open(test)).toEqual(["job_failed: a", "job_waits: a"]);
    await test.target.admin.unsafe(statement);
    expect(await open(test)).toEqual([]);
  });

  it("keeps the heartbeat from being sent, as does a page that the queue refuses; a job behind another execution does not", async () => {
    await using test = await two();
    const failedParts = async () =>
      (await test.target.admin<{ failed: string[] }[]>`select failed from public.sync_ticks order by created_at desc limit 1`)[0]
        ?.failed;
    await jobs(test, "a");
    await test.target.admin`update public.sync_jobs set next_execution_at = now() + interval '1 day'`;
    await tick(test.context);
    await tick(test.context);
    expect(await failedParts()).toEqual([]);
    const putOff = (code: string) =>
      asWorker(test, `select sync.put_off_job(id, '{"code": "${code}"}', now() + interval '1 day') from public.sync_jobs`);
    await putOff("EXECUTION_ACTIVE");
    await tick(test.context);
    expect(await failedParts()).toEqual([]);
    await putOff("SOURCE_BEHIND");
    await tick(test.context);
    expect(await failedParts()).toEqual(["jobs"]);
    await test.target.admin`update public.sync_jobs set enabled = false`;
    await test.start();
    test.queue.length = 0;
    await test.target.admin`update public.sync_chains set refusals = 1, due_at = now() + interval '1 day' where state = 'open'`;
    await tick(test.context);
    expect(await failedParts()).toEqual(["sends"]);
  });

  it("is told when a part of the tick itself fails three times in a row, and no longer when that part works", async () => {
    await using test = await two();
    const told = () =>
      test.target.admin<{ subject: string; severity: string; code: string }[]>`
        select subject, severity, substring(message from 'jobs: ([A-Z_]+)') as code
          from public.sync_alerts where kind = 'tick_part_failed' and closed_at is null order by subject`;
    await test.target.admin`revoke update on public.sync_jobs from isthmus_worker`;
    for (let n = 1; n <= 2; n++) await tick(test.context);
    expect(await told()).toEqual([]);
    await tick(test.context);
    // What people say of jobs is carried out by the part that ends what ends.
    expect(await told()).toEqual([
      { subject: "ends", severity: "critical", code: null },
      { subject: "jobs", severity: "critical", code: "TARGET_REFUSED" },
    ]);
    await test.target.admin`grant update on public.sync_jobs to isthmus_worker`;
    await tick(test.context);
    expect(await told()).toEqual([]);
    // One tick in three is not three in a row.
    for (let n = 1; n <= 4; n++) {
      await test.target.admin.unsafe(
        `${n % 2 ? "revoke" : "grant"} update on public.sync_jobs ${n % 2 ? "from" : "to"} isthmus_worker`,
      );
      await tick(test.context);
    }
    expect(await told()).toEqual([]);
  });

  it("is told when a part that looks seldom fails three looks in a row, however many ticks lie between", async () => {
    await using test = await two();
    const told = async () =>
      (
        await test.target.admin<{ subject: string }[]>`
        select subject from public.sync_alerts where kind = 'tick_part_failed' and closed_at is null`
      ).map(({ subject }) => subject);
    const looks = async () => {
      await test.target.admin`update public.sync_queue_looks set looked_at = looked_at - interval '1 hour'`;
      // Nobody answers for QStash here. It is asked in the first of these ticks.
      for (let n = 0; n < 4; n++) await tick(test.context);
    };
    await looks();
    await looks();
    expect(await told()).toEqual([]);
    await looks();
    expect(await told()).toEqual(["deliveries"]);
    await tick(test.context);
    expect(await told()).toEqual(["deliveries"]);
  });

  it("whose tick is killed each time is put off with growing pauses, and told; what kills no more begins", async () => {
    await using test = await two();
    await jobs(test, "a");
    const job = async () =>
      (
        await test.target.admin<{ code: string | null; attempts: number }[]>`
          select last_error ->> 'code' as code, attempts from public.sync_jobs`
      )[0];
    const startAt = (seconds: number) => startDueJobs({ ...test.context, clock: () => NOON + 1_000 * seconds });
    for (let killed = 1; killed <= 3; killed++) {
      await due(test);
      // A tick takes it, and is gone.
      expect(await takeDueJobs(test.context.target, new Date(NOON), 300)).toHaveLength(1);
      expect(await startAt(299)).toEqual([]);
      expect(await job()).toMatchObject({ attempts: killed - 1 });
      expect(await startAt(300)).toEqual([]);
      expect(await job()).toEqual({ code: "TICK_KILLED", attempts: killed });
    }
    expect(await waiting(test)).toMatchObject([
      { severity: "warning", message: expect.stringMatching(/TICK_KILLED/) as unknown },
    ]);
    await due(test);
    expect(await startAt(0)).toHaveLength(1);
    expect(await job()).toEqual({ code: null, attempts: 0 });
    expect(await waiting(test)).toEqual([]);
  });

  it("that a person wants again while a tick has just taken it is not taken for killed", async () => {
    await using test = await two();
    await jobs(test, "a");
    await due(test);
    expect(await takeDueJobs(test.context.target, new Date(NOON), 300)).toHaveLength(1);
    await due(test);
    expect(await startDueJobs({ ...test.context, clock: () => NOON + 1_000 })).toHaveLength(1);
  });

  it("that works for longer than its window is told until its execution has ended", async () => {
    await using test = await two();
    await jobs(test, "a");
    const late = async () => (await open(test)).filter((one) => one.startsWith("job_late"));
    await due(test);
    const [execution = ""] = await startDueJobs({ ...test.context, clock: () => NOON });
    await tick(test.context);
    expect(await late()).toEqual([]);
    const after = (minutes: number): Context => ({ ...test.context, clock: () => Date.now() + minutes * 60_000 });
    await tick(after(61));
    expect(await late()).toEqual(["job_late: a"]);
    // Its window is its owner's to say, and a mistake is refused.
    await test.target.admin`update public.sync_jobs set alarms = '{"window_minutes": 90}'`;
    await tick(after(61));
    expect(await late()).toEqual([]);
    await tick(after(91));
    expect([
      ...(await test.target
        .admin`select severity, message, execution_id from public.sync_alerts where kind = 'job_late' and closed_at is null`),
    ]).toEqual([
      {
        severity: "warning",
        message: `The job a has worked for 91 minutes; its window is 90. npm run sync -- status ${execution} shows how far it has come.`,
        execution_id: execution,
      },
    ]);
    for (const wrong of ['{"window_minutes": 0}', '{"window_minutes": "90"}', '{"windows": 90}', "[]"])
      await expect(test.target.admin`update public.sync_jobs set alarms = ${wrong}::text::jsonb`).rejects.toMatchObject({
        code: "23514",
      });
    await test.drain();
    await tick(after(91));
    expect(await late()).toEqual([]);
  });

  it("that is off lets its entities lag: told, with each of them, until they have been read again", async () => {
    await using test = await two();
    await jobs(test, "a", "b");
    await test.target
      .admin`update public.sync_jobs set enabled = name = 'b', succeeded_at = now(), cron_expression = '0 0 1 1 *'`;
    const now = Date.now() + 26.5 * 3_600_000;
    const lags = async () =>
      (
        await test.target.admin<{ details: object }[]>`
      select details from public.sync_alerts where kind = 'entities_lag' and closed_at is null`
      ).map(({ details }) => Object.keys(details).toSorted());
    await tick(test.context);
    expect(await lags()).toEqual([]);
    await test.target.admin`update public.sync_jobs set next_execution_at = now() + interval '10 years'`;
    await tick({ ...test.context, clock: () => now });
    expect(await lags()).toEqual([[ENTITY]]);
    await test.sync();
    await tick(test.context);
    expect(await lags()).toEqual([]);
  });
});

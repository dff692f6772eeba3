import { describe, expect, it } from "vitest";
import { SCHEMA_VERSION } from "../shared/db/schema-version.ts";
import type { SelectionRequest } from "../shared/plan/plan-selection.ts";
import { checkInstallation } from "../shared/contract/check.ts";
import { tick } from "../shared/tick/tick.ts";
import { describeError } from "../shared/errors.ts";
import { runPage } from "../shared/page/run-page.ts";
import type { Sql, Transaction } from "../shared/db/connect.ts";
import { validate } from "../shared/page/validate.ts";
import { readerUrl, workerUrl } from "./support/databases.ts";
import { createFunctions, SECRET_KEY } from "./support/handlers.ts";
import { createPipeline, type Pipeline } from "./support/pipeline.ts";
import { until } from "./support/replica.ts";

/** The same database; `act` comes before each statement that calls `name`, within its transaction or outside. */
function beforeStatement(sql: Sql, name: string, act: () => Promise<void>): Sql {
  const seen = (db: Sql | Transaction) => ({
    unsafe: async (...args: Parameters<Sql["unsafe"]>) => {
      if (args[0].includes(name)) await act();
      return db.unsafe(...args);
    },
  });
  const begin = (work: (tx: Transaction) => Promise<unknown>) => sql.begin((tx) => work(seen(tx) as unknown as Transaction));
  return { ...seen(sql), begin } as unknown as Sql;
}

/** The database as another release has it: its version, and the oldest functions that it works with. */
async function asRelease(test: Pipeline, version: number, oldest: number): Promise<void> {
  for (const [name, value] of Object.entries({ schema_version: version, oldest_functions: oldest }))
    await test.target.admin.unsafe(`create or replace function sync.${name}() returns bigint
      language sql immutable security invoker set search_path = pg_catalog, pg_temp as 'select ${value}::bigint'`);
}

/** sync-tick, called as the schedule of the target calls it, and what was answered. */
async function callTick(test: Pipeline): Promise<{ readonly status: number; readonly body: unknown }> {
  const functions = createFunctions({ SOURCE_DB_URL: readerUrl(test.source), TARGET_DB_URL: workerUrl(test.target) });
  const answer = await functions.call("sync-tick", { method: "POST", headers: { apikey: SECRET_KEY }, body: "{}" });
  await functions.settled();
  return { status: answer.status, body: await answer.json() };
}

const everything = async (test: Pipeline) =>
  test.target.admin`select to_jsonb(c) as row from public.sync_chains c union all select to_jsonb(e) from public.sync_executions e
    union all select to_jsonb(i) from public.sync_identities i union all select to_jsonb(t) from public.sync_ticks t order by 1`;

describe("functions meet a database of another release", () => {
  it.each([
    ["SCHEMA_OUTDATED", "the database is behind", SCHEMA_VERSION - 1, SCHEMA_VERSION - 1, /npm run sync -- setup --upgrade/],
    [
      "SCHEMA_AHEAD",
      "the database has left them behind",
      SCHEMA_VERSION + 2,
      SCHEMA_VERSION + 1,
      /from a checkout of that release/,
    ],
  ])(
    "%s, %s: no page is claimed, nothing begins, nothing is lost, and all goes on by itself",
    async (code, _, version, oldest, hint) => {
      await using test = await createPipeline();
      for (let id = 1; id <= 5; id++) await test.seed.office(id);
      const { execution } = await test.start({ entities: ["offices"], pageSize: 2 });
      await test.runJoins();
      expect((await test.runOne()).outcome).toBe("committed");
      // Whatever is due would be sent again by the next tick.
      await test.target.admin`update public.sync_chains set due_at = now() - interval '1 hour' where state = 'open'`;
      const messages = [...test.queue];
      expect(messages.length).toBeGreaterThan(0);
      await asRelease(test, version, oldest);

      const before = await everything(test);
      for (const message of messages)
        await expect(test.run(message)).rejects.toMatchObject({ code, detail: { hint: expect.stringMatching(hint) as string } });
      await expect(test.start({ entities: ["doctors"] })).rejects.toMatchObject({ code });
      await expect(test.start({ entities: ["offices"], dryRun: true })).rejects.toMatchObject({ code });
      const called = await callTick(test);
      expect(called).toMatchObject({ status: 503, body: { error: { code, remedy: expect.stringMatching(hint) as string } } });
      test.queue.length = 0;
      expect(await tick(test.context)).toEqual({ started: [], resent: 0, stopped: [], released: [] });
      expect(test.queue).toEqual([]);
      expect(await everything(test)).toEqual(before);

      await asRelease(test, SCHEMA_VERSION, SCHEMA_VERSION);
      // Sends nothing: nobody is there to take it.
      await test.target.admin`update public.sync_chains set due_at = now() + interval '1 hour' where state = 'open'`;
      expect(await callTick(test)).toMatchObject({ status: 202 });
      await test.target.admin`update public.sync_chains set due_at = now() - interval '1 hour' where state = 'open'`;
      expect((await tick(test.context)).resent).toBe(messages.length);
      await test.drain();
      expect(await test.status(execution)).toMatchObject({ status: "succeeded" });
      expect(await test.target.admin`select count(*)::int as n from public.offices`).toEqual([{ n: 5 }]);
    },
  );

  it("TRIGGERS_OFF, a worker whose sessions have all triggers off: likewise", async () => {
    await using test = await createPipeline();
    for (let id = 1; id <= 5; id++) await test.seed.office(id);
    const { execution } = await test.start({ entities: ["offices"], pageSize: 2 });
    await test.runJoins();
    expect((await test.runOne()).outcome).toBe("committed");
    /** As a person has set it, for sessions that begin from now on. */
    const triggers = async (are: string) => {
      await test.target.admin.unsafe(`alter database ${test.target.name} ${are}`);
      await test.target
        .admin`select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and usename = 'isthmus_worker'`;
      await until("the worker's sessions are new ones", () =>
        test.context.target.unsafe("select 1").then(
          () => true,
          () => false,
        ),
      );
    };
    const messages = [...test.queue];
    expect(messages.length).toBeGreaterThan(0);
    await triggers("set session_replication_role = replica");
    for (const message of messages)
      await expect(test.run(message)).rejects.toMatchObject({
        code: "TRIGGERS_OFF",
        detail: { hint: expect.stringMatching(/reset session_replication_role/) as string },
      });
    await expect(test.start({ entities: ["doctors"] })).rejects.toMatchObject({ code: "TRIGGERS_OFF" });
    expect(await callTick(test)).toMatchObject({ status: 503, body: { error: { code: "TRIGGERS_OFF" } } });
    await triggers("reset session_replication_role");
    await test.drain();
    expect(await test.status(execution)).toMatchObject({ status: "succeeded" });
    expect(await test.target.admin`select count(*)::int as n from public.offices`).toEqual([{ n: 5 }]);
  });

  it("TRIGGERS_OFF, a page whose counts nobody adds up: it commits nothing, and goes on when the trigger is there again", async () => {
    await using test = await createPipeline();
    for (let id = 1; id <= 5; id++) await test.seed.office(id);
    const { execution } = await test.start({ entities: ["offices"], pageSize: 2 });
    await test.runJoins();
    expect((await test.runOne()).outcome).toBe("committed");
    const [next] = test.queue;
    await test.target.admin`alter table public.sync_page_log disable trigger count_page`;
    expect((await test.runOne()).outcome).toBe("failed");
    expect(
      await test.target
        .admin`select last_error ->> 'code' as code from public.sync_chains where state = 'open' and last_error is not null`,
    ).toEqual([{ code: "TRIGGERS_OFF" }]);
    expect(await test.target.admin`select count(*)::int as n from public.offices`).toEqual([{ n: 2 }]);
    await test.target.admin`alter table public.sync_page_log enable trigger count_page`;
    if (next) test.queue.push(next);
    await test.drain();
    expect(await test.status(execution)).toMatchObject({ status: "succeeded" });
    expect(await test.target.admin`select count(*)::int as n from public.offices`).toEqual([{ n: 5 }]);
  });

  it.each([
    ["a page of records", {}, "commit_page"],
    ["a page of joined rows", { entities: ["offices", "profiles", "doctors"] }, "commit_join_page"],
    ["a page of a dry run", { dryRun: true }, "plan_page"],
    ["a report of a dry run", { dryRun: true }, "commit_plan"],
    ["a page of digests", { capture: "digest" }, "commit_digest_page"],
    ["a validation", {}, "commit_validation"],
    ["a page of adopted ids", { adopt: true }, "adopt_page"],
  ] as readonly (readonly [string, Partial<SelectionRequest>, string])[])(
    "%s that was claimed before the database went on is refused when it commits, comes back, and lands once",
    async (_, asked, commit) => {
      await using test = await createPipeline();
      for (let id = 1; id <= 3; id++) await test.seed.office(id);
      await test.seed.doctor(50);
      if (asked.capture === "digest") await test.sync({ entities: ["offices"] });
      let refused = 0;
      const target = beforeStatement(test.context.target, `sync.${commit}(`, async () => {
        if (refused++ === 0) await asRelease(test, SCHEMA_VERSION + 2, SCHEMA_VERSION + 1);
      });
      const { execution } = await test.start({ entities: ["offices"], pageSize: 2, ...asked });
      while (refused === 0) {
        const [message] = test.queue.splice(0, 1);
        if (!message) throw new Error(`${commit} was never called`);
        const outcome = await runPage({ ...test.context, target }, message, validate).catch(describeError);
        if (refused > 0) expect(outcome).toMatchObject({ error: { code: "SCHEMA_AHEAD" } });
      }
      expect(await test.status(execution)).toMatchObject({ status: "running" });
      await asRelease(test, SCHEMA_VERSION, SCHEMA_VERSION);
      await test.target.admin`update public.sync_chains set due_at = now() - interval '1 hour' where state = 'open'`;
      test.queue.length = 0;
      await tick(test.context);
      await test.drain();
      expect(await test.status(execution)).toMatchObject({ status: "succeeded" });
      const landed = asked.dryRun || asked.adopt ? 0 : 3;
      expect(await test.target.admin`select count(*)::int as n from public.offices`).toEqual([{ n: landed }]);
    },
  );

  it("a check says it, too", async () => {
    await using test = await createPipeline();
    await asRelease(test, SCHEMA_VERSION - 1, SCHEMA_VERSION - 1);
    expect(await checkInstallation(test.context)).toMatchObject({ ok: false, error: { code: "SCHEMA_OUTDATED" } });
  });

  it("a later database that still works with these functions is met as before, with messages of both in flight", async () => {
    await using test = await createPipeline();
    for (let id = 1; id <= 5; id++) await test.seed.office(id);
    await test.start({ entities: ["offices"], pageSize: 2 });
    await asRelease(test, SCHEMA_VERSION + 1, SCHEMA_VERSION);
    await test.drain();
    expect(await test.target.admin`select status from public.sync_executions`).toEqual([{ status: "succeeded" }]);
  });
});

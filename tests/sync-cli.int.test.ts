import { spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { Client } from "@upstash/qstash";
import postgres, { type Sql } from "postgres";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { z } from "zod";
import { runSyncCli } from "../cli/program.ts";
import { createLegacySchema } from "../clinic/dataset/schema.ts";
import { startPlatform, type Platform } from "../local/platform.ts";
import { registry } from "../clinic/entities/registry.gen.ts";
import { workerGrants } from "../shared/operate/grants.ts";
import { scheduleId } from "../shared/queue/installation.ts";

const ROOT = resolve(import.meta.dirname, "..");
const begun = z.object({ execution: z.uuid(), entities: z.array(z.string()) });
const queueLines = z.array(
  z.object({ entity: z.string(), state: z.string(), rule: z.string(), count: z.number(), remedy: z.string() }),
);

let platform: Platform;
let folder: string;
let target: Sql;
/** What an operator has in a .env file. */
let env: Record<string, string>;

beforeAll(async () => {
  folder = mkdtempSync(join(resolve(ROOT, ".local"), "sync-cli-"));
  platform = await startPlatform({ dataDir: folder });
  await createLegacySchema(platform.urls.sourceOwner);
  const source = postgres(platform.urls.sourceOwner, { max: 1, onnotice: () => undefined });
  await source`insert into dispatch_office (id, name, valid, emails) select n, 'Office ' || n, true, false from generate_series(1, 30) n`;
  await source`insert into dispatch_operation (id, type, price) values (1, 1, 10.00), (2, 2, 2.50), (3, 7, 1.00), (4, null, 1.00)`;
  await source.end();
  target = postgres(platform.urls.targetOwner, { max: 1, onnotice: () => undefined });
  env = {
    SUPABASE_URL: platform.functions.url.replace("/functions/v1", ""),
    ISTHMUS_API_KEY: platform.secretKey,
    TARGET_DB_URL: platform.urls.targetWorker,
    QSTASH_URL: platform.qstash.url,
    QSTASH_TOKEN: platform.qstash.token,
  };
});
afterAll(async () => {
  await target.end();
  await platform.stop();
  rmSync(folder, { recursive: true, force: true });
});

/** Runs a command in this process. An empty value in `overrides` takes the variable away. */
async function sync(args: readonly string[], overrides: Readonly<Record<string, string>> = {}, interactive = false) {
  let out = "";
  let err = "";
  const code = await runSyncCli(args, {
    env: { ...env, ...overrides },
    out: (text) => (out += text),
    err: (text) => (err += text),
    interactive,
    pause: () => new Promise((later) => setTimeout(later, 50)),
  });
  return { code, out, err };
}

/** What --json has printed: one document, of this version. */
function answerOf(out: string): unknown {
  return z.strictObject({ version: z.literal(1), answer: z.unknown() }).parse(JSON.parse(out)).answer;
}

describe("npm run sync --", () => {
  it("status says that nothing has run yet and how to start", async () => {
    expect(await sync(["status"])).toMatchObject({
      code: 1,
      err: "NOT_FOUND: There has been no execution yet.\n  What to do: Start one: npm run sync -- start\n",
    });
  });

  it("inspect tells of each source table how its changes are found, and setup-source prints the SQL", async () => {
    const { code, out } = await sync(["inspect"]);
    expect({ code, out }).toMatchObject({
      code: 0,
      out: expect.stringMatching(/^dispatch_office .* xmin +digest +a scan/m) as string,
    });
    expect(out).toMatch(/^The source is PostgreSQL 17\.\d+, a primary, read as isthmus_reader\./);
    const setup = await sync(["setup-source", "--role", "reader"]);
    expect(setup).toMatchObject({ code: 0, err: "" });
    expect(setup.out).toMatch(/^grant select \(xmin, ctid, .* on public\."dispatch_office" to "reader";$/m);
    expect(setup.out).not.toContain("not known");
    expect((await sync(["setup-source"], { ISTHMUS_API_KEY: "" })).out).toContain("could not be asked (CONFIG_INVALID)");
  });

  it("queue is empty before anything ran", async () => {
    expect(await sync(["queue"])).toEqual({ code: 0, out: "The queue is empty.\n", err: "" });
  });

  it("start --watch runs the named entities and shows progress, counts, queue and metrics", async () => {
    const { code, out, err } = await sync(["start", "offices", "operations", "--full", "--watch"]);
    expect({ code, err }).toEqual({ code: 0, err: "" });
    expect(out).toMatch(/^offices: \d\/\d chains, \d+ read$/m);
    expect(out).toMatch(/^Execution [0-9a-f-]{36}: succeeded$/m);
    expect(out).toMatch(/^offices +full +\d\/\d +30 +30 +0 /m);
    expect(out).toMatch(/^operations +full +\d\/\d +4 +2 +0 +0 +0 +0 +2 +0$/m);
    expect(out).toMatch(/^operations +open +\S+ +2$/m);
    expect(out).toMatch(/^recordsProcessed +34$/m);
    const [row] = await target<{ n: number }[]>`select count(*)::int as n from public.offices`;
    expect(row?.n).toBe(30);
  });

  it("explain tells the story of a record, and says what is not there", async () => {
    const { code, out, err } = await sync(["explain", "operations", "4"]);
    expect({ code, err }).toEqual({ code: 0, err: "" });
    expect(out).toMatch(/^operations 4\na run now:  open\. /);
    expect(out).toMatch(/^conflict .*: open, /m);
    expect(answerOf((await sync(["--json", "explain", "offices", "1"])).out)).toMatchObject({ run: { verdict: "unchanged" } });
    expect((await sync(["explain", "offices", "999"])).out).toContain("source:     dispatch_office: not there");
    expect(await sync(["explain", "office", "1"])).toMatchObject({
      code: 5,
      err: expect.stringMatching(/^NOT_FOUND: There is no entity "office"; there are .*offices/) as string,
    });
    expect(await sync(["explain", "offices", "one"])).toMatchObject({
      code: 5,
      err: expect.stringContaining("REQUEST_INVALID") as string,
    });
  });

  it("plan tells what a run would do and why, with examples, and is followed by exactly that", async () => {
    const source = postgres(platform.urls.sourceOwner, { max: 1, onnotice: () => undefined });
    await source`update dispatch_office set name = 'Renamed' where id <= 2`;
    await source`insert into dispatch_operation (id, type, price) values (5, 1, 7.25)`;
    await source.end();
    const planned = await sync(["plan", "offices", "operations"]);
    expect({ code: planned.code, err: planned.err }).toEqual({ code: 0, err: "" });
    expect(planned.out).toMatch(/^offices: \d\/\d chains, \d+ read$/m);
    expect(planned.out).toMatch(/^Plan [0-9a-f-]{36}: succeeded\. Nothing was written/m);
    expect(planned.out).toMatch(/^offices +2 +0 +2 +0 /m);
    expect(planned.out).toMatch(/^operations +1 +1 +0 +0 /m);
    expect(planned.out).toMatch(/^operations\.amount +7\.25 +0$/m);
    expect((await target`select from public.offices where name = 'Renamed'`).length).toBe(0);
    expect((await sync(["executions"])).out).toMatch(/succeeded \(plan\)/);

    const everything = await sync(["--json", "plan", "operations", "--full"]);
    const answer = answerOf(everything.out) as { dryRun: boolean; plan: { entities: object[] } };
    expect(answer.dryRun).toBe(true);
    expect(answer.plan.entities).toMatchObject([
      {
        entity: "operations",
        counts: { read: 5, inserted: 1, unchanged: 2, inConflict: 2 },
        outcomes: [
          { outcome: "in_conflict", count: 2, legacyIds: [3, 4] },
          { outcome: "inserted", count: 1, legacyIds: [5] },
        ],
      },
    ]);
    const run = await sync(["start", "offices", "operations", "--watch"]);
    expect(run.out).toMatch(/^offices +xmin +\d\/\d +2 +0 +2 +0 /m);
    expect(run.out).toMatch(/^operations +xmin +\d\/\d +1 +1 +0 +0 /m);
  });

  it("start and plan take ids, filters, date ranges, priorities and page sizes", async () => {
    const source = postgres(platform.urls.sourceOwner, { max: 1, onnotice: () => undefined });
    await source`update dispatch_office set name = 'On demand' where id in (3, 4, 5)`;
    await source`insert into dispatch_operation (id, type, price, made_at) values (6, 1, 1.00, '2024-05-01T10:00:00Z')`;
    await source.end();
    const planned = await sync(["plan", "--ids", "offices=3,4"]);
    expect({ code: planned.code, err: planned.err }).toEqual({ code: 0, err: "" });
    expect(planned.out).toMatch(/^offices +2 +0 +2 /m);
    const ids = await sync([
      "start",
      "--ids",
      "offices=3",
      "--ids",
      "offices=4",
      "--first",
      "offices",
      "--page-size",
      "100",
      "--watch",
    ]);
    expect({ code: ids.code, err: ids.err }).toEqual({ code: 0, err: "" });
    expect(ids.out).toMatch(/^offices +keys +1\/1 +2 +0 +2 /m);
    expect((await target`select from public.offices where name = 'On demand'`).length).toBe(2);
    const dated = await sync([
      "start",
      "operations",
      "--from",
      "2024-05-01T00:00:00Z",
      "--to",
      "2024-05-02T00:00:00Z",
      "--watch",
    ]);
    expect(dated.out).toMatch(/^operations +selection +1\/1 +1 +1 /m);
    const filtered = await sync(["start", "--filter", "operations.type=2", "--dependants", "--watch"]);
    expect(filtered.out).toMatch(/^operations +selection +1\/1 +1 +0 +0 +1 /m);
    const modified = await sync(["start", "offices", "--capture", "modified", "--watch"]);
    expect(modified.out).toMatch(/^offices +xmin +\d\/\d +3 +0 +1 +2 /m);
  });

  it("start tells the id of what it began; status --watch follows that one to its end", async () => {
    const started = await sync(["--json", "start", "offices"]);
    const { execution, entities } = begun.parse(answerOf(started.out));
    expect(entities).toEqual(["offices"]);
    const watched = await sync(["status", execution, "--watch"]);
    expect(watched.code).toBe(0);
    expect(watched.out).toContain(`Execution ${execution}: succeeded`);
    const listed = await sync(["executions"]);
    expect(listed.out.split("\n")[1]).toMatch(new RegExp(`^${execution} +succeeded `));
    expect(listed.out.trim().split("\n")).toHaveLength(11);
  });

  it("at a terminal, --watch draws bars instead of lines and ends with the same summary", async () => {
    const [latest] = await target<{ id: string }[]>`select id from public.sync_executions order by started_at desc limit 1`;
    const { code, out } = await sync(["status", "--watch"], {}, true);
    expect(code).toBe(0);
    expect(out.startsWith(`Execution ${latest?.id ?? ""}: succeeded\n`)).toBe(true);
  });

  it("times are shown in the zone of TZ, and in UTC on demand and in JSON", async () => {
    const [latest] = await target<
      { at: Date }[]
    >`select started_at as at from public.sync_executions order by started_at desc limit 1`;
    const shown = (at: Date) => at.toISOString().slice(0, 19).replace("T", " ");
    const began = latest?.at ?? new Date(0);
    const there = { TZ: "Asia/Kolkata" };
    const local = shown(new Date(began.getTime() + 5.5 * 3_600_000));
    expect((await sync(["executions"], there)).out.split("\n")[1]).toContain(` ${local} UTC+5:30 `);
    expect((await sync(["executions", "--utc"], there)).out.split("\n")[1]).toContain(` ${shown(began)} UTC `);
    const [first] = answerOf((await sync(["executions", "--json"], there)).out) as { startedAt: string }[];
    expect(new Date(first?.startedAt ?? "").getTime()).toBe(began.getTime());
  });

  it("--quiet leaves the exit code, and --json tells an error as one document, too", async () => {
    expect(await sync(["executions", "--quiet"])).toEqual({ code: 0, out: "", err: "" });
    expect(await sync(["start", "offices", "--watch", "--quiet"])).toEqual({ code: 0, out: "", err: "" });
    const watched = await sync(["start", "offices", "--watch", "--json"]);
    expect(answerOf(watched.out)).toMatchObject({ status: "succeeded" });
    const { code, out, err } = await sync(["start", "ofices", "--json"]);
    expect(code).toBe(5);
    expect(JSON.parse(out)).toMatchObject({ version: 1, error: { code: "REQUEST_INVALID", remedy: "Correct the named field." } });
    expect(err).toContain("  What to do: Did you mean offices? Correct the named field.\n");
  });

  it("jobs tells what runs when, and why a job could not begin or failed, with what to do", async () => {
    expect(await sync(["jobs"])).toMatchObject({ code: 0, out: expect.stringMatching(/^daily +pending +/m) as string });
    await target`
      insert into public.sync_jobs (name, schedule_type, cron_expression, status, attempts, next_execution_at, last_error)
      values ('hourly', 'cron', '0 * * * *', 'failed', 2, '2027-01-05T13:00:00Z', '{"code": "REQUEST_INVALID", "message": "The job''s configuration is not valid.", "remedy": "Correct the named field."}'),
             ('weekly', 'cron', '0 0 * * 0', 'failed', 0, null, '{"execution": "e1", "errors": [{"code": "CONTROL_TOTALS_DIFFER", "entity": "payments"}]}')`;
    const { code, out } = await sync(["jobs", "--utc"]);
    expect(code).toBe(1);
    expect(out).toMatch(/^hourly +failed +- +2027-01-05 13:00:00 UTC +2$/m);
    expect(out).toContain(
      "\nhourly: REQUEST_INVALID: The job's configuration is not valid.\n  What to do: Correct the named field.\n",
    );
    expect(out).toContain("\nweekly (execution e1): CONTROL_TOTALS_DIFFER: After loading, both sides still differ");
    await target`update public.sync_jobs set enabled = false where name in ('hourly', 'weekly')`;
    expect((await sync(["jobs"])).code).toBe(0);
    await target`delete from public.sync_jobs where name in ('hourly', 'weekly')`;
  });

  it("queue counts by entity, state and rule, with what to do", async () => {
    const { out } = await sync(["queue", "--json"]);
    const lines = queueLines.parse(answerOf(out));
    const counted = await target<{ entity: string; state: string; rule: string; count: number }[]>`
      select entity_type as entity, state::text, rule, count(*)::int as count from public.sync_conflicts group by 1, 2, 3`;
    expect(lines).toEqual(counted.map((row) => ({ ...row, remedy: expect.stringMatching(/\w/) as string })));
    expect(lines.reduce((sum, { count }) => sum + count, 0)).toBe(2);
    expect((await sync(["queue"])).out).toMatch(/^operations +open +\S+ +2 /m);
  });

  it("replay has records of the queue read again, all or some, and only counts them with --dry-run", async () => {
    const pending = async () =>
      (await target<{ id: string }[]>`select legacy_id::text as id from public.sync_pending_keys where reason = 'replayed'`)
        .length;
    expect((await sync(["replay", "--dry-run"])).out).toBe("2 records would be read again.\n");
    expect(await pending()).toBe(0);
    expect((await sync(["replay", "--entity", "patients"])).out).toBe("0 records are read again with the next tick.\n");
    expect((await sync(["replay", "--type", "unheard_of"])).code).toBe(2);
    const replayed = await sync(["replay", "--entity", "operations", "--type", "business_rule_violation", "--json"]);
    expect(answerOf(replayed.out)).toEqual({ records: 2, dryRun: false });
    expect(await pending()).toBe(2);
    await target`delete from public.sync_pending_keys where reason = 'replayed'`;
  });

  it("grants prints what lets the worker write exactly the entities' columns", async () => {
    const { code, out } = await sync(["grants"]);
    expect(code).toBe(0);
    expect(out).toBe(`${workerGrants(registry)}\n`);
    await target.unsafe(out).simple();
  });

  it("schedule creates one schedule however often it runs, and --remove takes it away", async () => {
    const schedules = () => new Client({ baseUrl: platform.qstash.url, token: platform.qstash.token }).schedules.list();
    const id = scheduleId(platform.functions.url);
    expect(await sync(["schedule", "--remove"])).toMatchObject({ code: 0, out: `Schedule ${id} is removed.\n` });
    expect(await schedules()).toEqual([]);
    expect((await sync(["schedule", "--remove"])).out).toBe(`There is no schedule ${id}.\n`);
    await sync(["schedule"]);
    const { code, out } = await sync(["schedule"]);
    expect({ code, out }).toEqual({
      code: 0,
      out: `QStash calls ${platform.functions.url}/sync-tick every minute (schedule ${id}).\n`,
    });
    expect(await schedules()).toMatchObject([
      { scheduleId: id, cron: "* * * * *", destination: `${platform.functions.url}/sync-tick` },
    ]);
  });

  it("schedule leaves other installations of the account alone, and names what stands under the old name", async () => {
    const { schedules } = new Client({ baseUrl: platform.qstash.url, token: platform.qstash.token });
    const own = scheduleId(platform.functions.url);
    const ids = async () => (await schedules.list()).map((schedule) => schedule.scheduleId).sort();
    const staging = { FUNCTIONS_URL: "https://abcdefghij.supabase.co/functions/v1/" };
    await sync(["schedule"], staging);
    expect(await ids()).toEqual([own, "isthmus-sync-tick-abcdefghij"].sort());
    await sync(["schedule", "--remove"], staging);
    expect(await ids()).toEqual([own]);

    const old = { scheduleId: "isthmus-sync-tick", cron: "* * * * *" };
    await schedules.create({ ...old, destination: "https://other.invalid/sync-tick" });
    expect((await sync(["schedule", "--remove"])).out).toBe(
      `Schedule ${own} is removed.\nSchedule isthmus-sync-tick calls https://other.invalid/sync-tick, another installation: it is left alone.\n`,
    );
    expect(await ids()).toEqual(["isthmus-sync-tick"]);
    await schedules.create({ ...old, destination: `${platform.functions.url}/sync-tick` });
    expect((await sync(["schedule"])).out).toContain("Schedule isthmus-sync-tick, which called the same address, is removed.\n");
    expect(await ids()).toEqual([own]);
  });

  it("tick calls sync-tick once", async () => {
    const ticks = () =>
      platform.functions.invocations().filter((call) => call.function === "sync-tick" && call.status === 202).length;
    const before = ticks();
    expect(await sync(["tick"])).toMatchObject({ code: 0, err: "" });
    await expect.poll(ticks, { timeout: 10_000 }).toBeGreaterThan(before);
  });
});

describe("what goes wrong is told with a code, what happened and what to do", () => {
  /** An execution that is what the values say: one that ran is closed, and cannot be opened again. */
  async function executionThat(status: string, errors: readonly object[] | null = null): Promise<string> {
    const [made] = await target<{ id: string }[]>`
      insert into public.sync_executions (source_id, triggered_by, entities, horizon, snapshot_xmax, system_identifier, timeline, database_oid,
                                          server_start, source_time, status, completed_at, errors)
      select source_id, 'http:test', '{offices}', horizon, snapshot_xmax, system_identifier, timeline, database_oid, server_start, source_time,
             ${status}, case when ${status} <> 'running' then now() end, ${errors === null ? null : target.json(errors as never)}
        from public.sync_executions order by started_at limit 1 returning id`;
    return made?.id ?? "";
  }
  const forget = (id: string) => target`delete from public.sync_executions where id = ${id}`;

  it("a running execution refuses a second start and is named; cancel ends it, with an exit code of its own, once", async () => {
    const id = await executionThat("running");
    const { code, err } = await sync(["start", "offices"]);
    expect(code).toBe(5);
    expect(err).toContain("EXECUTION_ACTIVE: ");
    expect(err).toContain(`  execution: ${id}\n`);

    expect(await sync(["cancel", id])).toEqual({
      code: 0,
      out: `Execution ${id} is cancelled. What was committed stays; the next execution goes on.\n`,
      err: "",
    });
    const cancelled = await sync(["status", id, "--watch"]);
    expect(cancelled.code).toBe(3);
    expect(cancelled.out).toContain("\nEXECUTION_CANCELLED: Cancelled by http:machine:");
    const again = await sync(["cancel", id]);
    expect(again).toMatchObject({ code: 5, out: "" });
    expect(again.err).toMatch(/^EXECUTION_CLOSED: .* has ended already: it is cancelled\n {2}What to do: /);
    expect(await sync(["cancel", "--all"])).toEqual({ code: 0, out: "Nothing was running.\n", err: "" });
    expect((await sync(["start", "offices", "--watch"])).code).toBe(0);
    await forget(id);
  });

  it("pause, resume, cancel and retry name what they are of, list what is paused, and refuse what has no meaning", async () => {
    expect(await sync(["pause"])).toEqual({ code: 0, out: "Nothing is paused.\n", err: "" });
    expect(await sync(["pause", "entity", "offices"])).toEqual({
      code: 0,
      out: "The entity offices is paused: no page of it begins.\n",
      err: "",
    });
    expect((await sync(["pause"])).out).toMatch(/\n\s*entity\s+offices\s+http:machine:/);
    const left = await sync(["start", "offices", "operations", "--watch"]);
    expect(left).toMatchObject({ code: 4 });
    expect(left.err).toMatch(/^Left out: offices\.\n[^]*The entity offices is paused by http:machine:/);
    expect(left.out).toContain("ENTITY_LEFT_OUT");
    expect(await sync(["start", "offices"])).toMatchObject({
      code: 5,
      err: expect.stringContaining("ENTITY_PAUSED: ") as string,
    });
    const said: unknown = answerOf((await sync(["--json", "resume", "entity", "offices"])).out);
    expect(said).toMatchObject({ what: "entity", name: "offices", word: "resume", executions: [], waits: false, pagesAtWork: 0 });
    expect((await sync(["start", "offices", "--watch"])).code).toBe(0);

    expect((await sync(["pause", "job", "daily"])).code).toBe(0);
    expect((await sync(["jobs"])).out).toMatch(/daily\s+paused/);
    expect((await sync(["resume", "job", "daily"])).code).toBe(0);

    const id = await executionThat("running");
    const [chain] = await target<{ id: string }[]>`
      insert into public.sync_chains (execution_id, entity_id, capture, page_size)
      select ${id}, id, 'full', 100 from public.sync_entities where entity_type = 'offices' returning id`;
    expect((await sync(["pause", "chain", chain?.id ?? ""])).code).toBe(0);
    expect((await sync(["pause", "execution", id])).code).toBe(0);
    expect((await sync(["executions"])).out).toMatch(/running \(paused\)/);
    expect((await sync(["status", id])).out).toContain(`npm run sync -- resume execution`);
    const again = await sync(["retry", "execution", id]);
    expect(again).toMatchObject({ code: 5, out: "" });
    expect(again.err).toMatch(/^CONTROL_REFUSED: .* is paused: resume it first\n {2}What to do: /);
    expect(await sync(["cancel", "execution", id])).toMatchObject({
      code: 0,
      out: `The execution ${id} is cancelled. What was committed stays; the next execution goes on.\n`,
    });
    expect((await sync(["status", id])).code).toBe(3);
    await forget(id);
  });

  it.each([
    // Four keys for each record that a page may read: nobody has changed an office since.
    { title: "a run by its id", args: ["start", "offices", "--full", "--page-size", "2", "--watch"], by: "id" },
    { title: "a plan with all that run", args: ["plan", "offices", "--full", "--page-size", "2"], by: "--all" },
  ])("cancel ends $title at its next commit, while a page is at work", async ({ args, by }) => {
    const holder = postgres(platform.urls.targetOwner, { max: 1, onnotice: () => undefined });
    let watched: ReturnType<typeof sync> | undefined;
    let execution = "";
    await holder.begin(async (held) => {
      // A page, of a plan too, waits for this before its commit; an execution begins and is cancelled without it.
      await held`lock table public.sync_page_log in exclusive mode`;
      watched = sync(args);
      const working = async () =>
        (execution =
          (
            await target<{ id: string }[]>`
              select c.execution_id as id from public.sync_chains c where c.state = 'open' and c.capture = 'full' and c.lease_until > now()`
          )[0]?.id ?? "");
      await expect.poll(working, { timeout: 20_000 }).not.toBe("");
      const { code, out } = await sync(["cancel", by === "id" ? execution : by]);
      expect({ code, out }).toEqual({
        code: 0,
        out: `Execution ${execution} is cancelled. 1 pages are at work and may still commit. What was committed stays; the next execution goes on.\n`,
      });
    });
    await holder.end();
    const { code, out } = (await watched) ?? { code: null, out: "" };
    expect(code).toBe(3);
    expect(out).toContain("\nEXECUTION_CANCELLED: Cancelled by http:machine:");
    // The page that was at work committed; no other began.
    const pages = async () =>
      (await target<{ read: number }[]>`select read from public.sync_page_log where execution_id = ${execution}`).map(
        ({ read }) => read,
      );
    await expect.poll(pages, { timeout: 20_000 }).toEqual([8]);
    // A tick passes over a chain whose last message is being turned away at this moment; the next tick settles the
    // execution.
    const settled = async () => {
      await sync(["tick"]);
      return (await target`select from public.sync_executions where id = ${execution} and metrics is not null`).length;
    };
    await expect.poll(settled, { timeout: 20_000 }).toBe(1);
    expect(await pages()).toEqual([8]);
    expect((await sync(["start", "offices", "--watch"])).code).toBe(0);
  });

  it.each([
    {
      title: "with message and remedy",
      errors: [{ code: "SOURCE_REFUSED", message: "The source refused a statement.", remedy: "Check the rights." }],
      says: "\nSOURCE_REFUSED: The source refused a statement.\n  What to do: Check the rights.\n",
    },
    {
      title: "by the brake",
      errors: [{ code: "BRAKE_APPLIED", entity: "offices", kind: "null", field: "name", records: 900, landed: 1000 }],
      says: "\nBRAKE_APPLIED: offices.name: Far more records than usual would be deleted, emptied in a column, or overwritten: the execution was stopped there.\n  What to do: Look at the source.",
    },
    {
      title: "by control totals",
      errors: [{ code: "CONTROL_TOTALS_DIFFER", entity: "payments", legacy_ids: ["1"] }],
      says: "\nCONTROL_TOTALS_DIFFER: payments: After loading, both sides still differ",
    },
    { title: "without a word", errors: null, says: "\nFAILED: No chain of it tells why.\n  What to do: " },
  ])("a failed execution ends status with exit code 1 and what to do: $title", async ({ errors, says }) => {
    const id = await executionThat("failed", errors);
    const { code, out } = await sync(["status", id]);
    expect(code).toBe(1);
    expect(out).toContain(says);
    await forget(id);
  });

  it("--watch says what does not move, and does not wait for what nobody looks after", async () => {
    const id = await executionThat("running");
    await target`
      insert into public.sync_chains (execution_id, entity_id, capture, state, page_size, due_at, failures, last_error, moved_at)
      select ${id}, id, 'full', 'open', 100, now() + interval '1 day', 3,
             '{"code": "SOURCE_UNAVAILABLE", "message": "The source refuses for now.", "remedy": "Nothing yet."}', now() - interval '5 minutes'
        from public.sync_entities where entity_type = 'offices'`;
    await target`update public.sync_executions set started_at = now() - interval '5 minutes' where id = ${id}`;
    const watched = sync(["status", id, "--watch"]);
    await new Promise((later) => setTimeout(later, 1_000));
    await target`update public.sync_executions set started_at = now() - interval '4 hours' where id = ${id}`;
    await target`update public.sync_chains set moved_at = now() - interval '4 hours' where execution_id = ${id}`;
    const { code, err } = await watched;
    expect(code).toBe(1);
    expect(err).toContain(
      "Nothing has moved for 5 minutes; it is tried again, and stops by itself.\n  offices, 3 tries: SOURCE_UNAVAILABLE: The source refuses for now.\n    What to do: Nothing yet.\n",
    );
    expect(err).toMatch(
      /STALLED: Nothing of execution \S+ has moved for 240 minutes, and nothing has ended it\.\n {2}What to do: /,
    );
    await forget(id);
  });

  it.each([
    {
      title: "a wrong key",
      args: ["start"],
      overrides: { ISTHMUS_API_KEY: "sb_secret_wrong" },
      code: 5,
      says: "UNAUTHENTICATED: ",
    },
    {
      title: "an unknown entity",
      args: ["start", "invoices"],
      overrides: {},
      code: 5,
      says: 'REQUEST_INVALID: entities[0]: there is no entity "invoices"',
    },
    {
      title: "an id that is none",
      args: ["status", "latest"],
      overrides: {},
      code: 5,
      says: "REQUEST_INVALID: execution: must be a UUID.",
    },
    {
      title: "no key",
      args: ["executions"],
      overrides: { ISTHMUS_API_KEY: "" },
      code: 2,
      says: "CONFIG_INVALID: ISTHMUS_API_KEY is not set.",
    },
    {
      title: "no address",
      args: ["tick"],
      overrides: { SUPABASE_URL: "" },
      code: 2,
      says: "CONFIG_INVALID: SUPABASE_URL is not set.",
    },
    { title: "a malformed address", args: ["tick"], overrides: { FUNCTIONS_URL: "project" }, code: 2, says: "CONFIG_INVALID: " },
    {
      title: "no database address",
      args: ["queue"],
      overrides: { TARGET_DB_URL: "" },
      code: 2,
      says: "CONFIG_INVALID: TARGET_DB_URL is not set.",
    },
    { title: "an unknown TLS mode", args: ["queue"], overrides: { TARGET_DB_TLS: "maybe" }, code: 2, says: "CONFIG_INVALID: " },
    {
      title: "nothing listening",
      args: ["start"],
      overrides: { FUNCTIONS_URL: "http://127.0.0.1:1" },
      code: 6,
      says: "UNREACHABLE: ",
    },
    {
      title: "a wrong QStash token",
      args: ["schedule"],
      overrides: { QSTASH_TOKEN: "wrong" },
      code: 6,
      says: "QUEUE_UNAVAILABLE: ",
    },
    {
      title: "a missing .env file",
      args: ["tick", "--env-file", "none.env"],
      overrides: {},
      code: 2,
      says: "CONFIG_INVALID: none.env cannot be read.",
    },
    { title: "an unknown command", args: ["begin"], overrides: {}, code: 2, says: "unknown command" },
    { title: "ids without an entity", args: ["start", "--ids", "1,2"], overrides: {}, code: 2, says: "REQUEST_INVALID: --ids" },
    {
      title: "ids that are none",
      args: ["plan", "--ids", "offices=1,x"],
      overrides: {},
      code: 5,
      says: "legacyIds.offices[1]: ",
    },
    {
      title: "two captures",
      args: ["start", "--full", "--capture", "auto"],
      overrides: {},
      code: 2,
      says: "cannot be used with",
    },
    {
      title: "cancel without an execution",
      args: ["cancel"],
      overrides: {},
      code: 2,
      says: "REQUEST_INVALID: Name an execution",
    },
    {
      title: "cancel of an execution that there is not",
      args: ["cancel", "00000000-0000-4000-8000-000000000000"],
      overrides: {},
      code: 5,
      says: "NOT_FOUND: There is no execution 00000000-0000-4000-8000-000000000000.",
    },
    {
      title: "pause of nothing that there could be",
      args: ["pause", "table", "offices"],
      overrides: {},
      code: 2,
      says: "REQUEST_INVALID: Say what to pause: job, execution, entity, chain",
    },
    {
      title: "retry of what is no id",
      args: ["retry", "chain", "latest"],
      overrides: {},
      code: 2,
      says: 'REQUEST_INVALID: "latest" is not the id of a chain.',
    },
    {
      title: "resume of a job that there is not",
      args: ["resume", "job", "nightly"],
      overrides: {},
      code: 5,
      says: "NOT_FOUND: There is no job nightly.",
    },
    { title: "an unknown option", args: ["start", "--fast"], overrides: {}, code: 2, says: "unknown option" },
  ])("$title", async ({ args, overrides, code, says }) => {
    const result = await sync(args, overrides);
    expect(result.err).toContain(says);
    expect(result).toMatchObject({ code, out: "" });
    if (!/^(unknown|cannot be used)/.test(says)) expect(result.err).toMatch(/\n {2}What to do: \S/);
  });

  it("functions that are not deployed", async () => {
    const { code, err } = await sync(["start"], { FUNCTIONS_URL: `${platform.functions.url}/elsewhere` });
    expect(code).toBe(6);
    expect(err).toContain("NOT_DEPLOYED: There is no function sync-trigger at this address");
  });
});

describe("a target that was migrated before", () => {
  it("is refused, looked at, adopted and decided on, each by one command", async () => {
    await target.unsafe(`
      alter table public.profiles drop constraint profiles_legacy_user_id_key, alter column legacy_user_id drop not null;
      insert into public.profiles (legacy_user_id, profile_type, username, is_active, archived, suspended, joined_at)
      select nullif(n / 2, 5), 'master', 'user ' || n, true, false, false, now() from generate_series(6, 10) n`);
    const refused = await sync(["start", "profiles"]);
    expect(refused).toMatchObject({ code: 5, out: "" });
    expect(refused.err).toMatch(/^TARGET_NOT_EMPTY: .*\n {2}What to do: .*npm run sync -- adopt profiles/);
    expect(await sync(["plan", "profiles"])).toEqual(refused);

    const looked = await sync(["adopt", "profiles", "patients", "--dry-run"]);
    expect(looked.code).toBe(0);
    expect(looked.out).toMatch(/^profiles +0 +2 +4 +1 +to be adopted$/m);
    expect(looked.out).toMatch(/^patients +0 +0 +0 +0 +empty$/m);
    expect(looked.out).toContain("No index leads with the legacy id of profiles");
    expect((await target`select from public.uuid_mappings_enhanced where entity_type = 'profiles'`).length).toBe(0);

    // Of what the check leaves out nothing was looked at.
    await target.unsafe("alter table public.offices rename column name to title");
    const partly = await sync(["adopt", "profiles", "offices", "--dry-run"]);
    const json = await sync(["--json", "adopt", "profiles", "offices", "--dry-run"]);
    await target.unsafe("alter table public.offices rename column title to name");
    expect(partly.code).toBe(4);
    expect(partly.err).toMatch(/^Left out: offices\.\n[^]*name/);
    expect(partly.out).toMatch(/^profiles /m);
    expect(partly.out).not.toContain("offices");
    expect(json.code).toBe(4);
    expect(answerOf(json.out)).toMatchObject({
      preview: [{ entity: "profiles" }],
      paused: [{ entity: "offices", findings: [{ code: "target_column_missing" }, { code: "target_column_required" }] }],
    });

    const adopted = await sync(["adopt", "profiles", "--watch"]);
    expect(adopted.code).toBe(0);
    expect(adopted.out).toMatch(/^profiles +adopt +1\/1 +2 +0 +0 +0 +0 +0 +2 +0$/m);
    const [conflict] = await target<{ id: string; rows: string[] }[]>`
      select id, array(select c ->> 'id' from jsonb_array_elements(conflict_data -> 'candidates') c) as rows
        from public.sync_conflicts where entity_type = 'profiles' and state = 'open' order by source_record_id limit 1`;
    expect(await sync(["adopt-as", conflict?.id ?? "", "me"])).toMatchObject({ code: 2, out: "" });
    const chosen = conflict?.rows[1] ?? "";
    expect(await sync(["adopt-as", conflict?.id ?? "", chosen])).toMatchObject({ code: 0, err: "" });
    expect(
      (
        await target`select legacy_id::integer as id, entity_uuid as uuid from public.uuid_mappings_enhanced where entity_type = 'profiles'`
      )[0],
    ).toEqual({
      id: 3,
      uuid: chosen,
    });
    const again = await sync(["adopt-as", conflict?.id ?? "", chosen]);
    expect(again.code).toBe(5);
    expect(again.err).toMatch(/^DECISION_REFUSED: /);
    await target.unsafe(`
      truncate public.profiles cascade;
      alter table public.profiles add unique (legacy_user_id), alter column legacy_user_id set not null`);
  });
});

describe("as a process", () => {
  it("reads an .env file, prefers exported variables, and ends with the command's exit code", async () => {
    const file = join(folder, "operator.env");
    writeFileSync(
      file,
      Object.entries({ ...env, ISTHMUS_API_KEY: "sb_secret_old" })
        .map(([name, value]) => `${name}="${value}"\n`)
        .join(""),
    );
    const refused = await run(["--env-file", file, "executions"], {});
    expect(refused).toMatchObject({ code: 5, out: "" });
    expect(refused.err).toContain("UNAUTHENTICATED: ");
    // A tick may begin another one meanwhile.
    const begunBefore = await target<
      { id: string }[]
    >`select id::text from public.sync_executions order by started_at desc limit 10`;
    const listed = await run(["--env-file", file, "--json", "executions"], { ISTHMUS_API_KEY: platform.secretKey });
    expect(listed.code).toBe(0);
    const ids = (answerOf(listed.out) as { execution: string }[]).map(({ execution }) => execution);
    expect(ids).toEqual(expect.arrayContaining(begunBefore.map(({ id }) => id)));
    expect((await run(["tick"], {})).code).toBe(2);
  });
});

describe("what does not fit", () => {
  it("check says that everything answers and fits, and lists what writes set off", async () => {
    const { code, out, err } = await sync(["check"]);
    expect({ code, err }).toEqual({ code: 0, err: "" });
    expect(out).toMatch(/^source +yes +\d+ +PostgreSQL 17\.\d+, primary$/m);
    expect(out).toMatch(/^qstash +yes +\d+$/m);
    expect(out).toContain("Both catalogs fit every entity.\n");
    expect(out).toMatch(/^offices +trigger +touch_updated_at +before update, for each row: public\.touch_updated_at +yes$/m);
  });

  it("check ends with exit code 1 on a fatal finding, with what to do; start leaves that entity out and says so", async () => {
    await target`alter table public.operations rename column card_last to card`;
    const checked = await sync(["check"]);
    expect(checked.code).toBe(1);
    expect(checked.out).toContain("Findings: 1 fatal, 0 warnings.\n  fatal  operations  target_column_missing\n");
    expect(checked.out).toContain("What to do: Add the column, or remove the field from the entity file.\n");
    expect(answerOf((await sync(["check", "--json"])).out)).toMatchObject({ ok: false, findings: [{ entity: "operations" }] });

    const started = await sync(["start", "offices", "operations", "--watch"]);
    expect(started.code).toBe(4);
    expect(started.err).toContain("Left out: operations.\nFindings: 1 fatal");
    expect(started.out).toMatch(/^Execution [0-9a-f-]{36}: incomplete$/m);
    expect(started.out).not.toMatch(/^operations +full/m);
    const planned = await sync(["plan", "offices", "operations"]);
    expect({ code: planned.code, err: planned.err }).toEqual({ code: 4, err: started.err });
    expect(planned.out).toMatch(/^Plan [0-9a-f-]{36}: incomplete\. Nothing was written/m);
    expect(planned.out).not.toMatch(/^operations /m);
    const refused = await sync(["start", "operations"]);
    expect(refused.code).toBe(5);
    expect(refused.err).toContain("CONTRACT_BROKEN: operations: public.operations has no column card_last.");
    expect(refused.err).toContain("Findings: 1 fatal, 0 warnings.\n  fatal  operations  target_column_missing\n");
    await target`alter table public.operations rename column card to card_last`;
    expect((await sync(["check"])).code).toBe(0);
  });

  it("acknowledge accepts what writes to the named tables set off, or to all, and asks for one of the two", async () => {
    await target`create trigger shout after insert on public.payments for each row execute function public.touch_updated_at()`;
    await target`create trigger shout after insert on public.orders for each row execute function public.touch_updated_at()`;
    const refused = await sync(["start", "payments"]);
    expect(refused.code).toBe(5);
    expect(refused.err).toContain("SIDE_EFFECTS_UNACKNOWLEDGED: payments: trigger shout on payments: after insert, for each row");
    const planned = await sync(["plan", "payments"]);
    expect(planned.code).toBe(4);
    expect(planned.err).toContain(
      "A run would leave out, until this is acknowledged: payments.\nFindings: 1 fatal, 0 warnings.\n",
    );
    expect(planned.err).toContain("npm run sync -- acknowledge payments");
    expect(planned.out).toMatch(/^Plan [0-9a-f-]{36}: succeeded\. Nothing was written/m);
    expect(await sync(["acknowledge"])).toMatchObject({
      code: 2,
      err: expect.stringContaining("Name tables, or give --all.") as string,
    });
    expect((await sync(["acknowledge", "payments", "--all"])).code).toBe(2);
    const one = await sync(["acknowledge", "payments"]);
    expect(one.out).toMatch(/^payments +trigger +shout .* yes$/m);
    expect(one.out).not.toMatch(/^orders/m);
    expect((await sync(["acknowledge", "--all"])).out).toMatch(/^orders +trigger +shout /m);
    expect(await sync(["acknowledge", "--all"])).toMatchObject({ code: 0, out: "There was nothing to acknowledge.\n" });
    expect(await sync(["plan", "payments"])).toMatchObject({ code: 0, err: "" });
    expect((await sync(["start", "payments", "--watch"])).code).toBe(0);
    await target`drop trigger shout on public.payments`;
    await target`drop trigger shout on public.orders`;
  });
});

function run(
  args: readonly string[],
  variables: Readonly<Record<string, string>>,
): Promise<{ code: number | null; out: string; err: string }> {
  return new Promise((done, failed) => {
    const child = spawn(process.execPath, [resolve(ROOT, "cli/isthmus.mjs"), ...args], {
      cwd: ROOT,
      stdio: ["ignore", "pipe", "pipe"],
      env: { PATH: process.env["PATH"] ?? "", ...variables },
    });
    let out = "";
    let err = "";
    child.stdout.on("data", (chunk: Buffer) => (out += chunk.toString()));
    child.stderr.on("data", (chunk: Buffer) => (err += chunk.toString()));
    child.once("error", failed);
    child.once("close", (code) => done({ code, out, err }));
  });
}

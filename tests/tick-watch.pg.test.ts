import { createServer, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { startNetWorker, type NetWorker } from "../local/net/worker.ts";
import { freePort } from "../local/ports.ts";
import { answer } from "../shared/http/respond.ts";
import { IsthmusError } from "../shared/errors.ts";
import { createLog } from "../shared/log.ts";
import { startHosted, type Hosted } from "./support/hosted.ts";

const KEY = "sb_secret_nobodys_business";

/** What the function does with a call. The first five are the function's, and what it writes the worker writes. */
type Behaviour =
  | "SCHEMA_OUTDATED"
  | "SCHEMA_AHEAD"
  | "TRIGGERS_OFF"
  | "TARGET_UNAVAILABLE"
  | "works"
  | "slow"
  | "dies"
  | "elsewhere"
  | "silent"
  | "down"
  | "lost"
  | "stuck"
  | `${number}`;

describe("the watch over the ticks", () => {
  let hosted: Hosted;
  let worker: NetWorker | undefined;
  let web: Server;
  let base: string;
  let closed: string;
  let behaviour: Behaviour = "works";
  const later = (ms: number) => new Promise((done) => setTimeout(done, ms));

  const asWorker = (statement: string, id: string) =>
    hosted.admin.begin(async (tx) => {
      await tx.unsafe("set local role isthmus_worker");
      const [row] = await tx.unsafe<{ id: string }[]>(statement, [id]);
      return row?.id ?? "";
    });
  const serve = async (body: string, response: ServerResponse) => {
    const { call } = JSON.parse(body) as { call: string };
    if (behaviour === "silent") return;
    const refuses =
      behaviour === "SCHEMA_OUTDATED" ||
      behaviour === "SCHEMA_AHEAD" ||
      behaviour === "TRIGGERS_OFF" ||
      behaviour === "TARGET_UNAVAILABLE"
        ? behaviour
        : undefined;
    if (refuses) {
      const said = await answer(
        createLog(() => undefined),
        () => Promise.reject(new IsthmusError(refuses, undefined, { detail: { reason: "credentials_refused" } })),
      );
      return void response.writeHead(said.status).end(await said.text());
    }
    if (/^\d+$/.test(behaviour)) return void response.writeHead(Number(behaviour)).end();
    if (behaviour === "works" || behaviour === "slow" || behaviour === "dies") {
      const id = await asWorker("select sync.begin_tick($1) as id", call);
      if (behaviour !== "dies") await asWorker("select sync.end_tick($1)", id);
    }
    if (behaviour === "slow") await later(2_000);
    response.writeHead(202).end();
  };

  beforeAll(async () => {
    // Nothing runs here but what the tests run: pg_cron does not reach the server. Of 0 running jobs it would make 1.
    hosted = await startHosted("tick-watch", { "cron.host": "/nowhere" });
    web = createServer((request, response) => {
      let body = "";
      request.on("data", (part: Buffer) => (body += part.toString()));
      request.on("end", () => void serve(body, response));
    }).listen(0, "127.0.0.1");
    await new Promise((ready) => web.once("listening", ready));
    base = `http://127.0.0.1:${(web.address() as AddressInfo).port}/functions/v1`;
    closed = `http://127.0.0.1:${await freePort()}/functions/v1`;
  });
  afterAll(async () => {
    web?.closeAllConnections();
    web?.close();
    await worker?.stop();
    await hosted?.[Symbol.asyncDispose]();
  });

  const secret = async (name: string, value: string | null) => {
    await hosted.admin`delete from vault.secrets where name = ${`isthmus_${name}`}`;
    if (value !== null) await hosted.owner`select vault.create_secret(${value}, ${`isthmus_${name}`})`;
  };
  /** Everything that a tick or an alert remembers is so much older. */
  const pass = (minutes: number) =>
    hosted.admin
      .unsafe(
        `update public.sync_ticks set created_at = created_at - interval '${minutes} minutes', begun_at = begun_at - interval '${minutes} minutes',
                ended_at = ended_at - interval '${minutes} minutes', answered_at = answered_at - interval '${minutes} minutes';
         update net._http_response set created = created - interval '${minutes} minutes'`,
      )
      .simple();
  const call = async () =>
    hosted.owner.begin(async (tx) => {
      const [row] = await tx<{ id: string | null }[]>`select sync.call_tick() as id`;
      // What the limit is it says itself; nobody waits for it here.
      await tx`update net.http_request_queue set timeout_milliseconds = 1000`;
      return row?.id ?? null;
    });
  /** One minute: the call, what becomes of it, and then the watch. */
  const minute = async (does: Behaviour) => {
    behaviour = does;
    await secret("functions_url", does === "down" ? closed : base);
    if (does === "lost" || does === "stuck") {
      await worker?.stop();
      worker = undefined;
    } else worker ??= await startNetWorker({ url: hosted.url, pauseMs: 20 });
    const id = await call();
    expect(id).not.toBeNull();
    if (does === "lost") await hosted.admin`truncate net.http_request_queue, net._http_response`;
    else if (does !== "stuck")
      await expect
        .poll(
          async () =>
            (
              await hosted.admin`select from net._http_response r join public.sync_ticks t on t.request_id = r.id where t.id = ${id}`
            ).length,
          { timeout: 10_000, interval: 20 },
        )
        .toBe(1);
    await pass(1);
    await hosted.owner`select sync.watch_tick()`;
  };
  const minutes = async (...all: readonly Behaviour[]) => {
    for (const one of all) await minute(one);
  };
  const open = async () => [
    ...(await hosted.admin<{ kind: string; severity: string; message: string; details: unknown }[]>`
      select kind, severity, message, details from public.sync_alerts where (kind like 'tick_%' or kind = 'target_refuses') and closed_at is null`),
  ];
  const kinds = async () => (await open()).map(({ kind }) => kind);
  const fresh = async () => {
    await hosted.admin`truncate public.sync_ticks, net.http_request_queue, net._http_response`;
    await hosted.admin`delete from public.sync_alerts`;
    await hosted.admin`update cron.job set active = true`;
    await secret("functions_url", base);
    await secret("secret_key", KEY);
  };
  beforeEach(fresh);

  describe("until it is set up", () => {
    it("no call fails, none is made, and one warning says what is missing, until a tick has worked", async () => {
      await secret("functions_url", null);
      await secret("secret_key", null);
      for (const times of [1, 2, 3]) {
        expect(await call(), String(times)).toBeNull();
        await hosted.owner`select sync.watch_tick()`;
      }
      expect([...(await hosted.admin`select from net.http_request_queue`)]).toEqual([]);
      expect(await open()).toMatchObject([
        {
          kind: "tick_missing",
          severity: "warning",
          message: expect.stringMatching(
            /^sync-tick is not called yet: the Vault secret isthmus_functions_url is missing\. select vault\.create_secret/,
          ) as unknown,
        },
      ]);
      await secret("functions_url", base);
      await hosted.owner`select sync.watch_tick()`;
      expect(await open()).toMatchObject([{ message: expect.stringMatching(/isthmus_secret_key is missing/) as unknown }]);
      await secret("secret_key", KEY);
      await minute("works");
      expect(await open()).toEqual([]);
    });

    it("a job that is paused is no failure", async () => {
      await hosted.admin`update cron.job set active = false`;
      await hosted.owner`select sync.watch_tick()`;
      expect(await open()).toMatchObject([
        {
          kind: "tick_missing",
          severity: "warning",
          message: expect.stringMatching(/the job isthmus-sync-tick is paused/) as unknown,
        },
      ]);
    });

    it("ticks that QStash calls are enough", async () => {
      await secret("secret_key", null);
      await hosted.owner`select sync.watch_tick()`;
      await hosted.admin.begin(async (tx) => {
        await tx.unsafe("set local role isthmus_worker");
        await tx`select sync.end_tick(sync.begin_tick(null))`;
      });
      expect(await kinds()).toEqual([]);
      await hosted.owner`select sync.watch_tick()`;
      expect(await kinds()).toEqual([]);
    });
  });

  const ENDS: readonly { title: string; does: Behaviour; kind: string; says: RegExp }[] = [
    {
      title: "a wrong key",
      does: "401",
      kind: "tick_refused",
      says: /refused since .* UTC, with status 401: .* Put a secret key of the project into Vault/,
    },
    { title: "a key without rights", does: "403", kind: "tick_refused", says: /with status 403/ },
    {
      title: "a function that is not deployed",
      does: "404",
      kind: "tick_refused",
      says: /with status 404: .* Deploy it, or correct/,
    },
    { title: "a function that fails", does: "503", kind: "tick_refused", says: /with status 503: the function fails/ },
    {
      title: "functions of a later release",
      does: "SCHEMA_OUTDATED",
      kind: "tick_refused",
      says: /refused since .*, with status 503, SCHEMA_OUTDATED: .* setup --upgrade\. /,
    },
    {
      title: "a database of a later release",
      does: "SCHEMA_AHEAD",
      kind: "tick_refused",
      says: /refused since .*, with status 503, SCHEMA_AHEAD: .* from a checkout of it\. /,
    },
    {
      title: "sessions without triggers",
      does: "TRIGGERS_OFF",
      kind: "tick_refused",
      says: /refused since .*, with status 503, TRIGGERS_OFF: .* reset session_replication_role, /,
    },
    {
      title: "a target that refuses the functions",
      does: "TARGET_UNAVAILABLE",
      kind: "target_refuses",
      says: /do not reach this database since .* UTC: sync-tick answers with status 503, TARGET_UNAVAILABLE credentials_refused: .* Is the password in the address right/,
    },
    { title: "a function that is killed", does: "546", kind: "tick_refused", says: /with status 546/ },
    { title: "another page", does: "200", kind: "tick_refused", says: /with status 200, which is not sync-tick's/ },
    {
      title: "an address where nobody is",
      does: "down",
      kind: "tick_refused",
      says: /before it arrived: nobody answers at the address/,
    },
    { title: "no answer in time", does: "silent", kind: "tick_missing", says: /does not answer within 10 seconds/ },
    { title: "a tick that dies at work", does: "dies", kind: "tick_missing", says: /begins, and does not come to its end/ },
    {
      title: "a tick that works on another database",
      does: "elsewhere",
      kind: "tick_missing",
      says: /does nothing in this database/,
    },
    {
      title: "calls that are lost",
      does: "lost",
      kind: "tick_missing",
      says: /pg_net gives no answer .*its worker does not run/,
    },
    { title: "a queue that stands still", does: "stuck", kind: "tick_missing", says: /pg_net gives no answer/ },
  ];
  it.each(ENDS)("$title: $kind, once, with what to do, and it closes when a tick has worked", async ({ does, kind, says }) => {
    await minutes("works", does);
    expect(await kinds()).toEqual([]);
    await pass(2);
    await minute(does);
    expect(await open()).toMatchObject([{ kind, severity: "critical", message: expect.stringMatching(says) as string }]);
    expect(JSON.stringify(await open())).not.toContain(KEY);
    await minute("works");
    expect(await open()).toEqual([]);
  });

  it("a target that refuses some calls, and lets others wait, is one alert, and none of its silence", async () => {
    await minutes("works", "TARGET_UNAVAILABLE", "TARGET_UNAVAILABLE", "elsewhere", "elsewhere", "TARGET_UNAVAILABLE", "silent");
    await minutes("TARGET_UNAVAILABLE", "TARGET_UNAVAILABLE", "elsewhere");
    expect([...(await hosted.admin`select kind, closed_at from public.sync_alerts`)]).toEqual([
      { kind: "target_refuses", closed_at: null },
    ]);
    await pass(10);
    await minute("elsewhere");
    expect(await kinds()).toEqual(["tick_missing"]);
    await minute("works");
    expect(await open()).toEqual([]);
  });

  it("a wrong key is told from the beginning", async () => {
    await minute("401");
    expect(await kinds()).toEqual([]);
    await minute("401");
    expect(await open()).toMatchObject([
      { kind: "tick_refused", message: expect.stringMatching(/^The calls of sync-tick are refused, with status 401/) as unknown },
    ]);
  });

  it("one that answers late and works is slow, after three of them, until one does not", async () => {
    await minutes("slow", "slow");
    // The whole alert: its details name the ticks.
    expect(await open()).toEqual([]);
    await minute("slow");
    expect(await open()).toMatchObject([
      {
        kind: "tick_slow",
        severity: "warning",
        message: expect.stringMatching(/the latest: it did not answer within 10 seconds/) as unknown,
      },
    ]);
    await minute("works");
    expect(await kinds()).toEqual([]);
  });

  it("one that waits in pg_net's queue, or works for long, is slow", async () => {
    const three = (begun: string, ended: string) =>
      hosted.admin.unsafe(
        `truncate public.sync_ticks; insert into public.sync_ticks (created_at, begun_at, ended_at)
         select at, at + interval '${begun}', at + interval '${ended}' from (select now() - n * interval '10 seconds' - interval '${ended}' as at from generate_series(1, 3) n) x; select sync.watch_tick()`,
      );
    await three("90 seconds", "91 seconds");
    expect(await open()).toMatchObject([
      { kind: "tick_slow", message: expect.stringMatching(/it began 90 seconds after it was called/) as unknown },
    ]);
    await three("1 second", "150 seconds");
    expect(await open()).toMatchObject([
      { kind: "tick_slow", message: expect.stringMatching(/it worked for 149 seconds/) as unknown },
    ]);
    await three("1 second", "2 seconds");
    expect(await kinds()).toEqual([]);
  });

  it("a single failure, and calls lost in a crash of the database, are nobody's work", async () => {
    await minutes("works", "503", "works", "lost");
    await hosted.server.crash();
    await hosted.server.restart();
    await minutes("works", "503", "works");
    expect([...(await hosted.admin`select from public.sync_alerts where kind like 'tick_%'`)]).toEqual([]);
  });

  const OBSTACLES: readonly { title: string; broken: string; mended: string; severity?: string; says: RegExp }[] = [
    {
      title: "a secret that is gone",
      broken: "delete from vault.secrets where name = 'isthmus_secret_key'",
      mended: "",
      says: /has not worked since .*: the Vault secret isthmus_secret_key is missing\. select vault\.create_secret/,
    },
    {
      title: "a trigger on the queue",
      broken:
        "create trigger t before insert on net.http_request_queue for each row execute function suppress_redundant_updates_trigger()",
      mended: "drop trigger t on net.http_request_queue",
      says: /has a trigger, which could read the key/,
    },
    {
      title: "a job that is gone",
      broken: "update cron.job set jobname = 'x' where jobname = 'isthmus-sync-tick'",
      mended: "update cron.job set jobname = 'isthmus-sync-tick' where jobname = 'x'",
      severity: "warning",
      says: /there is no job isthmus-sync-tick/,
    },
    {
      title: "a job that is paused",
      broken: "update cron.job set active = false",
      mended: "update cron.job set active = true",
      severity: "warning",
      says: /is paused/,
    },
    {
      title: "pg_net that is gone",
      broken: "alter schema net rename to net_of_test",
      mended: "alter schema net_of_test rename to net",
      says: /pg_net is not enabled/,
    },
    {
      title: "Vault that is gone",
      broken: "alter schema vault rename to vault_of_test",
      mended: "alter schema vault_of_test rename to vault",
      says: /Vault does not give out the secret isthmus_functions_url \(SQLSTATE 42P01\)/,
    },
    {
      title: "pg_cron's jobs that cannot be read",
      // pg_cron lets everybody read it, and a hosted project's postgres reads all there is.
      broken: "revoke select on cron.job from public, postgres cascade; revoke pg_read_all_data from postgres",
      mended: `grant select on cron.job to public; grant select on cron.job to postgres with grant option; grant pg_read_all_data to postgres`,
      says: /cannot be read \(SQLSTATE 42501\)/,
    },
    {
      title: "calls that nobody makes",
      broken: "select 1",
      mended: "select 1",
      says: /has not been called since .*: the job isthmus-sync-tick is there, and makes no calls/,
    },
  ];
  it.each(OBSTACLES)("$title is told although no call is made", async ({ broken, mended, severity, says }) => {
    await minute("works");
    await hosted.admin.unsafe(broken);
    await hosted.owner`select sync.watch_tick()`;
    expect(await kinds()).toEqual([]);
    await hosted.admin.unsafe(
      "update public.sync_ticks set created_at = created_at - interval '4 minutes', ended_at = ended_at - interval '4 minutes'",
    );
    await hosted.owner`select sync.watch_tick()`;
    const told = await open();
    if (mended !== "") await hosted.admin.unsafe(mended);
    expect(told).toMatchObject([
      { kind: "tick_missing", severity: severity ?? "critical", message: expect.stringMatching(says) as unknown },
    ]);
    expect(JSON.stringify(told)).not.toContain(KEY);
  });

  it("answers alone prove nothing: anybody may write one", async () => {
    await minutes("works", "stuck");
    await pass(2);
    await minute("stuck");
    expect(await kinds()).toEqual(["tick_missing"]);
    await hosted.admin
      .unsafe(
        "set role isthmus_worker; insert into net._http_response (id, status_code, timed_out, created) select request_id, 202, false, created_at + interval '1 second' from public.sync_ticks; reset role",
      )
      .simple();
    await hosted.owner`select sync.watch_tick()`;
    expect(await open()).toMatchObject([
      { kind: "tick_missing", message: expect.stringMatching(/does nothing in this database/) as unknown },
    ]);
  });

  it("costs what its own calls cost, however much others call, and never reads a large table that has no index", async () => {
    await minutes("works", "401");
    // Who answers reads and deletes in the same tables meanwhile: nobody does.
    await worker?.stop();
    worker = undefined;
    const older = (minutes: number) =>
      hosted.admin.unsafe(
        `update public.sync_ticks set created_at = created_at - interval '${minutes} minutes', ended_at = ended_at - interval '${minutes} minutes'`,
      );
    const others = (from: number, to: number) =>
      hosted.admin
        .unsafe(
          `insert into net._http_response (id, status_code, content, timed_out, created)
             select n, 200, repeat('x', 200), false, now() - n * interval '5 milliseconds' from generate_series(${from}, ${to}) n;
           insert into net.http_request_queue (method, url, timeout_milliseconds) select 'GET', repeat('x', 200), 1 from generate_series(${from}, ${to})`,
        )
        .simple();
    const blocks = async () => {
      const [row] = await hosted.owner.unsafe<{ "QUERY PLAN": { Plan: Record<string, number> }[] }[]>(
        "explain (analyze, buffers, format json) select sync.watch_tick()",
      );
      const plan = row?.["QUERY PLAN"][0]?.Plan;
      return (plan?.["Shared Hit Blocks"] ?? 0) + (plan?.["Shared Read Blocks"] ?? 0);
    };
    // The first of a session reads the catalog, too.
    const cost = async () => {
      await blocks();
      await call();
      await older(4);
      await call();
      await older(1);
      const read = await blocks();
      expect(await kinds()).toEqual(["tick_missing"]);
      return read;
    };
    await others(1_000, 30_000);
    const few = await cost();
    await others(30_001, 120_000);
    // All of them would be four times as many.
    expect(await cost()).toBeLessThan(few * 1.3);
    await hosted.admin`drop index net._http_response_created_idx`;
    expect(await cost()).toBeLessThan(few);
    await hosted.admin`create index _http_response_created_idx on net._http_response (created)`;
  });

  it("forgets what is older than a day, but for the last tick that worked", async () => {
    await minutes("works", "works", "401");
    await hosted.admin.unsafe(
      "update public.sync_ticks set created_at = created_at - interval '2 days', ended_at = ended_at - interval '2 days'",
    );
    await hosted.owner`select sync.watch_tick()`;
    expect([...(await hosted.admin`select ended_at is not null as worked from public.sync_ticks`)]).toEqual([{ worked: true }]);
  });
});

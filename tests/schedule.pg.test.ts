import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { startNetWorker, type NetWorker } from "../local/net/worker.ts";
import { outcomeOf } from "./support/data-api.ts";
import { SCHEDULE, startHosted, type Hosted } from "./support/hosted.ts";

const KEY = "sb_secret_right";
/** What stands in Vault while jobs fail. */
const OLD = "sb_secret_old";

/** A secret holds this now. */
const put = (name: string, value: string) =>
  `select vault.update_secret((select id from vault.secrets where name = 'isthmus_${name}'), ${value})`;
const KEY_IN_VAULT = "(select decrypted_secret from vault.decrypted_secrets where name = 'isthmus_secret_key')";
const drop = (name: string) => `delete from vault.secrets where name = 'isthmus_${name}'`;
const rename = (name: string, other: string) => `update vault.secrets set name = '${other}' where name = 'isthmus_${name}'`;
/** What is wrong when the job runs, and what the job's history then says. All of it is undone, because the job fails. */
const FAILURES: readonly { title: string; broken: string; says: RegExp }[] = [
  {
    title: "no address",
    broken: drop("functions_url"),
    says: /secret isthmus_functions_url is missing/,
  },
  {
    title: "a misspelled name",
    broken: rename("functions_url", "isthmus_function_url"),
    says: /secret isthmus_functions_url is missing/,
  },
  {
    title: "an empty address",
    broken: put("functions_url", "''"),
    says: /secret isthmus_functions_url is missing/,
  },
  {
    title: "no value",
    broken:
      "alter table vault.secrets alter column secret drop not null; update vault.secrets set secret = null where name = 'isthmus_secret_key'",
    says: /secret isthmus_secret_key is missing/,
  },
  {
    title: "a misspelled name of the key",
    broken: rename("secret_key", "isthmus_secretkey"),
    says: /secret isthmus_secret_key is missing/,
  },
  {
    title: "an empty key",
    broken: put("secret_key", "''"),
    says: /secret isthmus_secret_key is missing/,
  },
  {
    title: "an address without a scheme, with the key behind it",
    broken: put("functions_url", `'abc.supabase.co/functions/v1?apikey=' || ${KEY_IN_VAULT}`),
    says: /isthmus_functions_url is no address/,
  },
  { title: "no key", broken: drop("secret_key"), says: /secret isthmus_secret_key is missing/ },
  {
    title: "the key where the address belongs",
    broken: put("functions_url", KEY_IN_VAULT),
    says: /isthmus_functions_url is no address/,
  },
  {
    title: "an address with a password",
    broken: put("functions_url", `'https://a:' || ${KEY_IN_VAULT} || '@b'`),
    says: /isthmus_functions_url is no address/,
  },
  {
    title: "a line end in the address",
    broken: put("functions_url", "'https://abc.supabase.co' || chr(10)"),
    says: /isthmus_functions_url is no address/,
  },
  {
    title: "a line end in the key",
    broken: put("secret_key", `${KEY_IN_VAULT} || chr(10)`),
    says: /isthmus_secret_key is no key/,
  },
  {
    title: "an address without TLS",
    broken: put("functions_url", "'http://abc.supabase.co/functions/v1'"),
    says: /isthmus_functions_url is no address/,
  },
  {
    title: "the address of one function",
    broken: put("functions_url", "'https://abc.supabase.co/functions/v1/sync-tick/'"),
    says: /isthmus_functions_url is the address of one function/,
  },
  {
    title: "an empty key in the address's place of a password",
    broken: put("functions_url", "'https://abc.supabase.co\\@b/functions/v1'"),
    says: /isthmus_functions_url is no address/,
  },
  {
    title: "a publishable key",
    broken: put("secret_key", "'sb_publishable_' || repeat('a', 30)"),
    says: /isthmus_secret_key is a publishable key/,
  },
  {
    title: "a queue that refuses the row",
    broken: "delete from net.http_request_queue; alter table net.http_request_queue add check (timeout_milliseconds < 10000)",
    says: /pg_net did not take the call of sync-tick \(SQLSTATE 23514\)/,
  },
  {
    title: "a queue that needs another value",
    broken: "delete from net.http_request_queue; alter table net.http_request_queue add column more text not null",
    says: /SQLSTATE 23502/,
  },
  {
    title: "pg_net removed",
    broken: "drop function net.http_post",
    says: /pg_net did not take the call of sync-tick \(SQLSTATE 42883\)/,
  },
  {
    title: "pg_net's schema removed",
    broken: "drop schema net cascade",
    says: /pg_net did not take the call of sync-tick \(SQLSTATE 3F000\)/,
  },
  {
    title: "Vault's schema removed",
    broken: "drop schema vault cascade",
    says: /Vault does not give out the secret isthmus_functions_url \(SQLSTATE 42P01\)/,
  },
  {
    title: "a Vault that its owner may not read",
    broken: `alter function sync.read_secret(text) owner to isthmus_worker; alter function sync.read_secret(text) security definer`,
    says: /Vault does not give out the secret isthmus_functions_url \(SQLSTATE 42501\)/,
  },
  {
    title: "Vault removed",
    broken: "drop view vault.decrypted_secrets",
    says: /Vault does not give out the secret isthmus_functions_url \(SQLSTATE 42P01\)/,
  },
  {
    title: "a Vault whose error tells the key",
    broken: `create function vault.odd(name text, secret text) returns text language plpgsql as $$ begin
               if name like '%url' then return secret; end if; raise exception 'cannot decrypt %', secret using detail = secret; end $$;
             alter view vault.decrypted_secrets rename to more;
             create view vault.decrypted_secrets as select name, vault.odd(name, decrypted_secret) as decrypted_secret from vault.more`,
    says: /Vault does not give out the secret isthmus_secret_key \(SQLSTATE P0001\)/,
  },
  {
    title: "a failed assertion in pg_net",
    broken: `create or replace function net.http_post(url text, body jsonb default '{}', params jsonb default '{}', headers jsonb default '{}', timeout_milliseconds integer default 5000)
             returns bigint language plpgsql as $$ begin assert false, headers::text; end $$`,
    says: /SQLSTATE P0004/,
  },
  {
    title: "a time limit",
    broken: `create or replace function net.http_post(url text, body jsonb default '{}', params jsonb default '{}', headers jsonb default '{}', timeout_milliseconds integer default 5000)
             returns bigint language plpgsql as $$ begin raise query_canceled using message = headers::text; end $$`,
    says: /SQLSTATE 57014/,
  },
  {
    title: "somebody's trigger on the queue",
    broken: `create function net.tell() returns trigger language plpgsql as $$ begin raise exception 'key: %', new.headers; end $$;
             create trigger tell before insert on net.http_request_queue for each row execute function net.tell()`,
    says: /net\.http_request_queue has a trigger/,
  },
];

describe("the schedule of sync-tick on a project with pg_cron, pg_net and Vault", () => {
  let hosted: Hosted;
  let net: NetWorker;
  let web: Server;
  let url: string;
  const calls: { key: string | undefined; path: string; body: unknown }[] = [];
  const run = (path: string) => hosted.run(path);

  beforeAll(async () => {
    // One job after the other: each breaks something else.
    hosted = await startHosted("schedule", { "cron.max_running_jobs": "1" });
    // The function: it knows one key, and does its work as the worker.
    web = createServer((request, response) => {
      let body = "";
      request.on("data", (part: Buffer) => (body += part.toString()));
      request.on("end", () => {
        const { call } = JSON.parse(body) as { call: string };
        const key = request.headers["apikey"] as string | undefined;
        calls.push({ key, path: request.url ?? "", body: JSON.parse(body) });
        if (key !== KEY) return void response.writeHead(401).end();
        response.writeHead(202).end();
        void hosted.admin.begin(async (tx) => {
          await tx.unsafe("set local role isthmus_worker");
          await tx`select sync.end_tick(sync.begin_tick(${call}))`;
        });
      });
    }).listen(0, "127.0.0.1");
    await new Promise((ready) => web.once("listening", ready));
    url = `http://127.0.0.1:${(web.address() as AddressInfo).port}/functions/v1`;
    net = await startNetWorker({ url: hosted.url, pauseMs: 20 });
  });
  afterAll(async () => {
    web?.closeAllConnections();
    web?.close();
    await net?.stop();
    await hosted?.[Symbol.asyncDispose]();
  });

  it("is made by the migrations, which apply to PostgreSQL 15 as well, by an owner who is no superuser", async () => {
    const jobs = await hosted.owner<
      { jobname: string; schedule: string; active: boolean; command: string }[]
    >`select jobname, schedule, active, command from cron.job where jobname not like '%prune%' order by jobid`;
    expect([...jobs]).toEqual([
      { jobname: "isthmus-sync-tick", schedule: "* * * * *", active: true, command: "select sync.call_tick()" },
      { jobname: "isthmus-watch-tick", schedule: "* * * * *", active: true, command: "select sync.watch_tick()" },
      { jobname: "isthmus-deliver-alerts", schedule: "* * * * *", active: true, command: "select sync.deliver_alerts()" },
      { jobname: "isthmus-remove-history", schedule: "* * * * *", active: true, command: "select sync.remove_history()" },
    ]);
    // Whom row level security does not hold would see the commands of all jobs.
    const asWorker = hosted.admin.begin(async (tx) => {
      await tx.unsafe("set local role isthmus_worker");
      await tx`select command from cron.job`;
    });
    expect(await outcomeOf(asWorker)).toBe("42501");
  });

  it("closes the schema public to everybody but the owner, where it was open", async () => {
    const [may] = await hosted.owner`
      select array(select r from unnest(array['anon', 'authenticated', 'service_role', 'isthmus_worker', 'isthmus_decisions']) r
                    where has_schema_privilege(r, 'public', 'create')) as create`;
    expect(may?.["create"]).toEqual([]);
  });

  describe("run by pg_cron", () => {
    const history = async () => [
      ...(await hosted.admin<{ name: string; status: string; said: string }[]>`
        select distinct on (jobname) jobname as name, status, return_message as said from cron.job_run_details d join cron.job j using (jobid)
         where jobname like 'failure %' and end_time is not null order by jobname, runid`),
    ];
    const open = async () => [
      ...(await hosted.admin<{ kind: string; message: string; times: number }[]>`
        select kind, message, occurrences as times from public.sync_alerts where kind like 'tick_%' and closed_at is null`),
    ];

    it(
      "what is missing is named in its history, neither there nor in the server's log stands the key, and a key that is refused is told by an alert until it is not",
      { timeout: 300_000 },
      async () => {
        const { admin, owner } = hosted;
        await owner`select vault.create_secret(${url}, 'isthmus_functions_url'), vault.create_secret(${OLD}, 'isthmus_secret_key')`;
        // Ticks have worked once, and since then the key has been refused twice.
        await admin`insert into public.sync_ticks (created_at, begun_at, ended_at) select at, at, at from (select now() - interval '9 minutes' as at) x`;
        for (const times of [1, 2]) {
          await owner`select sync.call_tick()`;
          await expect
            .poll(async () => (await admin`select from net._http_response where status_code = 401`).length, { timeout: 10_000 })
            .toBe(times);
        }
        for (const [index, { broken }] of FAILURES.entries())
          await admin`select cron.schedule(${`failure ${index}`}, '* * * * *', ${`${broken}; select sync.call_tick()`})`;
        const before = calls.length;

        await expect.poll(async () => (await history()).length, { timeout: 140_000, interval: 250 }).toBe(FAILURES.length);
        const told = await history();
        await admin`select cron.unschedule(jobid) from cron.job where jobname like 'failure %'`;
        for (const [index, { title, says }] of FAILURES.entries()) {
          const run = told.find(({ name }) => name === `failure ${index}`);
          expect(run?.said, title).toMatch(says);
          expect(run?.status, title).toBe("failed");
        }
        expect(JSON.stringify(told)).not.toContain(OLD);
        expect(hosted.log()).toContain("the Vault secret isthmus_functions_url is missing");
        expect(hosted.log()).not.toContain(OLD);
        expect(hosted.log()).not.toContain("Failing row");

        await expect
          .poll(open, { timeout: 70_000, interval: 250 })
          .toMatchObject([{ kind: "tick_refused", message: expect.stringMatching(/with status 401/) as unknown }]);
        await expect.poll(() => calls.length, { timeout: 70_000, interval: 250 }).toBeGreaterThan(before);
        expect(calls.at(-1)).toEqual({
          key: OLD,
          path: "/functions/v1/sync-tick",
          body: { call: expect.any(String) as unknown },
        });

        await owner.unsafe(put("secret_key", `'${KEY}'`));
        await expect.poll(open, { timeout: 70_000, interval: 250 }).toEqual([]);
        expect(calls.at(-1)?.key).toBe(KEY);
        const runs = await admin<{ status: string }[]>`
          select distinct status from cron.job_run_details d join cron.job j using (jobid) where jobname in ('isthmus-sync-tick', 'isthmus-watch-tick') and end_time is not null`;
        expect(runs.map(({ status }) => status)).toEqual(["succeeded"]);
        expect(JSON.stringify(await admin`select * from cron.job_run_details`)).not.toMatch(/sb_secret_(old|right)/);
        expect(hosted.log()).not.toMatch(/sb_secret_(old|right)/);
        expect(JSON.stringify(await admin`select * from public.sync_ticks`)).not.toContain("sb_secret");
        expect(JSON.stringify(await admin`select * from public.sync_alerts`)).not.toMatch(/sb_secret_(old|right)/);
      },
    );
  });

  it("asks pg_net to give up after 10 seconds", async () => {
    await net.stop();
    await hosted.owner`select sync.call_tick()`;
    expect([
      ...(await hosted.admin`select method, url, timeout_milliseconds from net.http_request_queue order by id desc limit 1`),
    ]).toEqual([{ method: "POST", url: `${url}/sync-tick`, timeout_milliseconds: 10_000 }]);
  });

  it("prunes the history that pg_cron keeps for ever, of our jobs and not of those whose names begin like ours", async () => {
    const { admin, owner } = hosted;
    const [other] = await owner<{ id: string }[]>`select cron.schedule('isthmus-report', '0 0 1 1 *', 'select 1') as id`;
    await admin`insert into cron.job_run_details (jobid, runid, end_time) values (1, 1000001, now() - interval '8 days'), (1, 1000002, now()),
      (${other?.id ?? ""}, 1000003, now() - interval '8 days')`;
    const [job] = await owner<{ command: string }[]>`select command from cron.job where jobname = 'isthmus-prune-cron-history'`;
    await admin.unsafe(job?.command ?? "");
    expect(
      (
        await admin<
          { runid: string }[]
        >`select runid from cron.job_run_details where runid between 1000001 and 1000003 order by 1`
      ).map((row) => row.runid),
    ).toEqual(["1000002", "1000003"]);
    await owner`select cron.unschedule('isthmus-report')`;
  });

  describe("the queue in which the key stands until it is sent", () => {
    const WAYS = [
      "select headers from net.http_request_queue",
      "update net.http_request_queue set url = 'https://elsewhere.example'",
      "delete from net.http_request_queue",
      "truncate net.http_request_queue",
      "create function pg_temp.f() returns trigger language plpgsql as $$ begin return new; end $$; create trigger t before insert on net.http_request_queue for each row execute function pg_temp.f()",
      "insert into net._http_response (id) values (1)",
    ];
    const by = (role: string, statement: string) =>
      outcomeOf(
        hosted.admin.begin(async (tx) => {
          await tx.unsafe(`set local role ${role}`);
          await tx.unsafe(statement).simple();
        }),
      );

    it("is told of where the owner of the database cannot close it", () => {
      expect(hosted.notices.filter((text) => text.startsWith("everybody may"))).toEqual([
        expect.stringMatching(
          /^everybody may delete, select, trigger, truncate, update in net\.http_request_queue, .* docs\/deployment\.md/,
        ),
      ]);
    });

    it("is closed by the migration where it can, run again as the guide says, and calls go through as before", async () => {
      await hosted.admin
        .unsafe("alter table net.http_request_queue owner to postgres; alter table net._http_response owner to postgres")
        .simple();
      hosted.notices.length = 0;
      await run(SCHEDULE);
      expect(hosted.notices.filter((text) => text.startsWith("everybody may"))).toEqual([]);
      for (const role of ["anon", "authenticated", "service_role", "isthmus_worker", "isthmus_decisions"]) {
        for (const way of WAYS) expect(await by(role, way), `${role}: ${way}`).toBe("42501");
        expect(await by(role, "select net.http_post('https://a.example')"), role).toBe("allowed");
      }
      expect(await outcomeOf(hosted.owner`select sync.call_tick()`)).toBe("allowed");
    });
  });
});

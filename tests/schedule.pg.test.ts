import { spawn, spawnSync, type ChildProcess } from "node:child_process";
import { chownSync, mkdtempSync, openSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import postgres, { type Sql } from "postgres";
import { applicationSchema } from "../local/target/supabase.ts";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { freePort } from "../local/ports.ts";
import { outcomeOf } from "./support/data-api.ts";

/** Debian's PostgreSQL 15, because pg_cron is packaged for it; the oldest version that Supabase still runs. */
const BIN = "/usr/lib/postgresql/15/bin";
const ROOT = resolve(import.meta.dirname, "..");
const NOBODY = 65_534;
const URL_SECRET = "https://abc.supabase.co/functions/v1";
const KEY = "sb_secret_x";

/**
 * pg_net and Vault are not packaged: their tables, rights and functions as they have them. They belong to the superuser, as on a hosted
 * project, and so does what a role needs to be made with bypassrls before PostgreSQL 16.
 */
const HOSTED = `
  create role isthmus_worker with login bypassrls noinherit;
  create role isthmus_decisions with nologin bypassrls noinherit;
  create extension pg_cron with schema pg_catalog;
  grant usage on schema cron to postgres;
  grant all on all tables in schema cron to postgres;
  create schema vault; create table vault.decrypted_secrets (name text, decrypted_secret text);
  grant usage on schema vault to postgres; grant all on vault.decrypted_secrets to postgres;
  insert into vault.decrypted_secrets values ('isthmus_functions_url', '${URL_SECRET}'), ('isthmus_secret_key', '${KEY}');
  -- As a project that was made under PostgreSQL 14 or before.
  grant create on schema public to public;
  create schema net; grant usage on schema net to public;
  create table net.http_request_queue (id bigserial, method text not null, url text not null, headers jsonb not null, body jsonb, timeout_milliseconds integer not null);
  create table net._http_response (id bigint, status_code integer, content text);
  grant all on all tables in schema net to public; grant all on all sequences in schema net to public;
  create function net.http_post(url text, body jsonb default '{}', params jsonb default '{}', headers jsonb default '{}', timeout_milliseconds integer default 5000)
    returns bigint language sql as $$ insert into net.http_request_queue (method, url, headers, body, timeout_milliseconds)
      values ('POST', url, headers, body, timeout_milliseconds) returning id $$;`;

const SECRETS = "vault.decrypted_secrets";
const of = (name: string) => `where name = 'isthmus_${name}'`;
/** What is wrong when the job runs, and what the job's history then says. All of it is undone, because the job fails. */
const FAILURES: readonly { title: string; broken: string; says: RegExp }[] = [
  {
    title: "no address",
    broken: `delete from ${SECRETS} ${of("functions_url")}`,
    says: /secret isthmus_functions_url is missing/,
  },
  {
    title: "a misspelled name",
    broken: `update ${SECRETS} set name = 'isthmus_function_url' ${of("functions_url")}`,
    says: /secret isthmus_functions_url is missing/,
  },
  {
    title: "an empty address",
    broken: `update ${SECRETS} set decrypted_secret = '' ${of("functions_url")}`,
    says: /secret isthmus_functions_url is missing/,
  },
  {
    title: "no value",
    broken: `update ${SECRETS} set decrypted_secret = null ${of("secret_key")}`,
    says: /secret isthmus_secret_key is missing/,
  },
  {
    title: "a misspelled name of the key",
    broken: `update ${SECRETS} set name = 'isthmus_secretkey' ${of("secret_key")}`,
    says: /secret isthmus_secret_key is missing/,
  },
  {
    title: "an empty key",
    broken: `update ${SECRETS} set decrypted_secret = '' ${of("secret_key")}`,
    says: /secret isthmus_secret_key is missing/,
  },
  {
    title: "an address without a scheme, with the key behind it",
    broken: `update ${SECRETS} set decrypted_secret = 'abc.supabase.co/functions/v1?apikey=' || (select decrypted_secret from ${SECRETS} ${of("secret_key")}) ${of("functions_url")}`,
    says: /isthmus_functions_url is no address/,
  },
  { title: "no key", broken: `delete from ${SECRETS} ${of("secret_key")}`, says: /secret isthmus_secret_key is missing/ },
  {
    title: "the key where the address belongs",
    broken: `update ${SECRETS} set decrypted_secret = (select decrypted_secret from ${SECRETS} ${of("secret_key")}) ${of("functions_url")}`,
    says: /isthmus_functions_url is no address/,
  },
  {
    title: "an address with a password",
    broken: `update ${SECRETS} set decrypted_secret = 'https://a:' || (select decrypted_secret from ${SECRETS} ${of("secret_key")}) || '@b' ${of("functions_url")}`,
    says: /isthmus_functions_url is no address/,
  },
  {
    title: "a line end in the address",
    broken: `update ${SECRETS} set decrypted_secret = decrypted_secret || chr(10) ${of("functions_url")}`,
    says: /isthmus_functions_url is no address/,
  },
  {
    title: "a line end in the key",
    broken: `update ${SECRETS} set decrypted_secret = decrypted_secret || chr(10) ${of("secret_key")}`,
    says: /isthmus_secret_key is no key/,
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
  { title: "pg_net removed", broken: "drop function net.http_post", says: /SQLSTATE 42883/ },
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
    broken: `revoke all on ${SECRETS} from public, postgres; alter function sync.read_secret(text) security definer`,
    says: /Vault does not give out the secret isthmus_functions_url \(SQLSTATE 42501\)/,
  },
  {
    title: "Vault removed",
    broken: `drop table ${SECRETS}`,
    says: /Vault does not give out the secret isthmus_functions_url \(SQLSTATE 42P01\)/,
  },
  {
    title: "a Vault whose error tells the key",
    broken: `create function vault.odd(text) returns text language plpgsql as $$ begin raise exception 'cannot decrypt %', $1 using detail = $1; end $$;
             alter table ${SECRETS} rename to more; create view ${SECRETS} as select name, vault.odd(decrypted_secret) as decrypted_secret from vault.more where name like '%key'
             union all select name, decrypted_secret from vault.more where name like '%url'`,
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
  let server: ChildProcess;
  let admin: Sql;
  let owner: Sql;
  let folder: string;
  const notices: string[] = [];
  const migrate = (file: string) => owner.begin((tx) => tx.unsafe(readFileSync(join(ROOT, "migrations", file), "utf8")).simple());

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), "isthmus-pg15-"));
    const asRoot = process.getuid?.() === 0;
    if (asRoot) chownSync(folder, NOBODY, NOBODY);
    const as = asRoot ? { uid: NOBODY, gid: NOBODY } : {};
    const made = spawnSync(
      join(BIN, "initdb"),
      ["-D", join(folder, "data"), "-U", "supabase_admin", "--auth=trust", "--locale=C"],
      { ...as, encoding: "utf8" },
    );
    expect(made.status, made.error?.message ?? made.stderr).toBe(0);
    const port = await freePort();
    const settings = {
      port,
      listen_addresses: "127.0.0.1",
      unix_socket_directories: "",
      shared_preload_libraries: "pg_cron",
      "cron.database_name": "target",
      // One after the other: each breaks something else.
      "cron.max_running_jobs": 1,
      fsync: "off",
    };
    const log = openSync(join(folder, "server.log"), "a");
    server = spawn(
      join(BIN, "postgres"),
      ["-D", join(folder, "data"), ...Object.entries(settings).flatMap(([key, value]) => ["-c", `${key}=${value}`])],
      { ...as, stdio: ["ignore", log, log] },
    );
    const first = postgres(`postgres://supabase_admin@127.0.0.1:${port}/postgres`, {
      max: 1,
      onnotice: () => undefined,
      connect_timeout: 1,
    });
    for (let tries = 0; ; tries++) {
      try {
        await first.unsafe("create database target");
        break;
      } catch (error) {
        if (tries > 200) throw error;
        await new Promise((again) => setTimeout(again, 50));
      }
    }
    await first.end();
    admin = postgres(`postgres://supabase_admin@127.0.0.1:${port}/target`, { max: 1, onnotice: () => undefined });
    await admin.unsafe(readFileSync(join(ROOT, "local/target/bootstrap.sql"), "utf8")).simple();
    await admin.unsafe(HOSTED).simple();
    owner = postgres(`postgres://postgres@127.0.0.1:${port}/target`, {
      max: 1,
      onnotice: ({ message }) => notices.push(message ?? ""),
    });
  });
  afterAll(async () => {
    await Promise.all([owner?.end({ timeout: 1 }), admin?.end({ timeout: 1 })]);
    server?.kill("SIGQUIT");
    await new Promise<void>((gone) => server?.once("exit", () => gone()));
    rmSync(folder, { recursive: true, force: true });
  });

  it("is made by the migrations, which apply to PostgreSQL 15 as well, by an owner who is no superuser", async () => {
    await owner.unsafe(applicationSchema()).simple();
    for (const file of readdirSync(join(ROOT, "migrations")).sort()) await migrate(file);
    const jobs = await owner<
      { jobname: string; schedule: string; active: boolean }[]
    >`select jobname, schedule, active from cron.job order by jobid`;
    expect([...jobs]).toEqual([
      { jobname: "isthmus-sync-tick", schedule: "* * * * *", active: true },
      { jobname: "isthmus-prune-cron-history", schedule: "17 3 * * *", active: true },
    ]);
  });

  it("closes the schema public to everybody but the owner, where it was open", async () => {
    const [may] = await owner`
      select array(select r from unnest(array['anon', 'authenticated', 'service_role', 'isthmus_worker', 'isthmus_decisions']) r
                    where has_schema_privilege(r, 'public', 'create')) as create`;
    expect(may?.["create"]).toEqual([]);
  });

  describe("when something is missing", () => {
    const log = () => readFileSync(join(folder, "server.log"), "utf8");
    beforeAll(async () => {
      for (const [index, { broken }] of FAILURES.entries())
        await admin`select cron.schedule(${`failure ${index}`}, '* * * * *', ${`${broken}; select sync.call_tick()`})`;
    });

    it(
      "says in pg_cron's history what it is, and neither there nor in the server's log what the key is",
      { timeout: 150_000 },
      async () => {
        const history = async () => [
          ...(await admin<{ name: string; status: string; said: string }[]>`
          select distinct on (jobname) jobname as name, status, return_message as said from cron.job_run_details d join cron.job j using (jobid)
           where jobname like 'failure %' and end_time is not null order by jobname, runid`),
        ];
        await expect.poll(async () => (await history()).length, { timeout: 140_000, interval: 250 }).toBe(FAILURES.length);
        const told = await history();
        for (const [index, { title, says }] of FAILURES.entries()) {
          const run = told.find(({ name }) => name === `failure ${index}`);
          expect(run?.said, title).toMatch(says);
          expect(run?.status, title).toBe("failed");
        }
        await admin`select cron.unschedule(jobid) from cron.job where jobname like 'failure %'`;
        expect(JSON.stringify(told)).not.toContain(KEY);
        expect(log()).toContain("the Vault secret isthmus_functions_url is missing");
        expect(log()).not.toContain(KEY);
        expect(log()).not.toContain("Failing row");
      },
    );
  });

  it("posts to sync-tick with address and key from Vault, and holds neither itself", async () => {
    const [job] = await owner<{ command: string }[]>`select command from cron.job where jobname = 'isthmus-sync-tick'`;
    expect(job?.command).toBe("select sync.call_tick()");
    // Whom row level security does not hold would see the commands of all jobs.
    const asWorker = admin.begin(async (tx) => {
      await tx.unsafe("set local role isthmus_worker");
      await tx`select command from cron.job`;
    });
    expect(await outcomeOf(asWorker)).toBe("42501");
    await admin`delete from net.http_request_queue`;
    await owner.unsafe(job?.command ?? "");
    expect([...(await admin`select method, url, headers, body, timeout_milliseconds from net.http_request_queue`)]).toEqual([
      {
        method: "POST",
        url: `${URL_SECRET}/sync-tick`,
        headers: { apikey: KEY, "content-type": "application/json" },
        body: {},
        timeout_milliseconds: 10_000,
      },
    ]);
  });

  it("prunes the history that pg_cron keeps for ever", async () => {
    await admin`delete from cron.job_run_details`;
    await admin`insert into cron.job_run_details (jobid, runid, end_time) values (1, 1, now() - interval '8 days'), (1, 2, now())`;
    const [job] = await owner<{ command: string }[]>`select command from cron.job where jobname = 'isthmus-prune-cron-history'`;
    await admin.unsafe(job?.command ?? "");
    expect(
      (await admin<{ runid: string }[]>`select runid from cron.job_run_details where runid in (1, 2)`).map((row) => row.runid),
    ).toEqual(["2"]);
  });

  describe("the queue in which the key stands until it is sent", () => {
    const SCHEDULE = "20261101001400_schedule_sync_tick.sql";
    const WAYS = [
      "select headers from net.http_request_queue",
      "update net.http_request_queue set url = 'https://elsewhere.example'",
      "delete from net.http_request_queue",
      "truncate net.http_request_queue",
      "create function pg_temp.f() returns trigger language plpgsql as $$ begin return new; end $$; create trigger t before insert on net.http_request_queue for each row execute function pg_temp.f()",
      "insert into net._http_response values (1, 200, '')",
    ];
    const by = (role: string, statement: string) =>
      outcomeOf(
        admin.begin(async (tx) => {
          await tx.unsafe(`set local role ${role}`);
          await tx.unsafe(statement).simple();
        }),
      );

    it("is told of where the owner of the database cannot close it", () => {
      expect(notices.filter((text) => text.startsWith("everybody may"))).toEqual([
        expect.stringMatching(
          /^everybody may delete, select, trigger, truncate, update in net\.http_request_queue, .* docs\/deployment\.md/,
        ),
      ]);
    });

    it("is closed by the migration where it can, run again as the guide says, and calls go through as before", async () => {
      await admin
        .unsafe("alter table net.http_request_queue owner to postgres; alter table net._http_response owner to postgres")
        .simple();
      notices.length = 0;
      await migrate(SCHEDULE);
      expect(notices.filter((text) => text.startsWith("everybody may"))).toEqual([]);
      for (const role of ["anon", "authenticated", "service_role", "isthmus_worker", "isthmus_decisions"]) {
        for (const way of WAYS) expect(await by(role, way), `${role}: ${way}`).toBe("42501");
        expect(await by(role, "select net.http_post('https://a.example')"), role).toBe("allowed");
      }
      expect(await outcomeOf(owner`select sync.call_tick()`)).toBe("allowed");
    });
  });
});

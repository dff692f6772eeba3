import { spawn, spawnSync, type ChildProcess } from "node:child_process";
import { chownSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import postgres, { type Sql } from "postgres";
import { applicationSchema } from "../local/target/supabase.ts";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { freePort } from "../local/ports.ts";

/** Debian's PostgreSQL 15, because pg_cron is packaged for it; the oldest version that Supabase still runs. */
const BIN = "/usr/lib/postgresql/15/bin";
const ROOT = resolve(import.meta.dirname, "..");
const NOBODY = 65_534;

describe("the schedule of sync-tick on a project with pg_cron, pg_net and Vault", () => {
  let server: ChildProcess;
  let sql: Sql;
  let folder: string;

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
      fsync: "off",
    };
    server = spawn(
      join(BIN, "postgres"),
      ["-D", join(folder, "data"), ...Object.entries(settings).flatMap(([key, value]) => ["-c", `${key}=${value}`])],
      { ...as, stdio: "ignore" },
    );
    const admin = postgres(`postgres://supabase_admin@127.0.0.1:${port}/postgres`, {
      max: 1,
      onnotice: () => undefined,
      connect_timeout: 1,
    });
    for (let tries = 0; ; tries++) {
      try {
        await admin.unsafe("create database target");
        break;
      } catch (error) {
        if (tries > 200) throw error;
        await new Promise((again) => setTimeout(again, 50));
      }
    }
    await admin.end();
    sql = postgres(`postgres://supabase_admin@127.0.0.1:${port}/target`, { max: 1, onnotice: () => undefined });
    await sql.unsafe(readFileSync(join(ROOT, "local/target/bootstrap.sql"), "utf8")).simple();
    // pg_net and Vault are not packaged: their interfaces, with a record of what was asked for.
    await sql
      .unsafe(
        `create schema vault; create table vault.decrypted_secrets (name text, decrypted_secret text);
         insert into vault.decrypted_secrets values ('isthmus_functions_url', 'https://abc.supabase.co/functions/v1'), ('isthmus_secret_key', 'sb_secret_x');
         create schema net; create table net.requests (url text, body jsonb, params jsonb, headers jsonb, timeout integer);
         create function net.http_post(url text, body jsonb default '{}', params jsonb default '{}', headers jsonb default '{}', timeout_milliseconds integer default 5000)
         returns bigint language sql as $$ insert into net.requests values (url, body, params, headers, timeout_milliseconds); select 1::bigint $$;`,
      )
      .simple();
  });
  afterAll(async () => {
    await sql?.end({ timeout: 1 });
    server?.kill("SIGQUIT");
    await new Promise<void>((gone) => server?.once("exit", () => gone()));
    rmSync(folder, { recursive: true, force: true });
  });

  it("is made by the migrations, which apply to PostgreSQL 15 as well", async () => {
    await sql.unsafe(applicationSchema()).simple();
    for (const file of readdirSync(join(ROOT, "migrations")).sort()) {
      await sql.begin((tx) => tx.unsafe(readFileSync(join(ROOT, "migrations", file), "utf8")).simple());
    }
    const jobs = await sql<
      { jobname: string; schedule: string; active: boolean }[]
    >`select jobname, schedule, active from cron.job order by jobid`;
    expect([...jobs]).toEqual([
      { jobname: "isthmus-sync-tick", schedule: "* * * * *", active: true },
      { jobname: "isthmus-prune-cron-history", schedule: "17 3 * * *", active: true },
    ]);
  });

  it("posts to sync-tick with address and key from Vault, and holds neither itself", async () => {
    const [job] = await sql<{ command: string }[]>`select command from cron.job where jobname = 'isthmus-sync-tick'`;
    expect(job?.command).not.toMatch(/abc\.supabase\.co|sb_secret/);
    await sql.unsafe(job?.command ?? "");
    expect([...(await sql`select * from net.requests`)]).toEqual([
      {
        url: "https://abc.supabase.co/functions/v1/sync-tick",
        body: {},
        params: {},
        headers: { apikey: "sb_secret_x", "content-type": "application/json" },
        timeout: 10_000,
      },
    ]);
  });

  it("prunes the history that pg_cron keeps for ever", async () => {
    await sql`insert into cron.job_run_details (jobid, runid, end_time) values (1, 1, now() - interval '8 days'), (1, 2, now())`;
    const [job] = await sql<{ command: string }[]>`select command from cron.job where jobname = 'isthmus-prune-cron-history'`;
    await sql.unsafe(job?.command ?? "");
    expect(
      (await sql<{ runid: string }[]>`select runid from cron.job_run_details where runid in (1, 2)`).map((row) => row.runid),
    ).toEqual(["2"]);
  });
});

import { spawn } from "node:child_process";
import { cpSync, mkdtempSync, readdirSync, readFileSync, realpathSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import postgres, { type Sql } from "postgres";
import { registry } from "../../shared/entities/registry.gen.ts";
import { workerGrants } from "../../shared/jobs/grants.ts";
import type { LocalPostgres } from "../postgres.ts";
import { acceptSideEffects } from "./accept-side-effects.ts";

/** Passwords of local databases only; hosted ones are set by their operator. */
const WORKER_PASSWORD = "local-worker";
const READER_PASSWORD = "local-reader";
const ROOT = resolve(import.meta.dirname, "../..");

export interface TargetUrls {
  /** postgres, as on a hosted project: owns the application, is no superuser. */
  readonly owner: string;
  /** isthmus_worker, as the functions connect. */
  readonly worker: string;
}
export interface SourceUrls {
  readonly owner: string;
  /** isthmus_reader: read only. */
  readonly reader: string;
}

/**
 * Makes a database what a hosted Supabase project is after the application's schema and our migrations. Safe to repeat.
 * `acknowledge`: what the application's triggers do is accepted already (default: it is).
 */
export async function prepareSupabase(
  pg: LocalPostgres,
  options: { database?: string; acknowledge?: boolean } = {},
): Promise<TargetUrls> {
  const database = options.database ?? "supabase";
  await createDatabase(pg, database);
  const owner = pg.url("postgres", undefined, database);
  await withSql(pg.superuserUrl(database), async (sql) => {
    await sql.unsafe(readFileSync(resolve(import.meta.dirname, "bootstrap.sql"), "utf8")).simple();
  });
  await withSql(owner, async (sql) => {
    const [row] = await sql<{ present: boolean }[]>`select to_regclass('public.offices') is not null as present`;
    if (row?.present !== true) await sql.unsafe(applicationSchema()).simple();
  });
  await pushMigrations(owner);
  await withSql(owner, async (sql) => {
    await sql.unsafe(`alter role isthmus_worker password '${WORKER_PASSWORD}'`);
    await sql.unsafe(workerGrants(registry)).simple();
  });
  const worker = pg.url("isthmus_worker", WORKER_PASSWORD, database);
  if (options.acknowledge !== false) await acceptSideEffects(worker, registry);
  return { owner, worker };
}

/** The application's tables, which the sync fills and never creates. */
export function applicationSchema(): string {
  const folder = resolve(import.meta.dirname, "schema");
  return readdirSync(folder)
    .sort()
    .map((file) => readFileSync(join(folder, file), "utf8"))
    .join("\n");
}

/** Makes the database of the legacy application with a role that can only read. Safe to repeat. */
export async function prepareSource(pg: LocalPostgres, options: { database?: string } = {}): Promise<SourceUrls> {
  const database = options.database ?? "legacy";
  await createDatabase(pg, database);
  await withSql(pg.superuserUrl(database), async (sql) => {
    await sql
      .unsafe(
        `do $$ begin
           if not exists (select from pg_roles where rolname = 'isthmus_reader') then
             create role isthmus_reader login password '${READER_PASSWORD}';
             alter role isthmus_reader set default_transaction_read_only = on;
           end if;
         end $$;
         grant usage on schema public to isthmus_reader;
         grant select on all tables in schema public to isthmus_reader;
         alter default privileges in schema public grant select on tables to isthmus_reader;`,
      )
      .simple();
  });
  return { owner: pg.superuserUrl(database), reader: pg.url("isthmus_reader", READER_PASSWORD, database) };
}

/** Applies migrations/ by the real Supabase CLI. @throws Error with what the CLI printed. */
export async function pushMigrations(ownerUrl: string): Promise<void> {
  await supabase(["db", "push", "--yes", `--remote=${ownerUrl}`]);
}

/** A command of the CLI that takes longer hangs: on a network that swallows packets, for one. */
const CLI_TIMEOUT_MS = 180_000;

/**
 * Runs the Supabase CLI on a copy of what it reads, with a home of its own: nothing is written into the user's home,
 * and a project linked in this checkout stays linked. @throws Error with what the CLI printed.
 */
export async function supabase(args: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<string> {
  const folder = realpathSync(mkdtempSync(join(tmpdir(), "isthmus-supabase-")));
  try {
    const project = join(folder, "project");
    for (const path of ["supabase/config.toml", "functions", "shared"]) {
      cpSync(join(ROOT, path), join(project, path), { recursive: true });
    }
    symlinkSync(join(ROOT, "migrations"), join(project, "supabase/migrations"));
    return await runCli([...args, "--workdir", project], project, { HOME: folder, ...env });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function runCli(args: readonly string[], cwd: string, env: Readonly<Record<string, string>>): Promise<string> {
  return new Promise((done, failed) => {
    const child = spawn(resolve(ROOT, "node_modules/.bin/supabase"), args, {
      cwd,
      stdio: ["ignore", "pipe", "pipe"],
      timeout: CLI_TIMEOUT_MS,
      env: {
        PATH: process.env["PATH"] ?? "",
        NO_COLOR: "1",
        DO_NOT_TRACK: "1",
        SUPABASE_TELEMETRY_DISABLED: "1",
        PGSSLMODE: "disable",
        ...env,
      },
    });
    let output = "";
    const collect = (chunk: Buffer) => (output += chunk.toString());
    child.stdout.on("data", collect);
    child.stderr.on("data", collect);
    child.once("error", failed);
    child.once("close", (code) => {
      if (code === 0) done(output);
      else failed(new Error(`supabase ${args.slice(0, 2).join(" ")} failed (${code ?? "killed"}):\n${output}`));
    });
  });
}

async function createDatabase(pg: LocalPostgres, database: string): Promise<void> {
  await withSql(pg.superuserUrl(), async (sql) => {
    const [row] = await sql`select from pg_database where datname = ${database}`;
    if (!row) await sql.unsafe(`create database "${database}"`);
  });
}

async function withSql(url: string, work: (sql: Sql) => Promise<void>): Promise<void> {
  const sql = postgres(url, { max: 1, onnotice: () => undefined });
  try {
    await work(sql);
  } finally {
    await sql.end();
  }
}

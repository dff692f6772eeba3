import { readdirSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import postgres, { type Sql } from "postgres";
import { INSTALLATION_FOLDER, installation } from "../../functions/installation.gen.ts";
import type { Entity } from "../../shared/entity/define-entity.ts";
import { workerGrants } from "../../shared/operate/grants.ts";
import { supabase } from "../../cli/setup/supabase-cli.ts";
import type { LocalPostgres } from "../postgres.ts";
import { acceptSideEffects } from "./accept-side-effects.ts";

/** Passwords of local databases only; hosted ones are set by their operator. */
const WORKER_PASSWORD = "local-worker";
const READER_PASSWORD = "local-reader";
const ROOT = resolve(import.meta.dirname, "../..");
/** What the two databases are called, unless told otherwise. */
export const TARGET_DATABASE = "supabase";
const SOURCE_DATABASE = "legacy";

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

/** What a hosted project schedules with, on a server that has pg_cron (Debian's 15). Files of SQL, as the cluster's superuser. */
export const HOSTED_EXTENSIONS = ["local/target/pg-cron.sql", "local/net/net.sql", "local/net/vault.sql"];

/**
 * Makes a database what a hosted Supabase project is after the application's schema and our migrations. Safe to
 * repeat. `acknowledge`: what the application's triggers do is accepted already (default: it is). `schedules`: with
 * HOSTED_EXTENSIONS. `of`: the installation whose tables it gets, and the worker rights to (default: the configured
 * one).
 */
export async function prepareSupabase(
  pg: LocalPostgres,
  options: {
    database?: string;
    acknowledge?: boolean;
    schedules?: boolean;
    of?: { readonly folder: string; readonly entities: readonly Entity[] };
  } = {},
): Promise<TargetUrls> {
  const database = options.database ?? TARGET_DATABASE;
  await createDatabase(pg, database);
  const owner = pg.url("postgres", undefined, database);
  const { folder, entities } = options.of ?? { folder: join(ROOT, INSTALLATION_FOLDER), entities: installation.entities };
  const tables = entities.map(({ target }) => target.table);
  await withSql(pg.superuserUrl(database), async (sql) => {
    for (const file of ["local/target/bootstrap.sql", ...(options.schedules === true ? HOSTED_EXTENSIONS : [])])
      await sql.unsafe(readFileSync(join(ROOT, file), "utf8")).simple();
  });
  await withSql(owner, async (sql) => {
    const [row] = await sql<{ present: boolean }[]>`
      select exists (select from pg_class where relnamespace = 'public'::regnamespace and relname = any (${tables})) as present`;
    if (row?.present !== true) await sql.unsafe(applicationSchema(folder)).simple();
  });
  await pushMigrations(owner);
  await withSql(owner, async (sql) => {
    await sql.unsafe(`alter role isthmus_worker password '${WORKER_PASSWORD}'`);
    await sql.unsafe(workerGrants(entities)).simple();
  });
  const urls = targetUrls(pg, database);
  if (options.acknowledge !== false) await acceptSideEffects(urls.worker, entities);
  return urls;
}

/** Takes a database that prepareSupabase has prepared, on a copy of its server, for the target. Safe to repeat. */
export async function takeSupabase(pg: LocalPostgres, prepared: string): Promise<TargetUrls> {
  await renameDatabase(pg, prepared, TARGET_DATABASE);
  await withSql(pg.superuserUrl(TARGET_DATABASE), async (sql) => {
    const [row] = await sql<{ schedules: boolean }[]>`select to_regclass('cron.job') is not null as schedules`;
    // pg_cron runs a job at the port that the server had when the job was made.
    if (row?.schedules === true) await sql`update cron.job set nodeport = current_setting('port')::integer`;
  });
  return targetUrls(pg, TARGET_DATABASE);
}

function targetUrls(pg: LocalPostgres, database: string): TargetUrls {
  return { owner: pg.url("postgres", undefined, database), worker: pg.url("isthmus_worker", WORKER_PASSWORD, database) };
}

/** The application's tables, which the sync fills and never creates: an installation's own, for local databases alone. */
export function applicationSchema(folder: string = join(ROOT, INSTALLATION_FOLDER)): string {
  return sqlOf(join(folder, "target"));
}

/** The files of SQL of a folder, in the order of their names. */
export function sqlOf(folder: string): string {
  return readdirSync(folder)
    .filter((file) => file.endsWith(".sql"))
    .sort()
    .map((file) => readFileSync(join(folder, file), "utf8"))
    .join("\n");
}

/** Makes the database of the legacy application with a role that can only read. Safe to repeat. */
export async function prepareSource(pg: LocalPostgres, options: { database?: string } = {}): Promise<SourceUrls> {
  const database = options.database ?? SOURCE_DATABASE;
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
  return sourceUrls(pg, database);
}

/** Takes a database that prepareSource has prepared, on a copy of its server, for the source. Safe to repeat. */
export async function takeSource(pg: LocalPostgres, prepared: string): Promise<SourceUrls> {
  await renameDatabase(pg, prepared, SOURCE_DATABASE);
  return sourceUrls(pg, SOURCE_DATABASE);
}

function sourceUrls(pg: LocalPostgres, database: string): SourceUrls {
  return { owner: pg.superuserUrl(database), reader: pg.url("isthmus_reader", READER_PASSWORD, database) };
}

/** Applies migrations/ by the real Supabase CLI. @throws Error with what the CLI printed. */
export async function pushMigrations(ownerUrl: string): Promise<void> {
  await supabase(["db", "push", "--yes", `--remote=${ownerUrl}`], { PGSSLMODE: "disable" });
}

async function createDatabase(pg: LocalPostgres, database: string): Promise<void> {
  await withSql(pg.superuserUrl(), async (sql) => {
    const [row] = await sql`select from pg_database where datname = ${database}`;
    if (!row) await sql.unsafe(`create database "${database}"`);
  });
}

async function renameDatabase(pg: LocalPostgres, from: string, to: string): Promise<void> {
  if (from === to) return;
  await withSql(pg.superuserUrl(), async (sql) => {
    const [row] = await sql`select from pg_database where datname = ${from}`;
    if (row) await sql.unsafe(`alter database "${from}" rename to "${to}"`);
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

import { readdirSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import postgres, { type Sql } from "postgres";
import { startPostgres, type LocalPostgres } from "../../local/postgres.ts";
import { applicationSchema, HOSTED_EXTENSIONS } from "../../local/target/supabase.ts";
import { scratchFolder } from "./scratch.ts";

const ROOT = resolve(import.meta.dirname, "../..");
export const SCHEDULE = "supabase/schemas/schedule.sql";
const DATABASE = "target";

const read = (path: string) => readFileSync(join(ROOT, path), "utf8");

/**
 * A project's database with the real pg_cron, and pg_net and Vault as local/net has them; migrated by its owner, who
 * is no superuser.
 */
export interface Hosted extends AsyncDisposable {
  readonly server: LocalPostgres;
  readonly url: string;
  readonly admin: Sql;
  readonly owner: Sql;
  /** What the migrations have said. */
  readonly notices: string[];
  /** Runs a file of SQL as the owner, in one transaction. */
  run(path: string): Promise<unknown>;
  log(): string;
}

/** As in a project that was made under PostgreSQL 14 or before. */
const OPEN_PUBLIC = "grant create on schema public to public";

export async function startHosted(name: string, settings: Readonly<Record<string, string>> = {}): Promise<Hosted> {
  const server = await startPostgres({
    name,
    dataDir: scratchFolder(name),
    server: "debian-15",
    settings: { shared_preload_libraries: "pg_cron", "cron.database_name": DATABASE, fsync: "off", ...settings },
  });
  const notices: string[] = [];
  const first = postgres(server.superuserUrl(), { max: 1, onnotice: () => undefined });
  await first.unsafe(`create database ${DATABASE}`);
  await first.end();
  const url = server.superuserUrl(DATABASE);
  const admin = postgres(url, { max: 2, onnotice: () => undefined });
  for (const file of ["local/target/bootstrap.sql", ...HOSTED_EXTENSIONS]) await admin.unsafe(read(file)).simple();
  await admin.unsafe(OPEN_PUBLIC);
  const owner = postgres(server.url("postgres", undefined, DATABASE), {
    max: 1,
    onnotice: ({ message }) => notices.push(message ?? ""),
  });
  const run = (path: string) => owner.begin((tx) => tx.unsafe(read(path)).simple());
  await owner.unsafe(applicationSchema()).simple();
  for (const file of readdirSync(join(ROOT, "migrations")).sort()) await run(`migrations/${file}`);
  return {
    server,
    url,
    admin,
    owner,
    notices,
    run,
    log: () => readFileSync(server.logFile, "utf8"),
    [Symbol.asyncDispose]: async () => {
      await Promise.all([owner.end({ timeout: 1 }), admin.end({ timeout: 1 })]);
      await server.remove();
    },
  };
}

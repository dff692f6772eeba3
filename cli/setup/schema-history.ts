import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type postgres from "postgres";
import { PROJECT_ROOT } from "./project-root.ts";

/** One file of migrations/. */
export interface Migration {
  readonly version: string;
  readonly name: string;
  readonly sha256: string;
  readonly sql: string;
}

/** What a database says of our schema: nothing, or what was applied. `sha256` is null for what another tool applied. */
export type Applied = ReadonlyMap<string, { readonly name: string; readonly sha256: string | null }>;

export const RELEASE = (JSON.parse(readFileSync(join(PROJECT_ROOT, "package.json"), "utf8")) as { version: string }).version;

export function migrations(folder = join(PROJECT_ROOT, "migrations")): readonly Migration[] {
  return readdirSync(folder)
    .filter((file) => /^\d{14}_.+\.sql$/.test(file))
    .sort()
    .map((file) => {
      const sql = readFileSync(join(folder, file), "utf8");
      return { version: file.slice(0, 14), name: file.slice(15, -4), sha256: sha256(sql), sql };
    });
}

export function sha256(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}

/** @returns undefined where nothing of ours is; "unknown" where a schema sync stands that does not keep our history. */
export async function appliedMigrations(owner: postgres.Sql | postgres.TransactionSql): Promise<Applied | "unknown" | undefined> {
  const [is] = await owner<{ schema: boolean; history: boolean; pushed: boolean }[]>`
    select to_regnamespace('sync') is not null as schema, to_regclass('sync.installed') is not null as history,
           to_regclass('supabase_migrations.schema_migrations') is not null as pushed`;
  if (is?.schema !== true) return undefined;
  if (!is.history) return "unknown";
  const rows = await owner<{ version: string; name: string; sha256: string | null }[]>`
    select distinct on (version) version, name, sha256 from sync.installed where part = 'migration' order by version, id desc`;
  const applied = new Map(rows.map(({ version, name, sha256 }) => [version, { name, sha256 }]));
  if (applied.size > 0 || !is.pushed) return applied;
  // A project that is ours alone may have been migrated by supabase db push, which keeps a history of its own.
  const pushed = await owner<{ version: string; name: string }[]>`
    select version, name from supabase_migrations.schema_migrations order by version`;
  const names = new Map(migrations().map((one) => [one.version, one.name]));
  return new Map(
    pushed.filter((one) => names.get(one.version) === one.name).map(({ version, name }) => [version, { name, sha256: null }]),
  );
}

/** Whether our own history is empty although migrations were applied: what applied them keeps another one. */
export async function isPushed(owner: postgres.Sql | postgres.TransactionSql): Promise<boolean> {
  const [row] = await owner<
    { empty: boolean }[]
  >`select not exists (select from sync.installed where part = 'migration') as empty`;
  return row?.empty === true;
}

/** Notes a part of the installation that has just been put in place. */
export async function note(
  db: postgres.Sql | postgres.TransactionSql,
  part: "migration" | "functions",
  version: string,
  name: string,
  digest: string | null,
): Promise<void> {
  await db`insert into sync.installed (part, version, name, sha256, release) values (${part}, ${version}, ${name}, ${digest}, ${RELEASE})`;
}

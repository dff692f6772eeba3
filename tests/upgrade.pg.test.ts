import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import postgres, { type Sql } from "postgres";
import { describe, expect, it } from "vitest";
import { installation } from "../functions/installation.gen.ts";
import { writeMigration } from "../scripts/migration.ts";
import { readCatalog } from "../scripts/schema/catalog.ts";
import { declaredFiles, ROOT } from "../scripts/schema/declared.ts";
import { difference } from "../scripts/schema/difference.ts";
import { catalogAfter, freshName } from "../scripts/schema/fresh-database.ts";
import { migrationFiles, releasedMigrations, type MigrationFile } from "../scripts/schema/migration-files.ts";
import { workerGrants } from "../shared/operate/grants.ts";
import { ownerUrl } from "./support/databases.ts";
import { createPipeline, type Pipeline } from "./support/pipeline.ts";
import { schemaServer } from "./support/schema-server.ts";
import { withoutOurs } from "./support/without-ours.ts";

const NOTHING = { statements: [], byHand: [] };
const TABLES =
  "c.relkind = 'r' and (c.relnamespace = 'public'::regnamespace and c.relname ~ '^(sync_|uuid_mappings)' or c.oid = to_regclass('sync.installed'))";

/** All releases from 0.1.0 on; before there is one, what the first will be. */
const RELEASES = [...new Set(["0.1.0", ...releasedMigrations().map(({ release }) => release)])];

/** What an installation of a release has applied. */
function migrationsOf(release: string): readonly MigrationFile[] {
  const released = releasedMigrations();
  const last = released
    .filter((one) => one.release === release)
    .map(({ file }) => file)
    .sort()
    .at(-1);
  return migrationFiles().filter(({ file }) => last === undefined || file <= last);
}

/** Every row of every table of ours, by table. */
async function rowsOf(admin: Sql): Promise<ReadonlyMap<string, readonly Readonly<Record<string, unknown>>[]>> {
  const tables = await admin.unsafe<{ name: string }[]>(
    `select c.oid::regclass::text as name from pg_class c where ${TABLES} order by 1`,
  );
  const found = new Map<string, readonly Readonly<Record<string, unknown>>[]>();
  for (const { name } of tables)
    found.set(
      name,
      (
        await admin.unsafe<{ row: Record<string, unknown> }[]>(
          `select to_jsonb(t) as row from ${name} t order by to_jsonb(t)::text`,
        )
      ).map(({ row }) => row),
    );
  return found;
}

/** Equal where the rows are, in whatever order the columns stand. */
function inOrder(rows: readonly Readonly<Record<string, unknown>>[]): readonly string[] {
  return rows.map((row) => JSON.stringify(Object.entries(row).sort(([a], [b]) => (a < b ? -1 : 1)))).sort();
}

/** The same rows in an installation as that release makes it. What the application has stays where it is. */
async function installRelease(test: Pipeline, owner: Sql, release: string): Promise<void> {
  const { admin } = test.target;
  const rows = await rowsOf(admin);
  await withoutOurs(test.target);
  for (const { sql } of migrationsOf(release)) await owner.begin((tx) => tx.unsafe(sql).simple());
  await admin.begin(async (tx) => {
    await tx.unsafe("set local session_replication_role = replica");
    for (const [table, kept] of rows) {
      const [found] = await tx<{ columns: string | null }[]>`
        select string_agg(quote_ident(attname), ', ') as columns from pg_attribute
         where attrelid = to_regclass(${table}) and attnum > 0 and not attisdropped and attgenerated = ''`;
      const columns = found?.columns ?? null;
      if (columns === null) continue;
      await tx.unsafe(`delete from ${table}`);
      await tx.unsafe(
        `insert into ${table} (${columns}) overriding system value select ${columns} from json_populate_recordset(null::${table}, $1::text::json)`,
        [JSON.stringify(kept)],
      );
    }
    // An upgrade leaves the rows as they were written. Here they were written again, as they are in a database that
    // was put back.
    await tx`update public.sync_identities set inserted_by = pg_current_xact_id()`;
    // Sequences go on where they were.
    await tx.unsafe(`
      do $$ declare v record; begin
        for v in select c.oid::regclass as of_table, a.attname as of_column, pg_get_serial_sequence(c.oid::regclass::text, a.attname) as sequence
                   from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attidentity <> '' where ${TABLES} loop
          execute format('select setval(%L, (select coalesce(max(%I), 0) + 1 from %s), false)', v.sequence, v.of_column, v.of_table);
        end loop;
      end $$`);
    await tx`select setval('public.sync_pending_keys_generation_seq', 1000000)`;
  });
  await owner.unsafe("alter role isthmus_worker password 'local-worker'");
  await owner.unsafe(workerGrants(installation.entities)).simple();
}

/** These sources, released, with a changed function and a column more: what the command makes of that, as a release after this one. */
async function nextRelease(folder: string): Promise<readonly MigrationFile[]> {
  cpSync(join(ROOT, "supabase"), join(folder, "supabase"), {
    recursive: true,
    filter: (path) => !path.endsWith("supabase/migrations"),
  });
  cpSync(join(ROOT, "migrations"), join(folder, "migrations"), { recursive: true });
  for (const path of ["package.json", "shared/db/schema-version.ts"]) cpSync(join(ROOT, path), join(folder, path));
  const server = await schemaServer();
  const command = (...args: string[]) => writeMigration(args, (work) => work(server), folder, new Date("2099-01-02T03:04:05Z"));
  const change = (path: string, from: RegExp | string, to: string) => {
    const text = readFileSync(join(folder, path), "utf8");
    expect(text).toMatch(from);
    writeFileSync(join(folder, path), text.replace(from, to));
  };
  await command("--release");
  change(
    "supabase/schemas/tables/chains-and-page-log.sql",
    /(create table public\.sync_page_log \((?:.*\n)*?)(  unique \(chain_id, page\))/,
    "$1  noted          text not null default 'noted',\n$2",
  );
  change(
    "supabase/schemas/functions/table-guards.sql",
    "new.moved_at := clock_timestamp();",
    "new.moved_at := clock_timestamp() + interval '1 microsecond';",
  );
  const { files: [file = ""] = [] } = await command("note_pages");
  change(
    `migrations/${file}`,
    /-- TO WRITE:.*(\n--.*)*/,
    "alter table public.sync_page_log add column noted text not null default 'noted';",
  );
  // A column of alter table comes last; so it does in the declared table.
  await command();
  return migrationFiles(folder);
}

describe("an upgrade under a running execution", () => {
  it.each(RELEASES)(
    "from %s: every row, id and page in flight is kept, and the execution ends",
    { timeout: 120_000 },
    async (release) => {
      const folder = mkdtempSync(join(tmpdir(), "isthmus-upgrade-"));
      await using test = await createPipeline();
      const owner = postgres(ownerUrl(test.target), { max: 1, onnotice: () => undefined });
      try {
        for (let id = 1; id <= 7; id++) await test.seed.office(id);
        await test.sync({ entities: ["offices"] });
        await test.source.admin`update dispatch_office set phone = '0' || id`;
        for (let id = 8; id <= 12; id++) await test.seed.office(id);
        const { execution } = await test.start({ entities: ["offices"], capture: "full", pageSize: 3 });
        await test.runJoins();
        expect((await test.runOne()).outcome).toBe("committed");
        expect(test.queue.length).toBeGreaterThan(0);

        await installRelease(test, owner, release);
        const steps = (await nextRelease(folder)).slice(migrationsOf(release).length);
        expect(steps.length).toBeGreaterThan(0);
        const server = await schemaServer();
        const declared = await catalogAfter(
          server,
          freshName(),
          declaredFiles(folder).map(({ sql }) => sql),
        );
        const differs = async () => {
          const { functions, triggers, others } = await readCatalog(owner);
          const ours = (line: string) => !/^(role isthmus|schema public)/.test(line);
          return difference(
            { functions, triggers, others: others.filter(ours) },
            { ...declared, others: declared.others.filter(ours) },
          );
        };
        // A step that is missing shows.
        expect(await differs()).not.toEqual(NOTHING);

        const before = await rowsOf(test.target.admin);
        await owner.begin(async (tx) => {
          for (const { sql } of steps) await tx.unsafe(sql).simple();
        });
        expect(await differs()).toEqual(NOTHING);
        const after = await rowsOf(test.target.admin);
        for (const [table, rows] of before) {
          const expected = table === "sync_page_log" ? rows.map((row) => ({ ...row, noted: "noted" })) : rows;
          expect(inOrder(after.get(table) ?? []), table).toEqual(inOrder(expected));
        }

        // The functions of this release go on with the database of the next one.
        await test.drain();
        expect(await test.status(execution)).toMatchObject({ status: "succeeded" });
        const offices = await test.target.admin`select legacy_office_id::int as id, phone from public.offices order by 1`;
        expect(offices.map(({ id, phone }) => `${String(id)} ${String(phone)}`).slice(0, 7)).toEqual(
          [1, 2, 3, 4, 5, 6, 7].map((id) => `${id} 0${id}`),
        );
        expect(offices).toHaveLength(12);
        const ids = (rows: typeof before) =>
          (rows.get("uuid_mappings_enhanced") ?? []).map((row) => `${String(row["legacy_id"])} ${String(row["entity_uuid"])}`);
        expect(ids(await rowsOf(test.target.admin))).toEqual(expect.arrayContaining(ids(before)));
        expect((await test.sync({ entities: ["offices"], capture: "digest" })).chains.length).toBeGreaterThan(0);
      } finally {
        await owner.end();
        rmSync(folder, { recursive: true, force: true });
      }
    },
  );
});

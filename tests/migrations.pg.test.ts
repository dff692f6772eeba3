import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { writeMigration } from "../scripts/migration.ts";
import { catalogText, readCatalog, type Catalog } from "../scripts/schema/catalog.ts";
import { declaredFiles, ROOT } from "../scripts/schema/declared.ts";
import { OBJECTS_FILE, objectsText } from "../scripts/schema/declared-objects.ts";
import { difference } from "../scripts/schema/difference.ts";
import { catalogAfter, freshName, inFreshDatabase, type Server } from "../scripts/schema/fresh-database.ts";
import { migrationFiles } from "../scripts/schema/migration-files.ts";
import { versionsOf } from "../scripts/schema/version.ts";
import { createTestTarget, ownerUrl } from "./support/databases.ts";
import { schemaServer } from "./support/schema-server.ts";
import postgres from "postgres";

const NOTHING = { statements: [], byHand: [] };
const sqlOf = (files: readonly { readonly sql: string }[]) => files.map(({ sql }) => sql);
let server: Server;
let declared: Catalog;
beforeAll(async () => {
  server = await schemaServer();
  declared = await catalogAfter(server, freshName(), sqlOf(declaredFiles()));
}, 60_000);

describe("migrations/, applied one by one, and supabase/schemas/ make the same (npm run migration)", () => {
  it("bodies, settings, owners, rights and comments included", async () => {
    const migrated = await catalogAfter(server, freshName(), sqlOf(migrationFiles()));
    expect(difference(migrated, declared)).toEqual(NOTHING);
    expect(catalogText(migrated)).toBe(catalogText(declared));
    expect(declared.functions.size).toBeGreaterThan(290);
    expect(declared.others.length).toBeGreaterThan(700);
  });

  it("what the check of an installation compares a target with is what the declared schema makes", async () => {
    expect(await objectsText(server, declaredFiles()), "npm run migration writes it").toBe(
      readFileSync(join(ROOT, OBJECTS_FILE), "utf8"),
    );
  });

  it("as the Supabase CLI applies them", async () => {
    await using target = await createTestTarget();
    const owner = postgres(ownerUrl(target), { max: 1 });
    const pushed = await readCatalog(owner);
    await owner.end();
    const ours = (line: string) => !/^(role isthmus|schema public)/.test(line);
    expect(
      difference({ ...pushed, others: pushed.others.filter(ours) }, { ...declared, others: declared.others.filter(ours) }),
    ).toEqual(NOTHING);
  });

  it.each([
    [
      "a body",
      "create or replace function sync.claims() returns jsonb language sql stable set search_path = pg_catalog, pg_temp as 'select null::jsonb'",
    ],
    ["a setting", "alter function sync.claims() set search_path = pg_catalog"],
    ["another setting", "alter function sync.claims() set timezone = 'UTC'"],
    ["whose rights it runs with", "alter function sync.claims() security definer"],
    ["volatility", "alter function sync.claims() volatile"],
    ["a comment", "comment on function sync.claims() is 'changed'"],
    ["an owner", "alter function sync.reveal(uuid) owner to postgres"],
    ["a right", "grant execute on function sync.claims() to anon"],
    ["a right taken", "revoke execute on function sync.claims() from authenticated"],
    ["a right of everybody", "grant execute on function sync.claims() to public"],
    ["a function more", "create function sync.more(a integer default 1) returns integer language sql return a"],
    ["a trigger gone", "drop trigger note_progress on public.sync_chains"],
    [
      "a trigger more",
      "create trigger more before update on public.sync_jobs for each row execute function sync.note_progress()",
    ],
    ["a trigger that is off", "alter table public.sync_chains disable trigger note_progress"],
  ])("%s: is told, and mended by the statements", async (_, change) => {
    await inFreshDatabase(server, freshName(), sqlOf(declaredFiles()), async (owner) => {
      await owner.unsafe(change).simple();
      const found = difference(await readCatalog(owner), declared);
      expect(found.byHand).toEqual([]);
      expect(found.statements.length).toBeGreaterThan(0);
      await owner.unsafe(found.statements.join("\n")).simple();
      expect(difference(await readCatalog(owner), declared)).toEqual(NOTHING);
    });
  });

  it.each([
    "alter type public.sync_job_status add value 'odd'",
    "revoke usage on type public.conflict_resolution_strategy from authenticated",
    "create table public.sync_more (id integer)",
    "alter table public.sync_jobs add column more text",
    "alter table public.sync_jobs alter column attempts set default 7",
    "alter table public.sync_jobs drop column attempts, add column attempts integer not null default 0",
    "alter table public.sync_page_log drop constraint nothing_silent",
    "create index on public.sync_reports (kind)",
    "drop index public.sync_chains_due_idx",
    "create policy more on public.sync_conflicts for delete to authenticated using (true)",
    "alter policy team_reads on public.sync_jobs using (true)",
    "alter table public.sync_chains disable row level security",
    "alter table sync.installed disable row level security",
    "grant insert on public.sync_jobs to authenticated",
    "grant update (state) on public.sync_conflicts to authenticated",
    "grant usage on sequence public.sync_page_log_id_seq to authenticated",
    "comment on table public.sync_jobs is 'changed'",
    "comment on column public.sync_jobs.name is 'changed'",
    "grant usage on schema sync to anon",
    "alter default privileges in schema sync grant execute on functions to anon",
    "alter table public.sync_jobs set (fillfactor = 50)",
    'alter table public.sync_alerts alter column message type text collate "C"',
    "create materialized view public.sync_more as select 1 as id",
  ])("%s: is left to a person", async (change) => {
    await inFreshDatabase(server, freshName(), sqlOf(declaredFiles()), async (owner) => {
      await owner.unsafe(change);
      const found = difference(await readCatalog(owner), declared);
      expect(found.statements).toEqual([]);
      expect(found.byHand.length).toBeGreaterThan(0);
    });
  });

  it("the text of a view is left to a person", async () => {
    const withView = (text: string) =>
      catalogAfter(server, freshName(), [...sqlOf(declaredFiles()), `create view public.sync_more as ${text}`]);
    const found = difference(await withView("select 1 as id"), await withView("select 2 as id"));
    expect(found).toEqual({
      statements: [],
      byHand: [/^only in the migrations: view public.sync_more is .*1 AS id/, /^only in supabase\/schemas: view .*2 AS id/].map(
        (line) => expect.stringMatching(line) as string,
      ),
    });
  });

  it.each(["grant isthmus_decisions to service_role", "grant authenticated to isthmus_worker"])(
    "%s: is left to a person",
    async (change) => {
      await inFreshDatabase(server, freshName(), sqlOf(declaredFiles()), async (owner) => {
        // Roles are the server's: the transaction takes the change back.
        const taken = owner.begin(async (tx) => {
          await tx.unsafe(change);
          const inside = { begin: (work: (within: typeof tx) => unknown) => tx.savepoint((within) => work(within)) };
          const found = difference(await readCatalog(inside as unknown as typeof owner), declared);
          expect(found.statements).toEqual([]);
          expect(found.byHand).toEqual([expect.stringMatching(/^only in the migrations: membership: /) as string]);
          throw new Error("taken back");
        });
        await expect(taken).rejects.toThrow("taken back");
      });
    },
  );
});

describe("npm run migration", () => {
  const root = mkdtempSync(join(tmpdir(), "isthmus-migration-"));
  afterAll(() => rmSync(root, { recursive: true, force: true }));
  let clock = "2027-01-02T03:04:05Z";
  const read = (path: string) => readFileSync(join(root, path), "utf8");
  const change = (path: string, from: string | RegExp, to: string) => {
    const text = read(path);
    expect(text).toMatch(from);
    writeFileSync(join(root, path), text.replace(from, to));
  };
  const command = (...args: string[]) => writeMigration(args, (work) => work(server), root, new Date(clock));
  const isWhole = async () => {
    const now = await catalogAfter(server, freshName(), sqlOf(declaredFiles(root)));
    expect(difference(await catalogAfter(server, freshName(), sqlOf(migrationFiles(root))), now)).toEqual(NOTHING);
  };

  it("writes the baseline anew until something is released, and takes no name for it", async () => {
    cpSync(join(ROOT, "supabase"), join(root, "supabase"), {
      recursive: true,
      filter: (path) => !path.endsWith("supabase/migrations"),
    });
    cpSync(join(ROOT, "migrations"), join(root, "migrations"), { recursive: true });
    for (const path of ["package.json", "shared/db/schema-version.ts"]) cpSync(join(ROOT, path), join(root, path));
    writeFileSync(join(root, "supabase/released.json"), "[]");
    change("supabase/schemas/functions/callers.sql", "'The token of the signed-in user.", "'The token of whoever has signed in.");
    await expect(command("change_claims")).rejects.toThrow("Nothing is released yet");
    const { files: [file = "", schedule] = [] } = await command();
    expect(read(`migrations/${file}`)).toContain("The token of whoever has signed in.");
    expect(schedule).toBe("20261101000200_schedule_sync_tick.sql");
    expect(read(OBJECTS_FILE)).toBe(await objectsText(server, declaredFiles(root)));
  });

  it("has a release keep what its migrations are, and refuses to go on when one was edited", async () => {
    expect((await command("--release")).said).toMatch(/^2 migrations belong to release/);
    expect((await command()).said).toMatch(/^Every migration is released/);
    expect((await command("nothing_new")).said).toMatch(/are equal/);
    expect(versionsOf(root)).toEqual(versionsOf(ROOT));
    const [baseline] = migrationFiles(root);
    writeFileSync(join(root, "migrations", baseline?.file ?? ""), `${baseline?.sql ?? ""} `);
    await expect(command("more")).rejects.toThrow(/was edited after release/);
    writeFileSync(join(root, "migrations", baseline?.file ?? ""), baseline?.sql ?? "");
    await expect(command("Wrong Name")).rejects.toThrow(/verb_object/);
  });

  it("writes changed functions by itself: bodies, comments, rights, triggers, new ones, dropped ones, other signatures", async () => {
    const callers = "supabase/schemas/functions/callers.sql";
    change(callers, "'pg_catalog, public, extensions, pg_temp'", "'pg_catalog, public, extensions, more, pg_temp'");
    change(callers, "The search path under which rows", "The path under which rows");
    change(callers, /(create function sync.calling_role\(\) returns) name/, "$1 text");
    change(callers, "session_user else current_setting('role')::name end", "session_user else current_setting('role') end");
    change(
      "supabase/schemas/functions/alerts.sql",
      /\nrevoke all on function/,
      "\ncreate function sync.more(p_n integer default 1) returns integer language sql set search_path = pg_catalog, pg_temp return p_n;\nrevoke all on function sync.more(integer) from public;\nrevoke all on function",
    );
    change(
      "supabase/schemas/functions/alerts.sql",
      /sync.apply_alert_notes\(\) to isthmus_worker;/,
      "sync.apply_alert_notes() to isthmus_worker, isthmus_decisions;",
    );
    change("supabase/schemas/functions/table-guards.sql", "new.page_size < old.page_size)", "new.page_size <> old.page_size)");
    const { files: [file = ""] = [], said } = await command("change_functions");
    expect(file).toBe("20270102030405_change_functions.sql");
    expect(said).toMatch(/functions and triggers\.$/);
    const text = read(`migrations/${file}`);
    expect(text).toContain("CREATE OR REPLACE FUNCTION sync.application_path()");
    expect(text).toContain("drop function sync.calling_role();");
    expect(text).toContain("grant execute on function sync.calling_role() to isthmus_decisions;");
    expect(text).toContain("revoke all on function sync.more(integer) from public;");
    expect(text).toContain("drop trigger note_progress on public.sync_chains;");
    expect(text).not.toContain("sync.claims()");
    expect(versionsOf(root)).toEqual(["20270102030405", "20270102030405"]);
    expect(read(OBJECTS_FILE)).toContain('"function sync.more(integer)"');
    await isWhole();
    change("supabase/schemas/functions/alerts.sql", /create function sync.more[^;]*;\nrevoke[^;]*;\n/, "");
    await command();
    expect(read(`migrations/${file}`)).not.toContain("sync.more");
    await isWhole();
  });

  const fillIn = (file: string) => {
    change(`migrations/${file}`, /-- Locks:.*/, "-- Locks:   none.");
    change(`migrations/${file}`, /-- Reverse:.*/, "-- Reverse: the migration before.");
  };

  it("releases no draft, no version twice, and nothing that leads elsewhere than the declared schema", async () => {
    const { file } = migrationFiles(root).at(-1) ?? { file: "" };
    const kept = read("supabase/released.json");
    await expect(command("--release")).rejects.toThrow(
      /its heading does not say "Locks:"[^]*"Reverse:"[^]*Release 0.1.0 has its migrations. Raise the version in package.json/,
    );
    fillIn(file);
    change("package.json", '"version": "0.1.0"', '"version": "0.2.0"');
    change("supabase/schemas/functions/callers.sql", "'The path under which", "'The search path under which");
    await expect(command("--release")).rejects.toThrow(/differ. Write the step first/);
    expect(read("supabase/released.json")).toBe(kept);
    await command();
    expect((await command("--release")).said).toMatch(/^1 migrations belong to release 0.2.0/);
    expect((await command("--release")).said).toBe("Every migration is released.");
  });

  it("leaves a table to a person, says so, keeps what the person has written, and writes its own part anew after it", async () => {
    const path = "supabase/schemas/tables/brakes.sql";
    change(path, /(create table public.sync_brakes \((?:.*\n)*?)\);/, "$1,\n  noted_by text\n);");
    change("supabase/schemas/functions/brakes.sql", /(comment on function sync.brake_holds\([^)]*\) is\s+')/, "$1Changed. ");
    clock = "2027-02-02T03:04:05Z";
    const { files: [file = ""] = [], said } = await command("add_noted_by");
    expect(said).toMatch(/Left to you[^]*column public.sync_brakes.noted_by/);
    expect(read(`migrations/${file}`)).toMatch(/-- TO WRITE:[^]*only in supabase\/schemas: column public.sync_brakes.noted_by/);
    await expect(isWhole()).rejects.toThrow();
    fillIn(file);
    change("package.json", '"version": "0.2.0"', '"version": "0.3.0"');
    await expect(command("--release")).rejects.toThrow(/its statements are still TO WRITE/);
    change(`migrations/${file}`, /-- TO WRITE:.*(\n--.*)*/, "alter table public.sync_nothing add column noted_by text;");
    clock = "2027-02-03T03:04:05Z";
    await expect(command()).rejects.toThrow(/sync_nothing/);
    expect(versionsOf(root)).toEqual([file.slice(0, 14), file.slice(0, 14)]);
    change(
      `migrations/${file}`,
      "alter table public.sync_nothing add column noted_by text;",
      "alter table public.sync_brakes add column noted_by text;",
    );
    expect((await command()).said).not.toMatch(/Left to you/);
    expect(read(`migrations/${file}`)).toContain("alter table public.sync_brakes add column noted_by text;");
    expect(read(`migrations/${file}`)).toContain("Changed. ");
    await isWhole();
  });
});

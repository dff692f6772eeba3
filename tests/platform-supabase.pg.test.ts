import { readdirSync } from "node:fs";
import { resolve } from "node:path";
import postgres, { type Sql } from "postgres";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { LocalPostgres } from "../local/postgres.ts";
import { prepareSource, prepareSupabase, pushMigrations } from "../local/target/supabase.ts";
import { createTestSource, createTestTarget, ownerUrl, readerUrl, workerUrl, type TestDatabase } from "./support/databases.ts";
import { testServer } from "./support/servers.ts";

const MIGRATIONS = readdirSync(resolve(import.meta.dirname, "../migrations")).map((name) => name.split("_")[0]);

function client(url: string): Sql & AsyncDisposable {
  const sql = postgres(url, { max: 1, onnotice: () => undefined, fetch_types: false });
  return Object.assign(sql, { [Symbol.asyncDispose]: () => sql.end({ timeout: 1 }) });
}

/** The server of this file, as prepareSupabase() wants it. */
async function sharedServer(db: TestDatabase): Promise<LocalPostgres> {
  const { port, log } = await testServer();
  const refuse = () => Promise.reject(new Error("not this test's server"));
  return {
    name: "shared",
    host: "127.0.0.1",
    port,
    logFile: log,
    superuserUrl: (database = "postgres") => db.superuserUrl.replace(/[^/]+$/, database),
    url: (role, password, database) => db.url(role, password).replace(/[^/]+$/, database),
    stop: refuse,
    crash: refuse,
    restart: refuse,
    remove: refuse,
  };
}

describe("the target is what a new hosted project is", () => {
  let target: TestDatabase;
  let owner: Sql;
  beforeAll(async () => {
    target = await createTestTarget();
    owner = postgres(ownerUrl(target), { max: 1, onnotice: () => undefined });
  });
  afterAll(async () => {
    await owner.end();
    await target[Symbol.asyncDispose]();
  });

  it.each([
    ["postgres", { super: false, login: true, createrole: true, createdb: true, bypassrls: true, replication: true }],
    ["anon", { super: false, login: false, createrole: false, createdb: false, bypassrls: false, replication: false }],
    ["authenticated", { super: false, login: false, createrole: false, createdb: false, bypassrls: false, replication: false }],
    ["service_role", { super: false, login: false, createrole: false, createdb: false, bypassrls: true, replication: false }],
    ["authenticator", { super: false, login: true, createrole: false, createdb: false, bypassrls: false, replication: false }],
    ["isthmus_worker", { super: false, login: true, createrole: false, createdb: false, bypassrls: true, replication: false }],
  ])("has the role %s", async (role, expected) => {
    const [found] = await owner`
      select rolsuper as super, rolcanlogin as login, rolcreaterole as createrole, rolcreatedb as createdb,
             rolbypassrls as bypassrls, rolreplication as replication
        from pg_roles where rolname = ${role}`;
    expect(found).toEqual(expected);
  });

  it("postgres owns the database and may act as the roles of the Data API, but not as a superuser", async () => {
    const [row] = await owner`
      select pg_get_userbyid(datdba) as owner, pg_has_role('postgres', 'anon', 'set') as anon,
             pg_has_role('postgres', 'service_role', 'set') as service,
             pg_has_role('postgres', 'supabase_admin', 'member') as admin
        from pg_database where datname = current_database()`;
    expect(row).toEqual({ owner: "postgres", anon: true, service: true, admin: false });
    await expect(owner.unsafe("copy (select 1) to program 'true'")).rejects.toThrow("permission denied");
  });

  it("a new table in public is closed to the Data API until it is granted, yet open to truncate until that is revoked", async () => {
    await owner.unsafe("create table public.fresh (id bigint generated always as identity, n integer)");
    const rights = await owner`
      select r as role, array(select p from unnest(array['select', 'insert', 'update', 'delete', 'truncate']) p
                               where has_table_privilege(r, 'public.fresh', p)) as has
        from unnest(array['anon', 'authenticated', 'service_role']) r`;
    expect(rights.map(({ role, has }) => [role as string, has as string[]])).toEqual([
      ["anon", ["truncate"]],
      ["authenticated", ["truncate"]],
      ["service_role", ["truncate"]],
    ]);
    await owner.unsafe("grant select on public.fresh to anon");
    const asAnon = (statement: string) =>
      owner.begin(async (sql) => {
        await sql.unsafe("set local role anon");
        return [...(await sql.unsafe(statement))];
      });
    expect(await asAnon("select n from public.fresh")).toEqual([]);
    await expect(asAnon("insert into public.fresh (n) values (1)")).rejects.toThrow("permission denied for table fresh");
  });

  it("auth.uid(), auth.role() and auth.jwt() read the caller's claims, and are null without", async () => {
    const read = (sql: Sql) => sql`select auth.uid() as id, auth.role() as role, auth.jwt() -> 'app_metadata' as app`;
    expect(await read(owner)).toEqual([{ id: null, role: null, app: null }]);
    const id = "0191b7a1-0000-7000-8000-000000000001";
    const claims = JSON.stringify({ sub: id, role: "authenticated", app_metadata: { isthmus_role: "reviewer" } });
    await owner.begin(async (sql) => {
      await sql`select set_config('role', 'authenticated', true), set_config('request.jwt.claims', ${claims}, true)`;
      expect(await read(sql as unknown as Sql)).toEqual([{ id, role: "authenticated", app: { isthmus_role: "reviewer" } }]);
    });
  });

  it("has every migration applied by the CLI, once", async () => {
    const applied = () => owner<{ version: string }[]>`select version from supabase_migrations.schema_migrations order by 1`;
    expect((await applied()).map(({ version }) => version)).toEqual(MIGRATIONS);
    await pushMigrations(ownerUrl(target));
    expect(await applied()).toHaveLength(MIGRATIONS.length);
  });

  it("tells what the CLI said when a migration fails", async () => {
    await using broken = await createTestTarget();
    await broken.admin.unsafe("delete from supabase_migrations.schema_migrations");
    await expect(pushMigrations(ownerUrl(broken))).rejects.toThrow(/schema "sync" already exists/);
  });

  it("can be prepared again without a change, from a database that was only half prepared too", async () => {
    const server = await sharedServer(target);
    const before = await target.admin`select count(*)::int as n from pg_class`;
    const urls = await prepareSupabase(server, { database: target.name });
    expect(await target.admin`select count(*)::int as n from pg_class`).toEqual(before);
    expect(urls.owner).toBe(ownerUrl(target));
    await using worker = client(urls.worker);
    expect(await worker`select current_user as me`).toEqual([{ me: "isthmus_worker" }]);
  });

  it("the worker signs in with its password only, and can create nothing that lasts", async () => {
    await using worker = client(workerUrl(target));
    expect(await worker`select count(*)::int as n from public.offices`).toEqual([{ n: 0 }]);
    for (const statement of [
      "create table public.mine ()",
      "create schema mine",
      "create role mine",
      "create temp table mine ()",
    ]) {
      const outcome = await worker.unsafe(statement).then(
        () => "done",
        (error: unknown) => (error as postgres.PostgresError).code,
      );
      expect(`${statement}: ${outcome}`).toBe(`${statement}: ${statement.includes("temp") ? "done" : "42501"}`);
    }
    for (const password of [undefined, "wrong"]) {
      await using stranger = client(target.url("isthmus_worker", password));
      await expect(stranger`select 1`).rejects.toThrow();
    }
  });
});

describe("the source", () => {
  it("can be read by the reader and written by nobody else's leave, tables of later included", async () => {
    await using source = await createTestSource();
    await source.admin.unsafe("create table public.later as select 1 as n");
    await using reader = client(readerUrl(source));
    expect(await reader`select n from public.later`).toEqual([{ n: 1 }]);
    await expect(reader`insert into public.later values (2)`).rejects.toThrow("read-only transaction");
    await reader.unsafe("begin read write");
    await expect(reader`insert into public.later values (2)`).rejects.toThrow("permission denied for table later");
    await reader.unsafe("rollback");
    await reader.unsafe("begin read write");
    await expect(reader`create table public.mine ()`).rejects.toThrow("permission denied for schema public");
    await reader.unsafe("rollback");
    expect(
      await reader`select rolsuper or rolcreaterole or rolbypassrls or rolreplication as mighty,
      pg_has_role(current_user, 'pg_read_all_data', 'member') as reads_all from pg_roles where rolname = current_user`,
    ).toEqual([{ mighty: false, reads_all: false }]);
  });

  it("can be prepared again", async () => {
    await using source = await createTestSource();
    const { reader } = await prepareSource(await sharedServer(source), { database: source.name });
    await using sql = client(reader);
    expect(await sql`select current_setting('default_transaction_read_only') as mode`).toEqual([{ mode: "on" }]);
  });
});

describe("test databases", () => {
  let name: string | undefined;

  it("are of their own each", async () => {
    await using one = await createTestTarget();
    await using other = await createTestTarget();
    name = one.name;
    await one.admin.unsafe("create table public.mine ()");
    expect(await other.admin`select to_regclass('public.mine') as found`).toEqual([{ found: null }]);
  });

  it("are gone after their test", async () => {
    await using source = await createTestSource();
    expect(name).toMatch(/^target_/);
    expect(await source.admin`select from pg_database where datname = ${name ?? ""}`).toEqual([]);
  });
});

import { rmSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import postgres from "postgres";
import { describe, expect, it } from "vitest";
import { setupSource } from "../cli/setup-source.ts";
import { loadLegacy } from "../clinic/dataset/load.ts";
import { prepareFiles } from "../local/postgres-files.ts";
import { startPostgres } from "../local/postgres.ts";
import { connect } from "../shared/db/connect.ts";
import { denied } from "../clinic/denied.ts";
import { everDenied } from "../shared/entity/denied.ts";
import { columnsRead } from "../shared/entity/columns-read.ts";
import type { Entity } from "../shared/entity/define-entity.ts";
import { registry } from "../clinic/entities/registry.gen.ts";
import { IsthmusError } from "../shared/errors.ts";
import { recommend, SCAN_BYTES_PER_SECOND, tablesUsed } from "../shared/contract/capabilities.ts";
import { inspectSource } from "../shared/contract/inspect.ts";
import { sourceRoleSql } from "../shared/operate/source-setup.ts";
import { sourceCapabilities } from "../shared/source/capabilities.ts";
import { readSourceCatalog } from "../shared/source/catalog.ts";
import { createInProcess } from "./support/in-process.ts";
import { runScript } from "./support/run-script.ts";
import { createPipeline, type Pipeline } from "./support/pipeline.ts";

const refusal = async (work: Promise<unknown>) => {
  const error: unknown = await work.catch((thrown: unknown) => thrown);
  if (!(error instanceof IsthmusError)) throw new Error("was not refused");
  return error;
};
const OPERATION = "dispatch_operation";

async function look(test: Pipeline, table = OPERATION) {
  const { tables, findings, improvements } = await inspectSource(test.context);
  const found = tables.find((one) => one.table === table);
  if (!found) throw new Error(`${table} was not looked at`);
  const codes = findings.filter((finding) => finding.table === table).map(({ code }) => code);
  return { ...found, codes, improvements: improvements.filter((one) => one.table === table).map(({ sql }) => sql) };
}

/** The entity with a modification time of its own. */
function stamped(modified: string): Entity {
  const operations = registry.find(({ name }) => name === "operations");
  if (!operations) throw new Error("no such entity");
  const source = { ...operations.source, modified, ignored: { ...operations.source.ignored, [modified]: "test" } };
  return { ...operations, source };
}

describe("an inspection of the source", () => {
  it("of a clinic: xmin for every table, backed by digest, each with its size and cost, and it is kept", async () => {
    await using test = await createInProcess({ scale: 0.02 });
    const { source, tables, findings, improvements } = await inspectSource(test.context);
    expect(source).toMatchObject({ node: "primary", role: "isthmus_reader", log: { mayReplicate: false } });
    expect(tables.map(({ table }) => table)).toEqual(tablesUsed(registry).map(({ table }) => table));
    expect(new Set(tables.map(({ capture, backedBy }) => `${capture ?? "none"} ${backedBy ?? "none"}`))).toEqual(
      new Set(["xmin digest"]),
    );
    expect(findings.filter(({ severity }) => severity === "fatal")).toEqual([]);
    const [counted] = await test.source.admin<{ rows: number; bytes: number }[]>`
      select count(*)::integer as rows, pg_relation_size('dispatch_patient')::integer as bytes from dispatch_patient`;
    expect(tables.find(({ table }) => table === "dispatch_patient")).toMatchObject({ ...counted });
    expect(improvements.every(({ sql }) => sql.startsWith("create index concurrently"))).toBe(true);

    const [kept] = await test.target.admin<{ tables: Record<string, object>; inspected: boolean }[]>`
      select capabilities -> 'tables' as tables, capabilities ? 'inspected_at' as inspected from public.sync_sources`;
    expect(kept?.inspected).toBe(true);
    expect(Object.keys(kept?.tables ?? {})).toHaveLength(tables.length);
    expect(kept?.tables["dispatch_office"]).toEqual({
      capture: "xmin",
      backedBy: "digest",
      reason: "needs nothing but the right to read",
    });
  });

  it("is made by a plan when the catalogs have changed, and by no other", async () => {
    await using test = await createPipeline();
    const kept = async () => {
      const [row] = await test.target.admin<{ at: string | null; version: number | null; capture: string | null }[]>`
        select capabilities ->> 'inspected_at' as at, (capabilities ->> 'server_version')::integer as version,
               capabilities #>> '{tables,dispatch_operation,capture}' as capture from public.sync_sources`;
      return row;
    };
    await test.sync({ entities: ["offices"] });
    const first = await kept();
    expect(first).toMatchObject({ capture: "xmin", version: expect.any(Number) as number });
    await test.sync({ entities: ["offices"] });
    expect(await kept()).toEqual(first);
    await test.source.admin`alter table dispatch_operation rename to operation`;
    await test.source.admin`create view dispatch_operation as select * from operation`;
    await test.source.admin`grant select on dispatch_operation to isthmus_reader`;
    await test.sync({ entities: ["offices"] });
    expect(await kept()).toMatchObject({ capture: "digest" });
  });

  it.each<[string, string[], object]>([
    [
      "one column that is not readable",
      [
        "revoke select on dispatch_operation from isthmus_reader",
        "grant select (xmin, ctid, id, type) on dispatch_operation to isthmus_reader",
      ],
      { capture: "xmin", codes: ["source_not_readable"] },
    ],
    [
      "rights on every column by name, and so not on xmin",
      [
        "revoke select on dispatch_operation from isthmus_reader",
        "grant select (id, payment_id, type, made_at, price, sq_order_id, sq_payment_id, sq_refund_id, card_brand, card_last, office_card, attempts) on dispatch_operation to isthmus_reader",
      ],
      { capture: "digest", codes: ["capture_impossible"] },
    ],
    ["no rights", ["revoke select on dispatch_operation from isthmus_reader"], { capture: null, codes: ["source_not_readable"] }],
    [
      "row level security",
      ["alter table dispatch_operation enable row level security"],
      { capture: null, codes: ["source_rows_hidden"] },
    ],
    [
      "a view",
      ["alter table dispatch_operation rename to operation", "create view dispatch_operation as select * from operation"],
      { capture: "digest", kind: "v", rows: null, codes: ["capture_impossible"] },
    ],
    [
      "a materialised view",
      [
        "alter table dispatch_operation rename to operation",
        "create materialized view dispatch_operation as select * from operation",
      ],
      { capture: "digest", kind: "m", codes: ["source_key_not_indexed", "capture_impossible"] },
    ],
    [
      "a partitioned table",
      [
        "alter table dispatch_operation rename to operation",
        "create table dispatch_operation (like operation, primary key (id)) partition by hash (id)",
        "create table half partition of dispatch_operation for values with (modulus 2, remainder 0)",
        "create table rest partition of dispatch_operation for values with (modulus 2, remainder 1)",
        "insert into dispatch_operation (id) select generate_series(1, 3000)",
        "analyze dispatch_operation",
      ],
      { capture: "xmin", kind: "p", rows: 3000, codes: [] },
    ],
    [
      "a partitioned table with a foreign partition",
      [
        "alter table dispatch_operation rename to operation",
        "create table dispatch_operation (like operation) partition by range (id)",
        "create foreign data wrapper nothing",
        "create server nowhere foreign data wrapper nothing",
        "create foreign table far partition of dispatch_operation for values from (1) to (9) server nowhere",
      ],
      { capture: "digest", kind: "f", codes: ["capture_impossible"] },
    ],
    [
      "a key without an index",
      ["alter table dispatch_operation drop constraint dispatch_operation_pkey"],
      {
        capture: "xmin",
        codes: ["source_key_not_indexed"],
        improvements: ['create index concurrently "isthmus_dispatch_operation_id" on public."dispatch_operation" ("id");'],
      },
    ],
  ])("sees %s", async (_, statements, expected) => {
    await using test = await createPipeline();
    for (const statement of statements) await test.source.admin.unsafe(statement);
    if (!statements[0]?.startsWith("revoke")) await test.source.admin`grant select on dispatch_operation to isthmus_reader`;
    const { codes, ...found } = await look(test);
    const { codes: wanted, ...rest } = expected as { codes: string[] };
    expect(found).toMatchObject(rest);
    expect([...codes].sort()).toEqual([...wanted].sort());
    // What it proposes runs, and is then no longer proposed.
    for (const sql of found.improvements) for (const one of sql.split(/(?<=;) /)) await test.source.admin.unsafe(one);
    expect((await look(test)).improvements).toEqual([]);
  });

  it.each<[string, string | undefined, string]>([
    ["without an index", undefined, "xmin"],
    ["with one", "create index stamps on dispatch_operation (updated_at, id)", "modified"],
    ["with a partial one", "create index stamps on dispatch_operation (updated_at, id) where updated_at is not null", "xmin"],
    ["with one on another order", "create index stamps on dispatch_operation (updated_at desc, id)", "modified"],
    ["with a hash", "create index stamps on dispatch_operation using hash (updated_at)", "xmin"],
    ["with an invalid one", "invalid", "xmin"],
  ])("takes a modification time %s for what it is", async (_, statement, capture) => {
    await using test = await createPipeline({ entities: [stamped("updated_at")] });
    const { admin } = test.source;
    await admin`alter table dispatch_operation add column updated_at timestamptz`;
    if (statement === "invalid") {
      await admin`insert into dispatch_operation (id, updated_at) values (1, now()), (2, now())`;
      // A build that fails leaves an index behind that is not valid.
      const name = "isthmus_dispatch_operation_updated_at_id";
      await expect(admin.unsafe(`create unique index concurrently ${name} on dispatch_operation ((1))`)).rejects.toThrow();
    } else if (statement !== undefined) await admin.unsafe(statement);

    const use = tablesUsed([stamped("updated_at")]).find(({ table }) => table === OPERATION);
    const { catalog } = await readSourceCatalog(test.context.source, [OPERATION], "");
    const { tables } = await sourceCapabilities(test.context.source, [OPERATION]);
    const [columns, facts] = [catalog?.tables[OPERATION], tables[OPERATION]];
    if (!use || !catalog || !columns || !facts) throw new Error("was not looked at");
    // As big as makes it worth while.
    const big = { ...columns, ...facts, bytes: 5 * SCAN_BYTES_PER_SECOND };
    expect(recommend(use, big, catalog)).toMatchObject({ capture, backedBy: capture === "modified" ? "xmin" : "digest" });

    const { codes, improvements } = await look(test);
    expect(codes).toEqual(capture === "modified" ? [] : ["source_modified_not_indexed"]);
    for (const sql of improvements) for (const one of sql.split(/(?<=;) /)) await admin.unsafe(one);
    expect(await look(test)).toMatchObject({ codes: [], improvements: [] });
  });

  it("tells a role that may do more than read, and none that may only read", async () => {
    await using test = await createPipeline();
    const excess = async () =>
      (await inspectSource(test.context)).findings
        .filter(({ code }) => code === "source_role_excess")
        .map(({ message }) => message);
    expect(await excess()).toEqual([]);
    await test.source.admin`grant update (name) on dispatch_office to isthmus_reader`;
    await test.source.admin`grant truncate on dispatch_patient to isthmus_reader`;
    await test.source.admin`grant create on schema public to isthmus_reader`;
    expect(await excess()).toEqual([
      "isthmus_reader may write dispatch_office, dispatch_patient of the source.",
      "isthmus_reader may create tables in the schema public of the source.",
    ]);
    const admin = connect({
      side: "source",
      url: test.source.superuserUrl,
      tls: "disable",
      poolSize: 1,
      idleTimeoutSeconds: 5,
      connectTimeoutSeconds: 5,
      applicationName: "test",
    });
    const { findings } = await inspectSource({ ...test.context, source: admin });
    expect(findings.filter(({ code }) => code === "source_role_excess")).toMatchObject([
      { code: "source_role_excess", message: "supabase_admin is a superuser of the source." },
    ]);
    await admin.end();
  });

  it("of a replica: the same facts, and whether it cancels long queries", async () => {
    const folder = resolve(`.local/inspected-${process.pid}`);
    const pg = await startPostgres({ name: "inspected", dataDir: folder });
    try {
      const before = postgres(pg.superuserUrl(), { max: 1 });
      await before.unsafe("create table dispatch_office (id integer primary key, name text)");
      await before.unsafe("checkpoint");
      await before.end();
      await pg.crash();
      writeFileSync(join(prepareFiles(folder).data, "standby.signal"), "");
      await pg.restart();
      const sql = postgres(pg.superuserUrl(), { max: 1, fetch_types: false });
      const { server, tables } = await sourceCapabilities(sql as never, ["dispatch_office"]);
      expect(server).toMatchObject({ replica: true, hotStandbyFeedback: "off", maxStandbyStreamingDelay: "30s" });
      expect(tables["dispatch_office"]?.indexes).toMatchObject([{ columns: ["id"], usable: true }]);
      await sql.end();
    } finally {
      await pg.remove();
      rmSync(folder, { recursive: true, force: true });
    }
  });
});

describe("an entity whose driving table is a view", () => {
  const behindView = async (test: Pipeline) => {
    await test.source.admin`alter table dispatch_office rename to office`;
    await test.source.admin`create view dispatch_office as select * from office`;
    await test.source.admin`grant select on dispatch_office to isthmus_reader`;
  };
  const rename = (test: Pipeline, name: string) => test.source.admin`update office set name = ${name} where id = 1`;
  const name = async (test: Pipeline) =>
    (await test.target.admin<{ name: string }[]>`select name from public.offices where legacy_office_id = 1`)[0]?.name;

  it("is refused to a run of what changed, which would miss its changes, and read by one of everything", async () => {
    await using test = await createPipeline();
    await test.seed.office(1);
    await behindView(test);
    const refused = await refusal(test.start({ entities: ["offices"] }));
    expect(refused.code).toBe("CAPTURE_IMPOSSIBLE");
    expect(refused.message).toMatch(/^offices: .*public\.dispatch_office .*: it is a view\.$/);
    expect(refused.detail).toMatchObject({
      capture: "auto",
      findings: [
        {
          code: "capture_impossible",
          entity: "offices",
          table: "dispatch_office",
          remedy: expect.stringMatching(/full or digest/) as string,
        },
      ],
    });
    expect(await test.target.admin`select from public.sync_executions`).toHaveLength(0);

    const { warnings } = await test.sync({ entities: ["offices"], capture: "full" });
    expect(warnings).toMatchObject([{ code: "capture_impossible", severity: "warn" }]);
    await rename(test, "Moved");
    await test.sync({ entities: ["offices"], capture: "full" });
    expect(await name(test)).toBe("Moved");
    expect((await refusal(test.start({ entities: ["offices"] }))).code).toBe("CAPTURE_IMPOSSIBLE");
  });

  it("stands in its alert until it can tell what changed, whatever else has come through", async () => {
    await using test = await createPipeline();
    await test.seed.office(1);
    const alerted = async () =>
      (await test.target.admin`select from public.sync_alerts where kind = 'contract_broken' and closed_at is null`).length;
    await test.sync({ entities: ["offices"] });
    await test.source.admin`alter table dispatch_office rename to office`;
    await test.source.admin`create view dispatch_office as select * from office`;
    await test.source.admin`grant select on dispatch_office to isthmus_reader`;
    await refusal(test.start({ entities: ["offices"] }));
    expect(await alerted()).toBe(1);
    await test.sync({ entities: ["offices"], capture: "full" });
    expect(await alerted()).toBe(1);
    await test.source.admin`drop view dispatch_office`;
    await test.source.admin`alter table office rename to dispatch_office`;
    await test.sync({ entities: ["offices"] });
    expect(await alerted()).toBe(0);
  });

  it("is left out alone, and is refused as not fitting where more is wrong with it", async () => {
    await using test = await createPipeline();
    await test.seed.office(1);
    await behindView(test);
    expect(await test.sync({ entities: ["offices", "operations"] })).toMatchObject({
      entities: ["operations"],
      paused: [{ entity: "offices", findings: [{ code: "capture_impossible" }] }],
    });
    await test.source.admin`create or replace view dispatch_office as select * from office`;
    await test.source.admin`revoke select on dispatch_office from isthmus_reader`;
    for (const capture of ["auto", "full"] as const) {
      expect((await refusal(test.start({ entities: ["offices"], capture }))).code).toBe("CONTRACT_BROKEN");
    }
  });
});

describe("the SQL that prepares a source", () => {
  it("makes a role that syncs every entity, in full and what changed, and may read nothing else", async () => {
    await using test = await createInProcess();
    await loadLegacy({ url: test.source.superuserUrl, scale: 0.05, logScale: 0.0002 });
    const role = `reader_${test.source.name.slice(-12)}`;
    const setup = await setupSource(role, () => Promise.reject(new Error("nobody answers")));
    expect(setup).toContain(`-- Indexes: not known`);
    expect(setup).not.toMatch(/password '/);
    const { admin } = test.source;
    // Twice: it can be repeated when entity files have changed.
    for (const _ of [1, 2]) await runScript(test.source.superuserUrl, setup);
    try {
      const source = connect({
        side: "source",
        url: test.source.url(role, "local-reader"),
        tls: "disable",
        poolSize: 4,
        idleTimeoutSeconds: 5,
        connectTimeoutSeconds: 5,
        applicationName: "test",
      });
      Object.assign(test.context, { source });
      expect((await test.sync()).paused).toEqual([]);
      await admin`update dispatch_office set name = 'Moved' where id = (select min(id) from dispatch_office)`;
      await admin`update auth_user set first_name = 'Ada' where id = (select min(user_id) from dispatch_patient)`;
      const { chains } = await test.sync();
      expect(chains).toContainEqual(expect.objectContaining({ entity: "offices", capture: "xmin" }));
      expect(await test.target.admin`select from public.offices where name = 'Moved'`).toHaveLength(1);

      const { findings, source: node } = await inspectSource(test.context);
      expect(node.role).toBe(role);
      expect(findings.filter(({ severity, code }) => severity === "fatal" || code === "source_role_excess")).toEqual([]);

      const readable = await admin<{ name: string; table: string }[]>`
        select c.relname as table, a.attname as name from pg_class c join pg_attribute a on a.attrelid = c.oid
         where c.relnamespace = 'public'::regnamespace and c.relkind = 'r' and not a.attisdropped
           and has_column_privilege(${role}, c.oid, a.attnum, 'select')`;
      const named = registry.flatMap((entity) =>
        [...columnsRead(entity)].flatMap(([table, columns]) => ["ctid", ...columns].map((column) => `${table}.${column}`)),
      );
      expect(readable.map((one) => `${one.table}.${one.name}`).sort()).toEqual([...new Set(named)].sort());
      expect(readable.filter((one) => everDenied(denied).includes(one.name))).toEqual([]);
      await expect(source.unsafe("select password from auth_user")).rejects.toThrow(/permission denied/);
      await expect(source.unsafe("select * from dispatch_operation")).rejects.toThrow(/permission denied/);
      await expect(source.unsafe("delete from dispatch_operation")).rejects.toThrow();
      await source.end();
    } finally {
      await admin.unsafe(`drop owned by "${role}"; drop role "${role}"`).simple();
    }
  });

  it("takes back what was granted before, and leaves out system columns of a view", async () => {
    await using test = await createInProcess();
    const role = `reader_${test.source.name.slice(-12)}`;
    const { admin } = test.source;
    await admin.unsafe(`create role "${role}"; grant select on all tables in schema public to "${role}"`).simple();
    try {
      await admin`alter table dispatch_office rename to office`;
      await admin`create view dispatch_office as select * from office`;
      await runScript(test.source.superuserUrl, sourceRoleSql(registry, role, new Set(["dispatch_office"])));
      const [may] = await admin`select has_column_privilege(${role}, 'auth_user', 'password', 'select') as secret,
                                       has_column_privilege(${role}, 'auth_user', 'xmin', 'select') as xmin,
                                       has_column_privilege(${role}, 'dispatch_office', 'name', 'select') as view`;
      expect(may).toEqual({ secret: false, xmin: true, view: true });
    } finally {
      await admin.unsafe(`drop owned by "${role}"; drop role "${role}"`).simple();
    }
  });
});

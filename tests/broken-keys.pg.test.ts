import { describe, expect, it } from "vitest";
import type { Entity } from "../shared/entity/define-entity.ts";
import { operations as operationsEntity } from "../clinic/entities/operations.ts";
import { IsthmusError } from "../shared/errors.ts";
import { checkContract } from "../shared/contract/check-contract.ts";
import { hasNull, hasRepeated } from "../shared/source/claims.ts";
import { createPipeline, type Pipeline } from "./support/pipeline.ts";

const { payment_id: _, ...fields } = operationsEntity.fields;
const operations: Entity = { ...operationsEntity, fields, rules: [], dependsOn: [] };
const joining: Entity = {
  ...operations,
  source: {
    ...operations.source,
    joins: { named: { table: "dispatch_category", on: { parent_id: "c.attempts" } } },
    columns: { ...operations.source.columns, card_brand: "named.name" },
    ignored: { card_bin: "denied", card_brand: "here a joined column" },
  },
};
const TABLE = "dispatch_operation";

/** Operations 1 to 20. */
async function clinic(entity = operations): Promise<Pipeline> {
  const test = await createPipeline({ entities: [entity] });
  await test.source.admin`insert into public.dispatch_operation (id, type, price) select id, 1, 1 from generate_series(1, 20) id`;
  return test;
}

const source = (test: Pipeline, statement: string) => test.source.admin.unsafe(statement);

/** The fatal findings that nothing is left to run for. */
async function refusal(test: Pipeline, request: Parameters<Pipeline["start"]>[0] = {}) {
  const error: unknown = await test.start(request).then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  if (!(error instanceof IsthmusError)) throw new Error("was not refused");
  const findings = error.detail["findings"] as { code: string; table: string; column: string | null; message: string }[];
  return findings.map(({ code, table, column }) => `${error.code} ${code} ${table}.${String(column)}`);
}

/** As somebody does who has no time: the table without its key, or as a view over itself. */
const withoutKey = `alter table public.dispatch_operation drop constraint dispatch_operation_pkey, alter id drop not null`;
const asView = `
  alter table public.dispatch_operation rename to all_operations;
  create view public.dispatch_operation as select * from public.all_operations;
  grant select on public.dispatch_operation to isthmus_reader`;

describe("a key that nothing in the catalog vouches for", () => {
  it("is asked of the rows before the first run, and left out alone while they say that it repeats or is null", async () => {
    await using test = await clinic();
    await source(test, withoutKey);
    await test.sync();
    await source(test, "insert into public.dispatch_operation (id, type) values (7, 1)");
    // Nothing of the catalog has changed: what the rows said stands, until they are asked again.
    await source(test, "create index on public.dispatch_operation (type)");
    expect(await refusal(test)).toEqual(["CONTRACT_BROKEN source_key_repeated dispatch_operation.id"]);
    expect(await refusal(test, { dryRun: true })).toEqual(["CONTRACT_BROKEN source_key_repeated dispatch_operation.id"]);
    await source(
      test,
      "update public.dispatch_operation set id = null where ctid = (select max(ctid) from public.dispatch_operation)",
    );
    expect(await refusal(test)).toEqual(["CONTRACT_BROKEN source_key_null dispatch_operation.id"]);
    // The rows alone are mended.
    await source(test, "delete from public.dispatch_operation where id is null");
    await test.sync();
  });

  it("is asked of a view, of a table with children, and of what a join joins by", async () => {
    await using test = await clinic(joining);
    await source(
      test,
      "insert into public.dispatch_category (id, name, parent_id) values (1, 'a', null), (2, 'b', 1), (3, 'c', 1)",
    );
    expect(await refusal(test)).toEqual(["CONTRACT_BROKEN source_key_repeated dispatch_category.parent_id"]);
    await source(test, "update public.dispatch_category set parent_id = 2 where id = 3");
    await test.sync();
    await source(
      test,
      "create table public.more_operations () inherits (public.dispatch_operation); insert into public.more_operations (id, type) values (5, 1)",
    );
    expect(await refusal(test)).toEqual(["CONTRACT_BROKEN source_key_repeated dispatch_operation.id"]);
    await source(test, "drop table public.more_operations; alter table public.dispatch_operation rename to all_operations");
    await source(
      test,
      `
      create view public.dispatch_operation as select * from public.all_operations union all select * from public.all_operations where id = 9;
      grant select on public.dispatch_operation to isthmus_reader`,
    );
    expect(await refusal(test, { capture: "full" })).toEqual(["CONTRACT_BROKEN source_key_repeated dispatch_operation.id"]);
  });

  it("of another type than an integer is refused by its name; a domain over one is a key like any other", async () => {
    await using test = await clinic();
    await source(test, "alter table public.dispatch_operation alter id type numeric");
    expect(await refusal(test)).toContain("CONTRACT_BROKEN source_key_type dispatch_operation.id");
    await source(
      test,
      "create domain public.operation_key as integer check (value > 0); alter table public.dispatch_operation alter id type public.operation_key",
    );
    await test.sync();
    await source(test, "update public.dispatch_operation set price = 2 where id in (1, 20)");
    await test.sync({ capture: "digest" });
    const [row] = await test.target.admin<{ n: number }[]>`select count(*)::integer as n from public.operations where amount = 2`;
    expect(row?.n).toBe(2);
  });

  it("is not asked for longer than the limit, and what took too long is a warning", async () => {
    await using test = await clinic();
    await source(test, withoutKey);
    await source(test, "insert into public.dispatch_operation (id, type) select id, 1 from generate_series(21, 300000) id");
    const { source: db } = test.context;
    expect([await hasRepeated(db, TABLE, ["id"], 60_000), await hasNull(db, TABLE, "id", 60_000)]).toEqual([false, false]);
    expect(await hasRepeated(db, TABLE, ["id"], 5)).toBeUndefined();
    // The limit was the question's own.
    await db.unsafe("select pg_sleep(0.02)");
    let now = 0;
    const [found] = [await checkContract({ ...test.context, clock: () => (now += 20_000) }, 1)];
    expect(found.findings.map(({ code, severity }) => `${severity} ${code}`)).toContain("warn source_key_unproven");
  });
});

describe("a key that becomes untrue behind the check", () => {
  /** Pages, and how the execution ended. */
  const ending = async (test: Pipeline, request: Parameters<Pipeline["start"]>[0]) => {
    const { execution } = await test.start(request);
    const pages = await test.drain();
    const { status, errors } = await test.status(execution);
    return {
      pages: pages.length,
      status,
      errors: errors?.map(({ code, entity, legacy_ids: ids }) => [code, entity, ...(ids ?? [])].join(" ")),
    };
  };

  it.each([
    ["full", 5],
    ["full", 1],
    ["digest", 5],
  ] as const)(
    "ends a run of capture %s in pages of %i at once, is told by its record, and leaves the entity out from then on",
    async (capture, pageSize) => {
      await using test = await clinic();
      await source(test, asView);
      await test.sync({ capture: "full" });
      // The first load has changed the target: here both catalogs are compared once more.
      await test.sync({ capture: "full" });
      // 7 repeats more often than a page is long. The catalog stays as it was.
      await source(
        test,
        `
      create or replace view public.dispatch_operation as
        select * from public.all_operations union all select a.* from public.all_operations a, generate_series(1, 10) where a.id = 7;
      update public.all_operations set price = 2 where id = 7`,
      );
      const run = await ending(test, { capture, pageSize });
      expect(run).toMatchObject({ status: "failed", errors: ["KEY_BROKEN operations 7"] });
      expect(run.pages).toBeLessThan(20);
      expect(await refusal(test, { capture: "full" })).toEqual(["CONTRACT_BROKEN source_key_repeated dispatch_operation.id"]);
      await source(test, "create or replace view public.dispatch_operation as select * from public.all_operations");
      await test.sync({ capture: "full" });
    },
  );

  it("is told when rows without a key have come: no range of keys holds them", async () => {
    await using test = await clinic();
    await source(test, asView);
    await test.sync({ capture: "full" });
    await test.sync({ capture: "full" });
    await source(
      test,
      "alter table public.all_operations drop constraint dispatch_operation_pkey, alter id drop not null; insert into public.all_operations (id, type) values (null, 1)",
    );
    expect(await ending(test, { capture: "full" })).toMatchObject({ status: "failed", errors: ["KEY_BROKEN operations"] });
    expect(await refusal(test, { capture: "full" })).toEqual(["CONTRACT_BROKEN source_key_null dispatch_operation.id"]);
  });
});

describe("a page that would end where it began", () => {
  it("is a defect that is told at once, not a page that goes on for ever", async () => {
    await using test = await clinic();
    const { execution } = await test.start({ capture: "full", pageSize: 5 });
    await test.runOne();
    const [message] = test.queue;
    if (!message) throw new Error("no page waits");
    // As if a statement gave the same keys again.
    const stuck = await test.target.admin<{ state: string }[]>`
      select sync.close_page(c, e, jsonb_build_object('done', false, 'cursor', c."cursor", 'lease_seconds', 60, 'next_page_size', 5), 1) from public.sync_chains c
        join public.sync_entities e on e.id = c.entity_id where c.execution_id = ${execution} and c.id = ${message.chain}`.catch(
      (error: unknown) => error as { code: string },
    );
    expect(stuck).toMatchObject({ code: "IS050" });
  });
});

import { describe, expect, it } from "vitest";
import { categories as categoriesEntity } from "../clinic/entities/categories.ts";
import type { Entity } from "../shared/entity/define-entity.ts";
import { operations as operationsEntity } from "../clinic/entities/operations.ts";
import { workerGrants } from "../shared/operate/grants.ts";
import { adopt, loosen } from "./support/adoption.ts";
import { createPipeline, type Pipeline } from "./support/pipeline.ts";

/** The first and last keys of each type, and those around zero. */
const EDGES = {
  bigint: ["-9223372036854775808", "-9223372036854775807", "-1", "0", "1", "9223372036854775806", "9223372036854775807"],
  integer: ["-2147483648", "-2147483647", "-1", "0", "1", "2147483646", "2147483647"],
  smallint: ["-32768", "-32767", "-1", "0", "1", "32766", "32767"],
} as const;
type KeyType = keyof typeof EDGES;

const categories: Entity = { ...categoriesEntity, onDelete: "hard" };
/** Each names a category in its attempts, and reads that one's name beside its own columns. */
const { payment_id: _, ...withoutParent } = operationsEntity.fields;
const operations: Entity = {
  ...operationsEntity,
  onDelete: "hard",
  fields: withoutParent,
  rules: [],
  dependsOn: [],
  source: {
    ...operationsEntity.source,
    modified: "made_at",
    joins: { named: { table: "dispatch_category", on: { id: "c.attempts" } } },
    columns: { ...operationsEntity.source.columns, card_brand: "named.name" },
    ignored: { card_bin: "denied", card_brand: "here a joined column" },
  },
};
/** Only some are let in, so that pages look at landed keys beside those. */
const waiving: Entity = {
  ...operations,
  source: {
    ...operations.source,
    predicate: { name: "priced", version: 1, where: "c.price >= 0", reason: "not priced yet", onLeave: "delete" },
  },
};
const BOTH = { entities: ["categories", "operations"] };
const ONLY = { entities: ["operations"] };

interface Clinic {
  readonly type: KeyType;
  readonly page: number;
  readonly operations?: Entity;
  readonly env?: Record<string, string>;
}

/** A category and an operation at each edge; each category's parent is the next higher one. Pages are of one size, whatever they measure. */
async function clinic({ type, page, operations: records = operations, env = {} }: Clinic): Promise<Pipeline> {
  const test = await createPipeline({
    entities: [categories, records],
    env: { ISTHMUS_ROWS_PER_CHAIN: "3", ISTHMUS_CHAINS_PER_ENTITY: "3", ...env },
  });
  await test.target.admin.unsafe(workerGrants([categories, records]));
  await test.target.admin.unsafe(`
    alter table public.operations alter attempts type bigint;
    create function public.keep_small() returns trigger language plpgsql as $$ begin new.page_size := ${page}; return new; end $$;
    create trigger keep_small before insert or update on public.sync_chains for each row execute function public.keep_small()`);
  await test.source.admin.unsafe(`
    alter table public.dispatch_operation drop constraint dispatch_operation_payment_id_fkey;
    alter table public.dispatch_template drop constraint dispatch_template_category_id_fkey;
    alter table public.dispatch_category drop constraint dispatch_category_parent_id_fkey;
    alter table public.dispatch_category alter id type ${type}, alter parent_id type ${type};
    alter table public.dispatch_operation alter id type ${type}, alter attempts type ${type}`);
  // By place the keys around zero are the first and the last.
  for (const index of [3, 0, 1, 2, 5, 6, 4]) {
    const [id = "", parent = "null"] = EDGES[type].slice(index);
    await test.source.admin.unsafe(`
      insert into public.dispatch_category (id, name, parent_id) values (${id}, 'c', ${parent});
      insert into public.dispatch_operation (id, type, price, attempts, made_at) values (${id}, 1, 1, ${id}, '2020-01-01')`);
  }
  return test;
}

/** What both sides have of operations: key, price, name of the category. */
async function sides({ source, target }: Pipeline) {
  const there = await source.admin<{ row: string }[]>`
    select concat_ws(' ', c.id, c.price::float8, k.name) as row
      from public.dispatch_operation c left join public.dispatch_category k on k.id = c.attempts order by c.id`;
  const here = await target.admin<{ row: string }[]>`
    select concat_ws(' ', legacy_operation_id, amount::float8, card_brand) as row from public.operations order by legacy_operation_id`;
  const parents = await target.admin<{ row: string }[]>`
    select concat_ws(' ', c.legacy_category_id, c.name, p.legacy_category_id) as row
      from public.categories c left join public.categories p on p.id = c.parent_id order by c.legacy_category_id`;
  const above = await source.admin<{ row: string }[]>`
    select concat_ws(' ', id, name, parent_id) as row from public.dispatch_category order by id`;
  const list = (rows: readonly { row: string }[]) => rows.map(({ row }) => row);
  return { source: [...list(there), ...list(above)], target: [...list(here), ...list(parents)] };
}

async function expectSame(test: Pipeline, rows: number): Promise<void> {
  const { source, target } = await sides(test);
  expect(target).toEqual(source);
  expect(target).toHaveLength(rows);
}

/** Changes that no transaction id tells of. */
async function behindTheHorizon(test: Pipeline): Promise<void> {
  const [now] = await test.source.admin<{ at: string }[]>`select pg_snapshot_xmin(pg_current_snapshot())::text as at`;
  await test.target.admin`update public.sync_checkpoints set horizon = ${now?.at ?? "0"}::xid8`;
}

const readBy = async (test: Pipeline, execution: string, entity = "operations") => {
  const [row] = await test.target.admin<{ read: number }[]>`
    select coalesce(sum(l.read), 0)::integer as read from public.sync_page_log l join public.sync_entities e on e.id = l.entity_id
     where l.execution_id = ${execution} and e.entity_type = ${entity}`;
  return row?.read;
};

describe("records at the edges of bigint", () => {
  const size = { type: "bigint", page: 1 } as const;
  const [first, , , , , , last] = EDGES.bigint;

  it("land, are found changed by every capture, and are deleted, and each execution ends", async () => {
    await using test = await clinic(size);
    await test.sync(BOTH);
    await expectSame(test, 14);
    expect(await test.live("categories")).toEqual([]);

    await test.source.admin`update public.dispatch_operation set price = 2`;
    expect(await readBy(test, (await test.sync(ONLY)).execution)).toBe(7);
    await expectSame(test, 14);

    await test.source.admin`update public.dispatch_category set name = 'listed'`;
    await test.sync(BOTH);
    await expectSame(test, 14);

    await test.source.admin`update public.dispatch_operation set price = 3, made_at = now() - interval '1 second'`;
    await test.target.admin`update public.sync_checkpoints set watermark_at = '2020-06-01 00:00:00+00'`;
    expect(await readBy(test, (await test.sync({ ...ONLY, capture: "modified" })).execution)).toBe(7);
    await expectSame(test, 14);

    await test.source.admin`update public.dispatch_operation set price = 4`;
    await behindTheHorizon(test);
    const asked = await test.sync({ legacyIds: { operations: [...EDGES[size.type]], categories: [first, last] } });
    expect([await readBy(test, asked.execution), await readBy(test, asked.execution, "categories")]).toEqual([7, 2]);
    await expectSame(test, 14);

    await test.source.admin`update public.dispatch_operation set price = 5`;
    await behindTheHorizon(test);
    expect(await readBy(test, (await test.sync({ filters: { operations: { type: ["1"] } } })).execution)).toBe(7);
    await expectSame(test, 14);

    await test.source.admin`update public.dispatch_operation set price = 6`;
    await behindTheHorizon(test);
    const plan = await test.sync({ ...ONLY, capture: "digest", dryRun: true });
    expect(await readBy(test, plan.execution)).toBe(7);
    await test.sync({ ...BOTH, capture: "digest" });
    await expectSame(test, 14);

    await test.source.admin.unsafe(`delete from public.dispatch_operation where id in (${first}, ${last})`);
    await behindTheHorizon(test);
    await test.sync({ ...ONLY, capture: "digest" });
    await expectSame(test, 12);
    await test.source.admin`delete from public.dispatch_operation`;
    await test.source.admin.unsafe(`delete from public.dispatch_category where id = ${first}`);
    await test.sync({ ...BOTH, capture: "full" });
    await expectSame(test, 6);
  });
  it("are found by their keys where the file cannot be walked, and by a range where joined rows change too much to be listed", async () => {
    await using test = await clinic({ ...size, page: 2, env: { ISTHMUS_FANOUT_KEYS: "1" } });
    // A table with children has several files.
    await test.source.admin.unsafe(`
      create table public.more_operations () inherits (public.dispatch_operation);
      create table public.more_categories () inherits (public.dispatch_category)`);
    await test.sync(BOTH);
    await test.source.admin`update public.dispatch_operation set price = 2`;
    await test.source.admin`update public.dispatch_category set name = 'changed'`;
    await test.sync(BOTH);
    await expectSame(test, 14);
    await test.source.admin`update public.dispatch_category set name = 'many'`;
    const { execution } = await test.sync(BOTH);
    await expectSame(test, 14);
    const ranges = await test.target.admin<{ low: string; high: string }[]>`
      select range_from::text as low, range_to::text as high from public.sync_chains where execution_id = ${execution} and capture = 'full'`;
    // The last page of joined rows has one, which is listed.
    expect([...ranges]).toEqual([{ low: first, high: EDGES.bigint[5] }]);
  });

  it("are let in and waived, and landed ones are looked at", async () => {
    await using test = await clinic({ ...size, operations: waiving });
    await test.sync(BOTH);
    await expectSame(test, 14);
    await test.source.admin.unsafe(`update public.dispatch_operation set price = -1 where id in (${first}, ${last}, 0)`);
    await test.sync({ ...ONLY, capture: "full" });
    const left = await test.target.admin<{ id: string }[]>`
      select legacy_operation_id::text as id from public.operations order by legacy_operation_id`;
    expect(left.map(({ id }) => id)).toEqual(EDGES[size.type].filter((id) => ![first, last, "0"].includes(id)));
    const [waived] = await test.target.admin<{ waived: number }[]>`
      select sum(waived)::integer as waived from public.sync_page_log
       where execution_id = (select id from public.sync_executions order by ordinal desc limit 1)`;
    // Three left; none of the others is waived.
    expect(waived?.waived).toBe(0);
  });

  it("are adopted from an earlier migration, with what is ambiguous among them", async () => {
    await using test = await clinic(size);
    await loosen(test, ["categories", "legacy_category_id"]);
    for (const id of [...EDGES[size.type], first, last])
      await test.target.admin`insert into public.categories (legacy_category_id, name) values (${id}::text::bigint, 'old')`;
    await adopt(test, "categories");
    const adopted = await test.target.admin<{ id: string }[]>`
      select legacy_id::text as id from public.uuid_mappings_enhanced where entity_type = 'categories' order by legacy_id`;
    expect(adopted.map(({ id }) => id)).toEqual(EDGES[size.type].filter((id) => id !== first && id !== last));
    const open = await test.target.admin<{ id: string; rule: string }[]>`
      select source_record_id::text as id, rule from public.sync_conflicts where state = 'open' order by source_record_id`;
    expect(open.map(({ id, rule }) => `${rule} ${id}`)).toEqual([`adoption.ambiguous ${first}`, `adoption.ambiguous ${last}`]);
  });
});

describe.each(["integer", "smallint"] as const)("records at the edges of %s", (type) => {
  it("land, are found changed, and are deleted", async () => {
    await using test = await clinic({ type, page: 2 });
    await test.sync(BOTH);
    await expectSame(test, 14);
    await test.source.admin`update public.dispatch_operation set price = 2`;
    expect(await readBy(test, (await test.sync(ONLY)).execution)).toBe(7);
    await test.source.admin.unsafe(`delete from public.dispatch_operation where id in (${EDGES[type][0]}, ${EDGES[type][6]})`);
    await test.source.admin`update public.dispatch_operation set price = 3`;
    await behindTheHorizon(test);
    await test.sync({ ...ONLY, capture: "digest" });
    await expectSame(test, 12);
  });
});

describe("control totals of records at the edges", () => {
  it("drill to the keys that differ, read them once more and tell what remains by its id", async () => {
    await using test = await clinic({ type: "bigint", page: 2 });
    await test.sync(BOTH);
    const [first, last] = [EDGES.bigint[0], EDGES.bigint[6]];
    // Rows that the sync believes to have landed, with another amount: both at once, and their row states know of
    // neither.
    await test.target.admin.unsafe(`
      set local session_replication_role = replica;
      update public.operations set amount = 7 where legacy_operation_id in (${first}, ${last});
      update public.sync_row_states s set "left" = jsonb_set("left", '{amount}', '7'), written_by = null
        where legacy_id in (${first}, ${last}) and entity_id = (select id from public.sync_entities where entity_type = 'operations')`);
    const begun = await test.start({ ...ONLY, capture: "full" });
    await test.drain();
    const { status, errors } = await test.status(begun.execution);
    expect(status).toBe("failed");
    expect(errors).toMatchObject([{ code: "CONTROL_TOTALS_DIFFER", entity: "operations" }]);
    const [text] = await test.target.admin<{ errors: string }[]>`
      select errors::text from public.sync_executions where id = ${begun.execution}`;
    expect(text?.errors).toContain(first);
    expect(text?.errors).toContain(last);
  });
});

import { describe, expect, it } from "vitest";
import type { Context } from "../shared/context.ts";
import type { MappingCache } from "../shared/cache/mapping-cache.ts";
import { createPipeline, type Pipeline } from "./support/pipeline.ts";

/** A cache that keeps what it is given, as Redis does until it expires. */
function remembering(): MappingCache {
  const kept = new Map<string, string>();
  return {
    read: (keyOf, ids) =>
      Promise.resolve(
        new Map(
          ids.flatMap((id) => {
            const uuid = kept.get(keyOf(id));
            return uuid === undefined ? [] : [[`${id.entity}:${id.legacyId}`, uuid] as const];
          }),
        ),
      ),
    write: (keyOf, entries) => {
      for (const entry of entries) kept.set(keyOf(entry), entry.uuid);
      return Promise.resolve();
    },
    recallExecution: () => Promise.resolve(null),
    rememberExecution: () => Promise.resolve(),
  };
}

async function run(test: Pipeline, cache: MappingCache | undefined): Promise<void> {
  const context: Context = { ...test.context, ...(cache === undefined ? {} : { cache }) };
  await test.start();
  for (let message = test.queue.shift(); message; message = test.queue.shift()) await test.run(message, context);
}

/** No foreign key says that an office stands. */
const unkept = async (test: Pipeline) => {
  const keys = await test.target.admin<{ sql: string }[]>`
    select format('alter table %s drop constraint %I', conrelid::regclass, conname) as sql from pg_constraint
     where contype = 'f' and confrelid = 'public.offices'::regclass`;
  expect(keys.some(({ sql }) => sql.startsWith("alter table patients "))).toBe(true);
  for (const { sql } of keys) await test.target.admin.unsafe(sql);
};

/** Two patients of two offices, of which the first has been deleted since, with its mapping. */
async function withoutFirstOffice(cache: MappingCache | undefined): Promise<Pipeline> {
  const test = await createPipeline();
  await unkept(test);
  await test.seed.doctor(10);
  for (const n of [1, 2]) {
    await test.seed.office(n);
    await test.seed.patient(n, { userId: 20 + n, doctorId: 10, officeId: n });
  }
  await run(test, cache);
  await test.target.admin.unsafe(`
    update public.uuid_mappings_enhanced set sync_status = 'deleted' where entity_type = 'offices' and legacy_id = 1;
    delete from public.sync_row_states where entity_id = (select id from public.sync_entities where entity_type = 'offices') and legacy_id = 1;
    delete from public.offices where legacy_office_id = 1`);
  return test;
}

describe.each([
  ["with a cache that remembers the parent", true],
  ["without a cache", false],
])("where no foreign key asks, %s", (_, cached) => {
  it("a child of a deleted parent waits, and the others of its page land", async () => {
    const cache = cached ? remembering() : undefined;
    await using test = await withoutFirstOffice(cache);
    await test.source.admin`update public.dispatch_patient set suffix = 'Jr'`;
    await run(test, cache);
    expect(await test.live("patients")).toMatchObject([{ id: 1, state: "waiting", parent: "offices", parentId: 1 }]);
    const rows = await test.target.admin`select legacy_patient_id::integer as id, suffix from public.patients order by 1`;
    expect([...rows]).toEqual([
      { id: 1, suffix: null },
      { id: 2, suffix: "Jr" },
    ]);
  });
});

it("a page whose parents all stand is read once", async () => {
  const cache = remembering();
  await using test = await createPipeline();
  await unkept(test);
  await test.seed.doctor(10);
  await test.seed.office(1);
  await test.seed.patient(1, { userId: 20, doctorId: 10, officeId: 1 });
  await run(test, cache);
  await test.source.admin`update public.dispatch_patient set suffix = 'Jr'`;
  await run(test, cache);
  const [page] = await test.target.admin`
    select l.cache_lookups > 0 and l.cache_hits = l.cache_lookups as all_hit from public.sync_page_log l join public.sync_entities e on e.id = l.entity_id
     where e.entity_type = 'patients' order by l.committed_at desc limit 1`;
  expect(page).toEqual({ all_hit: true });
  expect([...(await test.target.admin`select suffix from public.patients`)]).toEqual([{ suffix: "Jr" }]);
});

it("records that do not land, beside a relative that the target refuses, speak against no cached parent: their page is read once", async () => {
  const cache = remembering();
  await using test = await createPipeline();
  await test.target.admin.unsafe(`
    do $$ declare v text; begin
      select conname into strict v from pg_constraint where conrelid = 'public.categories'::regclass and contype = 'f' and confrelid = conrelid;
      execute format('alter table public.categories drop constraint %I', v); end $$;
    alter table public.categories add constraint no_three check (name <> 'category 3')`);
  const seed = (id: number, parent: number | null) =>
    test.seed.orphan("dispatch_category", { id, name: `category ${id}`, parent_id: parent });
  await seed(1, null);
  await run(test, cache);
  for (const [id, parent] of [
    [2, 3],
    [3, 2],
    [4, 1],
  ] as const)
    await seed(id, parent);
  await run(test, cache);
  expect(await test.live("categories")).toMatchObject([
    { id: 2, state: "waiting", parentId: 3 },
    { id: 3, state: "open", rule: "no_three" },
  ]);
  const [page] = await test.target.admin`
    select l.cache_hits as hits from public.sync_page_log l join public.sync_entities e on e.id = l.entity_id
     where e.entity_type = 'categories' and l.read = 3`;
  expect(page).toEqual({ hits: 1 });
});

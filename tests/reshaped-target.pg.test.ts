import { expect, it } from "vitest";
import { workerGrants } from "../shared/operate/grants.ts";
import type { SelectionRequest } from "../shared/plan/plan-selection.ts";
import type { Pipeline } from "./support/pipeline.ts";
import { createStranger, ENTITY, type Stranger } from "./support/stranger.ts";

const CUSTOMERS: Stranger = {
  source: "customer",
  target: "customers",
  columns: { name: { type: "text" }, fax: { type: "text" }, rank: { type: "integer" } },
};

type More = NonNullable<Parameters<typeof createStranger>[1]>;

/** Four customers that have landed; of the second somebody has changed the name since. */
async function landed(more: More = {}): Promise<Pipeline> {
  const test = await createStranger(CUSTOMERS, more);
  await test.source
    .admin`insert into public.customer values (1, 'Ada', '11', 1), (2, 'Bo', '22', 2), (3, 'Cy', '33', 3), (4, 'Di', null, 4)`;
  await test.sync();
  await test.target.admin`update public.customers set name = 'Bob' where legacy_id = 2`;
  return test;
}

/** DDL on the target by its owner, who grants again what goes with a column. */
async function ddl(test: Pipeline, ...statements: readonly string[]): Promise<void> {
  for (const statement of statements) await test.target.admin.unsafe(statement);
  await test.target.admin.unsafe(workerGrants([...test.context.entities.values()]));
}

const rows = async (test: Pipeline) =>
  (
    await test.target.admin<{ name: string; fax: string | null; rank: number }[]>`
      select name, fax, rank from public.customers order by legacy_id`
  ).map(({ name, fax, rank }) => [name, fax, rank] as const);
const AS_LANDED = [
  ["Ada", "11", 1],
  ["Bob", "22", 2],
  ["Cy", "33", 3],
  ["Di", null, 4],
];
const told = ({ warnings }: { readonly warnings: readonly { readonly code: string; readonly entity: string | null }[] }) =>
  warnings.filter(({ code }) => code === "target_reshaped").map(({ entity }) => entity);
const DROPPED_AND_ADDED = ["alter table public.customers drop column fax", "alter table public.customers add column fax text"];

const REQUESTS: readonly Partial<SelectionRequest>[] = [
  { capture: "auto" },
  { capture: "full" },
  { capture: "xmin" },
  { capture: "digest" },
  { capture: "modified" },
  { conflictStrategy: "source_wins" },
  { conflictStrategy: "manual_review" },
  { legacyIds: { [ENTITY]: ["1", "2", "3", "4"] } },
];

it.each(REQUESTS)(
  "a column that was dropped and added again has its values after %o, and what people changed beside stays",
  async (request) => {
    await using test = await landed();
    await ddl(test, ...DROPPED_AND_ADDED);
    expect(told(await test.sync(request))).toEqual([ENTITY]);
    expect(await rows(test)).toEqual(AS_LANDED);
    expect(await test.live(ENTITY)).toEqual([]);
    // A selection does not look at all of the entity, so the next run still does.
    expect(told(await test.sync())).toEqual("legacyIds" in request ? [ENTITY] : []);
    expect((await test.sync()).chains).toEqual([]);
    expect(await rows(test)).toEqual(AS_LANDED);
  },
);

it("of an entity that keeps hashes, too", async () => {
  await using test = await landed({ history: "hashes" });
  await ddl(test, ...DROPPED_AND_ADDED);
  await test.sync();
  expect((await rows(test)).map(([, fax]) => fax)).toEqual(["11", "22", "33", null]);
  const edited = async () => {
    const { execution } = await test.sync({ capture: "digest" });
    const [row] = await test.target.admin<{ ids: number[] }[]>`
      select body -> 'edited' -> 'legacy_ids' as ids from public.sync_reports where execution_id = ${execution} and kind = ${`digest:${ENTITY}`}`;
    return row?.ids;
  };
  expect(await edited()).toEqual(["2"]);
});

it("a dry run says what a run would write, and the run still does it", async () => {
  await using test = await landed();
  await ddl(test, ...DROPPED_AND_ADDED);
  const { execution } = await test.sync({ dryRun: true });
  const [plan] = await test.target.admin`
    select body #> '{entities,0,counts,updated}' as updated from public.sync_reports where execution_id = ${execution} and kind = 'plan'`;
  expect(plan).toMatchObject({ updated: 3 });
  await test.sync();
  expect(await rows(test)).toEqual(AS_LANDED);
});

it("what people write into the new column is theirs, or decided by the strategy, never overwritten in silence", async () => {
  await using test = await landed({ conflicts: { strategy: "manual_review" } as never });
  await ddl(test, ...DROPPED_AND_ADDED);
  // Before any execution has noticed, it may be what DDL made of the row.
  await test.target.admin`update public.customers set fax = 'new' where legacy_id = 1`;
  await test.sync();
  expect(await test.live(ENTITY)).toMatchObject([{ id: 1, state: "open", field: "fax" }]);
  await test.target.admin`update public.customers set fax = 'later' where legacy_id = 3`;
  await test.sync({ capture: "digest" });
  await test.sync({ capture: "full" });
  expect((await rows(test)).map(([, fax]) => fax)).toEqual(["new", "22", "later", null]);
});

it("a record that waits while the column comes back gets its value when it is released", async () => {
  await using test = await landed();
  await ddl(test, "alter table public.customers add constraint small check (rank < 100)", ...DROPPED_AND_ADDED);
  await test.source.admin`update public.customer set rank = 1000 where id = 3`;
  await test.sync();
  expect((await test.live(ENTITY)).map(({ id }) => id)).toEqual([3]);
  expect((await rows(test))[2]).toEqual(["Cy", null, 3]);
  await test.source.admin`update public.customer set rank = 9 where id = 3`;
  await test.sync();
  expect((await rows(test))[2]).toEqual(["Cy", "33", 9]);
});

it("what DDL emptied is no edit that keeps a deleted record's row", async () => {
  await using test = await landed({ onDelete: "hard" });
  await ddl(test, ...DROPPED_AND_ADDED);
  await test.source.admin`delete from public.customer where id = 1`;
  await test.sync({ capture: "digest" });
  expect((await rows(test)).map(([name]) => name)).toEqual(["Bob", "Cy", "Di"]);
});

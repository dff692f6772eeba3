import { describe, expect, it } from "vitest";
import { registry } from "../clinic/entities/registry.gen.ts";
import { landedRows } from "./support/landed.ts";
import { createPipeline, type Pipeline } from "./support/pipeline.ts";

/** Child → parent: each above the one below it has the greater id, and the smaller one, and all in one page or not. */
const FAMILY: Readonly<Record<number, number | null>> = { 1: 4, 2: null, 3: 2, 4: 9, 5: 3, 6: null, 9: 6 };

const seedFamily = async (test: Pipeline) => {
  for (const [id, parent] of Object.entries(FAMILY))
    await test.seed.orphan("dispatch_category", { id: Number(id), name: `category ${id}`, parent_id: parent });
};
const parents = async (test: Pipeline) =>
  Object.fromEntries(
    Object.entries(await landedRows(test.target.admin, "categories")).map(([id, row]) => {
      const parent = row["parent_id"] ?? null;
      return [id, parent === null ? null : Number(parent)];
    }),
  );
const run = (test: Pipeline) => test.sync({ entities: ["categories"] });

describe("an entity whose records refer to each other", () => {
  it("does not wait for itself as a whole", () => {
    const categories = registry.find((entity) => entity.name === "categories");
    expect(categories?.fields["parent_id"]?.parent).toBe("categories");
    expect(categories?.dependsOn).toEqual([]);
  });

  it.each(["1", "2", "200"])("lands every record within one execution, in pages of %s", async (size) => {
    await using test = await createPipeline({ env: { ISTHMUS_PAGE_SIZE: size, ISTHMUS_PAGE_SIZE_MAX: size } });
    await seedFamily(test);
    const { execution } = await run(test);
    expect(await parents(test)).toEqual(FAMILY);
    expect(await test.live("categories")).toEqual([]);
    const sums = await test.sums(execution);
    expect(sums.read).toBe(sums.outcomes);
    // What waited for a record of the same execution is no error of it.
    const [ended] = await test.target.admin<{ rate: number }[]>`
      select (metrics ->> 'errorRate')::float8 as rate from public.sync_executions where id = ${execution}`;
    expect(ended?.rate).toBe(0);
    await test.sync({ entities: ["categories"], capture: "full" });
    expect(await parents(test)).toEqual(FAMILY);
    expect(await test.target.admin`select from public.sync_pending_keys`).toHaveLength(0);
  });

  it("lands what waited for a record that comes later, and what waited for that", async () => {
    await using test = await createPipeline();
    await seedFamily(test);
    await test.source.admin.unsafe(
      "set session_replication_role = replica; delete from public.dispatch_category where id = 9; reset session_replication_role",
    );
    const { execution } = await run(test);
    const [ended] = await test.target.admin<{ rate: number }[]>`
      select (metrics ->> 'errorRate')::float8 as rate from public.sync_executions where id = ${execution}`;
    expect(ended?.rate).toBeGreaterThan(0);
    expect(await test.live("categories")).toMatchObject([
      { id: 1, state: "waiting", parent: "categories", parentId: 4 },
      { id: 4, state: "waiting", parent: "categories", parentId: 9 },
    ]);
    await test.seed.row("dispatch_category", { id: 9, name: "category 9", parent_id: 6 });
    await run(test);
    expect(await parents(test)).toEqual(FAMILY);
  });
});

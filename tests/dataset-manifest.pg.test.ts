import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { loadLegacy } from "../clinic/dataset/load.ts";
import type { Manifest } from "../clinic/dataset/manifest.ts";
import { createOutcomes, PROJECTIONS } from "../clinic/dataset/sql/outcomes.ts";
import { createTestSource, type TestDatabase } from "./support/databases.ts";

describe.each([1, 2])("the manifest (seed %i)", (seed) => {
  let source: TestDatabase;
  let manifest: Manifest;

  beforeAll(async () => {
    source = await createTestSource();
    manifest = await loadLegacy({ url: source.superuserUrl, seed, scale: 0.05, logScale: 0.001 });
    await createOutcomes(source.admin, "expected");
  });
  afterAll(() => source[Symbol.asyncDispose]());

  it("is about the same entities as the SQL", () => {
    expect(Object.keys(manifest.entities).sort()).toEqual(PROJECTIONS.map(({ entity }) => entity).sort());
  });

  it.each(PROJECTIONS.map((projection) => [projection.entity, projection] as const))(
    "names exactly the records of %s that plain SQL over the rows finds, each for the same reason",
    async (entity, { waived }) => {
      const expected = manifest.entities[entity];
      const count = async (from: string) =>
        (await source.admin.unsafe<{ n: number }[]>(`select count(*)::int as n from ${from}`))[0]?.n;
      expect(await count(`expected."${entity}"`)).toBe(expected?.eligible);
      expect(await count(`expected."${entity}" where lands`)).toBe(expected?.landed);
      expect(waived ? { rule: waived.rule, count: await count(waived.rows) } : null).toEqual(expected?.waived);
      const found = await source.admin.unsafe(
        `select id::int, field, parent, parent_id::int from expected."${entity}" where not lands order by id`,
      );
      const named = expected?.exceptions.map((exception) => ({
        id: exception.legacyId,
        field: exception.field,
        parent: exception.outcome === "waiting" ? exception.parent : null,
        parent_id: exception.outcome === "waiting" ? exception.parentId : null,
      }));
      expect([...found]).toEqual(named?.sort((a, b) => a.id - b.id));
    },
  );

  it("adds up the money of the records that land as plain SQL does", async () => {
    const sums: Record<string, Record<string, string>> = {};
    for (const { entity, money } of PROJECTIONS) {
      sums[entity] = {};
      for (const [column, amount] of Object.entries(money?.columns ?? {})) {
        const [row] = await source.admin.unsafe<{ sum: string }[]>(
          `select coalesce(sum(s."${amount}"), 0)::numeric(20,2)::text as sum
             from public."${money?.table ?? ""}" s join expected."${entity}" e on e.id = s."${money?.key ?? ""}" where e.lands`,
        );
        sums[entity][column] = row?.sum ?? "missing";
      }
    }
    expect(sums).toEqual(Object.fromEntries(Object.entries(manifest.entities).map(([entity, { money }]) => [entity, money])));
    expect(Object.values(sums).flatMap((of) => Object.keys(of))).toHaveLength(14);
  });
});

import type { Sql } from "postgres";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { changesBy, type EntityChanges } from "../local/dataset/changes.ts";
import { applyEdits } from "../local/dataset/edit.ts";
import { registry } from "../shared/entities/registry.gen.ts";
import { createInProcess, type InProcess } from "./support/in-process.ts";

/** Target rows by entity and legacy id, as hashes of all columns but the one that every update touches. */
type Rows = ReadonlyMap<string, ReadonlyMap<number, string>>;

async function targetRows(target: Sql): Promise<Rows> {
  const all = new Map<string, ReadonlyMap<number, string>>();
  for (const { name, target: to } of registry) {
    const rows = await target.unsafe<{ id: number; hash: string }[]>(
      `select "${to.legacyKey}"::integer as id, md5((to_jsonb(t) - 'updated_at')::text) as hash
         from public."${to.table}" t where "${to.legacyKey}" is not null`,
    );
    all.set(name, new Map(rows.map(({ id, hash }) => [id, hash])));
  }
  return all;
}

function differences(before: Rows, after: Rows): Record<string, EntityChanges> {
  const changes: Record<string, EntityChanges> = {};
  for (const [entity, now] of after) {
    const then = before.get(entity) ?? new Map<number, string>();
    const sorted = (ids: Iterable<number>, is: (id: number) => boolean) => [...ids].filter(is).sort((a, b) => a - b);
    const found = {
      inserted: sorted(now.keys(), (id) => !then.has(id)),
      updated: sorted(now.keys(), (id) => then.has(id) && then.get(id) !== now.get(id)),
      deleted: sorted(then.keys(), (id) => !now.has(id)),
    };
    if (Object.values(found).some((ids) => ids.length > 0)) changes[entity] = found;
  }
  return changes;
}

describe.each([1, 2])("500 scattered edits (seed %i)", (seed) => {
  let test: InProcess;
  let expected: Readonly<Record<string, EntityChanges>>;
  let found: Readonly<Record<string, EntityChanges>>;

  beforeAll(async () => {
    test = await createInProcess({ scale: 0.05, logScale: 0.002 });
    await test.sync();
    const before = await targetRows(test.target.admin);
    expected = await changesBy(test.source.superuserUrl, () => applyEdits({ url: test.source.superuserUrl, seed, count: 500 }));
    await test.sync();
    found = differences(before, await targetRows(test.target.admin));
  });
  afterAll(() => test[Symbol.asyncDispose]());

  it.each(registry.map(({ name }) => name))("change exactly the rows of %s that depend on them", (entity) => {
    expect(found[entity]).toEqual(expected[entity]);
  });

  it("reach rows whose own source rows nobody touched", () => {
    const orders = expected["orders"];
    expect(orders?.updated.length).toBeGreaterThan(100);
    expect(Object.values(expected).some(({ inserted }) => inserted.length > 0)).toBe(true);
    expect(expected["system_messages"]?.deleted).not.toEqual([]);
  });

  it("are all there is to do: another run changes nothing", async () => {
    const before = await targetRows(test.target.admin);
    await test.sync({ capture: "full" });
    expect(differences(before, await targetRows(test.target.admin))).toEqual({});
  });
});

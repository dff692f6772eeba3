import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { applyEdits } from "../clinic/dataset/edit.ts";
import { generateLegacy } from "../clinic/dataset/generate.ts";
import { registry } from "../clinic/entities/registry.gen.ts";
import { createInProcess, type InProcess } from "./support/in-process.ts";

const SCALE = 0.05;
const entities = generateLegacy({ scale: SCALE, logScale: 0.0002 }).entities();
/** The entities of which the dataset knows dirt that lands. */
const golden = registry.map(({ name }) => name).filter((name) => Object.keys(entities[name]?.golden ?? {}).length > 0);

function legacyKey(entity: string): string {
  return registry.find(({ name }) => name === entity)?.target.legacyKey ?? "";
}

let test: InProcess;
beforeAll(async () => {
  test = await createInProcess({ scale: SCALE });
  await test.sync();
});
afterAll(() => test[Symbol.asyncDispose]());

describe("a sync of the generated data", () => {
  it.each(golden)("lands each kind of dirt in %s as the domain decided", async (entity) => {
    for (const [legacyId, values] of Object.entries(entities[entity]?.golden ?? {})) {
      const columns = Object.keys(values).map((column) => `"${column}"::text as "${column}"`);
      const rows = await test.target.admin.unsafe(
        `select ${columns.join(", ")} from public."${entity}" where "${legacyKey(entity)}" = $1`,
        [legacyId],
      );
      expect([...rows], `${entity} ${legacyId}`).toEqual([values]);
    }
  });

  it("queues exactly the exceptions, with their types", async () => {
    const queue = await test.target.admin<{ entity: string; id: number; outcome: string; type: string }[]>`
      select entity_type as entity, source_record_id::integer as id, state as outcome, conflict_type as type
        from public.sync_conflicts where state in ('open', 'waiting')`;
    const named = registry.flatMap(({ name }) =>
      (entities[name]?.exceptions ?? []).map(({ entity, legacyId, outcome, type }) => ({ entity, id: legacyId, outcome, type })),
    );
    const key = (row: { entity: string; id: number }) => `${row.entity}/${row.id}`;
    const sorted = <Row extends { entity: string; id: number }>(rows: readonly Row[]) =>
      [...rows].sort((a, b) => key(a).localeCompare(key(b)));
    expect(sorted(queue)).toEqual(sorted(named));
  });

  it("meets no landed record in the queue after edits: nothing is moved to a parent that has not landed", async () => {
    await applyEdits({ url: test.source.superuserUrl, count: 300 });
    await test.sync();
    for (const { name: entity, target } of registry) {
      const key = target.legacyKey;
      const both = await test.target.admin.unsafe(
        `select t."${key}" from public."${entity}" t join public.sync_conflicts c on c.entity_type = $1
            and c.source_record_id::text = t."${key}"::text and c.state in ('open', 'waiting')`,
        [entity],
      );
      expect([...both], entity).toEqual([]);
    }
  });
});

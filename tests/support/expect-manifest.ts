import { expect } from "vitest";
import type { EntityExpectation } from "../../clinic/dataset/manifest.ts";
import type { ExecutionState } from "../../local/demo/watch.ts";
import { registry } from "../../clinic/entities/registry.gen.ts";
import type { TestPlatform } from "./platform.ts";

type Side = Pick<TestPlatform, "manifest" | "target">;

/**
 * Of a first execution: every source row is accounted for. What the manifest says has landed or was waived, and
 * exactly the rest is in the queue, each record for its reason.
 */
export async function expectManifest({ manifest, target }: Side, first: ExecutionState): Promise<void> {
  for (const { name: entity } of registry) {
    const expected = manifest.entities[entity];
    const counts = first.entities.find((state) => state.entity === entity)?.counts;
    if (!expected || !counts) throw new Error(`${entity} is unknown to the manifest or to the execution`);
    // A record that waited and was released within the execution has been read once more for each time that it waited.
    const [again] = await target<{ reads: number }[]>`
      select coalesce(sum(attempts), 0)::integer as reads from public.sync_conflicts
       where entity_type = ${entity} and execution_id = ${first.execution} and resolved_in = ${first.execution}`;
    expect(counts.read - counts.waived - (again?.reads ?? 0), entity).toBe(expected.eligible);
    expect(counts.waived, entity).toBe(expected.waived?.count ?? 0);
    expect(counts.inserted, entity).toBe(expected.landed);
    expect(await queueOf(target, entity), entity).toEqual(wantedQueue(expected));
  }
}

interface Queued {
  readonly id: number;
  readonly state: string;
  readonly field: string | null;
  readonly parent: string | null;
  readonly parent_id: number | null;
}

async function queueOf(target: TestPlatform["target"], entity: string): Promise<Queued[]> {
  return [
    ...(await target<Queued[]>`
      select c.source_record_id::integer as id, c.state, c.field, p.entity_type as parent, c.parent_legacy_id::integer as parent_id
        from public.sync_conflicts c left join public.sync_entities p on p.id = c.parent_entity_id
       where c.entity_type = ${entity} and c.state in ('waiting', 'open') order by 1`),
  ];
}

function wantedQueue({ exceptions }: EntityExpectation): Queued[] {
  return exceptions
    .map((exception) => ({
      id: exception.legacyId,
      state: exception.outcome,
      field: exception.field,
      parent: exception.outcome === "waiting" ? exception.parent : null,
      parent_id: exception.outcome === "waiting" ? exception.parentId : null,
    }))
    .sort((a, b) => a.id - b.id);
}

/** The money of landed records adds up to the manifest's sums, to the cent. */
export async function expectMoney({ manifest, target }: Side): Promise<void> {
  for (const { name: entity } of registry) {
    for (const [column, sum] of Object.entries(manifest.entities[entity]?.money ?? {})) {
      const [row] = await target.unsafe<{ sum: string }[]>(
        `select coalesce(sum("${column}"), 0)::numeric(20,2)::text as sum from public."${entity}"`,
      );
      expect(row?.sum, `${entity}.${column}`).toBe(sum);
    }
  }
}

/** Each kind of dirt has become the value that the domain decided. */
export async function expectGolden({ manifest, target }: Side): Promise<void> {
  for (const {
    name: entity,
    target: { legacyKey: key },
  } of registry) {
    for (const [legacyId, values] of Object.entries(manifest.entities[entity]?.golden ?? {})) {
      for (const [column, value] of Object.entries(values)) {
        const rows = await target.unsafe<{ value: string | null }[]>(
          `select "${column}"::text as value from public."${entity}" where "${key}" = $1`,
          [legacyId],
        );
        expect(rows[0]?.value, `${entity} ${legacyId}.${column}`).toBe(value);
      }
    }
  }
}

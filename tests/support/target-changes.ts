import type { Sql } from "postgres";
import type { EntityChanges } from "../../clinic/dataset/changes.ts";
import { registry } from "../../clinic/entities/registry.gen.ts";

const BEFORE = "isthmus_before";

/** Every target row by entity and legacy id, as a hash of all columns but the one that every update touches. */
function hashes({ table, legacyKey }: (typeof registry)[number]["target"]): string {
  return `select "${legacyKey}"::bigint as id, md5((to_jsonb(t) - 'updated_at')::text) as hash
            from public."${table}" t where "${legacyKey}" is not null`;
}

/** Keeps what the target's rows are now, in a schema of its own that replaces the last one. */
export async function rememberRows(target: Sql): Promise<void> {
  await target.unsafe(`drop schema if exists ${BEFORE} cascade; create schema ${BEFORE}`);
  for (const entity of registry) {
    await target.unsafe(`create unlogged table ${BEFORE}."${entity.name}" as ${hashes(entity.target)};
      alter table ${BEFORE}."${entity.name}" add primary key (id)`);
  }
}

/** Which rows have come, changed or gone since they were remembered. */
export async function changesSince(target: Sql): Promise<Readonly<Record<string, EntityChanges>>> {
  const changes: Record<string, EntityChanges> = {};
  for (const entity of registry) {
    const rows = await target.unsafe<{ id: number; change: keyof EntityChanges }[]>(`
      select id::integer as id, case when b.hash is null then 'inserted' when a.hash is null then 'deleted' else 'updated' end as change
        from ${BEFORE}."${entity.name}" b full join (${hashes(entity.target)}) a using (id)
       where a.hash is distinct from b.hash order by 1`);
    const ids = (change: keyof EntityChanges) => rows.filter((row) => row.change === change).map(({ id }) => id);
    if (rows.length > 0) {
      changes[entity.name] = { inserted: ids("inserted"), updated: ids("updated"), deleted: ids("deleted") };
    }
  }
  return changes;
}

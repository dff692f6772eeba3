import { openConnection } from "./connect.ts";
import { createOutcomes, PROJECTIONS } from "./sql/outcomes.ts";

/** Legacy ids of the records whose target rows must come, change or go. */
export interface EntityChanges {
  readonly inserted: readonly number[];
  readonly updated: readonly number[];
  readonly deleted: readonly number[];
}

/**
 * Runs `work` on the legacy database and says exactly which target rows a correct sync must change because of it: the
 * edited records, those made of the edited rows as well, and those that waited for one of them. A record that landed
 * and can land no more keeps its row.
 */
export async function changesBy(url: string, work: () => Promise<unknown>): Promise<Readonly<Record<string, EntityChanges>>> {
  const sql = openConnection(url);
  const [before, after] = ["isthmus_before", "isthmus_after"];
  const changes: Record<string, EntityChanges> = {};
  try {
    await createOutcomes(sql, before);
    await work();
    await createOutcomes(sql, after, before);
    for (const { entity, keepsAbsent } of PROJECTIONS) {
      const rows = await sql.unsafe<{ id: number; change: keyof EntityChanges }[]>(`
        select id::integer as id, change
          from (select coalesce(a.id, b.id) as id,
                       case when a.lands and b.lands is not true then 'inserted'
                            when a.lands and a.hash <> b.hash then 'updated'
                            when b.lands and a.id is null and ${keepsAbsent !== true} then 'deleted' end as change
                  from ${before}."${entity}" b full join ${after}."${entity}" a using (id)) x
         where change is not null order by 1`);
      const ids = (change: keyof EntityChanges) => rows.filter((row) => row.change === change).map((row) => row.id);
      if (rows.length > 0) changes[entity] = { inserted: ids("inserted"), updated: ids("updated"), deleted: ids("deleted") };
    }
  } finally {
    await sql.unsafe(`drop schema if exists ${before}, ${after} cascade`);
    await sql.end();
  }
  return changes;
}

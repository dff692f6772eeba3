import type { Sql } from "postgres";
import { registry } from "../../clinic/entities/registry.gen.ts";

/**
 * The target rows of an entity by legacy id, every column that the sync fills as text; a reference as the legacy id of
 * the row that it points to, so that expectations can be written down by hand.
 */
export async function landedRows(target: Sql, name: string): Promise<Record<string, Record<string, string | null>>> {
  const entity = named(name);
  const { table, legacyKey } = entity.target;
  const columns = Object.entries(entity.fields)
    .filter(([column]) => column !== legacyKey)
    .map(([column, { parent }]) => {
      if (parent === undefined) return `'${column}', t."${column}"::text`;
      const to = named(parent).target;
      return `'${column}', (select p."${to.legacyKey}"::text from public."${to.table}" p where p.id = t."${column}")`;
    });
  const rows = await target.unsafe<{ id: string; row: Record<string, string | null> }[]>(
    `select t."${legacyKey}"::text as id, json_build_object(${columns.join(", ")}) as row from public."${table}" t order by t."${legacyKey}"`,
  );
  return Object.fromEntries(rows.map(({ id, row }) => [id, row]));
}

function named(name: string) {
  const entity = registry.find((one) => one.name === name);
  if (!entity) throw new Error(`no entity ${name}`);
  return entity;
}

import type { Sql } from "../db/connect.ts";
import { ident, integerArray } from "../db/ident.ts";
import { query } from "../db/query.ts";
import { KEY, type Entity, type SourceRow } from "../entities/define-entity.ts";

/**
 * Fetches the current records of the keys through the entity's projection, every column as text (microseconds,
 * infinity and exact decimals survive). A key without a record is simply missing from the answer.
 */
export async function readProjection(source: Sql, entity: Entity, ids: readonly string[]): Promise<SourceRow[]> {
  if (ids.length === 0) return [];
  return query<SourceRow>(source, "source", projectionSql(entity), [integerArray(ids)]);
}

export function projectionSql(entity: Entity): string {
  const { alias, table, key, joins, where, columns } = entity.source;
  const list = Object.entries(columns).map(
    ([name, column]) => `(${typeof column === "string" ? column : column.sql})::text as ${ident(name)}`,
  );
  return `select ${[`${alias}.${ident(key)}::text as ${ident(KEY)}`, ...list].join(", ")}
    from unnest($1::text::bigint[]) k (id)
    join public.${ident(table)} ${alias} on ${alias}.${ident(key)} = k.id
    ${joins}
    ${where === undefined ? "" : `where ${where}`}
    order by k.id`;
}

import type { Sql } from "../db/connect.ts";
import { ident, integerArray } from "../db/ident.ts";
import { query } from "../db/query.ts";
import { columnSql, drivingSql, joinsSql, keySql, whereSql } from "../sql/projection.ts";
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
  const list = Object.entries(entity.source.columns).map(([name, column]) => `(${columnSql(column)})::text as ${ident(name)}`);
  return `select ${[`${keySql(entity)}::text as ${ident(KEY)}`, ...list].join(", ")}
    from unnest($1::text::bigint[]) k (id)
    join ${drivingSql(entity)} on ${keySql(entity)} = k.id
    ${joinsSql(entity)}
    where ${whereSql(entity)}
    order by k.id`;
}

import type { Sql } from "../db/connect.ts";
import { ident, integerArray } from "../db/ident.ts";
import { query } from "../db/query.ts";
import { columnSql, drivingSql, joinsSql, keySql, memberSql, sentSql } from "../sql/projection.ts";
import { KEY, type Entity, type SourceRow } from "../entities/define-entity.ts";

export interface Projected {
  readonly rows: readonly SourceRow[];
  /** Keys whose row exists, but does not satisfy the entity's predicate. */
  readonly outside: readonly string[];
}

/** The alias under which a row tells whether the predicate lets it in. */
const SENT = "_sent";

/**
 * Fetches the current records of the keys through the entity's projection, every column as text (microseconds,
 * infinity and exact decimals survive). A key without a record is simply missing from the answer.
 */
export async function readProjection(source: Sql, entity: Entity, ids: readonly string[]): Promise<Projected> {
  if (ids.length === 0) return { rows: [], outside: [] };
  const all = await query<SourceRow>(source, "source", projectionSql(entity), [integerArray(ids)]);
  if (entity.source.predicate === undefined) return { rows: all, outside: [] };
  return {
    rows: all.filter((row) => row[SENT] === "true"),
    outside: all.filter((row) => row[SENT] !== "true").map((row) => row[KEY] ?? ""),
  };
}

export function projectionSql(entity: Entity): string {
  const list = Object.entries(entity.source.columns).map(([name, column]) => `(${columnSql(column)})::text as ${ident(name)}`);
  const sent = entity.source.predicate === undefined ? [] : [`${sentSql(entity)}::text as ${ident(SENT)}`];
  return `select ${[`${keySql(entity)}::text as ${ident(KEY)}`, ...sent, ...list].join(", ")}
    from unnest($1::text::bigint[]) k (id)
    join ${drivingSql(entity)} on ${keySql(entity)} = k.id
    ${joinsSql(entity)}
    where ${memberSql(entity)}
    order by k.id`;
}

import type { Sql } from "../db/connect.ts";
import { integerArray } from "../db/ident.ts";
import { query } from "../db/query.ts";
import { KEY, type Entity, type SourceRow } from "../entities/define-entity.ts";
import { projectionSql, SENT } from "../sql/projection.ts";

export interface Projected {
  readonly rows: readonly SourceRow[];
  /** Keys whose row exists, but does not satisfy the entity's predicate. */
  readonly outside: readonly string[];
}

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

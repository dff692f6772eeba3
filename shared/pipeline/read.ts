import type { Sql } from "../db/connect.ts";
import { integerArray } from "../db/ident.ts";
import { query } from "../db/query.ts";
import { KEY, type Entity, type SourceRow } from "../entities/define-entity.ts";
import { assertEachOnce } from "./each-once.ts";
import { projectionSql, SENT } from "../sql/projection.ts";

export interface Projected {
  readonly rows: readonly SourceRow[];
  /** Keys whose row exists, but does not satisfy the entity's predicate. */
  readonly outside: readonly string[];
}

/**
 * Fetches the current records of the keys through the entity's projection, every column as text (microseconds,
 * infinity and exact decimals survive). A key without a record is simply missing from the answer.
 * @throws IsthmusError KEY_BROKEN
 */
export async function readProjection(source: Sql, entity: Entity, ids: readonly string[]): Promise<Projected> {
  if (ids.length === 0) return { rows: [], outside: [] };
  // One row more than keys is enough to know: a joined table may have a million for each.
  const sql = `${projectionSql(entity)} limit ${ids.length + 1}`;
  const all = await query<SourceRow>(source, "source", sql, [integerArray(ids)]);
  assertEachOnce(
    entity,
    all.map((row) => row[KEY] ?? ""),
  );
  if (entity.source.predicate === undefined) return { rows: all, outside: [] };
  return {
    rows: all.filter((row) => row[SENT] === "true"),
    outside: all.filter((row) => row[SENT] !== "true").map((row) => row[KEY] ?? ""),
  };
}

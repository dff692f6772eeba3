import type { Queryable } from "../db/connect.ts";
import { integerArray } from "../db/ident.ts";
import { query } from "../db/query.ts";
import type { Entity } from "../entity/define-entity.ts";
import { drivingSql, keySql } from "./projection.ts";

/** Whether the driving table has a row with this key, be it a record of the entity or not. */
export async function rowIsThere(source: Queryable, entity: Entity, id: string): Promise<boolean> {
  const sql = `select 1 from ${drivingSql(entity)} where ${keySql(entity)} = any ($1::text::bigint[]) limit 1`;
  return (await query(source, "source", sql, [integerArray([id])])).length > 0;
}

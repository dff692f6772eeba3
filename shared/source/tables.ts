import type { Queryable } from "../db/connect.ts";
import { ident, regclass } from "../db/ident.ts";
import { isSourceLimit, query, queryOne } from "../db/query.ts";
import type { Entity } from "../entity/define-entity.ts";
import type { KeyQuery } from "./keys.ts";
import { scannedParameter, scannedSql } from "../sql/xid.ts";

export interface TableSize {
  readonly lowest: string | null;
  readonly highest: string | null;
  readonly rows: number;
}

/** First and last key of the driving table and its number of rows (the planner's estimate where there is one). */
export async function tableSize(source: Queryable, entity: Entity): Promise<TableSize> {
  const table = `public.${ident(entity.source.table)}`;
  const key = ident(entity.source.key);
  return queryOne<TableSize>(
    source,
    "source",
    `select min(${key})::text as lowest, max(${key})::text as highest,
            case when (select reltuples from pg_class where oid = ${regclass(entity.source.table)}) > 0
                 then (select reltuples from pg_class where oid = ${regclass(entity.source.table)})
                 else (select count(*) from ${table}) end::float8 as rows
       from ${table}`,
  );
}

/** Bytes of a table with its partitions and children. */
export async function tableBytes(source: Queryable, table: string): Promise<number> {
  const row = await queryOne<{ bytes: number }>(
    source,
    "source",
    `with recursive tree as (
       select ${regclass(table)}::oid as oid
       union select i.inhrelid from pg_inherits i join tree t on i.inhparent = t.oid)
     select coalesce(sum(pg_relation_size(oid)), 0)::float8 as bytes from tree`,
  );
  return row.bytes;
}

/** Whether a table has a row that was written by this transaction or a later one; true where the source has no time to tell. */
export async function hasChangedRows(source: Queryable, table: string, from: string): Promise<boolean> {
  const text = `select from public.${ident(table)} where ${scannedSql("xmin", 1)} limit 1`;
  return finds(source, { text, parameters: [scannedParameter(from)] });
}

/** Whether a look before a chain finds any row. Where a limit of the source ends it, there is a chain: its pages can be smaller. */
export async function finds(source: Queryable, { text, parameters }: KeyQuery): Promise<boolean> {
  try {
    return (await query(source, "source", text, parameters)).length > 0;
  } catch (error) {
    if (isSourceLimit(error)) return true;
    throw error;
  }
}

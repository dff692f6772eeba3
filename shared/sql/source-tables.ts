import type { Queryable } from "../db/connect.ts";
import { ident } from "../db/ident.ts";
import { query, queryOne } from "../db/query.ts";
import type { Entity } from "../entities/define-entity.ts";
import { changedParameters, changedSql } from "./xid.ts";

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
            case when (select reltuples from pg_class where oid = '${table}'::regclass) > 0
                 then (select reltuples from pg_class where oid = '${table}'::regclass)
                 else (select count(*) from ${table}) end::float8 as rows
       from ${table}`,
  );
}

/** Whether a table has a row that was written in [from, to). */
export async function hasChangedRows(source: Queryable, table: string, from: string, to: string): Promise<boolean> {
  const rows = await query(
    source,
    "source",
    `select from public.${ident(table)} where ${changedSql("xmin", 1, 2)} limit 1`,
    changedParameters(from, to),
  );
  return rows.length > 0;
}

import type { Queryable } from "../db/connect.ts";
import { ident } from "../db/ident.ts";
import { query, queryOne } from "../db/query.ts";
import type { Entity } from "../entities/define-entity.ts";

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

/** Columns of a source table, as the catalog says. Empty when there is no such table or no right to see it. */
export async function tableColumns(source: Queryable, table: string): Promise<string[]> {
  const rows = await query<{ name: string }>(
    source,
    "source",
    `select attname as name from pg_attribute where attrelid = to_regclass($1) and attnum > 0 and not attisdropped`,
    [`public.${ident(table)}`],
  );
  return rows.map((row) => row.name);
}

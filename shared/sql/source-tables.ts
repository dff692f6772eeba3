import type { Queryable } from "../db/connect.ts";
import { ident } from "../db/ident.ts";
import { queryOne } from "../db/query.ts";
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

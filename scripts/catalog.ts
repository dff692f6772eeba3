import type { Sql } from "postgres";
import { kindOf } from "../shared/entity/kinds.ts";
import { behindDomains } from "../shared/sql/catalog-types.ts";

/** What the catalog of either side says of a column. */
export interface Column {
  readonly table: string;
  readonly column: string;
  readonly type: string;
  readonly not_null: boolean;
  /** The target can do without a value of ours: NULL, a default, an identity, a generated column. */
  readonly optional: boolean;
  /** The database computes it: nobody can write it. */
  readonly computed: boolean;
  readonly primary: boolean;
  /** It alone identifies a row. */
  readonly unique: boolean;
  /** The table of the same schema that it refers to, and the column there. */
  readonly references: string | null;
  readonly referenced: string | null;
  readonly members: string[] | null;
}

/** Tables of the schema public with their columns, as the catalog has them; a column of a single-column key with what it refers to. */
export async function columnsOf(sql: Sql): Promise<Column[]> {
  return sql<Column[]>`
    select c.relname as table, a.attname as column, format_type(${sql.unsafe(behindDomains("t"))}, null) as type,
           a.attnotnull as not_null,
           not a.attnotnull or a.atthasdef or a.attidentity <> '' as optional,
           a.attgenerated <> '' or a.attidentity = 'a' as computed,
           coalesce(p.conkey = array[a.attnum], false) as primary,
           exists (select from pg_index i where i.indrelid = c.oid and i.indisunique and i.indisvalid and i.indpred is null
                      and i.indexprs is null and i.indnkeyatts = 1 and i.indkey[0] = a.attnum) as unique,
           f.table as references, f.column as referenced,
           (select pg_catalog.array_agg(e.enumlabel::text order by e.enumsortorder) from pg_enum e where e.enumtypid = t.oid) as members
      from pg_class c
      join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
      join pg_type t on t.oid = a.atttypid
      left join pg_constraint p on p.conrelid = c.oid and p.contype = 'p'
      left join lateral (
        select r.relname as table, o.attname as column from pg_constraint k
          join pg_class r on r.oid = k.confrelid and r.relnamespace = c.relnamespace
          join pg_attribute o on o.attrelid = r.oid and o.attnum = k.confkey[1]
         where k.conrelid = c.oid and k.contype = 'f' and k.conkey = array[a.attnum] order by k.conname limit 1) f on true
     where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p')
     order by c.relname collate "C", a.attnum`;
}

/** The target's columns without those of the sync's own tables, which need not be there yet. */
export async function targetColumns(sql: Sql): Promise<Column[]> {
  const [there] = await sql<{ ours: boolean }[]>`select to_regprocedure('sync.own_tables()') is not null as ours`;
  const own = there?.ours === true ? await sql<{ name: string }[]>`select pg_catalog.unnest(sync.own_tables()) as name` : [];
  const names = new Set(own.map(({ name }) => name));
  return (await columnsOf(sql)).filter(({ table }) => !names.has(table));
}

/** The column by which an entity knows a table's records: an integer that alone identifies a row, the primary key before any other. */
export function keyOf(columns: readonly Column[]): Column | undefined {
  const able = columns.filter(isInteger).filter(({ unique, not_null: never }) => unique && never);
  return able.find(({ primary }) => primary) ?? able[0];
}

export function isInteger({ type, members }: Column): boolean {
  return kindOf(type, members !== null) === "integer";
}

/** Columns by table, in the catalog's order. */
export function byTable(columns: readonly Column[]): Map<string, Column[]> {
  const tables = new Map<string, Column[]>();
  for (const column of columns) tables.set(column.table, [...(tables.get(column.table) ?? []), column]);
  return tables;
}

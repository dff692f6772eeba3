import type { CatalogReading } from "../sql/catalog-reading.ts";
import type { Queryable } from "../db/connect.ts";
import { LC_MONETARY } from "../sql/money-scale.ts";
import { behindDomains, holdsMoney, partsOf } from "../sql/catalog-types.ts";
import { queryOne } from "../db/query.ts";
import { ELSEWHERE, type Elsewhere } from "../sql/elsewhere.ts";
import { SOURCE_SHAPES, type SourceTableShape } from "./shapes.ts";

export interface SourceCatalogColumn {
  /** As PostgreSQL writes it, without a length or a precision; what stands behind domains. */
  readonly type: string;
  /** Amounts of the type money, or values that have such in them. */
  readonly money: boolean;
  /** What its values are made of, by place (partsOf); null: they have no parts. */
  readonly parts: readonly string[] | null;
  readonly enum: boolean;
  readonly readable: boolean;
}
export interface SourceCatalogTable {
  /** pg_class.relkind; a partitioned table with a foreign partition counts as a foreign one. */
  readonly relkind: string;
  /** Row level security filters what this role sees. */
  readonly hidden: boolean;
  readonly columns: Readonly<Record<string, SourceCatalogColumn>>;
  /** What the source itself keeps true of all rows that are read. Of a view, a foreign table or a table with children: nothing. */
  readonly kept: {
    readonly notNull: readonly string[];
    /** Sets of columns, each sorted, by which no two rows are the same but for nulls. */
    readonly unique: readonly (readonly string[])[];
  };
}
export interface SourceCatalog {
  readonly serverVersion: number;
  readonly role: string;
  /** Those that amounts of the type money may have been written under; null: one that nobody can tell, because a setting of the sync's own role stands before it. */
  readonly lcMonetary: readonly (string | null)[];
  readonly tables: Readonly<Record<string, SourceCatalogTable>>;
  readonly elsewhere?: Elsewhere;
}

export interface SourceReading extends CatalogReading<SourceCatalog> {
  /** Of each table, whether the catalog is known or not. */
  readonly shapes: Readonly<Record<string, SourceTableShape>>;
  /** Of each entity of `calls`, the functions that its SQL may call, and what these call: another text when one has changed. */
  readonly called: Readonly<Record<string, string>>;
}

/**
 * What the source's catalog says of some tables of the schema public. `known`: '' reads it in any case. `calls`: what
 * the SQL of each entity may call, by name.
 */
export async function readSourceCatalog(
  source: Queryable,
  tables: readonly string[],
  known: string,
  calls: ReadonlyMap<string, readonly string[]> = new Map(),
): Promise<SourceReading> {
  const row = await queryOne<{ fingerprint: string; catalog: string | null; shapes: string; called: string }>(
    source,
    "source",
    `with recursive tree as (
       select c.oid as root, c.oid as member from pg_class c where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p')
       union select t.root, i.inhrelid from tree t join pg_inherits i on i.inhparent = t.member),
     catalog as materialized (
       select jsonb_build_object(
         'serverVersion', current_setting('server_version_num')::integer, 'role', current_user, 'lcMonetary', ${LC_MONETARY},
         'elsewhere', ${ELSEWHERE},
         'tables', (
           select coalesce(jsonb_object_agg(c.relname, jsonb_build_object(
             'relkind', case when exists (select from tree t join pg_class f on f.oid = t.member
                                            where t.root = c.oid and f.relkind = 'f') then 'f' else c.relkind end,
             'hidden', row_security_active(c.oid),
             'kept', jsonb_build_object(
               'notNull', (
                 select coalesce(pg_catalog.jsonb_agg(a.attname order by a.attname), '[]') from pg_attribute a
                  where c.relkind in ('r', 'p', 'm') and not inherited.some and a.attrelid = c.oid and a.attnum > 0 and a.attnotnull),
               'unique', (
                 -- One that is deferred is kept at the commit, before which no row is seen here.
                 select coalesce(pg_catalog.jsonb_agg(u.columns order by u.columns), '[]') from (
                   select (select pg_catalog.jsonb_agg(a.attname order by a.attname)
                             from pg_catalog.unnest(i.indkey::smallint[]) with ordinality k (attnum, position)
                             join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
                            where k.position <= i.indnkeyatts) as columns
                     from pg_index i
                    where c.relkind in ('r', 'p', 'm') and not inherited.some and i.indrelid = c.oid and i.indisunique
                      and i.indisvalid and i.indisready and i.indpred is null and i.indexprs is null) u)),
             'columns', (
               select jsonb_object_agg(a.attname, jsonb_build_object(
                 'type', format_type(t.oid, null), 'money', ${holdsMoney("d")}, 'parts', ${partsOf("d")}, 'enum', t.typtype = 'e',
                 'readable', has_schema_privilege(c.relnamespace, 'usage') and has_column_privilege(c.oid, a.attnum, 'select')))
                 from pg_attribute a
                 join pg_type d on d.oid = a.atttypid
                 join pg_type t on t.oid = ${behindDomains("d")}
                where a.attrelid = c.oid and (a.attnum > 0 or a.attname = 'xmin') and not a.attisdropped))), '{}')
             from pg_class c
             cross join lateral (
               -- An index of a table says nothing of its children's rows, which are read with its own.
               select c.relkind = 'r' and exists (select from pg_inherits i where i.inhparent = c.oid)
                      or exists (select from tree t join pg_class f on f.oid = t.member where t.root = c.oid and f.relkind = 'f') as some) inherited
            where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p', 'v', 'm', 'f')
              and c.relname in (select jsonb_array_elements_text($1::text::jsonb))))::text as body),
     ${SOURCE_SHAPES}
     select md5(body) as fingerprint, case when md5(body) <> $2 then body end as catalog,
            (select coalesce(jsonb_object_agg(s.name, s.shape), '{}')::text from shapes s) as shapes,
            (select coalesce(jsonb_object_agg(c.entity, c.functions), '{}')::text from calls c) as called
       from catalog`,
    [JSON.stringify(tables), known, JSON.stringify(Object.fromEntries(calls))],
  );
  return {
    fingerprint: row.fingerprint,
    catalog: row.catalog === null ? null : (JSON.parse(row.catalog) as SourceCatalog),
    shapes: JSON.parse(row.shapes) as SourceReading["shapes"],
    called: JSON.parse(row.called) as SourceReading["called"],
  };
}

import type { Queryable } from "../db/connect.ts";
import { queryOne } from "../db/query.ts";

export interface SourceIndex {
  readonly name: string;
  /** Its key columns in order; null: an expression. */
  readonly columns: readonly (string | null)[];
  /** A complete B-tree: valid, and without a condition that leaves rows out. */
  readonly usable: boolean;
}

/** What the catalog of the source says of a table besides its columns: SourceCatalogTable has those. */
export interface SourceTableFacts {
  /** The planner's estimate over all partitions; null: there is none. */
  readonly rows: number | null;
  /** What a scan reads: main forks, over all partitions. */
  readonly bytes: number;
  readonly notNull: readonly string[];
  readonly indexes: readonly SourceIndex[];
}

/** The answering server, and what the role may do there that a reader need not. */
export interface SourceServerFacts {
  readonly replica: boolean;
  /** Of a replica: settings by which its queries outlive the primary's vacuum. null: not visible. */
  readonly hotStandbyFeedback: string | null;
  readonly maxStandbyStreamingDelay: string | null;
  readonly readOnlyByDefault: boolean;
  readonly superuser: boolean;
  readonly createsRoles: boolean;
  readonly createsDatabases: boolean;
  /** In the schema public. */
  readonly createsTables: boolean;
  /** Tables of the schema public that the role may write, the first twenty. */
  readonly writable: readonly string[];
  /** For a capture that reads the log: whether the server writes enough into it, and whether the role may read it. */
  readonly log: { readonly walLevel: string; readonly mayReplicate: boolean };
}

export interface SourceCapabilities {
  readonly server: SourceServerFacts;
  readonly tables: Readonly<Record<string, SourceTableFacts>>;
}

/** What captures cost and can rest on, for these tables of the schema public. Nothing but catalogs is read. */
export async function sourceCapabilities(source: Queryable, tables: readonly string[]): Promise<SourceCapabilities> {
  const { facts } = await queryOne<{ facts: string }>(
    source,
    "source",
    `with recursive tree as (
       select c.oid as root, c.oid as member from pg_class c
        where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p', 'v', 'm', 'f')
          and c.relname in (select jsonb_array_elements_text($1::text::jsonb))
       union
       select t.root, i.inhrelid from tree t join pg_inherits i on i.inhparent = t.member),
     sizes as (
       -- A partitioned table has no rows of its own, a view none at all; below zero: never analysed.
       select t.root, coalesce(sum(pg_relation_size(c.oid)), 0) as bytes,
              case when not bool_or(c.reltuples < 0) then sum(c.reltuples::float8) end as rows
         from tree t join pg_class c on c.oid = t.member and c.relkind in ('r', 'm') group by t.root)
     select jsonb_build_object(
       'server', (
         select jsonb_build_object(
           'replica', pg_is_in_recovery(),
           'hotStandbyFeedback', current_setting('hot_standby_feedback', true),
           'maxStandbyStreamingDelay', current_setting('max_standby_streaming_delay', true),
           'readOnlyByDefault', current_setting('default_transaction_read_only')::boolean,
           'superuser', r.rolsuper, 'createsRoles', r.rolcreaterole, 'createsDatabases', r.rolcreatedb,
           'createsTables', has_schema_privilege('public', 'create'),
           'writable', (
             select coalesce(pg_catalog.jsonb_agg(w.relname order by w.relname), '[]') from (
               select c.relname from pg_class c
                where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p')
                  and (has_table_privilege(c.oid, 'insert, update, delete, truncate')
                       or has_any_column_privilege(c.oid, 'insert, update'))
                order by c.relname limit 20) w),
           'log', jsonb_build_object('walLevel', current_setting('wal_level'), 'mayReplicate', r.rolreplication or r.rolsuper))
           from pg_roles r where r.rolname = current_user),
       'tables', (
         select coalesce(jsonb_object_agg(c.relname, jsonb_build_object(
           'rows', s.rows, 'bytes', coalesce(s.bytes, 0),
           'notNull', (
             select coalesce(pg_catalog.jsonb_agg(a.attname), '[]') from pg_attribute a
              where a.attrelid = c.oid and a.attnum > 0 and a.attnotnull and not a.attisdropped),
           'indexes', (
             select coalesce(pg_catalog.jsonb_agg(jsonb_build_object(
                      'name', n.relname, 'usable', i.indisvalid and i.indisready and i.indpred is null and m.amname = 'btree',
                      'columns', (
                        select pg_catalog.jsonb_agg(a.attname order by k.position)
                          from pg_catalog.unnest(i.indkey::smallint[]) with ordinality k (attnum, position)
                          left join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum and k.attnum <> 0
                         where k.position <= i.indnkeyatts)) order by n.relname), '[]')
               from pg_index i join pg_class n on n.oid = i.indexrelid join pg_am m on m.oid = n.relam
              where i.indrelid = c.oid))), '{}')
           from tree t join pg_class c on c.oid = t.root left join sizes s on s.root = t.root
          where t.member = t.root))::text as facts`,
    [JSON.stringify(tables)],
  );
  return JSON.parse(facts) as SourceCapabilities;
}

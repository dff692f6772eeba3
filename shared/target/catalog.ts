import { ELSEWHERE, type Elsewhere } from "../sql/elsewhere.ts";
import { LC_MONETARY } from "../sql/money-scale.ts";
import { behindDomains, holdsMoney, partsOf } from "../sql/catalog-types.ts";

export interface TargetCatalogColumn {
  /** As PostgreSQL writes it, without a length or a precision; what stands behind domains. */
  readonly type: string;
  /** Amounts of the type money, or values that have such in them. */
  readonly money: boolean;
  /** What its values are made of, by place (partsOf); null: they have no parts. */
  readonly parts: readonly string[] | null;
  /** Of an enum: its members, in their order. */
  readonly members: readonly string[] | null;
  /** Where the type stands when the sync's roles may not name it: a schema that they have no right to use. */
  readonly typeSchema: string | null;
  /** It needs a value: no NULL, and nothing that gives one. */
  readonly required: boolean;
  /** A generated column, or an identity that only the database sets. */
  readonly generated: boolean;
  /** What the role that writes may do with it. */
  readonly select: boolean;
  readonly insert: boolean;
  readonly update: boolean;
}
export interface TargetCatalogTrigger {
  readonly name: string;
  /** pg_trigger.tgtype, a set of bits. */
  readonly type: number;
  /** `update of`: these columns; without it none. */
  readonly columns: readonly string[];
  readonly function: string;
  /** Functions that reach out of the transaction, named by the trigger's function or being it. */
  readonly calls: readonly string[];
  readonly definition: string;
}
export interface TargetCatalogTable {
  readonly relkind: string;
  readonly hidden: boolean;
  readonly empty: boolean;
  /** Whether the role that writes may delete rows. */
  readonly delete: boolean;
  /** Whether it may see which transaction has written a row. */
  readonly xmin: boolean;
  /** Of each entity that is released for this table: the columns that decisions may read and write. */
  readonly released: Readonly<Record<string, readonly string[]>>;
  readonly columns: Readonly<Record<string, TargetCatalogColumn>>;
  readonly primaryKey: readonly string[];
  /** Columns that a unique index over the whole table and nothing else keeps unique. */
  readonly unique: readonly string[];
  /** First columns of indexes over the whole table. */
  readonly indexed: readonly string[];
  /** Foreign keys of one column. */
  readonly foreignKeys: readonly { readonly column: string; readonly table: string; readonly references: string }[];
  /** Foreign keys, of any number of columns; `empty`: the table that they refer to has no row. */
  readonly referred: readonly {
    readonly name: string;
    readonly columns: readonly string[];
    readonly table: string;
    readonly empty: boolean;
  }[];
  readonly triggers: readonly TargetCatalogTrigger[];
  readonly rules: readonly { readonly name: string; readonly event: string; readonly definition: string }[];
  readonly publications: readonly { readonly name: string; readonly all: boolean; readonly writes: readonly string[] }[];
}
export interface TargetCatalog {
  readonly role: string;
  /** Those that amounts of the type money may be written or read under; null: one that nobody can tell, because a setting of the sync's own role stands before it. */
  readonly lcMonetary: readonly (string | null)[];
  readonly tables: Readonly<Record<string, TargetCatalogTable>>;
  readonly elsewhere?: Elsewhere;
}

/** What the target's catalog says of some tables of the schema public, as SQL. $1: their names, a JSON array as text. */
export const TARGET_CATALOG = `
  select jsonb_build_object('role', current_user, 'lcMonetary', ${LC_MONETARY}, 'elsewhere', ${ELSEWHERE}, 'tables', coalesce(jsonb_object_agg(c.relname, jsonb_build_object(
           'relkind', c.relkind,
           'hidden', row_security_active(c.oid),
           'delete', has_table_privilege(c.oid, 'delete'),
           'xmin', case when c.relkind in ('r', 'p') then has_column_privilege(c.oid, 'xmin', 'select') else true end,
           'empty', c.relkind = 'r' and pg_relation_size(c.oid) = 0,
           'released', (
             select coalesce(jsonb_object_agg(r.entity_type, (
               select coalesce(pg_catalog.jsonb_agg(a.attname order by a.attnum), '[]') from pg_attribute a
                where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and a.attname = any (r.columns)
                  and has_column_privilege('isthmus_decisions', c.oid, a.attnum, 'select')
                  and has_column_privilege('isthmus_decisions', c.oid, a.attnum, 'insert')
                  and has_column_privilege('isthmus_decisions', c.oid, a.attnum, 'update'))), '{}')
               from public.sync_released_entities r where r.target_table = c.relname),
           'columns', (
             select jsonb_object_agg(a.attname, jsonb_build_object(
               'type', format_type(t.oid, null), 'money', ${holdsMoney("d")}, 'parts', ${partsOf("d")},
               'typeSchema', (select n.nspname from pg_namespace n
                               where n.oid = t.typnamespace and not (has_schema_privilege(n.oid, 'usage') and has_schema_privilege('isthmus_decisions', n.oid, 'usage'))),
               'members', (select pg_catalog.jsonb_agg(e.enumlabel order by e.enumsortorder) from pg_enum e where e.enumtypid = t.oid),
               'required', (a.attnotnull or d.typnotnull) and not a.atthasdef and d.typdefault is null and a.attidentity = '',
               'generated', a.attgenerated <> '' or a.attidentity = 'a',
               'select', has_column_privilege(c.oid, a.attnum, 'select'),
               'insert', has_column_privilege(c.oid, a.attnum, 'insert'),
               'update', has_column_privilege(c.oid, a.attnum, 'update')))
               from pg_attribute a
               join pg_type d on d.oid = a.atttypid
               join pg_type t on t.oid = ${behindDomains("d")}
              where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped),
           'primaryKey', (
             select coalesce(pg_catalog.jsonb_agg(a.attname order by a.attname), '[]')
               from pg_index i join pg_attribute a on a.attrelid = c.oid and a.attnum = any (i.indkey::int2[])
              where i.indrelid = c.oid and i.indisprimary),
           'unique', (
             select coalesce(pg_catalog.jsonb_agg(distinct a.attname), '[]')
               from pg_index i join pg_attribute a on a.attrelid = c.oid and a.attnum = i.indkey[0]
              where i.indrelid = c.oid and i.indisunique and i.indisvalid and i.indpred is null and i.indnkeyatts = 1),
           'indexed', (
             select coalesce(pg_catalog.jsonb_agg(distinct a.attname), '[]')
               from pg_index i join pg_attribute a on a.attrelid = c.oid and a.attnum = i.indkey[0]
              where i.indrelid = c.oid and i.indisvalid and i.indpred is null),
           'foreignKeys', (
             select coalesce(pg_catalog.jsonb_agg(jsonb_build_object('column', a.attname, 'table', n.nspname || '.' || r.relname, 'references', b.attname)
                                       order by a.attname, k.conname), '[]')
               from pg_constraint k
               join pg_attribute a on a.attrelid = c.oid and k.conkey = array[a.attnum]
               join pg_class r on r.oid = k.confrelid
               join pg_namespace n on n.oid = r.relnamespace
               join pg_attribute b on b.attrelid = r.oid and k.confkey = array[b.attnum]
              where k.conrelid = c.oid and k.contype = 'f'),
           'referred', (
             select coalesce(pg_catalog.jsonb_agg(jsonb_build_object('name', k.conname, 'table', n.nspname || '.' || r.relname,
                      'empty', r.relkind = 'r' and pg_relation_size(r.oid) = 0,
                      'columns', (select pg_catalog.jsonb_agg(a.attname order by a.attnum) from pg_attribute a where a.attrelid = c.oid and a.attnum = any (k.conkey)))
                      order by k.conname), '[]')
               from pg_constraint k join pg_class r on r.oid = k.confrelid join pg_namespace n on n.oid = r.relnamespace
              where k.conrelid = c.oid and k.contype = 'f'),
           'triggers', (
             select coalesce(pg_catalog.jsonb_agg(jsonb_build_object(
               'name', g.tgname, 'type', g.tgtype, 'function', n.nspname || '.' || p.proname,
               'columns', (select coalesce(pg_catalog.jsonb_agg(a.attname order by a.attname), '[]') from pg_attribute a
                            where a.attrelid = c.oid and a.attnum = any (g.tgattr::int2[])),
               'calls', (select coalesce(pg_catalog.jsonb_agg(distinct lower(m[1])), '[]') from regexp_matches(
                          n.nspname || '.' || p.proname || ' ' || coalesce(p.prosrc, ''),
                          '\\m(net\\.http_\\w+|supabase_functions\\.http_request|(?:extensions\\.)?http_(?:post|get|put|patch|delete)|realtime\\.\\w+|pgmq\\.\\w+|pg_notify|dblink\\w*)\\M', 'gi') m),
               'definition', md5(concat_ws('/', g.tgtype, g.tgattr, g.tgargs, g.tgqual, n.nspname, p.proname, p.prosrc))) order by g.tgname), '[]')
               from pg_trigger g join pg_proc p on p.oid = g.tgfoid join pg_namespace n on n.oid = p.pronamespace
              where g.tgrelid = c.oid and not g.tgisinternal and g.tgenabled in ('O', 'A')),
           'rules', (
             select coalesce(pg_catalog.jsonb_agg(jsonb_build_object(
               'name', w.rulename, 'event', case w.ev_type when '2' then 'update' when '3' then 'insert' else 'delete' end,
               'definition', md5(concat_ws('/', w.is_instead, w.ev_qual, w.ev_action))) order by w.rulename), '[]')
               from pg_rewrite w where w.ev_class = c.oid and w.ev_type in ('2', '3', '4') and w.ev_enabled in ('O', 'A')),
           'publications', (
             select coalesce(pg_catalog.jsonb_agg(jsonb_build_object('name', p.pubname, 'all', p.puballtables, 'writes', array_remove(array[
                      case when p.pubinsert then 'insert' end, case when p.pubupdate then 'update' end,
                      case when p.pubdelete then 'delete' end], null)) order by p.pubname), '[]')
               from published q join pg_publication p on p.pubname = q.pubname
              where q.tablename = c.relname))), '{}')) as body
    from pg_class c
   where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p', 'v', 'm', 'f')
     and c.relname in (select jsonb_array_elements_text($1::text::jsonb))`;

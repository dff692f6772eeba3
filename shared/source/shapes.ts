import type { Shape, SourceShape } from "../sql/shape.ts";

/** Of one table with its partitions and children: the identities of each column, and the files. */
export interface SourceTableShape {
  readonly columns: Shape["columns"];
  readonly files: string;
  /** The functions that its generated columns call. */
  readonly functions: string;
  /** Of each column, the parts (elements, attributes) that have the blanks with which char(n) pads, as paths: sync.fits_sql has the same. */
  readonly padded: Readonly<Record<string, readonly string[]>>;
  /** The other parts that have none of their own, of columns that have any. */
  readonly unpadded: Readonly<Record<string, readonly string[]>>;
}

/** A name in the body of a function, and one in quotes. What stands in comments or texts counts, too: more is looked at than is called. */
const WORD = "'((?:[A-Za-z_]|[^\\u0001-\\u007f])(?:[A-Za-z0-9_$]|[^\\u0001-\\u007f])*)'";
const QUOTED = '\'"((?:[^"]|"")+)"\'';
/** A function p that is not PostgreSQL's own, nor one that a session has for itself. */
const IS_SOMEBODYS = "p.oid >= 16384 and p.pronamespace not in (select oid from pg_namespace where nspname like 'pg\\_temp\\_%')";
/** What a function p of the language l calls: what it depends on as the catalog says, and every function whose name its text has. */
const CALLS = `
        select d.refobjid from pg_depend d where d.classid = 'pg_proc'::regclass and d.objid = p.oid and d.refclassid = 'pg_proc'::regclass
        union
        select q.oid
          from (select w.found[1] as word from regexp_matches(p.prosrc, ${WORD}, 'g') w (found)
                union select replace(w.found[1], '""', '"') from regexp_matches(p.prosrc, ${QUOTED}, 'g') w (found)) w
          cross join lateral (select p.oid from pg_proc p where p.proname = any (array[w.word::name, lower(w.word)::name]) and ${IS_SOMEBODYS}) q
         where l.lanname not in ('c', 'internal')`;

/**
 * The shapes of some tables of the schema public, and what entities call, as queries of a `with recursive` that has
 * `tree` (root, member: tables with their partitions and children). $1: the tables' names, a JSON array as text. $3:
 * {entity: [names of functions]}, as text. Numbers of the catalog are never given twice, names are. A column's
 * modifier is not looked at: without another file it changes no value.
 */
export const SOURCE_SHAPES = `
  roots as (
    select c.oid, c.relname from pg_class c
     where c.relnamespace = 'public'::regnamespace and c.relname in (select jsonb_array_elements_text($1::text::jsonb))),
  stands as (
    select r.oid as root, a.attname,
           md5(string_agg(concat_ws('/', a.attrelid, a.attnum, a.atttypid,
                 case when a.attgenerated <> '' then (select pg_get_expr(x.adbin, x.adrelid) from pg_attrdef x where x.adrelid = a.attrelid and x.adnum = a.attnum) end),
               ' ' order by a.attrelid)) as place,
           min(a.atttypid::bigint) as type
      from roots r join tree t on t.root = r.oid
      join pg_attribute a on a.attrelid = t.member and a.attnum > 0 and not a.attisdropped group by 1, 2),
  parts as (
    select root, attname, '' as path, type::oid from stands
    union
    select p.root, p.attname, p.path || part.step, part.type from parts p join pg_type y on y.oid = p.type
      cross join lateral (
        select '' as step, y.typbasetype as type where y.typtype = 'd'
        union all select '[]', y.typelem where y.typlen = -1 and y.typelem <> 0
        union all select '()', g.rngsubtype from pg_range g where g.rngtypid = y.oid
        union all select '.' || (row_number() over (order by a.attnum))::text, a.atttypid
          from pg_attribute a where y.typtype = 'c' and a.attrelid = y.typrelid and a.attnum > 0 and not a.attisdropped) part),
  identities (root, attname, what, identity) as (
    select root, attname, 'place', place from stands
    union all select p.root, p.attname, 'member ' || e.oid::text, e.enumlabel::text from parts p join pg_enum e on e.enumtypid = p.type
    union all select p.root, p.attname, 'attribute ' || a.attrelid::text || '.' || a.attnum::text, concat_ws('/', a.attname, a.atttypid, a.attisdropped)
      from parts p join pg_type y on y.oid = p.type and y.typtype = 'c' join pg_attribute a on a.attrelid = y.typrelid and a.attnum > 0),
  asked (entity, name) as (
    -- A name is cut as PostgreSQL cuts it.
    select e.key, n.name::name from jsonb_each($3::text::jsonb) e cross join lateral jsonb_array_elements_text(e.value) n (name)),
  seeds (by, of, function) as (
    -- What generated columns compute with, what the SQL of an entity names, and what no SQL names: casts, operators,
    -- and how types sort. What defaults, checks and indexes call changes no row that is there. What PostgreSQL brings
    -- itself has a number below 16384.
    select 'table', r.relname::text, d.refobjid
      from roots r join tree t on t.root = r.oid
      join pg_attribute a on a.attrelid = t.member and a.attgenerated <> '' join pg_attrdef x on x.adrelid = a.attrelid and x.adnum = a.attnum
      join pg_depend d on d.classid = 'pg_attrdef'::regclass and d.objid = x.oid and d.refclassid = 'pg_proc'::regclass
    union select 'entity', a.entity, p.oid from asked a join pg_proc p on p.proname = a.name and ${IS_SOMEBODYS}
    -- Of an extension's library no text says what it does.
    union select 'every entity', '', p.oid from pg_proc p join pg_language l on l.oid = p.prolang and l.lanname not in ('c', 'internal')
     where p.oid in (select castfunc from pg_cast union all select oprcode::oid from pg_operator union all select amproc::oid from pg_amproc) and ${IS_SOMEBODYS}),
  reached (function) as (
    select function from seeds
    union
    select x.function from reached c join pg_proc p on p.oid = c.function join pg_language l on l.oid = p.prolang cross join lateral (${CALLS}) x (function)),
  -- A text is looked through once for each function, however many entities come to it.
  edges (caller, callee) as materialized (
    select p.oid, x.function from reached r join pg_proc p on p.oid = r.function join pg_language l on l.oid = p.prolang cross join lateral (${CALLS}) x (function)),
  called (by, of, function) as (
    select by, of, function from seeds union select c.by, c.of, e.callee from called c join edges e on e.caller = c.function),
  bodies (by, of, functions) as (
    -- A function that was dropped and made again as it was is the same.
    select c.by, c.of, md5(string_agg(f.text, ' ' order by f.text))
      from called c join pg_proc p on p.oid = c.function left join pg_aggregate g on g.aggfnoid = p.oid
      cross join lateral (select pg_catalog.jsonb_build_array(
        pg_catalog.to_jsonb(p) - '{oid,proowner,proacl,procost,prorows,prosupport,proparallel}'::text[], g.agginitval)::text as text) f
     group by c.by, c.of),
  shapes as (
    select r.relname::text as name, jsonb_build_object(
             'columns', (select coalesce(jsonb_object_agg(i.attname, i.identities), '{}')
                           from (select attname, jsonb_object_agg(what, identity) as identities from identities where root = r.oid group by attname) i),
             -- A char(n) that is no part of anything is read without its blanks.
             'padded', (select coalesce(jsonb_object_agg(w.attname, w.paths), '{}')
                          from (select p.attname, coalesce(pg_catalog.jsonb_agg(p.path order by p.path) filter (where p.type = 'bpchar'::regtype and p.path <> ''), '[]') as paths
                                  from parts p where p.root = r.oid group by p.attname) w),
             'unpadded', (select coalesce(jsonb_object_agg(w.attname, w.paths), '{}')
                            from (select p.attname, pg_catalog.jsonb_agg(p.path order by p.path) as paths
                                    from parts p join pg_type y on y.oid = p.type
                                   where p.root = r.oid and p.path <> '' and p.type <> 'bpchar'::regtype and y.typtype in ('b', 'e') and not (y.typlen = -1 and y.typelem <> 0)
                                   group by p.attname) w),
             'files', (select coalesce(md5(string_agg(concat_ws('/', c.oid, c.relfilenode), ' ' order by c.oid)), '')
                         from tree t join pg_class c on c.oid = t.member where t.root = r.oid),
             'functions', coalesce((select b.functions from bodies b where b.by = 'table' and b.of = r.relname::text), '')) as shape
      from roots r),
  calls as (
    -- Of each entity that is asked about: the functions that its SQL may call.
    select e.key as entity, coalesce((select string_agg(b.functions, ' ' order by b.by) from bodies b where b.by = 'every entity' or b.by = 'entity' and b.of = e.key), '') as functions
      from jsonb_each($3::text::jsonb) e)`;

const CALLED = JSON.stringify(["functions that the entity's SQL calls"]);

/**
 * What of its tables' shapes concerns an entity: the columns that it reads, under names of both, and what it calls.
 * `places`: where the fields read that read one column.
 */
export function shapeRead(
  read: ReadonlyMap<string, ReadonlySet<string>>,
  places: ReadonlyMap<string, { readonly table: string; readonly column: string; readonly copied: boolean }>,
  tables: Readonly<Record<string, SourceTableShape>>,
  called: string,
): SourceShape {
  const known = [...read].flatMap(([table, columns]) => {
    const shape = tables[table];
    return shape && Object.hasOwn(tables, table) ? [{ table, columns, shape }] : [];
  });
  return {
    columns: Object.fromEntries(
      known.flatMap(({ table, columns, shape }) =>
        [...columns].flatMap((column) => {
          const identities = Object.hasOwn(shape.columns, column) ? shape.columns[column] : undefined;
          return identities ? [[JSON.stringify([table, column]), identities]] : [];
        }),
      ),
    ),
    // No table is called like the second, or the last.
    files: Object.fromEntries<string>([
      ...known.flatMap(({ table, shape }): [string, string][] => [
        [table, shape.files],
        [JSON.stringify(["functions", table]), shape.functions],
      ]),
      [CALLED, called],
    ]),
    padded: Object.fromEntries(
      [...places].flatMap(([name, place]) => {
        const shape = Object.hasOwn(tables, place.table) ? tables[place.table] : undefined;
        const paths = shape && ownOf(shape.padded, place.column);
        if (paths === undefined) return [];
        if (place.copied || paths.length === 0) return [[name, paths]];
        // Computed from padded parts: any part of the value may be one of them, unless the column has at its place
        // one that is none.
        return [[name, [...paths, "*", ...(ownOf(shape?.unpadded ?? {}, place.column) ?? []).map((path) => `!${path}`)]]];
      }),
    ),
  };
}

const ownOf = <T>(record: Readonly<Record<string, T>>, name: string): T | undefined =>
  Object.hasOwn(record, name) ? record[name] : undefined;

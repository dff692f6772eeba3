import type { Shape } from "./entity-shapes.ts";

/** Of one table with its partitions and children: the identities of each column, and the files. */
export interface SourceTableShape {
  readonly columns: Shape["columns"];
  readonly files: string;
  /** The bodies of the functions that its generated columns call. */
  readonly functions: string;
  /** Of each column, the parts (elements, attributes) that have the blanks with which char(n) pads, as paths: sync.fits_sql has the same. */
  readonly padded: Readonly<Record<string, readonly string[]>>;
}

/** What of its tables' shapes concerns an entity. */
export interface SourceShape extends Shape {
  /** Of each field that reads one column as it is: the padded parts of that column. Nothing is known of the others. */
  readonly padded: Readonly<Record<string, readonly string[]>>;
}

/**
 * The shapes of some tables of the schema public, as queries of a `with recursive` that has `tree` (root, member: tables with their
 * partitions and children). $1: their names, a JSON array as text. Numbers of the catalog are never given twice, names are. A column's
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
        union all select '.' || row_number() over (order by a.attnum), a.atttypid
          from pg_attribute a where y.typtype = 'c' and a.attrelid = y.typrelid and a.attnum > 0 and not a.attisdropped) part),
  identities (root, attname, what, identity) as (
    select root, attname, 'place', place from stands
    union all select p.root, p.attname, 'member ' || e.oid, e.enumlabel::text from parts p join pg_enum e on e.enumtypid = p.type
    union all select p.root, p.attname, 'attribute ' || a.attrelid || '.' || a.attnum, concat_ws('/', a.attname, a.atttypid, a.attisdropped)
      from parts p join pg_type y on y.oid = p.type and y.typtype = 'c' join pg_attribute a on a.attrelid = y.typrelid and a.attnum > 0),
  called (root, function) as (
    -- What generated columns compute with; of functions whose bodies the catalog reads, what they call, too. What defaults, checks, indexes
    -- and domains call changes no row that is there.
    select r.oid, d.refobjid
      from roots r join tree t on t.root = r.oid
      join pg_attribute a on a.attrelid = t.member and a.attgenerated <> '' join pg_attrdef x on x.adrelid = a.attrelid and x.adnum = a.attnum
      join pg_depend d on d.classid = 'pg_attrdef'::regclass and d.objid = x.oid and d.refclassid = 'pg_proc'::regclass
    union
    select c.root, d.refobjid from called c
      join pg_depend d on d.classid = 'pg_proc'::regclass and d.objid = c.function and d.refclassid = 'pg_proc'::regclass),
  shapes as (
    select r.relname::text as name, jsonb_build_object(
             'columns', (select coalesce(jsonb_object_agg(i.attname, i.identities), '{}')
                           from (select attname, jsonb_object_agg(what, identity) as identities from identities where root = r.oid group by attname) i),
             -- A char(n) that is no part of anything is read without its blanks.
             'padded', (select coalesce(jsonb_object_agg(w.attname, w.paths), '{}')
                          from (select p.attname, coalesce(pg_catalog.jsonb_agg(p.path order by p.path) filter (where p.type = 'bpchar'::regtype and p.path <> ''), '[]') as paths
                                  from parts p where p.root = r.oid group by p.attname) w),
             'files', (select coalesce(md5(string_agg(concat_ws('/', c.oid, c.relfilenode), ' ' order by c.oid)), '')
                         from tree t join pg_class c on c.oid = t.member where t.root = r.oid),
             'functions', (select coalesce(md5(string_agg(concat_ws('/', p.oid, p.prosrc, pg_catalog.to_jsonb(p) ->> 'prosqlbody', p.probin, p.proconfig::text), ' ' order by p.oid)), '')
                             from called c join pg_proc p on p.oid = c.function where c.root = r.oid)) as shape
      from roots r)`;

/**
 * What of its tables' shapes concerns an entity: the columns that it reads, under names of both. `places`: where the fields read that read
 * one column as it is.
 */
export function shapeRead(
  read: ReadonlyMap<string, ReadonlySet<string>>,
  places: ReadonlyMap<string, readonly [table: string, column: string]>,
  tables: Readonly<Record<string, SourceTableShape>>,
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
    // No table is called like the second.
    files: Object.fromEntries(
      known.flatMap(({ table, shape }) => [
        [table, shape.files],
        [JSON.stringify(["functions", table]), shape.functions],
      ]),
    ),
    padded: Object.fromEntries(
      [...places].flatMap(([name, [table, column]]) => {
        const padded = Object.hasOwn(tables, table) ? tables[table]?.padded : undefined;
        const paths = padded && Object.hasOwn(padded, column) ? padded[column] : undefined;
        return paths ? [[name, paths]] : [];
      }),
    ),
  };
}

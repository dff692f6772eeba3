/** SQL: what stands behind a type of the catalog, however many domains it is made of. `type`: its oid, and `row`: the alias of its pg_type. */
export function behindDomains(row: string): string {
  return `case when ${row}.typtype <> 'd' then ${row}.oid else (
    with recursive behind (type) as (
      select ${row}.typbasetype union all select y.typbasetype from behind b join pg_type y on y.oid = b.type and y.typtype = 'd')
    select b.type from behind b join pg_type y on y.oid = b.type and y.typtype <> 'd') end`;
}

/** SQL: whether values of a type are money, or have such in them: elements, attributes, bounds, behind domains. `row`: the alias of its pg_type. */
export function holdsMoney(row: string): string {
  return `case when ${row}.typtype = 'b' and ${row}.typelem = 0 then ${row}.oid = 'money'::regtype else exists (
    with recursive made (type) as (
      select ${row}.oid
      union select part.type from made m join pg_type y on y.oid = m.type
        cross join lateral (
          select y.typbasetype as type where y.typtype = 'd'
          union all select y.typelem where y.typelem <> 0
          union all select g.rngsubtype from pg_range g where y.oid::text in (g.rngtypid::text, pg_catalog.to_jsonb(g) ->> 'rngmultitypid')
          union all select z.atttypid from pg_attribute z where y.typtype = 'c' and z.attrelid = y.typrelid and z.attnum > 0 and not z.attisdropped) part)
    select from made where type = 'money'::regtype) end`;
}

/**
 * SQL: what the values of a type are made of, as a JSON array of paths in the order of their places: `.name` an
 * attribute, `[]` an element, `(type)` a bound. Of a type that has no parts: null. `row`: the alias of its pg_type.
 */
export function partsOf(row: string): string {
  return `case when ${row}.typtype <> 'e' and not (${row}.typtype = 'b' and ${row}.typelem = 0) then (
    with recursive part (type, path, place) as (
      select ${row}.oid, '' collate "C", '{}'::integer[]
      union all
      select step.type, p.path || step.name, p.place || step.n from part p join pg_type y on y.oid = p.type
        cross join lateral (
          select y.typbasetype as type, '' as name, 0 as n where y.typtype = 'd'
          union all select y.typelem, '[]', 0 where y.typlen = -1 and y.typelem <> 0
          union all select g.rngsubtype, '(' || b.typname || ')', 0 from pg_range g join pg_type b on b.oid = g.rngsubtype
                     where y.oid::text in (g.rngtypid::text, pg_catalog.to_jsonb(g) ->> 'rngmultitypid')
          union all select z.atttypid, '.' || quote_ident(z.attname), z.attnum from pg_attribute z
                     where y.typtype = 'c' and z.attrelid = y.typrelid and z.attnum > 0 and not z.attisdropped) step)
    select pg_catalog.jsonb_agg(p.path order by p.place) from part p join pg_type y on y.oid = p.type where p.path <> '' and y.typtype <> 'd') end`;
}

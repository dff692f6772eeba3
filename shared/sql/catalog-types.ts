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

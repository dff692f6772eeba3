/**
 * SQL: in which other schemas tables of these names stand, {name: [schema]}. Only the schema public is synced;
 * whoever keeps tables elsewhere is told where they were found. $1: the names, a JSON array as text.
 */
export const ELSEWHERE = `(
  select coalesce(jsonb_object_agg(e.name, e.schemas), '{}')
    from (select c.relname as name, pg_catalog.jsonb_agg(n.nspname order by n.nspname) as schemas
            from pg_class c join pg_namespace n on n.oid = c.relnamespace
           where c.relname in (select jsonb_array_elements_text($1::text::jsonb)) and c.relkind in ('r', 'p', 'v', 'm', 'f')
             and n.nspname not in ('public', 'information_schema') and n.nspname !~ '^pg_'
           group by c.relname) e)`;

export type Elsewhere = Readonly<Record<string, readonly string[]>>;

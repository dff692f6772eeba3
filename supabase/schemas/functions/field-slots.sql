-- Purpose: the columns that an entity fills, with the types that they have now.
-- Locks:   none.

-- format_type(oid, -1), not (oid, null): the latter calls char(n) character and bit(n) bit, which SQL reads as length
-- 1, so that a cast to either cuts in silence.
create function sync.column_types(p_table regclass) returns table (name text, type text, exact text, recast boolean)
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  with recursive step as (
    select a.attname, a.atttypid as type, a.atttypmod as modifier
      from pg_catalog.pg_attribute a where a.attrelid = p_table and a.attnum > 0 and not a.attisdropped
    union all
    select s.attname, t.typbasetype, greatest(s.modifier, t.typtypmod)
      from step s cross join lateral (select t.* from pg_catalog.pg_type t where t.oid = s.type offset 0) t where t.typtype = 'd'
  )
  select s.attname, format_type(s.type, -1), format_type(s.type, s.modifier),
         -- JSON has no bounds of arrays. Of an extension's type as to_jsonb decides it: only of types that are not
         -- PostgreSQL's own.
         t.typcategory = 'A' or t.typtype = 'c'
           or s.type >= 16384 and exists (select from pg_catalog.pg_cast k where k.castsource = s.type and k.casttarget = 'json'::regtype and k.castfunc <> 0)
    from step s cross join lateral (select t.* from pg_catalog.pg_type t where t.oid = s.type offset 0) t where t.typtype <> 'd'
$$;
comment on function sync.column_types(regclass) is
  'Columns of a table with their types, behind domains: type without its modifier, which holds every value as the '
  'source has it, and exact, which the column holds. recast: JSON would make another value of it (arrays, composite '
  'types, types of an extension that says so), so that it is kept as text there.';

-- A page asks for the types some ten times, and a look into the catalog takes milliseconds: one is enough.
create function sync.with_types(p_entity public.sync_entities) returns public.sync_entities
language plpgsql stable security invoker set search_path = pg_catalog, pg_temp as $$
begin
  p_entity.columns := (
    select jsonb_agg(d.col || jsonb_build_object('now', case when t.name is null then '{}' else to_jsonb(t) end) order by d.n)
      from jsonb_array_elements(p_entity.columns) with ordinality d (col, n)
      -- As the catalog has them now: a type may have been altered since the entity was registered.
      left join sync.column_types(to_regclass(format('public.%I', p_entity.target_table))) t on t.name = d.col ->> 'name');
  return p_entity;
end
$$;
comment on function sync.with_types(public.sync_entities) is
  'The entity, with what the catalog says of the types of its columns now (columns[].now), for the statements of one '
  'commit.';

-- The page's rows are kept under names of ours, whatever the target's columns are called.
create function sync.field_slots(p_entity public.sync_entities) returns table (name text, slot text, type text, exact text, registered text, recast boolean)
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select d.col ->> 'name', 'c' || d.n, coalesce(d.col #>> '{now,type}', d.col ->> 'type'), coalesce(d.col #>> '{now,exact}', d.col ->> 'type'), d.col ->> 'type',
         coalesce((d.col #>> '{now,recast}')::boolean, false)
    from jsonb_array_elements(case when p_entity.columns @? '$[*].now' then p_entity.columns else (sync.with_types(p_entity)).columns end) with ordinality d (col, n)
   order by d.n
$$;
comment on function sync.field_slots(public.sync_entities) is
  'The columns that an entity fills, each with the column of pg_temp.page_rows that has its new value as text, and '
  'with its types.';

revoke all on function sync.column_types(regclass), sync.with_types(public.sync_entities), sync.field_slots(public.sync_entities) from public;
grant execute on function sync.column_types(regclass), sync.with_types(public.sync_entities), sync.field_slots(public.sync_entities) to isthmus_worker, isthmus_decisions;

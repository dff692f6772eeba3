-- Purpose: let rows of a page exchange unique values, under any kind of unique index.
-- Locks:   none beyond those of the statements.

create function sync.find_givers(p_entity public.sync_entities, p_schema text, p_from integer, p_to integer) returns boolean
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_index record;
begin
  if to_regclass('pg_temp.page_givers') is null then
    create temp table page_givers (n integer not null, taker integer not null, field text not null) on commit drop;
    create index on pg_temp.page_givers (n, taker);
    create index on pg_temp.page_rows (_uuid);
  end if;
  delete from pg_temp.page_givers;
  for v_index in
    select u.*, g.fields from sync.giving_keys(p_entity) g join sync.unique_keys(p_entity) u using (name)
  loop
    execute format($q$
      insert into pg_temp.page_givers (n, taker, field)
      select p.n, o.n, f.name
        from (select v.id as _id, %1$s
                from (select p._uuid as id, %2$s from pg_temp.page_rows p join pg_temp.page_plan w on w.n = p.n
                       where p.n between $1 and $2 and w.action in ('insert', 'update', 'review')) v) k
        -- The unique index is probed once per record, whatever the planner thinks.
        cross join lateral (select t.id from %3$s t where %4$s and t.id <> k._id offset 0) held
        join pg_temp.page_rows o on o._uuid = k._id and o.n between $1 and $2
        join pg_temp.page_rows p on p._uuid = held.id and p.n between $1 and $2
        join pg_temp.page_plan q on q.n = p.n
        -- Given up is only what the row's own new value then takes the place of.
        cross join lateral (select f.name from pg_catalog.unnest(%5$L::text[]) with ordinality f (name, rank) where q.written ? f.name order by f.rank limit 1) f
    $q$, (select string_agg(format('%s as _k%s', e, n), ', ' order by n) from pg_catalog.unnest(v_index.keys) with ordinality x (e, n)),
      (select string_agg(format('(p.%s)::%s as %I', c.slot, c.registered, c.name), ', ') from sync.field_slots(p_entity) c),
      sync.target_sql(p_entity, p_schema),
      sync.holds_key_sql(v_index.keys, v_index.operators, v_index.nulls_equal) || coalesce(' and (' || v_index.predicate || ')', ''),
      v_index.fields) using p_from, p_to;
  end loop;
  return exists (select from pg_temp.page_givers);
end
$$;
comment on function sync.find_givers(public.sync_entities, text, integer, integer) is
  'Which records n of a slice hold a unique value that another one of it (taker) is to get, by a field of which they can give it up first: into pg_temp.page_givers.';

create function sync.vacant_sql(p_type text, p_exact text) returns text
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  -- A value that no other row of the page is given, and that hardly any row has: of the record's number p.n, or of its id.
  select case
    when p_type in ('smallint', 'integer', 'bigint') then
      format('%s - p.n', case p_type when 'smallint' then '32767' when 'integer' then '2147483647' else '9223372036854775807' end)
    when p_type = 'numeric' then
      format('%s - p.n', coalesce('10::numeric ^ ' || (m.size[1]::integer - coalesce(m.size[2], '0')::integer), '1e30'))
    when p_type = 'date' then 'date ''5874897-12-31'' - p.n'
    when p_type in ('timestamp without time zone', 'timestamp with time zone') then
      format('%s ''294276-12-31 00:00:00'' - p.n * interval ''1 minute''', p_type)
    when p_type = 'uuid' then 'md5(t.id::text)::uuid'
    when y.typcategory = 'S' then format('left(md5(t.id::text), %s)', coalesce(m.size[1], '32')) end
    from (select regexp_match(p_exact, '\((\d+)(?:,(-?\d+))?\)') as size) m
    left join pg_catalog.pg_type y on y.oid = to_regtype(p_type)
$$;
comment on function sync.vacant_sql(text, text) is
  'SQL: what a column of that type holds while its row has given up a unique value. Null: nothing of the type would do.';

create function sync.vacant_values(p_entity public.sync_entities) returns table (field text, value text)
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select x.name, x.value
    from (select c.name, case when v.empties then 'null' else sync.vacant_sql(c.type, c.exact) end as value, a.attrelid, a.attnum, v.empties
            from sync.field_slots(p_entity) c
            join pg_catalog.pg_attribute a on a.attrelid = to_regclass(format('public.%I', p_entity.target_table)) and a.attname = c.name
            -- Not of an expression, which may make a value of what is empty, nor where two that are empty count as equal.
            cross join lateral (select not a.attnotnull and not exists (
                select from pg_catalog.pg_index i
                 where i.indrelid = a.attrelid and i.indisunique and (i.indnullsnotdistinct or 0 = any (i.indkey::smallint[]))
                   and (a.attnum = any (i.indkey::smallint[]) or exists (
                         select from pg_catalog.pg_depend d
                          where d.classid = 'pg_catalog.pg_class'::regclass and d.objid = i.indexrelid and d.refobjid = i.indrelid
                            and d.refobjsubid = a.attnum))) as empties) v) x
   where x.value is not null
     and (x.empties or not exists (select from pg_catalog.pg_constraint f
                                    where f.contype = 'f' and f.conrelid = x.attrelid and x.attnum = any (f.conkey)))
$$;
comment on function sync.vacant_values(public.sync_entities) is
  'The columns that an entity fills by which a row can give up a unique value, and SQL: what they hold meanwhile.';

create function sync.giving_keys(p_entity public.sync_entities) returns table (name text, fields text[])
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select c.relname::text, pg_catalog.array_agg(v.field order by v.value <> 'null', a.attnum)
    from pg_catalog.pg_index i
    join pg_catalog.pg_class c on c.oid = i.indexrelid
    join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and (a.attnum = any ((i.indkey::smallint[])[:i.indnkeyatts - 1]) or exists (
           select from pg_catalog.pg_depend d
            where 0 = any (i.indkey::smallint[]) and d.classid = 'pg_catalog.pg_class'::regclass and d.objid = i.indexrelid
              and d.refobjid = i.indrelid and d.refobjsubid = a.attnum))
    join sync.vacant_values(p_entity) v on v.field = a.attname
   where i.indrelid = to_regclass(format('public.%I', p_entity.target_table)) and i.indisunique and i.indisvalid and not i.indisprimary
   group by c.relname
$$;
comment on function sync.giving_keys(public.sync_entities) is
  'For each unique index the columns by which a row can give up its value, the best one first: one that can be empty.';

-- Unique values that change places collide row by row, whatever the order: so rows whose value another one of the slice is to
-- get give it up first, but only when a slice was rejected for it.
create function sync.vacate_statements(p_entity public.sync_entities, p_schema text) returns text[]
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select coalesce(pg_catalog.array_agg(format($q$
      update %1$s t set %2$I = %3$s
        from pg_temp.page_rows p
       where p.n between $1 and $2 and t.id = p._uuid
         and exists (select from pg_temp.page_givers g where g.n = p.n and g.taker between $1 and $2 and g.field = %2$L)
    $q$, sync.target_sql(p_entity, p_schema), v.field, v.value) order by v.field), '{}')
    from sync.vacant_values(p_entity) v
   where v.field in (select pg_catalog.unnest(g.fields) from sync.giving_keys(p_entity) g)
$$;
comment on function sync.vacate_statements(public.sync_entities, text) is
  'The statements by which rows of a slice give up unique values that others of it are to get, as pg_temp.page_givers says. $1, $2: the slice.';

revoke all on function sync.find_givers(public.sync_entities, text, integer, integer), sync.vacant_sql(text, text),
  sync.vacant_values(public.sync_entities), sync.giving_keys(public.sync_entities), sync.vacate_statements(public.sync_entities, text) from public;
grant execute on function sync.find_givers(public.sync_entities, text, integer, integer), sync.vacant_sql(text, text),
  sync.vacant_values(public.sync_entities), sync.giving_keys(public.sync_entities),
  sync.vacate_statements(public.sync_entities, text) to isthmus_worker;

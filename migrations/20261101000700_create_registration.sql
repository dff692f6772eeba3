-- Purpose: write the entity definitions from the code into sync_entities with the types of their columns, and
--          open an entity for minting once its target is known to hold no ids that would have to be adopted.
-- Locks:   row locks on sync_entities.
-- Reverse: drop the functions.

-- format_type(oid, -1), not (oid, null): the latter calls char(n) character and bit(n) bit, which SQL reads as length 1, so that a
-- cast to either cuts in silence.
create function sync.column_types(p_table regclass) returns table (name text, type text, exact text, recast boolean)
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  with recursive step as (
    select a.attname, a.atttypid as type, a.atttypmod as modifier
      from pg_catalog.pg_attribute a where a.attrelid = p_table and a.attnum > 0 and not a.attisdropped
    union all
    select s.attname, t.typbasetype, greatest(s.modifier, t.typtypmod)
      from step s join pg_catalog.pg_type t on t.oid = s.type and t.typtype = 'd'
  )
  select s.attname, format_type(s.type, -1), format_type(s.type, s.modifier),
         -- JSON has no bounds of arrays. Of an extension's type as to_jsonb decides it: only of types that are not PostgreSQL's own.
         t.typcategory = 'A' or t.typtype = 'c'
           or s.type >= 16384 and exists (select from pg_catalog.pg_cast k where k.castsource = s.type and k.casttarget = 'json'::regtype and k.castfunc <> 0)
    from step s join pg_catalog.pg_type t on t.oid = s.type and t.typtype <> 'd'
$$;
comment on function sync.column_types(regclass) is
  'Columns of a table with their types, behind domains: type without its modifier, which holds every value as the source has it, and exact, which the column holds. recast: JSON would make another value of it (arrays, composite types, types of an extension that says so), so that it is kept as text there.';

-- The page's rows are kept under names of ours, whatever the target's columns are called.
create function sync.field_slots(p_entity public.sync_entities) returns table (name text, slot text, type text, exact text, registered text, recast boolean)
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select d.col ->> 'name', 'c' || d.n, coalesce(t.type, d.col ->> 'type'), coalesce(t.exact, d.col ->> 'type'), d.col ->> 'type', coalesce(t.recast, false)
    from jsonb_array_elements(p_entity.columns) with ordinality d (col, n)
    -- As the catalog has them now: a type may have been altered since the entity was registered.
    left join sync.column_types(to_regclass(format('public.%I', p_entity.target_table))) t on t.name = d.col ->> 'name'
   order by d.n
$$;
comment on function sync.field_slots(public.sync_entities) is
  'The columns that an entity fills, each with the column of pg_temp.page_rows that has its new value as text, and with its types.';

create function sync.target_sql(p_entity public.sync_entities, p_schema text) returns text
language sql immutable security invoker set search_path = pg_catalog, pg_temp as $$
  select case when p_schema = 'pg_temp' then 'pg_temp.page_shadow' else format('public.%I', p_entity.target_table) end
$$;
comment on function sync.target_sql(public.sync_entities, text) is 'SQL: the target table of an entity, or in a plan (p_schema: pg_temp) its shadow.';

create function sync.has_unique_keys(p_value json) returns boolean
language sql immutable security invoker set search_path = pg_catalog, pg_temp as $$
  with recursive parts (value) as (
    select p_value
    union all
    select c.value from parts p cross join lateral (
      select value from json_each(case json_typeof(p.value) when 'object' then p.value else '{}' end)
      union all
      select value from json_array_elements(case json_typeof(p.value) when 'array' then p.value else '[]' end)) c
  )
  select bool_and((select count(*) = count(distinct k) from json_object_keys(case json_typeof(value) when 'object' then value else '{}' end) k)) from parts
$$;
comment on function sync.has_unique_keys(json) is 'Whether no object within has a key twice. From PostgreSQL 16 on the server tells that itself: is json with unique keys.';

create function sync.fits_sql(p_name text, p_type text, p_exact text) returns text
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select '(' || string_agg(format(c.condition, p_name, p_type, p_exact), ' and ') || ')'
    from (values
      -- What these types read from a text they cut, round or move to another zone without an error.
      (p_type = 'real', '(p.%1$I)::real::text::numeric = (p.%1$I)::numeric'),
      (p_type = 'double precision', '(p.%1$I)::double precision::text::numeric = (p.%1$I)::numeric'),
      (p_type = 'name', '(p.%1$I)::name::text = p.%1$I'),
      (p_type = '"char"', '(p.%1$I)::"char"::text = p.%1$I'),
      (p_type = 'time without time zone', $c$p.%1$I ~ '^\d\d?:\d\d(:\d\d(\.\d+)?)?$'$c$),
      -- Of a key that stands twice one value is dropped.
      (p_type = 'jsonb' and current_setting('server_version_num')::integer >= 160000, 'p.%1$I is json with unique keys'),
      (p_type = 'jsonb' and current_setting('server_version_num')::integer < 160000, 'sync.has_unique_keys((p.%1$I)::json)'),
      -- Nothing says of which zone a time without one would be, nor where a moment's time is meant.
      (p_type = 'timestamp with time zone', $c$p.%1$I ~* '^\s*[-+]?infinity\s*$|:\d\d(\.\d+)? ?([-+]\d\d(:?\d\d){0,2}|z|utc|gmt)( (bc|ad))?$'$c$),
      (p_type = 'time with time zone', $c$p.%1$I ~* '([-+]\d\d(:?\d\d){0,2}|z|utc|gmt)$'$c$),
      (p_type = 'timestamp without time zone', '(p.%1$I)::timestamptz = (p.%1$I)::timestamp::timestamptz'),
      -- A date may lie beyond what a timestamp holds.
      (p_type = 'date', $c$case when p.%1$I ~ '^\d{4,7}-\d\d-\d\d( BC)?$' then true else (p.%1$I)::timestamptz = (p.%1$I)::date::timestamptz end$c$),
      -- Words that are another day at each reading.
      (p_type in ('date', 'timestamp without time zone'), $c$p.%1$I !~* '\m(now|today|tomorrow|yesterday)\M'$c$),
      (p_type in ('date', 'timestamp without time zone'), $c$p.%1$I !~* ':\d\d(\.\d+)? ?([-+]\d\d(:?\d\d){0,2}|z|utc|gmt)( (bc|ad))?$'$c$),
      -- What a modifier would cut, round or pad. Two texts may be equal but for blanks at their end.
      (p_exact <> p_type and p_type = 'character varying', '(p.%1$I)::%2$s::text = (p.%1$I)::%3$s::text'),
      (p_exact <> p_type and p_type <> 'character varying', '(p.%1$I)::%2$s = (p.%1$I)::%2$s::%3$s')) c (applies, condition)
   where c.applies
$$;
comment on function sync.fits_sql(text, text, text) is
  'SQL over the text p.<p_name>: whether a column of that type holds the value exactly; null where every value that can be read as the type fits. Time zone UTC.';

create function sync.hidden_fields(p_columns jsonb) returns text[]
language sql immutable security invoker set search_path = pg_catalog, pg_temp
return array(select c ->> 'name' from jsonb_array_elements(p_columns) c where (c ->> 'sensitive')::boolean);
comment on function sync.hidden_fields(jsonb) is 'The fields of an entity, by sync_entities.columns, that are sensitive.';

create function sync.register_entity(p_source_id smallint, p_definition jsonb) returns smallint
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_table   regclass := to_regclass(format('public.%I', p_definition ->> 'target_table'));
  v_entity  text := p_definition ->> 'entity_type';
  v_columns jsonb;
  v_id      smallint;
begin
  select jsonb_agg(d.col || jsonb_build_object('type', c.type) order by d.n)
    into v_columns
    from jsonb_array_elements(p_definition -> 'columns') with ordinality d (col, n)
    left join sync.column_types(v_table) c on c.name = d.col ->> 'name';

  insert into public.sync_entities as e
    (source_id, entity_type, source_table, target_table, legacy_key, depends_on, columns, rules, on_delete, conflicts, predicate, history,
     definition_hash)
  values (p_source_id, v_entity, p_definition ->> 'source_table', p_definition ->> 'target_table',
          p_definition ->> 'legacy_key',
          array(select jsonb_array_elements_text(p_definition -> 'depends_on')),
          v_columns, p_definition -> 'rules', p_definition -> 'on_delete', p_definition -> 'conflicts',
          nullif(p_definition -> 'predicate', 'null'), p_definition ->> 'history', p_definition ->> 'definition_hash')
  on conflict (source_id, entity_type) do update
     set source_table = excluded.source_table, target_table = excluded.target_table,
         legacy_key = excluded.legacy_key, depends_on = excluded.depends_on, columns = excluded.columns, rules = excluded.rules,
         on_delete = excluded.on_delete, conflicts = excluded.conflicts, predicate = excluded.predicate, history = excluded.history,
         definition_hash = excluded.definition_hash, updated_at = now(),
         mask_from = case when sync.hidden_fields(excluded.columns) <@ sync.hidden_fields(e.columns) then e.mask_from else -9223372036854775808 end
   where e.definition_hash is distinct from excluded.definition_hash or e.columns is distinct from excluded.columns
  returning id into v_id;
  if v_id is null then
    select id into v_id from public.sync_entities where source_id = p_source_id and entity_type = v_entity;
  end if;
  return v_id;
end
$$;
comment on function sync.register_entity(smallint, jsonb) is
  'Writes one entity definition and resolves its column types from the catalog. A column that is missing has none: the check of the contract keeps its entity from running.';

create function sync.open_entity(p_entity_id smallint, p_dry_run boolean) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_entity public.sync_entities;
  v_any    boolean;
begin
  select * into strict v_entity from public.sync_entities where id = p_entity_id for update;
  if v_entity.adoption_epoch > 0 then
    return;
  end if;
  execute format('select exists (select from public.%I)', v_entity.target_table) into v_any;
  if v_any then
    raise exception 'entity %: public.% already holds rows whose ids have not been adopted',
      v_entity.entity_type, v_entity.target_table
      using errcode = 'IS021',
            hint = format('Nothing was written. New ids beside existing rows would double them. Look with npm run sync -- adopt %1$s --dry-run, take them over with npm run sync -- adopt %1$s; only where nobody needs these rows, empty the table instead.', v_entity.entity_type);
  end if;
  update public.sync_entities set adoption_epoch = 1, adopted_at = now() where id = p_entity_id and not p_dry_run;
end
$$;
comment on function sync.open_entity(smallint, boolean) is
  'Allows minting for an entity whose target table is empty. Raises IS021 when it holds rows nobody has adopted. p_dry_run: only tells whether it would.';

revoke all on function sync.column_types(regclass), sync.field_slots(public.sync_entities), sync.target_sql(public.sync_entities, text), sync.fits_sql(text, text, text), sync.has_unique_keys(json), sync.hidden_fields(jsonb), sync.register_entity(smallint, jsonb), sync.open_entity(smallint, boolean) from public;
grant execute on function sync.column_types(regclass), sync.field_slots(public.sync_entities), sync.target_sql(public.sync_entities, text), sync.fits_sql(text, text, text), sync.has_unique_keys(json), sync.hidden_fields(jsonb), sync.register_entity(smallint, jsonb), sync.open_entity(smallint, boolean) to isthmus_worker;
grant execute on function sync.column_types(regclass), sync.field_slots(public.sync_entities), sync.fits_sql(text, text, text), sync.has_unique_keys(json) to isthmus_decisions;

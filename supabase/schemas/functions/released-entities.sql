-- Purpose: what decisions may touch: the table and the columns of each entity, released by the owner of the database.

create function sync.may_hang_triggers(p_table regclass) returns table (of_table regclass, grantee oid)
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  with recursive tables as (
    select p_table::oid as oid
    union
    select i.inhrelid from tables t join pg_inherits i on i.inhparent = t.oid
  )
  select c.oid::regclass, x.grantee
    from tables t join pg_class c on c.oid = t.oid cross join lateral aclexplode(c.relacl) x
   where x.privilege_type = 'TRIGGER' and x.grantee <> c.relowner
$$;
comment on function sync.may_hang_triggers(regclass) is
  'Who besides its owner has the right TRIGGER on a table or one of its partitions. On a new Supabase project anon, '
  'authenticated and service_role have it on each table of public.';

create function sync.grant_released(p_table text) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_table    text := format('public.%I', p_table);
  v_released public.sync_released_entities;
  v_columns  text;
  v_schema   text;
  v_open     record;
begin
  if to_regclass(v_table) is null then
    return;
  end if;
  execute format('revoke all on %s from isthmus_decisions', v_table);
  -- Through such a right anybody can hang a function of theirs on the table. It would run with the rights of whoever
  -- writes there.
  for v_open in select * from sync.may_hang_triggers(v_table::regclass) loop
    execute format('revoke trigger on %s from %s cascade', v_open.of_table, case when v_open.grantee = 0 then 'public' else v_open.grantee::regrole::text end);
  end loop;
  for v_released in select * from public.sync_released_entities where target_table = p_table order by entity_type loop
    v_columns := (select string_agg(quote_ident(name), ', ') from unnest(v_released.columns) name);
    execute format('grant select (id, %1$s), insert (id, %1$s), update (%1$s) on %2$s to isthmus_decisions', v_columns, v_table);
    if v_released.deletes then
      execute format('grant delete on %s to isthmus_decisions', v_table);
    end if;
  end loop;
  -- Types of extensions stand in schemas of their own, where both roles have to name them.
  for v_schema in
    select distinct n.nspname
      from public.sync_released_entities r
      join pg_attribute a on a.attrelid = to_regclass(v_table) and a.attname = any (r.columns) and a.attnum > 0 and not a.attisdropped
      join pg_type d on d.oid = a.atttypid
      join pg_type t on t.oid = coalesce(nullif(d.typbasetype, 0), d.oid)
      join pg_namespace n on n.oid = t.typnamespace
     where r.target_table = p_table and n.nspname not in ('pg_catalog', 'public') order by 1
  loop
    execute format('grant usage on schema %I to isthmus_worker, isthmus_decisions', v_schema);
  end loop;
end
$$;
comment on function sync.grant_released(text) is
  'Gives isthmus_decisions exactly the rights on a table that its releases say, and both roles the use of the '
  'schemas that its types stand in.';

create function sync.own_tables() returns text[]
language sql immutable security invoker set search_path = pg_catalog, pg_temp as $$
  select array[
    'sync_adoption_rows', 'sync_alert_deliveries', 'sync_alert_notes', 'sync_alert_settings', 'sync_alerts', 'sync_audit', 'sync_brakes', 'sync_chains', 'sync_changed_causes', 'sync_checkpoints', 'sync_conflict_values',
    'sync_conflicts', 'sync_contract_checks', 'sync_entities', 'sync_entity_shapes', 'sync_executions', 'sync_identities', 'sync_jobs', 'sync_join_rows', 'sync_page_log',
    'sync_pending_keys', 'sync_planned_records', 'sync_queue_counts', 'sync_queue_looks', 'sync_record_slots',
    'sync_released_entities', 'sync_reports', 'sync_retention', 'sync_row_states', 'sync_rule_overrides', 'sync_side_effects', 'sync_sources',
    'sync_ticks', 'sync_totals', 'sync_warnings', 'uuid_mappings_enhanced']
$$;
comment on function sync.own_tables() is
  'The tables of the sync itself, which no entity fills. An application''s own table may have any other name.';

create function sync.release_entity(p_entity text, p_table text, p_columns text[], p_deletes boolean) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_table   regclass := to_regclass(format('public.%I', p_table));
  v_former  text := (select target_table from public.sync_released_entities where entity_type = p_entity);
  v_missing text;
begin
  if p_table = any (sync.own_tables()) then
    raise exception 'public.% is a table of the sync itself', p_table
      using errcode = '22023', hint = 'Release the application''s table that the entity fills.';
  end if;
  select string_agg(quote_ident(name), ', ') into v_missing from unnest(p_columns || 'id'::text) name
   where not exists (select from pg_attribute where attrelid = v_table and attname = name and attnum > 0 and not attisdropped);
  if (select relkind from pg_class where oid = v_table) not in ('r', 'p') then
    raise exception 'public.% is no table', p_table
      using errcode = '42809', hint = 'Release the table itself: what is written through a view or a foreign table is written with other rights.';
  elsif v_table is null or v_missing is not null then
    raise exception 'public.% does not have what the entity % fills: %', p_table, p_entity, coalesce(v_missing, 'the table is missing')
      using errcode = '42703', hint = 'Correct the table or the entity file: npm run sync -- check says what does not fit.';
  end if;
  insert into public.sync_released_entities (entity_type, target_table, columns, deletes)
  values (p_entity, p_table, p_columns, p_deletes)
  on conflict (entity_type) do update
     set target_table = excluded.target_table, columns = excluded.columns, deletes = excluded.deletes, released_by = default, released_at = default;
  perform sync.grant_released(p_table);
  if v_former <> p_table then
    perform sync.grant_released(v_former);
  end if;
end
$$;
comment on function sync.release_entity(text, text, text[], boolean) is
  'The owner lets decisions on an entity read and write these columns of this table, and no others. npm run sync -- '
  'grants prints the call. Called again, it narrows as well as widens.';

create function sync.withdraw_entity(p_entity text) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_table text;
begin
  delete from public.sync_released_entities where entity_type = p_entity returning target_table into v_table;
  perform sync.grant_released(v_table);
end
$$;
comment on function sync.withdraw_entity(text) is
  'The owner takes a release back: decisions on the entity are refused from then on.';

create function sync.released_entity(p_entity_id smallint) returns public.sync_entities
language plpgsql stable security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_entity   public.sync_entities;
  v_released public.sync_released_entities;
  v_names    text[];
  v_beyond   text;
begin
  select * into strict v_entity from public.sync_entities where id = p_entity_id;
  select * into v_released from public.sync_released_entities where entity_type = v_entity.entity_type;
  v_names := array(select c ->> 'name' from jsonb_array_elements(v_entity.columns) c) || v_entity.legacy_key;
  select string_agg(distinct quote_ident(name), ', ') into v_beyond from unnest(v_names) name where name <> all (v_released.columns);
  if v_released.target_table is distinct from v_entity.target_table or v_beyond is not null then
    raise exception 'the entity % is not released as it is defined now: %', v_entity.entity_type,
      case when v_released.entity_type is null then 'nobody has released it'
           when v_released.target_table <> v_entity.target_table then 'it is released for another table'
           else 'the release lacks ' || v_beyond end
      using errcode = 'IS022', hint = 'The owner of the database runs what npm run sync -- grants prints. Nothing was changed.';
  end if;
  -- sync_entities is written by the worker: names that become SQL are the owner's, and types the catalog's.
  v_entity.target_table := v_released.target_table;
  v_entity.columns := (
    select jsonb_agg(jsonb_build_object('name', a.attname, 'type', format_type(a.atttypid, -1)) order by r.n)
      from unnest(v_released.columns) with ordinality r (name, n)
      join pg_attribute a on a.attrelid = format('public.%I', v_released.target_table)::regclass and a.attname = r.name and a.attnum > 0 and not a.attisdropped
     where r.name = any (v_names));
  return v_entity;
end
$$;
comment on function sync.released_entity(smallint) is
  'An entity with the table and columns that its owner has released. Raises IS022 when its definition goes beyond '
  'them.';

revoke all on function sync.may_hang_triggers(regclass), sync.own_tables(), sync.grant_released(text),
  sync.release_entity(text, text, text[], boolean), sync.withdraw_entity(text), sync.released_entity(smallint) from public;
grant execute on function sync.released_entity(smallint) to isthmus_worker, isthmus_decisions;
grant execute on function sync.own_tables() to isthmus_worker;

-- Purpose: temporary tables over which the statements of a load run in a dry run: what they would find, and what
--          would refuse them, without touching the application's tables.
--
-- A shadow's constraints are named as those of its table: what a statement meets there it would meet in earnest. It
-- has the columns that the sync owns, because it may read no others; constraints that involve others are not in it,
-- nor are the application's triggers. Foreign keys are asked by statements: what they refer to is planned, or stands
-- in tables of the target.

create function sync.shadow_columns(p_entity public.sync_entities) returns text
language sql immutable security invoker set search_path = pg_catalog, pg_temp as $$
  select 'id, ' || string_agg(quote_ident(d.col ->> 'name'), ', ' order by d.n) from jsonb_array_elements(p_entity.columns) with ordinality d (col, n)
$$;
comment on function sync.shadow_columns(public.sync_entities) is 'id and the columns that the sync owns, by name.';

create function sync.shadow_values(p_entity public.sync_entities) returns text
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select 't.id, ' || string_agg(sync.filled_sql('r.row_after', c.name, c.type, c.recast, format('t.%I', c.name)), ', ' order by substr(c.slot, 2)::integer)
    from sync.field_slots(p_entity) c
$$;
comment on function sync.shadow_values(public.sync_entities) is
  'The values of sync.shadow_columns of a planned record r, of which t is what jsonb_populate_record makes.';

create function sync.create_shadow(p_entity public.sync_entities) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_table oid := format('public.%I', p_entity.target_table)::regclass;
  v_on    text := ' ON ' || v_table::regclass::text || ' USING ';
  v_index record;
  v_line  text;
begin
  execute (
    select format('create temp table page_shadow (%s) on commit drop',
                  string_agg(format('%I %s%s%s', a.attname, format_type(a.atttypid, a.atttypmod),
                                    (select format(' collate %I.%I', n.nspname, c.collname)
                                       from pg_catalog.pg_collation c join pg_catalog.pg_namespace n on n.oid = c.collnamespace
                                      where c.oid = a.attcollation and c.collname <> 'default'),
                                    case when a.attnotnull then ' not null' end), ', ' order by a.attnum))
      from pg_catalog.pg_attribute a
     where a.attrelid = v_table and a.attnum > 0 and not a.attisdropped and sync.are_owned(p_entity, v_table, array[a.attnum]));
  -- An index of the target may be called like a temporary table of ours, so these have numbers, and their names
  -- beside.
  for v_index in
    select u.name, row_number() over () as n,
           'create unique index page_shadow_key_' || row_number() over ()
             || overlay(substr(u.definition, strpos(u.definition, v_on)) placing ' ON pg_temp.page_shadow USING ' from 1 for length(v_on)) as definition
      from sync.unique_keys(p_entity) u
  loop
    execute v_index.definition;
    execute format('comment on index pg_temp.page_shadow_key_%s is %L', v_index.n, v_index.name);
  end loop;
  -- Not valid: only what the plan writes is checked, as in a table with rows that are older than the constraint.
  for v_line in
    select format('alter table pg_temp.page_shadow add constraint %I %s', conname,
                  pg_get_constraintdef(oid) || case when convalidated then ' not valid' else '' end)
      from pg_catalog.pg_constraint
     -- 0: of the row as a whole; null: of no column.
     where conrelid = v_table and contype = 'c' and 0 <> all (coalesce(conkey, '{}')) and sync.are_owned(p_entity, v_table, coalesce(conkey, '{}'))
  loop
    execute v_line;
  end loop;
end
$$;
comment on function sync.create_shadow(public.sync_entities) is
  'pg_temp.page_shadow: the owned columns of the target table, with NOT NULL, CHECKs and unique indexes (their names '
  'are their comments).';

create function sync.shadow_page(p_execution uuid, p_entity public.sync_entities, p_left bigint[]) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_columns text := sync.shadow_columns(p_entity);
begin
  create temp table page_keys on commit drop as
  select k as legacy_id from (select _key from pg_temp.page_rows union select pg_catalog.unnest(p_left)) x (k);
  create unique index on pg_temp.page_keys (legacy_id);
  analyze pg_temp.page_keys;
  -- What this execution has planned for the page's records already stands for what is there.
  create temp table page_planned on commit drop as
  select r.legacy_id, r.id, r.lands, r.row_after, r.state_after
    from pg_temp.page_keys k
    -- One index probe per record, whatever the planner thinks.
    cross join lateral (select r.* from public.sync_planned_records r
                         where r.execution_id = p_execution and r.entity_id = p_entity.id and r.legacy_id = k.legacy_id and r.lands is not null limit 1) r;
  create unique index on pg_temp.page_planned (legacy_id);

  create temp table uuid_mappings_enhanced (like public.uuid_mappings_enhanced including all) on commit drop;
  insert into pg_temp.uuid_mappings_enhanced
  select m.* from pg_temp.page_keys k
   cross join lateral (select x.* from public.uuid_mappings_enhanced x
                        where x.source_id = p_entity.source_id and x.entity_type = p_entity.entity_type and x.legacy_id = k.legacy_id offset 0) m
  union
  select m.* from pg_temp.page_rows p
   cross join lateral (select x.* from public.uuid_mappings_enhanced x
                        where x.entity_type = p_entity.entity_type and x.entity_uuid = p._uuid offset 0) m;
  insert into pg_temp.uuid_mappings_enhanced (source_id, entity_type, legacy_id, entity_uuid, source_table, target_table, sync_status)
  select p_entity.source_id, p_entity.entity_type, r.legacy_id, r.id, p_entity.source_table, p_entity.target_table,
         case when r.lands then 'active' else 'deleted' end::public.mapping_sync_status
    from pg_temp.page_planned r
  on conflict (source_id, entity_type, legacy_id) do update set sync_status = excluded.sync_status;

  create temp table sync_row_states (like public.sync_row_states including all) on commit drop;
  insert into pg_temp.sync_row_states
  select s.* from pg_temp.page_keys k
   cross join lateral (select x.* from public.sync_row_states x where x.entity_id = p_entity.id and x.legacy_id = k.legacy_id offset 0) s
   where not exists (select from pg_temp.page_planned r where r.legacy_id = k.legacy_id);
  insert into pg_temp.sync_row_states
  select s.* from pg_temp.page_planned r
    cross join lateral jsonb_populate_record(null::public.sync_row_states, r.state_after) s
   where r.lands and r.state_after is not null;
  analyze pg_temp.sync_row_states;

  perform sync.create_shadow(p_entity);
  execute format($q$
    insert into pg_temp.page_shadow (%2$s)
    select %2$s from public.%1$I t
     where t.id in (select _uuid from pg_temp.page_rows union select entity_uuid from pg_temp.uuid_mappings_enhanced)
       and not exists (select from pg_temp.page_planned r where r.id = t.id)
  $q$, p_entity.target_table, v_columns);
  execute format($q$
    insert into pg_temp.page_shadow (%1$s)
    select %2$s from pg_temp.page_planned r cross join lateral jsonb_populate_record(null::pg_temp.page_shadow, r.row_after) t
     where r.lands
    on conflict do nothing
  $q$, v_columns, sync.shadow_values(p_entity));
  analyze pg_temp.page_shadow;
end
$$;
comment on function sync.shadow_page(uuid, public.sync_entities, bigint[]) is
  'Fills the shadows of target table, row states and mappings with what a page''s records would find there.';

create function sync.clash_statements(p_execution uuid, p_entity public.sync_entities) returns text[]
language plpgsql stable security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_columns text := sync.shadow_columns(p_entity);
  v_new     text := format('(select p._uuid as id, %s from pg_temp.page_rows p
                              cross join lateral (select from pg_temp.page_plan x where x.n = p.n and x.action in (''insert'', ''update'', ''review'') offset 0) q
                              where p.n between $1 and $2) v',
    (select string_agg(format('(p.%s)::%s as %I', c.slot, c.registered, c.name), ', ') from sync.field_slots(p_entity) c));
begin
  return array(
    select format($q$
      insert into pg_temp.page_shadow (%2$s)
      select t.* from (select distinct %3$s from %4$s) k
       -- Its columns alone are meant by the names in these expressions.
       cross join lateral (select %2$s from public.%1$I t where %5$s offset 0) t
       where not exists (select from public.sync_planned_records r
                          where r.execution_id = %6$L and r.entity_id = %7$s and r.id = t.id and r.lands is not null)
      on conflict do nothing
    $q$, p_entity.target_table, v_columns,
      (select string_agg(format('%s as _k%s', e, n), ', ' order by n) from pg_catalog.unnest(u.keys) with ordinality x (e, n)), v_new,
      sync.holds_key_sql(u.keys, u.operators, u.nulls_equal), p_execution, p_entity.id)
      from sync.unique_keys(p_entity) u
    union all
    select format($q$
      insert into pg_temp.page_shadow (%5$s)
      select %6$s from public.sync_planned_records r
        cross join lateral jsonb_populate_record(null::pg_temp.page_shadow, r.row_after) t
       where r.execution_id = %1$L and r.entity_id = %2$s and r.lands
         and r.unique_keys && array(select h.hash from %3$s cross join lateral pg_catalog.unnest(%4$s) h (hash))
      on conflict do nothing
    $q$, p_execution, p_entity.id, v_new, sync.key_hashes(p_entity), v_columns, sync.shadow_values(p_entity))
      where sync.key_hashes(p_entity) is not null);
end
$$;
comment on function sync.clash_statements(uuid, public.sync_entities) is
  'The statements that put into the shadow whatever a slice''s new values could clash with: rows of the target, and '
  'planned ones. $1, $2: the slice.';

create function sync.refuse_dangling(p_constraint text) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  raise exception using errcode = '23503', message = 'the row that is referred to would not be there', constraint = p_constraint;
end
$$;
comment on function sync.refuse_dangling(text) is
  'Raises, for a plan, what a foreign key of this name would raise in earnest.';

create function sync.reference_statements(p_execution uuid, p_entity public.sync_entities) returns text[]
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select coalesce(pg_catalog.array_agg(format($q$
      select sync.refuse_dangling(%1$L)
        from pg_temp.page_plan q join pg_temp.page_shadow t on t.id = q.id
        left join lateral (
          select r.lands from public.sync_planned_records r
           where r.id = t.%2$I and r.execution_id = %4$L and r.lands is not null
             and (select e.target_table from public.sync_entities e where e.id = r.entity_id) = %5$L limit 1) r on true
       where q.n between $1 and $2 and t.%2$I is not null
         and (q.action = 'insert' or q.action in ('update', 'review') and q.written ? %2$L)
         and not (%6$scoalesce(r.lands, (select x.id from %3$s x where x.id = t.%2$I) is not null))
       limit 1
    $q$, c.conname, child.attname, c.confrelid::regclass, p_execution, parent.relname,
    -- What this page itself would write.
    case when c.confrelid = c.conrelid then format('(select x.id from pg_temp.page_shadow x where x.id = t.%I) is not null or ', child.attname) else '' end)
    order by c.conname), '{}')
    from pg_catalog.pg_constraint c
    join pg_catalog.pg_class parent on parent.oid = c.confrelid
    join pg_catalog.pg_attribute child on child.attrelid = c.conrelid and child.attnum = c.conkey[1]
    join pg_catalog.pg_attribute id on id.attrelid = c.confrelid and id.attnum = c.confkey[1] and id.attname = 'id' and id.atttypid = 'uuid'::regtype
   where c.contype = 'f' and c.conrelid = to_regclass(format('public.%I', p_entity.target_table)) and c.conparentid = 0
     and cardinality(c.conkey) = 1 and sync.are_owned(p_entity, c.conrelid, c.conkey) and has_column_privilege(c.confrelid, id.attnum, 'select')
$$;
comment on function sync.reference_statements(uuid, public.sync_entities) is
  'The statements by which a plan asks the foreign keys of the target table, to ids of tables that the sync may '
  'read. $1, $2: the slice.';

revoke all on function sync.shadow_columns(public.sync_entities), sync.shadow_values(public.sync_entities), sync.create_shadow(public.sync_entities),
  sync.shadow_page(uuid, public.sync_entities, bigint[]), sync.clash_statements(uuid, public.sync_entities), sync.refuse_dangling(text),
  sync.reference_statements(uuid, public.sync_entities) from public;
grant execute on function sync.shadow_columns(public.sync_entities), sync.shadow_values(public.sync_entities),
  sync.create_shadow(public.sync_entities), sync.shadow_page(uuid, public.sync_entities, bigint[]),
  sync.clash_statements(uuid, public.sync_entities), sync.refuse_dangling(text),
  sync.reference_statements(uuid, public.sync_entities) to isthmus_worker;

-- Purpose: what becomes of landed records that have left their entity's predicate, or that the source no longer has.
-- Locks:   the target rows of the page, which sync.load_records has locked.

create function sync.is_leaving(p_rule text, p_data jsonb) returns boolean
language sql immutable security invoker set search_path = pg_catalog, pg_temp
as $$ select p_rule in ('deleted_in_source', 'left_edited', 'left_referenced', 'left_kept', 'left_unknown') or coalesce(p_data -> 'leaves' = 'true', false) $$;
comment on function sync.is_leaving(text, jsonb) is
  'Whether a conflict, by its rule and evidence, is about a record that is to go: target_wins then means that its '
  'row stays, and counts as gone.';

create function sync.leaving_rows(p_entity public.sync_entities, p_schema text, p_after integer, p_ids bigint[]) returns integer
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_count integer;
begin
  execute format(
    'insert into pg_temp.page_rows (n, _leaves, _key, _uuid)
     select $1 + row_number() over (order by m.entity_uuid), true, m.legacy_id, m.entity_uuid
       from %1$I.uuid_mappings_enhanced m
      where m.source_id = $2 and m.entity_type = $3 and m.legacy_id = any ($4) and m.sync_status = ''active''
        -- Whose row is to stay, by a decision: one index probe per record.
        and (select s.gone_at from %1$I.sync_row_states s where s.entity_id = $5 and s.legacy_id = m.legacy_id and s.outside is null) is null', p_schema)
    using p_after, p_entity.source_id, p_entity.entity_type, p_ids, p_entity.id;
  get diagnostics v_count = row_count;
  return v_count;
end
$$;
comment on function sync.leaving_rows(public.sync_entities, text, integer, bigint[]) is
  'Puts landed records that leave behind the others of pg_temp.page_rows; returns how many.';

create function sync.referenced_sql(p_entity public.sync_entities, p_dry_run uuid) returns text
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select coalesce(string_agg(format(
      case when has_column_privilege(c.conrelid, child.attnum, 'select') and has_column_privilege(c.confrelid, parent.attnum, 'select') then
        'exists (select from %s r where r.%I = t.%I' || case
          when p_dry_run is null or not exists (select from pg_catalog.pg_attribute a where a.attrelid = c.conrelid and a.attname = 'id' and a.atttypid = 'uuid'::regtype)
            then ')' else
          ' and not exists (select from public.sync_planned_records n join public.sync_entities e on e.id = n.entity_id
                             where n.execution_id = %4$L and e.target_table = %5$L and n.id = r.id and n.lands is false))' end
      else 'true' end,
      c.conrelid::regclass, child.attname, parent.attname, p_dry_run, k.relname), ' or '), 'false')
    from pg_catalog.pg_constraint c
    join pg_catalog.pg_class k on k.oid = c.conrelid
    join pg_catalog.pg_attribute child on child.attrelid = c.conrelid and child.attnum = c.conkey[1]
    join pg_catalog.pg_attribute parent on parent.attrelid = c.confrelid and parent.attnum = c.confkey[1]
   where c.contype = 'f' and c.confrelid = to_regclass(format('public.%I', p_entity.target_table)) and c.conparentid = 0
     and (p_dry_run is not null and c.conrelid <> c.confrelid or c.confdeltype in ('c', 'n', 'd'))
$$;
comment on function sync.referenced_sql(public.sync_entities, uuid) is
  'SQL: whether rows refer to the target row t by a foreign key that would delete or empty them without a word (in a '
  'plan: by any). A table that the sync may not look into counts as referring.';

-- Keys and ids go into a statement as a list: of a join the planner, who knows nothing of a page's tables, might make
-- a look through the other one.
create function sync.planned_list(p_column text, p_action text) returns text
language sql immutable security invoker set search_path = pg_catalog, pg_temp
return format('array(select q.%I from pg_temp.page_plan q where q.n between $1 and $2 and q.action = %L)', p_column, p_action);
comment on function sync.planned_list(text, text) is
  'SQL: a column (legacy_id, id) of the records of a slice that have an action, as an array. $1, $2: the slice.';

create function sync.tombstone_statements(p_entity public.sync_entities, p_schema text) returns text[]
language plpgsql stable security invoker set search_path = pg_catalog, pg_temp as $$
begin
  return array[
    format('delete from %I.sync_row_states s where s.entity_id = %s and s.legacy_id = any (%s)', p_schema, p_entity.id, sync.planned_list('legacy_id', 'delete')),
    format($q$
      update %I.uuid_mappings_enhanced m set sync_status = 'deleted'
       where m.source_id = %s and m.entity_type = %L and m.legacy_id = any (%s)
    $q$, p_schema, p_entity.source_id, p_entity.entity_type, sync.planned_list('legacy_id', 'delete'))
  ];
end
$$;
comment on function sync.tombstone_statements(public.sync_entities, text) is
  'The statements that forget the records of a slice whose rows are gone, but for their ids.';

create function sync.leave_statements(p_entity public.sync_entities, p_dry_run uuid) returns text[]
language plpgsql stable security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_schema text := case when p_dry_run is null then 'public' else 'pg_temp' end;
  v_target text := sync.target_sql(p_entity, v_schema);
  v_reshape text := sync.reshaped_sql(p_entity, v_schema);
begin
  return array[
    -- What nobody has touched since the sync left it goes, and so does what is known of a row that is gone already.
    format($q$
      insert into pg_temp.page_plan (n, legacy_id, id, action, seen, "left", now, fields)
      select p.n, p._key, p._uuid,
             case when t.id is null then 'delete'
                  when s.entity_id is null then 'left_unknown'
                  when e.fields is not null then 'left_edited'
                  when %6$s then 'left_referenced'
                  else 'delete' end,
             s.seen, g."left", l.now, case when g."left" <> '{}' then e.fields end
        from pg_temp.page_rows p
        left join %1$s on true
        left join %5$s on true
        cross join lateral (select pg_catalog.to_jsonb(x.*) as now from (select %3$s) x offset 0) o
        cross join lateral (select o.now, %4$s as "left" offset 0) l
        %7$s
        cross join lateral (select %8$s as "left" offset 0) g
        cross join lateral (
          select sync.listed(pg_catalog.array_agg(f.key order by f.key)) as fields from jsonb_each(l.now) f
           where f.value is distinct from coalesce(g."left" -> f.key, 'null')) e
       where p.n between $1 and $2
    $q$, sync.row_probe(p_entity, v_schema, 'p._uuid'), p_entity.id, sync.owned_columns(p_entity), sync.left_sql(), sync.state_probe(p_entity, v_schema), sync.referenced_sql(p_entity, p_dry_run),
      coalesce(v_reshape, ''), case when v_reshape is null then 'l."left"' else sync.left_or_reshaped_sql() end),
    format('delete from %s t where t.id = any (%s)', v_target, sync.planned_list('id', 'delete')),
    -- A trigger may have kept it, without a word.
    format($q$
      update pg_temp.page_plan q set action = 'left_kept'
       where q.n between $1 and $2 and q.action = 'delete' and (select t.id from %s t where t.id = q.id limit 1) is not null
    $q$, v_target)
  ] || sync.tombstone_statements(p_entity, v_schema);
end
$$;
comment on function sync.leave_statements(public.sync_entities, uuid) is
  'The statements that delete a slice of the records that have left: plan, delete, row states, mappings. $1, $2: the '
  'slice. p_dry_run: the execution whose plan it is; then over shadows.';


create function sync.references_to_itself(p_entity public.sync_entities) returns table (name text, field text)
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select c.conname::text, a.attname::text
    from pg_catalog.pg_constraint c join pg_catalog.pg_attribute a on a.attrelid = c.conrelid and a.attnum = c.conkey[1]
   where c.contype = 'f' and c.conrelid = c.confrelid and c.conrelid = to_regclass(format('public.%I', p_entity.target_table))
     and cardinality(c.conkey) = 1 and has_column_privilege(c.conrelid, c.conkey[1], 'select')
$$;
comment on function sync.references_to_itself(public.sync_entities) is
  'The foreign keys of an entity''s target table to itself, and their columns that the sync may read.';

create function sync.gone_relatives(p_entity_id smallint, p_keys bigint[], p_up_to bigint, p_limit integer)
returns table (legacy_id bigint, generation bigint, reason text)
language plpgsql stable security invoker set search_path = pg_catalog, pg_temp set plan_cache_mode = force_custom_plan as $$
declare
  v_entity public.sync_entities;
  v_refers text;
begin
  select * into strict v_entity from public.sync_entities where id = p_entity_id;
  select string_agg(format('select t.id from public.%I t where t.%I = f.id', v_entity.target_table, r.field), ' union all ')
    into v_refers from sync.references_to_itself(v_entity) r;
  if v_refers is null then
    return;
  end if;
  return query execute format($q$
    with recursive family as (
      select m.legacy_id, m.entity_uuid as id from public.uuid_mappings_enhanced m
       where m.source_id = $1 and m.entity_type = $2 and m.legacy_id = any ($3) and m.sync_status = 'active'
      union
      select m.legacy_id, m.entity_uuid
        from family f
        -- One index probe per record, whatever the planner thinks.
        cross join lateral (%s offset 0) t
        cross join lateral (select m.legacy_id, m.entity_uuid from public.uuid_mappings_enhanced m
                             where m.entity_type = $2 and m.entity_uuid = t.id and m.source_id = $1 limit 1) m
        cross join lateral (select from public.sync_pending_keys k
                             where k.execution_id is null and k.entity_id = $4 and k.legacy_id = m.legacy_id and k.gone and k.generation <= $5 limit 1) gone)
    select k.legacy_id, k.generation, k.reason
      from (select family.legacy_id from family limit $6) f
      cross join lateral (select k.* from public.sync_pending_keys k where k.execution_id is null and k.entity_id = $4 and k.legacy_id = f.legacy_id limit 1) k
     where f.legacy_id <> all ($3)
  $q$, v_refers) using v_entity.source_id, v_entity.entity_type, p_keys, v_entity.id, p_up_to, p_limit;
end
$$;
comment on function sync.gone_relatives(smallint, bigint[], bigint, integer) is
  'Of the records that the source no longer has, those of the same entity that refer to these ones, directly or not: '
  'neither goes before the other. At most so many.';

create function sync.delete_relatives(p_entity public.sync_entities, p_reads text[], p_writes text[]) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_names text[];
  v_held  text;
  v_n     integer[];
  v_free  integer[];
  v_last  integer := (select max(n) from pg_temp.page_rows);
begin
  select pg_catalog.array_agg(r.name), string_agg(format('exists (select from public.%I t where t.%I = p._uuid and t.id <> all ($2))', p_entity.target_table, r.field), ' or ')
    into v_names, v_held from sync.references_to_itself(p_entity) r;
  v_n := array(select j.n from pg_temp.page_rejects j where j.sqlstate = '23503' and j.constraint_name = any (v_names) order by j.n);
  -- Whoever is referred to by a row that stays does, and then whoever that one refers to.
  loop
    if v_n = '{}' then
      return;
    end if;
    execute format('select coalesce(pg_catalog.array_agg(p.n order by p.n), ''{}'') from pg_temp.page_rows p where p.n = any ($1) and p._leaves and not (%s)', v_held)
      into v_free using v_n, array(select p._uuid from pg_temp.page_rows p where p.n = any (v_n));
    exit when v_free = v_n;
    v_n := v_free;
  end loop;
  delete from pg_temp.page_rejects where n = any (v_n);
  update pg_temp.page_rows p set n = v_last + x.i from pg_catalog.unnest(v_n) with ordinality x (n, i) where p.n = x.n;
  perform sync.load_slice(p_entity, 'public', p_reads, p_writes, v_last + 1, v_last + cardinality(v_n));
end
$$;
comment on function sync.delete_relatives(public.sync_entities, text[], text[]) is
  'Deletes rejected records together that only others of them refer to, and that other rejects of the page had '
  'parted.';

create function sync.leave_remedy(p_cause text, p_triggers text) returns text
language sql immutable security invoker set search_path = pg_catalog, pg_temp as $$
  select 'The source no longer wants this record here, but its target row ' || case
    when p_cause in ('23503', 'left_referenced') then 'is referred to by others: it goes by itself once these are gone or refer to another row. target_wins: it stays.'
    when p_cause = 'left_edited' then 'was edited by somebody. source_wins: it is deleted all the same, and what it held is kept. target_wins: it stays.'
    when p_cause = 'left_unknown' then 'was not written by the sync. target_wins: it stays; or delete it, if nobody needs it.'
    when p_cause = 'IS001' then 'cannot be marked: its column would cut, round or pad the mark. Correct onDelete in the entity file, or change the column. target_wins: it stays.'
    when p_cause = 'IS004' then 'does not keep its mark: a trigger or rule takes it off again, or cancels the write' || coalesce(' (trigger ' || p_triggers || ')', '') || '. Change the trigger. target_wins: it stays.'
    else 'cannot be deleted: see what the table''s triggers and constraints say.' end
$$;
comment on function sync.leave_remedy(text, text) is
  'What to do about a record that has left but is still there, by SQLSTATE or cause. p_triggers: those that may be '
  'why, as a list of names.';

revoke all on function sync.leaving_rows(public.sync_entities, text, integer, bigint[]), sync.is_leaving(text, jsonb),
  sync.referenced_sql(public.sync_entities, uuid), sync.leave_statements(public.sync_entities, uuid),
  sync.planned_list(text, text), sync.tombstone_statements(public.sync_entities, text), sync.leave_remedy(text, text),
  sync.references_to_itself(public.sync_entities), sync.gone_relatives(smallint, bigint[], bigint, integer),
  sync.delete_relatives(public.sync_entities, text[], text[]) from public;
grant execute on function sync.leaving_rows(public.sync_entities, text, integer, bigint[]), sync.referenced_sql(public.sync_entities, uuid),
  sync.planned_list(text, text), sync.leave_statements(public.sync_entities, uuid), sync.tombstone_statements(public.sync_entities, text),
  sync.leave_remedy(text, text), sync.references_to_itself(public.sync_entities),
  sync.gone_relatives(smallint, bigint[], bigint, integer), sync.delete_relatives(public.sync_entities, text[], text[]) to isthmus_worker;
grant execute on function sync.is_leaving(text, jsonb) to isthmus_decisions, authenticated;
grant execute on function sync.referenced_sql(public.sync_entities, uuid) to isthmus_decisions;

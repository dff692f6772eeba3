-- Purpose: what a decision makes of a whole row of the target: written again, deleted, kept.
-- Locks:   the decisions' target rows, in id order.

create function sync.write_again(p_entity public.sync_entities, p_ids uuid[]) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_table text := format('public.%I', p_entity.target_table);
  v_first public.sync_conflicts;
  v_written bigint;
  v_reworded jsonb := sync.reworded_fields(p_entity);
begin
  select c.* into v_first from public.sync_conflicts c left join public.sync_conflict_values v on v.conflict_id = c.id
   where c.id = any (p_ids) and v.record is null order by c.first_seen_at, c.id limit 1;
  if found then
    perform sync.refuse_decision(v_first, 'what the source says of it is not known', format('Have it read again: select sync.replay(%L).', p_entity.entity_type));
  end if;
  -- One record, one row. Without an index each would cost a look through the table.
  if sync.finds_legacy_ids(p_entity) then
    execute format($q$
      select c.* from (select * from public.sync_conflicts where id = any ($1) offset 0) c
        cross join lateral (select from %1$s t where t.%2$I = c.source_record_id and t.id <> c.target_record_id offset 0) twin
       order by c.first_seen_at, c.id limit 1
    $q$, v_table, p_entity.legacy_key) into v_first using p_ids;
    if v_first.id is not null then
      perform sync.refuse_decision(v_first, 'another row of the target has its legacy id', format('Take that row over (npm run sync -- adopt %s), or delete it.', p_entity.entity_type));
    end if;
  end if;
  perform set_config('search_path', sync.application_path(), true);
  execute format($q$
    insert into %1$s (id, %2$s)
    select d.id, %3$s
      from (select c.target_record_id as id, v.record, jsonb_populate_record(null::%1$s, v.record) as new
              from public.sync_conflicts c join public.sync_conflict_values v on v.conflict_id = c.id
             where c.id = any ($1) order by c.target_record_id offset 0) d
  $q$, v_table, (select string_agg(quote_ident(c.name), ', ') from sync.field_slots(p_entity) c),
    (select string_agg(sync.filled_sql('d.record', c.name, c.type, c.recast, format('(d.new).%I', c.name)), ', ') from sync.field_slots(p_entity) c)) using p_ids;
  get diagnostics v_written = row_count;
  perform set_config('search_path', 'pg_catalog, pg_temp', true);
  perform sync.refuse_cancelled(p_entity, p_ids, v_written, cardinality(p_ids));
  perform sync.tell_decided_otherwise(p_entity, (
    select pg_catalog.jsonb_agg(jsonb_build_object('key', c.source_record_id, 'row', c.target_record_id, 'put', v.record))
      from public.sync_conflicts c join public.sync_conflict_values v on v.conflict_id = c.id where c.id = any (p_ids)));
  execute format($q$
    update public.sync_row_states s
       set seen = case when s.seen_hash is null then v.record end, "left" = case when s.left_hash is null then o.now end,
           seen_hash = case when s.seen_hash is not null then hashtextextended(v.record::text, 0) end,
           left_hash = case when s.left_hash is not null then hashtextextended(o.now::text, 0) end,
           source_digest = c.source_digest, written_by = null, gone_at = null, outside = null, synced_at = now()
      from public.sync_conflicts c join public.sync_conflict_values v on v.conflict_id = c.id
      join %1$s t on t.id = c.target_record_id
      cross join lateral (select pg_catalog.to_jsonb(isthmus_row.*) as now from (select %2$s) isthmus_row offset 0) o
     where c.id = any ($1) and s.entity_id = c.entity_id and s.legacy_id = c.source_record_id
  $q$, v_table, sync.owned_columns(p_entity)) using p_ids;
  perform sync.read_for_text(p_entity, array(
    select c.source_record_id from public.sync_conflicts c join public.sync_conflict_values v on v.conflict_id = c.id
     where c.id = any (p_ids) and sync.loses_text(v_reworded, v.record)));
end
$$;
comment on function sync.write_again(public.sync_entities, uuid[]) is
  'Target rows that somebody deleted are written again, under their ids.';

create function sync.delete_decided(p_entity public.sync_entities, p_ids uuid[]) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_table text := format('public.%I', p_entity.target_table);
  v_first public.sync_conflicts;
  v_kept  uuid;
begin
  -- Nobody deletes or empties, without a word, what refers to the row.
  execute format($q$
    select c.* from public.sync_conflicts c join %1$s t on t.id = c.target_record_id
     where c.id = any ($1) and (%2$s) order by c.first_seen_at, c.id limit 1
  $q$, v_table, sync.referenced_sql(p_entity, null)) into v_first using p_ids;
  if v_first.id is not null then
    perform sync.refuse_decision(v_first, 'other rows refer to its target row', 'Decide on these first.');
  end if;
  execute format($q$
    select c.* from public.sync_conflicts c join public.sync_conflict_values v on v.conflict_id = c.id
      join %1$s t on t.id = c.target_record_id
      cross join lateral (select pg_catalog.to_jsonb(isthmus_row.*) as now from (select %2$s) isthmus_row offset 0) o
     where c.id = any ($1) and c.rule = 'left_edited' and sync.pick(o.now, array(select jsonb_object_keys(v.target))) <> v.target
     order by c.first_seen_at, c.id limit 1
  $q$, v_table, sync.owned_columns(p_entity)) into v_first using p_ids;
  if v_first.id is not null then
    perform sync.refuse_decision(v_first, 'the target holds other values than it shows', format('Have it read again: select sync.replay(%L).', p_entity.entity_type));
  end if;
  perform set_config('search_path', sync.application_path(), true);
  execute format($q$
    with kept as (
      insert into public.sync_conflict_values as k (conflict_id, target)
      select c.id, o.now from public.sync_conflicts c join %1$s t on t.id = c.target_record_id
        cross join lateral (select pg_catalog.to_jsonb(isthmus_row.*) as now from (select %2$s) isthmus_row) o
       where c.id = any ($1)
      on conflict (conflict_id) do update set target = excluded.target)
    delete from %1$s t using public.sync_conflicts c where c.id = any ($1) and t.id = c.target_record_id
  $q$, v_table, sync.owned_columns(p_entity)) using p_ids;
  perform set_config('search_path', 'pg_catalog, pg_temp', true);
  -- A trigger may have kept one, without a word.
  execute format('select c.id from public.sync_conflicts c join %s t on t.id = c.target_record_id where c.id = any ($1) order by c.first_seen_at, c.id limit 1', v_table)
    into v_kept using p_ids;
  if v_kept is not null then
    select * into strict v_first from public.sync_conflicts where id = v_kept;
    perform sync.refuse_decision(v_first, 'a trigger of the target keeps its row', 'Change the trigger, or decide otherwise.');
  end if;
  with gone as (
    delete from public.sync_row_states s using public.sync_conflicts c
     where c.id = any (p_ids) and s.entity_id = c.entity_id and s.legacy_id = c.source_record_id)
  update public.uuid_mappings_enhanced m set sync_status = 'deleted' from public.sync_conflicts c
   where c.id = any (p_ids) and m.source_id = p_entity.source_id and m.entity_type = p_entity.entity_type and m.legacy_id = c.source_record_id;
end
$$;
comment on function sync.delete_decided(public.sync_entities, uuid[]) is
  'Target rows of records that the source no longer has are deleted; what they held is kept.';

create function sync.decide_rows(p_entity public.sync_entities, p_ids uuid[], p_before jsonb) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_table text := format('public.%I', p_entity.target_table);
  v_first public.sync_conflicts;
  v_ids   uuid[];
  v_back  uuid[];
  v_gone  uuid[];
begin
  select pg_catalog.array_agg(c.id), pg_catalog.array_agg(c.id) filter (where c.rule = 'target_deleted' and c.resolution_strategy = 'source_wins'),
         pg_catalog.array_agg(c.id) filter (where c.rule in ('deleted_in_source', 'left_edited') and c.resolution_strategy = 'source_wins')
    into v_ids, v_back, v_gone
    from pg_catalog.unnest(p_ids) i (id)
    cross join lateral (select * from public.sync_conflicts where id = i.id and rule <> 'both_changed' limit 1) c;
  if v_ids is null then
    return;
  end if;
  -- A row that was written or deleted by a decision is not put back: it may have changed since, or others refer to it.
  select c.* into v_first from public.sync_conflicts c
   where c.id = any (v_ids) and p_before ->> c.id::text = 'source_wins' order by c.first_seen_at, c.id limit 1;
  if found then
    perform sync.refuse_decision(v_first, 'a row that was written or deleted is not put back', 'Change the row itself.');
  end if;

  -- Their target rows, in id order, before anything is read of them.
  execute format($q$
    select count(*) from (
      select from (select target_record_id from public.sync_conflicts where id = any ($1) order by 1 offset 0) c
        cross join lateral (select from %s t where t.id = c.target_record_id limit 1 for update of t) l) locked
  $q$, v_table) using v_back || v_gone;

  -- Deleted in the source, or no longer wanted here: the row stays.
  insert into public.sync_row_states as s (entity_id, legacy_id, seen, "left", gone_at)
  select p_entity.id, source_record_id, '{}', '{}', now() from public.sync_conflicts
   where id = any (v_ids) and sync.is_leaving(rule, conflict_data) and resolution_strategy = 'target_wins'
  on conflict (entity_id, legacy_id) do update set gone_at = now(), outside = null, source_digest = null;
  update public.sync_row_states s set gone_at = null, outside = null
   where s.entity_id = p_entity.id and s.legacy_id = any (array(
     select c.source_record_id from public.sync_conflicts c
      where c.id = any (v_ids) and sync.is_leaving(c.rule, c.conflict_data) and c.resolution_strategy is null));
  if v_back is not null then
    perform sync.write_again(p_entity, v_back);
  end if;
  if v_gone is not null then
    perform sync.delete_decided(p_entity, v_gone);
  end if;
end
$$;
comment on function sync.decide_rows(public.sync_entities, uuid[], jsonb) is
  'Decisions on whole records: written again, deleted, or left as they are.';

revoke all on function sync.decide_rows(public.sync_entities, uuid[], jsonb), sync.write_again(public.sync_entities, uuid[]),
  sync.delete_decided(public.sync_entities, uuid[]) from public;
grant execute on function sync.decide_rows(public.sync_entities, uuid[], jsonb), sync.write_again(public.sync_entities, uuid[]),
  sync.delete_decided(public.sync_entities, uuid[]) to isthmus_decisions;

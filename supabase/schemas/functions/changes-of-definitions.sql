-- Purpose: what a changed set of entity files changes in the queue: fields that have become sensitive, entities that
--          are gone.
-- Locks:   rows of sync_entities, sync_conflicts and sync_pending_keys.

create function sync.mask(p_values jsonb, p_fields text[], p_mask jsonb) returns jsonb
language sql immutable security invoker set search_path = pg_catalog, pg_temp as $$
  -- What a person has written may be any JSON.
  select case when jsonb_typeof(p_values) = 'object'
              then (select coalesce(jsonb_object_agg(e.key, case when e.key = any (p_fields) then p_mask else e.value end), '{}') from jsonb_each(p_values) e)
              else p_values end
$$;
comment on function sync.mask(jsonb, text[], jsonb) is
  'An object whose values of some keys are replaced by a mask. What is no object stays.';

create function sync.mask_queue(p_source_id smallint, p_rows integer) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp set plan_cache_mode = force_custom_plan as $$
declare
  v_entity public.sync_entities;
  v_hidden text[];
  v_read   text[];
  v_last   bigint;
  v_rows   bigint;
begin
  for v_entity in
    select * from public.sync_entities e where e.source_id = p_source_id and e.mask_from is not null order by e.id for update skip locked
  loop
    v_hidden := sync.hidden_fields(v_entity.columns);
    v_read := sync.hidden_columns(v_entity.columns);
    select max(x.k), count(*) into v_last, v_rows
      from (select c.source_record_id as k from public.sync_conflicts c
             where c.entity_id = v_entity.id and c.source_record_id >= v_entity.mask_from
             order by c.entity_id, c.source_record_id limit p_rows) x;
    update public.sync_conflicts c
       set differences = sync.mask(c.differences, v_hidden, '{"seen": "•••", "source": "•••", "target": "•••"}'),
           -- Evidence of a rule names columns, one by one or as {column, raw}.
           conflict_data = case when c.conflict_type <> 'business_rule_violation' then c.conflict_data else
             sync.mask(c.conflict_data, v_read || case when c.conflict_data ->> 'column' = any (v_read) then array['raw'] end, '"•••"') end,
           -- What a reviewer is about to decide stays as it was typed.
           resolution_data = case when c.state = 'open' then c.resolution_data else sync.mask(c.resolution_data, v_hidden, '"•••"') end
     where c.entity_id = v_entity.id and c.source_record_id between v_entity.mask_from and v_last
       and (c.differences ?| v_hidden
            or c.conflict_type = 'business_rule_violation' and (c.conflict_data ?| v_read or c.conflict_data ->> 'column' = any (v_read))
            or c.state <> 'open' and jsonb_typeof(c.resolution_data) = 'object' and c.resolution_data ?| v_hidden);
    update public.sync_entities set mask_from = case when v_rows = p_rows and v_last < 9223372036854775807 then v_last + 1 end where id = v_entity.id;
  end loop;
end
$$;
comment on function sync.mask_queue(smallint, integer) is
  'Masks what the queue says of fields that have become sensitive, so many rows of each entity at once; '
  'sync_entities.mask_from says how far it has come. The values themselves stay in sync_conflict_values, for '
  'decisions and sync.reveal.';

create function sync.note_removed(p_source_id smallint, p_entities text[]) returns void
language sql security invoker set search_path = pg_catalog, pg_temp as $$
  update public.sync_entities e
     set removed_at = case when e.entity_type <> all (p_entities) then now() end
   where e.source_id = p_source_id and (e.entity_type <> all (p_entities)) <> (e.removed_at is not null)
$$;
comment on function sync.note_removed(smallint, text[]) is
  'Notes which entities no entity file has any more. p_entities: all that the deployed functions have.';

create function sync.close_removed(p_source_id smallint, p_rows integer) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp set plan_cache_mode = force_custom_plan as $$
declare
  v_entity public.sync_entities;
  v_closed bigint[];
begin
  for v_entity in
    select * from public.sync_entities e where e.source_id = p_source_id and e.removed_at is not null order by e.id
  loop
    -- Functions are deployed one after the other: a day is longer than that takes. Until then who waits for its
    -- records is told.
    if v_entity.removed_at > now() - interval '1 day' then
      perform sync.note_changed_causes(v_entity.id, array(
        select c.parent_legacy_id from public.sync_conflicts c
         where c.state = 'waiting' and c.parent_entity_id = v_entity.id
           and coalesce(c.conflict_data #>> '{cause,kind}', 'missing') not in ('removed', 'decided')
           and coalesce(c.conflict_data #>> '{cause,entity}', v_entity.entity_type) = v_entity.entity_type limit p_rows));
      continue;
    end if;
    perform sync.close_alerts(array(select id from public.sync_alerts where entity_id = v_entity.id and closed_at is null));
    with closed as (
      update public.sync_conflicts
         set state = 'resolved', resolved_at = now(), resolved_by = 'sync: the entity is no longer synced', next_attempt_at = null
       where id = any (array(select c.id from public.sync_conflicts c where c.entity_id = v_entity.id and c.state in ('waiting', 'open')
                              limit p_rows for no key update skip locked))
      returning source_record_id
    )
    select coalesce(array_agg(source_record_id), '{}') into v_closed from closed;
    perform sync.note_changed_causes(v_entity.id, v_closed);
    if v_closed <> '{}' then
      -- Should the entity come back, its records are read again.
      update public.sync_checkpoints set definition_hash = 'reread:' || definition_hash
       where source_id = v_entity.source_id and entity_type = v_entity.entity_type and definition_hash !~ '^(mixed$|unfinished$|reread:|none)';
    end if;
    delete from public.sync_pending_keys k
     where k.execution_id is null and k.entity_id = v_entity.id and k.legacy_id = any (array(
       select p.legacy_id from public.sync_pending_keys p where p.execution_id is null and p.entity_id = v_entity.id
        order by p.execution_id, p.legacy_id limit p_rows for update skip locked));
  end loop;
end
$$;
comment on function sync.close_removed(smallint, integer) is
  'Closes what is open of entities that were removed a day ago: their alerts, and their rows of the queue and the '
  'keys that were to be read, so many at once.';

revoke all on function sync.mask(jsonb, text[], jsonb), sync.mask_queue(smallint, integer), sync.note_removed(smallint, text[]),
  sync.close_removed(smallint, integer) from public;
grant execute on function sync.mask(jsonb, text[], jsonb), sync.mask_queue(smallint, integer), sync.note_removed(smallint, text[]),
  sync.close_removed(smallint, integer) to isthmus_worker;

-- Purpose: what a dry run would release: the records that wait for one that would land.

create function sync.waited_for(p_execution uuid, p_parent smallint) returns bigint[]
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  -- From one parent to the next, through the index, however many records wait for each.
  with recursive queued as (
    (select c.parent_legacy_id as id from public.sync_conflicts c
      where c.state = 'waiting' and c.parent_entity_id = p_parent order by c.parent_legacy_id limit 1)
    union all
    select (select c.parent_legacy_id from public.sync_conflicts c
             where c.state = 'waiting' and c.parent_entity_id = p_parent and c.parent_legacy_id > q.id order by c.parent_legacy_id limit 1)
      from queued q where q.id is not null
  ), planned as (
    (select r.parent_legacy_id as id from public.sync_planned_records r
      where r.execution_id = p_execution and r.outcome = 'waiting' and r.parent_entity_id = p_parent order by r.parent_legacy_id limit 1)
    union all
    select (select r.parent_legacy_id from public.sync_planned_records r
             where r.execution_id = p_execution and r.outcome = 'waiting' and r.parent_entity_id = p_parent and r.parent_legacy_id > n.id
             order by r.parent_legacy_id limit 1)
      from planned n where n.id is not null)
  select coalesce(array_agg(w.id order by w.id), '{}') from (select id from queued union select id from planned) w where w.id is not null
$$;
comment on function sync.waited_for(uuid, smallint) is
  'The records of an entity that others wait for, in the queue or by this plan.';

create function sync.planned_to_land(p_execution uuid, p_entity public.sync_entities, p_legacy_ids bigint[]) returns bigint[]
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select coalesce(array_agg(k order by k), '{}')
    from unnest(p_legacy_ids) k
    left join lateral (
      select r.lands from public.sync_planned_records r
       where r.execution_id = p_execution and r.entity_id = p_entity.id and r.legacy_id = k and r.lands is not null limit 1) r on true
   where coalesce(r.lands, (
           select m.legacy_id from public.uuid_mappings_enhanced m
            where m.source_id = p_entity.source_id and m.entity_type = p_entity.entity_type and m.legacy_id = k and m.sync_status = 'active'
            limit 1) is not null)
$$;
comment on function sync.planned_to_land(uuid, public.sync_entities, bigint[]) is
  'Of these records, those that have landed and stay, or that this dry run has planned to land.';

create function sync.plan_released(p_execution public.sync_executions, p_parent smallint, p_parents bigint[]) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp set plan_cache_mode = force_custom_plan as $$
declare
  -- As of sync.release_waiting: the end of each chain asks for the next ones.
  c_at_once  constant integer := 10000;
  v_children smallint[] := array(select e.id from public.sync_entities e
                                  where e.source_id = p_execution.source_id and e.entity_type = any (p_execution.entities) order by e.id);
  v_parent   public.sync_entities;
  v_parents  bigint[];
  v_count    integer;
  v_total    integer := 0;
begin
  for v_parent in
    select * from public.sync_entities e where e.source_id = p_execution.source_id and e.id = coalesce(p_parent, e.id) order by e.id
  loop
    v_parents := sync.planned_to_land(p_execution.id, v_parent, coalesce(p_parents, sync.waited_for(p_execution.id, v_parent.id)));
    insert into public.sync_pending_keys (execution_id, entity_id, legacy_id, reason)
    select p_execution.id, w.entity_id, w.legacy_id, 'released'
      from (select c.entity_id, c.legacy_id
              from unnest(v_parents) p
              cross join lateral (
                select r.entity_id, r.legacy_id from public.sync_planned_records r
                 where r.execution_id = p_execution.id and r.parent_entity_id = v_parent.id and r.parent_legacy_id = p and r.outcome = 'waiting'
                union all
                select q.entity_id, q.source_record_id from public.sync_conflicts q
                 where q.state = 'waiting' and q.parent_entity_id = v_parent.id and q.parent_legacy_id = p
                   and (select r.legacy_id from public.sync_planned_records r
                         where r.execution_id = p_execution.id and r.entity_id = q.entity_id and r.legacy_id = q.source_record_id) is null
                offset 0) c
             where c.entity_id = any (v_children)
               and (select k.legacy_id from public.sync_pending_keys k
                     where k.execution_id = p_execution.id and k.entity_id = c.entity_id and k.legacy_id = c.legacy_id) is null
             limit c_at_once - v_total) w
     order by w.entity_id, w.legacy_id
    on conflict (entity_id, execution_id, legacy_id) do nothing;
    get diagnostics v_count = row_count;
    v_total := v_total + v_count;
    exit when v_total >= c_at_once;
  end loop;
end
$$;
comment on function sync.plan_released(public.sync_executions, smallint, bigint[]) is
  'release_waiting of a dry run: what waits, in the queue or by this plan, for a parent that has landed or would '
  'land; at most 10,000 records. p_parent, p_parents: only for these.';

revoke all on function sync.plan_released(public.sync_executions, smallint, bigint[]), sync.waited_for(uuid, smallint),
  sync.planned_to_land(uuid, public.sync_entities, bigint[]) from public;
grant execute on function sync.plan_released(public.sync_executions, smallint, bigint[]), sync.waited_for(uuid, smallint),
  sync.planned_to_land(uuid, public.sync_entities, bigint[]) to isthmus_worker;

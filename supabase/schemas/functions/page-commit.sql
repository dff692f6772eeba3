-- Purpose: commit a page with everything that it changes.
-- Locks:   the slots of a page's records, the chain's row; the execution's row when a chain closes.

create function sync.request_keys(p_execution public.sync_executions, p_chain public.sync_chains, p_page jsonb) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_entity smallint;
  v_asked  bigint[] := array(select a.k from jsonb_to_recordset(p_page -> 'pending') as a (k bigint, r text) where a.r in ('requested', 'dependants', 'parent'));
begin
  create temp table page_requests on commit drop as
  -- Who asks for a record asks for the parents that it waits for, once per execution: two may wait for each other.
  select i.parent_entity_id as entity_id, i."parentId" as legacy_id, 'parent' as reason
    from pg_temp.page_issues i
   where i.state = 'waiting' and i.parent_entity_id is not null
     and (p_execution.selective or i.k = any (v_asked))
     -- One index probe per record, whatever the planner thinks.
     and (select c.id from public.sync_conflicts c
           where c.entity_id = i.parent_entity_id and c.source_record_id = i."parentId"
             and c.state in ('waiting', 'open') and c.last_seen_at >= p_execution.started_at limit 1) is null
     and (select r.legacy_id from public.sync_planned_records r
           where r.execution_id = p_execution.id and r.entity_id = i.parent_entity_id and r.legacy_id = i."parentId" limit 1) is null
   union
  -- Of its own entity a page has them all at once: such records may refer to each other in a circle.
  select e.id, d.k, case when e.id = p_chain.entity_id then 'requested' else 'dependants' end
    from jsonb_to_recordset(p_page -> 'dependants') as d (entity text, k bigint)
    join public.sync_entities e on e.source_id = p_execution.source_id and e.entity_type = d.entity;

  -- An entity that has never run is opened as it would be by a run of its own. Where its rows have to be adopted
  -- first, it is left alone.
  for v_entity in
    select e.id from public.sync_entities e
     where e.adoption_epoch = 0 and e.id in (select entity_id from pg_temp.page_requests) order by e.id
  loop
    begin
      perform sync.open_entity(v_entity, p_execution.dry_run);
    exception when sqlstate 'IS021' then
      delete from pg_temp.page_requests where entity_id = v_entity;
    end;
  end loop;

  insert into public.sync_pending_keys as k (execution_id, entity_id, legacy_id, reason)
  select distinct on (entity_id, legacy_id) case when p_execution.dry_run then p_execution.id end, entity_id, legacy_id, reason
    from pg_temp.page_requests
   order by entity_id, legacy_id, reason
  on conflict (entity_id, execution_id, legacy_id) do update
     set generation = default, requested_at = now(), gone = false,
         -- What was asked for with its dependants stays so.
         reason = case when k.reason = 'dependants' then k.reason else excluded.reason end;
end
$$;
comment on function sync.request_keys(public.sync_executions, public.sync_chains, jsonb) is
  'Has the missing parents and the dependants of selected records read as well.';

-- No plan is kept from one page to the next: it would be one for the small tables of then.
create function sync.commit_page(p_chain uuid, p_lease bigint, p_records text, p_issues jsonb, p_page jsonb) returns jsonb
language plpgsql security invoker set search_path = pg_catalog, pg_temp set plan_cache_mode = force_custom_plan as $$
declare
  v_chain    public.sync_chains;
  v_entity   public.sync_entities;
  v_outside  bigint[] := array(select jsonb_array_elements_text(p_page -> 'outside')::bigint);
  v_gone     bigint[];
  v_surplus  jsonb;
  v_begun    timestamptz := clock_timestamp();
  v_request  text;
  v_absent   bigint[] := array(select g::bigint from jsonb_array_elements_text(p_page -> 'gone') g);
  v_queued   uuid[];
begin
  v_chain := sync.hold_page(p_chain, p_lease, p_page -> 'versions');
  select * into strict v_entity from public.sync_entities where id = v_chain.entity_id;
  v_entity := sync.with_types(v_entity);
  select sync.strategy_of_request(request) into v_request from public.sync_executions where id = v_chain.execution_id;
  perform sync.find_again(v_entity, v_absent, array(select m::uuid from jsonb_array_elements_text(p_page -> 'gone_ids') m));
  v_gone := sync.gone_landed(v_entity, p_page, null);
  perform sync.lock_queued(v_entity.id, array(select k::bigint from jsonb_array_elements_text(p_page -> 'keys') k));
  perform sync.check_leaving(v_chain, v_entity, sync.leaving(v_entity, v_outside));
  perform sync.load_records(v_entity, p_records::json, sync.leaving(v_entity, v_outside) || sync.deleting(v_chain, v_entity, 'hard', v_gone),
    sync.deleting(v_chain, v_entity, 'soft', v_gone), null, v_request);
  perform sync.check_cached(v_entity, (p_page ->> 'cache_hits')::integer);
  perform sync.map_again(v_entity, array(select u::bigint from jsonb_array_elements_text(p_page -> 'unmapped') u));

  perform sync.collect_issues(v_entity, p_issues || sync.page_rejections(v_entity, null, v_request) || sync.deletes_to_review(v_chain, v_entity, v_gone));
  perform sync.queue_records(v_entity, v_chain.execution_id, v_chain.page_size);
  perform sync.ask_for_unmapped_parents();
  perform sync.check_nulled(v_chain, v_entity);
  perform sync.check_overwritten(v_chain, v_entity);

  perform sync.keep_decided(v_entity, v_chain.execution_id, v_request);

  perform sync.record_warnings(v_entity.id, v_chain.execution_id, p_page -> 'warnings');
  perform sync.tell_otherwise(v_entity, v_chain.execution_id,
    array(select distinct f from pg_temp.page_plan q cross join lateral unnest(q.otherwise) f where q.otherwise is not null));

  -- Landed after all, or no difference any more.
  v_queued := sync.queue_rows(v_entity.id, array(
    select legacy_id from pg_temp.page_plan where action in ('insert', 'update', 'unchanged', 'review', 'delete', 'soft') order by legacy_id));
  if v_queued <> '{}' then
    update public.sync_conflicts c set standing = false where c.id = any (v_queued) and c.standing;
    update public.sync_conflicts c
       set state = 'resolved', resolved_at = now(), resolved_by = 'sync', resolved_in = v_chain.execution_id
      from pg_temp.page_plan q
     -- As text, so that no index of all live rows can serve: the rows are found by their ids.
     where c.id = any (v_queued) and c.source_record_id = q.legacy_id and c.state::text in ('waiting', 'open')
       and q.action in ('insert', 'update', 'unchanged');
  end if;

  -- Gone from the source: nothing is left to wait for or to decide. Who waits for such a record is told.
  -- What had landed is decided on where it is deleted.
  update public.sync_conflicts c
     set state = 'resolved', resolved_at = now(), resolved_by = 'sync: gone from the source', resolved_in = v_chain.execution_id
   where c.entity_id = v_entity.id and c.source_record_id = any (v_absent) and c.state in ('waiting', 'open')
     and case when v_chain.deletes then not exists (select from pg_temp.page_issues i where i.k = c.source_record_id)
              else c.source_record_id <> all (v_gone) end;

  update public.sync_conflicts c set standing = false
   where c.entity_id = v_entity.id and c.standing
     and c.source_record_id = any (v_absent || v_outside);
  perform sync.note_changed_causes(v_entity.id, v_absent || v_outside);

  -- Not to be transferred any more: likewise.
  update public.sync_conflicts c
     set state = 'resolved', resolved_at = now(), resolved_by = 'sync: waived by ' || (v_entity.predicate ->> 'rule'),
         resolved_in = v_chain.execution_id
   where c.entity_id = v_entity.id and c.source_record_id = any (v_outside) and c.state in ('waiting', 'open')
     and not exists (select from pg_temp.page_issues i where i.k = c.source_record_id);

  -- Children that waited for a record of this page: as many as the commit bears. sync.release_waiting asks for the
  -- others.
  insert into public.sync_pending_keys (entity_id, legacy_id, reason)
  select c.entity_id, c.source_record_id, 'released'
    from (select w.* from pg_temp.page_plan q
           cross join lateral (
             select c.entity_id, c.source_record_id from public.sync_conflicts c
              where c.state = 'waiting' and c.parent_entity_id = v_entity.id and c.parent_legacy_id = q.legacy_id offset 0) w
           where q.action = 'insert' limit 10000) c
   order by c.entity_id, c.source_record_id
  on conflict (entity_id, execution_id, legacy_id) do nothing;

  if v_chain.capture = 'keys' then
    delete from public.sync_pending_keys k
     using jsonb_to_recordset(p_page -> 'pending') as a (k bigint, g bigint)
     where k.execution_id is null and k.entity_id = v_entity.id and k.legacy_id = a.k and k.generation = a.g;
  end if;
  perform sync.keep_gone(v_entity, v_outside, v_gone);
  perform sync.ask_for_missing(v_chain, v_entity, p_page, v_gone, null);

  perform sync.request_keys(x, v_chain, p_page) from public.sync_executions x where x.id = v_chain.execution_id;

  v_surplus := sync.page_surplus(v_chain, v_entity, p_page);
  if (v_surplus ->> 'count')::integer > 0 then
    perform sync.raise_alert('surplus', 'warning', null, v_chain.execution_id, v_entity.id,
      'Target rows that are no record: another row is the record (duplicates).', v_surplus);
  end if;
  return sync.end_page(v_chain, v_entity, p_page, v_surplus, v_begun);
end
$$;
comment on function sync.commit_page(uuid, bigint, text, jsonb, jsonb) is
  'Everything a page changes: target rows, mappings, row states, queue, released children, counters, cursor, '
  'checkpoint and the next chains.';

revoke all on function sync.request_keys(public.sync_executions, public.sync_chains, jsonb),
  sync.commit_page(uuid, bigint, text, jsonb, jsonb) from public;
grant execute on function sync.request_keys(public.sync_executions, public.sync_chains, jsonb),
  sync.commit_page(uuid, bigint, text, jsonb, jsonb) to isthmus_worker;

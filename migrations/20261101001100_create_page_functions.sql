-- Purpose: claim a page under a lease, commit it with everything it changes, or give it back.
-- Locks:   the slots of a page's records, the chain's row; the execution's row when a chain closes.
-- Reverse: drop the functions.

create function sync.claim_page(p_chain uuid, p_page integer, p_lease_seconds integer, p_parties jsonb) returns jsonb
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_chain   public.sync_chains;
  v_now     timestamptz := clock_timestamp();
  v_crashed boolean;
begin
  select * into v_chain from public.sync_chains where id = p_chain for update;
  if not found or v_chain.state <> 'open' then
    return jsonb_build_object('outcome', 'closed');
  end if;
  if v_chain.page <> p_page then
    return jsonb_build_object('outcome', 'stale');
  end if;
  if v_chain.lease_until > v_now then
    return jsonb_build_object('outcome', 'leased');
  end if;
  if sync.cancel_chain(v_chain) then
    return jsonb_build_object('outcome', 'closed');
  end if;
  perform sync.check_parties(x, p_parties) from public.sync_executions x where x.id = v_chain.execution_id;
  -- A lease that ran out was never given back: the function was killed, perhaps for its memory. An eighth is tried, for each try
  -- costs a lease. A page of one record that kills its worker again is told to the function, which puts the record into the queue.
  v_crashed := v_chain.lease_until is not null;
  update public.sync_chains
     set lease = lease + 1,
         lease_until = v_now + make_interval(secs => p_lease_seconds),
         due_at = v_now + make_interval(secs => p_lease_seconds),
         page_size = case when v_crashed then greatest(1, page_size / 8) else page_size end,
         slow_growth = slow_growth or v_crashed,
         crashes = crashes + (v_crashed and page_size = 1)::integer,
         failures = failures + (v_crashed and page_size = 1)::integer,
         unclaimed = 0, refusals = 0, waits_since = null
   where id = p_chain
  returning * into v_chain;
  return jsonb_build_object(
    'outcome', 'claimed',
    'chain', to_jsonb(v_chain) || jsonb_build_object('changed_from', v_chain.changed_from::text, 'seen_before', v_chain.seen_before::text,
               'range_from', v_chain.range_from::text, 'range_to', v_chain.range_to::text, 'cursor', v_chain."cursor"::text,
               'table_file', v_chain.table_file::text, 'up_to', v_chain.up_to::text),
    'execution', (select jsonb_build_object('id', e.id, 'horizon', e.horizon::text, 'snapshot_xmax', e.snapshot_xmax::text,
                           'system_identifier', e.system_identifier, 'timeline', e.timeline, 'database_oid', e.database_oid::text,
                           -- Beside one that reads a few keys, another may have read a newer state. A whole one has looked at its checkpoints.
                           'not_before', greatest(e.horizon, (
                              select max(k.horizon) from public.sync_checkpoints k join public.sync_entities t on t.id = v_chain.entity_id
                               where k.source_id = t.source_id and k.entity_type = t.entity_type
                                 and (k.system_identifier, k.timeline, k.database_oid) = (e.system_identifier, e.timeline, e.database_oid)
                                 and not exists (select from public.sync_chains c where c.execution_id = e.id and c.capture = 'validate')))::text,
                           'entities', e.entities, 'dry_run', e.dry_run, 'page_size', e.request -> 'pageSize',
                           'compared', case when v_chain.capture = 'validate' then to_jsonb(array(
                              select t.entity_type from public.sync_entities t
                               where exists (select from public.sync_chains c where c.execution_id = e.id and c.entity_id = t.id
                                                and c.capture not in ('modified', 'selection', 'keys')
                                                -- A look that has found nothing to read is no reason to compare a large table.
                                                and (c.capture in ('full', 'digest') or exists (
                                                       select from public.sync_page_log l where l.execution_id = e.id and l.entity_id = t.id and l.read > 0)))
                               order by array_position(e.entities, t.entity_type::text))) else '[]' end)
                    from public.sync_executions e where e.id = v_chain.execution_id),
    'severities', sync.rule_severities(),
    'source', (select jsonb_build_object('id', s.id, 'name', s.name, 'namespace', s.namespace)
                 from public.sync_executions e join public.sync_sources s on s.id = e.source_id where e.id = v_chain.execution_id),
    'entities', (select jsonb_object_agg(t.entity_type, jsonb_build_object('id', t.id, 'epoch', t.adoption_epoch, 'hash', t.definition_hash))
                   from public.sync_executions e join public.sync_entities t on t.source_id = e.source_id where e.id = v_chain.execution_id),
    'target', sync.target_identity());
end
$$;
comment on function sync.claim_page(uuid, integer, integer, jsonb) is
  'Claims the next page of a chain. outcome: claimed, or closed, stale, leased: nothing to do for this message.';

create function sync.hold_chain(p_chain uuid, p_lease bigint) returns public.sync_chains
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_chain public.sync_chains;
begin
  select * into v_chain from public.sync_chains
   where id = p_chain and lease = p_lease and state = 'open' and lease_until is not null for update;
  if not found then
    raise exception 'chain %: the lease was lost to another delivery', p_chain
      using errcode = 'IS010', hint = 'Nothing was written; the other delivery carries on.';
  end if;
  return v_chain;
end
$$;
comment on function sync.hold_chain(uuid, bigint) is 'Locks the chain for the commit of a page under its lease. Raises IS010 when another delivery has it.';

create function sync.hold_page(p_chain uuid, p_lease bigint, p_versions jsonb) returns public.sync_chains
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  perform sync.hold_records((select entity_id from public.sync_chains where id = p_chain), p_versions);
  return sync.hold_chain(p_chain, p_lease);
end
$$;
comment on function sync.hold_page(uuid, bigint, jsonb) is
  'The first locks of a page''s commit: its records, by their versions, and its chain. Raises IS011 or IS010 when either is not as it was.';

create function sync.check_cached(p_hits integer) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  if p_hits > 0 and exists (select from pg_temp.page_rejects j join pg_temp.page_rows p on p.n = j.n
                             where j.sqlstate = '23503' and not p._leaves) then
    raise exception 'the target refused an id of which a cache may be the origin'
      using errcode = 'IS012', hint = 'Nothing was written; the page resolves its ids from the table.';
  end if;
end
$$;
comment on function sync.check_cached(integer) is
  'Raises IS012 when a record of the page refers to nothing and ids of parents came from the cache: all is rolled back and resolved from the table.';

create function sync.page_rejections(p_entity public.sync_entities, p_plan uuid, p_of_request text) returns jsonb
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_cancelling text;
begin
  if exists (select from pg_temp.page_rejects where sqlstate = 'IS004') then
    v_cancelling := sync.cancelling_triggers(to_regclass(format('public.%I', p_entity.target_table)));
  end if;
  return coalesce((
    select jsonb_agg(jsonb_build_object(
             'k', p._key, 'state', 'open', 'field', j.column_name,
             'rule', coalesce(j.constraint_name, case j.sqlstate when 'IS004' then 'write_cancelled' else j.sqlstate end),
             'type', case when j.sqlstate = '23503' then 'foreign_key_violation'
                          when j.sqlstate = 'IS002' or j.constraint_name ~ '^uuid_mappings_enhanced_' then 'uuid_mapping_conflict'
                          when j.sqlstate ~ '^(22|54|IS001)' then 'schema_mismatch'
                          else 'business_rule_violation' end,
             'retry', case when j.sqlstate = '23505' and j.other is not null then 'clash' else 'target' end,
             'remedy', case when p._leaves then sync.leave_remedy(j.sqlstate)
                            when j.sqlstate = '23505' then coalesce('Record ' || h.legacy_id || ' holds', 'Another target row holds') || ' the same unique value: correct one of the two.'
                            when j.sqlstate ~ '^(23|44)' then 'The target refuses the record: correct it in the source, or change the constraint.'
                            when j.sqlstate = 'IS001' then 'The target column would cut, round or pad the value, or a trigger changes the number: widen the column, correct the value in the source, or change the trigger.'
                            when j.sqlstate = 'IS004' then 'The target cancels the write of this record without an error' || coalesce(' (trigger ' || v_cancelling || ')', '') || ': correct the record in the source, or change the trigger.'
                            when j.sqlstate ~ '^22' then 'A value does not fit the target column: correct it in the source, or widen the column.'
                            when j.sqlstate = '54001' then 'A value is nested too deeply for the target' || case when j.column_name is null then ', or a trigger of it calls itself without an end' else '' end
                              || ': correct it in the source, or raise the target''s max_stack_depth.'
                            when j.sqlstate = '54000' then 'A value is too long for an index of the target: shorten it in the source, or change the index.'
                            else 'A trigger of the target refuses the record: correct it in the source, or change the trigger.' end,
             'data', jsonb_strip_nulls(jsonb_build_object('sqlstate', j.sqlstate, 'constraint', j.constraint_name,
                       'triggers', case when j.sqlstate = 'IS004' then v_cancelling end, 'leaves', case when p._leaves then true end,
                       'clashes_with', case when j.other is not null then jsonb_build_object('legacy_id', h.legacy_id, 'id', j.other) end)),
             'digest', p._digest))
      from pg_temp.page_rejects j join pg_temp.page_rows p on p.n = j.n
      left join lateral (
        select m.legacy_id from public.uuid_mappings_enhanced m
         where m.entity_type = p_entity.entity_type and m.entity_uuid = j.other limit 1) m on true
      left join public.sync_planned_records r on r.execution_id = p_plan and r.entity_id = p_entity.id and r.id = j.other
      cross join lateral (select coalesce(m.legacy_id, r.legacy_id) as legacy_id) h), '[]') || coalesce((
    select jsonb_agg(jsonb_build_object(
             'k', r.k, 'state', 'waiting', 'type', 'foreign_key_violation', 'field', r.field, 'rule', 'parent_missing@1',
             'remedy', format('Waits for %s %s.', p_entity.entity_type, r.parent),
             'data', jsonb_build_object('parent', p_entity.entity_type, 'parentId', r.parent::text),
             'parent', p_entity.entity_type, 'parentId', r.parent, 'digest', p._digest))
      from pg_temp.page_relatives r join pg_temp.page_rows p on p.n = r.n where r.state = 'waits'), '[]') || coalesce((
    select jsonb_agg(jsonb_build_object(
             'k', q.legacy_id, 'state', 'open', 'rule', q.action, 'field', q.fields, 'retry', 'person',
             'type', case when q.action in ('target_unmapped', 'ambiguous') then 'uuid_mapping_conflict'
                          when q.action = 'left_kept' then 'business_rule_violation' else 'concurrent_modification' end,
             'remedy', case q.action when 'target_deleted' then 'Somebody deleted the target row. source_wins: it is written again. target_wins: it stays away.'
                                     when 'target_unmapped' then case when q.now ->> p_entity.legacy_key = q.legacy_id::text
                                       then format('The target row of this record is there, but what the sync knew of the row is gone. Do not remove the row; take it over: npm run sync -- adopt %s.', p_entity.entity_type)
                                       else 'Another target row has the id that this record would get: see which record that row is (its legacy key), and give it another id if it has to stay.' end
                                     else sync.leave_remedy(q.action) end,
             'evidence', case q.action when 'target_deleted' then jsonb_build_object('record', q.new)
                                       when 'left_edited' then jsonb_build_object('seen', sync.pick(q.seen, sync.unlisted(q.fields)), 'target', sync.pick(q.now, sync.unlisted(q.fields)), 'left', q."left") end,
             'digest', q.digest))
      from pg_temp.page_plan q where q.action ~ '^(target|left)_' or q.action = 'ambiguous'), '[]') || coalesce((
    select jsonb_agg(jsonb_build_object(
             'k', q.legacy_id, 'state', 'open', 'rule', 'both_changed', 'type', 'concurrent_modification', 'retry', 'person',
             'field', sync.listed(f.names),
             'policy', (select string_agg(x.policy, ', ' order by x.policy) from (select distinct
                          (sync.field_strategies(p_entity, p_of_request) ->> n) || ' ' || sync.strategy_origin(p_entity, p_of_request, n) as policy
                            from unnest(f.names) n) x),
             'remedy', 'Both sides have changed it. source_wins: the old application''s value is written. target_wins: the row stays as it is. merge: the values in resolution_data are written.',
             'evidence', jsonb_build_object('seen', sync.pick(q.seen, f.names), 'source', sync.pick(q.new, f.names), 'target', sync.pick(q.now, f.names),
                           'left', sync.pick(q."left", f.names), 'record', case when p_entity.history = 'hashes' then q.new end),
             'digest', q.digest))
      from pg_temp.page_plan q cross join lateral (select sync.decided_fields(q.decided, 'review') as names) f
     where q.action = 'review'), '[]');
end
$$;
comment on function sync.page_rejections(public.sync_entities, uuid, text) is
  'What the database, the present state of the target or a policy stopped of a page, as issues. p_plan, p_of_request: as for sync.load_records.';

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
  select sync.strategy_of_request(request) into v_request from public.sync_executions where id = v_chain.execution_id;
  perform sync.find_again(v_entity, v_absent, array(select m::uuid from jsonb_array_elements_text(p_page -> 'gone_ids') m));
  v_gone := sync.gone_landed(v_entity, p_page, null);
  perform sync.hold_queue(v_entity, p_records::json, p_issues, p_page);
  perform sync.check_leaving(v_chain, v_entity, sync.leaving(v_entity, v_outside));
  perform sync.load_records(v_entity, p_records::json, sync.leaving(v_entity, v_outside) || sync.deleting(v_chain, v_entity, 'hard', v_gone),
    sync.deleting(v_chain, v_entity, 'soft', v_gone), null, v_request);
  perform sync.check_cached((p_page ->> 'cache_hits')::integer);
  perform sync.map_again(v_entity, array(select u::bigint from jsonb_array_elements_text(p_page -> 'unmapped') u));

  perform sync.collect_issues(v_entity, p_issues || sync.page_rejections(v_entity, null, v_request) || sync.deletes_to_review(v_chain, v_entity, v_gone));
  perform sync.queue_records(v_entity, v_chain.execution_id, v_chain.page_size);
  perform sync.ask_for_unmapped_parents();
  perform sync.check_nulled(v_chain, v_entity);
  perform sync.check_overwritten(v_chain, v_entity);

  perform sync.keep_decided(v_entity, v_chain.execution_id, v_request);

  perform sync.record_warnings(v_entity.id, v_chain.execution_id, p_page -> 'warnings');
  perform sync.tell_otherwise(v_entity, v_chain.execution_id);

  -- Landed after all, or no difference any more.
  v_queued := sync.queue_rows(v_entity.id, array(
    select legacy_id from pg_temp.page_plan where action in ('insert', 'update', 'unchanged', 'review', 'delete', 'soft') order by legacy_id));
  update public.sync_conflicts c set standing = false where c.id = any (v_queued) and c.standing;
  update public.sync_conflicts c
     set state = 'resolved', resolved_at = now(), resolved_by = 'sync', resolved_in = v_chain.execution_id
    from pg_temp.page_plan q
   where c.id = any (v_queued) and c.source_record_id = q.legacy_id and c.state in ('waiting', 'open')
     and q.action in ('insert', 'update', 'unchanged');

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

  -- Children that waited for a record of this page: as many as the commit bears. sync.release_waiting asks for the others.
  insert into public.sync_pending_keys (entity_id, legacy_id, reason)
  select c.entity_id, c.source_record_id, 'released'
    from (select w.* from pg_temp.page_plan q
           cross join lateral (
             select c.entity_id, c.source_record_id from public.sync_conflicts c
              where c.state = 'waiting' and c.parent_entity_id = v_entity.id and c.parent_legacy_id = q.legacy_id offset 0) w
           where q.action = 'insert' limit 10000) c
   order by c.entity_id, c.source_record_id
  on conflict (entity_id, legacy_id) do nothing;

  if v_chain.capture = 'keys' then
    delete from public.sync_pending_keys k
     using jsonb_to_recordset(p_page -> 'pending') as a (k bigint, g bigint)
     where k.entity_id = v_entity.id and k.legacy_id = a.k and k.generation = a.g;
  end if;
  perform sync.keep_gone(v_entity, v_outside, v_gone);
  perform sync.ask_for_missing(v_chain, v_entity, p_page, v_gone);

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
  'Everything a page changes: target rows, mappings, row states, queue, released children, counters, cursor, checkpoint and the next chains.';

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

  -- An entity that has never run is opened as it would be by a run of its own. Where its rows have to be adopted first, it is left alone.
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

  if p_execution.dry_run then
    insert into public.sync_planned_keys (execution_id, entity_id, legacy_id, reason)
    select distinct on (entity_id, legacy_id) p_execution.id, entity_id, legacy_id, reason from pg_temp.page_requests
     order by entity_id, legacy_id, reason
    on conflict (execution_id, entity_id, legacy_id) do update set gone = false;
  else
    insert into public.sync_pending_keys as k (entity_id, legacy_id, reason)
    select distinct on (entity_id, legacy_id) entity_id, legacy_id, reason from pg_temp.page_requests
     order by entity_id, legacy_id, reason
    on conflict (entity_id, legacy_id) do update
       set generation = default, requested_at = now(), gone = false,
           -- What was asked for with its dependants stays so.
           reason = case when k.reason = 'dependants' then k.reason else excluded.reason end;
  end if;
end
$$;
comment on function sync.request_keys(public.sync_executions, public.sync_chains, jsonb) is
  'Has the missing parents and the dependants of selected records read as well.';

create function sync.page_overwritten() returns table (n integer, legacy_id bigint, id uuid, fields text[])
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  return query
  select q.n, q.legacy_id, q.id, array_agg(k order by k)
    from pg_temp.page_plan q cross join lateral jsonb_object_keys(q.written) k
   where (q.action = 'soft' and q.now -> k is distinct from q."left" -> k and (q."left" ? k or q.now -> k <> 'null')
          or q.action in ('update', 'review') and q.decided ->> k = 'overwrite')
   group by q.n, q.legacy_id, q.id;
end
$$;
comment on function sync.page_overwritten() is 'Edits by people that the updates of a page overwrite.';

create function sync.hold_queue(p_entity public.sync_entities, p_records json, p_issues jsonb, p_page jsonb) returns void
language sql security invoker set search_path = pg_catalog, pg_temp as $$
  -- Before the target rows: whoever decides on a record has its row here first, and then wants the target row.
  select count(*) from (
    select from public.sync_conflicts c
     where c.id = any ((select sync.queue_rows(p_entity.id, array(
             select (r ->> '_key')::bigint from json_array_elements(p_records) r
             union select (i ->> 'k')::bigint from jsonb_array_elements(p_issues) i
             union select g::bigint from jsonb_array_elements_text(p_page -> 'gone' || (p_page -> 'outside')) g)))::uuid[])
       and (c.state in ('waiting', 'open') or c.standing)
     order by c.source_record_id, c.id for no key update) held
$$;
comment on function sync.hold_queue(public.sync_entities, json, jsonb, jsonb) is
  'Locks what the queue has of a page''s records: a decision under way is waited for, and one that follows sees what the page has done.';

create function sync.keep_decided(p_entity public.sync_entities, p_execution uuid, p_of_request text) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  if not exists (select from pg_temp.page_plan where action in ('update', 'unchanged', 'review', 'soft') and (decided is not null or action = 'soft')) then
    return;
  end if;
  with decided as materialized (
    select gen_random_uuid() as conflict_id, x.*, q.seen, q.new, q.now, q."left", q.digest, q.action
      from (select o.n, o.legacy_id, o.id, 'source_wins'::public.conflict_resolution_strategy as strategy, o.fields from sync.page_overwritten() o
            union all
            select r.n, r.legacy_id, r.id, 'target_wins', sync.decided_fields(r.decided, 'retain') from pg_temp.page_plan r
             where r.action in ('update', 'unchanged', 'review') and r.decided @? '$.* ? (@ == "retain")') x
      join pg_temp.page_plan q on q.n = x.n
     -- A difference that stays is told once.
     where x.strategy <> 'target_wins' or not exists (
             select from public.sync_conflicts c join public.sync_conflict_values v on v.conflict_id = c.id
              where c.entity_id = p_entity.id and c.source_record_id = x.legacy_id and c.rule = 'both_changed'
                and c.resolved_by = 'policy' and c.resolution_strategy = 'target_wins' and c.field = sync.listed(x.fields)
                and v.source = sync.pick(q.new, x.fields) and v.target = sync.pick(q.now, x.fields))
  ), kept as (
    insert into public.sync_conflicts
      (id, state, entity_id, entity_type, source_record_id, conflict_type, field, differences, rule, policy, remedy, conflict_data,
       resolution_strategy, resolved_at, resolved_by, asked, source_table, target_table, target_record_id, execution_id, resolved_in, source_digest)
    select d.conflict_id, 'resolved', p_entity.id, p_entity.entity_type, d.legacy_id, 'concurrent_modification', sync.listed(d.fields),
           sync.differences(p_entity.columns, d.fields, d.seen, d.new, d.now, true), 'both_changed',
           d.strategy || ' ' || sync.strategy_origin(p_entity, p_of_request, d.fields[1]),
           'Decided by policy; what was not written is kept. Set another strategy, and it is written instead.',
           jsonb_build_object('fields', d.fields), d.strategy, now(), 'policy', d.fields, p_entity.source_table, p_entity.target_table, d.id, p_execution,
           p_execution, d.digest
      from decided d
  )
  insert into public.sync_conflict_values (conflict_id, seen, source, target, "left", after, record)
  select d.conflict_id, sync.pick(d.seen, d.fields), case when d.action <> 'soft' then sync.pick(d.new, d.fields) end, sync.pick(d.now, d.fields),
         sync.pick(d."left", d.fields), case when d.action <> 'soft' then sync.pick(case d.strategy when 'source_wins' then d.new else d.now end, d.fields) end,
         case when p_entity.history = 'hashes' then d.new end
    from decided d;
end
$$;
comment on function sync.keep_decided(public.sync_entities, uuid, text) is
  'What a policy has decided on a page where both sides had changed something: as decided conflicts, with the values that were not written.';

create function sync.leaving(p_entity public.sync_entities, p_outside bigint[]) returns bigint[]
language sql immutable security invoker set search_path = pg_catalog, pg_temp
as $$ select case when p_entity.predicate ->> 'on_leave' = 'delete' then p_outside else '{}' end $$;
comment on function sync.leaving(public.sync_entities, bigint[]) is 'Of the records outside the predicate, those that are deleted where they have landed.';

create function sync.gone_landed(p_entity public.sync_entities, p_page jsonb, p_plan uuid) returns bigint[]
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select coalesce(array_agg(g::bigint order by g::bigint), '{}')
    from jsonb_array_elements_text(p_page -> 'gone') g
    left join public.uuid_mappings_enhanced m
      on m.source_id = p_entity.source_id and m.entity_type = p_entity.entity_type and m.legacy_id = g::bigint and m.sync_status = 'active'
    left join lateral (select r.lands from public.sync_planned_records r
                        where r.execution_id = p_plan and r.entity_id = p_entity.id and r.legacy_id = g::bigint and r.lands is not null limit 1) r on true
   where coalesce(r.lands, m.legacy_id is not null)
     and not exists (select from public.sync_row_states s
                      where s.entity_id = p_entity.id and s.legacy_id = g::bigint and s.gone_at is not null)
$$;
comment on function sync.gone_landed(public.sync_entities, jsonb, uuid) is
  'Of the keys of a page that have no record, those that had landed and are not known to be gone. p_plan: as this dry run has planned it.';

create function sync.without_row(p_entity public.sync_entities, p_ids bigint[]) returns bigint[]
language plpgsql stable security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_ids bigint[];
begin
  execute format('select coalesce(array_agg(m.legacy_id), ''{}'') from public.uuid_mappings_enhanced m
                   where m.source_id = $1 and m.entity_type = $2 and m.legacy_id = any ($3)
                     and not exists (select from public.%I t where t.id = m.entity_uuid)', p_entity.target_table)
    into v_ids using p_entity.source_id, p_entity.entity_type, p_ids;
  return v_ids;
end
$$;
comment on function sync.without_row(public.sync_entities, bigint[]) is 'Of landed records, those whose target row somebody has deleted.';

create function sync.asked_to_delete(p_entity public.sync_entities, p_gone bigint[]) returns bigint[]
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select array(
    select k from unnest(p_gone) k
     where (select c.rule from public.sync_conflicts c
             where c.entity_id = p_entity.id and c.source_record_id = k and c.state = 'open' limit 1) = 'deleted_in_source'
        or p_entity.on_delete ->> 'policy' = 'hard'
           and (select s.legacy_id from public.sync_row_states s where s.entity_id = p_entity.id and s.legacy_id = k) is null
    except select unnest(sync.without_row(p_entity, p_gone)))
$$;
comment on function sync.asked_to_delete(public.sync_entities, bigint[]) is
  'Of records that the source no longer has, those of which a person is asked whether their rows go: was asked before, or the sync does not know that it wrote them (put back, or never reconciled).';

create function sync.deleting(p_chain public.sync_chains, p_entity public.sync_entities, p_policy text, p_gone bigint[]) returns bigint[]
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select case when not p_chain.deletes then '{}'
              when p_entity.on_delete ->> 'policy' = p_policy then array(select unnest(p_gone) except select unnest(a.keys))
              when p_policy = 'review' then a.keys
              -- What a person has deleted already is only forgotten.
              when p_policy = 'soft' and p_entity.on_delete ->> 'policy' = 'review' then sync.without_row(p_entity, p_gone)
              else '{}' end
    -- What a person has been asked is theirs to decide, whatever the entity says by now.
    from (select case when p_chain.deletes and p_entity.on_delete ->> 'policy' in ('hard', 'soft') then sync.asked_to_delete(p_entity, p_gone) else '{}' end as keys) a
$$;
comment on function sync.deleting(public.sync_chains, public.sync_entities, text, bigint[]) is
  'Of the records that the source no longer has, those that this page deletes in one way: hard or soft, or puts to review.';

create function sync.deletes_to_review(p_chain public.sync_chains, p_entity public.sync_entities, p_gone bigint[]) returns jsonb
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select coalesce(jsonb_agg(jsonb_build_object('k', k, 'state', 'open', 'type', 'business_rule_violation', 'rule', 'deleted_in_source',
           'retry', 'person',
           'remedy', 'The source no longer has this record' || case when (select s.legacy_id from public.sync_row_states s where s.entity_id = p_entity.id and s.legacy_id = k) is null
                       then ', and its target row is there without the sync having written it: somebody put it back, or an earlier migration left it' else '' end
                     || '. source_wins: its target row is deleted too. target_wins: the row stays.')), '[]')
    from unnest(sync.deleting(p_chain, p_entity, 'review', p_gone)) k
   where k <> all (sync.without_row(p_entity, p_gone))
$$;
comment on function sync.deletes_to_review(public.sync_chains, public.sync_entities, bigint[]) is
  'The records that the source no longer has and that a person decides on, as issues.';

create function sync.keep_gone(p_entity public.sync_entities, p_outside bigint[], p_gone bigint[]) returns void
language sql security invoker set search_path = pg_catalog, pg_temp as $$
  insert into public.sync_row_states as s (entity_id, legacy_id, seen, "left", gone_at)
  select p_entity.id, k, '{}', '{}', now()
    from unnest(case when p_entity.on_delete ->> 'policy' = 'ignore' then p_gone else '{}' end
             || case when p_entity.predicate ->> 'on_leave' = 'keep' then p_outside else '{}' end) k
   where exists (select from public.uuid_mappings_enhanced m
                  where m.source_id = p_entity.source_id and m.entity_type = p_entity.entity_type and m.legacy_id = k and m.sync_status = 'active')
  on conflict (entity_id, legacy_id) do update set gone_at = coalesce(s.gone_at, excluded.gone_at), source_digest = null
$$;
comment on function sync.keep_gone(public.sync_entities, bigint[], bigint[]) is
  'Notes of landed records that their rows stay although the source no longer has them, or no longer wants them here.';

create function sync.ask_for_missing(p_chain public.sync_chains, p_entity public.sync_entities, p_page jsonb, p_gone bigint[]) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  -- Looked at under its lock and gone: deleted at the end of the execution, when its children are.
  if not p_chain.deletes and p_entity.on_delete ->> 'policy' <> 'ignore' then
    insert into public.sync_pending_keys (entity_id, legacy_id, reason, gone)
    select p_entity.id, k, 'gone', true from unnest(p_gone) k order by k
    on conflict (entity_id, legacy_id) do update set generation = default, requested_at = now(), gone = true;
  end if;
  -- Landed in the key range of a full pass that did not meet it: to be looked at.
  insert into public.sync_pending_keys (entity_id, legacy_id, reason)
  select p_entity.id, k, 'missing' from sync.missing_keys(p_chain, p_entity, p_page) k order by k
  on conflict (entity_id, legacy_id) do nothing;
end
$$;
comment on function sync.ask_for_missing(public.sync_chains, public.sync_entities, jsonb, bigint[]) is
  'Has landed records that the source does not have deleted, and those that a full pass did not meet looked at.';

create function sync.missing_keys(p_chain public.sync_chains, p_entity public.sync_entities, p_page jsonb) returns setof bigint
language plpgsql stable security invoker set search_path = pg_catalog, pg_temp set plan_cache_mode = force_custom_plan as $$
declare
  v_from bigint := coalesce(p_chain."cursor", p_chain.range_from, '-9223372036854775808');
  v_to   bigint := case when (p_page ->> 'done')::boolean then coalesce(p_chain.range_to, 9223372036854775807) else (p_page ->> 'cursor')::bigint end;
begin
  if p_chain.capture <> 'full' then
    return;
  end if;
  return query execute format($q$
    select k.legacy_id
      from (select m.legacy_id from public.uuid_mappings_enhanced m
             where m.source_id = $1 and m.entity_type = $2 and m.legacy_id between $4 and $5
               -- Deleted, and its row is back.
               and (m.sync_status = 'active' or (select t.id from public.%I t where t.id = m.entity_uuid) is not null)
            -- Somebody may have removed its mapping.
            union select s.legacy_id from public.sync_row_states s where s.entity_id = $3 and s.legacy_id between $4 and $5
            except select p::bigint from jsonb_array_elements_text($7) p) k
     -- One index probe per record, whatever the planner thinks.
     where k.legacy_id is distinct from $6 and (select s.gone_at from public.sync_row_states s where s.entity_id = $3 and s.legacy_id = k.legacy_id) is null
  $q$, p_entity.target_table) using p_entity.source_id, p_entity.entity_type, p_entity.id, v_from, v_to, p_chain."cursor", p_page -> 'present';
end
$$;
comment on function sync.missing_keys(public.sync_chains, public.sync_entities, jsonb) is
  'Records that landed, of which anything is known, in the key range of a full pass''s page, and that are not among its records.';

create function sync.page_nulled() returns jsonb
language plpgsql stable security invoker set search_path = pg_catalog, pg_temp as $$
begin
  return (select jsonb_object_agg(k, n) from (
    select e.key as k, count(*) as n
      from pg_temp.page_plan q cross join lateral jsonb_each(q.written) e
     -- What a request has written over edits alone is asked for.
     where q.action in ('update', 'review') and e.value = 'null' and coalesce(q.now -> e.key, 'null') <> 'null' and e.value is distinct from q.seen -> e.key group by 1) x);
end
$$;
comment on function sync.page_nulled() is 'How many records of the page lose their value in a column: {column: n}; null: none.';

create function sync.page_rewritten() returns integer
language plpgsql stable security invoker set search_path = pg_catalog, pg_temp as $$
begin
  -- What the sync has never reconciled (adopted rows), and what was empty, holds nothing that it would put at risk. What is emptied is counted by itself.
  -- What a request has written over edits alone, the source has not changed: it was asked for.
  return (select count(*) from pg_temp.page_plan q
           where q.action in ('update', 'review') and q.seen is not null
             and exists (select from jsonb_each(q.written) e
                          where e.value <> 'null' and coalesce(q.now -> e.key, 'null') <> 'null' and e.value is distinct from q.seen -> e.key));
end
$$;
comment on function sync.page_rewritten() is 'In how many records of the page a value is overwritten by another one.';

create function sync.exceeds_brake(p_execution public.sync_executions, p_entity_id smallint, p_kind text, p_field text, p_records bigint) returns bigint
language plpgsql stable security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_holds  boolean := sync.brake_holds(p_entity_id, p_kind, p_field);
  v_landed bigint;
begin
  -- Once it was pulled, not one more passes until a person has said so: what pages before it did would add up over executions.
  if v_holds is false
    or v_holds is null and p_records <= (case p_kind when 'overwrite' then p_execution.brake_overwrite_records else p_execution.brake_records end) then
    return null;
  end if;
  select count(*) into v_landed from public.sync_row_states s where s.entity_id = p_entity_id and s.gone_at is null;
  -- A record that is written twice counts twice: all of them is no share that could be passed.
  return case when v_holds or p_records > (case when p_kind <> 'overwrite' then p_execution.brake_share * v_landed
                                                when p_execution.brake_overwrite_share < 1 then p_execution.brake_overwrite_share * v_landed end) then v_landed end;
end
$$;
comment on function sync.exceeds_brake(public.sync_executions, smallint, text, text, bigint) is
  'When so many records are more than the brake lets pass: how many have landed. Null: they pass.';

create function sync.check_brake(p_chain public.sync_chains, p_entity public.sync_entities, p_kind text, p_field text, p_records bigint) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_landed bigint := (select sync.exceeds_brake(x, p_entity.id, p_kind, p_field, p_records) from public.sync_executions x where x.id = p_chain.execution_id);
begin
  if v_landed is not null then
    raise exception 'entity %: more records than usual would be %', p_entity.entity_type, sync.braked_word(p_kind) || coalesce(' in ' || p_field, '')
      using errcode = 'IS040',
            detail = jsonb_build_object('entity', p_entity.entity_type, 'kind', p_kind, 'field', p_field, 'records', p_records, 'landed', v_landed)::text;
  end if;
end
$$;
comment on function sync.check_brake(public.sync_chains, public.sync_entities, text, text, bigint) is
  'Raises IS040 when an execution has come to delete, empty or overwrite more of an entity''s records than the brake lets pass.';

create function sync.check_leaving(p_chain public.sync_chains, p_entity public.sync_entities, p_outside bigint[]) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_records bigint := (select count(*) from public.uuid_mappings_enhanced m
                        where m.source_id = p_entity.source_id and m.entity_type = p_entity.entity_type and m.sync_status = 'active'
                          and m.legacy_id = any (p_outside)
                          and (select s.gone_at from public.sync_row_states s where s.entity_id = p_entity.id and s.legacy_id = m.legacy_id) is null);
begin
  if v_records > 0 then
    perform sync.check_brake(p_chain, p_entity, 'delete', null, v_records
      + (select coalesce(sum(l.deleted), 0) from public.sync_page_log l where l.execution_id = p_chain.execution_id and l.entity_id = p_entity.id));
  end if;
end
$$;
comment on function sync.check_leaving(public.sync_chains, public.sync_entities, bigint[]) is
  'The brake on records that leave their predicate: they are deleted page by page.';

create function sync.check_nulled(p_chain public.sync_chains, p_entity public.sync_entities) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_field record;
begin
  for v_field in
    select p.key as name, p.value::bigint
             + coalesce((select sum((l.nulled ->> p.key)::bigint) from public.sync_page_log l
                          where l.execution_id = p_chain.execution_id and l.entity_id = p_entity.id and l.nulled ? p.key), 0) as n
      from jsonb_each_text(sync.page_nulled()) p
  loop
    perform sync.check_brake(p_chain, p_entity, 'null', v_field.name, v_field.n::bigint);
  end loop;
end
$$;
comment on function sync.check_nulled(public.sync_chains, public.sync_entities) is
  'Raises IS040 when an execution would take the value of a column from more of an entity''s records than the brake lets pass.';

create function sync.counts_overwritten(p_entity public.sync_entities) returns boolean
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  -- Read in full because its definition has changed, or for the first time: what is written then was decided with the deployment. What is
  -- held already stays held.
  select sync.brake_holds(p_entity.id, 'overwrite', null) is not null or exists (
    select from public.sync_checkpoints k
     where k.source_id = p_entity.source_id and k.entity_type = p_entity.entity_type and k.definition_hash = p_entity.definition_hash)
$$;
comment on function sync.counts_overwritten(public.sync_entities) is 'Whether the brake looks at how many records of an entity are overwritten.';

create function sync.check_overwritten(p_chain public.sync_chains, p_entity public.sync_entities) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_records bigint := sync.page_rewritten();
begin
  if v_records = 0 or not sync.counts_overwritten(p_entity) then
    return;
  end if;
  perform sync.check_brake(p_chain, p_entity, 'overwrite', null, v_records
    + (select coalesce(sum(l.overwritten), 0) from public.sync_page_log l where l.execution_id = p_chain.execution_id and l.entity_id = p_entity.id));
end
$$;
comment on function sync.check_overwritten(public.sync_chains, public.sync_entities) is
  'Raises IS040 when an execution would overwrite values in more of an entity''s records than the brake lets pass.';

create function sync.page_surplus(p_chain public.sync_chains, p_entity public.sync_entities, p_page jsonb) returns jsonb
language plpgsql stable security invoker set search_path = pg_catalog, pg_temp as $$
begin
  if p_chain.capture <> 'full' then
    return '{"count": 0}';
  end if;
  return sync.surplus_of(p_entity, p_chain."cursor", p_chain.range_from,
    case when (p_page ->> 'done')::boolean then coalesce(p_chain.range_to, 9223372036854775807) else (p_page ->> 'cursor')::bigint end);
end
$$;
comment on function sync.page_surplus(public.sync_chains, public.sync_entities, jsonb) is
  'Full passes only: target rows in the key range of the page that are no record, because another row is.';

create function sync.end_page(p_chain public.sync_chains, p_entity public.sync_entities, p_page jsonb, p_surplus jsonb,
  p_begun timestamptz) returns jsonb
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_counts   jsonb;
  v_gone     integer;
  v_wall_ms  numeric;
  v_dispatch uuid[];
begin
  select jsonb_build_object(
           'inserted', count(*) filter (where action = 'insert'), 'updated', count(*) filter (where action = 'update'),
           'unchanged', count(*) filter (where action = 'unchanged'), 'deleted', count(*) filter (where action in ('delete', 'soft')),
           'waived', (p_page ->> 'waived')::integer + jsonb_array_length(p_page -> 'outside')
             - (select count(*) from pg_temp.page_rows where _leaves and p_page -> 'outside' ? _key::text)
             + (select count(*) from pg_temp.page_issues where settled),
           'waiting', (select count(*) from pg_temp.page_issues where state = 'waiting' and not settled),
           'in_conflict', (select count(*) from pg_temp.page_issues where state = 'open' and not settled))
    into v_counts from pg_temp.page_plan;
  -- Of the keys without a record, those that had landed were looked at where they are deleted.
  v_gone := case when p_chain.deletes then
    (select count(*) from (select _key from pg_temp.page_rows where _leaves union select k from pg_temp.page_issues) x
      where p_page -> 'gone' ? _key::text) else 0 end;

  v_wall_ms := (p_page ->> 'wall_ms')::numeric + extract(epoch from clock_timestamp() - p_begun) * 1000;
  insert into public.sync_page_log
    (execution_id, chain_id, entity_id, page, read, inserted, updated, unchanged, deleted, waiting, in_conflict, waived, waived_by,
     absent, surplus, nulled, overwritten, cache_lookups, cache_hits, cpu_ms, peak_rss_bytes, wall_ms)
  values (p_chain.execution_id, p_chain.id, p_entity.id, p_chain.page, (p_page ->> 'read')::integer + v_gone,
          (v_counts ->> 'inserted')::integer, (v_counts ->> 'updated')::integer, (v_counts ->> 'unchanged')::integer,
          (v_counts ->> 'deleted')::integer, (v_counts ->> 'waiting')::integer, (v_counts ->> 'in_conflict')::integer,
          (v_counts ->> 'waived')::integer,
          nullif(concat_ws(', ', p_entity.predicate ->> 'rule', (select 'decision' from pg_temp.page_issues where settled limit 1)), ''),
          (p_page ->> 'absent')::integer - v_gone, (p_surplus ->> 'count')::integer, sync.page_nulled(), sync.page_rewritten(), (p_page ->> 'cache_lookups')::integer, (p_page ->> 'cache_hits')::integer,
          (p_page ->> 'cpu_ms')::numeric, (p_page ->> 'peak_rss_bytes')::bigint, v_wall_ms);

  v_dispatch := sync.close_page(p_chain, p_entity, p_page, v_wall_ms);
  return jsonb_build_object('counts', v_counts, 'surplus', (p_surplus ->> 'count')::integer,
    'landed', (select coalesce(jsonb_agg(legacy_id::text), '[]') from pg_temp.page_plan where action = 'insert'),
    'dispatch', (select coalesce(jsonb_agg(jsonb_build_object('chain', c.id, 'page', c.page, 'execution', c.execution_id) order by d.n), '[]')
                   from unnest(v_dispatch) with ordinality d (id, n) join public.sync_chains c on c.id = d.id));
end
$$;
comment on function sync.end_page(public.sync_chains, public.sync_entities, jsonb, jsonb, timestamptz) is
  'Counts and logs a page, moves its chain, and tells what came of it and what to dispatch.';

create function sync.close_page(p_chain public.sync_chains, p_entity public.sync_entities, p_page jsonb, p_wall_ms numeric) returns uuid[]
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_done boolean := (p_page ->> 'done')::boolean;
begin
  if not v_done and coalesce((p_page ->> 'cursor')::bigint, p_chain."cursor") is not distinct from p_chain."cursor"
     and coalesce(p_page ->> 'cursor_at', p_chain.cursor_at) is not distinct from p_chain.cursor_at
     and coalesce((p_page ->> 'table_file')::bigint, p_chain.table_file) is not distinct from p_chain.table_file then
    raise exception 'entity %: a page of capture % ended where it began', p_entity.entity_type, p_chain.capture
      using errcode = 'IS050', detail = jsonb_build_object('entity', p_entity.entity_type, 'capture', p_chain.capture)::text;
  end if;
  update public.sync_chains
     set page = page + 1, "cursor" = coalesce((p_page ->> 'cursor')::bigint, "cursor"),
         cursor_at = coalesce(p_page ->> 'cursor_at', cursor_at), table_file = coalesce((p_page ->> 'table_file')::bigint, table_file),
         -- A page must stay far within its lease, whatever the database took for it.
         page_size = case when p_wall_ms > (p_page ->> 'lease_seconds')::integer * 500 then greatest(1, p_chain.page_size / 2)
                          else (p_page ->> 'next_page_size')::integer end,
         slow_growth = slow_growth or coalesce((p_page ->> 'cut')::boolean, false) or p_wall_ms > (p_page ->> 'lease_seconds')::integer * 500,
         lease_until = null, sends = 0, failures = 0, crashes = 0, last_error = null,
         state = case when v_done then 'done' else 'open' end::public.sync_chain_state,
         closed_at = case when v_done then now() end,
         due_at = case when not v_done then clock_timestamp() + make_interval(secs => (p_page ->> 'lease_seconds')::integer) end
   where id = p_chain.id;
  -- Functions are deployed one after the other: what a page of another version landed is read again by the next execution.
  if p_page ->> 'definition_hash' is distinct from p_chain.definition_hash then
    update public.sync_chains set definition_hash = 'mixed' where id = p_chain.id;
    update public.sync_checkpoints set definition_hash = 'mixed'
     where source_id = p_entity.source_id and entity_type = p_entity.entity_type
       and not exists (select from public.sync_executions where id = p_chain.execution_id and dry_run);
  end if;
  if v_done then
    return sync.close_chain(p_chain.execution_id, p_entity);
  end if;
  return array[p_chain.id];
end
$$;
comment on function sync.close_page(public.sync_chains, public.sync_entities, jsonb, numeric) is
  'Moves a chain behind the page that is being committed and closes it with its last page; returns what to dispatch.';

create function sync.latest_starts(p_starts text[], p_start text) returns text[]
language sql immutable security invoker set search_path = pg_catalog, pg_temp as $$
  select (p_start || array_remove(p_starts, p_start))[1:8]
$$;
comment on function sync.latest_starts(text[], text) is 'Server starts with this one at their head, at most eight.';

create function sync.move_watermark(p_execution uuid, p_entity public.sync_entities) returns void
language sql security invoker set search_path = pg_catalog, pg_temp as $$
  update public.sync_checkpoints k
     set watermark_at = c.cursor_at, watermark_id = c."cursor", job_id = e.job_id, execution_id = e.id, updated_at = now()
    from public.sync_chains c join public.sync_executions e on e.id = c.execution_id
   where c.execution_id = p_execution and c.entity_id = p_entity.id and c.capture = 'modified' and c.state = 'done' and not e.dry_run and e.status = 'running'
     and k.source_id = p_entity.source_id and k.entity_type = p_entity.entity_type
     and (c.cursor_at::timestamptz, c."cursor") >= (k.watermark_at::timestamptz, coalesce(k.watermark_id, '-9223372036854775808'))
$$;
comment on function sync.move_watermark(uuid, public.sync_entities) is
  'Moves the watermark to where a modified chain that is through has come, never back. The horizon stays: stamps do not tell of every change.';

create function sync.close_chain(p_execution uuid, p_entity public.sync_entities) returns uuid[]
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  -- A full pass, and not only a range of keys beside an incremental one.
  v_whole boolean := exists (select from public.sync_chains
                              where execution_id = p_execution and entity_id = p_entity.id and capture = 'full' and range_from is null);
begin
  perform from public.sync_executions where id = p_execution for no key update;
  perform sync.move_watermark(p_execution, p_entity);
  -- A plan moves nothing, nor does what was cancelled while its last page was at work. The horizon moves only when the last chain that looks
  -- for changes is through.
  if exists (select from public.sync_executions where id = p_execution and not dry_run and status = 'running')
     and not exists (select from public.sync_chains
                      where execution_id = p_execution and entity_id = p_entity.id and capture not in ('keys', 'selection', 'modified') and state <> 'done') then
    insert into public.sync_checkpoints as k
      (source_id, entity_type, job_id, execution_id, last_processed_id, records_processed, checkpoint_data,
       horizon, snapshot_xmax, watermark_at, system_identifier, timeline, database_oid, server_starts, definition_hash)
    select p_entity.source_id, p_entity.entity_type, e.job_id, e.id,
           max(c."cursor") filter (where c.capture <> 'joins' and coalesce(c.table_file, 0) = 0),
           (select coalesce(sum(l.read), 0) from public.sync_page_log l where l.execution_id = e.id and l.entity_id = p_entity.id),
           jsonb_build_object('capture', coalesce(min(c.capture::text) filter (where c.capture <> 'joins'), 'joins')),
           e.horizon, e.snapshot_xmax, e.source_time, e.system_identifier, e.timeline, e.database_oid, array[e.server_start],
           case when count(distinct c.definition_hash) = 1 then min(c.definition_hash) else 'mixed' end
      from public.sync_executions e
      join public.sync_chains c on c.execution_id = e.id and c.entity_id = p_entity.id
                               and c.capture not in ('keys', 'selection', 'modified')
     where e.id = p_execution
     group by e.id
    on conflict (source_id, entity_type) do update
       set job_id = excluded.job_id, execution_id = excluded.execution_id, last_processed_id = excluded.last_processed_id,
           records_processed = excluded.records_processed, checkpoint_data = excluded.checkpoint_data,
           horizon = excluded.horizon, snapshot_xmax = excluded.snapshot_xmax, watermark_at = excluded.watermark_at, watermark_id = null,
           system_identifier = excluded.system_identifier, timeline = excluded.timeline,
           database_oid = excluded.database_oid,
           -- What was known of other servers does not hold after everything was read from this one.
           server_starts = case when v_whole then excluded.server_starts
                           else sync.latest_starts(k.server_starts, excluded.server_starts[1]) end,
           definition_hash = excluded.definition_hash, updated_at = now()
     where v_whole or k.horizon <= excluded.horizon;
  end if;
  return array(select sync.advance_execution(p_execution));
end
$$;
comment on function sync.close_chain(uuid, public.sync_entities) is
  'Moves the entity''s checkpoint when its last chain is done and opens what comes next.';

create function sync.give_back_page(p_chain uuid, p_lease bigint, p_error jsonb, p_retry_seconds integer,
  p_page_size integer default null) returns jsonb
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_chain    public.sync_chains;
  v_dispatch uuid[];
begin
  -- p_retry_seconds null: trying again would not help, the chain fails. A smaller page is progress: it uses up no try. Its message
  -- has a number of its own, whether the one before was noted or not: the queue swallows a repeated one.
  update public.sync_chains
     set lease_until = null, failures = failures + (p_page_size is null)::integer, last_error = p_error,
         page_size = coalesce(p_page_size, page_size), slow_growth = slow_growth or p_page_size is not null,
         sends = sends + (p_page_size is not null)::integer,
         state = case when p_retry_seconds is null then 'failed' else 'open' end::public.sync_chain_state,
         closed_at = case when p_retry_seconds is null then now() end,
         due_at = case when p_retry_seconds is not null then clock_timestamp() + make_interval(secs => p_retry_seconds) end
   where id = p_chain and lease = p_lease and state = 'open'
  returning * into v_chain;
  if p_page_size is not null and v_chain.id is not null then
    return jsonb_build_array(jsonb_build_object('chain', v_chain.id, 'page', v_chain.page, 'execution', v_chain.execution_id, 'sends', v_chain.sends + 1));
  end if;
  if v_chain.id is null or p_retry_seconds is not null then
    return '[]';
  end if;
  if p_error ->> 'code' = 'BRAKE_APPLIED' then
    perform sync.pull_brake(v_chain.execution_id, v_chain.entity_id, p_error ->> 'kind', p_error ->> 'field', (p_error ->> 'records')::bigint,
      (p_error ->> 'landed')::bigint);
  end if;
  if p_error ->> 'code' = 'KEY_BROKEN' then
    -- The rows are asked before the next execution, which leaves the entity out while they say so.
    update public.sync_contract_checks set source_fingerprint = ''
     where source_id = (select source_id from public.sync_executions where id = v_chain.execution_id);
  end if;
  if p_error ->> 'code' = 'SELECTION_TOO_LARGE' then
    -- Asked for without them, or every later execution would fail on it.
    update public.sync_pending_keys set reason = 'requested' where entity_id = v_chain.entity_id and reason = 'dependants';
  end if;
  v_dispatch := array(select sync.advance_execution(v_chain.execution_id));
  return (select coalesce(jsonb_agg(jsonb_build_object('chain', c.id, 'page', c.page, 'execution', c.execution_id)), '[]')
            from public.sync_chains c where c.id = any (v_dispatch));
end
$$;
comment on function sync.give_back_page(uuid, bigint, jsonb, integer, integer) is
  'Gives a claimed page back after an error: to be tried again after some seconds, at once with fewer records (p_page_size), or its chain fails. Returns what can run now.';

revoke all on function sync.gone_landed(public.sync_entities, jsonb, uuid), sync.without_row(public.sync_entities, bigint[]),
  sync.asked_to_delete(public.sync_entities, bigint[]), sync.deleting(public.sync_chains, public.sync_entities, text, bigint[]),
  sync.deletes_to_review(public.sync_chains, public.sync_entities, bigint[]), sync.keep_gone(public.sync_entities, bigint[], bigint[]),
  sync.ask_for_missing(public.sync_chains, public.sync_entities, jsonb, bigint[]), sync.missing_keys(public.sync_chains, public.sync_entities, jsonb),
  sync.exceeds_brake(public.sync_executions, smallint, text, text, bigint), sync.counts_overwritten(public.sync_entities),
  sync.page_nulled(), sync.check_nulled(public.sync_chains, public.sync_entities),
  sync.page_rewritten(), sync.check_overwritten(public.sync_chains, public.sync_entities),
  sync.check_brake(public.sync_chains, public.sync_entities, text, text, bigint), sync.check_leaving(public.sync_chains, public.sync_entities, bigint[]),
  sync.claim_page(uuid, integer, integer, jsonb),
  sync.hold_chain(uuid, bigint), sync.hold_page(uuid, bigint, jsonb), sync.check_cached(integer), sync.page_rejections(public.sync_entities, uuid, text), sync.hold_queue(public.sync_entities, json, jsonb, jsonb),
  sync.keep_decided(public.sync_entities, uuid, text), sync.request_keys(public.sync_executions, public.sync_chains, jsonb),
  sync.move_watermark(uuid, public.sync_entities), sync.page_overwritten(), sync.leaving(public.sync_entities, bigint[]),
  sync.page_surplus(public.sync_chains, public.sync_entities, jsonb),
  sync.end_page(public.sync_chains, public.sync_entities, jsonb, jsonb, timestamptz),
  sync.close_page(public.sync_chains, public.sync_entities, jsonb, numeric),
  sync.commit_page(uuid, bigint, text, jsonb, jsonb), sync.latest_starts(text[], text), sync.close_chain(uuid, public.sync_entities),
  sync.give_back_page(uuid, bigint, jsonb, integer, integer) from public;
grant execute on function sync.gone_landed(public.sync_entities, jsonb, uuid), sync.without_row(public.sync_entities, bigint[]),
  sync.asked_to_delete(public.sync_entities, bigint[]), sync.deleting(public.sync_chains, public.sync_entities, text, bigint[]),
  sync.deletes_to_review(public.sync_chains, public.sync_entities, bigint[]), sync.keep_gone(public.sync_entities, bigint[], bigint[]),
  sync.ask_for_missing(public.sync_chains, public.sync_entities, jsonb, bigint[]), sync.missing_keys(public.sync_chains, public.sync_entities, jsonb),
  sync.exceeds_brake(public.sync_executions, smallint, text, text, bigint), sync.counts_overwritten(public.sync_entities),
  sync.page_nulled(), sync.check_nulled(public.sync_chains, public.sync_entities),
  sync.page_rewritten(), sync.check_overwritten(public.sync_chains, public.sync_entities),
  sync.check_brake(public.sync_chains, public.sync_entities, text, text, bigint), sync.check_leaving(public.sync_chains, public.sync_entities, bigint[]),
  sync.claim_page(uuid, integer, integer, jsonb),
  sync.hold_chain(uuid, bigint), sync.hold_page(uuid, bigint, jsonb), sync.check_cached(integer), sync.page_rejections(public.sync_entities, uuid, text), sync.hold_queue(public.sync_entities, json, jsonb, jsonb),
  sync.keep_decided(public.sync_entities, uuid, text), sync.request_keys(public.sync_executions, public.sync_chains, jsonb),
  sync.move_watermark(uuid, public.sync_entities), sync.page_overwritten(), sync.leaving(public.sync_entities, bigint[]),
  sync.page_surplus(public.sync_chains, public.sync_entities, jsonb),
  sync.end_page(public.sync_chains, public.sync_entities, jsonb, jsonb, timestamptz),
  sync.close_page(public.sync_chains, public.sync_entities, jsonb, numeric),
  sync.commit_page(uuid, bigint, text, jsonb, jsonb), sync.latest_starts(text[], text), sync.close_chain(uuid, public.sync_entities),
  sync.give_back_page(uuid, bigint, jsonb, integer, integer) to isthmus_worker;

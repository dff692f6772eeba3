-- Purpose: claim a page under a lease, or give it back.
-- Locks:   the chain's row; the execution's row when a chain closes.

create function sync.claim_page(p_chain uuid, p_page integer, p_lease_seconds integer, p_parties jsonb, p_delivery text, p_attempt integer) returns jsonb
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_chain   public.sync_chains;
  v_now     timestamptz := clock_timestamp();
  v_crashed boolean;
begin
  select * into v_chain from public.sync_chains where id = p_chain for update;
  if not found or v_chain.page < p_page then
    perform sync.note_page_ahead(p_chain, p_page);
  end if;
  if v_chain.state is distinct from 'open' then
    return jsonb_build_object('outcome', 'closed');
  end if;
  if v_chain.page <> p_page then
    return jsonb_build_object('outcome', 'stale');
  end if;
  -- The queue delivers a message again when the attempt before has ended without a good answer: whoever had the lease
  -- was killed. Should that one live after all, its commit finds another lease.
  if v_chain.lease_until > v_now and (v_chain.delivery = p_delivery and v_chain.attempt < p_attempt) is not true then
    return jsonb_build_object('outcome', 'leased');
  end if;
  if sync.cancel_chain(v_chain) then
    return jsonb_build_object('outcome', 'closed');
  end if;
  -- Due at once when it goes on.
  if sync.is_held(v_chain) then
    update public.sync_chains set due_at = v_now, lease_until = null, unclaimed = 0, refusals = 0, refusal = null, waits_since = null where id = p_chain;
    return jsonb_build_object('outcome', 'paused');
  end if;
  perform sync.check_parties(x, p_parties) from public.sync_executions x where x.id = v_chain.execution_id;
  -- The sweep sends it again when the source answers. An adoption does not ask the source.
  if v_chain.capture <> 'adopt' and (select sync.refuses(x.source_id) from public.sync_executions x where x.id = v_chain.execution_id) is not null then
    update public.sync_chains set unclaimed = 0, refusals = 0, refusal = null, waits_since = null where id = p_chain;
    return jsonb_build_object('outcome', 'source_refuses');
  end if;
  -- A lease that was never given back: the function was killed, perhaps for its memory. An eighth is tried, for each
  -- try costs a delivery or a lease. A page of one record that kills its worker again is told to the function, which
  -- puts the record into the queue.
  v_crashed := v_chain.lease_until is not null;
  update public.sync_chains
     set lease = lease + 1,
         delivery = p_delivery,
         attempt = p_attempt,
         lease_until = v_now + make_interval(secs => p_lease_seconds),
         due_at = v_now + make_interval(secs => p_lease_seconds),
         page_size = case when v_crashed then greatest(1, page_size / 8) else page_size end,
         slow_growth = slow_growth or v_crashed,
         crashes = crashes + (v_crashed and page_size = 1)::integer,
         failures = failures + (v_crashed and page_size = 1)::integer,
         unclaimed = 0, refusals = 0, refusal = null, waits_since = null
   where id = p_chain
  returning * into v_chain;
  return jsonb_build_object(
    'outcome', 'claimed',
    'chain', to_jsonb(v_chain) - 'counts' || jsonb_build_object('changed_from', v_chain.changed_from::text, 'seen_before', v_chain.seen_before::text,
               'range_from', v_chain.range_from::text, 'range_to', v_chain.range_to::text, 'cursor', v_chain."cursor"::text,
               'table_file', v_chain.table_file::text, 'up_to', v_chain.up_to::text),
    'execution', (select jsonb_build_object('id', e.id, 'horizon', e.horizon::text, 'snapshot_xmax', e.snapshot_xmax::text,
                           'system_identifier', e.system_identifier, 'timeline', e.timeline, 'database_oid', e.database_oid::text,
                           -- Beside one that reads a few keys, another may have read a newer state. A whole one has
                           -- looked at its checkpoints.
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
                                                -- A look that has found nothing to read is no reason to compare a
                                                -- large table.
                                                and (c.capture in ('full', 'digest') or exists (
                                                       select from public.sync_chains r where r.execution_id = e.id and r.entity_id = t.id and (r.counts ->> 'read')::numeric > 0)))
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
comment on function sync.claim_page(uuid, integer, integer, jsonb, text, integer) is
  'Claims the next page of a chain. outcome: claimed, or closed, stale, leased, paused, source_refuses: nothing to '
  'do for this message.';

create function sync.unreferenced_parents(p_entity public.sync_entities) returns table (slot text, parent text)
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select f.slot, e.entity_type
    from jsonb_array_elements(p_entity.columns) d (col)
    join sync.field_slots(p_entity) f on f.name = d.col ->> 'name'
    join public.sync_entities e on e.source_id = p_entity.source_id and e.entity_type = d.col ->> 'parent'
   where not exists (
           select from pg_catalog.pg_constraint c join pg_catalog.pg_attribute a on a.attrelid = c.conrelid and c.conkey = array[a.attnum]
            where c.contype = 'f' and c.conrelid = to_regclass(format('public.%I', p_entity.target_table)) and a.attname = f.name
              and c.confrelid = to_regclass(format('public.%I', e.target_table)))
$$;
comment on function sync.unreferenced_parents(public.sync_entities) is
  'The columns that hold parents'' ids and have no foreign key to the parent''s table, as they are called in '
  'pg_temp.page_rows.';

create function sync.check_cached(p_entity public.sync_entities, p_hits integer) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_field   record;
  v_refused boolean;
begin
  if coalesce(p_hits, 0) = 0 then
    return;
  end if;
  v_refused := exists (select from pg_temp.page_rejects j join pg_temp.page_rows p on p.n = j.n where j.sqlstate = '23503' and not p._leaves);
  -- Where no foreign key asks, the mappings are asked: after the load, so that the page's own records count.
  for v_field in select * from sync.unreferenced_parents(p_entity) where not v_refused loop
    execute format($q$
      select exists (
        -- Of records that do not land, beside a relative of theirs, an id is a page's own that no mapping has.
        select from (select distinct p.%1$I::uuid as id from pg_temp.page_rows p
                      where not p._leaves and p.%1$I is not null
                        and (select r.state from pg_temp.page_relatives r where r.n = p.n and r.state <> 'landed' limit 1) is null offset 0) v
         -- One index probe per parent, whatever the planner thinks.
         where (select m.legacy_id from public.uuid_mappings_enhanced m
                 where m.entity_type = %2$L and m.entity_uuid = v.id and m.sync_status = 'active' limit 1) is null)
    $q$, v_field.slot, v_field.parent) into v_refused;
    exit when v_refused;
  end loop;
  if v_refused then
    raise exception 'the target refused an id of which a cache may be the origin'
      using errcode = 'IS012', hint = 'Nothing was written; the page resolves its ids from the table.';
  end if;
end
$$;
comment on function sync.check_cached(public.sync_entities, integer) is
  'Raises IS012 when ids of parents came from the cache and a record of the page refers to nothing, by a foreign key '
  'or, where there is none, by the mappings: all is rolled back and resolved from the table.';

create function sync.give_back_page(p_chain uuid, p_lease bigint, p_error jsonb, p_retry_seconds integer,
  p_page_size integer default null) returns jsonb
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_chain    public.sync_chains;
  v_dispatch uuid[];
begin
  -- p_retry_seconds null: trying again would not help, the chain fails. A smaller page is progress: it uses up no
  -- try. Its message has a number of its own, whether the one before was noted or not: the queue swallows a repeated
  -- one.
  update public.sync_chains
     set lease_until = null, failures = failures + (p_page_size is null)::integer, last_error = p_error,
         page_size = coalesce(p_page_size, page_size), slow_growth = slow_growth or p_page_size is not null,
         sends = sends + (p_page_size is not null)::integer,
         state = case when p_retry_seconds is null then 'failed' else 'open' end::public.sync_chain_state,
         closed_at = case when p_retry_seconds is null then now() end,
         due_at = case when p_retry_seconds is not null then clock_timestamp() + make_interval(secs => p_retry_seconds) end
   where id = p_chain and lease = p_lease and state = 'open'
  returning * into v_chain;
  if p_page_size is null and v_chain.id is not null and p_error ->> 'code' = 'INTERNAL' then
    perform sync.tell_internal(v_chain, p_error);
  end if;
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
    update public.sync_pending_keys set reason = 'requested' where execution_id is null and entity_id = v_chain.entity_id and reason = 'dependants';
  end if;
  v_dispatch := array(select sync.advance_execution(v_chain.execution_id));
  return (select coalesce(jsonb_agg(jsonb_build_object('chain', c.id, 'page', c.page, 'execution', c.execution_id)), '[]')
            from public.sync_chains c where c.id = any (v_dispatch));
end
$$;
comment on function sync.give_back_page(uuid, bigint, jsonb, integer, integer) is
  'Gives a claimed page back after an error: to be tried again after some seconds, at once with fewer records '
  '(p_page_size), or its chain fails. Returns what can run now.';

revoke all on function sync.claim_page(uuid, integer, integer, jsonb, text, integer), sync.unreferenced_parents(public.sync_entities),
  sync.check_cached(public.sync_entities, integer), sync.give_back_page(uuid, bigint, jsonb, integer, integer) from public;
grant execute on function sync.claim_page(uuid, integer, integer, jsonb, text, integer), sync.unreferenced_parents(public.sync_entities),
  sync.check_cached(public.sync_entities, integer), sync.give_back_page(uuid, bigint, jsonb, integer, integer) to isthmus_worker;

-- Purpose: take over the ids of a target that an earlier migration filled, page by page.
-- Locks:   the chain's row, the entity's row (no key update); the execution's row when a chain closes. Application
--          rows are read, never locked or written.

create function sync.find_rows(p_entity public.sync_entities, p_after bigint, p_limit integer) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  -- With ties: the rows of one legacy id are judged together, so no page ends among them.
  execute format($q$
    create temp table page_found on commit drop as
    select r.legacy_id, r.id, o.legacy_id as claimed_by,
           case when m.entity_uuid = r.id then 'mapped'
                when m.entity_uuid is not null then case when o.legacy_id is null then 'surplus' else 'claimed' end
                when o.legacy_id is null and count(*) over (partition by r.legacy_id) = 1 then 'adopted'
                else 'undecided' end as verdict
      from (select t.%1$I::bigint as legacy_id, t.id from public.%2$I t
             where t.%1$I >= coalesce(%3$L::bigint, '-9223372036854775808') and t.%1$I is distinct from %3$L::bigint order by t.%1$I fetch first %4$s rows with ties) r
      -- One index probe each, whatever the planner thinks.
      left join lateral (select x.entity_uuid from public.uuid_mappings_enhanced x
                          where x.source_id = %5$s and x.entity_type = %6$L and x.legacy_id = r.legacy_id offset 0) m on true
      left join lateral (select x.legacy_id from public.uuid_mappings_enhanced x
                          where x.entity_type = %6$L and x.entity_uuid = r.id and (x.source_id, x.legacy_id) <> (%5$s, r.legacy_id) offset 0) o on true
  $q$, p_entity.legacy_key, p_entity.target_table, p_after, p_limit, p_entity.source_id,
    p_entity.entity_type);
end
$$;
comment on function sync.find_rows(public.sync_entities, bigint, integer) is
  'Reads the next target rows by legacy id into pg_temp.page_found, each with its verdict: adopted, mapped '
  '(already), surplus or claimed (the id or the row is taken), undecided.';

create function sync.keep_verdicts(p_entity public.sync_entities, p_chain public.sync_chains, p_last bigint) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  -- What an earlier adoption found among these ids is found anew.
  delete from public.sync_adoption_rows
   where entity_id = p_entity.id and legacy_id >= coalesce(p_chain."cursor", '-9223372036854775808') and legacy_id is distinct from p_chain."cursor" and legacy_id <= p_last;
  insert into public.sync_adoption_rows (entity_id, legacy_id, id, undecided, claimed_by)
  select p_entity.id, f.legacy_id, f.id, f.verdict = 'undecided', f.claimed_by
    from pg_temp.page_found f where f.verdict in ('undecided', 'surplus') order by f.legacy_id, f.id;

  insert into public.uuid_mappings_enhanced (source_id, entity_type, legacy_id, entity_uuid, source_table, target_table)
  select p_entity.source_id, p_entity.entity_type, legacy_id, id, p_entity.source_table, p_entity.target_table
    from pg_temp.page_found where verdict = 'adopted' order by legacy_id;
  if found then
    -- A checkpoint says that every record has been read, which is not true of ids adopted since: the next pass is a
    -- full one.
    update public.sync_checkpoints set definition_hash = 'none: ids were adopted since', updated_at = now()
     where source_id = p_entity.source_id and entity_type = p_entity.entity_type;
  end if;

  perform sync.collect_issues(p_entity, coalesce((
    select jsonb_agg(jsonb_build_object('k', legacy_id, 'state', 'open', 'rule', 'adoption.ambiguous', 'type', 'uuid_mapping_conflict',
                                        'remedy', 'Several target rows have this legacy id.') order by legacy_id)
      from (select distinct legacy_id from pg_temp.page_found where verdict = 'undecided') u), '[]'));
  perform sync.queue_records(p_entity, p_chain.execution_id, p_chain.page_size);
  -- Corrected since: one row is left and adopted now, or none, and then the record is inserted like any other.
  with settled as (
    update public.sync_conflicts c
       set state = 'resolved', resolved_at = now(), resolved_by = 'adoption', resolved_in = p_chain.execution_id
     where c.entity_id = p_entity.id and c.state = 'open' and c.rule = 'adoption.ambiguous'
       and c.source_record_id >= coalesce(p_chain."cursor", '-9223372036854775808')
       and c.source_record_id is distinct from p_chain."cursor" and c.source_record_id <= p_last
       and not exists (select from pg_temp.page_found f where f.legacy_id = c.source_record_id and f.verdict = 'undecided')
    returning c.source_record_id
  )
  insert into public.sync_pending_keys (entity_id, legacy_id, reason)
  select p_entity.id, source_record_id, 'adopted' from settled order by source_record_id
  on conflict (entity_id, execution_id, legacy_id) do update set generation = default, requested_at = now(), gone = false;
end
$$;
comment on function sync.keep_verdicts(public.sync_entities, public.sync_chains, bigint) is
  'Writes what find_rows found: mappings, ambiguous and surplus rows, and their queue entries.';

create function sync.adoption_report(p_execution uuid, p_entity public.sync_entities) returns jsonb
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_keyless bigint;
begin
  execute format('select count(*) from public.%I t where t.%I is null', p_entity.target_table, p_entity.legacy_key) into v_keyless;
  return (select jsonb_build_object('table', p_entity.target_table, 'adopted', coalesce(c.unchanged, 0),
                   'ambiguous', coalesce(c.in_conflict, 0), 'without_legacy_id', v_keyless)
            from jsonb_to_record(sync.counted(p_execution, p_entity.id)) as c (unchanged bigint, in_conflict bigint))
      || (select jsonb_build_object('ambiguous_rows', count(*) filter (where r.undecided), 'surplus_rows', count(*) filter (where not r.undecided))
            from public.sync_adoption_rows r where r.entity_id = p_entity.id);
end
$$;
comment on function sync.adoption_report(uuid, public.sync_entities) is
  'Legacy ids adopted and ambiguous, rows behind them, and rows without a legacy id, which belong to the application.';

create function sync.close_adoption(p_execution uuid, p_entity public.sync_entities) returns uuid[]
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_report jsonb;
begin
  perform from public.sync_executions where id = p_execution for no key update;
  if not exists (select from public.sync_chains
                  where execution_id = p_execution and entity_id = p_entity.id and capture = 'adopt' and state <> 'done') then
    v_report := sync.adoption_report(p_execution, p_entity);
    insert into public.sync_reports (execution_id, kind, body) values (p_execution, 'adoption:' || p_entity.entity_type, v_report);
    if (v_report ->> 'surplus_rows')::bigint > 0 then
      perform sync.raise_alert('surplus', 'warning', null, p_execution, p_entity.id,
        'Target rows whose legacy id belongs to another row.', jsonb_build_object('duplicates', v_report -> 'surplus_rows'));
    else
      perform sync.close_alerts(array(select id from public.sync_alerts where kind = 'surplus' and entity_id = p_entity.id and closed_at is null));
    end if;
    update public.sync_entities set adoption_epoch = 1, adopted_at = now() where id = p_entity.id and adoption_epoch = 0;
  end if;
  return array(select sync.advance_execution(p_execution));
end
$$;
comment on function sync.close_adoption(uuid, public.sync_entities) is
  'When the entity''s last adopt chain is done: its report, and from then on it may mint.';

-- One sort of an unindexed legacy key stays in memory.
create function sync.adopt_page(p_chain uuid, p_lease bigint, p_lease_seconds integer) returns jsonb
language plpgsql security invoker set search_path = pg_catalog, pg_temp set work_mem = '64MB' as $$
declare
  v_chain    public.sync_chains := sync.hold_chain(p_chain, p_lease);
  v_entity   public.sync_entities;
  v_page     record;
  v_done     boolean;
  v_begun    timestamptz := clock_timestamp();
  v_wall_ms  numeric;
  v_dispatch uuid[] := array[p_chain];
begin
  select * into strict v_entity from public.sync_entities where id = v_chain.entity_id for no key update;

  perform sync.find_rows(v_entity, v_chain."cursor", v_chain.page_size);
  select count(*) as rows, max(legacy_id) as last, count(distinct legacy_id) as ids,
         count(distinct legacy_id) filter (where verdict = 'undecided') as undecided,
         count(*) filter (where verdict = 'surplus') as surplus
    into v_page from pg_temp.page_found;
  v_done := v_page.rows < v_chain.page_size;
  perform sync.keep_verdicts(v_entity, v_chain, case when v_done then 9223372036854775807 else v_page.last end);

  v_wall_ms := extract(epoch from clock_timestamp() - v_begun) * 1000;
  insert into public.sync_page_log
    (execution_id, chain_id, entity_id, page, read, inserted, updated, unchanged, waiting, in_conflict, surplus, wall_ms)
  values (v_chain.execution_id, v_chain.id, v_entity.id, v_chain.page, v_page.ids, 0, 0, v_page.ids - v_page.undecided, 0,
          v_page.undecided, v_page.surplus, v_wall_ms);
  update public.sync_chains
     set page = page + 1, "cursor" = coalesce(v_page.last, "cursor"),
         -- A page must stay far within its lease, whatever the database took for it.
         page_size = case when v_wall_ms > p_lease_seconds * 500 then greatest(1, page_size / 2) else page_size end,
         lease_until = null, sends = 0, failures = 0, crashes = 0, last_error = null,
         state = case when v_done then 'done' else 'open' end::public.sync_chain_state,
         closed_at = case when v_done then now() end,
         due_at = case when not v_done then clock_timestamp() + make_interval(secs => p_lease_seconds) end
   where id = p_chain;
  if v_done then
    v_dispatch := sync.close_adoption(v_chain.execution_id, v_entity);
  end if;
  return jsonb_build_object(
    'read', v_page.ids, 'adopted', v_page.ids - v_page.undecided, 'ambiguous', v_page.undecided,
    'dispatch', (select coalesce(jsonb_agg(jsonb_build_object('chain', c.id, 'page', c.page, 'execution', c.execution_id)), '[]')
                   from public.sync_chains c where c.id = any (v_dispatch)));
end
$$;
comment on function sync.adopt_page(uuid, bigint, integer) is
  'Takes over the ids of one page of target rows, in the order of their legacy ids: mappings, queue, counters, '
  'cursor and the next page.';

revoke all on function sync.adopt_page(uuid, bigint, integer), sync.find_rows(public.sync_entities, bigint, integer),
  sync.keep_verdicts(public.sync_entities, public.sync_chains, bigint), sync.close_adoption(uuid, public.sync_entities),
  sync.adoption_report(uuid, public.sync_entities) from public;
grant execute on function sync.adopt_page(uuid, bigint, integer), sync.find_rows(public.sync_entities, bigint, integer),
  sync.keep_verdicts(public.sync_entities, public.sync_chains, bigint), sync.close_adoption(uuid, public.sync_entities),
  sync.adoption_report(uuid, public.sync_entities) to isthmus_worker;

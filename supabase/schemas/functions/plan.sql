-- Purpose: the pages of a dry run: what a page would do goes to sync_planned_records, what it would ask for to
--          sync_pending_keys, for this execution alone.
-- Locks:   the chain's row; the execution's row when a chain closes.

create function sync.is_known(p_execution uuid, p_entity_id smallint, p_legacy_id bigint) returns boolean
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select exists (select from public.sync_planned_records r
                  where r.execution_id = p_execution and r.entity_id = p_entity_id and r.legacy_id = p_legacy_id)
      or exists (select from public.sync_conflicts c
                  where c.entity_id = p_entity_id and c.source_record_id = p_legacy_id and c.state in ('waiting', 'open'))
$$;
comment on function sync.is_known(uuid, smallint, bigint) is
  'Whether a record is in the queue or has been planned in this execution.';

create function sync.newly_stopped(p_execution uuid, p_entity_id smallint) returns bigint[]
language plpgsql stable security invoker set search_path = pg_catalog, pg_temp as $$
begin
  return array(
    select i.k from pg_temp.page_issues i
      left join lateral (select r.* from public.sync_planned_records r
                          where r.execution_id = p_execution and r.entity_id = p_entity_id and r.legacy_id = i.k limit 1) r on true
     where case when r.legacy_id is not null then (r.rule, r.field) is distinct from (i.rule, i.field) or r.outcome not in ('in_conflict', 'waived')
                else not exists (
                  select from public.sync_conflicts c
                   where c.entity_id = p_entity_id and c.source_record_id = i.k and (c.state = i.state or c.standing) and c.rule = i.rule
                     and c.field is not distinct from i.field) end);
end
$$;
comment on function sync.newly_stopped(uuid, smallint) is
  'Of the records that something stops on a page of a dry run, those that neither this execution nor the queue knows '
  'as stopped by it.';

create function sync.note_planned(p_execution uuid, p_entity public.sync_entities, p_outside bigint[], p_gone bigint[], p_page jsonb)
returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  -- What a digest of this plan would otherwise find once more: a run would remember what it has read.
  v_compared boolean := exists (select from public.sync_chains c where c.execution_id = p_execution and c.entity_id = p_entity.id and c.capture = 'digest');
begin
  execute format($q$
    create temp table page_outcomes on commit drop as
    select q.legacy_id, q.id,
           case q.action when 'insert' then 'inserted' when 'update' then 'updated' when 'unchanged' then 'unchanged' when 'review' then 'in_conflict' else 'deleted' end as outcome,
           case when i.k is not null then i.rule when w.legacy_id is not null then 'source_wins' end as rule,
           case when i.k is not null then i.field else sync.listed(w.fields) end as field,
           case when i.k is not null then i.remedy
                when w.legacy_id is not null then 'Edits in the target are overwritten; what they held is kept.' end as remedy,
           null::smallint as parent_entity_id, null::bigint as parent_legacy_id, null::bigint as clashes_with,
           q.action <> 'delete' as lands,
           case when q.action <> 'delete' then (select to_jsonb(x.*) from (select t.id, %2$s) x) end as row_after,
           case when q.action <> 'delete' then to_jsonb(s) end as state_after,
           case when q.action <> 'delete' then (select %1$s from pg_temp.page_shadow x where x.id = q.id) end as unique_keys,
           q.digest as source_digest
      from pg_temp.page_plan q
      left join pg_temp.page_shadow t on t.id = q.id
      left join pg_temp.sync_row_states s on s.legacy_id = q.legacy_id
      left join sync.page_overwritten() w on w.legacy_id = q.legacy_id
      left join pg_temp.page_issues i on q.action = 'review' and i.k = q.legacy_id
     -- What a person is to decide of a record keeps nothing from its other fields.
     where q.action in ('insert', 'update', 'delete', 'soft') or q.action = 'review' and q.written <> '{}'
        or %3$L and q.action = 'unchanged' and (q.new is distinct from q.seen or q.restated or q.legacy_id = any (%4$L::bigint[]))
  $q$, coalesce(sync.key_hashes(p_entity), 'null::bigint[]'), sync.owned_columns(p_entity), v_compared,
    array(select u::bigint from jsonb_array_elements_text(p_page -> 'unmapped') u));
  insert into pg_temp.page_outcomes (legacy_id, id, outcome, source_digest)
  select q.legacy_id, q.id, 'unchanged', q.digest from pg_temp.page_plan q
   where q.action = 'unchanged' and not exists (select from pg_temp.page_outcomes o where o.legacy_id = q.legacy_id) and (sync.is_known(p_execution, p_entity.id, q.legacy_id)
      or exists (select from jsonb_to_recordset(p_page -> 'warnings') as x (k bigint) where x.k = q.legacy_id));
  insert into pg_temp.page_outcomes (legacy_id, id, outcome, rule, field, remedy, parent_entity_id, parent_legacy_id, clashes_with, source_digest)
  select i.k, p._uuid, case when i.settled then 'waived' when i.state = 'waiting' then 'waiting' else 'in_conflict' end, i.rule, i.field,
         case when i.state = 'open' then i.remedy else 'Waits for its parent, which is in the queue or not among these entities.' end,
         i.parent_entity_id, i."parentId", case when i.retry = 'clash' then (i.data #>> '{clashes_with,legacy_id}')::bigint end, i.digest
    from pg_temp.page_issues i left join pg_temp.page_rows p on p._key = i.k
   where not exists (select from pg_temp.page_outcomes o where o.legacy_id = i.k and o.outcome = 'in_conflict');
  insert into pg_temp.page_outcomes (legacy_id, outcome, rule, remedy)
  select k, 'waived', p_entity.predicate ->> 'rule', p_entity.predicate ->> 'reason' from unnest(p_outside) k
   where not exists (select from pg_temp.page_outcomes o where o.legacy_id = k);
  insert into pg_temp.page_outcomes (legacy_id, outcome, remedy)
  select k::bigint, 'absent', 'No record of the source any more: its entry in the queue would be closed.'
    from jsonb_array_elements_text(p_page -> 'gone') k
   where sync.is_known(p_execution, p_entity.id, k::bigint) and k::bigint <> all (p_gone)
     and not exists (select from pg_temp.page_outcomes o where o.legacy_id = k::bigint);

  insert into public.sync_planned_records as r
    (execution_id, entity_id, legacy_id, id, outcome, rule, field, remedy, warnings, parent_entity_id, parent_legacy_id, clashes_with, met,
     lands, row_after, state_after, unique_keys, source_digest)
  select p_execution, p_entity.id, o.legacy_id, o.id, o.outcome, o.rule, o.field, o.remedy, w.rules, o.parent_entity_id, o.parent_legacy_id, o.clashes_with,
         array_remove(array[o.clashes_with], null),
         o.lands, o.row_after, o.state_after, o.unique_keys, o.source_digest
    from pg_temp.page_outcomes o
    left join (select k, array_agg(rule order by rule) as rules from jsonb_to_recordset(p_page -> 'warnings') as x (k bigint, rule text) group by k) w
      on w.k = o.legacy_id and o.outcome in ('inserted', 'updated', 'unchanged')
   order by o.legacy_id
  on conflict (execution_id, entity_id, legacy_id) do update
     -- A record that is read twice within an execution counts by what it comes to in the end.
     set (outcome, rule, field, remedy) = (select e.outcome, e.rule, e.field, e.remedy from (values
           (case when excluded.outcome = 'unchanged' and r.outcome in ('inserted', 'updated') then r.outcome
                 when excluded.outcome = 'updated' and r.outcome = 'inserted' then r.outcome
                 else excluded.outcome end,
            coalesce(excluded.rule, case when r.rule = 'source_wins' and excluded.lands is not false then r.rule end),
            coalesce(excluded.field, case when r.rule = 'source_wins' and excluded.lands is not false then r.field end),
            -- What was found out about a circle stays while the record clashes with the same one.
            case when r.outcome = 'in_conflict' and r.clashes_with = excluded.clashes_with then r.remedy
                 else coalesce(excluded.remedy, case when r.rule = 'source_wins' and excluded.lands is not false then r.remedy end) end))
           e (outcome, rule, field, remedy)),
         warnings = excluded.warnings, id = coalesce(excluded.id, r.id),
         parent_entity_id = excluded.parent_entity_id, parent_legacy_id = excluded.parent_legacy_id,
         clashes_with = excluded.clashes_with,
         met = case when excluded.met <@ r.met then r.met else r.met || excluded.met end, lands = coalesce(excluded.lands, r.lands),
         row_after = case when excluded.lands is null then r.row_after else excluded.row_after end,
         state_after = case when excluded.lands is null then r.state_after else excluded.state_after end,
         unique_keys = case when excluded.lands is null then r.unique_keys else excluded.unique_keys end,
         source_digest = excluded.source_digest;
end
$$;
comment on function sync.note_planned(uuid, public.sync_entities, bigint[], bigint[], jsonb) is
  'Notes what would become of the records of a page. Unchanged and absent ones only where something else is known of '
  'them: the rest is counted in sync_page_log.';

create function sync.plan_page(p_chain uuid, p_lease bigint, p_records text, p_issues jsonb, p_page jsonb) returns jsonb
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_chain   public.sync_chains;
  v_entity  public.sync_entities;
  v_outside bigint[] := array(select jsonb_array_elements_text(p_page -> 'outside')::bigint);
  v_gone    bigint[];
  v_surplus jsonb;
  v_begun   timestamptz := clock_timestamp();
  v_request text;
  v_new     bigint[];
begin
  v_chain := sync.hold_chain(p_chain, p_lease);
  perform sync.compare_records(v_chain.entity_id, p_page -> 'versions');
  select * into strict v_entity from public.sync_entities where id = v_chain.entity_id;
  v_entity := sync.with_types(v_entity);
  select sync.strategy_of_request(request) into v_request from public.sync_executions where id = v_chain.execution_id;
  perform sync.plan_again(v_chain.execution_id, v_entity, array(select g::bigint from jsonb_array_elements_text(p_page -> 'gone') g),
    array(select m::uuid from jsonb_array_elements_text(p_page -> 'gone_ids') m));
  v_gone := sync.gone_landed(v_entity, p_page, v_chain.execution_id);
  perform sync.load_records(v_entity, p_records::json, sync.leaving(v_entity, v_outside) || sync.deleting(v_chain, v_entity, 'hard', v_gone),
    sync.deleting(v_chain, v_entity, 'soft', v_gone), v_chain.execution_id, v_request);
  perform sync.collect_issues(v_entity, p_issues || sync.page_rejections(v_entity, v_chain.execution_id, v_request) || sync.deletes_to_review(v_chain, v_entity, v_gone));
  v_surplus := sync.page_surplus(v_chain, v_entity, p_page);
  v_new := sync.newly_stopped(v_chain.execution_id, v_entity.id);
  insert into public.sync_pending_keys (execution_id, entity_id, legacy_id, reason)
  select v_chain.execution_id, v_entity.id, k, 'clash'
    from sync.clash_keys(array(
      select i.k from pg_temp.page_issues i
       where i.k = any (v_new)
         and not exists (
           select from public.sync_planned_records r
            where r.execution_id = v_chain.execution_id and r.entity_id = v_entity.id and r.legacy_id = i.k
              and (i.data #>> '{clashes_with,legacy_id}')::bigint = any (r.met)))) k
   order by k
  on conflict (entity_id, execution_id, legacy_id) do update set generation = default, requested_at = now(), gone = false;
  perform sync.note_planned(v_chain.execution_id, v_entity, v_outside, v_gone, p_page);
  perform sync.ask_for_circles(v_entity, v_chain.execution_id, v_new, 10 * v_chain.page_size);
  perform sync.plan_released(x, v_entity.id, array(select legacy_id from pg_temp.page_plan where action = 'insert'))
    from public.sync_executions x where x.id = v_chain.execution_id;
  delete from public.sync_pending_keys k
   using jsonb_to_recordset(p_page -> 'pending') as a (k bigint, g bigint)
   where k.execution_id = v_chain.execution_id and k.entity_id = v_entity.id and k.legacy_id = a.k and k.generation = a.g;
  perform sync.ask_for_missing(v_chain, v_entity, p_page, v_gone, v_chain.execution_id);
  perform sync.request_keys(x, v_chain, p_page) from public.sync_executions x where x.id = v_chain.execution_id;
  return sync.end_page(v_chain, v_entity, p_page, v_surplus, v_begun);
end
$$;
comment on function sync.plan_page(uuid, bigint, text, jsonb, jsonb) is
  'commit_page of a dry run: the same statements over shadows; what came of it is noted, and nothing of the '
  'application or of the sync''s memory is written.';

create function sync.plan_join_page(p_chain uuid, p_lease bigint, p_keys bigint[], p_page jsonb) returns jsonb
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_chain  public.sync_chains := sync.hold_chain(p_chain, p_lease);
  v_entity public.sync_entities;
  v_begun  timestamptz := clock_timestamp();
begin
  select * into strict v_entity from public.sync_entities where id = v_chain.entity_id;
  v_entity := sync.with_types(v_entity);
  if p_page -> 'range' <> 'null' then
    perform from public.sync_executions where id = v_chain.execution_id for no key update;
    delete from public.sync_pending_keys
     where execution_id = v_chain.execution_id and entity_id = v_entity.id and reason = 'fan_out'
       and legacy_id between (p_page -> 'range' ->> 'lowest')::bigint and (p_page -> 'range' ->> 'highest')::bigint;
    perform sync.add_range(v_chain, p_page -> 'range');
  elsif cardinality(p_keys) > 0 then
    perform from public.sync_executions where id = v_chain.execution_id for no key update;
    insert into public.sync_pending_keys (execution_id, entity_id, legacy_id, reason)
    select v_chain.execution_id, v_entity.id, k, 'fan_out' from sync.keys_to_list(v_chain, p_keys) k
    on conflict (entity_id, execution_id, legacy_id) do update set generation = default, requested_at = now(), gone = false;
  end if;
  return sync.end_join_page(v_chain, v_entity, p_page, v_begun);
end
$$;
comment on function sync.plan_join_page(uuid, bigint, bigint[], jsonb) is
  'commit_join_page of a dry run: the records to read again are asked for in the plan alone, and nothing is noted of '
  'joined rows.';

revoke all on function sync.plan_page(uuid, bigint, text, jsonb, jsonb), sync.plan_join_page(uuid, bigint, bigint[], jsonb),
  sync.note_planned(uuid, public.sync_entities, bigint[], bigint[], jsonb), sync.newly_stopped(uuid, smallint),
  sync.is_known(uuid, smallint, bigint) from public;
grant execute on function sync.plan_page(uuid, bigint, text, jsonb, jsonb), sync.plan_join_page(uuid, bigint, bigint[], jsonb),
  sync.note_planned(uuid, public.sync_entities, bigint[], bigint[], jsonb), sync.newly_stopped(uuid, smallint),
  sync.is_known(uuid, smallint, bigint) to isthmus_worker;

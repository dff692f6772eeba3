-- Purpose: the pages of a dry run: what a page would do goes to sync_planned_records, what it would release to sync_planned_keys,
--          and in the end a report to sync_reports.
-- Locks:   the chain's row; the execution's row when a chain closes.
-- Reverse: drop the functions.

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
  select sync.strategy_of_request(request) into v_request from public.sync_executions where id = v_chain.execution_id;
  v_gone := sync.gone_landed(v_entity, p_page, v_chain.execution_id);
  perform sync.load_records(v_entity, p_records::json, sync.leaving(v_entity, v_outside) || sync.deleting(v_chain, v_entity, 'hard', v_gone),
    sync.deleting(v_chain, v_entity, 'soft', v_gone), v_chain.execution_id, v_request);
  perform sync.collect_issues(v_entity, p_issues || sync.page_rejections(v_entity, v_chain.execution_id, v_request) || sync.deletes_to_review(v_chain, v_entity, v_gone));
  v_surplus := sync.page_surplus(v_chain, v_entity, p_page);
  v_new := sync.newly_stopped(v_chain.execution_id, v_entity.id);
  insert into public.sync_planned_keys (execution_id, entity_id, legacy_id, reason)
  select v_chain.execution_id, v_entity.id, k, 'clash'
    from sync.clash_keys(array(
      select i.k from pg_temp.page_issues i
       where i.k = any (v_new)
         and not exists (
           select from public.sync_planned_records r
            where r.execution_id = v_chain.execution_id and r.entity_id = v_entity.id and r.legacy_id = i.k
              and (i.data #>> '{clashes_with,legacy_id}')::bigint = any (r.met)))) k
   order by k
  on conflict (execution_id, entity_id, legacy_id) do update set generation = default;
  perform sync.note_planned(v_chain.execution_id, v_entity, v_outside, v_gone, p_page);
  perform sync.ask_for_circles(v_entity, v_chain.execution_id, v_new, 10 * v_chain.page_size);
  perform sync.plan_released(x, v_entity.id, array(select legacy_id from pg_temp.page_plan where action = 'insert'))
    from public.sync_executions x where x.id = v_chain.execution_id;
  delete from public.sync_planned_keys k
   using jsonb_to_recordset(p_page -> 'pending') as a (k bigint, g bigint)
   where k.execution_id = v_chain.execution_id and k.entity_id = v_entity.id and k.legacy_id = a.k and k.generation = a.g;
  if not v_chain.deletes and v_entity.on_delete ->> 'policy' <> 'ignore' then
    insert into public.sync_planned_keys (execution_id, entity_id, legacy_id, reason, gone)
    select v_chain.execution_id, v_entity.id, k, 'gone', true from unnest(v_gone) k order by k
    on conflict (execution_id, entity_id, legacy_id) do update set generation = default, gone = true;
  end if;
  insert into public.sync_planned_keys (execution_id, entity_id, legacy_id, reason)
  select v_chain.execution_id, v_entity.id, k, 'missing' from sync.missing_keys(v_chain, v_entity, p_page) k order by k
  on conflict (execution_id, entity_id, legacy_id) do nothing;
  perform sync.request_keys(x, v_chain, p_page) from public.sync_executions x where x.id = v_chain.execution_id;
  return sync.end_page(v_chain, v_entity, p_page, v_surplus, v_begun);
end
$$;
comment on function sync.plan_page(uuid, bigint, text, jsonb, jsonb) is
  'commit_page of a dry run: the same statements over shadows; what came of it is noted, and nothing of the application or of the sync''s memory is written.';

create function sync.plan_join_page(p_chain uuid, p_lease bigint, p_keys bigint[], p_page jsonb) returns jsonb
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_chain  public.sync_chains := sync.hold_chain(p_chain, p_lease);
  v_entity public.sync_entities;
  v_begun  timestamptz := clock_timestamp();
begin
  select * into strict v_entity from public.sync_entities where id = v_chain.entity_id;
  if p_page -> 'range' <> 'null' then
    perform from public.sync_executions where id = v_chain.execution_id for no key update;
    delete from public.sync_planned_keys
     where execution_id = v_chain.execution_id and entity_id = v_entity.id and reason = 'fan_out'
       and legacy_id between (p_page -> 'range' ->> 'lowest')::bigint and (p_page -> 'range' ->> 'highest')::bigint;
    perform sync.add_range(v_chain, p_page -> 'range');
  elsif cardinality(p_keys) > 0 then
    perform from public.sync_executions where id = v_chain.execution_id for no key update;
    insert into public.sync_planned_keys (execution_id, entity_id, legacy_id, reason)
    select v_chain.execution_id, v_entity.id, k, 'fan_out' from sync.keys_to_list(v_chain, p_keys) k
    on conflict (execution_id, entity_id, legacy_id) do update set generation = default;
  end if;
  return sync.end_join_page(v_chain, v_entity, p_page, v_begun);
end
$$;
comment on function sync.plan_join_page(uuid, bigint, bigint[], jsonb) is
  'commit_join_page of a dry run: the records to read again are asked for in the plan alone, and nothing is noted of joined rows.';

create function sync.note_planned(p_execution uuid, p_entity public.sync_entities, p_outside bigint[], p_gone bigint[], p_page jsonb)
returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  execute format($q$
    create temp table page_outcomes on commit drop as
    select q.legacy_id, q.id,
           case q.action when 'insert' then 'inserted' when 'update' then 'updated' when 'review' then 'in_conflict' else 'deleted' end as outcome,
           case when i.k is not null then i.rule when w.legacy_id is not null then 'source_wins' end as rule,
           case when i.k is not null then i.field else sync.listed(w.fields) end as field,
           case when i.k is not null then i.remedy
                when w.legacy_id is not null then 'Edits in the target are overwritten; what they held is kept.' end as remedy,
           null::smallint as parent_entity_id, null::bigint as parent_legacy_id, null::bigint as clashes_with,
           q.action <> 'delete' as lands,
           case when q.action <> 'delete' then (select to_jsonb(x.*) from (select t.id, %2$s) x) end as row_after,
           case when q.action <> 'delete' then to_jsonb(s) end as state_after,
           case when q.action <> 'delete' then (select %1$s from pg_temp.page_shadow x where x.id = q.id) end as unique_keys
      from pg_temp.page_plan q
      left join pg_temp.page_shadow t on t.id = q.id
      left join pg_temp.sync_row_states s on s.legacy_id = q.legacy_id
      left join sync.page_overwritten() w on w.legacy_id = q.legacy_id
      left join pg_temp.page_issues i on q.action = 'review' and i.k = q.legacy_id
     -- What a person is to decide of a record keeps nothing from its other fields.
     where q.action in ('insert', 'update', 'delete', 'soft') or q.action = 'review' and q.written <> '{}'
  $q$, coalesce(sync.key_hashes(p_entity), 'null::bigint[]'), sync.owned_columns(p_entity));
  insert into pg_temp.page_outcomes (legacy_id, id, outcome)
  select q.legacy_id, q.id, 'unchanged' from pg_temp.page_plan q
   where q.action = 'unchanged' and (sync.is_known(p_execution, p_entity.id, q.legacy_id)
      or exists (select from jsonb_to_recordset(p_page -> 'warnings') as x (k bigint) where x.k = q.legacy_id));
  insert into pg_temp.page_outcomes (legacy_id, id, outcome, rule, field, remedy, parent_entity_id, parent_legacy_id, clashes_with)
  select i.k, p._uuid, case when i.settled then 'waived' when i.state = 'waiting' then 'waiting' else 'in_conflict' end, i.rule, i.field,
         case when i.state = 'open' then i.remedy else 'Waits for its parent, which is in the queue or not among these entities.' end,
         i.parent_entity_id, i."parentId", case when i.retry = 'clash' then (i.data #>> '{clashes_with,legacy_id}')::bigint end
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
     lands, row_after, state_after, unique_keys)
  select p_execution, p_entity.id, o.legacy_id, o.id, o.outcome, o.rule, o.field, o.remedy, w.rules, o.parent_entity_id, o.parent_legacy_id, o.clashes_with,
         array_remove(array[o.clashes_with], null),
         o.lands, o.row_after, o.state_after, o.unique_keys
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
         unique_keys = case when excluded.lands is null then r.unique_keys else excluded.unique_keys end;
end
$$;
comment on function sync.note_planned(uuid, public.sync_entities, bigint[], bigint[], jsonb) is
  'Notes what would become of the records of a page. Unchanged and absent ones only where something else is known of them: the rest is counted in sync_page_log.';

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
  'Of the records that something stops on a page of a dry run, those that neither this execution nor the queue knows as stopped by it.';

create function sync.is_known(p_execution uuid, p_entity_id smallint, p_legacy_id bigint) returns boolean
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select exists (select from public.sync_planned_records r
                  where r.execution_id = p_execution and r.entity_id = p_entity_id and r.legacy_id = p_legacy_id)
      or exists (select from public.sync_conflicts c
                  where c.entity_id = p_entity_id and c.source_record_id = p_legacy_id and c.state in ('waiting', 'open'))
$$;
comment on function sync.is_known(uuid, smallint, bigint) is 'Whether a record is in the queue or has been planned in this execution.';

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
    insert into public.sync_planned_keys (execution_id, entity_id, legacy_id, reason)
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
               and (select k.legacy_id from public.sync_planned_keys k
                     where k.execution_id = p_execution.id and k.entity_id = c.entity_id and k.legacy_id = c.legacy_id) is null
             limit c_at_once - v_total) w
     order by w.entity_id, w.legacy_id
    on conflict (execution_id, entity_id, legacy_id) do nothing;
    get diagnostics v_count = row_count;
    v_total := v_total + v_count;
    exit when v_total >= c_at_once;
  end loop;
end
$$;
comment on function sync.plan_released(public.sync_executions, smallint, bigint[]) is
  'release_waiting of a dry run: what waits, in the queue or by this plan, for a parent that has landed or would land; at most 10,000 records. p_parent, p_parents: only for these.';

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

create function sync.foretold_brakes(p_execution uuid, p_entity public.sync_entities) returns jsonb
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  with pages as (
    select l.*, c.deletes from public.sync_page_log l join public.sync_chains c on c.id = l.chain_id
     where l.execution_id = p_execution and l.entity_id = p_entity.id
  ), counted as (
    -- What leaves its predicate is deleted page by page, what the source no longer has at the end: each is looked at by itself.
    select 'delete' as kind, null as field, deletes, sum(deleted) as records from pages group by deletes
    union all select 'null', n.key, false, sum(n.value::bigint) from pages cross join lateral jsonb_each_text(nulled) n group by n.key
    union all select 'overwrite', null, false, sum(overwritten) from pages where sync.counts_overwritten(p_entity)
  )
  select coalesce(jsonb_agg(jsonb_build_object('kind', b.kind, 'field', b.field, 'records', b.records, 'landed', b.landed) order by b.kind, b.field), '[]')
    from (select distinct on (c.kind, c.field) c.kind, c.field, c.records, sync.exceeds_brake(x, p_entity.id, c.kind, c.field, c.records::bigint) as landed
            from counted c join public.sync_executions x on x.id = p_execution
           where c.records > 0 order by c.kind, c.field, c.records desc) b
   where b.landed is not null
$$;
comment on function sync.foretold_brakes(uuid, public.sync_entities) is
  'What of a dry run would be stopped by the brake: [{kind, field, records, landed}].';

create function sync.plan_report(p_execution uuid, p_entity public.sync_entities) returns jsonb
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  with outcomes as (
    select outcome, rule, field, count(*) as n, min(remedy) as remedy, (array_agg(legacy_id order by legacy_id))[1:20] as examples
      from public.sync_planned_records where execution_id = p_execution and entity_id = p_entity.id and outcome <> 'unchanged'
     group by outcome, rule, field
  ), warned as (
    select w as rule, count(*) as n, (array_agg(legacy_id order by legacy_id))[1:20] as examples
      from public.sync_planned_records cross join lateral unnest(warnings) w
     where execution_id = p_execution and entity_id = p_entity.id
     group by w
  ), money as (
    select c ->> 'name' as name, trim_scale(sum((r.row_after ->> (c ->> 'name'))::numeric) filter (where r.outcome = 'inserted')) as inserted,
           trim_scale(sum((r.row_after ->> (c ->> 'name'))::numeric) filter (where r.outcome = 'updated')) as updated
      from jsonb_array_elements(p_entity.columns) c
      left join public.sync_planned_records r on r.execution_id = p_execution and r.entity_id = p_entity.id and r.lands
     where (c ->> 'money')::boolean group by 1
  )
  select jsonb_build_object(
    'entity', p_entity.entity_type,
    'counts', (select jsonb_build_object('read', coalesce(sum(read), 0), 'inserted', coalesce(sum(inserted), 0), 'updated', coalesce(sum(updated), 0),
                 'unchanged', coalesce(sum(unchanged), 0), 'deleted', coalesce(sum(deleted), 0), 'waiting', coalesce(sum(waiting), 0),
                 'inConflict', coalesce(sum(in_conflict), 0), 'waived', coalesce(sum(waived), 0), 'absent', coalesce(sum(absent), 0),
                 'surplus', coalesce(sum(surplus), 0))
                 from public.sync_page_log where execution_id = p_execution and entity_id = p_entity.id),
    'outcomes', (select coalesce(jsonb_agg(jsonb_build_object('outcome', outcome, 'rule', rule, 'field', field, 'count', n, 'remedy', remedy,
                   'legacyIds', to_jsonb(examples)) order by outcome, n desc, rule, field), '[]') from outcomes),
    'warnings', (select coalesce(jsonb_agg(jsonb_build_object('rule', rule, 'count', n, 'legacyIds', to_jsonb(examples)) order by rule), '[]') from warned),
    'money', (select coalesce(jsonb_object_agg(name, jsonb_build_object('inserted', coalesce(inserted, 0)::text, 'updated', coalesce(updated, 0)::text)), '{}') from money),
    'brakes', sync.foretold_brakes(p_execution, p_entity))
$$;
comment on function sync.plan_report(uuid, public.sync_entities) is
  'What a dry run found for one entity: counts, why, up to 20 legacy ids of each, the money of what would be inserted and updated, and what the brake would stop. No values of a row.';

create function sync.commit_plan(p_chain uuid, p_lease bigint, p_lease_seconds integer, p_rows integer) returns jsonb
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_chain     public.sync_chains := sync.hold_chain(p_chain, p_lease);
  v_execution public.sync_executions;
  v_entity    public.sync_entities;
  v_at        bigint := coalesce(v_chain."cursor", 0);
  v_dispatch  uuid[] := array[p_chain];
  v_more      boolean := false;
begin
  select * into strict v_execution from public.sync_executions where id = v_chain.execution_id for no key update;
  -- One entity per page, and of many records only some.
  select * into v_entity from public.sync_entities
   where source_id = v_execution.source_id and entity_type = v_execution.entities[v_at::integer + 1];
  if found then
    insert into public.sync_reports as r (execution_id, kind, body)
    values (v_execution.id, 'plan', jsonb_build_object('entities', jsonb_build_array(sync.plan_report(v_execution.id, v_entity))))
    on conflict (execution_id, kind, round) do update
       set body = jsonb_build_object('entities', r.body -> 'entities' || (excluded.body -> 'entities'))
     where not r.body -> 'entities' @> jsonb_build_array(jsonb_build_object('entity', v_entity.entity_type));
    v_more := sync.forget_plan(v_execution.id, v_entity.id, p_rows);
  end if;
  if v_at >= cardinality(v_execution.entities) then
    update public.sync_chains set state = 'done', closed_at = now(), due_at = null, page = page + 1, lease_until = null where id = p_chain;
    perform sync.finish_execution(v_execution.id, 'succeeded', null);
    v_dispatch := '{}';
  else
    update public.sync_chains
       set page = page + 1, "cursor" = v_at + (not v_more)::integer, lease_until = null, sends = 0, failures = 0, last_error = null,
           due_at = clock_timestamp() + make_interval(secs => p_lease_seconds)
     where id = p_chain;
  end if;
  return (select coalesce(jsonb_agg(jsonb_build_object('chain', c.id, 'page', c.page, 'execution', c.execution_id)), '[]')
            from public.sync_chains c where c.id = any (v_dispatch));
end
$$;
comment on function sync.commit_plan(uuid, bigint, integer, integer) is
  'The last chain of a dry run: reports entity by entity, forgets what it had noted of the records, and finishes the execution.';

create function sync.forget_plan(p_execution uuid, p_entity_id smallint, p_rows integer) returns boolean
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_count integer;
begin
  delete from public.sync_planned_keys where execution_id = p_execution and entity_id = p_entity_id;
  delete from public.sync_planned_records
   where ctid = any (array(select ctid from public.sync_planned_records where execution_id = p_execution and entity_id = p_entity_id limit p_rows));
  get diagnostics v_count = row_count;
  return v_count = p_rows;
end
$$;
comment on function sync.forget_plan(uuid, smallint, integer) is
  'Deletes some of what a dry run has noted of an entity''s records; true: there may be more.';

create function sync.forget_closed_plans(p_rows integer) returns void
language sql security invoker set search_path = pg_catalog, pg_temp as $$
  select sync.forget_plan(x.id, e.id, p_rows)
    from public.sync_executions x join public.sync_entities e on e.source_id = x.source_id
   where x.dry_run and x.status <> 'running'
     and (exists (select from public.sync_planned_records r where r.execution_id = x.id and r.entity_id = e.id)
       or exists (select from public.sync_planned_keys k where k.execution_id = x.id and k.entity_id = e.id))
   limit 1
$$;
comment on function sync.forget_closed_plans(integer) is 'Deletes some of what dry runs that failed have left behind.';

revoke all on function sync.plan_page(uuid, bigint, text, jsonb, jsonb), sync.plan_join_page(uuid, bigint, bigint[], jsonb),
  sync.note_planned(uuid, public.sync_entities, bigint[], bigint[], jsonb), sync.newly_stopped(uuid, smallint), sync.is_known(uuid, smallint, bigint),
  sync.plan_released(public.sync_executions, smallint, bigint[]), sync.waited_for(uuid, smallint),
  sync.planned_to_land(uuid, public.sync_entities, bigint[]), sync.foretold_brakes(uuid, public.sync_entities), sync.plan_report(uuid, public.sync_entities),
  sync.commit_plan(uuid, bigint, integer, integer), sync.forget_plan(uuid, smallint, integer), sync.forget_closed_plans(integer) from public;
grant execute on function sync.plan_page(uuid, bigint, text, jsonb, jsonb), sync.plan_join_page(uuid, bigint, bigint[], jsonb),
  sync.note_planned(uuid, public.sync_entities, bigint[], bigint[], jsonb), sync.newly_stopped(uuid, smallint), sync.is_known(uuid, smallint, bigint),
  sync.plan_released(public.sync_executions, smallint, bigint[]), sync.waited_for(uuid, smallint),
  sync.planned_to_land(uuid, public.sync_entities, bigint[]), sync.foretold_brakes(uuid, public.sync_entities), sync.plan_report(uuid, public.sync_entities),
  sync.commit_plan(uuid, bigint, integer, integer), sync.forget_plan(uuid, smallint, integer), sync.forget_closed_plans(integer) to isthmus_worker;

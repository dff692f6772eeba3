-- Purpose: the end of a dry run: a report to sync_reports, and its notes forgotten.
-- Locks:   the chain's row; the execution's row when a chain closes.

create function sync.foretold_brakes(p_execution uuid, p_entity public.sync_entities) returns jsonb
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  with pages as (
    select c.deletes, n.key, sum(n.value::numeric) as n from public.sync_chains c cross join lateral jsonb_each_text(c.counts) n
     where c.execution_id = p_execution and c.entity_id = p_entity.id group by c.deletes, n.key
  ), counted as (
    -- What leaves its predicate is deleted page by page, what the source no longer has at the end: each is looked at
    -- by itself.
    select 'delete' as kind, null as field, deletes, n as records from pages where key = 'deleted'
    union all select 'null', substr(key, 8), false, sum(n) from pages where key like 'nulled %' group by key
    union all select 'overwrite', null, false, sum(n) from pages where key = 'overwritten' and sync.counts_overwritten(p_entity)
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
    'counts', (select jsonb_build_object('read', coalesce(read, 0), 'inserted', coalesce(inserted, 0), 'updated', coalesce(updated, 0),
                 'unchanged', coalesce(unchanged, 0), 'deleted', coalesce(deleted, 0), 'waiting', coalesce(waiting, 0),
                 'inConflict', coalesce(in_conflict, 0), 'waived', coalesce(waived, 0), 'absent', coalesce(absent, 0),
                 'surplus', coalesce(surplus, 0))
                 from jsonb_to_record(sync.counted(p_execution, p_entity.id)) as c (read bigint, inserted bigint, updated bigint, unchanged bigint,
                        deleted bigint, waiting bigint, in_conflict bigint, waived bigint, absent bigint, surplus bigint)),
    'outcomes', (select coalesce(jsonb_agg(jsonb_build_object('outcome', outcome, 'rule', rule, 'field', field, 'count', n, 'remedy', remedy,
                   'legacyIds', to_jsonb(examples)) order by outcome, n desc, rule, field), '[]') from outcomes),
    'warnings', (select coalesce(jsonb_agg(jsonb_build_object('rule', rule, 'count', n, 'legacyIds', to_jsonb(examples)) order by rule), '[]') from warned),
    'money', (select coalesce(jsonb_object_agg(name, jsonb_build_object('inserted', coalesce(inserted, 0)::text, 'updated', coalesce(updated, 0)::text)), '{}') from money),
    'brakes', sync.foretold_brakes(p_execution, p_entity))
$$;
comment on function sync.plan_report(uuid, public.sync_entities) is
  'What a dry run found for one entity: counts, why, up to 20 legacy ids of each, the money of what would be '
  'inserted and updated, and what the brake would stop. No values of a row.';

create function sync.forget_plan(p_execution uuid, p_entity_id smallint, p_rows integer) returns boolean
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_count integer;
begin
  delete from public.sync_pending_keys where execution_id = p_execution and entity_id = p_entity_id;
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
  -- From one execution to the next of those that have left something, however many there have been.
  with recursive records as (
    (select r.execution_id as id from public.sync_planned_records r order by r.execution_id limit 1)
    union all
    select (select r.execution_id from public.sync_planned_records r where r.execution_id > p.id order by r.execution_id limit 1)
      from records p where p.id is not null
  ), keys as (
    (select k.execution_id as id from public.sync_pending_keys k where k.execution_id is not null order by k.execution_id limit 1)
    union all
    select (select k.execution_id from public.sync_pending_keys k where k.execution_id > p.id order by k.execution_id limit 1)
      from keys p where p.id is not null
  )
  select sync.forget_plan(x.id, e.id, p_rows)
    from (select id from records union select id from keys) n
   cross join lateral (select y.id, y.source_id from public.sync_executions y where y.id = n.id and y.status <> 'running' offset 0) x
    join public.sync_entities e on e.source_id = x.source_id
   where (exists (select from public.sync_planned_records r where r.execution_id = x.id and r.entity_id = e.id)
       or exists (select from public.sync_pending_keys k where k.execution_id = x.id and k.entity_id = e.id))
   limit 1
$$;
comment on function sync.forget_closed_plans(integer) is 'Deletes some of what dry runs that failed have left behind.';

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
  'The last chain of a dry run: reports entity by entity, forgets what it had noted of the records, and finishes the '
  'execution.';

revoke all on function sync.foretold_brakes(uuid, public.sync_entities), sync.plan_report(uuid, public.sync_entities),
  sync.commit_plan(uuid, bigint, integer, integer), sync.forget_plan(uuid, smallint, integer), sync.forget_closed_plans(integer) from public;
grant execute on function sync.foretold_brakes(uuid, public.sync_entities), sync.plan_report(uuid, public.sync_entities),
  sync.commit_plan(uuid, bigint, integer, integer), sync.forget_plan(uuid, smallint, integer), sync.forget_closed_plans(integer) to isthmus_worker;

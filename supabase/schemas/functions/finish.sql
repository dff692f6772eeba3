-- Purpose: finish an execution: its sums and its metrics.
-- Locks:   the execution's row.

create function sync.execution_metrics(p_execution uuid) returns jsonb
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  with pages as (
    select coalesce(c.read, 0) as processed, coalesce(c.inserted + c.updated + c.unchanged + c.deleted + c.waived, 0) as succeeded,
           coalesce(c.waiting + c.in_conflict, 0) as failed, c.wall_ms / c.pages as latency, c.cache_hits as hits, c.cache_lookups as lookups
      from jsonb_to_record(sync.counted(p_execution)) as c (pages bigint, read bigint, inserted bigint, updated bigint, unchanged bigint, deleted bigint,
             waived bigint, waiting bigint, in_conflict bigint, wall_ms numeric, cache_hits bigint, cache_lookups bigint)
  ), healed as (
    -- A record that waits for one of the same execution, often of its own entity, is read again in it: no error.
    select coalesce(sum(c.attempts), 0) as records
      from public.sync_executions x join public.sync_conflicts c on c.execution_id = x.id and c.resolved_in = x.id and c.first_seen_at >= x.started_at
     where x.id = p_execution
  ), queue as (
    select count(*) filter (where resolved_in = p_execution) as resolved, count(*) as touched
      from public.sync_conflicts where execution_id = p_execution or resolved_in = p_execution
  ), run as (
    select extract(epoch from coalesce(completed_at, clock_timestamp()) - started_at) as seconds
      from public.sync_executions where id = p_execution
  )
  select jsonb_build_object(
    'recordsProcessed', processed,
    'successRate', case when processed = 0 then 1 else round(succeeded::numeric / processed, 6) end,
    'averageLatency', round(latency, 3),
    'errorRate', case when processed = 0 then 0 else round(greatest(failed - healed.records, 0)::numeric / processed, 6) end,
    'throughputPerSecond', round(processed / nullif(greatest(seconds, 0.001), 0), 3),
    'uuidCacheHitRate', round(hits::numeric / nullif(lookups, 0), 6),
    'conflictResolutionRate', round(resolved::numeric / nullif(touched, 0), 6))
    from pages, healed, queue, run
$$;
comment on function sync.execution_metrics(uuid) is
  'The seven metrics of an execution, from the counts of its chains and sync_conflicts. Null where nothing was '
  'counted.';

create function sync.sum_execution(p_execution uuid) returns void
language sql security invoker set search_path = pg_catalog, pg_temp as $$
  select sync.total_execution(p_execution);
  update public.sync_executions e
     set records_processed = coalesce(l.processed, 0), records_succeeded = coalesce(l.succeeded, 0),
         records_failed = coalesce(l.failed, 0), metrics = sync.execution_metrics(p_execution)
    from (select c.read as processed, c.inserted + c.updated + c.unchanged + c.deleted + c.waived as succeeded, c.waiting + c.in_conflict as failed
            from jsonb_to_record(sync.counted(p_execution)) as c (read bigint, inserted bigint, updated bigint, unchanged bigint, deleted bigint,
                   waived bigint, waiting bigint, in_conflict bigint)) l
   where e.id = p_execution;
  update public.sync_jobs j
     set status = case when e.status = 'cancelled' then 'pending' else e.status::text end::public.sync_job_status,
         succeeded_at = case when e.status = 'succeeded' then clock_timestamp() else j.succeeded_at end,
         last_error = case when e.status in ('incomplete', 'failed') then jsonb_build_object('execution', e.id, 'errors', e.errors) end,
         -- What passes by itself does not cost the job its whole day.
         next_execution_at = case when e.status = 'failed' and not jsonb_path_exists(coalesce(e.errors, '[{}]'), '$[*] ? (!(@.code == "ENTITY_LEFT_OUT") && !(@.passes == true))')
                               then least(j.next_execution_at, now() + interval '30 minutes') else j.next_execution_at end
    from public.sync_executions e
   where e.id = p_execution and j.id = e.job_id and j.status = 'running';
$$;
comment on function sync.sum_execution(uuid) is
  'The sums and metrics of an execution that has ended, and what that means for its job: one that stalled for '
  'reasons that pass is due again in half an hour.';

create function sync.execution_subject(p_execution uuid) returns text
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select sync.subject_of((select string_agg(e, ', ' order by e) from unnest(x.entities) e), case
           when x.selective then '(selection)'
           when not exists (select from public.sync_chains c where c.execution_id = x.id and c.capture = 'validate') then '(without comparison)' end)
    from public.sync_executions x where x.id = p_execution
$$;
comment on function sync.execution_subject(uuid) is 'Of what an execution is one: its entities, and how far it looks.';

create function sync.close_stalled_alerts(p_execution uuid) returns void
language sql security invoker set search_path = pg_catalog, pg_temp as $$
  select sync.close_alerts(array(select a.id from public.sync_alerts a cross join public.sync_executions x
   where x.id = p_execution and not x.dry_run and a.kind = 'page_stalled' and a.source_id = x.source_id and a.closed_at is null
     and (a.entity_id is null or exists (select from public.sync_entities e where e.id = a.entity_id and e.entity_type = any (x.entities)))
     and (
       -- A whole execution has come through, or one of single records where the page was of such.
       exists (select from public.sync_chains c where c.execution_id = x.id and c.capture = 'validate')
         and (not x.selective or exists (select from public.sync_executions f where f.id = a.execution_id and f.selective))
       -- The same kind of page has come through. Other keys than those of the page tell nothing of them: none of
       -- these may be left.
       or exists (select from public.sync_chains c where c.execution_id = x.id and c.entity_id = a.entity_id and c.capture::text = a.subject)
         and (a.subject <> 'keys' or not exists (
           select from public.sync_pending_keys k where k.execution_id is null and k.entity_id = a.entity_id and not k.gone and k.requested_at <= a.last_seen_at)))))
$$;
comment on function sync.close_stalled_alerts(uuid) is
  'Closes the alerts about pages that made no progress, of entities that have come through.';

create function sync.kept_entities(p_source_id smallint, p_entities text[]) returns text[]
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select array(select n from unnest(p_entities) n
                where not exists (select from public.sync_entities e where e.source_id = p_source_id and e.entity_type = n and e.removed_at is not null))
$$;
comment on function sync.kept_entities(smallint, text[]) is
  'Of these entities, those that an entity file still has: no execution has another one.';

create function sync.close_ended_alerts(p_execution uuid) returns void
language sql security invoker set search_path = pg_catalog, pg_temp as $$
  select sync.close_alerts(array(select a.id from public.sync_alerts a cross join public.sync_executions x
    cross join lateral (select exists (select from public.sync_chains c where c.execution_id = x.id and c.capture = 'validate') as whole) w
   where x.id = p_execution and not x.dry_run and a.source_id = x.source_id and a.closed_at is null
     and case a.kind
           -- The same entities have come through, by an execution that looks as far as the failed one.
           when 'execution_failed' then not exists (
             select from public.sync_executions f
              where f.id = a.execution_id
                and (f.started_at > x.started_at or not x.entities @> sync.kept_entities(f.source_id, f.entities) or x.selective and not f.selective
                     or not w.whole and exists (select from public.sync_chains c where c.execution_id = f.id and c.capture = 'validate')))
           -- That it did not come back at the next try says nothing of the next run.
           when 'internal_error' then w.whole and not x.selective and x.started_at > a.last_seen_at
             and case when a.entity_id is not null then exists (select from public.sync_entities e where e.id = a.entity_id and e.entity_type = any (x.entities))
                      else exists (select from public.sync_executions f where f.id = a.execution_id and x.entities @> sync.kept_entities(f.source_id, f.entities)) end
           when 'source_restored' then w.whole and x.entities @> sync.kept_entities(a.source_id, array(select jsonb_array_elements_text(a.details -> 'entities')))
           when 'source_promoted' then w.whole and x.entities @> sync.kept_entities(a.source_id, array(select jsonb_array_elements_text(a.details -> 'entities')))
           when 'target_restored' then w.whole and not exists (
             select from public.sync_checkpoints k join public.sync_entities e on e.source_id = k.source_id and e.entity_type = k.entity_type
              where k.source_id = a.source_id and k.server_starts = '{}' and e.removed_at is null)
           -- All rows were looked at, and none was found. The chains of a full pass reach from the first key to the
           -- last; one for the rows of a join alone does not.
           when 'surplus' then a.execution_id is distinct from x.id and (
             select bool_or(c.range_from is null) and bool_or(c.range_to is null)
               from public.sync_chains c where c.execution_id = x.id and c.entity_id = a.entity_id and c.capture = 'full')
           when 'written_otherwise' then w.whole and a.execution_id is distinct from x.id and not exists (
             select from public.sync_warnings s where s.entity_id = a.entity_id and s.rule like 'written\_otherwise:%')
           else false
         end))
$$;
comment on function sync.close_ended_alerts(uuid) is
  'Closes the alerts whose cause is gone with this execution, which has come through.';

create function sync.finish_execution(p_execution uuid, p_status public.sync_execution_status, p_errors jsonb)
returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_braked jsonb := (select jsonb_agg(jsonb_build_object('code', 'BRAKE_APPLIED', 'entity', e.entity_type, 'kind', b.kind, 'field', b.field,
                              'records', b.records, 'landed', b.landed, 'brake', b.id))
                       from public.sync_brakes b join public.sync_entities e on e.id = b.entity_id
                      where b.execution_id = p_execution and b.kind = 'delete' and b.closed_at is null and b.confirmed_at is null);
  v_left_out jsonb := (select jsonb_agg(jsonb_build_object('code', 'ENTITY_LEFT_OUT', 'entity', p.one -> 'entity', 'findings', p.one -> 'findings'))
                         from public.sync_reports r, jsonb_array_elements(r.body -> 'paused') as p (one)
                        where r.execution_id = p_execution and r.kind = 'contract');
begin
  if v_braked is not null and not coalesce(p_errors, '[]') @> '[{"code": "BRAKE_APPLIED"}]' then
    p_status := 'failed';
    p_errors := coalesce(p_errors, '[]') || v_braked;
  end if;
  if v_left_out is not null then
    p_status := case p_status when 'succeeded' then 'incomplete' else p_status end;
    p_errors := coalesce(p_errors, '[]') || v_left_out;
  end if;
  update public.sync_executions set status = p_status, completed_at = clock_timestamp(), errors = p_errors
   where id = p_execution and status = 'running';
  if not found then
    return;
  end if;
  perform sync.sum_execution(p_execution);
  if p_status in ('succeeded', 'incomplete') then
    -- What was confirmed is done now; what is not asked for any more was undone in the source. Only an execution that
    -- has looked for changes can tell.
    update public.sync_brakes b set closed_at = now()
      from public.sync_executions x join public.sync_entities e on e.source_id = x.source_id and e.entity_type = any (x.entities)
     where x.id = p_execution and not x.dry_run and x.request ->> 'capture' is distinct from 'modified' and b.entity_id = e.id and b.closed_at is null
       and exists (select from public.sync_chains c where c.execution_id = x.id and c.capture = 'validate')
       and not exists (select from public.sync_pending_keys k where k.execution_id is null and k.entity_id = e.id and k.gone);
    perform sync.close_alerts(array(
      select a.id from public.sync_alerts a
       where a.kind = 'brake' and a.closed_at is null
         and not exists (select from public.sync_brakes b
                          where b.entity_id = a.entity_id and sync.subject_of(b.kind, b.field) = a.subject and b.closed_at is null)));
    perform sync.close_stalled_alerts(p_execution);
    perform sync.close_ended_alerts(p_execution);
    perform sync.keep_compared(p_execution);
    perform sync.tell_unusual(p_execution);
  end if;
  if p_status = 'failed' and not exists (select from public.sync_executions where id = p_execution and dry_run) then
    perform sync.raise_alert('execution_failed', 'critical', null, p_execution, null,
      format('An execution failed: see errors of this execution. Its entities: %s.', sync.execution_subject(p_execution)),
      jsonb_build_object('execution', p_execution), sync.execution_subject(p_execution));
  end if;
end
$$;
comment on function sync.finish_execution(uuid, public.sync_execution_status, jsonb) is
  'Closes an execution with its sums and metrics, once. One that succeeded but left entities out is incomplete.';

revoke all on function sync.execution_metrics(uuid), sync.finish_execution(uuid, public.sync_execution_status, jsonb), sync.sum_execution(uuid),
  sync.execution_subject(uuid), sync.kept_entities(smallint, text[]), sync.close_stalled_alerts(uuid), sync.close_ended_alerts(uuid) from public;
grant execute on function sync.execution_metrics(uuid), sync.finish_execution(uuid, public.sync_execution_status, jsonb), sync.sum_execution(uuid),
  sync.execution_subject(uuid), sync.kept_entities(smallint, text[]), sync.close_stalled_alerts(uuid), sync.close_ended_alerts(uuid) to isthmus_worker;

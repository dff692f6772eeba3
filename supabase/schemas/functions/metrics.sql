-- Purpose: what a scrape is told, in one statement whose cost does not grow with records, executions or pages.
-- Reads:   control tables; of the server, connections and sizes of our tables.

create function sync.metrics() returns table (metric text, labels jsonb, value double precision)
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  with entity as materialized (
    select e.id, e.source_id, e.entity_type, jsonb_build_object('source', s.name, 'entity', e.entity_type) as labels
      from public.sync_entities e join public.sync_sources s on s.id = e.source_id where e.removed_at is null
  ), job as materialized (
    select j.* from public.sync_jobs j order by j.name limit 100
  ), going as materialized (
    -- Those that are not in the totals yet, by their own indexes.
    select id, job_id, dry_run from public.sync_executions where status = 'running'
    union all
    select id, job_id, dry_run from public.sync_executions where status = 'cancelled' and metrics is null
  ), chain as materialized (
    select g.job_id, g.dry_run, c.entity_id, c.state, c.failures, c.sends, c.counts
      from going g cross join lateral (select * from public.sync_chains k where k.execution_id = g.id offset 0) c
  ), counted as materialized (
    select k.entity_id, coalesce(j.name, '') as job, k.key, sum(k.n) as n
      from (select t.job_id, t.entity_id, e.key, e.value::numeric as n from public.sync_totals t cross join lateral jsonb_each_text(t.counts) e
            union all
            select c.job_id, c.entity_id, e.key, e.value::numeric from chain c cross join lateral jsonb_each_text(c.counts) e
             where not c.dry_run and c.entity_id is not null and e.key = any (sync.total_keys())) k
      left join job j on j.id = k.job_id
     where k.job_id is null or j.id is not null
     group by 1, 2, 3
  ), latest as materialized (
    -- Of each job, and of what no job began: one probe of an index, whose order has to be asked for in full where
    -- job_id is null.
    select j.name as job, x.* from job j cross join lateral (
      select o.* from public.sync_executions o where o.job_id = j.id and not o.dry_run order by o.started_at desc limit 1) x
    union all
    (select '', o.* from public.sync_executions o where o.job_id is null and not o.dry_run order by o.job_id desc, o.started_at desc limit 1)
  ), ended as materialized (
    select j.name as job, x.metrics from job j cross join lateral (
      select o.metrics from public.sync_executions o where o.job_id = j.id and not o.dry_run and o.metrics is not null order by o.started_at desc limit 1) x
    union all
    (select '', o.metrics from public.sync_executions o where o.job_id is null and not o.dry_run and o.metrics is not null
       order by o.job_id desc, o.started_at desc limit 1)
  ), own as materialized (
    select c.oid, c.relname, c.reltuples from pg_class c
     where c.relnamespace = 'public'::regnamespace and c.relkind = 'r' and c.relname = any (sync.own_tables())
  )
  -- The seven metrics.
  select m.metric, jsonb_build_object('sync_job', x.job), (x.metrics ->> m.name)::double precision * m.unit
    from ended x cross join (values
      ('isthmus_records_processed', 'recordsProcessed', 1), ('isthmus_success_rate', 'successRate', 1), ('isthmus_average_latency_seconds', 'averageLatency', 0.001),
      ('isthmus_error_rate', 'errorRate', 1), ('isthmus_throughput_per_second', 'throughputPerSecond', 1), ('isthmus_uuid_cache_hit_rate', 'uuidCacheHitRate', 1),
      ('isthmus_conflict_resolution_rate', 'conflictResolutionRate', 1)) m (metric, name, unit)
   where x.metrics ->> m.name is not null
  -- Executions and jobs.
  union all
  select 'isthmus_executions_total', jsonb_build_object('sync_job', c.job, 'status', c.key), c.n from counted c where c.entity_id is null and c.key <> 'seconds'
  union all
  select 'isthmus_execution_seconds_total', jsonb_build_object('sync_job', c.job), c.n from counted c where c.entity_id is null and c.key = 'seconds'
  union all
  select 'isthmus_executions_running', '{}', (select count(*) from going where not dry_run)
  union all
  select 'isthmus_execution_started_timestamp_seconds', jsonb_build_object('sync_job', x.job), extract(epoch from x.started_at) from latest x
  union all
  select 'isthmus_execution_duration_seconds', jsonb_build_object('sync_job', x.job), extract(epoch from coalesce(x.completed_at, clock_timestamp()) - x.started_at) from latest x
  union all
  select 'isthmus_execution_status', jsonb_build_object('sync_job', x.job, 'status', s), (x.status = s)::integer
    from latest x cross join unnest(enum_range(null::public.sync_execution_status)) s
  union all
  select 'isthmus_job_enabled', jsonb_build_object('sync_job', j.name), j.enabled::integer from job j
  union all
  select 'isthmus_job_last_success_timestamp_seconds', jsonb_build_object('sync_job', j.name), extract(epoch from j.succeeded_at) from job j where j.succeeded_at is not null
  union all
  select 'isthmus_job_next_timestamp_seconds', jsonb_build_object('sync_job', j.name), extract(epoch from j.next_execution_at) from job j where j.enabled and j.next_execution_at is not null
  union all
  select 'isthmus_job_waiting_seconds', jsonb_build_object('sync_job', j.name), coalesce(extract(epoch from clock_timestamp() - j.waits_since), 0) from job j
  union all
  select 'isthmus_job_attempts', jsonb_build_object('sync_job', j.name), j.attempts from job j
  union all
  -- As sync.work_at: what the latest like it took, of which half took less.
  select 'isthmus_job_usual_duration_seconds', jsonb_build_object('sync_job', j.name), l.median
    from job j cross join lateral (
      select percentile_cont(0.5) within group (order by extract(epoch from r.completed_at - r.started_at)) as median
        from (select o.started_at, o.completed_at from public.sync_executions o
               where o.job_id = j.id and o.status = 'succeeded' order by o.started_at desc limit 14) r) l
   where l.median is not null
  -- Entities.
  union all
  select 'isthmus_records_total', e.labels || jsonb_build_object('sync_job', c.job, 'outcome', c.key), c.n
    from counted c join entity e on e.id = c.entity_id where c.key in ('inserted', 'updated', 'unchanged', 'deleted', 'waiting', 'in_conflict', 'waived')
  union all
  select m.metric, e.labels || jsonb_build_object('sync_job', c.job), c.n * m.unit
    from counted c join entity e on e.id = c.entity_id
    join (values ('isthmus_pages_total', 'pages', 1), ('isthmus_page_seconds_total', 'wall_ms', 0.001), ('isthmus_records_overwritten_total', 'overwritten', 1),
                 ('isthmus_cache_lookups_total', 'cache_lookups', 1), ('isthmus_cache_hits_total', 'cache_hits', 1)) m (metric, key, unit) on m.key = c.key
  union all
  select 'isthmus_entity_lag_seconds', e.labels, extract(epoch from clock_timestamp() - coalesce(x.started_at, k.updated_at))
    from entity e join public.sync_checkpoints k on k.source_id = e.source_id and k.entity_type = e.entity_type left join public.sync_executions x on x.id = k.execution_id
  union all
  select 'isthmus_chains', e.labels || jsonb_build_object('state', c.state), count(*) from chain c join entity e on e.id = c.entity_id where not c.dry_run group by e.labels, c.state
  union all
  select m.metric, e.labels, m.n
    from (select c.entity_id, max(c.failures) filter (where c.state = 'open') as failures, sum(c.sends) filter (where c.state = 'open') as sends from chain c group by 1) c
    join entity e on e.id = c.entity_id
    cross join lateral (values ('isthmus_page_failed_tries', c.failures), ('isthmus_page_sends', c.sends)) m (metric, n) where m.n is not null
  union all
  select 'isthmus_page_heap_bytes', e.labels, max(l.heap_bytes)
    from (select entity_id, heap_bytes from public.sync_page_log order by id desc limit 200) l join entity e on e.id = l.entity_id where l.heap_bytes is not null group by e.labels
  union all
  select 'isthmus_queue_records', e.labels || jsonb_build_object('state', q.state, 'type', q.conflict_type), sum(q.records)
    from public.sync_queue_counts q join entity e on e.id = q.entity_id group by e.labels, q.state, q.conflict_type
  union all
  select 'isthmus_queue_oldest_seconds', e.labels || jsonb_build_object('state', q.state, 'type', q.conflict_type), extract(epoch from clock_timestamp() - min(q.oldest_at))
    from public.sync_queue_counts q join entity e on e.id = q.entity_id group by e.labels, q.state, q.conflict_type
  union all
  select 'isthmus_brakes', e.labels || jsonb_build_object('kind', b.kind), count(*)
    from public.sync_brakes b join entity e on e.id = b.entity_id where b.closed_at is null group by e.labels, b.kind
  -- Alerts.
  union all
  select 'isthmus_alerts', jsonb_build_object('severity', s.severity), (select count(*) from public.sync_alerts a where a.closed_at is null and a.severity = s.severity)
    from (values ('warning'), ('critical')) s (severity)
  union all
  select 'isthmus_alerts_open', jsonb_build_object('kind', a.kind, 'severity', a.severity, 'entity', coalesce(e.entity_type, ''), 'acknowledged', a.acknowledged_by is not null), count(*)
    from public.sync_alerts a left join public.sync_entities e on e.id = a.entity_id where a.closed_at is null group by a.kind, a.severity, e.entity_type, a.acknowledged_by is not null
  -- What it runs on.
  union all
  select 'isthmus_source_up', jsonb_build_object('source', s.name), (s.refused_since is null)::integer from public.sync_sources s
  union all
  select m.metric, '{}', m.n
    from (select t.ended_at, t.failed from public.sync_ticks t where t.ended_at is not null order by t.created_at desc limit 1) t
    cross join lateral (values ('isthmus_tick_last_end_timestamp_seconds', extract(epoch from t.ended_at)), ('isthmus_tick_failed_parts', cardinality(t.failed))) m (metric, n)
  union all
  select 'isthmus_database_connections', jsonb_build_object('role', r.role), count(a.pid)
    from (values ('isthmus_worker'), ('others')) r (role)
    left join pg_stat_activity a on a.datname = current_database() and (a.usename is not distinct from 'isthmus_worker') = (r.role = 'isthmus_worker') and a.usename is not null
   group by r.role
  union all
  select 'isthmus_database_connections_max', '{}', current_setting('max_connections')::integer
  union all
  select 'isthmus_table_bytes', jsonb_build_object('table', o.relname), pg_total_relation_size(o.oid) from own o
  union all
  select 'isthmus_table_rows_estimate', jsonb_build_object('table', o.relname), greatest(o.reltuples, 0) from own o
$$;
comment on function sync.metrics() is
  'Every sample of a scrape: what each metric means stands in docs/metrics.md. Names, counts and times only, never a '
  'value of a row; what is counted by scanning elsewhere is read where it was counted. No more jobs than a hundred.';

revoke all on function sync.metrics() from public;
grant execute on function sync.metrics() to isthmus_worker;

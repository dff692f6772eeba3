-- Purpose: add up what an execution has counted, once, when it has ended.
-- Locks:   rows of sync_totals, by entity.

create function sync.add_to_totals(p_job uuid, p_entity_id smallint, p_counts jsonb) returns void
language sql security invoker set search_path = pg_catalog, pg_temp as $$
  insert into public.sync_totals as t (job_id, entity_id, counts) values (p_job, p_entity_id, p_counts)
  on conflict (job_id, entity_id) do update
     set updated_at = now(), counts = (select jsonb_object_agg(s.key, s.n)
           from (select j.key, sum(j.value::numeric) as n
                   from (select * from jsonb_each_text(t.counts) union all select * from jsonb_each_text(excluded.counts)) j group by j.key) s)
$$;
comment on function sync.add_to_totals(uuid, smallint, jsonb) is
  'Adds counts to the totals of an entity and a job; null for none.';

create function sync.total_keys() returns text[]
language sql immutable security invoker set search_path = pg_catalog, pg_temp as $$
  select array['pages', 'inserted', 'updated', 'unchanged', 'deleted', 'waiting', 'in_conflict', 'waived', 'overwritten', 'wall_ms', 'cache_lookups', 'cache_hits']
$$;
comment on function sync.total_keys() is
  'Which counts of pages are added up. What is counted by rule or column is not: metrics have few labels.';

create function sync.add_pages(p_execution public.sync_executions, p_sign integer) returns void
language sql security invoker set search_path = pg_catalog, pg_temp as $$
  select sync.add_to_totals(p_execution.job_id, s.entity_id, s.counts)
    from (select k.entity_id, jsonb_object_agg(k.key, k.n) as counts
            from (select c.entity_id, j.key, sum(j.value::numeric) * p_sign as n
                    from public.sync_chains c cross join lateral jsonb_each_text(c.counts) j
                   where c.execution_id = p_execution.id and c.entity_id is not null and j.key = any (sync.total_keys()) group by 1, 2) k
           group by 1 order by 1) s
$$;
comment on function sync.add_pages(public.sync_executions, integer) is
  'Adds what the pages of an execution have counted to the totals (1), or takes it from them (-1).';

create function sync.total_execution(p_execution uuid) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_execution public.sync_executions := (select x from public.sync_executions x where x.id = p_execution);
begin
  -- Metrics are set in the same transaction, and once.
  if v_execution.metrics is not null or v_execution.dry_run then
    return;
  end if;
  perform sync.add_pages(v_execution, 1);
  perform sync.add_to_totals(v_execution.job_id, null, jsonb_build_object(v_execution.status, 1, 'seconds',
    round(extract(epoch from coalesce(v_execution.completed_at, clock_timestamp()) - v_execution.started_at), 3)));
end
$$;
comment on function sync.total_execution(uuid) is
  'Adds to the totals what an execution has counted that has ended and has no metrics yet.';

create function sync.go_on_counting(p_execution uuid) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_execution public.sync_executions := (select x from public.sync_executions x where x.id = p_execution);
begin
  -- An execution that runs is told beside the totals, and its pages are added when it ends: each once. That it has
  -- ended before stays counted.
  if v_execution.metrics is not null and not v_execution.dry_run then
    perform sync.add_pages(v_execution, -1);
  end if;
end
$$;
comment on function sync.go_on_counting(uuid) is
  'Takes from the totals what an execution has counted that ended and is to go on. Called before its metrics are '
  'emptied.';

revoke all on function sync.add_to_totals(uuid, smallint, jsonb), sync.total_keys(), sync.total_execution(uuid),
  sync.add_pages(public.sync_executions, integer), sync.go_on_counting(uuid) from public;
grant execute on function sync.add_to_totals(uuid, smallint, jsonb), sync.total_keys(), sync.total_execution(uuid),
  sync.add_pages(public.sync_executions, integer), sync.go_on_counting(uuid) to isthmus_worker;

-- Purpose: tell of jobs that work for longer than they should, and of entities that have not been in step for longer
--          than they should.
-- Locks:   open alerts of these kinds.

create function sync.work_at(p_source_id smallint) returns jsonb
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select jsonb_build_object(
    'jobs', (select coalesce(jsonb_agg(jsonb_build_object(
        'name', j.name, 'enabled', j.enabled and j.cron_expression is not null, 'cron_expression', j.cron_expression, 'time_zone', j.time_zone, 'configuration', j.configuration,
        'alarms', j.alarms, 'worked', j.succeeded_at is not null) order by j.name), '[]') from public.sync_jobs j),
    'entities', (select coalesce(jsonb_agg(jsonb_build_object('entity', k.entity_type, 'since', coalesce(x.started_at, k.updated_at)) order by k.entity_type), '[]')
                   from public.sync_checkpoints k left join public.sync_executions x on x.id = k.execution_id where k.source_id = p_source_id),
    'running', (select coalesce(jsonb_agg(jsonb_build_object('execution', x.id, 'job', j.name, 'alarms', j.alarms, 'since', greatest(x.started_at, x.controlled_at, j.controlled_at), 'usualSeconds', (
                    -- What the latest like it took, of which half took less.
                    select percentile_cont(0.5) within group (order by extract(epoch from l.completed_at - l.started_at))
                      from (select o.started_at, o.completed_at from public.sync_executions o
                             where o.job_id = j.id and o.status = 'succeeded' order by o.started_at desc limit 14) l)) order by x.started_at), '[]')
                  from public.sync_executions x join public.sync_jobs j on j.id = x.job_id where x.source_id = p_source_id and x.status = 'running'
                   -- How long a person has it wait is told by itself.
                   and x.control is null and j.control is null))
$$;
comment on function sync.work_at(smallint) is
  'What shared/tick/watch-work.ts judges: the jobs, since when each entity is known to be in step (when the '
  'execution began that read it last), and the executions of jobs that run, with what they usually take.';

create function sync.tell_work(p_source_id smallint, p_lag jsonb, p_late jsonb) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  if p_lag is null then
    perform sync.close_alert('entities_lag', p_source_id);
  else
    perform sync.raise_alert('entities_lag', p_lag ->> 'severity', p_source_id, null, null, p_lag ->> 'message', p_lag -> 'details');
  end if;
  perform sync.close_alerts(array(
    select a.id from public.sync_alerts a
     where a.kind = 'job_late' and a.source_id = p_source_id and a.closed_at is null
       and a.subject not in (select sync.subject_of(l ->> 'job') from jsonb_array_elements(p_late) l)));
  perform sync.raise_alert('job_late', l ->> 'severity', p_source_id, (l ->> 'execution')::uuid, null, l ->> 'message', l -> 'details', sync.subject_of(l ->> 'job'))
     from jsonb_array_elements(p_late) l;
end
$$;
comment on function sync.tell_work(smallint, jsonb, jsonb) is
  'Opens the alerts entities_lag ({severity, message, details}; null: none lags) and job_late ([{job, execution, '
  'severity, message, details}]), and closes those whose cause is gone.';

revoke all on function sync.work_at(smallint), sync.tell_work(smallint, jsonb, jsonb) from public;
grant execute on function sync.work_at(smallint), sync.tell_work(smallint, jsonb, jsonb) to isthmus_worker;

-- Purpose: what becomes of a job that could not begin: tried again, or failed until its next time, with the reason where people see it.
-- Locks:   the job's row, and the open alert.

create function sync.put_off_job(p_job uuid, p_error jsonb, p_at timestamptz) returns void
language sql security invoker set search_path = pg_catalog, pg_temp as $$
  update public.sync_jobs set attempts = attempts + 1, last_error = p_error, next_execution_at = p_at where id = p_job
$$;
comment on function sync.put_off_job(uuid, jsonb, timestamptz) is 'The job could not begin for a reason that passes: it is tried again at that time.';

create function sync.fail_job(p_job uuid, p_error jsonb, p_next timestamptz) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_name text;
begin
  update public.sync_jobs set status = 'failed', attempts = attempts + 1, last_error = p_error, next_execution_at = p_next
   where id = p_job returning name into v_name;
  insert into public.sync_alerts as a (kind, severity, job_id, message, details)
  values ('job_failed', 'critical', p_job, 'Jobs cannot begin: see details, and last_error in sync_jobs. The alert closes when they begin again.',
          jsonb_build_object(v_name, p_error))
  on conflict (kind, entity_id) where closed_at is null do update
     set occurrences = a.occurrences + 1, last_seen_at = now(), job_id = excluded.job_id, message = excluded.message, details = a.details || excluded.details;
end
$$;
comment on function sync.fail_job(uuid, jsonb, timestamptz) is
  'The job cannot begin until somebody does something: it has failed, keeps why, and is told in an alert. p_next null: until it is changed.';

create function sync.begin_job(p_job uuid) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_name text;
begin
  update public.sync_jobs set last_execution_at = now(), status = 'running', attempts = 0, last_error = null
   where id = p_job returning name into v_name;
  update public.sync_alerts
     set details = details - v_name, closed_at = case when details - v_name = '{}' then now() end
   where kind = 'job_failed' and closed_at is null and details ? v_name;
end
$$;
comment on function sync.begin_job(uuid) is 'The job has begun an execution: what kept it from that is forgotten, and its alert closes.';

revoke all on function sync.put_off_job(uuid, jsonb, timestamptz), sync.fail_job(uuid, jsonb, timestamptz), sync.begin_job(uuid) from public;
grant execute on function sync.put_off_job(uuid, jsonb, timestamptz), sync.fail_job(uuid, jsonb, timestamptz), sync.begin_job(uuid) to isthmus_worker;

-- Purpose: what becomes of a job that could not begin: tried again, or failed until its next time, with the reason
--          where people see it.
-- Locks:   the job's row, and its open alerts.

create function sync.raise_job_alert(p_kind text, p_severity text, p_job public.sync_jobs, p_says text) returns void
language sql security invoker set search_path = pg_catalog, pg_temp as $$
  select sync.put_alert(p_kind, p_severity, null, null, null, p_job.id, sync.subject_of(p_job.name),
    format('%s (%s): %s', p_says, p_job.last_error ->> 'code', concat_ws(' ', p_job.last_error ->> 'message', p_job.last_error ->> 'remedy')),
    jsonb_build_object(p_job.name, p_job.last_error))
$$;
comment on function sync.raise_job_alert(text, text, public.sync_jobs, text) is
  'Opens or counts the alert of a job that does not begin, with the reason that it keeps.';

create function sync.put_off_job(p_job uuid, p_error jsonb, p_at timestamptz) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_job    public.sync_jobs;
  v_waits  interval;
  v_behind boolean := p_error ->> 'code' in ('EXECUTION_ACTIVE', 'ENTITY_PAUSED');
begin
  -- Behind another execution nothing is wrong: what is wrong after it, or was before, waits by itself.
  update public.sync_jobs j
     set attempts = case when k.another or k.defect then 1 else j.attempts + 1 end, last_error = p_error, next_execution_at = p_at,
         waits_since = case when k.another then clock_timestamp() else coalesce(j.waits_since, clock_timestamp()) end, taken_at = null
    from (select id, (last_error ->> 'code' in ('EXECUTION_ACTIVE', 'ENTITY_PAUSED')) <> v_behind as another,
                 p_error ->> 'code' = 'INTERNAL' and last_error ->> 'code' is distinct from 'INTERNAL' as defect from public.sync_jobs where id = p_job) k
   where j.id = k.id returning j.* into v_job;
  v_waits := clock_timestamp() - v_job.waits_since;
  -- A blip of a minute is nobody's work, and a first load may take a night: what stops it has alerts of its own.
  -- An error that nobody has expected is told at once.
  if v_waits >= interval '6 hours' or not v_behind and (v_job.attempts >= 3 or v_waits >= interval '15 minutes') or p_error ->> 'code' = 'INTERNAL' then
    perform sync.raise_job_alert('job_waits', case when (v_behind or v_waits < interval '1 hour') and p_error ->> 'code' <> 'INTERNAL' then 'warning' else 'critical' end, v_job,
      format('The job %s has waited since %s for what keeps it from beginning', v_job.name, to_char(v_job.waits_since at time zone 'UTC', 'YYYY-MM-DD HH24:MI "UTC"')));
  end if;
end
$$;
comment on function sync.put_off_job(uuid, jsonb, timestamptz) is
  'The job could not begin for a reason that passes: it is tried again at that time. After three tries, or 15 '
  'minutes, an alert tells it; behind another execution after six hours; an error that nobody has expected at once.';

create function sync.fail_job(p_job uuid, p_error jsonb, p_next timestamptz) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_job public.sync_jobs;
begin
  update public.sync_jobs set status = 'failed', attempts = attempts + 1, last_error = p_error, next_execution_at = p_next, waits_since = null, taken_at = null
   where id = p_job returning * into v_job;
  perform sync.raise_job_alert('job_failed', 'critical', v_job, format('The job %s cannot begin', v_job.name));
  perform sync.close_alerts(array(select id from public.sync_alerts where kind = 'job_waits' and job_id = p_job and closed_at is null));
end
$$;
comment on function sync.fail_job(uuid, jsonb, timestamptz) is
  'The job cannot begin until somebody does something: it has failed, keeps why, and is told in an alert. p_next '
  'null: until it is changed.';

create function sync.begin_job(p_job uuid) returns void
language sql security invoker set search_path = pg_catalog, pg_temp as $$
  update public.sync_jobs set last_execution_at = now(), status = 'running', attempts = 0, last_error = null, waits_since = null, taken_at = null where id = p_job;
  select sync.close_alerts(array(select id from public.sync_alerts where kind in ('job_failed', 'job_waits') and job_id = p_job and closed_at is null));
$$;
comment on function sync.begin_job(uuid) is
  'The job has begun an execution: what kept it from that is forgotten, and its alerts close.';

create function sync.forget_job_alerts() returns trigger
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  -- Under its new name a job is told again.
  perform sync.close_alerts(array(
    select id from public.sync_alerts
     where (kind in ('job_failed', 'job_waits') or kind = 'unusual_run' and (tg_op = 'DELETE' or new.name <> old.name)) and job_id = old.id and closed_at is null));
  return case when tg_op = 'DELETE' then old else new end;
end
$$;
comment on function sync.forget_job_alerts() is
  'Nobody waits for a job that is deleted, paused or never due again: its alerts close. Under another name they open '
  'anew.';
create trigger forget_job_alerts before delete on public.sync_jobs for each row execute function sync.forget_job_alerts();
create trigger forget_renamed_job_alerts before update of name, enabled, cron_expression on public.sync_jobs
  for each row when (new.name <> old.name or not new.enabled or new.cron_expression is null) execute function sync.forget_job_alerts();

revoke all on function sync.raise_job_alert(text, text, public.sync_jobs, text), sync.put_off_job(uuid, jsonb, timestamptz), sync.fail_job(uuid, jsonb, timestamptz),
  sync.begin_job(uuid), sync.forget_job_alerts() from public;
grant execute on function sync.raise_job_alert(text, text, public.sync_jobs, text), sync.put_off_job(uuid, jsonb, timestamptz), sync.fail_job(uuid, jsonb, timestamptz),
  sync.begin_job(uuid) to isthmus_worker;

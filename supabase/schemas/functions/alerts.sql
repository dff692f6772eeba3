-- Purpose: what an operator must know.
-- Locks:   the open alert.

create function sync.escalation_time() returns timestamptz
language sql volatile security invoker set search_path = pg_catalog, pg_temp as $$
  select clock_timestamp() + make_interval(mins => coalesce((select escalate_after_minutes from public.sync_alert_settings), 30))
$$;
comment on function sync.escalation_time() is 'When a critical alert of now is told to the second address, if nobody acknowledges it.';

create function sync.stamp_alert() returns trigger
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  if tg_op = 'INSERT' then
    new.remedy := coalesce((select k.remedy from sync.alert_kinds() k where k.kind = new.kind), '');
    new.escalates_at := case when new.severity = 'critical' then sync.escalation_time() end;
    return new;
  end if;
  if new.severity <> old.severity then
    new.escalates_at := case when new.severity = 'critical' then sync.escalation_time() end;
    if new.severity = 'critical' then
      -- What was acknowledged was less.
      new.acknowledged_by := null;
      new.acknowledged_at := null;
    end if;
  elsif new.acknowledged_by is distinct from old.acknowledged_by then
    if old.closed_at is not null then
      raise exception 'this alert is closed' using errcode = 'IS022', hint = 'There is nothing left to look after: its cause is gone.';
    end if;
    if current_user = 'authenticated' and new.acknowledged_by is not null then
      new.acknowledged_by := sync.actor(null);
    end if;
    new.acknowledged_at := case when new.acknowledged_by is not null then now() end;
  end if;
  return new;
end
$$;
comment on function sync.stamp_alert() is 'Gives an alert its remedy and the time at which it escalates, and stamps who looks after it. Raises IS022 for a closed one.';
create trigger stamp_alert before insert or update of severity, acknowledged_by on public.sync_alerts for each row execute function sync.stamp_alert();

create function sync.subject_of(variadic p_parts text[]) returns text
language sql immutable security invoker set search_path = pg_catalog, pg_temp as $$
  -- A key of an index: the names of many entities would be too long for one.
  select case when length(s.text) > 200 then left(s.text, 160) || ' ' || md5(s.text) else s.text end
    from (select array_to_string(p_parts, ' ') as text) s
$$;
comment on function sync.subject_of(text[]) is 'What of its kind an alert is about, in at most 200 characters. Parts that are null are left out.';

create function sync.raise_alert(p_kind text, p_severity text, p_source_id smallint, p_execution uuid, p_entity_id smallint, p_message text, p_details jsonb,
  p_subject text default '')
returns void
language sql security invoker set search_path = pg_catalog, pg_temp as $$
  insert into public.sync_alerts as a (kind, severity, source_id, entity_id, execution_id, job_id, subject, message, details)
  select p_kind, p_severity, coalesce(p_source_id, x.source_id), p_entity_id, p_execution, x.job_id, p_subject, p_message, p_details
    from (select) n left join public.sync_executions x on x.id = p_execution
  on conflict (kind, source_id, entity_id, subject) where closed_at is null do update
     set occurrences = a.occurrences + 1, last_seen_at = now(), execution_id = coalesce(excluded.execution_id, a.execution_id),
         job_id = coalesce(excluded.job_id, a.job_id), severity = excluded.severity, message = excluded.message, details = excluded.details
$$;
comment on function sync.raise_alert(text, text, smallint, uuid, smallint, text, jsonb, text) is
  'Opens an alert, or counts it again while it is open. p_source_id null: the source of the execution. p_subject: what of its kind it is about; another subject is another alert.';

create function sync.close_alert(p_kind text, p_source_id smallint) returns void
language sql security invoker set search_path = pg_catalog, pg_temp as $$
  update public.sync_alerts set closed_at = now() where kind = p_kind and source_id = p_source_id and closed_at is null
$$;
comment on function sync.close_alert(text, smallint) is 'Closes an alert whose cause is gone.';

revoke all on function sync.escalation_time(), sync.stamp_alert(), sync.subject_of(text[]), sync.raise_alert(text, text, smallint, uuid, smallint, text, jsonb, text), sync.close_alert(text, smallint) from public;
grant execute on function sync.escalation_time(), sync.subject_of(text[]), sync.raise_alert(text, text, smallint, uuid, smallint, text, jsonb, text) to isthmus_worker, isthmus_decisions;
grant execute on function sync.close_alert(text, smallint) to isthmus_worker;

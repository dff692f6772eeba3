-- Purpose: what an operator must know.
-- Locks:   the open alert, where nobody else holds it.

create function sync.escalation_time() returns timestamptz
language sql volatile security invoker set search_path = pg_catalog, pg_temp as $$
  select clock_timestamp() + make_interval(mins => coalesce((select escalate_after_minutes from public.sync_alert_settings), 30))
$$;
comment on function sync.escalation_time() is
  'When a critical alert of now is told to the second address, if nobody acknowledges it.';

create function sync.calm_time() returns interval
language sql immutable security invoker set search_path = pg_catalog, pg_temp as $$ select interval '30 minutes' $$;
comment on function sync.calm_time() is
  'What comes back within this time has not been over, and people are told of it at most once in this time.';

create function sync.stamp_alert() returns trigger
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  if tg_op = 'INSERT' then
    new.remedy := coalesce((select k.remedy from sync.alert_kinds() k where k.kind = new.kind), '');
    new.escalates_at := case when new.severity = 'critical' then sync.escalation_time() end;
    return new;
  end if;
  if old.closed_at is not null and new.closed_at is null then
    -- What nobody was told of is news.
    new.reopened_at := case when new.told_at is not null then clock_timestamp() end;
    -- Who was told that it is over has not been told of what is now.
    if new.told_severity is null then
      new.escalated_at := null;
      new.escalates_at := case when new.severity = 'critical' then sync.escalation_time() end;
    end if;
  end if;
  if new.severity <> old.severity then
    new.escalates_at := case when new.severity = 'critical' then sync.escalation_time() end;
    if new.severity = 'critical' then
      -- What was acknowledged was less, and nobody waits for what is worse.
      new.reopened_at := null;
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
comment on function sync.stamp_alert() is
  'Gives an alert its remedy and the time at which it escalates, and stamps who looks after it. One that comes back '
  'keeps both. Raises IS022 for a closed one.';
create trigger stamp_alert before insert or update of severity, acknowledged_by, closed_at on public.sync_alerts for each row execute function sync.stamp_alert();

create function sync.subject_of(variadic p_parts text[]) returns text
language sql immutable security invoker set search_path = pg_catalog, pg_temp as $$
  -- A key of an index: the names of many entities would be too long for one.
  select case when length(s.text) > 200 then left(s.text, 160) || ' ' || md5(s.text) else s.text end
    from (select array_to_string(p_parts, ' ') as text) s
$$;
comment on function sync.subject_of(text[]) is
  'What of its kind an alert is about, in at most 200 characters. Parts that are null are left out.';

create function sync.note_held_alert(p_id uuid, p_closes boolean, p_severity text, p_execution uuid, p_job uuid, p_message text, p_details jsonb) returns void
language sql security invoker set search_path = pg_catalog, pg_temp as $$
  insert into public.sync_alert_notes as n (alert_id, closes, times, severity, execution_id, job_id, message, details)
  values (p_id, p_closes, (not p_closes)::integer, p_severity, p_execution, p_job, p_message, p_details)
  on conflict (alert_id) do update
     set closes = excluded.closes, times = n.times + excluded.times, severity = excluded.severity, execution_id = excluded.execution_id, job_id = excluded.job_id,
         message = excluded.message, details = excluded.details, happened_at = excluded.happened_at
$$;
comment on function sync.note_held_alert(uuid, boolean, text, uuid, uuid, text, jsonb) is
  'Keeps what became of an alert whose row somebody holds.';

create function sync.count_alert(p_id uuid, p_severity text, p_execution uuid, p_job uuid, p_message text, p_details jsonb) returns void
language sql security invoker set search_path = pg_catalog, pg_temp as $$
  -- The time at which it is seen, and not that of a long page's beginning: what was noted before is older
  -- (sync.apply_alert_notes).
  update public.sync_alerts a
     set closed_at = null, occurrences = a.occurrences + 1, last_seen_at = clock_timestamp(), execution_id = coalesce(p_execution, a.execution_id),
         job_id = coalesce(p_job, a.job_id), severity = p_severity, message = p_message, details = p_details
   where a.id = p_id
$$;
comment on function sync.count_alert(uuid, text, uuid, uuid, text, jsonb) is
  'Counts an alert once more, and opens it where it was closed.';

create function sync.put_alert(p_kind text, p_severity text, p_source_id smallint, p_entity_id smallint, p_execution uuid, p_job uuid, p_subject text, p_message text,
  p_details jsonb) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_id uuid;
begin
  -- A person who edits the row may hold it for hours: pages and watches do not wait for that.
  select a.id into v_id from public.sync_alerts a
   where a.kind = p_kind and a.source_id is not distinct from p_source_id and a.entity_id is not distinct from p_entity_id and a.subject = p_subject and a.closed_at is null
     for no key update skip locked;
  if v_id is not null then
    perform sync.count_alert(v_id, p_severity, p_execution, p_job, p_message, p_details);
    return;
  end if;
  select a.id into v_id from public.sync_alerts a
   where a.kind = p_kind and a.source_id is not distinct from p_source_id and a.entity_id is not distinct from p_entity_id and a.subject = p_subject and a.closed_at is null;
  if v_id is not null then
    perform sync.note_held_alert(v_id, false, p_severity, p_execution, p_job, p_message, p_details);
    return;
  end if;
  -- What comes back soon is the same alert, with who looks after it.
  select a.id into v_id from public.sync_alerts a
   where a.kind = p_kind and a.source_id is not distinct from p_source_id and a.entity_id is not distinct from p_entity_id and a.subject = p_subject
     and a.closed_at > clock_timestamp() - sync.calm_time()
   order by a.closed_at desc limit 1 for no key update skip locked;
  if v_id is not null then
    begin
      perform sync.count_alert(v_id, p_severity, p_execution, p_job, p_message, p_details);
      return;
    exception when unique_violation then
      -- Somebody has opened it anew meanwhile.
      null;
    end;
  end if;
  insert into public.sync_alerts as a (kind, severity, source_id, entity_id, execution_id, job_id, subject, message, details)
  values (p_kind, p_severity, p_source_id, p_entity_id, p_execution, p_job, p_subject, p_message, p_details)
  on conflict (kind, source_id, entity_id, subject) where closed_at is null do update
     set occurrences = a.occurrences + 1, last_seen_at = clock_timestamp(), execution_id = coalesce(excluded.execution_id, a.execution_id),
         job_id = coalesce(excluded.job_id, a.job_id), severity = excluded.severity, message = excluded.message, details = excluded.details;
end
$$;
comment on function sync.put_alert(text, text, smallint, smallint, uuid, uuid, text, text, jsonb) is
  'Opens an alert, counts it again while it is open, or opens it again where it was closed less than half an hour '
  'ago. Waits for no person who holds its row.';

create function sync.raise_alert(p_kind text, p_severity text, p_source_id smallint, p_execution uuid, p_entity_id smallint, p_message text, p_details jsonb,
  p_subject text default '')
returns void
language sql security invoker set search_path = pg_catalog, pg_temp as $$
  select sync.put_alert(p_kind, p_severity, coalesce(p_source_id, x.source_id), p_entity_id, p_execution, x.job_id, p_subject, p_message, p_details)
    from (select) n left join public.sync_executions x on x.id = p_execution
$$;
comment on function sync.raise_alert(text, text, smallint, uuid, smallint, text, jsonb, text) is
  'Opens an alert, or counts it again while it is open. p_source_id null: the source of the execution. p_subject: '
  'what of its kind it is about; another subject is another alert.';

create function sync.close_alerts(p_ids uuid[]) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_free uuid[];
begin
  if cardinality(p_ids) = 0 then
    return;
  end if;
  v_free := array(select a.id from public.sync_alerts a where a.id = any (p_ids) and a.closed_at is null order by a.id for no key update skip locked);
  update public.sync_alerts set closed_at = clock_timestamp() where id = any (v_free);
  perform sync.note_held_alert(a.id, true, null, null, null, null, null) from public.sync_alerts a
    where a.id = any (p_ids) and a.id <> all (v_free) and a.closed_at is null order by a.id;
end
$$;
comment on function sync.close_alerts(uuid[]) is
  'Closes alerts whose cause is gone. One whose row somebody holds closes when it is free.';

create function sync.close_alert(p_kind text, p_source_id smallint) returns void
language sql security invoker set search_path = pg_catalog, pg_temp as $$
  select sync.close_alerts(array(select id from public.sync_alerts where kind = p_kind and source_id = p_source_id and closed_at is null))
$$;
comment on function sync.close_alert(text, smallint) is 'Closes an alert whose cause is gone.';

create function sync.apply_alert_notes() returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_note  public.sync_alert_notes;
  v_alert public.sync_alerts;
begin
  for v_note in select * from public.sync_alert_notes order by happened_at limit 1000 for update skip locked loop
    select * into v_alert from public.sync_alerts where id = v_note.alert_id for no key update skip locked;
    if not found then
      continue when exists (select from public.sync_alerts where id = v_note.alert_id);
    elsif v_note.closes then
      update public.sync_alerts set closed_at = clock_timestamp(), occurrences = occurrences + v_note.times
       where id = v_alert.id and closed_at is null and last_seen_at <= v_note.happened_at;
    elsif v_alert.closed_at is null or v_alert.closed_at < v_note.happened_at then
      begin
        update public.sync_alerts a
           set closed_at = null, occurrences = a.occurrences + v_note.times, last_seen_at = greatest(a.last_seen_at, v_note.happened_at), severity = v_note.severity,
               execution_id = coalesce((select x.id from public.sync_executions x where x.id = v_note.execution_id), a.execution_id),
               job_id = coalesce((select j.id from public.sync_jobs j where j.id = v_note.job_id), a.job_id), message = v_note.message, details = v_note.details
         where a.id = v_alert.id;
      exception when unique_violation then
        -- It was opened anew since, as another row.
        null;
      end;
    end if;
    delete from public.sync_alert_notes where alert_id = v_note.alert_id;
  end loop;
end
$$;
comment on function sync.apply_alert_notes() is
  'Writes into alerts what became of them while somebody held their rows.';

revoke all on function sync.escalation_time(), sync.calm_time(), sync.stamp_alert(), sync.subject_of(text[]), sync.note_held_alert(uuid, boolean, text, uuid, uuid, text, jsonb),
  sync.count_alert(uuid, text, uuid, uuid, text, jsonb), sync.put_alert(text, text, smallint, smallint, uuid, uuid, text, text, jsonb), sync.raise_alert(text, text, smallint, uuid, smallint, text, jsonb, text),
  sync.close_alerts(uuid[]), sync.close_alert(text, smallint), sync.apply_alert_notes() from public;
grant execute on function sync.escalation_time(), sync.calm_time(), sync.subject_of(text[]), sync.note_held_alert(uuid, boolean, text, uuid, uuid, text, jsonb),
  sync.count_alert(uuid, text, uuid, uuid, text, jsonb), sync.put_alert(text, text, smallint, smallint, uuid, uuid, text, text, jsonb), sync.raise_alert(text, text, smallint, uuid, smallint, text, jsonb, text) to isthmus_worker, isthmus_decisions;
grant execute on function sync.close_alerts(uuid[]), sync.close_alert(text, smallint), sync.apply_alert_notes() to isthmus_worker;

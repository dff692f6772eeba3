-- Purpose: what becomes of each tick: that it began and ended its work here.

create function sync.forget_ticks() returns void
language sql security invoker set search_path = pg_catalog, pg_temp as $$
  -- The last tick that worked is kept, however long ago.
  delete from public.sync_ticks t
   using (select max(created_at) as worked_at from public.sync_ticks where ended_at is not null) last
   where t.created_at < now() - interval '1 day' and (t.ended_at is null or t.created_at < last.worked_at)
$$;
comment on function sync.forget_ticks() is 'Deletes what became of ticks of more than a day ago.';

create function sync.begin_tick(p_call uuid) returns uuid
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_id uuid;
begin
  update public.sync_ticks set begun_at = clock_timestamp() where id = p_call and begun_at is null returning id into v_id;
  -- Somebody else than pg_cron has called, or pg_net has sent a call twice.
  if v_id is null then
    v_id := gen_random_uuid();
    insert into public.sync_ticks (id, begun_at) values (v_id, clock_timestamp());
  end if;
  return v_id;
end
$$;
comment on function sync.begin_tick(uuid) is
  'A tick begins its work here. p_call: the call that it answers, if it knows one. Returns what sync.end_tick takes.';

create function sync.note_idle_parts(p_id uuid, p_idle text[]) returns void
language sql security invoker set search_path = pg_catalog, pg_temp as $$
  update public.sync_ticks set idle = p_idle where id = p_id
$$;
comment on function sync.note_idle_parts(uuid, text[]) is
  'Which parts of a tick had nothing to look at: of what these do the tick tells nothing.';

create function sync.note_failed_parts(p_id uuid, p_failed text[]) returns void
language sql security invoker set search_path = pg_catalog, pg_temp as $$
  update public.sync_ticks set failed = p_failed where id = p_id;
  -- What nobody has expected is told at once.
  select sync.raise_alert('internal_error', 'critical', null, null, null,
           format('An error that nobody has expected ended the part %s of a tick. The other parts go on, and it is tried with the next tick. See tick.failed in the log of sync-tick at that time.', split_part(f, ':', 1)),
           jsonb_build_object('part', split_part(f, ':', 1), 'code', 'INTERNAL'), 'tick ' || split_part(f, ':', 1))
    from unnest(p_failed) f where f like '%: INTERNAL';
  -- What fails three times one after the other does not pass by itself, whatever the errors are. A part that looks
  -- seldom is counted by its own looks.
  select sync.raise_alert('tick_part_failed', 'critical', null, null, null,
           format('A part of the work of sync-tick fails each time: %s. What it does is not done; the other parts go on. See tick.failed in the log of sync-tick.', f), '{}', split_part(f, ':', 1))
    from unnest(p_failed) f
   where (select count(*)
            from (select t.failed from public.sync_ticks t
                   where t.ended_at is not null and t.id <> p_id and split_part(f, ':', 1) <> all (t.idle) order by t.created_at desc limit 2) t
           where exists (select from unnest(t.failed) o where o like '%: %' and split_part(o, ':', 1) = split_part(f, ':', 1))) = 2;
$$;
comment on function sync.note_failed_parts(uuid, text[]) is
  'Which parts of a tick''s work failed, each with its error code: for such a tick nobody calls the heartbeat '
  'address. A part that fails three times in a row, each time that it has something to look at, is an alert.';

create function sync.held_up() returns text[]
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  -- Behind another execution a job waits while work is done.
  select array_remove(array[
    case when exists (select from public.sync_jobs where enabled and waits_since is not null and last_error ->> 'code' <> 'EXECUTION_ACTIVE') then 'jobs' end,
    case when exists (select from public.sync_chains where state = 'open' and refusals > 0) then 'sends' end], null)
$$;
comment on function sync.held_up() is
  'What waits although ticks work: jobs that cannot begin for a reason that passes, pages that the queue does not '
  'accept.';

create function sync.end_tick(p_id uuid) returns void
language sql security invoker set search_path = pg_catalog, pg_temp as $$
  update public.sync_ticks set ended_at = clock_timestamp(), failed = failed || sync.held_up() where id = p_id;
  select sync.close_alerts(array(select id from public.sync_alerts where kind in ('tick_missing', 'tick_refused', 'target_refuses') and closed_at is null));
  select sync.close_alerts(array(
    select a.id from public.sync_alerts a
     where a.kind = 'tick_part_failed' and a.closed_at is null
       and not exists (select from public.sync_ticks t cross join unnest(t.failed || t.idle) f where t.id = p_id and (f like '%: %' or f = any (t.idle)) and split_part(f, ':', 1) = a.subject)));
  -- One that passes by the next tick is told all the same.
  select sync.close_alerts(array(
    select a.id from public.sync_alerts a
     where a.kind = 'internal_error' and a.subject like 'tick %' and a.closed_at is null and a.last_seen_at <= clock_timestamp() - interval '10 minutes'
       and not exists (select from public.sync_ticks t cross join unnest(t.failed || t.idle) f where t.id = p_id and 'tick ' || split_part(f, ':', 1) = a.subject)));
  -- Where no like run comes any more, a day after somebody has looked is enough.
  select sync.close_alerts(array(
    select a.id from public.sync_alerts a
     where a.kind = 'unusual_run' and a.closed_at is null and greatest(a.acknowledged_at, a.last_seen_at) < clock_timestamp() - interval '1 day' and a.acknowledged_at is not null));
  select sync.apply_alert_notes();
  select sync.forget_ticks();
$$;
comment on function sync.end_tick(uuid) is 'A tick has done its work: who waits for one is told.';

revoke all on function sync.forget_ticks(), sync.begin_tick(uuid), sync.note_idle_parts(uuid, text[]), sync.note_failed_parts(uuid, text[]), sync.held_up(), sync.end_tick(uuid) from public;
grant execute on function sync.forget_ticks(), sync.begin_tick(uuid), sync.note_idle_parts(uuid, text[]), sync.note_failed_parts(uuid, text[]), sync.held_up(), sync.end_tick(uuid) to isthmus_worker;

-- Purpose: which messages about alerts are due: one when an alert opens, one when it escalates, one when it is over, one instead of a storm.
-- Locks:   the rows of alerts that something is to be told of, skipping those that somebody else is at.

create function sync.slots_past_bound() returns text[]
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select array(select s.slot from unnest(array['first', 'second']) s (slot)
                where (select d.created_at from public.sync_alert_deliveries d where d.slot = s.slot and d.event <> 'test' order by d.created_at desc
                        offset coalesce((select hourly from public.sync_alert_settings), 20) - 1 limit 1) > clock_timestamp() - interval '1 hour')
$$;
comment on function sync.slots_past_bound() is 'The addresses that have got as many messages within the last hour as one gets singly: the rest comes as digests.';

create function sync.slots_at_rest() returns text[]
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select array(select s.slot from unnest(sync.slots_past_bound()) s (slot)
                where exists (select from public.sync_alert_deliveries d where d.slot = s.slot and d.event <> 'test' and d.created_at > clock_timestamp() - interval '10 minutes'))
$$;
comment on function sync.slots_at_rest() is 'The addresses that get nothing now: past their bound of the hour, and with a message in the last ten minutes.';

create function sync.put_messages(p_ids uuid[], p_events text[], p_slots text[], p_ref text) returns integer
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_most  integer := coalesce((select digest_above from public.sync_alert_settings), 5);
  v_past  text[] := sync.slots_past_bound();
  v_group record;
  v_id    uuid;
  v_alert public.sync_alerts;
  v_count integer := 0;
begin
  for v_group in
    select e.event, e.slot, array_agg(e.id order by e.n) as ids
      from unnest(p_ids, p_events, p_slots) with ordinality as e (id, event, slot, n) group by 1, 2 order by min(e.n)
  loop
    if cardinality(v_group.ids) > (case when v_group.slot = any (v_past) then 1 else v_most end) then
      v_id := gen_random_uuid();
      insert into public.sync_alert_deliveries (id, event, slot, alert_ids, body)
      values (v_id, 'digest', v_group.slot, v_group.ids, sync.digest_message(v_id, v_group.event, v_group.slot, v_group.ids, p_ref));
      v_count := v_count + 1;
      continue;
    end if;
    for v_alert in select a.* from unnest(v_group.ids) with ordinality i (id, n) join public.sync_alerts a on a.id = i.id order by i.n loop
      v_id := gen_random_uuid();
      insert into public.sync_alert_deliveries (id, event, slot, alert_ids, body)
      values (v_id, v_group.event, v_group.slot, array[v_alert.id], sync.single_message(v_id, v_group.event, v_group.slot, v_alert, p_ref));
      v_count := v_count + 1;
    end loop;
  end loop;
  return v_count;
end
$$;
comment on function sync.put_messages(uuid[], text[], text[], text) is
  'Puts messages into the outbox, for each alert its event and the address that is told; more of one event than digest_above become one, and all of them where the address is past its bound of the hour. Returns how many.';

create function sync.slot_of(p_kind text, p_subject text, p_first boolean, p_second boolean) returns text
language sql immutable security invoker set search_path = pg_catalog, pg_temp as $$
  -- Of an address that does not answer the other one is told. Where there is no first address, the second is told of everything.
  select case when p_kind = 'alert_undelivered' then case p_subject when 'second' then 'first' else 'second' end
              when p_second and not p_first then 'second' else 'first' end
$$;
comment on function sync.slot_of(text, text, boolean, boolean) is 'Which address is told of an alert when it opens. p_first, p_second: which addresses there are.';

create function sync.move_messages() returns void
language sql security invoker set search_path = pg_catalog, pg_temp as $$
  with moved as (
    update public.sync_alert_deliveries set slot = 'second' where slot = 'first' and status in ('waiting', 'missed') and event <> 'test' returning alert_ids
  )
  update public.sync_alerts a set told_slots = array(select distinct t from unnest(array_replace(a.told_slots, 'first', 'second')) t)
   where a.told_severity is not null and a.id in (select unnest(m.alert_ids) from moved m)
$$;
comment on function sync.move_messages() is 'What waits for the first address goes to the second.';

create function sync.fill_outbox(p_first boolean, p_second boolean, p_ref text) returns integer
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_alert  public.sync_alerts;
  v_here   boolean;
  v_slot   text;
  v_ids    uuid[] := '{}';
  v_events text[] := '{}';
  v_slots  text[] := '{}';
  v_rest   text[] := sync.slots_at_rest();
begin
  -- What has opened and closed between two looks is nobody's work. Of all else people are told that it is over, wherever they were told of it.
  for v_alert in
    -- What has come back once is over when it stays away.
    select * from public.sync_alerts
     where closed_at is not null and told_severity is not null and (reopened_at is null or closed_at <= clock_timestamp() - sync.calm_time())
     order by closed_at, id for no key update skip locked
  loop
    continue when exists (select from unnest(v_alert.told_slots) t where case when t = 'first' and p_second and not p_first then 'second' else t end = any (v_rest));
    for v_slot in
      select distinct case when t = 'first' and p_second and not p_first then 'second' else t end from unnest(v_alert.told_slots) t order by 1
    loop
      v_ids := v_ids || v_alert.id;
      v_events := v_events || 'cleared'::text;
      v_slots := v_slots || v_slot;
    end loop;
    update public.sync_alerts set told_severity = null, told_slots = '{}', told_at = clock_timestamp() where id = v_alert.id;
  end loop;

  for v_alert in
    select * from public.sync_alerts
     where closed_at is null
       and (told_severity is null or told_severity = 'warning' and severity = 'critical' or escalates_at <= now() and escalated_at is null and acknowledged_by is null)
       -- What comes and goes is told once in a while, and not where somebody looks after it.
       and (told_severity is not null or reopened_at is null or acknowledged_by is null and coalesce(told_at <= clock_timestamp() - sync.calm_time(), true))
     order by first_seen_at, id for no key update skip locked
  loop
    v_slot := sync.slot_of(v_alert.kind, v_alert.subject, p_first, p_second);
    v_here := case v_slot when 'second' then p_second else p_first end;
    if v_here and v_slot <> all (v_rest) and (v_alert.told_severity is null or v_alert.told_severity = 'warning' and v_alert.severity = 'critical') then
      v_ids := v_ids || v_alert.id;
      v_events := v_events || case when v_alert.told_severity is null then 'opened' else 'escalated' end;
      v_slots := v_slots || v_slot;
      v_alert.told_severity := v_alert.severity;
      v_alert.told_slots := array(select distinct t from unnest(v_alert.told_slots || v_slot) t);
      v_alert.told_at := clock_timestamp();
    end if;
    if p_second and 'second' <> all (v_rest) and v_alert.kind <> 'alert_undelivered' and v_alert.told_severity is not null and 'second' <> all (v_alert.told_slots)
       and v_alert.escalates_at <= now() and v_alert.escalated_at is null and v_alert.acknowledged_by is null then
      v_ids := v_ids || v_alert.id;
      v_events := v_events || 'escalated'::text;
      v_slots := v_slots || 'second'::text;
      v_alert.told_slots := v_alert.told_slots || 'second'::text;
      v_alert.escalated_at := now();
      v_alert.told_at := clock_timestamp();
    end if;
    update public.sync_alerts
       set told_severity = v_alert.told_severity, told_slots = v_alert.told_slots, escalated_at = v_alert.escalated_at, told_at = v_alert.told_at
     where id = v_alert.id and (told_severity, told_slots, escalated_at) is distinct from (v_alert.told_severity, v_alert.told_slots, v_alert.escalated_at);
  end loop;
  return sync.put_messages(v_ids, v_events, v_slots, p_ref);
end
$$;
comment on function sync.fill_outbox(boolean, boolean, text) is
  'Looks which alerts people have to be told of, and puts the messages into the outbox. p_first, p_second: which addresses there are. Returns how many messages.';

create function sync.is_needed(p_message public.sync_alert_deliveries) returns boolean
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select p_message.event <> 'test' and (
    exists (select from public.sync_alerts a where a.id = any (p_message.alert_ids) and (a.closed_at is null or a.told_severity is not null))
    or (p_message.event = 'cleared' or p_message.body ->> 'of' in ('cleared', 'missed')) and p_message.created_at > now() - interval '30 days')
$$;
comment on function sync.is_needed(public.sync_alert_deliveries) is
  'Whether a message that has not arrived says something that is still so: an alert of it is open, or was a moment ago, or it says that one is over, for 30 days.';

create function sync.end_unneeded(p_message public.sync_alert_deliveries) returns text
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select case when p_message.event in ('opened', 'escalated') or p_message.body ->> 'of' in ('opened', 'escalated') then 'missed' else 'dropped' end
$$;
comment on function sync.end_unneeded(public.sync_alert_deliveries) is
  'What becomes of a message that has not arrived and that nothing depends on any more: that something opened is told in a summary.';

create function sync.wake_messages(p_slot text) returns void
language sql security invoker set search_path = pg_catalog, pg_temp as $$
  update public.sync_alert_deliveries d
     set status = case when n.needed then 'waiting' else sync.end_unneeded(d) end, tries = 0, next_attempt_at = clock_timestamp(),
         ended_at = case when not n.needed then coalesce(d.ended_at, clock_timestamp()) end,
         -- A short message that is refused once more is given up for good: the others would be told of it for ever.
         body = case when d.body ? 'refused' then d.body || '{"last": true}' else d.body end
    from (select f.id, sync.is_needed(f) as needed from public.sync_alert_deliveries f where f.slot = p_slot and f.status = 'failed') n
   where d.id = n.id
$$;
comment on function sync.wake_messages(text) is 'What was given up at an address waits again where it is still so, however old it is.';

create function sync.was_told(p_alert uuid, p_slot text, p_before bigint) returns boolean
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  -- Messages that arrived are forgotten after a month: of what is that old there are none.
  select coalesce(bool_or(d.status in ('waiting', 'sent', 'delivered')), true)
    from public.sync_alert_deliveries d
   where d.alert_ids @> array[p_alert] and d.slot = p_slot and d.ordinal < p_before
     and (d.event in ('opened', 'escalated') or d.body ->> 'of' in ('opened', 'escalated'))
$$;
comment on function sync.was_told(uuid, text, bigint) is 'Whether a message that an alert has opened has arrived at an address, or may yet. p_before: messages before this ordinal count.';

create function sync.drop_untold_ends(p_ref text) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_end  public.sync_alert_deliveries;
  v_told uuid[];
begin
  for v_end in
    select * from public.sync_alert_deliveries where status = 'waiting' and tries = 0 and (event = 'cleared' or body ->> 'of' = 'cleared') order by ordinal for no key update skip locked
  loop
    v_told := array(select a from unnest(v_end.alert_ids) with ordinality i (a, n) where sync.was_told(a, v_end.slot, v_end.ordinal) order by n);
    if v_told = '{}' then
      update public.sync_alert_deliveries set status = 'dropped', ended_at = clock_timestamp(), last_error = 'nobody there was told that it had opened' where id = v_end.id;
    elsif v_told <> v_end.alert_ids then
      update public.sync_alert_deliveries set alert_ids = v_told, body = sync.digest_message(id, 'cleared', slot, v_told, p_ref) where id = v_end.id;
    end if;
  end loop;
end
$$;
comment on function sync.drop_untold_ends(text) is 'That an alert is over is nothing to an address to which nothing had come about it.';

create function sync.put_summary(p_slot text, p_ref text) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_ids uuid[] := array(
    select distinct a.id from public.sync_alert_deliveries d cross join unnest(d.alert_ids) i (id) join public.sync_alerts a on a.id = i.id
     where d.slot = p_slot and d.status = 'missed' and a.closed_at is not null and not exists (
       select from public.sync_alert_deliveries o where o.alert_ids @> array[a.id] and o.slot = p_slot and o.status = 'delivered'));
  v_id  uuid := gen_random_uuid();
begin
  update public.sync_alert_deliveries set status = 'dropped' where slot = p_slot and status = 'missed';
  if v_ids <> '{}' then
    insert into public.sync_alert_deliveries (id, event, slot, alert_ids, body)
    values (v_id, 'digest', p_slot, v_ids, sync.digest_message(v_id, 'missed', p_slot, v_ids, p_ref));
  end if;
end
$$;
comment on function sync.put_summary(text, text) is 'An address works again: one message about what opened and was over while nothing arrived there.';

create function sync.nobody_told() returns boolean
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select exists (
    select from (select d.alert_ids, d.created_at from public.sync_alert_deliveries d where d.status in ('waiting', 'sent') and d.created_at < clock_timestamp() - interval '15 minutes'
                 union all select d.alert_ids, d.created_at from public.sync_alert_deliveries d where d.status = 'failed') m
     where exists (select from public.sync_alerts a where a.id = any (m.alert_ids) and a.closed_at is null)
       and not exists (select from public.sync_alert_deliveries o where o.slot in ('first', 'second') and o.status = 'delivered' and o.ended_at > m.created_at))
$$;
comment on function sync.nobody_told() is
  'Whether a message about an open alert was given up, or has not arrived for a quarter of an hour, and none has arrived anywhere since it was made out.';

create function sync.probe_slot(p_slot text) returns void
language sql security invoker set search_path = pg_catalog, pg_temp as $$
  update public.sync_alert_deliveries d
     set status = 'waiting', tries = greatest(d.tries - 1, 0), next_attempt_at = clock_timestamp(), ended_at = null
   where d.id = (select f.id from public.sync_alert_deliveries f where f.slot = p_slot and f.status = 'failed' and sync.is_needed(f) order by f.ordinal limit 1)
     and not exists (select from public.sync_alert_deliveries o where o.slot = p_slot and o.status in ('waiting', 'sent'))
$$;
comment on function sync.probe_slot(text) is 'Tries the oldest message that was given up at an address, and is still so, once more.';

revoke all on function sync.slots_past_bound(), sync.slots_at_rest(), sync.end_unneeded(public.sync_alert_deliveries), sync.was_told(uuid, text, bigint),
  sync.drop_untold_ends(text), sync.put_summary(text, text), sync.nobody_told(), sync.put_messages(uuid[], text[], text[], text), sync.slot_of(text, text, boolean, boolean), sync.move_messages(), sync.is_needed(public.sync_alert_deliveries),
  sync.wake_messages(text), sync.probe_slot(text), sync.fill_outbox(boolean, boolean, text) from public;

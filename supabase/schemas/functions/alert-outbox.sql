-- Purpose: which messages about alerts are due: one when an alert opens, one when it escalates, one when it is over,
--          one instead of a storm.
-- Locks:   the rows of alerts that something is to be told of, skipping those that somebody else is at.

create function sync.slots_past_bound() returns text[]
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select array(select s.slot from unnest(array['first', 'second']) s (slot)
                where (select d.created_at from public.sync_alert_deliveries d where d.slot = s.slot and d.event <> 'test' order by d.created_at desc
                        offset coalesce((select hourly from public.sync_alert_settings), 20) - 1 limit 1) > clock_timestamp() - interval '1 hour')
$$;
comment on function sync.slots_past_bound() is
  'The addresses that have got as many messages within the last hour as one gets singly: the rest comes as digests.';

create function sync.slots_at_rest() returns text[]
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select array(select s.slot from unnest(sync.slots_past_bound()) s (slot)
                where exists (select from public.sync_alert_deliveries d where d.slot = s.slot and d.event <> 'test' and d.created_at > clock_timestamp() - interval '10 minutes'))
$$;
comment on function sync.slots_at_rest() is
  'The addresses that get nothing now: past their bound of the hour, and with a message in the last ten minutes.';

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
  'Puts messages into the outbox, for each alert its event and the address that is told; more of one event than '
  'digest_above become one, and all of them where the address is past its bound of the hour. Returns how many.';

create function sync.slot_of(p_kind text, p_subject text, p_first boolean, p_second boolean) returns text
language sql immutable security invoker set search_path = pg_catalog, pg_temp as $$
  -- Of an address that does not answer the other one is told. Where there is no first address, the second is told of
  -- everything.
  select case when p_kind = 'alert_undelivered' then case p_subject when 'second' then 'first' else 'second' end
              when p_second and not p_first then 'second' else 'first' end
$$;
comment on function sync.slot_of(text, text, boolean, boolean) is
  'Which address is told of an alert when it opens. p_first, p_second: which addresses there are.';

create function sync.move_messages() returns void
language sql security invoker set search_path = pg_catalog, pg_temp as $$
  with moved as (
    update public.sync_alert_deliveries set slot = 'second' where slot = 'first' and status in ('waiting', 'missed') and event <> 'test' returning alert_ids
  )
  update public.sync_alerts a set told_slots = array(select distinct t from unnest(array_replace(a.told_slots, 'first', 'second')) t)
   where a.id in (select b.id from public.sync_alerts b
                   where b.told_severity is not null and b.id in (select unnest(m.alert_ids) from moved m) order by b.id for no key update skip locked)
$$;
comment on function sync.move_messages() is
  'What waits for the first address goes to the second. Where somebody holds an alert, sync.fill_outbox says the '
  'same of it.';

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
  -- What has opened and closed between two looks is nobody's work. Of all else people are told that it is over,
  -- wherever they were told of it.
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
       -- What comes and goes is told once in a while; where somebody looks after it, when it has come to stay: it was
       -- told as over.
       and (told_severity is not null or reopened_at is null or coalesce(told_at <= clock_timestamp() - sync.calm_time(), true)
              and (acknowledged_by is null or reopened_at <= clock_timestamp() - sync.calm_time()))
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
  'Looks which alerts people have to be told of, and puts the messages into the outbox. p_first, p_second: which '
  'addresses there are. Returns how many messages.';

revoke all on function sync.slots_past_bound(), sync.slots_at_rest(), sync.put_messages(uuid[], text[], text[], text),
  sync.slot_of(text, text, boolean, boolean), sync.move_messages(), sync.fill_outbox(boolean, boolean, text) from public;

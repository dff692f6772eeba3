-- Purpose: which messages about alerts are due: one when an alert opens, one when it escalates, one when it is over, one instead of a storm.
-- Locks:   the rows of alerts that something is to be told of, skipping those that somebody else is at.

create function sync.put_messages(p_ids uuid[], p_events text[], p_slots text[], p_ref text) returns integer
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_most  integer := coalesce((select digest_above from public.sync_alert_settings), 5);
  v_group record;
  v_id    uuid;
  v_alert public.sync_alerts;
  v_count integer := 0;
begin
  for v_group in
    select e.event, e.slot, array_agg(e.id order by e.n) as ids
      from unnest(p_ids, p_events, p_slots) with ordinality as e (id, event, slot, n) group by 1, 2 order by min(e.n)
  loop
    if cardinality(v_group.ids) > v_most then
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
  'Puts messages into the outbox, for each alert its event and the address that is told; more of one event than digest_above become one. Returns how many.';

create function sync.fill_outbox(p_first boolean, p_second boolean, p_ref text) returns integer
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_alert  public.sync_alerts;
  v_here   boolean;
  v_slot   text;
  v_ids    uuid[] := '{}';
  v_events text[] := '{}';
  v_slots  text[] := '{}';
begin
  -- What has opened and closed between two looks is nobody's work. Of all else people are told that it is over, wherever they were told of it.
  for v_alert in
    select * from public.sync_alerts where closed_at is not null and told_severity is not null order by closed_at, id for no key update skip locked
  loop
    foreach v_slot in array array['first', 'second'] loop
      if v_slot = 'first' and p_first and v_alert.kind <> 'alert_undelivered'
         or v_slot = 'second' and p_second and (v_alert.escalated_at is not null or v_alert.kind = 'alert_undelivered') then
        v_ids := v_ids || v_alert.id;
        v_events := v_events || 'cleared'::text;
        v_slots := v_slots || v_slot;
      end if;
    end loop;
    update public.sync_alerts set told_severity = null where id = v_alert.id;
  end loop;

  for v_alert in
    select * from public.sync_alerts
     where closed_at is null
       and (told_severity is null or told_severity = 'warning' and severity = 'critical' or escalates_at <= now() and escalated_at is null and acknowledged_by is null)
     order by first_seen_at, id for no key update skip locked
  loop
    -- Of an address that does not answer the other one is told.
    v_slot := case when v_alert.kind = 'alert_undelivered' then 'second' else 'first' end;
    v_here := case v_slot when 'second' then p_second else p_first end;
    if v_here and (v_alert.told_severity is null or v_alert.told_severity = 'warning' and v_alert.severity = 'critical') then
      v_ids := v_ids || v_alert.id;
      v_events := v_events || case when v_alert.told_severity is null then 'opened' else 'escalated' end;
      v_slots := v_slots || v_slot;
      update public.sync_alerts set told_severity = severity where id = v_alert.id;
    end if;
    if p_second and v_slot = 'first' and (v_here or v_alert.told_severity is not null)
       and v_alert.escalates_at <= now() and v_alert.escalated_at is null and v_alert.acknowledged_by is null then
      v_ids := v_ids || v_alert.id;
      v_events := v_events || 'escalated'::text;
      v_slots := v_slots || 'second'::text;
      update public.sync_alerts set escalated_at = now() where id = v_alert.id;
    end if;
  end loop;
  return sync.put_messages(v_ids, v_events, v_slots, p_ref);
end
$$;
comment on function sync.fill_outbox(boolean, boolean, text) is
  'Looks which alerts people have to be told of, and puts the messages into the outbox. p_first, p_second: which addresses there are. Returns how many messages.';

revoke all on function sync.put_messages(uuid[], text[], text[], text), sync.fill_outbox(boolean, boolean, text) from public;

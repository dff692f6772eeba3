-- Purpose: what becomes of messages about alerts that do not arrive: which are still needed and tried again, what is
--          told instead, and who hears of it.
-- Locks:   the rows of messages, and the alert alert_undelivered, where nobody else holds it.

create function sync.is_needed(p_message public.sync_alert_deliveries) returns boolean
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select p_message.event <> 'test' and (
    exists (select from public.sync_alerts a where a.id = any (p_message.alert_ids) and (a.closed_at is null or a.told_severity is not null))
    or (p_message.event = 'cleared' or coalesce(p_message.body ->> 'of', '') in ('cleared', 'missed')) and p_message.created_at > now() - interval '30 days')
$$;
comment on function sync.is_needed(public.sync_alert_deliveries) is
  'Whether a message that has not arrived says something that is still so: an alert of it is open, or was a moment '
  'ago, or it says that one is over, for 30 days.';

create function sync.end_unneeded(p_message public.sync_alert_deliveries) returns text
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select case when p_message.event in ('opened', 'escalated') or p_message.body ->> 'of' in ('opened', 'escalated') then 'missed' else 'dropped' end
$$;
comment on function sync.end_unneeded(public.sync_alert_deliveries) is
  'What becomes of a message that has not arrived and that nothing depends on any more: that something opened is '
  'told in a summary.';

create function sync.fresh_body(p_message public.sync_alert_deliveries, p_ref text) returns jsonb
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select case when p_message.event = 'digest' and p_message.body ->> 'of' in ('opened', 'escalated') and not p_message.body ? 'refused'
              then sync.digest_message(p_message.id, p_message.body ->> 'of', p_message.slot, p_message.alert_ids, p_ref)
              else p_message.body end
$$;
comment on function sync.fresh_body(public.sync_alert_deliveries, text) is
  'What a message says that was given up, when it is tried again: a digest says which of its alerts are over, since '
  'nobody else says it.';

create function sync.wake_messages(p_slot text, p_ref text) returns void
language sql security invoker set search_path = pg_catalog, pg_temp as $$
  update public.sync_alert_deliveries d
     set status = case when n.needed then 'waiting' else sync.end_unneeded(d) end, tries = 0, next_attempt_at = clock_timestamp(),
         ended_at = case when not n.needed then coalesce(d.ended_at, clock_timestamp()) end,
         -- A short message that is refused once more is given up for good: the others would be told of it for ever.
         body = case when d.body ? 'refused' then d.body || '{"last": true}' when n.needed then sync.fresh_body(d, p_ref) else d.body end
    from (select f.id, sync.is_needed(f) as needed from public.sync_alert_deliveries f where f.slot = p_slot and f.status = 'failed') n
   where d.id = n.id
$$;
comment on function sync.wake_messages(text, text) is
  'What was given up at an address waits again where it is still so, however old it is.';

create function sync.was_told(p_alert uuid, p_slot text, p_before bigint) returns boolean
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  -- Messages that arrived are forgotten after a month: of what is that old there are none.
  select coalesce(bool_or(d.status in ('waiting', 'sent', 'delivered')), true)
    from public.sync_alert_deliveries d
   where d.alert_ids @> array[p_alert] and d.slot = p_slot and d.ordinal < p_before
     and (d.event in ('opened', 'escalated') or d.body ->> 'of' in ('opened', 'escalated'))
$$;
comment on function sync.was_told(uuid, text, bigint) is
  'Whether a message that an alert has opened has arrived at an address, or may yet. p_before: messages before this '
  'ordinal count.';

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
comment on function sync.drop_untold_ends(text) is
  'That an alert is over is nothing to an address to which nothing had come about it.';

create function sync.put_summary(p_slot text, p_ref text) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_ids uuid[] := array(
    select distinct a.id
      from (select m.alert_ids from public.sync_alert_deliveries m where m.slot = p_slot and m.status = 'missed'
            union all
            select f.alert_ids from public.sync_alert_deliveries f
             where f.slot = p_slot and f.status = 'failed' and not sync.is_needed(f) and sync.end_unneeded(f) = 'missed') d
     cross join unnest(d.alert_ids) i (id) join public.sync_alerts a on a.id = i.id
     where a.closed_at is not null and not exists (
         select from public.sync_alert_deliveries o
          where o.alert_ids @> array[a.id] and o.slot = p_slot and (o.status = 'delivered' or o.status in ('waiting', 'sent') and o.body ->> 'of' = 'missed')));
  v_id  uuid := gen_random_uuid();
begin
  update public.sync_alert_deliveries set status = 'dropped' where slot = p_slot and status = 'missed';
  if v_ids <> '{}' then
    insert into public.sync_alert_deliveries (id, event, slot, alert_ids, body)
    values (v_id, 'digest', p_slot, v_ids, sync.digest_message(v_id, 'missed', p_slot, v_ids, p_ref));
  end if;
end
$$;
comment on function sync.put_summary(text, text) is
  'One message about what opened and was over while nothing arrived at an address.';

create function sync.nobody_told() returns boolean
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  with undelivered as (
    select u.subject as slot, u.told_severity is not null and exists (
             select from public.sync_alert_deliveries o where o.alert_ids @> array[u.id] and o.status = 'delivered') as told
      from public.sync_alerts u where u.kind = 'alert_undelivered' and u.closed_at is null
  )
  select exists (select from undelivered where not told)
      or exists (
        select from public.sync_alert_deliveries d cross join unnest(d.alert_ids) i (id) join public.sync_alerts a on a.id = i.id and a.closed_at is null
         where d.status in ('waiting', 'sent') and d.created_at < clock_timestamp() - interval '15 minutes'
           and d.slot not in (select u.slot from undelivered u where u.told)
           -- A later one that has arrived says it as well, but for the one that it is over.
           and not exists (select from public.sync_alert_deliveries o
                            where o.alert_ids @> array[a.id] and o.ordinal > d.ordinal and o.status = 'delivered' and sync.end_unneeded(o) = 'missed'))
$$;
comment on function sync.nobody_told() is
  'Whether people do not hear: messages do not arrive at an address, and no other one was told of that '
  '(alert_undelivered); or a message about an open alert has not arrived anywhere for a quarter of an hour.';

create function sync.probe_slot(p_slot text, p_ref text) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  if exists (select from public.sync_alert_deliveries o where o.slot = p_slot and o.status in ('waiting', 'sent')) then
    return;
  end if;
  update public.sync_alert_deliveries d
     set status = 'waiting', tries = greatest(d.tries - 1, 0), next_attempt_at = clock_timestamp(), ended_at = null, body = sync.fresh_body(d, p_ref)
   where d.id = (select f.id from public.sync_alert_deliveries f where f.slot = p_slot and f.status = 'failed' and sync.is_needed(f) order by f.ordinal limit 1);
  if not found then
    -- Nothing of it is still so: that it was is what shows whether the address works.
    perform sync.put_summary(p_slot, p_ref);
  end if;
end
$$;
comment on function sync.probe_slot(text, text) is
  'Tries the oldest message that was given up at an address, and is still so, once more; where none is still so, a '
  'summary of them.';

create function sync.slot_secret(p_slot text) returns text
language sql immutable security invoker set search_path = pg_catalog, pg_temp
as $$ select 'isthmus_webhook_url' || case p_slot when 'second' then '_2' else '' end $$;
comment on function sync.slot_secret(text) is 'Which secret of Vault holds the first, and the second address.';

create function sync.tell_undelivered(p_first boolean, p_second boolean, p_ref text) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_slot    text;
  v_last    public.sync_alert_deliveries;
  v_says    text;
  v_details jsonb;
begin
  foreach v_slot in array array['first', 'second'] loop
    v_says := null;
    if (case v_slot when 'first' then p_first else p_second end) then
      -- The latest end at the address counts.
      select * into v_last from public.sync_alert_deliveries where slot = v_slot and status in ('delivered', 'failed') order by ended_at desc limit 1;
      if v_last.status = 'failed' then
        v_says := format('Messages about alerts do not arrive at the %s address (Vault secret %s): %s.', v_slot, sync.slot_secret(v_slot), v_last.last_error);
        v_details := jsonb_build_object('since', v_last.ended_at, 'delivery', v_last.id, 'status', v_last.status_code, 'error', v_last.last_error);
        if v_last.ended_at <= now() - interval '1 hour' then
          perform sync.probe_slot(v_slot, p_ref);
        end if;
      else
        perform sync.wake_messages(v_slot, p_ref);
        perform sync.put_summary(v_slot, p_ref);
      end if;
    else
      -- Whatever comes back, or comes instead, is tried at once.
      perform sync.wake_messages(v_slot, p_ref);
      update public.sync_alert_deliveries d set status = sync.end_unneeded(d), ended_at = clock_timestamp()
       where d.slot = v_slot and d.status = 'waiting' and d.event <> 'test' and not sync.is_needed(d);
      if exists (select from public.sync_alert_deliveries d join public.sync_alerts a on a.id = any (d.alert_ids)
                  where d.slot = v_slot and d.status = 'waiting' and a.closed_at is null and a.kind <> 'alert_undelivered') then
        v_says := format('Messages about alerts wait for the %s address: there is no Vault secret %s.', v_slot, sync.slot_secret(v_slot));
        v_details := jsonb_build_object('missing', sync.slot_secret(v_slot));
      end if;
    end if;
    if v_says is null then
      perform sync.close_alerts(array(select id from public.sync_alerts where kind = 'alert_undelivered' and subject = v_slot and closed_at is null));
    elsif not exists (select from public.sync_alerts where kind = 'alert_undelivered' and subject = v_slot and closed_at is null and details = v_details) then
      perform sync.raise_alert('alert_undelivered', 'critical', null, null, null, v_says, v_details, v_slot);
    end if;
  end loop;
end
$$;
comment on function sync.tell_undelivered(boolean, boolean, text) is
  'Opens the alert alert_undelivered of an address while the latest message to it was given up, or messages wait for '
  'it that is not there; closes it when one has arrived, or none waits. Then what was given up is sent again; '
  'before, one message an hour. p_first, p_second: which addresses there are. p_ref: that of the project.';

revoke all on function sync.is_needed(public.sync_alert_deliveries), sync.end_unneeded(public.sync_alert_deliveries), sync.fresh_body(public.sync_alert_deliveries, text),
  sync.wake_messages(text, text), sync.was_told(uuid, text, bigint), sync.drop_untold_ends(text), sync.put_summary(text, text), sync.nobody_told(), sync.probe_slot(text, text),
  sync.slot_secret(text), sync.tell_undelivered(boolean, boolean, text) from public;

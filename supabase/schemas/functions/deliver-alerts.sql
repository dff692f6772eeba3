-- Purpose: messages about alerts leave from the database, through pg_net, with every function dead. Addresses and key
--          come from Vault.
-- Locks:   the row of public.sync_alert_settings, so that one look is at work at a time; the rows of messages.

create function sync.address_of(p_secret text, out url text, out problem text)
language plpgsql security invoker set search_path = pg_catalog, pg_temp set standard_conforming_strings = on as $$
declare
  -- Path and query hold what is secret of such an address. Without TLS it would be everybody's on the way.
  c_secure constant text := '^https://[^[:space:]/?#@\\]+([/?][^[:space:]#\\]*)?$';
  c_local  constant text := '^http://(localhost|127[.]0[.]0[.]1|\[::1\]|host[.]docker[.]internal|[a-z0-9_-]+)(:[0-9]{1,5})?([/?][^[:space:]#\\]*)?$';
begin
  if to_regclass('vault.decrypted_secrets') is null then
    return;
  end if;
  url := sync.read_secret(p_secret);
  if url !~ '^[!-~]+$' or (url !~* c_secure and url !~* c_local) then
    url := null;
    problem := format('the Vault secret %s is no address: it begins with https://, and has no space, password or #', p_secret);
  end if;
exception
  when undefined_object then
    null;
  when object_not_in_prerequisite_state then
    get stacked diagnostics problem = message_text;
end
$$;
comment on function sync.address_of(text) is
  'An address of Vault, checked. Both null: there is none. problem holds no part of it.';

create function sync.webhook_headers(p_id uuid, p_body text) returns jsonb
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_time text := floor(extract(epoch from clock_timestamp()))::bigint::text;
  v_key  text;
begin
  begin
    v_key := sync.read_secret('isthmus_webhook_key');
  exception when undefined_object then
    -- A chat asks for no signature.
    null;
  end;
  if v_key !~ '^[!-~]{16,}$' then
    raise exception 'the Vault secret isthmus_webhook_key is no key'
      using errcode = '55000', hint = 'It has 16 characters at least, and neither spaces nor line ends.';
  end if;
  return jsonb_strip_nulls(jsonb_build_object('content-type', 'application/json', 'x-isthmus-delivery', p_id,
    'x-isthmus-signature', format('t=%s,v1=', v_time) || sync.hmac_sha256(v_key, v_time || '.' || p_body)));
end
$$;
comment on function sync.webhook_headers(uuid, text) is
  'The headers of a message: its id, and the HMAC-SHA-256 of time, full stop and body, where Vault has a key. Raises '
  '55000 for what is no key, without it.';

create function sync.note_failed_try(p_id uuid, p_status integer, p_error text) returns void
language sql security invoker set search_path = pg_catalog, pg_temp as $$
  update public.sync_alert_deliveries d
     set status_code = p_status, last_error = p_error, request_id = null,
         status = case when d.tries >= s.most then 'failed' else 'waiting' end,
         ended_at = case when d.tries >= s.most then clock_timestamp() end,
         next_attempt_at = clock_timestamp() + least(interval '1 hour', interval '1 minute' * 2 ^ (greatest(d.tries, 1) - 1))
    from (select coalesce((select tries from public.sync_alert_settings), 8) as most) s
   where d.id = p_id
$$;
comment on function sync.note_failed_try(uuid, integer, text) is
  'A try of a message has failed: there is another one after a growing pause, or the message has failed.';

create function sync.refuses_message(p_status integer) returns boolean
language sql immutable security invoker set search_path = pg_catalog, pg_temp as $$
  -- Key, address, time and rate are the address's matter.
  select p_status between 400 and 499 and p_status not in (401, 403, 404, 408, 410, 429)
$$;
comment on function sync.refuses_message(integer) is
  'Whether a status refuses this one message for good, and tells nothing of the address.';

create function sync.note_refused_message(p_message public.sync_alert_deliveries, p_status integer) returns void
language sql security invoker set search_path = pg_catalog, pg_temp as $$
  update public.sync_alert_deliveries d
     set status_code = p_status, request_id = null, next_attempt_at = clock_timestamp(),
         status = case when not d.body ? 'refused' then 'waiting' when d.body ? 'last' then 'dropped' else 'failed' end,
         ended_at = case when d.body ? 'refused' then clock_timestamp() end,
         last_error = case when d.body ? 'refused' then format('the answer was status %s, to a short message as well', p_status)
                           else format('the answer was status %s: this message is refused, and a short one goes instead', p_status) end,
         body = case when d.body ? 'refused' then d.body else sync.short_message(d.body, p_status) end
   where d.id = p_message.id
$$;
comment on function sync.note_refused_message(public.sync_alert_deliveries, integer) is
  'The receiver refuses a message as such: a short one goes instead, once. Where that is refused as well, the '
  'message has failed.';

create function sync.read_webhook_answers() returns integer
language plpgsql security invoker set search_path = pg_catalog, pg_temp set enable_seqscan = off set enable_sort = off as $$
declare
  v_answers regclass := to_regclass('net._http_response');
  v_sent    public.sync_alert_deliveries[] := array(select d from public.sync_alert_deliveries d where d.status = 'sent' order by d.ordinal for no key update skip locked);
  v_one     record;
  v_count   integer := 0;
begin
  if cardinality(v_sent) = 0 then
    return 0;
  end if;
  -- The answers of everybody stand there, with an index on their time alone: as sync.read_tick_answers.
  if v_answers is not null and (pg_relation_size(v_answers) <= 8388608 or exists (
       select from pg_index i join pg_attribute a on a.attrelid = i.indrelid and a.attnum = i.indkey[0]
        where i.indrelid = v_answers and i.indisvalid and i.indpred is null and a.attname = 'created')) then
    begin
      for v_one in execute $sql$
        select distinct on (d.id) d as message, d.id, r.status_code, coalesce(r.timed_out, false) as timed_out, r.error_msg
          from unnest($1) d
          join (select id, status_code, timed_out, error_msg, created from net._http_response where created >= $2 order by created desc limit 5000) r
            on r.id = d.request_id and r.created between d.tried_at - interval '5 seconds' and d.tried_at + interval '2 minutes'
         order by d.id, r.created desc
      $sql$ using v_sent, (select min(d.tried_at) - interval '5 seconds' from unnest(v_sent) d)
      loop
        v_count := v_count + 1;
        if not v_one.timed_out and v_one.status_code between 200 and 299 then
          update public.sync_alert_deliveries set status = 'delivered', status_code = v_one.status_code, ended_at = clock_timestamp(),
                 last_error = case when body ? 'refused' then format('the whole message was refused with status %s; a short one has arrived', body ->> 'refused') end
           where id = v_one.id;
        elsif not v_one.timed_out and sync.refuses_message(v_one.status_code) and (v_one.message).event <> 'test' then
          perform sync.note_refused_message(v_one.message, v_one.status_code);
        else
          perform sync.note_failed_try(v_one.id, v_one.status_code, case
            when v_one.timed_out then 'no answer within 5 seconds'
            when v_one.status_code is not null then 'the answer was status ' || v_one.status_code
            -- Words of curl, which may name the address.
            else 'no answer: ' || left(regexp_replace(regexp_replace(coalesce(v_one.error_msg, 'unknown'), '[^ ]*(://|/)[^ ]*', '...', 'g'), '[^ -~]', '?', 'g'), 100) end);
        end if;
      end loop;
    exception when others then
      -- Answers that cannot be read are as good as none: what was sent is sent again.
      v_count := 0;
    end;
  end if;
  perform sync.note_failed_try(d.id, null, 'no answer is known: pg_net has lost it, or its worker does not run')
     from public.sync_alert_deliveries d where d.status = 'sent' and d.tried_at < now() - interval '2 minutes';
  return v_count;
end
$$;
comment on function sync.read_webhook_answers() is
  'Notes what was answered to messages that pg_net has sent: a status from 200 to 299 is a delivery, everything else '
  'and two minutes of silence a failed try. Returns how many answers there were.';

create function sync.send_message(p_message public.sync_alert_deliveries, p_url text, p_problem text) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_body    jsonb := coalesce(p_message.body, sync.test_message(p_message.id));
  v_request bigint;
  v_error   text := p_problem;
begin
  if p_url is null and p_problem is null then
    -- A test: all else waits for an address.
    update public.sync_alert_deliveries set status = 'dropped', ended_at = clock_timestamp(),
           last_error = format('there is no Vault secret %s', sync.slot_secret(p_message.slot)) where id = p_message.id;
    return;
  end if;
  if v_error is null then
    begin
      -- pg_net sends the text that PostgreSQL makes of the body: that is what is signed.
      v_request := sync.send_request('a message', p_url, sync.webhook_headers(p_message.id, v_body::text), v_body, 5000);
    exception when object_not_in_prerequisite_state then
      get stacked diagnostics v_error = message_text;
    end;
  end if;
  update public.sync_alert_deliveries
     set status = 'sent', tries = tries + 1, body = v_body, request_id = v_request, tried_at = clock_timestamp(), status_code = null
   where id = p_message.id;
  if v_error is not null then
    perform sync.note_failed_try(p_message.id, null, v_error);
  end if;
end
$$;
comment on function sync.send_message(public.sync_alert_deliveries, text, text) is
  'Tries a message once. Without an address it is dropped; with a problem of the address the try has failed.';

create function sync.beat() returns integer
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_to    record;
  v_tick  timestamptz := (select max(ended_at) from public.sync_ticks where ended_at is not null and failed = '{}');
  v_beats integer := 0;
  v_known integer;
begin
  v_to := sync.address_of('isthmus_heartbeat_url');
  update public.sync_alert_settings set heartbeat_at = v_tick where v_tick is not null and heartbeat_at is distinct from v_tick;
  get diagnostics v_beats = row_count;
  -- Not that of who edits a job, or ends an execution of it, at this moment.
  update public.sync_jobs set success_told_at = succeeded_at
   where id in (select j.id from public.sync_jobs j where j.success_told_at is distinct from j.succeeded_at for no key update skip locked);
  get diagnostics v_known = row_count;
  -- Where people cannot be told, the monitor tells them that the calls stay away.
  v_beats := case when sync.nobody_told() then 0 else v_beats + v_known end;
  begin
    for i in 1 .. case when v_to.url is null then 0 else v_beats end loop
      perform sync.send_request('the call of the heartbeat', v_to.url, '{}', null, 5000);
    end loop;
  exception when object_not_in_prerequisite_state then
    get stacked diagnostics v_to.problem = message_text;
  end;
  if v_to.problem is null then
    perform sync.close_alerts(array(select id from public.sync_alerts where kind = 'heartbeat_invalid' and closed_at is null));
    return case when v_to.url is null then 0 else v_beats end;
  end if;
  perform sync.raise_alert('heartbeat_invalid', 'warning', null, null, null, 'The heartbeat address cannot be called: ' || v_to.problem || '.', '{}');
  return 0;
end
$$;
comment on function sync.beat() is
  'Calls the heartbeat address of Vault once for a new tick without a failed part, and once for each job that has '
  'succeeded since; not while nobody can be told of an alert (sync.nobody_told). Returns how often.';

create function sync.deliver_alerts() returns jsonb
language plpgsql security invoker set search_path = pg_catalog, pg_temp set lock_timeout = '2s' as $$
declare
  v_to      record;
  v_first   boolean;
  v_second  boolean;
  v_beats   integer;
  v_ref     text := sync.project_ref();
  v_message public.sync_alert_deliveries;
begin
  if not exists (select from public.sync_alert_settings) then
    insert into public.sync_alert_settings default values on conflict do nothing;
  end if;
  -- One look at a time. Nobody but the database's owner can hold this row.
  perform from public.sync_alert_settings for no key update skip locked;
  if not found then
    return null;
  end if;
  select f.url as first, f.problem as first_problem, s.url as second, s.problem as second_problem into v_to
    from sync.address_of(sync.slot_secret('first')) f, sync.address_of(sync.slot_secret('second')) s;
  v_first := coalesce(v_to.first, v_to.first_problem) is not null;
  v_second := coalesce(v_to.second, v_to.second_problem) is not null;
  update public.sync_alert_settings set looked_at = clock_timestamp(), addressed = v_first or v_second;
  perform sync.close_alerts(array(select id from public.sync_alerts where kind = 'alerts_not_delivered' and closed_at is null));
  perform sync.apply_alert_notes();
  perform sync.read_webhook_answers();
  if v_second and not v_first then
    perform sync.wake_messages('first', v_ref);
    perform sync.move_messages();
  end if;
  perform sync.tell_undelivered(v_first, v_second, v_ref);
  v_beats := sync.beat();
  perform sync.fill_outbox(v_first, v_second, v_ref);
  perform sync.drop_untold_ends(v_ref);
  -- Of one alert the messages to one address arrive in their order.
  for v_message in
    select d.* from public.sync_alert_deliveries d
     where d.status = 'waiting' and d.next_attempt_at <= clock_timestamp() and (d.event = 'test' or case d.slot when 'first' then v_first else v_second end)
       and not exists (select from public.sync_alert_deliveries e
                        where e.status in ('waiting', 'sent') and e.slot = d.slot and e.ordinal < d.ordinal and e.alert_ids && d.alert_ids)
     order by d.ordinal limit 50 for no key update skip locked
  loop
    perform sync.send_message(v_message, case v_message.slot when 'first' then v_to.first else v_to.second end,
      case v_message.slot when 'first' then v_to.first_problem else v_to.second_problem end);
  end loop;
  delete from public.sync_alert_deliveries
   where id = any (array(select d.id from public.sync_alert_deliveries d
                          where d.created_at < now() - interval '30 days' and d.status not in ('waiting', 'sent') and not (d.status = 'failed' and sync.is_needed(d))
                          order by d.created_at limit 1000));
  return (select jsonb_build_object('waiting', count(*) filter (where status = 'waiting'), 'sent', count(*) filter (where status = 'sent'), 'heartbeats', v_beats)
            from public.sync_alert_deliveries where status in ('waiting', 'sent'));
end
$$;
comment on function sync.deliver_alerts() is
  'Reads what was answered, looks which alerts people have to be told of, and sends what is due. The job '
  'isthmus-deliver-alerts runs it every minute. What is raised holds no secret. null: another look is at work.';

create function sync.test_alert() returns setof uuid
language sql security invoker set search_path = pg_catalog, pg_temp as $$
  insert into public.sync_alert_deliveries (event, slot) values ('test', 'first'), ('test', 'second')
  on conflict (slot) where event = 'test' and status in ('waiting', 'sent') do nothing;
  select id from public.sync_alert_deliveries where event = 'test' and status in ('waiting', 'sent') order by slot;
$$;
comment on function sync.test_alert() is
  'Has a test message sent to both addresses within a minute. Returns the ids of the rows in sync_alert_deliveries, '
  'which say what became of each.';

revoke all on function sync.address_of(text), sync.webhook_headers(uuid, text), sync.note_failed_try(uuid, integer, text),
  sync.refuses_message(integer), sync.note_refused_message(public.sync_alert_deliveries, integer),
  sync.read_webhook_answers(), sync.send_message(public.sync_alert_deliveries, text, text), sync.beat(),
  sync.deliver_alerts(), sync.test_alert() from public;
grant execute on function sync.test_alert() to isthmus_worker;

-- Purpose: tells from SQL alone, with every function dead, that ticks are missing, refused or slow.
-- Locks:   the rows of public.sync_ticks that got an answer.

create function sync.read_tick_answers() returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp set enable_seqscan = off set enable_sort = off as $$
declare
  v_answers  regclass := to_regclass('net._http_response');
  v_requests bigint[];
  v_since    timestamptz;
begin
  select array_agg(request_id), min(created_at) - interval '5 seconds' into v_requests, v_since from public.sync_ticks
   where created_at > now() - interval '15 minutes' and request_id is not null and answered_at is null;
  -- The answers of everybody stand there, for hours, with an index on their time alone. The newest are looked at;
  -- where even that index is gone, a large table is not read. What is not found here shows in that no tick does its
  -- work.
  if v_requests is null or v_answers is null
     or (pg_relation_size(v_answers) > 8388608 and not exists (
           select from pg_index i join pg_attribute a on a.attrelid = i.indrelid and a.attnum = i.indkey[0]
            where i.indrelid = v_answers and i.indisvalid and i.indpred is null and a.attname = 'created')) then
    return;
  end if;
  -- A crash empties pg_net's tables and gives its numbers out again: an answer is that of the latest call before it.
  execute $sql$
    update public.sync_ticks t set answered_at = clock_timestamp(), status_code = a.status_code, timed_out = coalesce(a.timed_out, false),
           error = coalesce(left(regexp_replace(a.error_msg, '[^ -~]', '?', 'g'), 200),
                            case when a.status_code <> 202 then substring(left(a.content, 2000) from '"code":"([A-Z_]{1,60})"')
                                 || case when a.content like '%"code":"TARGET_UNAVAILABLE"%' then coalesce(' ' || substring(left(a.content, 2000) from '"reason":"([A-Za-z0-9_]{1,60})"'), '') else '' end end)
      from (select distinct on (c.id) c.id, r.status_code, r.timed_out, r.error_msg, r.content
              from (select id, status_code, timed_out, error_msg, content, created from net._http_response where created >= $2 order by created desc limit 5000) r
             cross join lateral (select p.id from public.sync_ticks p
                                  where p.created_at > now() - interval '15 minutes' and p.request_id = r.id and p.created_at <= r.created + interval '5 seconds'
                                  order by p.created_at desc limit 1) c
             where r.id = any ($1) order by c.id, r.created) a
     where t.id = a.id and t.answered_at is null
  $sql$ using v_requests, v_since;
exception when others then
  -- Answers that cannot be read are as good as none: that no tick works is told all the same.
  null;
end
$$;
comment on function sync.read_tick_answers() is 'Notes what pg_net was answered to the latest calls of sync-tick.';

create function sync.tick_obstacle(out problem text, out remedy text, out paused boolean)
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_active boolean;
  v_state  text;
begin
  paused := false;
  begin
    perform sync.tick_request();
    if to_regclass('net.http_request_queue') is null then
      problem := 'pg_net is not enabled';
      remedy := 'Enable it on the Extensions page.';
      return;
    elsif sync.has_foreign_trigger(to_regclass('net.http_request_queue')) then
      problem := 'net.http_request_queue has a trigger, which could read the key';
      remedy := 'Drop it, and see to the rights on this table: docs/deployment.md, section 6.';
      return;
    end if;
    execute $sql$ select bool_or(active) from cron.job where jobname = 'isthmus-sync-tick' $sql$ into v_active;
    if v_active is not true then
      paused := true;
      problem := case when v_active is null then 'there is no job isthmus-sync-tick' else 'the job isthmus-sync-tick is paused' end;
      remedy := case when v_active is null then 'Run supabase/schemas/schedule.sql in the SQL editor, or let QStash call: docs/deployment.md, section 6.'
                     else 'Nothing begins and nothing is resumed until it is set to active on the Cron page.' end;
    end if;
  exception
    when undefined_object or object_not_in_prerequisite_state then
      get stacked diagnostics problem = message_text, remedy = pg_exception_hint;
    when others then
      get stacked diagnostics v_state = returned_sqlstate;
      problem := 'what the job needs cannot be read (SQLSTATE ' || v_state || ')';
      remedy := 'Are pg_cron, pg_net and Vault enabled?';
  end;
end
$$;
comment on function sync.tick_obstacle() is
  'Why the job isthmus-sync-tick makes no call, and what to do; null: nothing keeps it. Without a secret.';

create function sync.pg_net_state() returns text
language plpgsql stable security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_queue  regclass := to_regclass('net.http_request_queue');
  v_waits  bigint;
begin
  if pg_has_role(current_user, 'pg_read_all_stats', 'usage')
     and not exists (select from pg_stat_activity where backend_type ilike '%pg_net%' or application_name like 'pg_net %') then
    return 'its worker does not run';
  end if;
  -- It has no index, and may be full of what nobody sends.
  if v_queue is not null and pg_relation_size(v_queue) < 33554432 then
    execute 'select count(*) from (select from net.http_request_queue limit 1000) q' into v_waits;
  end if;
  return case when v_waits > 0 then 'requests wait in its queue' || case when v_waits = 1000 then ', 1,000 and more' else '' end
              when v_waits = 0 then 'its queue is empty: the calls were lost, as in a crash, or their answers were not kept' end;
exception when others then
  return null;
end
$$;
comment on function sync.pg_net_state() is 'What can be seen of pg_net when it gives no answers.';

create function sync.refused_tick(p_status integer, p_error text) returns text
language sql immutable security invoker set search_path = pg_catalog, pg_temp as $$
  select case
    when p_error = 'SCHEMA_OUTDATED' then format('with status %s, SCHEMA_OUTDATED: the functions were made for a later version of the database than it has. '
      'Upgrade the database: npm run sync -- setup --upgrade. Until then nothing begins, and nothing is lost.', p_status)
    when p_error = 'SCHEMA_AHEAD' then format('with status %s, SCHEMA_AHEAD: the database has a later version than the functions can work with. '
      'Deploy the functions of that release: npm run sync -- setup --upgrade, from a checkout of it. Until then nothing begins, and nothing is lost.', p_status)
    when p_error = 'TRIGGERS_OFF' then format('with status %s, TRIGGERS_OFF: the worker''s sessions have session_replication_role = replica, so that neither foreign keys nor triggers would hold. '
      'As a superuser: alter role isthmus_worker reset session_replication_role, or the same for the database. Until then nothing begins, and nothing is lost.', p_status)
    when p_error like 'TARGET_UNAVAILABLE%' then format('with status %s, %s: nobody answers at TARGET_DB_URL, or it refuses. %s Until then nothing begins, and nothing is lost.', p_status, p_error,
      case substr(p_error, 20) when 'credentials_refused' then 'Is the password in the address right, and may isthmus_worker log in?'
                               when 'too_many_connections' then 'Lower ISTHMUS_POOL_SIZE, end other connections, or allow more.'
                               when 'no_such_database' then 'Is the database''s name in the address right?'
                               when 'pooler_refused' then 'The pooler''s log says why.'
                               else 'Check the address, its port, TLS and the network restrictions of the project.' end)
    when p_status in (401, 403) then format('with status %s: the functions do not take the key. Put a secret key of the project into Vault: '
      'select vault.update_secret((select id from vault.secrets where name = ''isthmus_secret_key''), ''sb_secret_...''). If it was made after the functions were deployed, deploy them again.', p_status)
    when p_status in (404, 405) then format('with status %s: sync-tick is not there. Deploy it, or correct the Vault secret isthmus_functions_url.', p_status)
    when p_status = 429 then 'with status 429: the project has used up what it may call. See its usage.'
    when p_status >= 500 then format('with status %s%s: the function fails. See its logs on the dashboard.', p_status, ', ' || p_error)
    when p_status is not null then format('with status %s, which is not sync-tick''s. Correct the Vault secret isthmus_functions_url.', p_status)
    else 'before it arrived: nobody answers at the address. Correct the Vault secret isthmus_functions_url, or see whether the project''s functions are up.' end
$$;
comment on function sync.refused_tick(integer, text) is 'How a call of sync-tick was refused, and what to do.';

create function sync.judge_ticks() returns jsonb
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  c_patience constant interval := '3 minutes';
  v_worked   timestamptz := (select max(ended_at) from public.sync_ticks where ended_at is not null);
  v_since    text := coalesce(' since ' || to_char(v_worked at time zone 'UTC', 'YYYY-MM-DD HH24:MI "UTC"'), '');
  v_obstacle record;
  v_calls    record;
  v_last     public.sync_ticks;
  v_slow     record;
  v_missing  text;
begin
  if v_worked > now() - c_patience then
    select count(s.slow) = 3 as always, bool_or(s.slow is not null) filter (where s.place = 1) as now, max(s.slow) filter (where s.place = 1) as how,
           jsonb_agg(s.slow order by s.place) as ticks
      into v_slow
      from (select row_number() over (order by t.created_at desc) as place,
                   case when t.timed_out then 'it did not answer within 10 seconds'
                        when t.begun_at - t.created_at > interval '1 minute' then format('it began %s seconds after it was called', round(extract(epoch from t.begun_at - t.created_at)))
                        when t.ended_at - t.begun_at > interval '2 minutes' then format('it worked for %s seconds', round(extract(epoch from t.ended_at - t.begun_at))) end as slow
              from (select timed_out, created_at, begun_at, ended_at from public.sync_ticks where ended_at is not null order by created_at desc limit 3) t) s;
    return case
      when v_slow.always then jsonb_build_object('kind', 'tick_slow', 'severity', 'warning', 'message', format(
        'The last three ticks were slow (the latest: %s). Work is begun and resumed late. What else calls through pg_net, whose batches wait for the slowest answer, and what do the logs of sync-tick say?',
        v_slow.how), 'details', jsonb_build_object('ticks', v_slow.ticks))
      when v_slow.now then null
      else '{}' end;
  end if;

  v_obstacle := sync.tick_obstacle();
  if v_obstacle.problem is not null then
    return jsonb_build_object('kind', 'tick_missing', 'severity', case when v_worked is null or v_obstacle.paused then 'warning' else 'critical' end,
      'message', format('%s: %s. %s', case when v_worked is null then 'sync-tick is not called yet' else 'sync-tick has not worked' || v_since end, v_obstacle.problem, v_obstacle.remedy),
      'details', jsonb_build_object('since', v_worked));
  end if;

  select count(*) as n, min(created_at) as first, max(created_at) as last into v_calls from public.sync_ticks
   where created_at > coalesce(v_worked, '-infinity') and request_id is not null;
  if v_calls.n = 0 or v_calls.last < now() - c_patience then
    return jsonb_build_object('kind', 'tick_missing', 'severity', case when v_worked is null then 'warning' else 'critical' end,
      'message', format('sync-tick has not been called%s: the job isthmus-sync-tick is there, and makes no calls. See its runs on the Cron page.', coalesce(nullif(v_since, ''), ' yet')),
      'details', jsonb_build_object('since', v_worked));
  end if;

  -- Two in a row: one alone passes, as during a deployment.
  select * into v_last from public.sync_ticks where request_id is not null and answered_at is not null and created_at > coalesce(v_worked, '-infinity')
   order by created_at desc limit 1;
  if not v_last.timed_out and v_last.status_code is distinct from 202 and (
       select count(*) = 2 and bool_and(not r.timed_out and r.status_code is distinct from 202)
         from (select timed_out, status_code from public.sync_ticks where request_id is not null and answered_at is not null and created_at > coalesce(v_worked, '-infinity')
                order by created_at desc limit 2) r) then
    if v_last.error like 'TARGET_UNAVAILABLE%' then
      return jsonb_build_object('kind', 'target_refuses', 'severity', 'critical',
        'message', format('The functions do not reach this database%s: sync-tick answers %s', v_since, sync.refused_tick(v_last.status_code, v_last.error)),
        'details', jsonb_build_object('since', v_worked, 'status', v_last.status_code, 'error', v_last.error));
    end if;
    return jsonb_build_object('kind', 'tick_refused', 'severity', 'critical',
      'message', format('The calls of sync-tick are refused%s, %s', v_since, sync.refused_tick(v_last.status_code, v_last.error)),
      'details', jsonb_build_object('since', v_worked, 'status', v_last.status_code, 'error', v_last.error));
  elsif coalesce(v_worked, v_calls.first) > now() - c_patience then
    return null;
  elsif exists (select from public.sync_ticks
                 where request_id is not null and created_at > greatest(coalesce(v_worked, '-infinity'), now() - interval '10 minutes') and error like 'TARGET_UNAVAILABLE%')
    and exists (select from public.sync_alerts where kind = 'target_refuses' and closed_at is null) then
    -- A target that refuses lets some calls wait for longer than their answer does.
    return null;
  end if;

  select * into v_last from public.sync_ticks
   where request_id is not null and created_at > coalesce(v_worked, '-infinity') and (answered_at is not null or created_at < now() - interval '30 seconds')
   order by created_at desc limit 1;
  v_missing := case
    when v_last.begun_at is not null then 'sync-tick begins, and does not come to its end. See its logs: is it killed for a limit?'
    when v_last.timed_out then 'sync-tick does not answer within 10 seconds. See its logs: does it start at all?'
    when v_last.status_code = 202 then 'sync-tick answers, and does nothing in this database. See its logs, and other alerts: does TARGET_DB_URL lead here, and may it begin here?'
    when v_last.answered_at is not null then 'a call was refused, ' || sync.refused_tick(v_last.status_code, v_last.error)
    else format('pg_net gives no answer to the calls of sync-tick%s. Start it again: select net.worker_restart();', coalesce(' (' || sync.pg_net_state() || ')', '')) end;
  return jsonb_build_object('kind', 'tick_missing', 'severity', 'critical',
    'message', format('sync-tick has not worked%s: %s', coalesce(nullif(v_since, ''), ' yet'), v_missing),
    'details', jsonb_build_object('since', v_worked, 'status', v_last.status_code, 'error', v_last.error, 'calls', v_calls.n));
end
$$;
comment on function sync.judge_ticks() is
  'What is wrong with the ticks, as an alert ({kind, severity, message, details}); {}: nothing; null: not to be told '
  'yet, and what was told stays.';

create function sync.watch_delivery() returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_since timestamptz := (select looked_at from public.sync_alert_settings where addressed and looked_at < now() - interval '5 minutes');
begin
  if v_since is null then
    perform sync.close_alerts(array(select id from public.sync_alerts where kind = 'alerts_not_delivered' and closed_at is null));
  else
    perform sync.raise_alert('alerts_not_delivered', 'critical', null, null, null,
      format('Nobody has looked since %s which alerts people have to be told of: the job isthmus-deliver-alerts is gone, paused or fails. See its runs on the Cron page.',
        to_char(v_since at time zone 'UTC', 'YYYY-MM-DD HH24:MI "UTC"')), '{}');
  end if;
end
$$;
comment on function sync.watch_delivery() is
  'Opens the alert alerts_not_delivered where there are addresses and the job isthmus-deliver-alerts has not looked '
  'for 5 minutes, and closes it when it has.';

create function sync.note_addressed() returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_addressed boolean;
begin
  execute $sql$ select exists (select from vault.secrets where name in ('isthmus_webhook_url', 'isthmus_webhook_url_2')) $sql$ into v_addressed;
  insert into public.sync_alert_settings as s (addressed) values (v_addressed)
  on conflict (one) do update set addressed = excluded.addressed where s.addressed <> excluded.addressed;
exception when others then
  -- Without a Vault nobody is told, and of one that cannot be read what was known stands.
  null;
end
$$;
comment on function sync.note_addressed() is
  'Notes whether Vault has an address that is told of alerts, also where the job that tells has never looked.';

create function sync.watch_tick() returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp set lock_timeout = '2s' as $$
declare
  v_wrong jsonb;
begin
  perform sync.read_tick_answers();
  v_wrong := sync.judge_ticks();
  if v_wrong is not null then
    perform sync.close_alerts(array(
      select id from public.sync_alerts where kind in ('tick_missing', 'tick_refused', 'tick_slow', 'target_refuses') and kind is distinct from v_wrong ->> 'kind' and closed_at is null));
  end if;
  if v_wrong ? 'kind' then
    perform sync.raise_alert(v_wrong ->> 'kind', v_wrong ->> 'severity', null, null, null, v_wrong ->> 'message', v_wrong -> 'details');
  end if;
  perform sync.note_addressed();
  perform sync.watch_delivery();
  perform sync.forget_ticks();
end
$$;
comment on function sync.watch_tick() is
  'Sees that messages about alerts are sent (sync.watch_delivery). Opens the alert tick_missing, tick_refused, '
  'tick_slow or target_refuses while ticks are, and closes them when one has worked. The job isthmus-watch-tick runs '
  'it.';

revoke all on function sync.read_tick_answers(), sync.tick_obstacle(), sync.pg_net_state(), sync.refused_tick(integer, text), sync.judge_ticks(),
  sync.watch_delivery(), sync.note_addressed(), sync.watch_tick() from public;
grant execute on function sync.watch_delivery() to isthmus_worker;

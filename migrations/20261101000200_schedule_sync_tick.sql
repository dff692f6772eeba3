-- Purpose: the jobs that call sync-tick and watch what becomes of the calls; pg_cron notices them in a transaction of their own.
-- Locks:   none on existing objects.
-- Reverse: npm run sync -- uninstall
--
-- Written by `npm run migration` from supabase/schemas/, until the release is made. Change these files instead.

-- supabase/schemas/schedule.sql

-- Purpose: call sync-tick every minute through pg_cron and pg_net, where the project has them, and watch what becomes
--          of the calls; send messages about alerts.
-- Reverse: select cron.unschedule('isthmus-sync-tick'), cron.unschedule('isthmus-watch-tick'),
-- cron.unschedule('isthmus-deliver-alerts'), cron.unschedule('isthmus-remove-history'),
-- cron.unschedule('isthmus-prune-cron-history').
--
-- The jobs are visible on the dashboard's Cron page. Address and key come from Vault (docs/deployment.md):
--   select vault.create_secret('https://<ref>.supabase.co/functions/v1', 'isthmus_functions_url');
--   select vault.create_secret('<a secret key of the project>', 'isthmus_secret_key');
-- Can be run again.

-- What is there is not created again: a hosted project runs scripts of its own around the statement, even where it
-- does nothing.
do $$
begin
  if exists (select from pg_available_extensions where name = 'pg_cron' and installed_version is null) then
    create extension if not exists pg_cron with schema pg_catalog;
  end if;
  if exists (select from pg_available_extensions where name = 'pg_net' and installed_version is null) then
    create extension if not exists pg_net with schema extensions;
  end if;
  if to_regprocedure('cron.schedule(text, text, text)') is null
     or not exists (select from pg_proc where pronamespace = to_regnamespace('net') and proname = 'http_post')
     or to_regclass('vault.decrypted_secrets') is null then
    raise notice 'pg_cron, pg_net or Vault is not available here: sync-tick is not scheduled. Create a QStash schedule instead: npm run sync -- schedule';
    return;
  end if;
  perform cron.schedule('isthmus-sync-tick', '* * * * *', 'select sync.call_tick()');
  -- A job of its own: what fails in a call is undone with all that the call's transaction has written.
  perform cron.schedule('isthmus-watch-tick', '* * * * *', 'select sync.watch_tick()');
  -- Once more a job of its own: whatever ticks and their watch do, people are told.
  perform cron.schedule('isthmus-deliver-alerts', '* * * * *', 'select sync.deliver_alerts()');
  perform cron.schedule('isthmus-remove-history', '* * * * *', 'select sync.remove_history()');
  -- pg_cron never prunes its own history. That of the application's jobs is the application's.
  perform cron.schedule('isthmus-prune-cron-history', '17 3 * * *', $job$
    delete from cron.job_run_details d using cron.job j where j.jobid = d.jobid and d.end_time < now() - make_interval(days => coalesce((select cron_days from public.sync_retention), 7))
       and j.jobname in ('isthmus-sync-tick', 'isthmus-watch-tick', 'isthmus-deliver-alerts', 'isthmus-remove-history', 'isthmus-prune-cron-history')
  $job$);
end
$$;

-- pg_net gives everybody all rights on its tables. Its queue holds the key in a header: reading shows it, an update
-- sends it elsewhere, and a trigger runs with the rights of whoever calls. Calling, which inserts and returns the id,
-- stays as it is.
do $$
declare
  v_open text;
begin
  if to_regclass('net.http_request_queue') is null then
    return;
  end if;
  begin
    revoke all on net.http_request_queue from public, anon, authenticated, service_role;
    grant insert, select (id) on net.http_request_queue to public;
    revoke insert, update, delete, truncate, references, trigger on net._http_response from public, anon, authenticated, service_role;
  exception when insufficient_privilege or undefined_table then
    null;
  end;
  select string_agg(distinct privilege, ', ') into v_open from unnest(array['select', 'update', 'delete', 'truncate', 'trigger']) privilege
   where has_table_privilege('anon', 'net.http_request_queue', privilege) or has_table_privilege('isthmus_worker', 'net.http_request_queue', privilege);
  if v_open is not null then
    raise notice 'everybody may % in net.http_request_queue, where the key of sync-tick stands until it is sent. Its owner has to revoke that: docs/deployment.md, section 6', v_open;
  end if;
end
$$;

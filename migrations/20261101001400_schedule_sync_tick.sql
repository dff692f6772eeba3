-- Purpose: call sync-tick every minute through pg_cron and pg_net, where the project has them. The job is visible
--          on the dashboard's Cron page. Address and key come from Vault (docs/deployment.md):
--            select vault.create_secret('https://<ref>.supabase.co/functions/v1', 'isthmus_functions_url');
--            select vault.create_secret('<a secret key of the project>', 'isthmus_secret_key');
-- Locks:   none on existing objects.
-- Reverse: select cron.unschedule('isthmus-sync-tick'), cron.unschedule('isthmus-prune-cron-history');

do $$
begin
  if exists (select from pg_available_extensions where name = 'pg_cron') then
    create extension if not exists pg_cron with schema pg_catalog;
  end if;
  if exists (select from pg_available_extensions where name = 'pg_net') then
    create extension if not exists pg_net with schema extensions;
  end if;
  if to_regprocedure('cron.schedule(text, text, text)') is null
     or not exists (select from pg_proc where pronamespace = to_regnamespace('net') and proname = 'http_post')
     or to_regclass('vault.decrypted_secrets') is null then
    raise notice 'pg_cron, pg_net or Vault is not available here: sync-tick is not scheduled. Create a QStash schedule instead: npm run sync -- schedule';
    return;
  end if;
  perform cron.schedule('isthmus-sync-tick', '* * * * *', $job$
    select net.http_post(
      url := (select decrypted_secret from vault.decrypted_secrets where name = 'isthmus_functions_url') || '/sync-tick',
      headers := jsonb_build_object('content-type', 'application/json', 'apikey',
        (select decrypted_secret from vault.decrypted_secrets where name = 'isthmus_secret_key')),
      body := '{}'::jsonb,
      timeout_milliseconds := 10000)
  $job$);
  -- pg_cron never prunes its own history.
  perform cron.schedule('isthmus-prune-cron-history', '17 3 * * *', $job$
    delete from cron.job_run_details where end_time < now() - interval '7 days'
  $job$);
end
$$;

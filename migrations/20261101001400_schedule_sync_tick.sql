-- Purpose: call sync-tick every minute through pg_cron and pg_net, where the project has them. The job is visible
--          on the dashboard's Cron page. Address and key come from Vault (docs/deployment.md):
--            select vault.create_secret('https://<ref>.supabase.co/functions/v1', 'isthmus_functions_url');
--            select vault.create_secret('<a secret key of the project>', 'isthmus_secret_key');
-- Locks:   none on existing objects.
-- Reverse: select cron.unschedule('isthmus-sync-tick'), cron.unschedule('isthmus-prune-cron-history'); drop the functions.

create or replace function sync.read_secret(p_name text) returns text
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_secret text;
  v_state  text;
begin
  begin
    execute 'select decrypted_secret from vault.decrypted_secrets where name = $1' into v_secret using p_name;
  exception when others or assert_failure or query_canceled then
    get stacked diagnostics v_state = returned_sqlstate;
  end;
  if v_state is not null then
    raise exception 'Vault does not give out the secret % (SQLSTATE %)', p_name, v_state
      using errcode = '55000', hint = 'The job runs as the owner of this function, who needs select on vault.decrypted_secrets.';
  elsif coalesce(v_secret, '') = '' then
    raise exception 'the Vault secret % is missing', p_name
      using errcode = '55000', hint = format('select vault.create_secret(''...'', %L); docs/deployment.md says what it holds.', p_name);
  end if;
  return v_secret;
end
$$;
comment on function sync.read_secret(text) is 'A secret of Vault. What is raised names the secret and never its value.';

-- An error that reaches pg_cron is kept in cron.job_run_details and in the server's log, with its detail: that of a failed
-- insert is the whole row, the key in the header included. A caught error prints nothing, and only its SQLSTATE is told.
create or replace function sync.call_tick() returns bigint
language plpgsql security invoker set search_path = pg_catalog, pg_temp set standard_conforming_strings = on as $$
declare
  v_url     text := sync.read_secret('isthmus_functions_url');
  v_key     text := sync.read_secret('isthmus_secret_key');
  v_state   text;
  v_request bigint;
begin
  if v_url !~ '^https?://[^[:space:]/?#@]+(/[^[:space:]?#@]*)?$' then
    raise exception 'the Vault secret isthmus_functions_url is no address of functions'
      using errcode = '55000', hint = 'It looks like https://<ref>.supabase.co/functions/v1, without a space, a query or a password.';
  elsif v_key !~ '^[!-~]+$' then
    raise exception 'the Vault secret isthmus_secret_key is no key'
      using errcode = '55000', hint = 'A secret key of the project has no spaces and no line ends. Copy it again.';
  end if;
  begin
    -- A trigger on the queue would read the key, and run with the rights of whoever calls. Under this lock nobody adds one.
    if has_table_privilege('net.http_request_queue', 'insert') then
      execute 'lock table net.http_request_queue in row exclusive mode';
    end if;
    if exists (select from pg_trigger where tgrelid = to_regclass('net.http_request_queue') and not tgisinternal) then
      v_state := 'TRIGGER';
    else
      execute 'select net.http_post(url := $1, headers := $2, body := ''{}''::jsonb, timeout_milliseconds := 10000)' into v_request
        using rtrim(v_url, '/') || '/sync-tick', jsonb_build_object('content-type', 'application/json', 'apikey', v_key);
    end if;
  exception when others or assert_failure or query_canceled then
    get stacked diagnostics v_state = returned_sqlstate;
  end;
  if v_state = 'TRIGGER' then
    raise exception 'net.http_request_queue has a trigger, which could read the key'
      using errcode = '55000', hint = 'Drop it, and see to the rights on this table: docs/deployment.md, section 7.';
  elsif v_state is not null then
    raise exception 'pg_net did not take the call of sync-tick (SQLSTATE %)', v_state
      using errcode = '55000', hint = 'Is pg_net enabled, and may the owner of this function call net.http_post?';
  end if;
  return v_request;
end
$$;
comment on function sync.call_tick() is 'Calls sync-tick through pg_net, with address and key from Vault. The job isthmus-sync-tick runs it; what fails is told without a secret.';
revoke all on function sync.read_secret(text), sync.call_tick() from public;

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
  perform cron.schedule('isthmus-sync-tick', '* * * * *', 'select sync.call_tick()');
  -- pg_cron never prunes its own history.
  perform cron.schedule('isthmus-prune-cron-history', '17 3 * * *', $job$
    delete from cron.job_run_details where end_time < now() - interval '7 days'
  $job$);
end
$$;

-- pg_net gives everybody all rights on its tables. Its queue holds the key in a header: reading shows it, an update sends it
-- elsewhere, and a trigger runs with the rights of whoever calls. Calling, which inserts and returns the id, stays as it is.
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
    raise notice 'everybody may % in net.http_request_queue, where the key of sync-tick stands until it is sent. Its owner has to revoke that: docs/deployment.md, section 7', v_open;
  end if;
end
$$;

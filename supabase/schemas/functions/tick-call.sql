-- Purpose: the call of sync-tick through pg_net. Address and key come from Vault (docs/deployment.md).

create function sync.read_secret(p_name text) returns text
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
      using errcode = '42704', hint = format('select vault.create_secret(''...'', %L); docs/deployment.md says what it holds.', p_name);
  end if;
  return v_secret;
end
$$;
comment on function sync.read_secret(text) is
  'A secret of Vault. What is raised names the secret and never its value. A missing one: SQLSTATE 42704.';

create function sync.tick_request(out url text, out headers jsonb)
language plpgsql security invoker set search_path = pg_catalog, pg_temp set standard_conforming_strings = on as $$
declare
  v_url text := sync.read_secret('isthmus_functions_url');
  v_key text := sync.read_secret('isthmus_secret_key');
  -- Without TLS the key would be everybody's on the way; on the machine itself, or in its own network of containers,
  -- there is no way.
  c_secure constant text := '^https://[^[:space:]/?#@\\]+(/[^[:space:]?#@\\]*)?$';
  c_local  constant text := '^http://(localhost|127[.]0[.]0[.]1|\[::1\]|host[.]docker[.]internal|[a-z0-9_-]+)(:[0-9]{1,5})?(/[^[:space:]?#@\\]*)?$';
begin
  if v_url !~ '^[!-~]+$' or (v_url !~* c_secure and v_url !~* c_local) then
    raise exception 'the Vault secret isthmus_functions_url is no address of functions'
      using errcode = '55000', hint = 'It looks like https://<ref>.supabase.co/functions/v1: with https, and without a space, a query or a password.';
  elsif v_url ~ '/sync-tick/*$' then
    raise exception 'the Vault secret isthmus_functions_url is the address of one function'
      using errcode = '55000', hint = 'It is the address of all of them, without /sync-tick: https://<ref>.supabase.co/functions/v1.';
  elsif v_key !~ '^[!-~]+$' then
    raise exception 'the Vault secret isthmus_secret_key is no key'
      using errcode = '55000', hint = 'A secret key of the project has no spaces and no line ends. Copy it again.';
  elsif v_key ~ '^sb_publishable_' then
    raise exception 'the Vault secret isthmus_secret_key is a publishable key'
      using errcode = '55000', hint = 'It has to be a secret key of the project (sb_secret_...).';
  end if;
  url := rtrim(v_url, '/') || '/sync-tick';
  headers := jsonb_build_object('content-type', 'application/json', 'apikey', v_key);
end
$$;
comment on function sync.tick_request() is
  'Address and headers of the call of sync-tick, from Vault, checked. What is raised holds neither.';

create function sync.has_foreign_trigger(p_table regclass) returns boolean
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  -- pg_net's own one, of versions up to 0.7, asks whether its worker is up.
  select exists (
    select from pg_trigger t
     where t.tgrelid = p_table and not t.tgisinternal
       and not exists (select from pg_depend d join pg_extension e on e.oid = d.refobjid
                        where d.classid = 'pg_proc'::regclass and d.objid = t.tgfoid and d.refclassid = 'pg_extension'::regclass
                          and d.deptype = 'e' and e.extname = 'pg_net'))
$$;
comment on function sync.has_foreign_trigger(regclass) is
  'Whether a trigger hangs on this table that does not come with pg_net.';

-- An error that reaches pg_cron is kept in cron.job_run_details and in the server's log, with its detail: that of a
-- failed insert is the whole row, the key in the header included. A caught error prints nothing, and only its
-- SQLSTATE is told.
create function sync.send_request(p_what text, p_url text, p_headers jsonb, p_body jsonb, p_timeout_ms integer) returns bigint
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_state   text;
  v_request bigint;
begin
  begin
    -- A trigger on the queue would read the key, and run with the rights of whoever calls. Under this lock nobody
    -- adds one.
    if has_table_privilege('net.http_request_queue', 'insert') then
      execute 'lock table net.http_request_queue in row exclusive mode';
    end if;
    if sync.has_foreign_trigger(to_regclass('net.http_request_queue')) then
      v_state := 'TRIGGER';
    elsif p_body is null then
      execute 'select net.http_get(url := $1, headers := $2, timeout_milliseconds := $3)' into v_request using p_url, p_headers, p_timeout_ms;
    else
      execute 'select net.http_post(url := $1, headers := $2, body := $3, timeout_milliseconds := $4)' into v_request
        using p_url, p_headers, p_body, p_timeout_ms;
    end if;
  exception when others or assert_failure or query_canceled then
    get stacked diagnostics v_state = returned_sqlstate;
  end;
  if v_state = 'TRIGGER' then
    raise exception 'net.http_request_queue has a trigger, which could read the key'
      using errcode = '55000', hint = 'Drop it, and see to the rights on this table: docs/deployment.md, section 6.';
  elsif v_state is not null then
    raise exception 'pg_net did not take % (SQLSTATE %)', p_what, v_state
      using errcode = '55000', hint = 'Is pg_net enabled, and may the owner of this function call its functions?';
  end if;
  return v_request;
end
$$;
comment on function sync.send_request(text, text, jsonb, jsonb, integer) is
  'Has pg_net send a request, GET where there is no body, and returns its number. What is raised (SQLSTATE 55000) '
  'holds neither address nor header.';

create function sync.call_tick() returns uuid
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_call    uuid := gen_random_uuid();
  v_to      record;
  v_request bigint;
begin
  -- Whoever changes a key holds this lock meanwhile (npm run sync -- setup --rotate-keys).
  if not pg_try_advisory_xact_lock_shared(4973118223) then
    return null;
  end if;
  begin
    v_to := sync.tick_request();
  exception when undefined_object then
    -- Until somebody has set it up, nothing fails here: sync.watch_tick says what is missing.
    if not exists (select from public.sync_ticks where ended_at is not null) then
      return null;
    end if;
    raise;
  end;
  v_request := sync.send_request('the call of sync-tick', v_to.url, v_to.headers, jsonb_build_object('call', v_call), 10000);
  insert into public.sync_ticks (id, request_id) values (v_call, v_request);
  return v_call;
end
$$;
comment on function sync.call_tick() is
  'Calls sync-tick through pg_net, with address and key from Vault. The job isthmus-sync-tick runs it; what fails is '
  'told without a secret. null: not set up yet, or held by whoever changes a key.';

revoke all on function sync.read_secret(text), sync.tick_request(), sync.has_foreign_trigger(regclass),
  sync.send_request(text, text, jsonb, jsonb, integer), sync.call_tick() from public;

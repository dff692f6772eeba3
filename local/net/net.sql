-- pg_net as a hosted project has it: its tables, functions, rights and words (supabase/pg_net 0.20, sql/pg_net.sql;
-- the requests are sent by local/net/worker.ts). Run as the cluster's superuser, whose they are on a hosted project
-- too; safe to repeat.
create schema if not exists net;

do $$ begin
  if to_regtype('net.http_method') is null then
    create domain net.http_method as text check (value ~* '^(get|post|delete)$');
  end if;
end $$;

-- Neither has a key: nothing finds a request or an answer by its number. A crash empties both, and the numbers begin
-- again (from PostgreSQL 15 on).
create unlogged table if not exists net.http_request_queue (
  id bigserial, method net.http_method not null, url text not null, headers jsonb, body bytea, timeout_milliseconds integer not null);
create unlogged table if not exists net._http_response (
  id bigint, status_code integer, content_type text, headers jsonb, content text, timed_out boolean, error_msg text, created timestamptz not null default now());
create index if not exists _http_response_created_idx on net._http_response (created);

-- The worker is woken by a commit, and by nothing else: a row that is only inserted waits for the next one.
create or replace function net.wake() returns void language sql as $$ select pg_notify('pg_net', 'wake') $$;
create or replace function net.worker_restart() returns boolean language sql as $$ select pg_notify('pg_net', 'restart'); select true $$;
create or replace function net.check_worker_is_up() returns void language plpgsql as $$
begin
  if not exists (select from pg_stat_activity where application_name like 'pg\_net %') then
    raise exception 'the pg_net background worker is not up' using
      detail = 'the pg_net background worker is down due to an internal error and cannot process requests',
      hint = 'make sure that you didn''t modify any of pg_net internal tables';
  end if;
end $$;

create or replace function net._with_params(url text, params jsonb) returns text language sql immutable as $$
  select url || coalesce((select '?' || string_agg(p.key || '=' || p.value, '&') from jsonb_each_text(params) p), '')
$$;
create or replace function net.http_get(url text, params jsonb default '{}', headers jsonb default '{}', timeout_milliseconds integer default 5000)
  returns bigint language plpgsql as $$
declare
  request_id bigint;
begin
  insert into net.http_request_queue (method, url, headers, timeout_milliseconds)
  values ('GET', net._with_params(url, params), headers, timeout_milliseconds) returning id into request_id;
  perform net.wake();
  return request_id;
end $$;
create or replace function net.http_post(url text, body jsonb default '{}', params jsonb default '{}',
  headers jsonb default '{"Content-Type": "application/json"}', timeout_milliseconds integer default 5000)
  returns bigint language plpgsql as $$
declare
  content_type text := (select h.value from jsonb_each_text(coalesce(headers, '{}')) h where lower(h.key) = 'content-type' limit 1);
  request_id   bigint;
begin
  if content_type is null then
    headers := headers || '{"Content-Type": "application/json"}';
  elsif content_type <> 'application/json' then
    raise exception 'Content-Type header must be "application/json"';
  end if;
  -- What is null here fails below, with the whole row, headers included, in the error.
  insert into net.http_request_queue (method, url, headers, body, timeout_milliseconds)
  values ('POST', net._with_params(url, params), headers, convert_to(body::text, 'UTF8'), timeout_milliseconds) returning id into request_id;
  perform net.wake();
  return request_id;
end $$;

-- As found: everybody may do everything, and read what is queued.
grant usage on schema net to public;
grant all on all sequences in schema net to public;
grant all on all tables in schema net to public;

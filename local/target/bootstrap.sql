-- What a new hosted Supabase project has, as far as our migrations and the application's tables touch it.
-- Run as the cluster's superuser (supabase_admin, as there) in the target database; safe to repeat.

-- Roles. postgres is no superuser on a hosted project: what only a superuser may do fails here as it would there.
do $$
declare
  v_role text;
begin
  foreach v_role in array array['postgres', 'anon', 'authenticated', 'service_role', 'authenticator'] loop
    if not exists (select from pg_roles where rolname = v_role) then
      execute format('create role %I', v_role);
    end if;
  end loop;
end
$$;
alter role postgres nosuperuser createdb createrole login replication bypassrls;
alter role anon nologin inherit;
alter role authenticated nologin inherit;
alter role service_role nologin inherit bypassrls;
alter role authenticator login noinherit;
grant anon, authenticated, service_role to authenticator;
grant anon, authenticated, service_role to postgres with admin option;
grant pg_monitor, pg_read_all_data, pg_signal_backend to postgres;
alter role anon set statement_timeout = '3s';
alter role authenticated set statement_timeout = '8s';
alter role authenticator set statement_timeout = '8s';
alter role postgres set search_path = "$user", public, extensions;

-- A hosted project lets postgres make roles with bypassrls (supautils). From PostgreSQL 16 on it may by itself,
-- because it has that attribute; before, only a superuser may. So what the migrations would make is there already.
do $$
declare
  v_role text;
begin
  foreach v_role in array array['isthmus_worker', 'isthmus_decisions'] loop
    if current_setting('server_version_num')::integer < 160000 and not exists (select from pg_roles where rolname = v_role) then
      execute format('create role %I with bypassrls noinherit %s', v_role, case v_role when 'isthmus_worker' then 'login' end);
    end if;
  end loop;
end
$$;

-- postgres owns the database, and public belongs to the database's owner.
do $$ begin execute format('alter database %I owner to postgres', current_database()); end $$;
alter schema public owner to pg_database_owner;
grant usage on schema public to postgres, anon, authenticated, service_role;

-- A new object in public can be neither read nor written through the Data API until it is granted (the default since
-- 2026-10-30). Only these privileges were withdrawn: TRUNCATE, REFERENCES and TRIGGER are still given to every new
-- table, and functions are executable by PUBLIC, so a migration has to revoke what it does not want.
alter default privileges for role postgres in schema public grant all on tables to anon, authenticated, service_role;
alter default privileges for role postgres in schema public grant all on sequences to anon, authenticated, service_role;
alter default privileges for role postgres in schema public
  revoke select, insert, update, delete on tables from anon, authenticated, service_role;
alter default privileges for role postgres in schema public
  revoke usage, select on sequences from anon, authenticated, service_role;

create schema if not exists extensions authorization postgres;
grant usage on schema extensions to anon, authenticated, service_role;
do $$
declare
  v_extension text;
begin
  for v_extension in
    select name from pg_available_extensions where name in ('pgcrypto', 'uuid-ossp') and installed_version is null
  loop
    execute format('create extension %I with schema extensions', v_extension);
  end loop;
end
$$;

-- The parts of Supabase Auth that policies call.
create schema if not exists auth;
grant usage on schema auth to postgres, anon, authenticated, service_role;

create or replace function auth.jwt() returns jsonb
language sql stable set search_path = '' as $$
  select coalesce(nullif(current_setting('request.jwt.claim', true), ''), nullif(current_setting('request.jwt.claims', true), ''))::jsonb
$$;
create or replace function auth.uid() returns uuid
language sql stable set search_path = '' as $$ select (auth.jwt() ->> 'sub')::uuid $$;
create or replace function auth.role() returns text
language sql stable set search_path = '' as $$ select auth.jwt() ->> 'role' $$;
grant execute on function auth.jwt(), auth.uid(), auth.role() to postgres, anon, authenticated, service_role;

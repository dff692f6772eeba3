-- Purpose: the schema for helper functions (never exposed through the Data API), the least-privileged
--          worker role, the role that decisions run as, and the enum types of the control tables.
-- Locks:   none on existing objects.
-- Reverse: drop schema sync cascade; drop the roles isthmus_worker and isthmus_decisions; drop the types.

create schema sync;
comment on schema sync is 'Isthmus helper functions. Not exposed through the Data API.';

-- The worker has no password until the operator sets one (docs/deployment.md). It bypasses row level
-- security because its rights are exactly its grants; it owns nothing and can create nothing.
do $$
begin
  if not exists (select from pg_roles where rolname = 'isthmus_worker') then
    create role isthmus_worker with login bypassrls noinherit nocreatedb nocreaterole;
  end if;
  -- Nobody logs in as this role. Decisions run with its rights, which are those on released tables (sync_released_entities).
  if not exists (select from pg_roles where rolname = 'isthmus_decisions') then
    create role isthmus_decisions with nologin bypassrls noinherit nocreatedb nocreaterole;
  end if;
end
$$;
-- Only a member of a role can give functions to it, and replace them later.
grant isthmus_decisions to current_user;

revoke all on schema sync from public;
grant usage on schema sync to isthmus_worker, isthmus_decisions;
grant usage on schema public to isthmus_worker, isthmus_decisions;

-- Until PostgreSQL 14 everybody could create in public, and a project that was upgraded still lets everybody: the worker's secret,
-- leaked, would be worth functions that others call by their short names.
do $$
declare
  v_open boolean := exists (select from pg_namespace n cross join lateral aclexplode(n.nspacl) x
                             where n.nspname = 'public' and x.grantee = 0 and x.privilege_type = 'CREATE');
begin
  if v_open then
    begin
      revoke create on schema public from public;
    exception when insufficient_privilege then
      null;
    end;
    if has_schema_privilege('isthmus_worker', 'public', 'create') then
      raise notice 'everybody may create tables and functions in the schema public. Its owner has to revoke that: revoke create on schema public from public';
    end if;
  end if;
end
$$;

create type public.sync_schedule_type as enum ('daily', 'weekly', 'on_demand', 'cron');
create type public.sync_job_status as enum ('pending', 'running', 'succeeded', 'incomplete', 'failed', 'paused');
create type public.sync_execution_status as enum ('running', 'succeeded', 'incomplete', 'failed', 'cancelled');
create type public.conflict_type_enum as enum
  ('concurrent_modification', 'foreign_key_violation', 'business_rule_violation', 'schema_mismatch',
   'uuid_mapping_conflict');
create type public.conflict_resolution_strategy as enum
  ('source_wins', 'target_wins', 'merge', 'manual_review');
create type public.mapping_sync_status as enum ('active', 'deleted');
create type public.sync_conflict_state as enum ('waiting', 'open', 'resolved', 'superseded');
create type public.sync_capture as enum ('full', 'xmin', 'modified', 'selection', 'digest', 'keys', 'joins', 'adopt', 'validate');
create type public.sync_chain_state as enum ('blocked', 'open', 'done', 'failed', 'cancelled');

-- PostgreSQL lets everybody make columns and functions of a new type. The worker has such columns in temporary tables, and
-- the Data API sets the strategy of a conflict.
revoke all on type public.sync_schedule_type, public.sync_job_status, public.sync_execution_status, public.conflict_type_enum,
  public.conflict_resolution_strategy, public.mapping_sync_status, public.sync_conflict_state, public.sync_capture,
  public.sync_chain_state from public;
grant usage on type public.sync_schedule_type, public.sync_job_status, public.sync_execution_status, public.conflict_type_enum,
  public.conflict_resolution_strategy, public.mapping_sync_status, public.sync_conflict_state, public.sync_capture,
  public.sync_chain_state to isthmus_worker;
grant usage on type public.conflict_resolution_strategy to authenticated;

-- What auth.jwt() returns. Decisions ask for it too, as a role that has no rights on the schema auth.
create function sync.claims() returns jsonb
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select coalesce(nullif(current_setting('request.jwt.claim', true), ''), nullif(current_setting('request.jwt.claims', true), ''))::jsonb
$$;
comment on function sync.claims() is 'The token of the signed-in user. Null outside the Data API.';

-- Who is calling, for the policies below: the role in app_metadata (never user_metadata, which a user
-- can edit). Null outside the Data API.
create function sync.caller_role() returns text
language sql stable security invoker set search_path = pg_catalog, pg_temp
as $$ select sync.claims() -> 'app_metadata' ->> 'isthmus_role' $$;
comment on function sync.caller_role() is
  'operator, reviewer or null: isthmus_role in the app_metadata of the signed-in user.';
-- Asked by functions that run with more rights than their caller, who chooses the session's settings: the role setting counts only
-- for what PostgreSQL has checked it against, which is that the session's user may take on that role.
create function sync.calling_role() returns name
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select case current_setting('role') when 'none' then session_user else current_setting('role')::name end
$$;
comment on function sync.calling_role() is 'The role of whoever has called a function that runs with its owner''s rights.';

-- The search path of what the application runs when a row of it is written: its triggers, defaults and checks find the tables that they
-- name without a schema, and before anything in pg_temp. The worker and decisions create nothing in public.
create function sync.application_path() returns text
language sql immutable security invoker set search_path = pg_catalog, pg_temp as $$ select 'pg_catalog, public, extensions, pg_temp' $$;
comment on function sync.application_path() is 'The search path under which rows of the application are written.';

revoke all on function sync.claims(), sync.caller_role(), sync.calling_role(), sync.application_path() from public;
grant usage on schema sync to authenticated;
grant execute on function sync.claims(), sync.caller_role() to authenticated, isthmus_decisions;
grant execute on function sync.calling_role() to isthmus_decisions;
grant execute on function sync.application_path() to isthmus_worker, isthmus_decisions;

-- Purpose: the schema for helper functions (never exposed through the Data API), the least-privileged
--          worker role, the role that decisions run as, and the enum types of the control tables.

create schema sync;
comment on schema sync is 'Isthmus helper functions. Not exposed through the Data API.';

-- The worker has no password until the operator sets one (docs/deployment.md). It bypasses row level
-- security because its rights are exactly its grants; it owns nothing and can create nothing.
do $$
begin
  if not exists (select from pg_roles where rolname = 'isthmus_worker') then
    create role isthmus_worker with login bypassrls noinherit nocreatedb nocreaterole;
  end if;
  -- Nobody logs in as this role. Decisions run with its rights, which are those on released tables
  -- (sync_released_entities).
  if not exists (select from pg_roles where rolname = 'isthmus_decisions') then
    create role isthmus_decisions with nologin bypassrls noinherit nocreatedb nocreaterole;
  end if;
end
$$;
-- Only a member of a role can give functions to it, and replace them later. By its name: of the keyword current_user
-- in a grant of roles, supautils before 3.2.3 makes a crash of the whole server.
do $$ begin execute format('grant isthmus_decisions to %I', current_user); end $$;

revoke all on schema sync from public;
grant usage on schema sync to isthmus_worker, isthmus_decisions;
grant usage on schema public to isthmus_worker, isthmus_decisions;

-- Until PostgreSQL 14 everybody could create in public, and a project that was upgraded still lets everybody: the
-- worker's secret, leaked, would be worth functions that others call by their short names.
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
create type public.sync_control as enum ('pause', 'resume', 'cancel', 'retry');

-- PostgreSQL lets everybody make columns and functions of a new type. The worker has such columns in temporary
-- tables, and the Data API sets the strategy of a conflict.
revoke all on type public.sync_schedule_type, public.sync_job_status, public.sync_execution_status, public.conflict_type_enum,
  public.conflict_resolution_strategy, public.mapping_sync_status, public.sync_conflict_state, public.sync_capture,
  public.sync_chain_state, public.sync_control from public;
grant usage on type public.sync_schedule_type, public.sync_job_status, public.sync_execution_status, public.conflict_type_enum,
  public.conflict_resolution_strategy, public.mapping_sync_status, public.sync_conflict_state, public.sync_capture,
  public.sync_chain_state, public.sync_control to isthmus_worker;
grant usage on type public.conflict_resolution_strategy, public.sync_control to authenticated;
grant usage on schema sync to authenticated;

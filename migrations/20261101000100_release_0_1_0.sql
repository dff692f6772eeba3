-- Purpose: everything that release 0.1.0 has: the control tables, and the functions that change them.
-- Locks:   none on existing objects.
-- Reverse: npm run sync -- uninstall
--
-- Written by `npm run migration` from supabase/schemas/, until the release is made. Change these files instead.

-- supabase/schemas/tables/schema.sql

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

-- supabase/schemas/functions/callers.sql

-- Purpose: who is calling, and under which search path rows of the application are written.

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

-- Asked by functions that run with more rights than their caller, who chooses the session's settings: the role
-- setting counts only for what PostgreSQL has checked it against, which is that the session's user may take on that
-- role.
create function sync.calling_role() returns name
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select case current_setting('role') when 'none' then session_user else current_setting('role')::name end
$$;
comment on function sync.calling_role() is
  'The role of whoever has called a function that runs with its owner''s rights.';

-- The search path of what the application runs when a row of it is written: its triggers, defaults and checks find
-- the tables that they name without a schema, and before anything in pg_temp. The worker and decisions create nothing
-- in public.
create function sync.application_path() returns text
language sql immutable security invoker set search_path = pg_catalog, pg_temp as $$ select 'pg_catalog, public, extensions, pg_temp' $$;
comment on function sync.application_path() is 'The search path under which rows of the application are written.';

create function sync.actor(p_name text) returns text
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select case when sync.claims() ->> 'sub' is not null then coalesce(sync.claims() ->> 'email', sync.claims() ->> 'sub')
              else coalesce(nullif(btrim(p_name), ''), session_user) end
$$;
comment on function sync.actor(text) is
  'Who is deciding: the signed-in reviewer, or else the name that was given, or the database user.';

revoke all on function sync.claims(), sync.caller_role(), sync.calling_role(), sync.application_path(), sync.actor(text) from public;
grant execute on function sync.claims(), sync.caller_role(), sync.actor(text) to authenticated, isthmus_decisions;
grant execute on function sync.calling_role() to isthmus_decisions;
grant execute on function sync.application_path() to isthmus_worker, isthmus_decisions;

-- supabase/schemas/tables/installed.sql

-- Purpose: which migrations and functions were installed here.

-- Our own history, beside that of whatever tool migrates the application: a project may have both.
create table sync.installed (
  id         bigint generated always as identity primary key,
  part       text not null check (part in ('migration', 'functions')),
  version    text not null,
  name       text not null,
  sha256     text,
  release    text not null,
  applied_at timestamptz not null default now(),
  applied_by text not null default current_user
);
comment on table sync.installed is
  'What was installed here, when and by whom: each migration with the SHA-256 of its file, each deployment of the '
  'functions with that of their sources. Written by npm run sync -- setup.';
comment on column sync.installed.sha256 is
  'Null where there is no text that it could be of: a migration that another tool applied, and a deployment of the '
  'functions that is outstanding since their secrets were set.';
comment on column sync.installed.release is 'The version of this project that installed it.';
alter table sync.installed enable row level security;
create policy team_reads on sync.installed for select to authenticated using ((select sync.caller_role()) in ('operator', 'reviewer'));
revoke all on sync.installed from public, anon, authenticated, service_role;

-- supabase/schemas/tables/sources-and-entities.sql

-- Purpose: which legacy databases are read, and what is synced from each.

create table public.sync_sources (
  id                smallint generated always as identity primary key,
  name              text not null unique,
  namespace         uuid not null default gen_random_uuid(),
  system_identifier text,
  timeline          integer,
  in_recovery       boolean,
  database_oid      bigint,
  server_start      text,
  capabilities      jsonb not null default '{}',
  target_identity   text,
  written_since     xid8 not null default '0',
  created_at        timestamptz not null default now(),
  updated_at        timestamptz not null default now(),
  put_back_until    timestamptz not null default '-infinity',
  forgotten_at      timestamptz not null default '-infinity',
  refused_since     timestamptz,
  refusal           jsonb
);
comment on table public.sync_sources is 'A legacy PostgreSQL that is read.';
comment on column public.sync_sources.name is 'The name under which configuration refers to it.';
comment on column public.sync_sources.namespace is
  'Random namespace of the UUIDs minted for this source. Never change it: every new id derives from it.';
comment on column public.sync_sources.system_identifier is
  'Which server was read last; another one, or another timeline, forces a full pass.';
comment on column public.sync_sources.timeline is 'Timeline of that server; it changes with a failover or a restore.';
comment on column public.sync_sources.target_identity is
  'Which database this one was when the last execution began; another one now means that it was restored from a '
  'backup, or copied.';
comment on column public.sync_sources.written_since is
  'The first transaction of this database that the sync can have written in. A copy loads older rows, all of them in '
  'one transaction perhaps.';
comment on column public.sync_sources.put_back_until is
  'The restores of this database that a person accepted up to then have been answered by comparing both sides.';
comment on column public.sync_sources.forgotten_at is
  'When somebody last deleted executions: pages of theirs may still be in flight.';
comment on column public.sync_sources.refused_since is
  'Since when it refuses connections or does not answer: but for one look of each tick, nobody asks it then. Null: '
  'it answers.';
comment on column public.sync_sources.refusal is 'Why it refused last: an error with code, message and remedy.';
comment on column public.sync_sources.in_recovery is 'True when the server read last was a replica.';
comment on column public.sync_sources.database_oid is
  'Which database of that server; one that was dropped and restored under its name has another.';
comment on column public.sync_sources.server_start is
  'Since when that server runs. One that was put back to an older state has started since.';

alter table public.sync_sources enable row level security;
create policy team_reads on public.sync_sources for select to authenticated
  using ((select sync.caller_role()) in ('operator', 'reviewer'));
revoke all on public.sync_sources from anon, authenticated, service_role;
revoke all on sequence public.sync_sources_id_seq from anon, authenticated, service_role;
grant select (id, name, system_identifier, timeline, in_recovery, database_oid, server_start, capabilities, created_at, updated_at, refused_since, refusal)
  on public.sync_sources to authenticated;
grant select, insert, update on public.sync_sources to isthmus_worker;

create table public.sync_entities (
  id              smallint generated always as identity primary key,
  source_id       smallint not null references public.sync_sources (id),
  entity_type     varchar(100) not null,
  source_table    varchar(255) not null,
  target_table    varchar(255) not null,
  legacy_key      text not null,
  depends_on      text[] not null default '{}',
  columns         jsonb not null,
  on_delete       jsonb not null default '{"policy": "review"}',
  conflicts       jsonb not null default '{"strategy": "source_wins", "deleted": "manual_review", "fields": {}, "types": {}}',
  predicate       jsonb,
  history         text not null default 'values' check (history in ('values', 'hashes')),
  definition_hash text not null,
  adoption_epoch  integer not null default 0,
  adopted_at      timestamptz,
  mask_from       bigint,
  removed_at      timestamptz,
  updated_at      timestamptz not null default now(),
  rules           jsonb not null default '[]',
  control         public.sync_control,
  controlled_by   text,
  controlled_at   timestamptz,
  unique (source_id, entity_type)
);
comment on table public.sync_entities is
  'What is synced: one row per target table and projection, written from the entity files when an execution is '
  'planned.';
comment on column public.sync_entities.legacy_key is 'The target column that holds the legacy id.';
comment on column public.sync_entities.depends_on is 'Entities whose records this one refers to; they run first.';
comment on column public.sync_entities.columns is
  'The target columns the sync owns: [{name, type, money, sensitive, parent}]. No other column is ever written.';
comment on column public.sync_entities.on_delete is
  'What becomes of the target row of a record that the source no longer has: {policy: hard | soft | ignore | review, '
  'set: {column: value}} (set: soft only).';
comment on column public.sync_entities.conflicts is
  'Who wins where both sides changed something: {strategy, fields: {field: strategy}, types: {conflict type: '
  'strategy}, deleted: strategy (target rows that somebody deleted)}. A field''s own counts before its type''s, and '
  'that before strategy.';
comment on column public.sync_entities.predicate is
  'Which records are not transferred, and what becomes of one that leaves: {rule, reason, on_leave}; null: all are '
  'transferred.';
comment on column public.sync_entities.history is
  'What sync_row_states keeps of each record: whole values, or hashes of them.';
comment on column public.sync_entities.definition_hash is
  'Changes when the entity file changes; then everything is projected again.';
comment on column public.sync_entities.adoption_epoch is
  '0: nothing may be minted, because the ids that the target already holds have not been taken over.';
comment on column public.sync_entities.mask_from is
  'A field has become sensitive: from this legacy id on its values in the queue are still to be masked. Null: none '
  'are.';
comment on column public.sync_entities.removed_at is
  'Since when no entity file of the deployed functions has it; null: one has. A day later what is open of it in the '
  'queue is closed.';

comment on column public.sync_entities.control is
  'pause: executions leave it out, and no page of it begins. Resume, cancel or retry are carried out, and it is '
  'empty again. docs/reference.md says which when.';
comment on column public.sync_entities.controlled_by is 'Who gave the last word to control.';
comment on column public.sync_entities.controlled_at is 'When that was.';

alter table public.sync_entities enable row level security;
create policy team_reads on public.sync_entities for select to authenticated
  using ((select sync.caller_role()) in ('operator', 'reviewer'));
create policy operators_control on public.sync_entities for update to authenticated
  using ((select sync.caller_role()) = 'operator') with check ((select sync.caller_role()) = 'operator');
revoke all on public.sync_entities from anon, authenticated, service_role;
revoke all on sequence public.sync_entities_id_seq from anon, authenticated, service_role;
grant select, update (control) on public.sync_entities to authenticated;
grant select, insert, update on public.sync_entities to isthmus_worker;
grant select on public.sync_entities to isthmus_decisions;
comment on column public.sync_entities.rules is
  'Its business rules, from the entity file: [{rule, severity, fields, remedy}].';

-- supabase/schemas/tables/released-entities.sql

-- Purpose: the tables and columns that decisions may touch.

create table public.sync_released_entities (
  entity_type  varchar(100) primary key,
  target_table text not null,
  columns      text[] not null,
  deletes      boolean not null,
  released_by  text not null default session_user,
  released_at  timestamptz not null default now()
);
comment on table public.sync_released_entities is
  'The tables and columns that decisions may read and write. Only the owner of the database adds to it: run what npm '
  'run sync -- grants prints.';
comment on column public.sync_released_entities.columns is
  'The columns of target_table that decisions may write, besides the id of a new row.';
comment on column public.sync_released_entities.deletes is 'Whether a decision may delete rows.';
comment on column public.sync_released_entities.released_by is 'The database user who released it last.';

alter table public.sync_released_entities enable row level security;
create policy team_reads on public.sync_released_entities for select to authenticated
  using ((select sync.caller_role()) in ('operator', 'reviewer'));
revoke all on public.sync_released_entities from anon, authenticated, service_role;
grant select on public.sync_released_entities to authenticated, isthmus_worker, isthmus_decisions;

-- supabase/schemas/tables/jobs-and-executions.sql

-- Purpose: what runs when (jobs), and each run (executions).

create table public.sync_jobs (
  id                uuid primary key default gen_random_uuid(),
  name              varchar(255) not null unique,
  schedule_type     public.sync_schedule_type not null,
  cron_expression   text,
  time_zone         text not null default 'UTC',
  enabled           boolean not null default true,
  last_execution_at timestamptz,
  next_execution_at timestamptz,
  status            public.sync_job_status not null default 'pending',
  configuration     jsonb not null default '{}',
  created_at        timestamptz not null default now(),
  attempts          integer not null default 0,
  last_error        jsonb,
  succeeded_at      timestamptz,
  success_told_at   timestamptz,
  waits_since       timestamptz,
  alarms            jsonb not null default '{}',
  taken_at          timestamptz,
  control           public.sync_control,
  controlled_by     text,
  controlled_at     timestamptz,
  check (schedule_type = 'on_demand' or cron_expression is not null),
  constraint alarms_are_numbers check (jsonb_typeof(alarms) = 'object' and alarms - array['lag_minutes', 'window_minutes', 'band_factor', 'retries'] = '{}'
    and not alarms @? '$.* ? (!(@.type() == "number" && @ > 0 && @ <= 1000000))')
);
comment on table public.sync_jobs is 'What is synced on a schedule. sync-tick starts every enabled job that is due.';
comment on column public.sync_jobs.cron_expression is 'Five-field cron expression, read in time_zone.';
comment on column public.sync_jobs.time_zone is 'IANA time zone of cron_expression, for example Europe/Berlin.';
comment on column public.sync_jobs.next_execution_at is
  'When the job is due. Set by sync-tick from cron_expression; set it to now() to run the job at the next tick.';
comment on column public.sync_jobs.configuration is
  'As the body of sync-trigger, for example {"entities": ["customers"], "capture": "full"}; all optional: all '
  'entities, the cheapest safe capture.';
comment on column public.sync_jobs.attempts is
  'How often it was tried in vain since it last began an execution; of an error that nobody has expected, and behind '
  'another execution, since that began.';
comment on column public.sync_jobs.last_error is
  'Code, message and remedy of what kept it from beginning, or of the execution that failed; empty once it begins '
  'again. Never values of a row.';
comment on column public.sync_jobs.succeeded_at is 'When its latest execution that succeeded had ended.';
comment on column public.sync_jobs.taken_at is
  'When a tick took it up that has not come to an end with it yet: still so when it is due again, that tick was '
  'killed.';
comment on column public.sync_jobs.alarms is
  'When people are told: {"lag_minutes": 240} that an entity of the job has not been in step for so long, '
  '{"window_minutes": 90} that an execution works for so long, {"retries": 10} that a page was tried in vain so '
  'often, {"band_factor": 3} of a run that is so many times as far from its usual band. Without: docs/reference.md.';
comment on column public.sync_jobs.waits_since is 'Since when it is due and could not begin for a reason that passes.';
comment on column public.sync_jobs.success_told_at is 'Of which success the heartbeat address was told.';

comment on column public.sync_jobs.control is
  'pause: it does not begin, and no page of its executions does. Resume, cancel or retry are carried out, and it is '
  'empty again. docs/reference.md says which when.';
comment on column public.sync_jobs.controlled_by is 'Who gave the last word to control.';
comment on column public.sync_jobs.controlled_at is 'When that was.';

alter table public.sync_jobs enable row level security;
create policy team_reads on public.sync_jobs for select to authenticated
  using ((select sync.caller_role()) in ('operator', 'reviewer'));
create policy operators_control on public.sync_jobs for update to authenticated
  using ((select sync.caller_role()) = 'operator') with check ((select sync.caller_role()) = 'operator');
revoke all on public.sync_jobs from anon, authenticated, service_role;
grant select, update (control) on public.sync_jobs to authenticated;
grant select on public.sync_jobs to isthmus_worker;
grant update (last_execution_at, next_execution_at, status, attempts, last_error, succeeded_at, waits_since, taken_at, control, controlled_by) on public.sync_jobs to isthmus_worker;

insert into public.sync_jobs (name, schedule_type, cron_expression, time_zone, configuration)
values ('daily', 'daily', '0 2 * * *', 'UTC', '{"capture": "digest"}');

create table public.sync_executions (
  id                uuid primary key default gen_random_uuid(),
  job_id            uuid references public.sync_jobs (id),
  source_id         smallint not null references public.sync_sources (id),
  started_at        timestamptz not null default now(),
  completed_at      timestamptz,
  records_processed bigint not null default 0,
  records_succeeded bigint not null default 0,
  records_failed    bigint not null default 0,
  errors            jsonb,
  metrics           jsonb,
  status            public.sync_execution_status not null default 'running',
  triggered_by      text not null,
  request           jsonb not null default '{}',
  entities          text[] not null,
  horizon           xid8 not null,
  snapshot_xmax     xid8 not null,
  system_identifier text not null,
  timeline          integer not null,
  database_oid      bigint not null,
  server_start      text not null,
  source_time       text not null,
  dry_run           boolean not null default false,
  selective         boolean not null default false,
  ordinal           bigint not null generated always as identity,
  brake_share       numeric not null default 0.1,
  brake_records     integer not null default 100,
  brake_overwrite_share   numeric not null default 0.25,
  brake_overwrite_records integer not null default 1000,
  cancelled_by      text,
  control           public.sync_control,
  controlled_by     text,
  controlled_at     timestamptz
);
comment on table public.sync_executions is
  'One run. It is succeeded only when every record read is accounted for, no chain is open and no entity was left '
  'out (incomplete).';
comment on column public.sync_executions.metrics is
  'recordsProcessed, successRate, averageLatency (ms per page), errorRate, throughputPerSecond, uuidCacheHitRate, '
  'conflictResolutionRate.';
comment on column public.sync_executions.errors is 'Codes and remedies, never values of a row.';
comment on column public.sync_executions.triggered_by is
  'http:machine, http:user:<id>, qstash, job:<name> or release.';
comment on column public.sync_executions.horizon is
  'Oldest transaction still running on the source when this execution began; the next one looks from here on.';
comment on column public.sync_executions.snapshot_xmax is
  'First transaction id not yet assigned on the source at that moment.';
comment on column public.sync_executions.server_start is 'Since when the server that answered the plan ran.';
comment on column public.sync_executions.brake_share is
  'More than this share of an entity''s landed records is neither deleted nor emptied in a column until a person '
  'confirms (sync_brakes).';
comment on column public.sync_executions.brake_records is 'Up to this many records the brake does not look at.';
comment on column public.sync_executions.brake_overwrite_share is
  'In more than this share of an entity''s landed records no value is overwritten until a person confirms '
  '(sync_brakes).';
comment on column public.sync_executions.brake_overwrite_records is
  'Up to this many overwritten records the brake does not look at.';
comment on column public.sync_executions.source_time is 'The source''s clock at that moment, as the source writes it.';
comment on column public.sync_executions.ordinal is
  'Counts executions. The cache remembers the last one: when it remembers a later one, this database was put back to '
  'an older state.';
comment on column public.sync_executions.selective is
  'Reads records that a request selected, changed or not: it moves no checkpoint, compares nothing, and may run '
  'beside others.';
comment on column public.sync_executions.dry_run is
  'A plan: tells what a run would do and why (sync_reports, kind plan), and writes nothing else.';
comment on column public.sync_executions.status is
  'Set it to cancelled to end an execution that runs: pages at work may commit, no other begins.';
comment on column public.sync_executions.cancelled_by is 'Who ended it before its time.';
comment on column public.sync_executions.control is
  'pause: no page of it begins. Resume, cancel or retry are carried out, and it is empty again. docs/reference.md '
  'says which when.';
comment on column public.sync_executions.controlled_by is 'Who gave the last word to control.';
comment on column public.sync_executions.controlled_at is 'When that was.';
create index sync_executions_job_id_idx on public.sync_executions (job_id, started_at);
-- How long a job usually takes (sync.metrics).
create index sync_executions_succeeded_idx on public.sync_executions (job_id, started_at) where status = 'succeeded';
-- The latest of an entity that may be tried again (sync.failed_chains).
create index sync_executions_unfinished_idx on public.sync_executions (source_id, ordinal) where status in ('running', 'failed') and not dry_run;
create index sync_executions_source_id_idx on public.sync_executions (source_id, started_at);
-- Those like an execution that has come through (sync.usual_runs).
create index sync_executions_like_idx on public.sync_executions (source_id, triggered_by, hash_array(entities), started_at)
  where status in ('succeeded', 'incomplete') and not dry_run and not selective;
-- The last one is asked for by each start and each tick.
create index sync_executions_ordinal_idx on public.sync_executions (ordinal);
create index sync_executions_running_idx on public.sync_executions (started_at) where status = 'running';
create index sync_executions_cancelled_idx on public.sync_executions (started_at) where status = 'cancelled' and metrics is null;
create index sync_executions_control_idx on public.sync_executions (ordinal) where control is not null;

alter table public.sync_executions enable row level security;
create policy team_reads on public.sync_executions for select to authenticated
  using ((select sync.caller_role()) in ('operator', 'reviewer'));
create policy operators_control on public.sync_executions for update to authenticated
  using ((select sync.caller_role()) = 'operator') with check ((select sync.caller_role()) = 'operator');
revoke all on public.sync_executions from anon, authenticated, service_role;
revoke all on sequence public.sync_executions_ordinal_seq from anon, authenticated, service_role;
grant select, update (status, control) on public.sync_executions to authenticated;
grant select, insert, update on public.sync_executions to isthmus_worker;

-- supabase/schemas/tables/chains-and-page-log.sql

-- Purpose: the pages of each run: chains, and the log of pages.

create table public.sync_chains (
  id           uuid primary key default gen_random_uuid(),
  execution_id uuid not null references public.sync_executions (id) on delete cascade,
  entity_id    smallint references public.sync_entities (id),
  capture      public.sync_capture not null,
  state        public.sync_chain_state not null default 'blocked',
  range_from   bigint,
  range_to     bigint,
  changed_from xid8,
  seen_before  xid8,
  join_id      integer,
  skips_unchanged boolean not null default false,
  definition_hash text,
  deletes      boolean not null default false,
  up_to        bigint,
  selection    jsonb,
  until_at     text,
  table_file   bigint,
  "cursor"     bigint,
  cursor_at    text,
  page         integer not null default 0,
  page_size    integer not null check (page_size > 0),
  slow_growth  boolean not null default false,
  crashes      integer not null default 0,
  round        integer not null default 1,
  lease        bigint not null default 0,
  lease_until  timestamptz,
  delivery     text,
  attempt      integer,
  sends        integer not null default 0,
  due_at       timestamptz,
  unclaimed    integer not null default 0,
  refusals     integer not null default 0,
  waits_since  timestamptz,
  failures     integer not null default 0,
  last_error   jsonb,
  created_at   timestamptz not null default now(),
  moved_at     timestamptz not null default clock_timestamp(),
  closed_at    timestamptz,
  counts       jsonb not null default '{}',
  landed       bigint not null default 0,
  landed_up_to bigint,
  refusal      jsonb,
  control       public.sync_control,
  controlled_by text,
  controlled_at timestamptz,
  check ((capture = 'validate') = (entity_id is null)),
  check ((capture = 'joins') = (join_id is not null)),
  check ((capture = 'modified') = (until_at is not null)),
  check ((capture = 'selection') = (selection is not null)),
  check (not deletes or capture = 'keys'),
  check ((state = 'open') = (due_at is not null)),
  check ((state in ('done', 'failed', 'cancelled')) = (closed_at is not null))
);
comment on table public.sync_chains is
  'The pages of one entity and key range within an execution. The row is also the outbox: an open chain whose due_at '
  'has passed is sent again.';
comment on column public.sync_chains.range_from is 'Keys from this one on (null: from the first).';
comment on column public.sync_chains.range_to is 'Keys up to this one (null: to the last).';
comment on column public.sync_chains.changed_from is
  'Rows written by this transaction id or a later one (xmin; joins, where null is all rows).';
comment on column public.sync_chains.join_id is
  'joins capture: which joined table''s rows are looked at, as in sync_join_rows.';
comment on column public.sync_chains.definition_hash is
  'The entity definition under which the chain was planned; mixed when a page of it ran under another one.';
comment on column public.sync_chains.skips_unchanged is
  'full capture: all that has landed was decided on under the chain''s definition, so that what neither side has '
  'changed since is not read.';
comment on column public.sync_chains.deletes is
  'keys capture: carries out deletes of records that the source no longer has, children before parents.';
comment on column public.sync_chains.up_to is
  'deletes: the last generation of pending keys that the brake has counted; what is asked for later is for a later '
  'execution.';
comment on column public.sync_chains.selection is 'selection capture: which records a request asked for.';
comment on column public.sync_chains.until_at is
  'modified capture: the source''s clock when the chain was planned; what is stamped later belongs to a later run.';
comment on column public.sync_chains.table_file is
  'Scans by place: the file of the table; when it is rewritten, its rows move and the scan begins anew.';
comment on column public.sync_chains.seen_before is
  'xmin capture: what was written before this transaction, the last run may have read; it is read again where its '
  'hash differs.';
comment on column public.sync_chains."cursor" is
  'The last key committed (joins capture: of the joined table; scans by place: block and line of the last row looked '
  'at).';
comment on column public.sync_chains.cursor_at is
  'modified capture: the time stamp that goes with the last key, as the source writes it.';
comment on column public.sync_chains.page is
  'Number of the page to run next; a message for another page is late and does nothing.';
comment on column public.sync_chains.page_size is
  'How many records the next page takes at most; it halves, down to one, with every page that a limit ends.';
comment on column public.sync_chains.slow_growth is
  'A limit has ended or cut a page: from then on each page is larger than the one before by a quarter at most.';
comment on column public.sync_chains.crashes is
  'How often the worker of the page of one record that is next was killed. At two its record goes to the queue '
  'without being read.';
comment on column public.sync_chains.round is 'validate: 1, or 2 after the records that differed were read once more.';
comment on column public.sync_chains.lease is 'Fencing token: a page commits only under the lease it claimed.';
comment on column public.sync_chains.delivery is
  'The queue''s message that took the lease: a later attempt of the same message means that the earlier one has '
  'ended without an answer.';
comment on column public.sync_chains.attempt is 'Which attempt of that message took the lease, counted from 0.';
comment on column public.sync_chains.due_at is 'When sync-tick sends the next page again if nobody has committed it.';
comment on column public.sync_chains.sends is
  'How often sync-tick has sent the next page again: part of the message''s deduplication id.';
comment on column public.sync_chains.unclaimed is
  'Messages that the queue accepted from sync-tick and no function has answered by taking the page.';
comment on column public.sync_chains.refusals is
  'How often in a row the queue did not accept the message; refusal says why.';
comment on column public.sync_chains.waits_since is
  'Since when the next page is due and no function has taken it; null: it is not, or it is under way.';
comment on column public.sync_chains.failures is
  'Tries of the page since the last progress: failed, or never told of.';
comment on column public.sync_chains.moved_at is
  'The last progress: it was opened or closed, a page was committed, or given back to be tried smaller.';
comment on column public.sync_chains.last_error is
  'Code and remedy of the last failure of the page; never values of a row.';
comment on column public.sync_chains.refusal is
  'Why the queue did not accept the message last; null: it did, or the page has begun since.';
comment on column public.sync_chains.counts is
  'What its pages have counted so far, added up as each is logged: see sync.counted. Brakes, reports and the state '
  'of an execution go by these; rows of sync_page_log that are deleted later change nothing.';
comment on column public.sync_chains.landed is
  'So many records of the entity at least had landed, as the brake has counted them for this chain, and up to which '
  'key (landed_up_to).';
comment on column public.sync_chains.landed_up_to is 'How far the brake has counted; it goes on from here.';
comment on column public.sync_chains.control is
  'pause: no page of it begins. Resume, cancel or retry are carried out, and it is empty again. docs/reference.md '
  'says which when.';
comment on column public.sync_chains.controlled_by is 'Who gave the last word to control.';
comment on column public.sync_chains.controlled_at is 'When that was.';
create index sync_chains_execution_id_idx on public.sync_chains (execution_id);
create index sync_chains_entity_id_idx on public.sync_chains (entity_id);
create index sync_chains_due_idx on public.sync_chains (due_at) where state = 'open';
create index sync_chains_control_idx on public.sync_chains (execution_id) where control is not null;

alter table public.sync_chains enable row level security;
create policy team_reads on public.sync_chains for select to authenticated
  using ((select sync.caller_role()) in ('operator', 'reviewer'));
create policy operators_control on public.sync_chains for update to authenticated
  using ((select sync.caller_role()) = 'operator') with check ((select sync.caller_role()) = 'operator');
revoke all on public.sync_chains from anon, authenticated, service_role;
grant select, update (control) on public.sync_chains to authenticated;
grant select, insert, update on public.sync_chains to isthmus_worker;

create table public.sync_page_log (
  id             bigint generated always as identity primary key,
  execution_id   uuid not null references public.sync_executions (id) on delete cascade,
  chain_id       uuid not null references public.sync_chains (id) on delete cascade,
  entity_id      smallint not null references public.sync_entities (id),
  page           integer not null,
  read           integer not null,
  inserted       integer not null,
  updated        integer not null,
  unchanged      integer not null,
  deleted        integer not null default 0,
  waiting        integer not null,
  in_conflict    integer not null,
  waived         integer not null default 0,
  waived_by      text,
  untouched      integer not null default 0,
  absent         integer not null default 0,
  surplus        integer not null default 0,
  nulled         jsonb,
  overwritten    integer not null default 0,
  cache_lookups  integer not null default 0,
  cache_hits     integer not null default 0,
  heap_bytes     bigint,
  wall_ms        numeric(12,3) not null,
  committed_at   timestamptz not null default clock_timestamp(),
  unique (chain_id, page),
  constraint nothing_silent check
    (read = inserted + updated + unchanged + deleted + waiting + in_conflict + waived),
  constraint waived_by_a_rule check (waived = 0 or waived_by is not null)
);
comment on table public.sync_page_log is 'One row per committed page: what was read and what became of it.';
comment on column public.sync_page_log.waived is
  'Rows of the source that are not transferred: they do not satisfy the entity''s predicate, or a decision stands.';
comment on column public.sync_page_log.waived_by is
  'The predicate, with its version; decision: sync_conflicts.standing.';
comment on column public.sync_page_log.untouched is
  'Of the unchanged: told by the hash of the source and the writer of the target row, and not read.';
comment on column public.sync_page_log.absent is
  'Keys that have no record in the projection any more, and no row that is deleted by this page.';
comment on column public.sync_page_log.surplus is
  'Full passes only: target rows in the key range of the page that are duplicates of a record.';
comment on column public.sync_page_log.nulled is 'How many records lost their value in a column: {column: n}.';
comment on column public.sync_page_log.overwritten is
  'How many records that the sync knew got another value where one stood.';
comment on column public.sync_page_log.heap_bytes is
  'Heap and external memory of the function''s isolate before the commit, pages beside this one included; null where '
  'the platform does not tell.';
create index sync_page_log_execution_id_idx on public.sync_page_log (execution_id);
create index sync_page_log_entity_id_idx on public.sync_page_log (entity_id);

alter table public.sync_page_log enable row level security;
create policy team_reads on public.sync_page_log for select to authenticated
  using ((select sync.caller_role()) in ('operator', 'reviewer'));
revoke all on public.sync_page_log from anon, authenticated, service_role;
revoke all on sequence public.sync_page_log_id_seq from anon, authenticated, service_role;
grant select on public.sync_page_log to authenticated;
grant select, insert on public.sync_page_log to isthmus_worker;

-- supabase/schemas/tables/record-state.sql

-- Purpose: what is known of each record: its UUID, what was last seen and left, where an entity stands,
--          and which keys are to be read again.

-- Neither table asks by a foreign key for its source or entity: a page writes thousands of rows, and its chain names
-- both.
create table public.uuid_mappings_enhanced (
  id                uuid not null default gen_random_uuid(),
  source_id         smallint not null,
  entity_type       varchar(100) not null,
  legacy_id         bigint not null,
  entity_uuid       uuid not null,
  source_table      varchar(255) not null,
  target_table      varchar(255) not null,
  created_at        timestamptz not null default now(),
  last_validated_at timestamptz,
  sync_status       public.mapping_sync_status not null default 'active',
  primary key (source_id, entity_type, legacy_id),
  unique (entity_uuid, entity_type)
);
comment on table public.uuid_mappings_enhanced is
  'One record, one UUID, forever. A row is written in the commit that lands the record, so a mapping means a landed '
  'record.';
comment on column public.uuid_mappings_enhanced.sync_status is
  'deleted keeps the UUID of a record that is gone, so that a legacy id that returns gets it back.';

alter table public.uuid_mappings_enhanced enable row level security;
create policy team_reads on public.uuid_mappings_enhanced for select to authenticated
  using ((select sync.caller_role()) in ('operator', 'reviewer'));
revoke all on public.uuid_mappings_enhanced from anon, authenticated, service_role;
grant select on public.uuid_mappings_enhanced to authenticated;
grant select, insert on public.uuid_mappings_enhanced to isthmus_worker;
grant update (sync_status, last_validated_at) on public.uuid_mappings_enhanced to isthmus_worker;
grant select, update (sync_status) on public.uuid_mappings_enhanced to isthmus_decisions;

create table public.sync_row_states (
  entity_id smallint not null,
  legacy_id bigint not null,
  seen      jsonb,
  "left"    jsonb,
  raw       jsonb,
  synced_at timestamptz not null default now(),
  seen_hash bigint,
  left_hash bigint,
  source_digest bigint,
  gone_at   timestamptz,
  written_by xid,
  outside   boolean,
  check (outside is null or gone_at is not null),
  check (num_nonnulls(seen, seen_hash) = 1 and num_nonnulls("left", left_hash) = 1),
  primary key (entity_id, legacy_id)
) with (fillfactor = 85);
comment on table public.sync_row_states is
  'Per landed record: what the source said and what the target held after the last decision.';
comment on column public.sync_row_states.seen is 'The source values last decided on, cast to the target types.';
comment on column public.sync_row_states."left" is
  'The target values after that decision, read back after triggers; what differs now was changed by somebody else. '
  'Of a field that the target keeps, or that was merged, the source''s value: what the target has of its own stays '
  'an edit.';
comment on column public.sync_row_states.written_by is
  'The transaction that had written the target row when all of it was as left: while it is the same, nobody has '
  'edited it. Null: compare.';
comment on column public.sync_row_states.seen_hash is 'Instead of seen, where the entity keeps hashes.';
comment on column public.sync_row_states.left_hash is
  'Instead of left, where the entity keeps hashes: tells that the target row was edited, not in which field.';
comment on column public.sync_row_states.source_digest is
  'Hash of the projected record, computed on the source: a digest compares it with what the source has now.';
comment on column public.sync_row_states.gone_at is
  'Since when the source no longer has the record, although its row stays: soft, ignored, or kept by its predicate.';
comment on column public.sync_row_states.outside is
  'True: gone_at is since when the record is outside its predicate, which keeps its row. The source may have it '
  'still.';
comment on column public.sync_row_states.raw is 'Raw legacy codes and texts behind mapped values.';

alter table public.sync_row_states enable row level security;
create policy nobody_reads on public.sync_row_states for select to authenticated using (false);
revoke all on public.sync_row_states from anon, authenticated, service_role;
grant select, insert, update, delete on public.sync_row_states to isthmus_worker, isthmus_decisions;

create table public.sync_checkpoints (
  source_id         smallint not null references public.sync_sources (id),
  entity_type       varchar(100) not null,
  job_id            uuid references public.sync_jobs (id),
  execution_id      uuid references public.sync_executions (id) on delete set null,
  last_processed_id bigint,
  records_processed bigint not null default 0,
  checkpoint_data   jsonb not null default '{}',
  horizon           xid8 not null,
  snapshot_xmax     xid8,
  system_identifier text not null,
  timeline          integer not null,
  database_oid      bigint not null,
  server_starts     text[] not null,
  definition_hash   text not null,
  watermark_at      text not null,
  watermark_id      bigint,
  created_at        timestamptz not null default now(),
  updated_at        timestamptz not null default now(),
  primary key (source_id, entity_type)
);
comment on table public.sync_checkpoints is
  'Where an entity stands: everything committed on the source before its horizon has been read.';
comment on column public.sync_checkpoints.horizon is
  'The next incremental pass looks at rows written by this transaction id or a later one.';
comment on column public.sync_checkpoints.snapshot_xmax is
  'First transaction id not yet assigned when the horizon was taken: rows written before it may have been read '
  'although they lie beyond the horizon.';
comment on column public.sync_checkpoints.definition_hash is
  'The entity definition under which the horizon was reached; mixed, unfinished and reread: force a full pass; the '
  'last names the definition.';
comment on column public.sync_checkpoints.server_starts is
  'Starts of the servers that answered for this entity, the latest first, at most eight: several may stand behind '
  'one address. Under another one the source may have been put back and have moved on since.';
comment on column public.sync_checkpoints.last_processed_id is 'The last key of the pass; null after a scan by place.';
comment on column public.sync_checkpoints.watermark_at is
  'modified capture: where the next pass begins. The source''s clock when the horizon was taken, then the last time '
  'stamp read, as the source writes it.';
comment on column public.sync_checkpoints.watermark_id is
  'The key up to which rows of that time stamp have been read; null: none of them.';
create index sync_checkpoints_job_id_idx on public.sync_checkpoints (job_id);
create index sync_checkpoints_execution_id_idx on public.sync_checkpoints (execution_id);

alter table public.sync_checkpoints enable row level security;
create policy team_reads on public.sync_checkpoints for select to authenticated
  using ((select sync.caller_role()) in ('operator', 'reviewer'));
revoke all on public.sync_checkpoints from anon, authenticated, service_role;
grant select on public.sync_checkpoints to authenticated;
grant select, insert, update on public.sync_checkpoints to isthmus_worker;

create table public.sync_join_rows (
  entity_id smallint not null references public.sync_entities (id),
  join_id   integer not null,
  row_id    bigint not null,
  link      bigint not null,
  digest    bigint not null,
  primary key (entity_id, join_id, row_id)
);
comment on table public.sync_join_rows is
  'What an entity last consumed of each row of the tables that it joins or asks about: a changed row has records '
  'read again only if this differs.';
comment on column public.sync_join_rows.join_id is
  'Which join or watch of the entity; another id when it consumes other columns.';
comment on column public.sync_join_rows.row_id is 'The key of the row in the joined table.';
comment on column public.sync_join_rows.link is
  'The value by which the row belonged to its records, so that one that moves has the old ones read again too.';
comment on column public.sync_join_rows.digest is 'Hash of the consumed columns, computed on the source.';

alter table public.sync_join_rows enable row level security;
create policy nobody_reads on public.sync_join_rows for select to authenticated using (false);
revoke all on public.sync_join_rows from anon, authenticated, service_role;
grant select, insert, update, delete on public.sync_join_rows to isthmus_worker;

create sequence public.sync_pending_keys_generation_seq as bigint;
create table public.sync_pending_keys (
  entity_id    smallint not null references public.sync_entities (id),
  legacy_id    bigint not null,
  reason       text not null,
  requested_at timestamptz not null default now(),
  generation   bigint not null default nextval('public.sync_pending_keys_generation_seq'),
  gone         boolean not null default false,
  circle       bigint,
  execution_id uuid references public.sync_executions (id) on delete cascade,
  -- A publication of all tables takes no table without a key.
  id           bigint generated always as identity primary key,
  -- What an execution may read is one range of the index, in the order of the keys.
  unique nulls not distinct (entity_id, execution_id, legacy_id)
);
create index sync_pending_keys_circle_idx on public.sync_pending_keys (entity_id, execution_id, circle) where circle is not null;
create index sync_pending_keys_execution_id_idx on public.sync_pending_keys (execution_id) where execution_id is not null;
comment on table public.sync_pending_keys is
  'Records to read again: released, requested, found different by a control total or a digest, or changed through a '
  'joined row (fan_out).';
comment on column public.sync_pending_keys.execution_id is
  'The dry run that would ask for the record, and that alone reads this row. Null: asked for in earnest, for the '
  'next execution that covers the entity.';
comment on column public.sync_pending_keys.gone is
  'The source no longer has it, but it has landed: the end of an execution deletes it, children before parents, as '
  'its entity says.';
comment on column public.sync_pending_keys.circle is
  'The least key of records that wait for each other in a circle: a page reads all of them, or they would wait for '
  'ever.';
comment on column public.sync_pending_keys.reason is
  'released, requested, dependants (requested with the records that refer to it), parent (of a requested one), '
  'fan_out, control_total, digest, missing (not met by a full pass), clash (for a unique value), circle (of records '
  'that wait for each other), retried, replayed, rule_changed, decided (for the source''s text of a value that a '
  'decision has written) or gone.';
comment on column public.sync_pending_keys.generation is
  'Moves when a key is requested again, so that a page deletes only the request it has answered.';

alter table public.sync_pending_keys enable row level security;
create policy team_reads on public.sync_pending_keys for select to authenticated
  using (execution_id is null and (select sync.caller_role()) in ('operator', 'reviewer'));
revoke all on public.sync_pending_keys from anon, authenticated, service_role;
revoke all on sequence public.sync_pending_keys_generation_seq, public.sync_pending_keys_id_seq from anon, authenticated, service_role;
grant select on public.sync_pending_keys to authenticated;
grant select, insert, update, delete on public.sync_pending_keys to isthmus_worker;
grant select, insert (entity_id, legacy_id, reason, generation) on public.sync_pending_keys to isthmus_decisions;
grant usage on sequence public.sync_pending_keys_generation_seq to isthmus_worker;

-- supabase/schemas/tables/adoption-rows.sql

-- Purpose: target rows that share a legacy id, found while the ids of an earlier migration are taken over.

create table public.sync_adoption_rows (
  entity_id  smallint not null references public.sync_entities (id),
  legacy_id  bigint not null,
  id         uuid not null,
  undecided  boolean not null,
  claimed_by bigint,
  found_at   timestamptz not null default now(),
  primary key (entity_id, legacy_id, id)
);
comment on table public.sync_adoption_rows is
  'Target rows of an earlier migration that share a legacy id with another row. Each adoption finds them anew.';
comment on column public.sync_adoption_rows.id is 'The target row''s UUID.';
comment on column public.sync_adoption_rows.undecided is
  'True: nothing can be mapped or inserted under this legacy id until a person decides (sync.adopt_as). False: the '
  'row is surplus, another one is the record.';
comment on column public.sync_adoption_rows.claimed_by is
  'The legacy id whose record this row already is; then it cannot be chosen.';

alter table public.sync_adoption_rows enable row level security;
create policy team_reads on public.sync_adoption_rows for select to authenticated
  using ((select sync.caller_role()) in ('operator', 'reviewer'));
revoke all on public.sync_adoption_rows from anon, authenticated, service_role;
grant select on public.sync_adoption_rows to authenticated;
grant select, insert, delete on public.sync_adoption_rows to isthmus_worker;
grant update (undecided) on public.sync_adoption_rows to isthmus_worker;

-- supabase/schemas/tables/plans.sql

-- Purpose: what a dry run has found out so far: what would become of each record, and which are to be looked at again.

create table public.sync_planned_records (
  execution_id     uuid not null references public.sync_executions (id) on delete cascade,
  entity_id        smallint not null references public.sync_entities (id),
  legacy_id        bigint not null,
  id               uuid,
  outcome          text not null check (outcome in
    ('inserted', 'updated', 'unchanged', 'deleted', 'waiting', 'in_conflict', 'waived', 'absent')),
  rule             text,
  field            text,
  remedy           text,
  warnings         text[],
  parent_entity_id smallint references public.sync_entities (id),
  parent_legacy_id bigint,
  clashes_with     bigint,
  met              bigint[] not null default '{}',
  lands            boolean,
  row_after        jsonb,
  state_after      jsonb,
  unique_keys      bigint[],
  source_digest    bigint,
  primary key (execution_id, entity_id, legacy_id),
  check ((lands is true) = (row_after is not null))
);
comment on table public.sync_planned_records is
  'What a dry run would make of each record. Its rows go when the report has been written to sync_reports.';
comment on column public.sync_planned_records.id is 'The UUID that the record has or would get.';
comment on column public.sync_planned_records.rule is
  'Why: a rule, predicate or constraint, or source_wins where somebody''s edit would be overwritten.';
comment on column public.sync_planned_records.clashes_with is
  'The record of the same entity that holds the unique value which this one would get.';
comment on column public.sync_planned_records.met is
  'The records of the same entity with which it has clashed in this dry run: it was asked for together with each of '
  'them once.';
comment on column public.sync_planned_records.lands is
  'True: the target row would be as in row_after. False: it would be deleted. Null: it stays as it is.';
comment on column public.sync_planned_records.row_after is
  'The columns of the target row that the sync owns, as they would be.';
comment on column public.sync_planned_records.state_after is
  'Its row of sync_row_states, as it would be; null: nothing would be known of it.';
comment on column public.sync_planned_records.source_digest is
  'The hash of the source''s record as this dry run has read it; null: the source has none that is transferred.';
comment on column public.sync_planned_records.unique_keys is
  'Hashes of the row''s values under each unique index, so that a later page finds what it clashes with.';
-- Never analysed, two indexes that begin alike look alike to the planner: whichever it takes for a record has to lead
-- to it.
create index sync_planned_records_id_idx on public.sync_planned_records (id, execution_id);
create index sync_planned_records_unique_keys_idx on public.sync_planned_records using gin (unique_keys);
create index sync_planned_records_waiting_for on public.sync_planned_records (execution_id, parent_entity_id, parent_legacy_id)
  where outcome = 'waiting';
create index sync_planned_records_entity_id_idx on public.sync_planned_records (entity_id, execution_id, legacy_id);
create index sync_planned_records_parent_entity_id_idx on public.sync_planned_records (parent_entity_id);

alter table public.sync_planned_records enable row level security;
create policy nobody_reads on public.sync_planned_records for select to authenticated using (false);
revoke all on public.sync_planned_records from anon, authenticated, service_role;
grant select, insert, update, delete on public.sync_planned_records to isthmus_worker;

-- supabase/schemas/tables/record-slots.sql

-- Purpose: the slots by which pages that commit the same records are ordered.

-- A page of ordinary keys rewrites a few rows of it: there is room for the next version beside each.
create table public.sync_record_slots (
  entity_id smallint not null references public.sync_entities (id) on delete cascade,
  slot      smallint not null check (slot between 0 and 255),
  version   bigint not null,
  primary key (entity_id, slot)
) with (fillfactor = 50);
comment on table public.sync_record_slots is
  'How often records of a slot (4,096 neighbouring keys; every 256th such range has the same slot) were committed. A '
  'page notes the versions before it reads the source, and commits only if they still hold.';
comment on column public.sync_record_slots.slot is 'legacy id >> 12, its last eight bits.';
comment on column public.sync_record_slots.version is 'One more with each commit of records of the slot.';

alter table public.sync_record_slots enable row level security;
create policy team_reads on public.sync_record_slots for select to authenticated
  using ((select sync.caller_role()) in ('operator', 'reviewer'));
revoke all on public.sync_record_slots from anon, authenticated, service_role;
grant select on public.sync_record_slots to authenticated;
grant select, insert, update on public.sync_record_slots to isthmus_worker;

-- supabase/schemas/tables/conflicts.sql

-- Purpose: the queue that people review in the table editor, and the unmasked values behind it.

create table public.sync_conflicts (
  id                  uuid primary key default gen_random_uuid(),
  state               public.sync_conflict_state not null,
  entity_type         varchar(100) not null,
  source_record_id    bigint not null,
  conflict_type       public.conflict_type_enum not null,
  field               text,
  differences         jsonb,
  remedy              text not null,
  resolution_strategy public.conflict_resolution_strategy,
  resolution_data     jsonb,
  resolved_by         varchar(255) check (btrim(resolved_by) <> ''),
  resolved_at         timestamptz,
  decidable           boolean not null generated always as
    (state = 'open' and rule in ('both_changed', 'target_deleted', 'deleted_in_source', 'left_edited')) stored,
  policy              text,
  rule                text not null,
  conflict_data       jsonb not null default '{}',
  first_seen_at       timestamptz not null default now(),
  last_seen_at        timestamptz not null default now(),
  attempts            integer not null default 1,
  retry_class         text check (retry_class in ('parent', 'rule', 'source', 'target', 'clash', 'person')),
  next_attempt_at     timestamptz,
  target_record_id    uuid,
  parent_legacy_id    bigint,
  source_table        varchar(255) not null,
  target_table        varchar(255) not null,
  standing            boolean not null default false,
  decisions           integer not null default 0,
  asked               text[] not null default '{}',
  execution_id        uuid references public.sync_executions (id) on delete set null,
  resolved_in         uuid references public.sync_executions (id) on delete set null,
  entity_id           smallint not null references public.sync_entities (id),
  parent_entity_id    smallint references public.sync_entities (id),
  source_digest       bigint,
  check ((parent_entity_id is null) = (parent_legacy_id is null)),
  check (state <> 'waiting' or parent_entity_id is not null),
  check ((state = 'resolved') = (resolved_at is not null)),
  check (not standing or state = 'resolved' and resolution_strategy = 'target_wins')
);
comment on table public.sync_conflicts is
  'The queue. open: a person decides, by setting resolution_strategy. waiting: retried by itself when the parent '
  'lands. resolved, superseded: history.';
comment on column public.sync_conflicts.state is
  'open: decide it here. waiting: for its parent; remedy says what keeps that one. resolved. superseded: another row '
  'of this record tells what stops it now.';
comment on column public.sync_conflicts.entity_type is 'Which entity the record belongs to.';
comment on column public.sync_conflicts.source_record_id is 'The record''s legacy id.';
comment on column public.sync_conflicts.conflict_type is
  'concurrent_modification: both sides changed it. foreign_key_violation: what it refers to is missing. '
  'business_rule_violation: a rule or constraint refuses it. schema_mismatch: a value does not fit its column. '
  'uuid_mapping_conflict: it is not clear which row it is.';
comment on column public.sync_conflicts.field is 'The target fields that stopped it; null when the whole record did.';
comment on column public.sync_conflicts.differences is
  'Field by field: {field: {seen, source, target}}: the value both sides agreed on last, what the source says, what '
  'stands in the target. Sensitive values are masked (sync.reveal), long ones cut short.';
comment on column public.sync_conflicts.remedy is 'What to do next.';
comment on column public.sync_conflicts.resolution_strategy is
  'Your decision: source_wins, target_wins, or merge (with resolution_data). It is carried out in the same '
  'transaction, or refused with the reason. Emptied again: the decision is put back.';
comment on column public.sync_conflicts.resolution_data is
  'merge: the values to write, for every field in field: {"name": "...", "notes": "..."}.';
comment on column public.sync_conflicts.resolved_by is
  'Put your name here when you decide in the table editor; otherwise it names the database user. policy, sync: '
  'nobody had to decide.';
comment on column public.sync_conflicts.decidable is
  'source_wins and target_wins can both be carried out. Of other open rows target_wins says: leave the target as it '
  'is until the source changes the record.';
comment on column public.sync_conflicts.policy is
  'Which declared strategy stopped or decided it, and where it is declared.';
comment on column public.sync_conflicts.rule is
  'What stopped it: a rule id with version, a constraint name, or the SQLSTATE.';
comment on column public.sync_conflicts.conflict_data is
  'Evidence without personal data: the raw code, the constraint, the record that holds the same unique value.';
comment on column public.sync_conflicts.first_seen_at is
  'Since when this record is in the queue; a row that succeeds another one carries it on.';
comment on column public.sync_conflicts.attempts is 'How often the record was tried.';
comment on column public.sync_conflicts.retry_class is
  'What it waits for. parent: a record to land. rule, source: the old application or a rule to change. target: a '
  'constraint, type or trigger to change. clash: another record to give up its unique value. person: a decision.';
comment on column public.sync_conflicts.next_attempt_at is
  'When it is read again though nothing told that its cause is gone. Null: only when something tells.';
comment on column public.sync_conflicts.parent_legacy_id is
  'waiting: the legacy id of the missing parent, in the entity parent_entity_id.';
comment on column public.sync_conflicts.standing is
  'Decided for the target, of a record that did not land or whose row is gone: while the source does not change it, '
  'it is neither asked about nor compared.';
comment on column public.sync_conflicts.decisions is 'How often people have decided it or put a decision back.';
comment on column public.sync_conflicts.asked is
  'The fields that people have been asked about and have not decided. While the record is in the queue no strategy '
  'decides them, whatever else stops the record.';
comment on column public.sync_conflicts.execution_id is 'The execution that put the record here.';
comment on column public.sync_conflicts.resolved_in is 'The execution in which the record landed after all.';
comment on column public.sync_conflicts.source_digest is
  'Hash of the projected record that was stopped: a digest asks for it again only when the source has changed it.';
create unique index sync_conflicts_one_live_per_record on public.sync_conflicts (entity_id, source_record_id)
  where state in ('waiting', 'open');
create unique index sync_conflicts_one_standing_per_record on public.sync_conflicts (entity_id, source_record_id) where standing;
create index sync_conflicts_next_attempt on public.sync_conflicts (next_attempt_at) where state = 'open' and next_attempt_at is not null;
create index sync_conflicts_waiting_for on public.sync_conflicts (parent_entity_id, parent_legacy_id)
  where state = 'waiting';
create index sync_conflicts_parent_entity_id_idx on public.sync_conflicts (parent_entity_id);
create index sync_conflicts_entity_id_idx on public.sync_conflicts (entity_id, source_record_id);
create index sync_conflicts_resolved_in_idx on public.sync_conflicts (resolved_in);
create index sync_conflicts_execution_id_idx on public.sync_conflicts (execution_id);

alter table public.sync_conflicts enable row level security;
create policy reviewers_read on public.sync_conflicts for select to authenticated
  using ((select sync.caller_role()) = 'reviewer');
create policy reviewers_decide on public.sync_conflicts for update to authenticated
  using ((select sync.caller_role()) = 'reviewer') with check ((select sync.caller_role()) = 'reviewer');
revoke all on public.sync_conflicts from anon, authenticated, service_role;
grant select, update (resolution_strategy, resolution_data) on public.sync_conflicts to authenticated;
-- The worker opens, tries again and closes. It never sets a strategy or counts a decision of a row that is there.
grant select, insert, update (state, remedy, differences, resolution_data, resolved_by, resolved_at, resolved_in, policy, conflict_data, last_seen_at, attempts,
    retry_class, next_attempt_at, target_record_id, standing, source_digest)
  on public.sync_conflicts to isthmus_worker;
grant select on public.sync_conflicts to isthmus_decisions;

create table public.sync_conflict_values (
  conflict_id uuid primary key references public.sync_conflicts (id) on delete cascade,
  seen        jsonb,
  source      jsonb,
  target      jsonb,
  "left"      jsonb,
  after       jsonb,
  record      jsonb,
  hashes      jsonb
);
comment on table public.sync_conflict_values is
  'Unmasked values of a conflict, by field: what is needed to decide it, and to put the decision back. No reader but '
  'sync.reveal, which leaves a trace.';
comment on column public.sync_conflict_values.seen is 'What both sides agreed on last.';
comment on column public.sync_conflict_values.source is 'What the source said.';
comment on column public.sync_conflict_values.target is
  'What stood in the target, before it was decided: overwritten by source_wins.';
comment on column public.sync_conflict_values."left" is 'What the sync had left there.';
comment on column public.sync_conflict_values.after is 'What the decision left there.';
comment on column public.sync_conflict_values.record is
  'The whole record as the source said it, where it may have to be written or hashed as a whole.';
comment on column public.sync_conflict_values.hashes is
  'Of an entity that keeps hashes: {seen, left} before the decision.';
alter table public.sync_conflict_values enable row level security;
create policy nobody_reads on public.sync_conflict_values for select to authenticated using (false);
revoke all on public.sync_conflict_values from anon, authenticated, service_role;
-- The worker knows these values: they are in the rows that it writes.
grant select, insert, update on public.sync_conflict_values to isthmus_worker;
grant select, insert (conflict_id, target), update (target, after, hashes) on public.sync_conflict_values to isthmus_decisions;

create table public.sync_audit (
  id          bigint generated always as identity primary key,
  at          timestamptz not null default clock_timestamp(),
  actor       text not null,
  action      text not null check (action in ('decided', 'reopened', 'revealed')),
  conflict_id uuid references public.sync_conflicts (id) on delete set null,
  entity_id   smallint references public.sync_entities (id),
  legacy_id   bigint,
  fields      text[],
  strategy    public.conflict_resolution_strategy
);
comment on table public.sync_audit is 'Who decided, put back or looked at what. Rows are only ever added.';
comment on column public.sync_audit.actor is 'The reviewer, or the name given in resolved_by, with the database user.';
create index sync_audit_conflict_id_idx on public.sync_audit (conflict_id);
create index sync_audit_entity_id_idx on public.sync_audit (entity_id, legacy_id);
alter table public.sync_audit enable row level security;
create policy team_reads on public.sync_audit for select to authenticated
  using ((select sync.caller_role()) in ('operator', 'reviewer'));
revoke all on public.sync_audit from anon, authenticated, service_role;
revoke all on sequence public.sync_audit_id_seq from anon, authenticated, service_role;
grant select on public.sync_audit to authenticated;
grant insert (actor, action, conflict_id, entity_id, legacy_id, fields, strategy) on public.sync_audit to isthmus_decisions;

create table public.sync_queue_counts (
  id              uuid primary key default gen_random_uuid(),
  entity_id       smallint not null references public.sync_entities (id),
  entity_type     varchar(100) not null,
  state           public.sync_conflict_state not null,
  conflict_type   public.conflict_type_enum not null,
  retry_class     text,
  records         bigint not null,
  oldest_at       timestamptz not null,
  next_attempt_at timestamptz,
  counted_at      timestamptz not null default now(),
  unique nulls not distinct (entity_id, state, conflict_type, retry_class)
);
comment on table public.sync_queue_counts is
  'How many records are in the queue, and since when: for those who may not see the records. Counted by every tick.';
alter table public.sync_queue_counts enable row level security;
create policy team_reads on public.sync_queue_counts for select to authenticated
  using ((select sync.caller_role()) in ('operator', 'reviewer'));
revoke all on public.sync_queue_counts from anon, authenticated, service_role;
grant select on public.sync_queue_counts to authenticated;
grant select, insert, delete on public.sync_queue_counts to isthmus_worker;

-- supabase/schemas/tables/alerts-and-reports.sql

-- Purpose: what an operator must know (alerts) and what an execution proved (reports).

create table public.sync_alerts (
  id            uuid primary key default gen_random_uuid(),
  kind          text not null,
  severity      text not null check (severity in ('warning', 'critical')),
  source_id     smallint references public.sync_sources (id),
  entity_id     smallint references public.sync_entities (id),
  execution_id  uuid references public.sync_executions (id) on delete set null,
  message       text not null,
  details       jsonb not null default '{}',
  occurrences   integer not null default 1,
  first_seen_at timestamptz not null default now(),
  last_seen_at  timestamptz not null default now(),
  closed_at     timestamptz,
  job_id          uuid references public.sync_jobs (id) on delete set null,
  remedy          text not null default '',
  acknowledged_by text check (btrim(acknowledged_by) <> ''),
  acknowledged_at timestamptz,
  escalates_at    timestamptz,
  escalated_at    timestamptz,
  told_severity   text check (told_severity in ('warning', 'critical')),
  subject         text not null default '',
  told_slots      text[] not null default '{}',
  told_at         timestamptz,
  reopened_at     timestamptz,
  check ((acknowledged_by is null) = (acknowledged_at is null))
);
comment on table public.sync_alerts is
  'What needs an operator. Put your name into acknowledged_by when you look after it. It closes by itself when its '
  'cause is gone; docs/runbook.md says when.';
comment on column public.sync_alerts.details is 'Counts and legacy ids, never values of a row.';
comment on column public.sync_alerts.job_id is 'The job that could not begin, or whose execution this is about.';
comment on column public.sync_alerts.remedy is 'What to do, one text for each kind (sync.alert_kinds).';
comment on column public.sync_alerts.acknowledged_by is
  'Who looks after it: nobody else is told of it any more. Forgotten when a warning becomes critical.';
comment on column public.sync_alerts.escalates_at is
  'When the second address is told, unless somebody acknowledges before. Empty: a warning is not escalated.';
comment on column public.sync_alerts.escalated_at is 'When a message to the second address was made out.';
comment on column public.sync_alerts.told_severity is
  'Which severity the message said that was made out last (sync_alert_deliveries); empty before the first, and after '
  'the last.';
comment on column public.sync_alerts.told_slots is 'Which addresses were told of it, and are told when it is over.';
comment on column public.sync_alerts.told_at is 'When a message about it was made out last.';
comment on column public.sync_alerts.reopened_at is
  'When it came back within half an hour of its end: it is the same alert, and people are told at most once in half '
  'an hour. Empty when it has become worse since.';
comment on column public.sync_alerts.subject is
  'What of its kind it is about: the job, the entities of the execution, the capture of the page, what a brake '
  'holds, the address. Empty where a source or an entity has one cause at most.';
create unique index sync_alerts_one_open on public.sync_alerts (kind, source_id, entity_id, subject) nulls not distinct
  where closed_at is null;
create index sync_alerts_source_id_idx on public.sync_alerts (source_id);
create index sync_alerts_entity_id_idx on public.sync_alerts (entity_id);
create index sync_alerts_execution_id_idx on public.sync_alerts (execution_id);
create index sync_alerts_job_id_idx on public.sync_alerts (job_id);
-- Each minute somebody looks for these among all that was ever closed.
create index sync_alerts_to_clear_idx on public.sync_alerts (closed_at) where closed_at is not null and told_severity is not null;
-- What comes back soon is looked for among the latest that were closed.
create index sync_alerts_closed_idx on public.sync_alerts (closed_at) where closed_at is not null;
alter table public.sync_alerts enable row level security;
create policy team_reads on public.sync_alerts for select to authenticated
  using ((select sync.caller_role()) in ('operator', 'reviewer'));
create policy team_acknowledges on public.sync_alerts for update to authenticated
  using ((select sync.caller_role()) in ('operator', 'reviewer')) with check ((select sync.caller_role()) in ('operator', 'reviewer'));
revoke all on public.sync_alerts from anon, authenticated, service_role;
grant select, update (acknowledged_by) on public.sync_alerts to authenticated;
-- Nobody but people acknowledges, and nobody but the database's owner says what was told.
grant select, insert (kind, severity, source_id, entity_id, execution_id, job_id, subject, message, details),
  update (severity, occurrences, last_seen_at, execution_id, job_id, message, details, closed_at) on public.sync_alerts to isthmus_worker;
grant select, insert (kind, severity, source_id, entity_id, execution_id, job_id, subject, message, details),
  update (severity, occurrences, last_seen_at, execution_id, job_id, message, details, closed_at) on public.sync_alerts to isthmus_decisions;
grant select (id, source_id, job_id) on public.sync_executions to isthmus_decisions;

create table public.sync_alert_notes (
  alert_id     uuid primary key,
  closes       boolean not null,
  times        integer not null default 0,
  severity     text check (severity in ('warning', 'critical')),
  execution_id uuid,
  job_id       uuid,
  message      text,
  details      jsonb,
  happened_at  timestamptz not null default clock_timestamp(),
  check (closes or (severity is not null and message is not null and details is not null))
);
comment on table public.sync_alert_notes is
  'What became of alerts whose rows somebody held, as in an open transaction: nobody waits for that. A minute after '
  'they are free it is written there (sync.apply_alert_notes).';
comment on column public.sync_alert_notes.alert_id is
  'The row of sync_alerts. No foreign key: checking one would wait for who holds the row.';
comment on column public.sync_alert_notes.closes is
  'The latest news: true: its cause is gone. false: it was raised again.';
comment on column public.sync_alert_notes.times is 'How often it was raised again.';
alter table public.sync_alert_notes enable row level security;
create policy team_reads on public.sync_alert_notes for select to authenticated
  using ((select sync.caller_role()) in ('operator', 'reviewer'));
revoke all on public.sync_alert_notes from anon, authenticated, service_role;
grant select on public.sync_alert_notes to authenticated;
grant select, insert, update, delete on public.sync_alert_notes to isthmus_worker;
grant select, insert, update on public.sync_alert_notes to isthmus_decisions;

create table public.sync_reports (
  id           uuid primary key default gen_random_uuid(),
  execution_id uuid not null references public.sync_executions (id) on delete cascade,
  kind         text not null,
  round        integer not null default 1,
  body         jsonb not null,
  created_at   timestamptz not null default now(),
  unique (execution_id, kind, round)
);
comment on table public.sync_reports is
  'What an execution proved, for example the control totals of money columns on both sides.';
alter table public.sync_reports enable row level security;
create policy team_reads on public.sync_reports for select to authenticated
  using ((select sync.caller_role()) in ('operator', 'reviewer'));
revoke all on public.sync_reports from anon, authenticated, service_role;
grant select on public.sync_reports to authenticated;
grant select, insert, update on public.sync_reports to isthmus_worker;

-- supabase/schemas/tables/alert-deliveries.sql

-- Purpose: the outbox of alerts: each message to a person's address, and what became of it; and how people are told.

create table public.sync_alert_settings (
  one                    boolean primary key default true check (one),
  escalate_after_minutes integer not null default 30 check (escalate_after_minutes > 0),
  digest_above           integer not null default 5 check (digest_above > 0),
  tries                  integer not null default 8 check (tries between 1 and 20),
  heartbeat_at           timestamptz,
  looked_at              timestamptz not null default clock_timestamp(),
  addressed              boolean not null default false,
  hourly                 integer not null default 20 check (hourly > 0)
);
comment on table public.sync_alert_settings is
  'How people are told of alerts. One row, which sync.deliver_alerts makes; without it the defaults count.';
comment on column public.sync_alert_settings.escalate_after_minutes is
  'A critical alert that nobody has acknowledged for so long is told to the second address.';
comment on column public.sync_alert_settings.digest_above is
  'More messages of one kind than these within one minute become one.';
comment on column public.sync_alert_settings.hourly is
  'After so many messages to one address within an hour, the rest comes as a digest every ten minutes.';
comment on column public.sync_alert_settings.tries is
  'How often a message is tried before it is given up, after pauses of 1, 2, 4, ... 60 minutes.';
comment on column public.sync_alert_settings.heartbeat_at is
  'The latest tick for which the heartbeat address was called.';
comment on column public.sync_alert_settings.looked_at is
  'When the job isthmus-deliver-alerts last looked for messages; before its first look, since when it is waited for.';
comment on column public.sync_alert_settings.addressed is 'Whether Vault has an address: then looks are expected.';
alter table public.sync_alert_settings enable row level security;
create policy team_reads on public.sync_alert_settings for select to authenticated
  using ((select sync.caller_role()) in ('operator', 'reviewer'));
revoke all on public.sync_alert_settings from anon, authenticated, service_role;
grant select on public.sync_alert_settings to authenticated, isthmus_worker, isthmus_decisions;

create table public.sync_alert_deliveries (
  id              uuid primary key default gen_random_uuid(),
  ordinal         bigint not null generated always as identity,
  event           text not null check (event in ('opened', 'escalated', 'cleared', 'digest', 'test')),
  slot            text not null check (slot in ('first', 'second')),
  alert_ids       uuid[] not null default '{}',
  body            jsonb,
  status          text not null default 'waiting' check (status in ('waiting', 'sent', 'delivered', 'failed', 'missed', 'dropped')),
  tries           integer not null default 0,
  next_attempt_at timestamptz not null default clock_timestamp(),
  request_id      bigint,
  tried_at         timestamptz,
  status_code     integer,
  last_error      text,
  created_at      timestamptz not null default clock_timestamp(),
  ended_at        timestamptz,
  check (body is not null or event = 'test')
);
comment on table public.sync_alert_deliveries is
  'Messages about alerts to the addresses of people, and what became of each. Ended ones are deleted after 30 days.';
comment on column public.sync_alert_deliveries.id is
  'Goes with every try (header X-Isthmus-Delivery, id in the body): who gets it twice knows it by this.';
comment on column public.sync_alert_deliveries.slot is
  'first: the Vault secret isthmus_webhook_url. second: isthmus_webhook_url_2.';
comment on column public.sync_alert_deliveries.alert_ids is 'The rows of sync_alerts that it tells of.';
comment on column public.sync_alert_deliveries.status is
  'waiting: for its next try. sent: pg_net has it. delivered: answered with a status from 200 to 299, where pg_net '
  'has followed redirects. failed: given up, but for one try an hour. missed: given up, and what it says is over; a '
  'summary tells it when the address works again. dropped: nobody needs it any more, or a test without an address.';
comment on column public.sync_alert_deliveries.request_id is 'pg_net''s number of the latest try.';
comment on column public.sync_alert_deliveries.last_error is
  'Why the latest try failed. Never an address, a key or the words of an answer.';
create unique index sync_alert_deliveries_one_test on public.sync_alert_deliveries (slot) where event = 'test' and status in ('waiting', 'sent');
create index sync_alert_deliveries_open_idx on public.sync_alert_deliveries (ordinal) where status in ('waiting', 'sent');
create index sync_alert_deliveries_ended_idx on public.sync_alert_deliveries (slot, ended_at) where status in ('delivered', 'failed');
create index sync_alert_deliveries_failed_idx on public.sync_alert_deliveries (ended_at) where status = 'failed';
create index sync_alert_deliveries_missed_idx on public.sync_alert_deliveries (slot) where status = 'missed';
create index sync_alert_deliveries_slot_idx on public.sync_alert_deliveries (slot, created_at);
create index sync_alert_deliveries_alerts_idx on public.sync_alert_deliveries using gin (alert_ids);
create index sync_alert_deliveries_created_at_idx on public.sync_alert_deliveries (created_at) where status not in ('waiting', 'sent');
alter table public.sync_alert_deliveries enable row level security;
create policy team_reads on public.sync_alert_deliveries for select to authenticated
  using ((select sync.caller_role()) in ('operator', 'reviewer'));
revoke all on public.sync_alert_deliveries from anon, authenticated, service_role;
revoke all on sequence public.sync_alert_deliveries_ordinal_seq from anon, authenticated, service_role;
grant select on public.sync_alert_deliveries to authenticated;
-- A test has no body before the owner's job writes it: whoever has the worker's secret sends no words of his own.
grant select, insert (event, slot) on public.sync_alert_deliveries to isthmus_worker;

-- supabase/schemas/tables/brakes.sql

-- Purpose: what the sync would not delete, empty or overwrite without a person's word.

create table public.sync_brakes (
  id           uuid primary key default gen_random_uuid(),
  entity_id    smallint not null references public.sync_entities (id),
  kind         text not null check (kind in ('delete', 'null', 'overwrite')),
  field        text,
  records      bigint not null,
  landed       bigint not null,
  execution_id uuid references public.sync_executions (id) on delete set null,
  created_at   timestamptz not null default now(),
  last_seen_at timestamptz not null default now(),
  confirmed_by text check (btrim(confirmed_by) <> ''),
  confirmed_at timestamptz,
  closed_at    timestamptz,
  check ((kind = 'null') = (field is not null)),
  check ((confirmed_by is null) = (confirmed_at is null))
);
comment on table public.sync_brakes is
  'An execution would have deleted, emptied in a column, or overwritten more of an entity''s records than its share '
  'allows, and was stopped there. Put your name into confirmed_by, and the next execution goes on.';
comment on column public.sync_brakes.kind is
  'delete: the source no longer has the records. null: the source has emptied the column in field. overwrite: the '
  'source has other values.';
comment on column public.sync_brakes.records is
  'How many records it had come to. delete: a confirmation lets no more than these pass at the end of an execution; '
  'null, overwrite: it holds until an execution has succeeded.';
comment on column public.sync_brakes.landed is 'How many records of the entity had landed then.';
comment on column public.sync_brakes.confirmed_by is 'Who has looked at the source and wants it so.';
comment on column public.sync_brakes.closed_at is 'When it was done, or was no longer needed.';
create unique index sync_brakes_one_open on public.sync_brakes (entity_id, kind, field) nulls not distinct where closed_at is null;
create index sync_brakes_entity_id_idx on public.sync_brakes (entity_id);
create index sync_brakes_execution_id_idx on public.sync_brakes (execution_id);

alter table public.sync_brakes enable row level security;
create policy team_reads on public.sync_brakes for select to authenticated
  using ((select sync.caller_role()) in ('operator', 'reviewer'));
create policy operators_confirm on public.sync_brakes for update to authenticated
  using ((select sync.caller_role()) = 'operator') with check ((select sync.caller_role()) = 'operator');
revoke all on public.sync_brakes from anon, authenticated, service_role;
grant select, update (confirmed_by) on public.sync_brakes to authenticated;
grant select, insert (entity_id, kind, field, records, landed, execution_id) on public.sync_brakes to isthmus_worker;
grant update (records, landed, execution_id, last_seen_at, closed_at) on public.sync_brakes to isthmus_worker;

-- supabase/schemas/tables/identities.sql

-- Purpose: which databases and which installation of the functions belong together. One that is new is a question to
--          a person.

create table public.sync_identities (
  id            uuid primary key default gen_random_uuid(),
  source_id     smallint not null references public.sync_sources (id),
  side          text not null check (side in ('source', 'target', 'target_state', 'installation', 'source_address', 'target_address')),
  identity      text not null,
  database_name text,
  first_seen_at timestamptz not null default now(),
  last_seen_at  timestamptz not null default now(),
  refused       integer not null default 1,
  accepted_by   text check (btrim(accepted_by) <> ''),
  accepted_at   timestamptz,
  inserted_by   xid8 not null default pg_current_xact_id(),
  check ((accepted_by is null) = (accepted_at is null))
);
comment on table public.sync_identities is
  'Which source, target and installation of the functions have met. The one accepted last of each side is known; '
  'another one is refused, and nothing is written, until you put your name into accepted_by. The first of each side '
  'is accepted unasked. Rows stay: they tell who accepted what, and when.';
comment on column public.sync_identities.side is
  'source: the legacy database. target: this database. target_state: a sign that this database was put back to an '
  'older state. installation: the project, or the address, whose functions work here. source_address, '
  'target_address: where the functions look for it; each that was accepted stays known.';
comment on column public.sync_identities.identity is
  'source, target: the system identifier of the server and the oid of the database; replicas and backups of a server '
  'have the same. installation: its name. target_state: what tells it. Addresses: host, port and database.';
comment on column public.sync_identities.database_name is 'source: the database''s name when it was first met.';
comment on column public.sync_identities.refused is
  'How often it was refused. 0: it was the first one, and nobody was asked.';
comment on column public.sync_identities.accepted_by is
  'Who wants it so. From then on this one is known, and the one before is not. first use: there was none before.';
comment on column public.sync_identities.inserted_by is
  'The transaction that wrote the row. Of a first identity, which nobody updates, another xmin tells that the rows '
  'of this table were written again, as by a restored dump.';
create unique index sync_identities_one_question on public.sync_identities (source_id, side, identity) where accepted_at is null;
create unique index sync_identities_one_answer on public.sync_identities (source_id, side, accepted_at) where accepted_at is not null and side <> 'target_state';

alter table public.sync_identities enable row level security;
create policy team_reads on public.sync_identities for select to authenticated
  using ((select sync.caller_role()) in ('operator', 'reviewer'));
create policy operators_accept on public.sync_identities for update to authenticated
  using ((select sync.caller_role()) = 'operator') with check ((select sync.caller_role()) = 'operator');
revoke all on public.sync_identities from anon, authenticated, service_role;
grant select, update (accepted_by) on public.sync_identities to authenticated;
-- The worker asks. It never answers.
grant select, insert (source_id, side, identity, database_name), update (last_seen_at, refused) on public.sync_identities to isthmus_worker;

-- supabase/schemas/tables/rules.sql

-- Purpose: business rules of records: who may land although a rule is broken, for how long, and which records do.

create type public.sync_rule_severity as enum ('park', 'warn');
revoke all on type public.sync_rule_severity from public;
grant usage on type public.sync_rule_severity to isthmus_worker;

create table public.sync_rule_overrides (
  id         uuid primary key default gen_random_uuid(),
  rule       text not null,
  severity   public.sync_rule_severity not null,
  reason     text not null check (btrim(reason) <> ''),
  valid_from timestamptz not null default now(),
  valid_to   timestamptz check (valid_to > valid_from),
  created_by text not null default session_user,
  created_at timestamptz not null default now()
);
comment on table public.sync_rule_overrides is
  'Gives a business rule another severity for a time. Records that the rule has stopped or warned of are read again '
  'at once.';
comment on column public.sync_rule_overrides.rule is
  'The rule as the queue shows it, for example invoices.paid_within_total@1. Another version needs a row of its own.';
comment on column public.sync_rule_overrides.severity is
  'park: the record goes to the queue. warn: it lands, and sync_warnings names it.';
comment on column public.sync_rule_overrides.reason is 'Why the rule does not apply as written.';
comment on column public.sync_rule_overrides.valid_to is
  'Until when; empty: until further notice. Of several that are valid, the one with the latest valid_from counts.';
create index sync_rule_overrides_rule_idx on public.sync_rule_overrides (rule, valid_from);
alter table public.sync_rule_overrides enable row level security;
create policy team_reads on public.sync_rule_overrides for select to authenticated
  using ((select sync.caller_role()) in ('operator', 'reviewer'));
revoke all on public.sync_rule_overrides from anon, authenticated, service_role;
grant select on public.sync_rule_overrides to authenticated;
grant select on public.sync_rule_overrides to isthmus_worker;

create table public.sync_warnings (
  entity_id     smallint not null references public.sync_entities (id),
  legacy_id     bigint not null,
  rule          text not null,
  execution_id  uuid references public.sync_executions (id) on delete set null,
  first_seen_at timestamptz not null default now(),
  last_seen_at  timestamptz not null default now(),
  primary key (entity_id, legacy_id, rule)
);
comment on table public.sync_warnings is
  'Records that have landed although they break a rule, or otherwise than they were written (written_otherwise: the '
  'field). A row goes when its record is corrected.';
create index sync_warnings_rule_idx on public.sync_warnings (rule);
create index sync_warnings_execution_id_idx on public.sync_warnings (execution_id);
alter table public.sync_warnings enable row level security;
create policy team_reads on public.sync_warnings for select to authenticated
  using ((select sync.caller_role()) in ('operator', 'reviewer'));
revoke all on public.sync_warnings from anon, authenticated, service_role;
grant select on public.sync_warnings to authenticated;
grant select, insert, update, delete on public.sync_warnings to isthmus_worker;
grant select, insert (entity_id, legacy_id, rule), update (last_seen_at) on public.sync_warnings to isthmus_decisions;

-- supabase/schemas/tables/contract-checks.sql

-- Purpose: what the check of both catalogs against the entity definitions found last, and what a write to the
--          application's tables sets off (triggers, rules, publications), which a person acknowledges.

create table public.sync_contract_checks (
  source_id          smallint primary key references public.sync_sources (id),
  definitions        text not null,
  source_fingerprint text not null,
  target_fingerprint text not null,
  findings           jsonb not null,
  effects            jsonb not null,
  warned             jsonb not null default '[]',
  checked_at         timestamptz not null default now(),
  planned            text[] not null default '{}'
);
comment on table public.sync_contract_checks is
  'The last comparison of both catalogs with the entity definitions. It is made again when a fingerprint has changed.';
comment on column public.sync_contract_checks.definitions is 'Fingerprint of the entity definitions it was made for.';
comment on column public.sync_contract_checks.source_fingerprint is
  'Fingerprint of what the source''s catalog said of the tables that are read.';
comment on column public.sync_contract_checks.target_fingerprint is
  'Fingerprint of what the target''s catalog said of the tables that are filled.';
comment on column public.sync_contract_checks.findings is
  'What did not fit: code, severity, entity, table, column, message, remedy.';
comment on column public.sync_contract_checks.effects is
  'What writes set off, as it was found; sync_side_effects says what of it has been acknowledged.';
comment on column public.sync_contract_checks.warned is 'Warnings of which an alert has told already.';
comment on column public.sync_contract_checks.checked_at is
  'When the catalogs were compared; while they stay the same, that holds.';
comment on column public.sync_contract_checks.planned is
  'Entities whose statements the source has planned, while its catalog was this one.';
alter table public.sync_contract_checks enable row level security;
create policy team_reads on public.sync_contract_checks for select to authenticated
  using ((select sync.caller_role()) in ('operator', 'reviewer'));
revoke all on public.sync_contract_checks from anon, authenticated, service_role;
grant select on public.sync_contract_checks to authenticated;
grant select, insert, update on public.sync_contract_checks to isthmus_worker;

create table public.sync_side_effects (
  id              bigint generated always as identity primary key,
  kind            text not null check (kind in ('trigger', 'webhook', 'rule', 'publication')),
  table_name      text not null,
  name            text not null,
  does            text not null,
  definition      text not null,
  first_seen_at   timestamptz not null default now(),
  acknowledged_at timestamptz,
  acknowledged_by text,
  unique (table_name, kind, name)
);
comment on table public.sync_side_effects is
  'What a write of the sync to an application table sets off. Until it is acknowledged here, the first load of that '
  'table does not begin.';
comment on column public.sync_side_effects.kind is
  'trigger, webhook (a trigger that calls over HTTP), rule, or publication (Realtime and other subscribers).';
comment on column public.sync_side_effects.does is
  'When it acts and what it calls, as the catalog says; what a called function does in turn is not seen.';
comment on column public.sync_side_effects.definition is
  'Fingerprint of its definition: a changed one has to be acknowledged again.';
comment on column public.sync_side_effects.acknowledged_at is
  'Set it to now() when millions of rows may set this off; empty it to withdraw that.';
comment on column public.sync_side_effects.acknowledged_by is
  'Who; filled in with the database user when it is left empty.';
alter table public.sync_side_effects enable row level security;
create policy team_reads on public.sync_side_effects for select to authenticated
  using ((select sync.caller_role()) in ('operator', 'reviewer'));
revoke all on public.sync_side_effects from anon, authenticated, service_role;
revoke all on sequence public.sync_side_effects_id_seq from anon, authenticated, service_role;
grant select on public.sync_side_effects to authenticated;
grant select, insert, update, delete on public.sync_side_effects to isthmus_worker;

-- supabase/schemas/tables/entity-shapes.sql

-- Purpose: which columns, types and files the rows of an entity stood in when both sides were last compared: what
--          changes rows without writing them (columns dropped and added again, renamed or retyped, renamed members of
--          enums, attached partitions, a reload) changes these.

create table public.sync_entity_shapes (
  entity_id       smallint primary key references public.sync_entities (id),
  target          jsonb not null,
  target_compared jsonb not null,
  reshaped        jsonb not null default '{}',
  source_compared jsonb,
  planned         jsonb,
  padded          jsonb not null default '{}'
);
comment on table public.sync_entity_shapes is
  'The shape of each entity''s tables: what the catalogs say of where its rows stand. Another one since the last '
  'comparison has both sides compared.';
comment on column public.sync_entity_shapes.target is
  'The target table''s, as it was seen last: {columns: {column: {what: identity}}, files: {what: identity}}.';
comment on column public.sync_entity_shapes.target_compared is
  'The one in which all rows were compared last. While it is another than target, nothing is concluded from '
  'written_by.';
comment on column public.sync_entity_shapes.reshaped is
  'Columns whose values DDL may have changed: {column: {at, since}}, when that was noticed, and the first '
  'transaction after that.';
comment on column public.sync_entity_shapes.source_compared is
  'The same of all tables that are read, {columns: {table.column: …}, files: {table: …}}, when everything was read '
  'or compared last.';
comment on column public.sync_entity_shapes.planned is
  'What the execution that runs was planned with, {execution, target, source}: what will have been compared when it '
  'succeeds.';

comment on column public.sync_entity_shapes.padded is
  'Of each field that reads one column of the source as it is: the parts of that column''s type (elements, '
  'attributes) that are char(n), {field: [path]}; with * where the field is computed from such parts, and !path of '
  'each other.';

alter table public.sync_entity_shapes enable row level security;
create policy team_reads on public.sync_entity_shapes for select to authenticated
  using ((select sync.caller_role()) in ('operator', 'reviewer'));
revoke all on public.sync_entity_shapes from anon, authenticated, service_role;
grant select on public.sync_entity_shapes to authenticated;
grant select, insert, update on public.sync_entity_shapes to isthmus_worker;

-- supabase/schemas/tables/changed-causes.sql

-- Purpose: what a waiting record waits for has changed: which records are to be told.

create table public.sync_changed_causes (
  entity_id smallint not null references public.sync_entities (id) on delete cascade,
  legacy_id bigint not null,
  primary key (entity_id, legacy_id)
);
comment on table public.sync_changed_causes is
  'Records that others wait for, and of which something else is to be told since: the next tick rewrites the '
  'remedies of those that wait.';
alter table public.sync_changed_causes enable row level security;
create policy team_reads on public.sync_changed_causes for select to authenticated
  using ((select sync.caller_role()) in ('operator', 'reviewer'));
revoke all on public.sync_changed_causes from anon, authenticated, service_role;
grant select on public.sync_changed_causes to authenticated;
grant select, insert, update, delete on public.sync_changed_causes to isthmus_worker;
grant select, insert on public.sync_changed_causes to isthmus_decisions;

-- supabase/schemas/tables/queue-looks.sql

-- Purpose: when the queue of messages was last looked at.

create table public.sync_queue_looks (
  source_id     smallint not null references public.sync_sources (id) on delete cascade,
  what          text not null check (what in ('deliveries', 'dead_letters')),
  looked_at     timestamptz not null,
  dead_letters  text[] not null default '{}',
  primary key (source_id, what)
);
comment on table public.sync_queue_looks is
  'When sync-tick last asked QStash what became of its messages: it asks rarely.';
comment on column public.sync_queue_looks.what is
  'deliveries: its log, only while messages are sent that nobody takes. dead_letters: what it has given up.';
comment on column public.sync_queue_looks.dead_letters is
  'The ids of the latest ones (at most 100), so that each is told once.';
alter table public.sync_queue_looks enable row level security;
create policy team_reads on public.sync_queue_looks for select to authenticated
  using ((select sync.caller_role()) in ('operator', 'reviewer'));
revoke all on public.sync_queue_looks from anon, authenticated, service_role;
grant select on public.sync_queue_looks to authenticated;
grant select, insert, update on public.sync_queue_looks to isthmus_worker;

-- supabase/schemas/tables/ticks.sql

-- Purpose: the latest calls of sync-tick.

create table public.sync_ticks (
  id          uuid primary key default gen_random_uuid(),
  created_at  timestamptz not null default clock_timestamp(),
  request_id  bigint,
  answered_at timestamptz,
  status_code integer,
  timed_out   boolean,
  error       text,
  begun_at    timestamptz,
  ended_at    timestamptz,
  failed      text[] not null default '{}',
  idle        text[] not null default '{}'
);
comment on table public.sync_ticks is
  'The latest calls of sync-tick and what became of them. What is older than a day is deleted.';
comment on column public.sync_ticks.request_id is
  'pg_net''s number of the call; empty where QStash or a person called.';
comment on column public.sync_ticks.answered_at is
  'When the answer was found. That of pg_net only: with QStash the answer is QStash''s.';
comment on column public.sync_ticks.error is
  'Why there is no answer, in the words of pg_net; or the code of the error that sync-tick answered.';
comment on column public.sync_ticks.ended_at is
  'Written by sync-tick when its work is done: nothing else proves that it works.';
comment on column public.sync_ticks.failed is
  'Parts of its work that failed, by their names in the log of sync-tick, each with its error code; jobs, sends: '
  'what waits at its end (sync.held_up). The heartbeat is for ticks without any.';
comment on column public.sync_ticks.idle is
  'Parts of its work that had nothing to look at, as those that look every few minutes: for them the tick counts '
  'neither as a success nor as a failure.';
create index sync_ticks_created_at_idx on public.sync_ticks (created_at);
create index sync_ticks_ended_idx on public.sync_ticks (created_at) where ended_at is not null;
alter table public.sync_ticks enable row level security;
create policy team_reads on public.sync_ticks for select to authenticated
  using ((select sync.caller_role()) in ('operator', 'reviewer'));
revoke all on public.sync_ticks from anon, authenticated, service_role;
grant select on public.sync_ticks to authenticated;
grant select, delete, insert (id, begun_at), update (begun_at, ended_at, failed, idle) on public.sync_ticks to isthmus_worker;

-- supabase/schemas/tables/totals.sql

-- Purpose: what ended executions have counted, added up for metrics.

create table public.sync_totals (
  id         uuid primary key default gen_random_uuid(),
  job_id     uuid references public.sync_jobs (id) on delete cascade,
  entity_id  smallint references public.sync_entities (id) on delete cascade,
  counts     jsonb not null default '{}',
  updated_at timestamptz not null default now(),
  unique nulls not distinct (job_id, entity_id)
);
comment on table public.sync_totals is
  'What ended executions have counted since the installation, dry runs left out: counters of metrics (sync.metrics), '
  'which do not look at every execution.';
comment on column public.sync_totals.job_id is 'Empty: executions that no job began.';
comment on column public.sync_totals.entity_id is 'Empty: whole executions, counted by the status they ended with.';
comment on column public.sync_totals.counts is
  'With an entity: pages, records by outcome, wall_ms and so on, as sync.counted. Without: {status: executions, '
  'seconds}.';
create index sync_totals_entity_id_idx on public.sync_totals (entity_id);
alter table public.sync_totals enable row level security;
create policy team_reads on public.sync_totals for select to authenticated
  using ((select sync.caller_role()) in ('operator', 'reviewer'));
revoke all on public.sync_totals from anon, authenticated, service_role;
grant select on public.sync_totals to authenticated;
grant select, insert, update on public.sync_totals to isthmus_worker;

-- supabase/schemas/tables/retention.sql

-- Purpose: how long the history of the sync is kept.

create table public.sync_retention (
  one            boolean primary key default true check (one),
  page_log_days  integer not null default 60 check (page_log_days between 7 and 36500),
  execution_days integer not null default 400 check (execution_days between 60 and 36500),
  report_days    integer not null default 400 check (report_days between 7 and 36500),
  conflict_days  integer not null default 400 check (conflict_days between 7 and 36500),
  alert_days     integer not null default 400 check (alert_days between 7 and 36500),
  cron_days      integer not null default 7 check (cron_days between 1 and 36500),
  removed        jsonb not null default '{}',
  removed_at     timestamptz
);
comment on table public.sync_retention is
  'How many days the history is kept. One row, which sync.remove_aged makes; set its columns in the table editor.';
comment on column public.sync_retention.page_log_days is 'Pages.';
comment on column public.sync_retention.execution_days is
  'Executions and their chains, from which it is told what is usual. The last thousand are kept however old they are, '
  'and none goes before its pages and reports, or while an open alert or brake is about it.';
comment on column public.sync_retention.report_days is
  'Reports of executions. The latest of its kind is kept: the next one is compared with it.';
comment on column public.sync_retention.conflict_days is
  'Conflicts that are resolved or superseded, with what a decision can be put back to. A decision that still counts '
  'is kept as long as it does.';
comment on column public.sync_retention.alert_days is 'Closed alerts.';
comment on column public.sync_retention.cron_days is 'What pg_cron notes of the jobs of the sync.';
comment on column public.sync_retention.removed is 'How many rows have gone so far, by table.';
comment on column public.sync_retention.removed_at is 'When the last of them went.';
alter table public.sync_retention enable row level security;
create policy team_reads on public.sync_retention for select to authenticated
  using ((select sync.caller_role()) in ('operator', 'reviewer'));
create policy operators_set on public.sync_retention for update to authenticated
  using ((select sync.caller_role()) = 'operator') with check ((select sync.caller_role()) = 'operator');
revoke all on public.sync_retention from anon, authenticated, service_role;
grant select, update (page_log_days, execution_days, report_days, conflict_days, alert_days, cron_days) on public.sync_retention to authenticated;

-- What sync.remove_aged asks for, the oldest first. A decision that counts is in none of them: however many there
-- are, none is looked at.
create index sync_conflicts_ended_idx on public.sync_conflicts (coalesce(resolved_at, last_seen_at))
  where state in ('resolved', 'superseded') and not standing and not (decisions > 0 and resolution_strategy in ('target_wins', 'merge'));
create index sync_reports_created_at_idx on public.sync_reports (created_at);
-- Whether there is a later one of its kind.
create index sync_reports_kind_idx on public.sync_reports (kind, created_at);

-- supabase/schemas/functions/versions.sql

-- Purpose: which version this database has, and with which functions it works.

-- Written by `npm run migration`: the last migration.
create function sync.schema_version() returns bigint
language sql immutable security invoker set search_path = pg_catalog, pg_temp as $$ select 20261101000200 $$;
comment on function sync.schema_version() is
  'The last migration. Functions that were made for a later one do nothing here.';

-- While an upgrade is under way, functions of the release before meet this database, and so do those of a release
-- that was put back. Whoever changes something in such a way that they would do harm, or fail, writes the version of
-- that change here: then they wait until the new functions are deployed, and so does what is in the queue.
create function sync.oldest_functions() returns bigint
language sql immutable security invoker set search_path = pg_catalog, pg_temp as $$ select 20261101000100 $$;
comment on function sync.oldest_functions() is
  'Functions that were made for an earlier version than this one do nothing here.';

-- Called in the statements that claim and commit a page, and in the first one of a tick, a start and a check: it
-- costs no round trip.
create function sync.meet_functions(p_version bigint) returns void
language plpgsql stable security invoker set search_path = pg_catalog, pg_temp as $$
begin
  if current_setting('session_replication_role') = 'replica' then
    raise exception 'session_replication_role is replica for %: no foreign key and no trigger would hold, those that guard the sync included', current_user
      using errcode = 'IS073', hint = 'As a superuser of the target: alter role ... reset session_replication_role, for the role or its database. Nothing was done, and what is in the queue comes back by itself.';
  end if;
  if p_version > sync.schema_version() then
    raise exception 'the functions were made for version % of the database, which has version %', p_version, sync.schema_version()
      using errcode = 'IS071', hint = 'Upgrade the database: npm run sync -- setup --upgrade. Nothing was done, and what is in the queue comes back by itself.';
  end if;
  if p_version < sync.oldest_functions() then
    raise exception 'the database has version %, and works with functions of version % and later; these have version %',
      sync.schema_version(), sync.oldest_functions(), p_version
      using errcode = 'IS072', hint = 'Deploy the functions of the release that the database has: npm run sync -- setup --upgrade, from a checkout of that release. Nothing was done, and what is in the queue comes back by itself.';
  end if;
end
$$;
comment on function sync.meet_functions(bigint) is
  'Raises IS071 where these functions need a later database, IS072 where they are too old for this one, IS073 where '
  'the session has all triggers off.';

revoke all on function sync.schema_version(), sync.oldest_functions(), sync.meet_functions(bigint) from public;
grant execute on function sync.schema_version(), sync.oldest_functions(), sync.meet_functions(bigint) to isthmus_worker;

-- supabase/schemas/functions/recovery.sql

-- Purpose: of which category an error is; generated by `npm run migration` from shared/recovery.ts.
-- Locks:   none.

-- Asked for each record that is refused: PL/pgSQL keeps its plan from call to call.
create function sync.category_of_state(p_sqlstate text) returns text
language plpgsql immutable security invoker set search_path = pg_catalog, pg_temp as $$
begin
  return coalesce(
    case
      when p_sqlstate in ('25006', '42P05', '55006', 'HV00N') then 'transient'
      when p_sqlstate in ('25P03', '25P04', '53200', '53400', '55P03', '57014') then 'limit'
      when p_sqlstate in ('23503') then 'parent'
      when p_sqlstate in ('XX001', 'XX002') then 'damage'
    end,
    case
      when left(p_sqlstate, 2) in ('08', '26', '28', '3D', '40', '53', '57', '58', '72', 'XX') then 'transient'
      when left(p_sqlstate, 2) in ('54') then 'size'
      when left(p_sqlstate, 2) in ('0A', '0L', '0P', '2B', '3F', '42') then 'schema'
      when left(p_sqlstate, 2) in ('09', '10', '20', '21', '22', '23', '27', '38', '39', '44', 'P0') then 'record'
      when left(p_sqlstate, 2) in ('00', '01', '02', '03', '0B', '0F', '0Z', '24', '25', '2D', '2F', '34', '3B', '55', 'F0', 'HV') then 'other'
    -- What triggers of an application raise.
      when p_sqlstate ~ '^[5-9I-Z]' then 'record'
    end, 'other');
end
$$;
comment on function sync.category_of_state(text) is
  'The category of a SQLSTATE: what the sync does about it stands in docs/errors.md.';

create function sync.passes_by_itself(p_sqlstate text) returns boolean
language sql immutable security invoker set search_path = pg_catalog, pg_temp as $$
  -- An internal error passes where a pooler says so, or a catalog that changes under a connection; within a function
  -- it may stay.
  select sync.category_of_state(p_sqlstate) in ('transient', 'limit') and p_sqlstate !~ '^XX'
$$;
comment on function sync.passes_by_itself(text) is
  'Whether a statement of ours that ends so within the database may come through at the next try.';

create function sync.category_of_code(p_code text) returns text
language sql immutable security invoker set search_path = pg_catalog, pg_temp as $$
  select coalesce(
    case
      when p_code in ('BODY_TOO_SLOW', 'QUEUE_REFUSED', 'QUEUE_UNAVAILABLE', 'RECORDS_MOVED', 'SOURCE_BEHIND', 'SOURCE_UNAVAILABLE', 'TARGET_UNAVAILABLE', 'TICK_KILLED') then 'transient'
      when p_code in ('SOURCE_LIMIT', 'TARGET_LIMIT') then 'limit'
      when p_code in ('CACHE_OUTDATED') then 'mapping'
      when p_code in ('CONTRACT_BROKEN', 'ENTITY_LEFT_OUT', 'KEY_BROKEN') then 'schema'
      when p_code in ('DEPLOYMENT_BEHIND', 'SCHEMA_AHEAD', 'SCHEMA_OUTDATED', 'TRIGGERS_OFF') then 'misfit'
      when p_code in ('ENTITY_PAUSED', 'EXECUTION_ACTIVE', 'LEASE_LOST') then 'turn'
      when p_code in ('BRAKE_APPLIED', 'CAPTURE_IMPOSSIBLE', 'CAPTURE_UNBACKED', 'CONFIG_INVALID', 'EXECUTION_CANCELLED', 'INSTALLATION_UNKNOWN', 'SIDE_EFFECTS_UNACKNOWLEDGED', 'SOURCE_UNKNOWN', 'TARGET_NOT_EMPTY', 'TARGET_UNKNOWN') then 'person'
      when p_code in ('BODY_TOO_LARGE', 'CONTROL_REFUSED', 'DECISION_REFUSED', 'EXECUTION_CLOSED', 'FORBIDDEN', 'METHOD_NOT_ALLOWED', 'NOT_FOUND', 'REQUEST_INVALID', 'SELECTION_TOO_LARGE', 'UNAUTHENTICATED') then 'caller'
      when p_code in ('CONTROL_TOTALS_DIFFER', 'EXECUTION_STALLED', 'PAGE_STALLED', 'PAGE_STANDS_STILL', 'SOURCE_CHANGED') then 'ended'
      when p_code in ('INTERNAL') then 'defect'
      when p_code in ('SOURCE_REFUSED', 'TARGET_REFUSED') then 'other'
    end, 'other')
$$;
comment on function sync.category_of_code(text) is
  'The category of an error code: what the sync does about it stands in docs/errors.md.';

revoke all on function sync.category_of_state(text), sync.passes_by_itself(text), sync.category_of_code(text) from public;
grant execute on function sync.category_of_state(text), sync.passes_by_itself(text), sync.category_of_code(text) to isthmus_worker;
grant execute on function sync.category_of_state(text) to isthmus_decisions;

-- supabase/schemas/functions/alert-kinds.sql

-- Purpose: every kind of alert: what it means, where to look, what to do, and what closes it. docs/runbook.md has a
--          generated copy.

create function sync.alert_kinds() returns table (kind text, means text, look text, remedy text, closes text)
language sql immutable security invoker set search_path = pg_catalog, pg_temp as $$
  values
    ('alert_undelivered', 'A message about an alert was given up after all its tries, or waits for an address that is gone: people are not told of alerts. While none arrives anywhere, the heartbeat is not sent.',
     'sync_alert_deliveries where status in (''failed'', ''waiting''): last_error and status_code. subject of the alert says which address.',
     'Mend the address in Vault, or what answers there. Then npm run sync -- alerts test: when the test arrives, what was given up and is still so is sent again. Without that, one message an hour is tried.',
     'A message to the same address arrives; or the address is gone, and no open alert waits for it (sync.tell_undelivered).'),
    ('alerts_not_delivered', 'There are addresses to tell of alerts, and for five minutes nobody has looked what they have to be told.',
     'The runs of isthmus-deliver-alerts on the Cron page, and looked_at in sync_alert_settings.',
     'Set the job to active, or run supabase/schemas/schedule.sql if it is gone. Where its runs fail, they say why. pg_net and Vault have to be enabled, and the owner of the job has to be allowed to read them.',
     'The job has looked (sync.deliver_alerts, sync.watch_delivery).'),
    ('brake', 'An execution would have deleted, emptied or overwritten far more records than usual, and was stopped there.',
     'sync_brakes of the entity: how many records of how many.',
     'Look at the source. If it is meant so, put your name into confirmed_by of the row in sync_brakes; if not, mend the source. The next execution goes on.',
     'The brake of this kind and field is closed, by an execution that has come through (sync.finish_execution).'),
    ('contract_broken', 'Source or target no longer fit the definition of an entity. The entity is left out of executions; the rest goes on.',
     'details of the alert, or npm run sync -- check.',
     'Each finding has its remedy. Mend it in the database or in the entity file.',
     'A start or a tick finds that the entity fits again for every capture (sync.alert_contract).'),
    ('contract_warning', 'The catalogs have something that a person should know of. Executions go on.',
     'details of the alert, or npm run sync -- check.',
     'Each finding has its remedy. Without one the entity stays as it is.',
     'A start finds none of these any more (sync.alert_contract).'),
    ('dead_letters', 'QStash has given up messages to sync-page. Their pages are sent again by sync-tick.',
     'The dead letters in the QStash console, and the log of sync-page at that time.',
     'Remove the cause that the log names, then delete the dead letters in the console.',
     'QStash holds none of them any more (watchDeadLetters).'),
    ('deliveries_refused', 'QStash delivers pages, and the functions do not take them.',
     'details.statuses of the alert, and the log of sync-page.',
     'The message says what the most frequent status means. Correct FUNCTIONS_URL or the signing keys, or deploy the functions.',
     'No page waits that was sent more than once (watchRefusals).'),
    ('edited_widely', 'Far more rows of the target than before differ from what the sync left there.',
     'npm run sync -- plan <entity> --capture digest --overwrite-edits.',
     'If people wrote them, there is nothing to do. If a backup or a script did, take the source''s values with --overwrite-edits.',
     'A later comparison finds no more than before (sync.tell_digest).'),
    ('entities_lag', 'Entities have not been known to be in step for longer than the jobs promise that read them: two times of such a job have gone by, and an hour for its work, or lag_minutes of the job; 26 hours where no enabled job reads them.',
     'details of the alert: each entity, since when, and what is expected. npm run sync -- executions, and enabled and next_execution_at in sync_jobs.',
     'Look why no execution of these entities has come through: a job that is off or never due, one that fails, or a long one that still works. To expect less, set alarms of the job: {"lag_minutes": 1440}.',
     'Each of them has been read again, or is expected later (sync.tell_work).'),
    ('execution_failed', 'An execution ended as failed. What was committed stays.',
     'errors of the execution in sync_executions, or npm run sync -- status.',
     'Each error has its remedy. Then start again; a job does so by itself.',
     'An execution of the same source, of these entities or more, that looks as far, has succeeded, or has left entities out and come through (sync.close_ended_alerts).'),
    ('execution_stuck', 'The chains of an execution cannot be opened.',
     'details.sqlstate of the alert, and the log of sync-tick.',
     'Remove what the SQLSTATE names. The execution ends by itself after ISTHMUS_STALLED_MINUTES, or by npm run sync -- cancel.',
     'No running execution is stuck any more (sync.advance_running).'),
    ('heartbeat_invalid', 'The heartbeat address cannot be called, so the monitor behind it will take the sync for dead.',
     'The message: it names the Vault secret.',
     'Correct the Vault secret isthmus_heartbeat_url, or delete it.',
     'The address can be called again, or is gone (sync.beat).'),
    ('history_kept', 'History that is older than sync_retention says could not be removed: the tables of the sync grow.',
     'The SQLSTATE in the details, and the runs of isthmus-remove-history on the Cron page.',
     'Call sync.remove_aged with one row in the SQL editor: that says what refuses. Mend that: a trigger or a foreign key that somebody has added, for example.',
     'The job has removed what is due, or has found nothing (sync.remove_history).'),
    ('horizon_held', 'An old transaction on the source hides later changes from incremental runs. They are found when it ends.',
     'The message: it names the session.',
     'End that session on the source, or have its owner commit.',
     'A later execution finds no such transaction (sync.begin_execution).'),
    ('installation_unknown', 'Another installation of the functions than the known one wants to work here.',
     'sync_identities where accepted_at is null.',
     'If it is the right one, put your name into accepted_by. If not, correct its TARGET_DB_URL.',
     'What comes next is known (sync.ask_for_identities).'),
    ('internal_error', 'An error that nobody has expected ended a page or a part of a tick: a defect of Isthmus, or something that nobody has met yet. A page is tried again, ISTHMUS_PAGE_TRIES times at most, and then stopped alone.',
     'page.failed or tick.failed in the log of sync-page or sync-tick at that time; last_error in sync_chains.',
     'Report it with the log lines. Nothing is half done: every page is one commit. If it stays, leave the entity out of the jobs until it is mended.',
     'A whole execution that began later has come through with the entity (sync.close_ended_alerts); of a tick, the part works and has done so for ten minutes (sync.end_tick).'),
    ('job_failed', 'A job cannot begin.',
     'last_error of the job in sync_jobs, or npm run sync -- jobs.',
     'Do what last_error says. A change of the job has it looked at afresh; next_execution_at = now() runs it at the next tick.',
     'The job has begun an execution (sync.begin_job), or is deleted, paused, renamed or without a time (sync.forget_job_alerts).'),
    ('job_late', 'An execution of a job has worked for longer than its window: three times what the job usually takes, an hour at least, or window_minutes of the job.',
     'npm run sync -- status of the execution: which entity, how fast. duration_ms in sync_page_log says where the time goes.',
     'If it goes on, wait. If source or target are slow, look at what else works there. npm run sync -- cancel ends it at the next commit. To expect more, set alarms of the job: {"window_minutes": 180}.',
     'The execution has ended (sync.tell_work).'),
    ('job_waits', 'A job is due, and has waited for 15 minutes, or three tries, for what keeps it from beginning. It is tried again by itself; after an hour the alert is critical, and at once where the error is one that nobody has expected (INTERNAL); such a job is tried five times. Behind another execution of the same entities six hours are a warning.',
     'last_error and waits_since of the job in sync_jobs, or npm run sync -- jobs.',
     'Do what the message says. Where another execution of the same entities runs, look whether it comes to its end: npm run sync -- status.',
     'The job has begun an execution (sync.begin_job), has failed (sync.fail_job), or is deleted, paused, renamed or without a time (sync.forget_job_alerts).'),
    ('page_retried', 'A page has been tried in vain seven times, or as often as its job says (retries), and is still being tried. Its entity stands still; the others go on.',
     'last_error and failures in sync_chains, details.error of the alert, and page.failed in the log of sync-page.',
     'Do what the message says. Nothing is lost: the page is tried again after at most five minutes, and stopped after ISTHMUS_PAGE_TRIES (page_stalled). To be told later, set alarms of the job: {"retries": 12}.',
     'The page has landed, or its chain has ended (sync.tell_retried_pages).'),
    ('page_stalled', 'A page made no progress after all its tries and was stopped. The other chains go on.',
     'details of the alert, last_error in sync_chains, and the log of sync-page.',
     'Do what the remedy in details says, then start again. What was committed stays.',
     'The same kind of page of the entity, or a whole execution, has come through; of keys, none may be left that was there before (sync.close_stalled_alerts).'),
    ('pages_not_run', 'QStash has accepted pages more than once for eight minutes, and no function has begun one. An execution stands still.',
     'The events of the messages in the QStash console, and the calls and the log of sync-page.',
     'If QStash has not called: see its status, the plan''s limits and a paused queue. If it has: the function is killed before it begins, or writes into another database: compare TARGET_DB_URL. Pages are sent again by themselves.',
     'A page was run, or no chain waits so any more (sync.tell_unrun_pages).'),
    ('paused_long', 'A person has paused a job, an execution, an entity or a chain, and not resumed it for ISTHMUS_PAUSED_HOURS. Nothing of it begins; nothing is lost.',
     'control, controlled_by and controlled_at of its row. The message names it.',
     'Ask who paused it. To go on: npm run sync -- resume, as the message says, or empty control of the row. What is not to go on: cancel, or enabled = false of a job.',
     'It is resumed, or has ended (sync.tell_paused).'),
    ('queue_old', 'Records of an entity wait for a parent or a person for longer than ISTHMUS_QUEUE_AGE_HOURS.',
     'npm run sync -- queue, or sync_conflicts by first_seen_at.',
     'The remedy of each rule in the queue says what to do. Decide, or correct the source.',
     'No record of the entity is that old any more (sync.alert_old_records).'),
    ('queue_refused', 'QStash does not take the messages that carry pages.',
     'details.error of the alert, and the usage in the QStash console.',
     'Do what the message says: the token, the plan''s limit, or the address. Pages are sent again by themselves.',
     'QStash takes what the open chains send (sync.tell_refused_sends).'),
    ('source_address_unknown', 'The source is reached at another address than the known one.',
     'sync_identities where accepted_at is null.',
     'If it is right, put your name into accepted_by. If not, correct SOURCE_DB_URL.',
     'What comes next is known (sync.ask_for_identities).'),
    ('source_promoted', 'The source is on another timeline: a replica was promoted, or the source was restored to a point in time.',
     'details.entities of the alert.',
     'Nothing: everything is read again. Find out whether the source lost its last transactions, and tell those who work in it.',
     'An execution of these entities has come through (sync.close_ended_alerts).'),
    ('source_refuses', 'The source refuses connections, or does not answer: refused, a password that is not taken, TLS, too many connections, no route. While it does, one look of each tick asks it, and nothing else: pages are not sent, jobs do not begin.',
     'details.reason of the alert; refused_since and refusal in sync_sources; last_error in sync_jobs.',
     'Do what the message says: the address and password of SOURCE_DB_URL, SOURCE_DB_TLS and SOURCE_DB_CA, the connections that the server allows its role, its firewall. Pages and jobs go on by themselves when it answers; after ISTHMUS_STALLED_MINUTES the executions that wait for it end as failed.',
     'Two ticks in a row have reached the source (sync.note_source).'),
    ('source_restored', 'The source stands before what was read from it already: a backup, a point in time, or transactions lost in a crash or failover.',
     'details.entities of the alert.',
     'Nothing: everything is read again. Tell those who work in the source what they may have lost.',
     'An execution of these entities has come through (sync.close_ended_alerts).'),
    ('source_unknown', 'Another source database than the known one answers at SOURCE_DB_URL.',
     'sync_identities where accepted_at is null.',
     'If it is the right one, put your name into accepted_by. If not, correct SOURCE_DB_URL.',
     'What comes next is known (sync.ask_for_identities).'),
    ('surplus', 'Rows of the target have a legacy id that belongs to another row.',
     'sync_adoption_rows of the entity, or details of the alert.',
     'Remove these rows, or empty their legacy ids. Nothing of the sync deletes them.',
     'A full pass over all keys, or an adoption, has come through and met none (sync.close_ended_alerts, sync.close_adoption).'),
    ('target_address_unknown', 'The target is reached at another address than the known one.',
     'sync_identities where accepted_at is null.',
     'If it is right, put your name into accepted_by. If not, correct TARGET_DB_URL.',
     'What comes next is known (sync.ask_for_identities).'),
    ('target_refuses', 'The functions do not reach this database: it, or the pooler before it, refuses their connections, or TARGET_DB_URL leads nowhere. One that does not answer at all is tick_missing. Nothing begins and nothing is resumed.',
     'status_code and error in sync_ticks, and the log of sync-tick.',
     'Do what the message says: the address and password of TARGET_DB_URL, TARGET_DB_TLS and TARGET_DB_CA, the connections of the project, its network restrictions.',
     'A tick has worked (sync.end_tick, sync.watch_tick).'),
    ('target_restored', 'The target was put back to an older state, or is a copy.',
     'sync_executions: the latest ones that are known here.',
     'Nothing: the next execution of each entity compares both sides. Edits that people made since the backup are lost with it.',
     'Every entity of the source was compared since (sync.close_ended_alerts).'),
    ('target_state_unknown', 'This database seems to have been put back to an older state: the source, the cache or the queue knows of later work than it does.',
     'sync_identities where accepted_at is null: identity says what tells it.',
     'If it was put back, put your name into accepted_by: both sides are compared then. If it is a copy, let nothing work at it.',
     'No sign of it is left that nobody has accepted (sync.ask_for_identities).'),
    ('target_unknown', 'This database is not the one that the installation knew as its target.',
     'sync_identities where accepted_at is null.',
     'If it is the right one, put your name into accepted_by. If it is a copy, let nothing work at it.',
     'What comes next is known (sync.ask_for_identities).'),
    ('tick_missing', 'sync-tick is not called, or does not come to its end: nothing begins and nothing is resumed.',
     'sync_ticks, the Cron page, and the log of sync-tick.',
     'The message says what is missing: a job, a Vault secret, an extension, or the function itself.',
     'A tick has worked (sync.end_tick, sync.watch_tick).'),
    ('tick_part_failed', 'A part of the work of sync-tick has failed three times in a row, each time that there was something to look at. What that part does is not done; the others go on.',
     'subject of the alert (the part), its message (the error code of the latest time), failed in sync_ticks, and tick.failed in the log of sync-tick.',
     'Do what docs/errors.md says of the code. The part is tried with each tick, or as often as it looks.',
     'A tick ends in which the part works (sync.end_tick).'),
    ('tick_refused', 'The calls of sync-tick are refused.',
     'status_code and error in sync_ticks.',
     'The message says what the status means: the key, the address, or a deployment.',
     'A tick has worked (sync.end_tick, sync.watch_tick).'),
    ('tick_slow', 'Ticks begin late or work long: work is begun and resumed late.',
     'sync_ticks, and the log of sync-tick.',
     'See what else calls through pg_net, whose batches wait for the slowest answer, and what the ticks do.',
     'A tick was not slow (sync.watch_tick).'),
    ('unmapped_rows', 'Rows of the target have a legacy id, and no mapping says which records they are.',
     'details.legacy_ids of the alert.',
     'Take them over (npm run sync -- adopt <entity>), remove them, or empty their legacy ids.',
     'A later comparison finds none (sync.tell_digest).'),
    ('unusual_run', 'An execution has come through, and is far from the last fourteen like it (the same trigger and entities, the same look at the entity): nothing was read where each of them read something, or records read, share of rejects or duration lie far outside their usual band.',
     'details.findings of the alert: of each entity the figure, the band of the earlier runs (from the tenth to the ninetieth percentile) and their median. npm run sync -- status of the execution.',
     'Look whether the source was written to as usual: an import that did not run, a table that was emptied or filled, a SOURCE_DB_URL that leads to a copy. For rejects see npm run sync -- queue. If it is meant so, acknowledge it. To be told of less, set alarms of the job: {"band_factor": 3}.',
     'In an execution by the same trigger what was found is as usual again, and of nothing read something is; else a day after somebody has acknowledged it and it was seen last; a job that is deleted or renamed takes it along (sync.tell_unusual, sync.end_tick, sync.forget_job_alerts).'),
    ('validation_failed', 'After an execution both sides of an entity still differ in counts or money, and reading the differing records once more did not help.',
     'details.legacy_ids of the alert, and counts and sums of both sides in sync_reports (control_totals:<entity>) of the execution.',
     'Look at these records on both sides: does a trigger or a person change the target while it is compared, or does the source answer with other values each time? Then npm run sync -- start <entity> --full.',
     'A later comparison of the entity finds no difference (sync.tell_differences).'),
    ('written_otherwise', 'A trigger of the target changes what the sync writes.',
     'sync_warnings of the entity: the records; details of the alert: fields and triggers.',
     'Leave these fields out of the entity file, or change the trigger (current_setting(''isthmus.sync'', true)).',
     'No record of the entity is named in sync_warnings for this any more (sync.close_ended_alerts).')
$$;
comment on function sync.alert_kinds() is
  'Every kind of alert: what it means, where to look, what to do (the column remedy of sync_alerts), and what closes '
  'it.';

revoke all on function sync.alert_kinds() from public;
grant execute on function sync.alert_kinds() to isthmus_worker, isthmus_decisions;

-- supabase/schemas/functions/alerts.sql

-- Purpose: what an operator must know.
-- Locks:   the open alert, where nobody else holds it.

create function sync.escalation_time() returns timestamptz
language sql volatile security invoker set search_path = pg_catalog, pg_temp as $$
  select clock_timestamp() + make_interval(mins => coalesce((select escalate_after_minutes from public.sync_alert_settings), 30))
$$;
comment on function sync.escalation_time() is
  'When a critical alert of now is told to the second address, if nobody acknowledges it.';

create function sync.calm_time() returns interval
language sql immutable security invoker set search_path = pg_catalog, pg_temp as $$ select interval '30 minutes' $$;
comment on function sync.calm_time() is
  'What comes back within this time has not been over, and people are told of it at most once in this time.';

create function sync.stamp_alert() returns trigger
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  if tg_op = 'INSERT' then
    new.remedy := coalesce((select k.remedy from sync.alert_kinds() k where k.kind = new.kind), '');
    new.escalates_at := case when new.severity = 'critical' then sync.escalation_time() end;
    return new;
  end if;
  if old.closed_at is not null and new.closed_at is null then
    -- What nobody was told of is news.
    new.reopened_at := case when new.told_at is not null then clock_timestamp() end;
    -- Who was told that it is over has not been told of what is now.
    if new.told_severity is null then
      new.escalated_at := null;
      new.escalates_at := case when new.severity = 'critical' then sync.escalation_time() end;
    end if;
  end if;
  if new.severity <> old.severity then
    new.escalates_at := case when new.severity = 'critical' then sync.escalation_time() end;
    if new.severity = 'critical' then
      -- What was acknowledged was less, and nobody waits for what is worse.
      new.reopened_at := null;
      new.acknowledged_by := null;
      new.acknowledged_at := null;
    end if;
  elsif new.acknowledged_by is distinct from old.acknowledged_by then
    if old.closed_at is not null then
      raise exception 'this alert is closed' using errcode = 'IS022', hint = 'There is nothing left to look after: its cause is gone.';
    end if;
    if current_user = 'authenticated' and new.acknowledged_by is not null then
      new.acknowledged_by := sync.actor(null);
    end if;
    new.acknowledged_at := case when new.acknowledged_by is not null then now() end;
  end if;
  return new;
end
$$;
comment on function sync.stamp_alert() is
  'Gives an alert its remedy and the time at which it escalates, and stamps who looks after it. One that comes back '
  'keeps both. Raises IS022 for a closed one.';
create trigger stamp_alert before insert or update of severity, acknowledged_by, closed_at on public.sync_alerts for each row execute function sync.stamp_alert();

create function sync.subject_of(variadic p_parts text[]) returns text
language sql immutable security invoker set search_path = pg_catalog, pg_temp as $$
  -- A key of an index: the names of many entities would be too long for one.
  select case when length(s.text) > 200 then left(s.text, 160) || ' ' || md5(s.text) else s.text end
    from (select array_to_string(p_parts, ' ') as text) s
$$;
comment on function sync.subject_of(text[]) is
  'What of its kind an alert is about, in at most 200 characters. Parts that are null are left out.';

create function sync.note_held_alert(p_id uuid, p_closes boolean, p_severity text, p_execution uuid, p_job uuid, p_message text, p_details jsonb) returns void
language sql security invoker set search_path = pg_catalog, pg_temp as $$
  insert into public.sync_alert_notes as n (alert_id, closes, times, severity, execution_id, job_id, message, details)
  values (p_id, p_closes, (not p_closes)::integer, p_severity, p_execution, p_job, p_message, p_details)
  on conflict (alert_id) do update
     set closes = excluded.closes, times = n.times + excluded.times, severity = excluded.severity, execution_id = excluded.execution_id, job_id = excluded.job_id,
         message = excluded.message, details = excluded.details, happened_at = excluded.happened_at
$$;
comment on function sync.note_held_alert(uuid, boolean, text, uuid, uuid, text, jsonb) is
  'Keeps what became of an alert whose row somebody holds.';

create function sync.count_alert(p_id uuid, p_severity text, p_execution uuid, p_job uuid, p_message text, p_details jsonb) returns void
language sql security invoker set search_path = pg_catalog, pg_temp as $$
  -- The time at which it is seen, and not that of a long page's beginning: what was noted before is older
  -- (sync.apply_alert_notes).
  update public.sync_alerts a
     set closed_at = null, occurrences = a.occurrences + 1, last_seen_at = clock_timestamp(), execution_id = coalesce(p_execution, a.execution_id),
         job_id = coalesce(p_job, a.job_id), severity = p_severity, message = p_message, details = p_details
   where a.id = p_id
$$;
comment on function sync.count_alert(uuid, text, uuid, uuid, text, jsonb) is
  'Counts an alert once more, and opens it where it was closed.';

create function sync.put_alert(p_kind text, p_severity text, p_source_id smallint, p_entity_id smallint, p_execution uuid, p_job uuid, p_subject text, p_message text,
  p_details jsonb) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_id uuid;
begin
  -- A person who edits the row may hold it for hours: pages and watches do not wait for that.
  select a.id into v_id from public.sync_alerts a
   where a.kind = p_kind and a.source_id is not distinct from p_source_id and a.entity_id is not distinct from p_entity_id and a.subject = p_subject and a.closed_at is null
     for no key update skip locked;
  if v_id is not null then
    perform sync.count_alert(v_id, p_severity, p_execution, p_job, p_message, p_details);
    return;
  end if;
  select a.id into v_id from public.sync_alerts a
   where a.kind = p_kind and a.source_id is not distinct from p_source_id and a.entity_id is not distinct from p_entity_id and a.subject = p_subject and a.closed_at is null;
  if v_id is not null then
    perform sync.note_held_alert(v_id, false, p_severity, p_execution, p_job, p_message, p_details);
    return;
  end if;
  -- What comes back soon is the same alert, with who looks after it.
  select a.id into v_id from public.sync_alerts a
   where a.kind = p_kind and a.source_id is not distinct from p_source_id and a.entity_id is not distinct from p_entity_id and a.subject = p_subject
     and a.closed_at > clock_timestamp() - sync.calm_time()
   order by a.closed_at desc limit 1 for no key update skip locked;
  if v_id is not null then
    begin
      perform sync.count_alert(v_id, p_severity, p_execution, p_job, p_message, p_details);
      return;
    exception when unique_violation then
      -- Somebody has opened it anew meanwhile.
      null;
    end;
  end if;
  insert into public.sync_alerts as a (kind, severity, source_id, entity_id, execution_id, job_id, subject, message, details)
  values (p_kind, p_severity, p_source_id, p_entity_id, p_execution, p_job, p_subject, p_message, p_details)
  on conflict (kind, source_id, entity_id, subject) where closed_at is null do update
     set occurrences = a.occurrences + 1, last_seen_at = clock_timestamp(), execution_id = coalesce(excluded.execution_id, a.execution_id),
         job_id = coalesce(excluded.job_id, a.job_id), severity = excluded.severity, message = excluded.message, details = excluded.details;
end
$$;
comment on function sync.put_alert(text, text, smallint, smallint, uuid, uuid, text, text, jsonb) is
  'Opens an alert, counts it again while it is open, or opens it again where it was closed less than half an hour '
  'ago. Waits for no person who holds its row.';

create function sync.raise_alert(p_kind text, p_severity text, p_source_id smallint, p_execution uuid, p_entity_id smallint, p_message text, p_details jsonb,
  p_subject text default '')
returns void
language sql security invoker set search_path = pg_catalog, pg_temp as $$
  select sync.put_alert(p_kind, p_severity, coalesce(p_source_id, x.source_id), p_entity_id, p_execution, x.job_id, p_subject, p_message, p_details)
    from (select) n left join public.sync_executions x on x.id = p_execution
$$;
comment on function sync.raise_alert(text, text, smallint, uuid, smallint, text, jsonb, text) is
  'Opens an alert, or counts it again while it is open. p_source_id null: the source of the execution. p_subject: '
  'what of its kind it is about; another subject is another alert.';

create function sync.close_alerts(p_ids uuid[]) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_free uuid[];
begin
  if cardinality(p_ids) = 0 then
    return;
  end if;
  v_free := array(select a.id from public.sync_alerts a where a.id = any (p_ids) and a.closed_at is null order by a.id for no key update skip locked);
  update public.sync_alerts set closed_at = clock_timestamp() where id = any (v_free);
  perform sync.note_held_alert(a.id, true, null, null, null, null, null) from public.sync_alerts a
    where a.id = any (p_ids) and a.id <> all (v_free) and a.closed_at is null order by a.id;
end
$$;
comment on function sync.close_alerts(uuid[]) is
  'Closes alerts whose cause is gone. One whose row somebody holds closes when it is free.';

create function sync.close_alert(p_kind text, p_source_id smallint) returns void
language sql security invoker set search_path = pg_catalog, pg_temp as $$
  select sync.close_alerts(array(select id from public.sync_alerts where kind = p_kind and source_id = p_source_id and closed_at is null))
$$;
comment on function sync.close_alert(text, smallint) is 'Closes an alert whose cause is gone.';

create function sync.apply_alert_notes() returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_note  public.sync_alert_notes;
  v_alert public.sync_alerts;
begin
  for v_note in select * from public.sync_alert_notes order by happened_at limit 1000 for update skip locked loop
    select * into v_alert from public.sync_alerts where id = v_note.alert_id for no key update skip locked;
    if not found then
      continue when exists (select from public.sync_alerts where id = v_note.alert_id);
    elsif v_note.closes then
      update public.sync_alerts set closed_at = clock_timestamp(), occurrences = occurrences + v_note.times
       where id = v_alert.id and closed_at is null and last_seen_at <= v_note.happened_at;
    elsif v_alert.closed_at is null or v_alert.closed_at < v_note.happened_at then
      begin
        update public.sync_alerts a
           set closed_at = null, occurrences = a.occurrences + v_note.times, last_seen_at = greatest(a.last_seen_at, v_note.happened_at), severity = v_note.severity,
               execution_id = coalesce((select x.id from public.sync_executions x where x.id = v_note.execution_id), a.execution_id),
               job_id = coalesce((select j.id from public.sync_jobs j where j.id = v_note.job_id), a.job_id), message = v_note.message, details = v_note.details
         where a.id = v_alert.id;
      exception when unique_violation then
        -- It was opened anew since, as another row.
        null;
      end;
    end if;
    delete from public.sync_alert_notes where alert_id = v_note.alert_id;
  end loop;
end
$$;
comment on function sync.apply_alert_notes() is
  'Writes into alerts what became of them while somebody held their rows.';

revoke all on function sync.escalation_time(), sync.calm_time(), sync.stamp_alert(), sync.subject_of(text[]), sync.note_held_alert(uuid, boolean, text, uuid, uuid, text, jsonb),
  sync.count_alert(uuid, text, uuid, uuid, text, jsonb), sync.put_alert(text, text, smallint, smallint, uuid, uuid, text, text, jsonb), sync.raise_alert(text, text, smallint, uuid, smallint, text, jsonb, text),
  sync.close_alerts(uuid[]), sync.close_alert(text, smallint), sync.apply_alert_notes() from public;
grant execute on function sync.escalation_time(), sync.calm_time(), sync.subject_of(text[]), sync.note_held_alert(uuid, boolean, text, uuid, uuid, text, jsonb),
  sync.count_alert(uuid, text, uuid, uuid, text, jsonb), sync.put_alert(text, text, smallint, smallint, uuid, uuid, text, text, jsonb), sync.raise_alert(text, text, smallint, uuid, smallint, text, jsonb, text) to isthmus_worker, isthmus_decisions;
grant execute on function sync.close_alerts(uuid[]), sync.close_alert(text, smallint), sync.apply_alert_notes() to isthmus_worker;

-- supabase/schemas/functions/source-breaker.sql

-- Purpose: the circuit breaker of the source: while it refuses, one look of each tick asks it, and nothing else.
-- Locks:   the row of the source; chains and jobs that have waited for it; the open alert.

create function sync.asks_source(p_source_id smallint) returns boolean
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select exists (select from public.sync_sources where id = p_source_id and refused_since is not null)
      or exists (select from public.sync_alerts where kind = 'source_refuses' and source_id = p_source_id and closed_at is null)
      or exists (select from public.sync_jobs where enabled and cron_expression is not null and next_execution_at <= clock_timestamp())
      or exists (select from public.sync_chains c join public.sync_executions x on x.id = c.execution_id
                  where c.state = 'open' and c.failures > 0 and c.last_error ->> 'code' = 'SOURCE_UNAVAILABLE' and x.source_id = p_source_id)
      or exists (select from public.sync_jobs where enabled and waits_since is not null and last_error ->> 'code' = 'SOURCE_UNAVAILABLE')
      or exists (select from (select failed from public.sync_ticks where ended_at is not null order by created_at desc limit 1) t cross join unnest(t.failed) f
                  where f like '%: SOURCE_UNAVAILABLE')
$$;
comment on function sync.asks_source(smallint) is
  'Whether a tick looks at the source before all else: a job is due, or a page, a job or the tick before has met a '
  'source that does not answer, or that is told.';

create function sync.refuses(p_source_id smallint) returns jsonb
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select refusal from public.sync_sources where id = p_source_id and refused_since is not null
$$;
comment on function sync.refuses(smallint) is 'Why nobody asks the source now; null: it answers.';

create function sync.note_source(p_source_id smallint, p_refusal jsonb, p_message text) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  -- Pages hold connections of their own: while they land, one connection too many is no refusal.
  if p_refusal ->> 'sqlstate' = '53300' and exists (
    select from public.sync_executions x join public.sync_chains c on c.execution_id = x.id
     where x.source_id = p_source_id and x.status = 'running' and c.capture <> 'adopt' and c.state = 'open' and c.page > 0 and c.failures = 0
       and c.moved_at > clock_timestamp() - interval '1 minute') then
    return;
  end if;
  if p_refusal is not null then
    update public.sync_sources set refused_since = coalesce(refused_since, clock_timestamp()), refusal = p_refusal where id = p_source_id;
    perform sync.raise_alert('source_refuses', 'critical', p_source_id, null, null, p_message, p_refusal);
    return;
  end if;
  update public.sync_sources set refused_since = null where id = p_source_id and refused_since is not null;
  if not found then
    -- At the limit of its connections a source lets one in now and then: two looks in a row are an answer.
    perform sync.close_alert('source_refuses', p_source_id);
    return;
  end if;
  update public.sync_chains c set due_at = clock_timestamp()
    from (select o.id from public.sync_chains o join public.sync_executions x on x.id = o.execution_id
           where o.state = 'open' and o.capture <> 'adopt' and o.due_at > clock_timestamp()
             and (o.lease_until is null or o.lease_until <= clock_timestamp()) and x.source_id = p_source_id
           order by o.id for no key update of o skip locked) w
   where c.id = w.id;
  update public.sync_jobs j set next_execution_at = least(j.next_execution_at, clock_timestamp())
    from (select id from public.sync_jobs
           where enabled and waits_since is not null and last_error ->> 'code' = 'SOURCE_UNAVAILABLE' and taken_at is null order by id for update skip locked) w
   where j.id = w.id;
end
$$;
comment on function sync.note_source(smallint, jsonb, text) is
  'What a look at the source has found: p_refusal, or that it answers. The first look that it answers lets pages and '
  'jobs go on at once; the alert source_refuses closes by the second in a row.';

revoke all on function sync.asks_source(smallint), sync.refuses(smallint), sync.note_source(smallint, jsonb, text) from public;
grant execute on function sync.asks_source(smallint), sync.refuses(smallint), sync.note_source(smallint, jsonb, text) to isthmus_worker;

-- supabase/schemas/functions/table-guards.sql

-- Purpose: what nobody changes by hand, and what an edit by hand has to bring with it.

create function sync.refuse_other_namespace() returns trigger
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  raise exception 'the namespace of source % never changes', old.name
    using errcode = 'IS022', hint = 'The ids of all its records derive from it: another one would give a record that returns another id.';
end
$$;
comment on function sync.refuse_other_namespace() is 'Nobody changes what ids are made from, by hand either.';
create trigger refuse_other_namespace before update of namespace on public.sync_sources
  for each row when (new.namespace <> old.namespace) execute function sync.refuse_other_namespace();

create function sync.renew_job() returns trigger
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  -- What somebody has changed deserves a fresh look.
  new.attempts := 0;
  new.last_error := null;
  new.waits_since := null;
  new.status := case when new.status in ('incomplete', 'failed') then 'pending'::public.sync_job_status else new.status end;
  if (new.cron_expression, new.time_zone) is distinct from (old.cron_expression, old.time_zone)
     and new.next_execution_at is not distinct from old.next_execution_at then
    new.next_execution_at := null;
  end if;
  return new;
end
$$;
comment on function sync.renew_job() is
  'Forgets the failure of a job whose time, zone or configuration was changed, and has its next time reckoned anew.';
create trigger renew_job before update of cron_expression, time_zone, configuration, enabled on public.sync_jobs
  for each row when ((new.cron_expression, new.time_zone, new.configuration, new.enabled)
    is distinct from (old.cron_expression, old.time_zone, old.configuration, old.enabled))
  execute function sync.renew_job();

create function sync.note_progress() returns trigger
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  new.moved_at := clock_timestamp();
  return new;
end
$$;
comment on function sync.note_progress() is 'Stamps the progress of a chain, whichever function it was that moved it.';
create trigger note_progress before update on public.sync_chains
  for each row when (new.page <> old.page or new.state <> old.state or new.page_size < old.page_size)
  execute function sync.note_progress();

create function sync.refuse_other_id() returns trigger
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  if (new.source_id, new.entity_type, new.legacy_id, new.entity_uuid) is distinct from (old.source_id, old.entity_type, old.legacy_id, old.entity_uuid) then
    raise exception '% %: a record keeps its id for ever', old.entity_type, old.legacy_id
      using errcode = 'IS022', hint = format('Other rows refer to it by this id. If the record''s row has another id: give that row the id of the mapping; or delete the mapping, and take the row over: npm run sync -- adopt %s', old.entity_type);
  end if;
  return new;
end
$$;
comment on function sync.refuse_other_id() is 'Nobody changes which id a record has, by hand either.';
create trigger refuse_other_id before update of source_id, entity_type, legacy_id, entity_uuid on public.uuid_mappings_enhanced
  for each row execute function sync.refuse_other_id();

create function sync.guard_states() returns trigger
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  if tg_op = 'INSERT' and not exists (select from public.sync_row_states) then
    return null;
  end if;
  raise exception 'sync_row_states says what both sides held when a record was decided on: nobody but the sync writes it'
    using errcode = 'IS022', hint = 'A value that the source comes to have later would count as seen, and never arrive. To have a record judged anew by what both sides hold, delete its row: the next digest reads it, or npm run sync -- start --ids <entity>=<legacy id>. A backup goes into the emptied table.';
end
$$;
comment on function sync.guard_states() is
  'What is remembered of records is written by pages and decisions alone; a backup may be put into the empty table.';
-- Once per statement, which costs a page nothing.
create trigger guard_states before insert or update on public.sync_row_states
  for each statement when (current_user not in ('isthmus_worker', 'isthmus_decisions')) execute function sync.guard_states();

create function sync.refuse_undecided() returns trigger
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  if exists (select from public.sync_adoption_rows where undecided) and exists (
    select from new_mappings m
      join public.sync_entities e on e.source_id = m.source_id and e.entity_type = m.entity_type
      join public.sync_adoption_rows r on r.entity_id = e.id and r.legacy_id = m.legacy_id and r.undecided
  ) then
    raise exception using errcode = 'IS002', message = 'several target rows have this legacy id: a person decides which one is the record';
  end if;
  return null;
end
$$;
comment on function sync.refuse_undecided() is
  'A legacy id that several target rows have gets no UUID by any path until one of them is chosen.';
create trigger refuse_undecided after insert on public.uuid_mappings_enhanced
  referencing new table as new_mappings for each statement execute function sync.refuse_undecided();

create function sync.guard_status() returns trigger
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  if old.status = 'failed' and new.status = 'running' and current_user = 'isthmus_worker' then
    -- sync.retry_chains
    return new;
  end if;
  if old.status <> 'running' then
    raise exception 'execution % has ended already: it is %', old.id, old.status
      using errcode = 'IS031', hint = 'Nothing to do. npm run sync -- executions lists those that run.';
  end if;
  if new.status = 'cancelled' then
    if current_user = 'authenticated' then
      new.cancelled_by := sync.actor(null);
    else
      new.cancelled_by := coalesce(nullif(btrim(new.cancelled_by), ''), session_user);
    end if;
    new.completed_at := clock_timestamp();
    new.errors := jsonb_build_array(jsonb_build_object('code', 'EXECUTION_CANCELLED', 'message', 'Cancelled by ' || new.cancelled_by || '.',
      'remedy', 'Nothing is half done: every page is one commit. Start again when it suits; the next execution goes on from the last checkpoints.'));
  elsif exists (select from public.sync_chains where execution_id = new.id and state in ('blocked', 'open')) then
    raise exception 'execution % still has chains that are not closed', new.id
      using errcode = 'IS031', hint = 'Set status to cancelled to end it.';
  end if;
  return new;
end
$$;
comment on function sync.guard_status() is
  'An execution ends once: succeeded or failed when its chains are closed, cancelled whenever a person says so. One '
  'that failed runs again when somebody has it retried.';
create trigger guard_status before update of status on public.sync_executions
  for each row when (new.status is distinct from old.status) execute function sync.guard_status();

create function sync.guard_chain() returns trigger
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  -- Who has a page, when it is tried again, and how large it is. All else says what is read.
  v_theirs constant text[] := array['state', 'closed_at', 'due_at', 'lease', 'lease_until', 'delivery', 'attempt', 'page_size', 'slow_growth', 'sends', 'failures', 'crashes', 'refusals',
                                    'unclaimed', 'waits_since', 'last_error', 'refusal', 'moved_at', 'control', 'controlled_by', 'controlled_at'];
begin
  -- What goes with its execution is deleted by a trigger of the foreign key.
  if pg_trigger_depth() > 1 or not exists (select from public.sync_executions where id = old.execution_id and status = 'running') then
    return coalesce(new, old);
  end if;
  if tg_op = 'UPDATE' and (new.state = old.state or new.state in ('failed', 'cancelled'))
     and to_jsonb(new) - v_theirs = to_jsonb(old) - v_theirs then
    return new;
  end if;
  raise exception 'a chain of a running execution says which records are still to be read: nobody but the sync moves or removes it'
    using errcode = 'IS031', hint = format('To end the execution: update sync_executions set status = ''cancelled'' where id = %L. What it has not read, the next one reads.', old.execution_id);
end
$$;
comment on function sync.guard_chain() is
  'People may have a page tried again, or its chain fail. Records that nobody has read do not count as read by their '
  'hand.';
create trigger guard_chain before update or delete on public.sync_chains
  for each row when (current_user <> 'isthmus_worker') execute function sync.guard_chain();

create function sync.note_forgotten() returns trigger
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  -- A message is tried again for hours, and a dead letter can be sent again for some days: no page of an execution
  -- that is older is still on its way.
  update public.sync_sources s set forgotten_at = now()
   where exists (select from gone g where g.source_id = s.id and coalesce(g.completed_at, now()) > now() - interval '8 days');
  return null;
end
$$;
comment on function sync.note_forgotten() is 'Pages of executions that somebody has deleted are no sign of a restore.';
create trigger note_forgotten after delete on public.sync_executions referencing old table as gone for each statement execute function sync.note_forgotten();

revoke all on function sync.refuse_other_namespace(), sync.renew_job(), sync.note_progress(), sync.refuse_other_id(), sync.guard_states(),
  sync.refuse_undecided(), sync.guard_status(), sync.guard_chain(), sync.note_forgotten() from public;

-- supabase/schemas/functions/control-words.sql

-- Purpose: what a person says of a job, an execution, an entity or a chain: pause, resume, cancel, retry (the column
--          control); and what waits because of that.
-- Locks:   the row that is edited.

create function sync.is_held(p_chain public.sync_chains) returns boolean
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select p_chain.control in ('pause', 'cancel') is true or exists (
    select from public.sync_executions x
      left join public.sync_jobs j on j.id = x.job_id left join public.sync_entities e on e.id = p_chain.entity_id
     where x.id = p_chain.execution_id
       and (x.control in ('pause', 'cancel') or j.control in ('pause', 'cancel') or e.control in ('pause', 'cancel')))
$$;
comment on function sync.is_held(public.sync_chains) is
  'Whether a person has the chain wait: itself, its execution, job or entity is paused, or to be cancelled. No page '
  'of it is sent or begins.';

create function sync.failed_chains(p_what text, p_row jsonb) returns setof public.sync_chains
language plpgsql stable security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_execution public.sync_executions;
begin
  if p_what = 'entity' then
    select * into v_execution from public.sync_executions x
     where x.source_id = (p_row ->> 'source_id')::smallint and p_row ->> 'entity_type' = any (x.entities) and x.status in ('running', 'failed') and not x.dry_run
     order by x.source_id desc, x.ordinal desc limit 1;
  elsif p_what = 'job' then
    select * into v_execution from public.sync_executions x where x.job_id = (p_row ->> 'id')::uuid order by x.started_at desc limit 1;
  else
    select * into v_execution from public.sync_executions x where x.id = coalesce(p_row ->> 'execution_id', p_row ->> 'id')::uuid;
  end if;
  -- What a later execution has looked at as a whole, that one goes on with. A plan has forgotten what it found.
  if v_execution.status not in ('running', 'failed') or v_execution.dry_run or exists (
    select from public.sync_executions l
     where l.ordinal > v_execution.ordinal and l.source_id = v_execution.source_id and l.entities && v_execution.entities and not l.dry_run and not l.selective
       and exists (select from public.sync_chains c where c.execution_id = l.id and c.capture = 'validate')) then
    return;
  end if;
  return query
    select * from public.sync_chains c
     where c.execution_id = v_execution.id and c.state = 'failed'
       and (p_what in ('job', 'execution') or c.id::text = p_row ->> 'id' or p_what = 'entity' and c.entity_id::text = p_row ->> 'id');
end
$$;
comment on function sync.failed_chains(text, jsonb) is
  'The failed chains with which a retry of this row (job, execution, entity or chain) goes on: of its latest '
  'execution, while no later one has looked at the same entities.';

create function sync.why_not(p_what text, p_row jsonb, p_word public.sync_control) returns text
language plpgsql stable security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_state text := coalesce(p_row ->> 'state', p_row ->> 'status');
  v_ended boolean := p_what = 'execution' and v_state <> 'running' or p_what = 'chain' and v_state not in ('blocked', 'open');
begin
  if p_word = 'resume' then
    return case when p_row ->> 'control' is distinct from 'pause' then 'is not paused' end;
  elsif p_word = 'retry' and p_row ->> 'control' = 'pause' then
    return 'is paused: resume it first';
  elsif p_word in ('pause', 'cancel') and v_ended then
    return 'has ended already: it is ' || v_state;
  elsif p_word = 'cancel' and p_what in ('job', 'entity') and not exists (
      select from public.sync_executions x
       where x.status = 'running' and case p_what
         when 'job' then x.job_id = (p_row ->> 'id')::uuid
         else exists (select from public.sync_chains c where c.execution_id = x.id and c.entity_id::text = p_row ->> 'id' and c.state in ('blocked', 'open')) end) then
    return 'has nothing at work';
  elsif p_word = 'retry' and not exists (select from sync.failed_chains(p_what, p_row)) then
    return case
      when p_what = 'job' and v_state <> 'running' and (v_state in ('failed', 'incomplete') or p_row ->> 'last_error' is not null) then null
      when p_what = 'job' then 'has not failed: it is ' || v_state
      when p_what in ('execution', 'chain') and v_state <> 'failed' then 'has not failed: it is ' || v_state
      else 'has no failed chain to go on with, or a later execution has gone on with its entities: start again' end;
  end if;
  return null;
end
$$;
comment on function sync.why_not(text, jsonb, public.sync_control) is
  'Why this word has no meaning for the row as it is now; null: it has.';

create function sync.check_control() returns trigger
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_what text := tg_argv[0];
  v_row  jsonb := to_jsonb(old);
  v_why  text := sync.why_not(v_what, v_row, new.control);
begin
  if new.control is null and current_user = 'isthmus_worker' then
    -- It is carried out.
    return new;
  end if;
  if v_why is not null then
    raise exception '% % %', v_what, coalesce(v_row ->> 'name', v_row ->> 'entity_type', v_row ->> 'id'), v_why
      using errcode = 'IS032', hint = 'Nothing was changed. npm run sync -- status, or jobs, tells how it stands.';
  end if;
  if current_user <> 'isthmus_worker' then
    new.controlled_by := sync.actor(null);
  end if;
  new.controlled_at := clock_timestamp();
  new.control := nullif(new.control, 'resume');
  return new;
end
$$;
comment on function sync.check_control() is
  'Takes a word about a job, an execution, an entity or a chain, and stamps who gave it; raises IS032 where it has '
  'no meaning now.';
create trigger check_control before update of control on public.sync_jobs for each row
  when (new.control is distinct from old.control) execute function sync.check_control('job');
create trigger check_control before update of control on public.sync_executions for each row
  when (new.control is distinct from old.control) execute function sync.check_control('execution');
create trigger check_control before update of control on public.sync_entities for each row
  when (new.control is distinct from old.control) execute function sync.check_control('entity');
create trigger check_control before update of control on public.sync_chains for each row
  when (new.control is distinct from old.control) execute function sync.check_control('chain');

revoke all on function sync.is_held(public.sync_chains), sync.failed_chains(text, jsonb), sync.why_not(text, jsonb, public.sync_control), sync.check_control() from public;
grant execute on function sync.is_held(public.sync_chains) to isthmus_worker;
grant execute on function sync.failed_chains(text, jsonb), sync.why_not(text, jsonb, public.sync_control) to isthmus_worker, authenticated;

-- supabase/schemas/functions/conflict-policy.sql

-- Purpose: decide field by field who wins where both sides may have changed something.

create function sync.field_strategies(p_entity public.sync_entities, p_of_request text) returns jsonb
language sql immutable security invoker set search_path = pg_catalog, pg_temp as $$
  select jsonb_object_agg(c ->> 'name', case when c ->> 'name' = p_entity.legacy_key then 'overwrite_edits' when p_of_request = 'overwrite_edits' then p_of_request else
           coalesce(p_of_request, p_entity.conflicts -> 'fields' ->> (c ->> 'name'),
             p_entity.conflicts -> 'types' ->> 'concurrent_modification', p_entity.conflicts ->> 'strategy')
           ::public.conflict_resolution_strategy::text end)
    from jsonb_array_elements(p_entity.columns) c
$$;
comment on function sync.field_strategies(public.sync_entities, text) is
  'Which strategy decides each field that both sides have changed: {field: strategy}. p_of_request: the one that a '
  'job or request asks for (sync.strategy_of_request); it counts before all others. Which record a row is nobody '
  'decides: the legacy key is always written back.';

create function sync.strategy_of_request(p_request jsonb) returns text
language sql immutable security invoker set search_path = pg_catalog, pg_temp
as $$ select case when p_request -> 'overwriteEdits' = 'true' then 'overwrite_edits' else p_request ->> 'conflictStrategy' end $$;
comment on function sync.strategy_of_request(jsonb) is
  'The strategy that a job or request asks for. overwrite_edits: the source''s value is written over what only the '
  'target has changed, too. Null: none.';

create function sync.strategy_origin(p_entity public.sync_entities, p_of_request text, p_field text) returns text
language sql immutable security invoker set search_path = pg_catalog, pg_temp as $$
  select case when p_field = p_entity.legacy_key then 'of the legacy key'
              when p_of_request is not null then 'of this request'
              when p_entity.conflicts -> 'fields' ? p_field then 'of the field ' || p_field
              when p_entity.conflicts -> 'types' ? 'concurrent_modification' then 'of the type concurrent_modification'
              else 'of the entity' end
$$;
comment on function sync.strategy_origin(public.sync_entities, text, text) is
  'Where the strategy of a field is declared.';

create function sync.merge_objects(p_seen jsonb, p_source jsonb, p_target jsonb, p_left jsonb) returns jsonb
language plpgsql immutable security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_merged jsonb := '{}';
  v_key    text;
  v_value  jsonb;
begin
  if jsonb_typeof(p_source) is distinct from 'object' or jsonb_typeof(p_target) is distinct from 'object' then
    return null;
  end if;
  for v_key in select k from (select jsonb_object_keys(p_source) union select jsonb_object_keys(p_target)) x (k) order by k loop
    -- A key that is not there is a value like any other. What neither side has changed stays as it is in the target.
    if (p_source -> v_key) is not distinct from (p_target -> v_key)
      or (p_source -> v_key) is not distinct from (p_seen -> v_key) and p_seen is not null then
      v_value := p_target -> v_key;
    elsif (p_target -> v_key) is not distinct from (p_left -> v_key) and p_left is not null then
      v_value := p_source -> v_key;
    else
      v_value := sync.merge_objects(case when p_seen is not null then coalesce(p_seen -> v_key, 'null') end, p_source -> v_key, p_target -> v_key,
                                    case when p_left is not null then coalesce(p_left -> v_key, 'null') end);
      if v_value is null then
        return null;
      end if;
    end if;
    if v_value is not null then
      v_merged := v_merged || jsonb_build_object(v_key, v_value);
    end if;
  end loop;
  return v_merged;
end
$$;
comment on function sync.merge_objects(jsonb, jsonb, jsonb, jsonb) is
  'Both sides'' changes of a JSON object, key by key. Null: both have changed the same key, or one is no object.';

-- Seen and left are NULL where nobody knows them: of an adopted row, a new field, or a hash that no longer fits. What
-- is empty then holds nothing that could be lost.
create function sync.decision_sql() returns text
language sql immutable security invoker set search_path = pg_catalog, pg_temp
return $q$case
  when x.source is not distinct from x.seen then case when x.target is not distinct from x."left" then 'none'
    when x.strategy is distinct from 'overwrite_edits' then 'keep'
    -- Of a hash that no longer fits nobody knows which field it was.
    when x.target is not distinct from x.source then 'agree' else 'overwrite' end
  when x.source is not distinct from x.target then 'agree'
  when x.target is not distinct from x."left" or x."left" is null and x.target = 'null' then 'take'
  else case x.strategy
    when 'source_wins' then 'overwrite'
    when 'overwrite_edits' then 'overwrite'
    when 'target_wins' then 'retain'
    when 'merge' then case when sync.merge_objects(x.seen, x.source, x.target, x."left") is null then 'review' else 'merge' end
    when 'manual_review' then 'review' end end$q$;
comment on function sync.decision_sql() is
  'SQL over x (seen, source, target, left: jsonb; strategy): none, keep (only the target changed), agree (both say '
  'the same), take (only the source changed), or, where both changed: overwrite, retain, merge, review.';

create function sync.decide(p_type public.conflict_type_enum, p_seen jsonb, p_source jsonb, p_target jsonb, p_left jsonb,
  p_strategy public.conflict_resolution_strategy) returns text
language plpgsql immutable security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_decision text;
begin
  case p_type
    when 'concurrent_modification' then
      execute 'select ' || sync.decision_sql() || ' from (select $1 as seen, $2 as source, $3 as target, $4 as "left", $5::text as strategy) x'
        into v_decision using p_seen, p_source, p_target, p_left, p_strategy;
    -- No strategy can write a reference to what is not there.
    when 'foreign_key_violation' then
      case p_strategy when 'source_wins', 'target_wins', 'merge', 'manual_review' then v_decision := 'wait'; end case;
    -- Nor what the target cannot take.
    when 'business_rule_violation', 'schema_mismatch', 'uuid_mapping_conflict' then
      case p_strategy
        when 'source_wins', 'merge', 'manual_review' then v_decision := 'review';
        when 'target_wins' then v_decision := 'retain';
      end case;
  end case;
  return v_decision;
end
$$;
comment on function sync.decide(public.conflict_type_enum, jsonb, jsonb, jsonb, jsonb, public.conflict_resolution_strategy) is
  'What becomes of a field or record, for every type of conflict and strategy; raises case_not_found for what it '
  'does not know.';

create function sync.pick(p_values jsonb, p_keys text[]) returns jsonb
language sql immutable security invoker set search_path = pg_catalog, pg_temp as $$
  select coalesce(jsonb_object_agg(k, p_values -> k), '{}') from pg_catalog.unnest(p_keys) k where p_values ? k
$$;
comment on function sync.pick(jsonb, text[]) is 'Of an object, some keys, as far as it has them.';

-- As people read it in the column field; only names that would part it are in quotes.
create function sync.listed(p_names text[]) returns text
language sql immutable security invoker set search_path = pg_catalog, pg_temp as $$
  select string_agg(case when name ~ '[,"]' then '"' || replace(name, '"', '""') || '"' else name end, ', ' order by n)
    from pg_catalog.unnest(p_names) with ordinality x (name, n)
$$;
comment on function sync.listed(text[]) is 'Names of fields as one text. sync.unlisted parts it.';

create function sync.unlisted(p_list text) returns text[]
language sql immutable security invoker set search_path = pg_catalog, pg_temp as $$
  select pg_catalog.array_agg(case when m[1] like '"%' then replace(substr(m[1], 2, length(m[1]) - 2), '""', '"') else m[1] end)
    from regexp_matches(p_list, '("(?:[^"]|"")*"|[^,]+)(?:, |$)', 'g') m
$$;
comment on function sync.unlisted(text) is 'The names that sync.listed has made a text of.';

create function sync.is_decided(p_entity_id smallint, p_legacy_id bigint, p_field text) returns boolean
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select exists (select from public.sync_conflicts c
                  where c.entity_id = p_entity_id and c.source_record_id = p_legacy_id and c.state = 'resolved' and c.decisions > 0
                    and c.resolution_strategy in ('target_wins', 'merge') and p_field = any (sync.unlisted(c.field)))
$$;
comment on function sync.is_decided(smallint, bigint, text) is
  'Whether a person has decided that a field keeps what the target has.';

create function sync.shown_value(p_value jsonb, p_fields integer) returns jsonb
language sql immutable security invoker set search_path = pg_catalog, pg_temp as $$
  select case when length(p_value::text) <= l.most + 20 then p_value
              else pg_catalog.to_jsonb(left(coalesce(p_value #>> '{}', p_value::text), l.most) || '… (' || length(coalesce(p_value #>> '{}', p_value::text)) || ' characters)') end
    -- The table editor cuts a cell off at 16 kB; three values of each field have to fit into it.
    from (select greatest(20, least(400, 3000 / p_fields)) as most) l
$$;
comment on function sync.shown_value(jsonb, integer) is
  'A value as the queue shows it: cut short, so that all that differs in p_fields fields fits into a cell of the '
  'table editor.';

create function sync.differences(p_columns jsonb, p_fields text[], p_seen jsonb, p_source jsonb, p_target jsonb, p_masked boolean) returns jsonb
language sql immutable security invoker set search_path = pg_catalog, pg_temp as $$
  select jsonb_object_agg(f.name, case
      when p_masked and coalesce((c.col ->> 'sensitive')::boolean, true)
        then jsonb_build_object('seen', '•••', 'source', '•••', 'target', '•••')
      when p_masked then jsonb_build_object('seen', sync.shown_value(p_seen -> f.name, cardinality(p_fields)), 'source', sync.shown_value(p_source -> f.name, cardinality(p_fields)),
                                            'target', sync.shown_value(p_target -> f.name, cardinality(p_fields)))
      else jsonb_build_object('seen', p_seen -> f.name, 'source', p_source -> f.name, 'target', p_target -> f.name) end)
    from pg_catalog.unnest(p_fields) f (name)
    left join jsonb_array_elements(p_columns) c (col) on c.col ->> 'name' = f.name
$$;
comment on function sync.differences(jsonb, text[], jsonb, jsonb, jsonb, boolean) is
  'Field by field what both sides say: {field: {seen, source, target}}. p_masked: sensitive values are hidden, and '
  'long ones cut short.';

revoke all on function sync.field_strategies(public.sync_entities, text), sync.strategy_origin(public.sync_entities, text, text),
  sync.strategy_of_request(jsonb), sync.is_decided(smallint, bigint, text), sync.decision_sql(),
  sync.decide(public.conflict_type_enum, jsonb, jsonb, jsonb, jsonb, public.conflict_resolution_strategy),
  sync.merge_objects(jsonb, jsonb, jsonb, jsonb), sync.pick(jsonb, text[]), sync.listed(text[]), sync.unlisted(text),
  sync.shown_value(jsonb, integer), sync.differences(jsonb, text[], jsonb, jsonb, jsonb, boolean) from public;
grant execute on function sync.field_strategies(public.sync_entities, text), sync.strategy_origin(public.sync_entities, text, text),
  sync.strategy_of_request(jsonb), sync.is_decided(smallint, bigint, text), sync.decision_sql(), sync.merge_objects(jsonb, jsonb, jsonb, jsonb),
  sync.pick(jsonb, text[]), sync.listed(text[]), sync.unlisted(text), sync.shown_value(jsonb, integer),
  sync.differences(jsonb, text[], jsonb, jsonb, jsonb, boolean) to isthmus_worker;
grant execute on function sync.pick(jsonb, text[]), sync.unlisted(text), sync.shown_value(jsonb, integer),
  sync.differences(jsonb, text[], jsonb, jsonb, jsonb, boolean) to isthmus_decisions;

-- supabase/schemas/functions/released-entities.sql

-- Purpose: what decisions may touch: the table and the columns of each entity, released by the owner of the database.

create function sync.may_hang_triggers(p_table regclass) returns table (of_table regclass, grantee oid)
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  with recursive tables as (
    select p_table::oid as oid
    union
    select i.inhrelid from tables t join pg_inherits i on i.inhparent = t.oid
  )
  select c.oid::regclass, x.grantee
    from tables t join pg_class c on c.oid = t.oid cross join lateral aclexplode(c.relacl) x
   where x.privilege_type = 'TRIGGER' and x.grantee <> c.relowner
$$;
comment on function sync.may_hang_triggers(regclass) is
  'Who besides its owner has the right TRIGGER on a table or one of its partitions. On a new Supabase project anon, '
  'authenticated and service_role have it on each table of public.';

create function sync.grant_released(p_table text) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_table    text := format('public.%I', p_table);
  v_released public.sync_released_entities;
  v_columns  text;
  v_schema   text;
  v_open     record;
begin
  if to_regclass(v_table) is null then
    return;
  end if;
  execute format('revoke all on %s from isthmus_decisions', v_table);
  -- Through such a right anybody can hang a function of theirs on the table. It would run with the rights of whoever
  -- writes there.
  for v_open in select * from sync.may_hang_triggers(v_table::regclass) loop
    execute format('revoke trigger on %s from %s cascade', v_open.of_table, case when v_open.grantee = 0 then 'public' else v_open.grantee::regrole::text end);
  end loop;
  for v_released in select * from public.sync_released_entities where target_table = p_table order by entity_type loop
    v_columns := (select string_agg(quote_ident(name), ', ') from unnest(v_released.columns) name);
    execute format('grant select (id, %1$s), insert (id, %1$s), update (%1$s) on %2$s to isthmus_decisions', v_columns, v_table);
    if v_released.deletes then
      execute format('grant delete on %s to isthmus_decisions', v_table);
    end if;
  end loop;
  -- Types of extensions stand in schemas of their own, where both roles have to name them.
  for v_schema in
    select distinct n.nspname
      from public.sync_released_entities r
      join pg_attribute a on a.attrelid = to_regclass(v_table) and a.attname = any (r.columns) and a.attnum > 0 and not a.attisdropped
      join pg_type d on d.oid = a.atttypid
      join pg_type t on t.oid = coalesce(nullif(d.typbasetype, 0), d.oid)
      join pg_namespace n on n.oid = t.typnamespace
     where r.target_table = p_table and n.nspname not in ('pg_catalog', 'public') order by 1
  loop
    execute format('grant usage on schema %I to isthmus_worker, isthmus_decisions', v_schema);
  end loop;
end
$$;
comment on function sync.grant_released(text) is
  'Gives isthmus_decisions exactly the rights on a table that its releases say, and both roles the use of the '
  'schemas that its types stand in.';

create function sync.own_tables() returns text[]
language sql immutable security invoker set search_path = pg_catalog, pg_temp as $$
  select array[
    'sync_adoption_rows', 'sync_alert_deliveries', 'sync_alert_notes', 'sync_alert_settings', 'sync_alerts', 'sync_audit', 'sync_brakes', 'sync_chains', 'sync_changed_causes', 'sync_checkpoints', 'sync_conflict_values',
    'sync_conflicts', 'sync_contract_checks', 'sync_entities', 'sync_entity_shapes', 'sync_executions', 'sync_identities', 'sync_jobs', 'sync_join_rows', 'sync_page_log',
    'sync_pending_keys', 'sync_planned_records', 'sync_queue_counts', 'sync_queue_looks', 'sync_record_slots',
    'sync_released_entities', 'sync_reports', 'sync_retention', 'sync_row_states', 'sync_rule_overrides', 'sync_side_effects', 'sync_sources',
    'sync_ticks', 'sync_totals', 'sync_warnings', 'uuid_mappings_enhanced']
$$;
comment on function sync.own_tables() is
  'The tables of the sync itself, which no entity fills. An application''s own table may have any other name.';

create function sync.release_entity(p_entity text, p_table text, p_columns text[], p_deletes boolean) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_table   regclass := to_regclass(format('public.%I', p_table));
  v_former  text := (select target_table from public.sync_released_entities where entity_type = p_entity);
  v_missing text;
begin
  if p_table = any (sync.own_tables()) then
    raise exception 'public.% is a table of the sync itself', p_table
      using errcode = '22023', hint = 'Release the application''s table that the entity fills.';
  end if;
  select string_agg(quote_ident(name), ', ') into v_missing from unnest(p_columns || 'id'::text) name
   where not exists (select from pg_attribute where attrelid = v_table and attname = name and attnum > 0 and not attisdropped);
  if (select relkind from pg_class where oid = v_table) not in ('r', 'p') then
    raise exception 'public.% is no table', p_table
      using errcode = '42809', hint = 'Release the table itself: what is written through a view or a foreign table is written with other rights.';
  elsif v_table is null or v_missing is not null then
    raise exception 'public.% does not have what the entity % fills: %', p_table, p_entity, coalesce(v_missing, 'the table is missing')
      using errcode = '42703', hint = 'Correct the table or the entity file: npm run sync -- check says what does not fit.';
  end if;
  insert into public.sync_released_entities (entity_type, target_table, columns, deletes)
  values (p_entity, p_table, p_columns, p_deletes)
  on conflict (entity_type) do update
     set target_table = excluded.target_table, columns = excluded.columns, deletes = excluded.deletes, released_by = default, released_at = default;
  perform sync.grant_released(p_table);
  if v_former <> p_table then
    perform sync.grant_released(v_former);
  end if;
end
$$;
comment on function sync.release_entity(text, text, text[], boolean) is
  'The owner lets decisions on an entity read and write these columns of this table, and no others. npm run sync -- '
  'grants prints the call. Called again, it narrows as well as widens.';

create function sync.withdraw_entity(p_entity text) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_table text;
begin
  delete from public.sync_released_entities where entity_type = p_entity returning target_table into v_table;
  perform sync.grant_released(v_table);
end
$$;
comment on function sync.withdraw_entity(text) is
  'The owner takes a release back: decisions on the entity are refused from then on.';

create function sync.released_entity(p_entity_id smallint) returns public.sync_entities
language plpgsql stable security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_entity   public.sync_entities;
  v_released public.sync_released_entities;
  v_names    text[];
  v_beyond   text;
begin
  select * into strict v_entity from public.sync_entities where id = p_entity_id;
  select * into v_released from public.sync_released_entities where entity_type = v_entity.entity_type;
  v_names := array(select c ->> 'name' from jsonb_array_elements(v_entity.columns) c) || v_entity.legacy_key;
  select string_agg(distinct quote_ident(name), ', ') into v_beyond from unnest(v_names) name where name <> all (v_released.columns);
  if v_released.target_table is distinct from v_entity.target_table or v_beyond is not null then
    raise exception 'the entity % is not released as it is defined now: %', v_entity.entity_type,
      case when v_released.entity_type is null then 'nobody has released it'
           when v_released.target_table <> v_entity.target_table then 'it is released for another table'
           else 'the release lacks ' || v_beyond end
      using errcode = 'IS022', hint = 'The owner of the database runs what npm run sync -- grants prints. Nothing was changed.';
  end if;
  -- sync_entities is written by the worker: names that become SQL are the owner's, and types the catalog's.
  v_entity.target_table := v_released.target_table;
  v_entity.columns := (
    select jsonb_agg(jsonb_build_object('name', a.attname, 'type', format_type(a.atttypid, -1)) order by r.n)
      from unnest(v_released.columns) with ordinality r (name, n)
      join pg_attribute a on a.attrelid = format('public.%I', v_released.target_table)::regclass and a.attname = r.name and a.attnum > 0 and not a.attisdropped
     where r.name = any (v_names));
  return v_entity;
end
$$;
comment on function sync.released_entity(smallint) is
  'An entity with the table and columns that its owner has released. Raises IS022 when its definition goes beyond '
  'them.';

revoke all on function sync.may_hang_triggers(regclass), sync.own_tables(), sync.grant_released(text),
  sync.release_entity(text, text, text[], boolean), sync.withdraw_entity(text), sync.released_entity(smallint) from public;
grant execute on function sync.released_entity(smallint) to isthmus_worker, isthmus_decisions;
grant execute on function sync.own_tables() to isthmus_worker;

-- supabase/schemas/functions/field-slots.sql

-- Purpose: the columns that an entity fills, with the types that they have now.
-- Locks:   none.

-- format_type(oid, -1), not (oid, null): the latter calls char(n) character and bit(n) bit, which SQL reads as length
-- 1, so that a cast to either cuts in silence.
create function sync.column_types(p_table regclass) returns table (name text, type text, exact text, recast boolean)
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  with recursive step as (
    select a.attname, a.atttypid as type, a.atttypmod as modifier
      from pg_catalog.pg_attribute a where a.attrelid = p_table and a.attnum > 0 and not a.attisdropped
    union all
    select s.attname, t.typbasetype, greatest(s.modifier, t.typtypmod)
      from step s cross join lateral (select t.* from pg_catalog.pg_type t where t.oid = s.type offset 0) t where t.typtype = 'd'
  )
  select s.attname, format_type(s.type, -1), format_type(s.type, s.modifier),
         -- JSON has no bounds of arrays. Of an extension's type as to_jsonb decides it: only of types that are not
         -- PostgreSQL's own.
         t.typcategory = 'A' or t.typtype = 'c'
           or s.type >= 16384 and exists (select from pg_catalog.pg_cast k where k.castsource = s.type and k.casttarget = 'json'::regtype and k.castfunc <> 0)
    from step s cross join lateral (select t.* from pg_catalog.pg_type t where t.oid = s.type offset 0) t where t.typtype <> 'd'
$$;
comment on function sync.column_types(regclass) is
  'Columns of a table with their types, behind domains: type without its modifier, which holds every value as the '
  'source has it, and exact, which the column holds. recast: JSON would make another value of it (arrays, composite '
  'types, types of an extension that says so), so that it is kept as text there.';

-- A page asks for the types some ten times, and a look into the catalog takes milliseconds: one is enough.
create function sync.with_types(p_entity public.sync_entities) returns public.sync_entities
language plpgsql stable security invoker set search_path = pg_catalog, pg_temp as $$
begin
  p_entity.columns := (
    select jsonb_agg(d.col || jsonb_build_object('now', case when t.name is null then '{}' else to_jsonb(t) end) order by d.n)
      from jsonb_array_elements(p_entity.columns) with ordinality d (col, n)
      -- As the catalog has them now: a type may have been altered since the entity was registered.
      left join sync.column_types(to_regclass(format('public.%I', p_entity.target_table))) t on t.name = d.col ->> 'name');
  return p_entity;
end
$$;
comment on function sync.with_types(public.sync_entities) is
  'The entity, with what the catalog says of the types of its columns now (columns[].now), for the statements of one '
  'commit.';

-- The page's rows are kept under names of ours, whatever the target's columns are called.
create function sync.field_slots(p_entity public.sync_entities) returns table (name text, slot text, type text, exact text, registered text, recast boolean)
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select d.col ->> 'name', 'c' || d.n, coalesce(d.col #>> '{now,type}', d.col ->> 'type'), coalesce(d.col #>> '{now,exact}', d.col ->> 'type'), d.col ->> 'type',
         coalesce((d.col #>> '{now,recast}')::boolean, false)
    from jsonb_array_elements(case when p_entity.columns @? '$[*].now' then p_entity.columns else (sync.with_types(p_entity)).columns end) with ordinality d (col, n)
   order by d.n
$$;
comment on function sync.field_slots(public.sync_entities) is
  'The columns that an entity fills, each with the column of pg_temp.page_rows that has its new value as text, and '
  'with its types.';

revoke all on function sync.column_types(regclass), sync.with_types(public.sync_entities), sync.field_slots(public.sync_entities) from public;
grant execute on function sync.column_types(regclass), sync.with_types(public.sync_entities), sync.field_slots(public.sync_entities) to isthmus_worker, isthmus_decisions;

-- supabase/schemas/functions/columns.sql

-- Purpose: the columns that an entity fills, and the SQL that reads, compares and writes their values.

-- JSON has one null, in which NULL and the null of a JSON column would be one value.
create function sync.kept_sql(p_value text, p_type text, p_recast boolean) returns text
language sql immutable security invoker set search_path = pg_catalog, pg_temp as $$
  select case when p_recast then p_value || '::text'
              when p_type in ('json', 'jsonb') then format($q$(
                select case jsonb_typeof(k.v) when 'null' then '"null"'
                         when 'string' then case when k.v #>> '{}' ~ '^''*null$' then pg_catalog.to_jsonb('''' || (k.v #>> '{}')) else k.v end
                         else k.v end
                  from (select (%s)::jsonb as v offset 0) k)$q$, p_value)
              else p_value end
$$;
comment on function sync.kept_sql(text, text, boolean) is
  'SQL: a value of a column as it is compared, kept and shown to people. Of a JSON column the null of JSON is the '
  'text null, and a text that reads null has an apostrophe before it.';

create function sync.texts_kept(p_type text) returns text
language sql immutable security invoker set search_path = pg_catalog, pg_temp as $$
  select case when p_type in ('json', 'real', 'double precision') then 'none' when p_type in ('jsonb', 'numeric') then 'apart' else 'all' end
$$;
comment on function sync.texts_kept(text) is
  'Of two texts that a type has for one value, what is kept as JSON (sync.kept_sql) tells: all: they are two values. '
  'apart: they are equal and print differently (1.5 and 1.50). none: nothing (order, blanks and repeated keys of '
  'json, the sign of a zero).';

create function sync.reworded_sql(p_entity public.sync_entities) returns text
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select format('array_remove(array[%s], null)',
           string_agg(format('case when (p.%s)::%s::text is distinct from t.%I::text then %L end', c.slot, concat_ws('::', c.type, nullif(c.exact, c.type)), c.name, c.name), ', '))
    from sync.field_slots(p_entity) c where sync.texts_kept(c.type) <> 'all' and not c.recast
  having count(*) > 0
$$;
comment on function sync.reworded_sql(public.sync_entities) is
  'SQL: the fields of which the row t of the target has another text than its column would have of the new value p. '
  'Only those of which that may be so of equal values; null: the entity has none.';

create function sync.prints_sql(p_entity public.sync_entities) returns text
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select format('jsonb_object(%L::text[], array[%s])', pg_catalog.array_agg(c.name order by c.name),
           string_agg(format('hashtextextended(t.%I::text, 0)::text', c.name), ', ' order by c.name))
    from sync.field_slots(p_entity) c where sync.texts_kept(c.type) = 'none' and not c.recast having count(*) > 0
$$;
comment on function sync.prints_sql(public.sync_entities) is
  'SQL: of the row t of the target, the hashes of the texts that what is kept as JSON does not tell apart, by field; '
  'null: the entity has none.';

create function sync.filled_sql(p_values text, p_name text, p_type text, p_recast boolean, p_otherwise text) returns text
language sql immutable security invoker set search_path = pg_catalog, pg_temp as $$
  -- What jsonb_populate_record makes of the null of JSON is NULL, in a JSON column, too.
  select case when p_type in ('json', 'jsonb') and not p_recast then format($q$(
                select case when jsonb_typeof(k.v) = 'null' then null when k.v = '"null"' then 'null'
                         when jsonb_typeof(k.v) = 'string' and k.v #>> '{}' ~ '^''+null$' then pg_catalog.to_jsonb(substr(k.v #>> '{}', 2))
                         else k.v end
                  from (select %s -> %L as v offset 0) k)::%s$q$, p_values, p_name, p_type)
              else p_otherwise end
$$;
comment on function sync.filled_sql(text, text, text, boolean, text) is
  'SQL: what a column gets of values as they are kept (sync.kept_sql), an object. p_otherwise: where the column is '
  'no JSON.';

create function sync.json_fields(p_entity public.sync_entities) returns text[]
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select coalesce(pg_catalog.array_agg(c.name), '{}') from sync.field_slots(p_entity) c where c.type in ('json', 'jsonb') and not c.recast
$$;
comment on function sync.json_fields(public.sync_entities) is 'The JSON columns that an entity fills.';

create function sync.target_sql(p_entity public.sync_entities, p_schema text) returns text
language sql immutable security invoker set search_path = pg_catalog, pg_temp as $$
  select case when p_schema = 'pg_temp' then 'pg_temp.page_shadow' else format('public.%I', p_entity.target_table) end
$$;
comment on function sync.target_sql(public.sync_entities, text) is
  'SQL: the target table of an entity, or in a plan (p_schema: pg_temp) its shadow.';

-- Whatever the planner thinks of tables that nobody has analysed, a page looks each of its records up: it never joins
-- a whole table.
create function sync.row_probe(p_entity public.sync_entities, p_schema text, p_id text) returns text
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  -- The worker may read the columns that were granted to it, and no others.
  select format('lateral (select r.xmin, %s from %s r where r.id = %s offset 0) t', string_agg(format('r.%I', a.attname), ', '), x.target, p_id)
    from (select sync.target_sql(p_entity, p_schema) as target) x
    join pg_catalog.pg_attribute a on a.attrelid = to_regclass(x.target) and a.attnum > 0 and not a.attisdropped and has_column_privilege(a.attrelid, a.attnum, 'select')
   group by x.target
$$;
comment on function sync.row_probe(public.sync_entities, text, text) is
  'SQL, for a join: one index probe for the target row t with the id p_id, with its xmin and the columns that the '
  'caller may read. p_schema: as for sync.target_sql.';

create function sync.state_probe(p_entity public.sync_entities, p_schema text) returns text
language sql immutable security invoker set search_path = pg_catalog, pg_temp
return format('lateral (select r.* from %I.sync_row_states r where r.entity_id = %s and r.legacy_id = p._key offset 0) s', p_schema, p_entity.id);
comment on function sync.state_probe(public.sync_entities, text) is
  'SQL, for a join: one index probe for the row state s of the record p. p_schema: as for sync.target_sql.';

create function sync.hidden_fields(p_columns jsonb) returns text[]
language sql immutable security invoker set search_path = pg_catalog, pg_temp
return array(select c ->> 'name' from jsonb_array_elements(p_columns) c where (c ->> 'sensitive')::boolean);
comment on function sync.hidden_fields(jsonb) is
  'The fields of an entity, by sync_entities.columns, that are sensitive.';

create function sync.hidden_columns(p_columns jsonb) returns text[]
language sql immutable security invoker set search_path = pg_catalog, pg_temp
return array(select distinct h.name from jsonb_array_elements(p_columns) c cross join lateral jsonb_array_elements_text(c -> 'hides') h (name) order by h.name);
comment on function sync.hidden_columns(jsonb) is
  'What is read of the source, by sync_entities.columns, that nobody is shown: evidence is kept under these names.';

create function sync.owned_columns(p_entity public.sync_entities) returns text
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select string_agg(format('%s as %I', sync.kept_sql(format('t.%I', c.name), c.type, c.recast), c.name), ', ') from sync.field_slots(p_entity) c
$$;
comment on function sync.owned_columns(public.sync_entities) is
  'The columns of the target row t that the sync owns, as they are compared and kept.';

-- A hash that still fits stands for the present value; one that does not for a value of which nothing is known, '{}'.
-- The text of a jsonb is hashed: jsonb's own hash repeats itself every sixteen fields, so that two that change alike
-- cancel out.
create function sync.seen_sql() returns text
language sql immutable security invoker set search_path = pg_catalog, pg_temp
return $q$case when s.seen_hash is null then s.seen when s.seen_hash = hashtextextended(v.new::text, 0) then v.new else '{}' end$q$;
comment on function sync.seen_sql() is 'What a row state s saw, given the new values v.new.';

create function sync.left_sql() returns text
language sql immutable security invoker set search_path = pg_catalog, pg_temp
return $q$case when s.left_hash is null then s."left" when s.left_hash = hashtextextended(o.now::text, 0) then o.now else '{}' end$q$;
comment on function sync.left_sql() is 'What a row state s left in the target, given the present values o.now.';

create function sync.reworded_fields(p_entity public.sync_entities) returns jsonb
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select coalesce(jsonb_object_agg(c.name, c.type), '{}') from sync.field_slots(p_entity) c where sync.texts_kept(c.type) = 'none' and not c.recast
$$;
comment on function sync.reworded_fields(public.sync_entities) is
  'The fields, with their types, whose values may print otherwise than the source''s when they are written from what '
  'is kept as JSON.';

create function sync.loses_text(p_reworded jsonb, p_put jsonb) returns boolean
language sql immutable security invoker set search_path = pg_catalog, pg_temp as $$
  -- Of a float JSON loses the sign of zero alone; the null of JSON (sync.kept_sql) and truth values have one text.
  select exists (select from jsonb_each_text(p_reworded) f
                  where case when f.value in ('real', 'double precision') then p_put ->> f.key ~ '^-?0(\.0*)?$'
                             else p_put -> f.key not in ('null', '"null"', 'true', 'false') end)
$$;
comment on function sync.loses_text(jsonb, jsonb) is
  'Whether a value that is written from what is kept as JSON may print otherwise than the source''s. p_reworded: '
  'sync.reworded_fields; p_put: the values.';

create function sync.decided_fields(p_decided jsonb, p_decision text) returns text[]
language sql immutable security invoker set search_path = pg_catalog, pg_temp as $$
  select pg_catalog.array_agg(key order by key) from jsonb_each_text(p_decided) where value = p_decision
$$;
comment on function sync.decided_fields(jsonb, text) is
  'The fields of a record about which one thing was decided; null: none.';

create function sync.finds_legacy_ids(p_entity public.sync_entities) returns boolean
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select exists (select from pg_catalog.pg_index i join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = i.indkey[0]
                  where i.indrelid = to_regclass(format('public.%I', p_entity.target_table)) and i.indisvalid and i.indpred is null
                    and a.attname = p_entity.legacy_key)
$$;
comment on function sync.finds_legacy_ids(public.sync_entities) is
  'Whether an index of the target table leads with the legacy id.';

revoke all on function sync.reworded_fields(public.sync_entities), sync.loses_text(jsonb, jsonb),
  sync.kept_sql(text, text, boolean),
  sync.texts_kept(text), sync.filled_sql(text, text, text, boolean, text), sync.json_fields(public.sync_entities), sync.reworded_sql(public.sync_entities), sync.prints_sql(public.sync_entities), sync.target_sql(public.sync_entities, text), sync.row_probe(public.sync_entities, text, text), sync.state_probe(public.sync_entities, text),
  sync.hidden_fields(jsonb), sync.hidden_columns(jsonb), sync.owned_columns(public.sync_entities), sync.seen_sql(),
  sync.left_sql(), sync.decided_fields(jsonb, text), sync.finds_legacy_ids(public.sync_entities) from public;
grant execute on function sync.kept_sql(text, text, boolean),
  sync.texts_kept(text), sync.filled_sql(text, text, text, boolean, text), sync.json_fields(public.sync_entities), sync.reworded_sql(public.sync_entities), sync.prints_sql(public.sync_entities), sync.target_sql(public.sync_entities, text), sync.row_probe(public.sync_entities, text, text), sync.state_probe(public.sync_entities, text),
  sync.hidden_fields(jsonb), sync.hidden_columns(jsonb), sync.owned_columns(public.sync_entities), sync.seen_sql(),
  sync.left_sql(), sync.decided_fields(jsonb, text) to isthmus_worker;
grant execute on function sync.kept_sql(text, text, boolean),
  sync.texts_kept(text), sync.filled_sql(text, text, text, boolean, text), sync.owned_columns(public.sync_entities) to isthmus_decisions;
grant execute on function sync.reworded_fields(public.sync_entities), sync.loses_text(jsonb, jsonb), sync.prints_sql(public.sync_entities) to isthmus_decisions;
grant execute on function sync.finds_legacy_ids(public.sync_entities) to isthmus_worker, isthmus_decisions;

-- supabase/schemas/functions/exact-values.sql

-- Purpose: the SQL that tells whether a column holds the value of a text exactly: neither cut, rounded, padded nor
--          read otherwise.
-- Locks:   none.

create function sync.exact_type(p_type oid, p_modifier integer, out type text, out exact text)
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  with recursive step as (
    select p_type as type, p_modifier as modifier
    union all
    select t.typbasetype, greatest(s.modifier, t.typtypmod) from step s cross join lateral (select t.* from pg_catalog.pg_type t where t.oid = s.type offset 0) t where t.typtype = 'd'
  )
  select format_type(s.type, -1), format_type(s.type, s.modifier)
    from step s cross join lateral (select t.* from pg_catalog.pg_type t where t.oid = s.type offset 0) t where t.typtype <> 'd'
$$;
comment on function sync.exact_type(oid, integer) is
  'What stands behind a domain: the type without a modifier, and with the one that counts.';

create function sync.record_texts(p_record text) returns text[]
language sql immutable security invoker set search_path = pg_catalog, pg_temp as $$
  select pg_catalog.array_agg(case when f.field = '' then null
                        when left(f.field, 1) = '"' then regexp_replace(replace(substr(f.field, 2, length(f.field) - 2), '""', '"'), '\\(.)', '\1', 'g')
                        else f.field end order by m.n)
    from regexp_matches(',' || substr(p_record, 2, length(p_record) - 2), ',((?:"(?:[^"\\]|""|\\.)*"|\\.|[^,"\\])*)', 'g') with ordinality m (parts, n)
    cross join lateral (select m.parts[1] as field) f
$$;
comment on function sync.record_texts(text) is
  'The attributes of a composite value, each as text, from the value as PostgreSQL writes it.';

create function sync.range_bounds(p_range text) returns text[]
language sql immutable security invoker set search_path = pg_catalog, pg_temp as $$
  select pg_catalog.array_agg(b.value)
    from regexp_matches(p_range, '[[(]((?:"(?:[^"\\]|""|\\.)*"|\\.|[^])"\\])*)[])]', 'g') r (parts)
    cross join lateral pg_catalog.unnest(sync.record_texts('(' || r.parts[1] || ')')) b (value)
$$;
comment on function sync.range_bounds(text) is
  'The bounds of a range, or of all ranges of a multirange, each as text, null where there is none.';

create function sync.has_unique_keys(p_value json) returns boolean
language sql immutable security invoker set search_path = pg_catalog, pg_temp as $$
  with recursive parts (value) as (
    select p_value
    union all
    select c.value from parts p cross join lateral (
      select value from json_each(case json_typeof(p.value) when 'object' then p.value else '{}' end)
      union all
      select value from json_array_elements(case json_typeof(p.value) when 'array' then p.value else '[]' end)) c
  )
  select bool_and((select count(*) = count(distinct k) from json_object_keys(case json_typeof(value) when 'object' then value else '{}' end) k)) from parts
$$;
comment on function sync.has_unique_keys(json) is
  'Whether no object within has a key twice. From PostgreSQL 16 on the server tells that itself: is json with unique '
  'keys.';

create function sync.fits_scalar_sql(p_name text, p_type text, p_exact text, p_padded text) returns text
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select '(' || string_agg(format(c.condition, p_name, p_type, p_exact), ' and ') || ')'
    from (select '(\d{4,7}-\d\d?-\d\d?|\d{4,7}/\d\d?/\d\d?|\d{8})' as day, '\d\d?:[0-5]\d(:[0-5]\d(\.\d+)?)?' as hour,
                 'T\d\d[0-5]\d[0-5]\d(\.\d+)?' as basic, ' ?([-+]\d\d(:?\d\d){0,2}|z|utc|gmt)' as zone, '( (bc|ad))?' as era,
                 -- PostGIS writes bytes and reads words.
                 to_regtype(p_type)::oid in (select y.oid from pg_catalog.pg_type y where y.typname in ('geometry', 'geography')) as spatial) v
    left join pg_catalog.pg_type t on t.oid = to_regtype(p_type)
    cross join lateral (values
      -- What these types read from a text they cut, round or move to another zone without an error.
      (p_type = 'real', '(p.%1$I)::real::text::numeric = (p.%1$I)::numeric'),
      (p_type = 'double precision', '(p.%1$I)::double precision::text::numeric = (p.%1$I)::numeric'),
      -- A comma of a decimal is dropped among those between thousands.
      (p_type = 'money', $c$p.%1$I ~ '^\s*[-+]?\$?(\d+|\d{1,3}(,\d{3})+)(\.\d{0,2}0*)?\s*$'$c$),
      -- Numbers read as very large ones, or by their first digits; positions that are cut; words that stand twice.
      (p_type in ('oid', 'xid', 'xid8', 'cid', 'tid', 'pg_snapshot', 'txid_snapshot', 'tsvector'), '(p.%1$I)::%2$s::text = p.%1$I'),
      -- What PostgreSQL does not bring itself it knows nothing of: such a text has to be as the type writes it.
      -- Between the numbers of a list blanks say nothing.
      (t.oid >= 16384 and t.typtype = 'b' and not v.spatial, $c$case when p.%1$I !~ '^[-+.,:;/(){}\[\]0-9eE ]*$' then (p.%1$I)::%2$s::text = p.%1$I
        else regexp_replace((p.%1$I)::%2$s::text, ' *([,:;(){}\[\]]) *', '\1', 'g') = regexp_replace(p.%1$I, ' *([,:;(){}\[\]]) *', '\1', 'g') end$c$),
      -- Texts of bytes are written in two ways, bits in three: what is meant only digits tell.
      (p_type = 'bytea', $c$p.%1$I ~ '^\\x([0-9A-Fa-f]{2})*$'$c$),
      (p_type in ('bit', 'bit varying'), $c$p.%1$I ~ '^[01]*$'$c$),
      -- Of shapes the numbers are rounded; a line is computed from its two points.
      (p_type in ('point', 'line', 'lseg', 'box', 'box[]', 'path', 'polygon', 'circle') or v.spatial,
       $c$case when p.%1$I ~ '^[0-9A-Fa-f]*$' then true else (
            select coalesce(bool_and(m.n[1]::double precision::text::numeric = m.n[1]::numeric), true)
              from regexp_matches(p.%1$I, '(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?', 'gi') m (n)) end$c$),
      (p_type = 'line', $c$p.%1$I ~ '^\s*\{'$c$),
      -- A network without a length gets one by its class, and an address of six bytes two more.
      (p_type = 'cidr', $c$p.%1$I ~ '[:/]|^(\d+\.){3}\d+$'$c$),
      (p_type = 'macaddr8', $c$length(regexp_replace(p.%1$I, '[^0-9A-Fa-f]', '', 'g')) = 16$c$),
      (p_type = 'name', '(p.%1$I)::name::text = p.%1$I'),
      (p_type = '"char"', '(p.%1$I)::"char"::text = p.%1$I'),
      -- No time is finer than a microsecond.
      (p_type in ('timestamp without time zone', 'timestamp with time zone', 'time without time zone', 'time with time zone', 'interval'),
       $c$p.%1$I !~ '\.\d{6}\d*[1-9]'$c$),
      -- Of a key that stands twice one value is dropped.
      (p_type = 'jsonb' and current_setting('server_version_num')::integer >= 160000, 'p.%1$I is json with unique keys'),
      (p_type = 'jsonb' and current_setting('server_version_num')::integer < 160000, 'sync.has_unique_keys((p.%1$I)::json)'),
      -- Days and times year first, as ISO 8601 has them: others are read in one order of several, and words (now,
      -- tomorrow) as another day at each reading. A zone stands where the type has one, and nowhere else. No minute
      -- has a sixty-first second.
      (p_type = 'date', 'p.%1$I ~* ' || quote_literal('^\s*([-+]?infinity|' || v.day || '([ T]0?0:00(:00(\.0+)?)?)?' || v.era || ')\s*$')),
      (p_type = 'time without time zone', 'p.%1$I ~ ' || quote_literal('^\s*' || v.hour || '\s*$')),
      (p_type = 'time with time zone', 'p.%1$I ~* ' || quote_literal('^\s*' || v.hour || v.zone || '\s*$')),
      (p_type = 'timestamp without time zone', 'p.%1$I ~* ' || quote_literal('^\s*([-+]?infinity|' || v.day || '([ T]' || v.hour || '|' || v.basic || ')?' || v.era || ')\s*$')),
      (p_type = 'timestamp with time zone', 'p.%1$I ~* ' || quote_literal('^\s*([-+]?infinity|' || v.day || '([ T]' || v.hour || '|' || v.basic || ')' || v.zone || v.era || ')\s*$')),
      -- A part of a year or a month is rounded; whoever means hours can say so. Two numbers are hours and minutes, or
      -- minutes and seconds.
      (p_type = 'interval', $c$p.%1$I !~* '\.\d*[1-9]\d*\s*(?!s|ago)[a-z]|(^|[^:0-9])\d+:\d+(\.\d*)?([^:.0-9]|$)'$c$),
      -- Blanks at the end would be lost among those that the type pads with, where they are not such themselves.
      (p_exact <> p_type and p_type = 'bpchar' and p_padded = 'no', 'right(p.%1$I, 1) <> '' '''),
      (p_exact <> p_type and p_type = 'bpchar' and p_padded = 'perhaps', format('length(p.%%1$I) <= %s', substring(p_exact from '\d+'))),
      -- What a modifier would cut, round or pad. Texts need no operator of the type, whose schema no search path of
      -- ours may have; only a number has more than one.
      (p_exact <> p_type and p_type <> 'numeric', '(p.%1$I)::%2$s::text = (p.%1$I)::%2$s::%3$s::text'),
      (p_exact <> p_type and p_type = 'numeric', '(p.%1$I)::%2$s = (p.%1$I)::%2$s::%3$s')) c (applies, condition)
   where c.applies
$$;
comment on function sync.fits_scalar_sql(text, text, text, text) is
  'What sync.fits_sql returns of a type that has no parts. p_padded: whether blanks at the end of the text are those '
  'with which a char(n) pads: no, yes, perhaps.';

create function sync.fits_range_sql(p_name text, p_type text) returns text
language plpgsql stable security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_bound text;
begin
  select sync.fits_sql('value', d.type, d.exact, 'true') into v_bound
    from pg_catalog.pg_range r cross join lateral sync.exact_type(r.rngsubtype, -1) d
   where to_regtype(p_type) in (r.rngtypid, r.rngmultitypid);
  -- Bounds between which nothing lies are dropped.
  return '(' || format($c$(p.%1$I ~* '^\s*(empty|\{\s*\})\s*$' or not isempty((p.%1$I)::%2$s))$c$, p_name, p_type)
    || case when v_bound is null then ''
         else format(' and (select coalesce(bool_and(%s is not false), true) from (select pg_catalog.unnest(sync.range_bounds(p.%I)) as value) p)', v_bound, p_name) end || ')';
end
$$;
comment on function sync.fits_range_sql(text, text) is
  'What sync.fits_sql returns of ranges and multiranges: whether each bound is held, and something lies between '
  'them.';

create function sync.fits_sql(p_name text, p_type text, p_exact text, p_padded jsonb default null, p_path text default '') returns text
language plpgsql stable security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_type    pg_catalog.pg_type;
  v_element record;
  v_part    text;
begin
  select * into v_type from pg_catalog.pg_type where oid = to_regtype(p_type);
  if v_type.typtype = 'c' then
    select string_agg(format('(select coalesce(%s, true) from (select (sync.record_texts(p.%I))[%s] as value) p)', a.fits, p_name, a.n), ' and ') into v_part
      from (select a.n, sync.fits_sql('value', d.type, d.exact, p_padded, p_path || '.' || a.n) as fits
              from (select a.atttypid, a.atttypmod, row_number() over (order by a.attnum) as n from pg_catalog.pg_attribute a
                     where a.attrelid = v_type.typrelid and a.attnum > 0 and not a.attisdropped) a
              cross join lateral sync.exact_type(a.atttypid, a.atttypmod) d) a
     where a.fits is not null;
    return '(' || v_part || ')';
  end if;
  select e.oid, e.typtype into v_element from pg_catalog.pg_type e where e.oid = v_type.typelem and e.typarray = v_type.oid and e.typdelim = ',' and v_type.typtype = 'b';
  if found then
    select coalesce(sync.fits_sql('value', x.type, x.exact, p_padded, p_path || '[]'), 'true') into v_part
      from (select case when v_element.typtype = 'd' then d.type else left(p_type, -2) end as type,
                   case when v_element.typtype = 'd' then d.exact else left(p_exact, -2) end as exact
              from sync.exact_type(v_element.oid, -1) d) x;
    return case when v_part <> 'true' then
      format('(select coalesce(bool_and(%s is not false), true) from (select pg_catalog.unnest((p.%I)::text[]) as value) p)', v_part, p_name) end;
  elsif v_type.typtype in ('r', 'm') then
    return sync.fits_range_sql(p_name, p_type);
  end if;
  return sync.fits_scalar_sql(p_name, p_type, p_exact,
    case when jsonb_typeof(p_padded) = 'array' then case when p_padded ? p_path then 'yes' when p_padded ? '*' and not p_padded ? ('!' || p_path) then 'perhaps' else 'no' end
         when p_padded = 'true' or p_path <> '' then 'perhaps' else 'no' end);
end
$$;
comment on function sync.fits_sql(text, text, text, jsonb, text) is
  'SQL over the text p.<p_name>: whether a column of that type holds the value exactly, its elements and attributes, '
  'too; null where every value that can be read as the type fits. p_padded: the parts of the text (at p_path: [] '
  'elements, .n attributes) that have the blanks with which a char(n) pads, as sync.padded_parts has them, *: any '
  'other may have them, too, but for those with a ! before them, because the value is computed from such parts; '
  'null: nobody knows of any part; true: the whole text may have them, as in JSON. A char(n) of the source that is '
  'no part is read without its own. Time zone UTC.';

create function sync.padded_parts(p_entity public.sync_entities) returns jsonb
language sql stable security invoker set search_path = pg_catalog, pg_temp
return (select h.padded from public.sync_entity_shapes h where h.entity_id = p_entity.id);
comment on function sync.padded_parts(public.sync_entities) is
  'Which parts of the source''s values are char(n), by field, for sync.fits_sql; of a field that is missing nobody '
  'knows.';

revoke all on function sync.exact_type(oid, integer), sync.record_texts(text), sync.range_bounds(text), sync.has_unique_keys(json),
  sync.fits_scalar_sql(text, text, text, text), sync.fits_range_sql(text, text), sync.fits_sql(text, text, text, jsonb, text), sync.padded_parts(public.sync_entities) from public;
grant execute on function sync.exact_type(oid, integer), sync.record_texts(text), sync.range_bounds(text), sync.has_unique_keys(json),
  sync.fits_scalar_sql(text, text, text, text), sync.fits_range_sql(text, text), sync.fits_sql(text, text, text, jsonb, text), sync.padded_parts(public.sync_entities) to isthmus_worker;
grant execute on function sync.exact_type(oid, integer), sync.record_texts(text), sync.range_bounds(text), sync.has_unique_keys(json),
  sync.fits_scalar_sql(text, text, text, text), sync.fits_range_sql(text, text), sync.fits_sql(text, text, text, jsonb, text) to isthmus_decisions;

-- supabase/schemas/functions/registration.sql

-- Purpose: write the entity definitions from the code into sync_entities with the types of their columns, and
--          open an entity for minting once its target is known to hold no ids that would have to be adopted.
-- Locks:   row locks on sync_entities.

create function sync.register_entities(p_source_id smallint, p_definitions jsonb) returns void
language sql security invoker set search_path = pg_catalog, pg_temp as $$
  insert into public.sync_entities as e
    (source_id, entity_type, source_table, target_table, legacy_key, depends_on, columns, rules, on_delete, conflicts, predicate, history,
     definition_hash)
  select p_source_id, d.body ->> 'entity_type', d.body ->> 'source_table', d.body ->> 'target_table', d.body ->> 'legacy_key',
         array(select jsonb_array_elements_text(d.body -> 'depends_on')),
         c.columns, d.body -> 'rules', d.body -> 'on_delete', d.body -> 'conflicts', nullif(d.body -> 'predicate', 'null'), d.body ->> 'history',
         d.body ->> 'definition_hash'
    from jsonb_array_elements(p_definitions) with ordinality d (body, n)
    cross join lateral (
      select jsonb_agg(o.col || jsonb_build_object('type', t.type) order by o.n) as columns
        from jsonb_array_elements(d.body -> 'columns') with ordinality o (col, n)
        left join sync.column_types(to_regclass(format('public.%I', d.body ->> 'target_table'))) t on t.name = o.col ->> 'name' offset 0) c
   where not exists (select from public.sync_entities k
                      where k.source_id = p_source_id and k.entity_type = d.body ->> 'entity_type'
                        and k.definition_hash = d.body ->> 'definition_hash' and k.columns = c.columns)
   order by d.n
  on conflict (source_id, entity_type) do update
     set source_table = excluded.source_table, target_table = excluded.target_table,
         legacy_key = excluded.legacy_key, depends_on = excluded.depends_on, columns = excluded.columns, rules = excluded.rules,
         on_delete = excluded.on_delete, conflicts = excluded.conflicts, predicate = excluded.predicate, history = excluded.history,
         definition_hash = excluded.definition_hash, updated_at = now(),
         mask_from = case when sync.hidden_fields(excluded.columns) <@ sync.hidden_fields(e.columns)
                           and sync.hidden_columns(excluded.columns) <@ sync.hidden_columns(e.columns) then e.mask_from else -9223372036854775808 end
   where e.definition_hash is distinct from excluded.definition_hash or e.columns is distinct from excluded.columns
$$;
comment on function sync.register_entities(smallint, jsonb) is
  'Writes the entity definitions that have changed, and resolves their column types from the catalog. A column that '
  'is missing has none: the check of the contract keeps its entity from running.';

create function sync.open_entity(p_entity_id smallint, p_dry_run boolean) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_entity public.sync_entities;
  v_any    boolean;
begin
  select * into strict v_entity from public.sync_entities where id = p_entity_id for update;
  if v_entity.adoption_epoch > 0 then
    return;
  end if;
  execute format('select exists (select from public.%I)', v_entity.target_table) into v_any;
  if v_any then
    raise exception 'entity %: public.% already holds rows whose ids have not been adopted',
      v_entity.entity_type, v_entity.target_table
      using errcode = 'IS021',
            hint = format('Nothing was written. New ids beside existing rows would double them. Look with npm run sync -- adopt %1$s --dry-run, take them over with npm run sync -- adopt %1$s; only where nobody needs these rows, empty the table instead.', v_entity.entity_type);
  end if;
  update public.sync_entities set adoption_epoch = 1, adopted_at = now() where id = p_entity_id and not p_dry_run;
end
$$;
comment on function sync.open_entity(smallint, boolean) is
  'Allows minting for an entity whose target table is empty. Raises IS021 when it holds rows nobody has adopted. '
  'p_dry_run: only tells whether it would.';

revoke all on function sync.register_entities(smallint, jsonb), sync.open_entity(smallint, boolean) from public;
grant execute on function sync.register_entities(smallint, jsonb), sync.open_entity(smallint, boolean) to isthmus_worker;

-- supabase/schemas/functions/entity-shapes.sql

-- Purpose: which columns, types and files the rows of an entity stood in when both sides were last compared: what
--          changes rows without writing them (columns dropped and added again, renamed or retyped, renamed members of
--          enums, attached partitions, a reload) changes these.

-- Numbers of the catalog are never given twice within a table, a type or a database, names are.
create function sync.target_shapes(p_source_id smallint, p_entities text[]) returns table (entity_id smallint, shape jsonb)
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  with recursive entities as (
    select e.id, to_regclass(format('public.%I', e.target_table))::oid as root, array(select c ->> 'name' from jsonb_array_elements(e.columns) c) as owned
      from public.sync_entities e where e.source_id = p_source_id and e.entity_type = any (p_entities)
  ), members as (
    select id, root as relid from entities where root is not null
    union
    select m.id, i.inhrelid from members m join pg_inherits i on i.inhparent = m.relid
  ), fields as (
    select m.id, m.relid, a.attname, a.attnum, a.atttypid, a.atttypmod, a.attgenerated
      from entities e join members m on m.id = e.id
      join pg_attribute a on a.attrelid = m.relid and a.attname = any (e.owned) and a.attnum > 0 and not a.attisdropped
  ), made (whole, type) as (
    select distinct atttypid, atttypid from fields
    union
    -- What a value of a type is made of.
    select y.whole, part.type from made y join pg_type t on t.oid = y.type
      cross join lateral (
        select t.typbasetype as type where t.typtype = 'd'
        union all select t.typelem where t.typlen = -1 and t.typelem <> 0
        union all select r.rngsubtype from pg_range r where r.rngtypid = t.oid
        union all select a.atttypid from pg_attribute a where t.typtype = 'c' and a.attrelid = t.typrelid and a.attnum > 0 and not a.attisdropped) part
  ), parts (whole, what, identity) as (
    select y.whole, 'member ' || n.oid::text, n.enumlabel::text from made y join pg_enum n on n.enumtypid = y.type
    union all select y.whole, 'attribute ' || a.attrelid::text || '.' || a.attnum::text, concat_ws('/', a.attname, a.atttypid, a.attisdropped)
      from made y join pg_type t on t.oid = y.type and t.typtype = 'c' join pg_attribute a on a.attrelid = t.typrelid and a.attnum > 0
  ), identities (id, name, what, identity) as (
    select id, attname, 'number ' || relid, attnum::text from fields
    union all select id, attname, 'type ' || relid, concat_ws('/', atttypid, atttypmod, nullif(attgenerated, '')) from fields
    union all select f.id, f.attname, p.what, p.identity from fields f join parts p on p.whole = f.atttypid
  ), columns as (
    select c.id, jsonb_object_agg(c.name, c.identities) as identities
      from (select id, name, jsonb_object_agg(what, identity) as identities from identities group by id, name) c group by c.id
  ), files as (
    select m.id, md5(string_agg(concat_ws('/', c.oid, c.relfilenode), ' ' order by c.oid)) as rows
      from members m join pg_class c on c.oid = m.relid group by m.id
  ), called (id, function) as (
    -- What generated columns compute with; of functions whose bodies the catalog reads, what they call, too. What
    -- defaults, checks, indexes and domains call changes no row that is there.
    select m.id, d.refobjid
      from members m
      join pg_attribute a on a.attrelid = m.relid and a.attgenerated <> '' join pg_attrdef x on x.adrelid = a.attrelid and x.adnum = a.attnum
      join pg_depend d on d.classid = 'pg_attrdef'::regclass and d.objid = x.oid and d.refclassid = 'pg_proc'::regclass
    union
    select c.id, d.refobjid from called c
      join pg_depend d on d.classid = 'pg_proc'::regclass and d.objid = c.function and d.refclassid = 'pg_proc'::regclass
  ), bodies as (
    select c.id, md5(string_agg(concat_ws('/', p.oid, p.prosrc, pg_get_function_sqlbody(p.oid), p.probin, p.proconfig::text), ' ' order by p.oid)) as functions
      from called c join pg_proc p on p.oid = c.function group by c.id
  )
  select e.id, jsonb_build_object('columns', coalesce(c.identities, '{}'), 'files', jsonb_build_object('rows', f.rows, 'functions', coalesce(b.functions, '')))
    from entities e join files f on f.id = e.id left join columns c on c.id = e.id left join bodies b on b.id = e.id
$$;
comment on function sync.target_shapes(smallint, text[]) is
  'The shapes of the target tables of entities: where the values of the columns that they fill stand, and in which '
  'files, those of partitions and children too; and the bodies of the functions that their generated columns call.';

create function sync.reshaped_columns(p_before jsonb, p_now jsonb) returns text[]
language sql immutable security invoker set search_path = pg_catalog, pg_temp as $$
  select coalesce(pg_catalog.array_agg(distinct c.key order by c.key), '{}')
    from (
      select b.key
        from jsonb_each(p_before -> 'columns') b
        cross join lateral jsonb_each_text(b.value) w
        cross join lateral (select p_now -> 'columns' -> b.key ->> w.key as identity) n
       -- A type that changes with the file staying only reads differently.
       where n.identity <> w.value and (w.key not like 'type %' or p_before -> 'files' ->> 'rows' is distinct from p_now -> 'files' ->> 'rows')
      union
      -- What is new says nothing of older values, but for an attribute, which every value of its type has at once.
      select b.key
        from jsonb_each(p_before -> 'columns') b
        cross join lateral jsonb_each_text(p_now -> 'columns' -> b.key) n
       where n.key like 'attribute %' and not b.value ? n.key) c
$$;
comment on function sync.reshaped_columns(jsonb, jsonb) is
  'The columns of which a value may be another one in the second shape, without anybody having written it.';

create function sync.has_moved(p_before jsonb, p_now jsonb) returns boolean
language sql immutable security invoker set search_path = pg_catalog, pg_temp as $$
  select sync.reshaped_columns(p_before, p_now) <> '{}'
      or exists (select from jsonb_each(p_before -> 'files') b where p_now -> 'files' -> b.key <> b.value)
$$;
comment on function sync.has_moved(jsonb, jsonb) is
  'Whether rows may be others in the second shape than in the first, without anybody having written them.';

create function sync.look_at_shapes(p_source_id smallint, p_entities text[], p_source jsonb)
returns table (entity text, target jsonb, source jsonb, target_moved boolean, source_moved boolean)
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  -- Entities of which some part of a value was padded by the source and is no longer, or the other way round.
  v_padded smallint[] := array(
    select e.id from public.sync_entities e join public.sync_entity_shapes h on h.entity_id = e.id
     where e.source_id = p_source_id and e.entity_type = any (p_entities) and p_source ? e.entity_type::text
       and exists (select from jsonb_each(h.padded) b where p_source -> e.entity_type::text -> 'padded' -> b.key is distinct from b.value));
begin
  -- Whether blanks belong to a value was told by what is true no longer, of records that have landed since, too;
  -- their hashes do not say it: all are read again.
  update public.sync_chains set definition_hash = 'mixed' where entity_id = any (v_padded) and closed_at is null;
  update public.sync_checkpoints k set definition_hash = 'reread:' || k.definition_hash
    from public.sync_entities e
   where e.id = any (v_padded) and k.source_id = e.source_id and k.entity_type = e.entity_type and k.definition_hash !~ '^(mixed$|unfinished$|reread:|none)';
  insert into public.sync_entity_shapes as h (entity_id, target, target_compared, padded)
  select n.entity_id, n.shape,
         -- Somebody has removed what was known of an entity that has run: then nothing is known to have been compared.
         case when k.entity_type is null then n.shape else '{"columns": {}, "files": {"rows": "unknown"}}' end,
         coalesce(p_source -> e.entity_type::text -> 'padded', '{}')
    from sync.target_shapes(p_source_id, p_entities) n join public.sync_entities e on e.id = n.entity_id
    left join public.sync_checkpoints k on k.source_id = e.source_id and k.entity_type = e.entity_type
   order by n.entity_id
  on conflict (entity_id) do update
     set target = excluded.target, padded = excluded.padded,
         -- The clock after the catalog was read: what a page has written that began later, it has written into these
         -- columns.
         reshaped = h.reshaped || (select coalesce(jsonb_object_agg(name, jsonb_build_object('at', clock_timestamp(), 'since', pg_snapshot_xmax(pg_current_snapshot())::text)), '{}')
                                     from pg_catalog.unnest(sync.reshaped_columns(h.target, excluded.target)) name)
   where h.target <> excluded.target or h.padded <> excluded.padded;
  return query
  select e.entity_type::text, h.target, (p_source -> e.entity_type::text) - 'padded', sync.has_moved(h.target_compared, h.target),
         coalesce(sync.has_moved(h.source_compared, p_source -> e.entity_type::text), false)
    from public.sync_entities e join public.sync_entity_shapes h on h.entity_id = e.id
   where e.source_id = p_source_id and e.entity_type = any (p_entities);
end
$$;
comment on function sync.look_at_shapes(smallint, text[], jsonb) is
  'Notes the shapes of entities'' target tables, which columns are others than before, and which parts of values are '
  'padded (where these are others, the entity is read again in full); returns the shapes, and whether either side''s '
  'is another than when it was compared last. p_source: {entity: shape of the tables that it reads, with padded}.';

create function sync.plan_shapes(p_source_id smallint, p_execution uuid, p_shapes jsonb) returns void
language sql security invoker set search_path = pg_catalog, pg_temp as $$
  update public.sync_entity_shapes h
     set planned = jsonb_build_object('execution', p_execution, 'target', p.target, 'source', p.source),
         -- Of the first execution, which reads everything.
         source_compared = coalesce(h.source_compared, p.source)
    from jsonb_to_recordset(p_shapes) as p (entity text, target jsonb, source jsonb)
    join public.sync_entities e on e.source_id = p_source_id and e.entity_type = p.entity
   where h.entity_id = e.id
$$;
comment on function sync.plan_shapes(smallint, uuid, jsonb) is
  'Keeps the shapes in which an execution will have compared its entities: [{entity, target, source}].';

create function sync.keep_compared(p_execution uuid) returns void
language sql security invoker set search_path = pg_catalog, pg_temp as $$
  update public.sync_entity_shapes
     set target_compared = planned -> 'target', source_compared = planned -> 'source', planned = null
   where planned ->> 'execution' = p_execution::text
$$;
comment on function sync.keep_compared(uuid) is
  'An execution has succeeded: the shapes that it was planned with have been compared.';

create function sync.writer_sql(p_entity public.sync_entities, p_schema text) returns text
language sql immutable security invoker set search_path = pg_catalog, pg_temp as $$
  -- A plan's copy of a row was written by the plan.
  select case when p_schema = 'pg_temp' then format('(select isthmus_row.xmin from public.%I isthmus_row where isthmus_row.id = t.id)', p_entity.target_table)
              else 't.xmin' end
$$;
comment on function sync.writer_sql(public.sync_entities, text) is
  'SQL: which transaction has written the target row t.';

create function sync.untouched_sql(p_entity public.sync_entities, p_schema text) returns text
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select format('(%1$s = s.written_by and age(%1$s) < %2$s)', sync.writer_sql(p_entity, p_schema),
                least(2147483647, pg_snapshot_xmax(pg_current_snapshot())::text::bigint - x.written_since::text::bigint))
    from public.sync_sources x where x.id = p_entity.source_id
$$;
comment on function sync.untouched_sql(public.sync_entities, text) is
  'SQL: whether nobody has written the target row t since it was as the row state s says. False says nothing: then '
  'it is compared. True says nothing of columns that DDL has changed.';

create function sync.as_left_sql(p_entity public.sync_entities) returns text
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select case when exists (select from public.sync_entity_shapes h where h.entity_id = p_entity.id and sync.has_moved(h.target_compared, h.target)) then 'false'
              else sync.untouched_sql(p_entity, 'public') end
$$;
comment on function sync.as_left_sql(public.sync_entities) is
  'SQL: whether the target row t is as the row state s says, because nobody has written it and no DDL has been '
  'there. False says nothing: then it is compared.';

create function sync.texts_moved(p_entity public.sync_entities) returns boolean
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select exists (select from public.sync_entity_shapes h where h.entity_id = p_entity.id and sync.has_moved(h.target_compared, h.target))
      or exists (select from public.sync_checkpoints k
                  where k.source_id = p_entity.source_id and k.entity_type = p_entity.entity_type and k.definition_hash <> p_entity.definition_hash)
$$;
comment on function sync.texts_moved(public.sync_entities) is
  'Whether texts of equal values may be others although neither the source nor anybody in the target has changed the '
  'record: by DDL, or by another definition.';

create function sync.texts_sql(p_entity public.sync_entities, p_schema text, p_all boolean) returns text
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select format('case when t.id is not null%s then %s end',
           -- A row that nobody has written since has the texts of the source that it was written from, but for what
           -- is told of it.
           case when p_all or sync.texts_moved(p_entity) then ''
                else format(' and (p._digest is distinct from s.source_digest or %s is not true%s)', sync.untouched_sql(p_entity, p_schema), (
                  select format($q$ or (select w.rule from public.sync_warnings w where w.entity_id = %s and w.legacy_id = p._key and w.rule like 'written\_otherwise: %%' limit 1) is not null$q$, p_entity.id)
                   where exists (select from public.sync_warnings w where w.entity_id = p_entity.id and w.rule like 'written\_otherwise: %'))) end,
           r.texts)
    from (select sync.reworded_sql(p_entity) as texts) r where r.texts is not null
$$;
comment on function sync.texts_sql(public.sync_entities, text, boolean) is
  'SQL over the new value p, target row t and row state s: sync.reworded_sql, and null where that is not asked, '
  'because nothing can have changed a text. p_all: it is asked of every row. Null: the entity has no such field.';

create function sync.reshaped_sql(p_entity public.sync_entities, p_schema text) returns text
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select format($q$
      cross join lateral (
        select coalesce(pg_catalog.array_agg(f.name), '{}') as fields, coalesce(bool_and(f.untouched), false) as untouched
          from (select c.name, %4$s as untouched
                  from unnest(%1$L::text[], %2$L::timestamptz[], %3$L::xid[]) c (name, at, since)
                 where s.synced_at < c.at and l.now -> c.name is distinct from l."left" -> c.name
                   and (%4$s or age(%5$s) > age(c.since))) f) d $q$,
      pg_catalog.array_agg(r.key), pg_catalog.array_agg(r.value ->> 'at'), pg_catalog.array_agg((r.value ->> 'since')::xid8::xid), sync.untouched_sql(p_entity, p_schema),
      sync.writer_sql(p_entity, p_schema))
    from public.sync_entity_shapes h, jsonb_each(h.reshaped) r
   where h.entity_id = p_entity.id
     -- Beyond that the ages of transactions are not comparable.
     and pg_snapshot_xmax(pg_current_snapshot())::text::bigint - (r.value ->> 'since')::bigint < 2147483647
  having count(*) > 0
$$;
comment on function sync.reshaped_sql(public.sync_entities, text) is
  'SQL, joined to target row t, row state s and l (now, left): d.fields, which differ from what was left by DDL as '
  'it seems, and whether d.untouched, so that it must have been. What people have written since it was noticed '
  'counts as theirs. Null: no column was changed by DDL.';

create function sync.left_or_reshaped_sql() returns text
language sql immutable security invoker set search_path = pg_catalog, pg_temp
return $q$case when d.fields = '{}' then l."left" when not d.untouched then l."left" - d.fields
               when s.left_hash is null then l."left" || sync.pick(l.now, d.fields) else l.now end$q$;
comment on function sync.left_or_reshaped_sql() is
  'SQL over s, l and d of sync.reshaped_sql: what the sync left. What DDL made of a row that nobody has written is '
  'nobody''s edit; of another row it is not known.';

revoke all on function sync.target_shapes(smallint, text[]), sync.reshaped_columns(jsonb, jsonb), sync.has_moved(jsonb, jsonb),
  sync.look_at_shapes(smallint, text[], jsonb), sync.plan_shapes(smallint, uuid, jsonb), sync.keep_compared(uuid),
  sync.untouched_sql(public.sync_entities, text), sync.as_left_sql(public.sync_entities), sync.writer_sql(public.sync_entities, text),
  sync.texts_moved(public.sync_entities), sync.texts_sql(public.sync_entities, text, boolean), sync.reshaped_sql(public.sync_entities, text), sync.left_or_reshaped_sql() from public;
grant execute on function sync.target_shapes(smallint, text[]), sync.reshaped_columns(jsonb, jsonb), sync.has_moved(jsonb, jsonb),
  sync.look_at_shapes(smallint, text[], jsonb), sync.plan_shapes(smallint, uuid, jsonb), sync.keep_compared(uuid),
  sync.untouched_sql(public.sync_entities, text), sync.as_left_sql(public.sync_entities), sync.writer_sql(public.sync_entities, text),
  sync.texts_moved(public.sync_entities), sync.texts_sql(public.sync_entities, text, boolean), sync.reshaped_sql(public.sync_entities, text), sync.left_or_reshaped_sql() to isthmus_worker;

-- supabase/schemas/functions/identities.sql

-- Purpose: which databases and which installation of the functions belong together. One that is new is a question to
--          a person.

create function sync.known_identity(p_source_id smallint, p_side text) returns text
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select identity from public.sync_identities
   where source_id = p_source_id and side = p_side and accepted_at is not null order by accepted_at desc limit 1
$$;
comment on function sync.known_identity(smallint, text) is
  'The identity of one side that was accepted last. Null: none has been met yet.';

create function sync.is_new_identity(p_source_id smallint, p_side text, p_identity text) returns boolean
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select case
    -- Each restore is asked about once.
    when p_side = 'target_state' then not exists (
      select from public.sync_identities
       where source_id = p_source_id and side = p_side and identity = p_identity and accepted_at is not null)
    -- One database has several addresses: of its nodes, of a pooler.
    when p_side in ('source_address', 'target_address')
     and exists (select from public.sync_identities
                  where source_id = p_source_id and side = p_side and identity = p_identity and accepted_at is not null) then false
    -- The first one is taken as it is, but for another source beside those that fill this target already.
    else coalesce(sync.known_identity(p_source_id, p_side) <> p_identity,
      p_side = 'source' and exists (select from public.sync_identities where side = 'source' and accepted_at is not null)) end
$$;
comment on function sync.is_new_identity(smallint, text, text) is
  'Whether a person has to be asked about an identity.';

create function sync.stamp_identity() returns trigger
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  if tg_op = 'INSERT' then
    new.accepted_by := case when not sync.is_new_identity(new.source_id, new.side, new.identity) then 'first use' end;
    new.accepted_at := case when new.accepted_by is not null then now() end;
    new.refused := case when new.accepted_by is null then new.refused else 0 end;
  elsif new.accepted_by is distinct from old.accepted_by then
    if old.accepted_at is not null then
      raise exception 'this identity was accepted already'
        using errcode = 'IS022', hint = 'To have another one known, accept that one: a start that meets it adds its row.';
    end if;
    new.accepted_by := coalesce(sync.claims() ->> 'email', sync.claims() ->> 'sub', new.accepted_by || ' (' || session_user || ')');
    new.accepted_at := now();
  end if;
  return new;
end
$$;
comment on function sync.stamp_identity() is
  'Accepts the first identity of a side, and says who accepted another one.';
create trigger stamp_identity before insert or update on public.sync_identities for each row execute function sync.stamp_identity();

create function sync.target_identity() returns text
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  -- The control file has a new timeline only after the first checkpoint, minutes later; the name of the segment that
  -- is written has it at once.
  select c.system_identifier::text || '/' || case when pg_is_in_recovery() then p.timeline_id
           else ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::integer end::text || '/' || d.oid::text
    from pg_control_system() c, pg_control_checkpoint() p, pg_catalog.pg_database d where d.datname = current_database()
$$;
comment on function sync.target_identity() is
  'Server, timeline and database that this is: another one after a restore from a backup.';

create function sync.without_timeline(p_identity text) returns text
language sql immutable security invoker set search_path = pg_catalog, pg_temp
as $$ select regexp_replace(p_identity, '/.*/', '/') $$;
comment on function sync.without_timeline(text) is
  'Server and database alone: a failover, or a restore in place, begins another timeline of the same.';

create function sync.signs_of_restore(p_source_id smallint, p_remembered bigint) returns setof text
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  -- A restore to a point in time begins another timeline. A failover does, too, and may have lost the last commits.
  select format('timeline %s follows timeline %s', split_part(n.identity, '/', 2), split_part(s.target_identity, '/', 2))
    from public.sync_sources s, (select sync.target_identity() as identity) n
   where s.id = p_source_id and s.target_identity <> n.identity and sync.without_timeline(s.target_identity) = sync.without_timeline(n.identity)
  union all
  -- A restored dump writes the rows again. Who wrote a first identity stands in the row, and nobody updates such a
  -- row.
  select format('rows were written again by transaction %s', i.xmin)
    from public.sync_identities i
   where i.source_id = p_source_id and i.side = 'target' and i.refused = 0
     and i.xmin::text::numeric <> i.inserted_by::text::numeric % 4294967296
  union all
  -- An installation that has begun nothing has nothing that could have been put back.
  select format('the cache remembers execution %s, and the last one here is %s', p_remembered, l.ordinal)
    from (select coalesce(max(ordinal), 0) as ordinal from public.sync_executions) l
   where p_remembered > l.ordinal and sync.known_identity(p_source_id, 'target') is not null
  union all
  -- A sign that was seen once is asked about until somebody answers.
  select identity from public.sync_identities where source_id = p_source_id and side = 'target_state' and accepted_at is null
$$;
comment on function sync.signs_of_restore(smallint, bigint) is
  'What tells that this database was put back to an older state. p_remembered: the last execution that the cache '
  'remembers; null: it remembers none.';

create function sync.met_identities(p_source_id smallint, p_met jsonb) returns table (side text, identity text)
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select m.key, m.value from jsonb_each_text(p_met - 'remembered') m
  union all
  select 'target', sync.without_timeline(sync.target_identity())
  union
  select 'target_state', s from sync.signs_of_restore(p_source_id, (p_met ->> 'remembered')::bigint) s
$$;
comment on function sync.met_identities(smallint, jsonb) is
  'Who meets here: what the functions say (as for sync.new_identities), this database, and what tells of its state.';

create function sync.note_page_ahead(p_chain uuid, p_page integer) returns void
language sql security invoker set search_path = pg_catalog, pg_temp as $$
  -- The queue may serve several sources: whichever sent the page, all of them lie in the database that has forgotten
  -- it.
  insert into public.sync_identities (source_id, side, identity)
  select s.id, 'target_state', format('page %s of chain %s was sent, and is not known here', p_page, p_chain)
    from public.sync_sources s
   where sync.known_identity(s.id, 'target') is not null
     -- A message is tried again for hours, and a dead letter can be sent again for some days.
     and (s.forgotten_at < now() - interval '8 days' or exists (select from public.sync_chains where id = p_chain))
     and not exists (select from public.sync_identities i where i.source_id = s.id and i.side = 'target_state' and i.accepted_at is null)
$$;
comment on function sync.note_page_ahead(uuid, integer) is
  'A page is sent after the commit that leads to it. One that this database does not know tells that the database '
  'was put back: it is asked about, by one question at a time.';

create function sync.new_identities(p_source_id smallint, p_met jsonb) returns jsonb
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select coalesce(jsonb_agg(jsonb_build_object('side', m.side, 'identity', m.identity,
                            'known', case when m.side <> 'target_state' then sync.known_identity(p_source_id, m.side) end) order by m.side, m.identity), '[]')
    from sync.met_identities(p_source_id, p_met) m
   where sync.is_new_identity(p_source_id, m.side, m.identity)
$$;
comment on function sync.new_identities(smallint, jsonb) is
  'Of the identities that meet here, those that a person has to accept: [{side, identity, known}]. p_met: {source, '
  'source_address, target_address, installation, remembered: the last execution that the cache knows}; this database '
  'is always asked.';

create function sync.ask_for_identities(p_source_id smallint, p_met jsonb, p_database_name text) returns jsonb
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_new   jsonb := sync.new_identities(p_source_id, p_met);
  v_asked jsonb := '[]';
  v_one   record;
  v_id    uuid;
begin
  for v_one in select * from jsonb_to_recordset(v_new) as n (side text, identity text, known text) loop
    insert into public.sync_identities as i (source_id, side, identity, database_name)
    values (p_source_id, v_one.side, v_one.identity, case v_one.side when 'source' then p_database_name end)
    on conflict (source_id, side, identity) where accepted_at is null do update set last_seen_at = now(), refused = i.refused + 1
    returning id into v_id;
    v_asked := v_asked || jsonb_build_object('id', v_id, 'side', v_one.side, 'identity', v_one.identity, 'known', v_one.known);
    perform sync.raise_alert(v_one.side || '_unknown', 'critical', p_source_id, null, null,
      case when v_one.side = 'target_state' then 'This database seems to have been put back to an older state'
           else 'Another ' || replace(v_one.side, '_', ' ') || ' than the one known here' end || ': nothing begins until a person accepts it in sync_identities, or what is configured is corrected.',
      jsonb_build_object('identity', v_one.identity, 'known', v_one.known, 'id', v_id));
  end loop;
  perform sync.close_alerts(array(select a.id from public.sync_alerts a
   where a.source_id = p_source_id and a.closed_at is null and a.kind in ('source_unknown', 'target_unknown', 'target_state_unknown', 'installation_unknown', 'source_address_unknown', 'target_address_unknown')
     and (a.kind in ('target_unknown', 'target_state_unknown') or p_met ? replace(a.kind, '_unknown', ''))
     and not v_new @> jsonb_build_array(jsonb_build_object('side', replace(a.kind, '_unknown', '')))));
  return v_asked;
end
$$;
comment on function sync.ask_for_identities(smallint, jsonb, text) is
  'As sync.new_identities, and puts each to a person: a row of sync_identities and an alert. Closes the alerts of '
  'those that are known. p_database_name: the source''s.';

create function sync.keep_identities(p_source_id smallint, p_met jsonb) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  if sync.new_identities(p_source_id, p_met) <> '[]' then
    raise exception 'another database or installation than the known one has come between'
      using errcode = 'IS060', detail = jsonb_build_object('unknown', sync.new_identities(p_source_id, p_met))::text;
  end if;
  insert into public.sync_identities (source_id, side, identity)
  select p_source_id, m.side, m.identity
    from sync.met_identities(p_source_id, p_met) m
   where m.side <> 'target_state' and sync.known_identity(p_source_id, m.side) is null
   order by m.side;
end
$$;
comment on function sync.keep_identities(smallint, jsonb) is
  'In the commit that begins an execution: the first identities become the known ones. Raises IS060 for one that is '
  'new.';

create function sync.check_parties(p_execution public.sync_executions, p_parties jsonb) returns void
language plpgsql stable security invoker set search_path = pg_catalog, pg_temp as $$
begin
  if sync.is_new_identity(p_execution.source_id, 'target', sync.without_timeline(sync.target_identity()))
    or sync.is_new_identity(p_execution.source_id, 'target_address', p_parties ->> 'target_address') then
    raise exception 'this database, or its address, is another one than the known target'
      using errcode = 'IS061';
  end if;
  if exists (select from sync.signs_of_restore(p_execution.source_id, null) s where sync.is_new_identity(p_execution.source_id, 'target_state', s)) then
    raise exception 'this database seems to have been put back to an older state, and nobody has accepted that'
      using errcode = 'IS061';
  end if;
  -- A plan may read what nobody has accepted yet.
  if not p_execution.dry_run and sync.is_new_identity(p_execution.source_id, 'source_address', p_parties ->> 'source_address') then
    raise exception 'the source is looked for at another address than the known ones'
      using errcode = 'IS062';
  end if;
end
$$;
comment on function sync.check_parties(public.sync_executions, jsonb) is
  'Before a page is taken: raises IS061 in a database that is a copy, was put back, stands in the place of another '
  'one or is met at a new address; IS062 where the source has a new address. p_parties: {target_address, '
  'source_address}.';

revoke all on function sync.known_identity(smallint, text), sync.is_new_identity(smallint, text, text), sync.stamp_identity(),
  sync.target_identity(), sync.without_timeline(text), sync.signs_of_restore(smallint, bigint), sync.met_identities(smallint, jsonb),
  sync.note_page_ahead(uuid, integer), sync.new_identities(smallint, jsonb), sync.ask_for_identities(smallint, jsonb, text),
  sync.keep_identities(smallint, jsonb), sync.check_parties(public.sync_executions, jsonb) from public;
grant execute on function sync.known_identity(smallint, text), sync.is_new_identity(smallint, text, text), sync.target_identity(),
  sync.without_timeline(text), sync.signs_of_restore(smallint, bigint), sync.met_identities(smallint, jsonb), sync.note_page_ahead(uuid, integer),
  sync.new_identities(smallint, jsonb), sync.ask_for_identities(smallint, jsonb, text),
  sync.keep_identities(smallint, jsonb), sync.check_parties(public.sync_executions, jsonb) to isthmus_worker;

-- supabase/schemas/functions/rules.sql

-- Purpose: business rules of records: which severity a rule has now, and what a changed one concerns.

create function sync.rule_severities() returns jsonb
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select coalesce(jsonb_object_agg(rule, severity), '{}')
    from (select distinct on (rule) rule, severity from public.sync_rule_overrides
           where valid_from <= now() and (valid_to is null or valid_to > now())
           order by rule, valid_from desc, created_at desc) o
$$;
comment on function sync.rule_severities() is 'The severities that overrides give to rules now: {rule: severity}.';

create function sync.check_rule_override() returns trigger
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_known text;
begin
  if not exists (select from public.sync_entities where rules @> jsonb_build_array(jsonb_build_object('rule', new.rule))) then
    select string_agg(distinct r ->> 'rule', ', ' order by r ->> 'rule') into v_known
      from public.sync_entities cross join lateral jsonb_array_elements(rules) r;
    raise exception 'no entity has the rule %', new.rule
      using errcode = '23503', hint = format('The rules are: %s.', coalesce(v_known, 'none until the first execution'));
  end if;
  return new;
end
$$;
comment on function sync.check_rule_override() is 'A misspelled rule would override nothing, silently.';
-- Not on every update: a row for a rule that is gone can still be ended.
create trigger check_rule_override before insert or update of rule on public.sync_rule_overrides
  for each row execute function sync.check_rule_override();

create function sync.apply_rule_override() returns trigger
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  insert into public.sync_pending_keys (entity_id, legacy_id, reason)
  select entity_id, legacy_id, 'rule_changed'
    from (select entity_id, source_record_id as legacy_id, rule from public.sync_conflicts where state = 'open'
          union select entity_id, legacy_id, rule from public.sync_warnings) concerned
   where rule in (old.rule, new.rule)
   order by entity_id, legacy_id
  on conflict (entity_id, execution_id, legacy_id) do update set generation = default, requested_at = now(), gone = false;
  return null;
end
$$;
comment on function sync.apply_rule_override() is 'Has the records that a changed rule concerns read again.';
create trigger apply_rule_override after insert or update or delete on public.sync_rule_overrides
  for each row execute function sync.apply_rule_override();

revoke all on function sync.rule_severities(), sync.check_rule_override(), sync.apply_rule_override() from public;
grant execute on function sync.rule_severities() to isthmus_worker;

-- supabase/schemas/functions/contract-checks.sql

-- Purpose: keep what the check of both catalogs found, and what a person acknowledges of it.
-- Locks:   the rows of the check, and open alerts.

create function sync.stamp_acknowledgement() returns trigger
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  if new.acknowledged_at is null then
    new.acknowledged_by := null;
  elsif new.acknowledged_by is null then
    new.acknowledged_by := session_user;
  end if;
  return new;
end
$$;
comment on function sync.stamp_acknowledgement() is
  'Says who acknowledged an effect where they did not say so themselves.';
create trigger stamp_acknowledgement before insert or update on public.sync_side_effects
  for each row execute function sync.stamp_acknowledgement();

create function sync.unacknowledged_effects(p_source_id smallint) returns jsonb
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select coalesce(jsonb_agg(e order by e ->> 'table', e ->> 'kind', e ->> 'name'), '[]')
    from public.sync_contract_checks c, jsonb_array_elements(c.effects) e
   where c.source_id = p_source_id
     and not exists (select from public.sync_side_effects s
                      where s.table_name = e ->> 'table' and s.kind = e ->> 'kind' and s.name = e ->> 'name'
                        and s.definition = e ->> 'definition' and s.acknowledged_at is not null)
$$;
comment on function sync.unacknowledged_effects(smallint) is
  'The effects of the last check that nobody has acknowledged as they are now. A deleted row acknowledges nothing.';

create function sync.store_contract_check(p_source_id smallint, p_check jsonb) returns jsonb
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  insert into public.sync_contract_checks as c (source_id, definitions, source_fingerprint, target_fingerprint, findings, effects, planned)
  values (p_source_id, p_check ->> 'definitions', p_check ->> 'sourceFingerprint', p_check ->> 'targetFingerprint',
          p_check -> 'findings', p_check -> 'effects', array(select jsonb_array_elements_text(p_check -> 'planned')))
  on conflict (source_id) do update
     set definitions = excluded.definitions, source_fingerprint = excluded.source_fingerprint,
         target_fingerprint = excluded.target_fingerprint, findings = excluded.findings, effects = excluded.effects,
         checked_at = now(), planned = excluded.planned;
  -- Of the tables that were looked at: those of another deployment's entities keep what was acknowledged for them.
  delete from public.sync_side_effects s
   where s.table_name in (select jsonb_array_elements_text(p_check -> 'tables'))
     and not exists (select from jsonb_array_elements(p_check -> 'effects') e
                      where s.table_name = e ->> 'table' and s.kind = e ->> 'kind' and s.name = e ->> 'name');
  insert into public.sync_side_effects as s (kind, table_name, name, does, definition)
  select e ->> 'kind', e ->> 'table', e ->> 'name', e ->> 'does', e ->> 'definition'
    from jsonb_array_elements(p_check -> 'effects') e
   order by 2, 1, 3
  on conflict (table_name, kind, name) do update
     set does = excluded.does, definition = excluded.definition, first_seen_at = now(), acknowledged_at = null
   where s.definition <> excluded.definition;
  return sync.unacknowledged_effects(p_source_id);
end
$$;
comment on function sync.store_contract_check(smallint, jsonb) is
  'Keeps a comparison and the effects it found, and returns those that nobody has acknowledged.';

create function sync.alert_contract(p_source_id smallint, p_alerts jsonb, p_mended jsonb, p_warned jsonb) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  perform sync.raise_alert(n.kind, n.severity, p_source_id, null, e.id, n.message, n.details)
     from jsonb_to_recordset(p_alerts) as n (entity text, kind text, severity text, message text, details jsonb)
     join public.sync_entities e on e.source_id = p_source_id and e.entity_type = n.entity order by e.id, n.kind;
  perform sync.close_alerts(array(
    select a.id from public.sync_alerts a join public.sync_entities e on e.id = a.entity_id and e.source_id = p_source_id
     where a.closed_at is null and case a.kind
       when 'contract_broken' then e.entity_type in (select jsonb_array_elements_text(p_mended))
       when 'contract_warning' then e.entity_type not in (
         select k.finding::jsonb ->> 1 from jsonb_array_elements_text(p_warned) k (finding) where k.finding::jsonb ->> 1 is not null)
       else false end));
  update public.sync_contract_checks set warned = p_warned where source_id = p_source_id and warned <> p_warned;
end
$$;
comment on function sync.alert_contract(smallint, jsonb, jsonb, jsonb) is
  'Opens alerts of what does not fit, closes those of entities that fit again, and keeps of which warnings an alert '
  'has told.';

create function sync.acknowledge_side_effects(p_tables jsonb, p_by text) returns setof public.sync_side_effects
language sql security invoker set search_path = pg_catalog, pg_temp as $$
  update public.sync_side_effects set acknowledged_at = now(), acknowledged_by = p_by
   where acknowledged_at is null and (p_tables is null or table_name in (select jsonb_array_elements_text(p_tables)))
  returning *
$$;
comment on function sync.acknowledge_side_effects(jsonb, text) is
  'Acknowledges what writes to these tables set off (null: all tables).';

revoke all on function sync.stamp_acknowledgement(), sync.unacknowledged_effects(smallint), sync.store_contract_check(smallint, jsonb),
  sync.alert_contract(smallint, jsonb, jsonb, jsonb), sync.acknowledge_side_effects(jsonb, text) from public;
grant execute on function sync.unacknowledged_effects(smallint), sync.store_contract_check(smallint, jsonb),
  sync.alert_contract(smallint, jsonb, jsonb, jsonb), sync.acknowledge_side_effects(jsonb, text) to isthmus_worker;

-- supabase/schemas/functions/record-slots.sql

-- Purpose: order the pages that commit the same records, with no lock on the target while the source is read.
-- Locks:   rows of sync_record_slots, by slot.

create function sync.slots_of(p_legacy_ids bigint[]) returns smallint[]
language sql immutable security invoker set search_path = pg_catalog, pg_temp as $$
  select array(select distinct ((k >> 12) & 255)::smallint from unnest(p_legacy_ids) k order by 1)
$$;
comment on function sync.slots_of(bigint[]) is 'The slots of some records, ascending.';

create function sync.slot_versions(p_entity_id smallint, p_legacy_ids bigint[]) returns jsonb
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select coalesce(jsonb_object_agg(s, coalesce((
           select r.version from public.sync_record_slots r where r.entity_id = p_entity_id and r.slot = s), 0)), '{}')
    from unnest(sync.slots_of(p_legacy_ids)) s
$$;
comment on function sync.slot_versions(smallint, bigint[]) is
  'The versions of the slots of some records: {slot: version}. Asked for before the records are read from the source.';

create function sync.take_slots(p_entity_id smallint, p_slots smallint[]) returns jsonb
language sql security invoker set search_path = pg_catalog, pg_temp as $$
  with taken as (
    insert into public.sync_record_slots as r (entity_id, slot, version)
    -- Always in this order, so that two pages never wait for each other.
    select p_entity_id, s, 1 from unnest(p_slots) s order by s
    on conflict (entity_id, slot) do update set version = r.version + 1
    returning slot, version)
  select coalesce(jsonb_object_agg(slot, version - 1), '{}') from taken
$$;
comment on function sync.take_slots(smallint, smallint[]) is
  'Locks slots to the end of the transaction and counts its commit. Returns the versions that they had: {slot: '
  'version}.';

create function sync.raise_records_moved() returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  raise exception 'other records of the page''s slots were committed since the page read the source'
    using errcode = 'IS011', hint = 'Nothing was written; the page reads the source again.';
end
$$;
comment on function sync.raise_records_moved() is 'Raises IS011: what was read may be older than what has landed.';

create function sync.hold_records(p_entity_id smallint, p_versions jsonb) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  -- Null: this transaction has held them since before it read the source.
  if jsonb_typeof(p_versions) = 'object'
     and sync.take_slots(p_entity_id, array(select k::smallint from jsonb_object_keys(p_versions) k)) <> p_versions then
    perform sync.raise_records_moved();
  end if;
end
$$;
comment on function sync.hold_records(smallint, jsonb) is
  'Locks the slots of a page''s records, as slot_versions gave them before the source was read. Raises IS011 when '
  'one has moved on since.';

create function sync.compare_records(p_entity_id smallint, p_versions jsonb) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  -- Null: the page has read them often enough.
  if jsonb_typeof(p_versions) = 'object' and exists (
       select from jsonb_each_text(p_versions) v
        where v.value::bigint <> coalesce((select r.version from public.sync_record_slots r
                                            where r.entity_id = p_entity_id and r.slot = v.key::smallint), 0)) then
    perform sync.raise_records_moved();
  end if;
end
$$;
comment on function sync.compare_records(smallint, jsonb) is
  'What hold_records does, for a page that is only planned: nothing is locked, and no version moves.';

create function sync.lock_records(p_entity_id smallint, p_legacy_ids bigint[], p_idle_seconds integer default null) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_limit bigint := (select setting::bigint from pg_catalog.pg_settings where name = 'idle_in_transaction_session_timeout');
begin
  if p_idle_seconds is not null and (v_limit = 0 or v_limit > p_idle_seconds * 1000) then
    perform set_config('idle_in_transaction_session_timeout', p_idle_seconds || 's', true);
  end if;
  perform sync.take_slots(p_entity_id, sync.slots_of(p_legacy_ids));
end
$$;
comment on function sync.lock_records(smallint, bigint[], integer) is
  'Locks the slots of some records to the end of the transaction, whatever their versions. p_idle_seconds: after so '
  'long without a statement the server ends the transaction, so that it never stands in the way of others for '
  'longer.';

revoke all on function sync.slots_of(bigint[]), sync.slot_versions(smallint, bigint[]), sync.take_slots(smallint, smallint[]),
  sync.raise_records_moved(), sync.hold_records(smallint, jsonb), sync.compare_records(smallint, jsonb),
  sync.lock_records(smallint, bigint[], integer) from public;
grant execute on function sync.slots_of(bigint[]), sync.slot_versions(smallint, bigint[]), sync.take_slots(smallint, smallint[]),
  sync.raise_records_moved(), sync.hold_records(smallint, jsonb), sync.compare_records(smallint, jsonb),
  sync.lock_records(smallint, bigint[], integer) to isthmus_worker;

-- supabase/schemas/functions/page-counts.sql

-- Purpose: what the pages of a chain have counted, added up page by page: a sum over an execution costs its chains,
--          however many pages it has.
-- Locks:   the chain's row, which the page holds.

create function sync.count_page() returns trigger
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  update public.sync_chains c
     set counts = (select jsonb_object_agg(s.key, s.n)
                     from (select j.key, sum(j.value::numeric) as n
                             from (select * from jsonb_each_text(c.counts)
                                   union all
                                   select * from jsonb_each_text(jsonb_strip_nulls(jsonb_build_object('pages', 1, 'read', new.read, 'inserted', new.inserted,
                                     'updated', new.updated, 'unchanged', new.unchanged, 'deleted', new.deleted, 'waiting', new.waiting,
                                     'in_conflict', new.in_conflict, 'waived', new.waived, 'absent', new.absent, 'surplus', new.surplus,
                                     'overwritten', new.overwritten, 'cache_lookups', new.cache_lookups, 'cache_hits', new.cache_hits,
                                     'wall_ms', new.wall_ms)))
                                   union all
                                   select 'waived by ' || new.waived_by, new.waived::text where new.waived > 0
                                   union all
                                   select 'nulled ' || n.key, n.value from jsonb_each_text(coalesce(new.nulled, '{}')) n) j
                            group by j.key) s)
   where c.id = new.chain_id;
  return null;
end
$$;
comment on function sync.count_page() is 'Adds what a page has counted to the counts of its chain.';
create trigger count_page after insert on public.sync_page_log for each row execute function sync.count_page();

create function sync.counted(p_execution uuid, p_entity_id smallint default null) returns jsonb
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select coalesce(jsonb_object_agg(s.key, s.n), '{}')
    from (select j.key, sum(j.value::numeric) as n
            from public.sync_chains c cross join lateral jsonb_each_text(c.counts) j
           where c.execution_id = p_execution and (p_entity_id is null or c.entity_id = p_entity_id)
           group by j.key) s
$$;
comment on function sync.counted(uuid, smallint) is
  'What the pages of an execution have counted, of one entity or of all: the columns of sync_page_log by name, '
  'pages, waived by <rule> and nulled <column>. What no page has counted is missing.';

revoke all on function sync.count_page(), sync.counted(uuid, smallint) from public;
grant execute on function sync.counted(uuid, smallint) to isthmus_worker;

-- supabase/schemas/functions/totals.sql

-- Purpose: add up what an execution has counted, once, when it has ended.
-- Locks:   rows of sync_totals, by entity.

create function sync.add_to_totals(p_job uuid, p_entity_id smallint, p_counts jsonb) returns void
language sql security invoker set search_path = pg_catalog, pg_temp as $$
  insert into public.sync_totals as t (job_id, entity_id, counts) values (p_job, p_entity_id, p_counts)
  on conflict (job_id, entity_id) do update
     set updated_at = now(), counts = (select jsonb_object_agg(s.key, s.n)
           from (select j.key, sum(j.value::numeric) as n
                   from (select * from jsonb_each_text(t.counts) union all select * from jsonb_each_text(excluded.counts)) j group by j.key) s)
$$;
comment on function sync.add_to_totals(uuid, smallint, jsonb) is
  'Adds counts to the totals of an entity and a job; null for none.';

create function sync.total_keys() returns text[]
language sql immutable security invoker set search_path = pg_catalog, pg_temp as $$
  select array['pages', 'inserted', 'updated', 'unchanged', 'deleted', 'waiting', 'in_conflict', 'waived', 'overwritten', 'wall_ms', 'cache_lookups', 'cache_hits']
$$;
comment on function sync.total_keys() is
  'Which counts of pages are added up. What is counted by rule or column is not: metrics have few labels.';

create function sync.add_pages(p_execution public.sync_executions, p_sign integer) returns void
language sql security invoker set search_path = pg_catalog, pg_temp as $$
  select sync.add_to_totals(p_execution.job_id, s.entity_id, s.counts)
    from (select k.entity_id, jsonb_object_agg(k.key, k.n) as counts
            from (select c.entity_id, j.key, sum(j.value::numeric) * p_sign as n
                    from public.sync_chains c cross join lateral jsonb_each_text(c.counts) j
                   where c.execution_id = p_execution.id and c.entity_id is not null and j.key = any (sync.total_keys()) group by 1, 2) k
           group by 1 order by 1) s
$$;
comment on function sync.add_pages(public.sync_executions, integer) is
  'Adds what the pages of an execution have counted to the totals (1), or takes it from them (-1).';

create function sync.total_execution(p_execution uuid) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_execution public.sync_executions := (select x from public.sync_executions x where x.id = p_execution);
begin
  -- Metrics are set in the same transaction, and once.
  if v_execution.metrics is not null or v_execution.dry_run then
    return;
  end if;
  perform sync.add_pages(v_execution, 1);
  perform sync.add_to_totals(v_execution.job_id, null, jsonb_build_object(v_execution.status, 1, 'seconds',
    round(extract(epoch from coalesce(v_execution.completed_at, clock_timestamp()) - v_execution.started_at), 3)));
end
$$;
comment on function sync.total_execution(uuid) is
  'Adds to the totals what an execution has counted that has ended and has no metrics yet.';

create function sync.go_on_counting(p_execution uuid) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_execution public.sync_executions := (select x from public.sync_executions x where x.id = p_execution);
begin
  -- An execution that runs is told beside the totals, and its pages are added when it ends: each once. That it has
  -- ended before stays counted.
  if v_execution.metrics is not null and not v_execution.dry_run then
    perform sync.add_pages(v_execution, -1);
  end if;
end
$$;
comment on function sync.go_on_counting(uuid) is
  'Takes from the totals what an execution has counted that ended and is to go on. Called before its metrics are '
  'emptied.';

revoke all on function sync.add_to_totals(uuid, smallint, jsonb), sync.total_keys(), sync.total_execution(uuid),
  sync.add_pages(public.sync_executions, integer), sync.go_on_counting(uuid) from public;
grant execute on function sync.add_to_totals(uuid, smallint, jsonb), sync.total_keys(), sync.total_execution(uuid),
  sync.add_pages(public.sync_executions, integer), sync.go_on_counting(uuid) to isthmus_worker;

-- supabase/schemas/functions/metrics.sql

-- Purpose: what a scrape is told, in one statement whose cost does not grow with records, executions or pages.
-- Reads:   control tables; of the server, connections and sizes of our tables.

create function sync.metrics() returns table (metric text, labels jsonb, value double precision)
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  with entity as materialized (
    select e.id, e.source_id, e.entity_type, jsonb_build_object('source', s.name, 'entity', e.entity_type) as labels
      from public.sync_entities e join public.sync_sources s on s.id = e.source_id where e.removed_at is null
  ), job as materialized (
    select j.* from public.sync_jobs j order by j.name limit 100
  ), going as materialized (
    -- Those that are not in the totals yet, by their own indexes.
    select id, job_id, dry_run from public.sync_executions where status = 'running'
    union all
    select id, job_id, dry_run from public.sync_executions where status = 'cancelled' and metrics is null
  ), chain as materialized (
    select g.job_id, g.dry_run, c.entity_id, c.state, c.failures, c.sends, c.counts
      from going g cross join lateral (select * from public.sync_chains k where k.execution_id = g.id offset 0) c
  ), counted as materialized (
    select k.entity_id, coalesce(j.name, '') as job, k.key, sum(k.n) as n
      from (select t.job_id, t.entity_id, e.key, e.value::numeric as n from public.sync_totals t cross join lateral jsonb_each_text(t.counts) e
            union all
            select c.job_id, c.entity_id, e.key, e.value::numeric from chain c cross join lateral jsonb_each_text(c.counts) e
             where not c.dry_run and c.entity_id is not null and e.key = any (sync.total_keys())) k
      left join job j on j.id = k.job_id
     where k.job_id is null or j.id is not null
     group by 1, 2, 3
  ), latest as materialized (
    -- Of each job, and of what no job began: one probe of an index, whose order has to be asked for in full where
    -- job_id is null.
    select j.name as job, x.* from job j cross join lateral (
      select o.* from public.sync_executions o where o.job_id = j.id and not o.dry_run order by o.started_at desc limit 1) x
    union all
    (select '', o.* from public.sync_executions o where o.job_id is null and not o.dry_run order by o.job_id desc, o.started_at desc limit 1)
  ), ended as materialized (
    select j.name as job, x.metrics from job j cross join lateral (
      select o.metrics from public.sync_executions o where o.job_id = j.id and not o.dry_run and o.metrics is not null order by o.started_at desc limit 1) x
    union all
    (select '', o.metrics from public.sync_executions o where o.job_id is null and not o.dry_run and o.metrics is not null
       order by o.job_id desc, o.started_at desc limit 1)
  ), own as materialized (
    select c.oid, c.relname, c.reltuples from pg_class c
     where c.relnamespace = 'public'::regnamespace and c.relkind = 'r' and c.relname = any (sync.own_tables())
  )
  -- The seven metrics.
  select m.metric, jsonb_build_object('sync_job', x.job), (x.metrics ->> m.name)::double precision * m.unit
    from ended x cross join (values
      ('isthmus_records_processed', 'recordsProcessed', 1), ('isthmus_success_rate', 'successRate', 1), ('isthmus_average_latency_seconds', 'averageLatency', 0.001),
      ('isthmus_error_rate', 'errorRate', 1), ('isthmus_throughput_per_second', 'throughputPerSecond', 1), ('isthmus_uuid_cache_hit_rate', 'uuidCacheHitRate', 1),
      ('isthmus_conflict_resolution_rate', 'conflictResolutionRate', 1)) m (metric, name, unit)
   where x.metrics ->> m.name is not null
  -- Executions and jobs.
  union all
  select 'isthmus_executions_total', jsonb_build_object('sync_job', c.job, 'status', c.key), c.n from counted c where c.entity_id is null and c.key <> 'seconds'
  union all
  select 'isthmus_execution_seconds_total', jsonb_build_object('sync_job', c.job), c.n from counted c where c.entity_id is null and c.key = 'seconds'
  union all
  select 'isthmus_executions_running', '{}', (select count(*) from going where not dry_run)
  union all
  select 'isthmus_execution_started_timestamp_seconds', jsonb_build_object('sync_job', x.job), extract(epoch from x.started_at) from latest x
  union all
  select 'isthmus_execution_duration_seconds', jsonb_build_object('sync_job', x.job), extract(epoch from coalesce(x.completed_at, clock_timestamp()) - x.started_at) from latest x
  union all
  select 'isthmus_execution_status', jsonb_build_object('sync_job', x.job, 'status', s), (x.status = s)::integer
    from latest x cross join unnest(enum_range(null::public.sync_execution_status)) s
  union all
  select 'isthmus_job_enabled', jsonb_build_object('sync_job', j.name), j.enabled::integer from job j
  union all
  select 'isthmus_job_last_success_timestamp_seconds', jsonb_build_object('sync_job', j.name), extract(epoch from j.succeeded_at) from job j where j.succeeded_at is not null
  union all
  select 'isthmus_job_next_timestamp_seconds', jsonb_build_object('sync_job', j.name), extract(epoch from j.next_execution_at) from job j where j.enabled and j.next_execution_at is not null
  union all
  select 'isthmus_job_waiting_seconds', jsonb_build_object('sync_job', j.name), coalesce(extract(epoch from clock_timestamp() - j.waits_since), 0) from job j
  union all
  select 'isthmus_job_attempts', jsonb_build_object('sync_job', j.name), j.attempts from job j
  union all
  -- As sync.work_at: what the latest like it took, of which half took less.
  select 'isthmus_job_usual_duration_seconds', jsonb_build_object('sync_job', j.name), l.median
    from job j cross join lateral (
      select percentile_cont(0.5) within group (order by extract(epoch from r.completed_at - r.started_at)) as median
        from (select o.started_at, o.completed_at from public.sync_executions o
               where o.job_id = j.id and o.status = 'succeeded' order by o.started_at desc limit 14) r) l
   where l.median is not null
  -- Entities.
  union all
  select 'isthmus_records_total', e.labels || jsonb_build_object('sync_job', c.job, 'outcome', c.key), c.n
    from counted c join entity e on e.id = c.entity_id where c.key in ('inserted', 'updated', 'unchanged', 'deleted', 'waiting', 'in_conflict', 'waived')
  union all
  select m.metric, e.labels || jsonb_build_object('sync_job', c.job), c.n * m.unit
    from counted c join entity e on e.id = c.entity_id
    join (values ('isthmus_pages_total', 'pages', 1), ('isthmus_page_seconds_total', 'wall_ms', 0.001), ('isthmus_records_overwritten_total', 'overwritten', 1),
                 ('isthmus_cache_lookups_total', 'cache_lookups', 1), ('isthmus_cache_hits_total', 'cache_hits', 1)) m (metric, key, unit) on m.key = c.key
  union all
  select 'isthmus_entity_lag_seconds', e.labels, extract(epoch from clock_timestamp() - coalesce(x.started_at, k.updated_at))
    from entity e join public.sync_checkpoints k on k.source_id = e.source_id and k.entity_type = e.entity_type left join public.sync_executions x on x.id = k.execution_id
  union all
  select 'isthmus_chains', e.labels || jsonb_build_object('state', c.state), count(*) from chain c join entity e on e.id = c.entity_id where not c.dry_run group by e.labels, c.state
  union all
  select m.metric, e.labels, m.n
    from (select c.entity_id, max(c.failures) filter (where c.state = 'open') as failures, sum(c.sends) filter (where c.state = 'open') as sends from chain c group by 1) c
    join entity e on e.id = c.entity_id
    cross join lateral (values ('isthmus_page_failed_tries', c.failures), ('isthmus_page_sends', c.sends)) m (metric, n) where m.n is not null
  union all
  select 'isthmus_page_heap_bytes', e.labels, max(l.heap_bytes)
    from (select entity_id, heap_bytes from public.sync_page_log order by id desc limit 200) l join entity e on e.id = l.entity_id where l.heap_bytes is not null group by e.labels
  union all
  select 'isthmus_queue_records', e.labels || jsonb_build_object('state', q.state, 'type', q.conflict_type), sum(q.records)
    from public.sync_queue_counts q join entity e on e.id = q.entity_id group by e.labels, q.state, q.conflict_type
  union all
  select 'isthmus_queue_oldest_seconds', e.labels || jsonb_build_object('state', q.state, 'type', q.conflict_type), extract(epoch from clock_timestamp() - min(q.oldest_at))
    from public.sync_queue_counts q join entity e on e.id = q.entity_id group by e.labels, q.state, q.conflict_type
  union all
  select 'isthmus_brakes', e.labels || jsonb_build_object('kind', b.kind), count(*)
    from public.sync_brakes b join entity e on e.id = b.entity_id where b.closed_at is null group by e.labels, b.kind
  -- Alerts.
  union all
  select 'isthmus_alerts', jsonb_build_object('severity', s.severity), (select count(*) from public.sync_alerts a where a.closed_at is null and a.severity = s.severity)
    from (values ('warning'), ('critical')) s (severity)
  union all
  select 'isthmus_alerts_open', jsonb_build_object('kind', a.kind, 'severity', a.severity, 'entity', coalesce(e.entity_type, ''), 'acknowledged', a.acknowledged_by is not null), count(*)
    from public.sync_alerts a left join public.sync_entities e on e.id = a.entity_id where a.closed_at is null group by a.kind, a.severity, e.entity_type, a.acknowledged_by is not null
  -- What it runs on.
  union all
  select 'isthmus_source_up', jsonb_build_object('source', s.name), (s.refused_since is null)::integer from public.sync_sources s
  union all
  select m.metric, '{}', m.n
    from (select t.ended_at, t.failed from public.sync_ticks t where t.ended_at is not null order by t.created_at desc limit 1) t
    cross join lateral (values ('isthmus_tick_last_end_timestamp_seconds', extract(epoch from t.ended_at)), ('isthmus_tick_failed_parts', cardinality(t.failed))) m (metric, n)
  union all
  select 'isthmus_database_connections', jsonb_build_object('role', r.role), count(a.pid)
    from (values ('isthmus_worker'), ('others')) r (role)
    left join pg_stat_activity a on a.datname = current_database() and (a.usename is not distinct from 'isthmus_worker') = (r.role = 'isthmus_worker') and a.usename is not null
   group by r.role
  union all
  select 'isthmus_database_connections_max', '{}', current_setting('max_connections')::integer
  union all
  select 'isthmus_table_bytes', jsonb_build_object('table', o.relname), pg_total_relation_size(o.oid) from own o
  union all
  select 'isthmus_table_rows_estimate', jsonb_build_object('table', o.relname), greatest(o.reltuples, 0) from own o
$$;
comment on function sync.metrics() is
  'Every sample of a scrape: what each metric means stands in docs/metrics.md. Names, counts and times only, never a '
  'value of a row; what is counted by scanning elsewhere is read where it was counted. No more jobs than a hundred.';

revoke all on function sync.metrics() from public;
grant execute on function sync.metrics() to isthmus_worker;

-- supabase/schemas/functions/brakes.sql

-- Purpose: what the sync would not delete, empty or overwrite without a person's word.
-- Locks:   the open row of sync_brakes.

create function sync.stamp_brake() returns trigger
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  if new.confirmed_by is distinct from old.confirmed_by then
    if old.closed_at is not null then
      raise exception 'this brake is closed' using errcode = 'IS022', hint = 'Look for one of this entity whose closed_at is empty.';
    end if;
    new.confirmed_at := case when new.confirmed_by is not null then now() end;
  elsif new.kind = 'delete' and new.records > old.records then
    -- What was confirmed was less.
    new.confirmed_by := null;
    new.confirmed_at := null;
  end if;
  return new;
end
$$;
comment on function sync.stamp_brake() is
  'Stamps a confirmation; one that was given for fewer records does not count for more.';
create trigger stamp_brake before update on public.sync_brakes for each row execute function sync.stamp_brake();

create function sync.brake_holds(p_entity_id smallint, p_kind text, p_field text) returns boolean
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select confirmed_at is null from public.sync_brakes
   where entity_id = p_entity_id and kind = p_kind and field is not distinct from p_field and closed_at is null
$$;
comment on function sync.brake_holds(smallint, text, text) is
  'True: it was pulled, and nobody has confirmed it. False: somebody has. Null: it was not pulled.';

create function sync.braked_word(p_kind text) returns text
language sql immutable security invoker set search_path = pg_catalog, pg_temp
as $$ select case p_kind when 'delete' then 'deleted' when 'null' then 'emptied' when 'overwrite' then 'overwritten' end $$;
comment on function sync.braked_word(text) is 'What would have become of the records that a brake holds.';

create function sync.pull_brake(p_execution uuid, p_entity_id smallint, p_kind text, p_field text, p_records bigint, p_landed bigint) returns boolean
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_confirmed boolean;
begin
  insert into public.sync_brakes as b (entity_id, kind, field, records, landed, execution_id)
  values (p_entity_id, p_kind, p_field, p_records, p_landed, p_execution)
  on conflict (entity_id, kind, field) where closed_at is null do update
     set records = case when b.confirmed_at is null then excluded.records else greatest(b.records, excluded.records) end,
         landed = excluded.landed, execution_id = excluded.execution_id, last_seen_at = now()
  returning confirmed_at is not null into v_confirmed;
  if not v_confirmed then
    perform sync.raise_alert('brake', 'critical', null, p_execution, p_entity_id,
      'Far more records than usual would be ' || sync.braked_word(p_kind)
        || ': the execution was stopped. See sync_brakes.',
      jsonb_strip_nulls(jsonb_build_object('kind', p_kind, 'field', p_field, 'records', p_records, 'landed', p_landed)),
      sync.subject_of(p_kind, p_field));
  end if;
  return not v_confirmed;
end
$$;
comment on function sync.pull_brake(uuid, smallint, text, text, bigint, bigint) is
  'True: stop. False: a person has confirmed that as many records are deleted, emptied or overwritten.';

revoke all on function sync.stamp_brake(), sync.brake_holds(smallint, text, text), sync.braked_word(text),
  sync.pull_brake(uuid, smallint, text, text, bigint, bigint) from public;
grant execute on function sync.brake_holds(smallint, text, text), sync.braked_word(text),
  sync.pull_brake(uuid, smallint, text, text, bigint, bigint) to isthmus_worker;

-- supabase/schemas/functions/page-brakes.sql

-- Purpose: whether a page deletes, empties or overwrites more than may be without a person's word.

create function sync.page_nulled(p_entity public.sync_entities) returns jsonb
language plpgsql stable security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_json  text[] := sync.json_fields(p_entity);
  c_empty constant jsonb[] := array['null', '"null"']; -- NULL and, in JSON columns, the null of JSON
begin
  return (select jsonb_object_agg(k, n) from (
    select e.key as k, count(*) as n
      from pg_temp.page_plan q cross join lateral jsonb_each(q.written) e
      cross join lateral (select case when e.key = any (v_json) then c_empty else c_empty[:1] end as empty) x
     -- What a request has written over edits alone is asked for.
     where q.action in ('update', 'review') and e.value = any (x.empty) and coalesce(q.now -> e.key, 'null') <> all (x.empty)
       and e.value is distinct from q.seen -> e.key group by 1) x);
end
$$;
comment on function sync.page_nulled(public.sync_entities) is
  'How many records of the page lose their value in a column: {column: n}; null: none.';

create function sync.page_rewritten(p_entity public.sync_entities) returns integer
language plpgsql stable security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_json  text[] := sync.json_fields(p_entity);
  c_empty constant jsonb[] := array['null', '"null"']; -- NULL and, in JSON columns, the null of JSON
begin
  -- What the sync has never reconciled (adopted rows), and what was empty, holds nothing that it would put at risk.
  -- What is emptied is counted by itself. What a request has written over edits alone, the source has not changed: it
  -- was asked for.
  return (select count(*) from pg_temp.page_plan q
           where q.action in ('update', 'review') and q.seen is not null
             and exists (select from jsonb_each(q.written) e
                          cross join lateral (select case when e.key = any (v_json) then c_empty else c_empty[:1] end as empty) x
                          where e.value <> all (x.empty) and coalesce(q.now -> e.key, 'null') <> all (x.empty)
                            -- Of hashes nothing is known of what was seen: a value that only prints otherwise is no
                            -- other one.
                            and e.value is distinct from q.seen -> e.key and e.value is distinct from q.now -> e.key));
end
$$;
comment on function sync.page_rewritten(public.sync_entities) is
  'In how many records of the page a value is overwritten by another one.';

create function sync.landed_needed(p_execution public.sync_executions, p_entity_id smallint, p_kind text, p_field text, p_records bigint) returns bigint
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  -- Once it was pulled, not one more passes until a person has said so: what pages before it did would add up over
  -- executions.
  select case
           when h.holds then null
           when not h.holds or p_records <= b.records then 0
           -- A record that is written twice counts twice: all of them is no share that could be passed.
           when p_kind = 'overwrite' and b.share >= 1 then 0
           else ceil(p_records / nullif(b.share, 0)) end::bigint
    from (select sync.brake_holds(p_entity_id, p_kind, p_field) as holds) h
   cross join (select case p_kind when 'overwrite' then p_execution.brake_overwrite_records else p_execution.brake_records end as records,
                      case p_kind when 'overwrite' then p_execution.brake_overwrite_share else p_execution.brake_share end as share) b
$$;
comment on function sync.landed_needed(public.sync_executions, smallint, text, text, bigint) is
  'How many records must have landed for so many to pass the brake. 0: they pass in any case; null: they do not.';

-- In the order of the index, up to the limit, whatever is known of the table.
create function sync.count_landed(p_entity_id smallint, p_behind bigint, p_most bigint, out landed bigint, out up_to bigint)
language sql stable security invoker set search_path = pg_catalog, pg_temp set enable_sort = off as $$
  select count(*), max(l.legacy_id)
    from (select s.legacy_id from public.sync_row_states s
           where s.entity_id = p_entity_id and s.gone_at is null
             and s.legacy_id >= coalesce(p_behind, '-9223372036854775808') and s.legacy_id is distinct from p_behind
           order by s.legacy_id limit p_most) l
$$;
comment on function sync.count_landed(smallint, bigint, bigint) is
  'Records of an entity that have landed, behind a key (null: all), so many at most (null: all), and the last one''s '
  'key.';

create function sync.exceeds_brake(p_execution public.sync_executions, p_entity_id smallint, p_kind text, p_field text, p_records bigint) returns bigint
language plpgsql stable security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_needed bigint := sync.landed_needed(p_execution, p_entity_id, p_kind, p_field, p_records);
  v_landed bigint;
begin
  if v_needed = 0 then
    return null;
  end if;
  v_landed := (sync.count_landed(p_entity_id, null, v_needed)).landed;
  return case when v_landed >= v_needed then null else v_landed end;
end
$$;
comment on function sync.exceeds_brake(public.sync_executions, smallint, text, text, bigint) is
  'When so many records are more than the brake lets pass: how many have landed. Null: they pass.';

create function sync.check_brake(p_chain public.sync_chains, p_entity public.sync_entities, p_kind text, p_field text, p_records bigint) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_execution public.sync_executions;
  v_needed    bigint;
  v_known     record;
  v_more      record;
begin
  select * into strict v_execution from public.sync_executions where id = p_chain.execution_id;
  v_needed := sync.landed_needed(v_execution, p_entity.id, p_kind, p_field, p_records);
  -- An earlier check of this page may have counted further than its chain was when the page began.
  select c.landed, c.landed_up_to into strict v_known from public.sync_chains c where c.id = p_chain.id;
  if v_needed <= v_known.landed then
    return;
  end if;
  -- Only as many as this page needs are counted, from where the count of an earlier page ended.
  v_more := sync.count_landed(p_entity.id, v_known.landed_up_to, v_needed - v_known.landed);
  if v_known.landed + v_more.landed >= v_needed then
    update public.sync_chains set landed = landed + v_more.landed, landed_up_to = v_more.up_to where id = p_chain.id;
    return;
  end if;
  -- Before it is pulled, all are counted: some may have landed meanwhile before the key where a count went on.
  v_more := sync.count_landed(p_entity.id, null, v_needed);
  if v_more.landed >= v_needed then
    update public.sync_chains set landed = v_more.landed, landed_up_to = v_more.up_to where id = p_chain.id;
    return;
  end if;
  raise exception 'entity %: more records than usual would be %', p_entity.entity_type, sync.braked_word(p_kind) || coalesce(' in ' || p_field, '')
    using errcode = 'IS040',
          detail = jsonb_build_object('entity', p_entity.entity_type, 'kind', p_kind, 'field', p_field, 'records', p_records, 'landed', v_more.landed)::text;
end
$$;
comment on function sync.check_brake(public.sync_chains, public.sync_entities, text, text, bigint) is
  'Raises IS040 when an execution has come to delete, empty or overwrite more of an entity''s records than the brake '
  'lets pass.';

create function sync.check_leaving(p_chain public.sync_chains, p_entity public.sync_entities, p_outside bigint[]) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_records bigint := (select count(*) from public.uuid_mappings_enhanced m
                        where m.source_id = p_entity.source_id and m.entity_type = p_entity.entity_type and m.sync_status = 'active'
                          and m.legacy_id = any (p_outside)
                          and (select s.gone_at from public.sync_row_states s
                                where s.entity_id = p_entity.id and s.legacy_id = m.legacy_id and s.outside is null) is null);
begin
  if v_records > 0 then
    perform sync.check_brake(p_chain, p_entity, 'delete', null, v_records
      + coalesce((sync.counted(p_chain.execution_id, p_entity.id) ->> 'deleted')::bigint, 0));
  end if;
end
$$;
comment on function sync.check_leaving(public.sync_chains, public.sync_entities, bigint[]) is
  'The brake on records that leave their predicate: they are deleted page by page.';

create function sync.check_nulled(p_chain public.sync_chains, p_entity public.sync_entities) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_nulled jsonb := sync.page_nulled(p_entity);
  v_before jsonb;
  v_field  record;
begin
  if v_nulled is null then
    return;
  end if;
  v_before := sync.counted(p_chain.execution_id, p_entity.id);
  for v_field in
    select p.key as name, p.value::bigint + coalesce((v_before ->> ('nulled ' || p.key))::bigint, 0) as n from jsonb_each_text(v_nulled) p
  loop
    perform sync.check_brake(p_chain, p_entity, 'null', v_field.name, v_field.n::bigint);
  end loop;
end
$$;
comment on function sync.check_nulled(public.sync_chains, public.sync_entities) is
  'Raises IS040 when an execution would take the value of a column from more of an entity''s records than the brake '
  'lets pass.';

create function sync.counts_overwritten(p_entity public.sync_entities) returns boolean
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  -- Read in full because its definition has changed, or for the first time: what is written then was decided with the
  -- deployment. What is held already stays held. A checkpoint that somebody has removed decides nothing.
  select sync.brake_holds(p_entity.id, 'overwrite', null) is not null or coalesce(
    (select k.definition_hash in (p_entity.definition_hash, 'reread:' || p_entity.definition_hash) from public.sync_checkpoints k
      where k.source_id = p_entity.source_id and k.entity_type = p_entity.entity_type),
    exists (select from public.sync_chains c
             where c.entity_id = p_entity.id and c.capture = 'full' and c.state = 'done' and c.definition_hash = p_entity.definition_hash))
$$;
comment on function sync.counts_overwritten(public.sync_entities) is
  'Whether the brake looks at how many records of an entity are overwritten.';

create function sync.check_overwritten(p_chain public.sync_chains, p_entity public.sync_entities) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_records bigint := sync.page_rewritten(p_entity);
begin
  if v_records = 0 or not sync.counts_overwritten(p_entity) then
    return;
  end if;
  perform sync.check_brake(p_chain, p_entity, 'overwrite', null, v_records
    + coalesce((sync.counted(p_chain.execution_id, p_entity.id) ->> 'overwritten')::bigint, 0));
end
$$;
comment on function sync.check_overwritten(public.sync_chains, public.sync_entities) is
  'Raises IS040 when an execution would overwrite values in more of an entity''s records than the brake lets pass.';

revoke all on function sync.landed_needed(public.sync_executions, smallint, text, text, bigint), sync.count_landed(smallint, bigint, bigint),
  sync.exceeds_brake(public.sync_executions, smallint, text, text, bigint), sync.counts_overwritten(public.sync_entities),
  sync.page_nulled(public.sync_entities), sync.check_nulled(public.sync_chains, public.sync_entities), sync.page_rewritten(public.sync_entities),
  sync.check_overwritten(public.sync_chains, public.sync_entities), sync.check_brake(public.sync_chains, public.sync_entities, text, text, bigint),
  sync.check_leaving(public.sync_chains, public.sync_entities, bigint[]) from public;
grant execute on function sync.landed_needed(public.sync_executions, smallint, text, text, bigint), sync.count_landed(smallint, bigint, bigint),
  sync.exceeds_brake(public.sync_executions, smallint, text, text, bigint), sync.counts_overwritten(public.sync_entities),
  sync.page_nulled(public.sync_entities), sync.check_nulled(public.sync_chains, public.sync_entities), sync.page_rewritten(public.sync_entities),
  sync.check_overwritten(public.sync_chains, public.sync_entities), sync.check_brake(public.sync_chains, public.sync_entities, text, text, bigint),
  sync.check_leaving(public.sync_chains, public.sync_entities, bigint[]) to isthmus_worker;

-- supabase/schemas/functions/written-otherwise.sql

-- Purpose: tell what the target made of a write: cancelled without an error, or changed on its way into the row.
-- Locks:   none beyond those of the statements.
--
-- What a row should hold, written or left alone, is compared with what it holds when the statement and all triggers
-- are through. A write that left no trace is undone as a whole (IS004), and its record goes to the queue. A value
-- that the target changed stays as the target has it, for many triggers normalise what they get; sync_warnings names
-- the record for as long as the two differ.

create function sync.named_triggers(p_table regclass, p_before text, p_after text) returns text
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  with found as (
    -- 66: before, or instead of.
    select t.tgname::text as name,
           concat_ws(' ', p.proname, p.prosrc, encode(t.tgargs, 'escape')) ~* case when t.tgtype & 66 <> 0 then p_before else p_after end as says
      from pg_catalog.pg_trigger t join pg_catalog.pg_proc p on p.oid = t.tgfoid
     where not t.tgisinternal and t.tgenabled in ('O', 'A')
       -- 4, 16: of an insert, of an update.
       and t.tgtype & 20 <> 0
       -- 1: for each row. One of the whole statement is the named table's alone, and meets its rows when they are
       -- written.
       and case when t.tgtype & 1 = 1 then t.tgrelid = p_table or t.tgrelid in (select relid from pg_catalog.pg_partition_tree(p_table))
                else t.tgrelid = p_table and t.tgtype & 66 = 0 end
    union
    select 'rule ' || r.rulename, r.is_instead from pg_catalog.pg_rewrite r
     where r.ev_class = p_table and r.ev_type in ('2', '3') and r.ev_enabled in ('O', 'A'))
  select string_agg(distinct f.name, ', ' order by f.name) from found f
   where f.says or not exists (select from found where says)
$$;
comment on function sync.named_triggers(regclass, text, text) is
  'The triggers of a table that may touch its rows when they are written, as a list of names: those whose function '
  'says so (regular expressions over its text, for triggers before and after the write), or else all. Null: there is '
  'none.';

create function sync.words(p_words text[]) returns text
language sql immutable security invoker set search_path = pg_catalog, pg_temp as $$
  select string_agg('\m' || regexp_replace(w, '(\W)', '\\\1', 'g') || '\M', '|') from pg_catalog.unnest(p_words) w
$$;
comment on function sync.words(text[]) is 'A regular expression that finds any of these words. Null: there are none.';

create function sync.cancelling_triggers(p_table regclass, p_fields text[]) returns text
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  -- After the write nothing cancels it but what takes the row away.
  select sync.named_triggers(p_table, concat_ws('|', '\mreturn\s+(null|old)\M|\msuppress_redundant_updates_trigger\M', sync.words(p_fields)),
                             concat_ws('|', '\mdelete\M', sync.words(p_fields)))
$$;
comment on function sync.cancelling_triggers(regclass, text[]) is
  'The triggers and rules that may cancel a write to a table, or undo that of these fields (null: of none), as a '
  'list of names.';

create function sync.altering_triggers(p_table regclass, p_fields text[]) returns text
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select sync.named_triggers(p_table, sync.words(p_fields), sync.words(p_fields))
$$;
comment on function sync.altering_triggers(regclass, text[]) is
  'The triggers and rules that may change what is written into fields of a table, as a list of names.';

create function sync.refuse_writes(p_from integer, p_to integer) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_cancelled text := (select string_agg(n::text, ',' order by n) from pg_temp.page_plan where n between p_from and p_to and cancelled);
begin
  if v_cancelled is not null then
    raise exception using errcode = 'IS004', message = 'the target has cancelled a write without an error', detail = v_cancelled;
  end if;
  if exists (select from pg_temp.page_plan where n between p_from and p_to and altered) then
    raise exception using errcode = 'IS001', message = 'the target cannot hold a value exactly, or changed a number on write';
  end if;
end
$$;
comment on function sync.refuse_writes(integer, integer) is
  'Raises IS004 when the target has cancelled a write of the slice, IS001 when it cannot hold a value exactly or has '
  'changed a number on write, as pg_temp.page_plan says.';

create function sync.page_otherwise() returns table (legacy_id bigint, field text)
language plpgsql stable security invoker set search_path = pg_catalog, pg_temp as $$
begin
  return query
  select q.legacy_id, f.field from pg_temp.page_plan q cross join lateral pg_catalog.unnest(q.otherwise) f (field)
   where q.otherwise is not null
  union all
  -- Written by an earlier page, and as it was left then: the two still differ.
  select q.legacy_id, e.key
    from pg_temp.page_plan q cross join lateral jsonb_each(q.new) e
   where q.action in ('update', 'unchanged', 'review') and q.seen::text <> q."left"::text and (q.written ? e.key) is not true
     and (q.now -> e.key)::text <> e.value::text and (q.now -> e.key)::text = (q."left" -> e.key)::text and e.value::text = (q.seen -> e.key)::text
  union all
  select q.legacy_id, f.field
    from pg_temp.page_plan q cross join lateral unnest(q.reprinted) f (field)
   where q.action in ('update', 'unchanged', 'review') and (q.written ? f.field) is not true and q.now -> f.field is not distinct from q.new -> f.field;
end
$$;
comment on function sync.page_otherwise() is
  'In which fields the rows of a page hold something else than the sync wrote or left alone, now or before, though '
  'nobody has edited them since.';

create function sync.tell_otherwise(p_entity public.sync_entities, p_execution uuid, p_fields text[]) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_table  regclass := to_regclass(format('public.%I', p_entity.target_table));
  v_fields jsonb;
begin
  select pg_catalog.jsonb_agg(jsonb_build_object('field', f.field, 'triggers', sync.altering_triggers(v_table, array[f.field])) order by f.field)
    into v_fields
    from (select distinct x.field from pg_catalog.unnest(p_fields) x (field)) f;
  if v_fields is null then
    return;
  end if;
  perform sync.raise_alert('written_otherwise', 'warning', p_entity.source_id, p_execution, p_entity.id,
    format('The target changes what is written into %s: %s. The rows hold something else than was written, and no comparison will say so. sync_warnings names the records. Do not fill these fields in the entity file, or change the trigger.',
      p_entity.entity_type, (select string_agg((f ->> 'field') || coalesce(' (trigger ' || (f ->> 'triggers') || ')', ''), ', ') from jsonb_array_elements(v_fields) f)),
    jsonb_build_object('fields', v_fields));
end
$$;
comment on function sync.tell_otherwise(public.sync_entities, uuid, text[]) is
  'Raises the alert written_otherwise when the target has changed what was written: which fields, and which triggers.';

revoke all on function sync.named_triggers(regclass, text, text), sync.words(text[]), sync.cancelling_triggers(regclass, text[]), sync.altering_triggers(regclass, text[]), sync.refuse_writes(integer, integer),
  sync.page_otherwise(), sync.tell_otherwise(public.sync_entities, uuid, text[]) from public;
grant execute on function sync.named_triggers(regclass, text, text), sync.words(text[]), sync.cancelling_triggers(regclass, text[]), sync.altering_triggers(regclass, text[]), sync.refuse_writes(integer, integer),
  sync.page_otherwise(), sync.tell_otherwise(public.sync_entities, uuid, text[]) to isthmus_worker;
grant execute on function sync.named_triggers(regclass, text, text), sync.words(text[]), sync.cancelling_triggers(regclass, text[]), sync.altering_triggers(regclass, text[]),
  sync.tell_otherwise(public.sync_entities, uuid, text[]) to isthmus_decisions;

-- supabase/schemas/functions/causes.sql

-- Purpose: what a waiting record waits for in the end: the record at the end of its chain of parents, and what stops
--          that one. And of a record that the target refuses because the row of its parent is gone, which parent that
--          is.
-- Locks:   rows of sync_conflicts that nobody else has locked; the rows of sync_changed_causes.

-- Plans are kept, whatever the tables held when they were made: indexes are probed.
create function sync.cause_of(p_entity_id smallint, p_legacy_id bigint) returns jsonb
language plpgsql stable security invoker set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan set enable_seqscan = off as $$
declare
  -- A longer chain is told as far as it was followed: 5,000 records at the end of chains of 100 would take a page 7 s.
  c_longest constant integer := 30;
  v_met     text[] := '{}';
  v_at      smallint := p_entity_id;
  v_record  bigint := p_legacy_id;
  v_source  smallint;
  v_entity  text;
  v_found   record;
  v_kind    text;
  v_removed boolean;
begin
  loop
    select c.state::text, c.rule, c.remedy, c.parent_entity_id, c.parent_legacy_id into v_found from public.sync_conflicts c
     where c.entity_id = v_at and c.source_record_id = v_record and c.state in ('waiting', 'open');
    v_kind := case when v_found.state = 'open' then 'stopped'
                   when v_found.state = 'waiting' and v_at || ' ' || v_record = any (v_met) then 'circle'
                   when v_found.state = 'waiting' and cardinality(v_met) >= c_longest then 'chain' end;
    exit when v_kind is not null or v_found.state is null;
    v_met := v_met || (v_at || ' ' || v_record);
    v_at := v_found.parent_entity_id;
    v_record := v_found.parent_legacy_id;
  end loop;
  select e.entity_type, e.source_id, e.removed_at is not null into v_entity, v_source, v_removed from public.sync_entities e where e.id = v_at;
  if v_removed and v_kind = 'stopped' then
    v_kind := 'removed';
  end if;
  if v_kind is null then
    select c.rule, null::text as remedy into v_found from public.sync_conflicts c where c.entity_id = v_at and c.source_record_id = v_record and c.standing;
    v_kind := case
      when v_found.rule is not null then 'decided'
      when exists (select from public.uuid_mappings_enhanced m
                    where m.source_id = v_source and m.entity_type = v_entity and m.legacy_id = v_record and m.sync_status = 'active') then 'landed'
      when v_removed then 'removed'
      when exists (select from public.sync_pending_keys k where k.execution_id is null and k.entity_id = v_at and k.legacy_id = v_record and not k.gone) then 'asked'
      else 'missing' end;
  end if;
  return jsonb_strip_nulls(jsonb_build_object('kind', v_kind, 'entity', v_entity, 'legacyId', v_record::text, 'rule', v_found.rule,
    'remedy', case when v_kind = 'stopped' then v_found.remedy end));
end
$$;
comment on function sync.cause_of(smallint, bigint) is
  'What stands at the end of the chain of records that wait for their parents, beginning with this one: {kind, '
  'entity, legacyId, rule, remedy}. kind: stopped (in the queue), decided (kept away by a decision), missing '
  '(neither landed nor in the queue), landed, asked (to be read), removed (its entity is synced no more), circle, or '
  'chain (it goes on).';

create function sync.waits_remedy(p_parent text, p_parent_id bigint, p_cause jsonb) returns text
language sql immutable security invoker set search_path = pg_catalog, pg_temp as $$
  select concat(format('Waits for %s %s', p_parent, p_parent_id),
           case when (p_cause ->> 'entity', p_cause ->> 'legacyId') <> (p_parent, p_parent_id::text)
             then format(', and behind that record for %s %s', p_cause ->> 'entity', p_cause ->> 'legacyId') end,
           case p_cause ->> 'kind'
             when 'stopped' then format(', which is in this queue (%s). %s', p_cause ->> 'rule', p_cause ->> 'remedy')
             when 'decided' then format(', which a decision keeps away (%s): choose another resolution_strategy in that record''s row of the queue, or correct the reference in the source.',
                                        p_cause ->> 'rule')
             when 'removed' then format(', which has not landed, and no entity file has %s any more: take the reference out of the entity file of this record, or bring the other file back.',
                                        p_cause ->> 'entity')
             when 'missing' then format(', which has not landed and is not in this queue. Where the source has no such record, correct the reference there; otherwise read it: npm run sync -- start --ids %s=%s.',
                                        p_cause ->> 'entity', p_cause ->> 'legacyId')
             when 'circle' then ', which waits for this record in turn: such records are read together.'
             when 'chain' then ', which waits itself: see that record in this queue.'
             else ', which has landed or is about to be read. Nothing to do here.' end)
$$;
comment on function sync.waits_remedy(text, bigint, jsonb) is
  'What to do about a record that waits for its parent, given what sync.cause_of says of the parent.';

create function sync.lost_parent_remedy(p_field text, p_parent text, p_parent_id bigint, p_cause jsonb) returns text
language sql immutable security invoker set search_path = pg_catalog, pg_temp as $$
  select format('%s refers to %s %s, whose target row somebody deleted. ', p_field, p_parent, p_parent_id) || case
    -- Of two values of a row that is gone nobody can decide: read, the record asks about its row.
    when p_cause ->> 'kind' = 'stopped' and p_cause ->> 'rule' <> 'both_changed' and (p_cause ->> 'entity', p_cause ->> 'legacyId') = (p_parent, p_parent_id::text)
      then format('That record is in this queue (%s). %s', p_cause ->> 'rule', p_cause ->> 'remedy')
    when p_cause ->> 'kind' = 'decided'
      then format('A decision keeps that record away (%s): choose another resolution_strategy in its row of the queue, or correct the reference in the source.', p_cause ->> 'rule')
    else format('Read that record: npm run sync -- start --ids %s=%s. Its row is written again, or a person is asked, as its entity says of deleted rows. This record is then tried again by itself.',
                p_parent, p_parent_id) end
$$;
comment on function sync.lost_parent_remedy(text, text, bigint, jsonb) is
  'What to do about a record that the target refuses because the row of its parent is gone, given what sync.cause_of '
  'says of the parent.';

create function sync.lost_parents(p_entity public.sync_entities) returns table (n integer, field text, parent text, parent_id bigint, cause jsonb, remedy text)
language plpgsql stable security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_key record;
begin
  for v_key in
    select c.conname, a.attname, f.slot, c.confrelid::regclass as refers_to, e.id, e.entity_type
      from (select distinct j.constraint_name from pg_temp.page_rejects j join pg_temp.page_rows p on p.n = j.n where j.sqlstate = '23503' and not p._leaves) r
      join pg_catalog.pg_constraint c
        on c.contype = 'f' and c.conname = r.constraint_name and c.conrelid = to_regclass(format('public.%I', p_entity.target_table)) and cardinality(c.conkey) = 1
      join pg_catalog.pg_attribute a on a.attrelid = c.conrelid and a.attnum = c.conkey[1]
      join sync.field_slots(p_entity) f on f.name = a.attname
      join pg_catalog.pg_attribute k on k.attrelid = c.confrelid and k.attnum = c.confkey[1] and k.attname = 'id' and k.atttypid = 'uuid'::regtype
      join pg_catalog.pg_class t on t.oid = c.confrelid and t.relnamespace = 'public'::regnamespace
      join public.sync_entities e on e.source_id = p_entity.source_id and e.target_table = t.relname and e.removed_at is null
     where has_column_privilege(c.confrelid, k.attnum, 'select')
  loop
    return query execute format($q$
      with lost as materialized (
        select v.n, m.legacy_id
          from (select j.n, p.%1$I as value from pg_temp.page_rejects j join pg_temp.page_rows p on p.n = j.n
                 where j.sqlstate = '23503' and j.constraint_name = %2$L and not p._leaves offset 0) v
          -- One index probe per record, whatever the planner thinks.
          cross join lateral (select m.legacy_id from public.uuid_mappings_enhanced m
                               where m.entity_type = %3$L and m.entity_uuid = v.value::uuid and m.sync_status = 'active' limit 1) m
         where (select t.id from %4$s t where t.id = v.value::uuid) is null)
      select l.n, %5$L, %3$L, l.legacy_id, r.cause - 'remedy', sync.lost_parent_remedy(%5$L, %3$L, l.legacy_id, r.cause)
        from lost l
        join (select d.legacy_id, sync.cause_of(%6$s::smallint, d.legacy_id) as cause from (select distinct lost.legacy_id from lost offset 0) d offset 0) r
          on r.legacy_id = l.legacy_id
    $q$, v_key.slot, v_key.conname, v_key.entity_type, v_key.refers_to, v_key.attname, v_key.id);
  end loop;
end
$$;
comment on function sync.lost_parents(public.sync_entities) is
  'Of the records in pg_temp.page_rejects that a foreign key refuses, those whose parent has landed and lacks its '
  'row: the field, the parent, what stops that one, and what to do.';

create function sync.name_causes() returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  update pg_temp.page_issues i
     set remedy = sync.waits_remedy(i.parent, i."parentId", w.cause), data = coalesce(i.data, '{}') || jsonb_build_object('cause', w.cause - 'remedy')
    from (select p.parent_entity_id, p."parentId", sync.cause_of(p.parent_entity_id, p."parentId") as cause
            from (select distinct parent_entity_id, "parentId" from pg_temp.page_issues
                   where state = 'waiting' and parent_entity_id is not null and "parentId" is not null offset 0) p) w
   where i.state = 'waiting' and i.parent_entity_id = w.parent_entity_id and i."parentId" = w."parentId";
end
$$;
comment on function sync.name_causes() is
  'Says of the waiting records in pg_temp.page_issues what they wait for in the end.';

create function sync.name_causes_of_relatives(p_entity_id smallint) returns setof bigint
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  return query
  update public.sync_conflicts c
     set remedy = sync.waits_remedy(w.parent, w.parent_id, w.cause), conflict_data = c.conflict_data || jsonb_build_object('cause', w.cause - 'remedy')
    from (select q.id, i.parent, i."parentId" as parent_id, sync.cause_of(p_entity_id, i."parentId") as cause
            from pg_temp.page_issues i join pg_temp.page_queued q on q.k = i.k
           where i.state = 'waiting' and i.parent_entity_id = p_entity_id and i."parentId" in (select k from pg_temp.page_queued) offset 0) w
   where c.id = w.id and c.state = 'waiting' and c.conflict_data -> 'cause' is distinct from w.cause - 'remedy'
  returning c.source_record_id;
end
$$;
comment on function sync.name_causes_of_relatives(smallint) is
  'The same of the records of a page that wait for others of this page, whose entries in the queue have just been '
  'written. Returns those of which something else is told now.';

create function sync.note_changed_causes(p_entity_id smallint, p_legacy_ids bigint[]) returns void
language sql security invoker set search_path = pg_catalog, pg_temp as $$
  insert into public.sync_changed_causes (entity_id, legacy_id)
  select distinct p_entity_id, k
    from unnest(p_legacy_ids) k
    -- One index probe per record, whatever the planner thinks.
    cross join lateral (
      select from public.sync_conflicts c
       where c.state = 'waiting' and c.parent_entity_id = p_entity_id and c.parent_legacy_id = k limit 1) waits
   order by 2
  on conflict (entity_id, legacy_id) do nothing
$$;
comment on function sync.note_changed_causes(smallint, bigint[]) is
  'Of records whose entry in the queue has come, changed or gone, notes those that others wait for.';

create function sync.tell_causes(p_source_id smallint, p_records integer) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp set plan_cache_mode = force_custom_plan as $$
declare
  v_changed record;
  v_cause   jsonb;
  v_remedy  text;
  v_told    uuid[];
  v_total   integer := 0;
  v_waiting bigint[];
  v_entity  smallint;
begin
  -- Those that wait for the records told of here are noted, and come to their turn in this very call.
  while v_total < p_records loop
    select c.entity_id, c.legacy_id, e.entity_type into v_changed
      from public.sync_changed_causes c join public.sync_entities e on e.id = c.entity_id
     where e.source_id = p_source_id order by c.entity_id, c.legacy_id limit 1 for update of c skip locked;
    exit when not found;
    v_cause := sync.cause_of(v_changed.entity_id, v_changed.legacy_id);
    v_remedy := sync.waits_remedy(v_changed.entity_type, v_changed.legacy_id, v_cause);
    -- What a page has locked it is just writing, and tells itself. Of a long circle it was told what it is.
    v_told := array(
      select c.id from public.sync_conflicts c
       where c.state = 'waiting' and c.parent_entity_id = v_changed.entity_id and c.parent_legacy_id = v_changed.legacy_id
         and c.remedy <> v_remedy and v_cause ->> 'kind' <> 'circle'
       limit p_records - v_total for no key update skip locked);
    update public.sync_conflicts c
       set remedy = v_remedy, conflict_data = c.conflict_data || jsonb_build_object('cause', v_cause - 'remedy')
     where c.id = any (v_told);
    for v_entity, v_waiting in
      select c.entity_id, array_agg(c.source_record_id) from public.sync_conflicts c where c.id = any (v_told) group by 1
    loop
      perform sync.note_changed_causes(v_entity, v_waiting);
    end loop;
    -- More may wait for this record: they follow with the next tick.
    exit when cardinality(v_told) = p_records - v_total;
    delete from public.sync_changed_causes where entity_id = v_changed.entity_id and legacy_id = v_changed.legacy_id;
    v_total := v_total + 1 + cardinality(v_told);
  end loop;
end
$$;
comment on function sync.tell_causes(smallint, integer) is
  'Rewrites what waiting records are told to wait for where that has changed, at most so many of them.';

revoke all on function sync.cause_of(smallint, bigint), sync.waits_remedy(text, bigint, jsonb), sync.lost_parent_remedy(text, text, bigint, jsonb),
  sync.lost_parents(public.sync_entities), sync.name_causes(), sync.name_causes_of_relatives(smallint), sync.note_changed_causes(smallint, bigint[]),
  sync.tell_causes(smallint, integer) from public;
grant execute on function sync.cause_of(smallint, bigint), sync.waits_remedy(text, bigint, jsonb),
  sync.lost_parent_remedy(text, text, bigint, jsonb), sync.lost_parents(public.sync_entities), sync.name_causes(),
  sync.name_causes_of_relatives(smallint), sync.note_changed_causes(smallint, bigint[]), sync.tell_causes(smallint, integer) to isthmus_worker;
grant execute on function sync.note_changed_causes(smallint, bigint[]) to isthmus_decisions;

-- supabase/schemas/functions/unique-keys.sql

-- Purpose: the unique indexes of a target table, and which values they hold equal.

create function sync.are_owned(p_entity public.sync_entities, p_table oid, p_columns smallint[]) returns boolean
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select not exists (
    select from pg_catalog.pg_attribute a
     where a.attrelid = p_table and a.attnum = any (p_columns) and a.attname <> 'id'
       and not exists (select from jsonb_array_elements(p_entity.columns) c where c ->> 'name' = a.attname))
$$;
comment on function sync.are_owned(public.sync_entities, oid, smallint[]) is
  'Whether the sync owns all these columns of its target table (id is always its own).';

-- Without its schema an extension's operator is not found, and another one would compare text instead.
create function sync.equality(p_class oid) returns text
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select format('operator(%I.%s)', n.nspname, o.oprname)
    from pg_catalog.pg_opclass c
    join pg_catalog.pg_amop a on a.amopfamily = c.opcfamily and a.amoplefttype = c.opcintype and a.amoprighttype = c.opcintype and a.amopstrategy = 3
    join pg_catalog.pg_operator o on o.oid = a.amopopr
    join pg_catalog.pg_namespace n on n.oid = o.oprnamespace
   where c.oid = p_class
$$;
comment on function sync.equality(oid) is 'The operator by which a B-tree of an operator class finds equal values.';

create function sync.is_hashable(p_type oid) returns boolean
language plpgsql stable security invoker set search_path = pg_catalog, pg_temp as $$
begin
  execute format('select hash_record_extended(row(null::%s), 0)', format_type(p_type, null));
  return true;
exception when undefined_function then
  return false;
end
$$;
comment on function sync.is_hashable(oid) is
  'Whether equal values of a type have one hash (char(n) with and without blanks, 1.0 and 1.00, citext).';

create function sync.index_key(p_index oid, p_n integer) returns text
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  -- pg_get_indexdef leaves out the collation of a single column. What an expression has of itself no catalog tells.
  select pg_get_indexdef(i.indexrelid, p_n, false) || coalesce((
           select format(' collate %I.%I', n.nspname, c.collname)
             from pg_catalog.pg_collation c join pg_catalog.pg_namespace n on n.oid = c.collnamespace
            where c.oid = i.indcollation[p_n - 1]
              and not exists (select from pg_catalog.pg_attribute a where a.attrelid = i.indrelid and a.attnum = i.indkey[p_n - 1] and a.attcollation = c.oid)), '')
    from pg_catalog.pg_index i where i.indexrelid = p_index
$$;
comment on function sync.index_key(oid, integer) is
  'SQL over the columns of a table: what one of its indexes compares as its n-th column, under the collation of the '
  'index.';

create function sync.unique_keys(p_entity public.sync_entities) returns table (name text, definition text, keys text[], operators text[], types oid[], nulls_equal boolean, predicate text)
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select c.relname::text, pg_get_indexdef(i.indexrelid),
         array(select sync.index_key(i.indexrelid, k) from generate_series(1, i.indnkeyatts) k),
         array(select sync.equality(i.indclass[k - 1]) from generate_series(1, i.indnkeyatts) k),
         array(select a.atttypid from pg_catalog.pg_attribute a where a.attrelid = i.indexrelid and a.attnum <= i.indnkeyatts order by a.attnum), i.indnullsnotdistinct,
         pg_get_expr(i.indpred, i.indrelid)
    from pg_catalog.pg_index i join pg_catalog.pg_class c on c.oid = i.indexrelid
   where i.indrelid = to_regclass(format('public.%I', p_entity.target_table)) and i.indisunique and i.indisvalid
     and sync.are_owned(p_entity, i.indrelid, array(
           select k::smallint from pg_catalog.unnest(i.indkey::smallint[]) k where k <> 0
           union select d.refobjsubid::smallint from pg_catalog.pg_depend d
                  where d.classid = 'pg_catalog.pg_class'::regclass and d.objid = i.indexrelid and d.refobjid = i.indrelid and d.refobjsubid > 0))
   order by c.relname
$$;
comment on function sync.unique_keys(public.sync_entities) is
  'The unique indexes of an entity''s target table over columns that the sync owns.';

create function sync.holds_key_sql(p_keys text[], p_operators text[], p_nulls_equal boolean) returns text
language sql immutable security invoker set search_path = pg_catalog, pg_temp as $$
  select string_agg(format(case when p_nulls_equal then '(%1$s %3$s k._k%2$s or %1$s is null and k._k%2$s is null)' else '%1$s %3$s k._k%2$s' end, e, n, o),
                    ' and ' order by n)
    from unnest(p_keys, p_operators) with ordinality x (e, o, n)
$$;
comment on function sync.holds_key_sql(text[], text[], boolean) is
  'SQL: whether a row of the target table holds the key k (_k1, _k2, ...) of a unique index.';

create function sync.key_hashes(p_entity public.sync_entities) returns text
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  -- Two records never share the id or the legacy key. Values that are equal may be written differently: their type
  -- hashes them, if it can.
  select 'array[' || string_agg(format('hash_record_extended(row(%L::text, %s), 0)', u.name,
                                       (select string_agg(case when sync.is_hashable(t) then k else '(' || k || ')::text' end, ', ' order by n) from unnest(u.keys, u.types) with ordinality x (k, t, n))), ', ') || ']'
    from sync.unique_keys(p_entity) u
   where u.keys <> array['id'] and u.keys <> array[quote_ident(p_entity.legacy_key)]
$$;
comment on function sync.key_hashes(public.sync_entities) is
  'SQL over the columns of the target table: one hash for each unique index. Null: there is none that two records '
  'could share.';

revoke all on function sync.is_hashable(oid), sync.index_key(oid, integer), sync.unique_keys(public.sync_entities), sync.are_owned(public.sync_entities, oid, smallint[]),
  sync.key_hashes(public.sync_entities), sync.equality(oid), sync.holds_key_sql(text[], text[], boolean) from public;
grant execute on function sync.is_hashable(oid), sync.index_key(oid, integer), sync.unique_keys(public.sync_entities), sync.are_owned(public.sync_entities, oid, smallint[]),
  sync.key_hashes(public.sync_entities), sync.equality(oid), sync.holds_key_sql(text[], text[], boolean) to isthmus_worker;

-- supabase/schemas/functions/shadows.sql

-- Purpose: temporary tables over which the statements of a load run in a dry run: what they would find, and what
--          would refuse them, without touching the application's tables.
--
-- A shadow's constraints are named as those of its table: what a statement meets there it would meet in earnest. It
-- has the columns that the sync owns, because it may read no others; constraints that involve others are not in it,
-- nor are the application's triggers. Foreign keys are asked by statements: what they refer to is planned, or stands
-- in tables of the target.

create function sync.shadow_columns(p_entity public.sync_entities) returns text
language sql immutable security invoker set search_path = pg_catalog, pg_temp as $$
  select 'id, ' || string_agg(quote_ident(d.col ->> 'name'), ', ' order by d.n) from jsonb_array_elements(p_entity.columns) with ordinality d (col, n)
$$;
comment on function sync.shadow_columns(public.sync_entities) is 'id and the columns that the sync owns, by name.';

create function sync.shadow_values(p_entity public.sync_entities) returns text
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select 't.id, ' || string_agg(sync.filled_sql('r.row_after', c.name, c.type, c.recast, format('t.%I', c.name)), ', ' order by substr(c.slot, 2)::integer)
    from sync.field_slots(p_entity) c
$$;
comment on function sync.shadow_values(public.sync_entities) is
  'The values of sync.shadow_columns of a planned record r, of which t is what jsonb_populate_record makes.';

create function sync.create_shadow(p_entity public.sync_entities) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_table oid := format('public.%I', p_entity.target_table)::regclass;
  v_on    text := ' ON ' || v_table::regclass::text || ' USING ';
  v_index record;
  v_line  text;
begin
  execute (
    select format('create temp table page_shadow (%s) on commit drop',
                  string_agg(format('%I %s%s%s', a.attname, format_type(a.atttypid, a.atttypmod),
                                    (select format(' collate %I.%I', n.nspname, c.collname)
                                       from pg_catalog.pg_collation c join pg_catalog.pg_namespace n on n.oid = c.collnamespace
                                      where c.oid = a.attcollation and c.collname <> 'default'),
                                    case when a.attnotnull then ' not null' end), ', ' order by a.attnum))
      from pg_catalog.pg_attribute a
     where a.attrelid = v_table and a.attnum > 0 and not a.attisdropped and sync.are_owned(p_entity, v_table, array[a.attnum]));
  -- An index of the target may be called like a temporary table of ours, so these have numbers, and their names
  -- beside.
  for v_index in
    select u.name, row_number() over () as n,
           'create unique index page_shadow_key_' || row_number() over ()
             || overlay(substr(u.definition, strpos(u.definition, v_on)) placing ' ON pg_temp.page_shadow USING ' from 1 for length(v_on)) as definition
      from sync.unique_keys(p_entity) u
  loop
    execute v_index.definition;
    execute format('comment on index pg_temp.page_shadow_key_%s is %L', v_index.n, v_index.name);
  end loop;
  -- Not valid: only what the plan writes is checked, as in a table with rows that are older than the constraint.
  for v_line in
    select format('alter table pg_temp.page_shadow add constraint %I %s', conname,
                  pg_get_constraintdef(oid) || case when convalidated then ' not valid' else '' end)
      from pg_catalog.pg_constraint
     -- 0: of the row as a whole; null: of no column.
     where conrelid = v_table and contype = 'c' and 0 <> all (coalesce(conkey, '{}')) and sync.are_owned(p_entity, v_table, coalesce(conkey, '{}'))
  loop
    execute v_line;
  end loop;
end
$$;
comment on function sync.create_shadow(public.sync_entities) is
  'pg_temp.page_shadow: the owned columns of the target table, with NOT NULL, CHECKs and unique indexes (their names '
  'are their comments).';

create function sync.shadow_page(p_execution uuid, p_entity public.sync_entities, p_left bigint[]) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_columns text := sync.shadow_columns(p_entity);
begin
  create temp table page_keys on commit drop as
  select k as legacy_id from (select _key from pg_temp.page_rows union select pg_catalog.unnest(p_left)) x (k);
  create unique index on pg_temp.page_keys (legacy_id);
  analyze pg_temp.page_keys;
  -- What this execution has planned for the page's records already stands for what is there.
  create temp table page_planned on commit drop as
  select r.legacy_id, r.id, r.lands, r.row_after, r.state_after
    from pg_temp.page_keys k
    -- One index probe per record, whatever the planner thinks.
    cross join lateral (select r.* from public.sync_planned_records r
                         where r.execution_id = p_execution and r.entity_id = p_entity.id and r.legacy_id = k.legacy_id and r.lands is not null limit 1) r;
  create unique index on pg_temp.page_planned (legacy_id);

  create temp table uuid_mappings_enhanced (like public.uuid_mappings_enhanced including all) on commit drop;
  insert into pg_temp.uuid_mappings_enhanced
  select m.* from pg_temp.page_keys k
   cross join lateral (select x.* from public.uuid_mappings_enhanced x
                        where x.source_id = p_entity.source_id and x.entity_type = p_entity.entity_type and x.legacy_id = k.legacy_id offset 0) m
  union
  select m.* from pg_temp.page_rows p
   cross join lateral (select x.* from public.uuid_mappings_enhanced x
                        where x.entity_type = p_entity.entity_type and x.entity_uuid = p._uuid offset 0) m;
  insert into pg_temp.uuid_mappings_enhanced (source_id, entity_type, legacy_id, entity_uuid, source_table, target_table, sync_status)
  select p_entity.source_id, p_entity.entity_type, r.legacy_id, r.id, p_entity.source_table, p_entity.target_table,
         case when r.lands then 'active' else 'deleted' end::public.mapping_sync_status
    from pg_temp.page_planned r
  on conflict (source_id, entity_type, legacy_id) do update set sync_status = excluded.sync_status;

  create temp table sync_row_states (like public.sync_row_states including all) on commit drop;
  insert into pg_temp.sync_row_states
  select s.* from pg_temp.page_keys k
   cross join lateral (select x.* from public.sync_row_states x where x.entity_id = p_entity.id and x.legacy_id = k.legacy_id offset 0) s
   where not exists (select from pg_temp.page_planned r where r.legacy_id = k.legacy_id);
  insert into pg_temp.sync_row_states
  select s.* from pg_temp.page_planned r
    cross join lateral jsonb_populate_record(null::public.sync_row_states, r.state_after) s
   where r.lands and r.state_after is not null;
  analyze pg_temp.sync_row_states;

  perform sync.create_shadow(p_entity);
  execute format($q$
    insert into pg_temp.page_shadow (%2$s)
    select %2$s from public.%1$I t
     where t.id in (select _uuid from pg_temp.page_rows union select entity_uuid from pg_temp.uuid_mappings_enhanced)
       and not exists (select from pg_temp.page_planned r where r.id = t.id)
  $q$, p_entity.target_table, v_columns);
  execute format($q$
    insert into pg_temp.page_shadow (%1$s)
    select %2$s from pg_temp.page_planned r cross join lateral jsonb_populate_record(null::pg_temp.page_shadow, r.row_after) t
     where r.lands
    on conflict do nothing
  $q$, v_columns, sync.shadow_values(p_entity));
  analyze pg_temp.page_shadow;
end
$$;
comment on function sync.shadow_page(uuid, public.sync_entities, bigint[]) is
  'Fills the shadows of target table, row states and mappings with what a page''s records would find there.';

create function sync.clash_statements(p_execution uuid, p_entity public.sync_entities) returns text[]
language plpgsql stable security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_columns text := sync.shadow_columns(p_entity);
  v_new     text := format('(select p._uuid as id, %s from pg_temp.page_rows p
                              cross join lateral (select from pg_temp.page_plan x where x.n = p.n and x.action in (''insert'', ''update'', ''review'') offset 0) q
                              where p.n between $1 and $2) v',
    (select string_agg(format('(p.%s)::%s as %I', c.slot, c.registered, c.name), ', ') from sync.field_slots(p_entity) c));
begin
  return array(
    select format($q$
      insert into pg_temp.page_shadow (%2$s)
      select t.* from (select distinct %3$s from %4$s) k
       -- Its columns alone are meant by the names in these expressions.
       cross join lateral (select %2$s from public.%1$I t where %5$s offset 0) t
       where not exists (select from public.sync_planned_records r
                          where r.execution_id = %6$L and r.entity_id = %7$s and r.id = t.id and r.lands is not null)
      on conflict do nothing
    $q$, p_entity.target_table, v_columns,
      (select string_agg(format('%s as _k%s', e, n), ', ' order by n) from pg_catalog.unnest(u.keys) with ordinality x (e, n)), v_new,
      sync.holds_key_sql(u.keys, u.operators, u.nulls_equal), p_execution, p_entity.id)
      from sync.unique_keys(p_entity) u
    union all
    select format($q$
      insert into pg_temp.page_shadow (%5$s)
      select %6$s from public.sync_planned_records r
        cross join lateral jsonb_populate_record(null::pg_temp.page_shadow, r.row_after) t
       where r.execution_id = %1$L and r.entity_id = %2$s and r.lands
         and r.unique_keys && array(select h.hash from %3$s cross join lateral pg_catalog.unnest(%4$s) h (hash))
      on conflict do nothing
    $q$, p_execution, p_entity.id, v_new, sync.key_hashes(p_entity), v_columns, sync.shadow_values(p_entity))
      where sync.key_hashes(p_entity) is not null);
end
$$;
comment on function sync.clash_statements(uuid, public.sync_entities) is
  'The statements that put into the shadow whatever a slice''s new values could clash with: rows of the target, and '
  'planned ones. $1, $2: the slice.';

create function sync.refuse_dangling(p_constraint text) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  raise exception using errcode = '23503', message = 'the row that is referred to would not be there', constraint = p_constraint;
end
$$;
comment on function sync.refuse_dangling(text) is
  'Raises, for a plan, what a foreign key of this name would raise in earnest.';

create function sync.reference_statements(p_execution uuid, p_entity public.sync_entities) returns text[]
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select coalesce(pg_catalog.array_agg(format($q$
      select sync.refuse_dangling(%1$L)
        from pg_temp.page_plan q join pg_temp.page_shadow t on t.id = q.id
        left join lateral (
          select r.lands from public.sync_planned_records r
           where r.id = t.%2$I and r.execution_id = %4$L and r.lands is not null
             and (select e.target_table from public.sync_entities e where e.id = r.entity_id) = %5$L limit 1) r on true
       where q.n between $1 and $2 and t.%2$I is not null
         and (q.action = 'insert' or q.action in ('update', 'review') and q.written ? %2$L)
         and not (%6$scoalesce(r.lands, (select x.id from %3$s x where x.id = t.%2$I) is not null))
       limit 1
    $q$, c.conname, child.attname, c.confrelid::regclass, p_execution, parent.relname,
    -- What this page itself would write.
    case when c.confrelid = c.conrelid then format('(select x.id from pg_temp.page_shadow x where x.id = t.%I) is not null or ', child.attname) else '' end)
    order by c.conname), '{}')
    from pg_catalog.pg_constraint c
    join pg_catalog.pg_class parent on parent.oid = c.confrelid
    join pg_catalog.pg_attribute child on child.attrelid = c.conrelid and child.attnum = c.conkey[1]
    join pg_catalog.pg_attribute id on id.attrelid = c.confrelid and id.attnum = c.confkey[1] and id.attname = 'id' and id.atttypid = 'uuid'::regtype
   where c.contype = 'f' and c.conrelid = to_regclass(format('public.%I', p_entity.target_table)) and c.conparentid = 0
     and cardinality(c.conkey) = 1 and sync.are_owned(p_entity, c.conrelid, c.conkey) and has_column_privilege(c.confrelid, id.attnum, 'select')
$$;
comment on function sync.reference_statements(uuid, public.sync_entities) is
  'The statements by which a plan asks the foreign keys of the target table, to ids of tables that the sync may '
  'read. $1, $2: the slice.';

revoke all on function sync.shadow_columns(public.sync_entities), sync.shadow_values(public.sync_entities), sync.create_shadow(public.sync_entities),
  sync.shadow_page(uuid, public.sync_entities, bigint[]), sync.clash_statements(uuid, public.sync_entities), sync.refuse_dangling(text),
  sync.reference_statements(uuid, public.sync_entities) from public;
grant execute on function sync.shadow_columns(public.sync_entities), sync.shadow_values(public.sync_entities),
  sync.create_shadow(public.sync_entities), sync.shadow_page(uuid, public.sync_entities, bigint[]),
  sync.clash_statements(uuid, public.sync_entities), sync.refuse_dangling(text),
  sync.reference_statements(uuid, public.sync_entities) to isthmus_worker;

-- supabase/schemas/functions/try-slices.sql

-- Purpose: run statements over some records of a page, and name the column of a record that the database rejects.
-- Locks:   none beyond those of the statements.

create function sync.is_record_error(p_sqlstate text) returns boolean
language plpgsql immutable security invoker set search_path = pg_catalog, pg_temp as $$
begin
  -- 54000: a value is too long for an index; 54001: nested too deeply, or a trigger that calls itself. IS001 to
  -- IS004: ours.
  return p_sqlstate in ('54000', '54001', 'IS001', 'IS002', 'IS003', 'IS004') or p_sqlstate !~ '^IS' and sync.category_of_state(p_sqlstate) in ('record', 'parent');
end
$$;

create function sync.active_if_same(p_mapped uuid, p_id uuid) returns public.mapping_sync_status
language plpgsql immutable security invoker set search_path = pg_catalog, pg_temp as $$
begin
  if p_mapped <> p_id then
    raise exception using errcode = 'IS002', message = 'the legacy id is already mapped to another id';
  end if;
  return 'active';
end
$$;
comment on function sync.active_if_same(uuid, uuid) is
  'One record, one UUID, forever: a mapping revives only under its own id.';

create function sync.prepare_statements(p_name text, p_statements text[]) returns text[]
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_prepared text[] := '{}';
  v_name     text;
  v_bare     text;
begin
  for v_at in 1 .. cardinality(p_statements) loop
    -- A name may hold a $1, too.
    v_bare := regexp_replace(p_statements[v_at], '"[^"]*"|''[^'']*''', '', 'g');
    if v_bare ~ '\$1' then
      v_name := format('isthmus_%s_%s', p_name, v_at);
      -- A page that ended with an error leaves its own behind on the connection.
      if exists (select from pg_catalog.pg_prepared_statements s where s.name = v_name) then
        execute format('deallocate %I', v_name);
      end if;
      execute format('prepare %I%s as %s', v_name, case when v_bare ~ '\$2' then '(integer, integer)' else '(integer)' end, p_statements[v_at]);
      v_prepared := v_prepared || (format('execute %I', v_name) || case when v_bare ~ '\$2' then ' (%s, %s)' else ' (%s)' end);
    else
      v_prepared := v_prepared || p_statements[v_at];
    end if;
  end loop;
  return v_prepared;
end
$$;
comment on function sync.prepare_statements(text, text[]) is
  'Prepares statements over $1 (and $2), for this connection; returns how each is executed, with a %s for each of '
  'them. Others are returned as they are.';

create function sync.forget_statements(p_name text) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_name text;
begin
  for v_name in select s.name from pg_catalog.pg_prepared_statements s where s.name ~ ('^isthmus_' || p_name || '_[0-9]+$') loop
    execute format('deallocate %I', v_name);
  end loop;
end
$$;
comment on function sync.forget_statements(text) is 'Forgets what sync.prepare_statements has prepared under a name.';

create function sync.fails_empty(p_statements text[], p_prepared boolean) returns boolean
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_statement text;
begin
  perform set_config('search_path', sync.application_path(), true);
  foreach v_statement in array p_statements loop
    if p_prepared then
      execute format(v_statement, 0, -1);
    else
      execute v_statement using 0, -1;
    end if;
  end loop;
  raise exception using errcode = 'IS003', message = 'only tried';
exception
  when sqlstate 'IS003' then
    return false;
  when others or assert_failure then
    return true;
end
$$;
comment on function sync.fails_empty(text[], boolean) is
  'Whether statements fail over no records at all, as those do that name what does not exist, or what the worker has '
  'no right to; nothing of them stays.';

create function sync.try_slice(p_statements text[], p_prepared boolean, p_from integer, p_to integer) returns text[]
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_statement  text;
  v_state      text;
  v_constraint text;
  v_column     text;
  v_detail     text;
begin
  perform set_config('search_path', sync.application_path(), true);
  foreach v_statement in array p_statements loop
    if p_prepared then
      execute format(v_statement, p_from, p_to);
    else
      execute v_statement using p_from, p_to;
    end if;
  end loop;
  return null;
exception when others or assert_failure then
  get stacked diagnostics v_state = returned_sqlstate, v_constraint = constraint_name, v_column = column_name, v_detail = pg_exception_detail;
  -- What reads a value as a name or as SQL (regclass, tsquery, ltree, in a type, an index or a trigger) fails as a
  -- statement that is wrong does; such a statement fails for no record, too.
  if not sync.is_record_error(v_state) and (v_state !~ '^42' or v_state = '42501' or sync.category_of_state(v_state) = 'transient' or sync.fails_empty(p_statements, p_prepared)) then
    raise;
  end if;
  -- A shadow's index has a name of ours, and the real one as its comment.
  return array[v_state, coalesce(obj_description(to_regclass('pg_temp.' || quote_ident(nullif(v_constraint, ''))), 'pg_class'), nullif(v_constraint, '')), nullif(v_column, ''),
    case when v_state = 'IS004' then nullif(v_detail, '') end];
end
$$;
comment on function sync.try_slice(text[], boolean, integer, integer) is
  'Runs statements over the records n in [from, to], all or nothing: null, or {SQLSTATE, constraint, column, records '
  'n that are known to cause it, by commas} of an error that a record causes. p_prepared: as sync.prepare_statements '
  'returned them.';

create function sync.holds(p_value text, p_condition text) returns boolean
language plpgsql stable security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_holds boolean;
begin
  execute format('select %s from (select $1 as value) p', p_condition) into v_holds using p_value;
  return v_holds;
exception
  when insufficient_privilege then
    raise;
  when data_exception or syntax_error_or_access_rule_violation or program_limit_exceeded then
    return false;
end
$$;
comment on function sync.holds(text, text) is
  'Whether an SQL condition over p.value holds for a value; false when the value has it fail.';

create function sync.name_unfit_columns(p_entity public.sync_entities, p_from integer, p_to integer) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_column record;
  v_holds  boolean;
  v_fits   text;
  v_padded jsonb;
begin
  if not exists (select from pg_temp.page_rejects j where j.n between p_from and p_to and j.sqlstate ~ '^(22|42|54001|IS001)' and j.column_name is null) then
    return;
  end if;
  v_padded := sync.padded_parts(p_entity);
  for v_column in
    select * from sync.field_slots(p_entity)
  loop
    v_fits := format('count((p.value)::%s) >= 0 and coalesce(bool_and(%s), true)', v_column.type,
      coalesce(sync.fits_sql('value', v_column.type, v_column.exact, v_padded -> v_column.name), 'true'));
    -- All at once: one by one only in the columns that do not hold them all.
    begin
      execute format('select %s from (select p.%s as value from pg_temp.page_rejects j join pg_temp.page_rows p on p.n = j.n
                                       where j.n between $1 and $2 and j.sqlstate ~ ''^(22|42|54001|IS001)'' and j.column_name is null) p', v_fits, v_column.slot)
        into v_holds using p_from, p_to;
    exception when data_exception or syntax_error_or_access_rule_violation or program_limit_exceeded then
      v_holds := false;
    end;
    if not v_holds then
      execute format('update pg_temp.page_rejects j set column_name = %1$L from pg_temp.page_rows p
                       where p.n = j.n and j.n between $1 and $2 and j.sqlstate ~ ''^(22|42|54001|IS001)'' and j.column_name is null and not sync.holds(p.%3$s, %2$L)',
        v_column.name, v_fits, v_column.slot) using p_from, p_to;
    end if;
  end loop;
end
$$;
comment on function sync.name_unfit_columns(public.sync_entities, integer, integer) is
  'Names the column that cannot take a rejected record''s value: of another type, too long, out of range, no member '
  'of its enum.';

revoke all on function sync.is_record_error(text), sync.active_if_same(uuid, uuid), sync.prepare_statements(text, text[]),
  sync.forget_statements(text), sync.fails_empty(text[], boolean), sync.try_slice(text[], boolean, integer, integer), sync.holds(text, text),
  sync.name_unfit_columns(public.sync_entities, integer, integer) from public;
grant execute on function sync.is_record_error(text), sync.active_if_same(uuid, uuid), sync.prepare_statements(text, text[]),
  sync.forget_statements(text), sync.fails_empty(text[], boolean), sync.try_slice(text[], boolean, integer, integer), sync.holds(text, text),
  sync.name_unfit_columns(public.sync_entities, integer, integer) to isthmus_worker;
grant execute on function sync.is_record_error(text), sync.holds(text, text) to isthmus_decisions;

-- supabase/schemas/functions/tries.sql

-- Purpose: how often, and how long, a page looks for values that could stand in for others.
-- Locks:   none.
--
-- What cannot be found is looked for at length: so a page tries for all of its records together, counts, and looks at
-- the clock.

create function sync.count_tries(p_count integer) returns boolean
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  perform nextval('pg_temp.page_tries_n_seq'::text::regclass) from generate_series(1, p_count);
  -- A try may cost a look through a table that refers to the row without an index.
  if clock_timestamp() - (select t.begun from pg_temp.page_tries t) > interval '10 seconds' then
    perform setval('pg_temp.page_tries_n_seq'::text::regclass, 1000000);
  end if;
  return sync.tries_spent();
end
$$;
comment on function sync.count_tries(integer) is
  'Counts what was tried in vain of a page, and looks how long it has tried; true: no more is to be tried. 0: only '
  'looks.';

create function sync.tries_spent() returns boolean
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  -- Some two milliseconds each.
  if to_regclass('pg_temp.page_tries') is null then
    return false;
  end if;
  return (select s.last_value from pg_temp.page_tries_n_seq s) > 2000;
end
$$;
comment on function sync.tries_spent() is
  'Whether a page has tried in vain as often, or as long, as it may to find stand-ins, over all of its circles.';

create function sync.time_spent() returns boolean
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  if to_regclass('pg_temp.page_tries') is null then
    return false;
  end if;
  return (select s.last_value from pg_temp.page_tries_n_seq s) >= 1000000;
end
$$;
comment on function sync.time_spent() is 'Whether it was the clock that ended the tries of a page.';

create function sync.renew_tries() returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  if to_regclass('pg_temp.page_tries') is not null then
    perform setval('pg_temp.page_tries_n_seq'::text::regclass, 1, false);
    update pg_temp.page_tries set begun = clock_timestamp();
  end if;
end
$$;
comment on function sync.renew_tries() is
  'Lets a page try anew: once, for the circles that its other rejects had parted.';

revoke all on function sync.count_tries(integer), sync.tries_spent(), sync.time_spent(), sync.renew_tries() from public;
grant execute on function sync.count_tries(integer), sync.tries_spent(), sync.time_spent(), sync.renew_tries() to isthmus_worker;

-- supabase/schemas/functions/stand-ins.sql

-- Purpose: values that stand in a column for a moment, of whatever type, in place of one that another row is to get.
-- Locks:   none.
--
-- A stand-in is found by the text of a value, not by its type: characters give way to others of their kind (digits,
-- small letters, capitals), a few at a time, or some are added; and what the type reads of such a text is a value
-- that looks like the one before. So a code stays a code, an address an address, and a CHECK that lets the one pass
-- is likely to let the other pass.

create function sync.mutated(p_text text, p_try integer, p_seed integer) returns text
language plpgsql immutable security invoker set search_path = pg_catalog, pg_temp as $$
declare
  -- Of a long text one end is enough.
  c_most    constant integer := 200;
  c_kind    constant text := case when p_text ~ '[0-9]' and p_try / 5 % 2 = 0 then '[0-9]' else '[0-9A-Za-z]' end;
  v_at_end  boolean := p_try % 2 = 0;
  v_part    text := case when v_at_end then right(p_text, c_most) else left(p_text, c_most) end;
  v_chars   text[] := string_to_array(v_part, null);
  v_digits  text := case when p_try / 5 in (2, 5) then '01' else '0123456789' end;
  v_letters text := case when p_try / 5 in (1, 3) then 'abcdef' else 'abcdefghijklmnopqrstuvwxyz' end;
  v_others  text[] := array(select c from pg_catalog.unnest(v_chars) c where ascii(c) > 127);
  v_able    integer[] := array(select i from generate_subscripts(v_chars, 1) i where v_chars[i] ~ c_kind or ascii(v_chars[i]) > 127 and c_kind <> '[0-9]');
  v_count   integer := cardinality(v_able);
  v_random  bigint := abs(hashint4extended(p_seed, p_try) / 2);
  v_grows   integer := case when p_try % 5 = 0 then (array[6, 3, 4, 1, 2, 8, 1, 2])[p_try / 5 % 8 + 1] else 0 end;
  v_grown   integer;
begin
  if v_count = 0 then
    return case when v_grows > 0 then p_text || left(lpad((v_random % 100000000)::text, 8, '1'), v_grows) end;
  end if;
  v_grown := v_able[case when p_try < 5 then v_count else v_random % v_count + 1 end];
  return case when v_at_end then left(p_text, greatest(length(p_text) - c_most, 0)) else '' end || (
    select string_agg(
             case when not p.replaced then k.c else sync.other_character(k.c, p.random, v_digits, v_letters, v_others) end
               || case when k.i = v_grown and v_grows > 0 then (
                    select string_agg(sync.other_character(k.c, abs(hashint4extended(p_seed, p_try * 1000 + g) / 2), v_digits, v_letters, v_others), '')
                      from generate_series(1, v_grows) g) else '' end, '' order by k.i)
      from (select i, v_chars[i] as c, i = any (v_able) as able,
                   -- Which run of digits or of letters this is.
                   count(*) filter (where (v_chars[i] ~ '[0-9]') is distinct from (v_chars[i - 1] ~ '[0-9]') or (v_chars[i] ~ '[A-Za-z]') is distinct from (v_chars[i - 1] ~ '[A-Za-z]'))
                     over (order by i) as run
              from generate_subscripts(v_chars, 1) i) k
      cross join lateral (
        select abs(hashint4extended(p_seed, p_try * 1000 + 500 + k.i) / 2) as random,
               k.able and case p_try % 5
                 when 0 then false
                 when 1 then k.i >= v_able[greatest(1, v_count + 1 - (array[1, 2, 3, 1, 4, 2, 2, 6])[p_try / 5 % 8 + 1])]
                 when 2 then hashint4extended(p_seed, p_try * 1000 + 300 + k.run) % 2 = 0
                 when 3 then true
                 else k.i = v_grown end as replaced) p)
    || case when v_at_end then '' else substr(p_text, c_most + 1) end;
end
$$;
comment on function sync.mutated(text, integer, integer) is
  'A text that looks like this one: some characters are others of their kind, or some were added. p_try says which '
  'and how many, p_seed as what. Null: nothing can be.';

create function sync.other_character(p_like text, p_random bigint, p_digits text, p_letters text, p_others text[]) returns text
language sql immutable security invoker set search_path = pg_catalog, pg_temp as $$
  select case when p_like ~ '[0-9]' then substr(p_digits, (p_random % length(p_digits))::integer + 1, 1)
              when p_like ~ '[a-z]' then substr(p_letters, (p_random % length(p_letters))::integer + 1, 1)
              when p_like ~ '[A-Z]' then upper(substr(p_letters, (p_random % length(p_letters))::integer + 1, 1))
              else p_others[p_random % cardinality(p_others) + 1] end
$$;
comment on function sync.other_character(text, bigint, text, text, text[]) is
  'One of the characters given, of the kind of p_like.';

create function sync.stand_in_told(p_where text) returns text
language sql immutable security invoker set search_path = pg_catalog, pg_temp as $$
  select format('select pg_catalog.set_config(%L, %L, true)', 'isthmus.stand_in', p_where)
$$;
comment on function sync.stand_in_told(text) is
  'The statement that tells triggers of the target, in the setting isthmus.stand_in, where they may meet a stand-in: '
  'new (this statement writes one), old (the row may hold one), or empty: nowhere.';

create function sync.refuses_value(p_sqlstate text) returns boolean
language sql immutable security invoker set search_path = pg_catalog, pg_temp as $$
  select p_sqlstate = 'XX000' or sync.category_of_state(p_sqlstate) not in ('transient', 'limit', 'damage')
$$;
comment on function sync.refuses_value(text) is
  'Whether an error that came of a stand-in says that this value will not do: whatever types, constraints, triggers '
  'and policies raise, but nothing of connections, deadlocks, locks, resources, operators and disks, which concern '
  'the page.';

create function sync.reads_as(p_text text, p_type text) returns text
language plpgsql stable security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_text  text;
  v_state text;
begin
  -- The checks of a domain are the application's.
  perform set_config('search_path', sync.application_path(), true);
  execute format('select ($1::text)::%s::text', p_type) into v_text using p_text;
  return v_text;
-- Whatever the checks of a domain and the types of an extension raise: the text is not one of theirs.
exception when others or assert_failure then
  get stacked diagnostics v_state = returned_sqlstate;
  if not sync.refuses_value(v_state) then
    raise;
  end if;
  return null;
end
$$;
comment on function sync.reads_as(text, text) is
  'The text of the value that a type, its domains'' checks included, reads of a text; null: none.';

create function sync.stand_in(p_now text, p_new text, p_type text, p_seed integer, p_listed text[], p_try integer) returns text
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select c.read
    from (select sync.reads_as(case when p_try >= 40 then p_listed[p_try - 39] else sync.mutated(case when p_try % 3 = 2 then coalesce(p_new, p_now) else coalesce(p_now, p_new) end, p_try, p_seed) end,
                               p_type) as read offset 0) c
   where c.read is distinct from p_now and c.read is distinct from p_new
$$;
comment on function sync.stand_in(text, text, text, integer, text[], integer) is
  'A value that may stand in for p_now in a row that is to get p_new: of the tries 0 to 39 one that looks like '
  'either, from 40 on one of p_listed; null: nothing of this try.';

create function sync.first_stand_in(p_now text, p_new text, p_type text, p_seed integer) returns text
language plpgsql stable security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_found text;
begin
  for v_try in 0 .. 14 loop
    v_found := sync.stand_in(p_now, p_new, p_type, p_seed, null, v_try);
    if v_found is not null then
      return v_found;
    end if;
  end loop;
  -- The others of its slice would try in vain.
  raise exception using errcode = '23505', message = 'nothing that looks like the value is one of its type';
end
$$;
comment on function sync.first_stand_in(text, text, text, integer) is
  'The first of the values of sync.stand_in that the type takes. Raises 23505 where it takes none of the first '
  'tries: not all rows of a slice can give up their values at once.';

revoke all on function sync.mutated(text, integer, integer), sync.other_character(text, bigint, text, text, text[]), sync.stand_in_told(text), sync.refuses_value(text), sync.reads_as(text, text),
  sync.stand_in(text, text, text, integer, text[], integer), sync.first_stand_in(text, text, text, integer) from public;
grant execute on function sync.mutated(text, integer, integer), sync.other_character(text, bigint, text, text, text[]), sync.stand_in_told(text), sync.refuses_value(text), sync.reads_as(text, text),
  sync.stand_in(text, text, text, integer, text[], integer), sync.first_stand_in(text, text, text, integer) to isthmus_worker;

-- supabase/schemas/functions/exchange-of-unique-values.sql

-- Purpose: let rows of a page exchange unique values, under any kind of unique index.
-- Locks:   none beyond those of the statements.
--
-- Unique values that change places collide row by row. First all rows whose value another one of the slice is to get
-- give it up at once, for NULL or a stand-in. Where that is refused, they are written in order
-- (exchange-in-order.sql). Which values are equal is told by their hashes, each by the type's own, so that no index
-- has to be asked.

create function sync.giving_keys(p_entity public.sync_entities) returns table (name text, held text, fields text[], generated jsonb)
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  with needed as materialized (
    -- What an index is over, its expressions and its predicate included. A generated column stands for those that its
    -- value is made of.
    select i.indexrelid, a.attnum, a.attgenerated <> '' as generated
      from pg_catalog.pg_index i
      join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum > 0 and (a.attnum = any ((i.indkey::smallint[])[:i.indnkeyatts - 1]) or exists (
             select from pg_catalog.pg_depend d
              where (0 = any (i.indkey::smallint[]) or i.indpred is not null) and d.classid = 'pg_catalog.pg_class'::regclass and d.objid = i.indexrelid
                and d.refobjid = i.indrelid and d.refobjsubid = a.attnum))
     where i.indrelid = to_regclass(format('public.%I', p_entity.target_table)) and i.indisunique and i.indisvalid and not i.indisprimary
  ), made as (
    select n.indexrelid, d.oid, d.adrelid, d.adnum, d.adbin from needed n
      join pg_catalog.pg_attrdef d on d.adrelid = to_regclass(format('public.%I', p_entity.target_table)) and d.adnum = n.attnum
     where n.generated
  ), base as (
    select indexrelid, attnum from needed where not generated
    union
    select m.indexrelid, d.refobjsubid::smallint
      from made m join pg_catalog.pg_depend d on d.classid = 'pg_catalog.pg_attrdef'::regclass and d.objid = m.oid
       and d.refobjid = m.adrelid and d.refobjsubid <> m.adnum and d.refobjsubid > 0
    union
    -- As PostgreSQL notes them before 15: of the column itself.
    select m.indexrelid, d.refobjsubid::smallint
      from made m join pg_catalog.pg_depend d on d.classid = 'pg_catalog.pg_class'::regclass and d.objid = m.adrelid and d.objsubid = m.adnum
       and d.refobjid = m.adrelid and d.refobjsubid <> m.adnum and d.refobjsubid > 0
  )
  select c.relname::text,
         format('case when %s then pg_catalog.hash_record_extended(row(%L::text, %s), 0) end',
                concat_ws(' and ', '(' || coalesce(pg_get_expr(i.indpred, i.indrelid), 'true') || ')',
                          case when not i.indnullsnotdistinct then format('pg_catalog.num_nulls(%s) = 0', k.texts) end), c.relname, k.hashed),
         f.fields,
         coalesce((select jsonb_object_agg(a.attname, pg_get_expr(m.adbin, m.adrelid))
                     from made m join pg_catalog.pg_attribute a on a.attrelid = m.adrelid and a.attnum = m.adnum where m.indexrelid = i.indexrelid), '{}')
    from pg_catalog.pg_index i
    join pg_catalog.pg_class c on c.oid = i.indexrelid
    cross join lateral (
      select string_agg(x.key, ', ' order by x.n) as texts,
             string_agg(case when sync.is_hashable(a.atttypid) then x.key else '(' || x.key || ')::text' end, ', ' order by x.n) as hashed
        from (select n, sync.index_key(i.indexrelid, n) as key from generate_series(1, i.indnkeyatts) n) x
        join pg_catalog.pg_attribute a on a.attrelid = i.indexrelid and a.attnum = x.n) k
    cross join lateral (
      select pg_catalog.array_agg(a.attname::text order by a.attnum) as fields, pg_catalog.array_agg(a.attnum) as columns
        from base b join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = b.attnum where b.indexrelid = i.indexrelid) f
   where i.indexrelid in (select indexrelid from needed) and sync.are_owned(p_entity, i.indrelid, f.columns)
     and f.fields <> array['id']
   order by c.relname
$$;
comment on function sync.giving_keys(public.sync_entities) is
  'The unique indexes whose values records can exchange. held: SQL over the columns of a row, the hash of what the '
  'row holds in the index; null: nothing. fields: the columns that this depends on. generated: the SQL of those '
  'among the index''s that are generated.';

create function sync.giving_fields(p_entity public.sync_entities) returns table (field text, slot text, type text, nulls boolean, empties boolean, alters boolean, refers boolean, referred boolean, labels text[])
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select c.name, c.slot, format_type(a.atttypid, a.atttypmod), x.nulls,
         -- Not of an expression, which may make a value of what is empty, nor where two that are empty count as equal.
         x.nulls and not exists (
           select from pg_catalog.pg_index i
            where i.indrelid = a.attrelid and i.indisunique and (i.indnullsnotdistinct or 0 = any (i.indkey::smallint[]))
              and (a.attnum = any (i.indkey::smallint[]) or exists (
                    select from pg_catalog.pg_depend d
                     where d.classid = 'pg_catalog.pg_class'::regclass and d.objid = i.indexrelid and d.refobjid = i.indrelid
                       and d.refobjsubid = a.attnum))),
         not o.refers and o.labels = '{}', o.refers, x.referred, o.labels
    from sync.field_slots(p_entity) c
    join pg_catalog.pg_attribute a on a.attrelid = to_regclass(format('public.%I', p_entity.target_table)) and a.attname = c.name
    cross join lateral (select exists (select from pg_catalog.pg_constraint f where f.contype = 'f' and f.confrelid = a.attrelid and a.attnum = any (f.confkey)) as referred) r
    -- ON UPDATE CASCADE makes NULL of what refers to it, which no value that follows brings back.
    cross join lateral (select not a.attnotnull and not r.referred as nulls, r.referred) x
    cross join lateral (
      select exists (select from pg_catalog.pg_constraint f where f.contype = 'f' and f.conrelid = a.attrelid and a.attnum = any (f.conkey)) as refers,
             array(select e.enumlabel::text from pg_catalog.pg_enum e where e.enumtypid = to_regtype(c.type) order by e.enumsortorder limit 100) as labels) o
   where c.name in (select pg_catalog.unnest(g.fields) from sync.giving_keys(p_entity) g)
$$;
comment on function sync.giving_fields(public.sync_entities) is
  'The columns that an entity fills by which a row can give up a unique value: with the type that they are declared '
  'as, whether they may be NULL for a moment (nulls) and that gives the value up under each index (empties), whether '
  'a value that looks like theirs may stand in (alters: of an enum none does), whether they refer to rows or are '
  'referred to, and the labels of an enum.';

create function sync.kept_keys_sql(p_entity public.sync_entities, p_values text) returns text
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  -- Its columns alone are meant by the names in these expressions.
  select format('lateral (select x.place::integer, x.hash from (select array[%s] as held from (select g.*%s from (%s offset 0) g) v) k cross join lateral pg_catalog.unnest(k.held) with ordinality x (hash, place) where x.hash is not null) h',
                string_agg(g.held, ', ' order by g.name),
                (select string_agg(distinct format(', (%s) as %I', e.value, e.key), '') from sync.giving_keys(p_entity) o cross join lateral jsonb_each_text(o.generated) e),
                p_values)
    from sync.giving_keys(p_entity) g having count(*) > 0
$$;
comment on function sync.kept_keys_sql(public.sync_entities, text) is
  'SQL, for a join: h.place and h.hash of what the row that p_values selects (the columns of the target table by '
  'name) holds in each index of sync.giving_keys. Null: there is none.';

create function sync.held_keys_sql(p_entity public.sync_entities, p_schema text) returns text
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select sync.kept_keys_sql(p_entity, format('select t.id, %s from %s t where t.id = p._uuid', string_agg(format('t.%I', c.name), ', '), sync.target_sql(p_entity, p_schema)))
    from sync.field_slots(p_entity) c
$$;
comment on function sync.held_keys_sql(public.sync_entities, text) is
  'SQL, for a join: what sync.kept_keys_sql says of the target row of the record p.';

create function sync.find_givers(p_entity public.sync_entities, p_schema text, p_from integer, p_to integer) returns boolean
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_held  text := sync.held_keys_sql(p_entity, p_schema);
  v_state text;
begin
  if v_held is null then
    return false;
  end if;
  if to_regclass('pg_temp.page_givers') is null then
    create temp table page_wanted (n integer not null, place integer not null, hash bigint not null) on commit drop;
    create index on pg_temp.page_wanted (hash);
    create index on pg_temp.page_wanted (n);
    create temp table page_givers (n integer not null, taker integer not null, place integer not null, field text) on commit drop;
    create index on pg_temp.page_givers (n);
    create index on pg_temp.page_givers (taker);
    create temp table page_waits (n integer not null, taker integer not null) on commit drop;
    create index on pg_temp.page_waits (n);
    create index on pg_temp.page_waits (taker);
    create temp table page_steps (n integer primary key, step integer) on commit drop;
    create index on pg_temp.page_steps (step);
    create temp table page_stand_ins (n integer not null, field text not null, was text, stands text, restored boolean not null, primary key (n, field)) on commit drop;
    create temp table page_giving (place integer not null, name text not null, rank integer not null, field text not null, slot text not null, type text not null,
      nulls boolean not null, empties boolean not null, alters boolean not null, refers boolean not null, referred boolean not null, labels text[] not null) on commit drop;
    -- One for all slices: a table that is dropped keeps its lock until the commit.
    create temp table page_order (n integer primary key, step integer not null, now integer not null) on commit drop;
    -- In whose circles this page has found nothing, in whatever slice.
    create temp table page_stuck (id uuid primary key) on commit drop;
    -- Its sequence counts what was tried: no slice that is undone takes that back.
    create temp table page_tries (n integer generated always as identity, begun timestamptz not null) on commit drop;
    insert into pg_temp.page_tries (begun) values (clock_timestamp());
  end if;
  delete from pg_temp.page_wanted;
  delete from pg_temp.page_givers;
  delete from pg_temp.page_giving;
  insert into pg_temp.page_giving
  select g.place, g.name, row_number() over (partition by g.place order by not f.empties, x.n), f.field, f.slot, f.type, f.nulls, f.empties, f.alters, f.refers, f.referred, f.labels
    from (select row_number() over (order by k.name) as place, k.name, k.fields from sync.giving_keys(p_entity) k) g
    cross join lateral pg_catalog.unnest(g.fields) with ordinality x (field, n)
    join sync.giving_fields(p_entity) f using (field);
  -- What the indexes are made of is the application's, as when its rows are written.
  perform set_config('search_path', sync.application_path(), true);
  execute format($q$
    insert into pg_temp.page_wanted (n, place, hash)
    select p.n, h.place, h.hash
      from pg_temp.page_rows p join pg_temp.page_plan q on q.n = p.n
      left join lateral (select t.id, %1$s from %2$s t where t.id = p._uuid offset 0) t on true
      cross join %3$s
     where p.n between $1 and $2 and q.action in ('insert', 'update', 'review')
  $q$, (select string_agg(format('t.%I', c.name), ', ') from sync.field_slots(p_entity) c), sync.target_sql(p_entity, p_schema),
    sync.kept_keys_sql(p_entity, (
      select 'select p._uuid as id, ' || string_agg(format('case when q.action = ''insert'' or q.written ? %1$L then (p.%2$s)::%3$s else t.%1$I end as %1$I',
                                                           c.name, c.slot, concat_ws('::', c.type, nullif(c.exact, c.type))), ', ')
        from sync.field_slots(p_entity) c))) using p_from, p_to;
  execute format($q$
    insert into pg_temp.page_givers (n, taker, place, field)
    select p.n, w.n, h.place, (
             select f.field from pg_temp.page_giving f where f.place = h.place and q.written ? f.field and (f.empties or f.alters) order by f.rank limit 1)
      from pg_temp.page_rows p join pg_temp.page_plan q on q.n = p.n
      cross join %1$s
      join pg_temp.page_wanted w on w.hash = h.hash and w.place = h.place and w.n <> p.n
     where p.n between $1 and $2 and q.action in ('update', 'review') and q.written <> '{}'
       -- Who keeps the value clashes in earnest.
       and (select o.n from pg_temp.page_wanted o where o.n = p.n and o.place = h.place and o.hash = h.hash limit 1) is null
  $q$, v_held) using p_from, p_to;
  return exists (select from pg_temp.page_givers);
-- What an index makes of a record's values, of those that it holds now too, may fail. Then the record is told by its
-- write, alone.
exception when others or assert_failure then
  get stacked diagnostics v_state = returned_sqlstate;
  if not sync.refuses_value(v_state) then
    raise;
  end if;
  return false;
end
$$;
comment on function sync.find_givers(public.sync_entities, text, integer, integer) is
  'Which records n of a slice hold a unique value that another one of it (taker) is to get, in which index of '
  'sync.giving_keys, and the field by which they can give it up at once: into pg_temp.page_givers. What each record '
  'is to hold is in pg_temp.page_wanted.';

create function sync.vacate_statements(p_entity public.sync_entities, p_schema text) returns text[]
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  -- What stands then is read from the rows: with RETURNING PostgreSQL updates no table that has further rules.
  select array['delete from pg_temp.page_stand_ins', sync.stand_in_told('new')] || coalesce(pg_catalog.array_agg(v.statement order by f.field, v.n), '{}') || sync.stand_in_told('old')
    from sync.giving_fields(p_entity) f
    cross join lateral (values (1, format($q$
      update %1$s t set %2$I = %3$s
        from pg_temp.page_rows p
       where p.n between $1 and $2 and t.id = p._uuid
         and (select g.n from pg_temp.page_givers g where g.n = p.n and g.taker between $1 and $2 and g.field = %2$L limit 1) is not null
    $q$, sync.target_sql(p_entity, p_schema), f.field,
      case when f.empties then 'null' else format('(sync.first_stand_in(t.%1$I::text collate "C", p.%2$s, %3$L, p.n))::%3$s', f.field, f.slot, f.type) end)),
    (2, format($q$
      insert into pg_temp.page_stand_ins (n, field, stands, restored)
      select p.n, %2$L, t.%2$I::text, false
        from pg_temp.page_rows p join %1$s t on t.id = p._uuid
       where p.n between $1 and $2
         and (select g.n from pg_temp.page_givers g where g.n = p.n and g.taker between $1 and $2 and g.field = %2$L limit 1) is not null
    $q$, sync.target_sql(p_entity, p_schema), f.field))) v (n, statement)
   where f.empties or f.alters
$$;
comment on function sync.vacate_statements(public.sync_entities, text) is
  'The statements by which all rows of a slice give up the unique values that others of it are to get, as '
  'pg_temp.page_givers says. $1, $2: the slice.';

create function sync.restore_statements(p_entity public.sync_entities, p_schema text) returns text[]
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select coalesce(pg_catalog.array_agg(s.statement order by s.checks, s.field), '{}')
    from (select f.field, false as checks, format($q$
            update %1$s t set %2$I = (s.was)::%3$s
              from pg_temp.page_stand_ins s join pg_temp.page_rows p on p.n = s.n
             where s.n between $1 and $2 and s.field = %2$L and s.restored and t.id = p._uuid
          $q$, sync.target_sql(p_entity, p_schema), f.field, f.type) as statement
            from sync.giving_fields(p_entity) f
          union all
          select f.field, true, format($q$
            select sync.refuse_stand_in()
              from pg_temp.page_stand_ins s join pg_temp.page_rows p on p.n = s.n
              cross join lateral (select t.%2$I::text as now from %1$s t where t.id = p._uuid offset 0) t
             where s.n between $1 and $2 and s.field = %2$L
               -- Letter by letter, whatever the column's collation takes for equal.
               and case when s.restored then t.now collate "C" is distinct from s.was
                        else t.now collate "C" is not distinct from s.stands and t.now collate "C" is distinct from (p.%3$s)::%4$s::text end
          $q$, sync.target_sql(p_entity, p_schema), f.field, f.slot, f.type)
            from sync.giving_fields(p_entity) f) s
$$;
comment on function sync.restore_statements(public.sync_entities, text) is
  'The statements that put back what stand-ins took the place of in columns that are not written, and those that '
  'refuse a slice of which one still stands, or in which a column that is not written has changed. $1, $2: the '
  'slice.';

create function sync.refuse_stand_in() returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  raise exception using errcode = 'IS004', message = 'the target has cancelled or changed the write of a row that holds a stand-in';
end
$$;
comment on function sync.refuse_stand_in() is 'Raises IS004: a row would keep a value that stood in for a moment.';

revoke all on function sync.giving_keys(public.sync_entities), sync.giving_fields(public.sync_entities), sync.kept_keys_sql(public.sync_entities, text),
  sync.held_keys_sql(public.sync_entities, text), sync.find_givers(public.sync_entities, text, integer, integer),
  sync.vacate_statements(public.sync_entities, text), sync.restore_statements(public.sync_entities, text), sync.refuse_stand_in() from public;
grant execute on function sync.giving_keys(public.sync_entities), sync.giving_fields(public.sync_entities), sync.kept_keys_sql(public.sync_entities, text),
  sync.held_keys_sql(public.sync_entities, text), sync.find_givers(public.sync_entities, text, integer, integer),
  sync.vacate_statements(public.sync_entities, text), sync.restore_statements(public.sync_entities, text), sync.refuse_stand_in() to isthmus_worker;

-- supabase/schemas/functions/park-records.sql

-- Purpose: have the row of one record give up unique values for stand-ins that the target takes.
-- Locks:   none beyond those of the statements.

create function sync.unindexed_references(p_table regclass) returns text
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select string_agg(format('%s (%s)', f.conrelid::regclass, k.columns), ', ' order by f.conname)
    from pg_catalog.pg_constraint f
    cross join lateral (
      select string_agg(a.attname, ', ' order by x.n) as columns
        from pg_catalog.unnest(f.conkey) with ordinality x (attnum, n) join pg_catalog.pg_attribute a on a.attrelid = f.conrelid and a.attnum = x.attnum) k
   where f.contype = 'f' and f.confrelid = p_table
     and not exists (select from pg_catalog.pg_index i where i.indrelid = f.conrelid and i.indisvalid and i.indpred is null and i.indkey[0] = any (f.conkey))
$$;
comment on function sync.unindexed_references(regclass) is
  'The columns that refer to rows of a table, and are the first of no index: whatever changes the value referred to '
  'looks through their table. Null: none.';

create function sync.shared_keys(p_held text, p_n integer, p_from integer, p_to integer) returns integer[]
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_places integer[];
begin
  -- What the indexes are made of is the application's, as when its rows are written.
  perform set_config('search_path', sync.application_path(), true);
  execute format($q$
    select pg_catalog.array_agg(distinct h.place order by h.place)
      from pg_temp.page_rows p cross join %s
      join pg_temp.page_wanted w on w.hash = h.hash and w.place = h.place and w.n <> p.n and w.n between $2 and $3
     where p.n = $1
  $q$, p_held) into v_places using p_n, p_from, p_to;
  return coalesce(v_places, '{}');
end
$$;
comment on function sync.shared_keys(text, integer, integer, integer) is
  'The indexes in which the target row of record p_n holds what another record of the slice is to get. p_held: '
  'sync.held_keys_sql.';

create function sync.stands(p_statement text, p_held text, p_n integer, p_value text, p_allowed integer[], p_from integer, p_to integer) returns boolean
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_state text;
begin
  perform set_config('search_path', sync.application_path(), true);
  execute sync.stand_in_told('new');
  execute p_statement using p_n, p_value;
  execute sync.stand_in_told('old');
  if not sync.shared_keys(p_held, p_n, p_from, p_to) <@ p_allowed then
    raise exception using errcode = 'IS003', message = 'only tried';
  end if;
  return true;
exception when others or assert_failure then
  get stacked diagnostics v_state = returned_sqlstate;
  if not sync.refuses_value(v_state) then
    raise;
  end if;
  return false;
end
$$;
comment on function sync.stands(text, text, integer, text, integer[], integer, integer) is
  'Puts a stand-in into the row of record p_n; false, and nothing happened, when the target refuses the value, or '
  'the row would hold what others are to get in more indexes than p_allowed.';

create function sync.listed_stand_ins(p_entity public.sync_entities, p_schema text, p_field text, p_slot text, p_refers boolean, p_labels text[], p_from integer, p_to integer)
returns text[]
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_listed text[];
begin
  execute format($q$
    select array(select distinct x.value from (
             select t.%1$I::text from (select t.%1$I from public.%4$I t limit 50) t
             union all
             select t.%1$I::text from (select p._uuid from pg_temp.page_rows p where p.n between $1 and $2 limit 50) p join %3$s t on t.id = p._uuid
             union all
             select p.%2$s from pg_temp.page_rows p where p.n between $1 and $2 and not $3 limit 150) x (value)
            where x.value is not null and x.value <> all ($4) order by x.value limit 30)
  $q$, p_field, p_slot, sync.target_sql(p_entity, p_schema), p_entity.target_table) into v_listed using p_from, p_to, p_refers, p_labels;
  return p_labels || v_listed || case when p_refers then '{}' else '{7,2001-02-03,"{7}","[7,9)",true,false}'::text[] end;
end
$$;
comment on function sync.listed_stand_ins(public.sync_entities, text, text, text, boolean, text[], integer, integer) is
  'Values that may stand in whatever is there now: the labels of an enum, and what the column holds elsewhere, or is '
  'to hold; for a reference only what stands there.';

create function sync.park(p_entity public.sync_entities, p_schema text, p_held text, p_n integer, p_from integer, p_to integer) returns boolean
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_places integer[] := sync.shared_keys(p_held, p_n, p_from, p_to);
  v_field  record;
  v_listed text[];
  v_now    text;
  v_new    text;
  v_value  text;
  v_stands boolean;
begin
  while v_places <> '{}' loop
    v_stands := false;
    for v_field in
      select f.*, q.written ? f.field as writes from pg_temp.page_giving f join pg_temp.page_plan q on q.n = p_n
       -- Last what refers to rows, and never what only others refer to.
       where f.place = v_places[1] and (not f.referred or q.written ? f.field)
       order by f.refers, not q.written ? f.field, f.rank
    loop
      execute format('select t.%1$I::text, p.%2$s from pg_temp.page_rows p join %3$s t on t.id = p._uuid where p.n = $1',
                     v_field.field, v_field.slot, sync.target_sql(p_entity, p_schema)) into v_now, v_new using p_n;
      v_listed := sync.listed_stand_ins(p_entity, p_schema, v_field.field, v_field.slot, v_field.refers, v_field.labels, p_from, p_to);
      -- The try before the first is NULL.
      for v_try in -1 .. 39 + cardinality(v_listed) loop
        continue when v_try < 0 and (v_now is null or not v_field.nulls) or v_try between 0 and 39 and (v_field.refers or v_field.labels <> '{}');
        v_value := case when v_try >= 0 then sync.stand_in(v_now, v_new, v_field.type, p_n, v_listed, v_try) end;
        if v_value is not null or v_try < 0 then
          v_stands := sync.stands(format('update %s t set %I = ($2)::%s from pg_temp.page_rows p where p.n = $1 and t.id = p._uuid', sync.target_sql(p_entity, p_schema), v_field.field, v_field.type),
                                  p_held, p_n, v_value, v_places[2:], p_from, p_to);
        end if;
        exit when v_stands or sync.count_tries(1);
      end loop;
      if v_stands then
        -- Of two in one column the first one took the place of what is put back.
        execute format($q$
          insert into pg_temp.page_stand_ins as s (n, field, was, stands, restored)
          select $1, %1$L, $2, t.%1$I::text, not $3 from pg_temp.page_rows p join %2$s t on t.id = p._uuid where p.n = $1
          on conflict (n, field) do update set stands = excluded.stands
        $q$, v_field.field, sync.target_sql(p_entity, p_schema)) using p_n, v_now, v_field.writes;
      end if;
      exit when v_stands or sync.tries_spent();
    end loop;
    if not v_stands then
      -- With what stands in for the other values of the row already.
      raise exception using errcode = 'IS003', message = 'only tried';
    end if;
    v_places := sync.shared_keys(p_held, p_n, p_from, p_to);
  end loop;
  return true;
exception when sqlstate 'IS003' then
  return false;
end
$$;
comment on function sync.park(public.sync_entities, text, text, integer, integer, integer) is
  'Has the row of one record give up the unique values that others of the slice are to get, for stand-ins that the '
  'target takes. False, and nothing happened: none of those tried would do. p_held: sync.held_keys_sql.';

revoke all on function sync.unindexed_references(regclass), sync.shared_keys(text, integer, integer, integer),
  sync.stands(text, text, integer, text, integer[], integer, integer),
  sync.listed_stand_ins(public.sync_entities, text, text, text, boolean, text[], integer, integer),
  sync.park(public.sync_entities, text, text, integer, integer, integer) from public;
grant execute on function sync.unindexed_references(regclass), sync.shared_keys(text, integer, integer, integer),
  sync.stands(text, text, integer, text, integer[], integer, integer),
  sync.listed_stand_ins(public.sync_entities, text, text, text, boolean, text[], integer, integer),
  sync.park(public.sync_entities, text, text, integer, integer, integer) to isthmus_worker;

-- supabase/schemas/functions/exchange-in-order.sql

-- Purpose: write rows that exchange unique values one after the other.
-- Locks:   none beyond those of the statements.
--
-- Who gives a value is written before who takes it. Only rows that wait for each other in a circle need a stand-in,
-- one of them. Circles for which a page has no tries left stay in the queue, and are the first that the next page
-- tries.

create function sync.circles(p_next integer[]) returns setof integer[]
language plpgsql immutable security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_met    integer[] := array_fill(0, array[cardinality(p_next)]);
  v_at     integer;
  v_first  integer;
  v_circle integer[];
begin
  for v_start in 1 .. cardinality(p_next) loop
    v_at := v_start;
    while v_at is not null and v_met[v_at] = 0 loop
      v_met[v_at] := v_start;
      v_at := p_next[v_at];
    end loop;
    if v_at is not null and v_met[v_at] = v_start then
      v_first := v_at;
      v_circle := '{}';
      loop
        v_circle := v_circle || v_at;
        v_at := p_next[v_at];
        exit when v_at = v_first;
      end loop;
      return next v_circle;
    end if;
  end loop;
end
$$;
comment on function sync.circles(integer[]) is
  'Of n things, each of which waits for at most one other (p_next[i], null: none): those that wait for each other in '
  'a circle.';

create function sync.order_exchange(p_entity public.sync_entities, p_schema text, p_from integer, p_to integer, out stuck integer[], out untried integer[])
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_held   text := sync.held_keys_sql(p_entity, p_schema);
  v_step   integer := 0;
  v_free   integer[];
  v_n      integer[];
  v_next   integer[];
  v_circle integer[];
  v_parked boolean;
begin
  stuck := '{}';
  untried := '{}';
  delete from pg_temp.page_stand_ins;
  delete from pg_temp.page_steps;
  delete from pg_temp.page_waits;
  insert into pg_temp.page_waits (n, taker)
  select distinct g.n, g.taker from pg_temp.page_givers g where g.n between p_from and p_to and g.taker between p_from and p_to;
  insert into pg_temp.page_steps (n) select w.n from pg_temp.page_waits w union select w.taker from pg_temp.page_waits w;
  v_free := array(select s.n from pg_temp.page_steps s where (select w.n from pg_temp.page_waits w where w.taker = s.n limit 1) is null);
  loop
    -- Who takes from nobody any more is next, and then those who take only from them.
    while v_free <> '{}' loop
      update pg_temp.page_steps s set step = v_step where s.n = any (v_free) and s.step is null;
      with given as (delete from pg_temp.page_waits w where w.n = any (v_free) returning w.taker) select array(select distinct g.taker from given g) into v_free;
      v_free := array(select x.n from pg_catalog.unnest(v_free) x (n) where (select w.n from pg_temp.page_waits w where w.taker = x.n limit 1) is null);
      v_step := v_step + 1;
    end loop;
    with pending as materialized (
      select s.n, (row_number() over (order by s.n))::integer as i, (select min(w.n) from pg_temp.page_waits w where w.taker = s.n) as giver
        from pg_temp.page_steps s where s.step is null)
    select pg_catalog.array_agg(p.n order by p.i), pg_catalog.array_agg(g.i order by p.i) into v_n, v_next from pending p left join pending g on g.n = p.giver;
    exit when v_n is null;
    for v_circle in
      select x.n from (select array(select v_n[i] from pg_catalog.unnest(c) i) as n from sync.circles(v_next) c) x
       -- Each in its turn: last those in which nothing would do most often, and what this page has tried already.
       order by (
         select max(coalesce(told.tried, 0) + case when (select s.id from pg_temp.page_stuck s where s.id = p._uuid) is null then 0 else 1 end)
           from pg_temp.page_rows p
           left join lateral (
             select (k.conflict_data ->> 'tried')::integer as tried from public.sync_conflicts k
              where k.entity_id = p_entity.id and k.source_record_id = p._key and k.state = 'open' limit 1) told on true
          where p.n = any (x.n)), x.n
    loop
      v_parked := false;
      for v_at in 1 .. least(cardinality(v_circle), 4) loop
        exit when sync.count_tries(0);
        v_parked := sync.park(p_entity, p_schema, v_held, v_circle[v_at], p_from, p_to);
        if v_parked then
          delete from pg_temp.page_waits w where w.n = v_circle[v_at];
          exit;
        end if;
      end loop;
      if not v_parked then
        if sync.tries_spent() then
          untried := untried || v_circle;
        else
          stuck := stuck || v_circle;
        end if;
        delete from pg_temp.page_waits w where w.n = any (v_circle) or w.taker = any (v_circle);
        delete from pg_temp.page_steps s where s.n = any (v_circle);
      end if;
    end loop;
    v_free := array(select s.n from pg_temp.page_steps s where s.step is null and (select w.n from pg_temp.page_waits w where w.taker = s.n limit 1) is null);
  end loop;
end
$$;
comment on function sync.order_exchange(public.sync_entities, text, integer, integer) is
  'In which steps the records of a slice that exchange unique values are to be written: into pg_temp.page_steps. Of '
  'each circle one row is parked (sync.park). stuck: the members of circles in which none could be; untried: of '
  'those for which the page has no tries left.';

create function sync.renumber_steps(p_from integer, p_to integer) returns table (first_n integer, last_n integer)
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_table text;
begin
  delete from pg_temp.page_order;
  insert into pg_temp.page_order (n, step, now)
  select p.n, coalesce(s.step, 0), p_from - 1 + (row_number() over (order by coalesce(s.step, 0), p.n))::integer
    from pg_temp.page_rows p left join pg_temp.page_steps s on s.n = p.n where p.n between p_from and p_to;
  -- Numbers that change places collide, too.
  foreach v_table in array array['page_rows', 'page_plan', 'page_rejects', 'page_relatives', 'page_wanted', 'page_givers', 'page_stand_ins'] loop
    execute format('update pg_temp.%I x set n = -1 - o.now from pg_temp.page_order o where o.n = x.n and x.n between $1 and $2', v_table) using p_from, p_to;
    execute format('update pg_temp.%I x set n = -1 - x.n where x.n < 0', v_table);
  end loop;
  update pg_temp.page_givers g set taker = o.now from pg_temp.page_order o where o.n = g.taker;
  return query select min(o.now), max(o.now) from pg_temp.page_order o group by o.step order by o.step;
end
$$;
comment on function sync.renumber_steps(integer, integer) is
  'Numbers the records of a slice anew, in the order of pg_temp.page_steps: returns the range of each step.';

create function sync.reject_circles(p_stuck integer[], p_untried integer[]) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_all integer[] := p_stuck || p_untried;
begin
  insert into pg_temp.page_rejects (n, sqlstate, constraint_name, other, stuck)
  select distinct on (g.taker) g.taker, '23505', k.name, p._uuid, g.taker = any (p_stuck)
    from pg_temp.page_givers g join pg_temp.page_rows p on p.n = g.n left join pg_temp.page_giving k on k.place = g.place
   where g.taker = any (v_all) and g.n = any (v_all)
   order by g.taker, g.n, k.name;
  insert into pg_temp.page_stuck (id) select p._uuid from pg_temp.page_rows p where p.n = any (p_stuck) on conflict do nothing;
  delete from pg_temp.page_plan q where q.n = any (v_all);
  delete from pg_temp.page_givers g where g.n = any (v_all) or g.taker = any (v_all);
  delete from pg_temp.page_wanted w where w.n = any (v_all);
end
$$;
comment on function sync.reject_circles(integer[], integer[]) is
  'Puts the members of circles in which nothing could stand in for a unique value into pg_temp.page_rejects, each '
  'with the one that holds its value, as sync.order_exchange has found them.';

create function sync.try_stand_ins(p_statements text[], p_from integer, p_to integer) returns text[]
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_state text;
begin
  return sync.try_slice(p_statements, true, p_from, p_to);
-- Whatever a trigger or a policy makes of a stand-in, written or just replaced. What concerns the page is met again
-- without stand-ins.
exception when others or assert_failure then
  get stacked diagnostics v_state = returned_sqlstate;
  if not sync.refuses_value(v_state) then
    raise;
  end if;
  return array['23505'];
end
$$;
comment on function sync.try_stand_ins(text[], integer, integer) is
  'What sync.try_slice says of prepared statements that put stand-ins into rows, or replace them: an error that no '
  'record causes counts as values that are still held (23505).';

create function sync.try_exchange(p_entity public.sync_entities, p_schema text, p_vacating text[], p_prepared text[], p_restoring text[], p_parts boolean, p_from integer, p_to integer)
returns text[]
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  -- Where the clock has ended the tries, nothing is written in vain any more.
  v_error   text[] := case when sync.count_tries(0) and sync.time_spent() then array['23505'] else sync.try_stand_ins(p_vacating || p_prepared[:3] || p_restoring || p_prepared[4:] || sync.stand_in_told(''), p_from, p_to) end;
  v_written text[] := '{}';
  v_stuck   integer[] := '{}';
  v_untried integer[] := '{}';
begin
  if v_error is null or sync.tries_spent() then
    return v_error;
  end if;
  begin
    select o.stuck, o.untried into v_stuck, v_untried from sync.order_exchange(p_entity, p_schema, p_from, p_to) o;
    v_error := array['23505'];
    if p_parts or v_stuck || v_untried = '{}' then
      perform sync.reject_circles(v_stuck, v_untried);
      select pg_catalog.array_agg(format(x.statement, s.first_n, s.last_n) order by s.first_n, x.n) into v_written
        from sync.renumber_steps(p_from, p_to) s cross join pg_catalog.unnest(p_prepared[2:3]) with ordinality x (statement, n);
      v_error := sync.try_stand_ins(p_prepared[:1] || v_written || p_restoring || p_prepared[4:] || sync.stand_in_told(''), p_from, p_to);
      if v_error is null then
        return null;
      end if;
    end if;
    raise exception using errcode = 'IS003', message = 'only tried';
  exception when sqlstate 'IS003' then
    -- A long order that is refused costs as much as several values.
    perform sync.count_tries(1 + cardinality(v_written) / 16);
  end;
  if p_parts then
    -- That was undone, too. No part of the slice tries them again.
    perform sync.reject_circles(v_stuck, v_untried);
  end if;
  return v_error;
end
$$;
comment on function sync.try_exchange(public.sync_entities, text, text[], text[], text[], boolean, integer, integer) is
  'Writes a slice whose records exchange unique values, as pg_temp.page_givers says: all rows give them up at once, '
  'or they are written in order. Null, or the error that sync.try_stand_ins returns. p_vacating, p_prepared, '
  'p_restoring: sync.vacate_statements, sync.write_statements and sync.restore_statements, prepared. p_parts: '
  'whether records for which nothing can stand in are put into pg_temp.page_rejects, and the others written.';

revoke all on function sync.circles(integer[]), sync.order_exchange(public.sync_entities, text, integer, integer),
  sync.renumber_steps(integer, integer), sync.reject_circles(integer[], integer[]), sync.try_stand_ins(text[], integer, integer),
  sync.try_exchange(public.sync_entities, text, text[], text[], text[], boolean, integer, integer) from public;
grant execute on function sync.circles(integer[]), sync.order_exchange(public.sync_entities, text, integer, integer),
  sync.renumber_steps(integer, integer), sync.reject_circles(integer[], integer[]), sync.try_stand_ins(text[], integer, integer),
  sync.try_exchange(public.sync_entities, text, text[], text[], text[], boolean, integer, integer) to isthmus_worker;

-- supabase/schemas/functions/load-slices.sql

-- Purpose: run the statements of a load over the records of a page, and find those that the database rejects.
-- Locks:   none beyond those of the statements.
--
-- A rejected record is found here and not in the caller, because an error caught in plpgsql leaves no
-- trace in the server's log, and a message such as "Key (email)=(...)" must not land there.
--
-- What classifies runs before what writes, once per record: a slice that is halved because a write was rejected is
-- not classified again. Slices of a page with rejects run as prepared statements, whose plans probe indexes: with
-- 5,000 rejects a page runs 10,000 slices, and a plan for each of them would take minutes.

create function sync.clash_sql(p_entity public.sync_entities, p_schema text, p_index text) returns text
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select format($q$
      select held.id
        from (select v.id as _id, %1$s from (select p._uuid as id, %2$s from pg_temp.page_rows p where p.n = $1) v) k
        cross join lateral (select t.id from %3$s t where %4$s and t.id <> k._id limit 1) held
    $q$, (select string_agg(format('%s as _k%s', e, n), ', ' order by n) from pg_catalog.unnest(u.keys) with ordinality x (e, n)),
      (select string_agg(format('(p.%s)::%s as %I', c.slot, c.registered, c.name), ', ') from sync.field_slots(p_entity) c),
      sync.target_sql(p_entity, p_schema),
      sync.holds_key_sql(u.keys, u.operators, u.nulls_equal) || coalesce(' and (' || u.predicate || ')', ''))
    from sync.unique_keys(p_entity) u where u.name = p_index
$$;
comment on function sync.clash_sql(public.sync_entities, text, text) is
  'SQL: the target row that holds the unique value of a rejected record. $1: its n. Null where the index is over '
  'columns that the sync may not read.';

create function sync.parted(p_from integer, p_to integer, p_alone integer[]) returns integer[]
language sql immutable security invoker set search_path = pg_catalog, pg_temp as $$
  select array_agg(x.bound order by s.first desc, x.place)
    from (select n as first, n as last from unnest(p_alone) n
          union all
          select a.n + 1, lead(a.n, 1, p_to + 1) over (order by a.n) - 1 from (select p_from - 1 as n union all select unnest(p_alone)) a) s
    cross join lateral (values (1, s.last), (2, s.first)) x (place, bound)
   where s.first <= s.last
$$;
comment on function sync.parted(integer, integer, integer[]) is
  'The slices of [from, to] that hold one of these records each, and those between them: {to, from, to, from, …}, '
  'the lowest last.';

-- The plans are made once, of tables that may have been empty then and grow by these very statements: indexes are
-- probed.
create function sync.bisect_slice(p_entity public.sync_entities, p_schema text, p_phase text, p_statements text[], p_from integer, p_to integer, p_error text[])
returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
declare
  v_prepared text[] := sync.prepare_statements(p_phase, p_statements);
  v_vacating text[];
  v_restoring text[];
  v_gives    boolean;
  v_index    text;
  v_clash    text;
  v_slices   integer[] := array[p_to, p_from];
  v_error    text[] := p_error;
  v_from     integer;
  v_to       integer;
  v_other    uuid;
  v_refused  text;
begin
  while cardinality(v_slices) > 0 loop
    v_from := v_slices[cardinality(v_slices)];
    v_to := v_slices[cardinality(v_slices) - 1];
    v_slices := v_slices[:cardinality(v_slices) - 2];
    -- Of the whole it is known.
    if (v_from, v_to) <> (p_from, p_to) then
      v_error := sync.try_slice(v_prepared, true, v_from, v_to);
      continue when v_error is null;
    end if;
    if v_error[1] = '23505' and v_from < v_to and p_phase = 'write' then
      v_gives := coalesce(v_gives, sync.find_givers(p_entity, p_schema, p_from, p_to));
      -- Where nothing can be given up, there is no table of it either.
      if v_gives then
        if exists (select from pg_temp.page_givers where n between v_from and v_to and taker between v_from and v_to) then
          v_vacating := coalesce(v_vacating, sync.prepare_statements('vacate', sync.vacate_statements(p_entity, p_schema)));
          v_restoring := coalesce(v_restoring, sync.prepare_statements('restore', sync.restore_statements(p_entity, p_schema)));
          v_error := sync.try_exchange(p_entity, p_schema, v_vacating, v_prepared, v_restoring, true, v_from, v_to);
          continue when v_error is null;
        end if;
      end if;
    end if;
    if v_from < v_to and v_error[4] ~ '^[0-9]' then
      -- Each of these is tried alone, and what lies between them together.
      v_slices := v_slices || sync.parted(v_from, v_to, string_to_array(v_error[4], ',')::integer[]);
      continue;
    end if;
    if v_from < v_to then
      v_slices := v_slices || array[v_to, (v_from + v_to) / 2 + 1, (v_from + v_to) / 2, v_from];
      continue;
    end if;
    v_other := null;
    if v_error[1] = '23505' then
      if v_error[2] is distinct from v_index then
        v_index := v_error[2];
        v_clash := (sync.prepare_statements('clash', array[sync.clash_sql(p_entity, p_schema, v_index)]))[1];
      end if;
      if v_clash is not null then
        execute format(v_clash, v_from) into v_other;
      end if;
    end if;
    delete from pg_temp.page_plan where n = v_from;
    insert into pg_temp.page_rejects (n, sqlstate, constraint_name, column_name, other) values (v_from, v_error[1], v_error[2], v_error[3], v_other);
  end loop;
  -- What a trigger or an index says of every record that is written, it says of none: a table or a function that it
  -- needs is gone.
  if p_phase = 'write' then
    select min(j.sqlstate) into v_refused from pg_temp.page_rejects j where j.n between p_from and p_to
    having count(*) > 1 and min(j.sqlstate) = max(j.sqlstate) and min(j.sqlstate) ~ '^42'
       and not exists (select from pg_temp.page_plan q where q.n between p_from and p_to and q.action <> 'unchanged');
    if v_refused is not null then
      raise exception 'every record that is written is refused' using errcode = v_refused;
    end if;
  end if;
  perform sync.forget_statements('(' || p_phase || '|vacate|restore|clash)');
  perform sync.name_unfit_columns(p_entity, p_from, p_to);
end
$$;
comment on function sync.bisect_slice(public.sync_entities, text, text, text[], integer, integer, text[]) is
  'Halves a slice that was rejected with p_error until each rejected record stands alone, and puts it into '
  'pg_temp.page_rejects; the others are carried through. p_phase: read or write.';

create function sync.load_slice(p_entity public.sync_entities, p_schema text, p_reads text[], p_writes text[], p_from integer, p_to integer) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_writes text[] := p_writes || 'set constraints all immediate'::text;
  v_error  text[] := sync.try_slice(p_reads, false, p_from, p_to);
begin
  if v_error is not null then
    perform sync.bisect_slice(p_entity, p_schema, 'read', p_reads, p_from, p_to, v_error);
  end if;
  if p_to - p_from > 50 then
    analyze pg_temp.page_plan (n, legacy_id, id, action);
  end if;
  v_error := sync.try_slice(v_writes, false, p_from, p_to);
  if v_error is not null then
    perform sync.bisect_slice(p_entity, p_schema, 'write', v_writes, p_from, p_to, v_error);
  end if;
end
$$;
comment on function sync.load_slice(public.sync_entities, text, text[], text[], integer, integer) is
  'Runs the statements of a load for the records n in [from, to]: those that classify, then those that write. '
  'Rejected records end in pg_temp.page_rejects and have no row in pg_temp.page_plan.';

create function sync.keep_stuck() returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  if to_regclass('pg_temp.page_stuck') is not null then
    update pg_temp.page_rejects j set stuck = true
      from pg_temp.page_stuck s join pg_temp.page_rows p on p._uuid = s.id
     where j.n = p.n and j.sqlstate = '23505' and j.other is not null and not j.stuck;
  end if;
end
$$;
comment on function sync.keep_stuck() is
  'Has rejects told as stuck in whose circles the page found nothing earlier, though it had no tries left for them '
  'later.';

create function sync.load_circles(p_entity public.sync_entities, p_schema text, p_reads text[], p_writes text[]) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  -- The new numbers begin behind those of the page.
  v_last   integer := (select max(n) from pg_temp.page_rows);
  v_after  integer := v_last;
  v_n      integer[];
  v_next   integer[];
  v_circle integer[];
  v_all    integer[] := '{}';
  v_some   boolean;
begin
  -- All circles together, and then, when one of them is refused, each by itself: those in which nothing could stand
  -- in only where a value may have become free.
  for v_together in reverse 1 .. 0 loop
    with reject as materialized (
      select j.n, p._uuid, j.other, (row_number() over (order by j.n))::integer as i
        from pg_temp.page_rejects j join pg_temp.page_rows p on p.n = j.n where j.sqlstate = '23505' and j.other is not null)
    select pg_catalog.array_agg(r.n order by r.i), pg_catalog.array_agg(h.i order by r.i) into v_n, v_next
      from reject r left join reject h on h._uuid = r.other;
    exit when v_n is null or v_together = 0 and sync.tries_spent();
    if v_together = 1 then
      -- What others have used up of them is not the circles'.
      perform sync.renew_tries();
    end if;
    for v_circle in
      select c.n from (select array(select v_n[x] from pg_catalog.unnest(c) x) as n from sync.circles(v_next) c) c
       where v_together = 1 or c.n <@ v_all and (v_some or not exists (select from pg_temp.page_rejects j where j.n = any (c.n) and j.stuck))
       order by exists (select from pg_temp.page_rejects j where j.n = any (c.n) and j.stuck), c.n
    loop
      exit when sync.tries_spent();
      delete from pg_temp.page_rejects where n = any (v_circle);
      update pg_temp.page_rows p set n = v_after + x.i from pg_catalog.unnest(v_circle) with ordinality x (n, i) where p.n = x.n;
      if v_together = 0 then
        perform sync.load_slice(p_entity, p_schema, p_reads, p_writes, v_after + 1, v_after + cardinality(v_circle));
      end if;
      v_after := v_after + cardinality(v_circle);
    end loop;
    exit when v_after = v_last;
    if v_together = 1 then
      perform sync.load_slice(p_entity, p_schema, p_reads, p_writes, v_last + 1, v_after);
      perform sync.keep_stuck();
      v_all := array(select generate_series(v_last + 1, v_after));
      v_some := exists (select from pg_catalog.unnest(v_all) x (n) where not exists (select from pg_temp.page_rejects j where j.n = x.n));
    end if;
  end loop;
  perform sync.keep_stuck();
end
$$;
comment on function sync.load_circles(public.sync_entities, text, text[], text[]) is
  'Loads rejected records together that exchange unique values among each other, and that other rejects of the page '
  'had parted.';

revoke all on function sync.parted(integer, integer, integer[]), sync.clash_sql(public.sync_entities, text, text),
  sync.bisect_slice(public.sync_entities, text, text, text[], integer, integer, text[]),
  sync.load_slice(public.sync_entities, text, text[], text[], integer, integer), sync.keep_stuck(),
  sync.load_circles(public.sync_entities, text, text[], text[]) from public;
grant execute on function sync.parted(integer, integer, integer[]), sync.clash_sql(public.sync_entities, text, text),
  sync.bisect_slice(public.sync_entities, text, text, text[], integer, integer, text[]),
  sync.load_slice(public.sync_entities, text, text[], text[], integer, integer), sync.keep_stuck(),
  sync.load_circles(public.sync_entities, text, text[], text[]) to isthmus_worker;

-- supabase/schemas/functions/load-relatives.sql

-- Purpose: load records of a page that refer to each other before they have landed: together, or not at all.
-- Locks:   none beyond those of the statements.
--
-- One INSERT of all satisfies a foreign key of the table to itself, deferrable or not, which is checked when the
-- statement ends. Halving such records would part them: so when they are refused, each is tried alone first, and who
-- is refused for another reason than that its parent is missing is told. Those that need it wait for it, and the
-- others are tried together again.

create function sync.undo_slice() returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  raise exception using errcode = 'IS003', message = 'only tried';
end
$$;
comment on function sync.undo_slice() is 'Raises IS003: a slice that was only tried is undone.';

create function sync.part_relatives() returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  loop
    update pg_temp.page_relatives r set state = 'waits', field = w.field, parent = w.parent
      from (select distinct on (p.n) p.n, e.key as field, e.value::bigint as parent
              from pg_temp.page_relatives o join pg_temp.page_rows p on p.n = o.n
              cross join lateral jsonb_each_text(p._together) e
             where o.state = 'open'
               and (select q.n from pg_temp.page_plan q where q.legacy_id = e.value::bigint and q.action = 'insert' limit 1) is null
               and (select x.n from pg_temp.page_relatives x where x.k = e.value::bigint and x.state = 'open' limit 1) is null
             order by p.n, e.key) w
     where r.n = w.n;
    exit when not found;
  end loop;
end
$$;
comment on function sync.part_relatives() is
  'Which of the open records in pg_temp.page_relatives need one that has neither landed with this page nor is open: '
  'they wait for it.';

create function sync.try_relatives(p_entity public.sync_entities, p_schema text, p_reads text[], p_writes text[], p_members integer[]) returns text[]
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_from   integer := (select max(n) + 1 from pg_temp.page_rows);
  v_to     integer := v_from + cardinality(p_members) - 1;
  v_writes text[] := p_writes || 'set constraints all immediate'::text;
  v_error  text[];
begin
  update pg_temp.page_rows p set n = v_from + x.i - 1 from pg_catalog.unnest(p_members) with ordinality x (n, i) where p.n = x.n;
  update pg_temp.page_relatives p set n = v_from + x.i - 1 from pg_catalog.unnest(p_members) with ordinality x (n, i) where p.n = x.n;
  v_error := sync.try_slice(p_reads, false, v_from, v_to);
  if v_error is null then
    -- One that does not land although nothing refuses it: its own reason is told, and nobody may refer to it.
    update pg_temp.page_relatives r set state = 'told' from pg_temp.page_plan q
     where q.n = r.n and q.n between v_from and v_to and q.action in ('ambiguous', 'target_unmapped', 'target_deleted');
    if found then
      delete from pg_temp.page_plan q where q.n between v_from and v_to and q.action not in ('ambiguous', 'target_unmapped', 'target_deleted');
      return array['IS003'];
    end if;
    v_error := sync.try_slice(v_writes, false, v_from, v_to);
    -- AND would go on behind a null.
    if coalesce(v_error[1] = '23505', false) and sync.find_givers(p_entity, p_schema, v_from, v_to) then
      v_error := sync.try_exchange(p_entity, p_schema, sync.prepare_statements('vacate', sync.vacate_statements(p_entity, p_schema)),
        sync.prepare_statements('together', v_writes), sync.prepare_statements('restore', sync.restore_statements(p_entity, p_schema)), false, v_from, v_to);
      perform sync.forget_statements('(together|vacate|restore)');
    end if;
  end if;
  if v_error is null then
    update pg_temp.page_relatives set state = 'landed' where n between v_from and v_to;
  else
    delete from pg_temp.page_plan where n between v_from and v_to;
  end if;
  return v_error;
end
$$;
comment on function sync.try_relatives(public.sync_entities, text, text[], text[], integer[]) is
  'Loads these records n of pg_temp.page_relatives together, under new numbers, or none of them: null, or the error. '
  'IS003: some of them are not to land, and now told.';

-- Plans as in sync.bisect_slice.
create function sync.reject_relatives(p_entity public.sync_entities, p_schema text, p_reads text[], p_writes text[]) returns boolean
language plpgsql security invoker set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
declare
  v_prepared text[] := sync.prepare_statements('alone', p_reads || p_writes || array['set constraints all immediate', 'select sync.undo_slice()']);
  v_to_itself text[] := array(select conname::text from pg_catalog.pg_constraint
                               where contype = 'f' and conrelid = confrelid and conrelid = to_regclass(format('public.%I', p_entity.target_table)));
  v_error    text[];
  v_clash    text;
  v_other    uuid;
  v_n        integer;
  v_some     boolean := false;
begin
  for v_n in select n from pg_temp.page_relatives where state = 'open' order by n loop
    v_error := sync.try_slice(v_prepared, true, v_n, v_n);
    continue when v_error[1] = 'IS003' or v_error[1] = '23503' and v_error[2] = any (v_to_itself);
    v_clash := case when v_error[1] = '23505' then sync.clash_sql(p_entity, p_schema, v_error[2]) end;
    v_other := null;
    if v_clash is not null then
      execute v_clash into v_other using v_n;
    end if;
    insert into pg_temp.page_rejects (n, sqlstate, constraint_name, column_name, other) values (v_n, v_error[1], v_error[2], v_error[3], v_other);
    update pg_temp.page_relatives set state = 'rejected' where n = v_n;
    perform sync.name_unfit_columns(p_entity, v_n, v_n);
    v_some := true;
  end loop;
  perform sync.forget_statements('alone');
  return v_some;
end
$$;
comment on function sync.reject_relatives(public.sync_entities, text, text[], text[]) is
  'Puts those of the open records in pg_temp.page_relatives into pg_temp.page_rejects that the database refuses '
  'alone, and not for their parent; whether there are any.';

create function sync.load_relatives(p_entity public.sync_entities, p_schema text, p_reads text[], p_writes text[]) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_open   integer[];
  v_next   integer[];
  v_circle integer[];
  v_error  text[];
begin
  insert into pg_temp.page_relatives (n, k) select n, _key from pg_temp.page_rows where _together is not null;
  create index on pg_temp.page_relatives (k);
  create index on pg_temp.page_plan (legacy_id);
  loop
    perform sync.part_relatives();
    v_open := array(select n from pg_temp.page_relatives where state = 'open' order by n);
    if v_open = '{}' then
      return;
    end if;
    v_error := sync.try_relatives(p_entity, p_schema, p_reads, p_writes, v_open);
    if v_error is null then
      return;
    end if;
    continue when v_error[1] = 'IS003';
    exit when not sync.reject_relatives(p_entity, p_schema, p_reads, p_writes);
  end loop;
  -- Refused only together: those that lead in a circle are tried circle by circle, the others wait for their parents.
  with member as (select r.n, r.k, (row_number() over (order by r.n))::integer as i from pg_temp.page_relatives r where r.state = 'open')
  select pg_catalog.array_agg(m.n order by m.i), pg_catalog.array_agg(t.i order by m.i) into v_open, v_next
    from member m join pg_temp.page_rows p on p.n = m.n
    left join lateral (select e.value::bigint as k from jsonb_each_text(p._together) e
                        where exists (select from member x where x.k = e.value::bigint) order by e.key limit 1) f on true
    left join member t on t.k = f.k;
  update pg_temp.page_relatives set state = 'later' where state = 'open';
  for v_circle in select array(select v_open[x] from pg_catalog.unnest(c) x) from sync.circles(v_next) c loop
    update pg_temp.page_relatives set state = 'open' where n = any (v_circle);
    perform sync.part_relatives();
    v_circle := array(select n from pg_temp.page_relatives where state = 'open' order by n);
    continue when v_circle = '{}';
    v_error := sync.try_relatives(p_entity, p_schema, p_reads, p_writes, v_circle);
    insert into pg_temp.page_rejects (n, sqlstate, constraint_name, column_name)
    select n, v_error[1], v_error[2], v_error[3] from pg_temp.page_relatives where state = 'open' and v_error is not null;
    update pg_temp.page_relatives set state = 'rejected' where state = 'open';
  end loop;
  update pg_temp.page_relatives r set state = 'waits', field = e.key, parent = e.value::bigint
    from pg_temp.page_rows p cross join lateral (select e.key, e.value from jsonb_each_text(p._together) e order by e.key limit 1) e
   where r.state = 'later' and p.n = r.n;
end
$$;
comment on function sync.load_relatives(public.sync_entities, text, text[], text[]) is
  'Loads the records of a page that refer to each other before they have landed. In pg_temp.page_relatives stands '
  'what became of them: landed, rejected, told, or waits (for the record parent, by field).';

revoke all on function sync.undo_slice(), sync.part_relatives(), sync.try_relatives(public.sync_entities, text, text[], text[], integer[]),
  sync.reject_relatives(public.sync_entities, text, text[], text[]), sync.load_relatives(public.sync_entities, text, text[], text[]) from public;
grant execute on function sync.undo_slice(), sync.part_relatives(), sync.try_relatives(public.sync_entities, text, text[], text[], integer[]),
  sync.reject_relatives(public.sync_entities, text, text[], text[]),
  sync.load_relatives(public.sync_entities, text, text[], text[]) to isthmus_worker;

-- supabase/schemas/functions/leave.sql

-- Purpose: what becomes of landed records that have left their entity's predicate, or that the source no longer has.
-- Locks:   the target rows of the page, which sync.load_records has locked.

create function sync.is_leaving(p_rule text, p_data jsonb) returns boolean
language sql immutable security invoker set search_path = pg_catalog, pg_temp
as $$ select p_rule in ('deleted_in_source', 'left_edited', 'left_referenced', 'left_kept', 'left_unknown') or coalesce(p_data -> 'leaves' = 'true', false) $$;
comment on function sync.is_leaving(text, jsonb) is
  'Whether a conflict, by its rule and evidence, is about a record that is to go: target_wins then means that its '
  'row stays, and counts as gone.';

create function sync.leaving_rows(p_entity public.sync_entities, p_schema text, p_after integer, p_ids bigint[]) returns integer
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_count integer;
begin
  execute format(
    'insert into pg_temp.page_rows (n, _leaves, _key, _uuid)
     select $1 + row_number() over (order by m.entity_uuid), true, m.legacy_id, m.entity_uuid
       from %1$I.uuid_mappings_enhanced m
      where m.source_id = $2 and m.entity_type = $3 and m.legacy_id = any ($4) and m.sync_status = ''active''
        -- Whose row is to stay, by a decision: one index probe per record.
        and (select s.gone_at from %1$I.sync_row_states s where s.entity_id = $5 and s.legacy_id = m.legacy_id and s.outside is null) is null', p_schema)
    using p_after, p_entity.source_id, p_entity.entity_type, p_ids, p_entity.id;
  get diagnostics v_count = row_count;
  return v_count;
end
$$;
comment on function sync.leaving_rows(public.sync_entities, text, integer, bigint[]) is
  'Puts landed records that leave behind the others of pg_temp.page_rows; returns how many.';

create function sync.referenced_sql(p_entity public.sync_entities, p_dry_run uuid) returns text
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select coalesce(string_agg(format(
      case when has_column_privilege(c.conrelid, child.attnum, 'select') and has_column_privilege(c.confrelid, parent.attnum, 'select') then
        'exists (select from %s r where r.%I = t.%I' || case
          when p_dry_run is null or not exists (select from pg_catalog.pg_attribute a where a.attrelid = c.conrelid and a.attname = 'id' and a.atttypid = 'uuid'::regtype)
            then ')' else
          ' and not exists (select from public.sync_planned_records n join public.sync_entities e on e.id = n.entity_id
                             where n.execution_id = %4$L and e.target_table = %5$L and n.id = r.id and n.lands is false))' end
      else 'true' end,
      c.conrelid::regclass, child.attname, parent.attname, p_dry_run, k.relname), ' or '), 'false')
    from pg_catalog.pg_constraint c
    join pg_catalog.pg_class k on k.oid = c.conrelid
    join pg_catalog.pg_attribute child on child.attrelid = c.conrelid and child.attnum = c.conkey[1]
    join pg_catalog.pg_attribute parent on parent.attrelid = c.confrelid and parent.attnum = c.confkey[1]
   where c.contype = 'f' and c.confrelid = to_regclass(format('public.%I', p_entity.target_table)) and c.conparentid = 0
     and (p_dry_run is not null and c.conrelid <> c.confrelid or c.confdeltype in ('c', 'n', 'd'))
$$;
comment on function sync.referenced_sql(public.sync_entities, uuid) is
  'SQL: whether rows refer to the target row t by a foreign key that would delete or empty them without a word (in a '
  'plan: by any). A table that the sync may not look into counts as referring.';

-- Keys and ids go into a statement as a list: of a join the planner, who knows nothing of a page's tables, might make
-- a look through the other one.
create function sync.planned_list(p_column text, p_action text) returns text
language sql immutable security invoker set search_path = pg_catalog, pg_temp
return format('array(select q.%I from pg_temp.page_plan q where q.n between $1 and $2 and q.action = %L)', p_column, p_action);
comment on function sync.planned_list(text, text) is
  'SQL: a column (legacy_id, id) of the records of a slice that have an action, as an array. $1, $2: the slice.';

create function sync.tombstone_statements(p_entity public.sync_entities, p_schema text) returns text[]
language plpgsql stable security invoker set search_path = pg_catalog, pg_temp as $$
begin
  return array[
    format('delete from %I.sync_row_states s where s.entity_id = %s and s.legacy_id = any (%s)', p_schema, p_entity.id, sync.planned_list('legacy_id', 'delete')),
    format($q$
      update %I.uuid_mappings_enhanced m set sync_status = 'deleted'
       where m.source_id = %s and m.entity_type = %L and m.legacy_id = any (%s)
    $q$, p_schema, p_entity.source_id, p_entity.entity_type, sync.planned_list('legacy_id', 'delete'))
  ];
end
$$;
comment on function sync.tombstone_statements(public.sync_entities, text) is
  'The statements that forget the records of a slice whose rows are gone, but for their ids.';

create function sync.leave_statements(p_entity public.sync_entities, p_dry_run uuid) returns text[]
language plpgsql stable security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_schema text := case when p_dry_run is null then 'public' else 'pg_temp' end;
  v_target text := sync.target_sql(p_entity, v_schema);
  v_reshape text := sync.reshaped_sql(p_entity, v_schema);
begin
  return array[
    -- What nobody has touched since the sync left it goes, and so does what is known of a row that is gone already.
    format($q$
      insert into pg_temp.page_plan (n, legacy_id, id, action, seen, "left", now, fields)
      select p.n, p._key, p._uuid,
             case when t.id is null then 'delete'
                  when s.entity_id is null then 'left_unknown'
                  when e.fields is not null then 'left_edited'
                  when %6$s then 'left_referenced'
                  else 'delete' end,
             s.seen, g."left", l.now, case when g."left" <> '{}' then e.fields end
        from pg_temp.page_rows p
        left join %1$s on true
        left join %5$s on true
        cross join lateral (select pg_catalog.to_jsonb(x.*) as now from (select %3$s) x offset 0) o
        cross join lateral (select o.now, %4$s as "left" offset 0) l
        %7$s
        cross join lateral (select %8$s as "left" offset 0) g
        cross join lateral (
          select sync.listed(pg_catalog.array_agg(f.key order by f.key)) as fields from jsonb_each(l.now) f
           where f.value is distinct from coalesce(g."left" -> f.key, 'null')) e
       where p.n between $1 and $2
    $q$, sync.row_probe(p_entity, v_schema, 'p._uuid'), p_entity.id, sync.owned_columns(p_entity), sync.left_sql(), sync.state_probe(p_entity, v_schema), sync.referenced_sql(p_entity, p_dry_run),
      coalesce(v_reshape, ''), case when v_reshape is null then 'l."left"' else sync.left_or_reshaped_sql() end),
    format('delete from %s t where t.id = any (%s)', v_target, sync.planned_list('id', 'delete')),
    -- A trigger may have kept it, without a word.
    format($q$
      update pg_temp.page_plan q set action = 'left_kept'
       where q.n between $1 and $2 and q.action = 'delete' and (select t.id from %s t where t.id = q.id limit 1) is not null
    $q$, v_target)
  ] || sync.tombstone_statements(p_entity, v_schema);
end
$$;
comment on function sync.leave_statements(public.sync_entities, uuid) is
  'The statements that delete a slice of the records that have left: plan, delete, row states, mappings. $1, $2: the '
  'slice. p_dry_run: the execution whose plan it is; then over shadows.';


create function sync.references_to_itself(p_entity public.sync_entities) returns table (name text, field text)
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select c.conname::text, a.attname::text
    from pg_catalog.pg_constraint c join pg_catalog.pg_attribute a on a.attrelid = c.conrelid and a.attnum = c.conkey[1]
   where c.contype = 'f' and c.conrelid = c.confrelid and c.conrelid = to_regclass(format('public.%I', p_entity.target_table))
     and cardinality(c.conkey) = 1 and has_column_privilege(c.conrelid, c.conkey[1], 'select')
$$;
comment on function sync.references_to_itself(public.sync_entities) is
  'The foreign keys of an entity''s target table to itself, and their columns that the sync may read.';

create function sync.gone_relatives(p_entity_id smallint, p_keys bigint[], p_up_to bigint, p_limit integer)
returns table (legacy_id bigint, generation bigint, reason text)
language plpgsql stable security invoker set search_path = pg_catalog, pg_temp set plan_cache_mode = force_custom_plan as $$
declare
  v_entity public.sync_entities;
  v_refers text;
begin
  select * into strict v_entity from public.sync_entities where id = p_entity_id;
  select string_agg(format('select t.id from public.%I t where t.%I = f.id', v_entity.target_table, r.field), ' union all ')
    into v_refers from sync.references_to_itself(v_entity) r;
  if v_refers is null then
    return;
  end if;
  return query execute format($q$
    with recursive family as (
      select m.legacy_id, m.entity_uuid as id from public.uuid_mappings_enhanced m
       where m.source_id = $1 and m.entity_type = $2 and m.legacy_id = any ($3) and m.sync_status = 'active'
      union
      select m.legacy_id, m.entity_uuid
        from family f
        -- One index probe per record, whatever the planner thinks.
        cross join lateral (%s offset 0) t
        cross join lateral (select m.legacy_id, m.entity_uuid from public.uuid_mappings_enhanced m
                             where m.entity_type = $2 and m.entity_uuid = t.id and m.source_id = $1 limit 1) m
        cross join lateral (select from public.sync_pending_keys k
                             where k.execution_id is null and k.entity_id = $4 and k.legacy_id = m.legacy_id and k.gone and k.generation <= $5 limit 1) gone)
    select k.legacy_id, k.generation, k.reason
      from (select family.legacy_id from family limit $6) f
      cross join lateral (select k.* from public.sync_pending_keys k where k.execution_id is null and k.entity_id = $4 and k.legacy_id = f.legacy_id limit 1) k
     where f.legacy_id <> all ($3)
  $q$, v_refers) using v_entity.source_id, v_entity.entity_type, p_keys, v_entity.id, p_up_to, p_limit;
end
$$;
comment on function sync.gone_relatives(smallint, bigint[], bigint, integer) is
  'Of the records that the source no longer has, those of the same entity that refer to these ones, directly or not: '
  'neither goes before the other. At most so many.';

create function sync.delete_relatives(p_entity public.sync_entities, p_reads text[], p_writes text[]) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_names text[];
  v_held  text;
  v_n     integer[];
  v_free  integer[];
  v_last  integer := (select max(n) from pg_temp.page_rows);
begin
  select pg_catalog.array_agg(r.name), string_agg(format('exists (select from public.%I t where t.%I = p._uuid and t.id <> all ($2))', p_entity.target_table, r.field), ' or ')
    into v_names, v_held from sync.references_to_itself(p_entity) r;
  v_n := array(select j.n from pg_temp.page_rejects j where j.sqlstate = '23503' and j.constraint_name = any (v_names) order by j.n);
  -- Whoever is referred to by a row that stays does, and then whoever that one refers to.
  loop
    if v_n = '{}' then
      return;
    end if;
    execute format('select coalesce(pg_catalog.array_agg(p.n order by p.n), ''{}'') from pg_temp.page_rows p where p.n = any ($1) and p._leaves and not (%s)', v_held)
      into v_free using v_n, array(select p._uuid from pg_temp.page_rows p where p.n = any (v_n));
    exit when v_free = v_n;
    v_n := v_free;
  end loop;
  delete from pg_temp.page_rejects where n = any (v_n);
  update pg_temp.page_rows p set n = v_last + x.i from pg_catalog.unnest(v_n) with ordinality x (n, i) where p.n = x.n;
  perform sync.load_slice(p_entity, 'public', p_reads, p_writes, v_last + 1, v_last + cardinality(v_n));
end
$$;
comment on function sync.delete_relatives(public.sync_entities, text[], text[]) is
  'Deletes rejected records together that only others of them refer to, and that other rejects of the page had '
  'parted.';

create function sync.leave_remedy(p_cause text, p_triggers text) returns text
language sql immutable security invoker set search_path = pg_catalog, pg_temp as $$
  select 'The source no longer wants this record here, but its target row ' || case
    when p_cause in ('23503', 'left_referenced') then 'is referred to by others: it goes by itself once these are gone or refer to another row. target_wins: it stays.'
    when p_cause = 'left_edited' then 'was edited by somebody. source_wins: it is deleted all the same, and what it held is kept. target_wins: it stays.'
    when p_cause = 'left_unknown' then 'was not written by the sync. target_wins: it stays; or delete it, if nobody needs it.'
    when p_cause = 'IS001' then 'cannot be marked: its column would cut, round or pad the mark. Correct onDelete in the entity file, or change the column. target_wins: it stays.'
    when p_cause = 'IS004' then 'does not keep its mark: a trigger or rule takes it off again, or cancels the write' || coalesce(' (trigger ' || p_triggers || ')', '') || '. Change the trigger. target_wins: it stays.'
    else 'cannot be deleted: see what the table''s triggers and constraints say.' end
$$;
comment on function sync.leave_remedy(text, text) is
  'What to do about a record that has left but is still there, by SQLSTATE or cause. p_triggers: those that may be '
  'why, as a list of names.';

revoke all on function sync.leaving_rows(public.sync_entities, text, integer, bigint[]), sync.is_leaving(text, jsonb),
  sync.referenced_sql(public.sync_entities, uuid), sync.leave_statements(public.sync_entities, uuid),
  sync.planned_list(text, text), sync.tombstone_statements(public.sync_entities, text), sync.leave_remedy(text, text),
  sync.references_to_itself(public.sync_entities), sync.gone_relatives(smallint, bigint[], bigint, integer),
  sync.delete_relatives(public.sync_entities, text[], text[]) from public;
grant execute on function sync.leaving_rows(public.sync_entities, text, integer, bigint[]), sync.referenced_sql(public.sync_entities, uuid),
  sync.planned_list(text, text), sync.leave_statements(public.sync_entities, uuid), sync.tombstone_statements(public.sync_entities, text),
  sync.leave_remedy(text, text), sync.references_to_itself(public.sync_entities),
  sync.gone_relatives(smallint, bigint[], bigint, integer), sync.delete_relatives(public.sync_entities, text[], text[]) to isthmus_worker;
grant execute on function sync.is_leaving(text, jsonb) to isthmus_decisions, authenticated;
grant execute on function sync.referenced_sql(public.sync_entities, uuid) to isthmus_decisions;

-- supabase/schemas/functions/soft-deletes.sql

-- Purpose: mark the rows of records that the source no longer has, where the entity's policy is soft, and read back
--          whether the marks hold.
-- Locks:   the target rows of the page, which sync.load_records has locked.

-- Settings are pinned as they are where rows are loaded.
create function sync.kept_marks(p_entity public.sync_entities, out marks jsonb, out fits boolean)
language plpgsql stable security invoker
set search_path = pg_catalog, pg_temp set timezone = 'UTC' set timezone_abbreviations = 'Default' set datestyle = 'ISO, YMD'
set intervalstyle = 'iso_8601' set extra_float_digits = 3 set bytea_output = 'hex' set xmloption = 'content' set lc_monetary = 'C'
set array_nulls = on set standard_conforming_strings = on set quote_all_identifiers = off set transform_null_equals = off as $$
declare
  v_pairs text;
begin
  select string_agg(format('%L, %s', c.name, sync.kept_sql(format('(%L)::%s::%s', m.value, c.type, c.exact), c.type, c.recast)), ', '),
         coalesce(bool_and(sync.holds(m.value, format('(p.value)::%s is not null and coalesce(%s, true)', c.type,
                             coalesce(sync.fits_sql('value', c.type, c.exact), 'true')))), true)
    into v_pairs, fits
    from jsonb_each_text(p_entity.on_delete -> 'set') m join sync.field_slots(p_entity) c on c.name = m.key;
  marks := p_entity.on_delete -> 'set';
  if fits and v_pairs is not null then
    execute 'select jsonb_build_object(' || v_pairs || ')' into marks;
  end if;
end
$$;
comment on function sync.kept_marks(public.sync_entities) is
  'How an entity marks deleted records: the values as its columns keep them, and whether these hold them exactly (if '
  'not, the values as they are given). Null: it marks nothing.';

create function sync.soft_statements(p_entity public.sync_entities, p_dry_run uuid) returns text[]
language plpgsql stable security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_schema text := case when p_dry_run is null then 'public' else 'pg_temp' end;
  v_target text := sync.target_sql(p_entity, v_schema);
  v_sets   text := (select string_agg(format('%1$I = %2$L', k, v), ', ' order by k) from jsonb_each_text(p_entity.on_delete -> 'set') x (k, v));
  v_prints text := coalesce(sync.prints_sql(p_entity), 'null::jsonb');
  v_marks  jsonb;
  v_fits   boolean;
begin
  select k.marks, k.fits into v_marks, v_fits from sync.kept_marks(p_entity) k;
  return array_remove(array[
    format($q$
      insert into pg_temp.page_plan (n, legacy_id, id, action, held, altered, "left", now, prints, written)
      select p.n, p._key, p._uuid, case when t.id is null then 'delete' else 'soft' end, t.xmin, t.id is not null and not %7$L::boolean, l."left", o.now, %8$s,
             (select coalesce(jsonb_object_agg(e.key, e.value), '{}') from jsonb_each(coalesce(%6$L::jsonb, '{}')) e where e.value is distinct from o.now -> e.key)
        from pg_temp.page_rows p
        left join %1$s on true
        left join %5$s on true
        cross join lateral (select pg_catalog.to_jsonb(x.*) as now from (select %3$s) x offset 0) o
        cross join lateral (select %4$s as "left" offset 0) l
       where p.n between $1 and $2
    $q$, sync.row_probe(p_entity, v_schema, 'p._uuid'), p_entity.id, sync.owned_columns(p_entity), sync.left_sql(), sync.state_probe(p_entity, v_schema), v_marks, v_fits, v_prints),
    -- What the columns would cut or round is written into none.
    'select sync.refuse_writes($1, $2)',
    case when v_sets is not null then format($q$
      update %s t set %s
       where t.id = any (array(select q.id from pg_temp.page_plan q where q.n between $1 and $2 and q.action = 'soft' and q.written <> '{}'))
    $q$, v_target, v_sets) end,
    'set constraints all immediate',
    -- Read back after triggers: a mark that does not hold is undone as a whole, so that no attempt leaves a trace in
    -- the row.
    case when v_sets is not null then format($q$
      with after as (
        select q.n, t.id is null or t.xmin = q.held or o.now || %3$L::jsonb <> o.now as cancelled,
               (select pg_catalog.array_agg(e.key order by e.key) from jsonb_each(o.now) e where e.value is distinct from (q.now || q.written) -> e.key
                      or not q.written ? e.key and o.prints -> e.key is distinct from q.prints -> e.key) as otherwise
          from pg_temp.page_plan q
          left join %1$s on true
          cross join lateral (select pg_catalog.to_jsonb(x.*) as now, %4$s as prints from (select %2$s) x offset 0) o
         where q.n between $1 and $2 and q.action = 'soft' and q.written <> '{}' and (o.now is distinct from q.now || q.written or o.prints is distinct from q.prints))
      update pg_temp.page_plan q set cancelled = a.cancelled, otherwise = a.otherwise from after a where a.n = q.n
    $q$, sync.row_probe(p_entity, v_schema, 'q.id'), sync.owned_columns(p_entity), v_marks, v_prints) end,
    'select sync.refuse_writes($1, $2)',
    -- As if the source had said so: a record that returns is set back by the same comparison as any other change. Of
    -- hashes nothing is left that could fit, so then every field counts as changed.
    format($q$
      insert into %1$I.sync_row_states as s (entity_id, legacy_id, seen, "left", gone_at)
      select %2$s, q.legacy_id, '{}', '{}', now() from pg_temp.page_plan q where q.n between $1 and $2 and q.action = 'soft'
      on conflict (entity_id, legacy_id) do update
         set seen = s.seen || %3$L, "left" = s."left" || %3$L, seen_hash = 0 * s.seen_hash, source_digest = null, gone_at = excluded.gone_at, outside = null
    $q$, v_schema, p_entity.id, coalesce(v_marks, '{}')),
    -- What else triggers made of the marked rows is nobody's edit.
    format($q$
      update %4$I.sync_row_states s set "left" = s."left" || sync.pick(o.now, q.otherwise)
        from pg_temp.page_plan q
        cross join %1$s
        cross join lateral (select pg_catalog.to_jsonb(x.*) as now from (select %2$s) x offset 0) o
       where q.n between $1 and $2 and q.action = 'soft' and q.otherwise is not null and s.entity_id = %3$s and s.legacy_id = q.legacy_id
    $q$, sync.row_probe(p_entity, v_schema, 'q.id'), sync.owned_columns(p_entity), p_entity.id, v_schema)
  ], null) || sync.tombstone_statements(p_entity, v_schema);
end
$$;
comment on function sync.soft_statements(public.sync_entities, uuid) is
  'The statements that mark a slice of deleted records in their rows, and forget those whose rows are gone: plan, '
  'mark, row states. $1, $2: the slice. p_dry_run: as for leave_statements.';

revoke all on function sync.kept_marks(public.sync_entities), sync.soft_statements(public.sync_entities, uuid) from public;
grant execute on function sync.kept_marks(public.sync_entities), sync.soft_statements(public.sync_entities, uuid) to isthmus_worker;

-- supabase/schemas/functions/load-statements.sql

-- Purpose: the statements that classify the records of a page, and those that write them.

create function sync.seen_but(p_new jsonb, p_seen jsonb, p_decided jsonb) returns jsonb
language sql immutable security invoker set search_path = pg_catalog, pg_temp as $$
  select p_new - f.names || sync.pick(coalesce(p_seen, '{}'), f.names) from (select sync.decided_fields(p_decided, 'review') as names) f
$$;
comment on function sync.seen_but(jsonb, jsonb, jsonb) is
  'The new values as seen, but for the fields that a person is to decide.';

create function sync.classify_statement(p_entity public.sync_entities, p_schema text, p_of_request text) returns text
language plpgsql stable security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_typed   text; -- the new values as typed columns of p
  v_fits    text; -- whether the target can hold all of them exactly
  v_current text := sync.owned_columns(p_entity); -- the same columns of the target row t
  v_reshape text := sync.reshaped_sql(p_entity, p_schema);
  v_edits   boolean := p_of_request is not distinct from 'overwrite_edits';
  v_texts   text := sync.texts_sql(p_entity, p_schema, v_edits); -- the fields whose text alone may differ, of p, t and s
  v_all     boolean := v_edits or sync.texts_moved(p_entity);
  v_padded  jsonb := sync.padded_parts(p_entity);
  v_told    text; -- whether a field f of the record is told to print otherwise
begin
  -- Compared is what the column would hold. Whether that is all of the value is asked beside it: a cast cuts without
  -- an error.
  select string_agg(format('%s as %I', sync.kept_sql(format('(p.%s)::%s%s', c.slot, c.type, '::' || nullif(c.exact, c.type)), c.type, c.recast), c.name), ', '),
         -- Null, and so left out, where every value fits.
         coalesce(string_agg(sync.fits_sql(c.slot, c.type, c.exact, v_padded -> c.name) || ' is not false', ' and '), 'true')
    into v_typed, v_fits
    from sync.field_slots(p_entity) c;
  v_told := format($q$(select w.rule from public.sync_warnings w where w.entity_id = %s and w.legacy_id = p._key and w.rule = 'written_otherwise: ' || f limit 1) is not null$q$, p_entity.id);
  -- The target rows were locked by a statement before this one, which sees them as they will be written.
  return
    format($q$
      insert into pg_temp.page_plan (n, legacy_id, id, action, new, seen, "left", now, changed, written, decided, raw, digest, restated, altered, held, prints, reprinted, reworded)
      select r.n, r._key, r._uuid,
             case when r.undecided then 'ambiguous'
                  when r.t_id is null and r.seen is null and r.lands is not true then 'insert'
                  when r.t_id is null and %11$L = 'insert' and (
                    select k.rule from public.sync_conflicts k
                     where k.entity_id = %3$s and k.source_record_id = r._key and k.state = 'open' limit 1) = 'target_deleted' then 'target_deleted'
                  when r.t_id is null then %11$L
                  -- Mapped, and never reconciled (adopted, or back after it was deleted): every field is judged as if
                  -- the source had changed it.
                  when r.seen is null and r.mapped is distinct from r._uuid then 'target_unmapped'
                  when c.decided @? '$.* ? (@ == "review")' then 'review'
                  when c.written <> '{}' then 'update'
                  else 'unchanged' end,
             r.new, r.seen, r."left", r.now, c.changed, c.written, c.decided, r._raw, r._digest, r.restated, not r.fits, r.held, r.prints, r.reprinted, array(select pg_catalog.unnest(r.texts) except select pg_catalog.unnest(r.reprinted))
        from (select p.n, p._key, p._uuid, p._raw, p._digest, v.new, %14$s as fits, %15$s as seen, %16$s as "left", t.id as t_id, t.xmin as held, o.now,
                     m.entity_uuid as mapped, m.lands, a.undecided,
                     p._raw is distinct from s.raw or (s.seen_hash is null) <> (%7$L = 'values')
                       or p._digest is distinct from s.source_digest or s.gone_at is not null as restated, %21$s as reworded,
                     %23$s as prints, %24$s as reprinted, w.texts
                from pg_temp.page_rows p
                cross join lateral (select pg_catalog.to_jsonb(x.*) as new from (select %1$s) x offset 0) v
                left join %2$s on true
                left join %26$s on true
                -- One index probe per record that never landed.
                left join lateral (
                  select m.entity_uuid, m.sync_status = 'active' as lands from %10$I.uuid_mappings_enhanced m
                   where s.legacy_id is null and m.source_id = %5$s and m.entity_type = %6$L and m.legacy_id = p._key limit 1) m on true
                left join lateral (
                  select a.undecided from public.sync_adoption_rows a
                   where s.legacy_id is null and a.entity_id = %3$s and a.legacy_id = p._key and a.undecided limit 1) a on true
                cross join lateral (select pg_catalog.to_jsonb(x.*) as now from (select %4$s) x offset 0) o
                -- A hash that fits but for the legacy key still stands: what the sync left there is known.
                cross join lateral (
                  select o.now, %8$s as seen, (select %9$s from (
                    select case when o.now -> %22$L is not distinct from v.new -> %22$L or s.left_hash = hashtextextended(o.now::text, 0) then o.now else o.now || jsonb_build_object(%22$L, v.new -> %22$L) end as now) o) as "left"
                  offset 0) l
                cross join lateral (select %25$s as texts offset 0) w
                %17$s
               where p.n between $1 and $2 offset 0) r
        cross join lateral (
          select coalesce(jsonb_object_agg(e.key, e.value) filter (where d.decision not in ('review', 'none', 'keep')), '{}') as changed,
                 coalesce(jsonb_object_agg(e.key, case when d.decision = 'merge' then m.merged else x.source end)
                          filter (where d.decision in ('take', 'overwrite', 'merge')), '{}') as written,
                 jsonb_object_agg(e.key, d.decision) filter (where d.decision in ('overwrite', 'retain', 'merge', 'review')) as decided
            -- What a person has been asked, or has put back, is theirs to decide, whatever this execution would have
            -- done.
            from (select v.new, u.asked, u.put_back
                    from (select case when r.t_id is null or r.new = r.seen and coalesce(r.reworded, '{}') = '{}' and r.now -> %22$L is not distinct from r.new -> %22$L%18$s then '{}' else r.new end as new) v
                    left join lateral (
                      select k.asked, k.decisions > 0 as put_back from public.sync_conflicts k
                       where v.new <> '{}' and k.entity_id = %3$s and k.source_record_id = r._key and k.state in ('waiting', 'open') limit 1) u on true
                  offset 0) n
            cross join lateral jsonb_each(n.new) e
            cross join lateral (
              select e.value as source, r.seen -> e.key as seen, r.now -> e.key as target, r."left" -> e.key as "left",
                     case when e.key <> %22$L and (n.put_back or e.key = any (n.asked)) then 'manual_review'%20$s else %12$L::jsonb ->> e.key end as strategy) x
            cross join lateral (select %13$s as decision offset 0) w
            -- Of a value that both sides have, the text is the source's.
            cross join lateral (
              select case when w.decision in ('none', 'agree', 'keep') and e.key = any (r.reworded) and x.source is not distinct from x.target then 'take'
                          else w.decision end as decision) d
            -- A merge that comes to what the source says has the source's text.
            cross join lateral (
              select coalesce(nullif(case when d.decision = 'merge' then sync.merge_objects(x.seen, x.source, x.target, x."left") end, x.source), x.source) as merged offset 0) m
           where e.value is distinct from r.seen -> e.key or e.key = any (r.reworded)
                 or e.key = %22$L and e.value is distinct from r.now -> e.key%19$s) c
    $q$, v_typed, sync.row_probe(p_entity, p_schema, 'p._uuid'), p_entity.id, v_current, p_entity.source_id, p_entity.entity_type, p_entity.history,
      sync.seen_sql(), sync.left_sql(), p_schema, case p_entity.conflicts ->> 'deleted' when 'source_wins' then 'insert' else 'target_deleted' end,
      sync.field_strategies(p_entity, p_of_request), sync.decision_sql(), v_fits,
      -- What was decided on before holds no longer where DDL has emptied or changed the column.
      case when v_reshape is null then 'l.seen' else 'l.seen - d.fields' end,
      case when v_reshape is null then 'l."left"' else sync.left_or_reshaped_sql() end, coalesce(v_reshape, ''),
      -- Only where it was asked for, the fields are looked at too that the target alone has changed; the legacy key
      -- always is.
      case when v_edits then ' and r.now = r."left"' else '' end,
      case when v_edits then ' or r.now -> e.key is distinct from r."left" -> e.key' else '' end,
      case when v_edits then format(' when e.value is not distinct from r.seen -> e.key and e.key <> %L and sync.is_decided(%s::smallint, r._key, e.key) then ''target_wins''', p_entity.legacy_key, p_entity.id) else '' end,
      -- The source's text has changed where its hash has; the text of a trigger or of a person is not written over
      -- again and again. Of what a person is asked the queue keeps the hash; a decision since, on another field, has
      -- the text written once more.
      case when v_texts is null then 'null::text[]' when v_all then 'w.texts'
           else format($c$case when p._digest is distinct from s.source_digest and (
                       select k.id from public.sync_conflicts k
                        where k.entity_id = %s and k.source_record_id = p._key and k.state = 'open' and k.rule = 'both_changed'
                          and k.source_digest = p._digest and k.last_seen_at >= s.synced_at limit 1) is null then w.texts end$c$, p_entity.id) end,
      p_entity.legacy_key, coalesce('case when w.texts is not null then ' || sync.prints_sql(p_entity) || ' end', 'null::jsonb'),
      -- Another text than the source's, in a row that nobody has written since the sync, or of which it is told
      -- already.
      case when v_texts is null then 'null::text[]' else format($c$
                       case when w.texts <> '{}' and s.entity_id is not null then (
                         select pg_catalog.array_agg(f) from pg_catalog.unnest(w.texts) f where %s or %s) end$c$, sync.untouched_sql(p_entity, p_schema), v_told) end,
      coalesce(v_texts, 'null::text[]'), sync.state_probe(p_entity, p_schema));
end
$$;
comment on function sync.classify_statement(public.sync_entities, text, text) is
  'The statement that classifies a slice of a page, into pg_temp.page_plan. $1, $2: the slice. p_schema: public, or '
  'pg_temp for a plan. p_of_request: as for sync.field_strategies.';

create function sync.write_statements(p_entity public.sync_entities, p_schema text) returns text[]
language plpgsql stable security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_current text := sync.owned_columns(p_entity);
  v_target  text := sync.target_sql(p_entity, p_schema);
  v_kept    text := case p_entity.history
    when 'values' then 'new, "left", null, null'
    else 'null, null, hashtextextended(new::text, 0), hashtextextended("left"::text, 0)' end;
  v_names   text;
  v_values  text;
  v_sets    text;
  v_numbers text[];
  v_texts   text;
begin
  select string_agg(format('%I', c.name), ', '),
         string_agg(format('(p.%s)::%s', c.slot, c.registered), ', '),
         string_agg(format('%1$I = case when q.written ? %1$L then %2$s else t.%1$I end', c.name,
                           format(case when c.registered in ('json', 'jsonb') then 'case when q.decided ->> %1$L = ''merge'' and q.written -> %1$L <> q.new -> %1$L then (q.written -> %1$L)::%3$s else (p.%2$s)::%3$s end'
                                                    else '(p.%2$s)::%3$s' end, c.name, c.slot, c.registered)), ', '),
         coalesce(pg_catalog.array_agg(c.name) filter (where c.registered = 'numeric'), '{}'),
         -- A text that differs although the values that are kept are equal: from the one that was written, or else
         -- from the one before and the source's.
         string_agg(format($q$case when o.now -> %1$L is not distinct from w.meant -> %1$L and case
                                     when q.decided ->> %1$L = 'merge' and q.written -> %1$L <> q.new -> %1$L then t.%1$I::text is distinct from (q.written -> %1$L)::%3$s::text
                                     when w.written ? %1$L then t.%1$I::text is distinct from (p.%2$s)::%3$s::text
                                     else hashtextextended(t.%1$I::text, 0)::text is distinct from q.prints ->> %1$L
                                          and t.%1$I::text is distinct from (p.%2$s)::%3$s::text end then %1$L end$q$,
             c.name, c.slot, concat_ws('::', c.type, nullif(c.exact, c.type))), ', ') filter (where sync.texts_kept(c.type) = 'none' and not c.recast)
    into v_names, v_values, v_sets, v_numbers, v_texts
    from sync.field_slots(p_entity) c;

  return array[
    -- Known before anything is written. Of one record, what the database says of it is told rather.
    'select sync.refuse_writes($1, $2) where $1 < $2',
    format($q$
      insert into %1$s (id, %2$s)
      select p._uuid, %3$s
        from pg_temp.page_rows p join pg_temp.page_plan q on q.n = p.n
       where p.n between $1 and $2 and q.action = 'insert'
       order by p._uuid
    $q$, v_target, v_names, v_values),
    format($q$
      update %1$s t set %2$s
        from pg_temp.page_rows p join pg_temp.page_plan q on q.n = p.n
       where p.n between $1 and $2 and q.action in ('update', 'review') and q.written <> '{}' and t.id = p._uuid
    $q$, v_target, v_sets),
    -- What deferred triggers do to the rows belongs to what the sync leaves.
    'set constraints all immediate',
    -- Read back after triggers: for a field that the source or a trigger of this write has changed what stands there
    -- now, for the others what was left before, so that somebody else's edit of them stays visible. What the target
    -- keeps of its own against the source's new value is such an edit, too: of that one.
    format($q$
      with after as (
        select q.n, q.legacy_id, q.raw, q.digest, q.action, o.now, t.id is not null as there, t.xmin is not distinct from q.held as untouched,
               case when q.action = 'review' then sync.seen_but(q.new, q.seen, q.decided) else q.new end as new, t.xmin as written_by,
               not exists (select from pg_catalog.unnest(q.reworded) f where not w.written ? f) as kept,
               case when q.action = 'insert' or q."left" = q.now then o.now
                    else (select jsonb_object_agg(e.key, case when q.decided ->> e.key in ('retain', 'merge') then q.new -> e.key
                                                              when q.changed ? e.key or e.value is distinct from q.now -> e.key then e.value
                                                              else q."left" -> e.key end)
                            from jsonb_each(o.now) e)
               end as "left",
               w.meant,
               -- Of the fields that this write left alone, too: what stands there now is what stood there, or what
               -- the source says. As they print: numbers that are equal may have other zeros at their end.
               nullif(case when o.now::text is distinct from w.meant::text then array(
                 select e.key from jsonb_each(o.now) e
                  where e.value::text is distinct from (w.meant -> e.key)::text
                    and (w.written ? e.key or e.value::text is distinct from (q.new -> e.key)::text) order by e.key) else '{}' end
                 || %8$s, '{}') as otherwise
          from pg_temp.page_plan q
          %9$s
          left join %1$s on true
          cross join lateral (select pg_catalog.to_jsonb(x.*) as now from (select %2$s) x offset 0) o
          cross join lateral (
            select y.written, q.now || y.written as meant
              from (select case when q.action = 'insert' then q.new when q.action in ('update', 'review') then q.written else '{}' end as written) y offset 0) w
         where q.n between $1 and $2
           and (q.action in ('insert', 'update')
                -- Of hashes nothing fits any more when some fields are written while others are open; else the old
                -- ones stay.
                or (q.action = 'unchanged' or q.action = 'review' and (%7$L = 'values' or q.written <> '{}'))
                   and (q.new is distinct from q.seen or q.restated))
      ), state as (
        insert into %6$I.sync_row_states as s (entity_id, legacy_id, raw, synced_at, source_digest, written_by, seen, "left", seen_hash, left_hash)
        -- Of what a person is asked the queue keeps the hash: should its row be lost, the record counts as changed.
        select %3$s, legacy_id, raw, now(), case when action <> 'review' then digest end,
               -- A text that a person has changed stays a person's.
               case when "left" = now and kept then written_by end, %5$s from after where there
        on conflict (entity_id, legacy_id) do update
           set raw = excluded.raw, synced_at = excluded.synced_at, seen = excluded.seen, "left" = excluded."left",
               seen_hash = excluded.seen_hash, left_hash = excluded.left_hash,
               source_digest = excluded.source_digest, written_by = excluded.written_by, gone_at = null, outside = null
      )
      update pg_temp.page_plan q
         set otherwise = a.otherwise, altered = q.altered or exists (select from pg_catalog.unnest(a.otherwise) k where k = any (%4$L::text[]) and a.now -> k is distinct from a.meant -> k),
              -- A row that was left as it was and holds equal values, which only print otherwise, has nothing that
              -- was cancelled.
              cancelled = not a.there or a.untouched and a.now is distinct from a.meant
        from after a
       where a.n = q.n and (not a.there or a.otherwise is not null)
    $q$, sync.row_probe(p_entity, p_schema, 'q.id'), v_current, p_entity.id, v_numbers, v_kept, p_schema, p_entity.history,
      coalesce('array_remove(array[' || v_texts || '], null)', '''{}''::text[]'),
      case when v_texts is not null then 'join pg_temp.page_rows p on p.n = q.n' end),
    format($q$
      insert into %5$I.uuid_mappings_enhanced as m
        (source_id, entity_type, legacy_id, entity_uuid, source_table, target_table)
      select %1$s, %2$L, q.legacy_id, q.id, %3$L, %4$L
        from pg_temp.page_plan q
       where q.n between $1 and $2 and q.action = 'insert'
       order by q.legacy_id
      on conflict (source_id, entity_type, legacy_id) do update
         set sync_status = sync.active_if_same(m.entity_uuid, excluded.entity_uuid)
    $q$, p_entity.source_id, p_entity.entity_type, p_entity.source_table, p_entity.target_table, p_schema),
    'select sync.refuse_writes($1, $2)'
  ];
end
$$;
comment on function sync.write_statements(public.sync_entities, text) is
  'The statements that write a slice of a page as pg_temp.page_plan says: insert, update, deferred triggers, row '
  'states, mappings. $1, $2: the slice. p_schema: public, or pg_temp for a plan.';

create function sync.twin_statements(p_entity public.sync_entities) returns text[]
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  -- Without an index every record would cost a look through the table.
  select case when sync.finds_legacy_ids(p_entity) then array[format($q$
    update pg_temp.page_plan q set action = 'target_unmapped', now = jsonb_build_object(%2$L, q.legacy_id)
      from (select w.n
              from pg_temp.page_plan w
              cross join lateral (
                select from public.%1$I t
                 where t.%2$I = w.legacy_id and t.id <> w.id
                   and (select m.legacy_id from public.uuid_mappings_enhanced m where m.entity_type = %3$L and m.entity_uuid = t.id) is null
                   and (select a.legacy_id from public.sync_adoption_rows a where a.entity_id = %4$s and a.legacy_id = w.legacy_id and a.id = t.id) is null
                -- Not the first one alone: for that the planner would go through a table that it takes for small.
                offset 0) twin
             where w.n between $1 and $2 and w.action = 'insert' offset 0) x
     where x.n = q.n
  $q$, p_entity.target_table, p_entity.legacy_key, p_entity.entity_type, p_entity.id)] else '{}' end
$$;
comment on function sync.twin_statements(public.sync_entities) is
  'The statements that keep a record from being inserted beside a row that has its legacy id and that nothing maps. '
  '$1, $2: the slice.';

revoke all on function sync.seen_but(jsonb, jsonb, jsonb), sync.classify_statement(public.sync_entities, text, text),
  sync.write_statements(public.sync_entities, text), sync.twin_statements(public.sync_entities) from public;
grant execute on function sync.seen_but(jsonb, jsonb, jsonb), sync.classify_statement(public.sync_entities, text, text),
  sync.write_statements(public.sync_entities, text), sync.twin_statements(public.sync_entities) to isthmus_worker;

-- supabase/schemas/functions/new-records.sql

-- Purpose: write the records of a page of which nothing is known yet, without comparing three sides that are empty.
-- Locks:   none beyond those of the statements.
--
-- A first load, and what a source adds at its end, is new as a whole: neither a row state nor a mapping, nor anything
-- that an adoption has found, lies in the page's key range. Such a page is inserted, read back as what each column
-- prints, and noted as seen and left in one. Whatever is not exactly as it was meant (a refused record, a trigger's
-- work, a value that does not fit) undoes all of this, and the page is classified and written like any other, which
-- tells the record.

create function sync.nothing_known(p_entity public.sync_entities) returns boolean
language plpgsql stable security invoker set search_path = pg_catalog, pg_temp set plan_cache_mode = force_custom_plan as $$
declare
  v_low    bigint;
  v_high   bigint;
  v_nobody boolean;
begin
  if exists (select from pg_temp.page_rows where _together is not null) then
    return false;
  end if;
  -- Where triggers change what is written, each page would be undone and written again.
  if exists (select from public.sync_alerts where kind = 'written_otherwise' and entity_id = p_entity.id and closed_at is null) then
    return false;
  end if;
  select min(_key), max(_key) into v_low, v_high from pg_temp.page_rows;
  if (select s.legacy_id from public.sync_row_states s where s.entity_id = p_entity.id and s.legacy_id between v_low and v_high limit 1) is not null
     or (select m.legacy_id from public.uuid_mappings_enhanced m
          where m.source_id = p_entity.source_id and m.entity_type = p_entity.entity_type and m.legacy_id between v_low and v_high limit 1) is not null
     or (select a.legacy_id from public.sync_adoption_rows a where a.entity_id = p_entity.id and a.legacy_id between v_low and v_high limit 1) is not null then
    return false;
  end if;
  -- Without an index every page would cost a look through the table: then no row is looked for by its legacy id, here
  -- as elsewhere.
  if sync.finds_legacy_ids(p_entity) then
    -- Of an index that knows no order a range would be a look through the table, too.
    if not exists (select from pg_catalog.pg_index i join pg_catalog.pg_class c on c.oid = i.indexrelid join pg_catalog.pg_am a on a.oid = c.relam and a.amname = 'btree'
                     join pg_catalog.pg_attribute k on k.attrelid = i.indrelid and k.attnum = i.indkey[0]
                    where i.indrelid = to_regclass(format('public.%I', p_entity.target_table)) and i.indisvalid and i.indpred is null
                      and k.attname = p_entity.legacy_key) then
      return false;
    end if;
    execute format('select (select t.id from public.%I t where t.%I between $1 and $2 limit 1) is null', p_entity.target_table, p_entity.legacy_key)
      into v_nobody using v_low, v_high;
    return v_nobody;
  end if;
  return true;
end
$$;
comment on function sync.nothing_known(public.sync_entities) is
  'Whether the target knows nothing of any record between the least and the greatest key of pg_temp.page_rows, and '
  'none of these refers to another. Index probes alone: their cost is that of one record.';

create function sync.refuse_unlike(p_from integer, p_to integer) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  if (select count(*) from pg_temp.page_plan where n between p_from and p_to) <> p_to - p_from + 1 then
    raise exception using errcode = 'IS004', message = 'a new row does not hold what was written';
  end if;
end
$$;
comment on function sync.refuse_unlike(integer, integer) is
  'Raises IS004 where not each record of a slice of new ones stands in pg_temp.page_plan, because its row is not as '
  'it was meant.';

create function sync.new_statements(p_entity public.sync_entities) returns text[]
language plpgsql stable security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_names  text;
  v_values text;
  v_read   text;
  v_alike  text;
  v_padded jsonb := sync.padded_parts(p_entity);
begin
  select string_agg(format('%I', c.name), ', '),
         string_agg(format('(p.%s)::%s', c.slot, c.registered), ', '),
         string_agg(format('r.%I', c.name), ', '),
         -- What the column prints is what the source says, or what the column's type makes of that: letter by letter,
         -- whatever the column's collation takes for equal.
         string_agg(format('(t.%1$I::text collate "C" is not distinct from p.%2$s or t.%1$I::text collate "C" is not distinct from (p.%2$s)::%3$s::text)%4$s', c.name, c.slot,
                           concat_ws('::', c.type, nullif(c.exact, c.type)), ' and ' || sync.fits_sql(c.slot, c.type, c.exact, v_padded -> c.name) || ' is not false'), ' and ')
    into v_names, v_values, v_read, v_alike
    from sync.field_slots(p_entity) c;
  return array[
    format('insert into public.%I (id, %s) select p._uuid, %s from pg_temp.page_rows p where p.n between $1 and $2 order by p._uuid',
      p_entity.target_table, v_names, v_values),
    'set constraints all immediate',
    format($q$
      with written as materialized (
        select p.n, p._key, p._uuid, p._raw, p._digest, t.xmin as writer, o.now
          from pg_temp.page_rows p
         cross join lateral (select r.xmin, %2$s from public.%1$I r where r.id = p._uuid offset 0) t
         cross join lateral (select pg_catalog.to_jsonb(x.*) as now from (select %3$s) x offset 0) o
         where p.n between $1 and $2 and %4$s
         order by p._key
      ), state as (
        insert into public.sync_row_states (entity_id, legacy_id, raw, synced_at, source_digest, written_by, seen, "left", seen_hash, left_hash)
        select %5$s, _key, _raw, now(), _digest, writer, %9$s
      ), mapping as (
        insert into public.uuid_mappings_enhanced (source_id, entity_type, legacy_id, entity_uuid, source_table, target_table)
        select %6$s, %7$L, _key, _uuid, %8$L, %1$L from written
      )
      insert into pg_temp.page_plan (n, legacy_id, id, action, changed, written, raw, digest)
      select n, _key, _uuid, 'insert', '{}', '{}', _raw, _digest from written
    $q$, p_entity.target_table, v_read, sync.owned_columns(p_entity), v_alike, p_entity.id, p_entity.source_id, p_entity.entity_type, p_entity.source_table,
      case p_entity.history when 'values' then 'now, now, null, null from written' else 'null, null, h.hash, h.hash from written cross join lateral (select hashtextextended(now::text, 0) as hash offset 0) h' end),
    'select sync.refuse_unlike($1, $2)'
  ];
end
$$;
comment on function sync.new_statements(public.sync_entities) is
  'The statements that write a slice of new records, and note them in row states, mappings and pg_temp.page_plan. '
  '$1, $2: the slice.';

create function sync.load_new(p_entity public.sync_entities, p_count integer) returns boolean
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  return sync.nothing_known(p_entity) and sync.try_slice(sync.new_statements(p_entity), false, 1, p_count) is null;
end
$$;
comment on function sync.load_new(public.sync_entities, integer) is
  'Writes all p_count records of pg_temp.page_rows if they are new and land exactly as they were meant; else nothing '
  'has happened, and false comes back.';

revoke all on function sync.nothing_known(public.sync_entities), sync.refuse_unlike(integer, integer),
  sync.new_statements(public.sync_entities), sync.load_new(public.sync_entities, integer) from public;
grant execute on function sync.nothing_known(public.sync_entities), sync.refuse_unlike(integer, integer),
  sync.new_statements(public.sync_entities), sync.load_new(public.sync_entities, integer) to isthmus_worker;

-- supabase/schemas/functions/load.sql

-- Purpose: reconcile and write the records of one page.
-- Locks:   the target rows of the page, in id order, until the page commits.

-- Settings are pinned, so that a comparison never depends on the session.
create function sync.load_records(p_entity public.sync_entities, p_records json, p_left bigint[], p_soft bigint[], p_dry_run uuid, p_of_request text)
returns void
language plpgsql security invoker
set search_path = pg_catalog, pg_temp set timezone = 'UTC' set timezone_abbreviations = 'Default' set datestyle = 'ISO, YMD'
set intervalstyle = 'iso_8601' set extra_float_digits = 3 set bytea_output = 'hex' set xmloption = 'content' set lc_monetary = 'C'
set array_nulls = on set standard_conforming_strings = on set quote_all_identifiers = off set transform_null_equals = off as $$
declare
  v_schema text := case when p_dry_run is null then 'public' else 'pg_temp' end;
  v_count  integer;
  v_apart  integer;
  v_left   integer;
  v_soft   integer;
  v_reads  text[];
  v_writes text[];
begin
  if p_entity.adoption_epoch = 0 and p_dry_run is null then
    raise exception 'entity %: nothing may be minted before the target''s ids are adopted', p_entity.entity_type
      using errcode = 'IS021', hint = 'Start the execution through sync-trigger, which checks the target first.';
  end if;
  -- Tells application triggers that this is the sync and not a person.
  perform set_config('isthmus.sync', 'on', true);

  create temp table page_plan (
    n integer primary key, legacy_id bigint not null, id uuid not null, action text not null,
    new jsonb, seen jsonb, "left" jsonb, now jsonb, changed jsonb, written jsonb, decided jsonb, raw jsonb, digest bigint,
    held xid, fields text, altered boolean not null default false, cancelled boolean not null default false, otherwise text[], restated boolean not null default false,
    prints jsonb, reprinted text[], reworded text[]
  ) on commit drop;
  create temp table page_relatives (n integer primary key, k bigint not null, state text not null default 'open', field text, parent bigint)
    on commit drop;
  create temp table page_rejects (n integer primary key, sqlstate text not null, constraint_name text, column_name text, other uuid, stuck boolean not null default false)
    on commit drop;
  execute (
    select format(
      'create temp table page_rows on commit drop as
         select (row_number() over (order by x._together is not null, x._uuid))::integer as n, false as _leaves,
                x._key, x._uuid, x._raw, x._digest, x._together, %s
           from json_to_recordset($1) as x (_key bigint, _uuid uuid, _raw jsonb, _digest bigint, _together jsonb, _values json)
          cross join lateral json_to_record(x._values) as v (%s)',
      string_agg(format('v.%I as %s', c.name, c.slot), ', '), string_agg(format('%I text', c.name), ', '))
      from sync.field_slots(p_entity) c)
    using p_records;
  get diagnostics v_count = row_count;
  if p_dry_run is null and v_count > 0 and cardinality(p_left || p_soft) = 0 and sync.load_new(p_entity, v_count) then
    return;
  end if;
  if p_dry_run is not null then
    perform sync.shadow_page(p_dry_run, p_entity, p_left || p_soft);
  end if;
  v_left := sync.leaving_rows(p_entity, v_schema, v_count, p_left);
  v_soft := sync.leaving_rows(p_entity, v_schema, v_count + v_left, p_soft);
  if v_count + v_left + v_soft = 0 then
    return;
  end if;
  create unique index on pg_temp.page_rows (n);
  analyze pg_temp.page_rows;

  if p_dry_run is null then
    execute format(
      'select count(*) from (select _uuid from pg_temp.page_rows order by _uuid offset 0) p cross join lateral (select 1 from public.%I t where t.id = p._uuid for no key update of t) l',
      p_entity.target_table);
  end if;
  if p_dry_run is null and v_left > 0 then
    -- Against rows that begin to refer to them: whether there are any is asked by the statement after this one.
    execute format(
      'select count(*) from (select _uuid from pg_temp.page_rows where _leaves order by _uuid offset 0) p cross join lateral (select 1 from public.%I t where t.id = p._uuid for update of t) l',
      p_entity.target_table);
  end if;
  select count(*) into v_apart from pg_temp.page_rows where _together is not null;
  if v_count > 0 then
    v_reads := array[sync.classify_statement(p_entity, v_schema, p_of_request)] || sync.twin_statements(p_entity)
      || case when p_dry_run is not null then sync.clash_statements(p_dry_run, p_entity) else '{}' end;
    v_writes := sync.write_statements(p_entity, v_schema) || case when p_dry_run is not null then sync.reference_statements(p_dry_run, p_entity) else '{}' end;
    if v_count > v_apart then
      perform sync.load_slice(p_entity, v_schema, v_reads, v_writes, 1, v_count - v_apart);
      perform sync.load_circles(p_entity, v_schema, v_reads, v_writes);
    end if;
    if v_apart > 0 then
      perform sync.load_relatives(p_entity, v_schema, v_reads, v_writes);
    end if;
  end if;
  if v_left > 0 then
    v_writes := sync.leave_statements(p_entity, p_dry_run);
    perform sync.load_slice(p_entity, v_schema, v_writes[:1], v_writes[2:], v_count + 1, v_count + v_left);
    if p_dry_run is null then
      perform sync.delete_relatives(p_entity, v_writes[:1], v_writes[2:]);
    end if;
  end if;
  if v_soft > 0 then
    v_writes := sync.soft_statements(p_entity, p_dry_run);
    perform sync.load_slice(p_entity, v_schema, v_writes[:1], v_writes[2:], v_count + v_left + 1, v_count + v_left + v_soft);
  end if;
end
$$;
comment on function sync.load_records(public.sync_entities, json, bigint[], bigint[], uuid, text) is
  'Loads the records of a page: [{_key, _uuid, _raw, _digest, _together, _values: {<column>: text}}], deletes those '
  'of the legacy ids p_left that have landed, and marks those of p_soft. Leaves pg_temp.page_plan and '
  'pg_temp.page_rejects for the commit. p_dry_run: the execution whose plan it is; then everything is written to '
  'shadows. p_of_request: as for sync.field_strategies.';

revoke all on function sync.load_records(public.sync_entities, json, bigint[], bigint[], uuid, text) from public;
grant execute on function sync.load_records(public.sync_entities, json, bigint[], bigint[], uuid, text) to isthmus_worker;

-- supabase/schemas/functions/adoption-decisions.sql

-- Purpose: what becomes of target rows that share a legacy id, once a person has said so.
-- Locks:   the slots of the records, the rows of sync_adoption_rows.

create function sync.adopt_as(p_conflict uuid, p_id uuid) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_conflict public.sync_conflicts;
  v_entity   public.sync_entities;
  v_row      public.sync_adoption_rows;
  v_there    boolean;
begin
  -- In the order in which pages lock: the record, the entity, the queue entry.
  select * into v_conflict from public.sync_conflicts where id = p_conflict;
  perform sync.lock_records(v_conflict.entity_id, array[v_conflict.source_record_id]);
  select * into v_entity from public.sync_entities where id = v_conflict.entity_id for no key update;
  select * into v_conflict from public.sync_conflicts where id = p_conflict and state = 'open' and rule = 'adoption.ambiguous' for update;
  if not found then
    raise exception 'there is no open conflict % about rows that share a legacy id', p_conflict
      using errcode = 'IS022', hint = 'They are listed by: select * from sync_conflicts where state = ''open'' and rule = ''adoption.ambiguous''';
  end if;
  -- The owner may be the one who calls: the table and the column that are looked at are those that the owner has
  -- released.
  v_entity := sync.released_entity(v_entity.id);
  select * into v_row from public.sync_adoption_rows
   where entity_id = v_entity.id and legacy_id = v_conflict.source_record_id and id = p_id and undecided;
  if not found or v_row.claimed_by is not null then
    raise exception 'row % cannot be the record', p_id
      using errcode = 'IS022', hint = 'Choose one of the ids under candidates in conflict_data that is not claimed by another legacy id.';
  end if;
  execute format('select exists (select from public.%I where id = $1 and %I = $2)', v_entity.target_table, v_entity.legacy_key)
    into v_there using p_id, v_conflict.source_record_id;
  if not v_there then
    raise exception 'row % is gone or has another legacy id now', p_id
      using errcode = 'IS022', hint = 'Choose another one, or adopt the entity again to look at its rows anew.';
  end if;

  delete from public.sync_adoption_rows
   where entity_id = v_entity.id and legacy_id = v_conflict.source_record_id and (id = p_id or claimed_by is not null);
  update public.sync_adoption_rows set undecided = false
   where entity_id = v_entity.id and legacy_id = v_conflict.source_record_id;
  insert into public.uuid_mappings_enhanced (source_id, entity_type, legacy_id, entity_uuid, source_table, target_table)
  values (v_entity.source_id, v_entity.entity_type, v_conflict.source_record_id, p_id, v_entity.source_table, v_entity.target_table);
  update public.sync_conflicts
     set state = 'resolved', resolved_at = now(), resolved_by = session_user,
         resolution_data = jsonb_build_object('id', p_id), target_record_id = p_id
   where id = p_conflict;
  insert into public.sync_pending_keys (entity_id, legacy_id, reason)
  values (v_entity.id, v_conflict.source_record_id, 'adopted')
  on conflict (entity_id, execution_id, legacy_id) do update set generation = default, requested_at = now(), gone = false;
end
$$;
comment on function sync.adopt_as(uuid, uuid) is
  'A person''s decision: of the rows that share the conflict''s legacy id, this one is the record. The others stay '
  'and are surplus. For the SQL editor, and npm run sync -- adopt-as.';

create function sync.surplus_of(p_entity public.sync_entities, p_after bigint, p_from bigint, p_to bigint) returns jsonb
language plpgsql stable security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_duplicates bigint;
begin
  execute format(
    $q$select count(*) from public.sync_adoption_rows r join public.%I t on t.id = r.id and t.%I = r.legacy_id
      where r.entity_id = $1 and not r.undecided
        and r.legacy_id >= coalesce($2, $3, '-9223372036854775808') and r.legacy_id is distinct from $2 and r.legacy_id <= $4$q$,
    p_entity.target_table, p_entity.legacy_key) into v_duplicates using p_entity.id, p_after, p_from, p_to;
  return jsonb_strip_nulls(jsonb_build_object('count', v_duplicates, 'duplicates', nullif(v_duplicates, 0)));
end
$$;
comment on function sync.surplus_of(public.sync_entities, bigint, bigint, bigint) is
  'Target rows in a key range, behind a cursor, that are no record: duplicates of another row.';

revoke all on function sync.adopt_as(uuid, uuid), sync.surplus_of(public.sync_entities, bigint, bigint, bigint) from public;
grant execute on function sync.adopt_as(uuid, uuid), sync.surplus_of(public.sync_entities, bigint, bigint, bigint) to isthmus_worker;

-- supabase/schemas/functions/queue.sql

-- Purpose: put records into the queue.
-- Locks:   row locks on sync_conflicts and sync_pending_keys.

create function sync.collect_issues(p_entity public.sync_entities, p_issues jsonb) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  create temp table page_issues on commit drop as
  select i.*, parent.id as parent_entity_id, false as settled
    from jsonb_to_recordset(p_issues) as i (
           k bigint, state public.sync_conflict_state, type public.conflict_type_enum, field text, rule text, policy text, retry text,
           remedy text, data jsonb, evidence jsonb, parent text, "parentId" bigint, digest bigint)
    left join public.sync_entities parent
      on parent.source_id = p_entity.source_id and parent.entity_type = i.parent;

  -- Which of several target rows is the record is decided first, whatever else is wrong with it.
  update pg_temp.page_issues i
     set state = 'open', type = 'uuid_mapping_conflict', field = null, rule = 'adoption.ambiguous', parent = null, retry = 'person',
         "parentId" = null, parent_entity_id = null, data = jsonb_build_object('candidates', a.candidates), evidence = null,
         remedy = 'Target rows share this legacy id. Choose the record: select sync.adopt_as(<id of this entry>, <id of the row>). Or correct the rows and adopt again.'
    from (select legacy_id, jsonb_agg(jsonb_build_object('id', id, 'claimed_by', claimed_by) order by id) as candidates
            from public.sync_adoption_rows
           where entity_id = p_entity.id and undecided and legacy_id in (select k from pg_temp.page_issues) group by legacy_id) a
   where a.legacy_id = i.k;

  update pg_temp.page_issues set retry = case state when 'waiting' then 'parent' else case when rule ~ '@[0-9]+$' then 'rule' else 'source' end end
   where retry is null;
  -- Settled: by policy, or because a decision stands and the source has not changed the record since.
  update pg_temp.page_issues i
     set settled = true,
         policy = case when p.name is not null then 'target_wins ' || p.name else i.policy end
    from (select k, case when rule = 'target_deleted' and p_entity.conflicts ->> 'deleted' = 'target_wins'
                              and (select c.rule from public.sync_conflicts c
                                    where c.entity_id = p_entity.id and c.source_record_id = k and c.state = 'open' limit 1) is distinct from rule
                              then 'of deleted rows'
                         when state = 'open' and type <> 'concurrent_modification' and rule <> 'deleted_in_source'
                              and p_entity.conflicts -> 'types' ->> type::text = 'target_wins' then 'of the type ' || type end as name
            from pg_temp.page_issues) p
   where p.k = i.k and (p.name is not null or (
           -- One index probe per record, whatever the planner thinks.
           select c.id from public.sync_conflicts c
            where c.entity_id = p_entity.id and c.source_record_id = i.k and c.standing and c.source_digest is not distinct from i.digest
              and (c.conflict_type, c.rule) = (i.type, i.rule) and c.field is not distinct from i.field limit 1) is not null);
  create index on pg_temp.page_issues (k);
  analyze pg_temp.page_issues (k, state, rule, retry);
end
$$;
comment on function sync.collect_issues(public.sync_entities, jsonb) is
  'What stops records of a page, into pg_temp.page_issues: [{k, state, type, field, rule, policy, retry, remedy, '
  'data, evidence, parent, parentId, digest}]; evidence: {seen, source, target, left, record}.';

create function sync.next_attempt(p_class text, p_attempts integer) returns timestamptz
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  -- Whether somebody has changed a constraint or trigger nobody tells: after 5 minutes, then twice as long each time,
  -- up to a day.
  select case when p_class in ('target', 'clash') then now() + least(interval '1 day', interval '5 minutes' * 2 ^ least(p_attempts - 1, 20)) end
$$;
comment on function sync.next_attempt(text, integer) is
  'When a record is read again though nothing told that its cause is gone; null: only when something tells.';

create function sync.enter_queue(p_entity_id smallint) returns void
language sql security invoker set search_path = pg_catalog, pg_temp as $$
  select pg_advisory_xact_lock_shared('public.sync_conflicts'::regclass::oid::integer, p_entity_id)
$$;
comment on function sync.enter_queue(smallint) is
  'Said by a page before it opens rows of the queue, which nobody sees until its commit: no decision is put back '
  'meanwhile (sync.check_decision).';

create function sync.waits_for(p_entity_id smallint, p_dry_run uuid, p_legacy_id bigint) returns bigint
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select w.next
    from (select 1 as rank, case when r.outcome = 'in_conflict' then r.clashes_with
                                 when r.outcome = 'waiting' and r.parent_entity_id = p_entity_id then r.parent_legacy_id end as next
            from public.sync_planned_records r
           where r.execution_id = p_dry_run and r.entity_id = p_entity_id and r.legacy_id = p_legacy_id
          union all
          select 2, case when c.state = 'open' then (c.conflict_data #>> '{clashes_with,legacy_id}')::bigint
                         when c.parent_entity_id = p_entity_id then c.parent_legacy_id end
            from public.sync_conflicts c
           where c.entity_id = p_entity_id and c.source_record_id = p_legacy_id and c.state in ('waiting', 'open')
             and (c.state = 'waiting' or c.retry_class = 'clash')) w
   order by w.rank limit 1
$$;
comment on function sync.waits_for(smallint, uuid, bigint) is
  'The record of the same entity that a record of the queue waits for: its parent, or the one that holds its unique '
  'value. Null: none. p_dry_run: as this dry run has planned it.';

create function sync.queue_rows(p_entity_id smallint, p_legacy_ids bigint[]) returns uuid[]
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  -- One index probe per record, whatever the planner thinks: a page must not cost more when the queue is long.
  select coalesce(array_agg(c.id), '{}')
    from unnest(p_legacy_ids) k
    cross join lateral (
      select c.id from public.sync_conflicts c
       where c.entity_id = p_entity_id and c.source_record_id = k and c.state in ('waiting', 'open')
      union all
      select c.id from public.sync_conflicts c where c.entity_id = p_entity_id and c.source_record_id = k and c.standing
      offset 0) c
$$;
comment on function sync.queue_rows(smallint, bigint[]) is
  'The rows of the queue that are live or stand for these records of an entity.';

create function sync.clash_keys(p_new bigint[]) returns setof bigint
language plpgsql stable security invoker set search_path = pg_catalog, pg_temp as $$
begin
  return query
  select i.k from pg_temp.page_issues i where i.k = any (p_new) and i.retry = 'clash'
  union
  select h.k from pg_temp.page_issues i cross join lateral (select (i.data #>> '{clashes_with,legacy_id}')::bigint as k) h
   where i.k = any (p_new) and i.retry = 'clash' and h.k is not null;
end
$$;
comment on function sync.clash_keys(bigint[]) is
  'Of records that a page puts into the queue anew, those that clash for a unique value, with the records that hold '
  'it.';

create function sync.ask_for_circles(p_entity public.sync_entities, p_dry_run uuid, p_new bigint[], p_longest integer) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp set plan_cache_mode = force_custom_plan as $$
declare
  v_keys   bigint[];
  v_next   integer[];
  v_circle bigint[];
  v_too_long text;
begin
  -- A circle closes with the record that comes into the queue last. What is followed is bounded, as a circle that a
  -- page takes is.
  with recursive met as (
    select k from unnest(p_new) k
    union
    select w.next from met cross join lateral sync.waits_for(p_entity.id, p_dry_run, met.k) w (next) where w.next is not null
  ), numbered as materialized (
    select m.k, w.next, (row_number() over ())::integer as i
      from (select k from met limit cardinality(p_new) + 100000) m cross join lateral sync.waits_for(p_entity.id, p_dry_run, m.k) w (next))
  select array_agg(n.k order by n.i), array_agg(t.i order by n.i) into v_keys, v_next
    from numbered n left join numbered t on t.k = n.next;
  if v_keys is null then
    return;
  end if;
  for v_circle in select array(select v_keys[x] from unnest(c) x) from sync.circles(v_next) c loop
    v_too_long := case when cardinality(v_circle) > p_longest then
      format('%s records wait for each other in a circle, and a page takes at most %s such records: change one of them in the source, or raise the page size.',
             cardinality(v_circle), p_longest) end;
    if v_too_long is not null and p_dry_run is not null then
      update public.sync_planned_records r set remedy = v_too_long
       where r.execution_id = p_dry_run and r.entity_id = p_entity.id and r.legacy_id = any (v_circle) and r.outcome in ('waiting', 'in_conflict');
    elsif v_too_long is not null then
      update public.sync_conflicts c set remedy = v_too_long
       where c.id = any (sync.queue_rows(p_entity.id, v_circle)) and c.state in ('waiting', 'open');
    else
      insert into public.sync_pending_keys (execution_id, entity_id, legacy_id, reason, circle)
      select p_dry_run, p_entity.id, k, 'circle', (select min(x) from unnest(v_circle) x) from unnest(v_circle) k order by k
      on conflict (entity_id, execution_id, legacy_id) do update
        set generation = default, requested_at = now(), gone = false, circle = excluded.circle;
    end if;
  end loop;
end
$$;
comment on function sync.ask_for_circles(public.sync_entities, uuid, bigint[], integer) is
  'Asks for the records that wait for each other in a circle, for their parent or for a unique value, to be read in '
  'one page: the circles that the records p_new have closed. p_longest: how many records a page takes. p_dry_run: '
  'the dry run that asks.';

create function sync.queue_records(p_entity public.sync_entities, p_execution uuid, p_page_size integer) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_known   uuid[];
  v_changed bigint[];
begin
  if not exists (select from pg_temp.page_issues) then
    return;
  end if;
  perform sync.enter_queue(p_entity.id);
  perform sync.name_causes();
  v_known := sync.queue_rows(p_entity.id, array(select k from pg_temp.page_issues order by k));
  v_changed := array(
    select c.source_record_id from public.sync_conflicts c join pg_temp.page_issues i on i.k = c.source_record_id
     where c.id = any (v_known) and c.state = 'waiting' and i.state = 'waiting' and c.conflict_data -> 'cause' is distinct from i.data -> 'cause');
  -- The same trouble again: one more attempt. Another one: the old row is superseded, the new one carries on.
  create temp table page_queued on commit drop as
  with same as (
    update public.sync_conflicts c
       set attempts = c.attempts + 1, last_seen_at = now(), source_digest = i.digest,
           -- What was found out about a circle stays while the record waits in it.
           remedy = case when c.conflict_data = coalesce(i.data, '{}') and coalesce(i.data #>> '{cause,kind}', 'circle') = 'circle' then c.remedy else i.remedy end, conflict_data = coalesce(i.data, '{}'),
           policy = coalesce(i.policy, c.policy), retry_class = i.retry, next_attempt_at = sync.next_attempt(i.retry, c.attempts + 1)
      from pg_temp.page_issues i
     where c.id = any (v_known) and c.source_record_id = i.k
       and (c.state = i.state and not i.settled or c.standing and i.settled and c.source_digest is not distinct from i.digest)
       and c.conflict_type = i.type and c.rule = i.rule and c.field is not distinct from i.field
       and c.parent_entity_id is not distinct from i.parent_entity_id
       and c.parent_legacy_id is not distinct from i."parentId"
       and (i.rule <> 'both_changed' or exists (
             select from public.sync_conflict_values v
              where v.conflict_id = c.id and v.source = i.evidence -> 'source' and v.target = i.evidence -> 'target'))
    returning c.id, c.source_record_id as k)
  select id, k, false as added from same;

  -- Left standing only what still holds; the record goes on as what stops it now.
  update public.sync_conflicts c set standing = false
    from pg_temp.page_issues i
   where c.id = any (v_known) and c.source_record_id = i.k and c.standing
     and not exists (select from pg_temp.page_queued s where s.id = c.id);

  with superseded as (
    update public.sync_conflicts c
       set state = 'superseded', next_attempt_at = null
      from pg_temp.page_issues i
     where c.id = any (v_known) and c.source_record_id = i.k and c.state in ('waiting', 'open')
       and not exists (select from pg_temp.page_queued s where s.id = c.id)
    returning c.source_record_id, c.attempts, c.first_seen_at, c.decisions, c.asked
  ), added as (
    insert into public.sync_conflicts
      (state, entity_id, entity_type, source_record_id, conflict_type, field, rule, policy, remedy, conflict_data, differences,
       parent_entity_id, parent_legacy_id, source_digest, attempts, decisions, asked, first_seen_at, source_table, target_table, target_record_id,
       execution_id, retry_class, next_attempt_at, resolution_strategy, resolved_at, resolved_by, standing)
    select case when i.settled then 'resolved' else i.state end, p_entity.id, p_entity.entity_type, i.k, i.type, i.field, i.rule, i.policy, i.remedy,
           coalesce(i.data, '{}'),
           case when i.evidence ? 'target' then
             sync.differences(p_entity.columns, sync.unlisted(i.field), i.evidence -> 'seen', i.evidence -> 'source', i.evidence -> 'target', true) end,
           i.parent_entity_id, i."parentId", i.digest, coalesce(s.attempts, 0) + 1, coalesce(s.decisions, 0),
           -- What stops the record now answers no question about its fields.
           case when i.rule = 'both_changed' then sync.unlisted(i.field) else coalesce(s.asked, '{}') end, coalesce(s.first_seen_at, now()),
           p_entity.source_table, p_entity.target_table, m.entity_uuid, p_execution,
           i.retry, case when not i.settled then sync.next_attempt(i.retry, coalesce(s.attempts, 0) + 1) end,
           case when i.settled then 'target_wins'::public.conflict_resolution_strategy end,
           case when i.settled then now() end, case when i.settled then 'policy' end, i.settled
      from pg_temp.page_issues i
      left join superseded s on s.source_record_id = i.k
      left join lateral (
        select m.entity_uuid from public.uuid_mappings_enhanced m
         where m.source_id = p_entity.source_id and m.entity_type = p_entity.entity_type and m.legacy_id = i.k limit 1) m on true
     where not exists (select from pg_temp.page_queued q where q.k = i.k)
     order by i.k
    returning id, source_record_id as k)
  insert into pg_temp.page_queued select id, k, true from added;

  insert into public.sync_conflict_values as v (conflict_id, seen, source, target, "left", record)
  select q.id, i.evidence -> 'seen', i.evidence -> 'source', i.evidence -> 'target', i.evidence -> 'left', nullif(i.evidence -> 'record', 'null')
    from pg_temp.page_queued q join pg_temp.page_issues i on i.k = q.k where i.evidence is not null and not i.settled
  on conflict (conflict_id) do update set record = excluded.record;

  -- Two records may hold what the other one is to get: read together, they can change places. Once in an execution:
  -- beside the one that holds the value, a record of a circle lacks its parent, beside the parent the value, and so
  -- on without an end.
  insert into public.sync_pending_keys (entity_id, legacy_id, reason)
  select p_entity.id, k, 'clash'
    from sync.clash_keys(array(
      select q.k from pg_temp.page_queued q join pg_temp.page_issues i on i.k = q.k
       where q.added
         and not exists (
           select from public.sync_conflicts c
            where c.entity_id = p_entity.id and c.source_record_id = q.k and c.state = 'superseded' and c.execution_id = p_execution
              and c.conflict_data #> '{clashes_with,legacy_id}' = i.data #> '{clashes_with,legacy_id}'))) k
   order by k
  on conflict (entity_id, execution_id, legacy_id) do update set generation = default, requested_at = now(), gone = false;
  v_changed := v_changed || array(select sync.name_causes_of_relatives(p_entity.id));
  perform sync.ask_for_circles(p_entity, null, array(select q.k from pg_temp.page_queued q where q.added order by q.k), 10 * p_page_size);
  perform sync.note_changed_causes(p_entity.id, v_changed || array(select q.k from pg_temp.page_queued q where q.added));
end
$$;
comment on function sync.queue_records(public.sync_entities, uuid, integer) is
  'Puts the records of pg_temp.page_issues into sync_conflicts. p_page_size: of the chain.';

create function sync.lock_queued(p_entity_id smallint, p_legacy_ids bigint[]) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp set plan_cache_mode = force_custom_plan as $$
declare
  v_queued uuid[] := sync.queue_rows(p_entity_id, p_legacy_ids);
begin
  -- Of none the planner would look through the whole queue.
  if v_queued <> '{}' then
    -- Before the target rows: whoever decides on a record has its row here first, and then wants the target row.
    perform from (
      select from public.sync_conflicts c
       -- As text, so that no index of all live rows can serve: the rows are found by their ids.
       where c.id = any (v_queued) and (c.state::text in ('waiting', 'open') or c.standing)
       order by c.source_record_id, c.id for no key update) held;
  end if;
end
$$;
comment on function sync.lock_queued(smallint, bigint[]) is
  'Locks what the queue has of a page''s records: a decision under way is waited for, and one that follows sees what '
  'the page has done.';

revoke all on function sync.enter_queue(smallint), sync.queue_rows(smallint, bigint[]),
  sync.ask_for_circles(public.sync_entities, uuid, bigint[], integer), sync.waits_for(smallint, uuid, bigint),
  sync.collect_issues(public.sync_entities, jsonb), sync.next_attempt(text, integer), sync.queue_records(public.sync_entities, uuid, integer),
  sync.clash_keys(bigint[]), sync.lock_queued(smallint, bigint[]) from public;
grant execute on function sync.enter_queue(smallint), sync.queue_rows(smallint, bigint[]),
  sync.ask_for_circles(public.sync_entities, uuid, bigint[], integer), sync.waits_for(smallint, uuid, bigint),
  sync.collect_issues(public.sync_entities, jsonb), sync.next_attempt(text, integer), sync.queue_records(public.sync_entities, uuid, integer),
  sync.clash_keys(bigint[]), sync.lock_queued(smallint, bigint[]) to isthmus_worker;

-- supabase/schemas/functions/queue-care.sql

-- Purpose: take landed records out of the queue, release what waited for them, and tell what has stood there for long.
-- Locks:   row locks on sync_conflicts and sync_pending_keys.

create function sync.retry_due(p_source_id smallint) returns bigint
language sql security invoker set search_path = pg_catalog, pg_temp as $$
  with due as (
    insert into public.sync_pending_keys (entity_id, legacy_id, reason)
    select c.entity_id, c.source_record_id, 'retried'
      from public.sync_conflicts c join public.sync_entities e on e.id = c.entity_id and e.source_id = p_source_id
     where c.state = 'open' and c.next_attempt_at <= now()
     order by c.entity_id, c.source_record_id
    on conflict (entity_id, execution_id, legacy_id) do nothing
    returning 1)
  select count(*) from due
$$;
comment on function sync.retry_due(smallint) is 'Asks for the records whose next attempt is due to be read again.';

create function sync.count_queue(p_source_id smallint) returns void
language sql security invoker set search_path = pg_catalog, pg_temp as $$
  delete from public.sync_queue_counts q using public.sync_entities e where e.id = q.entity_id and e.source_id = p_source_id;
  insert into public.sync_queue_counts (entity_id, entity_type, state, conflict_type, retry_class, records, oldest_at, next_attempt_at)
  select c.entity_id, c.entity_type, c.state, c.conflict_type, c.retry_class, count(*), min(c.first_seen_at), min(c.next_attempt_at)
    from public.sync_conflicts c join public.sync_entities e on e.id = c.entity_id and e.source_id = p_source_id
   where c.state in ('waiting', 'open') group by 1, 2, 3, 4, 5;
$$;
comment on function sync.count_queue(smallint) is 'Counts the queue for those who may not see its records.';

create function sync.alert_old_records(p_source_id smallint, p_hours integer) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_old record;
begin
  for v_old in
    select e.id as entity_id, e.entity_type, coalesce(sum(q.records) filter (where q.oldest_at < now() - make_interval(hours => p_hours)), 0) as n,
           min(q.oldest_at) as oldest_at
      from public.sync_entities e left join public.sync_queue_counts q on q.entity_id = e.id
     where e.source_id = p_source_id group by 1, 2
  loop
    if v_old.n > 0 then
      perform sync.raise_alert('queue_old', 'warning', p_source_id, null, v_old.entity_id,
        format('Records of %s have been in the queue for more than %s hours.', v_old.entity_type, p_hours), jsonb_build_object('oldest_at', v_old.oldest_at));
    else
      perform sync.close_alerts(array(select id from public.sync_alerts where kind = 'queue_old' and entity_id = v_old.entity_id and closed_at is null));
    end if;
  end loop;
end
$$;
comment on function sync.alert_old_records(smallint, integer) is
  'Raises the alert queue_old for entities with records that have been in the queue for so long, and closes it for '
  'the others.';

create function sync.replay(p_entity_type text default null, p_rule text default null, p_type public.conflict_type_enum default null) returns bigint
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_count bigint;
begin
  insert into public.sync_pending_keys (entity_id, legacy_id, reason)
  select entity_id, source_record_id, 'replayed'
    from public.sync_conflicts
   where state in ('waiting', 'open')
     and entity_type = coalesce(p_entity_type, entity_type) and rule = coalesce(p_rule, rule) and conflict_type = coalesce(p_type, conflict_type)
   order by entity_id, source_record_id
  on conflict (entity_id, execution_id, legacy_id) do update set generation = default, requested_at = now(), gone = false;
  get diagnostics v_count = row_count;
  return v_count;
end
$$;
comment on function sync.replay(text, text, public.conflict_type_enum) is
  'Has records of the queue read again now, all or some: of one entity, stopped by one rule, of one type. Returns '
  'how many; the next tick reads them. For the SQL editor, and npm run sync -- replay.';

create function sync.release_waiting(p_source_id smallint) returns bigint
language plpgsql security invoker set search_path = pg_catalog, pg_temp set plan_cache_mode = force_custom_plan as $$
declare
  -- A chain that ends asks for the next ones, and every tick does.
  c_at_once constant bigint := 10000;
  v_entity  public.sync_entities;
  v_count   bigint;
  v_total   bigint := 0;
begin
  -- The entities that a record waits for, from one to the next: mostly there is none.
  for v_entity in
    with recursive waited as (
      (select c.parent_entity_id as id from public.sync_conflicts c where c.state = 'waiting' order by c.parent_entity_id limit 1)
      union all
      select (select c.parent_entity_id from public.sync_conflicts c
               where c.state = 'waiting' and c.parent_entity_id > w.id order by c.parent_entity_id limit 1)
        from waited w where w.id is not null)
    select e.* from waited w join public.sync_entities e on e.id = w.id where e.source_id = p_source_id order by e.id
  loop
    insert into public.sync_pending_keys (entity_id, legacy_id, reason)
    select r.entity_id, r.source_record_id, 'released'
      from (
        -- From one parent to the next: of 200,000 records that wait for one parent only those are looked at that are
        -- released.
        with recursive parent as (
          (select c.parent_legacy_id as id from public.sync_conflicts c
            where c.state = 'waiting' and c.parent_entity_id = v_entity.id order by c.parent_legacy_id limit 1)
          union all
          select (select c.parent_legacy_id from public.sync_conflicts c
                   where c.state = 'waiting' and c.parent_entity_id = v_entity.id and c.parent_legacy_id > p.id order by c.parent_legacy_id limit 1)
            from parent p where p.id is not null)
        select w.entity_id, w.source_record_id
          from parent p
          cross join lateral (
            select from public.uuid_mappings_enhanced m
             where m.source_id = v_entity.source_id and m.entity_type = v_entity.entity_type and m.legacy_id = p.id and m.sync_status = 'active'
             limit 1) landed
          cross join lateral (
            select c.entity_id, c.source_record_id from public.sync_conflicts c
             where c.state = 'waiting' and c.parent_entity_id = v_entity.id and c.parent_legacy_id = p.id
               -- A key that a page is about to settle is not waited for: that page may be waiting for a lock of ours.
               and (select k.legacy_id from public.sync_pending_keys k
                     where k.execution_id is null and k.entity_id = c.entity_id and k.legacy_id = c.source_record_id) is null
             offset 0) w
         limit c_at_once - v_total) r
     order by r.entity_id, r.source_record_id
    on conflict (entity_id, execution_id, legacy_id) do nothing;
    get diagnostics v_count = row_count;
    v_total := v_total + v_count;
    exit when v_total >= c_at_once;
  end loop;
  return v_total;
end
$$;
comment on function sync.release_waiting(smallint) is
  'Asks for waiting records whose parent has landed to be read again, at most 10,000 of them. A query, not a signal: '
  'safe to run at any time.';

create function sync.record_warnings(p_entity_id smallint, p_execution uuid, p_warnings jsonb) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  create temp table page_warnings on commit drop as
  select distinct x.k, x.rule from jsonb_to_recordset(p_warnings) as x (k bigint, rule text)
  union
  select o.legacy_id, 'written_otherwise: ' || o.field from sync.page_otherwise() o;
  delete from public.sync_warnings w
   where w.entity_id = p_entity_id
     and w.legacy_id = any (array(select p.legacy_id from pg_temp.page_plan p where p.action in ('insert', 'update', 'unchanged', 'review', 'delete', 'soft')))
     and not exists (select from pg_temp.page_warnings x where x.k = w.legacy_id and x.rule = w.rule);
  insert into public.sync_warnings as w (entity_id, legacy_id, rule, execution_id)
  select p_entity_id, x.k, x.rule, p_execution
    from pg_temp.page_warnings x
    join pg_temp.page_plan p on p.legacy_id = x.k and p.action in ('insert', 'update', 'unchanged', 'review')
   order by x.k, x.rule
  on conflict (entity_id, legacy_id, rule) do update set last_seen_at = now(), execution_id = excluded.execution_id;
end
$$;
comment on function sync.record_warnings(smallint, uuid, jsonb) is
  'Notes which records of a page have landed although they break a rule, or otherwise than they were written, and '
  'forgets those that no longer do.';

revoke all on function sync.retry_due(smallint), sync.count_queue(smallint), sync.alert_old_records(smallint, integer),
  sync.replay(text, text, public.conflict_type_enum), sync.release_waiting(smallint), sync.record_warnings(smallint, uuid, jsonb) from public;
grant execute on function sync.retry_due(smallint), sync.count_queue(smallint), sync.alert_old_records(smallint, integer),
  sync.replay(text, text, public.conflict_type_enum), sync.release_waiting(smallint), sync.record_warnings(smallint, uuid, jsonb) to isthmus_worker;

-- supabase/schemas/functions/reveal.sql

-- Purpose: show the unmasked values of a conflict to those who may see them, and note that they did.

create function sync.reveal(p_conflict uuid) returns jsonb
language plpgsql security definer set search_path = pg_catalog, pg_temp set standard_conforming_strings = on as $$
declare
  v_conflict public.sync_conflicts;
  v_values   public.sync_conflict_values;
  v_caller   name := sync.calling_role();
  v_owner    oid := (select relowner from pg_class where oid = 'public.sync_conflict_values'::regclass);
begin
  -- Whoever comes through the Data API needs the role of a reviewer; others see the values only where they own the
  -- table.
  if not pg_has_role(v_caller, v_owner, 'usage') and not (v_caller = 'authenticated' and sync.caller_role() is not distinct from 'reviewer') then
    raise exception 'only reviewers see unmasked values' using errcode = '42501';
  end if;
  select * into v_conflict from public.sync_conflicts where id = p_conflict;
  if not found then
    raise exception 'there is no conflict %', p_conflict using errcode = 'IS022', hint = 'Give the id of a row of sync_conflicts.';
  end if;
  select * into v_values from public.sync_conflict_values where conflict_id = p_conflict;
  insert into public.sync_audit (actor, action, conflict_id, entity_id, legacy_id, fields)
  values (sync.actor(null), 'revealed', p_conflict, v_conflict.entity_id, v_conflict.source_record_id, sync.unlisted(v_conflict.field));
  return coalesce(sync.differences('[]', sync.unlisted(v_conflict.field), v_values.seen, v_values.source, v_values.target, false), '{}');
end
$$;
comment on function sync.reveal(uuid) is
  'The differing values of a conflict, unmasked and whole: {field: {seen, source, target}}. Leaves a row in '
  'sync_audit. select sync.reveal(''<id>'').';

revoke all on function sync.reveal(uuid) from public;
grant execute on function sync.reveal(uuid) to authenticated;

grant create on schema sync to isthmus_decisions;
alter function sync.reveal(uuid) owner to isthmus_decisions;
revoke create on schema sync from isthmus_decisions;

-- supabase/schemas/functions/decided-fields.sql

-- Purpose: what a decision writes: into the target's rows, into row states and mappings, and beside the conflict, to
--          put it back.
-- Locks:   the decisions' target rows, in id order.
--
-- These run as isthmus_decisions. p_entity comes from sync.released_entity, so that each name that becomes SQL was
-- released by the owner; what conflicts and their values say is bound or looked up among these names.

create function sync.refuse_decision(p_conflict public.sync_conflicts, p_why text, p_hint text) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  raise exception '% % (conflict %): %', p_conflict.entity_type, p_conflict.source_record_id, p_conflict.id, p_why
    using errcode = 'IS022', hint = p_hint || ' Nothing was changed.';
end
$$;
comment on function sync.refuse_decision(public.sync_conflicts, text, text) is
  'Raises IS022: which record, why not, and what to do.';

create function sync.takes(p_value jsonb, p_type text, p_exact text) returns boolean
language plpgsql stable security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_text text := p_value #>> '{}';
begin
  if p_type in ('json', 'jsonb') then
    return true;
  elsif jsonb_typeof(p_value) = 'array' and p_type like '%[]' then
    execute format('select x.value::text from jsonb_to_record($1) as x (value %s)', p_type) into v_text using jsonb_build_object('value', p_value);
  elsif jsonb_typeof(p_value) in ('array', 'object') then
    return false;
  end if;
  return sync.holds(v_text, format('(p.value)::%s is not null and coalesce(%s, true)', p_type, coalesce(sync.fits_sql('value', p_type, p_exact, 'true'), 'true')));
exception when data_exception then
  return false;
end
$$;
comment on function sync.takes(jsonb, text, text) is
  'Whether a column of that type takes a JSON value as it is: of its kind, and neither cut, rounded nor moved to '
  'another zone.';

create function sync.refuse_cancelled(p_entity public.sync_entities, p_ids uuid[], p_written bigint, p_meant bigint) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_conflict public.sync_conflicts;
begin
  if p_written >= p_meant then
    return;
  elsif cardinality(p_ids) > 1 then
    -- Caught by sync.carry_out, which then finds the one.
    raise exception using errcode = 'IS004', message = 'the target has cancelled a write without an error';
  end if;
  select * into strict v_conflict from public.sync_conflicts where id = p_ids[1];
  perform sync.refuse_decision(v_conflict, 'the target cancels the write without an error'
      || coalesce(' (trigger ' || sync.cancelling_triggers(to_regclass(format('public.%I', p_entity.target_table)), null) || ')', ''),
    'Change the trigger, or decide otherwise.');
end
$$;
comment on function sync.refuse_cancelled(public.sync_entities, uuid[], bigint, bigint) is
  'Refuses decisions of which fewer rows were written than were meant. p_ids: the conflicts that were carried out '
  'together.';

create function sync.read_for_text(p_entity public.sync_entities, p_keys bigint[]) returns void
language sql security invoker set search_path = pg_catalog, pg_temp as $$
  update public.sync_row_states set source_digest = null where entity_id = p_entity.id and legacy_id = any (p_keys);
  -- Whoever was to read it already compares the texts in a commit after this one.
  insert into public.sync_pending_keys (entity_id, legacy_id, reason, generation)
  select distinct p_entity.id, k, 'decided', 0 from pg_catalog.unnest(p_keys) k order by k
  on conflict (entity_id, execution_id, legacy_id) do nothing;
$$;
comment on function sync.read_for_text(public.sync_entities, bigint[]) is
  'Has records read again of which a decision has written the source''s value: what the next execution reads has its '
  'text, too.';

create function sync.tell_decided_otherwise(p_entity public.sync_entities, p_written jsonb) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_table  text := format('public.%I', p_entity.target_table);
  v_slots  text;
  v_owned  text;
  v_fields text[];
begin
  select string_agg(format('t.%I', c.name), ', '), string_agg(format('(%1$L, d.put ? %1$L and (%2$s)::text is distinct from t.%1$I::text)', c.name,
                           sync.filled_sql('d.put', c.name, c.type, c.recast, format('(d.new).%I', c.name))), ', ')
    into v_owned, v_slots
    from sync.field_slots(p_entity) c where c.name <> 'id';
  perform set_config('search_path', sync.application_path(), true);
  execute format($q$
    with otherwise as (
      select d.key, f.name
        from (select (w ->> 'key')::bigint as key, (w ->> 'row')::uuid as row, w -> 'put' as put, jsonb_populate_record(null::%1$s, w -> 'put') as new
                from jsonb_array_elements($1) w where w -> 'put' <> '{}' offset 0) d
        cross join lateral (select %3$s from %1$s t where t.id = d.row limit 1) t
        cross join lateral (values %2$s) f (name, altered)
       where f.altered
      union
      select (w ->> 'key')::bigint, f.name
        from jsonb_array_elements($1) w cross join lateral jsonb_array_elements_text(w -> 'also') f (name)
    ), told as (
      insert into public.sync_warnings as w (entity_id, legacy_id, rule)
      select distinct $2, key, 'written_otherwise: ' || name from otherwise
      on conflict (entity_id, legacy_id, rule) do update set last_seen_at = now())
    select pg_catalog.array_agg(distinct name) from otherwise
  $q$, v_table, v_slots, v_owned) into v_fields using p_written, p_entity.id;
  perform set_config('search_path', 'pg_catalog, pg_temp', true);
  perform sync.tell_otherwise(p_entity, null, v_fields);
end
$$;
comment on function sync.tell_decided_otherwise(public.sync_entities, jsonb) is
  'Tells which fields of rows hold something else than a decision wrote, because a trigger of the target has changed '
  'it. p_written: [{key, row, put, also: other fields that are known to be changed}].';

create function sync.decide_fields(p_entity public.sync_entities, p_ids uuid[], p_before jsonb) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_table   text := format('public.%I', p_entity.target_table);
  v_owned   text[] := array(select c ->> 'name' from jsonb_array_elements(p_entity.columns) c);
  v_now     text := format('select (select pg_catalog.to_jsonb(isthmus_row.*) from (select %s) isthmus_row) as now, %s as prints from %s t where t.id = (work.item ->> ''row'')::uuid limit 1',
                           sync.owned_columns(p_entity), coalesce(sync.prints_sql(p_entity), 'null::jsonb'), v_table);
  v_exact   text[] := array(select c ->> 'name' from jsonb_array_elements(p_entity.columns) c where c ->> 'type' = 'numeric');
  v_reworded jsonb := sync.reworded_fields(p_entity);
  v_work    jsonb;
  v_one     jsonb;
  v_first   record;
  v_written bigint;
begin
  -- expect: what the row must hold now; put: what is written; seen, left: what is remembered then, left null: what
  -- stands there. What the target keeps against the source's value, or gets instead of it, counts as somebody's edit
  -- of that value.
  select pg_catalog.jsonb_agg(jsonb_build_object('id', c.id, 'row', c.target_record_id, 'key', c.source_record_id, 'fields', pg_catalog.to_jsonb(f.names),
           'strategy', c.resolution_strategy, 'again', p_before ->> c.id::text is not null,
           'expect', case when p_before ->> c.id::text is null then v.target else v.after end,
           'put', case when c.resolution_strategy = 'source_wins' then v.source
                       when c.resolution_strategy = 'merge' then c.resolution_data
                       when p_before ->> c.id::text is null then '{}' else v.target end,
           'was_seen', case when p_before ->> c.id::text is null then v.seen else v.source end,
           'seen', case when c.resolution_strategy is null then v.seen else v.source end,
           'left', case when c.resolution_strategy is null then v."left" when c.resolution_strategy <> 'source_wins' then v.source end,
           'record', v.record, 'hashes', v.hashes, 'digest', c.source_digest))
    into v_work
    from pg_catalog.unnest(p_ids) i (id)
    cross join lateral (select * from public.sync_conflicts where id = i.id and rule = 'both_changed' limit 1) c
    left join lateral (select * from public.sync_conflict_values where conflict_id = c.id limit 1) v on true
    cross join lateral (select sync.unlisted(c.field) as names) f;
  if v_work is null then
    return;
  elsif (select count(*) > count(distinct w ->> 'row') from jsonb_array_elements(v_work) w) then
    -- A statement writes a row once: sync.carry_out then takes one decision after the other.
    raise exception using errcode = 'IS004', message = 'several decisions are on one record';
  end if;

  -- What was decided is judged by the record alone.
  select c.*, w.why, w.hint into v_first
    from (select (w ->> 'id')::uuid as id, case
                   when w ->> 'expect' is null then 'what it would put back is not known'
                   when w ->> 'strategy' = 'merge' and exists (select from jsonb_object_keys(w -> 'put') k where not w -> 'fields' ? k)
                     then 'resolution_data names ' || (select left(string_agg(k, ', ' order by k), 200) from jsonb_object_keys(w -> 'put') k where not w -> 'fields' ? k)
                          || ', which this conflict is not about'
                   when w ->> 'strategy' = 'merge' and exists (select from jsonb_array_elements_text(w -> 'fields') k where not w -> 'put' ? k)
                     then 'resolution_data lacks ' || (select string_agg(k, ', ' order by k) from jsonb_array_elements_text(w -> 'fields') k where not w -> 'put' ? k)
                   when w ->> 'strategy' = 'merge' and exists (select from jsonb_each(w -> 'put') k where k.value = '"•••"')
                     then 'resolution_data holds a masked value'
                   when w ->> 'strategy' = 'merge' and exists (
                        select from jsonb_each(w -> 'put') k join public.sync_conflict_values v on v.conflict_id = (w ->> 'id')::uuid
                          cross join lateral (values (v.seen -> k.key), (v.source -> k.key), (v.target -> k.key)) x (whole)
                         where k.value <> x.whole and k.value = sync.shown_value(x.whole, jsonb_array_length(w -> 'fields')))
                     then 'resolution_data holds a value that differences shows cut short'
                   when w -> 'put' ? p_entity.legacy_key and w #>> array['put', p_entity.legacy_key] is distinct from w ->> 'key'
                     then format('%s says which record the row is, and no decision changes it', p_entity.legacy_key)
                   when not (select pg_catalog.array_agg(k) from jsonb_object_keys(w -> 'put') k) <@ v_owned then 'a field is no longer the sync''s own'
                 end as why,
                 'The fields are those in the column field; their values, unmasked and whole: select sync.reveal(''' || (w ->> 'id') || ''').' as hint
            from jsonb_array_elements(v_work) w) w
    join public.sync_conflicts c on c.id = w.id
   where w.why is not null order by c.first_seen_at, c.id limit 1;
  if found then
    perform sync.refuse_decision(x, v_first.why, v_first.hint) from public.sync_conflicts x where x.id = v_first.id;
  end if;

  select c as conflict, k.key as field into v_first
    from jsonb_array_elements(v_work) w cross join lateral jsonb_each(w -> 'put') k
    join sync.column_types(v_table::regclass) t on t.name = k.key
    join public.sync_conflicts c on c.id = (w ->> 'id')::uuid
   where w ->> 'strategy' = 'merge' and k.value <> 'null' and not sync.takes(k.value, t.type, t.exact)
   order by c.first_seen_at, c.id, k.key limit 1;
  if found then
    perform sync.refuse_decision(v_first.conflict, 'the column ' || quote_ident(v_first.field) || ' cannot hold its value in resolution_data exactly',
      'Write one of its kind that it need neither cut nor round.');
  end if;

  -- Rows are found one by one, by their ids: nobody knows how many decisions there are when this is planned, and how
  -- many rows.
  execute format($q$
    select count(*) from (
      select from (select distinct (work.item ->> 'row')::uuid as row from jsonb_array_elements($1) work (item) order by 1 offset 0) d
        cross join lateral (select from %s t where t.id = d.row limit 1 for no key update of t) l) locked
  $q$, v_table) using v_work;
  execute format($q$
    select pg_catalog.jsonb_agg(work.item || jsonb_build_object('held', jsonb_build_object('seen', s.seen_hash, 'left', s.left_hash),
             'before', o.now, 'prints', o.prints, 'says', coalesce(s.seen, nullif(work.item -> 'record', 'null')), 'why', case
             when o.now is null then 'its target row is gone'
             when sync.pick(o.now, f.names) <> work.item -> 'expect' then 'the target holds other values than it shows'
             when s.legacy_id is null or s.gone_at is not null
               or s.seen_hash is null and sync.pick(s.seen, f.names) <> work.item -> 'was_seen'
               or s.seen_hash is not null and (work.item ->> 'again')::boolean and s.seen_hash <> hashtextextended((work.item -> 'record')::text, 0)
               then 'the source has gone on since' end))
      from jsonb_array_elements($1) work (item)
      cross join lateral (select array(select jsonb_array_elements_text(work.item -> 'fields')) as names) f
      left join lateral (%1$s) o on true
      left join lateral (select legacy_id, gone_at, seen, seen_hash, left_hash from public.sync_row_states
                          where entity_id = %2$s and legacy_id = (work.item ->> 'key')::bigint limit 1) s on true
  $q$, v_now, p_entity.id) into v_work using v_work;
  select c as conflict, w ->> 'why' as why into v_first from jsonb_array_elements(v_work) w join public.sync_conflicts c on c.id = (w ->> 'id')::uuid
   where w ->> 'why' is not null order by c.first_seen_at, c.id limit 1;
  if found then
    perform sync.refuse_decision(v_first.conflict, v_first.why,
      'Have it read again, and decide on what it shows then: select sync.replay(''' || p_entity.entity_type || ''').');
  end if;

  perform set_config('search_path', sync.application_path(), true);
  execute format($q$
    update %1$s t set %2$s
      from (select (work.item ->> 'row')::uuid as row, work.item -> 'put' as put, jsonb_populate_record(null::%1$s, work.item -> 'put') as new
              from jsonb_array_elements($1) work (item) where work.item -> 'put' <> '{}' offset 0) d
     where t.id = d.row
  $q$, v_table, (select string_agg(format('%1$I = case when d.put ? %1$L then %2$s else t.%1$I end', c.name,
                                 sync.filled_sql('d.put', c.name, c.type, c.recast, format('(d.new).%I', c.name))), ', ')
                  from sync.field_slots(p_entity) c where c.name <> 'id')) using v_work;
  get diagnostics v_written = row_count;
  perform set_config('search_path', 'pg_catalog, pg_temp', true);
  perform sync.refuse_cancelled(p_entity, p_ids, v_written, (
    select count(distinct w ->> 'row') from jsonb_array_elements(v_work) w where w -> 'put' <> '{}'));

  execute format($q$
    select pg_catalog.jsonb_agg(work.item || jsonb_build_object('now', o.now, 'altered', a.altered, 'also', a.also))
      from jsonb_array_elements($1) work (item) cross join lateral (%s) o
      -- What triggers made of the fields that the decision is not about: told where it is not what the source says,
      -- or prints otherwise.
      cross join lateral (
        select coalesce(jsonb_object_agg(e.key, e.value) filter (where x.another), '{}') as altered,
               coalesce(pg_catalog.jsonb_agg(e.key) filter (where not x.another or e.value is distinct from work.item -> 'says' -> e.key), '[]') as also
          from jsonb_each(o.now) e
          cross join lateral (select e.value is distinct from work.item -> 'before' -> e.key as another) x
         where (x.another or o.prints -> e.key is distinct from work.item -> 'prints' -> e.key) and not work.item -> 'put' ? e.key) a
  $q$, v_now) into v_work using v_work;
  select c as conflict into v_first
    from jsonb_array_elements(v_work) w cross join lateral jsonb_each(w -> 'put') p join public.sync_conflicts c on c.id = (w ->> 'id')::uuid
   -- Text that reads as a number would do, and so would NaN, which is none.
   where p.key = any (v_exact) and (w -> 'now' -> p.key is distinct from p.value or jsonb_typeof(p.value) = 'string') order by c.first_seen_at, c.id limit 1;
  if found then
    perform sync.refuse_decision(v_first.conflict, 'the target cannot hold the number exactly', 'Write one that fits its column, without quotes.');
  end if;

  select c as conflict, f.name into v_first
    from jsonb_array_elements(v_work) w cross join lateral jsonb_array_elements_text(w -> 'also') f (name) join public.sync_conflicts c on c.id = (w ->> 'id')::uuid
   where f.name = any (v_exact) order by c.first_seen_at, c.id, f.name limit 1;
  if found then
    perform sync.refuse_decision(v_first.conflict, 'the target changes a number that the decision is not about, in ' || quote_ident(v_first.name)
        || coalesce(' (trigger ' || sync.altering_triggers(v_table::regclass, array[v_first.name]) || ')', ''),
      'Change the trigger, or decide otherwise.');
  end if;

  -- What is put back is nothing new.
  perform sync.tell_decided_otherwise(p_entity, (
    select pg_catalog.jsonb_agg(case when w ->> 'strategy' is not null then w else w || '{"put": {}}' end) from jsonb_array_elements(v_work) w));

  update public.sync_conflict_values v
     set after = case when w ->> 'strategy' is not null then sync.pick(w -> 'now', array(select jsonb_array_elements_text(w -> 'fields'))) end,
         hashes = case when (w ->> 'again')::boolean then v.hashes else w -> 'held' end
    from jsonb_array_elements(v_work) w
   where v.conflict_id = (w ->> 'id')::uuid;
  -- Of hashes, 0 is what nothing fits.
  -- One by one: each by its key, whatever the planner thinks.
  for v_one in select jsonb_array_elements(v_work) loop
    update public.sync_row_states s
       set seen = s.seen - f.names || (v_one -> 'seen'),
           "left" = (s."left" || (v_one -> 'altered')) - f.names || case when v_one ->> 'left' is null then sync.pick(v_one -> 'now', f.names) else v_one -> 'left' end,
           seen_hash = case when s.seen_hash is not null then
             coalesce(case when v_one ->> 'strategy' is null then (v_one #>> '{hashes,seen}')::bigint else hashtextextended((v_one -> 'record')::text, 0) end, 0) end,
           left_hash = case when s.left_hash is not null then
             coalesce(case when v_one ->> 'strategy' is null then (v_one #>> '{hashes,left}')::bigint else (
               -- Edits of other fields stay edits: what the sync has left there is what the source says.
               select hashtextextended(jsonb_object_agg(e.key, case
                        when v_one -> 'fields' ? e.key then coalesce(v_one -> 'left' -> e.key, e.value)
                        when e.value = v_one -> 'record' -> e.key or v_one -> 'altered' ? e.key then e.value
                        else v_one -> 'record' -> e.key end)::text, 0) from jsonb_each(v_one -> 'now') e) end, 0) end,
           source_digest = (v_one ->> 'digest')::bigint, written_by = null, synced_at = now()
      from (select array(select jsonb_array_elements_text(v_one -> 'fields')) as names) f
     where s.entity_id = p_entity.id and s.legacy_id = (v_one ->> 'key')::bigint;
  end loop;
  perform sync.read_for_text(p_entity, array(
    select (w ->> 'key')::bigint from jsonb_array_elements(v_work) w
     where w ->> 'strategy' = 'source_wins' and sync.loses_text(v_reworded, w -> 'put')));
end
$$;
comment on function sync.decide_fields(public.sync_entities, uuid[], jsonb) is
  'Decisions on fields that both sides have changed: target rows, row states and what is needed to put them back.';

revoke all on function sync.read_for_text(public.sync_entities, bigint[]),
  sync.takes(jsonb, text, text), sync.tell_decided_otherwise(public.sync_entities, jsonb),
  sync.refuse_cancelled(public.sync_entities, uuid[], bigint, bigint),
  sync.decide_fields(public.sync_entities, uuid[], jsonb), sync.refuse_decision(public.sync_conflicts, text, text) from public;
grant execute on function sync.read_for_text(public.sync_entities, bigint[]),
  sync.takes(jsonb, text, text), sync.tell_decided_otherwise(public.sync_entities, jsonb),
  sync.refuse_cancelled(public.sync_entities, uuid[], bigint, bigint),
  sync.decide_fields(public.sync_entities, uuid[], jsonb) to isthmus_decisions;
-- What sync.check_decision calls as whoever decides.
grant execute on function sync.refuse_decision(public.sync_conflicts, text, text) to authenticated, isthmus_decisions;

-- supabase/schemas/functions/decided-rows.sql

-- Purpose: what a decision makes of a whole row of the target: written again, deleted, kept.
-- Locks:   the decisions' target rows, in id order.

create function sync.write_again(p_entity public.sync_entities, p_ids uuid[]) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_table text := format('public.%I', p_entity.target_table);
  v_first public.sync_conflicts;
  v_written bigint;
  v_reworded jsonb := sync.reworded_fields(p_entity);
begin
  select c.* into v_first from public.sync_conflicts c left join public.sync_conflict_values v on v.conflict_id = c.id
   where c.id = any (p_ids) and v.record is null order by c.first_seen_at, c.id limit 1;
  if found then
    perform sync.refuse_decision(v_first, 'what the source says of it is not known', format('Have it read again: select sync.replay(%L).', p_entity.entity_type));
  end if;
  -- One record, one row. Without an index each would cost a look through the table.
  if sync.finds_legacy_ids(p_entity) then
    execute format($q$
      select c.* from (select * from public.sync_conflicts where id = any ($1) offset 0) c
        cross join lateral (select from %1$s t where t.%2$I = c.source_record_id and t.id <> c.target_record_id offset 0) twin
       order by c.first_seen_at, c.id limit 1
    $q$, v_table, p_entity.legacy_key) into v_first using p_ids;
    if v_first.id is not null then
      perform sync.refuse_decision(v_first, 'another row of the target has its legacy id', format('Take that row over (npm run sync -- adopt %s), or delete it.', p_entity.entity_type));
    end if;
  end if;
  perform set_config('search_path', sync.application_path(), true);
  execute format($q$
    insert into %1$s (id, %2$s)
    select d.id, %3$s
      from (select c.target_record_id as id, v.record, jsonb_populate_record(null::%1$s, v.record) as new
              from public.sync_conflicts c join public.sync_conflict_values v on v.conflict_id = c.id
             where c.id = any ($1) order by c.target_record_id offset 0) d
  $q$, v_table, (select string_agg(quote_ident(c.name), ', ') from sync.field_slots(p_entity) c),
    (select string_agg(sync.filled_sql('d.record', c.name, c.type, c.recast, format('(d.new).%I', c.name)), ', ') from sync.field_slots(p_entity) c)) using p_ids;
  get diagnostics v_written = row_count;
  perform set_config('search_path', 'pg_catalog, pg_temp', true);
  perform sync.refuse_cancelled(p_entity, p_ids, v_written, cardinality(p_ids));
  perform sync.tell_decided_otherwise(p_entity, (
    select pg_catalog.jsonb_agg(jsonb_build_object('key', c.source_record_id, 'row', c.target_record_id, 'put', v.record))
      from public.sync_conflicts c join public.sync_conflict_values v on v.conflict_id = c.id where c.id = any (p_ids)));
  execute format($q$
    update public.sync_row_states s
       set seen = case when s.seen_hash is null then v.record end, "left" = case when s.left_hash is null then o.now end,
           seen_hash = case when s.seen_hash is not null then hashtextextended(v.record::text, 0) end,
           left_hash = case when s.left_hash is not null then hashtextextended(o.now::text, 0) end,
           source_digest = c.source_digest, written_by = null, gone_at = null, outside = null, synced_at = now()
      from public.sync_conflicts c join public.sync_conflict_values v on v.conflict_id = c.id
      join %1$s t on t.id = c.target_record_id
      cross join lateral (select pg_catalog.to_jsonb(isthmus_row.*) as now from (select %2$s) isthmus_row offset 0) o
     where c.id = any ($1) and s.entity_id = c.entity_id and s.legacy_id = c.source_record_id
  $q$, v_table, sync.owned_columns(p_entity)) using p_ids;
  perform sync.read_for_text(p_entity, array(
    select c.source_record_id from public.sync_conflicts c join public.sync_conflict_values v on v.conflict_id = c.id
     where c.id = any (p_ids) and sync.loses_text(v_reworded, v.record)));
end
$$;
comment on function sync.write_again(public.sync_entities, uuid[]) is
  'Target rows that somebody deleted are written again, under their ids.';

create function sync.delete_decided(p_entity public.sync_entities, p_ids uuid[]) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_table text := format('public.%I', p_entity.target_table);
  v_first public.sync_conflicts;
  v_kept  uuid;
begin
  -- Nobody deletes or empties, without a word, what refers to the row.
  execute format($q$
    select c.* from public.sync_conflicts c join %1$s t on t.id = c.target_record_id
     where c.id = any ($1) and (%2$s) order by c.first_seen_at, c.id limit 1
  $q$, v_table, sync.referenced_sql(p_entity, null)) into v_first using p_ids;
  if v_first.id is not null then
    perform sync.refuse_decision(v_first, 'other rows refer to its target row', 'Decide on these first.');
  end if;
  execute format($q$
    select c.* from public.sync_conflicts c join public.sync_conflict_values v on v.conflict_id = c.id
      join %1$s t on t.id = c.target_record_id
      cross join lateral (select pg_catalog.to_jsonb(isthmus_row.*) as now from (select %2$s) isthmus_row offset 0) o
     where c.id = any ($1) and c.rule = 'left_edited' and sync.pick(o.now, array(select jsonb_object_keys(v.target))) <> v.target
     order by c.first_seen_at, c.id limit 1
  $q$, v_table, sync.owned_columns(p_entity)) into v_first using p_ids;
  if v_first.id is not null then
    perform sync.refuse_decision(v_first, 'the target holds other values than it shows', format('Have it read again: select sync.replay(%L).', p_entity.entity_type));
  end if;
  perform set_config('search_path', sync.application_path(), true);
  execute format($q$
    with kept as (
      insert into public.sync_conflict_values as k (conflict_id, target)
      select c.id, o.now from public.sync_conflicts c join %1$s t on t.id = c.target_record_id
        cross join lateral (select pg_catalog.to_jsonb(isthmus_row.*) as now from (select %2$s) isthmus_row) o
       where c.id = any ($1)
      on conflict (conflict_id) do update set target = excluded.target)
    delete from %1$s t using public.sync_conflicts c where c.id = any ($1) and t.id = c.target_record_id
  $q$, v_table, sync.owned_columns(p_entity)) using p_ids;
  perform set_config('search_path', 'pg_catalog, pg_temp', true);
  -- A trigger may have kept one, without a word.
  execute format('select c.id from public.sync_conflicts c join %s t on t.id = c.target_record_id where c.id = any ($1) order by c.first_seen_at, c.id limit 1', v_table)
    into v_kept using p_ids;
  if v_kept is not null then
    select * into strict v_first from public.sync_conflicts where id = v_kept;
    perform sync.refuse_decision(v_first, 'a trigger of the target keeps its row', 'Change the trigger, or decide otherwise.');
  end if;
  with gone as (
    delete from public.sync_row_states s using public.sync_conflicts c
     where c.id = any (p_ids) and s.entity_id = c.entity_id and s.legacy_id = c.source_record_id)
  update public.uuid_mappings_enhanced m set sync_status = 'deleted' from public.sync_conflicts c
   where c.id = any (p_ids) and m.source_id = p_entity.source_id and m.entity_type = p_entity.entity_type and m.legacy_id = c.source_record_id;
end
$$;
comment on function sync.delete_decided(public.sync_entities, uuid[]) is
  'Target rows of records that the source no longer has are deleted; what they held is kept.';

create function sync.decide_rows(p_entity public.sync_entities, p_ids uuid[], p_before jsonb) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_table text := format('public.%I', p_entity.target_table);
  v_first public.sync_conflicts;
  v_ids   uuid[];
  v_back  uuid[];
  v_gone  uuid[];
begin
  select pg_catalog.array_agg(c.id), pg_catalog.array_agg(c.id) filter (where c.rule = 'target_deleted' and c.resolution_strategy = 'source_wins'),
         pg_catalog.array_agg(c.id) filter (where c.rule in ('deleted_in_source', 'left_edited') and c.resolution_strategy = 'source_wins')
    into v_ids, v_back, v_gone
    from pg_catalog.unnest(p_ids) i (id)
    cross join lateral (select * from public.sync_conflicts where id = i.id and rule <> 'both_changed' limit 1) c;
  if v_ids is null then
    return;
  end if;
  -- A row that was written or deleted by a decision is not put back: it may have changed since, or others refer to it.
  select c.* into v_first from public.sync_conflicts c
   where c.id = any (v_ids) and p_before ->> c.id::text = 'source_wins' order by c.first_seen_at, c.id limit 1;
  if found then
    perform sync.refuse_decision(v_first, 'a row that was written or deleted is not put back', 'Change the row itself.');
  end if;

  -- Their target rows, in id order, before anything is read of them.
  execute format($q$
    select count(*) from (
      select from (select target_record_id from public.sync_conflicts where id = any ($1) order by 1 offset 0) c
        cross join lateral (select from %s t where t.id = c.target_record_id limit 1 for update of t) l) locked
  $q$, v_table) using v_back || v_gone;

  -- Deleted in the source, or no longer wanted here: the row stays.
  insert into public.sync_row_states as s (entity_id, legacy_id, seen, "left", gone_at)
  select p_entity.id, source_record_id, '{}', '{}', now() from public.sync_conflicts
   where id = any (v_ids) and sync.is_leaving(rule, conflict_data) and resolution_strategy = 'target_wins'
  on conflict (entity_id, legacy_id) do update set gone_at = now(), outside = null, source_digest = null;
  update public.sync_row_states s set gone_at = null, outside = null
   where s.entity_id = p_entity.id and s.legacy_id = any (array(
     select c.source_record_id from public.sync_conflicts c
      where c.id = any (v_ids) and sync.is_leaving(c.rule, c.conflict_data) and c.resolution_strategy is null));
  if v_back is not null then
    perform sync.write_again(p_entity, v_back);
  end if;
  if v_gone is not null then
    perform sync.delete_decided(p_entity, v_gone);
  end if;
end
$$;
comment on function sync.decide_rows(public.sync_entities, uuid[], jsonb) is
  'Decisions on whole records: written again, deleted, or left as they are.';

revoke all on function sync.decide_rows(public.sync_entities, uuid[], jsonb), sync.write_again(public.sync_entities, uuid[]),
  sync.delete_decided(public.sync_entities, uuid[]) from public;
grant execute on function sync.decide_rows(public.sync_entities, uuid[], jsonb), sync.write_again(public.sync_entities, uuid[]),
  sync.delete_decided(public.sync_entities, uuid[]) to isthmus_decisions;

-- supabase/schemas/functions/decisions.sql

-- Purpose: carry out what people decide in sync_conflicts, in the transaction of their UPDATE, and put it back.
-- Locks:   the rows of sync_conflicts that the UPDATE touches, then their target rows in id order.
--
-- A row trigger judges each decision by what its row says and stamps it; a statement trigger carries all of them out,
-- entity by entity, so that ten thousand cost seconds. It runs as isthmus_decisions, because reviewers have no rights
-- on the application's tables: that role has those on what an owner has released (sync_released_entities), and no
-- others.

create function sync.check_decision() returns trigger
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_changed boolean := new.resolution_strategy is distinct from old.resolution_strategy;
begin
  -- The sync resolves by policy, and has said so already.
  if current_user = 'isthmus_worker' then
    return new;
  end if;
  if not v_changed then
    if new.resolution_data is distinct from old.resolution_data and old.state <> 'open' then
      perform sync.refuse_decision(old, 'it is ' || old.state || ', so that resolution_data has no effect any more',
        case when old.state = 'resolved' then 'Empty resolution_strategy first: that puts the decision back.' else 'Look for the row of this record whose state is open.' end);
    end if;
    return new;
  end if;
  if old.state = 'superseded' then
    perform sync.refuse_decision(old, 'a newer row of this record says what stops it now', 'Decide on the one whose state is open.');
  elsif old.state = 'waiting' then
    perform sync.refuse_decision(old, 'it waits for record ' || old.parent_legacy_id || ', which has not landed', 'There is nothing to decide: it is read again by itself when that has landed.');
  elsif new.resolution_strategy = 'manual_review' then
    perform sync.refuse_decision(old, 'manual_review is what put it here, and no decision', 'Choose source_wins, target_wins or merge.');
  elsif new.resolution_strategy = 'merge' and (old.rule <> 'both_changed' or coalesce(jsonb_typeof(new.resolution_data), '') <> 'object') then
    perform sync.refuse_decision(old, case when old.rule <> 'both_changed' then 'there are no two values to merge' else 'resolution_data holds no object' end,
      case when old.rule <> 'both_changed' then 'Choose another strategy.' else 'Write the values into it, as {"' || split_part(old.field, ', ', 1) || '": ...}, in the same change.' end);
  elsif new.resolution_strategy = 'source_wins' and old.rule not in ('both_changed', 'target_deleted', 'deleted_in_source', 'left_edited') then
    perform sync.refuse_decision(old, 'the source''s record cannot be written as it is', old.remedy || ' target_wins leaves the target as it is until the source changes the record.');
  elsif old.rule = 'adoption.ambiguous' then
    perform sync.refuse_decision(old, 'which row it is has to be chosen', old.remedy);
  elsif old.state = 'resolved' and (old.decisions = 0 and old.resolved_by <> 'policy' or old.resolution_strategy is null) then
    perform sync.refuse_decision(old, 'it was resolved without a decision', 'There is nothing to put back.');
  -- A row that a page has opened and not committed is not seen yet.
  elsif new.resolution_strategy is null and not pg_try_advisory_xact_lock('public.sync_conflicts'::regclass::oid::integer, old.entity_id) then
    perform sync.refuse_decision(old, 'a page is putting records of this entity into the queue at this moment', 'Put it back in a moment.');
  elsif new.resolution_strategy is null and exists (
        select from public.sync_conflicts c
         where c.entity_id = old.entity_id and c.source_record_id = old.source_record_id and c.state in ('waiting', 'open')) then
    perform sync.refuse_decision(old, 'something else stops this record by now', 'Decide on the row of this record whose state is open or waiting.');
  end if;
  new.decisions := old.decisions + 1;
  new.next_attempt_at := null;
  if new.resolution_strategy is null then
    new.state := 'open';
    new.resolved_at := null;
    new.resolved_by := null;
    new.resolved_in := null;
    new.standing := false;
  else
    new.state := 'resolved';
    new.resolved_at := now();
    new.resolved_by := sync.actor(case when new.resolved_by is distinct from old.resolved_by then new.resolved_by end);
    new.standing := new.resolution_strategy = 'target_wins' and old.rule <> 'both_changed' and not sync.is_leaving(old.rule, old.conflict_data);
  end if;
  return new;
end
$$;
comment on function sync.check_decision() is 'Refuses decisions that cannot be carried out, and stamps the others.';
create trigger check_decision before update of resolution_strategy, resolution_data on public.sync_conflicts
  for each row execute function sync.check_decision();

create function sync.refuse_forged_name() returns trigger
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  raise exception 'the sync resolves in its own name only'
    using errcode = '42501', hint = 'People decide by setting resolution_strategy; sync_audit names them.';
end
$$;
comment on function sync.refuse_forged_name() is 'The worker cannot write that a person has decided.';
create trigger refuse_forged_name before insert or update of resolved_by on public.sync_conflicts for each row
  when (current_user = 'isthmus_worker' and new.resolved_by <> all (array['policy', 'sync', 'adoption', 'isthmus_worker']) and new.resolved_by not like 'sync: %')
  execute function sync.refuse_forged_name();

create function sync.deferred_constraints(p_table regclass) returns text
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  with tables as (select p_table::oid as oid union select relid from pg_partition_tree(p_table))
  select string_agg(distinct format('%I.%I', n.nspname, c.conname), ', ')
    from pg_constraint c join pg_namespace n on n.oid = c.connamespace
   where c.condeferrable and (c.conrelid in (select oid from tables) or c.confrelid in (select oid from tables))
     and has_schema_privilege(n.oid, 'usage')
     -- A name counts for all tables of its schema. Where it is also that of a trigger that calls somebody else's
     -- function, it waits.
     and not exists (
       select from pg_constraint o join pg_trigger t on t.tgconstraint = o.oid join pg_proc f on f.oid = t.tgfoid
        where o.contype = 't' and o.connamespace = c.connamespace and o.conname = c.conname
          and f.proowner <> (select relowner from pg_class where oid = p_table)
          and not (select rolsuper from pg_roles where oid = f.proowner))
$$;
comment on function sync.deferred_constraints(regclass) is
  'The deferrable constraints of a table and of what refers to it, as a list of names: those that run code of its '
  'owner only.';

-- Settings are pinned as they are where rows are loaded.
create function sync.carry_out(p_entity public.sync_entities, p_ids uuid[], p_before jsonb) returns void
language plpgsql security invoker
set search_path = pg_catalog, pg_temp set timezone = 'UTC' set timezone_abbreviations = 'Default' set datestyle = 'ISO, YMD'
set intervalstyle = 'iso_8601' set extra_float_digits = 3 set bytea_output = 'hex' set xmloption = 'content' set lc_monetary = 'C'
set array_nulls = on set standard_conforming_strings = on set quote_all_identifiers = off set transform_null_equals = off as $$
declare
  v_deferred   text;
  v_state      text;
  v_constraint text;
  v_hint       text;
  v_message    text;
  v_id         uuid;
  v_conflict   public.sync_conflicts;
begin
  begin
    perform sync.decide_fields(p_entity, p_ids, p_before);
    perform sync.decide_rows(p_entity, p_ids, p_before);
    -- Not all: what else waits for the end of the transaction is the caller's, and would run with the rights of
    -- decisions.
    v_deferred := sync.deferred_constraints(format('public.%I', p_entity.target_table)::regclass);
    if v_deferred is not null then
      perform set_config('search_path', sync.application_path(), true);
      execute 'set constraints ' || v_deferred || ' immediate';
      perform set_config('search_path', 'pg_catalog, pg_temp', true);
    end if;
    return;
  exception when others or assert_failure then
    get stacked diagnostics v_state = returned_sqlstate, v_constraint = constraint_name, v_message = message_text, v_hint = pg_exception_hint;
    if v_state = 'IS022' then
      raise exception '%', v_message using errcode = v_state, hint = v_hint;
    elsif v_state = '42501' then
      raise exception 'a decision on % needs a right that isthmus_decisions does not have', p_entity.entity_type
        using errcode = 'IS022', hint = 'The owner of the database runs what npm run sync -- grants prints; a trigger of the table may need more. Nothing was changed.';
    elsif not sync.is_record_error(v_state) then
      raise;
    end if;
  end;
  if cardinality(p_ids) = 1 then
    select * into strict v_conflict from public.sync_conflicts where id = p_ids[1];
    perform sync.refuse_decision(v_conflict, 'the target refuses it (' || coalesce(nullif(v_constraint, ''), 'SQLSTATE ' || v_state) || ')',
      'Correct what the constraint or trigger asks for, or decide otherwise.');
  end if;
  -- One of them is refused: one by one they say which.
  foreach v_id in array p_ids loop
    perform sync.carry_out(p_entity, array[v_id], p_before);
  end loop;
end
$$;
comment on function sync.carry_out(public.sync_entities, uuid[], jsonb) is
  'Carries out decisions on conflicts of one entity, all or none; the first that is refused is named. p_before: the '
  'strategies before, {id: strategy}.';

-- Its caller chooses the session's settings and owns pg_temp: names are qualified, and no temporary table is used.
create function sync.apply_decisions() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp set standard_conforming_strings = on as $$
declare
  v_before     jsonb;
  v_strategies jsonb;
  v_group      record;
  v_writer     text := current_setting('isthmus.sync', true);
begin
  -- A trigger of the application that names a table or type without its schema might find the caller's, with the
  -- caller's code on it.
  if pg_my_temp_schema() <> 0
    and exists (select from pg_type where typnamespace = pg_my_temp_schema() union all select from pg_class where relnamespace = pg_my_temp_schema())
    and not pg_has_role(sync.calling_role(), (select relowner from pg_class where oid = 'public.sync_conflicts'::regclass), 'usage') then
    raise exception 'no decision is carried out in a session that has temporary tables or types of its own'
      using errcode = 'IS022', hint = 'Drop them (discard temp), or decide in another session. Nothing was changed.';
  end if;
  -- Nobody knows how many rows these two tables have when this is planned. So they are not joined, but looked up by
  -- key.
  select jsonb_object_agg(id, decisions), jsonb_object_agg(id, resolution_strategy) into v_before, v_strategies from before;
  -- Tells application triggers that this is the sync and not a person; what the person does next is theirs again.
  perform set_config('isthmus.sync', 'on', true);
  for v_group in
    select entity_id, pg_catalog.array_agg(id order by target_record_id, id) as ids
      from decided where decisions > (v_before ->> id::text)::integer group by entity_id order by entity_id
  loop
    perform sync.carry_out(sync.released_entity(v_group.entity_id), v_group.ids, v_strategies);
    perform sync.note_changed_causes(v_group.entity_id, array(
      select source_record_id from decided where entity_id = v_group.entity_id and decisions > (v_before ->> id::text)::integer));
    insert into public.sync_audit (actor, action, conflict_id, entity_id, legacy_id, fields, strategy)
    select coalesce(resolved_by, sync.actor(null)) || case when sync.claims() ->> 'sub' is null then ' (' || session_user || ')' else '' end,
           case when resolution_strategy is null then 'reopened' else 'decided' end,
           id, entity_id, source_record_id, sync.unlisted(field), resolution_strategy
      from decided where entity_id = v_group.entity_id and decisions > (v_before ->> id::text)::integer order by id;
  end loop;
  perform set_config('isthmus.sync', coalesce(v_writer, ''), true);
  return null;
end
$$;
comment on function sync.apply_decisions() is 'Carries out all decisions of one UPDATE, or none.';
-- The worker decides nothing (sync.check_decision), and its pages do not pay for a look.
create trigger apply_decisions after update on public.sync_conflicts
  referencing old table as before new table as decided for each statement
  when (current_user <> 'isthmus_worker') execute function sync.apply_decisions();

revoke all on function sync.check_decision(), sync.refuse_forged_name(), sync.apply_decisions(), sync.deferred_constraints(regclass),
  sync.carry_out(public.sync_entities, uuid[], jsonb) from public;
grant execute on function sync.deferred_constraints(regclass), sync.carry_out(public.sync_entities, uuid[], jsonb) to isthmus_decisions;

grant create on schema sync to isthmus_decisions;
alter function sync.apply_decisions() owner to isthmus_decisions;
revoke create on schema sync from isthmus_decisions;

-- supabase/schemas/functions/changes-of-definitions.sql

-- Purpose: what a changed set of entity files changes in the queue: fields that have become sensitive, entities that
--          are gone.
-- Locks:   rows of sync_entities, sync_conflicts and sync_pending_keys.

create function sync.mask(p_values jsonb, p_fields text[], p_mask jsonb) returns jsonb
language sql immutable security invoker set search_path = pg_catalog, pg_temp as $$
  -- What a person has written may be any JSON.
  select case when jsonb_typeof(p_values) = 'object'
              then (select coalesce(jsonb_object_agg(e.key, case when e.key = any (p_fields) then p_mask else e.value end), '{}') from jsonb_each(p_values) e)
              else p_values end
$$;
comment on function sync.mask(jsonb, text[], jsonb) is
  'An object whose values of some keys are replaced by a mask. What is no object stays.';

create function sync.mask_queue(p_source_id smallint, p_rows integer) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp set plan_cache_mode = force_custom_plan as $$
declare
  v_entity public.sync_entities;
  v_hidden text[];
  v_read   text[];
  v_last   bigint;
  v_rows   bigint;
begin
  for v_entity in
    select * from public.sync_entities e where e.source_id = p_source_id and e.mask_from is not null order by e.id for update skip locked
  loop
    v_hidden := sync.hidden_fields(v_entity.columns);
    v_read := sync.hidden_columns(v_entity.columns);
    select max(x.k), count(*) into v_last, v_rows
      from (select c.source_record_id as k from public.sync_conflicts c
             where c.entity_id = v_entity.id and c.source_record_id >= v_entity.mask_from
             order by c.entity_id, c.source_record_id limit p_rows) x;
    update public.sync_conflicts c
       set differences = sync.mask(c.differences, v_hidden, '{"seen": "•••", "source": "•••", "target": "•••"}'),
           -- Evidence of a rule names columns, one by one or as {column, raw}.
           conflict_data = case when c.conflict_type <> 'business_rule_violation' then c.conflict_data else
             sync.mask(c.conflict_data, v_read || case when c.conflict_data ->> 'column' = any (v_read) then array['raw'] end, '"•••"') end,
           -- What a reviewer is about to decide stays as it was typed.
           resolution_data = case when c.state = 'open' then c.resolution_data else sync.mask(c.resolution_data, v_hidden, '"•••"') end
     where c.entity_id = v_entity.id and c.source_record_id between v_entity.mask_from and v_last
       and (c.differences ?| v_hidden
            or c.conflict_type = 'business_rule_violation' and (c.conflict_data ?| v_read or c.conflict_data ->> 'column' = any (v_read))
            or c.state <> 'open' and jsonb_typeof(c.resolution_data) = 'object' and c.resolution_data ?| v_hidden);
    update public.sync_entities set mask_from = case when v_rows = p_rows and v_last < 9223372036854775807 then v_last + 1 end where id = v_entity.id;
  end loop;
end
$$;
comment on function sync.mask_queue(smallint, integer) is
  'Masks what the queue says of fields that have become sensitive, so many rows of each entity at once; '
  'sync_entities.mask_from says how far it has come. The values themselves stay in sync_conflict_values, for '
  'decisions and sync.reveal.';

create function sync.note_removed(p_source_id smallint, p_entities text[]) returns void
language sql security invoker set search_path = pg_catalog, pg_temp as $$
  update public.sync_entities e
     set removed_at = case when e.entity_type <> all (p_entities) then now() end
   where e.source_id = p_source_id and (e.entity_type <> all (p_entities)) <> (e.removed_at is not null)
$$;
comment on function sync.note_removed(smallint, text[]) is
  'Notes which entities no entity file has any more. p_entities: all that the deployed functions have.';

create function sync.close_removed(p_source_id smallint, p_rows integer) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp set plan_cache_mode = force_custom_plan as $$
declare
  v_entity public.sync_entities;
  v_closed bigint[];
begin
  for v_entity in
    select * from public.sync_entities e where e.source_id = p_source_id and e.removed_at is not null order by e.id
  loop
    -- Functions are deployed one after the other: a day is longer than that takes. Until then who waits for its
    -- records is told.
    if v_entity.removed_at > now() - interval '1 day' then
      perform sync.note_changed_causes(v_entity.id, array(
        select c.parent_legacy_id from public.sync_conflicts c
         where c.state = 'waiting' and c.parent_entity_id = v_entity.id
           and coalesce(c.conflict_data #>> '{cause,kind}', 'missing') not in ('removed', 'decided')
           and coalesce(c.conflict_data #>> '{cause,entity}', v_entity.entity_type) = v_entity.entity_type limit p_rows));
      continue;
    end if;
    perform sync.close_alerts(array(select id from public.sync_alerts where entity_id = v_entity.id and closed_at is null));
    with closed as (
      update public.sync_conflicts
         set state = 'resolved', resolved_at = now(), resolved_by = 'sync: the entity is no longer synced', next_attempt_at = null
       where id = any (array(select c.id from public.sync_conflicts c where c.entity_id = v_entity.id and c.state in ('waiting', 'open')
                              limit p_rows for no key update skip locked))
      returning source_record_id
    )
    select coalesce(array_agg(source_record_id), '{}') into v_closed from closed;
    perform sync.note_changed_causes(v_entity.id, v_closed);
    if v_closed <> '{}' then
      -- Should the entity come back, its records are read again.
      update public.sync_checkpoints set definition_hash = 'reread:' || definition_hash
       where source_id = v_entity.source_id and entity_type = v_entity.entity_type and definition_hash !~ '^(mixed$|unfinished$|reread:|none)';
    end if;
    delete from public.sync_pending_keys k
     where k.execution_id is null and k.entity_id = v_entity.id and k.legacy_id = any (array(
       select p.legacy_id from public.sync_pending_keys p where p.execution_id is null and p.entity_id = v_entity.id
        order by p.execution_id, p.legacy_id limit p_rows for update skip locked));
  end loop;
end
$$;
comment on function sync.close_removed(smallint, integer) is
  'Closes what is open of entities that were removed a day ago: their alerts, and their rows of the queue and the '
  'keys that were to be read, so many at once.';

revoke all on function sync.mask(jsonb, text[], jsonb), sync.mask_queue(smallint, integer), sync.note_removed(smallint, text[]),
  sync.close_removed(smallint, integer) from public;
grant execute on function sync.mask(jsonb, text[], jsonb), sync.mask_queue(smallint, integer), sync.note_removed(smallint, text[]),
  sync.close_removed(smallint, integer) to isthmus_worker;

-- supabase/schemas/functions/usual-runs.sql

-- Purpose: a success that is none: weigh an execution that has come through against earlier ones like it, and tell
--          what is far from what these did.
-- Locks:   the open alerts of this kind.

create function sync.usual_runs(p_execution uuid, p_before timestamptz) returns setof uuid
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  -- What runs more often than once a day is compared with the same time of earlier days: at night a job reads less.
  -- One probe of an index for each.
  with this as (
    select x.*, coalesce((select j.time_zone from public.sync_jobs j where j.id = x.job_id), 'UTC') as zone, greatest(1, round(extract(epoch from x.started_at - (
             select o.started_at from public.sync_executions o
              where o.source_id = x.source_id and o.triggered_by = x.triggered_by and hash_array(o.entities) = hash_array(x.entities) and o.started_at < x.started_at
                and o.status in ('succeeded', 'incomplete') and not o.dry_run and not o.selective
              order by o.started_at desc limit 1)) / 86400))::integer as days
      from public.sync_executions x where x.id = p_execution
  )
  select distinct l.id
    from this x
   cross join generate_series(1, 28) n
   cross join lateral (
     select o.id from public.sync_executions o
      where o.source_id = x.source_id and o.triggered_by = x.triggered_by and hash_array(o.entities) = hash_array(x.entities)
        and o.started_at < least(p_before, (x.started_at at time zone x.zone - make_interval(days => n * x.days, mins => -30)) at time zone x.zone)
        and o.status in ('succeeded', 'incomplete') and not o.dry_run and not o.selective
      order by o.started_at desc limit 1) l
$$;
comment on function sync.usual_runs(uuid, timestamptz) is
  'Up to 28 earlier executions with the same trigger and entities that have come through: the latest ones, and where '
  'there are several in a day, those that began at the same time of the day. p_before: only what began before that; '
  'null: any.';

create function sync.run_figures(p_executions uuid[])
returns table (execution uuid, started_at timestamptz, entity text, look text, measure text, value numeric, gap numeric)
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  with runs as (
    select x.id, x.started_at, x.completed_at, x.entities,
           -- Since somebody looked at these entities before, whoever that was: a run of its own a minute ago has read
           -- what there was.
           extract(epoch from x.started_at - (
             select o.started_at from public.sync_executions o
              where o.source_id = x.source_id and o.started_at < x.started_at and not o.dry_run and not o.selective and o.entities && x.entities
              order by o.started_at desc limit 1)) as gap
      from unnest(p_executions) p (id) cross join lateral (select e.* from public.sync_executions e where e.id = p.id offset 0) x
  ), chains as (
    select r.id, n.entity_type as entity,
           case when bool_or(c.capture = 'adopt') then 'adopt' when bool_or(c.capture = 'full') then 'full' when bool_or(c.capture = 'digest') then 'digest' else 'changes' end as look,
           sum(coalesce((c.counts ->> 'read')::numeric, 0)) as read,
           -- What waits for a parent may land a moment later.
           sum(coalesce((c.counts ->> 'in_conflict')::numeric, 0)) as rejected,
           sum(coalesce((c.counts ->> 'wall_ms')::numeric, 0)) / 1000 as seconds
      from runs r
     cross join lateral (select h.* from public.sync_chains h where h.execution_id = r.id offset 0) c
      join public.sync_entities n on n.id = c.entity_id
     group by 1, 2
  ), entities as (
    -- In an entity without a chain nothing was written since: the plan has looked.
    select r.id, r.started_at, r.completed_at, r.gap, e.entity, coalesce(c.look, 'changes') as look, coalesce(c.read, 0) as read, coalesce(c.rejected, 0) as rejected,
           coalesce(c.seconds, 0) as seconds
      from runs r cross join unnest(r.entities) e (entity) left join chains c on c.id = r.id and c.entity = e.entity
  )
  select e.id, e.started_at, e.entity, e.look, 'records read', e.read, e.gap from entities e
  union all
  -- A share of a few records says nothing.
  select e.id, e.started_at, e.entity, e.look, 'share of rejects', e.rejected / e.read, e.gap from entities e where e.read >= 20
  union all
  select e.id, e.started_at, e.entity, e.look, 'seconds of work', e.seconds, e.gap from entities e
  union all
  select e.id, e.started_at, '', string_agg(e.entity || ' ' || e.look, ', ' order by e.entity), 'seconds from begin to end', extract(epoch from e.completed_at - e.started_at), e.gap
    from entities e group by e.id, e.started_at, e.completed_at, e.gap
$$;
comment on function sync.run_figures(uuid[]) is
  'What executions read, rejected and took, of each entity; of the whole, where entity is empty. look: only figures '
  'of the same look can be compared. gap: seconds since an execution had begun before that looks at any of these '
  'entities. Summed from the counts of their chains.';

create function sync.weigh_run(p_execution uuid, p_factor numeric, p_before timestamptz) returns jsonb
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  -- Of fewer than seven earlier runs nobody knows what is usual. The least distances keep small numbers from being
  -- news.
  with figures as (
    select * from sync.run_figures(array(select sync.usual_runs(p_execution, p_before)) || p_execution)
  ), this as (
    select * from figures where execution = p_execution
  ), ranked as (
    select f.*, row_number() over (partition by f.entity, f.measure order by f.started_at desc) as nth
      from figures f join this using (entity, look, measure) where f.execution <> p_execution
  ), bands as (
    select x.*, b.runs, b.least, b.q[1] as low, b.q[2] as median, b.q[3] as high, b.q[3] - b.q[1] as width, b.usual_gap,
           case x.measure when 'records read' then 100 when 'share of rejects' then 0.05 else 300 end as distance
      from this x
      join (select r.entity, r.measure, count(*) as runs, min(r.value) as least, percentile_cont(array[0.1, 0.5, 0.9]) within group (order by r.value) as q,
                   percentile_cont(0.5) within group (order by r.gap) as usual_gap
              from ranked r where r.nth <= 14 group by 1, 2) b using (entity, measure)
     where b.runs >= 7
       -- After another while than usual another number of changes is to be expected.
       and (x.measure <> 'records read' or x.look = 'full' or x.gap between b.usual_gap / 2 and b.usual_gap * 2)
  ), judged as (
    select b.*, case when b.measure = 'records read' and b.value = 0 and b.runs = 14 and b.least > 0 then 'nothing'
                     when b.value > b.high + p_factor * greatest(2 * b.width, b.median, b.distance) then 'more'
                     when b.measure = 'records read' and b.value < b.low - p_factor * greatest(2 * b.width, b.median / 2, b.distance) then 'less' end as found
      from bands b
  )
  select jsonb_build_object(
           'read', (select coalesce(pg_catalog.jsonb_agg(x.entity), '[]') from this x where x.measure = 'records read' and x.value > 0),
           'usual', coalesce(pg_catalog.jsonb_agg(jsonb_build_object('entity', j.entity, 'measure', j.measure)) filter (where j.found is null), '[]'),
           'findings', coalesce(pg_catalog.jsonb_agg(jsonb_strip_nulls(jsonb_build_object(
             'entity', nullif(j.entity, ''), 'found', j.found, 'measure', j.measure, 'value', round(j.value, 4), 'usual_from', round(j.low::numeric, 4),
             'median', round(j.median::numeric, 4), 'usual_to', round(j.high::numeric, 4), 'runs', j.runs))
             order by j.found <> 'nothing', abs(j.value - j.median) / greatest(j.median, j.distance) desc, j.entity, j.measure) filter (where j.found is not null), '[]'))
    from judged j
$$;
comment on function sync.weigh_run(uuid, numeric, timestamptz) is
  'What of an execution is far from its last fourteen like ones (findings), and what is as usual; and the entities '
  'of which something was read. Far: nothing read where each of them read something; or outside their band (tenth to '
  'ninetieth percentile) by more than twice its width, the median (half of it below the band) and a least distance. '
  'p_factor widens these. p_before: as for sync.usual_runs.';

create function sync.shown_figure(p_value numeric, p_measure text) returns text
language sql immutable security invoker set search_path = pg_catalog, pg_temp as $$
  select case when p_measure like 'share%' then round(100 * p_value, 1) || ' %' else round(p_value)::text end
$$;
comment on function sync.shown_figure(numeric, text) is 'A figure of a run as people read it.';

create function sync.tell_unusual(p_execution uuid) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_execution public.sync_executions;
  v_alert     public.sync_alerts; -- of these entities by this trigger, still open
  v_subject   text;
  v_weighed   jsonb;
  v_found     jsonb;
  v_text      text;
begin
  select * into strict v_execution from public.sync_executions where id = p_execution;
  -- What was asked for by keys, or released, has no usual size.
  if v_execution.dry_run or v_execution.selective or v_execution.triggered_by = 'release' or v_execution.status not in ('succeeded', 'incomplete') then
    return;
  end if;
  v_subject := sync.subject_of(v_execution.triggered_by, hash_array(v_execution.entities)::text);
  select * into v_alert from public.sync_alerts a
   where a.kind = 'unusual_run' and a.source_id = v_execution.source_id and a.subject = v_subject and a.closed_at is null limit 1;
  begin
    v_weighed := sync.weigh_run(p_execution, coalesce((select (j.alarms ->> 'band_factor')::numeric from public.sync_jobs j where j.id = v_execution.job_id), 1),
      -- What goes on like this is no usual run before a person says so.
      case when v_alert.acknowledged_at is null then (select x.started_at from public.sync_executions x where x.id = (v_alert.details ->> 'since')::uuid) end);
  exception when data_exception then
    -- Nobody's execution fails for its weighing: a time zone of its job that does not exist, an unheard-of number.
    perform sync.raise_alert('unusual_run', 'warning', null, p_execution, null,
      format('An execution by %s has come through, and could not be weighed against the last ones like it (SQLSTATE %s): look at time_zone and alarms of its job.', v_execution.triggered_by, sqlstate),
      coalesce(v_alert.details, '{"findings": []}'), v_subject);
    return;
  end;
  v_found := v_weighed -> 'findings';
  if v_found = '[]' then
    -- All that was found then is as usual now; and where nothing had been read, something is.
    perform sync.close_alerts(array[v_alert.id])
      where v_alert.id is not null and not exists (
        select from jsonb_array_elements(v_alert.details -> 'findings') f
         where case when f ->> 'found' = 'nothing' and v_alert.acknowledged_at is null then not v_weighed -> 'read' ? (f ->> 'entity')
                    else not v_weighed -> 'usual' @> jsonb_build_array(jsonb_build_object('entity', coalesce(f ->> 'entity', ''), 'measure', f ->> 'measure')) end);
    return;
  end if;
  select string_agg(format('%s%s: %s (usually %s to %s, median %s)', f.one ->> 'entity' || ', ', f.one ->> 'measure', sync.shown_figure((f.one ->> 'value')::numeric, f.one ->> 'measure'),
           sync.shown_figure((f.one ->> 'usual_from')::numeric, f.one ->> 'measure'), sync.shown_figure((f.one ->> 'usual_to')::numeric, f.one ->> 'measure'),
           sync.shown_figure((f.one ->> 'median')::numeric, f.one ->> 'measure')), '; ' order by f.n)
    into v_text from jsonb_array_elements(v_found) with ordinality f (one, n) where f.n <= 3;
  perform sync.raise_alert('unusual_run', case when v_execution.records_processed = 0 and v_found #>> '{0,found}' = 'nothing' then 'critical' else 'warning' end,
    null, p_execution, null,
    format('An execution by %s has come through, and is far from the last ones like it: %s%s.', v_execution.triggered_by, v_text,
      case when jsonb_array_length(v_found) > 3 then format('; and %s more in details', jsonb_array_length(v_found) - 3) else '' end),
    jsonb_build_object('findings', v_found, 'since', coalesce(v_alert.details ->> 'since', p_execution::text)), v_subject);
end
$$;
comment on function sync.tell_unusual(uuid) is
  'Opens or counts the alert unusual_run where an execution that has come through is far from earlier ones like it, '
  'with their band; closes it where what was found is as usual again.';

revoke all on function sync.usual_runs(uuid, timestamptz), sync.run_figures(uuid[]), sync.weigh_run(uuid, numeric, timestamptz), sync.shown_figure(numeric, text),
  sync.tell_unusual(uuid) from public;
grant execute on function sync.usual_runs(uuid, timestamptz), sync.run_figures(uuid[]), sync.weigh_run(uuid, numeric, timestamptz), sync.shown_figure(numeric, text),
  sync.tell_unusual(uuid) to isthmus_worker;

-- supabase/schemas/functions/finish.sql

-- Purpose: finish an execution: its sums and its metrics.
-- Locks:   the execution's row.

create function sync.execution_metrics(p_execution uuid) returns jsonb
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  with pages as (
    select coalesce(c.read, 0) as processed, coalesce(c.inserted + c.updated + c.unchanged + c.deleted + c.waived, 0) as succeeded,
           coalesce(c.waiting + c.in_conflict, 0) as failed, c.wall_ms / c.pages as latency, c.cache_hits as hits, c.cache_lookups as lookups
      from jsonb_to_record(sync.counted(p_execution)) as c (pages bigint, read bigint, inserted bigint, updated bigint, unchanged bigint, deleted bigint,
             waived bigint, waiting bigint, in_conflict bigint, wall_ms numeric, cache_hits bigint, cache_lookups bigint)
  ), healed as (
    -- A record that waits for one of the same execution, often of its own entity, is read again in it: no error.
    select coalesce(sum(c.attempts), 0) as records
      from public.sync_executions x join public.sync_conflicts c on c.execution_id = x.id and c.resolved_in = x.id and c.first_seen_at >= x.started_at
     where x.id = p_execution
  ), queue as (
    select count(*) filter (where resolved_in = p_execution) as resolved, count(*) as touched
      from public.sync_conflicts where execution_id = p_execution or resolved_in = p_execution
  ), run as (
    select extract(epoch from coalesce(completed_at, clock_timestamp()) - started_at) as seconds
      from public.sync_executions where id = p_execution
  )
  select jsonb_build_object(
    'recordsProcessed', processed,
    'successRate', case when processed = 0 then 1 else round(succeeded::numeric / processed, 6) end,
    'averageLatency', round(latency, 3),
    'errorRate', case when processed = 0 then 0 else round(greatest(failed - healed.records, 0)::numeric / processed, 6) end,
    'throughputPerSecond', round(processed / nullif(greatest(seconds, 0.001), 0), 3),
    'uuidCacheHitRate', round(hits::numeric / nullif(lookups, 0), 6),
    'conflictResolutionRate', round(resolved::numeric / nullif(touched, 0), 6))
    from pages, healed, queue, run
$$;
comment on function sync.execution_metrics(uuid) is
  'The seven metrics of an execution, from the counts of its chains and sync_conflicts. Null where nothing was '
  'counted.';

create function sync.sum_execution(p_execution uuid) returns void
language sql security invoker set search_path = pg_catalog, pg_temp as $$
  select sync.total_execution(p_execution);
  update public.sync_executions e
     set records_processed = coalesce(l.processed, 0), records_succeeded = coalesce(l.succeeded, 0),
         records_failed = coalesce(l.failed, 0), metrics = sync.execution_metrics(p_execution)
    from (select c.read as processed, c.inserted + c.updated + c.unchanged + c.deleted + c.waived as succeeded, c.waiting + c.in_conflict as failed
            from jsonb_to_record(sync.counted(p_execution)) as c (read bigint, inserted bigint, updated bigint, unchanged bigint, deleted bigint,
                   waived bigint, waiting bigint, in_conflict bigint)) l
   where e.id = p_execution;
  update public.sync_jobs j
     set status = case when e.status = 'cancelled' then 'pending' else e.status::text end::public.sync_job_status,
         succeeded_at = case when e.status = 'succeeded' then clock_timestamp() else j.succeeded_at end,
         last_error = case when e.status in ('incomplete', 'failed') then jsonb_build_object('execution', e.id, 'errors', e.errors) end,
         -- What passes by itself does not cost the job its whole day.
         next_execution_at = case when e.status = 'failed' and not jsonb_path_exists(coalesce(e.errors, '[{}]'), '$[*] ? (!(@.code == "ENTITY_LEFT_OUT") && !(@.passes == true))')
                               then least(j.next_execution_at, now() + interval '30 minutes') else j.next_execution_at end
    from public.sync_executions e
   where e.id = p_execution and j.id = e.job_id and j.status = 'running';
$$;
comment on function sync.sum_execution(uuid) is
  'The sums and metrics of an execution that has ended, and what that means for its job: one that stalled for '
  'reasons that pass is due again in half an hour.';

create function sync.execution_subject(p_execution uuid) returns text
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select sync.subject_of((select string_agg(e, ', ' order by e) from unnest(x.entities) e), case
           when x.selective then '(selection)'
           when not exists (select from public.sync_chains c where c.execution_id = x.id and c.capture = 'validate') then '(without comparison)' end)
    from public.sync_executions x where x.id = p_execution
$$;
comment on function sync.execution_subject(uuid) is 'Of what an execution is one: its entities, and how far it looks.';

create function sync.close_stalled_alerts(p_execution uuid) returns void
language sql security invoker set search_path = pg_catalog, pg_temp as $$
  select sync.close_alerts(array(select a.id from public.sync_alerts a cross join public.sync_executions x
   where x.id = p_execution and not x.dry_run and a.kind = 'page_stalled' and a.source_id = x.source_id and a.closed_at is null
     and (a.entity_id is null or exists (select from public.sync_entities e where e.id = a.entity_id and e.entity_type = any (x.entities)))
     and (
       -- A whole execution has come through, or one of single records where the page was of such.
       exists (select from public.sync_chains c where c.execution_id = x.id and c.capture = 'validate')
         and (not x.selective or exists (select from public.sync_executions f where f.id = a.execution_id and f.selective))
       -- The same kind of page has come through. Other keys than those of the page tell nothing of them: none of
       -- these may be left.
       or exists (select from public.sync_chains c where c.execution_id = x.id and c.entity_id = a.entity_id and c.capture::text = a.subject)
         and (a.subject <> 'keys' or not exists (
           select from public.sync_pending_keys k where k.execution_id is null and k.entity_id = a.entity_id and not k.gone and k.requested_at <= a.last_seen_at)))))
$$;
comment on function sync.close_stalled_alerts(uuid) is
  'Closes the alerts about pages that made no progress, of entities that have come through.';

create function sync.kept_entities(p_source_id smallint, p_entities text[]) returns text[]
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select array(select n from unnest(p_entities) n
                where not exists (select from public.sync_entities e where e.source_id = p_source_id and e.entity_type = n and e.removed_at is not null))
$$;
comment on function sync.kept_entities(smallint, text[]) is
  'Of these entities, those that an entity file still has: no execution has another one.';

create function sync.close_ended_alerts(p_execution uuid) returns void
language sql security invoker set search_path = pg_catalog, pg_temp as $$
  select sync.close_alerts(array(select a.id from public.sync_alerts a cross join public.sync_executions x
    cross join lateral (select exists (select from public.sync_chains c where c.execution_id = x.id and c.capture = 'validate') as whole) w
   where x.id = p_execution and not x.dry_run and a.source_id = x.source_id and a.closed_at is null
     and case a.kind
           -- The same entities have come through, by an execution that looks as far as the failed one.
           when 'execution_failed' then not exists (
             select from public.sync_executions f
              where f.id = a.execution_id
                and (f.started_at > x.started_at or not x.entities @> sync.kept_entities(f.source_id, f.entities) or x.selective and not f.selective
                     or not w.whole and exists (select from public.sync_chains c where c.execution_id = f.id and c.capture = 'validate')))
           -- That it did not come back at the next try says nothing of the next run.
           when 'internal_error' then w.whole and not x.selective and x.started_at > a.last_seen_at
             and case when a.entity_id is not null then exists (select from public.sync_entities e where e.id = a.entity_id and e.entity_type = any (x.entities))
                      else exists (select from public.sync_executions f where f.id = a.execution_id and x.entities @> sync.kept_entities(f.source_id, f.entities)) end
           when 'source_restored' then w.whole and x.entities @> sync.kept_entities(a.source_id, array(select jsonb_array_elements_text(a.details -> 'entities')))
           when 'source_promoted' then w.whole and x.entities @> sync.kept_entities(a.source_id, array(select jsonb_array_elements_text(a.details -> 'entities')))
           when 'target_restored' then w.whole and not exists (
             select from public.sync_checkpoints k join public.sync_entities e on e.source_id = k.source_id and e.entity_type = k.entity_type
              where k.source_id = a.source_id and k.server_starts = '{}' and e.removed_at is null)
           -- All rows were looked at, and none was found. The chains of a full pass reach from the first key to the
           -- last; one for the rows of a join alone does not.
           when 'surplus' then a.execution_id is distinct from x.id and (
             select bool_or(c.range_from is null) and bool_or(c.range_to is null)
               from public.sync_chains c where c.execution_id = x.id and c.entity_id = a.entity_id and c.capture = 'full')
           when 'written_otherwise' then w.whole and a.execution_id is distinct from x.id and not exists (
             select from public.sync_warnings s where s.entity_id = a.entity_id and s.rule like 'written\_otherwise:%')
           else false
         end))
$$;
comment on function sync.close_ended_alerts(uuid) is
  'Closes the alerts whose cause is gone with this execution, which has come through.';

create function sync.finish_execution(p_execution uuid, p_status public.sync_execution_status, p_errors jsonb)
returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_braked jsonb := (select jsonb_agg(jsonb_build_object('code', 'BRAKE_APPLIED', 'entity', e.entity_type, 'kind', b.kind, 'field', b.field,
                              'records', b.records, 'landed', b.landed, 'brake', b.id))
                       from public.sync_brakes b join public.sync_entities e on e.id = b.entity_id
                      where b.execution_id = p_execution and b.kind = 'delete' and b.closed_at is null and b.confirmed_at is null);
  v_left_out jsonb := (select jsonb_agg(jsonb_build_object('code', 'ENTITY_LEFT_OUT', 'entity', p.one -> 'entity', 'findings', p.one -> 'findings'))
                         from public.sync_reports r, jsonb_array_elements(r.body -> 'paused') as p (one)
                        where r.execution_id = p_execution and r.kind = 'contract');
begin
  if v_braked is not null and not coalesce(p_errors, '[]') @> '[{"code": "BRAKE_APPLIED"}]' then
    p_status := 'failed';
    p_errors := coalesce(p_errors, '[]') || v_braked;
  end if;
  if v_left_out is not null then
    p_status := case p_status when 'succeeded' then 'incomplete' else p_status end;
    p_errors := coalesce(p_errors, '[]') || v_left_out;
  end if;
  update public.sync_executions set status = p_status, completed_at = clock_timestamp(), errors = p_errors
   where id = p_execution and status = 'running';
  if not found then
    return;
  end if;
  perform sync.sum_execution(p_execution);
  if p_status in ('succeeded', 'incomplete') then
    -- What was confirmed is done now; what is not asked for any more was undone in the source. Only an execution that
    -- has looked for changes can tell.
    update public.sync_brakes b set closed_at = now()
      from public.sync_executions x join public.sync_entities e on e.source_id = x.source_id and e.entity_type = any (x.entities)
     where x.id = p_execution and not x.dry_run and x.request ->> 'capture' is distinct from 'modified' and b.entity_id = e.id and b.closed_at is null
       and exists (select from public.sync_chains c where c.execution_id = x.id and c.capture = 'validate')
       and not exists (select from public.sync_pending_keys k where k.execution_id is null and k.entity_id = e.id and k.gone);
    perform sync.close_alerts(array(
      select a.id from public.sync_alerts a
       where a.kind = 'brake' and a.closed_at is null
         and not exists (select from public.sync_brakes b
                          where b.entity_id = a.entity_id and sync.subject_of(b.kind, b.field) = a.subject and b.closed_at is null)));
    perform sync.close_stalled_alerts(p_execution);
    perform sync.close_ended_alerts(p_execution);
    perform sync.keep_compared(p_execution);
    perform sync.tell_unusual(p_execution);
  end if;
  if p_status = 'failed' and not exists (select from public.sync_executions where id = p_execution and dry_run) then
    perform sync.raise_alert('execution_failed', 'critical', null, p_execution, null,
      format('An execution failed: see errors of this execution. Its entities: %s.', sync.execution_subject(p_execution)),
      jsonb_build_object('execution', p_execution), sync.execution_subject(p_execution));
  end if;
end
$$;
comment on function sync.finish_execution(uuid, public.sync_execution_status, jsonb) is
  'Closes an execution with its sums and metrics, once. One that succeeded but left entities out is incomplete.';

revoke all on function sync.execution_metrics(uuid), sync.finish_execution(uuid, public.sync_execution_status, jsonb), sync.sum_execution(uuid),
  sync.execution_subject(uuid), sync.kept_entities(smallint, text[]), sync.close_stalled_alerts(uuid), sync.close_ended_alerts(uuid) from public;
grant execute on function sync.execution_metrics(uuid), sync.finish_execution(uuid, public.sync_execution_status, jsonb), sync.sum_execution(uuid),
  sync.execution_subject(uuid), sync.kept_entities(smallint, text[]), sync.close_stalled_alerts(uuid), sync.close_ended_alerts(uuid) to isthmus_worker;

-- supabase/schemas/functions/plan-releases.sql

-- Purpose: what a dry run would release: the records that wait for one that would land.

create function sync.waited_for(p_execution uuid, p_parent smallint) returns bigint[]
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  -- From one parent to the next, through the index, however many records wait for each.
  with recursive queued as (
    (select c.parent_legacy_id as id from public.sync_conflicts c
      where c.state = 'waiting' and c.parent_entity_id = p_parent order by c.parent_legacy_id limit 1)
    union all
    select (select c.parent_legacy_id from public.sync_conflicts c
             where c.state = 'waiting' and c.parent_entity_id = p_parent and c.parent_legacy_id > q.id order by c.parent_legacy_id limit 1)
      from queued q where q.id is not null
  ), planned as (
    (select r.parent_legacy_id as id from public.sync_planned_records r
      where r.execution_id = p_execution and r.outcome = 'waiting' and r.parent_entity_id = p_parent order by r.parent_legacy_id limit 1)
    union all
    select (select r.parent_legacy_id from public.sync_planned_records r
             where r.execution_id = p_execution and r.outcome = 'waiting' and r.parent_entity_id = p_parent and r.parent_legacy_id > n.id
             order by r.parent_legacy_id limit 1)
      from planned n where n.id is not null)
  select coalesce(array_agg(w.id order by w.id), '{}') from (select id from queued union select id from planned) w where w.id is not null
$$;
comment on function sync.waited_for(uuid, smallint) is
  'The records of an entity that others wait for, in the queue or by this plan.';

create function sync.planned_to_land(p_execution uuid, p_entity public.sync_entities, p_legacy_ids bigint[]) returns bigint[]
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select coalesce(array_agg(k order by k), '{}')
    from unnest(p_legacy_ids) k
    left join lateral (
      select r.lands from public.sync_planned_records r
       where r.execution_id = p_execution and r.entity_id = p_entity.id and r.legacy_id = k and r.lands is not null limit 1) r on true
   where coalesce(r.lands, (
           select m.legacy_id from public.uuid_mappings_enhanced m
            where m.source_id = p_entity.source_id and m.entity_type = p_entity.entity_type and m.legacy_id = k and m.sync_status = 'active'
            limit 1) is not null)
$$;
comment on function sync.planned_to_land(uuid, public.sync_entities, bigint[]) is
  'Of these records, those that have landed and stay, or that this dry run has planned to land.';

create function sync.plan_released(p_execution public.sync_executions, p_parent smallint, p_parents bigint[]) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp set plan_cache_mode = force_custom_plan as $$
declare
  -- As of sync.release_waiting: the end of each chain asks for the next ones.
  c_at_once  constant integer := 10000;
  v_children smallint[] := array(select e.id from public.sync_entities e
                                  where e.source_id = p_execution.source_id and e.entity_type = any (p_execution.entities) order by e.id);
  v_parent   public.sync_entities;
  v_parents  bigint[];
  v_count    integer;
  v_total    integer := 0;
begin
  for v_parent in
    select * from public.sync_entities e where e.source_id = p_execution.source_id and e.id = coalesce(p_parent, e.id) order by e.id
  loop
    v_parents := sync.planned_to_land(p_execution.id, v_parent, coalesce(p_parents, sync.waited_for(p_execution.id, v_parent.id)));
    insert into public.sync_pending_keys (execution_id, entity_id, legacy_id, reason)
    select p_execution.id, w.entity_id, w.legacy_id, 'released'
      from (select c.entity_id, c.legacy_id
              from unnest(v_parents) p
              cross join lateral (
                select r.entity_id, r.legacy_id from public.sync_planned_records r
                 where r.execution_id = p_execution.id and r.parent_entity_id = v_parent.id and r.parent_legacy_id = p and r.outcome = 'waiting'
                union all
                select q.entity_id, q.source_record_id from public.sync_conflicts q
                 where q.state = 'waiting' and q.parent_entity_id = v_parent.id and q.parent_legacy_id = p
                   and (select r.legacy_id from public.sync_planned_records r
                         where r.execution_id = p_execution.id and r.entity_id = q.entity_id and r.legacy_id = q.source_record_id) is null
                offset 0) c
             where c.entity_id = any (v_children)
               and (select k.legacy_id from public.sync_pending_keys k
                     where k.execution_id = p_execution.id and k.entity_id = c.entity_id and k.legacy_id = c.legacy_id) is null
             limit c_at_once - v_total) w
     order by w.entity_id, w.legacy_id
    on conflict (entity_id, execution_id, legacy_id) do nothing;
    get diagnostics v_count = row_count;
    v_total := v_total + v_count;
    exit when v_total >= c_at_once;
  end loop;
end
$$;
comment on function sync.plan_released(public.sync_executions, smallint, bigint[]) is
  'release_waiting of a dry run: what waits, in the queue or by this plan, for a parent that has landed or would '
  'land; at most 10,000 records. p_parent, p_parents: only for these.';

revoke all on function sync.plan_released(public.sync_executions, smallint, bigint[]), sync.waited_for(uuid, smallint),
  sync.planned_to_land(uuid, public.sync_entities, bigint[]) from public;
grant execute on function sync.plan_released(public.sync_executions, smallint, bigint[]), sync.waited_for(uuid, smallint),
  sync.planned_to_land(uuid, public.sync_entities, bigint[]) to isthmus_worker;

-- supabase/schemas/functions/advance.sql

-- Purpose: the life of an execution: advance its chains, ask the brake, release what waited, open its deletes.
-- Locks:   the execution's row, so that two chains that close at once see each other.

create function sync.add_deletes(p_execution public.sync_executions, p_page_size integer) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_entity  public.sync_entities;
  v_gone    bigint;
  v_landed  bigint;
  v_up_to   bigint;
  v_stopped boolean := false;
  v_chains  jsonb := '[]';
begin
  if exists (select from public.sync_chains c
              where c.execution_id = p_execution.id and c.capture <> 'validate' and (c.state <> 'done' or c.deletes or c.capture = 'adopt'))
     or exists (select from public.sync_chains c
                 where c.execution_id = p_execution.id and c.capture = 'validate' and (c.state <> 'blocked' or c.round > 1)) then
    return;
  end if;
  -- What is held back of some entities is not for an execution that looks at a few keys.
  if (p_execution.selective or not exists (select from public.sync_chains c where c.execution_id = p_execution.id and c.capture = 'validate'))
     and exists (select from public.sync_brakes b join public.sync_entities e on e.id = b.entity_id
                  where e.source_id = p_execution.source_id and b.kind = 'delete' and b.closed_at is null and b.confirmed_at is null) then
    return;
  end if;
  for v_entity in
    select e.* from public.sync_entities e
     where e.source_id = p_execution.source_id and e.entity_type = any (p_execution.entities) order by e.id
  loop
    if p_execution.dry_run then
      select count(*), max(generation) into v_gone, v_up_to from public.sync_pending_keys k
       where k.execution_id = p_execution.id and k.entity_id = v_entity.id and k.gone;
    else
      -- A delete that was refused before, and is only asked about again, does not count: nothing was read when that
      -- was queued.
      select count(*) filter (where not exists (
               select from public.sync_conflicts c where c.entity_id = k.entity_id and c.source_record_id = k.legacy_id and c.state = 'open' and c.source_digest is null)),
             max(generation)
        into v_gone, v_up_to from public.sync_pending_keys k where k.execution_id is null and k.entity_id = v_entity.id and k.gone;
    end if;
    continue when v_up_to is null;
    v_chains := v_chains || jsonb_build_object('id', v_entity.id, 'up_to', v_up_to);
    if v_gone > p_execution.brake_records and not p_execution.dry_run and v_entity.on_delete ->> 'policy' in ('hard', 'soft') then
      select count(*) into v_landed from public.sync_row_states s where s.entity_id = v_entity.id and (s.gone_at is null or s.outside);
      if v_gone > p_execution.brake_share * v_landed then
        v_stopped := sync.pull_brake(p_execution.id, v_entity.id, 'delete', null, v_gone, v_landed) or v_stopped;
      end if;
    end if;
  end loop;
  -- Children and parents hang together: what must not be done of one entity is not done of the others either.
  if not v_stopped then
    insert into public.sync_chains (execution_id, entity_id, capture, deletes, up_to, definition_hash, page_size)
    select p_execution.id, e.id, 'keys', true, c.up_to, e.definition_hash, p_page_size
      from jsonb_to_recordset(v_chains) as c (id smallint, up_to bigint) join public.sync_entities e on e.id = c.id;
  end if;
end
$$;
comment on function sync.add_deletes(public.sync_executions, integer) is
  'When everything else of an execution is through: chains that delete what the source no longer has, unless that is '
  'more than the brake lets pass.';

create function sync.advance_execution(p_execution uuid) returns setof uuid
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_execution public.sync_executions;
  v_page_size integer;
  v_moved     integer;
begin
  -- Not `for update`: every page that logs itself holds a key share on this row, and two that close at once would
  -- deadlock.
  select * into v_execution from public.sync_executions where id = p_execution for no key update;
  if v_execution.status is distinct from 'running' then
    return;
  end if;

  -- What was released or requested is read again within this execution, once the entity's own chains are through.
  if v_execution.dry_run then
    perform sync.plan_released(v_execution, null, null);
  else
    perform sync.release_waiting(v_execution.source_id);
  end if;
  select coalesce(max(page_size), (v_execution.request ->> 'page_size')::integer) into v_page_size
    from public.sync_chains where execution_id = p_execution and capture not in ('joins', 'digest');
  insert into public.sync_chains (execution_id, entity_id, capture, definition_hash, page_size)
  select p_execution, e.id, 'keys', e.definition_hash, v_page_size
    from public.sync_entities e
   where e.source_id = v_execution.source_id and e.entity_type = any (v_execution.entities)
     and case when v_execution.dry_run
           then exists (select from public.sync_pending_keys k where k.execution_id = p_execution and k.entity_id = e.id and not k.gone)
           else e.adoption_epoch > 0 and exists (
             select from public.sync_pending_keys k where k.execution_id is null and k.entity_id = e.id and not k.gone) end
     and not exists (select from public.sync_chains c where c.execution_id = p_execution and c.capture = 'adopt')
     and not exists (select from public.sync_chains c
                      where c.execution_id = p_execution and c.entity_id = e.id and c.state <> 'done')
     -- While both sides are compared nothing is added: the comparison would end the execution before these pages.
     and not exists (select from public.sync_chains c
                      where c.execution_id = p_execution and c.capture = 'validate' and c.state = 'open');

  perform sync.add_deletes(v_execution, v_page_size);

  -- A chain whose entity depends on a failed one does not run: its records would only wait. Nor does one whose joined
  -- rows were not gone through.
  loop
    update public.sync_chains c set state = 'cancelled', closed_at = now()
      from public.sync_entities e
     where c.execution_id = p_execution and c.state = 'blocked' and e.id = c.entity_id
       and exists (select from public.sync_chains d join public.sync_entities p on p.id = d.entity_id
                    where d.execution_id = p_execution and d.state in ('failed', 'cancelled')
                      and case when c.deletes then e.entity_type = any (p.depends_on)
                               else p.entity_type = any (e.depends_on) or d.entity_id = c.entity_id and d.capture = 'joins' end);
    get diagnostics v_moved = row_count;
    exit when v_moved = 0;
  end loop;

  -- Parents before children, and joined rows before the records that consume them: what is noted of a row must never
  -- be newer than what its records were read with. Joined rows themselves wait for nothing. A digest waits for what
  -- is found without it. Deletes run the other way round: children before parents.
  return query
  with opened as (
  update public.sync_chains c set state = 'open', due_at = now()
    from public.sync_entities e
   where c.execution_id = p_execution and c.state = 'blocked' and e.id = c.entity_id
     and (c.capture = 'joins' or not exists (
           select from public.sync_chains d join public.sync_entities p on p.id = d.entity_id
           where d.execution_id = p_execution and d.state in ('blocked', 'open') and d.id <> c.id
             and case when c.deletes then d.deletes and e.entity_type = any (p.depends_on)
                      else not d.deletes and p.entity_type = any (e.depends_on)
                        or d.entity_id = c.entity_id and (d.capture = 'joins' or c.capture = 'digest' and d.capture not in ('digest', 'keys')) end))
  returning c.id, e.entity_type, c.range_from)
  -- In the order of the execution's entities, which is that of the request's priorities.
  select o.id from opened o order by array_position(v_execution.entities, o.entity_type::text), o.range_from nulls first;

  if exists (select from public.sync_chains
              where execution_id = p_execution and capture <> 'validate' and state in ('blocked', 'open')) then
    return;
  end if;
  if exists (select from public.sync_chains
              where execution_id = p_execution and state in ('failed', 'cancelled')) then
    update public.sync_chains set state = 'cancelled', closed_at = now()
     where execution_id = p_execution and state = 'blocked';
    perform sync.finish_execution(p_execution, 'failed',
      (select jsonb_agg(last_error) from public.sync_chains
        where execution_id = p_execution and state in ('failed', 'cancelled') and last_error is not null));
    return;
  end if;
  if not exists (select from public.sync_chains where execution_id = p_execution and capture = 'validate') then
    perform sync.finish_execution(p_execution, 'succeeded', null);
    return;
  end if;
  -- Everything is loaded: compare both sides. Everything is planned: report.
  return query
  update public.sync_chains set state = 'open', due_at = now()
   where execution_id = p_execution and capture = 'validate' and state = 'blocked'
  returning id;
end
$$;
comment on function sync.advance_execution(uuid) is
  'Opens the chains whose turn has come and returns them for dispatch; finishes the execution when a chain has '
  'failed.';

revoke all on function sync.add_deletes(public.sync_executions, integer), sync.advance_execution(uuid) from public;
grant execute on function sync.add_deletes(public.sync_executions, integer), sync.advance_execution(uuid) to isthmus_worker;

-- supabase/schemas/functions/jobs.sql

-- Purpose: what becomes of a job that could not begin: tried again, or failed until its next time, with the reason
--          where people see it.
-- Locks:   the job's row, and its open alerts.

create function sync.raise_job_alert(p_kind text, p_severity text, p_job public.sync_jobs, p_says text) returns void
language sql security invoker set search_path = pg_catalog, pg_temp as $$
  select sync.put_alert(p_kind, p_severity, null, null, null, p_job.id, sync.subject_of(p_job.name),
    format('%s (%s): %s', p_says, p_job.last_error ->> 'code', concat_ws(' ', p_job.last_error ->> 'message', p_job.last_error ->> 'remedy')),
    jsonb_build_object(p_job.name, p_job.last_error))
$$;
comment on function sync.raise_job_alert(text, text, public.sync_jobs, text) is
  'Opens or counts the alert of a job that does not begin, with the reason that it keeps.';

create function sync.put_off_job(p_job uuid, p_error jsonb, p_at timestamptz) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_job    public.sync_jobs;
  v_waits  interval;
  v_behind boolean := p_error ->> 'code' in ('EXECUTION_ACTIVE', 'ENTITY_PAUSED');
begin
  -- Behind another execution nothing is wrong: what is wrong after it, or was before, waits by itself.
  update public.sync_jobs j
     set attempts = case when k.another or k.defect then 1 else j.attempts + 1 end, last_error = p_error, next_execution_at = p_at,
         waits_since = case when k.another then clock_timestamp() else coalesce(j.waits_since, clock_timestamp()) end, taken_at = null
    from (select id, (last_error ->> 'code' in ('EXECUTION_ACTIVE', 'ENTITY_PAUSED')) <> v_behind as another,
                 p_error ->> 'code' = 'INTERNAL' and last_error ->> 'code' is distinct from 'INTERNAL' as defect from public.sync_jobs where id = p_job) k
   where j.id = k.id returning j.* into v_job;
  v_waits := clock_timestamp() - v_job.waits_since;
  -- A blip of a minute is nobody's work, and a first load may take a night: what stops it has alerts of its own.
  -- An error that nobody has expected is told at once.
  if v_waits >= interval '6 hours' or not v_behind and (v_job.attempts >= 3 or v_waits >= interval '15 minutes') or p_error ->> 'code' = 'INTERNAL' then
    perform sync.raise_job_alert('job_waits', case when (v_behind or v_waits < interval '1 hour') and p_error ->> 'code' <> 'INTERNAL' then 'warning' else 'critical' end, v_job,
      format('The job %s has waited since %s for what keeps it from beginning', v_job.name, to_char(v_job.waits_since at time zone 'UTC', 'YYYY-MM-DD HH24:MI "UTC"')));
  end if;
end
$$;
comment on function sync.put_off_job(uuid, jsonb, timestamptz) is
  'The job could not begin for a reason that passes: it is tried again at that time. After three tries, or 15 '
  'minutes, an alert tells it; behind another execution after six hours; an error that nobody has expected at once.';

create function sync.fail_job(p_job uuid, p_error jsonb, p_next timestamptz) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_job public.sync_jobs;
begin
  update public.sync_jobs set status = 'failed', attempts = attempts + 1, last_error = p_error, next_execution_at = p_next, waits_since = null, taken_at = null
   where id = p_job returning * into v_job;
  perform sync.raise_job_alert('job_failed', 'critical', v_job, format('The job %s cannot begin', v_job.name));
  perform sync.close_alerts(array(select id from public.sync_alerts where kind = 'job_waits' and job_id = p_job and closed_at is null));
end
$$;
comment on function sync.fail_job(uuid, jsonb, timestamptz) is
  'The job cannot begin until somebody does something: it has failed, keeps why, and is told in an alert. p_next '
  'null: until it is changed.';

create function sync.begin_job(p_job uuid) returns void
language sql security invoker set search_path = pg_catalog, pg_temp as $$
  update public.sync_jobs set last_execution_at = now(), status = 'running', attempts = 0, last_error = null, waits_since = null, taken_at = null where id = p_job;
  select sync.close_alerts(array(select id from public.sync_alerts where kind in ('job_failed', 'job_waits') and job_id = p_job and closed_at is null));
$$;
comment on function sync.begin_job(uuid) is
  'The job has begun an execution: what kept it from that is forgotten, and its alerts close.';

create function sync.forget_job_alerts() returns trigger
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  -- Under its new name a job is told again.
  perform sync.close_alerts(array(
    select id from public.sync_alerts
     where (kind in ('job_failed', 'job_waits') or kind = 'unusual_run' and (tg_op = 'DELETE' or new.name <> old.name)) and job_id = old.id and closed_at is null));
  return case when tg_op = 'DELETE' then old else new end;
end
$$;
comment on function sync.forget_job_alerts() is
  'Nobody waits for a job that is deleted, paused or never due again: its alerts close. Under another name they open '
  'anew.';
create trigger forget_job_alerts before delete on public.sync_jobs for each row execute function sync.forget_job_alerts();
create trigger forget_renamed_job_alerts before update of name, enabled, cron_expression on public.sync_jobs
  for each row when (new.name <> old.name or not new.enabled or new.cron_expression is null) execute function sync.forget_job_alerts();

revoke all on function sync.raise_job_alert(text, text, public.sync_jobs, text), sync.put_off_job(uuid, jsonb, timestamptz), sync.fail_job(uuid, jsonb, timestamptz),
  sync.begin_job(uuid), sync.forget_job_alerts() from public;
grant execute on function sync.raise_job_alert(text, text, public.sync_jobs, text), sync.put_off_job(uuid, jsonb, timestamptz), sync.fail_job(uuid, jsonb, timestamptz),
  sync.begin_job(uuid) to isthmus_worker;

-- supabase/schemas/functions/ends-of-executions.sql

-- Purpose: every execution ends: its sums, what a person cancels, and what makes no progress.
-- Locks:   the rows of chains (in order, skipping those that a page is committing), then the execution's row.

create function sync.cancel_chain(p_chain public.sync_chains) returns boolean
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  if exists (select from public.sync_executions where id = p_chain.execution_id and status = 'running') then
    return false;
  end if;
  update public.sync_chains set state = 'cancelled', closed_at = now(), due_at = null, lease_until = null where id = p_chain.id;
  return true;
end
$$;
comment on function sync.cancel_chain(public.sync_chains) is
  'True: the execution of this chain, which the caller has locked, was cancelled, and the chain is closed.';

create function sync.settle_cancelled() returns setof uuid
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_execution uuid;
begin
  for v_execution in
    select id from public.sync_executions where status = 'cancelled' and metrics is null order by started_at limit 50
  loop
    -- A page at work may commit within its lease. One that commits right now holds its chain's row, and may want the
    -- execution's.
    with free as (
      select id from public.sync_chains
       where execution_id = v_execution and state in ('blocked', 'open') and (lease_until is null or lease_until <= clock_timestamp())
       order by id for update skip locked
    )
    update public.sync_chains c set state = 'cancelled', closed_at = now(), due_at = null, lease_until = null from free where free.id = c.id;
    if not exists (select from public.sync_chains where execution_id = v_execution and state in ('blocked', 'open')) then
      perform sync.sum_execution(v_execution);
      return next v_execution;
    end if;
  end loop;
end
$$;
comment on function sync.settle_cancelled() is
  'Closes the chains of cancelled executions; when the last page at work has committed or its lease has run out, '
  'sums and metrics are set.';

create function sync.cancel_executions(p_execution uuid, p_by text) returns jsonb
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_cancelled uuid[];
  v_ended     public.sync_execution_status := (select status from public.sync_executions where id = p_execution and status <> 'running');
begin
  if v_ended is not null then
    raise exception 'execution % has ended already: it is %', p_execution, v_ended
      using errcode = 'IS031', hint = 'Nothing to do. npm run sync -- executions lists those that run.';
  end if;
  -- p_execution null: all that run.
  with cancelled as (
    update public.sync_executions set status = 'cancelled', cancelled_by = p_by
     where id = p_execution or p_execution is null and status = 'running'
    returning id)
  select coalesce(array_agg(id), '{}') into v_cancelled from cancelled;
  perform sync.settle_cancelled();
  return (select coalesce(jsonb_agg(jsonb_build_object('execution', x.id, 'status', x.status, 'pagesAtWork',
                   (select count(*) from public.sync_chains c where c.execution_id = x.id and c.state in ('blocked', 'open'))) order by x.started_at), '[]')
            from public.sync_executions x where x.id = any (v_cancelled));
end
$$;
comment on function sync.cancel_executions(uuid, text) is
  'Cancels an execution, or all that run. Raises IS031 when it has ended already. Pages at work may commit; no other '
  'begins.';

create function sync.stalled_error(p_chain public.sync_chains, p_why text, p_minutes integer) returns jsonb
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select jsonb_strip_nulls(jsonb_build_object(
           'code', 'PAGE_STALLED', 'entity', n.entity, 'capture', p_chain.capture, 'page', p_chain.page,
           'tries', p_chain.failures + n.killed::integer, 'cause', n.cause,
           'passes', p_why <> 'tries' and n.cause is null
             -- A limit stays what it is; a lock does not.
             or not n.killed and (sync.category_of_code(n.cause ->> 'code') in ('transient', 'misfit') or n.cause ->> 'sqlstate' is not distinct from '55P03'),
           'message', format('%s of %s made no progress: %s.', case when p_chain.capture = 'validate' then 'The comparison' else 'Page ' || p_chain.page end,
             coalesce(n.entity, 'both sides'),
             case when n.killed then format('it was begun %s times, and the last function that took it was killed', p_chain.failures + 1)
                  when p_chain.refusals > 0 then format('the queue did not take its message %s times', p_chain.refusals)
                  when n.cause is not null then format('it failed %s times, the last time with %s', p_chain.failures, n.cause ->> 'code')
                  when p_chain.unclaimed > 0 then format('it was sent %s times and not begun', p_chain.unclaimed)
                  else format('nothing has moved for %s minutes', p_minutes) end),
           'remedy', case when n.killed then 'See the log of sync-page; lower ISTHMUS_PAGE_SIZE_MAX if it was its memory.'
                          when n.cause is not null then n.cause ->> 'remedy'
                          else 'See whether sync-page is deployed and the queue works: npm run sync -- check, the function''s log, and the queue''s dead letters.' end
             || ' Then start again: what was committed stays.'
             || case when p_chain.capture = 'keys' and not p_chain.deletes then ' The keys of the page stay in sync_pending_keys and are read again.' else '' end))
    from (select (select e.entity_type from public.sync_entities e where e.id = p_chain.entity_id) as entity,
                 coalesce(p_chain.refusal, p_chain.last_error, (select sync.refuses(x.source_id) from public.sync_executions x where x.id = p_chain.execution_id)) as cause,
                 p_chain.lease_until is not null as killed) n
$$;
comment on function sync.stalled_error(public.sync_chains, text, integer) is
  'Why a page made no progress, and what to do. passes: by itself, perhaps, so that a job tries again.';

create function sync.end_stuck(p_execution uuid) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  perform from public.sync_executions where id = p_execution for no key update;
  update public.sync_chains set state = 'cancelled', closed_at = now() where execution_id = p_execution and state = 'blocked';
  perform sync.finish_execution(p_execution, 'failed', coalesce((
      select jsonb_agg(last_error) from public.sync_chains where execution_id = p_execution and state = 'failed' and last_error is not null), '[]')
    || jsonb_build_object('code', 'EXECUTION_STALLED', 'message', 'None of what was left of the execution could begin.',
         'remedy', 'Start again. If it happens again, report it with the rows of sync_chains of this execution.'));
end
$$;
comment on function sync.end_stuck(uuid) is 'Ends an execution of which nothing can begin any more.';

create function sync.last_moved(p_execution public.sync_executions) returns timestamptz
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  -- What a person has let go on has had no time to move.
  select greatest(p_execution.started_at, p_execution.controlled_at, max(c.moved_at), max(c.controlled_at), max(e.controlled_at),
           (select j.controlled_at from public.sync_jobs j where j.id = p_execution.job_id))
    from public.sync_chains c left join public.sync_entities e on e.id = c.entity_id where c.execution_id = p_execution.id
$$;
comment on function sync.last_moved(public.sync_executions) is
  'When something of the execution moved last, or a person last said of it to pause or go on.';

create function sync.stop_stalled(p_tries integer, p_minutes integer) returns setof uuid
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_execution public.sync_executions;
  v_moved_at  timestamptz;
  v_latest    timestamptz := (select max(sync.last_moved(x)) from public.sync_executions x where x.status = 'running');
  v_stopped   public.sync_chains;
  v_any       boolean;
begin
  for v_execution in select * from public.sync_executions where status = 'running' order by started_at loop
    v_moved_at := sync.last_moved(v_execution);
    v_any := false;
    for v_stopped in
      with stalled as (
        select c.id, w.why
          from public.sync_chains c
          cross join lateral (select case
            -- Whoever took it has failed, or was killed, so often.
            when c.failures + (c.lease_until is not null)::integer >= p_tries then 'tries'
            -- Nobody takes it, and nothing of any execution moves: no queue, or no function.
            when c.unclaimed >= p_tries and v_latest <= clock_timestamp() - make_interval(mins => least(p_tries, p_minutes)) then 'unclaimed'
            -- Nothing of this execution moves. After a time without ticks, or a restored database, it is tried before
            -- it is judged.
            when v_moved_at <= clock_timestamp() - make_interval(mins => p_minutes)
             and (greatest(c.unclaimed, c.refusals, c.failures) >= 3 or c.due_at > clock_timestamp() + make_interval(mins => p_minutes)
                  -- Its pages wait for a source that refuses, and for that without an end.
                  or (select s.refused_since from public.sync_sources s where s.id = v_execution.source_id) <= clock_timestamp() - make_interval(mins => p_minutes))
             then 'minutes' end as why) w
         where c.execution_id = v_execution.id and c.state = 'open' and (c.lease_until is null or c.lease_until <= clock_timestamp())
           and w.why is not null and not sync.is_held(c)
         order by c.id for update of c skip locked
      )
      update public.sync_chains c
         set state = 'failed', closed_at = now(), due_at = null, lease_until = null, last_error = sync.stalled_error(c, s.why, p_minutes)
        from stalled s where s.id = c.id
      returning c.*
    loop
      v_any := true;
      if not v_execution.dry_run then
        perform sync.raise_alert('page_stalled', 'critical', null, v_execution.id, v_stopped.entity_id, v_stopped.last_error ->> 'message',
          v_stopped.last_error - 'message', v_stopped.capture::text);
      end if;
    end loop;
    if v_any then
      begin
        perform sync.advance_execution(v_execution.id);
      exception when others then
        -- What was stopped stays stopped. When nothing is open any more, the execution ends all the same.
        if sync.passes_by_itself(sqlstate) then
          raise;
        elsif not exists (select from public.sync_chains where execution_id = v_execution.id and state = 'open') then
          perform sync.end_stuck(v_execution.id);
        end if;
      end;
      return next v_execution.id;
    elsif v_moved_at <= clock_timestamp() - make_interval(mins => p_minutes)
      and not exists (select from public.sync_chains where execution_id = v_execution.id and state = 'open') then
      perform sync.end_stuck(v_execution.id);
      return next v_execution.id;
    end if;
  end loop;
end
$$;
comment on function sync.stop_stalled(integer, integer) is
  'Stops each chain whose page made no progress in so many tries, or of whose execution nothing has moved for so '
  'many minutes; the rest goes on. Returns executions of which something was stopped.';

create function sync.advance_running(p_source_id smallint) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_execution uuid;
  v_stuck     boolean := false;
begin
  for v_execution in
    select id from public.sync_executions where source_id = p_source_id and status = 'running' order by started_at
  loop
    begin
      perform sync.advance_execution(v_execution);
    exception when others then
      -- It holds up no other. Where it does not move for too long, it is ended.
      v_stuck := true;
      continue when sync.passes_by_itself(sqlstate);
      perform sync.raise_alert('execution_stuck', 'critical', null, v_execution, null,
        'The chains of an execution cannot be opened. It ends by itself when nothing has moved for ISTHMUS_STALLED_MINUTES.',
        jsonb_build_object('execution', v_execution, 'sqlstate', sqlstate));
    end;
  end loop;
  if not v_stuck then
    perform sync.close_alert('execution_stuck', p_source_id);
  end if;
end
$$;
comment on function sync.advance_running(smallint) is
  'Opens the chains of running executions whose turn has come; they are due at once, so the sweep sends them.';

revoke all on function sync.cancel_chain(public.sync_chains), sync.settle_cancelled(), sync.cancel_executions(uuid, text),
  sync.stalled_error(public.sync_chains, text, integer), sync.last_moved(public.sync_executions), sync.stop_stalled(integer, integer), sync.end_stuck(uuid),
  sync.advance_running(smallint) from public;
grant execute on function sync.cancel_chain(public.sync_chains), sync.settle_cancelled(), sync.cancel_executions(uuid, text),
  sync.stalled_error(public.sync_chains, text, integer), sync.last_moved(public.sync_executions), sync.stop_stalled(integer, integer), sync.end_stuck(uuid),
  sync.advance_running(smallint) to isthmus_worker;

-- supabase/schemas/functions/control.sql

-- Purpose: carry out what a person says of a job, an execution, an entity or a chain, and tell what is paused.
-- Locks:   the source's row, so that a retry and a start see each other; the execution's row; its chains.

create function sync.retry_chains(p_execution uuid, p_chains uuid[]) returns boolean
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_execution public.sync_executions;
begin
  perform from public.sync_sources s join public.sync_executions x on x.source_id = s.id where x.id = p_execution for no key update of s;
  select * into v_execution from public.sync_executions where id = p_execution for no key update;
  -- Somebody else may have gone on with it meanwhile.
  if v_execution.status not in ('failed', 'running') or not exists (select from public.sync_chains where id = any (p_chains) and state = 'failed') then
    return true;
  end if;
  if v_execution.status = 'failed' then
    if exists (select from public.sync_executions o
                where o.source_id = v_execution.source_id and o.status = 'running' and o.entities && v_execution.entities
                  and (not (o.selective or v_execution.selective) or exists (select from public.sync_chains c where c.execution_id = o.id and c.capture = 'adopt'))) then
      return false;
    end if;
    perform sync.go_on_counting(p_execution);
    update public.sync_executions set status = 'running', completed_at = null, errors = null, metrics = null, controlled_at = clock_timestamp() where id = p_execution;
    update public.sync_jobs set status = 'running', attempts = 0, last_error = null, waits_since = null where id = v_execution.job_id;
  end if;
  -- What was not begun because of a failed one has its turn again; of what still has failed, the children are
  -- cancelled anew. The sweep sends them: the queue would swallow the first message of a page that it has had.
  update public.sync_chains
     set state = 'blocked', closed_at = null, due_at = null, lease_until = null, failures = 0, unclaimed = 0, refusals = 0, refusal = null, waits_since = null,
         last_error = null, control = null
   -- What a person has cancelled says so, and stays so.
   where execution_id = p_execution and (id = any (p_chains) and state = 'failed' or state = 'cancelled' and last_error ->> 'code' is distinct from 'EXECUTION_CANCELLED');
  perform sync.advance_execution(p_execution);
  return true;
end
$$;
comment on function sync.retry_chains(uuid, uuid[]) is
  'Opens failed chains where they stood, with those that were cancelled because of them, and their execution with '
  'them. False: another execution of these entities runs.';

create function sync.tell_stuck(p_execution uuid, p_sqlstate text) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  if not sync.passes_by_itself(p_sqlstate) then
    perform sync.raise_alert('execution_stuck', 'critical', null, p_execution, null,
      'What a person said of an execution cannot be carried out. It ends by itself when nothing has moved for ISTHMUS_STALLED_MINUTES.',
      jsonb_build_object('execution', p_execution, 'sqlstate', p_sqlstate));
  end if;
end
$$;
comment on function sync.tell_stuck(uuid, text) is
  'Opens the alert execution_stuck where a word cannot be carried out and that does not pass: it holds up no other.';

-- Words are few: they are looked up by their index, whatever the planner thinks of tables that were never analysed.
create function sync.cancel_held() returns setof uuid
language plpgsql security invoker set search_path = pg_catalog, pg_temp set enable_seqscan = off as $$
declare
  v_execution uuid;
begin
  update public.sync_executions set status = 'cancelled', cancelled_by = controlled_by, control = null where control = 'cancel' and status = 'running';
  -- A word is taken and carried out by one statement: none that is given meanwhile is lost.
  with said as (
    update public.sync_jobs set control = null where control = 'cancel' returning id, controlled_by
  )
  update public.sync_executions x set status = 'cancelled', cancelled_by = s.controlled_by, control = null
    from said s where x.job_id = s.id and x.status = 'running';
  for v_execution in
    select distinct c.execution_id from public.sync_executions x join public.sync_chains c on c.execution_id = x.id left join public.sync_entities e on e.id = c.entity_id
     where x.status = 'running' and c.state in ('blocked', 'open') and 'cancel' in (c.control, e.control)
  loop
    begin
      -- A page at work may commit within its lease.
      with free as (
        select c.id, coalesce(case when c.control = 'cancel' then c.controlled_by end, e.controlled_by) as by, e.entity_type as entity
          from public.sync_chains c left join public.sync_entities e on e.id = c.entity_id
         where c.execution_id = v_execution and c.state in ('blocked', 'open') and 'cancel' in (c.control, e.control)
           and (c.lease_until is null or c.lease_until <= clock_timestamp())
         order by c.id for update of c skip locked
      )
      update public.sync_chains c
         set state = 'cancelled', closed_at = now(), due_at = null, lease_until = null, control = null,
             last_error = jsonb_build_object('code', 'EXECUTION_CANCELLED', 'entity', f.entity, 'message', 'Its pages were cancelled by ' || f.by || '.')
        from free f where f.id = c.id;
      if found then
        perform sync.advance_execution(v_execution);
        return next v_execution;
      end if;
    exception when others then
      perform sync.tell_stuck(v_execution, sqlstate);
    end;
  end loop;
  update public.sync_entities e set control = null
   where e.control = 'cancel' and not exists (
     select from public.sync_executions x join public.sync_chains c on c.execution_id = x.id
      where x.status = 'running' and c.entity_id = e.id and c.state in ('blocked', 'open'));
end
$$;
comment on function sync.cancel_held() is
  'Ends what a person has cancelled: executions, and the chains of entities, where no page is at work.';

create function sync.apply_controls() returns setof uuid
language plpgsql security invoker set search_path = pg_catalog, pg_temp set enable_seqscan = off as $$
declare
  v_word   record;
  v_chains uuid[];
  v_where  uuid;
  v_done   boolean;
begin
  return query select * from sync.cancel_held();
  for v_word in
    select 'job' as what, to_jsonb(j) as "row" from public.sync_jobs j where j.control = 'retry'
    union all select 'execution', to_jsonb(x) from public.sync_executions x where x.control = 'retry'
    union all select 'entity', to_jsonb(e) from public.sync_entities e where e.control = 'retry'
    union all select 'chain', to_jsonb(c) from public.sync_chains c where c.control = 'retry'
  loop
    select array_agg(f.id), (array_agg(f.execution_id))[1] into v_chains, v_where from sync.failed_chains(v_word.what, v_word."row") f;
    -- Without a failed chain somebody else has gone on with it. Behind another execution it waits until that has
    -- ended.
    begin
      v_done := v_where is null or sync.retry_chains(v_where, v_chains);
    exception when others then
      perform sync.tell_stuck(v_where, sqlstate);
      v_done := false;
    end;
    continue when not v_done;
    if v_where is not null then
      return next v_where;
    elsif v_word.what = 'job' then
      update public.sync_jobs set status = case when status = 'running' then status else 'pending' end, attempts = 0, last_error = null, waits_since = null,
             next_execution_at = clock_timestamp()
       where id = (v_word."row" ->> 'id')::uuid;
    end if;
    update public.sync_jobs set control = null where control = 'retry' and v_word.what = 'job' and id = (case when v_word.what = 'job' then v_word."row" ->> 'id' end)::uuid;
    update public.sync_executions set control = null where control = 'retry' and v_word.what = 'execution' and id = (case when v_word.what = 'execution' then v_word."row" ->> 'id' end)::uuid;
    update public.sync_entities set control = null where control = 'retry' and v_word.what = 'entity' and id = (case when v_word.what = 'entity' then v_word."row" ->> 'id' end)::smallint;
    update public.sync_chains set control = null where control = 'retry' and v_word.what = 'chain' and id = (case when v_word.what = 'chain' then v_word."row" ->> 'id' end)::uuid;
  end loop;
  -- What has ended otherwise waits for nothing.
  update public.sync_executions set control = null where control in ('pause', 'cancel') and status <> 'running';
  update public.sync_chains set control = null where control in ('pause', 'cancel') and state not in ('blocked', 'open');
  perform sync.settle_cancelled();
end
$$;
comment on function sync.apply_controls() is
  'Carries out what people have said in control: every tick, and at once where it was said over HTTP. Returns the '
  'executions that go on or lost chains.';

create function sync.paused() returns table (what text, name text, source_id smallint, execution_id uuid, entity_id smallint, job_id uuid, by text, since timestamptz, message text)
language sql stable security invoker set search_path = pg_catalog, pg_temp set enable_seqscan = off as $$
  select p.*, format('The %s %s is paused by %s since %s. To go on: npm run sync -- resume %s %s', p.what, p.name, p.by,
           to_char(p.since at time zone 'UTC', 'YYYY-MM-DD HH24:MI "UTC"'), p.what, quote_ident(p.name))
    from (select 'job', j.name::text, null::smallint, null::uuid, null::smallint, j.id, j.controlled_by, j.controlled_at from public.sync_jobs j where j.control = 'pause'
          union all select 'execution', x.id::text, x.source_id, x.id, null, x.job_id, x.controlled_by, x.controlled_at
                      from public.sync_executions x where x.control = 'pause' and x.status = 'running'
          union all select 'entity', e.entity_type, e.source_id, null, e.id, null, e.controlled_by, e.controlled_at from public.sync_entities e where e.control = 'pause'
          union all select 'chain', c.id::text, x.source_id, x.id, c.entity_id, x.job_id, c.controlled_by, c.controlled_at
                      from public.sync_chains c join public.sync_executions x on x.id = c.execution_id
                     where c.control = 'pause' and c.state in ('blocked', 'open') and x.status = 'running') p (what, name, source_id, execution_id, entity_id, job_id, by, since)
$$;
comment on function sync.paused() is 'What people have paused, since when, and how it goes on.';

create function sync.tell_paused(p_source_id smallint, p_hours integer) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_paused record;
  v_kept   text[] := '{}';
begin
  for v_paused in
    select * from sync.paused() p where coalesce(p.source_id, p_source_id) = p_source_id and p.since <= clock_timestamp() - make_interval(hours => p_hours)
  loop
    perform sync.put_alert('paused_long', 'warning', p_source_id, v_paused.entity_id, v_paused.execution_id, v_paused.job_id, sync.subject_of(v_paused.what, v_paused.name),
      v_paused.message, jsonb_build_object('what', v_paused.what, 'since', v_paused.since));
    v_kept := v_kept || sync.subject_of(v_paused.what, v_paused.name);
  end loop;
  perform sync.close_alerts(array(
    select a.id from public.sync_alerts a where a.kind = 'paused_long' and a.source_id = p_source_id and a.closed_at is null and a.subject <> all (v_kept)));
end
$$;
comment on function sync.tell_paused(smallint, integer) is
  'Opens the alert paused_long of what people have paused for so many hours, and closes that of what goes on.';

create function sync.control(p_source_id smallint, p_what text, p_name text, p_word public.sync_control, p_by text) returns jsonb
language plpgsql security invoker set search_path = pg_catalog, pg_temp set enable_seqscan = off as $$
declare
  v_job       uuid := (select id from public.sync_jobs where p_what = 'job' and name = p_name);
  v_entity    smallint := (select id from public.sync_entities where p_what = 'entity' and source_id = p_source_id and entity_type = p_name);
  v_execution uuid := (select id from public.sync_executions where id = case when p_what = 'execution' then p_name::uuid end);
  v_chain     uuid := (select id from public.sync_chains where id = case when p_what = 'chain' then p_name::uuid end);
  v_touched   uuid[];
begin
  if coalesce(v_job, v_execution, v_chain) is null and v_entity is null then
    return null;
  end if;
  update public.sync_jobs set control = p_word, controlled_by = p_by where id = v_job and control is distinct from p_word;
  update public.sync_executions set control = p_word, controlled_by = p_by where id = v_execution and control is distinct from p_word;
  update public.sync_entities set control = p_word, controlled_by = p_by where id = v_entity and control is distinct from p_word;
  update public.sync_chains set control = p_word, controlled_by = p_by where id = v_chain and control is distinct from p_word;
  -- What goes on is due at once.
  update public.sync_chains c set due_at = clock_timestamp()
    from public.sync_executions x
   where p_word = 'resume' and x.id = c.execution_id and x.status = 'running' and (x.job_id = v_job or x.id = v_execution or c.entity_id = v_entity or c.id = v_chain)
     and c.state = 'open' and (c.lease_until is null or c.lease_until <= clock_timestamp());
  v_touched := array(select sync.apply_controls());
  return jsonb_build_object('what', p_what, 'name', p_name, 'word', p_word, 'executions', to_jsonb(v_touched),
    'waits', p_word in ('cancel', 'retry') and (
       exists (select from public.sync_jobs where id = v_job and control = p_word) or exists (select from public.sync_executions where id = v_execution and control = p_word)
       or exists (select from public.sync_entities where id = v_entity and control = p_word) or exists (select from public.sync_chains where id = v_chain and control = p_word)),
    'pagesAtWork', (select count(*) from public.sync_executions x join public.sync_chains c on c.execution_id = x.id
                     where (x.job_id = v_job or x.id = v_execution or c.entity_id = v_entity or c.id = v_chain) and c.state = 'open' and c.lease_until > clock_timestamp()
                       and (x.status = 'running' or x.metrics is null)));
end
$$;
comment on function sync.control(smallint, text, text, public.sync_control, text) is
  'Gives a word to a job (by name), an execution, an entity (by name) or a chain, and carries it out. Null: there is '
  'no such thing. Raises IS032 where the word has no meaning now. waits: something is in its way still, and a tick '
  'carries it out.';

revoke all on function sync.retry_chains(uuid, uuid[]), sync.tell_stuck(uuid, text), sync.cancel_held(), sync.apply_controls(), sync.paused(), sync.tell_paused(smallint, integer),
  sync.control(smallint, text, text, public.sync_control, text) from public;
grant execute on function sync.retry_chains(uuid, uuid[]), sync.tell_stuck(uuid, text), sync.cancel_held(), sync.apply_controls(), sync.paused(), sync.tell_paused(smallint, integer),
  sync.control(smallint, text, text, public.sync_control, text) to isthmus_worker;

-- supabase/schemas/functions/chains.sql

-- Purpose: hold the chain of a page under its lease, end a page, close a chain.
-- Locks:   the slots of a page's records, the chain's row; the execution's row when a chain closes.

create function sync.hold_chain(p_chain uuid, p_lease bigint) returns public.sync_chains
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_chain public.sync_chains;
begin
  select * into v_chain from public.sync_chains
   where id = p_chain and lease = p_lease and state = 'open' and lease_until is not null for update;
  if not found then
    raise exception 'chain %: the lease was lost to another delivery', p_chain
      using errcode = 'IS010', hint = 'Nothing was written; the other delivery carries on.';
  end if;
  -- A pooler's session may hold what another client has left there, under the names of the page's own tables.
  discard temp;
  return v_chain;
end
$$;
comment on function sync.hold_chain(uuid, bigint) is
  'Locks the chain for the commit of a page under its lease, and drops the session''s temporary tables. Raises IS010 '
  'when another delivery has it.';

create function sync.hold_page(p_chain uuid, p_lease bigint, p_versions jsonb) returns public.sync_chains
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  perform sync.hold_records((select entity_id from public.sync_chains where id = p_chain), p_versions);
  return sync.hold_chain(p_chain, p_lease);
end
$$;
comment on function sync.hold_page(uuid, bigint, jsonb) is
  'The first locks of a page''s commit: its records, by their versions, and its chain. Raises IS011 or IS010 when '
  'either is not as it was.';

create function sync.latest_starts(p_starts text[], p_start text) returns text[]
language sql immutable security invoker set search_path = pg_catalog, pg_temp as $$
  select (p_start || array_remove(p_starts, p_start))[1:8]
$$;
comment on function sync.latest_starts(text[], text) is 'Server starts with this one at their head, at most eight.';

create function sync.move_watermark(p_execution uuid, p_entity public.sync_entities) returns void
language sql security invoker set search_path = pg_catalog, pg_temp as $$
  update public.sync_checkpoints k
     set watermark_at = c.cursor_at, watermark_id = c."cursor", job_id = e.job_id, execution_id = e.id, updated_at = now()
    from public.sync_chains c join public.sync_executions e on e.id = c.execution_id
   where c.execution_id = p_execution and c.entity_id = p_entity.id and c.capture = 'modified' and c.state = 'done' and not e.dry_run and e.status = 'running'
     and k.source_id = p_entity.source_id and k.entity_type = p_entity.entity_type
     and (c.cursor_at::timestamptz, c."cursor") >= (k.watermark_at::timestamptz, coalesce(k.watermark_id, '-9223372036854775808'))
$$;
comment on function sync.move_watermark(uuid, public.sync_entities) is
  'Moves the watermark to where a modified chain that is through has come, never back. The horizon stays: stamps do '
  'not tell of every change.';

create function sync.close_chain(p_execution uuid, p_entity public.sync_entities) returns uuid[]
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  -- A full pass, and not only a range of keys beside an incremental one.
  v_whole boolean := exists (select from public.sync_chains
                              where execution_id = p_execution and entity_id = p_entity.id and capture = 'full' and range_from is null);
begin
  perform from public.sync_executions where id = p_execution for no key update;
  perform sync.move_watermark(p_execution, p_entity);
  -- A plan moves nothing, nor does what was cancelled while its last page was at work. The horizon moves only when
  -- the last chain that looks for changes is through.
  if exists (select from public.sync_executions where id = p_execution and not dry_run and status = 'running')
     and not exists (select from public.sync_chains
                      where execution_id = p_execution and entity_id = p_entity.id and capture not in ('keys', 'selection', 'modified') and state <> 'done') then
    insert into public.sync_checkpoints as k
      (source_id, entity_type, job_id, execution_id, last_processed_id, records_processed, checkpoint_data,
       horizon, snapshot_xmax, watermark_at, system_identifier, timeline, database_oid, server_starts, definition_hash)
    select p_entity.source_id, p_entity.entity_type, e.job_id, e.id,
           max(c."cursor") filter (where c.capture <> 'joins' and coalesce(c.table_file, 0) = 0),
           coalesce((sync.counted(e.id, p_entity.id) ->> 'read')::bigint, 0),
           jsonb_build_object('capture', coalesce(min(c.capture::text) filter (where c.capture <> 'joins'), 'joins')),
           e.horizon, e.snapshot_xmax, e.source_time, e.system_identifier, e.timeline, e.database_oid, array[e.server_start],
           case when count(distinct c.definition_hash) = 1 then min(c.definition_hash) else 'mixed' end
      from public.sync_executions e
      join public.sync_chains c on c.execution_id = e.id and c.entity_id = p_entity.id
                               and c.capture not in ('keys', 'selection', 'modified')
     where e.id = p_execution
     group by e.id
    on conflict (source_id, entity_type) do update
       set job_id = excluded.job_id, execution_id = excluded.execution_id, last_processed_id = excluded.last_processed_id,
           records_processed = excluded.records_processed, checkpoint_data = excluded.checkpoint_data,
           horizon = excluded.horizon, snapshot_xmax = excluded.snapshot_xmax, watermark_at = excluded.watermark_at, watermark_id = null,
           system_identifier = excluded.system_identifier, timeline = excluded.timeline,
           database_oid = excluded.database_oid,
           -- What was known of other servers does not hold after everything was read from this one.
           server_starts = case when v_whole then excluded.server_starts
                           else sync.latest_starts(k.server_starts, excluded.server_starts[1]) end,
           definition_hash = excluded.definition_hash, updated_at = now()
     where v_whole or k.horizon <= excluded.horizon;
  end if;
  return array(select sync.advance_execution(p_execution));
end
$$;
comment on function sync.close_chain(uuid, public.sync_entities) is
  'Moves the entity''s checkpoint when its last chain is done and opens what comes next.';

create function sync.close_page(p_chain public.sync_chains, p_entity public.sync_entities, p_page jsonb, p_wall_ms numeric) returns uuid[]
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_done    boolean := (p_page ->> 'done')::boolean;
  v_counted boolean;
begin
  if not v_done and coalesce((p_page ->> 'cursor')::bigint, p_chain."cursor") is not distinct from p_chain."cursor"
     and coalesce(p_page ->> 'cursor_at', p_chain.cursor_at) is not distinct from p_chain.cursor_at
     and coalesce((p_page ->> 'table_file')::bigint, p_chain.table_file) is not distinct from p_chain.table_file then
    raise exception 'entity %: a page of capture % ended where it began', p_entity.entity_type, p_chain.capture
      using errcode = 'IS050', detail = jsonb_build_object('entity', p_entity.entity_type, 'capture', p_chain.capture)::text;
  end if;
  update public.sync_chains
     set page = page + 1, "cursor" = coalesce((p_page ->> 'cursor')::bigint, "cursor"),
         cursor_at = coalesce(p_page ->> 'cursor_at', cursor_at), table_file = coalesce((p_page ->> 'table_file')::bigint, table_file),
         -- A page must stay far within its lease, whatever the database took for it and for the rejects that it found.
         page_size = case when p_wall_ms > (p_page ->> 'lease_seconds')::integer * 500 then greatest(1, p_chain.page_size / 2)
                          when p_wall_ms > (p_page ->> 'lease_seconds')::integer * 250
                            then least(p_chain.page_size, (p_page ->> 'next_page_size')::integer)
                          else (p_page ->> 'next_page_size')::integer end,
         -- Where nearly everything has changed, asking for hashes first is work for nothing.
         skips_unchanged = skips_unchanged and coalesce((p_page ->> 'untouched')::bigint * 8 >= (p_page ->> 'read')::bigint - (p_page ->> 'waived')::bigint, true),
         slow_growth = slow_growth or coalesce((p_page ->> 'cut')::boolean, false) or p_wall_ms > (p_page ->> 'lease_seconds')::integer * 500,
         lease_until = null, sends = 0, failures = 0, crashes = 0, last_error = null,
         state = case when v_done then 'done' else 'open' end::public.sync_chain_state,
         closed_at = case when v_done then now() end,
         due_at = case when not v_done then clock_timestamp() + make_interval(secs => (p_page ->> 'lease_seconds')::integer) end
   where id = p_chain.id
  returning coalesce((counts ->> 'pages')::integer, 0) = page into v_counted;
  -- Brakes and reports go by these counts.
  if not v_counted then
    raise exception 'entity %: the counts of capture % are not those of its pages', p_entity.entity_type, p_chain.capture
      using errcode = 'IS073', hint = 'A trigger of sync_page_log is off, or somebody has written to it: alter table public.sync_page_log enable trigger all. Where rows were written by hand, cancel the execution and start again.';
  end if;
  -- Functions are deployed one after the other: what a page of another version landed is read again by the next
  -- execution.
  if p_page ->> 'definition_hash' is distinct from p_chain.definition_hash then
    update public.sync_chains set definition_hash = 'mixed' where id = p_chain.id;
    update public.sync_checkpoints set definition_hash = 'mixed'
     where source_id = p_entity.source_id and entity_type = p_entity.entity_type
       and not exists (select from public.sync_executions where id = p_chain.execution_id and dry_run);
  end if;
  -- Of what this page decided under another definition than the checkpoint's, the latter no longer tells: should that
  -- definition come back, or the pass end half way, everything is read again.
  update public.sync_checkpoints set definition_hash = 'unfinished'
   where source_id = p_entity.source_id and entity_type = p_entity.entity_type
     and definition_hash <> p_page ->> 'definition_hash' and definition_hash !~ '^(mixed$|unfinished$|reread:|none)'
     and not exists (select from public.sync_executions where id = p_chain.execution_id and dry_run);
  if v_done then
    return sync.close_chain(p_chain.execution_id, p_entity);
  end if;
  return array[p_chain.id];
end
$$;
comment on function sync.close_page(public.sync_chains, public.sync_entities, jsonb, numeric) is
  'Moves a chain behind the page that is being committed and closes it with its last page; returns what to dispatch.';

create function sync.end_page(p_chain public.sync_chains, p_entity public.sync_entities, p_page jsonb, p_surplus jsonb,
  p_begun timestamptz) returns jsonb
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_counts   jsonb;
  v_gone     integer;
  v_wall_ms  numeric;
  v_dispatch uuid[];
begin
  select jsonb_build_object(
           'inserted', count(*) filter (where action = 'insert'), 'updated', count(*) filter (where action = 'update'),
           'unchanged', count(*) filter (where action = 'unchanged') + coalesce((p_page ->> 'untouched')::integer, 0), 'deleted', count(*) filter (where action in ('delete', 'soft')),
           'waived', (p_page ->> 'waived')::integer + jsonb_array_length(p_page -> 'outside')
             - (select count(*) from pg_temp.page_rows where _leaves and p_page -> 'outside' ? _key::text)
             + (select count(*) from pg_temp.page_issues where settled),
           'waiting', (select count(*) from pg_temp.page_issues where state = 'waiting' and not settled),
           'in_conflict', (select count(*) from pg_temp.page_issues where state = 'open' and not settled))
    into v_counts from pg_temp.page_plan;
  -- Of the keys without a record, those that had landed were looked at where they are deleted.
  v_gone := case when p_chain.deletes then
    (select count(*) from (select _key from pg_temp.page_rows where _leaves union select k from pg_temp.page_issues) x
      where p_page -> 'gone' ? _key::text) else 0 end;

  v_wall_ms := (p_page ->> 'wall_ms')::numeric + extract(epoch from clock_timestamp() - p_begun) * 1000;
  insert into public.sync_page_log
    (execution_id, chain_id, entity_id, page, read, inserted, updated, unchanged, deleted, waiting, in_conflict, waived, waived_by,
     untouched, absent, surplus, nulled, overwritten, cache_lookups, cache_hits, heap_bytes, wall_ms)
  values (p_chain.execution_id, p_chain.id, p_entity.id, p_chain.page, (p_page ->> 'read')::integer + v_gone,
          (v_counts ->> 'inserted')::integer, (v_counts ->> 'updated')::integer, (v_counts ->> 'unchanged')::integer,
          (v_counts ->> 'deleted')::integer, (v_counts ->> 'waiting')::integer, (v_counts ->> 'in_conflict')::integer,
          (v_counts ->> 'waived')::integer,
          nullif(concat_ws(', ', p_entity.predicate ->> 'rule', (select 'decision' from pg_temp.page_issues where settled limit 1)), ''),
          coalesce((p_page ->> 'untouched')::integer, 0), (p_page ->> 'absent')::integer - v_gone, (p_surplus ->> 'count')::integer, sync.page_nulled(p_entity), sync.page_rewritten(p_entity), (p_page ->> 'cache_lookups')::integer, (p_page ->> 'cache_hits')::integer,
          (p_page ->> 'heap_bytes')::bigint, v_wall_ms);

  v_dispatch := sync.close_page(p_chain, p_entity, p_page, v_wall_ms);
  return jsonb_build_object('counts', v_counts, 'surplus', (p_surplus ->> 'count')::integer,
    'landed', (select coalesce(jsonb_agg(legacy_id::text), '[]') from pg_temp.page_plan where action = 'insert'),
    'dispatch', (select coalesce(jsonb_agg(jsonb_build_object('chain', c.id, 'page', c.page, 'execution', c.execution_id) order by d.n), '[]')
                   from unnest(v_dispatch) with ordinality d (id, n) join public.sync_chains c on c.id = d.id));
end
$$;
comment on function sync.end_page(public.sync_chains, public.sync_entities, jsonb, jsonb, timestamptz) is
  'Counts and logs a page, moves its chain, and tells what came of it and what to dispatch.';

revoke all on function sync.hold_chain(uuid, bigint), sync.hold_page(uuid, bigint, jsonb), sync.move_watermark(uuid, public.sync_entities),
  sync.end_page(public.sync_chains, public.sync_entities, jsonb, jsonb, timestamptz),
  sync.close_page(public.sync_chains, public.sync_entities, jsonb, numeric), sync.latest_starts(text[], text),
  sync.close_chain(uuid, public.sync_entities) from public;
grant execute on function sync.hold_chain(uuid, bigint), sync.hold_page(uuid, bigint, jsonb), sync.move_watermark(uuid, public.sync_entities),
  sync.end_page(public.sync_chains, public.sync_entities, jsonb, jsonb, timestamptz),
  sync.close_page(public.sync_chains, public.sync_entities, jsonb, numeric), sync.latest_starts(text[], text),
  sync.close_chain(uuid, public.sync_entities) to isthmus_worker;

-- supabase/schemas/functions/page-errors.sql

-- Purpose: tell of pages that are tried again and again while they are, and at once of errors that nobody has
--          expected.
-- Locks:   the open alerts of these kinds.

create function sync.tell_internal(p_chain public.sync_chains, p_error jsonb) returns void
language sql security invoker set search_path = pg_catalog, pg_temp as $$
  select sync.raise_alert('internal_error', 'critical', null, x.id, p_chain.entity_id,
           format('An error that nobody has expected ended page %s of %s (%s). %s See page.failed in the log of sync-page at that time.', p_chain.page,
             coalesce(e.entity_type, 'both sides'), p_chain.capture,
             case when p_chain.state = 'open' then 'It is tried again, ISTHMUS_PAGE_TRIES times at most; nothing is half done.' else 'Its chain has failed.' end),
           jsonb_build_object('entity', e.entity_type, 'capture', p_chain.capture, 'page', p_chain.page, 'failures', p_chain.failures, 'error', p_error),
           p_chain.capture::text)
    from public.sync_executions x left join public.sync_entities e on e.id = p_chain.entity_id
   where x.id = p_chain.execution_id and not x.dry_run
$$;
comment on function sync.tell_internal(public.sync_chains, jsonb) is
  'Opens or counts the alert internal_error about a page: at its first occurrence.';

create function sync.tell_retried_pages(p_source_id smallint, p_tries integer) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  -- With pauses of 1, 2, 4, ... seconds these are two minutes; a blip is nobody's work.
  c_retries constant integer := 7;
  v_page    record;
  v_kept    uuid[] := '{}';
begin
  for v_page in
    select c.entity_id, e.entity_type, c.capture::text as capture, count(*) filter (where c.tries >= r.told) as chains, max(c.tries) as tries,
           bool_or(c.tries >= r.told) as is_told, (array_agg(c.page order by c.tries desc, c.id))[1] as page,
           (array_agg(c.execution_id order by c.tries desc, c.id))[1] as execution, (array_agg(c.last_error order by c.tries desc, c.id))[1] as error
      from (select o.*, o.failures + coalesce(o.lease_until <= clock_timestamp(), false)::integer as tries from public.sync_chains o where o.state = 'open' and not sync.is_held(o)) c
      join public.sync_executions x on x.id = c.execution_id
      left join public.sync_entities e on e.id = c.entity_id
      left join public.sync_jobs j on j.id = x.job_id
     cross join lateral (select least(coalesce((j.alarms ->> 'retries')::numeric, c_retries), greatest(p_tries - 1, 1)) as told) r
     where x.source_id = p_source_id and x.status = 'running' and not x.dry_run
       -- Of a page that is being tried again nothing is over, and nothing new is known.
       and c.failures + (c.lease_until is not null)::integer >= r.told
       -- What nobody has expected is told by itself.
       and c.last_error ->> 'code' is distinct from 'INTERNAL'
       -- What waits for a source that refuses is told by that.
       and not (coalesce(c.last_error ->> 'code', '') = 'SOURCE_UNAVAILABLE'
                -- Pages that it has refused come back within six minutes after it answers.
                and exists (select from public.sync_alerts a where a.kind = 'source_refuses' and a.source_id = p_source_id
                             and coalesce(a.closed_at > clock_timestamp() - interval '6 minutes', true)))
     group by 1, 2, 3
  loop
    perform sync.raise_alert('page_retried', 'warning', p_source_id, v_page.execution, v_page.entity_id,
      format('Page %s of %s (%s) has been tried %s times in vain%s. After %s times its chain is stopped alone. %s', v_page.page,
        coalesce(v_page.entity_type, 'both sides'), v_page.capture, v_page.tries,
        coalesce(', the last time with ' || (v_page.error ->> 'code') || coalesce(', SQLSTATE ' || (v_page.error ->> 'sqlstate'), '')
                 || coalesce(', ' || nullif(v_page.error ->> 'reason', v_page.error ->> 'sqlstate'), ''), ': whoever takes it is killed'), p_tries,
        coalesce(v_page.error ->> 'remedy', 'See the log of sync-page.')),
      jsonb_build_object('entity', v_page.entity_type, 'capture', v_page.capture, 'page', v_page.page, 'tries', v_page.tries, 'chains', v_page.chains, 'error', v_page.error),
      v_page.capture) where v_page.is_told;
    v_kept := v_kept || array(select a.id from public.sync_alerts a
                               where a.kind = 'page_retried' and a.source_id = p_source_id and a.entity_id is not distinct from v_page.entity_id
                                 and a.subject = v_page.capture and a.closed_at is null);
  end loop;
  perform sync.close_alerts(array(
    select a.id from public.sync_alerts a where a.kind = 'page_retried' and a.source_id = p_source_id and a.closed_at is null and a.id <> all (v_kept)));
end
$$;
comment on function sync.tell_retried_pages(smallint, integer) is
  'Opens or counts the alert page_retried for pages that were tried in vain seven times, or as often as their job '
  'says (retries), and closes it where none is any more: the page has landed, or its chain has ended. p_tries: after '
  'how many a chain is stopped.';

revoke all on function sync.tell_internal(public.sync_chains, jsonb), sync.tell_retried_pages(smallint, integer) from public;
grant execute on function sync.tell_internal(public.sync_chains, jsonb), sync.tell_retried_pages(smallint, integer) to isthmus_worker;

-- supabase/schemas/functions/page-claims.sql

-- Purpose: claim a page under a lease, or give it back.
-- Locks:   the chain's row; the execution's row when a chain closes.

create function sync.claim_page(p_chain uuid, p_page integer, p_lease_seconds integer, p_parties jsonb, p_delivery text, p_attempt integer) returns jsonb
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_chain   public.sync_chains;
  v_now     timestamptz := clock_timestamp();
  v_crashed boolean;
begin
  select * into v_chain from public.sync_chains where id = p_chain for update;
  if not found or v_chain.page < p_page then
    perform sync.note_page_ahead(p_chain, p_page);
  end if;
  if v_chain.state is distinct from 'open' then
    return jsonb_build_object('outcome', 'closed');
  end if;
  if v_chain.page <> p_page then
    return jsonb_build_object('outcome', 'stale');
  end if;
  -- The queue delivers a message again when the attempt before has ended without a good answer: whoever had the lease
  -- was killed. Should that one live after all, its commit finds another lease.
  if v_chain.lease_until > v_now and (v_chain.delivery = p_delivery and v_chain.attempt < p_attempt) is not true then
    return jsonb_build_object('outcome', 'leased');
  end if;
  if sync.cancel_chain(v_chain) then
    return jsonb_build_object('outcome', 'closed');
  end if;
  -- Due at once when it goes on.
  if sync.is_held(v_chain) then
    update public.sync_chains set due_at = v_now, lease_until = null, unclaimed = 0, refusals = 0, refusal = null, waits_since = null where id = p_chain;
    return jsonb_build_object('outcome', 'paused');
  end if;
  perform sync.check_parties(x, p_parties) from public.sync_executions x where x.id = v_chain.execution_id;
  -- The sweep sends it again when the source answers. An adoption does not ask the source.
  if v_chain.capture <> 'adopt' and (select sync.refuses(x.source_id) from public.sync_executions x where x.id = v_chain.execution_id) is not null then
    update public.sync_chains set unclaimed = 0, refusals = 0, refusal = null, waits_since = null where id = p_chain;
    return jsonb_build_object('outcome', 'source_refuses');
  end if;
  -- A lease that was never given back: the function was killed, perhaps for its memory. An eighth is tried, for each
  -- try costs a delivery or a lease. A page of one record that kills its worker again is told to the function, which
  -- puts the record into the queue.
  v_crashed := v_chain.lease_until is not null;
  update public.sync_chains
     set lease = lease + 1,
         delivery = p_delivery,
         attempt = p_attempt,
         lease_until = v_now + make_interval(secs => p_lease_seconds),
         due_at = v_now + make_interval(secs => p_lease_seconds),
         page_size = case when v_crashed then greatest(1, page_size / 8) else page_size end,
         slow_growth = slow_growth or v_crashed,
         crashes = crashes + (v_crashed and page_size = 1)::integer,
         failures = failures + (v_crashed and page_size = 1)::integer,
         unclaimed = 0, refusals = 0, refusal = null, waits_since = null
   where id = p_chain
  returning * into v_chain;
  return jsonb_build_object(
    'outcome', 'claimed',
    'chain', to_jsonb(v_chain) - 'counts' || jsonb_build_object('changed_from', v_chain.changed_from::text, 'seen_before', v_chain.seen_before::text,
               'range_from', v_chain.range_from::text, 'range_to', v_chain.range_to::text, 'cursor', v_chain."cursor"::text,
               'table_file', v_chain.table_file::text, 'up_to', v_chain.up_to::text),
    'execution', (select jsonb_build_object('id', e.id, 'horizon', e.horizon::text, 'snapshot_xmax', e.snapshot_xmax::text,
                           'system_identifier', e.system_identifier, 'timeline', e.timeline, 'database_oid', e.database_oid::text,
                           -- Beside one that reads a few keys, another may have read a newer state. A whole one has
                           -- looked at its checkpoints.
                           'not_before', greatest(e.horizon, (
                              select max(k.horizon) from public.sync_checkpoints k join public.sync_entities t on t.id = v_chain.entity_id
                               where k.source_id = t.source_id and k.entity_type = t.entity_type
                                 and (k.system_identifier, k.timeline, k.database_oid) = (e.system_identifier, e.timeline, e.database_oid)
                                 and not exists (select from public.sync_chains c where c.execution_id = e.id and c.capture = 'validate')))::text,
                           'entities', e.entities, 'dry_run', e.dry_run, 'page_size', e.request -> 'pageSize',
                           'compared', case when v_chain.capture = 'validate' then to_jsonb(array(
                              select t.entity_type from public.sync_entities t
                               where exists (select from public.sync_chains c where c.execution_id = e.id and c.entity_id = t.id
                                                and c.capture not in ('modified', 'selection', 'keys')
                                                -- A look that has found nothing to read is no reason to compare a
                                                -- large table.
                                                and (c.capture in ('full', 'digest') or exists (
                                                       select from public.sync_chains r where r.execution_id = e.id and r.entity_id = t.id and (r.counts ->> 'read')::numeric > 0)))
                               order by array_position(e.entities, t.entity_type::text))) else '[]' end)
                    from public.sync_executions e where e.id = v_chain.execution_id),
    'severities', sync.rule_severities(),
    'source', (select jsonb_build_object('id', s.id, 'name', s.name, 'namespace', s.namespace)
                 from public.sync_executions e join public.sync_sources s on s.id = e.source_id where e.id = v_chain.execution_id),
    'entities', (select jsonb_object_agg(t.entity_type, jsonb_build_object('id', t.id, 'epoch', t.adoption_epoch, 'hash', t.definition_hash))
                   from public.sync_executions e join public.sync_entities t on t.source_id = e.source_id where e.id = v_chain.execution_id),
    'target', sync.target_identity());
end
$$;
comment on function sync.claim_page(uuid, integer, integer, jsonb, text, integer) is
  'Claims the next page of a chain. outcome: claimed, or closed, stale, leased, paused, source_refuses: nothing to '
  'do for this message.';

create function sync.unreferenced_parents(p_entity public.sync_entities) returns table (slot text, parent text)
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select f.slot, e.entity_type
    from jsonb_array_elements(p_entity.columns) d (col)
    join sync.field_slots(p_entity) f on f.name = d.col ->> 'name'
    join public.sync_entities e on e.source_id = p_entity.source_id and e.entity_type = d.col ->> 'parent'
   where not exists (
           select from pg_catalog.pg_constraint c join pg_catalog.pg_attribute a on a.attrelid = c.conrelid and c.conkey = array[a.attnum]
            where c.contype = 'f' and c.conrelid = to_regclass(format('public.%I', p_entity.target_table)) and a.attname = f.name
              and c.confrelid = to_regclass(format('public.%I', e.target_table)))
$$;
comment on function sync.unreferenced_parents(public.sync_entities) is
  'The columns that hold parents'' ids and have no foreign key to the parent''s table, as they are called in '
  'pg_temp.page_rows.';

create function sync.check_cached(p_entity public.sync_entities, p_hits integer) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_field   record;
  v_refused boolean;
begin
  if coalesce(p_hits, 0) = 0 then
    return;
  end if;
  v_refused := exists (select from pg_temp.page_rejects j join pg_temp.page_rows p on p.n = j.n where j.sqlstate = '23503' and not p._leaves);
  -- Where no foreign key asks, the mappings are asked: after the load, so that the page's own records count.
  for v_field in select * from sync.unreferenced_parents(p_entity) where not v_refused loop
    execute format($q$
      select exists (
        -- Of records that do not land, beside a relative of theirs, an id is a page's own that no mapping has.
        select from (select distinct p.%1$I::uuid as id from pg_temp.page_rows p
                      where not p._leaves and p.%1$I is not null
                        and (select r.state from pg_temp.page_relatives r where r.n = p.n and r.state <> 'landed' limit 1) is null offset 0) v
         -- One index probe per parent, whatever the planner thinks.
         where (select m.legacy_id from public.uuid_mappings_enhanced m
                 where m.entity_type = %2$L and m.entity_uuid = v.id and m.sync_status = 'active' limit 1) is null)
    $q$, v_field.slot, v_field.parent) into v_refused;
    exit when v_refused;
  end loop;
  if v_refused then
    raise exception 'the target refused an id of which a cache may be the origin'
      using errcode = 'IS012', hint = 'Nothing was written; the page resolves its ids from the table.';
  end if;
end
$$;
comment on function sync.check_cached(public.sync_entities, integer) is
  'Raises IS012 when ids of parents came from the cache and a record of the page refers to nothing, by a foreign key '
  'or, where there is none, by the mappings: all is rolled back and resolved from the table.';

create function sync.give_back_page(p_chain uuid, p_lease bigint, p_error jsonb, p_retry_seconds integer,
  p_page_size integer default null) returns jsonb
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_chain    public.sync_chains;
  v_dispatch uuid[];
begin
  -- p_retry_seconds null: trying again would not help, the chain fails. A smaller page is progress: it uses up no
  -- try. Its message has a number of its own, whether the one before was noted or not: the queue swallows a repeated
  -- one.
  update public.sync_chains
     set lease_until = null, failures = failures + (p_page_size is null)::integer, last_error = p_error,
         page_size = coalesce(p_page_size, page_size), slow_growth = slow_growth or p_page_size is not null,
         sends = sends + (p_page_size is not null)::integer,
         state = case when p_retry_seconds is null then 'failed' else 'open' end::public.sync_chain_state,
         closed_at = case when p_retry_seconds is null then now() end,
         due_at = case when p_retry_seconds is not null then clock_timestamp() + make_interval(secs => p_retry_seconds) end
   where id = p_chain and lease = p_lease and state = 'open'
  returning * into v_chain;
  if p_page_size is null and v_chain.id is not null and p_error ->> 'code' = 'INTERNAL' then
    perform sync.tell_internal(v_chain, p_error);
  end if;
  if p_page_size is not null and v_chain.id is not null then
    return jsonb_build_array(jsonb_build_object('chain', v_chain.id, 'page', v_chain.page, 'execution', v_chain.execution_id, 'sends', v_chain.sends + 1));
  end if;
  if v_chain.id is null or p_retry_seconds is not null then
    return '[]';
  end if;
  if p_error ->> 'code' = 'BRAKE_APPLIED' then
    perform sync.pull_brake(v_chain.execution_id, v_chain.entity_id, p_error ->> 'kind', p_error ->> 'field', (p_error ->> 'records')::bigint,
      (p_error ->> 'landed')::bigint);
  end if;
  if p_error ->> 'code' = 'KEY_BROKEN' then
    -- The rows are asked before the next execution, which leaves the entity out while they say so.
    update public.sync_contract_checks set source_fingerprint = ''
     where source_id = (select source_id from public.sync_executions where id = v_chain.execution_id);
  end if;
  if p_error ->> 'code' = 'SELECTION_TOO_LARGE' then
    -- Asked for without them, or every later execution would fail on it.
    update public.sync_pending_keys set reason = 'requested' where execution_id is null and entity_id = v_chain.entity_id and reason = 'dependants';
  end if;
  v_dispatch := array(select sync.advance_execution(v_chain.execution_id));
  return (select coalesce(jsonb_agg(jsonb_build_object('chain', c.id, 'page', c.page, 'execution', c.execution_id)), '[]')
            from public.sync_chains c where c.id = any (v_dispatch));
end
$$;
comment on function sync.give_back_page(uuid, bigint, jsonb, integer, integer) is
  'Gives a claimed page back after an error: to be tried again after some seconds, at once with fewer records '
  '(p_page_size), or its chain fails. Returns what can run now.';

revoke all on function sync.claim_page(uuid, integer, integer, jsonb, text, integer), sync.unreferenced_parents(public.sync_entities),
  sync.check_cached(public.sync_entities, integer), sync.give_back_page(uuid, bigint, jsonb, integer, integer) from public;
grant execute on function sync.claim_page(uuid, integer, integer, jsonb, text, integer), sync.unreferenced_parents(public.sync_entities),
  sync.check_cached(public.sync_entities, integer), sync.give_back_page(uuid, bigint, jsonb, integer, integer) to isthmus_worker;

-- supabase/schemas/functions/unchanged-records.sql

-- Purpose: tell the records of a page that nobody has touched on the target since the sync, so that the source's hash
--          alone decides.
-- Locks:   none.

-- Of a record that is told here nothing but the source can have changed: where the source's hash is the kept one,
-- too, a page would find it unchanged and write nothing. Whatever else could decide (queue, warnings, another
-- definition, DDL, a parent that no foreign key holds) leaves the record to the page.
create function sync.untouched_records(p_chain uuid, p_legacy_ids bigint[], p_definition_hash text) returns table (keys bigint[], digests bigint[])
language plpgsql stable security invoker set search_path = pg_catalog, pg_temp set plan_cache_mode = force_custom_plan as $$
declare
  v_chain  public.sync_chains;
  v_entity public.sync_entities;
  v_as_left text;
begin
  select * into strict v_chain from public.sync_chains where id = p_chain;
  select * into strict v_entity from public.sync_entities where id = v_chain.entity_id;
  v_entity := sync.with_types(v_entity);
  v_as_left := sync.as_left_sql(v_entity);
  if v_as_left = 'false'
     or not v_chain.skips_unchanged or v_chain.definition_hash <> p_definition_hash
     or exists (select from public.sync_executions x
                 where x.id = v_chain.execution_id and sync.strategy_of_request(x.request) = 'overwrite_edits')
     or exists (select from sync.unreferenced_parents(v_entity)) then
    return query select '{}'::bigint[], '{}'::bigint[];
    return;
  end if;
  return query execute format($q$
    select coalesce(pg_catalog.array_agg(r.legacy_id), '{}'), coalesce(pg_catalog.array_agg(r.source_digest), '{}')
      from pg_catalog.unnest($1) k (id)
     -- One index probe per record, whatever the planner thinks.
     cross join lateral (
       select s.legacy_id, s.source_digest, s.written_by, s.synced_at from public.sync_row_states s
        where s.entity_id = %1$s and s.legacy_id = k.id and s.gone_at is null and s.source_digest is not null
          and (s.seen_hash is null) = %2$L offset 0) r
     where (select %6$s
              from public.uuid_mappings_enhanced m
             cross join lateral (select t.xmin from public.%5$I t where t.id = m.entity_uuid offset 0) t
             cross join lateral (select r.written_by) s
             where m.source_id = %3$s and m.entity_type = %4$L and m.legacy_id = r.legacy_id and m.sync_status = 'active' limit 1)
       and (select c.id from public.sync_conflicts c
             where c.entity_id = %1$s and c.source_record_id = r.legacy_id and (c.state in ('waiting', 'open') or c.standing) limit 1) is null
       and (select w.legacy_id from public.sync_warnings w where w.entity_id = %1$s and w.legacy_id = r.legacy_id limit 1) is null
       -- What a dry run has planned already, it looks at again.
       and (select d.legacy_id from public.sync_planned_records d
             where d.execution_id = %7$L and d.entity_id = %1$s and d.legacy_id = r.legacy_id limit 1) is null
  $q$, v_entity.id, v_entity.history = 'values', v_entity.source_id, v_entity.entity_type, v_entity.target_table, v_as_left, v_chain.execution_id)
    using p_legacy_ids;
end
$$;
comment on function sync.untouched_records(uuid, bigint[], text) is
  'Of some keys of a page the landed records whose target row is as the sync left it, and of which nothing else is '
  'open: each with the hash of the source''s record as it was read last. p_definition_hash: the definition that the '
  'functions have.';

create function sync.look_at_keys(p_chain uuid, p_legacy_ids bigint[], p_definition_hash text) returns jsonb
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select jsonb_build_object('versions', (select sync.slot_versions(c.entity_id, p_legacy_ids) from public.sync_chains c where c.id = p_chain),
           'keys', u.keys::text[], 'digests', u.digests::text[],
           'others', array(select o.k::text from (select unnest(p_legacy_ids) except select unnest(u.keys)) o (k) order by o.k))
    from sync.untouched_records(p_chain, p_legacy_ids, p_definition_hash) u
$$;
comment on function sync.look_at_keys(uuid, bigint[], text) is
  'Before the records of a full pass''s page are read: the versions of their slots, the untouched ones with their '
  'hashes (sync.untouched_records, in the same order), and the others; integers as text.';

revoke all on function sync.untouched_records(uuid, bigint[], text), sync.look_at_keys(uuid, bigint[], text) from public;
grant execute on function sync.untouched_records(uuid, bigint[], text), sync.look_at_keys(uuid, bigint[], text) to isthmus_worker;

-- supabase/schemas/functions/page-deletes.sql

-- Purpose: what becomes of the records of a page that the source no longer has or no longer lets in.

create function sync.leaving(p_entity public.sync_entities, p_outside bigint[]) returns bigint[]
language sql immutable security invoker set search_path = pg_catalog, pg_temp
as $$ select case when p_entity.predicate ->> 'on_leave' = 'delete' then p_outside else '{}' end $$;
comment on function sync.leaving(public.sync_entities, bigint[]) is
  'Of the records outside the predicate, those that are deleted where they have landed.';

create function sync.gone_landed(p_entity public.sync_entities, p_page jsonb, p_dry_run uuid) returns bigint[]
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select coalesce(array_agg(g::bigint order by g::bigint), '{}')
    from jsonb_array_elements_text(p_page -> 'gone') g
    left join lateral (select m.legacy_id from public.uuid_mappings_enhanced m
                        where m.source_id = p_entity.source_id and m.entity_type = p_entity.entity_type and m.legacy_id = g::bigint and m.sync_status = 'active' limit 1) m on true
    left join lateral (select r.lands from public.sync_planned_records r
                        where r.execution_id = p_dry_run and r.entity_id = p_entity.id and r.legacy_id = g::bigint and r.lands is not null limit 1) r on true
   where coalesce(r.lands, m.legacy_id is not null)
     and (r.lands is true
          or (select s.gone_at from public.sync_row_states s where s.entity_id = p_entity.id and s.legacy_id = g::bigint and s.outside is null) is null)
$$;
comment on function sync.gone_landed(public.sync_entities, jsonb, uuid) is
  'Of the keys of a page that have no record, those that had landed, kept outside their predicate or not, and are '
  'not known to be gone. p_dry_run: as this dry run has planned it.';

create function sync.without_row(p_entity public.sync_entities, p_ids bigint[]) returns bigint[]
language plpgsql stable security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_ids bigint[];
begin
  execute format('select coalesce(array_agg(m.legacy_id), ''{}'') from public.uuid_mappings_enhanced m
                   where m.source_id = $1 and m.entity_type = $2 and m.legacy_id = any ($3)
                     and not exists (select from public.%I t where t.id = m.entity_uuid)', p_entity.target_table)
    into v_ids using p_entity.source_id, p_entity.entity_type, p_ids;
  return v_ids;
end
$$;
comment on function sync.without_row(public.sync_entities, bigint[]) is
  'Of landed records, those whose target row somebody has deleted.';

create function sync.asked_to_delete(p_entity public.sync_entities, p_gone bigint[]) returns bigint[]
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select array(
    select k from unnest(p_gone) k
     where (select c.rule from public.sync_conflicts c
             where c.entity_id = p_entity.id and c.source_record_id = k and c.state = 'open' limit 1) = 'deleted_in_source'
        or p_entity.on_delete ->> 'policy' = 'hard'
           and (select s.legacy_id from public.sync_row_states s where s.entity_id = p_entity.id and s.legacy_id = k) is null
    except select unnest(sync.without_row(p_entity, p_gone)))
$$;
comment on function sync.asked_to_delete(public.sync_entities, bigint[]) is
  'Of records that the source no longer has, those of which a person is asked whether their rows go: was asked '
  'before, or the sync does not know that it wrote them (put back, or never reconciled).';

create function sync.deleting(p_chain public.sync_chains, p_entity public.sync_entities, p_policy text, p_gone bigint[]) returns bigint[]
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select case when not p_chain.deletes then '{}'
              when p_entity.on_delete ->> 'policy' = p_policy then array(select unnest(p_gone) except select unnest(a.keys))
              when p_policy = 'review' then a.keys
              -- What a person has deleted already is only forgotten.
              when p_policy = 'soft' and p_entity.on_delete ->> 'policy' = 'review' then sync.without_row(p_entity, p_gone)
              else '{}' end
    -- What a person has been asked is theirs to decide, whatever the entity says by now.
    from (select case when p_chain.deletes and p_entity.on_delete ->> 'policy' in ('hard', 'soft') then sync.asked_to_delete(p_entity, p_gone) else '{}' end as keys) a
$$;
comment on function sync.deleting(public.sync_chains, public.sync_entities, text, bigint[]) is
  'Of the records that the source no longer has, those that this page deletes in one way: hard or soft, or puts to '
  'review.';

create function sync.deletes_to_review(p_chain public.sync_chains, p_entity public.sync_entities, p_gone bigint[]) returns jsonb
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select coalesce(jsonb_agg(jsonb_build_object('k', k, 'state', 'open', 'type', 'business_rule_violation', 'rule', 'deleted_in_source',
           'retry', 'person',
           'remedy', 'The source no longer has this record' || case when (select s.legacy_id from public.sync_row_states s where s.entity_id = p_entity.id and s.legacy_id = k) is null
                       then ', and its target row is there without the sync having written it: somebody put it back, or an earlier migration left it' else '' end
                     || '. source_wins: its target row is deleted too. target_wins: the row stays.')), '[]')
    from unnest(sync.deleting(p_chain, p_entity, 'review', p_gone)) k
   where k <> all (sync.without_row(p_entity, p_gone))
$$;
comment on function sync.deletes_to_review(public.sync_chains, public.sync_entities, bigint[]) is
  'The records that the source no longer has and that a person decides on, as issues.';

create function sync.keep_gone(p_entity public.sync_entities, p_outside bigint[], p_gone bigint[]) returns void
language sql security invoker set search_path = pg_catalog, pg_temp as $$
  insert into public.sync_row_states as s (entity_id, legacy_id, seen, "left", gone_at, outside)
  select p_entity.id, k, '{}', '{}', now(), o.outside
    from (select unnest(case when p_entity.on_delete ->> 'policy' = 'ignore' then p_gone else '{}' end) as k, null as outside
          union all select unnest(case when p_entity.predicate ->> 'on_leave' = 'keep' then p_outside else '{}' end), true) o
   where exists (select from public.uuid_mappings_enhanced m
                  where m.source_id = p_entity.source_id and m.entity_type = p_entity.entity_type and m.legacy_id = k and m.sync_status = 'active')
  on conflict (entity_id, legacy_id) do update
     -- What a person has decided to keep, and what was gone, is no record outside: only that is looked for in the
     -- source.
     set gone_at = coalesce(s.gone_at, excluded.gone_at), outside = case when s.gone_at is null or s.outside then excluded.outside end, source_digest = null
$$;
comment on function sync.keep_gone(public.sync_entities, bigint[], bigint[]) is
  'Notes of landed records that their rows stay although the source no longer has them, or no longer wants them here.';

create function sync.missing_keys(p_chain public.sync_chains, p_entity public.sync_entities, p_page jsonb) returns setof bigint
language plpgsql stable security invoker set search_path = pg_catalog, pg_temp set plan_cache_mode = force_custom_plan as $$
declare
  v_from bigint := coalesce(p_chain."cursor", p_chain.range_from, '-9223372036854775808');
  v_to   bigint := case when (p_page ->> 'done')::boolean then coalesce(p_chain.range_to, 9223372036854775807) else (p_page ->> 'cursor')::bigint end;
begin
  if p_chain.capture <> 'full' then
    return;
  end if;
  return query execute format($q$
    select k.legacy_id
      from (select m.legacy_id from public.uuid_mappings_enhanced m
             where m.source_id = $1 and m.entity_type = $2 and m.legacy_id between $4 and $5
               -- Deleted, and its row is back.
               and (m.sync_status = 'active' or (select t.id from public.%I t where t.id = m.entity_uuid) is not null)
            -- Somebody may have removed its mapping.
            union select s.legacy_id from public.sync_row_states s where s.entity_id = $3 and s.legacy_id between $4 and $5
            except select p::bigint from jsonb_array_elements_text($7) p) k
     -- One index probe per record, whatever the planner thinks.
     where k.legacy_id is distinct from $6 and (select s.gone_at from public.sync_row_states s where s.entity_id = $3 and s.legacy_id = k.legacy_id and s.outside is null) is null
  $q$, p_entity.target_table) using p_entity.source_id, p_entity.entity_type, p_entity.id, v_from, v_to, p_chain."cursor", p_page -> 'present';
end
$$;
comment on function sync.missing_keys(public.sync_chains, public.sync_entities, jsonb) is
  'Records that landed, of which anything is known, in the key range of a full pass''s page, and that are not among '
  'its records.';

create function sync.ask_for_missing(p_chain public.sync_chains, p_entity public.sync_entities, p_page jsonb, p_gone bigint[], p_dry_run uuid)
returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  -- Looked at under its lock and gone: deleted at the end of the execution, when its children are.
  if not p_chain.deletes and p_entity.on_delete ->> 'policy' <> 'ignore' then
    insert into public.sync_pending_keys (execution_id, entity_id, legacy_id, reason, gone)
    select p_dry_run, p_entity.id, k, 'gone', true from unnest(p_gone) k order by k
    on conflict (entity_id, execution_id, legacy_id) do update set generation = default, requested_at = now(), gone = true;
  end if;
  -- Landed in the key range of a full pass that did not meet it: to be looked at.
  insert into public.sync_pending_keys (execution_id, entity_id, legacy_id, reason)
  select p_dry_run, p_entity.id, k, 'missing' from sync.missing_keys(p_chain, p_entity, p_page) k order by k
  on conflict (entity_id, execution_id, legacy_id) do nothing;
end
$$;
comment on function sync.ask_for_missing(public.sync_chains, public.sync_entities, jsonb, bigint[], uuid) is
  'Has landed records that the source does not have deleted, and those that a full pass did not meet looked at. '
  'p_dry_run: the dry run that asks.';

create function sync.page_surplus(p_chain public.sync_chains, p_entity public.sync_entities, p_page jsonb) returns jsonb
language plpgsql stable security invoker set search_path = pg_catalog, pg_temp as $$
begin
  if p_chain.capture <> 'full' then
    return '{"count": 0}';
  end if;
  return sync.surplus_of(p_entity, p_chain."cursor", p_chain.range_from,
    case when (p_page ->> 'done')::boolean then coalesce(p_chain.range_to, 9223372036854775807) else (p_page ->> 'cursor')::bigint end);
end
$$;
comment on function sync.page_surplus(public.sync_chains, public.sync_entities, jsonb) is
  'Full passes only: target rows in the key range of the page that are no record, because another row is.';

revoke all on function sync.gone_landed(public.sync_entities, jsonb, uuid), sync.without_row(public.sync_entities, bigint[]),
  sync.asked_to_delete(public.sync_entities, bigint[]), sync.deleting(public.sync_chains, public.sync_entities, text, bigint[]),
  sync.deletes_to_review(public.sync_chains, public.sync_entities, bigint[]), sync.keep_gone(public.sync_entities, bigint[], bigint[]),
  sync.ask_for_missing(public.sync_chains, public.sync_entities, jsonb, bigint[], uuid),
  sync.missing_keys(public.sync_chains, public.sync_entities, jsonb), sync.leaving(public.sync_entities, bigint[]),
  sync.page_surplus(public.sync_chains, public.sync_entities, jsonb) from public;
grant execute on function sync.gone_landed(public.sync_entities, jsonb, uuid), sync.without_row(public.sync_entities, bigint[]),
  sync.asked_to_delete(public.sync_entities, bigint[]), sync.deleting(public.sync_chains, public.sync_entities, text, bigint[]),
  sync.deletes_to_review(public.sync_chains, public.sync_entities, bigint[]), sync.keep_gone(public.sync_entities, bigint[], bigint[]),
  sync.ask_for_missing(public.sync_chains, public.sync_entities, jsonb, bigint[], uuid),
  sync.missing_keys(public.sync_chains, public.sync_entities, jsonb), sync.leaving(public.sync_entities, bigint[]),
  sync.page_surplus(public.sync_chains, public.sync_entities, jsonb) to isthmus_worker;

-- supabase/schemas/functions/page-issues.sql

-- Purpose: what goes to the queue of a page: what the database rejected, and what a person decided before.

create function sync.page_overwritten() returns table (n integer, legacy_id bigint, id uuid, fields text[])
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  return query
  select q.n, q.legacy_id, q.id, array_agg(k order by k)
    from pg_temp.page_plan q cross join lateral jsonb_object_keys(q.written) k
   where (q.action = 'soft' and q.now -> k is distinct from q."left" -> k and (q."left" ? k or q.now -> k <> 'null')
          or q.action in ('update', 'review') and q.decided ->> k = 'overwrite')
   group by q.n, q.legacy_id, q.id;
end
$$;
comment on function sync.page_overwritten() is 'Edits by people that the updates of a page overwrite.';

create function sync.page_rejections(p_entity public.sync_entities, p_dry_run uuid, p_of_request text) returns jsonb
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_table      regclass := to_regclass(format('public.%I', p_entity.target_table));
  v_cancelling text;
  v_unmarking  text;
  v_spent      boolean := sync.tries_spent();
  v_exchange   text := format(' If the two exchange values: this page has tried for others as %s as a page may; it is tried again by itself, these first.', case when sync.time_spent() then 'long' else 'often' end);
begin
  if sync.time_spent() then
    v_exchange := v_exchange || coalesce(format(' Each try looks through what refers to such a row without an index: create one on %s.', sync.unindexed_references(v_table)), '');
  end if;
  if exists (select from pg_temp.page_rejects where sqlstate = 'IS004') then
    v_cancelling := sync.cancelling_triggers(v_table, null);
    v_unmarking := sync.cancelling_triggers(v_table, array(select jsonb_object_keys(p_entity.on_delete -> 'set')));
  end if;
  return coalesce((
    select jsonb_agg(jsonb_build_object(
             'k', p._key, 'state', 'open', 'field', coalesce(j.column_name, l.field),
             'rule', coalesce(j.constraint_name, case when p._leaves and j.sqlstate in ('IS001', 'IS004') then 'left_kept' when j.sqlstate = 'IS004' then 'write_cancelled' else j.sqlstate end),
             'type', case when j.sqlstate = '23503' then 'foreign_key_violation'
                          when j.sqlstate = 'IS002' or j.constraint_name ~ '^uuid_mappings_enhanced_' then 'uuid_mapping_conflict'
                          when j.sqlstate ~ '^(22|54|IS001)' or j.sqlstate ~ '^42' and j.column_name is not null then 'schema_mismatch'
                          else 'business_rule_violation' end,
             'retry', case when p._leaves and j.sqlstate in ('IS001', 'IS004') then 'person' when j.sqlstate = '23505' and j.other is not null then 'clash' else 'target' end,
             'remedy', case when p._leaves then sync.leave_remedy(j.sqlstate, v_unmarking)
                            when j.stuck then format('The record exchanges values of the unique index %s with others (the next is %s), and nothing can stand in for one of them meanwhile: every other value is taken, or the type, a constraint or a trigger refuses it. Make the index a DEFERRABLE constraint, or let one of the records have a free value in the source, sync, and then change it to the last one.',
                                                     j.constraint_name, coalesce('record ' || h.legacy_id, 'another row'))
                            when j.sqlstate = '23505' then coalesce('Record ' || h.legacy_id || ' holds', 'Another target row holds') || ' the same unique value: correct one of the two.'
                              || case when v_spent and j.other is not null then v_exchange else '' end
                            when l.n is not null then l.remedy
                            when j.sqlstate ~ '^(23|44)' then 'The target refuses the record: correct it in the source, or change the constraint.'
                            when j.sqlstate = 'IS001' then 'The target column would cut, round or pad the value, or a trigger changes the number: widen the column, correct the value in the source, or change the trigger. Of a time that its zone skips or has twice, inZone in the entity file says which moment is meant.'
                            when j.sqlstate = 'IS004' then 'The target cancels the write of this record without an error' || coalesce(' (trigger ' || v_cancelling || ')', '') || ': correct the record in the source, or change the trigger.'
                            when j.sqlstate ~ '^22' or j.sqlstate ~ '^42' and j.column_name is not null then 'A value does not fit the target column: correct it in the source, or widen the column.'
                            when j.sqlstate = '54001' then 'A value is nested too deeply for the target' || case when j.column_name is null then ', or a trigger of it calls itself without an end' else '' end
                              || ': correct it in the source, or raise the target''s max_stack_depth.'
                            when j.sqlstate = '54000' then 'A value is too long for an index of the target: shorten it in the source, or change the index.'
                            when j.sqlstate ~ '^42' then 'A trigger, an index or a constraint of the target takes a value for a name or a piece of SQL, and refuses it: correct the record in the source, or change these.'
                            else 'A trigger of the target refuses the record: correct it in the source, or change the trigger.' end,
             'data', jsonb_strip_nulls(jsonb_build_object('sqlstate', j.sqlstate, 'constraint', j.constraint_name, 'parent', l.parent, 'parentId', l.parent_id::text, 'cause', l.cause,
                       'circle', case when j.stuck then 'stuck' when j.sqlstate = '23505' and j.other is not null and v_spent then 'untried' end,
                       'tried', nullif(coalesce(t.tried, 0) + case when j.stuck then 1 else 0 end, 0),
                       'triggers', case when j.sqlstate = 'IS004' then case when p._leaves then v_unmarking else v_cancelling end end, 'leaves', case when p._leaves then true end,
                       'clashes_with', case when j.other is not null then jsonb_build_object('legacy_id', h.legacy_id, 'id', j.other) end)),
             'digest', p._digest))
      from pg_temp.page_rejects j join pg_temp.page_rows p on p.n = j.n
      left join (select distinct on (f.n) f.* from sync.lost_parents(p_entity) f) l on l.n = j.n
      left join lateral (
        select m.legacy_id from public.uuid_mappings_enhanced m
         where m.entity_type = p_entity.entity_type and m.entity_uuid = j.other limit 1) m on true
      left join public.sync_planned_records r on r.execution_id = p_dry_run and r.entity_id = p_entity.id and r.id = j.other
      -- What is told of a circle is told of the pages before, too.
      left join lateral (
        select (c.conflict_data ->> 'tried')::integer as tried from public.sync_conflicts c
         where (j.stuck or v_spent) and j.sqlstate = '23505' and j.other is not null
           and c.entity_id = p_entity.id and c.source_record_id = p._key and c.state = 'open' limit 1) t on true
      cross join lateral (select coalesce(m.legacy_id, r.legacy_id) as legacy_id) h), '[]') || coalesce((
    select jsonb_agg(jsonb_build_object(
             'k', r.k, 'state', 'waiting', 'type', 'foreign_key_violation', 'field', r.field, 'rule', 'parent_missing@1',
             'remedy', format('Waits for %s %s.', p_entity.entity_type, r.parent),
             'data', jsonb_build_object('parent', p_entity.entity_type, 'parentId', r.parent::text),
             'parent', p_entity.entity_type, 'parentId', r.parent, 'digest', p._digest))
      from pg_temp.page_relatives r join pg_temp.page_rows p on p.n = r.n where r.state = 'waits'), '[]') || coalesce((
    select jsonb_agg(jsonb_build_object(
             'k', q.legacy_id, 'state', 'open', 'rule', q.action, 'field', q.fields, 'retry', 'person',
             'type', case when q.action in ('target_unmapped', 'ambiguous') then 'uuid_mapping_conflict'
                          when q.action = 'left_kept' then 'business_rule_violation' else 'concurrent_modification' end,
             'remedy', case q.action when 'target_deleted' then 'Somebody deleted the target row. source_wins: it is written again. target_wins: it stays away.'
                                     when 'target_unmapped' then case when q.now ->> p_entity.legacy_key = q.legacy_id::text
                                       then format('The target row of this record is there, but what the sync knew of the row is gone. Do not remove the row; take it over: npm run sync -- adopt %s.', p_entity.entity_type)
                                       else 'Another target row has the id that this record would get: see which record that row is (its legacy key), and give it another id if it has to stay.' end
                                     else sync.leave_remedy(q.action, null) end,
             'evidence', case q.action when 'target_deleted' then jsonb_build_object('record', q.new)
                                       when 'left_edited' then jsonb_build_object('seen', sync.pick(q.seen, sync.unlisted(q.fields)), 'target', sync.pick(q.now, sync.unlisted(q.fields)), 'left', q."left") end,
             'digest', q.digest))
      from pg_temp.page_plan q where q.action ~ '^(target|left)_' or q.action = 'ambiguous'), '[]') || coalesce((
    select jsonb_agg(jsonb_build_object(
             'k', q.legacy_id, 'state', 'open', 'rule', 'both_changed', 'type', 'concurrent_modification', 'retry', 'person',
             'field', sync.listed(f.names),
             'policy', (select string_agg(x.policy, ', ' order by x.policy) from (select distinct
                          (sync.field_strategies(p_entity, p_of_request) ->> n) || ' ' || sync.strategy_origin(p_entity, p_of_request, n) as policy
                            from unnest(f.names) n) x),
             'remedy', 'Both sides have changed it. source_wins: the old application''s value is written. target_wins: the row stays as it is. merge: the values in resolution_data are written.',
             'evidence', jsonb_build_object('seen', sync.pick(q.seen, f.names), 'source', sync.pick(q.new, f.names), 'target', sync.pick(q.now, f.names),
                           'left', sync.pick(q."left", f.names), 'record', case when p_entity.history = 'hashes' then q.new end),
             'digest', q.digest))
      from pg_temp.page_plan q cross join lateral (select sync.decided_fields(q.decided, 'review') as names) f
     where q.action = 'review'), '[]');
end
$$;
comment on function sync.page_rejections(public.sync_entities, uuid, text) is
  'What the database, the present state of the target or a policy stopped of a page, as issues. p_dry_run, '
  'p_of_request: as for sync.load_records.';

create function sync.keep_decided(p_entity public.sync_entities, p_execution uuid, p_of_request text) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  if not exists (select from pg_temp.page_plan where action in ('update', 'unchanged', 'review', 'soft') and (decided is not null or action = 'soft')) then
    return;
  end if;
  with decided as materialized (
    select gen_random_uuid() as conflict_id, x.*, q.seen, q.new, q.now, q."left", q.digest, q.action
      from (select o.n, o.legacy_id, o.id, 'source_wins'::public.conflict_resolution_strategy as strategy, f.fields
              from sync.page_overwritten() o
              -- About the legacy key nothing is to be decided: it is told by itself.
             cross join lateral (select array_agg(k order by k) as fields from unnest(o.fields) k group by k = p_entity.legacy_key) f
            union all
            select r.n, r.legacy_id, r.id, 'target_wins', sync.decided_fields(r.decided, 'retain') from pg_temp.page_plan r
             where r.action in ('update', 'unchanged', 'review') and r.decided @? '$.* ? (@ == "retain")') x
      join pg_temp.page_plan q on q.n = x.n
     -- A difference that stays is told once.
     where x.strategy <> 'target_wins' or not exists (
             select from public.sync_conflicts c join public.sync_conflict_values v on v.conflict_id = c.id
              where c.entity_id = p_entity.id and c.source_record_id = x.legacy_id and c.rule = 'both_changed'
                and c.resolved_by = 'policy' and c.resolution_strategy = 'target_wins' and c.field = sync.listed(x.fields)
                and v.source = sync.pick(q.new, x.fields) and v.target = sync.pick(q.now, x.fields))
  ), kept as (
    insert into public.sync_conflicts
      (id, state, entity_id, entity_type, source_record_id, conflict_type, field, differences, rule, policy, remedy, conflict_data,
       resolution_strategy, resolved_at, resolved_by, asked, source_table, target_table, target_record_id, execution_id, resolved_in, source_digest)
    select d.conflict_id, 'resolved', p_entity.id, p_entity.entity_type, d.legacy_id, 'concurrent_modification', sync.listed(d.fields),
           sync.differences(p_entity.columns, d.fields, d.seen, d.new, d.now, true), 'both_changed',
           d.strategy || ' ' || sync.strategy_origin(p_entity, p_of_request, d.fields[1]),
           case when p_entity.legacy_key = any (d.fields) then 'Somebody changed the legacy key of the row. It says which record the row is, and was written back: nothing is to be decided.'
                else 'Decided by policy; what was not written is kept. Set another strategy, and it is written instead.' end,
           jsonb_build_object('fields', d.fields), d.strategy, now(), 'policy', d.fields, p_entity.source_table, p_entity.target_table, d.id, p_execution,
           p_execution, d.digest
      from decided d
  )
  insert into public.sync_conflict_values (conflict_id, seen, source, target, "left", after, record)
  select d.conflict_id, sync.pick(d.seen, d.fields), case when d.action <> 'soft' then sync.pick(d.new, d.fields) end, sync.pick(d.now, d.fields),
         sync.pick(d."left", d.fields), case when d.action <> 'soft' then sync.pick(case d.strategy when 'source_wins' then d.new else d.now end, d.fields) end,
         case when p_entity.history = 'hashes' then d.new end
    from decided d;
end
$$;
comment on function sync.keep_decided(public.sync_entities, uuid, text) is
  'What a policy has decided on a page where both sides had changed something: as decided conflicts, with the values '
  'that were not written.';

revoke all on function sync.page_rejections(public.sync_entities, uuid, text), sync.keep_decided(public.sync_entities, uuid, text),
  sync.page_overwritten() from public;
grant execute on function sync.page_rejections(public.sync_entities, uuid, text), sync.keep_decided(public.sync_entities, uuid, text),
  sync.page_overwritten() to isthmus_worker;

-- supabase/schemas/functions/sides.sql

-- Purpose: compare what the target knows of an entity's records with itself: its mappings, row states and rows. What
--          somebody has lost, put back or changed on one of these sides is found, mapped again where it is certain,
--          or told.
-- Locks:   none beyond those of the statements. Application rows are read, never locked.

create function sync.unmarked_sql(p_entity public.sync_entities) returns text
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  -- Marked by the sync, and not kept by a decision: of hashes, 0 is what nothing fits.
  select case when p_entity.on_delete ->> 'policy' = 'soft' and p_entity.on_delete -> 'set' is not null then format(
    '(t.id is not null and s.gone_at is not null and s.outside is null and case when s."left" is null then s.seen_hash = 0 else s."left" || %1$L::jsonb = s."left" end
      and (select to_jsonb(x.*) || %1$L::jsonb <> to_jsonb(x.*) from (select %2$s) x))', (sync.kept_marks(p_entity)).marks, sync.owned_columns(p_entity)) else 'false' end
$$;
comment on function sync.unmarked_sql(public.sync_entities) is
  'SQL: whether the target row t of a record that was deleted in the source (row state s) no longer has the mark '
  'that the sync gave it.';

create function sync.differing_sides(p_entity public.sync_entities, p_from bigint, p_to bigint) returns bigint[]
language plpgsql stable security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_buckets bigint[];
begin
  execute format($q$
    select array_agg(x.bucket order by x.bucket)
      from (
        select y.bucket
          from (
            select legacy_id >> 12 as bucket, count(*) as mapped, sum(hashint8extended(legacy_id, 0)) as mapped_keys,
                   sum(uuid_hash_extended(entity_uuid, legacy_id)) as mapped_rows, 0 as states, 0 as state_keys, 0 as found, 0 as found_rows
              from public.uuid_mappings_enhanced
             where source_id = %3$s and entity_type = %4$L and legacy_id between $1 and $2 and sync_status = 'active' group by 1
            union all
            select legacy_id >> 12, 0, 0, 0, count(*), sum(hashint8extended(legacy_id, 0)), 0, 0
              from public.sync_row_states where entity_id = %5$s and legacy_id between $1 and $2 group by 1
            union all
            select t.%2$I::bigint >> 12, 0, 0, 0, 0, 0, count(*), sum(uuid_hash_extended(t.id, t.%2$I::bigint))
              from public.%1$I t where t.%2$I between $1 and $2 group by 1) y
         group by y.bucket
        having (sum(y.mapped), sum(y.mapped_keys), sum(y.mapped), sum(y.mapped_rows))
                 is distinct from (sum(y.states), sum(y.state_keys), sum(y.found), sum(y.found_rows))) x
  $q$, p_entity.target_table, p_entity.legacy_key, p_entity.source_id, p_entity.entity_type, p_entity.id)
    into v_buckets using p_from, p_to;
  return coalesce(v_buckets, '{}');
end
$$;
comment on function sync.differing_sides(public.sync_entities, bigint, bigint) is
  'Buckets of 4,096 legacy ids in which mappings, row states and target rows are not the same records. Sums are '
  'compared: nothing is joined.';

-- Settings are pinned as they are where rows are loaded.
create function sync.strayed_records(p_entity_id smallint, p_from bigint, p_to bigint, p_limit integer, p_dry_run uuid)
returns table (legacy_id bigint, finding text, id uuid, as_left boolean, taken boolean)
language plpgsql stable security invoker
set search_path = pg_catalog, pg_temp set timezone = 'UTC' set timezone_abbreviations = 'Default' set datestyle = 'ISO, YMD'
set intervalstyle = 'iso_8601' set extra_float_digits = 3 set bytea_output = 'hex' set xmloption = 'content' set lc_monetary = 'C'
set array_nulls = on set standard_conforming_strings = on set quote_all_identifiers = off set transform_null_equals = off as $$
declare
  v_entity  public.sync_entities;
  v_buckets bigint[];
begin
  select * into strict v_entity from public.sync_entities where sync_entities.id = p_entity_id;
  v_buckets := sync.differing_sides(v_entity, p_from, p_to);
  if v_buckets = '{}' then
    return;
  end if;
  -- Only within the buckets that differ, and there one index probe per record, whatever the planner thinks.
  return query execute format($q$
    select f.* from unnest($1) b (bucket)
      cross join lateral (select greatest(b.bucket << 12, $2) as low, least((b.bucket << 12) + 4095, $3) as high) r
      cross join lateral (
        select coalesce(m.legacy_id, s.legacy_id),
               case when s.legacy_id is null and m.sync_status = 'active' then 'state_lost' when s.legacy_id is null then 'returned' else 'mapping_lost' end,
               m.entity_uuid, false, false
          from (select u.legacy_id, u.entity_uuid, u.sync_status from public.uuid_mappings_enhanced u
                 where u.source_id = %3$s and u.entity_type = %4$L and u.legacy_id between r.low and r.high) m
          full join (select w.legacy_id from public.sync_row_states w where w.entity_id = %5$s and w.legacy_id between r.low and r.high) s
            on s.legacy_id = m.legacy_id
         where case when m.legacy_id is null then true
                    when s.legacy_id is not null then m.sync_status <> 'active'
                    when m.sync_status <> 'active' then (select t.id from public.%1$I t where t.id = m.entity_uuid) is not null
                    -- What is in the queue is known to be there.
                    else (select c.id from public.sync_conflicts c
                           where c.entity_id = %5$s and c.source_record_id = m.legacy_id and (c.state in ('waiting', 'open') or c.standing) limit 1) is null end
        union all
        select t.%2$I::bigint, 'unmapped', t.id,
               case when s.legacy_id is null then false
                    when s.left_hash is null then (select to_jsonb(x.*) from (select %6$s) x) = s."left"
                    else s.left_hash = hashtextextended((select to_jsonb(x.*)::text from (select %6$s) x), 0) end,
               (select m.legacy_id from public.uuid_mappings_enhanced m
                 where m.source_id = %3$s and m.entity_type = %4$L and m.legacy_id = t.%2$I limit 1) is not null
          from public.%1$I t
          left join lateral (select w.* from public.sync_row_states w where w.entity_id = %5$s and w.legacy_id = t.%2$I limit 1) s on true
         where t.%2$I between r.low and r.high
           and (select m.legacy_id from public.uuid_mappings_enhanced m where m.entity_type = %4$L and m.entity_uuid = t.id) is null
           -- What an adoption has found is in the queue, or was decided.
           and (select a.legacy_id from public.sync_adoption_rows a where a.entity_id = %5$s and a.legacy_id = t.%2$I and a.id = t.id) is null) f (legacy_id, finding, id, as_left, taken)
     -- What a dry run has read already, a run would have put right.
     where case when $5 is null then true else (
             select r.legacy_id from public.sync_planned_records r
              where r.execution_id = $5 and r.entity_id = %5$s and r.legacy_id = f.legacy_id
                and case f.finding when 'mapping_lost' then r.lands or r.rule = 'both_changed' when 'unmapped' then r.lands and r.id = f.id
                                   else r.lands is not null or r.outcome in ('waiting', 'in_conflict', 'waived') end) is null end
     order by 1, 2 limit $4
  $q$, v_entity.target_table, v_entity.legacy_key, v_entity.source_id, v_entity.entity_type, v_entity.id, sync.owned_columns(v_entity))
    using v_buckets, p_from, p_to, p_limit, p_dry_run;
end
$$;
comment on function sync.strayed_records(smallint, bigint, bigint, integer, uuid) is
  'Records in a key range of which the target''s own sides do not agree. state_lost: mapped, and nothing else is '
  'known. mapping_lost: known, and not mapped as landed. returned: deleted, and the row is there. unmapped: a row '
  'with a legacy id that nothing maps (as_left: it holds what the sync left; taken: its legacy id is mapped to '
  'another row). p_dry_run: as for sync.known_records.';

create function sync.map_found(p_entity public.sync_entities, p_mapped jsonb) returns void
language sql security invoker set search_path = pg_catalog, pg_temp as $$
  insert into public.uuid_mappings_enhanced (source_id, entity_type, legacy_id, entity_uuid, source_table, target_table)
  select p_entity.source_id, p_entity.entity_type, x.k, x.id, p_entity.source_table, p_entity.target_table
    from jsonb_to_recordset(p_mapped) as x (k bigint, id uuid)
   where not exists (select from public.sync_adoption_rows a where a.entity_id = p_entity.id and a.legacy_id = x.k and a.undecided)
   order by x.k
  on conflict do nothing
$$;
comment on function sync.map_found(public.sync_entities, jsonb) is
  'Maps records again whose mapping somebody has removed: [{k, id}].';

create function sync.map_again(p_entity public.sync_entities, p_unmapped bigint[]) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  insert into public.uuid_mappings_enhanced as m (source_id, entity_type, legacy_id, entity_uuid, source_table, target_table)
  select p_entity.source_id, p_entity.entity_type, q.legacy_id, q.id, p_entity.source_table, p_entity.target_table
    from pg_temp.page_plan q
   where q.action in ('update', 'unchanged', 'review') and q.legacy_id = any (p_unmapped)
   order by q.legacy_id
  on conflict (source_id, entity_type, legacy_id) do update set sync_status = 'active' where m.entity_uuid = excluded.entity_uuid;
end
$$;
comment on function sync.map_again(public.sync_entities, bigint[]) is
  'Of the records of a page that were not mapped as landed, maps those whose row is there.';

create function sync.ask_for_unmapped_parents() returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  insert into public.sync_pending_keys (entity_id, legacy_id, reason)
  select i.parent_entity_id, i."parentId", 'parent'
    from (select distinct parent_entity_id, "parentId" from pg_temp.page_issues where state = 'waiting' and parent_entity_id is not null) i
   -- One index probe per record, whatever the planner thinks.
   where (select s.legacy_id from public.sync_row_states s where s.entity_id = i.parent_entity_id and s.legacy_id = i."parentId") is not null
     and (select m.legacy_id from public.sync_entities e, public.uuid_mappings_enhanced m
           where e.id = i.parent_entity_id and m.source_id = e.source_id and m.entity_type = e.entity_type and m.legacy_id = i."parentId" and m.sync_status = 'active') is null
   order by 1, 2
  on conflict (entity_id, execution_id, legacy_id) do nothing;
end
$$;
comment on function sync.ask_for_unmapped_parents() is
  'Asks for the parents that records of a page wait for although they have landed: somebody has removed their '
  'mappings, and reading them puts these right.';

-- Settings are pinned as they are where rows are loaded.
create function sync.find_again(p_entity public.sync_entities, p_absent bigint[], p_ids uuid[]) returns void
language plpgsql security invoker set plan_cache_mode = force_custom_plan
set search_path = pg_catalog, pg_temp set timezone = 'UTC' set timezone_abbreviations = 'Default' set datestyle = 'ISO, YMD'
set intervalstyle = 'iso_8601' set extra_float_digits = 3 set bytea_output = 'hex' set xmloption = 'content' set lc_monetary = 'C'
set array_nulls = on set standard_conforming_strings = on set quote_all_identifiers = off set transform_null_equals = off as $$
declare
  v_forgotten bigint[];
begin
  if p_absent = '{}' then
    return;
  end if;
  -- The row of a deleted record is back.
  execute format($q$
    update public.uuid_mappings_enhanced m set sync_status = 'active'
     where m.source_id = $1 and m.entity_type = $2 and m.legacy_id = any ($3) and m.sync_status <> 'active'
       and (select t.id from public.%I t where t.id = m.entity_uuid) is not null
  $q$, p_entity.target_table) using p_entity.source_id, p_entity.entity_type, p_absent;
  -- The row has the id that only this record gets.
  execute format($q$
    select sync.map_found($1, coalesce(jsonb_agg(jsonb_build_object('k', a.k, 'id', a.id)), '[]'))
      from unnest($2, $3) a (k, id)
     where (select t.id from public.%I t where t.id = a.id) is not null
       and (select m.legacy_id from public.uuid_mappings_enhanced m
             where m.source_id = ($1).source_id and m.entity_type = ($1).entity_type and m.legacy_id = a.k) is null
  $q$, p_entity.target_table) using p_entity, p_absent, p_ids;
  -- Somebody took the mark off: it is deleted once more, and what the row holds is kept.
  if p_entity.on_delete ->> 'policy' = 'soft' then
    execute format($q$
      update public.sync_row_states w set gone_at = null, outside = null
       where w.entity_id = %4$s and w.legacy_id = any (array(
         select a.k from unnest($1) a (k)
          cross join lateral (select r.* from public.sync_row_states r where r.entity_id = %4$s and r.legacy_id = a.k limit 1) s
          cross join lateral (select m.entity_uuid from public.uuid_mappings_enhanced m
                               where m.source_id = %2$s and m.entity_type = %3$L and m.legacy_id = a.k and m.sync_status = 'active' limit 1) m
          where (select %5$s from public.%1$I t where t.id = m.entity_uuid)))
    $q$, p_entity.target_table, p_entity.source_id, p_entity.entity_type, p_entity.id, sync.unmarked_sql(p_entity)) using p_absent;
  end if;
  v_forgotten := array(
    select a.k from unnest(p_absent) a (k)
     where (select s.legacy_id from public.sync_row_states s where s.entity_id = p_entity.id and s.legacy_id = a.k) is not null
       and (select m.legacy_id from public.uuid_mappings_enhanced m
             where m.source_id = p_entity.source_id and m.entity_type = p_entity.entity_type and m.legacy_id = a.k and m.sync_status = 'active') is null);
  if v_forgotten <> '{}' then
    -- Nothing is left of these on either side.
    execute format('delete from public.sync_row_states s where s.entity_id = $1 and s.legacy_id = any ($2)
                      and s.legacy_id not in (select t.%2$I::bigint from public.%1$I t where t.%2$I = any ($2))', p_entity.target_table, p_entity.legacy_key)
      using p_entity.id, v_forgotten;
  end if;
end
$$;
comment on function sync.find_again(public.sync_entities, bigint[], uuid[]) is
  'Before records that the source no longer has are judged: maps those again whose row is there, and forgets those '
  'of which nothing is. p_ids: the ids that the sync makes for them.';

create function sync.tell_digest(p_execution uuid, p_entity public.sync_entities, p_edits jsonb) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_found  jsonb := (select body from public.sync_reports where execution_id = p_execution and kind = 'digest:' || p_entity.entity_type);
  v_edited bigint := (v_found #>> '{edited,count}')::bigint;
  v_alert  public.sync_alerts;
  v_before bigint;
begin
  if (v_found #>> '{unmapped,count}')::bigint > 0 then
    perform sync.raise_alert('unmapped_rows', 'warning', null, p_execution, p_entity.id,
      format('%1$s: %2$s target rows have a legacy id, and nothing says which records they are: somebody put them in, or removed their mappings. To take them over as records: npm run sync -- adopt %1$s (one whose legacy id is mapped to a row that is gone: delete that mapping from uuid_mappings_enhanced first). If they are no records: remove the rows, or empty their legacy ids.',
        p_entity.entity_type, v_found #>> '{unmapped,count}'),
      jsonb_build_object('rows', v_found #> '{unmapped,count}', 'legacy_ids', jsonb_path_query_array(v_found, '$.unmapped.legacy_ids[0 to 19]')));
  else
    perform sync.close_alerts(array(select id from public.sync_alerts where kind = 'unmapped_rows' and entity_id = p_entity.id and closed_at is null));
  end if;

  select * into v_alert from public.sync_alerts where kind = 'edited_widely' and entity_id = p_entity.id and closed_at is null;
  -- People edit one record after the other: what stood there at the last comparison, they were told of then.
  v_before := coalesce((v_alert.details ->> 'before')::bigint, (
    select (r.body #>> '{edited,count}')::bigint from public.sync_reports r join public.sync_executions x on x.id = r.execution_id
     where r.kind = 'digest:' || p_entity.entity_type and r.execution_id <> p_execution and x.source_id = p_entity.source_id and not x.dry_run
     order by r.created_at desc limit 1), 0);
  if v_edited - v_before > (p_edits ->> 'records')::integer
     and v_edited - v_before > (p_edits ->> 'share')::numeric * (select count(*) from public.sync_row_states s where s.entity_id = p_entity.id and s.gone_at is null) then
    perform sync.raise_alert('edited_widely', 'critical', null, p_execution, p_entity.id,
      format('%1$s: %2$s target rows hold other values than the sync left, %3$s of them since they were compared before. If people wrote them, there is nothing to do: they stay. If a backup was put back or a script has written them, take the source''s values: look with npm run sync -- plan %1$s --capture digest --overwrite-edits, then npm run sync -- start %1$s --capture digest --overwrite-edits. What that overwrites is kept in the queue, and what a person has decided stays.',
        p_entity.entity_type, v_edited, v_edited - v_before),
      jsonb_build_object('edited', v_edited, 'before', v_before));
  elsif v_alert.id is not null then
    perform sync.close_alerts(array[v_alert.id]);
  end if;
end
$$;
comment on function sync.tell_digest(uuid, public.sync_entities, jsonb) is
  'At the end of a digest: alerts for rows that nothing maps, and for far more edits than at the comparison before '
  '({share, records}); closes them when that is over.';

revoke all on function sync.unmarked_sql(public.sync_entities), sync.differing_sides(public.sync_entities, bigint, bigint),
  sync.strayed_records(smallint, bigint, bigint, integer, uuid), sync.map_found(public.sync_entities, jsonb),
  sync.map_again(public.sync_entities, bigint[]), sync.ask_for_unmapped_parents(), sync.find_again(public.sync_entities, bigint[], uuid[]),
  sync.tell_digest(uuid, public.sync_entities, jsonb) from public;
grant execute on function sync.unmarked_sql(public.sync_entities), sync.differing_sides(public.sync_entities, bigint, bigint),
  sync.strayed_records(smallint, bigint, bigint, integer, uuid), sync.map_found(public.sync_entities, jsonb),
  sync.map_again(public.sync_entities, bigint[]), sync.ask_for_unmapped_parents(), sync.find_again(public.sync_entities, bigint[], uuid[]),
  sync.tell_digest(uuid, public.sync_entities, jsonb) to isthmus_worker;

-- supabase/schemas/functions/page-commit.sql

-- Purpose: commit a page with everything that it changes.
-- Locks:   the slots of a page's records, the chain's row; the execution's row when a chain closes.

create function sync.request_keys(p_execution public.sync_executions, p_chain public.sync_chains, p_page jsonb) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_entity smallint;
  v_asked  bigint[] := array(select a.k from jsonb_to_recordset(p_page -> 'pending') as a (k bigint, r text) where a.r in ('requested', 'dependants', 'parent'));
begin
  create temp table page_requests on commit drop as
  -- Who asks for a record asks for the parents that it waits for, once per execution: two may wait for each other.
  select i.parent_entity_id as entity_id, i."parentId" as legacy_id, 'parent' as reason
    from pg_temp.page_issues i
   where i.state = 'waiting' and i.parent_entity_id is not null
     and (p_execution.selective or i.k = any (v_asked))
     -- One index probe per record, whatever the planner thinks.
     and (select c.id from public.sync_conflicts c
           where c.entity_id = i.parent_entity_id and c.source_record_id = i."parentId"
             and c.state in ('waiting', 'open') and c.last_seen_at >= p_execution.started_at limit 1) is null
     and (select r.legacy_id from public.sync_planned_records r
           where r.execution_id = p_execution.id and r.entity_id = i.parent_entity_id and r.legacy_id = i."parentId" limit 1) is null
   union
  -- Of its own entity a page has them all at once: such records may refer to each other in a circle.
  select e.id, d.k, case when e.id = p_chain.entity_id then 'requested' else 'dependants' end
    from jsonb_to_recordset(p_page -> 'dependants') as d (entity text, k bigint)
    join public.sync_entities e on e.source_id = p_execution.source_id and e.entity_type = d.entity;

  -- An entity that has never run is opened as it would be by a run of its own. Where its rows have to be adopted
  -- first, it is left alone.
  for v_entity in
    select e.id from public.sync_entities e
     where e.adoption_epoch = 0 and e.id in (select entity_id from pg_temp.page_requests) order by e.id
  loop
    begin
      perform sync.open_entity(v_entity, p_execution.dry_run);
    exception when sqlstate 'IS021' then
      delete from pg_temp.page_requests where entity_id = v_entity;
    end;
  end loop;

  insert into public.sync_pending_keys as k (execution_id, entity_id, legacy_id, reason)
  select distinct on (entity_id, legacy_id) case when p_execution.dry_run then p_execution.id end, entity_id, legacy_id, reason
    from pg_temp.page_requests
   order by entity_id, legacy_id, reason
  on conflict (entity_id, execution_id, legacy_id) do update
     set generation = default, requested_at = now(), gone = false,
         -- What was asked for with its dependants stays so.
         reason = case when k.reason = 'dependants' then k.reason else excluded.reason end;
end
$$;
comment on function sync.request_keys(public.sync_executions, public.sync_chains, jsonb) is
  'Has the missing parents and the dependants of selected records read as well.';

-- No plan is kept from one page to the next: it would be one for the small tables of then.
create function sync.commit_page(p_chain uuid, p_lease bigint, p_records text, p_issues jsonb, p_page jsonb) returns jsonb
language plpgsql security invoker set search_path = pg_catalog, pg_temp set plan_cache_mode = force_custom_plan as $$
declare
  v_chain    public.sync_chains;
  v_entity   public.sync_entities;
  v_outside  bigint[] := array(select jsonb_array_elements_text(p_page -> 'outside')::bigint);
  v_gone     bigint[];
  v_surplus  jsonb;
  v_begun    timestamptz := clock_timestamp();
  v_request  text;
  v_absent   bigint[] := array(select g::bigint from jsonb_array_elements_text(p_page -> 'gone') g);
  v_queued   uuid[];
begin
  v_chain := sync.hold_page(p_chain, p_lease, p_page -> 'versions');
  select * into strict v_entity from public.sync_entities where id = v_chain.entity_id;
  v_entity := sync.with_types(v_entity);
  select sync.strategy_of_request(request) into v_request from public.sync_executions where id = v_chain.execution_id;
  perform sync.find_again(v_entity, v_absent, array(select m::uuid from jsonb_array_elements_text(p_page -> 'gone_ids') m));
  v_gone := sync.gone_landed(v_entity, p_page, null);
  perform sync.lock_queued(v_entity.id, array(select k::bigint from jsonb_array_elements_text(p_page -> 'keys') k));
  perform sync.check_leaving(v_chain, v_entity, sync.leaving(v_entity, v_outside));
  perform sync.load_records(v_entity, p_records::json, sync.leaving(v_entity, v_outside) || sync.deleting(v_chain, v_entity, 'hard', v_gone),
    sync.deleting(v_chain, v_entity, 'soft', v_gone), null, v_request);
  perform sync.check_cached(v_entity, (p_page ->> 'cache_hits')::integer);
  perform sync.map_again(v_entity, array(select u::bigint from jsonb_array_elements_text(p_page -> 'unmapped') u));

  perform sync.collect_issues(v_entity, p_issues || sync.page_rejections(v_entity, null, v_request) || sync.deletes_to_review(v_chain, v_entity, v_gone));
  perform sync.queue_records(v_entity, v_chain.execution_id, v_chain.page_size);
  perform sync.ask_for_unmapped_parents();
  perform sync.check_nulled(v_chain, v_entity);
  perform sync.check_overwritten(v_chain, v_entity);

  perform sync.keep_decided(v_entity, v_chain.execution_id, v_request);

  perform sync.record_warnings(v_entity.id, v_chain.execution_id, p_page -> 'warnings');
  perform sync.tell_otherwise(v_entity, v_chain.execution_id,
    array(select distinct f from pg_temp.page_plan q cross join lateral unnest(q.otherwise) f where q.otherwise is not null));

  -- Landed after all, or no difference any more.
  v_queued := sync.queue_rows(v_entity.id, array(
    select legacy_id from pg_temp.page_plan where action in ('insert', 'update', 'unchanged', 'review', 'delete', 'soft') order by legacy_id));
  if v_queued <> '{}' then
    update public.sync_conflicts c set standing = false where c.id = any (v_queued) and c.standing;
    update public.sync_conflicts c
       set state = 'resolved', resolved_at = now(), resolved_by = 'sync', resolved_in = v_chain.execution_id
      from pg_temp.page_plan q
     -- As text, so that no index of all live rows can serve: the rows are found by their ids.
     where c.id = any (v_queued) and c.source_record_id = q.legacy_id and c.state::text in ('waiting', 'open')
       and q.action in ('insert', 'update', 'unchanged');
  end if;

  -- Gone from the source: nothing is left to wait for or to decide. Who waits for such a record is told.
  -- What had landed is decided on where it is deleted.
  update public.sync_conflicts c
     set state = 'resolved', resolved_at = now(), resolved_by = 'sync: gone from the source', resolved_in = v_chain.execution_id
   where c.entity_id = v_entity.id and c.source_record_id = any (v_absent) and c.state in ('waiting', 'open')
     and case when v_chain.deletes then not exists (select from pg_temp.page_issues i where i.k = c.source_record_id)
              else c.source_record_id <> all (v_gone) end;

  update public.sync_conflicts c set standing = false
   where c.entity_id = v_entity.id and c.standing
     and c.source_record_id = any (v_absent || v_outside);
  perform sync.note_changed_causes(v_entity.id, v_absent || v_outside);

  -- Not to be transferred any more: likewise.
  update public.sync_conflicts c
     set state = 'resolved', resolved_at = now(), resolved_by = 'sync: waived by ' || (v_entity.predicate ->> 'rule'),
         resolved_in = v_chain.execution_id
   where c.entity_id = v_entity.id and c.source_record_id = any (v_outside) and c.state in ('waiting', 'open')
     and not exists (select from pg_temp.page_issues i where i.k = c.source_record_id);

  -- Children that waited for a record of this page: as many as the commit bears. sync.release_waiting asks for the
  -- others.
  insert into public.sync_pending_keys (entity_id, legacy_id, reason)
  select c.entity_id, c.source_record_id, 'released'
    from (select w.* from pg_temp.page_plan q
           cross join lateral (
             select c.entity_id, c.source_record_id from public.sync_conflicts c
              where c.state = 'waiting' and c.parent_entity_id = v_entity.id and c.parent_legacy_id = q.legacy_id offset 0) w
           where q.action = 'insert' limit 10000) c
   order by c.entity_id, c.source_record_id
  on conflict (entity_id, execution_id, legacy_id) do nothing;

  if v_chain.capture = 'keys' then
    delete from public.sync_pending_keys k
     using jsonb_to_recordset(p_page -> 'pending') as a (k bigint, g bigint)
     where k.execution_id is null and k.entity_id = v_entity.id and k.legacy_id = a.k and k.generation = a.g;
  end if;
  perform sync.keep_gone(v_entity, v_outside, v_gone);
  perform sync.ask_for_missing(v_chain, v_entity, p_page, v_gone, null);

  perform sync.request_keys(x, v_chain, p_page) from public.sync_executions x where x.id = v_chain.execution_id;

  v_surplus := sync.page_surplus(v_chain, v_entity, p_page);
  if (v_surplus ->> 'count')::integer > 0 then
    perform sync.raise_alert('surplus', 'warning', null, v_chain.execution_id, v_entity.id,
      'Target rows that are no record: another row is the record (duplicates).', v_surplus);
  end if;
  return sync.end_page(v_chain, v_entity, p_page, v_surplus, v_begun);
end
$$;
comment on function sync.commit_page(uuid, bigint, text, jsonb, jsonb) is
  'Everything a page changes: target rows, mappings, row states, queue, released children, counters, cursor, '
  'checkpoint and the next chains.';

revoke all on function sync.request_keys(public.sync_executions, public.sync_chains, jsonb),
  sync.commit_page(uuid, bigint, text, jsonb, jsonb) from public;
grant execute on function sync.request_keys(public.sync_executions, public.sync_chains, jsonb),
  sync.commit_page(uuid, bigint, text, jsonb, jsonb) to isthmus_worker;

-- supabase/schemas/functions/sending.sql

-- Purpose: the outbox: which pages are to be sent again, what became of a message that was sent, and who is told.
-- Locks:   the rows of the chains that were sent.

create function sync.overdue_chains(p_limit integer) returns setof jsonb
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select jsonb_build_object('chain', c.id, 'page', c.page, 'execution', c.execution_id, 'sends', c.sends + 1)
    from public.sync_chains c
   where c.state = 'open' and c.due_at <= clock_timestamp() and not sync.is_held(c)
     -- Pages of a source that refuses wait until it answers.
     and (c.capture = 'adopt' or not exists (select from public.sync_executions x join public.sync_sources s on s.id = x.source_id
                                              where x.id = c.execution_id and s.refused_since is not null))
   order by c.due_at limit p_limit
$$;
comment on function sync.overdue_chains(integer) is
  'The sweep: the messages that are overdue. Nothing is marked before the queue has accepted them: two sweeps at '
  'once send the same deduplication id.';

create function sync.note_sends(p_lease_seconds integer, p_sends jsonb) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  -- A chain that nobody takes is sent again after one lease, two, four, up to this.
  c_longest constant integer := greatest(300, p_lease_seconds);
begin
  perform from public.sync_chains c
    where c.id in (select s.chain from jsonb_to_recordset(p_sends) as s (chain uuid)) order by c.id for no key update;
  update public.sync_chains c
     set sends = c.sends + (s.refusal is null)::integer,
         unclaimed = c.unclaimed + (s.refusal is null)::integer,
         refusals = case when s.refusal is null then 0 else c.refusals + 1 end,
         -- What the page failed with stays what it failed with.
         refusal = s.refusal,
         waits_since = coalesce(c.waits_since, least(c.due_at, clock_timestamp())),
         due_at = clock_timestamp() + make_interval(secs => least(c_longest, p_lease_seconds
                    * 2 ^ least(30, case when s.refusal is null then c.unclaimed else c.refusals end)))
    from jsonb_to_recordset(p_sends) as s (chain uuid, page integer, sends integer, refusal jsonb)
   where c.id = s.chain and c.state = 'open' and c.page = s.page
     -- The first message of a page (sends 0) is only noted when the queue refused it. What another sweep noted stands.
     and c.sends = greatest(s.sends, 1) - 1
     -- Taken meanwhile: the message did what it was for.
     and (c.lease_until is null or c.lease_until <= clock_timestamp());
end
$$;
comment on function sync.note_sends(integer, jsonb) is
  'Marks chains by what the queue said of their messages ({chain, page, sends, refusal}): accepted, or refused, to '
  'be sent again after a growing pause.';

create function sync.tell_refused_sends(p_source_id smallint) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_told jsonb;
begin
  -- A blip of a minute is nobody's work. What QStash refuses with a reason stays until somebody acts, or the day is
  -- over.
  select jsonb_build_object('chains', count(*), 'since', min(c.waits_since), 'error', (array_agg(c.refusal order by c.refusals desc))[1])
    into v_told
    from public.sync_chains c join public.sync_executions e on e.id = c.execution_id
   where c.state = 'open' and c.refusals > 0 and e.source_id = p_source_id and not sync.is_held(c)
  having bool_or(c.refusals > 1 or c.refusal ->> 'code' = 'QUEUE_REFUSED');
  if v_told is null then
    perform sync.close_alert('queue_refused', p_source_id);
    return;
  end if;
  perform sync.raise_alert('queue_refused', 'critical', p_source_id, null, null,
    format('QStash does not take the messages of %s chains since %s (%s). %s', v_told ->> 'chains',
      to_char((v_told ->> 'since')::timestamptz at time zone 'UTC', 'YYYY-MM-DD HH24:MI "UTC"'),
      concat_ws(', ', v_told #>> '{error,reason}', 'status ' || (v_told #>> '{error,status}'), 'until ' || (v_told #>> '{error,resetsAt}')),
      v_told #>> '{error,remedy}'),
    v_told);
end
$$;
comment on function sync.tell_refused_sends(smallint) is
  'Opens the alert queue_refused while the queue does not accept what the open chains send, and closes it when it '
  'does again.';

create function sync.unclaimed_chains(p_source_id smallint) returns jsonb
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select jsonb_build_object('chains', count(*), 'since', min(c.waits_since))
    from public.sync_chains c join public.sync_executions e on e.id = c.execution_id
   where c.state = 'open' and c.unclaimed > 1 and e.source_id = p_source_id and not sync.is_held(c)
  having count(*) > 0
$$;
comment on function sync.unclaimed_chains(smallint) is
  'How many open chains the queue has accepted more than one message of and no function has taken, and since when; '
  'null: none.';

create function sync.tell_unrun_pages(p_source_id smallint) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  c_patience constant interval := '8 minutes';
  v_told jsonb;
begin
  select jsonb_build_object('chains', count(*), 'since', min(c.waits_since), 'entities', jsonb_agg(distinct n.entity_type))
    into v_told
    from public.sync_chains c join public.sync_executions e on e.id = c.execution_id join public.sync_entities n on n.id = c.entity_id
   where c.state = 'open' and c.unclaimed > 1 and c.refusals = 0 and c.waits_since <= clock_timestamp() - c_patience and e.source_id = p_source_id and not sync.is_held(c)
  having count(*) > 0;
  -- A queue that is slow brings one page or another meanwhile; from one that brings none, each has been sent more
  -- than once by then.
  if v_told is not null and (
       exists (select from public.sync_chains o join public.sync_executions x on x.id = o.execution_id
                where x.source_id = p_source_id and x.status = 'running' and o.state = 'open' and o.lease_until > clock_timestamp())
       or exists (select from public.sync_page_log l join public.sync_executions x on x.id = l.execution_id
                   where x.source_id = p_source_id and x.status = 'running' and l.committed_at > clock_timestamp() - c_patience)
       -- With the status of the answers there is more to say.
       or exists (select from public.sync_alerts a where a.kind = 'deliveries_refused' and a.source_id = p_source_id and a.closed_at is null)) then
    v_told := null;
  end if;
  if v_told is null then
    perform sync.close_alert('pages_not_run', p_source_id);
    return;
  end if;
  perform sync.raise_alert('pages_not_run', 'critical', p_source_id, null, null,
    format('QStash accepts the pages of %s chains since %s, and no function begins one. They are sent again and again; nothing is lost.', v_told ->> 'chains',
      to_char((v_told ->> 'since')::timestamptz at time zone 'UTC', 'YYYY-MM-DD HH24:MI "UTC"')), v_told);
end
$$;
comment on function sync.tell_unrun_pages(smallint) is
  'Opens the alert pages_not_run where the queue has accepted pages more than once for eight minutes and none was '
  'run, and closes it when one is.';

create function sync.take_look(p_source_id smallint, p_what text, p_seconds integer) returns boolean
language sql security invoker set search_path = pg_catalog, pg_temp as $$
  with look as (
    insert into public.sync_queue_looks as l (source_id, what, looked_at) values (p_source_id, p_what, clock_timestamp())
    on conflict (source_id, what) do update set looked_at = excluded.looked_at
     where l.looked_at <= excluded.looked_at - make_interval(secs => p_seconds)
    returning 1)
  select exists (select from look)
$$;
comment on function sync.take_look(smallint, text, integer) is
  'Whether QStash was not asked about this for so many seconds; from now on it was.';

create function sync.new_dead_letters(p_source_id smallint, p_ids jsonb) returns jsonb
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select coalesce(jsonb_agg(i), '[]') from jsonb_array_elements_text(p_ids) i
   where not exists (select from public.sync_queue_looks l where l.source_id = p_source_id and l.what = 'dead_letters' and i = any (l.dead_letters))
$$;
comment on function sync.new_dead_letters(smallint, jsonb) is 'Of these dead letters, those that nobody was told of.';

create function sync.note_dead_letters(p_source_id smallint, p_ids jsonb) returns void
language sql security invoker set search_path = pg_catalog, pg_temp as $$
  update public.sync_queue_looks set dead_letters = array(select jsonb_array_elements_text(p_ids)) where source_id = p_source_id and what = 'dead_letters'
$$;
comment on function sync.note_dead_letters(smallint, jsonb) is
  'Remembers which dead letters QStash holds, when they have been told: who is killed in between tells them once '
  'more.';

revoke all on function sync.overdue_chains(integer), sync.note_sends(integer, jsonb), sync.tell_refused_sends(smallint),
  sync.unclaimed_chains(smallint), sync.tell_unrun_pages(smallint), sync.take_look(smallint, text, integer), sync.new_dead_letters(smallint, jsonb),
  sync.note_dead_letters(smallint, jsonb) from public;
grant execute on function sync.overdue_chains(integer), sync.note_sends(integer, jsonb), sync.tell_refused_sends(smallint),
  sync.unclaimed_chains(smallint), sync.tell_unrun_pages(smallint), sync.take_look(smallint, text, integer), sync.new_dead_letters(smallint, jsonb),
  sync.note_dead_letters(smallint, jsonb) to isthmus_worker;

-- supabase/schemas/functions/adoption-pages.sql

-- Purpose: take over the ids of a target that an earlier migration filled, page by page.
-- Locks:   the chain's row, the entity's row (no key update); the execution's row when a chain closes. Application
--          rows are read, never locked or written.

create function sync.find_rows(p_entity public.sync_entities, p_after bigint, p_limit integer) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  -- With ties: the rows of one legacy id are judged together, so no page ends among them.
  execute format($q$
    create temp table page_found on commit drop as
    select r.legacy_id, r.id, o.legacy_id as claimed_by,
           case when m.entity_uuid = r.id then 'mapped'
                when m.entity_uuid is not null then case when o.legacy_id is null then 'surplus' else 'claimed' end
                when o.legacy_id is null and count(*) over (partition by r.legacy_id) = 1 then 'adopted'
                else 'undecided' end as verdict
      from (select t.%1$I::bigint as legacy_id, t.id from public.%2$I t
             where t.%1$I >= coalesce(%3$L::bigint, '-9223372036854775808') and t.%1$I is distinct from %3$L::bigint order by t.%1$I fetch first %4$s rows with ties) r
      -- One index probe each, whatever the planner thinks.
      left join lateral (select x.entity_uuid from public.uuid_mappings_enhanced x
                          where x.source_id = %5$s and x.entity_type = %6$L and x.legacy_id = r.legacy_id offset 0) m on true
      left join lateral (select x.legacy_id from public.uuid_mappings_enhanced x
                          where x.entity_type = %6$L and x.entity_uuid = r.id and (x.source_id, x.legacy_id) <> (%5$s, r.legacy_id) offset 0) o on true
  $q$, p_entity.legacy_key, p_entity.target_table, p_after, p_limit, p_entity.source_id,
    p_entity.entity_type);
end
$$;
comment on function sync.find_rows(public.sync_entities, bigint, integer) is
  'Reads the next target rows by legacy id into pg_temp.page_found, each with its verdict: adopted, mapped '
  '(already), surplus or claimed (the id or the row is taken), undecided.';

create function sync.keep_verdicts(p_entity public.sync_entities, p_chain public.sync_chains, p_last bigint) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  -- What an earlier adoption found among these ids is found anew.
  delete from public.sync_adoption_rows
   where entity_id = p_entity.id and legacy_id >= coalesce(p_chain."cursor", '-9223372036854775808') and legacy_id is distinct from p_chain."cursor" and legacy_id <= p_last;
  insert into public.sync_adoption_rows (entity_id, legacy_id, id, undecided, claimed_by)
  select p_entity.id, f.legacy_id, f.id, f.verdict = 'undecided', f.claimed_by
    from pg_temp.page_found f where f.verdict in ('undecided', 'surplus') order by f.legacy_id, f.id;

  insert into public.uuid_mappings_enhanced (source_id, entity_type, legacy_id, entity_uuid, source_table, target_table)
  select p_entity.source_id, p_entity.entity_type, legacy_id, id, p_entity.source_table, p_entity.target_table
    from pg_temp.page_found where verdict = 'adopted' order by legacy_id;
  if found then
    -- A checkpoint says that every record has been read, which is not true of ids adopted since: the next pass is a
    -- full one.
    update public.sync_checkpoints set definition_hash = 'none: ids were adopted since', updated_at = now()
     where source_id = p_entity.source_id and entity_type = p_entity.entity_type;
  end if;

  perform sync.collect_issues(p_entity, coalesce((
    select jsonb_agg(jsonb_build_object('k', legacy_id, 'state', 'open', 'rule', 'adoption.ambiguous', 'type', 'uuid_mapping_conflict',
                                        'remedy', 'Several target rows have this legacy id.') order by legacy_id)
      from (select distinct legacy_id from pg_temp.page_found where verdict = 'undecided') u), '[]'));
  perform sync.queue_records(p_entity, p_chain.execution_id, p_chain.page_size);
  -- Corrected since: one row is left and adopted now, or none, and then the record is inserted like any other.
  with settled as (
    update public.sync_conflicts c
       set state = 'resolved', resolved_at = now(), resolved_by = 'adoption', resolved_in = p_chain.execution_id
     where c.entity_id = p_entity.id and c.state = 'open' and c.rule = 'adoption.ambiguous'
       and c.source_record_id >= coalesce(p_chain."cursor", '-9223372036854775808')
       and c.source_record_id is distinct from p_chain."cursor" and c.source_record_id <= p_last
       and not exists (select from pg_temp.page_found f where f.legacy_id = c.source_record_id and f.verdict = 'undecided')
    returning c.source_record_id
  )
  insert into public.sync_pending_keys (entity_id, legacy_id, reason)
  select p_entity.id, source_record_id, 'adopted' from settled order by source_record_id
  on conflict (entity_id, execution_id, legacy_id) do update set generation = default, requested_at = now(), gone = false;
end
$$;
comment on function sync.keep_verdicts(public.sync_entities, public.sync_chains, bigint) is
  'Writes what find_rows found: mappings, ambiguous and surplus rows, and their queue entries.';

create function sync.adoption_report(p_execution uuid, p_entity public.sync_entities) returns jsonb
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_keyless bigint;
begin
  execute format('select count(*) from public.%I t where t.%I is null', p_entity.target_table, p_entity.legacy_key) into v_keyless;
  return (select jsonb_build_object('table', p_entity.target_table, 'adopted', coalesce(c.unchanged, 0),
                   'ambiguous', coalesce(c.in_conflict, 0), 'without_legacy_id', v_keyless)
            from jsonb_to_record(sync.counted(p_execution, p_entity.id)) as c (unchanged bigint, in_conflict bigint))
      || (select jsonb_build_object('ambiguous_rows', count(*) filter (where r.undecided), 'surplus_rows', count(*) filter (where not r.undecided))
            from public.sync_adoption_rows r where r.entity_id = p_entity.id);
end
$$;
comment on function sync.adoption_report(uuid, public.sync_entities) is
  'Legacy ids adopted and ambiguous, rows behind them, and rows without a legacy id, which belong to the application.';

create function sync.close_adoption(p_execution uuid, p_entity public.sync_entities) returns uuid[]
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_report jsonb;
begin
  perform from public.sync_executions where id = p_execution for no key update;
  if not exists (select from public.sync_chains
                  where execution_id = p_execution and entity_id = p_entity.id and capture = 'adopt' and state <> 'done') then
    v_report := sync.adoption_report(p_execution, p_entity);
    insert into public.sync_reports (execution_id, kind, body) values (p_execution, 'adoption:' || p_entity.entity_type, v_report);
    if (v_report ->> 'surplus_rows')::bigint > 0 then
      perform sync.raise_alert('surplus', 'warning', null, p_execution, p_entity.id,
        'Target rows whose legacy id belongs to another row.', jsonb_build_object('duplicates', v_report -> 'surplus_rows'));
    else
      perform sync.close_alerts(array(select id from public.sync_alerts where kind = 'surplus' and entity_id = p_entity.id and closed_at is null));
    end if;
    update public.sync_entities set adoption_epoch = 1, adopted_at = now() where id = p_entity.id and adoption_epoch = 0;
  end if;
  return array(select sync.advance_execution(p_execution));
end
$$;
comment on function sync.close_adoption(uuid, public.sync_entities) is
  'When the entity''s last adopt chain is done: its report, and from then on it may mint.';

-- One sort of an unindexed legacy key stays in memory.
create function sync.adopt_page(p_chain uuid, p_lease bigint, p_lease_seconds integer) returns jsonb
language plpgsql security invoker set search_path = pg_catalog, pg_temp set work_mem = '64MB' as $$
declare
  v_chain    public.sync_chains := sync.hold_chain(p_chain, p_lease);
  v_entity   public.sync_entities;
  v_page     record;
  v_done     boolean;
  v_begun    timestamptz := clock_timestamp();
  v_wall_ms  numeric;
  v_dispatch uuid[] := array[p_chain];
begin
  select * into strict v_entity from public.sync_entities where id = v_chain.entity_id for no key update;

  perform sync.find_rows(v_entity, v_chain."cursor", v_chain.page_size);
  select count(*) as rows, max(legacy_id) as last, count(distinct legacy_id) as ids,
         count(distinct legacy_id) filter (where verdict = 'undecided') as undecided,
         count(*) filter (where verdict = 'surplus') as surplus
    into v_page from pg_temp.page_found;
  v_done := v_page.rows < v_chain.page_size;
  perform sync.keep_verdicts(v_entity, v_chain, case when v_done then 9223372036854775807 else v_page.last end);

  v_wall_ms := extract(epoch from clock_timestamp() - v_begun) * 1000;
  insert into public.sync_page_log
    (execution_id, chain_id, entity_id, page, read, inserted, updated, unchanged, waiting, in_conflict, surplus, wall_ms)
  values (v_chain.execution_id, v_chain.id, v_entity.id, v_chain.page, v_page.ids, 0, 0, v_page.ids - v_page.undecided, 0,
          v_page.undecided, v_page.surplus, v_wall_ms);
  update public.sync_chains
     set page = page + 1, "cursor" = coalesce(v_page.last, "cursor"),
         -- A page must stay far within its lease, whatever the database took for it.
         page_size = case when v_wall_ms > p_lease_seconds * 500 then greatest(1, page_size / 2) else page_size end,
         lease_until = null, sends = 0, failures = 0, crashes = 0, last_error = null,
         state = case when v_done then 'done' else 'open' end::public.sync_chain_state,
         closed_at = case when v_done then now() end,
         due_at = case when not v_done then clock_timestamp() + make_interval(secs => p_lease_seconds) end
   where id = p_chain;
  if v_done then
    v_dispatch := sync.close_adoption(v_chain.execution_id, v_entity);
  end if;
  return jsonb_build_object(
    'read', v_page.ids, 'adopted', v_page.ids - v_page.undecided, 'ambiguous', v_page.undecided,
    'dispatch', (select coalesce(jsonb_agg(jsonb_build_object('chain', c.id, 'page', c.page, 'execution', c.execution_id)), '[]')
                   from public.sync_chains c where c.id = any (v_dispatch)));
end
$$;
comment on function sync.adopt_page(uuid, bigint, integer) is
  'Takes over the ids of one page of target rows, in the order of their legacy ids: mappings, queue, counters, '
  'cursor and the next page.';

revoke all on function sync.adopt_page(uuid, bigint, integer), sync.find_rows(public.sync_entities, bigint, integer),
  sync.keep_verdicts(public.sync_entities, public.sync_chains, bigint), sync.close_adoption(uuid, public.sync_entities),
  sync.adoption_report(uuid, public.sync_entities) from public;
grant execute on function sync.adopt_page(uuid, bigint, integer), sync.find_rows(public.sync_entities, bigint, integer),
  sync.keep_verdicts(public.sync_entities, public.sync_chains, bigint), sync.close_adoption(uuid, public.sync_entities),
  sync.adoption_report(uuid, public.sync_entities) to isthmus_worker;

-- supabase/schemas/functions/fan-out.sql

-- Purpose: note what entities consume of joined rows, and ask for the records of rows that differ to be read again.
-- Locks:   the chain's row; the execution's row when records are asked for or a chain closes.

create function sync.compare_join_rows(p_entity_id smallint, p_join_id integer, p_rows bigint[], p_links bigint[], p_digests bigint[],
  p_dry_run uuid) returns jsonb
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  with differing as (
    select r.link as new, s.link as old
      from unnest(p_rows, p_links, p_digests) as r (id, link, digest)
      -- One index probe for each row, whatever the planner thinks.
      left join lateral (select j.link, j.digest from public.sync_join_rows j
                          where j.entity_id = p_entity_id and j.join_id = p_join_id and j.row_id = r.id offset 0) s on true
     where (r.link, r.digest) is distinct from (s.link, s.digest)
  )
  select jsonb_build_object(
    'links', (select coalesce(jsonb_agg(l::text), '[]')
                from (select new as l from differing where new is not null
                       union select old from differing where old is not null) x),
    'listed', case
      when p_dry_run is null then (select count(*) from public.sync_pending_keys
                               where execution_id is null and entity_id = p_entity_id and reason = 'fan_out')
      else (select count(*) from public.sync_pending_keys
             where execution_id = p_dry_run and entity_id = p_entity_id and reason = 'fan_out') end)
$$;
comment on function sync.compare_join_rows(smallint, integer, bigint[], bigint[], bigint[], uuid) is
  'The links, new and old, of joined rows that differ from what was last consumed, and how many records are listed '
  'for it already: by this dry run (p_dry_run), or in earnest.';

create function sync.keys_to_list(p_chain public.sync_chains, p_keys bigint[]) returns setof bigint
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select distinct k from unnest(p_keys) k
   where not exists (select from public.sync_chains c
                      where c.execution_id = p_chain.execution_id and c.entity_id = p_chain.entity_id and c.capture = 'full'
                        and c.state = 'blocked' and k between c.range_from and c.range_to)
   order by 1
$$;
comment on function sync.keys_to_list(public.sync_chains, bigint[]) is
  'Of the records to read again, those that no range of the execution has read again anyway.';

create function sync.end_join_page(p_chain public.sync_chains, p_entity public.sync_entities, p_page jsonb, p_begun timestamptz)
returns jsonb
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_wall_ms  numeric := (p_page ->> 'wall_ms')::numeric + extract(epoch from clock_timestamp() - p_begun) * 1000;
  v_dispatch uuid[];
begin
  insert into public.sync_page_log
    (execution_id, chain_id, entity_id, page, read, inserted, updated, unchanged, waiting, in_conflict, heap_bytes, wall_ms)
  values (p_chain.execution_id, p_chain.id, p_entity.id, p_chain.page, 0, 0, 0, 0, 0, 0,
          (p_page ->> 'heap_bytes')::bigint, v_wall_ms);
  v_dispatch := sync.close_page(p_chain, p_entity, p_page, v_wall_ms);
  return (select coalesce(jsonb_agg(jsonb_build_object('chain', c.id, 'page', c.page, 'execution', c.execution_id)), '[]')
            from public.sync_chains c where c.id = any (v_dispatch));
end
$$;
comment on function sync.end_join_page(public.sync_chains, public.sync_entities, jsonb, timestamptz) is
  'Logs a page of joined rows, moves its chain, and tells what to dispatch.';

create function sync.replace_join_rows(p_chain public.sync_chains, p_rows bigint[], p_links bigint[], p_digests bigint[],
  p_page jsonb, p_full boolean) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_row bigint;
begin
  if p_full then
    -- A full pass has all rows between its cursors: what is not among them is gone.
    delete from public.sync_join_rows s
     where s.entity_id = p_chain.entity_id and s.join_id = p_chain.join_id
       and s.row_id >= coalesce(p_chain."cursor", '-9223372036854775808') and s.row_id is distinct from p_chain."cursor"
       and s.row_id <= case when (p_page ->> 'done')::boolean then 9223372036854775807 else (p_page ->> 'cursor')::bigint end
       and not exists (select from unnest(p_rows) r where r = s.row_id);
  end if;
  if p_full and (p_page ->> 'done')::boolean then
    -- Left by an earlier definition; the rest goes with the next full pass.
    delete from public.sync_join_rows
     where ctid = any (array(
       select s.ctid from public.sync_join_rows s
        where s.entity_id = p_chain.entity_id
          and not exists (select from public.sync_chains c
                           where c.execution_id = p_chain.execution_id and c.entity_id = s.entity_id and c.join_id = s.join_id)
        limit 50000));
  end if;
  -- One by one: each by its key, whatever the planner thinks.
  for v_row in select r.id from unnest(p_rows, p_links) as r (id, link) where r.link is null loop
    delete from public.sync_join_rows s where s.entity_id = p_chain.entity_id and s.join_id = p_chain.join_id and s.row_id = v_row;
  end loop;
  insert into public.sync_join_rows as s (entity_id, join_id, row_id, link, digest)
  select p_chain.entity_id, p_chain.join_id, r.id, r.link, r.digest
    from unnest(p_rows, p_links, p_digests) as r (id, link, digest) where r.link is not null
  on conflict (entity_id, join_id, row_id) do update set link = excluded.link, digest = excluded.digest
   where (s.link, s.digest) is distinct from (excluded.link, excluded.digest);
end
$$;
comment on function sync.replace_join_rows(public.sync_chains, bigint[], bigint[], bigint[], jsonb, boolean) is
  'Notes what was consumed of the rows of a page. A row that belongs to no record is not noted.';

create function sync.add_range(p_chain public.sync_chains, p_range jsonb) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_lowest  bigint := (p_range ->> 'lowest')::bigint;
  v_highest bigint := (p_range ->> 'highest')::bigint;
begin
  update public.sync_chains
     set range_from = least(range_from, v_lowest), range_to = greatest(range_to, v_highest)
   where execution_id = p_chain.execution_id and entity_id = p_chain.entity_id and capture = 'full' and state = 'blocked';
  if not found then
    insert into public.sync_chains (execution_id, entity_id, capture, range_from, range_to, definition_hash, skips_unchanged, page_size)
    select p_chain.execution_id, p_chain.entity_id, 'full', v_lowest, v_highest, p_chain.definition_hash, false, max(page_size)
      from public.sync_chains where execution_id = p_chain.execution_id and capture not in ('joins', 'digest');
  end if;
end
$$;
comment on function sync.add_range(public.sync_chains, jsonb) is
  'Has a range of records read again instead of one listed key each; the ranges of one execution become one.';

create function sync.commit_join_page(p_chain uuid, p_lease bigint, p_rows bigint[], p_links bigint[], p_digests bigint[],
  p_keys bigint[], p_page jsonb) returns jsonb
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_chain  public.sync_chains := sync.hold_chain(p_chain, p_lease);
  v_entity public.sync_entities;
  v_full   boolean := v_chain.changed_from is null;
  v_begun  timestamptz := clock_timestamp();
begin
  select * into strict v_entity from public.sync_entities where id = v_chain.entity_id;
  perform sync.replace_join_rows(v_chain, p_rows, p_links, p_digests, p_page, v_full);
  if p_page -> 'range' <> 'null' then
    perform from public.sync_executions where id = v_chain.execution_id for no key update;
    delete from public.sync_pending_keys
     where execution_id is null and entity_id = v_entity.id and reason = 'fan_out'
       and legacy_id between (p_page -> 'range' ->> 'lowest')::bigint and (p_page -> 'range' ->> 'highest')::bigint;
    perform sync.add_range(v_chain, p_page -> 'range');
  elsif cardinality(p_keys) > 0 then
    perform from public.sync_executions where id = v_chain.execution_id for no key update;
    insert into public.sync_pending_keys (entity_id, legacy_id, reason)
    select v_entity.id, k, 'fan_out' from sync.keys_to_list(v_chain, p_keys) k
    on conflict (entity_id, execution_id, legacy_id) do update set generation = default, requested_at = now(), gone = false;
  end if;
  if v_full or p_page -> 'range' <> 'null' then
    -- From here on the digests are ahead of the records. Only the commit that closes the entity's last chain says
    -- otherwise.
    update public.sync_checkpoints set definition_hash = 'unfinished'
     where source_id = v_entity.source_id and entity_type = v_entity.entity_type;
  end if;
  return sync.end_join_page(v_chain, v_entity, p_page, v_begun);
end
$$;
comment on function sync.commit_join_page(uuid, bigint, bigint[], bigint[], bigint[], bigint[], jsonb) is
  'Everything a page of joined rows changes: what was consumed of them, the records to read again, cursor and the '
  'next chains.';

revoke all on function sync.compare_join_rows(smallint, integer, bigint[], bigint[], bigint[], uuid),
  sync.commit_join_page(uuid, bigint, bigint[], bigint[], bigint[], bigint[], jsonb),
  sync.replace_join_rows(public.sync_chains, bigint[], bigint[], bigint[], jsonb, boolean), sync.keys_to_list(public.sync_chains, bigint[]),
  sync.end_join_page(public.sync_chains, public.sync_entities, jsonb, timestamptz), sync.add_range(public.sync_chains, jsonb) from public;
grant execute on function sync.compare_join_rows(smallint, integer, bigint[], bigint[], bigint[], uuid),
  sync.commit_join_page(uuid, bigint, bigint[], bigint[], bigint[], bigint[], jsonb),
  sync.replace_join_rows(public.sync_chains, bigint[], bigint[], bigint[], jsonb, boolean), sync.keys_to_list(public.sync_chains, bigint[]),
  sync.end_join_page(public.sync_chains, public.sync_entities, jsonb, timestamptz), sync.add_range(public.sync_chains, jsonb) to isthmus_worker;

-- supabase/schemas/functions/plan-landed.sql

-- Purpose: what a dry run counts as landed, or as found again.

create function sync.plan_landed(p_execution uuid, p_entity public.sync_entities, p_found jsonb) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  execute format($q$
    insert into public.sync_planned_records as r (execution_id, entity_id, legacy_id, id, outcome, lands, row_after, state_after, source_digest)
    select $1, $2, x.k, x.id, 'unchanged', true, o.now, pg_catalog.to_jsonb(s) || '{"gone_at": null, "outside": null}', s.source_digest
      from jsonb_to_recordset($3) as x (k bigint, id uuid)
      -- One index probe per record, whatever the planner thinks.
      cross join lateral (select (select pg_catalog.to_jsonb(y.*) from (select t.id, %2$s) y) as now from public.%1$I t where t.id = x.id limit 1) o
      left join lateral (select w.* from public.sync_row_states w where w.entity_id = $2 and w.legacy_id = x.k limit 1) s on true
     order by x.k
    on conflict (execution_id, entity_id, legacy_id) do update
       set id = excluded.id, lands = true, row_after = excluded.row_after, state_after = excluded.state_after where r.lands is null
  $q$, p_entity.target_table, sync.owned_columns(p_entity)) using p_execution, p_entity.id, p_found;
end
$$;
comment on function sync.plan_landed(uuid, public.sync_entities, jsonb) is
  'Counts records as landed in a dry run, which a run would map to rows that are there: [{k, id}].';

create function sync.plan_found(p_execution uuid, p_entity public.sync_entities, p_mapped jsonb) returns void
language sql security invoker set search_path = pg_catalog, pg_temp as $$
  select sync.plan_landed(p_execution, p_entity, coalesce(pg_catalog.jsonb_agg(jsonb_build_object('k', x.k, 'id', x.id)), '[]'))
    from jsonb_to_recordset(p_mapped) as x (k bigint, id uuid)
   where not exists (select from public.sync_adoption_rows a where a.entity_id = p_entity.id and a.legacy_id = x.k and a.undecided)
     -- One index probe per record, whatever the planner thinks.
     and (select m.legacy_id from public.uuid_mappings_enhanced m
           where m.source_id = p_entity.source_id and m.entity_type = p_entity.entity_type and m.legacy_id = x.k) is null
     and (select m.legacy_id from public.uuid_mappings_enhanced m where m.entity_type = p_entity.entity_type and m.entity_uuid = x.id) is null
$$;
comment on function sync.plan_found(uuid, public.sync_entities, jsonb) is 'map_found of a dry run.';

-- Settings are pinned as they are where rows are loaded.
create function sync.plan_again(p_execution uuid, p_entity public.sync_entities, p_absent bigint[], p_ids uuid[]) returns void
language plpgsql security invoker set plan_cache_mode = force_custom_plan
set search_path = pg_catalog, pg_temp set timezone = 'UTC' set timezone_abbreviations = 'Default' set datestyle = 'ISO, YMD'
set intervalstyle = 'iso_8601' set extra_float_digits = 3 set bytea_output = 'hex' set xmloption = 'content' set lc_monetary = 'C'
set array_nulls = on set standard_conforming_strings = on set quote_all_identifiers = off set transform_null_equals = off as $$
declare
  v_found jsonb;
begin
  if p_absent = '{}' then
    return;
  end if;
  execute format($q$
    select coalesce(pg_catalog.jsonb_agg(jsonb_build_object('k', f.k, 'id', f.id)), '[]')
      from (select a.k, coalesce(m.entity_uuid, a.id) as id, m.sync_status
              from unnest($1, $2) a (k, id)
              left join lateral (select u.entity_uuid, u.sync_status from public.uuid_mappings_enhanced u
                                  where u.source_id = %2$s and u.entity_type = %3$L and u.legacy_id = a.k limit 1) m on true
            offset 0) f
      left join lateral (select w.* from public.sync_row_states w where w.entity_id = %4$s and w.legacy_id = f.k limit 1) s on true
      cross join lateral (select from public.%1$I t where t.id = f.id and (f.sync_status is distinct from 'active' or %5$s) limit 1) there
  $q$, p_entity.target_table, p_entity.source_id, p_entity.entity_type, p_entity.id, sync.unmarked_sql(p_entity)) into v_found using p_absent, p_ids;
  perform sync.plan_landed(p_execution, p_entity, v_found);
end
$$;
comment on function sync.plan_again(uuid, public.sync_entities, bigint[], uuid[]) is
  'find_again of a dry run: records that the source no longer has and whose row is back, or has lost its mark, count '
  'as landed.';

revoke all on function sync.plan_landed(uuid, public.sync_entities, jsonb), sync.plan_found(uuid, public.sync_entities, jsonb),
  sync.plan_again(uuid, public.sync_entities, bigint[], uuid[]) from public;
grant execute on function sync.plan_landed(uuid, public.sync_entities, jsonb), sync.plan_found(uuid, public.sync_entities, jsonb),
  sync.plan_again(uuid, public.sync_entities, bigint[], uuid[]) to isthmus_worker;

-- supabase/schemas/functions/digest.sql

-- Purpose: summaries of what is known of an entity's records, to be compared with the source's own; the page of a
--          digest.
-- Locks:   the chain's row; the execution's row when keys are asked for or a chain closes. Application rows are read,
--          never locked.

create function sync.known_records(p_entity_id smallint, p_from bigint, p_to bigint, p_dry_run uuid) returns table (legacy_id bigint, digest bigint)
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  with known as (
  -- What was stopped last counts for a record in the queue, whether it had landed before or not.
  select s.legacy_id, s.source_digest
    from public.sync_row_states s
   where s.entity_id = p_entity_id and s.legacy_id between p_from and p_to and s.gone_at is null
     -- One index probe per record, whatever the planner thinks.
     and (select c.id from public.sync_conflicts c
           where c.entity_id = p_entity_id and c.source_record_id = s.legacy_id and (c.state in ('waiting', 'open') or c.standing)
             and (c.source_digest is not null or c.rule = 'deleted_in_source') limit 1) is null
  union all
  select c.source_record_id, c.source_digest
    from public.sync_conflicts c
   where c.entity_id = p_entity_id and c.source_record_id between p_from and p_to and (c.state in ('waiting', 'open') or c.standing)
     and c.source_digest is not null
     -- Somebody has opened what waits for a parent: nothing would release it.
     and not (c.state = 'open' and c.retry_class = 'parent')
  )
  select k.legacy_id, k.source_digest from known k
   where case when p_dry_run is null then true else (
           select r.legacy_id from public.sync_planned_records r
            where r.execution_id = p_dry_run and r.entity_id = p_entity_id and r.legacy_id = k.legacy_id) is null end
  union all
  select r.legacy_id, r.source_digest from public.sync_planned_records r
   where r.execution_id = p_dry_run and r.entity_id = p_entity_id and r.legacy_id between p_from and p_to and r.source_digest is not null
$$;
comment on function sync.known_records(smallint, bigint, bigint, uuid) is
  'Landed and queued records in a key range, each with the hash of the projected record as it was read last. '
  'p_dry_run: as this dry run has read and planned it.';

create function sync.known_buckets(p_entity_id smallint, p_from bigint, p_to bigint, p_bits integer, p_dry_run uuid) returns table (bucket bigint, n bigint, digest numeric)
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select k.legacy_id >> p_bits, count(*), coalesce(sum(k.digest), 0) from sync.known_records(p_entity_id, p_from, p_to, p_dry_run) k group by 1
$$;
comment on function sync.known_buckets(smallint, bigint, bigint, integer, uuid) is
  'How many records each bucket of 2^p_bits neighbouring keys has, and the sum of their hashes.';

create function sync.kept_outside(p_entity_id smallint, p_from bigint, p_to bigint, p_limit integer) returns setof bigint
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select s.legacy_id
    from public.sync_row_states s
   where s.entity_id = p_entity_id and s.legacy_id between p_from and p_to and s.outside
     -- One index probe per record, whatever the planner thinks: of these a person has been asked.
     and (select c.id from public.sync_conflicts c
           where c.entity_id = p_entity_id and c.source_record_id = s.legacy_id and c.state = 'open' and c.rule = 'deleted_in_source' limit 1) is null
   order by s.legacy_id limit p_limit
$$;
comment on function sync.kept_outside(smallint, bigint, bigint, integer) is
  'The first records of a key range whose rows stay although their predicate no longer lets them in: the source may '
  'have deleted them since, and no comparison of records tells.';

-- Settings are pinned as they are where rows are loaded.
create function sync.drifted_rows(p_entity_id smallint, p_from bigint, p_to bigint, p_limit integer, p_dry_run uuid)
returns table (legacy_id bigint, finding text)
language plpgsql stable security invoker
set search_path = pg_catalog, pg_temp set timezone = 'UTC' set timezone_abbreviations = 'Default' set datestyle = 'ISO, YMD'
set intervalstyle = 'iso_8601' set extra_float_digits = 3 set bytea_output = 'hex' set xmloption = 'content' set lc_monetary = 'C'
set array_nulls = on set standard_conforming_strings = on set quote_all_identifiers = off set transform_null_equals = off as $$
declare
  v_entity  public.sync_entities;
  v_differs text;
  v_texts   boolean; -- values that are equal may print otherwise by now
begin
  select * into strict v_entity from public.sync_entities where id = p_entity_id;
  v_entity := sync.with_types(v_entity);
  v_differs := format($q$case when s.left_hash is null then (select to_jsonb(x.*) from (select %1$s) x) <> s."left"
                     else s.left_hash <> hashtextextended((select to_jsonb(x.*)::text from (select %1$s) x), 0) end$q$, sync.owned_columns(v_entity));
  v_texts := sync.reworded_sql(v_entity) is not null and sync.texts_moved(v_entity);
  return query execute format($q$
    select s.legacy_id, case when %12$s then 'edited' when s.gone_at is not null then 'returned' when t.id is null then 'target_deleted' when %5$s then 'edited' else 'rewritten' end
      from public.sync_row_states s
     -- One index probe per record, whatever the planner thinks.
     cross join lateral (
       select u.entity_uuid from public.uuid_mappings_enhanced u
        where u.source_id = %2$s and u.entity_type = %3$L and u.legacy_id = s.legacy_id offset 0) m
      left join lateral (select r.xmin, r.id, %15$s from public.%1$I r where r.id = m.entity_uuid offset 0) t on true
      %11$s
     where s.entity_id = %4$s and s.legacy_id between %6$L and %7$L
       and case %13$s when s.gone_at is not null then %10$s
                when t.id is null then true
                when %9$s is true then false
                else %5$s%14$s end
       and (select c.id from public.sync_conflicts c
             where c.entity_id = %4$s and c.source_record_id = s.legacy_id and (c.state = 'open' or c.standing) and c.rule = 'target_deleted' limit 1) is null
     order by s.legacy_id limit %8$s
  $q$, v_entity.target_table, v_entity.source_id, v_entity.entity_type, v_entity.id, v_differs, p_from, p_to, p_limit,
    sync.as_left_sql(v_entity), sync.unmarked_sql(v_entity),
    case when p_dry_run is null then '' else format('left join lateral (
        select r.lands, r.row_after, r.state_after, r.outcome, r.rule from public.sync_planned_records r
         where r.execution_id = %L and r.entity_id = %s and r.legacy_id = s.legacy_id limit 1) r on true', p_dry_run, p_entity_id) end,
    case when p_dry_run is null then 'false' else 'r.lands is true' end,
    case when p_dry_run is null then '' else $p$
                when r.lands then case when r.state_after -> 'left_hash' = 'null' then r.row_after - 'id' <> r.state_after -> 'left'
                                       else (r.state_after ->> 'left_hash')::bigint <> hashtextextended((r.row_after - 'id')::text, 0) end
                when r.lands is not null or r.outcome = 'in_conflict' and r.rule = 'target_deleted' then false $p$ end,
    case when v_texts then format(' or %s is not true', sync.untouched_sql(v_entity, 'public')) else '' end,
    (select string_agg(format('r.%I', c.name), ', ') from sync.field_slots(v_entity) c));
end
$$;
comment on function sync.drifted_rows(smallint, bigint, bigint, integer, uuid) is
  'Landed records in a key range whose target row is gone (target_deleted) or no longer what the sync left (edited), '
  'or written by DDL that may have changed texts of equal values (rewritten), and deleted ones whose mark is gone '
  '(returned). p_dry_run: as for sync.known_records.';

create function sync.merge_found(p_before jsonb, p_found jsonb) returns jsonb
language sql immutable security invoker set search_path = pg_catalog, pg_temp as $$
  select jsonb_object_agg(f.key, case
      when jsonb_typeof(f.value) = 'number' then to_jsonb(coalesce((p_before ->> f.key)::bigint, 0) + f.value::bigint)
      else jsonb_build_object('count', coalesce((p_before -> f.key ->> 'count')::bigint, 0) + jsonb_array_length(f.value),
             'legacy_ids', (select coalesce(jsonb_agg(x.id order by x.n), '[]')
                              from jsonb_array_elements(coalesce(p_before -> f.key -> 'legacy_ids', '[]') || f.value) with ordinality x (id, n)
                             where x.n <= 1000)) end)
    from jsonb_each(p_found) f
$$;
comment on function sync.merge_found(jsonb, jsonb) is
  'Adds what one page found to the report: numbers are summed, lists of legacy ids become {count, legacy_ids: the '
  'first 1,000}.';

create function sync.commit_digest_page(p_chain uuid, p_lease bigint, p_keys bigint[], p_mapped jsonb, p_found jsonb, p_page jsonb) returns jsonb
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_chain  public.sync_chains := sync.hold_chain(p_chain, p_lease);
  v_entity public.sync_entities;
  v_dry    boolean;
  v_begun  timestamptz := clock_timestamp();
begin
  select * into strict v_entity from public.sync_entities where id = v_chain.entity_id;
  v_entity := sync.with_types(v_entity);
  select dry_run into v_dry from public.sync_executions where id = v_chain.execution_id for no key update;
  if v_dry then
    perform sync.plan_found(v_chain.execution_id, v_entity, p_mapped);
  else
    perform sync.map_found(v_entity, p_mapped);
    -- Found by a comparison: who wrote the row says nothing of it any more. Where DDL has been there, that still
    -- tells its work from people's.
    update public.sync_row_states s set written_by = null
     where s.entity_id = v_entity.id and s.legacy_id = any (array(select e::bigint from jsonb_array_elements_text(p_found -> 'edited') e)) and s.written_by is not null
       and not exists (select from public.sync_entity_shapes h cross join lateral jsonb_each(h.reshaped) r
                        where h.entity_id = v_entity.id and s.synced_at < (r.value ->> 'at')::timestamptz);
  end if;
  insert into public.sync_pending_keys (execution_id, entity_id, legacy_id, reason)
  select case when v_dry then v_chain.execution_id end, v_entity.id, k, 'digest' from unnest(p_keys) k order by k
  on conflict (entity_id, execution_id, legacy_id) do update set generation = default, requested_at = now(), gone = false;
  insert into public.sync_reports as r (execution_id, kind, body)
  values (v_chain.execution_id, 'digest:' || v_entity.entity_type, sync.merge_found(null, p_found))
  on conflict (execution_id, kind, round) do update set body = sync.merge_found(r.body, p_found);
  if not v_dry and (p_page ->> 'done')::boolean then
    perform sync.tell_digest(v_chain.execution_id, v_entity, p_page -> 'edits');
  end if;
  return sync.end_join_page(v_chain, v_entity, p_page, v_begun);
end
$$;
comment on function sync.commit_digest_page(uuid, bigint, bigint[], jsonb, jsonb, jsonb) is
  'What a page of a digest found: mappings that are certain ([{k, id}]), the records to read again, the report, '
  'cursor and the next chains.';

revoke all on function sync.known_records(smallint, bigint, bigint, uuid), sync.known_buckets(smallint, bigint, bigint, integer, uuid),
  sync.kept_outside(smallint, bigint, bigint, integer), sync.drifted_rows(smallint, bigint, bigint, integer, uuid),
  sync.commit_digest_page(uuid, bigint, bigint[], jsonb, jsonb, jsonb), sync.merge_found(jsonb, jsonb) from public;
grant execute on function sync.known_records(smallint, bigint, bigint, uuid), sync.known_buckets(smallint, bigint, bigint, integer, uuid),
  sync.kept_outside(smallint, bigint, bigint, integer), sync.drifted_rows(smallint, bigint, bigint, integer, uuid),
  sync.commit_digest_page(uuid, bigint, bigint[], jsonb, jsonb, jsonb), sync.merge_found(jsonb, jsonb) to isthmus_worker;

-- supabase/schemas/functions/plan.sql

-- Purpose: the pages of a dry run: what a page would do goes to sync_planned_records, what it would ask for to
--          sync_pending_keys, for this execution alone.
-- Locks:   the chain's row; the execution's row when a chain closes.

create function sync.is_known(p_execution uuid, p_entity_id smallint, p_legacy_id bigint) returns boolean
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select exists (select from public.sync_planned_records r
                  where r.execution_id = p_execution and r.entity_id = p_entity_id and r.legacy_id = p_legacy_id)
      or exists (select from public.sync_conflicts c
                  where c.entity_id = p_entity_id and c.source_record_id = p_legacy_id and c.state in ('waiting', 'open'))
$$;
comment on function sync.is_known(uuid, smallint, bigint) is
  'Whether a record is in the queue or has been planned in this execution.';

create function sync.newly_stopped(p_execution uuid, p_entity_id smallint) returns bigint[]
language plpgsql stable security invoker set search_path = pg_catalog, pg_temp as $$
begin
  return array(
    select i.k from pg_temp.page_issues i
      left join lateral (select r.* from public.sync_planned_records r
                          where r.execution_id = p_execution and r.entity_id = p_entity_id and r.legacy_id = i.k limit 1) r on true
     where case when r.legacy_id is not null then (r.rule, r.field) is distinct from (i.rule, i.field) or r.outcome not in ('in_conflict', 'waived')
                else not exists (
                  select from public.sync_conflicts c
                   where c.entity_id = p_entity_id and c.source_record_id = i.k and (c.state = i.state or c.standing) and c.rule = i.rule
                     and c.field is not distinct from i.field) end);
end
$$;
comment on function sync.newly_stopped(uuid, smallint) is
  'Of the records that something stops on a page of a dry run, those that neither this execution nor the queue knows '
  'as stopped by it.';

create function sync.note_planned(p_execution uuid, p_entity public.sync_entities, p_outside bigint[], p_gone bigint[], p_page jsonb)
returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  -- What a digest of this plan would otherwise find once more: a run would remember what it has read.
  v_compared boolean := exists (select from public.sync_chains c where c.execution_id = p_execution and c.entity_id = p_entity.id and c.capture = 'digest');
begin
  execute format($q$
    create temp table page_outcomes on commit drop as
    select q.legacy_id, q.id,
           case q.action when 'insert' then 'inserted' when 'update' then 'updated' when 'unchanged' then 'unchanged' when 'review' then 'in_conflict' else 'deleted' end as outcome,
           case when i.k is not null then i.rule when w.legacy_id is not null then 'source_wins' end as rule,
           case when i.k is not null then i.field else sync.listed(w.fields) end as field,
           case when i.k is not null then i.remedy
                when w.legacy_id is not null then 'Edits in the target are overwritten; what they held is kept.' end as remedy,
           null::smallint as parent_entity_id, null::bigint as parent_legacy_id, null::bigint as clashes_with,
           q.action <> 'delete' as lands,
           case when q.action <> 'delete' then (select to_jsonb(x.*) from (select t.id, %2$s) x) end as row_after,
           case when q.action <> 'delete' then to_jsonb(s) end as state_after,
           case when q.action <> 'delete' then (select %1$s from pg_temp.page_shadow x where x.id = q.id) end as unique_keys,
           q.digest as source_digest
      from pg_temp.page_plan q
      left join pg_temp.page_shadow t on t.id = q.id
      left join pg_temp.sync_row_states s on s.legacy_id = q.legacy_id
      left join sync.page_overwritten() w on w.legacy_id = q.legacy_id
      left join pg_temp.page_issues i on q.action = 'review' and i.k = q.legacy_id
     -- What a person is to decide of a record keeps nothing from its other fields.
     where q.action in ('insert', 'update', 'delete', 'soft') or q.action = 'review' and q.written <> '{}'
        or %3$L and q.action = 'unchanged' and (q.new is distinct from q.seen or q.restated or q.legacy_id = any (%4$L::bigint[]))
  $q$, coalesce(sync.key_hashes(p_entity), 'null::bigint[]'), sync.owned_columns(p_entity), v_compared,
    array(select u::bigint from jsonb_array_elements_text(p_page -> 'unmapped') u));
  insert into pg_temp.page_outcomes (legacy_id, id, outcome, source_digest)
  select q.legacy_id, q.id, 'unchanged', q.digest from pg_temp.page_plan q
   where q.action = 'unchanged' and not exists (select from pg_temp.page_outcomes o where o.legacy_id = q.legacy_id) and (sync.is_known(p_execution, p_entity.id, q.legacy_id)
      or exists (select from jsonb_to_recordset(p_page -> 'warnings') as x (k bigint) where x.k = q.legacy_id));
  insert into pg_temp.page_outcomes (legacy_id, id, outcome, rule, field, remedy, parent_entity_id, parent_legacy_id, clashes_with, source_digest)
  select i.k, p._uuid, case when i.settled then 'waived' when i.state = 'waiting' then 'waiting' else 'in_conflict' end, i.rule, i.field,
         case when i.state = 'open' then i.remedy else 'Waits for its parent, which is in the queue or not among these entities.' end,
         i.parent_entity_id, i."parentId", case when i.retry = 'clash' then (i.data #>> '{clashes_with,legacy_id}')::bigint end, i.digest
    from pg_temp.page_issues i left join pg_temp.page_rows p on p._key = i.k
   where not exists (select from pg_temp.page_outcomes o where o.legacy_id = i.k and o.outcome = 'in_conflict');
  insert into pg_temp.page_outcomes (legacy_id, outcome, rule, remedy)
  select k, 'waived', p_entity.predicate ->> 'rule', p_entity.predicate ->> 'reason' from unnest(p_outside) k
   where not exists (select from pg_temp.page_outcomes o where o.legacy_id = k);
  insert into pg_temp.page_outcomes (legacy_id, outcome, remedy)
  select k::bigint, 'absent', 'No record of the source any more: its entry in the queue would be closed.'
    from jsonb_array_elements_text(p_page -> 'gone') k
   where sync.is_known(p_execution, p_entity.id, k::bigint) and k::bigint <> all (p_gone)
     and not exists (select from pg_temp.page_outcomes o where o.legacy_id = k::bigint);

  insert into public.sync_planned_records as r
    (execution_id, entity_id, legacy_id, id, outcome, rule, field, remedy, warnings, parent_entity_id, parent_legacy_id, clashes_with, met,
     lands, row_after, state_after, unique_keys, source_digest)
  select p_execution, p_entity.id, o.legacy_id, o.id, o.outcome, o.rule, o.field, o.remedy, w.rules, o.parent_entity_id, o.parent_legacy_id, o.clashes_with,
         array_remove(array[o.clashes_with], null),
         o.lands, o.row_after, o.state_after, o.unique_keys, o.source_digest
    from pg_temp.page_outcomes o
    left join (select k, array_agg(rule order by rule) as rules from jsonb_to_recordset(p_page -> 'warnings') as x (k bigint, rule text) group by k) w
      on w.k = o.legacy_id and o.outcome in ('inserted', 'updated', 'unchanged')
   order by o.legacy_id
  on conflict (execution_id, entity_id, legacy_id) do update
     -- A record that is read twice within an execution counts by what it comes to in the end.
     set (outcome, rule, field, remedy) = (select e.outcome, e.rule, e.field, e.remedy from (values
           (case when excluded.outcome = 'unchanged' and r.outcome in ('inserted', 'updated') then r.outcome
                 when excluded.outcome = 'updated' and r.outcome = 'inserted' then r.outcome
                 else excluded.outcome end,
            coalesce(excluded.rule, case when r.rule = 'source_wins' and excluded.lands is not false then r.rule end),
            coalesce(excluded.field, case when r.rule = 'source_wins' and excluded.lands is not false then r.field end),
            -- What was found out about a circle stays while the record clashes with the same one.
            case when r.outcome = 'in_conflict' and r.clashes_with = excluded.clashes_with then r.remedy
                 else coalesce(excluded.remedy, case when r.rule = 'source_wins' and excluded.lands is not false then r.remedy end) end))
           e (outcome, rule, field, remedy)),
         warnings = excluded.warnings, id = coalesce(excluded.id, r.id),
         parent_entity_id = excluded.parent_entity_id, parent_legacy_id = excluded.parent_legacy_id,
         clashes_with = excluded.clashes_with,
         met = case when excluded.met <@ r.met then r.met else r.met || excluded.met end, lands = coalesce(excluded.lands, r.lands),
         row_after = case when excluded.lands is null then r.row_after else excluded.row_after end,
         state_after = case when excluded.lands is null then r.state_after else excluded.state_after end,
         unique_keys = case when excluded.lands is null then r.unique_keys else excluded.unique_keys end,
         source_digest = excluded.source_digest;
end
$$;
comment on function sync.note_planned(uuid, public.sync_entities, bigint[], bigint[], jsonb) is
  'Notes what would become of the records of a page. Unchanged and absent ones only where something else is known of '
  'them: the rest is counted in sync_page_log.';

create function sync.plan_page(p_chain uuid, p_lease bigint, p_records text, p_issues jsonb, p_page jsonb) returns jsonb
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_chain   public.sync_chains;
  v_entity  public.sync_entities;
  v_outside bigint[] := array(select jsonb_array_elements_text(p_page -> 'outside')::bigint);
  v_gone    bigint[];
  v_surplus jsonb;
  v_begun   timestamptz := clock_timestamp();
  v_request text;
  v_new     bigint[];
begin
  v_chain := sync.hold_chain(p_chain, p_lease);
  perform sync.compare_records(v_chain.entity_id, p_page -> 'versions');
  select * into strict v_entity from public.sync_entities where id = v_chain.entity_id;
  v_entity := sync.with_types(v_entity);
  select sync.strategy_of_request(request) into v_request from public.sync_executions where id = v_chain.execution_id;
  perform sync.plan_again(v_chain.execution_id, v_entity, array(select g::bigint from jsonb_array_elements_text(p_page -> 'gone') g),
    array(select m::uuid from jsonb_array_elements_text(p_page -> 'gone_ids') m));
  v_gone := sync.gone_landed(v_entity, p_page, v_chain.execution_id);
  perform sync.load_records(v_entity, p_records::json, sync.leaving(v_entity, v_outside) || sync.deleting(v_chain, v_entity, 'hard', v_gone),
    sync.deleting(v_chain, v_entity, 'soft', v_gone), v_chain.execution_id, v_request);
  perform sync.collect_issues(v_entity, p_issues || sync.page_rejections(v_entity, v_chain.execution_id, v_request) || sync.deletes_to_review(v_chain, v_entity, v_gone));
  v_surplus := sync.page_surplus(v_chain, v_entity, p_page);
  v_new := sync.newly_stopped(v_chain.execution_id, v_entity.id);
  insert into public.sync_pending_keys (execution_id, entity_id, legacy_id, reason)
  select v_chain.execution_id, v_entity.id, k, 'clash'
    from sync.clash_keys(array(
      select i.k from pg_temp.page_issues i
       where i.k = any (v_new)
         and not exists (
           select from public.sync_planned_records r
            where r.execution_id = v_chain.execution_id and r.entity_id = v_entity.id and r.legacy_id = i.k
              and (i.data #>> '{clashes_with,legacy_id}')::bigint = any (r.met)))) k
   order by k
  on conflict (entity_id, execution_id, legacy_id) do update set generation = default, requested_at = now(), gone = false;
  perform sync.note_planned(v_chain.execution_id, v_entity, v_outside, v_gone, p_page);
  perform sync.ask_for_circles(v_entity, v_chain.execution_id, v_new, 10 * v_chain.page_size);
  perform sync.plan_released(x, v_entity.id, array(select legacy_id from pg_temp.page_plan where action = 'insert'))
    from public.sync_executions x where x.id = v_chain.execution_id;
  delete from public.sync_pending_keys k
   using jsonb_to_recordset(p_page -> 'pending') as a (k bigint, g bigint)
   where k.execution_id = v_chain.execution_id and k.entity_id = v_entity.id and k.legacy_id = a.k and k.generation = a.g;
  perform sync.ask_for_missing(v_chain, v_entity, p_page, v_gone, v_chain.execution_id);
  perform sync.request_keys(x, v_chain, p_page) from public.sync_executions x where x.id = v_chain.execution_id;
  return sync.end_page(v_chain, v_entity, p_page, v_surplus, v_begun);
end
$$;
comment on function sync.plan_page(uuid, bigint, text, jsonb, jsonb) is
  'commit_page of a dry run: the same statements over shadows; what came of it is noted, and nothing of the '
  'application or of the sync''s memory is written.';

create function sync.plan_join_page(p_chain uuid, p_lease bigint, p_keys bigint[], p_page jsonb) returns jsonb
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_chain  public.sync_chains := sync.hold_chain(p_chain, p_lease);
  v_entity public.sync_entities;
  v_begun  timestamptz := clock_timestamp();
begin
  select * into strict v_entity from public.sync_entities where id = v_chain.entity_id;
  v_entity := sync.with_types(v_entity);
  if p_page -> 'range' <> 'null' then
    perform from public.sync_executions where id = v_chain.execution_id for no key update;
    delete from public.sync_pending_keys
     where execution_id = v_chain.execution_id and entity_id = v_entity.id and reason = 'fan_out'
       and legacy_id between (p_page -> 'range' ->> 'lowest')::bigint and (p_page -> 'range' ->> 'highest')::bigint;
    perform sync.add_range(v_chain, p_page -> 'range');
  elsif cardinality(p_keys) > 0 then
    perform from public.sync_executions where id = v_chain.execution_id for no key update;
    insert into public.sync_pending_keys (execution_id, entity_id, legacy_id, reason)
    select v_chain.execution_id, v_entity.id, k, 'fan_out' from sync.keys_to_list(v_chain, p_keys) k
    on conflict (entity_id, execution_id, legacy_id) do update set generation = default, requested_at = now(), gone = false;
  end if;
  return sync.end_join_page(v_chain, v_entity, p_page, v_begun);
end
$$;
comment on function sync.plan_join_page(uuid, bigint, bigint[], jsonb) is
  'commit_join_page of a dry run: the records to read again are asked for in the plan alone, and nothing is noted of '
  'joined rows.';

revoke all on function sync.plan_page(uuid, bigint, text, jsonb, jsonb), sync.plan_join_page(uuid, bigint, bigint[], jsonb),
  sync.note_planned(uuid, public.sync_entities, bigint[], bigint[], jsonb), sync.newly_stopped(uuid, smallint),
  sync.is_known(uuid, smallint, bigint) from public;
grant execute on function sync.plan_page(uuid, bigint, text, jsonb, jsonb), sync.plan_join_page(uuid, bigint, bigint[], jsonb),
  sync.note_planned(uuid, public.sync_entities, bigint[], bigint[], jsonb), sync.newly_stopped(uuid, smallint),
  sync.is_known(uuid, smallint, bigint) to isthmus_worker;

-- supabase/schemas/functions/plan-report.sql

-- Purpose: the end of a dry run: a report to sync_reports, and its notes forgotten.
-- Locks:   the chain's row; the execution's row when a chain closes.

create function sync.foretold_brakes(p_execution uuid, p_entity public.sync_entities) returns jsonb
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  with pages as (
    select c.deletes, n.key, sum(n.value::numeric) as n from public.sync_chains c cross join lateral jsonb_each_text(c.counts) n
     where c.execution_id = p_execution and c.entity_id = p_entity.id group by c.deletes, n.key
  ), counted as (
    -- What leaves its predicate is deleted page by page, what the source no longer has at the end: each is looked at
    -- by itself.
    select 'delete' as kind, null as field, deletes, n as records from pages where key = 'deleted'
    union all select 'null', substr(key, 8), false, sum(n) from pages where key like 'nulled %' group by key
    union all select 'overwrite', null, false, sum(n) from pages where key = 'overwritten' and sync.counts_overwritten(p_entity)
  )
  select coalesce(jsonb_agg(jsonb_build_object('kind', b.kind, 'field', b.field, 'records', b.records, 'landed', b.landed) order by b.kind, b.field), '[]')
    from (select distinct on (c.kind, c.field) c.kind, c.field, c.records, sync.exceeds_brake(x, p_entity.id, c.kind, c.field, c.records::bigint) as landed
            from counted c join public.sync_executions x on x.id = p_execution
           where c.records > 0 order by c.kind, c.field, c.records desc) b
   where b.landed is not null
$$;
comment on function sync.foretold_brakes(uuid, public.sync_entities) is
  'What of a dry run would be stopped by the brake: [{kind, field, records, landed}].';

create function sync.plan_report(p_execution uuid, p_entity public.sync_entities) returns jsonb
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  with outcomes as (
    select outcome, rule, field, count(*) as n, min(remedy) as remedy, (array_agg(legacy_id order by legacy_id))[1:20] as examples
      from public.sync_planned_records where execution_id = p_execution and entity_id = p_entity.id and outcome <> 'unchanged'
     group by outcome, rule, field
  ), warned as (
    select w as rule, count(*) as n, (array_agg(legacy_id order by legacy_id))[1:20] as examples
      from public.sync_planned_records cross join lateral unnest(warnings) w
     where execution_id = p_execution and entity_id = p_entity.id
     group by w
  ), money as (
    select c ->> 'name' as name, trim_scale(sum((r.row_after ->> (c ->> 'name'))::numeric) filter (where r.outcome = 'inserted')) as inserted,
           trim_scale(sum((r.row_after ->> (c ->> 'name'))::numeric) filter (where r.outcome = 'updated')) as updated
      from jsonb_array_elements(p_entity.columns) c
      left join public.sync_planned_records r on r.execution_id = p_execution and r.entity_id = p_entity.id and r.lands
     where (c ->> 'money')::boolean group by 1
  )
  select jsonb_build_object(
    'entity', p_entity.entity_type,
    'counts', (select jsonb_build_object('read', coalesce(read, 0), 'inserted', coalesce(inserted, 0), 'updated', coalesce(updated, 0),
                 'unchanged', coalesce(unchanged, 0), 'deleted', coalesce(deleted, 0), 'waiting', coalesce(waiting, 0),
                 'inConflict', coalesce(in_conflict, 0), 'waived', coalesce(waived, 0), 'absent', coalesce(absent, 0),
                 'surplus', coalesce(surplus, 0))
                 from jsonb_to_record(sync.counted(p_execution, p_entity.id)) as c (read bigint, inserted bigint, updated bigint, unchanged bigint,
                        deleted bigint, waiting bigint, in_conflict bigint, waived bigint, absent bigint, surplus bigint)),
    'outcomes', (select coalesce(jsonb_agg(jsonb_build_object('outcome', outcome, 'rule', rule, 'field', field, 'count', n, 'remedy', remedy,
                   'legacyIds', to_jsonb(examples)) order by outcome, n desc, rule, field), '[]') from outcomes),
    'warnings', (select coalesce(jsonb_agg(jsonb_build_object('rule', rule, 'count', n, 'legacyIds', to_jsonb(examples)) order by rule), '[]') from warned),
    'money', (select coalesce(jsonb_object_agg(name, jsonb_build_object('inserted', coalesce(inserted, 0)::text, 'updated', coalesce(updated, 0)::text)), '{}') from money),
    'brakes', sync.foretold_brakes(p_execution, p_entity))
$$;
comment on function sync.plan_report(uuid, public.sync_entities) is
  'What a dry run found for one entity: counts, why, up to 20 legacy ids of each, the money of what would be '
  'inserted and updated, and what the brake would stop. No values of a row.';

create function sync.forget_plan(p_execution uuid, p_entity_id smallint, p_rows integer) returns boolean
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_count integer;
begin
  delete from public.sync_pending_keys where execution_id = p_execution and entity_id = p_entity_id;
  delete from public.sync_planned_records
   where ctid = any (array(select ctid from public.sync_planned_records where execution_id = p_execution and entity_id = p_entity_id limit p_rows));
  get diagnostics v_count = row_count;
  return v_count = p_rows;
end
$$;
comment on function sync.forget_plan(uuid, smallint, integer) is
  'Deletes some of what a dry run has noted of an entity''s records; true: there may be more.';

create function sync.forget_closed_plans(p_rows integer) returns void
language sql security invoker set search_path = pg_catalog, pg_temp as $$
  -- From one execution to the next of those that have left something, however many there have been.
  with recursive records as (
    (select r.execution_id as id from public.sync_planned_records r order by r.execution_id limit 1)
    union all
    select (select r.execution_id from public.sync_planned_records r where r.execution_id > p.id order by r.execution_id limit 1)
      from records p where p.id is not null
  ), keys as (
    (select k.execution_id as id from public.sync_pending_keys k where k.execution_id is not null order by k.execution_id limit 1)
    union all
    select (select k.execution_id from public.sync_pending_keys k where k.execution_id > p.id order by k.execution_id limit 1)
      from keys p where p.id is not null
  )
  select sync.forget_plan(x.id, e.id, p_rows)
    from (select id from records union select id from keys) n
   cross join lateral (select y.id, y.source_id from public.sync_executions y where y.id = n.id and y.status <> 'running' offset 0) x
    join public.sync_entities e on e.source_id = x.source_id
   where (exists (select from public.sync_planned_records r where r.execution_id = x.id and r.entity_id = e.id)
       or exists (select from public.sync_pending_keys k where k.execution_id = x.id and k.entity_id = e.id))
   limit 1
$$;
comment on function sync.forget_closed_plans(integer) is 'Deletes some of what dry runs that failed have left behind.';

create function sync.commit_plan(p_chain uuid, p_lease bigint, p_lease_seconds integer, p_rows integer) returns jsonb
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_chain     public.sync_chains := sync.hold_chain(p_chain, p_lease);
  v_execution public.sync_executions;
  v_entity    public.sync_entities;
  v_at        bigint := coalesce(v_chain."cursor", 0);
  v_dispatch  uuid[] := array[p_chain];
  v_more      boolean := false;
begin
  select * into strict v_execution from public.sync_executions where id = v_chain.execution_id for no key update;
  -- One entity per page, and of many records only some.
  select * into v_entity from public.sync_entities
   where source_id = v_execution.source_id and entity_type = v_execution.entities[v_at::integer + 1];
  if found then
    insert into public.sync_reports as r (execution_id, kind, body)
    values (v_execution.id, 'plan', jsonb_build_object('entities', jsonb_build_array(sync.plan_report(v_execution.id, v_entity))))
    on conflict (execution_id, kind, round) do update
       set body = jsonb_build_object('entities', r.body -> 'entities' || (excluded.body -> 'entities'))
     where not r.body -> 'entities' @> jsonb_build_array(jsonb_build_object('entity', v_entity.entity_type));
    v_more := sync.forget_plan(v_execution.id, v_entity.id, p_rows);
  end if;
  if v_at >= cardinality(v_execution.entities) then
    update public.sync_chains set state = 'done', closed_at = now(), due_at = null, page = page + 1, lease_until = null where id = p_chain;
    perform sync.finish_execution(v_execution.id, 'succeeded', null);
    v_dispatch := '{}';
  else
    update public.sync_chains
       set page = page + 1, "cursor" = v_at + (not v_more)::integer, lease_until = null, sends = 0, failures = 0, last_error = null,
           due_at = clock_timestamp() + make_interval(secs => p_lease_seconds)
     where id = p_chain;
  end if;
  return (select coalesce(jsonb_agg(jsonb_build_object('chain', c.id, 'page', c.page, 'execution', c.execution_id)), '[]')
            from public.sync_chains c where c.id = any (v_dispatch));
end
$$;
comment on function sync.commit_plan(uuid, bigint, integer, integer) is
  'The last chain of a dry run: reports entity by entity, forgets what it had noted of the records, and finishes the '
  'execution.';

revoke all on function sync.foretold_brakes(uuid, public.sync_entities), sync.plan_report(uuid, public.sync_entities),
  sync.commit_plan(uuid, bigint, integer, integer), sync.forget_plan(uuid, smallint, integer), sync.forget_closed_plans(integer) from public;
grant execute on function sync.foretold_brakes(uuid, public.sync_entities), sync.plan_report(uuid, public.sync_entities),
  sync.commit_plan(uuid, bigint, integer, integer), sync.forget_plan(uuid, smallint, integer), sync.forget_closed_plans(integer) to isthmus_worker;

-- supabase/schemas/functions/retention.sql

-- Purpose: removes history that is older than public.sync_retention says, some rows at a time.
-- Locks:   the rows that go; a row that somebody holds is left for the next time.

-- Called by pg_cron as the owner: the worker may add to the history, and take nothing of it away.
create function sync.remove_aged(p_rows integer) returns jsonb
language plpgsql security invoker set search_path = pg_catalog, pg_temp set enable_seqscan = off set enable_sort = off set lock_timeout = '1s' as $$
declare
  v_keep  public.sync_retention;
  v_gone  jsonb := '{}';
  v_count integer;
  v_rows  integer := least(greatest(p_rows, 0), 10000);
  v_old   uuid[];
begin
  -- One at a time: another call does the same work.
  if not pg_try_advisory_xact_lock(hashtextextended('isthmus: history', 0)) then
    return v_gone;
  end if;
  insert into public.sync_retention default values on conflict do nothing;
  select * into strict v_keep from public.sync_retention;

  -- By number, in which pages are committed but for a few: the first that is young ends it.
  delete from public.sync_page_log where id = any (array(
    select l.id from (select x.id, x.committed_at, x.execution_id from public.sync_page_log x order by x.id limit v_rows) l
      cross join lateral (select e.status from public.sync_executions e where e.id = l.execution_id offset 0) e
     where l.committed_at < now() - make_interval(days => v_keep.page_log_days) and e.status <> 'running'));
  get diagnostics v_count = row_count;
  v_gone := v_gone || jsonb_build_object('sync_page_log', v_count);

  delete from public.sync_reports where id = any (array(
    select r.id from public.sync_reports r where r.created_at < now() - make_interval(days => v_keep.report_days)
       and (select l.id from public.sync_reports l where l.kind = r.kind and l.created_at > r.created_at limit 1) is not null
     order by r.created_at limit v_rows for update skip locked));
  get diagnostics v_count = row_count;
  v_gone := v_gone || jsonb_build_object('sync_reports', v_count);

  delete from public.sync_conflicts where id = any (array(
    select c.id from public.sync_conflicts c
     where c.state in ('resolved', 'superseded') and not c.standing and not (c.decisions > 0 and c.resolution_strategy in ('target_wins', 'merge'))
       and coalesce(c.resolved_at, c.last_seen_at) < now() - make_interval(days => v_keep.conflict_days)
     order by coalesce(c.resolved_at, c.last_seen_at) limit v_rows for update skip locked));
  get diagnostics v_count = row_count;
  v_gone := v_gone || jsonb_build_object('sync_conflicts', v_count);

  -- What people have not been told to be over is kept until they have.
  delete from public.sync_alerts where id = any (array(
    select a.id from public.sync_alerts a
     where a.closed_at is not null and a.closed_at < now() - make_interval(days => v_keep.alert_days) and a.told_severity is null
     order by a.closed_at limit v_rows for update skip locked));
  get diagnostics v_count = row_count;
  v_gone := v_gone || jsonb_build_object('sync_alerts', v_count);

  -- Fewer of these: each takes its chains along. What is kept of one elsewhere loses its name first, some rows at a
  -- time.
  v_old := array(
    select e.id from (select x.* from public.sync_executions x
                       where x.ordinal <= (select y.ordinal from public.sync_executions y order by y.ordinal desc limit 1) - 1000
                       order by x.ordinal limit 100) e
     where e.status <> 'running'
       and e.started_at < now() - make_interval(days => greatest(v_keep.execution_days, v_keep.page_log_days, v_keep.report_days))
       and (select l.id from public.sync_page_log l where l.execution_id = e.id limit 1) is null
       and (select r.legacy_id from public.sync_planned_records r where r.execution_id = e.id limit 1) is null
       and (select a.id from public.sync_alerts a where a.execution_id = e.id and a.closed_at is null limit 1) is null
       and (select b.id from public.sync_brakes b where b.execution_id = e.id and b.closed_at is null limit 1) is null
     order by e.ordinal limit greatest(v_rows / 200, 1));
  update public.sync_conflicts c set execution_id = null
   where c.id = any (array(select k.id from public.sync_conflicts k where k.execution_id = any (v_old) limit v_rows for no key update skip locked));
  update public.sync_conflicts c set resolved_in = null
   where c.id = any (array(select k.id from public.sync_conflicts k where k.resolved_in = any (v_old) limit v_rows for no key update skip locked));
  update public.sync_warnings w set execution_id = null
   where w.ctid = any (array(select k.ctid from public.sync_warnings k where k.execution_id = any (v_old) limit v_rows for no key update skip locked));
  -- Where somebody holds such a row, as a decision that is being made does, the execution is left for the next time.
  begin
    delete from public.sync_executions e
     where e.id = any (v_old)
       and (select c.id from public.sync_conflicts c where c.execution_id = e.id limit 1) is null
       and (select c.id from public.sync_conflicts c where c.resolved_in = e.id limit 1) is null
       and (select w.legacy_id from public.sync_warnings w where w.execution_id = e.id limit 1) is null;
    get diagnostics v_count = row_count;
    v_gone := v_gone || jsonb_build_object('sync_executions', v_count);
  exception when lock_not_available then
    null;
  end;

  v_gone := (select coalesce(jsonb_object_agg(key, value), '{}') from jsonb_each(v_gone) where value <> '0');
  update public.sync_retention r
     set removed_at = now(),
         removed = r.removed || (select jsonb_object_agg(g.key, g.value::text::bigint + coalesce((r.removed ->> g.key)::bigint, 0)) from jsonb_each(v_gone) g)
   where v_gone <> '{}';
  return v_gone;
end
$$;
comment on function sync.remove_aged(integer) is
  'Removes history that is older than public.sync_retention says, up to p_rows rows of each table; returns how many '
  'went, by table.';

create function sync.remove_history() returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  perform sync.remove_aged(2000);
  perform sync.close_alerts(array(select id from public.sync_alerts where kind = 'history_kept' and closed_at is null));
exception when others then
  perform sync.raise_alert('history_kept', 'warning', null, null, null,
    format('History that is older than sync_retention says could not be removed (%s).', sqlstate), jsonb_build_object('sqlstate', sqlstate));
end
$$;
comment on function sync.remove_history() is
  'Removes some of the history that is older than public.sync_retention says, and opens or closes the alert '
  'history_kept. The job isthmus-remove-history runs it every minute.';

revoke all on function sync.remove_aged(integer), sync.remove_history() from public;

-- supabase/schemas/functions/validation.sql

-- Purpose: commit what a comparison of both sides found, entity by entity, and close the execution.
-- Locks:   the chain's row, then the execution's row.

-- Settings are pinned as they are where rows are loaded.
create function sync.edited_records(p_entity_id smallint, p_columns text[]) returns setof bigint
language plpgsql stable security invoker
set search_path = pg_catalog, pg_temp set timezone = 'UTC' set timezone_abbreviations = 'Default' set datestyle = 'ISO, YMD'
set intervalstyle = 'iso_8601' set extra_float_digits = 3 set bytea_output = 'hex' set xmloption = 'content' set lc_monetary = 'C'
set array_nulls = on set standard_conforming_strings = on set quote_all_identifiers = off set transform_null_equals = off as $$
declare
  v_entity public.sync_entities;
  v_differ text := (select string_agg(format($q$coalesce(pg_catalog.to_jsonb(t.%1$I), 'null') is distinct from s."left" -> %1$L$q$, c), ' or ')
                      from pg_catalog.unnest(p_columns) c);
begin
  if v_differ is null then
    return;
  end if;
  select * into strict v_entity from public.sync_entities where id = p_entity_id;
  return query execute format($q$
    select s.legacy_id
      from public.sync_row_states s
      join public.uuid_mappings_enhanced m on m.source_id = %2$s and m.entity_type = %3$L and m.legacy_id = s.legacy_id
      join public.%1$I t on t.id = m.entity_uuid
     where s.entity_id = %4$s and s.gone_at is null
       and %7$s is not true
       and case when s.left_hash is null then %5$s
                else s.left_hash <> hashtextextended((select pg_catalog.to_jsonb(x.*)::text from (select %6$s) x), 0) end
  $q$, v_entity.target_table, v_entity.source_id, v_entity.entity_type, v_entity.id, v_differ, sync.owned_columns(v_entity),
    sync.as_left_sql(v_entity));
end
$$;
comment on function sync.edited_records(smallint, text[]) is
  'Landed records whose target row no longer holds what the sync left in one of these columns (kept as hashes: in '
  'any column); what was decided for the target is such an edit.';

create function sync.tell_differences(p_chain public.sync_chains) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  perform sync.raise_alert('validation_failed', 'critical', null, p_chain.execution_id, e.id,
      format('Both sides of %s still differ after the differing records were read once more: %s records. Which, and counts and sums of both sides, stand in sync_reports (control_totals:%s) of the execution.',
        e.entity_type, jsonb_array_length(r.body -> 'differing'), e.entity_type),
      jsonb_build_object('code', 'CONTROL_TOTALS_DIFFER', 'records', jsonb_array_length(r.body -> 'differing'),
        'legacy_ids', jsonb_path_query_array(r.body, '$.differing[0 to 99]')))
     from public.sync_reports r join public.sync_executions x on x.id = r.execution_id join public.sync_entities e on e.source_id = x.source_id and e.entity_type = substr(r.kind, 16)
    where r.execution_id = p_chain.execution_id and r.kind like 'control\_totals:%' and r.round = p_chain.round and jsonb_array_length(r.body -> 'differing') > 0;
  perform sync.close_alerts(array(
    select a.id from public.sync_executions x join public.sync_alerts a on a.source_id = x.source_id join public.sync_entities e on e.id = a.entity_id
      join public.sync_reports r on r.execution_id = p_chain.execution_id and r.kind = 'control_totals:' || e.entity_type and r.round = p_chain.round
     where x.id = p_chain.execution_id and a.kind = 'validation_failed' and a.closed_at is null and jsonb_array_length(r.body -> 'differing') = 0));
end
$$;
comment on function sync.tell_differences(public.sync_chains) is
  'Opens or counts the alert validation_failed of each entity in which both sides differ at the end of a comparison, '
  'and closes that of each in which they do not.';

create function sync.commit_validation(p_chain uuid, p_lease bigint, p_entity_id smallint, p_report jsonb, p_recheck bigint[],
  p_last boolean, p_lease_seconds integer) returns jsonb
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_chain    public.sync_chains;
  v_entity   public.sync_entities;
  v_differ   jsonb;
  v_dispatch uuid[] := '{}';
begin
  select * into v_chain from public.sync_chains
   where id = p_chain and lease = p_lease and state = 'open' and lease_until is not null for update;
  if not found then
    raise exception 'chain %: the lease was lost to another delivery', p_chain using errcode = 'IS010';
  end if;
  perform from public.sync_executions where id = v_chain.execution_id for no key update;

  if p_entity_id is not null then
    select * into strict v_entity from public.sync_entities where id = p_entity_id;
    insert into public.sync_reports (execution_id, kind, round, body)
    values (v_chain.execution_id, 'control_totals:' || v_entity.entity_type, v_chain.round, p_report)
    on conflict (execution_id, kind, round) do update set body = excluded.body, created_at = now();
    insert into public.sync_pending_keys (entity_id, legacy_id, reason)
    select p_entity_id, k, 'control_total' from pg_catalog.unnest(p_recheck) k order by k
    on conflict (entity_id, execution_id, legacy_id) do update set generation = default, requested_at = now(), gone = false;
  end if;

  if not p_last then
    update public.sync_chains
       set page = page + 1, "cursor" = coalesce("cursor", -1) + 1, lease_until = null, sends = 0, failures = 0, last_error = null,
           due_at = clock_timestamp() + make_interval(secs => p_lease_seconds)
     where id = p_chain;
    v_dispatch := array[p_chain];
  else
    select pg_catalog.jsonb_agg(jsonb_build_object('code', 'CONTROL_TOTALS_DIFFER', 'entity', substr(kind, 16), 'legacy_ids', body -> 'differing'))
      into v_differ
      from public.sync_reports
     where execution_id = v_chain.execution_id and kind like 'control\_totals:%' and round = v_chain.round
       and jsonb_array_length(body -> 'differing') > 0;
    if v_differ is not null and v_chain.round = 1 then
      -- These records are read once more, and then everything is compared again.
      update public.sync_chains
         set state = 'blocked', due_at = null, round = 2, page = page + 1, "cursor" = null, lease_until = null, sends = 0, failures = 0
       where id = p_chain;
    else
      perform sync.tell_differences(v_chain);
      update public.sync_chains set state = 'done', closed_at = now(), due_at = null, page = page + 1, lease_until = null
       where id = p_chain;
      perform sync.finish_execution(v_chain.execution_id,
        case when v_differ is null then 'succeeded' else 'failed' end::public.sync_execution_status, v_differ);
    end if;
    v_dispatch := array(select sync.advance_execution(v_chain.execution_id));
  end if;
  return (select coalesce(pg_catalog.jsonb_agg(jsonb_build_object('chain', c.id, 'page', c.page, 'execution', c.execution_id)), '[]')
            from public.sync_chains c where c.id = any (v_dispatch));
end
$$;
comment on function sync.commit_validation(uuid, bigint, smallint, jsonb, bigint[], boolean, integer) is
  'Stores the comparison of one entity, and has the records p_recheck read again; after the last one compares '
  'everything once more, or finishes the execution.';

revoke all on function sync.edited_records(smallint, text[]), sync.tell_differences(public.sync_chains),
  sync.commit_validation(uuid, bigint, smallint, jsonb, bigint[], boolean, integer) from public;
grant execute on function sync.edited_records(smallint, text[]), sync.tell_differences(public.sync_chains),
  sync.commit_validation(uuid, bigint, smallint, jsonb, bigint[], boolean, integer) to isthmus_worker;

-- supabase/schemas/functions/begin.sql

-- Purpose: begin an execution: its row, its chains, and the checkpoints of entities in which nothing changed.
-- Locks:   the source's row, so that two requests cannot plan the same entities at once.

create function sync.begin_source(p_name text) returns smallint
language sql security invoker set search_path = pg_catalog, pg_temp as $$
  insert into public.sync_sources (name) values (p_name)
  on conflict (name) do update set name = excluded.name
  returning id
$$;
comment on function sync.begin_source(text) is
  'The id of a source, registered on first use with a namespace of its own.';

create function sync.notice_target(p_source_id smallint, p_witness bigint) returns boolean
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_identity text := sync.target_identity();
  v_known    text;
  v_until    timestamptz;
  v_accepted timestamptz := (select max(accepted_at) from public.sync_identities
                              where source_id = p_source_id and side = 'target_state' and accepted_at is not null);
  v_latest   bigint := coalesce((select max(ordinal) from public.sync_executions), 0);
begin
  select target_identity, put_back_until into v_known, v_until from public.sync_sources where id = p_source_id for no key update;
  update public.sync_sources
     set target_identity = v_identity,
         put_back_until = coalesce(v_accepted, put_back_until),
         written_since = case when sync.without_timeline(v_known) <> sync.without_timeline(v_identity) then pg_current_xact_id()
                         else written_since end
   where id = p_source_id and (target_identity, put_back_until) is distinct from (v_identity, coalesce(v_accepted, put_back_until));
  if coalesce(v_known, v_identity) = v_identity and coalesce(p_witness, 0) <= v_latest and coalesce(v_accepted <= v_until, true) then
    return false;
  end if;
  -- Whatever was read and deleted since the backup is found again from the older checkpoints; what nobody wrote
  -- since, by comparing.
  update public.sync_checkpoints set server_starts = '{}' where source_id = p_source_id;
  perform sync.raise_alert('target_restored', 'critical', p_source_id, null, null,
    'This database was put back to an older state, or is a copy. The next execution of each entity reads what has changed since, and compares both sides. Edits that people made here since the backup are lost with it.',
    jsonb_build_object('executions_here', v_latest, 'executions_remembered', p_witness));
  return true;
end
$$;
comment on function sync.notice_target(smallint, bigint) is
  'True: this database was put back since the last execution, as a person has accepted; then both sides are '
  'compared. p_witness: the last execution that the cache remembers.';

create function sync.begin_execution(p_start jsonb) returns jsonb
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_source    public.sync_sources;
  v_entities  text[] := array(select jsonb_array_elements_text(p_start -> 'entities'));
  v_dry_run   boolean := p_start ->> 'kind' = 'plan';
  v_selective boolean := coalesce((p_start ->> 'selective')::boolean, false);
  v_active    uuid;
  v_execution public.sync_executions;
  v_dispatch  uuid[];
begin
  select * into strict v_source from public.sync_sources where id = (p_start ->> 'source_id')::smallint for no key update;
  -- What reads a selection runs beside others: the locks of the records order their pages. But ids are taken over
  -- alone.
  select x.id into v_active from public.sync_executions x
   where x.source_id = v_source.id and x.status = 'running' and x.entities && v_entities
     and (not (v_selective or x.selective) or p_start ->> 'kind' = 'adopt'
          or exists (select from public.sync_chains c where c.execution_id = x.id and c.capture = 'adopt'))
   order by x.started_at limit 1;
  if found then
    raise exception 'execution % is running and covers some of these entities', v_active
      using errcode = 'IS030', hint = 'Wait for it to finish, or ask for its state with GET ?execution=' || v_active;
  end if;

  if not v_dry_run then
    perform sync.keep_identities(v_source.id, coalesce(p_start -> 'parties', '{}')
      || jsonb_build_object('source', (p_start ->> 'system_identifier') || '/' || (p_start ->> 'database_oid')));
  end if;
  update public.sync_sources
     set system_identifier = p_start ->> 'system_identifier', timeline = (p_start ->> 'timeline')::integer,
         in_recovery = (p_start ->> 'in_recovery')::boolean, database_oid = (p_start ->> 'database_oid')::bigint,
         server_start = p_start ->> 'server_start',
         capabilities = capabilities || jsonb_build_object('server_version', (p_start ->> 'server_version')::integer), updated_at = now()
   where id = v_source.id and not v_dry_run;

  insert into public.sync_executions
    (job_id, source_id, triggered_by, request, entities, horizon, snapshot_xmax, system_identifier, timeline, database_oid,
     server_start, source_time, dry_run, selective, brake_share, brake_records, brake_overwrite_share, brake_overwrite_records)
  values ((p_start ->> 'job_id')::uuid, v_source.id, p_start ->> 'triggered_by', p_start -> 'request', v_entities,
          (p_start ->> 'horizon')::xid8, (p_start ->> 'snapshot_xmax')::xid8, p_start ->> 'system_identifier',
          (p_start ->> 'timeline')::integer, (p_start ->> 'database_oid')::bigint, p_start ->> 'server_start', p_start ->> 'source_time', v_dry_run, v_selective,
          (p_start -> 'brake' ->> 'share')::numeric, (p_start -> 'brake' ->> 'records')::integer,
          coalesce((p_start -> 'brake' ->> 'overwriteShare')::numeric, 0.25), coalesce((p_start -> 'brake' ->> 'overwriteRecords')::integer, 1000))
  returning * into v_execution;

  insert into public.sync_chains
    (execution_id, entity_id, capture, range_from, range_to, changed_from, seen_before, join_id, selection, "cursor", cursor_at, until_at,
     definition_hash, skips_unchanged, page_size)
  select v_execution.id, e.id, c.capture, c.range_from, c.range_to, c.changed_from::xid8, c.seen_before::xid8, c.join_id, c.selection, c."cursor", c.cursor_at,
         c.until_at, e.definition_hash,
         c.capture = 'full' and exists (
           select from public.sync_checkpoints k
            where k.source_id = v_source.id and k.entity_type = e.entity_type and k.definition_hash = e.definition_hash),
         coalesce(c.page_size, (p_start ->> 'page_size')::integer)
    from jsonb_to_recordset(p_start -> 'chains') as c
           (entity text, capture public.sync_capture, range_from bigint, range_to bigint, changed_from text, seen_before text,
            join_id integer, selection jsonb, "cursor" bigint, cursor_at text, until_at text, page_size integer)
    join public.sync_entities e on e.source_id = v_source.id and e.entity_type = c.entity;
  if p_start ->> 'kind' in ('sync', 'plan') then
    insert into public.sync_chains (execution_id, capture, page_size) values (v_execution.id, 'validate', (p_start ->> 'page_size')::integer);
  end if;

  if jsonb_path_exists(p_start, '$.contract.*[*]') then
    insert into public.sync_reports (execution_id, kind, body) values (v_execution.id, 'contract', p_start -> 'contract');
  end if;

  if not v_dry_run then
    if p_start -> 'restored' <> '[]' then
      perform sync.raise_alert('source_restored', 'critical', null, v_execution.id, null,
        'The source is a primary and stands before what was read from it already: it was restored from a backup or to a point in time, a replica was promoted that had not all of it, or it lost its last transactions in a crash. Everything is read again; records that it no longer has are deleted as their entities say.',
        jsonb_build_object('entities', p_start -> 'restored'),
        sync.subject_of((select string_agg(r, ', ' order by r) from jsonb_array_elements_text(p_start -> 'restored') r)));
    end if;
    if p_start -> 'promoted' <> '[]' then
      perform sync.raise_alert('source_promoted', 'warning', null, v_execution.id, null,
        'The source is on another timeline: a replica was promoted, or the source was restored to a point in time and has moved on since. Its last transactions before that may be lost. Everything is read again; records that it no longer has are deleted as their entities say.',
        jsonb_build_object('entities', p_start -> 'promoted'),
        sync.subject_of((select string_agg(r, ', ' order by r) from jsonb_array_elements_text(p_start -> 'promoted') r)));
    end if;
  end if;

  if p_start ->> 'kind' = 'sync' and not v_selective then
    perform sync.plan_shapes(v_source.id, v_execution.id, p_start -> 'shapes');
    if jsonb_typeof(p_start -> 'horizon_held') = 'object' then
      perform sync.raise_alert('horizon_held', 'warning', null, v_execution.id, null, p_start -> 'horizon_held' ->> 'message', p_start -> 'horizon_held' -> 'details');
    else
      perform sync.close_alert('horizon_held', v_source.id);
    end if;
  end if;

  if p_start ->> 'kind' = 'sync' then
    -- What was held back, or left over, may have come back since: it is looked at once more before it is deleted.
    update public.sync_pending_keys k set gone = false from public.sync_entities e
     where e.id = k.entity_id and e.source_id = v_source.id and e.entity_type = any (v_entities) and k.execution_id is null and k.gone;
  end if;
  if v_dry_run then
    -- A run would read these too.
    insert into public.sync_pending_keys (execution_id, entity_id, legacy_id, reason)
    select v_execution.id, k.entity_id, k.legacy_id, k.reason
      from public.sync_pending_keys k join public.sync_entities e on e.id = k.entity_id
     where e.source_id = v_source.id and e.entity_type = any (v_entities) and k.execution_id is null;
  end if;

  insert into public.sync_pending_keys as k (execution_id, entity_id, legacy_id, reason)
  select case when v_dry_run then v_execution.id end, e.id, r.k, r.reason
    from jsonb_to_recordset(p_start -> 'requested') as r (entity text, k bigint, reason text)
    join public.sync_entities e on e.source_id = v_source.id and e.entity_type = r.entity
   order by e.id, r.k
  on conflict (entity_id, execution_id, legacy_id) do update set generation = default, requested_at = now(), gone = false,
     reason = case when k.reason = 'dependants' then k.reason else excluded.reason end;

  -- Nothing was written there since the last horizon: the plan itself has looked.
  update public.sync_checkpoints k
     set horizon = v_execution.horizon, snapshot_xmax = v_execution.snapshot_xmax, watermark_at = v_execution.source_time, watermark_id = null, execution_id = v_execution.id,
         server_starts = sync.latest_starts(k.server_starts, v_execution.server_start), updated_at = now()
    from jsonb_to_recordset(p_start -> 'idle') as i (entity text, horizon text)
   where k.source_id = v_source.id and k.entity_type = i.entity and k.horizon = i.horizon::xid8;

  perform sync.begin_job(v_execution.job_id);
  -- A statement of its own: a query does not see the chains that a function it calls has just made.
  v_dispatch := array(select sync.advance_execution(v_execution.id));
  return jsonb_build_object('execution', v_execution.id, 'ordinal', v_execution.ordinal, 'dispatch', (
    select coalesce(jsonb_agg(jsonb_build_object('chain', c.id, 'page', c.page, 'execution', c.execution_id) order by d.n), '[]')
      from unnest(v_dispatch) with ordinality d (id, n) join public.sync_chains c on c.id = d.id));
end
$$;
comment on function sync.begin_execution(jsonb) is
  'Begins an execution and returns its first pages. Raises IS030 while another one covers an entity, IS060 for a '
  'source, target or installation that is new.';

revoke all on function sync.begin_source(text), sync.notice_target(smallint, bigint), sync.begin_execution(jsonb) from public;
grant execute on function sync.begin_source(text), sync.notice_target(smallint, bigint), sync.begin_execution(jsonb) to isthmus_worker;

-- supabase/schemas/functions/ticks.sql

-- Purpose: what becomes of each tick: that it began and ended its work here.

create function sync.forget_ticks() returns void
language sql security invoker set search_path = pg_catalog, pg_temp as $$
  -- The last tick that worked is kept, however long ago.
  delete from public.sync_ticks t
   using (select max(created_at) as worked_at from public.sync_ticks where ended_at is not null) last
   where t.created_at < now() - interval '1 day' and (t.ended_at is null or t.created_at < last.worked_at)
$$;
comment on function sync.forget_ticks() is 'Deletes what became of ticks of more than a day ago.';

create function sync.begin_tick(p_call uuid) returns uuid
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_id uuid;
begin
  update public.sync_ticks set begun_at = clock_timestamp() where id = p_call and begun_at is null returning id into v_id;
  -- Somebody else than pg_cron has called, or pg_net has sent a call twice.
  if v_id is null then
    v_id := gen_random_uuid();
    insert into public.sync_ticks (id, begun_at) values (v_id, clock_timestamp());
  end if;
  return v_id;
end
$$;
comment on function sync.begin_tick(uuid) is
  'A tick begins its work here. p_call: the call that it answers, if it knows one. Returns what sync.end_tick takes.';

create function sync.note_idle_parts(p_id uuid, p_idle text[]) returns void
language sql security invoker set search_path = pg_catalog, pg_temp as $$
  update public.sync_ticks set idle = p_idle where id = p_id
$$;
comment on function sync.note_idle_parts(uuid, text[]) is
  'Which parts of a tick had nothing to look at: of what these do the tick tells nothing.';

create function sync.note_failed_parts(p_id uuid, p_failed text[]) returns void
language sql security invoker set search_path = pg_catalog, pg_temp as $$
  update public.sync_ticks set failed = p_failed where id = p_id;
  -- What nobody has expected is told at once.
  select sync.raise_alert('internal_error', 'critical', null, null, null,
           format('An error that nobody has expected ended the part %s of a tick. The other parts go on, and it is tried with the next tick. See tick.failed in the log of sync-tick at that time.', split_part(f, ':', 1)),
           jsonb_build_object('part', split_part(f, ':', 1), 'code', 'INTERNAL'), 'tick ' || split_part(f, ':', 1))
    from unnest(p_failed) f where f like '%: INTERNAL';
  -- What fails three times one after the other does not pass by itself, whatever the errors are. A part that looks
  -- seldom is counted by its own looks.
  select sync.raise_alert('tick_part_failed', 'critical', null, null, null,
           format('A part of the work of sync-tick fails each time: %s. What it does is not done; the other parts go on. See tick.failed in the log of sync-tick.', f), '{}', split_part(f, ':', 1))
    from unnest(p_failed) f
   where (select count(*)
            from (select t.failed from public.sync_ticks t
                   where t.ended_at is not null and t.id <> p_id and split_part(f, ':', 1) <> all (t.idle) order by t.created_at desc limit 2) t
           where exists (select from unnest(t.failed) o where o like '%: %' and split_part(o, ':', 1) = split_part(f, ':', 1))) = 2;
$$;
comment on function sync.note_failed_parts(uuid, text[]) is
  'Which parts of a tick''s work failed, each with its error code: for such a tick nobody calls the heartbeat '
  'address. A part that fails three times in a row, each time that it has something to look at, is an alert.';

create function sync.held_up() returns text[]
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  -- Behind another execution a job waits while work is done.
  select array_remove(array[
    case when exists (select from public.sync_jobs where enabled and waits_since is not null and last_error ->> 'code' <> 'EXECUTION_ACTIVE') then 'jobs' end,
    case when exists (select from public.sync_chains where state = 'open' and refusals > 0) then 'sends' end], null)
$$;
comment on function sync.held_up() is
  'What waits although ticks work: jobs that cannot begin for a reason that passes, pages that the queue does not '
  'accept.';

create function sync.end_tick(p_id uuid) returns void
language sql security invoker set search_path = pg_catalog, pg_temp as $$
  update public.sync_ticks set ended_at = clock_timestamp(), failed = failed || sync.held_up() where id = p_id;
  select sync.close_alerts(array(select id from public.sync_alerts where kind in ('tick_missing', 'tick_refused', 'target_refuses') and closed_at is null));
  select sync.close_alerts(array(
    select a.id from public.sync_alerts a
     where a.kind = 'tick_part_failed' and a.closed_at is null
       and not exists (select from public.sync_ticks t cross join unnest(t.failed || t.idle) f where t.id = p_id and (f like '%: %' or f = any (t.idle)) and split_part(f, ':', 1) = a.subject)));
  -- One that passes by the next tick is told all the same.
  select sync.close_alerts(array(
    select a.id from public.sync_alerts a
     where a.kind = 'internal_error' and a.subject like 'tick %' and a.closed_at is null and a.last_seen_at <= clock_timestamp() - interval '10 minutes'
       and not exists (select from public.sync_ticks t cross join unnest(t.failed || t.idle) f where t.id = p_id and 'tick ' || split_part(f, ':', 1) = a.subject)));
  -- Where no like run comes any more, a day after somebody has looked is enough.
  select sync.close_alerts(array(
    select a.id from public.sync_alerts a
     where a.kind = 'unusual_run' and a.closed_at is null and greatest(a.acknowledged_at, a.last_seen_at) < clock_timestamp() - interval '1 day' and a.acknowledged_at is not null));
  select sync.apply_alert_notes();
  select sync.forget_ticks();
$$;
comment on function sync.end_tick(uuid) is 'A tick has done its work: who waits for one is told.';

revoke all on function sync.forget_ticks(), sync.begin_tick(uuid), sync.note_idle_parts(uuid, text[]), sync.note_failed_parts(uuid, text[]), sync.held_up(), sync.end_tick(uuid) from public;
grant execute on function sync.forget_ticks(), sync.begin_tick(uuid), sync.note_idle_parts(uuid, text[]), sync.note_failed_parts(uuid, text[]), sync.held_up(), sync.end_tick(uuid) to isthmus_worker;

-- supabase/schemas/functions/tick-call.sql

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

-- supabase/schemas/functions/tick-watch.sql

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

-- supabase/schemas/functions/work-watch.sql

-- Purpose: tell of jobs that work for longer than they should, and of entities that have not been in step for longer
--          than they should.
-- Locks:   open alerts of these kinds.

create function sync.work_at(p_source_id smallint) returns jsonb
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select jsonb_build_object(
    'jobs', (select coalesce(jsonb_agg(jsonb_build_object(
        'name', j.name, 'enabled', j.enabled and j.cron_expression is not null, 'cron_expression', j.cron_expression, 'time_zone', j.time_zone, 'configuration', j.configuration,
        'alarms', j.alarms, 'worked', j.succeeded_at is not null) order by j.name), '[]') from public.sync_jobs j),
    'entities', (select coalesce(jsonb_agg(jsonb_build_object('entity', k.entity_type, 'since', coalesce(x.started_at, k.updated_at)) order by k.entity_type), '[]')
                   from public.sync_checkpoints k left join public.sync_executions x on x.id = k.execution_id where k.source_id = p_source_id),
    'running', (select coalesce(jsonb_agg(jsonb_build_object('execution', x.id, 'job', j.name, 'alarms', j.alarms, 'since', greatest(x.started_at, x.controlled_at, j.controlled_at), 'usualSeconds', (
                    -- What the latest like it took, of which half took less.
                    select percentile_cont(0.5) within group (order by extract(epoch from l.completed_at - l.started_at))
                      from (select o.started_at, o.completed_at from public.sync_executions o
                             where o.job_id = j.id and o.status = 'succeeded' order by o.started_at desc limit 14) l)) order by x.started_at), '[]')
                  from public.sync_executions x join public.sync_jobs j on j.id = x.job_id where x.source_id = p_source_id and x.status = 'running'
                   -- How long a person has it wait is told by itself.
                   and x.control is null and j.control is null))
$$;
comment on function sync.work_at(smallint) is
  'What shared/tick/watch-work.ts judges: the jobs, since when each entity is known to be in step (when the '
  'execution began that read it last), and the executions of jobs that run, with what they usually take.';

create function sync.tell_work(p_source_id smallint, p_lag jsonb, p_late jsonb) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  if p_lag is null then
    perform sync.close_alert('entities_lag', p_source_id);
  else
    perform sync.raise_alert('entities_lag', p_lag ->> 'severity', p_source_id, null, null, p_lag ->> 'message', p_lag -> 'details');
  end if;
  perform sync.close_alerts(array(
    select a.id from public.sync_alerts a
     where a.kind = 'job_late' and a.source_id = p_source_id and a.closed_at is null
       and a.subject not in (select sync.subject_of(l ->> 'job') from jsonb_array_elements(p_late) l)));
  perform sync.raise_alert('job_late', l ->> 'severity', p_source_id, (l ->> 'execution')::uuid, null, l ->> 'message', l -> 'details', sync.subject_of(l ->> 'job'))
     from jsonb_array_elements(p_late) l;
end
$$;
comment on function sync.tell_work(smallint, jsonb, jsonb) is
  'Opens the alerts entities_lag ({severity, message, details}; null: none lags) and job_late ([{job, execution, '
  'severity, message, details}]), and closes those whose cause is gone.';

revoke all on function sync.work_at(smallint), sync.tell_work(smallint, jsonb, jsonb) from public;
grant execute on function sync.work_at(smallint), sync.tell_work(smallint, jsonb, jsonb) to isthmus_worker;

-- supabase/schemas/functions/alert-messages.sql

-- Purpose: what a message about alerts says, and how it is signed. No value of a row, no address and no key.

-- By the definition of HMAC (RFC 2104), from what the server has in pg_catalog: pgcrypto stands in another schema
-- here and there, or nowhere.
create function sync.hmac_sha256(p_key text, p_message text) returns text
language plpgsql immutable security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_key   bytea := convert_to(p_key, 'UTF8');
  v_inner bytea;
  v_outer bytea;
begin
  if length(v_key) > 64 then
    v_key := sha256(v_key);
  end if;
  v_key := v_key || decode(repeat('00', 64 - length(v_key)), 'hex');
  v_inner := v_key;
  v_outer := v_key;
  for i in 0 .. 63 loop
    v_inner := set_byte(v_inner, i, get_byte(v_key, i) # 54);
    v_outer := set_byte(v_outer, i, get_byte(v_key, i) # 92);
  end loop;
  return encode(sha256(v_outer || sha256(v_inner || convert_to(p_message, 'UTF8'))), 'hex');
end
$$;
comment on function sync.hmac_sha256(text, text) is 'The HMAC-SHA-256 of a message, in hexadecimal digits.';

create function sync.chat_text(p_text text) returns text
language sql immutable security invoker set search_path = pg_catalog, pg_temp as $$
  select replace(replace(replace(left(regexp_replace(p_text, '[[:cntrl:]]+', ' ', 'g'), 2000), '&', '&amp;'), '<', '&lt;'), '>', '&gt;')
$$;
comment on function sync.chat_text(text) is
  'A text for a chat: one line of 2,000 characters at most, in which nothing is a link, a mention or other markup.';

create function sync.project_ref() returns text
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  return substring(sync.read_secret('isthmus_functions_url') from '^https://([a-z0-9]{20})[.]supabase[.]co(/|$)');
exception when undefined_object or object_not_in_prerequisite_state then
  return null;
end
$$;
comment on function sync.project_ref() is 'The project''s ref, where the functions'' address in Vault tells it.';

create function sync.studio_link(p_ref text, p_alert uuid) returns text
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select 'https://supabase.com/dashboard/project/' || p_ref || '/editor/' || 'public.sync_alerts'::regclass::oid || '?schema=public'
      || coalesce('&filter=id%3Aeq%3A' || p_alert, '')
$$;
comment on function sync.studio_link(text, uuid) is
  'Where Studio shows a row of sync_alerts; without a row: all of them. null without a ref.';

create function sync.alert_codes(p_alert public.sync_alerts) returns text[]
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  with told as (
    select p_alert.details as said
    union all
    select x.errors from public.sync_executions x where x.id = p_alert.execution_id and p_alert.kind = 'execution_failed'
    union all
    select '{"code": "BRAKE_APPLIED"}' where p_alert.kind = 'brake'
  ), codes as (
    select c #>> '{}' as code from told cross join jsonb_path_query(told.said, 'strict $.**.code') c where jsonb_typeof(c) = 'string'
    union all
    select 'SQLSTATE ' || (c #>> '{}') from told cross join jsonb_path_query(told.said, 'strict $.**.sqlstate') c where jsonb_typeof(c) = 'string'
  )
  -- Whatever is no code of ours does not leave.
  select array(select code from codes where code ~ '^([A-Z][A-Z0-9_]{1,59}|SQLSTATE [0-9A-Z]{5})$' group by code order by count(*) desc, code limit 5)
$$;
comment on function sync.alert_codes(public.sync_alerts) is
  'The codes of what an alert is about, the most frequent first, five at most.';

create function sync.alert_entities(p_alert public.sync_alerts) returns text[]
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  with named as (
    select c #>> '{}' as name from jsonb_path_query(p_alert.details, 'strict $.**.entity') c where jsonb_typeof(c) = 'string'
    union
    select c #>> '{}' from jsonb_path_query(p_alert.details, 'strict $.entities[*]', '{}', true) c where jsonb_typeof(c) = 'string'
    union
    select c #>> '{}' from public.sync_executions x cross join jsonb_path_query(x.errors, 'strict $.**.entity', '{}', true) c
     where x.id = p_alert.execution_id and p_alert.kind = 'execution_failed' and jsonb_typeof(c) = 'string'
  ), known as (
    select n.name from named n where exists (select from public.sync_entities e where e.entity_type = n.name)
    union
    select e.entity_type from public.sync_entities e where e.id = p_alert.entity_id
  )
  -- An execution that failed as a whole has failed for all of its entities.
  select coalesce((select array_agg(name order by name) from known),
                  array(select e from public.sync_executions x cross join unnest(x.entities) e where x.id = p_alert.execution_id and p_alert.kind = 'execution_failed' order by e))
$$;
comment on function sync.alert_entities(public.sync_alerts) is 'The entities that an alert is about.';

create function sync.alert_facts(p_alert public.sync_alerts, p_ref text) returns jsonb
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select jsonb_build_object(
    'alert', p_alert.id, 'kind', p_alert.kind, 'severity', p_alert.severity,
    'source', (select s.name from public.sync_sources s where s.id = p_alert.source_id),
    'entity', (select e.entity_type from public.sync_entities e where e.id = p_alert.entity_id),
    'subject', nullif(p_alert.subject, ''), 'execution', p_alert.execution_id,
    'job', (select j.name from public.sync_jobs j where j.id = p_alert.job_id),
    'message', left(p_alert.message, 2000), 'remedy', p_alert.remedy, 'occurrences', p_alert.occurrences,
    'since', to_char(p_alert.first_seen_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
    'codes', to_jsonb(sync.alert_codes(p_alert)), 'entities', to_jsonb(e.names[1:20]), 'entityCount', cardinality(e.names),
    'acknowledgedBy', p_alert.acknowledged_by, 'link', sync.studio_link(p_ref, p_alert.id))
    from (select sync.alert_entities(p_alert) as names) e
$$;
comment on function sync.alert_facts(public.sync_alerts, text) is
  'What a message tells of an alert. p_ref: the project''s.';

create function sync.alert_name(p_facts jsonb) returns text
language sql immutable security invoker set search_path = pg_catalog, pg_temp as $$
  select sync.chat_text(format('[%s] %s', p_facts ->> 'severity', p_facts ->> 'kind') || coalesce(' of ' || (p_facts ->> 'entity'), '')
    || coalesce(' (' || (p_facts ->> 'source') || ')', ''))
$$;
comment on function sync.alert_name(jsonb) is 'Of which alert the facts are, in a few words.';

create function sync.about_line(p_facts jsonb) returns text
language sql immutable security invoker set search_path = pg_catalog, pg_temp as $$
  -- One entity alone stands in the first line.
  select chr(10) || sync.chat_text(nullif(concat_ws(' ',
    'Codes: ' || (select string_agg(c, ', ') from jsonb_array_elements_text(p_facts -> 'codes') c) || '.',
    case when (p_facts ->> 'entityCount')::integer > 1 or p_facts ->> 'entity' is null then
      'Entities: ' || (select string_agg(n.name, ', ' order by n.place) from jsonb_array_elements_text(p_facts -> 'entities') with ordinality n (name, place) where n.place <= 5)
        || case when (p_facts ->> 'entityCount')::integer > 5 then format(' and %s more', (p_facts ->> 'entityCount')::integer - 5) else '' end || '.' end,
    'Job: ' || (p_facts ->> 'job') || '.', 'Execution: ' || (p_facts ->> 'execution') || '.'), ''))
$$;
comment on function sync.about_line(jsonb) is
  'A line of its own about what an alert is: codes, the first five entities, job and execution. Null: nothing is '
  'known of these.';

create function sync.single_message(p_id uuid, p_event text, p_slot text, p_alert public.sync_alerts, p_ref text) returns jsonb
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select jsonb_build_object('version', 1, 'id', p_id, 'event', p_event, 'text',
      case when p_event = 'cleared' then 'Over: ' when p_event = 'escalated' and p_slot = 'second' then 'Nobody has acknowledged this: '
           when p_event = 'escalated' then 'Worse than before: ' when p_alert.reopened_at is not null then 'Again: ' else '' end
      || sync.alert_name(f.facts) || chr(10) || sync.chat_text(p_alert.message) || coalesce(sync.about_line(f.facts), '')
      || case when p_event <> 'cleared' and p_alert.remedy <> '' then chr(10) || 'What to do: ' || sync.chat_text(p_alert.remedy) else '' end
      || coalesce(chr(10) || replace(f.facts ->> 'link', '&', '&amp;'), '')) || f.facts
    from (select sync.alert_facts(p_alert, p_ref) as facts) f
$$;
comment on function sync.single_message(uuid, text, text, public.sync_alerts, text) is
  'The message about one alert: text for a chat, and the same as fields.';

create function sync.digest_message(p_id uuid, p_of text, p_slot text, p_alerts uuid[], p_ref text) returns jsonb
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select jsonb_build_object('version', 1, 'id', p_id, 'event', 'digest', 'of', p_of, 'count', count(*),
      'severity', case when bool_or(a.severity = 'critical') then 'critical' else 'warning' end,
      'text', format(case when p_of = 'cleared' then '%s alerts are over:' when p_of = 'escalated' and p_slot = 'second' then 'Nobody has acknowledged %s alerts:'
                          when p_of = 'escalated' then '%s alerts are worse than before:'
                          when p_of = 'missed' then 'While messages did not arrive here, %s alerts opened that are over:' else '%s alerts at once:' end, count(*))
        || string_agg(chr(10) || sync.alert_name(a.facts) || case when a.ended and p_of in ('opened', 'escalated') then ' (over)' else '' end, '' order by a.n) filter (where a.n <= 20)
        || case when count(*) > 20 then format(E'\nand %s more.', count(*) - 20) else '' end
        || coalesce(chr(10) || replace(sync.studio_link(p_ref, null), '&', '&amp;'), ''),
      'alerts', pg_catalog.jsonb_agg(a.facts - array['message', 'remedy', 'link'] order by a.n) filter (where a.n <= 100),
      'link', sync.studio_link(p_ref, null))
    from (select sync.alert_facts(x, p_ref) as facts, x.severity, x.closed_at is not null as ended, row_number() over (order by x.severity, x.first_seen_at, x.id) as n
            from public.sync_alerts x where x.id = any (p_alerts)) a
$$;
comment on function sync.digest_message(uuid, text, text, uuid[], text) is
  'One message instead of many: the names of the first 20 alerts in its text, and which of those that it tells as '
  'open are over; the facts of the first 100 beside it.';

create function sync.short_message(p_body jsonb, p_status integer) returns jsonb
language sql immutable security invoker set search_path = pg_catalog, pg_temp as $$
  select jsonb_strip_nulls(jsonb_build_object('version', 1, 'id', p_body -> 'id', 'event', p_body -> 'event', 'of', p_body -> 'of', 'alert', p_body -> 'alert', 'kind', p_body -> 'kind',
    'severity', p_body -> 'severity', 'count', p_body -> 'count', 'refused', p_status, 'text',
    left(regexp_replace(split_part(p_body ->> 'text', chr(10), 1), '[^ -~]|[&<>\\"]', '', 'g'), 200)
      || format(' The whole message was refused here with status %s. See sync_alerts.', p_status)))
$$;
comment on function sync.short_message(jsonb, integer) is
  'What is sent instead of a message that the receiver refuses as such: the first line in plain letters, and that '
  'the rest was refused.';

create function sync.test_message(p_id uuid) returns jsonb
language sql immutable security invoker set search_path = pg_catalog, pg_temp as $$
  select jsonb_build_object('version', 1, 'id', p_id, 'event', 'test', 'text', 'A test of Isthmus: alerts arrive here.')
$$;
comment on function sync.test_message(uuid) is 'The message that only shows that messages arrive.';

revoke all on function sync.hmac_sha256(text, text), sync.chat_text(text), sync.project_ref(), sync.studio_link(text, uuid),
  sync.alert_codes(public.sync_alerts), sync.alert_entities(public.sync_alerts), sync.about_line(jsonb), sync.short_message(jsonb, integer),
  sync.alert_facts(public.sync_alerts, text), sync.alert_name(jsonb), sync.single_message(uuid, text, text, public.sync_alerts, text),
  sync.digest_message(uuid, text, text, uuid[], text), sync.test_message(uuid) from public;

-- supabase/schemas/functions/alert-outbox.sql

-- Purpose: which messages about alerts are due: one when an alert opens, one when it escalates, one when it is over,
--          one instead of a storm.
-- Locks:   the rows of alerts that something is to be told of, skipping those that somebody else is at.

create function sync.slots_past_bound() returns text[]
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select array(select s.slot from unnest(array['first', 'second']) s (slot)
                where (select d.created_at from public.sync_alert_deliveries d where d.slot = s.slot and d.event <> 'test' order by d.created_at desc
                        offset coalesce((select hourly from public.sync_alert_settings), 20) - 1 limit 1) > clock_timestamp() - interval '1 hour')
$$;
comment on function sync.slots_past_bound() is
  'The addresses that have got as many messages within the last hour as one gets singly: the rest comes as digests.';

create function sync.slots_at_rest() returns text[]
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select array(select s.slot from unnest(sync.slots_past_bound()) s (slot)
                where exists (select from public.sync_alert_deliveries d where d.slot = s.slot and d.event <> 'test' and d.created_at > clock_timestamp() - interval '10 minutes'))
$$;
comment on function sync.slots_at_rest() is
  'The addresses that get nothing now: past their bound of the hour, and with a message in the last ten minutes.';

create function sync.put_messages(p_ids uuid[], p_events text[], p_slots text[], p_ref text) returns integer
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_most  integer := coalesce((select digest_above from public.sync_alert_settings), 5);
  v_past  text[] := sync.slots_past_bound();
  v_group record;
  v_id    uuid;
  v_alert public.sync_alerts;
  v_count integer := 0;
begin
  for v_group in
    select e.event, e.slot, array_agg(e.id order by e.n) as ids
      from unnest(p_ids, p_events, p_slots) with ordinality as e (id, event, slot, n) group by 1, 2 order by min(e.n)
  loop
    if cardinality(v_group.ids) > (case when v_group.slot = any (v_past) then 1 else v_most end) then
      v_id := gen_random_uuid();
      insert into public.sync_alert_deliveries (id, event, slot, alert_ids, body)
      values (v_id, 'digest', v_group.slot, v_group.ids, sync.digest_message(v_id, v_group.event, v_group.slot, v_group.ids, p_ref));
      v_count := v_count + 1;
      continue;
    end if;
    for v_alert in select a.* from unnest(v_group.ids) with ordinality i (id, n) join public.sync_alerts a on a.id = i.id order by i.n loop
      v_id := gen_random_uuid();
      insert into public.sync_alert_deliveries (id, event, slot, alert_ids, body)
      values (v_id, v_group.event, v_group.slot, array[v_alert.id], sync.single_message(v_id, v_group.event, v_group.slot, v_alert, p_ref));
      v_count := v_count + 1;
    end loop;
  end loop;
  return v_count;
end
$$;
comment on function sync.put_messages(uuid[], text[], text[], text) is
  'Puts messages into the outbox, for each alert its event and the address that is told; more of one event than '
  'digest_above become one, and all of them where the address is past its bound of the hour. Returns how many.';

create function sync.slot_of(p_kind text, p_subject text, p_first boolean, p_second boolean) returns text
language sql immutable security invoker set search_path = pg_catalog, pg_temp as $$
  -- Of an address that does not answer the other one is told. Where there is no first address, the second is told of
  -- everything.
  select case when p_kind = 'alert_undelivered' then case p_subject when 'second' then 'first' else 'second' end
              when p_second and not p_first then 'second' else 'first' end
$$;
comment on function sync.slot_of(text, text, boolean, boolean) is
  'Which address is told of an alert when it opens. p_first, p_second: which addresses there are.';

create function sync.move_messages() returns void
language sql security invoker set search_path = pg_catalog, pg_temp as $$
  with moved as (
    update public.sync_alert_deliveries set slot = 'second' where slot = 'first' and status in ('waiting', 'missed') and event <> 'test' returning alert_ids
  )
  update public.sync_alerts a set told_slots = array(select distinct t from unnest(array_replace(a.told_slots, 'first', 'second')) t)
   where a.id in (select b.id from public.sync_alerts b
                   where b.told_severity is not null and b.id in (select unnest(m.alert_ids) from moved m) order by b.id for no key update skip locked)
$$;
comment on function sync.move_messages() is
  'What waits for the first address goes to the second. Where somebody holds an alert, sync.fill_outbox says the '
  'same of it.';

create function sync.fill_outbox(p_first boolean, p_second boolean, p_ref text) returns integer
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_alert  public.sync_alerts;
  v_here   boolean;
  v_slot   text;
  v_ids    uuid[] := '{}';
  v_events text[] := '{}';
  v_slots  text[] := '{}';
  v_rest   text[] := sync.slots_at_rest();
begin
  -- What has opened and closed between two looks is nobody's work. Of all else people are told that it is over,
  -- wherever they were told of it.
  for v_alert in
    -- What has come back once is over when it stays away.
    select * from public.sync_alerts
     where closed_at is not null and told_severity is not null and (reopened_at is null or closed_at <= clock_timestamp() - sync.calm_time())
     order by closed_at, id for no key update skip locked
  loop
    continue when exists (select from unnest(v_alert.told_slots) t where case when t = 'first' and p_second and not p_first then 'second' else t end = any (v_rest));
    for v_slot in
      select distinct case when t = 'first' and p_second and not p_first then 'second' else t end from unnest(v_alert.told_slots) t order by 1
    loop
      v_ids := v_ids || v_alert.id;
      v_events := v_events || 'cleared'::text;
      v_slots := v_slots || v_slot;
    end loop;
    update public.sync_alerts set told_severity = null, told_slots = '{}', told_at = clock_timestamp() where id = v_alert.id;
  end loop;

  for v_alert in
    select * from public.sync_alerts
     where closed_at is null
       and (told_severity is null or told_severity = 'warning' and severity = 'critical' or escalates_at <= now() and escalated_at is null and acknowledged_by is null)
       -- What comes and goes is told once in a while; where somebody looks after it, when it has come to stay: it was
       -- told as over.
       and (told_severity is not null or reopened_at is null or coalesce(told_at <= clock_timestamp() - sync.calm_time(), true)
              and (acknowledged_by is null or reopened_at <= clock_timestamp() - sync.calm_time()))
     order by first_seen_at, id for no key update skip locked
  loop
    v_slot := sync.slot_of(v_alert.kind, v_alert.subject, p_first, p_second);
    v_here := case v_slot when 'second' then p_second else p_first end;
    if v_here and v_slot <> all (v_rest) and (v_alert.told_severity is null or v_alert.told_severity = 'warning' and v_alert.severity = 'critical') then
      v_ids := v_ids || v_alert.id;
      v_events := v_events || case when v_alert.told_severity is null then 'opened' else 'escalated' end;
      v_slots := v_slots || v_slot;
      v_alert.told_severity := v_alert.severity;
      v_alert.told_slots := array(select distinct t from unnest(v_alert.told_slots || v_slot) t);
      v_alert.told_at := clock_timestamp();
    end if;
    if p_second and 'second' <> all (v_rest) and v_alert.kind <> 'alert_undelivered' and v_alert.told_severity is not null and 'second' <> all (v_alert.told_slots)
       and v_alert.escalates_at <= now() and v_alert.escalated_at is null and v_alert.acknowledged_by is null then
      v_ids := v_ids || v_alert.id;
      v_events := v_events || 'escalated'::text;
      v_slots := v_slots || 'second'::text;
      v_alert.told_slots := v_alert.told_slots || 'second'::text;
      v_alert.escalated_at := now();
      v_alert.told_at := clock_timestamp();
    end if;
    update public.sync_alerts
       set told_severity = v_alert.told_severity, told_slots = v_alert.told_slots, escalated_at = v_alert.escalated_at, told_at = v_alert.told_at
     where id = v_alert.id and (told_severity, told_slots, escalated_at) is distinct from (v_alert.told_severity, v_alert.told_slots, v_alert.escalated_at);
  end loop;
  return sync.put_messages(v_ids, v_events, v_slots, p_ref);
end
$$;
comment on function sync.fill_outbox(boolean, boolean, text) is
  'Looks which alerts people have to be told of, and puts the messages into the outbox. p_first, p_second: which '
  'addresses there are. Returns how many messages.';

revoke all on function sync.slots_past_bound(), sync.slots_at_rest(), sync.put_messages(uuid[], text[], text[], text),
  sync.slot_of(text, text, boolean, boolean), sync.move_messages(), sync.fill_outbox(boolean, boolean, text) from public;

-- supabase/schemas/functions/undelivered.sql

-- Purpose: what becomes of messages about alerts that do not arrive: which are still needed and tried again, what is
--          told instead, and who hears of it.
-- Locks:   the rows of messages, and the alert alert_undelivered, where nobody else holds it.

create function sync.is_needed(p_message public.sync_alert_deliveries) returns boolean
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select p_message.event <> 'test' and (
    exists (select from public.sync_alerts a where a.id = any (p_message.alert_ids) and (a.closed_at is null or a.told_severity is not null))
    or (p_message.event = 'cleared' or coalesce(p_message.body ->> 'of', '') in ('cleared', 'missed')) and p_message.created_at > now() - interval '30 days')
$$;
comment on function sync.is_needed(public.sync_alert_deliveries) is
  'Whether a message that has not arrived says something that is still so: an alert of it is open, or was a moment '
  'ago, or it says that one is over, for 30 days.';

create function sync.end_unneeded(p_message public.sync_alert_deliveries) returns text
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select case when p_message.event in ('opened', 'escalated') or p_message.body ->> 'of' in ('opened', 'escalated') then 'missed' else 'dropped' end
$$;
comment on function sync.end_unneeded(public.sync_alert_deliveries) is
  'What becomes of a message that has not arrived and that nothing depends on any more: that something opened is '
  'told in a summary.';

create function sync.fresh_body(p_message public.sync_alert_deliveries, p_ref text) returns jsonb
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select case when p_message.event = 'digest' and p_message.body ->> 'of' in ('opened', 'escalated') and not p_message.body ? 'refused'
              then sync.digest_message(p_message.id, p_message.body ->> 'of', p_message.slot, p_message.alert_ids, p_ref)
              else p_message.body end
$$;
comment on function sync.fresh_body(public.sync_alert_deliveries, text) is
  'What a message says that was given up, when it is tried again: a digest says which of its alerts are over, since '
  'nobody else says it.';

create function sync.wake_messages(p_slot text, p_ref text) returns void
language sql security invoker set search_path = pg_catalog, pg_temp as $$
  update public.sync_alert_deliveries d
     set status = case when n.needed then 'waiting' else sync.end_unneeded(d) end, tries = 0, next_attempt_at = clock_timestamp(),
         ended_at = case when not n.needed then coalesce(d.ended_at, clock_timestamp()) end,
         -- A short message that is refused once more is given up for good: the others would be told of it for ever.
         body = case when d.body ? 'refused' then d.body || '{"last": true}' when n.needed then sync.fresh_body(d, p_ref) else d.body end
    from (select f.id, sync.is_needed(f) as needed from public.sync_alert_deliveries f where f.slot = p_slot and f.status = 'failed') n
   where d.id = n.id
$$;
comment on function sync.wake_messages(text, text) is
  'What was given up at an address waits again where it is still so, however old it is.';

create function sync.was_told(p_alert uuid, p_slot text, p_before bigint) returns boolean
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  -- Messages that arrived are forgotten after a month: of what is that old there are none.
  select coalesce(bool_or(d.status in ('waiting', 'sent', 'delivered')), true)
    from public.sync_alert_deliveries d
   where d.alert_ids @> array[p_alert] and d.slot = p_slot and d.ordinal < p_before
     and (d.event in ('opened', 'escalated') or d.body ->> 'of' in ('opened', 'escalated'))
$$;
comment on function sync.was_told(uuid, text, bigint) is
  'Whether a message that an alert has opened has arrived at an address, or may yet. p_before: messages before this '
  'ordinal count.';

create function sync.drop_untold_ends(p_ref text) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_end  public.sync_alert_deliveries;
  v_told uuid[];
begin
  for v_end in
    select * from public.sync_alert_deliveries where status = 'waiting' and tries = 0 and (event = 'cleared' or body ->> 'of' = 'cleared') order by ordinal for no key update skip locked
  loop
    v_told := array(select a from unnest(v_end.alert_ids) with ordinality i (a, n) where sync.was_told(a, v_end.slot, v_end.ordinal) order by n);
    if v_told = '{}' then
      update public.sync_alert_deliveries set status = 'dropped', ended_at = clock_timestamp(), last_error = 'nobody there was told that it had opened' where id = v_end.id;
    elsif v_told <> v_end.alert_ids then
      update public.sync_alert_deliveries set alert_ids = v_told, body = sync.digest_message(id, 'cleared', slot, v_told, p_ref) where id = v_end.id;
    end if;
  end loop;
end
$$;
comment on function sync.drop_untold_ends(text) is
  'That an alert is over is nothing to an address to which nothing had come about it.';

create function sync.put_summary(p_slot text, p_ref text) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_ids uuid[] := array(
    select distinct a.id
      from (select m.alert_ids from public.sync_alert_deliveries m where m.slot = p_slot and m.status = 'missed'
            union all
            select f.alert_ids from public.sync_alert_deliveries f
             where f.slot = p_slot and f.status = 'failed' and not sync.is_needed(f) and sync.end_unneeded(f) = 'missed') d
     cross join unnest(d.alert_ids) i (id) join public.sync_alerts a on a.id = i.id
     where a.closed_at is not null and not exists (
         select from public.sync_alert_deliveries o
          where o.alert_ids @> array[a.id] and o.slot = p_slot and (o.status = 'delivered' or o.status in ('waiting', 'sent') and o.body ->> 'of' = 'missed')));
  v_id  uuid := gen_random_uuid();
begin
  update public.sync_alert_deliveries set status = 'dropped' where slot = p_slot and status = 'missed';
  if v_ids <> '{}' then
    insert into public.sync_alert_deliveries (id, event, slot, alert_ids, body)
    values (v_id, 'digest', p_slot, v_ids, sync.digest_message(v_id, 'missed', p_slot, v_ids, p_ref));
  end if;
end
$$;
comment on function sync.put_summary(text, text) is
  'One message about what opened and was over while nothing arrived at an address.';

create function sync.nobody_told() returns boolean
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  with undelivered as (
    select u.subject as slot, u.told_severity is not null and exists (
             select from public.sync_alert_deliveries o where o.alert_ids @> array[u.id] and o.status = 'delivered') as told
      from public.sync_alerts u where u.kind = 'alert_undelivered' and u.closed_at is null
  )
  select exists (select from undelivered where not told)
      or exists (
        select from public.sync_alert_deliveries d cross join unnest(d.alert_ids) i (id) join public.sync_alerts a on a.id = i.id and a.closed_at is null
         where d.status in ('waiting', 'sent') and d.created_at < clock_timestamp() - interval '15 minutes'
           and d.slot not in (select u.slot from undelivered u where u.told)
           -- A later one that has arrived says it as well, but for the one that it is over.
           and not exists (select from public.sync_alert_deliveries o
                            where o.alert_ids @> array[a.id] and o.ordinal > d.ordinal and o.status = 'delivered' and sync.end_unneeded(o) = 'missed'))
$$;
comment on function sync.nobody_told() is
  'Whether people do not hear: messages do not arrive at an address, and no other one was told of that '
  '(alert_undelivered); or a message about an open alert has not arrived anywhere for a quarter of an hour.';

create function sync.probe_slot(p_slot text, p_ref text) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  if exists (select from public.sync_alert_deliveries o where o.slot = p_slot and o.status in ('waiting', 'sent')) then
    return;
  end if;
  update public.sync_alert_deliveries d
     set status = 'waiting', tries = greatest(d.tries - 1, 0), next_attempt_at = clock_timestamp(), ended_at = null, body = sync.fresh_body(d, p_ref)
   where d.id = (select f.id from public.sync_alert_deliveries f where f.slot = p_slot and f.status = 'failed' and sync.is_needed(f) order by f.ordinal limit 1);
  if not found then
    -- Nothing of it is still so: that it was is what shows whether the address works.
    perform sync.put_summary(p_slot, p_ref);
  end if;
end
$$;
comment on function sync.probe_slot(text, text) is
  'Tries the oldest message that was given up at an address, and is still so, once more; where none is still so, a '
  'summary of them.';

create function sync.slot_secret(p_slot text) returns text
language sql immutable security invoker set search_path = pg_catalog, pg_temp
as $$ select 'isthmus_webhook_url' || case p_slot when 'second' then '_2' else '' end $$;
comment on function sync.slot_secret(text) is 'Which secret of Vault holds the first, and the second address.';

create function sync.tell_undelivered(p_first boolean, p_second boolean, p_ref text) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_slot    text;
  v_last    public.sync_alert_deliveries;
  v_says    text;
  v_details jsonb;
begin
  foreach v_slot in array array['first', 'second'] loop
    v_says := null;
    if (case v_slot when 'first' then p_first else p_second end) then
      -- The latest end at the address counts.
      select * into v_last from public.sync_alert_deliveries where slot = v_slot and status in ('delivered', 'failed') order by ended_at desc limit 1;
      if v_last.status = 'failed' then
        v_says := format('Messages about alerts do not arrive at the %s address (Vault secret %s): %s.', v_slot, sync.slot_secret(v_slot), v_last.last_error);
        v_details := jsonb_build_object('since', v_last.ended_at, 'delivery', v_last.id, 'status', v_last.status_code, 'error', v_last.last_error);
        if v_last.ended_at <= now() - interval '1 hour' then
          perform sync.probe_slot(v_slot, p_ref);
        end if;
      else
        perform sync.wake_messages(v_slot, p_ref);
        perform sync.put_summary(v_slot, p_ref);
      end if;
    else
      -- Whatever comes back, or comes instead, is tried at once.
      perform sync.wake_messages(v_slot, p_ref);
      update public.sync_alert_deliveries d set status = sync.end_unneeded(d), ended_at = clock_timestamp()
       where d.slot = v_slot and d.status = 'waiting' and d.event <> 'test' and not sync.is_needed(d);
      if exists (select from public.sync_alert_deliveries d join public.sync_alerts a on a.id = any (d.alert_ids)
                  where d.slot = v_slot and d.status = 'waiting' and a.closed_at is null and a.kind <> 'alert_undelivered') then
        v_says := format('Messages about alerts wait for the %s address: there is no Vault secret %s.', v_slot, sync.slot_secret(v_slot));
        v_details := jsonb_build_object('missing', sync.slot_secret(v_slot));
      end if;
    end if;
    if v_says is null then
      perform sync.close_alerts(array(select id from public.sync_alerts where kind = 'alert_undelivered' and subject = v_slot and closed_at is null));
    elsif not exists (select from public.sync_alerts where kind = 'alert_undelivered' and subject = v_slot and closed_at is null and details = v_details) then
      perform sync.raise_alert('alert_undelivered', 'critical', null, null, null, v_says, v_details, v_slot);
    end if;
  end loop;
end
$$;
comment on function sync.tell_undelivered(boolean, boolean, text) is
  'Opens the alert alert_undelivered of an address while the latest message to it was given up, or messages wait for '
  'it that is not there; closes it when one has arrived, or none waits. Then what was given up is sent again; '
  'before, one message an hour. p_first, p_second: which addresses there are. p_ref: that of the project.';

revoke all on function sync.is_needed(public.sync_alert_deliveries), sync.end_unneeded(public.sync_alert_deliveries), sync.fresh_body(public.sync_alert_deliveries, text),
  sync.wake_messages(text, text), sync.was_told(uuid, text, bigint), sync.drop_untold_ends(text), sync.put_summary(text, text), sync.nobody_told(), sync.probe_slot(text, text),
  sync.slot_secret(text), sync.tell_undelivered(boolean, boolean, text) from public;

-- supabase/schemas/functions/deliver-alerts.sql

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

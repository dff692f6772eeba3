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

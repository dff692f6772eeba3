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

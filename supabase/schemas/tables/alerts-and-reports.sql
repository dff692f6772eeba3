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
  closed_at     timestamptz
);
comment on table public.sync_alerts is 'What needs an operator. Set closed_at when it is dealt with.';
comment on column public.sync_alerts.details is 'Counts and legacy ids, never values of a row.';
create unique index sync_alerts_one_open on public.sync_alerts (kind, entity_id) nulls not distinct
  where closed_at is null;
create index sync_alerts_source_id_idx on public.sync_alerts (source_id);
create index sync_alerts_entity_id_idx on public.sync_alerts (entity_id);
create index sync_alerts_execution_id_idx on public.sync_alerts (execution_id);
alter table public.sync_alerts enable row level security;
create policy team_reads on public.sync_alerts for select to authenticated
  using ((select sync.caller_role()) in ('operator', 'reviewer'));
revoke all on public.sync_alerts from anon, authenticated, service_role;
grant select on public.sync_alerts to authenticated;
grant select, insert, update on public.sync_alerts to isthmus_worker;
grant select, insert (kind, severity, source_id, entity_id, execution_id, message, details),
  update (occurrences, last_seen_at, execution_id, message, details) on public.sync_alerts to isthmus_decisions;
grant select (id, source_id) on public.sync_executions to isthmus_decisions;

create table public.sync_reports (
  id           uuid primary key default gen_random_uuid(),
  execution_id uuid not null references public.sync_executions (id) on delete cascade,
  kind         text not null,
  round        integer not null default 1,
  body         jsonb not null,
  created_at   timestamptz not null default now(),
  unique (execution_id, kind, round)
);
comment on table public.sync_reports is 'What an execution proved, for example the control totals of money columns on both sides.';
alter table public.sync_reports enable row level security;
create policy team_reads on public.sync_reports for select to authenticated
  using ((select sync.caller_role()) in ('operator', 'reviewer'));
revoke all on public.sync_reports from anon, authenticated, service_role;
grant select on public.sync_reports to authenticated;
grant select, insert, update on public.sync_reports to isthmus_worker;

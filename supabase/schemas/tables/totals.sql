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

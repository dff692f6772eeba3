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

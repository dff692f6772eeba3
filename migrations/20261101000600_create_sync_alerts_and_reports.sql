-- Purpose: what an operator must know (alerts) and what an execution proved (reports).
-- Locks:   none on existing objects.
-- Reverse: drop the functions, then table public.sync_reports, public.sync_alerts.

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

create function sync.raise_alert(p_kind text, p_severity text, p_source_id smallint, p_execution uuid, p_entity_id smallint, p_message text, p_details jsonb)
returns void
language sql security invoker set search_path = pg_catalog, pg_temp as $$
  insert into public.sync_alerts as a (kind, severity, source_id, entity_id, execution_id, message, details)
  values (p_kind, p_severity, coalesce(p_source_id, (select source_id from public.sync_executions where id = p_execution)),
          p_entity_id, p_execution, p_message, p_details)
  on conflict (kind, entity_id) where closed_at is null do update
     set occurrences = a.occurrences + 1, last_seen_at = now(), execution_id = excluded.execution_id,
         message = excluded.message, details = excluded.details
$$;
comment on function sync.raise_alert(text, text, smallint, uuid, smallint, text, jsonb) is
  'Opens an alert, or counts it again while it is open. p_source_id null: the source of the execution.';

create function sync.close_alert(p_kind text, p_source_id smallint) returns void
language sql security invoker set search_path = pg_catalog, pg_temp as $$
  update public.sync_alerts set closed_at = now() where kind = p_kind and source_id = p_source_id and closed_at is null
$$;
comment on function sync.close_alert(text, smallint) is 'Closes an alert whose cause is gone.';

revoke all on function sync.raise_alert(text, text, smallint, uuid, smallint, text, jsonb), sync.close_alert(text, smallint) from public;
grant execute on function sync.raise_alert(text, text, smallint, uuid, smallint, text, jsonb), sync.close_alert(text, smallint) to isthmus_worker;

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

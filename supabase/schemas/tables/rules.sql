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

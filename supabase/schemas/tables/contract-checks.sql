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

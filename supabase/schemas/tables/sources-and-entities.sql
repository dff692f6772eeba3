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

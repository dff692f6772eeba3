-- Purpose: the queue that people review in the table editor, and the unmasked values behind it.
-- Locks:   none on existing objects.
-- Reverse: drop table public.sync_conflict_values, public.sync_conflicts.

create table public.sync_conflicts (
  id                  uuid primary key default gen_random_uuid(),
  state               public.sync_conflict_state not null,
  entity_id           smallint not null references public.sync_entities (id),
  entity_type         varchar(100) not null,
  source_record_id    bigint not null,
  conflict_type       public.conflict_type_enum not null,
  field               text,
  rule                text not null,
  remedy              text not null,
  conflict_data       jsonb not null default '{}',
  parent_entity_id    smallint references public.sync_entities (id),
  parent_legacy_id    bigint,
  source_digest       bigint,
  attempts            integer not null default 1,
  first_seen_at       timestamptz not null default now(),
  last_seen_at        timestamptz not null default now(),
  resolution_strategy public.conflict_resolution_strategy,
  resolution_data     jsonb,
  resolved_at         timestamptz,
  resolved_by         varchar(255),
  source_table        varchar(255) not null,
  target_table        varchar(255) not null,
  target_record_id    uuid,
  execution_id        uuid references public.sync_executions (id) on delete set null,
  resolved_in         uuid references public.sync_executions (id) on delete set null,
  check ((parent_entity_id is null) = (parent_legacy_id is null)),
  check (state <> 'waiting' or parent_entity_id is not null),
  check ((state = 'resolved') = (resolved_at is not null))
);
comment on table public.sync_conflicts is
  'The queue. open: a person decides. waiting: retried by itself when the parent lands. resolved, superseded: history.';
comment on column public.sync_conflicts.entity_type is 'Which entity the record belongs to.';
comment on column public.sync_conflicts.source_record_id is 'The record''s legacy id.';
comment on column public.sync_conflicts.field is 'The target field that stopped it; null when the whole record did.';
comment on column public.sync_conflicts.rule is 'What stopped it: a rule id with version, a constraint name, or the SQLSTATE.';
comment on column public.sync_conflicts.remedy is 'What to do next.';
comment on column public.sync_conflicts.conflict_data is 'Evidence without personal data: the raw code, the constraint, the kept value of a decided conflict is in sync_conflict_values.';
comment on column public.sync_conflicts.parent_legacy_id is 'waiting: the legacy id of the missing parent, in the entity parent_entity_id.';
comment on column public.sync_conflicts.source_digest is 'Hash of the projected record that was stopped: a digest asks for it again only when the source has changed it.';
comment on column public.sync_conflicts.execution_id is 'The execution that put the record here.';
comment on column public.sync_conflicts.resolved_in is 'The execution in which the record landed after all.';
comment on column public.sync_conflicts.attempts is 'How often the record was tried.';
create unique index sync_conflicts_one_live_per_record on public.sync_conflicts (entity_id, source_record_id)
  where state in ('waiting', 'open');
create index sync_conflicts_waiting_for on public.sync_conflicts (parent_entity_id, parent_legacy_id)
  where state = 'waiting';
create index sync_conflicts_parent_entity_id_idx on public.sync_conflicts (parent_entity_id);
create index sync_conflicts_entity_id_idx on public.sync_conflicts (entity_id, source_record_id);
create index sync_conflicts_resolved_in_idx on public.sync_conflicts (resolved_in);
create index sync_conflicts_execution_id_idx on public.sync_conflicts (execution_id);

alter table public.sync_conflicts enable row level security;
create policy reviewers_read on public.sync_conflicts for select to authenticated
  using ((select sync.caller_role()) = 'reviewer');
revoke all on public.sync_conflicts from anon, authenticated, service_role;
grant select on public.sync_conflicts to authenticated;
grant select, insert, update on public.sync_conflicts to isthmus_worker;

create table public.sync_conflict_values (
  conflict_id uuid primary key references public.sync_conflicts (id) on delete cascade,
  "values"    jsonb not null
);
comment on table public.sync_conflict_values is
  'Unmasked values of a conflict, for example what source_wins has overwritten. Nobody is granted to read it.';
alter table public.sync_conflict_values enable row level security;
create policy nobody_reads on public.sync_conflict_values for select to authenticated using (false);
revoke all on public.sync_conflict_values from anon, authenticated, service_role;
grant insert on public.sync_conflict_values to isthmus_worker;

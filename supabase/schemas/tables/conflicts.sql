-- Purpose: the queue that people review in the table editor, and the unmasked values behind it.

create table public.sync_conflicts (
  id                  uuid primary key default gen_random_uuid(),
  state               public.sync_conflict_state not null,
  entity_type         varchar(100) not null,
  source_record_id    bigint not null,
  conflict_type       public.conflict_type_enum not null,
  field               text,
  differences         jsonb,
  remedy              text not null,
  resolution_strategy public.conflict_resolution_strategy,
  resolution_data     jsonb,
  resolved_by         varchar(255) check (btrim(resolved_by) <> ''),
  resolved_at         timestamptz,
  decidable           boolean not null generated always as
    (state = 'open' and rule in ('both_changed', 'target_deleted', 'deleted_in_source', 'left_edited')) stored,
  policy              text,
  rule                text not null,
  conflict_data       jsonb not null default '{}',
  first_seen_at       timestamptz not null default now(),
  last_seen_at        timestamptz not null default now(),
  attempts            integer not null default 1,
  retry_class         text check (retry_class in ('parent', 'rule', 'source', 'target', 'clash', 'person')),
  next_attempt_at     timestamptz,
  target_record_id    uuid,
  parent_legacy_id    bigint,
  source_table        varchar(255) not null,
  target_table        varchar(255) not null,
  standing            boolean not null default false,
  decisions           integer not null default 0,
  asked               text[] not null default '{}',
  execution_id        uuid references public.sync_executions (id) on delete set null,
  resolved_in         uuid references public.sync_executions (id) on delete set null,
  entity_id           smallint not null references public.sync_entities (id),
  parent_entity_id    smallint references public.sync_entities (id),
  source_digest       bigint,
  check ((parent_entity_id is null) = (parent_legacy_id is null)),
  check (state <> 'waiting' or parent_entity_id is not null),
  check ((state = 'resolved') = (resolved_at is not null)),
  check (not standing or state = 'resolved' and resolution_strategy = 'target_wins')
);
comment on table public.sync_conflicts is
  'The queue. open: a person decides, by setting resolution_strategy. waiting: retried by itself when the parent '
  'lands. resolved, superseded: history.';
comment on column public.sync_conflicts.state is
  'open: decide it here. waiting: for its parent; remedy says what keeps that one. resolved. superseded: another row '
  'of this record tells what stops it now.';
comment on column public.sync_conflicts.entity_type is 'Which entity the record belongs to.';
comment on column public.sync_conflicts.source_record_id is 'The record''s legacy id.';
comment on column public.sync_conflicts.conflict_type is
  'concurrent_modification: both sides changed it. foreign_key_violation: what it refers to is missing. '
  'business_rule_violation: a rule or constraint refuses it. schema_mismatch: a value does not fit its column. '
  'uuid_mapping_conflict: it is not clear which row it is.';
comment on column public.sync_conflicts.field is 'The target fields that stopped it; null when the whole record did.';
comment on column public.sync_conflicts.differences is
  'Field by field: {field: {seen, source, target}}: the value both sides agreed on last, what the source says, what '
  'stands in the target. Sensitive values are masked (sync.reveal), long ones cut short.';
comment on column public.sync_conflicts.remedy is 'What to do next.';
comment on column public.sync_conflicts.resolution_strategy is
  'Your decision: source_wins, target_wins, or merge (with resolution_data). It is carried out in the same '
  'transaction, or refused with the reason. Emptied again: the decision is put back.';
comment on column public.sync_conflicts.resolution_data is
  'merge: the values to write, for every field in field: {"name": "...", "notes": "..."}.';
comment on column public.sync_conflicts.resolved_by is
  'Put your name here when you decide in the table editor; otherwise it names the database user. policy, sync: '
  'nobody had to decide.';
comment on column public.sync_conflicts.decidable is
  'source_wins and target_wins can both be carried out. Of other open rows target_wins says: leave the target as it '
  'is until the source changes the record.';
comment on column public.sync_conflicts.policy is
  'Which declared strategy stopped or decided it, and where it is declared.';
comment on column public.sync_conflicts.rule is
  'What stopped it: a rule id with version, a constraint name, or the SQLSTATE.';
comment on column public.sync_conflicts.conflict_data is
  'Evidence without personal data: the raw code, the constraint, the record that holds the same unique value.';
comment on column public.sync_conflicts.first_seen_at is
  'Since when this record is in the queue; a row that succeeds another one carries it on.';
comment on column public.sync_conflicts.attempts is 'How often the record was tried.';
comment on column public.sync_conflicts.retry_class is
  'What it waits for. parent: a record to land. rule, source: the old application or a rule to change. target: a '
  'constraint, type or trigger to change. clash: another record to give up its unique value. person: a decision.';
comment on column public.sync_conflicts.next_attempt_at is
  'When it is read again though nothing told that its cause is gone. Null: only when something tells.';
comment on column public.sync_conflicts.parent_legacy_id is
  'waiting: the legacy id of the missing parent, in the entity parent_entity_id.';
comment on column public.sync_conflicts.standing is
  'Decided for the target, of a record that did not land or whose row is gone: while the source does not change it, '
  'it is neither asked about nor compared.';
comment on column public.sync_conflicts.decisions is 'How often people have decided it or put a decision back.';
comment on column public.sync_conflicts.asked is
  'The fields that people have been asked about and have not decided. While the record is in the queue no strategy '
  'decides them, whatever else stops the record.';
comment on column public.sync_conflicts.execution_id is 'The execution that put the record here.';
comment on column public.sync_conflicts.resolved_in is 'The execution in which the record landed after all.';
comment on column public.sync_conflicts.source_digest is
  'Hash of the projected record that was stopped: a digest asks for it again only when the source has changed it.';
create unique index sync_conflicts_one_live_per_record on public.sync_conflicts (entity_id, source_record_id)
  where state in ('waiting', 'open');
create unique index sync_conflicts_one_standing_per_record on public.sync_conflicts (entity_id, source_record_id) where standing;
create index sync_conflicts_next_attempt on public.sync_conflicts (next_attempt_at) where state = 'open' and next_attempt_at is not null;
create index sync_conflicts_waiting_for on public.sync_conflicts (parent_entity_id, parent_legacy_id)
  where state = 'waiting';
create index sync_conflicts_parent_entity_id_idx on public.sync_conflicts (parent_entity_id);
create index sync_conflicts_entity_id_idx on public.sync_conflicts (entity_id, source_record_id);
create index sync_conflicts_resolved_in_idx on public.sync_conflicts (resolved_in);
create index sync_conflicts_execution_id_idx on public.sync_conflicts (execution_id);

alter table public.sync_conflicts enable row level security;
create policy reviewers_read on public.sync_conflicts for select to authenticated
  using ((select sync.caller_role()) = 'reviewer');
create policy reviewers_decide on public.sync_conflicts for update to authenticated
  using ((select sync.caller_role()) = 'reviewer') with check ((select sync.caller_role()) = 'reviewer');
revoke all on public.sync_conflicts from anon, authenticated, service_role;
grant select, update (resolution_strategy, resolution_data) on public.sync_conflicts to authenticated;
-- The worker opens, tries again and closes. It never sets a strategy or counts a decision of a row that is there.
grant select, insert, update (state, remedy, differences, resolution_data, resolved_by, resolved_at, resolved_in, policy, conflict_data, last_seen_at, attempts,
    retry_class, next_attempt_at, target_record_id, standing, source_digest)
  on public.sync_conflicts to isthmus_worker;
grant select on public.sync_conflicts to isthmus_decisions;

create table public.sync_conflict_values (
  conflict_id uuid primary key references public.sync_conflicts (id) on delete cascade,
  seen        jsonb,
  source      jsonb,
  target      jsonb,
  "left"      jsonb,
  after       jsonb,
  record      jsonb,
  hashes      jsonb
);
comment on table public.sync_conflict_values is
  'Unmasked values of a conflict, by field: what is needed to decide it, and to put the decision back. No reader but '
  'sync.reveal, which leaves a trace.';
comment on column public.sync_conflict_values.seen is 'What both sides agreed on last.';
comment on column public.sync_conflict_values.source is 'What the source said.';
comment on column public.sync_conflict_values.target is
  'What stood in the target, before it was decided: overwritten by source_wins.';
comment on column public.sync_conflict_values."left" is 'What the sync had left there.';
comment on column public.sync_conflict_values.after is 'What the decision left there.';
comment on column public.sync_conflict_values.record is
  'The whole record as the source said it, where it may have to be written or hashed as a whole.';
comment on column public.sync_conflict_values.hashes is
  'Of an entity that keeps hashes: {seen, left} before the decision.';
alter table public.sync_conflict_values enable row level security;
create policy nobody_reads on public.sync_conflict_values for select to authenticated using (false);
revoke all on public.sync_conflict_values from anon, authenticated, service_role;
-- The worker knows these values: they are in the rows that it writes.
grant select, insert, update on public.sync_conflict_values to isthmus_worker;
grant select, insert (conflict_id, target), update (target, after, hashes) on public.sync_conflict_values to isthmus_decisions;

create table public.sync_audit (
  id          bigint generated always as identity primary key,
  at          timestamptz not null default clock_timestamp(),
  actor       text not null,
  action      text not null check (action in ('decided', 'reopened', 'revealed')),
  conflict_id uuid references public.sync_conflicts (id) on delete set null,
  entity_id   smallint references public.sync_entities (id),
  legacy_id   bigint,
  fields      text[],
  strategy    public.conflict_resolution_strategy
);
comment on table public.sync_audit is 'Who decided, put back or looked at what. Rows are only ever added.';
comment on column public.sync_audit.actor is 'The reviewer, or the name given in resolved_by, with the database user.';
create index sync_audit_conflict_id_idx on public.sync_audit (conflict_id);
create index sync_audit_entity_id_idx on public.sync_audit (entity_id, legacy_id);
alter table public.sync_audit enable row level security;
create policy team_reads on public.sync_audit for select to authenticated
  using ((select sync.caller_role()) in ('operator', 'reviewer'));
revoke all on public.sync_audit from anon, authenticated, service_role;
revoke all on sequence public.sync_audit_id_seq from anon, authenticated, service_role;
grant select on public.sync_audit to authenticated;
grant insert (actor, action, conflict_id, entity_id, legacy_id, fields, strategy) on public.sync_audit to isthmus_decisions;

create table public.sync_queue_counts (
  id              uuid primary key default gen_random_uuid(),
  entity_id       smallint not null references public.sync_entities (id),
  entity_type     varchar(100) not null,
  state           public.sync_conflict_state not null,
  conflict_type   public.conflict_type_enum not null,
  retry_class     text,
  records         bigint not null,
  oldest_at       timestamptz not null,
  next_attempt_at timestamptz,
  counted_at      timestamptz not null default now(),
  unique nulls not distinct (entity_id, state, conflict_type, retry_class)
);
comment on table public.sync_queue_counts is
  'How many records are in the queue, and since when: for those who may not see the records. Counted by every tick.';
alter table public.sync_queue_counts enable row level security;
create policy team_reads on public.sync_queue_counts for select to authenticated
  using ((select sync.caller_role()) in ('operator', 'reviewer'));
revoke all on public.sync_queue_counts from anon, authenticated, service_role;
grant select on public.sync_queue_counts to authenticated;
grant select, insert, delete on public.sync_queue_counts to isthmus_worker;

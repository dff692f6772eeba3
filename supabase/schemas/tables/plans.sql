-- Purpose: what a dry run has found out so far: what would become of each record, and which are to be looked at again.

create table public.sync_planned_records (
  execution_id     uuid not null references public.sync_executions (id) on delete cascade,
  entity_id        smallint not null references public.sync_entities (id),
  legacy_id        bigint not null,
  id               uuid,
  outcome          text not null check (outcome in
    ('inserted', 'updated', 'unchanged', 'deleted', 'waiting', 'in_conflict', 'waived', 'absent')),
  rule             text,
  field            text,
  remedy           text,
  warnings         text[],
  parent_entity_id smallint references public.sync_entities (id),
  parent_legacy_id bigint,
  clashes_with     bigint,
  met              bigint[] not null default '{}',
  lands            boolean,
  row_after        jsonb,
  state_after      jsonb,
  unique_keys      bigint[],
  source_digest    bigint,
  primary key (execution_id, entity_id, legacy_id),
  check ((lands is true) = (row_after is not null))
);
comment on table public.sync_planned_records is
  'What a dry run would make of each record. Its rows go when the report has been written to sync_reports.';
comment on column public.sync_planned_records.id is 'The UUID that the record has or would get.';
comment on column public.sync_planned_records.rule is
  'Why: a rule, predicate or constraint, or source_wins where somebody''s edit would be overwritten.';
comment on column public.sync_planned_records.clashes_with is
  'The record of the same entity that holds the unique value which this one would get.';
comment on column public.sync_planned_records.met is
  'The records of the same entity with which it has clashed in this dry run: it was asked for together with each of '
  'them once.';
comment on column public.sync_planned_records.lands is
  'True: the target row would be as in row_after. False: it would be deleted. Null: it stays as it is.';
comment on column public.sync_planned_records.row_after is
  'The columns of the target row that the sync owns, as they would be.';
comment on column public.sync_planned_records.state_after is
  'Its row of sync_row_states, as it would be; null: nothing would be known of it.';
comment on column public.sync_planned_records.source_digest is
  'The hash of the source''s record as this dry run has read it; null: the source has none that is transferred.';
comment on column public.sync_planned_records.unique_keys is
  'Hashes of the row''s values under each unique index, so that a later page finds what it clashes with.';
-- Never analysed, two indexes that begin alike look alike to the planner: whichever it takes for a record has to lead
-- to it.
create index sync_planned_records_id_idx on public.sync_planned_records (id, execution_id);
create index sync_planned_records_unique_keys_idx on public.sync_planned_records using gin (unique_keys);
create index sync_planned_records_waiting_for on public.sync_planned_records (execution_id, parent_entity_id, parent_legacy_id)
  where outcome = 'waiting';
create index sync_planned_records_entity_id_idx on public.sync_planned_records (entity_id, execution_id, legacy_id);
create index sync_planned_records_parent_entity_id_idx on public.sync_planned_records (parent_entity_id);

alter table public.sync_planned_records enable row level security;
create policy nobody_reads on public.sync_planned_records for select to authenticated using (false);
revoke all on public.sync_planned_records from anon, authenticated, service_role;
grant select, insert, update, delete on public.sync_planned_records to isthmus_worker;

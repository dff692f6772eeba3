-- Purpose: what is known of each record: its UUID, what was last seen and left, where an entity stands,
--          and which keys are to be read again.

-- Neither table asks by a foreign key for its source or entity: a page writes thousands of rows, and its chain names
-- both.
create table public.uuid_mappings_enhanced (
  id                uuid not null default gen_random_uuid(),
  source_id         smallint not null,
  entity_type       varchar(100) not null,
  legacy_id         bigint not null,
  entity_uuid       uuid not null,
  source_table      varchar(255) not null,
  target_table      varchar(255) not null,
  created_at        timestamptz not null default now(),
  last_validated_at timestamptz,
  sync_status       public.mapping_sync_status not null default 'active',
  primary key (source_id, entity_type, legacy_id),
  unique (entity_uuid, entity_type)
);
comment on table public.uuid_mappings_enhanced is
  'One record, one UUID, forever. A row is written in the commit that lands the record, so a mapping means a landed '
  'record.';
comment on column public.uuid_mappings_enhanced.sync_status is
  'deleted keeps the UUID of a record that is gone, so that a legacy id that returns gets it back.';

alter table public.uuid_mappings_enhanced enable row level security;
create policy team_reads on public.uuid_mappings_enhanced for select to authenticated
  using ((select sync.caller_role()) in ('operator', 'reviewer'));
revoke all on public.uuid_mappings_enhanced from anon, authenticated, service_role;
grant select on public.uuid_mappings_enhanced to authenticated;
grant select, insert on public.uuid_mappings_enhanced to isthmus_worker;
grant update (sync_status, last_validated_at) on public.uuid_mappings_enhanced to isthmus_worker;
grant select, update (sync_status) on public.uuid_mappings_enhanced to isthmus_decisions;

create table public.sync_row_states (
  entity_id smallint not null,
  legacy_id bigint not null,
  seen      jsonb,
  "left"    jsonb,
  raw       jsonb,
  synced_at timestamptz not null default now(),
  seen_hash bigint,
  left_hash bigint,
  source_digest bigint,
  gone_at   timestamptz,
  written_by xid,
  outside   boolean,
  check (outside is null or gone_at is not null),
  check (num_nonnulls(seen, seen_hash) = 1 and num_nonnulls("left", left_hash) = 1),
  primary key (entity_id, legacy_id)
) with (fillfactor = 85);
comment on table public.sync_row_states is
  'Per landed record: what the source said and what the target held after the last decision.';
comment on column public.sync_row_states.seen is 'The source values last decided on, cast to the target types.';
comment on column public.sync_row_states."left" is
  'The target values after that decision, read back after triggers; what differs now was changed by somebody else. '
  'Of a field that the target keeps, or that was merged, the source''s value: what the target has of its own stays '
  'an edit.';
comment on column public.sync_row_states.written_by is
  'The transaction that had written the target row when all of it was as left: while it is the same, nobody has '
  'edited it. Null: compare.';
comment on column public.sync_row_states.seen_hash is 'Instead of seen, where the entity keeps hashes.';
comment on column public.sync_row_states.left_hash is
  'Instead of left, where the entity keeps hashes: tells that the target row was edited, not in which field.';
comment on column public.sync_row_states.source_digest is
  'Hash of the projected record, computed on the source: a digest compares it with what the source has now.';
comment on column public.sync_row_states.gone_at is
  'Since when the source no longer has the record, although its row stays: soft, ignored, or kept by its predicate.';
comment on column public.sync_row_states.outside is
  'True: gone_at is since when the record is outside its predicate, which keeps its row. The source may have it '
  'still.';
comment on column public.sync_row_states.raw is 'Raw legacy codes and texts behind mapped values.';

alter table public.sync_row_states enable row level security;
create policy nobody_reads on public.sync_row_states for select to authenticated using (false);
revoke all on public.sync_row_states from anon, authenticated, service_role;
grant select, insert, update, delete on public.sync_row_states to isthmus_worker, isthmus_decisions;

create table public.sync_checkpoints (
  source_id         smallint not null references public.sync_sources (id),
  entity_type       varchar(100) not null,
  job_id            uuid references public.sync_jobs (id),
  execution_id      uuid references public.sync_executions (id) on delete set null,
  last_processed_id bigint,
  records_processed bigint not null default 0,
  checkpoint_data   jsonb not null default '{}',
  horizon           xid8 not null,
  snapshot_xmax     xid8,
  system_identifier text not null,
  timeline          integer not null,
  database_oid      bigint not null,
  server_starts     text[] not null,
  definition_hash   text not null,
  watermark_at      text not null,
  watermark_id      bigint,
  created_at        timestamptz not null default now(),
  updated_at        timestamptz not null default now(),
  primary key (source_id, entity_type)
);
comment on table public.sync_checkpoints is
  'Where an entity stands: everything committed on the source before its horizon has been read.';
comment on column public.sync_checkpoints.horizon is
  'The next incremental pass looks at rows written by this transaction id or a later one.';
comment on column public.sync_checkpoints.snapshot_xmax is
  'First transaction id not yet assigned when the horizon was taken: rows written before it may have been read '
  'although they lie beyond the horizon.';
comment on column public.sync_checkpoints.definition_hash is
  'The entity definition under which the horizon was reached; mixed, unfinished and reread: force a full pass; the '
  'last names the definition.';
comment on column public.sync_checkpoints.server_starts is
  'Starts of the servers that answered for this entity, the latest first, at most eight: several may stand behind '
  'one address. Under another one the source may have been put back and have moved on since.';
comment on column public.sync_checkpoints.last_processed_id is 'The last key of the pass; null after a scan by place.';
comment on column public.sync_checkpoints.watermark_at is
  'modified capture: where the next pass begins. The source''s clock when the horizon was taken, then the last time '
  'stamp read, as the source writes it.';
comment on column public.sync_checkpoints.watermark_id is
  'The key up to which rows of that time stamp have been read; null: none of them.';
create index sync_checkpoints_job_id_idx on public.sync_checkpoints (job_id);
create index sync_checkpoints_execution_id_idx on public.sync_checkpoints (execution_id);

alter table public.sync_checkpoints enable row level security;
create policy team_reads on public.sync_checkpoints for select to authenticated
  using ((select sync.caller_role()) in ('operator', 'reviewer'));
revoke all on public.sync_checkpoints from anon, authenticated, service_role;
grant select on public.sync_checkpoints to authenticated;
grant select, insert, update on public.sync_checkpoints to isthmus_worker;

create table public.sync_join_rows (
  entity_id smallint not null references public.sync_entities (id),
  join_id   integer not null,
  row_id    bigint not null,
  link      bigint not null,
  digest    bigint not null,
  primary key (entity_id, join_id, row_id)
);
comment on table public.sync_join_rows is
  'What an entity last consumed of each row of the tables that it joins or asks about: a changed row has records '
  'read again only if this differs.';
comment on column public.sync_join_rows.join_id is
  'Which join or watch of the entity; another id when it consumes other columns.';
comment on column public.sync_join_rows.row_id is 'The key of the row in the joined table.';
comment on column public.sync_join_rows.link is
  'The value by which the row belonged to its records, so that one that moves has the old ones read again too.';
comment on column public.sync_join_rows.digest is 'Hash of the consumed columns, computed on the source.';

alter table public.sync_join_rows enable row level security;
create policy nobody_reads on public.sync_join_rows for select to authenticated using (false);
revoke all on public.sync_join_rows from anon, authenticated, service_role;
grant select, insert, update, delete on public.sync_join_rows to isthmus_worker;

create sequence public.sync_pending_keys_generation_seq as bigint;
create table public.sync_pending_keys (
  entity_id    smallint not null references public.sync_entities (id),
  legacy_id    bigint not null,
  reason       text not null,
  requested_at timestamptz not null default now(),
  generation   bigint not null default nextval('public.sync_pending_keys_generation_seq'),
  gone         boolean not null default false,
  circle       bigint,
  execution_id uuid references public.sync_executions (id) on delete cascade,
  -- A publication of all tables takes no table without a key.
  id           bigint generated always as identity primary key,
  -- What an execution may read is one range of the index, in the order of the keys.
  unique nulls not distinct (entity_id, execution_id, legacy_id)
);
create index sync_pending_keys_circle_idx on public.sync_pending_keys (entity_id, execution_id, circle) where circle is not null;
create index sync_pending_keys_execution_id_idx on public.sync_pending_keys (execution_id) where execution_id is not null;
comment on table public.sync_pending_keys is
  'Records to read again: released, requested, found different by a control total or a digest, or changed through a '
  'joined row (fan_out).';
comment on column public.sync_pending_keys.execution_id is
  'The dry run that would ask for the record, and that alone reads this row. Null: asked for in earnest, for the '
  'next execution that covers the entity.';
comment on column public.sync_pending_keys.gone is
  'The source no longer has it, but it has landed: the end of an execution deletes it, children before parents, as '
  'its entity says.';
comment on column public.sync_pending_keys.circle is
  'The least key of records that wait for each other in a circle: a page reads all of them, or they would wait for '
  'ever.';
comment on column public.sync_pending_keys.reason is
  'released, requested, dependants (requested with the records that refer to it), parent (of a requested one), '
  'fan_out, control_total, digest, missing (not met by a full pass), clash (for a unique value), circle (of records '
  'that wait for each other), retried, replayed, rule_changed, decided (for the source''s text of a value that a '
  'decision has written) or gone.';
comment on column public.sync_pending_keys.generation is
  'Moves when a key is requested again, so that a page deletes only the request it has answered.';

alter table public.sync_pending_keys enable row level security;
create policy team_reads on public.sync_pending_keys for select to authenticated
  using (execution_id is null and (select sync.caller_role()) in ('operator', 'reviewer'));
revoke all on public.sync_pending_keys from anon, authenticated, service_role;
revoke all on sequence public.sync_pending_keys_generation_seq, public.sync_pending_keys_id_seq from anon, authenticated, service_role;
grant select on public.sync_pending_keys to authenticated;
grant select, insert, update, delete on public.sync_pending_keys to isthmus_worker;
grant select, insert (entity_id, legacy_id, reason, generation) on public.sync_pending_keys to isthmus_decisions;
grant usage on sequence public.sync_pending_keys_generation_seq to isthmus_worker;

-- Purpose: what the sync would not delete, empty or overwrite without a person's word.

create table public.sync_brakes (
  id           uuid primary key default gen_random_uuid(),
  entity_id    smallint not null references public.sync_entities (id),
  kind         text not null check (kind in ('delete', 'null', 'overwrite')),
  field        text,
  records      bigint not null,
  landed       bigint not null,
  execution_id uuid references public.sync_executions (id) on delete set null,
  created_at   timestamptz not null default now(),
  last_seen_at timestamptz not null default now(),
  confirmed_by text check (btrim(confirmed_by) <> ''),
  confirmed_at timestamptz,
  closed_at    timestamptz,
  check ((kind = 'null') = (field is not null)),
  check ((confirmed_by is null) = (confirmed_at is null))
);
comment on table public.sync_brakes is
  'An execution would have deleted, emptied in a column, or overwritten more of an entity''s records than its share '
  'allows, and was stopped there. Put your name into confirmed_by, and the next execution goes on.';
comment on column public.sync_brakes.kind is
  'delete: the source no longer has the records. null: the source has emptied the column in field. overwrite: the '
  'source has other values.';
comment on column public.sync_brakes.records is
  'How many records it had come to. delete: a confirmation lets no more than these pass at the end of an execution; '
  'null, overwrite: it holds until an execution has succeeded.';
comment on column public.sync_brakes.landed is 'How many records of the entity had landed then.';
comment on column public.sync_brakes.confirmed_by is 'Who has looked at the source and wants it so.';
comment on column public.sync_brakes.closed_at is 'When it was done, or was no longer needed.';
create unique index sync_brakes_one_open on public.sync_brakes (entity_id, kind, field) nulls not distinct where closed_at is null;
create index sync_brakes_entity_id_idx on public.sync_brakes (entity_id);
create index sync_brakes_execution_id_idx on public.sync_brakes (execution_id);

alter table public.sync_brakes enable row level security;
create policy team_reads on public.sync_brakes for select to authenticated
  using ((select sync.caller_role()) in ('operator', 'reviewer'));
create policy operators_confirm on public.sync_brakes for update to authenticated
  using ((select sync.caller_role()) = 'operator') with check ((select sync.caller_role()) = 'operator');
revoke all on public.sync_brakes from anon, authenticated, service_role;
grant select, update (confirmed_by) on public.sync_brakes to authenticated;
grant select, insert (entity_id, kind, field, records, landed, execution_id) on public.sync_brakes to isthmus_worker;
grant update (records, landed, execution_id, last_seen_at, closed_at) on public.sync_brakes to isthmus_worker;

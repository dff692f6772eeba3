-- Purpose: target rows that share a legacy id, found while the ids of an earlier migration are taken over.

create table public.sync_adoption_rows (
  entity_id  smallint not null references public.sync_entities (id),
  legacy_id  bigint not null,
  id         uuid not null,
  undecided  boolean not null,
  claimed_by bigint,
  found_at   timestamptz not null default now(),
  primary key (entity_id, legacy_id, id)
);
comment on table public.sync_adoption_rows is
  'Target rows of an earlier migration that share a legacy id with another row. Each adoption finds them anew.';
comment on column public.sync_adoption_rows.id is 'The target row''s UUID.';
comment on column public.sync_adoption_rows.undecided is
  'True: nothing can be mapped or inserted under this legacy id until a person decides (sync.adopt_as). False: the '
  'row is surplus, another one is the record.';
comment on column public.sync_adoption_rows.claimed_by is
  'The legacy id whose record this row already is; then it cannot be chosen.';

alter table public.sync_adoption_rows enable row level security;
create policy team_reads on public.sync_adoption_rows for select to authenticated
  using ((select sync.caller_role()) in ('operator', 'reviewer'));
revoke all on public.sync_adoption_rows from anon, authenticated, service_role;
grant select on public.sync_adoption_rows to authenticated;
grant select, insert, delete on public.sync_adoption_rows to isthmus_worker;
grant update (undecided) on public.sync_adoption_rows to isthmus_worker;

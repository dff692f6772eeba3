-- Purpose: target rows that share a legacy id, found while the ids of an earlier migration are taken over; and the guard
--          that lets nobody map such an id before a person has decided.
-- Locks:   share row exclusive on uuid_mappings_enhanced, for its trigger.
-- Reverse: drop trigger refuse_undecided on public.uuid_mappings_enhanced; drop the function and the table.

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
  'True: nothing can be mapped or inserted under this legacy id until a person decides (sync.adopt_as). False: the row is surplus, another one is the record.';
comment on column public.sync_adoption_rows.claimed_by is 'The legacy id whose record this row already is; then it cannot be chosen.';

alter table public.sync_adoption_rows enable row level security;
create policy team_reads on public.sync_adoption_rows for select to authenticated
  using ((select sync.caller_role()) in ('operator', 'reviewer'));
revoke all on public.sync_adoption_rows from anon, authenticated, service_role;
grant select on public.sync_adoption_rows to authenticated;
grant select, insert, delete on public.sync_adoption_rows to isthmus_worker;
grant update (undecided) on public.sync_adoption_rows to isthmus_worker;

create function sync.refuse_undecided() returns trigger
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  if exists (select from public.sync_adoption_rows where undecided) and exists (
    select from new_mappings m
      join public.sync_entities e on e.source_id = m.source_id and e.entity_type = m.entity_type
      join public.sync_adoption_rows r on r.entity_id = e.id and r.legacy_id = m.legacy_id and r.undecided
  ) then
    raise exception using errcode = 'IS002', message = 'several target rows have this legacy id: a person decides which one is the record';
  end if;
  return null;
end
$$;
comment on function sync.refuse_undecided() is
  'A legacy id that several target rows have gets no UUID by any path until one of them is chosen.';
create trigger refuse_undecided after insert on public.uuid_mappings_enhanced
  referencing new table as new_mappings for each statement execute function sync.refuse_undecided();
revoke all on function sync.refuse_undecided() from public;

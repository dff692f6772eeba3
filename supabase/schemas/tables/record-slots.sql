-- Purpose: the slots by which pages that commit the same records are ordered.

-- A page of ordinary keys rewrites a few rows of it: there is room for the next version beside each.
create table public.sync_record_slots (
  entity_id smallint not null references public.sync_entities (id) on delete cascade,
  slot      smallint not null check (slot between 0 and 255),
  version   bigint not null,
  primary key (entity_id, slot)
) with (fillfactor = 50);
comment on table public.sync_record_slots is
  'How often records of a slot (4,096 neighbouring keys; every 256th such range has the same slot) were committed. A '
  'page notes the versions before it reads the source, and commits only if they still hold.';
comment on column public.sync_record_slots.slot is 'legacy id >> 12, its last eight bits.';
comment on column public.sync_record_slots.version is 'One more with each commit of records of the slot.';

alter table public.sync_record_slots enable row level security;
create policy team_reads on public.sync_record_slots for select to authenticated
  using ((select sync.caller_role()) in ('operator', 'reviewer'));
revoke all on public.sync_record_slots from anon, authenticated, service_role;
grant select on public.sync_record_slots to authenticated;
grant select, insert, update on public.sync_record_slots to isthmus_worker;

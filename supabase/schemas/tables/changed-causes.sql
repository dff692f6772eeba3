-- Purpose: what a waiting record waits for has changed: which records are to be told.

create table public.sync_changed_causes (
  entity_id smallint not null references public.sync_entities (id) on delete cascade,
  legacy_id bigint not null,
  primary key (entity_id, legacy_id)
);
comment on table public.sync_changed_causes is
  'Records that others wait for, and of which something else is to be told since: the next tick rewrites the '
  'remedies of those that wait.';
alter table public.sync_changed_causes enable row level security;
create policy team_reads on public.sync_changed_causes for select to authenticated
  using ((select sync.caller_role()) in ('operator', 'reviewer'));
revoke all on public.sync_changed_causes from anon, authenticated, service_role;
grant select on public.sync_changed_causes to authenticated;
grant select, insert, update, delete on public.sync_changed_causes to isthmus_worker;
grant select, insert on public.sync_changed_causes to isthmus_decisions;

-- Purpose: the tables and columns that decisions may touch.

create table public.sync_released_entities (
  entity_type  varchar(100) primary key,
  target_table text not null,
  columns      text[] not null,
  deletes      boolean not null,
  released_by  text not null default session_user,
  released_at  timestamptz not null default now()
);
comment on table public.sync_released_entities is
  'The tables and columns that decisions may read and write. Only the owner of the database adds to it: run what npm '
  'run sync -- grants prints.';
comment on column public.sync_released_entities.columns is
  'The columns of target_table that decisions may write, besides the id of a new row.';
comment on column public.sync_released_entities.deletes is 'Whether a decision may delete rows.';
comment on column public.sync_released_entities.released_by is 'The database user who released it last.';

alter table public.sync_released_entities enable row level security;
create policy team_reads on public.sync_released_entities for select to authenticated
  using ((select sync.caller_role()) in ('operator', 'reviewer'));
revoke all on public.sync_released_entities from anon, authenticated, service_role;
grant select on public.sync_released_entities to authenticated, isthmus_worker, isthmus_decisions;

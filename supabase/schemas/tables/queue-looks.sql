-- Purpose: when the queue of messages was last looked at.

create table public.sync_queue_looks (
  source_id     smallint not null references public.sync_sources (id) on delete cascade,
  what          text not null check (what in ('deliveries', 'dead_letters')),
  looked_at     timestamptz not null,
  dead_letters  text[] not null default '{}',
  primary key (source_id, what)
);
comment on table public.sync_queue_looks is
  'When sync-tick last asked QStash what became of its messages: it asks rarely.';
comment on column public.sync_queue_looks.what is
  'deliveries: its log, only while messages are sent that nobody takes. dead_letters: what it has given up.';
comment on column public.sync_queue_looks.dead_letters is
  'The ids of the latest ones (at most 100), so that each is told once.';
alter table public.sync_queue_looks enable row level security;
create policy team_reads on public.sync_queue_looks for select to authenticated
  using ((select sync.caller_role()) in ('operator', 'reviewer'));
revoke all on public.sync_queue_looks from anon, authenticated, service_role;
grant select on public.sync_queue_looks to authenticated;
grant select, insert, update on public.sync_queue_looks to isthmus_worker;

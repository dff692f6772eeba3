-- Purpose: the latest calls of sync-tick.

create table public.sync_ticks (
  id          uuid primary key default gen_random_uuid(),
  created_at  timestamptz not null default clock_timestamp(),
  request_id  bigint,
  answered_at timestamptz,
  status_code integer,
  timed_out   boolean,
  error       text,
  begun_at    timestamptz,
  ended_at    timestamptz,
  failed      text[] not null default '{}',
  idle        text[] not null default '{}'
);
comment on table public.sync_ticks is
  'The latest calls of sync-tick and what became of them. What is older than a day is deleted.';
comment on column public.sync_ticks.request_id is
  'pg_net''s number of the call; empty where QStash or a person called.';
comment on column public.sync_ticks.answered_at is
  'When the answer was found. That of pg_net only: with QStash the answer is QStash''s.';
comment on column public.sync_ticks.error is
  'Why there is no answer, in the words of pg_net; or the code of the error that sync-tick answered.';
comment on column public.sync_ticks.ended_at is
  'Written by sync-tick when its work is done: nothing else proves that it works.';
comment on column public.sync_ticks.failed is
  'Parts of its work that failed, by their names in the log of sync-tick, each with its error code; jobs, sends: '
  'what waits at its end (sync.held_up). The heartbeat is for ticks without any.';
comment on column public.sync_ticks.idle is
  'Parts of its work that had nothing to look at, as those that look every few minutes: for them the tick counts '
  'neither as a success nor as a failure.';
create index sync_ticks_created_at_idx on public.sync_ticks (created_at);
create index sync_ticks_ended_idx on public.sync_ticks (created_at) where ended_at is not null;
alter table public.sync_ticks enable row level security;
create policy team_reads on public.sync_ticks for select to authenticated
  using ((select sync.caller_role()) in ('operator', 'reviewer'));
revoke all on public.sync_ticks from anon, authenticated, service_role;
grant select on public.sync_ticks to authenticated;
grant select, delete, insert (id, begun_at), update (begun_at, ended_at, failed, idle) on public.sync_ticks to isthmus_worker;

-- Purpose: the pages of each run: chains, and the log of pages.

create table public.sync_chains (
  id           uuid primary key default gen_random_uuid(),
  execution_id uuid not null references public.sync_executions (id) on delete cascade,
  entity_id    smallint references public.sync_entities (id),
  capture      public.sync_capture not null,
  state        public.sync_chain_state not null default 'blocked',
  range_from   bigint,
  range_to     bigint,
  changed_from xid8,
  seen_before  xid8,
  join_id      integer,
  skips_unchanged boolean not null default false,
  definition_hash text,
  deletes      boolean not null default false,
  up_to        bigint,
  selection    jsonb,
  until_at     text,
  table_file   bigint,
  "cursor"     bigint,
  cursor_at    text,
  page         integer not null default 0,
  page_size    integer not null check (page_size > 0),
  slow_growth  boolean not null default false,
  crashes      integer not null default 0,
  round        integer not null default 1,
  lease        bigint not null default 0,
  lease_until  timestamptz,
  delivery     text,
  attempt      integer,
  sends        integer not null default 0,
  due_at       timestamptz,
  unclaimed    integer not null default 0,
  refusals     integer not null default 0,
  waits_since  timestamptz,
  failures     integer not null default 0,
  last_error   jsonb,
  created_at   timestamptz not null default now(),
  moved_at     timestamptz not null default clock_timestamp(),
  closed_at    timestamptz,
  counts       jsonb not null default '{}',
  landed       bigint not null default 0,
  landed_up_to bigint,
  refusal      jsonb,
  control       public.sync_control,
  controlled_by text,
  controlled_at timestamptz,
  check ((capture = 'validate') = (entity_id is null)),
  check ((capture = 'joins') = (join_id is not null)),
  check ((capture = 'modified') = (until_at is not null)),
  check ((capture = 'selection') = (selection is not null)),
  check (not deletes or capture = 'keys'),
  check ((state = 'open') = (due_at is not null)),
  check ((state in ('done', 'failed', 'cancelled')) = (closed_at is not null))
);
comment on table public.sync_chains is
  'The pages of one entity and key range within an execution. The row is also the outbox: an open chain whose due_at '
  'has passed is sent again.';
comment on column public.sync_chains.range_from is 'Keys from this one on (null: from the first).';
comment on column public.sync_chains.range_to is 'Keys up to this one (null: to the last).';
comment on column public.sync_chains.changed_from is
  'Rows written by this transaction id or a later one (xmin; joins, where null is all rows).';
comment on column public.sync_chains.join_id is
  'joins capture: which joined table''s rows are looked at, as in sync_join_rows.';
comment on column public.sync_chains.definition_hash is
  'The entity definition under which the chain was planned; mixed when a page of it ran under another one.';
comment on column public.sync_chains.skips_unchanged is
  'full capture: all that has landed was decided on under the chain''s definition, so that what neither side has '
  'changed since is not read.';
comment on column public.sync_chains.deletes is
  'keys capture: carries out deletes of records that the source no longer has, children before parents.';
comment on column public.sync_chains.up_to is
  'deletes: the last generation of pending keys that the brake has counted; what is asked for later is for a later '
  'execution.';
comment on column public.sync_chains.selection is 'selection capture: which records a request asked for.';
comment on column public.sync_chains.until_at is
  'modified capture: the source''s clock when the chain was planned; what is stamped later belongs to a later run.';
comment on column public.sync_chains.table_file is
  'Scans by place: the file of the table; when it is rewritten, its rows move and the scan begins anew.';
comment on column public.sync_chains.seen_before is
  'xmin capture: what was written before this transaction, the last run may have read; it is read again where its '
  'hash differs.';
comment on column public.sync_chains."cursor" is
  'The last key committed (joins capture: of the joined table; scans by place: block and line of the last row looked '
  'at).';
comment on column public.sync_chains.cursor_at is
  'modified capture: the time stamp that goes with the last key, as the source writes it.';
comment on column public.sync_chains.page is
  'Number of the page to run next; a message for another page is late and does nothing.';
comment on column public.sync_chains.page_size is
  'How many records the next page takes at most; it halves, down to one, with every page that a limit ends.';
comment on column public.sync_chains.slow_growth is
  'A limit has ended or cut a page: from then on each page is larger than the one before by a quarter at most.';
comment on column public.sync_chains.crashes is
  'How often the worker of the page of one record that is next was killed. At two its record goes to the queue '
  'without being read.';
comment on column public.sync_chains.round is 'validate: 1, or 2 after the records that differed were read once more.';
comment on column public.sync_chains.lease is 'Fencing token: a page commits only under the lease it claimed.';
comment on column public.sync_chains.delivery is
  'The queue''s message that took the lease: a later attempt of the same message means that the earlier one has '
  'ended without an answer.';
comment on column public.sync_chains.attempt is 'Which attempt of that message took the lease, counted from 0.';
comment on column public.sync_chains.due_at is 'When sync-tick sends the next page again if nobody has committed it.';
comment on column public.sync_chains.sends is
  'How often sync-tick has sent the next page again: part of the message''s deduplication id.';
comment on column public.sync_chains.unclaimed is
  'Messages that the queue accepted from sync-tick and no function has answered by taking the page.';
comment on column public.sync_chains.refusals is
  'How often in a row the queue did not accept the message; refusal says why.';
comment on column public.sync_chains.waits_since is
  'Since when the next page is due and no function has taken it; null: it is not, or it is under way.';
comment on column public.sync_chains.failures is
  'Tries of the page since the last progress: failed, or never told of.';
comment on column public.sync_chains.moved_at is
  'The last progress: it was opened or closed, a page was committed, or given back to be tried smaller.';
comment on column public.sync_chains.last_error is
  'Code and remedy of the last failure of the page; never values of a row.';
comment on column public.sync_chains.refusal is
  'Why the queue did not accept the message last; null: it did, or the page has begun since.';
comment on column public.sync_chains.counts is
  'What its pages have counted so far, added up as each is logged: see sync.counted. Brakes, reports and the state '
  'of an execution go by these; rows of sync_page_log that are deleted later change nothing.';
comment on column public.sync_chains.landed is
  'So many records of the entity at least had landed, as the brake has counted them for this chain, and up to which '
  'key (landed_up_to).';
comment on column public.sync_chains.landed_up_to is 'How far the brake has counted; it goes on from here.';
comment on column public.sync_chains.control is
  'pause: no page of it begins. Resume, cancel or retry are carried out, and it is empty again. docs/reference.md '
  'says which when.';
comment on column public.sync_chains.controlled_by is 'Who gave the last word to control.';
comment on column public.sync_chains.controlled_at is 'When that was.';
create index sync_chains_execution_id_idx on public.sync_chains (execution_id);
create index sync_chains_entity_id_idx on public.sync_chains (entity_id);
create index sync_chains_due_idx on public.sync_chains (due_at) where state = 'open';
create index sync_chains_control_idx on public.sync_chains (execution_id) where control is not null;

alter table public.sync_chains enable row level security;
create policy team_reads on public.sync_chains for select to authenticated
  using ((select sync.caller_role()) in ('operator', 'reviewer'));
create policy operators_control on public.sync_chains for update to authenticated
  using ((select sync.caller_role()) = 'operator') with check ((select sync.caller_role()) = 'operator');
revoke all on public.sync_chains from anon, authenticated, service_role;
grant select, update (control) on public.sync_chains to authenticated;
grant select, insert, update on public.sync_chains to isthmus_worker;

create table public.sync_page_log (
  id             bigint generated always as identity primary key,
  execution_id   uuid not null references public.sync_executions (id) on delete cascade,
  chain_id       uuid not null references public.sync_chains (id) on delete cascade,
  entity_id      smallint not null references public.sync_entities (id),
  page           integer not null,
  read           integer not null,
  inserted       integer not null,
  updated        integer not null,
  unchanged      integer not null,
  deleted        integer not null default 0,
  waiting        integer not null,
  in_conflict    integer not null,
  waived         integer not null default 0,
  waived_by      text,
  untouched      integer not null default 0,
  absent         integer not null default 0,
  surplus        integer not null default 0,
  nulled         jsonb,
  overwritten    integer not null default 0,
  cache_lookups  integer not null default 0,
  cache_hits     integer not null default 0,
  heap_bytes     bigint,
  wall_ms        numeric(12,3) not null,
  committed_at   timestamptz not null default clock_timestamp(),
  unique (chain_id, page),
  constraint nothing_silent check
    (read = inserted + updated + unchanged + deleted + waiting + in_conflict + waived),
  constraint waived_by_a_rule check (waived = 0 or waived_by is not null)
);
comment on table public.sync_page_log is 'One row per committed page: what was read and what became of it.';
comment on column public.sync_page_log.waived is
  'Rows of the source that are not transferred: they do not satisfy the entity''s predicate, or a decision stands.';
comment on column public.sync_page_log.waived_by is
  'The predicate, with its version; decision: sync_conflicts.standing.';
comment on column public.sync_page_log.untouched is
  'Of the unchanged: told by the hash of the source and the writer of the target row, and not read.';
comment on column public.sync_page_log.absent is
  'Keys that have no record in the projection any more, and no row that is deleted by this page.';
comment on column public.sync_page_log.surplus is
  'Full passes only: target rows in the key range of the page that are duplicates of a record.';
comment on column public.sync_page_log.nulled is 'How many records lost their value in a column: {column: n}.';
comment on column public.sync_page_log.overwritten is
  'How many records that the sync knew got another value where one stood.';
comment on column public.sync_page_log.heap_bytes is
  'Heap and external memory of the function''s isolate before the commit, pages beside this one included; null where '
  'the platform does not tell.';
create index sync_page_log_execution_id_idx on public.sync_page_log (execution_id);
create index sync_page_log_entity_id_idx on public.sync_page_log (entity_id);

alter table public.sync_page_log enable row level security;
create policy team_reads on public.sync_page_log for select to authenticated
  using ((select sync.caller_role()) in ('operator', 'reviewer'));
revoke all on public.sync_page_log from anon, authenticated, service_role;
revoke all on sequence public.sync_page_log_id_seq from anon, authenticated, service_role;
grant select on public.sync_page_log to authenticated;
grant select, insert on public.sync_page_log to isthmus_worker;

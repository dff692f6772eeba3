-- Purpose: which databases and which installation of the functions belong together. One that is new is a question to
--          a person.

create table public.sync_identities (
  id            uuid primary key default gen_random_uuid(),
  source_id     smallint not null references public.sync_sources (id),
  side          text not null check (side in ('source', 'target', 'target_state', 'installation', 'source_address', 'target_address')),
  identity      text not null,
  database_name text,
  first_seen_at timestamptz not null default now(),
  last_seen_at  timestamptz not null default now(),
  refused       integer not null default 1,
  accepted_by   text check (btrim(accepted_by) <> ''),
  accepted_at   timestamptz,
  inserted_by   xid8 not null default pg_current_xact_id(),
  check ((accepted_by is null) = (accepted_at is null))
);
comment on table public.sync_identities is
  'Which source, target and installation of the functions have met. The one accepted last of each side is known; '
  'another one is refused, and nothing is written, until you put your name into accepted_by. The first of each side '
  'is accepted unasked. Rows stay: they tell who accepted what, and when.';
comment on column public.sync_identities.side is
  'source: the legacy database. target: this database. target_state: a sign that this database was put back to an '
  'older state. installation: the project, or the address, whose functions work here. source_address, '
  'target_address: where the functions look for it; each that was accepted stays known.';
comment on column public.sync_identities.identity is
  'source, target: the system identifier of the server and the oid of the database; replicas and backups of a server '
  'have the same. installation: its name. target_state: what tells it. Addresses: host, port and database.';
comment on column public.sync_identities.database_name is 'source: the database''s name when it was first met.';
comment on column public.sync_identities.refused is
  'How often it was refused. 0: it was the first one, and nobody was asked.';
comment on column public.sync_identities.accepted_by is
  'Who wants it so. From then on this one is known, and the one before is not. first use: there was none before.';
comment on column public.sync_identities.inserted_by is
  'The transaction that wrote the row. Of a first identity, which nobody updates, another xmin tells that the rows '
  'of this table were written again, as by a restored dump.';
create unique index sync_identities_one_question on public.sync_identities (source_id, side, identity) where accepted_at is null;
create unique index sync_identities_one_answer on public.sync_identities (source_id, side, accepted_at) where accepted_at is not null and side <> 'target_state';

alter table public.sync_identities enable row level security;
create policy team_reads on public.sync_identities for select to authenticated
  using ((select sync.caller_role()) in ('operator', 'reviewer'));
create policy operators_accept on public.sync_identities for update to authenticated
  using ((select sync.caller_role()) = 'operator') with check ((select sync.caller_role()) = 'operator');
revoke all on public.sync_identities from anon, authenticated, service_role;
grant select, update (accepted_by) on public.sync_identities to authenticated;
-- The worker asks. It never answers.
grant select, insert (source_id, side, identity, database_name), update (last_seen_at, refused) on public.sync_identities to isthmus_worker;

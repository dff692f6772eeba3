-- Purpose: which migrations and functions were installed here.

-- Our own history, beside that of whatever tool migrates the application: a project may have both.
create table sync.installed (
  id         bigint generated always as identity primary key,
  part       text not null check (part in ('migration', 'functions')),
  version    text not null,
  name       text not null,
  sha256     text,
  release    text not null,
  applied_at timestamptz not null default now(),
  applied_by text not null default current_user
);
comment on table sync.installed is
  'What was installed here, when and by whom: each migration with the SHA-256 of its file, each deployment of the '
  'functions with that of their sources. Written by npm run sync -- setup.';
comment on column sync.installed.sha256 is
  'Null where there is no text that it could be of: a migration that another tool applied, and a deployment of the '
  'functions that is outstanding since their secrets were set.';
comment on column sync.installed.release is 'The version of this project that installed it.';
alter table sync.installed enable row level security;
create policy team_reads on sync.installed for select to authenticated using ((select sync.caller_role()) in ('operator', 'reviewer'));
revoke all on sync.installed from public, anon, authenticated, service_role;

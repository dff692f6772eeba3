-- Purpose: which version this database has, and with which functions it works.

-- Written by `npm run migration`: the last migration.
create function sync.schema_version() returns bigint
language sql immutable security invoker set search_path = pg_catalog, pg_temp as $$ select 20261101000200 $$;
comment on function sync.schema_version() is
  'The last migration. Functions that were made for a later one do nothing here.';

-- While an upgrade is under way, functions of the release before meet this database, and so do those of a release
-- that was put back. Whoever changes something in such a way that they would do harm, or fail, writes the version of
-- that change here: then they wait until the new functions are deployed, and so does what is in the queue.
create function sync.oldest_functions() returns bigint
language sql immutable security invoker set search_path = pg_catalog, pg_temp as $$ select 20261101000100 $$;
comment on function sync.oldest_functions() is
  'Functions that were made for an earlier version than this one do nothing here.';

-- Called in the statements that claim and commit a page, and in the first one of a tick, a start and a check: it
-- costs no round trip.
create function sync.meet_functions(p_version bigint) returns void
language plpgsql stable security invoker set search_path = pg_catalog, pg_temp as $$
begin
  if current_setting('session_replication_role') = 'replica' then
    raise exception 'session_replication_role is replica for %: no foreign key and no trigger would hold, those that guard the sync included', current_user
      using errcode = 'IS073', hint = 'As a superuser of the target: alter role ... reset session_replication_role, for the role or its database. Nothing was done, and what is in the queue comes back by itself.';
  end if;
  if p_version > sync.schema_version() then
    raise exception 'the functions were made for version % of the database, which has version %', p_version, sync.schema_version()
      using errcode = 'IS071', hint = 'Upgrade the database: npm run sync -- setup --upgrade. Nothing was done, and what is in the queue comes back by itself.';
  end if;
  if p_version < sync.oldest_functions() then
    raise exception 'the database has version %, and works with functions of version % and later; these have version %',
      sync.schema_version(), sync.oldest_functions(), p_version
      using errcode = 'IS072', hint = 'Deploy the functions of the release that the database has: npm run sync -- setup --upgrade, from a checkout of that release. Nothing was done, and what is in the queue comes back by itself.';
  end if;
end
$$;
comment on function sync.meet_functions(bigint) is
  'Raises IS071 where these functions need a later database, IS072 where they are too old for this one, IS073 where '
  'the session has all triggers off.';

revoke all on function sync.schema_version(), sync.oldest_functions(), sync.meet_functions(bigint) from public;
grant execute on function sync.schema_version(), sync.oldest_functions(), sync.meet_functions(bigint) to isthmus_worker;

-- Purpose: who is calling, and under which search path rows of the application are written.

-- What auth.jwt() returns. Decisions ask for it too, as a role that has no rights on the schema auth.
create function sync.claims() returns jsonb
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select coalesce(nullif(current_setting('request.jwt.claim', true), ''), nullif(current_setting('request.jwt.claims', true), ''))::jsonb
$$;
comment on function sync.claims() is 'The token of the signed-in user. Null outside the Data API.';

-- Who is calling, for the policies below: the role in app_metadata (never user_metadata, which a user
-- can edit). Null outside the Data API.
create function sync.caller_role() returns text
language sql stable security invoker set search_path = pg_catalog, pg_temp
as $$ select sync.claims() -> 'app_metadata' ->> 'isthmus_role' $$;
comment on function sync.caller_role() is
  'operator, reviewer or null: isthmus_role in the app_metadata of the signed-in user.';

-- Asked by functions that run with more rights than their caller, who chooses the session's settings: the role
-- setting counts only for what PostgreSQL has checked it against, which is that the session's user may take on that
-- role.
create function sync.calling_role() returns name
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select case current_setting('role') when 'none' then session_user else current_setting('role')::name end
$$;
comment on function sync.calling_role() is
  'The role of whoever has called a function that runs with its owner''s rights.';

-- The search path of what the application runs when a row of it is written: its triggers, defaults and checks find
-- the tables that they name without a schema, and before anything in pg_temp. The worker and decisions create nothing
-- in public.
create function sync.application_path() returns text
language sql immutable security invoker set search_path = pg_catalog, pg_temp as $$ select 'pg_catalog, public, extensions, pg_temp' $$;
comment on function sync.application_path() is 'The search path under which rows of the application are written.';

create function sync.actor(p_name text) returns text
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select case when sync.claims() ->> 'sub' is not null then coalesce(sync.claims() ->> 'email', sync.claims() ->> 'sub')
              else coalesce(nullif(btrim(p_name), ''), session_user) end
$$;
comment on function sync.actor(text) is
  'Who is deciding: the signed-in reviewer, or else the name that was given, or the database user.';

revoke all on function sync.claims(), sync.caller_role(), sync.calling_role(), sync.application_path(), sync.actor(text) from public;
grant execute on function sync.claims(), sync.caller_role(), sync.actor(text) to authenticated, isthmus_decisions;
grant execute on function sync.calling_role() to isthmus_decisions;
grant execute on function sync.application_path() to isthmus_worker, isthmus_decisions;

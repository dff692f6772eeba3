-- Purpose: how often, and how long, a page looks for values that could stand in for others.
-- Locks:   none.
--
-- What cannot be found is looked for at length: so a page tries for all of its records together, counts, and looks at
-- the clock.

create function sync.count_tries(p_count integer) returns boolean
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  perform nextval('pg_temp.page_tries_n_seq'::text::regclass) from generate_series(1, p_count);
  -- A try may cost a look through a table that refers to the row without an index.
  if clock_timestamp() - (select t.begun from pg_temp.page_tries t) > interval '10 seconds' then
    perform setval('pg_temp.page_tries_n_seq'::text::regclass, 1000000);
  end if;
  return sync.tries_spent();
end
$$;
comment on function sync.count_tries(integer) is
  'Counts what was tried in vain of a page, and looks how long it has tried; true: no more is to be tried. 0: only '
  'looks.';

create function sync.tries_spent() returns boolean
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  -- Some two milliseconds each.
  if to_regclass('pg_temp.page_tries') is null then
    return false;
  end if;
  return (select s.last_value from pg_temp.page_tries_n_seq s) > 2000;
end
$$;
comment on function sync.tries_spent() is
  'Whether a page has tried in vain as often, or as long, as it may to find stand-ins, over all of its circles.';

create function sync.time_spent() returns boolean
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  if to_regclass('pg_temp.page_tries') is null then
    return false;
  end if;
  return (select s.last_value from pg_temp.page_tries_n_seq s) >= 1000000;
end
$$;
comment on function sync.time_spent() is 'Whether it was the clock that ended the tries of a page.';

create function sync.renew_tries() returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  if to_regclass('pg_temp.page_tries') is not null then
    perform setval('pg_temp.page_tries_n_seq'::text::regclass, 1, false);
    update pg_temp.page_tries set begun = clock_timestamp();
  end if;
end
$$;
comment on function sync.renew_tries() is
  'Lets a page try anew: once, for the circles that its other rejects had parted.';

revoke all on function sync.count_tries(integer), sync.tries_spent(), sync.time_spent(), sync.renew_tries() from public;
grant execute on function sync.count_tries(integer), sync.tries_spent(), sync.time_spent(), sync.renew_tries() to isthmus_worker;

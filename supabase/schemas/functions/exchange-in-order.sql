-- Purpose: write rows that exchange unique values one after the other.
-- Locks:   none beyond those of the statements.
--
-- Who gives a value is written before who takes it. Only rows that wait for each other in a circle need a stand-in,
-- one of them. Circles for which a page has no tries left stay in the queue, and are the first that the next page
-- tries.

create function sync.circles(p_next integer[]) returns setof integer[]
language plpgsql immutable security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_met    integer[] := array_fill(0, array[cardinality(p_next)]);
  v_at     integer;
  v_first  integer;
  v_circle integer[];
begin
  for v_start in 1 .. cardinality(p_next) loop
    v_at := v_start;
    while v_at is not null and v_met[v_at] = 0 loop
      v_met[v_at] := v_start;
      v_at := p_next[v_at];
    end loop;
    if v_at is not null and v_met[v_at] = v_start then
      v_first := v_at;
      v_circle := '{}';
      loop
        v_circle := v_circle || v_at;
        v_at := p_next[v_at];
        exit when v_at = v_first;
      end loop;
      return next v_circle;
    end if;
  end loop;
end
$$;
comment on function sync.circles(integer[]) is
  'Of n things, each of which waits for at most one other (p_next[i], null: none): those that wait for each other in '
  'a circle.';

create function sync.order_exchange(p_entity public.sync_entities, p_schema text, p_from integer, p_to integer, out stuck integer[], out untried integer[])
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_held   text := sync.held_keys_sql(p_entity, p_schema);
  v_step   integer := 0;
  v_free   integer[];
  v_n      integer[];
  v_next   integer[];
  v_circle integer[];
  v_parked boolean;
begin
  stuck := '{}';
  untried := '{}';
  delete from pg_temp.page_stand_ins;
  delete from pg_temp.page_steps;
  delete from pg_temp.page_waits;
  insert into pg_temp.page_waits (n, taker)
  select distinct g.n, g.taker from pg_temp.page_givers g where g.n between p_from and p_to and g.taker between p_from and p_to;
  insert into pg_temp.page_steps (n) select w.n from pg_temp.page_waits w union select w.taker from pg_temp.page_waits w;
  v_free := array(select s.n from pg_temp.page_steps s where (select w.n from pg_temp.page_waits w where w.taker = s.n limit 1) is null);
  loop
    -- Who takes from nobody any more is next, and then those who take only from them.
    while v_free <> '{}' loop
      update pg_temp.page_steps s set step = v_step where s.n = any (v_free) and s.step is null;
      with given as (delete from pg_temp.page_waits w where w.n = any (v_free) returning w.taker) select array(select distinct g.taker from given g) into v_free;
      v_free := array(select x.n from pg_catalog.unnest(v_free) x (n) where (select w.n from pg_temp.page_waits w where w.taker = x.n limit 1) is null);
      v_step := v_step + 1;
    end loop;
    with pending as materialized (
      select s.n, (row_number() over (order by s.n))::integer as i, (select min(w.n) from pg_temp.page_waits w where w.taker = s.n) as giver
        from pg_temp.page_steps s where s.step is null)
    select pg_catalog.array_agg(p.n order by p.i), pg_catalog.array_agg(g.i order by p.i) into v_n, v_next from pending p left join pending g on g.n = p.giver;
    exit when v_n is null;
    for v_circle in
      select x.n from (select array(select v_n[i] from pg_catalog.unnest(c) i) as n from sync.circles(v_next) c) x
       -- Each in its turn: last those in which nothing would do most often, and what this page has tried already.
       order by (
         select max(coalesce(told.tried, 0) + case when (select s.id from pg_temp.page_stuck s where s.id = p._uuid) is null then 0 else 1 end)
           from pg_temp.page_rows p
           left join lateral (
             select (k.conflict_data ->> 'tried')::integer as tried from public.sync_conflicts k
              where k.entity_id = p_entity.id and k.source_record_id = p._key and k.state = 'open' limit 1) told on true
          where p.n = any (x.n)), x.n
    loop
      v_parked := false;
      for v_at in 1 .. least(cardinality(v_circle), 4) loop
        exit when sync.count_tries(0);
        v_parked := sync.park(p_entity, p_schema, v_held, v_circle[v_at], p_from, p_to);
        if v_parked then
          delete from pg_temp.page_waits w where w.n = v_circle[v_at];
          exit;
        end if;
      end loop;
      if not v_parked then
        if sync.tries_spent() then
          untried := untried || v_circle;
        else
          stuck := stuck || v_circle;
        end if;
        delete from pg_temp.page_waits w where w.n = any (v_circle) or w.taker = any (v_circle);
        delete from pg_temp.page_steps s where s.n = any (v_circle);
      end if;
    end loop;
    v_free := array(select s.n from pg_temp.page_steps s where s.step is null and (select w.n from pg_temp.page_waits w where w.taker = s.n limit 1) is null);
  end loop;
end
$$;
comment on function sync.order_exchange(public.sync_entities, text, integer, integer) is
  'In which steps the records of a slice that exchange unique values are to be written: into pg_temp.page_steps. Of '
  'each circle one row is parked (sync.park). stuck: the members of circles in which none could be; untried: of '
  'those for which the page has no tries left.';

create function sync.renumber_steps(p_from integer, p_to integer) returns table (first_n integer, last_n integer)
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_table text;
begin
  delete from pg_temp.page_order;
  insert into pg_temp.page_order (n, step, now)
  select p.n, coalesce(s.step, 0), p_from - 1 + (row_number() over (order by coalesce(s.step, 0), p.n))::integer
    from pg_temp.page_rows p left join pg_temp.page_steps s on s.n = p.n where p.n between p_from and p_to;
  -- Numbers that change places collide, too.
  foreach v_table in array array['page_rows', 'page_plan', 'page_rejects', 'page_relatives', 'page_wanted', 'page_givers', 'page_stand_ins'] loop
    execute format('update pg_temp.%I x set n = -1 - o.now from pg_temp.page_order o where o.n = x.n and x.n between $1 and $2', v_table) using p_from, p_to;
    execute format('update pg_temp.%I x set n = -1 - x.n where x.n < 0', v_table);
  end loop;
  update pg_temp.page_givers g set taker = o.now from pg_temp.page_order o where o.n = g.taker;
  return query select min(o.now), max(o.now) from pg_temp.page_order o group by o.step order by o.step;
end
$$;
comment on function sync.renumber_steps(integer, integer) is
  'Numbers the records of a slice anew, in the order of pg_temp.page_steps: returns the range of each step.';

create function sync.reject_circles(p_stuck integer[], p_untried integer[]) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_all integer[] := p_stuck || p_untried;
begin
  insert into pg_temp.page_rejects (n, sqlstate, constraint_name, other, stuck)
  select distinct on (g.taker) g.taker, '23505', k.name, p._uuid, g.taker = any (p_stuck)
    from pg_temp.page_givers g join pg_temp.page_rows p on p.n = g.n left join pg_temp.page_giving k on k.place = g.place
   where g.taker = any (v_all) and g.n = any (v_all)
   order by g.taker, g.n, k.name;
  insert into pg_temp.page_stuck (id) select p._uuid from pg_temp.page_rows p where p.n = any (p_stuck) on conflict do nothing;
  delete from pg_temp.page_plan q where q.n = any (v_all);
  delete from pg_temp.page_givers g where g.n = any (v_all) or g.taker = any (v_all);
  delete from pg_temp.page_wanted w where w.n = any (v_all);
end
$$;
comment on function sync.reject_circles(integer[], integer[]) is
  'Puts the members of circles in which nothing could stand in for a unique value into pg_temp.page_rejects, each '
  'with the one that holds its value, as sync.order_exchange has found them.';

create function sync.try_stand_ins(p_statements text[], p_from integer, p_to integer) returns text[]
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_state text;
begin
  return sync.try_slice(p_statements, true, p_from, p_to);
-- Whatever a trigger or a policy makes of a stand-in, written or just replaced. What concerns the page is met again
-- without stand-ins.
exception when others or assert_failure then
  get stacked diagnostics v_state = returned_sqlstate;
  if not sync.refuses_value(v_state) then
    raise;
  end if;
  return array['23505'];
end
$$;
comment on function sync.try_stand_ins(text[], integer, integer) is
  'What sync.try_slice says of prepared statements that put stand-ins into rows, or replace them: an error that no '
  'record causes counts as values that are still held (23505).';

create function sync.try_exchange(p_entity public.sync_entities, p_schema text, p_vacating text[], p_prepared text[], p_restoring text[], p_parts boolean, p_from integer, p_to integer)
returns text[]
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  -- Where the clock has ended the tries, nothing is written in vain any more.
  v_error   text[] := case when sync.count_tries(0) and sync.time_spent() then array['23505'] else sync.try_stand_ins(p_vacating || p_prepared[:3] || p_restoring || p_prepared[4:] || sync.stand_in_told(''), p_from, p_to) end;
  v_written text[] := '{}';
  v_stuck   integer[] := '{}';
  v_untried integer[] := '{}';
begin
  if v_error is null or sync.tries_spent() then
    return v_error;
  end if;
  begin
    select o.stuck, o.untried into v_stuck, v_untried from sync.order_exchange(p_entity, p_schema, p_from, p_to) o;
    v_error := array['23505'];
    if p_parts or v_stuck || v_untried = '{}' then
      perform sync.reject_circles(v_stuck, v_untried);
      select pg_catalog.array_agg(format(x.statement, s.first_n, s.last_n) order by s.first_n, x.n) into v_written
        from sync.renumber_steps(p_from, p_to) s cross join pg_catalog.unnest(p_prepared[2:3]) with ordinality x (statement, n);
      v_error := sync.try_stand_ins(p_prepared[:1] || v_written || p_restoring || p_prepared[4:] || sync.stand_in_told(''), p_from, p_to);
      if v_error is null then
        return null;
      end if;
    end if;
    raise exception using errcode = 'IS003', message = 'only tried';
  exception when sqlstate 'IS003' then
    -- A long order that is refused costs as much as several values.
    perform sync.count_tries(1 + cardinality(v_written) / 16);
  end;
  if p_parts then
    -- That was undone, too. No part of the slice tries them again.
    perform sync.reject_circles(v_stuck, v_untried);
  end if;
  return v_error;
end
$$;
comment on function sync.try_exchange(public.sync_entities, text, text[], text[], text[], boolean, integer, integer) is
  'Writes a slice whose records exchange unique values, as pg_temp.page_givers says: all rows give them up at once, '
  'or they are written in order. Null, or the error that sync.try_stand_ins returns. p_vacating, p_prepared, '
  'p_restoring: sync.vacate_statements, sync.write_statements and sync.restore_statements, prepared. p_parts: '
  'whether records for which nothing can stand in are put into pg_temp.page_rejects, and the others written.';

revoke all on function sync.circles(integer[]), sync.order_exchange(public.sync_entities, text, integer, integer),
  sync.renumber_steps(integer, integer), sync.reject_circles(integer[], integer[]), sync.try_stand_ins(text[], integer, integer),
  sync.try_exchange(public.sync_entities, text, text[], text[], text[], boolean, integer, integer) from public;
grant execute on function sync.circles(integer[]), sync.order_exchange(public.sync_entities, text, integer, integer),
  sync.renumber_steps(integer, integer), sync.reject_circles(integer[], integer[]), sync.try_stand_ins(text[], integer, integer),
  sync.try_exchange(public.sync_entities, text, text[], text[], text[], boolean, integer, integer) to isthmus_worker;

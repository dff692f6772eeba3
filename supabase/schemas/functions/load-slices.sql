-- Purpose: run the statements of a load over the records of a page, and find those that the database rejects.
-- Locks:   none beyond those of the statements.
--
-- A rejected record is found here and not in the caller, because an error caught in plpgsql leaves no
-- trace in the server's log, and a message such as "Key (email)=(...)" must not land there.
--
-- What classifies runs before what writes, once per record: a slice that is halved because a write was rejected is
-- not classified again. Slices of a page with rejects run as prepared statements, whose plans probe indexes: with
-- 5,000 rejects a page runs 10,000 slices, and a plan for each of them would take minutes.

create function sync.clash_sql(p_entity public.sync_entities, p_schema text, p_index text) returns text
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select format($q$
      select held.id
        from (select v.id as _id, %1$s from (select p._uuid as id, %2$s from pg_temp.page_rows p where p.n = $1) v) k
        cross join lateral (select t.id from %3$s t where %4$s and t.id <> k._id limit 1) held
    $q$, (select string_agg(format('%s as _k%s', e, n), ', ' order by n) from pg_catalog.unnest(u.keys) with ordinality x (e, n)),
      (select string_agg(format('(p.%s)::%s as %I', c.slot, c.registered, c.name), ', ') from sync.field_slots(p_entity) c),
      sync.target_sql(p_entity, p_schema),
      sync.holds_key_sql(u.keys, u.operators, u.nulls_equal) || coalesce(' and (' || u.predicate || ')', ''))
    from sync.unique_keys(p_entity) u where u.name = p_index
$$;
comment on function sync.clash_sql(public.sync_entities, text, text) is
  'SQL: the target row that holds the unique value of a rejected record. $1: its n. Null where the index is over '
  'columns that the sync may not read.';

create function sync.parted(p_from integer, p_to integer, p_alone integer[]) returns integer[]
language sql immutable security invoker set search_path = pg_catalog, pg_temp as $$
  select array_agg(x.bound order by s.first desc, x.place)
    from (select n as first, n as last from unnest(p_alone) n
          union all
          select a.n + 1, lead(a.n, 1, p_to + 1) over (order by a.n) - 1 from (select p_from - 1 as n union all select unnest(p_alone)) a) s
    cross join lateral (values (1, s.last), (2, s.first)) x (place, bound)
   where s.first <= s.last
$$;
comment on function sync.parted(integer, integer, integer[]) is
  'The slices of [from, to] that hold one of these records each, and those between them: {to, from, to, from, …}, '
  'the lowest last.';

-- The plans are made once, of tables that may have been empty then and grow by these very statements: indexes are
-- probed.
create function sync.bisect_slice(p_entity public.sync_entities, p_schema text, p_phase text, p_statements text[], p_from integer, p_to integer, p_error text[])
returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
declare
  v_prepared text[] := sync.prepare_statements(p_phase, p_statements);
  v_vacating text[];
  v_restoring text[];
  v_gives    boolean;
  v_index    text;
  v_clash    text;
  v_slices   integer[] := array[p_to, p_from];
  v_error    text[] := p_error;
  v_from     integer;
  v_to       integer;
  v_other    uuid;
  v_refused  text;
begin
  while cardinality(v_slices) > 0 loop
    v_from := v_slices[cardinality(v_slices)];
    v_to := v_slices[cardinality(v_slices) - 1];
    v_slices := v_slices[:cardinality(v_slices) - 2];
    -- Of the whole it is known.
    if (v_from, v_to) <> (p_from, p_to) then
      v_error := sync.try_slice(v_prepared, true, v_from, v_to);
      continue when v_error is null;
    end if;
    if v_error[1] = '23505' and v_from < v_to and p_phase = 'write' then
      v_gives := coalesce(v_gives, sync.find_givers(p_entity, p_schema, p_from, p_to));
      -- Where nothing can be given up, there is no table of it either.
      if v_gives then
        if exists (select from pg_temp.page_givers where n between v_from and v_to and taker between v_from and v_to) then
          v_vacating := coalesce(v_vacating, sync.prepare_statements('vacate', sync.vacate_statements(p_entity, p_schema)));
          v_restoring := coalesce(v_restoring, sync.prepare_statements('restore', sync.restore_statements(p_entity, p_schema)));
          v_error := sync.try_exchange(p_entity, p_schema, v_vacating, v_prepared, v_restoring, true, v_from, v_to);
          continue when v_error is null;
        end if;
      end if;
    end if;
    if v_from < v_to and v_error[4] ~ '^[0-9]' then
      -- Each of these is tried alone, and what lies between them together.
      v_slices := v_slices || sync.parted(v_from, v_to, string_to_array(v_error[4], ',')::integer[]);
      continue;
    end if;
    if v_from < v_to then
      v_slices := v_slices || array[v_to, (v_from + v_to) / 2 + 1, (v_from + v_to) / 2, v_from];
      continue;
    end if;
    v_other := null;
    if v_error[1] = '23505' then
      if v_error[2] is distinct from v_index then
        v_index := v_error[2];
        v_clash := (sync.prepare_statements('clash', array[sync.clash_sql(p_entity, p_schema, v_index)]))[1];
      end if;
      if v_clash is not null then
        execute format(v_clash, v_from) into v_other;
      end if;
    end if;
    delete from pg_temp.page_plan where n = v_from;
    insert into pg_temp.page_rejects (n, sqlstate, constraint_name, column_name, other) values (v_from, v_error[1], v_error[2], v_error[3], v_other);
  end loop;
  -- What a trigger or an index says of every record that is written, it says of none: a table or a function that it
  -- needs is gone.
  if p_phase = 'write' then
    select min(j.sqlstate) into v_refused from pg_temp.page_rejects j where j.n between p_from and p_to
    having count(*) > 1 and min(j.sqlstate) = max(j.sqlstate) and min(j.sqlstate) ~ '^42'
       and not exists (select from pg_temp.page_plan q where q.n between p_from and p_to and q.action <> 'unchanged');
    if v_refused is not null then
      raise exception 'every record that is written is refused' using errcode = v_refused;
    end if;
  end if;
  perform sync.forget_statements('(' || p_phase || '|vacate|restore|clash)');
  perform sync.name_unfit_columns(p_entity, p_from, p_to);
end
$$;
comment on function sync.bisect_slice(public.sync_entities, text, text, text[], integer, integer, text[]) is
  'Halves a slice that was rejected with p_error until each rejected record stands alone, and puts it into '
  'pg_temp.page_rejects; the others are carried through. p_phase: read or write.';

create function sync.load_slice(p_entity public.sync_entities, p_schema text, p_reads text[], p_writes text[], p_from integer, p_to integer) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_writes text[] := p_writes || 'set constraints all immediate'::text;
  v_error  text[] := sync.try_slice(p_reads, false, p_from, p_to);
begin
  if v_error is not null then
    perform sync.bisect_slice(p_entity, p_schema, 'read', p_reads, p_from, p_to, v_error);
  end if;
  if p_to - p_from > 50 then
    analyze pg_temp.page_plan (n, legacy_id, id, action);
  end if;
  v_error := sync.try_slice(v_writes, false, p_from, p_to);
  if v_error is not null then
    perform sync.bisect_slice(p_entity, p_schema, 'write', v_writes, p_from, p_to, v_error);
  end if;
end
$$;
comment on function sync.load_slice(public.sync_entities, text, text[], text[], integer, integer) is
  'Runs the statements of a load for the records n in [from, to]: those that classify, then those that write. '
  'Rejected records end in pg_temp.page_rejects and have no row in pg_temp.page_plan.';

create function sync.keep_stuck() returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  if to_regclass('pg_temp.page_stuck') is not null then
    update pg_temp.page_rejects j set stuck = true
      from pg_temp.page_stuck s join pg_temp.page_rows p on p._uuid = s.id
     where j.n = p.n and j.sqlstate = '23505' and j.other is not null and not j.stuck;
  end if;
end
$$;
comment on function sync.keep_stuck() is
  'Has rejects told as stuck in whose circles the page found nothing earlier, though it had no tries left for them '
  'later.';

create function sync.load_circles(p_entity public.sync_entities, p_schema text, p_reads text[], p_writes text[]) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  -- The new numbers begin behind those of the page.
  v_last   integer := (select max(n) from pg_temp.page_rows);
  v_after  integer := v_last;
  v_n      integer[];
  v_next   integer[];
  v_circle integer[];
  v_all    integer[] := '{}';
  v_some   boolean;
begin
  -- All circles together, and then, when one of them is refused, each by itself: those in which nothing could stand
  -- in only where a value may have become free.
  for v_together in reverse 1 .. 0 loop
    with reject as materialized (
      select j.n, p._uuid, j.other, (row_number() over (order by j.n))::integer as i
        from pg_temp.page_rejects j join pg_temp.page_rows p on p.n = j.n where j.sqlstate = '23505' and j.other is not null)
    select pg_catalog.array_agg(r.n order by r.i), pg_catalog.array_agg(h.i order by r.i) into v_n, v_next
      from reject r left join reject h on h._uuid = r.other;
    exit when v_n is null or v_together = 0 and sync.tries_spent();
    if v_together = 1 then
      -- What others have used up of them is not the circles'.
      perform sync.renew_tries();
    end if;
    for v_circle in
      select c.n from (select array(select v_n[x] from pg_catalog.unnest(c) x) as n from sync.circles(v_next) c) c
       where v_together = 1 or c.n <@ v_all and (v_some or not exists (select from pg_temp.page_rejects j where j.n = any (c.n) and j.stuck))
       order by exists (select from pg_temp.page_rejects j where j.n = any (c.n) and j.stuck), c.n
    loop
      exit when sync.tries_spent();
      delete from pg_temp.page_rejects where n = any (v_circle);
      update pg_temp.page_rows p set n = v_after + x.i from pg_catalog.unnest(v_circle) with ordinality x (n, i) where p.n = x.n;
      if v_together = 0 then
        perform sync.load_slice(p_entity, p_schema, p_reads, p_writes, v_after + 1, v_after + cardinality(v_circle));
      end if;
      v_after := v_after + cardinality(v_circle);
    end loop;
    exit when v_after = v_last;
    if v_together = 1 then
      perform sync.load_slice(p_entity, p_schema, p_reads, p_writes, v_last + 1, v_after);
      perform sync.keep_stuck();
      v_all := array(select generate_series(v_last + 1, v_after));
      v_some := exists (select from pg_catalog.unnest(v_all) x (n) where not exists (select from pg_temp.page_rejects j where j.n = x.n));
    end if;
  end loop;
  perform sync.keep_stuck();
end
$$;
comment on function sync.load_circles(public.sync_entities, text, text[], text[]) is
  'Loads rejected records together that exchange unique values among each other, and that other rejects of the page '
  'had parted.';

revoke all on function sync.parted(integer, integer, integer[]), sync.clash_sql(public.sync_entities, text, text),
  sync.bisect_slice(public.sync_entities, text, text, text[], integer, integer, text[]),
  sync.load_slice(public.sync_entities, text, text[], text[], integer, integer), sync.keep_stuck(),
  sync.load_circles(public.sync_entities, text, text[], text[]) from public;
grant execute on function sync.parted(integer, integer, integer[]), sync.clash_sql(public.sync_entities, text, text),
  sync.bisect_slice(public.sync_entities, text, text, text[], integer, integer, text[]),
  sync.load_slice(public.sync_entities, text, text[], text[], integer, integer), sync.keep_stuck(),
  sync.load_circles(public.sync_entities, text, text[], text[]) to isthmus_worker;

-- Purpose: let rows of a page exchange unique values, under any kind of unique index.
-- Locks:   none beyond those of the statements.
--
-- Unique values that change places collide row by row. First all rows whose value another one of the slice is to get give it up at
-- once, for NULL or a stand-in. Where that is refused, rows are written one after the other: who gives before who takes. Then only
-- rows that wait for each other in a circle need a stand-in, one of them, and for that one many are tried.
-- Which values are equal is told by their hashes, each by the type's own, so that no index has to be asked.

create function sync.giving_keys(p_entity public.sync_entities) returns table (name text, held text, fields text[], generated jsonb)
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  with needed as materialized (
    -- What an index is over, its expressions and its predicate included. A generated column stands for those that its value is made of.
    select i.indexrelid, a.attnum, a.attgenerated <> '' as generated
      from pg_catalog.pg_index i
      join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum > 0 and (a.attnum = any ((i.indkey::smallint[])[:i.indnkeyatts - 1]) or exists (
             select from pg_catalog.pg_depend d
              where (0 = any (i.indkey::smallint[]) or i.indpred is not null) and d.classid = 'pg_catalog.pg_class'::regclass and d.objid = i.indexrelid
                and d.refobjid = i.indrelid and d.refobjsubid = a.attnum))
     where i.indrelid = to_regclass(format('public.%I', p_entity.target_table)) and i.indisunique and i.indisvalid and not i.indisprimary
  ), made as (
    select n.indexrelid, d.oid, d.adrelid, d.adnum, d.adbin from needed n
      join pg_catalog.pg_attrdef d on d.adrelid = to_regclass(format('public.%I', p_entity.target_table)) and d.adnum = n.attnum
     where n.generated
  ), base as (
    select indexrelid, attnum from needed where not generated
    union
    select m.indexrelid, d.refobjsubid::smallint
      from made m join pg_catalog.pg_depend d on d.classid = 'pg_catalog.pg_attrdef'::regclass and d.objid = m.oid
       and d.refobjid = m.adrelid and d.refobjsubid <> m.adnum and d.refobjsubid > 0
    union
    -- As PostgreSQL notes them before 15: of the column itself.
    select m.indexrelid, d.refobjsubid::smallint
      from made m join pg_catalog.pg_depend d on d.classid = 'pg_catalog.pg_class'::regclass and d.objid = m.adrelid and d.objsubid = m.adnum
       and d.refobjid = m.adrelid and d.refobjsubid <> m.adnum and d.refobjsubid > 0
  )
  select c.relname::text,
         format('case when %s then hash_record_extended(row(%L::text, %s), 0) end',
                concat_ws(' and ', '(' || coalesce(pg_get_expr(i.indpred, i.indrelid), 'true') || ')',
                          case when not i.indnullsnotdistinct then format('num_nulls(%s) = 0', k.texts) end), c.relname, k.hashed),
         f.fields,
         coalesce((select jsonb_object_agg(a.attname, pg_get_expr(m.adbin, m.adrelid))
                     from made m join pg_catalog.pg_attribute a on a.attrelid = m.adrelid and a.attnum = m.adnum where m.indexrelid = i.indexrelid), '{}')
    from pg_catalog.pg_index i
    join pg_catalog.pg_class c on c.oid = i.indexrelid
    cross join lateral (
      select string_agg(x.key, ', ' order by x.n) as texts,
             string_agg(case when sync.is_hashable(a.atttypid) then x.key else '(' || x.key || ')::text' end, ', ' order by x.n) as hashed
        from (select n, pg_get_indexdef(i.indexrelid, n, false) as key from generate_series(1, i.indnkeyatts) n) x
        join pg_catalog.pg_attribute a on a.attrelid = i.indexrelid and a.attnum = x.n) k
    cross join lateral (
      select pg_catalog.array_agg(a.attname::text order by a.attnum) as fields, pg_catalog.array_agg(a.attnum) as columns
        from base b join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = b.attnum where b.indexrelid = i.indexrelid) f
   where i.indexrelid in (select indexrelid from needed) and sync.are_owned(p_entity, i.indrelid, f.columns)
     -- Two records never share the legacy key.
     and f.fields <> array[p_entity.legacy_key] and f.fields <> array['id']
   order by c.relname
$$;
comment on function sync.giving_keys(public.sync_entities) is
  'The unique indexes whose values records can exchange. held: SQL over the columns of a row, the hash of what the row holds in the index; null: nothing. fields: the columns that this depends on. generated: the SQL of those among the index''s that are generated.';

create function sync.giving_fields(p_entity public.sync_entities) returns table (field text, slot text, type text, empties boolean, refers boolean, referred boolean, labels text[])
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select c.name, c.slot, format_type(a.atttypid, a.atttypmod),
         -- Not of an expression, which may make a value of what is empty, nor where two that are empty count as equal.
         not a.attnotnull and not exists (
           select from pg_catalog.pg_index i
            where i.indrelid = a.attrelid and i.indisunique and (i.indnullsnotdistinct or 0 = any (i.indkey::smallint[]))
              and (a.attnum = any (i.indkey::smallint[]) or exists (
                    select from pg_catalog.pg_depend d
                     where d.classid = 'pg_catalog.pg_class'::regclass and d.objid = i.indexrelid and d.refobjid = i.indrelid
                       and d.refobjsubid = a.attnum))),
         exists (select from pg_catalog.pg_constraint f where f.contype = 'f' and f.conrelid = a.attrelid and a.attnum = any (f.conkey)),
         exists (select from pg_catalog.pg_constraint f where f.contype = 'f' and f.confrelid = a.attrelid and a.attnum = any (f.confkey)),
         array(select e.enumlabel::text from pg_catalog.pg_enum e where e.enumtypid = to_regtype(c.type) order by e.enumsortorder limit 100)
    from sync.field_slots(p_entity) c
    join pg_catalog.pg_attribute a on a.attrelid = to_regclass(format('public.%I', p_entity.target_table)) and a.attname = c.name
   where c.name <> p_entity.legacy_key and c.name in (select pg_catalog.unnest(g.fields) from sync.giving_keys(p_entity) g)
$$;
comment on function sync.giving_fields(public.sync_entities) is
  'The columns that an entity fills by which a row can give up a unique value: with the type that they are declared as, whether NULL gives the value up (empties), whether they refer to rows or are referred to, and the labels of an enum.';

create function sync.kept_keys_sql(p_entity public.sync_entities, p_values text) returns text
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  -- Its columns alone are meant by the names in these expressions.
  select format('lateral (select x.place::integer, x.hash from (select array[%s] as held from (select g.*%s from (%s offset 0) g) v) k cross join lateral pg_catalog.unnest(k.held) with ordinality x (hash, place) where x.hash is not null) h',
                string_agg(g.held, ', ' order by g.name),
                (select string_agg(distinct format(', (%s) as %I', e.value, e.key), '') from sync.giving_keys(p_entity) o cross join lateral jsonb_each_text(o.generated) e),
                p_values)
    from sync.giving_keys(p_entity) g having count(*) > 0
$$;
comment on function sync.kept_keys_sql(public.sync_entities, text) is
  'SQL, for a join: h.place and h.hash of what the row that p_values selects (the columns of the target table by name) holds in each index of sync.giving_keys. Null: there is none.';

create function sync.held_keys_sql(p_entity public.sync_entities, p_schema text) returns text
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select sync.kept_keys_sql(p_entity, format('select t.id, %s from %s t where t.id = p._uuid', string_agg(format('t.%I', c.name), ', '), sync.target_sql(p_entity, p_schema)))
    from sync.field_slots(p_entity) c
$$;
comment on function sync.held_keys_sql(public.sync_entities, text) is 'SQL, for a join: what sync.kept_keys_sql says of the target row of the record p.';

create function sync.find_givers(p_entity public.sync_entities, p_schema text, p_from integer, p_to integer) returns boolean
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_held text := sync.held_keys_sql(p_entity, p_schema);
begin
  if v_held is null then
    return false;
  end if;
  if to_regclass('pg_temp.page_givers') is null then
    create temp table page_wanted (n integer not null, place integer not null, hash bigint not null) on commit drop;
    create index on pg_temp.page_wanted (hash);
    create index on pg_temp.page_wanted (n);
    create temp table page_givers (n integer not null, taker integer not null, place integer not null, field text) on commit drop;
    create index on pg_temp.page_givers (n);
    create index on pg_temp.page_givers (taker);
    create temp table page_waits (n integer not null, taker integer not null) on commit drop;
    create index on pg_temp.page_waits (n);
    create index on pg_temp.page_waits (taker);
    create temp table page_steps (n integer primary key, step integer) on commit drop;
    create index on pg_temp.page_steps (step);
    create temp table page_stand_ins (n integer not null, field text not null, was text, stands text, restored boolean not null) on commit drop;
    create index on pg_temp.page_stand_ins (n);
    create temp table page_giving (place integer not null, name text not null, rank integer not null, field text not null, slot text not null, type text not null,
      empties boolean not null, refers boolean not null, referred boolean not null, labels text[] not null) on commit drop;
  end if;
  delete from pg_temp.page_wanted;
  delete from pg_temp.page_givers;
  delete from pg_temp.page_giving;
  insert into pg_temp.page_giving
  select g.place, g.name, row_number() over (partition by g.place order by not f.empties, x.n), f.field, f.slot, f.type, f.empties, f.refers, f.referred, f.labels
    from (select row_number() over (order by k.name) as place, k.name, k.fields from sync.giving_keys(p_entity) k) g
    cross join lateral pg_catalog.unnest(g.fields) with ordinality x (field, n)
    join sync.giving_fields(p_entity) f using (field);
  execute format($q$
    insert into pg_temp.page_wanted (n, place, hash)
    select p.n, h.place, h.hash
      from pg_temp.page_rows p join pg_temp.page_plan q on q.n = p.n
      left join lateral (select t.id, %1$s from %2$s t where t.id = p._uuid offset 0) t on true
      cross join %3$s
     where p.n between $1 and $2 and q.action in ('insert', 'update', 'review')
  $q$, (select string_agg(format('t.%I', c.name), ', ') from sync.field_slots(p_entity) c), sync.target_sql(p_entity, p_schema),
    sync.kept_keys_sql(p_entity, (
      select 'select p._uuid as id, ' || string_agg(format('case when q.action = ''insert'' or q.written ? %1$L then (p.%2$s)::%3$s else t.%1$I end as %1$I',
                                                           c.name, c.slot, concat_ws('::', c.type, nullif(c.exact, c.type))), ', ')
        from sync.field_slots(p_entity) c))) using p_from, p_to;
  execute format($q$
    insert into pg_temp.page_givers (n, taker, place, field)
    select p.n, w.n, h.place, (
             select f.field from pg_temp.page_giving f where f.place = h.place and q.written ? f.field and (f.empties or not f.refers) order by f.rank limit 1)
      from pg_temp.page_rows p join pg_temp.page_plan q on q.n = p.n
      cross join %1$s
      join pg_temp.page_wanted w on w.hash = h.hash and w.place = h.place and w.n <> p.n
     where p.n between $1 and $2 and q.action in ('update', 'review') and q.written <> '{}'
       -- Who keeps the value clashes in earnest.
       and (select o.n from pg_temp.page_wanted o where o.n = p.n and o.place = h.place and o.hash = h.hash limit 1) is null
  $q$, v_held) using p_from, p_to;
  return exists (select from pg_temp.page_givers);
-- What an index makes of a record's values may fail. Then the record is told by its write, alone.
exception when data_exception or program_limit_exceeded then
  return false;
end
$$;
comment on function sync.find_givers(public.sync_entities, text, integer, integer) is
  'Which records n of a slice hold a unique value that another one of it (taker) is to get, in which index of sync.giving_keys, and the field by which they can give it up at once: into pg_temp.page_givers. What each record is to hold is in pg_temp.page_wanted.';

create function sync.vacate_statements(p_entity public.sync_entities, p_schema text) returns text[]
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select 'delete from pg_temp.page_stand_ins'::text || coalesce(pg_catalog.array_agg(format($q$
      with given as (
        update %1$s t set %2$I = %3$s
          from pg_temp.page_rows p
         where p.n between $1 and $2 and t.id = p._uuid
           and (select g.n from pg_temp.page_givers g where g.n = p.n and g.taker between $1 and $2 and g.field = %2$L limit 1) is not null
        returning p.n, t.%2$I::text as stands)
      insert into pg_temp.page_stand_ins (n, field, stands, restored) select n, %2$L, stands, false from given
    $q$, sync.target_sql(p_entity, p_schema), f.field,
      case when f.empties then 'null' else format('coalesce(sync.first_stand_in(t.%1$I::text, p.%2$s, %3$L, p.n), t.%1$I::text)::%3$s', f.field, f.slot, f.type) end) order by f.field), '{}')
    from sync.giving_fields(p_entity) f
   where f.empties or not f.refers
$$;
comment on function sync.vacate_statements(public.sync_entities, text) is
  'The statements by which all rows of a slice give up the unique values that others of it are to get, as pg_temp.page_givers says. $1, $2: the slice.';

create function sync.restore_statements(p_entity public.sync_entities, p_schema text) returns text[]
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select coalesce(pg_catalog.array_agg(s.statement order by s.checks, s.field), '{}')
    from (select f.field, false as checks, format($q$
            update %1$s t set %2$I = (s.was)::%3$s
              from pg_temp.page_stand_ins s join pg_temp.page_rows p on p.n = s.n
             where s.n between $1 and $2 and s.field = %2$L and s.restored and t.id = p._uuid
          $q$, sync.target_sql(p_entity, p_schema), f.field, f.type) as statement
            from sync.giving_fields(p_entity) f
          union all
          select f.field, true, format($q$
            select sync.refuse_stand_in()
              from pg_temp.page_stand_ins s join pg_temp.page_rows p on p.n = s.n
              cross join lateral (select t.%2$I::text as now from %1$s t where t.id = p._uuid offset 0) t
             where s.n between $1 and $2 and s.field = %2$L and t.now is not distinct from s.stands
               and t.now is distinct from case when s.restored then s.was else (p.%3$s)::%4$s::text end
          $q$, sync.target_sql(p_entity, p_schema), f.field, f.slot, f.type)
            from sync.giving_fields(p_entity) f) s
$$;
comment on function sync.restore_statements(public.sync_entities, text) is
  'The statements that put back what stand-ins took the place of in columns that are not written, and those that refuse a slice of which one still stands. $1, $2: the slice.';

create function sync.refuse_stand_in() returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  raise exception using errcode = 'IS004', message = 'the target has cancelled the write of a row that holds a stand-in';
end
$$;
comment on function sync.refuse_stand_in() is 'Raises IS004: a row would keep a value that stood in for a moment.';

create function sync.shared_keys(p_held text, p_n integer, p_from integer, p_to integer) returns integer[]
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_places integer[];
begin
  execute format($q$
    select pg_catalog.array_agg(distinct h.place order by h.place)
      from pg_temp.page_rows p cross join %s
      join pg_temp.page_wanted w on w.hash = h.hash and w.place = h.place and w.n <> p.n and w.n between $2 and $3
     where p.n = $1
  $q$, p_held) into v_places using p_n, p_from, p_to;
  return coalesce(v_places, '{}');
end
$$;
comment on function sync.shared_keys(text, integer, integer, integer) is 'The indexes in which the target row of record p_n holds what another record of the slice is to get. p_held: sync.held_keys_sql.';

create function sync.stands(p_statement text, p_held text, p_n integer, p_value text, p_allowed integer[], p_from integer, p_to integer) returns boolean
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_state text;
begin
  perform set_config('search_path', sync.application_path(), true);
  execute p_statement using p_n, p_value;
  if not sync.shared_keys(p_held, p_n, p_from, p_to) <@ p_allowed then
    raise exception using errcode = 'IS003', message = 'only tried';
  end if;
  return true;
exception when others or assert_failure then
  get stacked diagnostics v_state = returned_sqlstate;
  if not sync.is_record_error(v_state) then
    raise;
  end if;
  return false;
end
$$;
comment on function sync.stands(text, text, integer, text, integer[], integer, integer) is
  'Puts a stand-in into the row of record p_n; false, and nothing happened, when the target refuses the value, or the row would hold what others are to get in more indexes than p_allowed.';

create function sync.park(p_entity public.sync_entities, p_schema text, p_held text, p_n integer, p_from integer, p_to integer) returns boolean
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_field   record;
  v_listed  text[];
  v_now     text;
  v_new     text;
  v_writes  boolean;
  v_value   text;
  v_places  integer[] := sync.shared_keys(p_held, p_n, p_from, p_to);
begin
  while v_places <> '{}' loop
    for v_field in
      select f.*, q.written ? f.field as writes from pg_temp.page_giving f join pg_temp.page_plan q on q.n = p_n
       -- Last what refers to rows, and never what only others refer to.
       where f.place = v_places[1] and (not f.referred or q.written ? f.field)
       order by f.refers, not q.written ? f.field, f.rank
    loop
      execute format('select t.%1$I::text, p.%2$s from pg_temp.page_rows p join %3$s t on t.id = p._uuid where p.n = $1',
                     v_field.field, v_field.slot, sync.target_sql(p_entity, p_schema)) into v_now, v_new using p_n;
      -- What a column of the kind holds anyhow, or is to hold: for what knows few values, and for references only what stands there.
      execute format($q$
        select array(select distinct x.value from (
                 select t.%1$I::text from (select t.%1$I from public.%4$I t limit 50) t
                 union all
                 select t.%1$I::text from (select p._uuid from pg_temp.page_rows p where p.n between $1 and $2 limit 50) p join %3$s t on t.id = p._uuid
                 union all
                 select p.%2$s from pg_temp.page_rows p where p.n between $1 and $2 and not $3 limit 150) x (value)
                where x.value is not null order by x.value limit 30)
      $q$, v_field.field, v_field.slot, sync.target_sql(p_entity, p_schema), p_entity.target_table) into v_listed using p_from, p_to, v_field.refers;
      v_listed := v_field.labels || v_listed || case when v_field.refers then '{}' else '{7,2001-02-03,"{7}","[7,9)",true,false}'::text[] end;
      -- The try before the first is NULL.
      for v_try in -1 .. 39 + cardinality(v_listed) loop
        v_value := case when v_try < 0 then null
                        when v_try < 40 and (v_field.refers or v_field.labels <> '{}') then null
                        else sync.stand_in(v_now, v_new, v_field.type, p_n, v_listed, v_try) end;
        continue when v_value is null and v_try >= 0 or v_now is null;
        if sync.stands(format('update %s t set %I = ($2)::%s from pg_temp.page_rows p where p.n = $1 and t.id = p._uuid', sync.target_sql(p_entity, p_schema), v_field.field, v_field.type),
                       p_held, p_n, v_value, v_places[2:], p_from, p_to) then
          execute format($q$
            insert into pg_temp.page_stand_ins (n, field, was, stands, restored)
            select $1, %1$L, $2, t.%1$I::text, not $3 from pg_temp.page_rows p join %2$s t on t.id = p._uuid where p.n = $1
          $q$, v_field.field, sync.target_sql(p_entity, p_schema)) using p_n, v_now, v_field.writes;
          v_value := 'stands';
          exit;
        end if;
        v_value := null;
      end loop;
      exit when v_value is not null;
    end loop;
    if v_value is null then
      return false;
    end if;
    v_places := v_places[2:];
  end loop;
  return true;
end
$$;
comment on function sync.park(public.sync_entities, text, text, integer, integer, integer) is
  'Has the row of one record give up the unique values that others of the slice are to get, for stand-ins that the target takes. False: none of those tried would do. p_held: sync.held_keys_sql.';

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
comment on function sync.circles(integer[]) is 'Of n things, each of which waits for at most one other (p_next[i], null: none): those that wait for each other in a circle.';

create function sync.order_exchange(p_entity public.sync_entities, p_schema text, p_from integer, p_to integer) returns integer[]
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_held   text := sync.held_keys_sql(p_entity, p_schema);
  v_step   integer := 0;
  v_free   integer[];
  v_n      integer[];
  v_next   integer[];
  v_circle integer[];
  v_parked boolean;
  v_stuck  integer[] := '{}';
begin
  delete from pg_temp.page_stand_ins;
  delete from pg_temp.page_steps;
  delete from pg_temp.page_waits;
  insert into pg_temp.page_waits (n, taker) select distinct n, taker from pg_temp.page_givers where n between p_from and p_to and taker between p_from and p_to;
  insert into pg_temp.page_steps (n) select n from pg_temp.page_waits union select taker from pg_temp.page_waits;
  v_free := array(select s.n from pg_temp.page_steps s where (select w.n from pg_temp.page_waits w where w.taker = s.n limit 1) is null);
  loop
    -- Who takes from nobody any more is next, and then those who take only from them.
    while v_free <> '{}' loop
      update pg_temp.page_steps s set step = v_step where s.n = any (v_free) and s.step is null;
      with given as (delete from pg_temp.page_waits w where w.n = any (v_free) returning w.taker) select array(select distinct taker from given) into v_free;
      v_free := array(select x.n from pg_catalog.unnest(v_free) x (n) where (select w.n from pg_temp.page_waits w where w.taker = x.n limit 1) is null);
      v_step := v_step + 1;
    end loop;
    with pending as materialized (
      select s.n, (row_number() over (order by s.n))::integer as i, (select min(w.n) from pg_temp.page_waits w where w.taker = s.n) as giver
        from pg_temp.page_steps s where s.step is null)
    select pg_catalog.array_agg(p.n order by p.i), pg_catalog.array_agg(g.i order by p.i) into v_n, v_next from pending p left join pending g on g.n = p.giver;
    exit when v_n is null;
    for v_circle in select array(select v_n[x] from pg_catalog.unnest(c) x) from sync.circles(v_next) c loop
      v_parked := false;
      for v_at in 1 .. least(cardinality(v_circle), 4) loop
        v_parked := sync.park(p_entity, p_schema, v_held, v_circle[v_at], p_from, p_to);
        if v_parked then
          delete from pg_temp.page_waits where n = v_circle[v_at];
          exit;
        end if;
      end loop;
      if not v_parked then
        v_stuck := v_stuck || v_circle;
        delete from pg_temp.page_waits where n = any (v_circle) or taker = any (v_circle);
        delete from pg_temp.page_steps where n = any (v_circle);
      end if;
    end loop;
    v_free := array(select s.n from pg_temp.page_steps s where s.step is null and (select w.n from pg_temp.page_waits w where w.taker = s.n limit 1) is null);
  end loop;
  return v_stuck;
end
$$;
comment on function sync.order_exchange(public.sync_entities, text, integer, integer) is
  'In which order the records of a slice that exchange unique values are to be written: into pg_temp.page_steps. Of each circle one row is parked (sync.park). Returns the members of circles in which none could be.';

create function sync.renumber_steps(p_from integer, p_to integer) returns table (first_n integer, last_n integer)
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_table text;
begin
  create temp table page_order on commit drop as
  select p.n as n, coalesce(s.step, 0) as step, p_from - 1 + (row_number() over (order by coalesce(s.step, 0), p.n))::integer as now
    from pg_temp.page_rows p left join pg_temp.page_steps s on s.n = p.n where p.n between p_from and p_to;
  create unique index on pg_temp.page_order (n);
  -- Numbers that change places collide, too.
  foreach v_table in array array['page_rows', 'page_plan', 'page_rejects', 'page_relatives', 'page_wanted', 'page_givers', 'page_stand_ins'] loop
    execute format('update pg_temp.%I x set n = -1 - o.now from pg_temp.page_order o where o.n = x.n and x.n between $1 and $2', v_table) using p_from, p_to;
    execute format('update pg_temp.%I x set n = -1 - x.n where x.n < 0', v_table);
  end loop;
  update pg_temp.page_givers g set taker = o.now from pg_temp.page_order o where o.n = g.taker;
  return query select min(o.now), max(o.now) from pg_temp.page_order o group by o.step order by o.step;
  drop table pg_temp.page_order;
end
$$;
comment on function sync.renumber_steps(integer, integer) is 'Numbers the records of a slice anew, in the order of pg_temp.page_steps: returns the range of each step.';

revoke all on function sync.giving_keys(public.sync_entities), sync.giving_fields(public.sync_entities), sync.kept_keys_sql(public.sync_entities, text),
  sync.held_keys_sql(public.sync_entities, text), sync.find_givers(public.sync_entities, text, integer, integer),
  sync.vacate_statements(public.sync_entities, text), sync.restore_statements(public.sync_entities, text), sync.refuse_stand_in(),
  sync.shared_keys(text, integer, integer, integer), sync.stands(text, text, integer, text, integer[], integer, integer),
  sync.park(public.sync_entities, text, text, integer, integer, integer), sync.circles(integer[]), sync.order_exchange(public.sync_entities, text, integer, integer),
  sync.renumber_steps(integer, integer) from public;
grant execute on function sync.giving_keys(public.sync_entities), sync.giving_fields(public.sync_entities), sync.kept_keys_sql(public.sync_entities, text),
  sync.held_keys_sql(public.sync_entities, text), sync.find_givers(public.sync_entities, text, integer, integer),
  sync.vacate_statements(public.sync_entities, text), sync.restore_statements(public.sync_entities, text), sync.refuse_stand_in(),
  sync.shared_keys(text, integer, integer, integer), sync.stands(text, text, integer, text, integer[], integer, integer),
  sync.park(public.sync_entities, text, text, integer, integer, integer), sync.circles(integer[]), sync.order_exchange(public.sync_entities, text, integer, integer),
  sync.renumber_steps(integer, integer) to isthmus_worker;

-- Purpose: let rows of a page exchange unique values, under any kind of unique index.
-- Locks:   none beyond those of the statements.
--
-- Unique values that change places collide row by row. First all rows whose value another one of the slice is to get
-- give it up at once, for NULL or a stand-in. Where that is refused, they are written in order
-- (exchange-in-order.sql). Which values are equal is told by their hashes, each by the type's own, so that no index
-- has to be asked.

create function sync.giving_keys(p_entity public.sync_entities) returns table (name text, held text, fields text[], generated jsonb)
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  with needed as materialized (
    -- What an index is over, its expressions and its predicate included. A generated column stands for those that its
    -- value is made of.
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
         format('case when %s then pg_catalog.hash_record_extended(row(%L::text, %s), 0) end',
                concat_ws(' and ', '(' || coalesce(pg_get_expr(i.indpred, i.indrelid), 'true') || ')',
                          case when not i.indnullsnotdistinct then format('pg_catalog.num_nulls(%s) = 0', k.texts) end), c.relname, k.hashed),
         f.fields,
         coalesce((select jsonb_object_agg(a.attname, pg_get_expr(m.adbin, m.adrelid))
                     from made m join pg_catalog.pg_attribute a on a.attrelid = m.adrelid and a.attnum = m.adnum where m.indexrelid = i.indexrelid), '{}')
    from pg_catalog.pg_index i
    join pg_catalog.pg_class c on c.oid = i.indexrelid
    cross join lateral (
      select string_agg(x.key, ', ' order by x.n) as texts,
             string_agg(case when sync.is_hashable(a.atttypid) then x.key else '(' || x.key || ')::text' end, ', ' order by x.n) as hashed
        from (select n, sync.index_key(i.indexrelid, n) as key from generate_series(1, i.indnkeyatts) n) x
        join pg_catalog.pg_attribute a on a.attrelid = i.indexrelid and a.attnum = x.n) k
    cross join lateral (
      select pg_catalog.array_agg(a.attname::text order by a.attnum) as fields, pg_catalog.array_agg(a.attnum) as columns
        from base b join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = b.attnum where b.indexrelid = i.indexrelid) f
   where i.indexrelid in (select indexrelid from needed) and sync.are_owned(p_entity, i.indrelid, f.columns)
     and f.fields <> array['id']
   order by c.relname
$$;
comment on function sync.giving_keys(public.sync_entities) is
  'The unique indexes whose values records can exchange. held: SQL over the columns of a row, the hash of what the '
  'row holds in the index; null: nothing. fields: the columns that this depends on. generated: the SQL of those '
  'among the index''s that are generated.';

create function sync.giving_fields(p_entity public.sync_entities) returns table (field text, slot text, type text, nulls boolean, empties boolean, alters boolean, refers boolean, referred boolean, labels text[])
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select c.name, c.slot, format_type(a.atttypid, a.atttypmod), x.nulls,
         -- Not of an expression, which may make a value of what is empty, nor where two that are empty count as equal.
         x.nulls and not exists (
           select from pg_catalog.pg_index i
            where i.indrelid = a.attrelid and i.indisunique and (i.indnullsnotdistinct or 0 = any (i.indkey::smallint[]))
              and (a.attnum = any (i.indkey::smallint[]) or exists (
                    select from pg_catalog.pg_depend d
                     where d.classid = 'pg_catalog.pg_class'::regclass and d.objid = i.indexrelid and d.refobjid = i.indrelid
                       and d.refobjsubid = a.attnum))),
         not o.refers and o.labels = '{}', o.refers, x.referred, o.labels
    from sync.field_slots(p_entity) c
    join pg_catalog.pg_attribute a on a.attrelid = to_regclass(format('public.%I', p_entity.target_table)) and a.attname = c.name
    cross join lateral (select exists (select from pg_catalog.pg_constraint f where f.contype = 'f' and f.confrelid = a.attrelid and a.attnum = any (f.confkey)) as referred) r
    -- ON UPDATE CASCADE makes NULL of what refers to it, which no value that follows brings back.
    cross join lateral (select not a.attnotnull and not r.referred as nulls, r.referred) x
    cross join lateral (
      select exists (select from pg_catalog.pg_constraint f where f.contype = 'f' and f.conrelid = a.attrelid and a.attnum = any (f.conkey)) as refers,
             array(select e.enumlabel::text from pg_catalog.pg_enum e where e.enumtypid = to_regtype(c.type) order by e.enumsortorder limit 100) as labels) o
   where c.name in (select pg_catalog.unnest(g.fields) from sync.giving_keys(p_entity) g)
$$;
comment on function sync.giving_fields(public.sync_entities) is
  'The columns that an entity fills by which a row can give up a unique value: with the type that they are declared '
  'as, whether they may be NULL for a moment (nulls) and that gives the value up under each index (empties), whether '
  'a value that looks like theirs may stand in (alters: of an enum none does), whether they refer to rows or are '
  'referred to, and the labels of an enum.';

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
  'SQL, for a join: h.place and h.hash of what the row that p_values selects (the columns of the target table by '
  'name) holds in each index of sync.giving_keys. Null: there is none.';

create function sync.held_keys_sql(p_entity public.sync_entities, p_schema text) returns text
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select sync.kept_keys_sql(p_entity, format('select t.id, %s from %s t where t.id = p._uuid', string_agg(format('t.%I', c.name), ', '), sync.target_sql(p_entity, p_schema)))
    from sync.field_slots(p_entity) c
$$;
comment on function sync.held_keys_sql(public.sync_entities, text) is
  'SQL, for a join: what sync.kept_keys_sql says of the target row of the record p.';

create function sync.find_givers(p_entity public.sync_entities, p_schema text, p_from integer, p_to integer) returns boolean
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_held  text := sync.held_keys_sql(p_entity, p_schema);
  v_state text;
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
    create temp table page_stand_ins (n integer not null, field text not null, was text, stands text, restored boolean not null, primary key (n, field)) on commit drop;
    create temp table page_giving (place integer not null, name text not null, rank integer not null, field text not null, slot text not null, type text not null,
      nulls boolean not null, empties boolean not null, alters boolean not null, refers boolean not null, referred boolean not null, labels text[] not null) on commit drop;
    -- One for all slices: a table that is dropped keeps its lock until the commit.
    create temp table page_order (n integer primary key, step integer not null, now integer not null) on commit drop;
    -- In whose circles this page has found nothing, in whatever slice.
    create temp table page_stuck (id uuid primary key) on commit drop;
    -- Its sequence counts what was tried: no slice that is undone takes that back.
    create temp table page_tries (n integer generated always as identity, begun timestamptz not null) on commit drop;
    insert into pg_temp.page_tries (begun) values (clock_timestamp());
  end if;
  delete from pg_temp.page_wanted;
  delete from pg_temp.page_givers;
  delete from pg_temp.page_giving;
  insert into pg_temp.page_giving
  select g.place, g.name, row_number() over (partition by g.place order by not f.empties, x.n), f.field, f.slot, f.type, f.nulls, f.empties, f.alters, f.refers, f.referred, f.labels
    from (select row_number() over (order by k.name) as place, k.name, k.fields from sync.giving_keys(p_entity) k) g
    cross join lateral pg_catalog.unnest(g.fields) with ordinality x (field, n)
    join sync.giving_fields(p_entity) f using (field);
  -- What the indexes are made of is the application's, as when its rows are written.
  perform set_config('search_path', sync.application_path(), true);
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
             select f.field from pg_temp.page_giving f where f.place = h.place and q.written ? f.field and (f.empties or f.alters) order by f.rank limit 1)
      from pg_temp.page_rows p join pg_temp.page_plan q on q.n = p.n
      cross join %1$s
      join pg_temp.page_wanted w on w.hash = h.hash and w.place = h.place and w.n <> p.n
     where p.n between $1 and $2 and q.action in ('update', 'review') and q.written <> '{}'
       -- Who keeps the value clashes in earnest.
       and (select o.n from pg_temp.page_wanted o where o.n = p.n and o.place = h.place and o.hash = h.hash limit 1) is null
  $q$, v_held) using p_from, p_to;
  return exists (select from pg_temp.page_givers);
-- What an index makes of a record's values, of those that it holds now too, may fail. Then the record is told by its
-- write, alone.
exception when others or assert_failure then
  get stacked diagnostics v_state = returned_sqlstate;
  if not sync.refuses_value(v_state) then
    raise;
  end if;
  return false;
end
$$;
comment on function sync.find_givers(public.sync_entities, text, integer, integer) is
  'Which records n of a slice hold a unique value that another one of it (taker) is to get, in which index of '
  'sync.giving_keys, and the field by which they can give it up at once: into pg_temp.page_givers. What each record '
  'is to hold is in pg_temp.page_wanted.';

create function sync.vacate_statements(p_entity public.sync_entities, p_schema text) returns text[]
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  -- What stands then is read from the rows: with RETURNING PostgreSQL updates no table that has further rules.
  select array['delete from pg_temp.page_stand_ins', sync.stand_in_told('new')] || coalesce(pg_catalog.array_agg(v.statement order by f.field, v.n), '{}') || sync.stand_in_told('old')
    from sync.giving_fields(p_entity) f
    cross join lateral (values (1, format($q$
      update %1$s t set %2$I = %3$s
        from pg_temp.page_rows p
       where p.n between $1 and $2 and t.id = p._uuid
         and (select g.n from pg_temp.page_givers g where g.n = p.n and g.taker between $1 and $2 and g.field = %2$L limit 1) is not null
    $q$, sync.target_sql(p_entity, p_schema), f.field,
      case when f.empties then 'null' else format('(sync.first_stand_in(t.%1$I::text collate "C", p.%2$s, %3$L, p.n))::%3$s', f.field, f.slot, f.type) end)),
    (2, format($q$
      insert into pg_temp.page_stand_ins (n, field, stands, restored)
      select p.n, %2$L, t.%2$I::text, false
        from pg_temp.page_rows p join %1$s t on t.id = p._uuid
       where p.n between $1 and $2
         and (select g.n from pg_temp.page_givers g where g.n = p.n and g.taker between $1 and $2 and g.field = %2$L limit 1) is not null
    $q$, sync.target_sql(p_entity, p_schema), f.field))) v (n, statement)
   where f.empties or f.alters
$$;
comment on function sync.vacate_statements(public.sync_entities, text) is
  'The statements by which all rows of a slice give up the unique values that others of it are to get, as '
  'pg_temp.page_givers says. $1, $2: the slice.';

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
             where s.n between $1 and $2 and s.field = %2$L
               -- Letter by letter, whatever the column's collation takes for equal.
               and case when s.restored then t.now collate "C" is distinct from s.was
                        else t.now collate "C" is not distinct from s.stands and t.now collate "C" is distinct from (p.%3$s)::%4$s::text end
          $q$, sync.target_sql(p_entity, p_schema), f.field, f.slot, f.type)
            from sync.giving_fields(p_entity) f) s
$$;
comment on function sync.restore_statements(public.sync_entities, text) is
  'The statements that put back what stand-ins took the place of in columns that are not written, and those that '
  'refuse a slice of which one still stands, or in which a column that is not written has changed. $1, $2: the '
  'slice.';

create function sync.refuse_stand_in() returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  raise exception using errcode = 'IS004', message = 'the target has cancelled or changed the write of a row that holds a stand-in';
end
$$;
comment on function sync.refuse_stand_in() is 'Raises IS004: a row would keep a value that stood in for a moment.';

revoke all on function sync.giving_keys(public.sync_entities), sync.giving_fields(public.sync_entities), sync.kept_keys_sql(public.sync_entities, text),
  sync.held_keys_sql(public.sync_entities, text), sync.find_givers(public.sync_entities, text, integer, integer),
  sync.vacate_statements(public.sync_entities, text), sync.restore_statements(public.sync_entities, text), sync.refuse_stand_in() from public;
grant execute on function sync.giving_keys(public.sync_entities), sync.giving_fields(public.sync_entities), sync.kept_keys_sql(public.sync_entities, text),
  sync.held_keys_sql(public.sync_entities, text), sync.find_givers(public.sync_entities, text, integer, integer),
  sync.vacate_statements(public.sync_entities, text), sync.restore_statements(public.sync_entities, text), sync.refuse_stand_in() to isthmus_worker;

-- Purpose: have the row of one record give up unique values for stand-ins that the target takes.
-- Locks:   none beyond those of the statements.

create function sync.unindexed_references(p_table regclass) returns text
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select string_agg(format('%s (%s)', f.conrelid::regclass, k.columns), ', ' order by f.conname)
    from pg_catalog.pg_constraint f
    cross join lateral (
      select string_agg(a.attname, ', ' order by x.n) as columns
        from pg_catalog.unnest(f.conkey) with ordinality x (attnum, n) join pg_catalog.pg_attribute a on a.attrelid = f.conrelid and a.attnum = x.attnum) k
   where f.contype = 'f' and f.confrelid = p_table
     and not exists (select from pg_catalog.pg_index i where i.indrelid = f.conrelid and i.indisvalid and i.indpred is null and i.indkey[0] = any (f.conkey))
$$;
comment on function sync.unindexed_references(regclass) is
  'The columns that refer to rows of a table, and are the first of no index: whatever changes the value referred to '
  'looks through their table. Null: none.';

create function sync.shared_keys(p_held text, p_n integer, p_from integer, p_to integer) returns integer[]
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_places integer[];
begin
  -- What the indexes are made of is the application's, as when its rows are written.
  perform set_config('search_path', sync.application_path(), true);
  execute format($q$
    select pg_catalog.array_agg(distinct h.place order by h.place)
      from pg_temp.page_rows p cross join %s
      join pg_temp.page_wanted w on w.hash = h.hash and w.place = h.place and w.n <> p.n and w.n between $2 and $3
     where p.n = $1
  $q$, p_held) into v_places using p_n, p_from, p_to;
  return coalesce(v_places, '{}');
end
$$;
comment on function sync.shared_keys(text, integer, integer, integer) is
  'The indexes in which the target row of record p_n holds what another record of the slice is to get. p_held: '
  'sync.held_keys_sql.';

create function sync.stands(p_statement text, p_held text, p_n integer, p_value text, p_allowed integer[], p_from integer, p_to integer) returns boolean
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_state text;
begin
  perform set_config('search_path', sync.application_path(), true);
  execute sync.stand_in_told('new');
  execute p_statement using p_n, p_value;
  execute sync.stand_in_told('old');
  if not sync.shared_keys(p_held, p_n, p_from, p_to) <@ p_allowed then
    raise exception using errcode = 'IS003', message = 'only tried';
  end if;
  return true;
exception when others or assert_failure then
  get stacked diagnostics v_state = returned_sqlstate;
  if not sync.refuses_value(v_state) then
    raise;
  end if;
  return false;
end
$$;
comment on function sync.stands(text, text, integer, text, integer[], integer, integer) is
  'Puts a stand-in into the row of record p_n; false, and nothing happened, when the target refuses the value, or '
  'the row would hold what others are to get in more indexes than p_allowed.';

create function sync.listed_stand_ins(p_entity public.sync_entities, p_schema text, p_field text, p_slot text, p_refers boolean, p_labels text[], p_from integer, p_to integer)
returns text[]
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_listed text[];
begin
  execute format($q$
    select array(select distinct x.value from (
             select t.%1$I::text from (select t.%1$I from public.%4$I t limit 50) t
             union all
             select t.%1$I::text from (select p._uuid from pg_temp.page_rows p where p.n between $1 and $2 limit 50) p join %3$s t on t.id = p._uuid
             union all
             select p.%2$s from pg_temp.page_rows p where p.n between $1 and $2 and not $3 limit 150) x (value)
            where x.value is not null and x.value <> all ($4) order by x.value limit 30)
  $q$, p_field, p_slot, sync.target_sql(p_entity, p_schema), p_entity.target_table) into v_listed using p_from, p_to, p_refers, p_labels;
  return p_labels || v_listed || case when p_refers then '{}' else '{7,2001-02-03,"{7}","[7,9)",true,false}'::text[] end;
end
$$;
comment on function sync.listed_stand_ins(public.sync_entities, text, text, text, boolean, text[], integer, integer) is
  'Values that may stand in whatever is there now: the labels of an enum, and what the column holds elsewhere, or is '
  'to hold; for a reference only what stands there.';

create function sync.park(p_entity public.sync_entities, p_schema text, p_held text, p_n integer, p_from integer, p_to integer) returns boolean
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_places integer[] := sync.shared_keys(p_held, p_n, p_from, p_to);
  v_field  record;
  v_listed text[];
  v_now    text;
  v_new    text;
  v_value  text;
  v_stands boolean;
begin
  while v_places <> '{}' loop
    v_stands := false;
    for v_field in
      select f.*, q.written ? f.field as writes from pg_temp.page_giving f join pg_temp.page_plan q on q.n = p_n
       -- Last what refers to rows, and never what only others refer to.
       where f.place = v_places[1] and (not f.referred or q.written ? f.field)
       order by f.refers, not q.written ? f.field, f.rank
    loop
      execute format('select t.%1$I::text, p.%2$s from pg_temp.page_rows p join %3$s t on t.id = p._uuid where p.n = $1',
                     v_field.field, v_field.slot, sync.target_sql(p_entity, p_schema)) into v_now, v_new using p_n;
      v_listed := sync.listed_stand_ins(p_entity, p_schema, v_field.field, v_field.slot, v_field.refers, v_field.labels, p_from, p_to);
      -- The try before the first is NULL.
      for v_try in -1 .. 39 + cardinality(v_listed) loop
        continue when v_try < 0 and (v_now is null or not v_field.nulls) or v_try between 0 and 39 and (v_field.refers or v_field.labels <> '{}');
        v_value := case when v_try >= 0 then sync.stand_in(v_now, v_new, v_field.type, p_n, v_listed, v_try) end;
        if v_value is not null or v_try < 0 then
          v_stands := sync.stands(format('update %s t set %I = ($2)::%s from pg_temp.page_rows p where p.n = $1 and t.id = p._uuid', sync.target_sql(p_entity, p_schema), v_field.field, v_field.type),
                                  p_held, p_n, v_value, v_places[2:], p_from, p_to);
        end if;
        exit when v_stands or sync.count_tries(1);
      end loop;
      if v_stands then
        -- Of two in one column the first one took the place of what is put back.
        execute format($q$
          insert into pg_temp.page_stand_ins as s (n, field, was, stands, restored)
          select $1, %1$L, $2, t.%1$I::text, not $3 from pg_temp.page_rows p join %2$s t on t.id = p._uuid where p.n = $1
          on conflict (n, field) do update set stands = excluded.stands
        $q$, v_field.field, sync.target_sql(p_entity, p_schema)) using p_n, v_now, v_field.writes;
      end if;
      exit when v_stands or sync.tries_spent();
    end loop;
    if not v_stands then
      -- With what stands in for the other values of the row already.
      raise exception using errcode = 'IS003', message = 'only tried';
    end if;
    v_places := sync.shared_keys(p_held, p_n, p_from, p_to);
  end loop;
  return true;
exception when sqlstate 'IS003' then
  return false;
end
$$;
comment on function sync.park(public.sync_entities, text, text, integer, integer, integer) is
  'Has the row of one record give up the unique values that others of the slice are to get, for stand-ins that the '
  'target takes. False, and nothing happened: none of those tried would do. p_held: sync.held_keys_sql.';

revoke all on function sync.unindexed_references(regclass), sync.shared_keys(text, integer, integer, integer),
  sync.stands(text, text, integer, text, integer[], integer, integer),
  sync.listed_stand_ins(public.sync_entities, text, text, text, boolean, text[], integer, integer),
  sync.park(public.sync_entities, text, text, integer, integer, integer) from public;
grant execute on function sync.unindexed_references(regclass), sync.shared_keys(text, integer, integer, integer),
  sync.stands(text, text, integer, text, integer[], integer, integer),
  sync.listed_stand_ins(public.sync_entities, text, text, text, boolean, text[], integer, integer),
  sync.park(public.sync_entities, text, text, integer, integer, integer) to isthmus_worker;

-- Purpose: write the records of a page of which nothing is known yet, without comparing three sides that are empty.
-- Locks:   none beyond those of the statements.
--
-- A first load, and what a source adds at its end, is new as a whole: neither a row state nor a mapping, nor anything
-- that an adoption has found, lies in the page's key range. Such a page is inserted, read back as what each column
-- prints, and noted as seen and left in one. Whatever is not exactly as it was meant (a refused record, a trigger's
-- work, a value that does not fit) undoes all of this, and the page is classified and written like any other, which
-- tells the record.

create function sync.nothing_known(p_entity public.sync_entities) returns boolean
language plpgsql stable security invoker set search_path = pg_catalog, pg_temp set plan_cache_mode = force_custom_plan as $$
declare
  v_low    bigint;
  v_high   bigint;
  v_nobody boolean;
begin
  if exists (select from pg_temp.page_rows where _together is not null) then
    return false;
  end if;
  -- Where triggers change what is written, each page would be undone and written again.
  if exists (select from public.sync_alerts where kind = 'written_otherwise' and entity_id = p_entity.id and closed_at is null) then
    return false;
  end if;
  select min(_key), max(_key) into v_low, v_high from pg_temp.page_rows;
  if (select s.legacy_id from public.sync_row_states s where s.entity_id = p_entity.id and s.legacy_id between v_low and v_high limit 1) is not null
     or (select m.legacy_id from public.uuid_mappings_enhanced m
          where m.source_id = p_entity.source_id and m.entity_type = p_entity.entity_type and m.legacy_id between v_low and v_high limit 1) is not null
     or (select a.legacy_id from public.sync_adoption_rows a where a.entity_id = p_entity.id and a.legacy_id between v_low and v_high limit 1) is not null then
    return false;
  end if;
  -- Without an index every page would cost a look through the table: then no row is looked for by its legacy id, here
  -- as elsewhere.
  if sync.finds_legacy_ids(p_entity) then
    -- Of an index that knows no order a range would be a look through the table, too.
    if not exists (select from pg_catalog.pg_index i join pg_catalog.pg_class c on c.oid = i.indexrelid join pg_catalog.pg_am a on a.oid = c.relam and a.amname = 'btree'
                     join pg_catalog.pg_attribute k on k.attrelid = i.indrelid and k.attnum = i.indkey[0]
                    where i.indrelid = to_regclass(format('public.%I', p_entity.target_table)) and i.indisvalid and i.indpred is null
                      and k.attname = p_entity.legacy_key) then
      return false;
    end if;
    execute format('select (select t.id from public.%I t where t.%I between $1 and $2 limit 1) is null', p_entity.target_table, p_entity.legacy_key)
      into v_nobody using v_low, v_high;
    return v_nobody;
  end if;
  return true;
end
$$;
comment on function sync.nothing_known(public.sync_entities) is
  'Whether the target knows nothing of any record between the least and the greatest key of pg_temp.page_rows, and '
  'none of these refers to another. Index probes alone: their cost is that of one record.';

create function sync.refuse_unlike(p_from integer, p_to integer) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  if (select count(*) from pg_temp.page_plan where n between p_from and p_to) <> p_to - p_from + 1 then
    raise exception using errcode = 'IS004', message = 'a new row does not hold what was written';
  end if;
end
$$;
comment on function sync.refuse_unlike(integer, integer) is
  'Raises IS004 where not each record of a slice of new ones stands in pg_temp.page_plan, because its row is not as '
  'it was meant.';

create function sync.new_statements(p_entity public.sync_entities) returns text[]
language plpgsql stable security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_names  text;
  v_values text;
  v_read   text;
  v_alike  text;
  v_padded jsonb := sync.padded_parts(p_entity);
begin
  select string_agg(format('%I', c.name), ', '),
         string_agg(format('(p.%s)::%s', c.slot, c.registered), ', '),
         string_agg(format('r.%I', c.name), ', '),
         -- What the column prints is what the source says, or what the column's type makes of that: letter by letter,
         -- whatever the column's collation takes for equal.
         string_agg(format('(t.%1$I::text collate "C" is not distinct from p.%2$s or t.%1$I::text collate "C" is not distinct from (p.%2$s)::%3$s::text)%4$s', c.name, c.slot,
                           concat_ws('::', c.type, nullif(c.exact, c.type)), ' and ' || sync.fits_sql(c.slot, c.type, c.exact, v_padded -> c.name) || ' is not false'), ' and ')
    into v_names, v_values, v_read, v_alike
    from sync.field_slots(p_entity) c;
  return array[
    format('insert into public.%I (id, %s) select p._uuid, %s from pg_temp.page_rows p where p.n between $1 and $2 order by p._uuid',
      p_entity.target_table, v_names, v_values),
    'set constraints all immediate',
    format($q$
      with written as materialized (
        select p.n, p._key, p._uuid, p._raw, p._digest, t.xmin as writer, o.now
          from pg_temp.page_rows p
         cross join lateral (select r.xmin, %2$s from public.%1$I r where r.id = p._uuid offset 0) t
         cross join lateral (select pg_catalog.to_jsonb(x.*) as now from (select %3$s) x offset 0) o
         where p.n between $1 and $2 and %4$s
         order by p._key
      ), state as (
        insert into public.sync_row_states (entity_id, legacy_id, raw, synced_at, source_digest, written_by, seen, "left", seen_hash, left_hash)
        select %5$s, _key, _raw, now(), _digest, writer, %9$s
      ), mapping as (
        insert into public.uuid_mappings_enhanced (source_id, entity_type, legacy_id, entity_uuid, source_table, target_table)
        select %6$s, %7$L, _key, _uuid, %8$L, %1$L from written
      )
      insert into pg_temp.page_plan (n, legacy_id, id, action, changed, written, raw, digest)
      select n, _key, _uuid, 'insert', '{}', '{}', _raw, _digest from written
    $q$, p_entity.target_table, v_read, sync.owned_columns(p_entity), v_alike, p_entity.id, p_entity.source_id, p_entity.entity_type, p_entity.source_table,
      case p_entity.history when 'values' then 'now, now, null, null from written' else 'null, null, h.hash, h.hash from written cross join lateral (select hashtextextended(now::text, 0) as hash offset 0) h' end),
    'select sync.refuse_unlike($1, $2)'
  ];
end
$$;
comment on function sync.new_statements(public.sync_entities) is
  'The statements that write a slice of new records, and note them in row states, mappings and pg_temp.page_plan. '
  '$1, $2: the slice.';

create function sync.load_new(p_entity public.sync_entities, p_count integer) returns boolean
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  return sync.nothing_known(p_entity) and sync.try_slice(sync.new_statements(p_entity), false, 1, p_count) is null;
end
$$;
comment on function sync.load_new(public.sync_entities, integer) is
  'Writes all p_count records of pg_temp.page_rows if they are new and land exactly as they were meant; else nothing '
  'has happened, and false comes back.';

revoke all on function sync.nothing_known(public.sync_entities), sync.refuse_unlike(integer, integer),
  sync.new_statements(public.sync_entities), sync.load_new(public.sync_entities, integer) from public;
grant execute on function sync.nothing_known(public.sync_entities), sync.refuse_unlike(integer, integer),
  sync.new_statements(public.sync_entities), sync.load_new(public.sync_entities, integer) to isthmus_worker;

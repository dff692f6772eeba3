-- Purpose: mark the rows of records that the source no longer has, where the entity's policy is soft, and read back
--          whether the marks hold.
-- Locks:   the target rows of the page, which sync.load_records has locked.

-- Settings are pinned as they are where rows are loaded.
create function sync.kept_marks(p_entity public.sync_entities, out marks jsonb, out fits boolean)
language plpgsql stable security invoker
set search_path = pg_catalog, pg_temp set timezone = 'UTC' set timezone_abbreviations = 'Default' set datestyle = 'ISO, YMD'
set intervalstyle = 'iso_8601' set extra_float_digits = 3 set bytea_output = 'hex' set xmloption = 'content' set lc_monetary = 'C'
set array_nulls = on set standard_conforming_strings = on set quote_all_identifiers = off set transform_null_equals = off as $$
declare
  v_pairs text;
begin
  select string_agg(format('%L, %s', c.name, sync.kept_sql(format('(%L)::%s::%s', m.value, c.type, c.exact), c.type, c.recast)), ', '),
         coalesce(bool_and(sync.holds(m.value, format('(p.value)::%s is not null and coalesce(%s, true)', c.type,
                             coalesce(sync.fits_sql('value', c.type, c.exact), 'true')))), true)
    into v_pairs, fits
    from jsonb_each_text(p_entity.on_delete -> 'set') m join sync.field_slots(p_entity) c on c.name = m.key;
  marks := p_entity.on_delete -> 'set';
  if fits and v_pairs is not null then
    execute 'select jsonb_build_object(' || v_pairs || ')' into marks;
  end if;
end
$$;
comment on function sync.kept_marks(public.sync_entities) is
  'How an entity marks deleted records: the values as its columns keep them, and whether these hold them exactly (if '
  'not, the values as they are given). Null: it marks nothing.';

create function sync.soft_statements(p_entity public.sync_entities, p_dry_run uuid) returns text[]
language plpgsql stable security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_schema text := case when p_dry_run is null then 'public' else 'pg_temp' end;
  v_target text := sync.target_sql(p_entity, v_schema);
  v_sets   text := (select string_agg(format('%1$I = %2$L', k, v), ', ' order by k) from jsonb_each_text(p_entity.on_delete -> 'set') x (k, v));
  v_prints text := coalesce(sync.prints_sql(p_entity), 'null::jsonb');
  v_marks  jsonb;
  v_fits   boolean;
begin
  select k.marks, k.fits into v_marks, v_fits from sync.kept_marks(p_entity) k;
  return array_remove(array[
    format($q$
      insert into pg_temp.page_plan (n, legacy_id, id, action, held, altered, "left", now, prints, written)
      select p.n, p._key, p._uuid, case when t.id is null then 'delete' else 'soft' end, t.xmin, t.id is not null and not %7$L::boolean, l."left", o.now, %8$s,
             (select coalesce(jsonb_object_agg(e.key, e.value), '{}') from jsonb_each(coalesce(%6$L::jsonb, '{}')) e where e.value is distinct from o.now -> e.key)
        from pg_temp.page_rows p
        left join %1$s on true
        left join %5$s on true
        cross join lateral (select pg_catalog.to_jsonb(x.*) as now from (select %3$s) x offset 0) o
        cross join lateral (select %4$s as "left" offset 0) l
       where p.n between $1 and $2
    $q$, sync.row_probe(p_entity, v_schema, 'p._uuid'), p_entity.id, sync.owned_columns(p_entity), sync.left_sql(), sync.state_probe(p_entity, v_schema), v_marks, v_fits, v_prints),
    -- What the columns would cut or round is written into none.
    'select sync.refuse_writes($1, $2)',
    case when v_sets is not null then format($q$
      update %s t set %s
       where t.id = any (array(select q.id from pg_temp.page_plan q where q.n between $1 and $2 and q.action = 'soft' and q.written <> '{}'))
    $q$, v_target, v_sets) end,
    'set constraints all immediate',
    -- Read back after triggers: a mark that does not hold is undone as a whole, so that no attempt leaves a trace in
    -- the row.
    case when v_sets is not null then format($q$
      with after as (
        select q.n, t.id is null or t.xmin = q.held or o.now || %3$L::jsonb <> o.now as cancelled,
               (select pg_catalog.array_agg(e.key order by e.key) from jsonb_each(o.now) e where e.value is distinct from (q.now || q.written) -> e.key
                      or not q.written ? e.key and o.prints -> e.key is distinct from q.prints -> e.key) as otherwise
          from pg_temp.page_plan q
          left join %1$s on true
          cross join lateral (select pg_catalog.to_jsonb(x.*) as now, %4$s as prints from (select %2$s) x offset 0) o
         where q.n between $1 and $2 and q.action = 'soft' and q.written <> '{}' and (o.now is distinct from q.now || q.written or o.prints is distinct from q.prints))
      update pg_temp.page_plan q set cancelled = a.cancelled, otherwise = a.otherwise from after a where a.n = q.n
    $q$, sync.row_probe(p_entity, v_schema, 'q.id'), sync.owned_columns(p_entity), v_marks, v_prints) end,
    'select sync.refuse_writes($1, $2)',
    -- As if the source had said so: a record that returns is set back by the same comparison as any other change. Of
    -- hashes nothing is left that could fit, so then every field counts as changed.
    format($q$
      insert into %1$I.sync_row_states as s (entity_id, legacy_id, seen, "left", gone_at)
      select %2$s, q.legacy_id, '{}', '{}', now() from pg_temp.page_plan q where q.n between $1 and $2 and q.action = 'soft'
      on conflict (entity_id, legacy_id) do update
         set seen = s.seen || %3$L, "left" = s."left" || %3$L, seen_hash = 0 * s.seen_hash, source_digest = null, gone_at = excluded.gone_at, outside = null
    $q$, v_schema, p_entity.id, coalesce(v_marks, '{}')),
    -- What else triggers made of the marked rows is nobody's edit.
    format($q$
      update %4$I.sync_row_states s set "left" = s."left" || sync.pick(o.now, q.otherwise)
        from pg_temp.page_plan q
        cross join %1$s
        cross join lateral (select pg_catalog.to_jsonb(x.*) as now from (select %2$s) x offset 0) o
       where q.n between $1 and $2 and q.action = 'soft' and q.otherwise is not null and s.entity_id = %3$s and s.legacy_id = q.legacy_id
    $q$, sync.row_probe(p_entity, v_schema, 'q.id'), sync.owned_columns(p_entity), p_entity.id, v_schema)
  ], null) || sync.tombstone_statements(p_entity, v_schema);
end
$$;
comment on function sync.soft_statements(public.sync_entities, uuid) is
  'The statements that mark a slice of deleted records in their rows, and forget those whose rows are gone: plan, '
  'mark, row states. $1, $2: the slice. p_dry_run: as for leave_statements.';

revoke all on function sync.kept_marks(public.sync_entities), sync.soft_statements(public.sync_entities, uuid) from public;
grant execute on function sync.kept_marks(public.sync_entities), sync.soft_statements(public.sync_entities, uuid) to isthmus_worker;

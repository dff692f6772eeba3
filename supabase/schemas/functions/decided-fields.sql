-- Purpose: what a decision writes: into the target's rows, into row states and mappings, and beside the conflict, to
--          put it back.
-- Locks:   the decisions' target rows, in id order.
--
-- These run as isthmus_decisions. p_entity comes from sync.released_entity, so that each name that becomes SQL was
-- released by the owner; what conflicts and their values say is bound or looked up among these names.

create function sync.refuse_decision(p_conflict public.sync_conflicts, p_why text, p_hint text) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  raise exception '% % (conflict %): %', p_conflict.entity_type, p_conflict.source_record_id, p_conflict.id, p_why
    using errcode = 'IS022', hint = p_hint || ' Nothing was changed.';
end
$$;
comment on function sync.refuse_decision(public.sync_conflicts, text, text) is
  'Raises IS022: which record, why not, and what to do.';

create function sync.takes(p_value jsonb, p_type text, p_exact text) returns boolean
language plpgsql stable security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_text text := p_value #>> '{}';
begin
  if p_type in ('json', 'jsonb') then
    return true;
  elsif jsonb_typeof(p_value) = 'array' and p_type like '%[]' then
    execute format('select x.value::text from jsonb_to_record($1) as x (value %s)', p_type) into v_text using jsonb_build_object('value', p_value);
  elsif jsonb_typeof(p_value) in ('array', 'object') then
    return false;
  end if;
  return sync.holds(v_text, format('(p.value)::%s is not null and coalesce(%s, true)', p_type, coalesce(sync.fits_sql('value', p_type, p_exact, 'true'), 'true')));
exception when data_exception then
  return false;
end
$$;
comment on function sync.takes(jsonb, text, text) is
  'Whether a column of that type takes a JSON value as it is: of its kind, and neither cut, rounded nor moved to '
  'another zone.';

create function sync.refuse_cancelled(p_entity public.sync_entities, p_ids uuid[], p_written bigint, p_meant bigint) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_conflict public.sync_conflicts;
begin
  if p_written >= p_meant then
    return;
  elsif cardinality(p_ids) > 1 then
    -- Caught by sync.carry_out, which then finds the one.
    raise exception using errcode = 'IS004', message = 'the target has cancelled a write without an error';
  end if;
  select * into strict v_conflict from public.sync_conflicts where id = p_ids[1];
  perform sync.refuse_decision(v_conflict, 'the target cancels the write without an error'
      || coalesce(' (trigger ' || sync.cancelling_triggers(to_regclass(format('public.%I', p_entity.target_table)), null) || ')', ''),
    'Change the trigger, or decide otherwise.');
end
$$;
comment on function sync.refuse_cancelled(public.sync_entities, uuid[], bigint, bigint) is
  'Refuses decisions of which fewer rows were written than were meant. p_ids: the conflicts that were carried out '
  'together.';

create function sync.read_for_text(p_entity public.sync_entities, p_keys bigint[]) returns void
language sql security invoker set search_path = pg_catalog, pg_temp as $$
  update public.sync_row_states set source_digest = null where entity_id = p_entity.id and legacy_id = any (p_keys);
  -- Whoever was to read it already compares the texts in a commit after this one.
  insert into public.sync_pending_keys (entity_id, legacy_id, reason, generation)
  select distinct p_entity.id, k, 'decided', 0 from pg_catalog.unnest(p_keys) k order by k
  on conflict (entity_id, execution_id, legacy_id) do nothing;
$$;
comment on function sync.read_for_text(public.sync_entities, bigint[]) is
  'Has records read again of which a decision has written the source''s value: what the next execution reads has its '
  'text, too.';

create function sync.tell_decided_otherwise(p_entity public.sync_entities, p_written jsonb) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_table  text := format('public.%I', p_entity.target_table);
  v_slots  text;
  v_owned  text;
  v_fields text[];
begin
  select string_agg(format('t.%I', c.name), ', '), string_agg(format('(%1$L, d.put ? %1$L and (%2$s)::text is distinct from t.%1$I::text)', c.name,
                           sync.filled_sql('d.put', c.name, c.type, c.recast, format('(d.new).%I', c.name))), ', ')
    into v_owned, v_slots
    from sync.field_slots(p_entity) c where c.name <> 'id';
  perform set_config('search_path', sync.application_path(), true);
  execute format($q$
    with otherwise as (
      select d.key, f.name
        from (select (w ->> 'key')::bigint as key, (w ->> 'row')::uuid as row, w -> 'put' as put, jsonb_populate_record(null::%1$s, w -> 'put') as new
                from jsonb_array_elements($1) w where w -> 'put' <> '{}' offset 0) d
        cross join lateral (select %3$s from %1$s t where t.id = d.row limit 1) t
        cross join lateral (values %2$s) f (name, altered)
       where f.altered
      union
      select (w ->> 'key')::bigint, f.name
        from jsonb_array_elements($1) w cross join lateral jsonb_array_elements_text(w -> 'also') f (name)
    ), told as (
      insert into public.sync_warnings as w (entity_id, legacy_id, rule)
      select distinct $2, key, 'written_otherwise: ' || name from otherwise
      on conflict (entity_id, legacy_id, rule) do update set last_seen_at = now())
    select pg_catalog.array_agg(distinct name) from otherwise
  $q$, v_table, v_slots, v_owned) into v_fields using p_written, p_entity.id;
  perform set_config('search_path', 'pg_catalog, pg_temp', true);
  perform sync.tell_otherwise(p_entity, null, v_fields);
end
$$;
comment on function sync.tell_decided_otherwise(public.sync_entities, jsonb) is
  'Tells which fields of rows hold something else than a decision wrote, because a trigger of the target has changed '
  'it. p_written: [{key, row, put, also: other fields that are known to be changed}].';

create function sync.decide_fields(p_entity public.sync_entities, p_ids uuid[], p_before jsonb) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_table   text := format('public.%I', p_entity.target_table);
  v_owned   text[] := array(select c ->> 'name' from jsonb_array_elements(p_entity.columns) c);
  v_now     text := format('select (select pg_catalog.to_jsonb(isthmus_row.*) from (select %s) isthmus_row) as now, %s as prints from %s t where t.id = (work.item ->> ''row'')::uuid limit 1',
                           sync.owned_columns(p_entity), coalesce(sync.prints_sql(p_entity), 'null::jsonb'), v_table);
  v_exact   text[] := array(select c ->> 'name' from jsonb_array_elements(p_entity.columns) c where c ->> 'type' = 'numeric');
  v_reworded jsonb := sync.reworded_fields(p_entity);
  v_work    jsonb;
  v_one     jsonb;
  v_first   record;
  v_written bigint;
begin
  -- expect: what the row must hold now; put: what is written; seen, left: what is remembered then, left null: what
  -- stands there. What the target keeps against the source's value, or gets instead of it, counts as somebody's edit
  -- of that value.
  select pg_catalog.jsonb_agg(jsonb_build_object('id', c.id, 'row', c.target_record_id, 'key', c.source_record_id, 'fields', pg_catalog.to_jsonb(f.names),
           'strategy', c.resolution_strategy, 'again', p_before ->> c.id::text is not null,
           'expect', case when p_before ->> c.id::text is null then v.target else v.after end,
           'put', case when c.resolution_strategy = 'source_wins' then v.source
                       when c.resolution_strategy = 'merge' then c.resolution_data
                       when p_before ->> c.id::text is null then '{}' else v.target end,
           'was_seen', case when p_before ->> c.id::text is null then v.seen else v.source end,
           'seen', case when c.resolution_strategy is null then v.seen else v.source end,
           'left', case when c.resolution_strategy is null then v."left" when c.resolution_strategy <> 'source_wins' then v.source end,
           'record', v.record, 'hashes', v.hashes, 'digest', c.source_digest))
    into v_work
    from pg_catalog.unnest(p_ids) i (id)
    cross join lateral (select * from public.sync_conflicts where id = i.id and rule = 'both_changed' limit 1) c
    left join lateral (select * from public.sync_conflict_values where conflict_id = c.id limit 1) v on true
    cross join lateral (select sync.unlisted(c.field) as names) f;
  if v_work is null then
    return;
  elsif (select count(*) > count(distinct w ->> 'row') from jsonb_array_elements(v_work) w) then
    -- A statement writes a row once: sync.carry_out then takes one decision after the other.
    raise exception using errcode = 'IS004', message = 'several decisions are on one record';
  end if;

  -- What was decided is judged by the record alone.
  select c.*, w.why, w.hint into v_first
    from (select (w ->> 'id')::uuid as id, case
                   when w ->> 'expect' is null then 'what it would put back is not known'
                   when w ->> 'strategy' = 'merge' and exists (select from jsonb_object_keys(w -> 'put') k where not w -> 'fields' ? k)
                     then 'resolution_data names ' || (select left(string_agg(k, ', ' order by k), 200) from jsonb_object_keys(w -> 'put') k where not w -> 'fields' ? k)
                          || ', which this conflict is not about'
                   when w ->> 'strategy' = 'merge' and exists (select from jsonb_array_elements_text(w -> 'fields') k where not w -> 'put' ? k)
                     then 'resolution_data lacks ' || (select string_agg(k, ', ' order by k) from jsonb_array_elements_text(w -> 'fields') k where not w -> 'put' ? k)
                   when w ->> 'strategy' = 'merge' and exists (select from jsonb_each(w -> 'put') k where k.value = '"•••"')
                     then 'resolution_data holds a masked value'
                   when w ->> 'strategy' = 'merge' and exists (
                        select from jsonb_each(w -> 'put') k join public.sync_conflict_values v on v.conflict_id = (w ->> 'id')::uuid
                          cross join lateral (values (v.seen -> k.key), (v.source -> k.key), (v.target -> k.key)) x (whole)
                         where k.value <> x.whole and k.value = sync.shown_value(x.whole, jsonb_array_length(w -> 'fields')))
                     then 'resolution_data holds a value that differences shows cut short'
                   when w -> 'put' ? p_entity.legacy_key and w #>> array['put', p_entity.legacy_key] is distinct from w ->> 'key'
                     then format('%s says which record the row is, and no decision changes it', p_entity.legacy_key)
                   when not (select pg_catalog.array_agg(k) from jsonb_object_keys(w -> 'put') k) <@ v_owned then 'a field is no longer the sync''s own'
                 end as why,
                 'The fields are those in the column field; their values, unmasked and whole: select sync.reveal(''' || (w ->> 'id') || ''').' as hint
            from jsonb_array_elements(v_work) w) w
    join public.sync_conflicts c on c.id = w.id
   where w.why is not null order by c.first_seen_at, c.id limit 1;
  if found then
    perform sync.refuse_decision(x, v_first.why, v_first.hint) from public.sync_conflicts x where x.id = v_first.id;
  end if;

  select c as conflict, k.key as field into v_first
    from jsonb_array_elements(v_work) w cross join lateral jsonb_each(w -> 'put') k
    join sync.column_types(v_table::regclass) t on t.name = k.key
    join public.sync_conflicts c on c.id = (w ->> 'id')::uuid
   where w ->> 'strategy' = 'merge' and k.value <> 'null' and not sync.takes(k.value, t.type, t.exact)
   order by c.first_seen_at, c.id, k.key limit 1;
  if found then
    perform sync.refuse_decision(v_first.conflict, 'the column ' || quote_ident(v_first.field) || ' cannot hold its value in resolution_data exactly',
      'Write one of its kind that it need neither cut nor round.');
  end if;

  -- Rows are found one by one, by their ids: nobody knows how many decisions there are when this is planned, and how
  -- many rows.
  execute format($q$
    select count(*) from (
      select from (select distinct (work.item ->> 'row')::uuid as row from jsonb_array_elements($1) work (item) order by 1 offset 0) d
        cross join lateral (select from %s t where t.id = d.row limit 1 for no key update of t) l) locked
  $q$, v_table) using v_work;
  execute format($q$
    select pg_catalog.jsonb_agg(work.item || jsonb_build_object('held', jsonb_build_object('seen', s.seen_hash, 'left', s.left_hash),
             'before', o.now, 'prints', o.prints, 'says', coalesce(s.seen, nullif(work.item -> 'record', 'null')), 'why', case
             when o.now is null then 'its target row is gone'
             when sync.pick(o.now, f.names) <> work.item -> 'expect' then 'the target holds other values than it shows'
             when s.legacy_id is null or s.gone_at is not null
               or s.seen_hash is null and sync.pick(s.seen, f.names) <> work.item -> 'was_seen'
               or s.seen_hash is not null and (work.item ->> 'again')::boolean and s.seen_hash <> hashtextextended((work.item -> 'record')::text, 0)
               then 'the source has gone on since' end))
      from jsonb_array_elements($1) work (item)
      cross join lateral (select array(select jsonb_array_elements_text(work.item -> 'fields')) as names) f
      left join lateral (%1$s) o on true
      left join lateral (select legacy_id, gone_at, seen, seen_hash, left_hash from public.sync_row_states
                          where entity_id = %2$s and legacy_id = (work.item ->> 'key')::bigint limit 1) s on true
  $q$, v_now, p_entity.id) into v_work using v_work;
  select c as conflict, w ->> 'why' as why into v_first from jsonb_array_elements(v_work) w join public.sync_conflicts c on c.id = (w ->> 'id')::uuid
   where w ->> 'why' is not null order by c.first_seen_at, c.id limit 1;
  if found then
    perform sync.refuse_decision(v_first.conflict, v_first.why,
      'Have it read again, and decide on what it shows then: select sync.replay(''' || p_entity.entity_type || ''').');
  end if;

  perform set_config('search_path', sync.application_path(), true);
  execute format($q$
    update %1$s t set %2$s
      from (select (work.item ->> 'row')::uuid as row, work.item -> 'put' as put, jsonb_populate_record(null::%1$s, work.item -> 'put') as new
              from jsonb_array_elements($1) work (item) where work.item -> 'put' <> '{}' offset 0) d
     where t.id = d.row
  $q$, v_table, (select string_agg(format('%1$I = case when d.put ? %1$L then %2$s else t.%1$I end', c.name,
                                 sync.filled_sql('d.put', c.name, c.type, c.recast, format('(d.new).%I', c.name))), ', ')
                  from sync.field_slots(p_entity) c where c.name <> 'id')) using v_work;
  get diagnostics v_written = row_count;
  perform set_config('search_path', 'pg_catalog, pg_temp', true);
  perform sync.refuse_cancelled(p_entity, p_ids, v_written, (
    select count(distinct w ->> 'row') from jsonb_array_elements(v_work) w where w -> 'put' <> '{}'));

  execute format($q$
    select pg_catalog.jsonb_agg(work.item || jsonb_build_object('now', o.now, 'altered', a.altered, 'also', a.also))
      from jsonb_array_elements($1) work (item) cross join lateral (%s) o
      -- What triggers made of the fields that the decision is not about: told where it is not what the source says,
      -- or prints otherwise.
      cross join lateral (
        select coalesce(jsonb_object_agg(e.key, e.value) filter (where x.another), '{}') as altered,
               coalesce(pg_catalog.jsonb_agg(e.key) filter (where not x.another or e.value is distinct from work.item -> 'says' -> e.key), '[]') as also
          from jsonb_each(o.now) e
          cross join lateral (select e.value is distinct from work.item -> 'before' -> e.key as another) x
         where (x.another or o.prints -> e.key is distinct from work.item -> 'prints' -> e.key) and not work.item -> 'put' ? e.key) a
  $q$, v_now) into v_work using v_work;
  select c as conflict into v_first
    from jsonb_array_elements(v_work) w cross join lateral jsonb_each(w -> 'put') p join public.sync_conflicts c on c.id = (w ->> 'id')::uuid
   -- Text that reads as a number would do, and so would NaN, which is none.
   where p.key = any (v_exact) and (w -> 'now' -> p.key is distinct from p.value or jsonb_typeof(p.value) = 'string') order by c.first_seen_at, c.id limit 1;
  if found then
    perform sync.refuse_decision(v_first.conflict, 'the target cannot hold the number exactly', 'Write one that fits its column, without quotes.');
  end if;

  select c as conflict, f.name into v_first
    from jsonb_array_elements(v_work) w cross join lateral jsonb_array_elements_text(w -> 'also') f (name) join public.sync_conflicts c on c.id = (w ->> 'id')::uuid
   where f.name = any (v_exact) order by c.first_seen_at, c.id, f.name limit 1;
  if found then
    perform sync.refuse_decision(v_first.conflict, 'the target changes a number that the decision is not about, in ' || quote_ident(v_first.name)
        || coalesce(' (trigger ' || sync.altering_triggers(v_table::regclass, array[v_first.name]) || ')', ''),
      'Change the trigger, or decide otherwise.');
  end if;

  -- What is put back is nothing new.
  perform sync.tell_decided_otherwise(p_entity, (
    select pg_catalog.jsonb_agg(case when w ->> 'strategy' is not null then w else w || '{"put": {}}' end) from jsonb_array_elements(v_work) w));

  update public.sync_conflict_values v
     set after = case when w ->> 'strategy' is not null then sync.pick(w -> 'now', array(select jsonb_array_elements_text(w -> 'fields'))) end,
         hashes = case when (w ->> 'again')::boolean then v.hashes else w -> 'held' end
    from jsonb_array_elements(v_work) w
   where v.conflict_id = (w ->> 'id')::uuid;
  -- Of hashes, 0 is what nothing fits.
  -- One by one: each by its key, whatever the planner thinks.
  for v_one in select jsonb_array_elements(v_work) loop
    update public.sync_row_states s
       set seen = s.seen - f.names || (v_one -> 'seen'),
           "left" = (s."left" || (v_one -> 'altered')) - f.names || case when v_one ->> 'left' is null then sync.pick(v_one -> 'now', f.names) else v_one -> 'left' end,
           seen_hash = case when s.seen_hash is not null then
             coalesce(case when v_one ->> 'strategy' is null then (v_one #>> '{hashes,seen}')::bigint else hashtextextended((v_one -> 'record')::text, 0) end, 0) end,
           left_hash = case when s.left_hash is not null then
             coalesce(case when v_one ->> 'strategy' is null then (v_one #>> '{hashes,left}')::bigint else (
               -- Edits of other fields stay edits: what the sync has left there is what the source says.
               select hashtextextended(jsonb_object_agg(e.key, case
                        when v_one -> 'fields' ? e.key then coalesce(v_one -> 'left' -> e.key, e.value)
                        when e.value = v_one -> 'record' -> e.key or v_one -> 'altered' ? e.key then e.value
                        else v_one -> 'record' -> e.key end)::text, 0) from jsonb_each(v_one -> 'now') e) end, 0) end,
           source_digest = (v_one ->> 'digest')::bigint, written_by = null, synced_at = now()
      from (select array(select jsonb_array_elements_text(v_one -> 'fields')) as names) f
     where s.entity_id = p_entity.id and s.legacy_id = (v_one ->> 'key')::bigint;
  end loop;
  perform sync.read_for_text(p_entity, array(
    select (w ->> 'key')::bigint from jsonb_array_elements(v_work) w
     where w ->> 'strategy' = 'source_wins' and sync.loses_text(v_reworded, w -> 'put')));
end
$$;
comment on function sync.decide_fields(public.sync_entities, uuid[], jsonb) is
  'Decisions on fields that both sides have changed: target rows, row states and what is needed to put them back.';

revoke all on function sync.read_for_text(public.sync_entities, bigint[]),
  sync.takes(jsonb, text, text), sync.tell_decided_otherwise(public.sync_entities, jsonb),
  sync.refuse_cancelled(public.sync_entities, uuid[], bigint, bigint),
  sync.decide_fields(public.sync_entities, uuid[], jsonb), sync.refuse_decision(public.sync_conflicts, text, text) from public;
grant execute on function sync.read_for_text(public.sync_entities, bigint[]),
  sync.takes(jsonb, text, text), sync.tell_decided_otherwise(public.sync_entities, jsonb),
  sync.refuse_cancelled(public.sync_entities, uuid[], bigint, bigint),
  sync.decide_fields(public.sync_entities, uuid[], jsonb) to isthmus_decisions;
-- What sync.check_decision calls as whoever decides.
grant execute on function sync.refuse_decision(public.sync_conflicts, text, text) to authenticated, isthmus_decisions;

-- Purpose: carry out what people decide in sync_conflicts, in the transaction of their UPDATE, and put it back.
-- Locks:   the rows of sync_conflicts that the UPDATE touches, then their target rows in id order.
-- Reverse: drop the triggers, then the functions.
--
-- A row trigger judges each decision by what its row says and stamps it; a statement trigger carries all of them out, entity
-- by entity, so that ten thousand cost seconds. It runs with its owner's rights, because reviewers have none on the
-- application's tables: what it writes are columns that the sync owns, and no others.

create function sync.actor(p_name text) returns text
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select case when auth.jwt() ->> 'sub' is not null then coalesce(auth.jwt() ->> 'email', auth.jwt() ->> 'sub')
              else coalesce(nullif(btrim(p_name), ''), session_user) end
$$;
comment on function sync.actor(text) is 'Who is deciding: the signed-in reviewer, or else the name that was given, or the database user.';

create function sync.refuse_decision(p_conflict public.sync_conflicts, p_why text, p_hint text) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  raise exception '% % (conflict %): %', p_conflict.entity_type, p_conflict.source_record_id, p_conflict.id, p_why
    using errcode = 'IS022', hint = p_hint || ' Nothing was changed.';
end
$$;
comment on function sync.refuse_decision(public.sync_conflicts, text, text) is 'Raises IS022: which record, why not, and what to do.';

create function sync.check_decision() returns trigger
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_changed boolean := new.resolution_strategy is distinct from old.resolution_strategy;
begin
  -- The sync resolves by policy, and has said so already.
  if current_user = 'isthmus_worker' then
    return new;
  end if;
  if not v_changed then
    if new.resolution_data is distinct from old.resolution_data and old.state <> 'open' then
      perform sync.refuse_decision(old, 'it is ' || old.state || ', so that resolution_data has no effect any more',
        case when old.state = 'resolved' then 'Empty resolution_strategy first: that puts the decision back.' else 'Look for the row of this record whose state is open.' end);
    end if;
    return new;
  end if;
  if old.state = 'superseded' then
    perform sync.refuse_decision(old, 'a newer row of this record says what stops it now', 'Decide on the one whose state is open.');
  elsif old.state = 'waiting' then
    perform sync.refuse_decision(old, 'it waits for record ' || old.parent_legacy_id || ', which has not landed', 'There is nothing to decide: it is read again by itself when that has landed.');
  elsif new.resolution_strategy = 'manual_review' then
    perform sync.refuse_decision(old, 'manual_review is what put it here, and no decision', 'Choose source_wins, target_wins or merge.');
  elsif new.resolution_strategy = 'merge' and (old.rule <> 'both_changed' or coalesce(jsonb_typeof(new.resolution_data), '') <> 'object') then
    perform sync.refuse_decision(old, case when old.rule <> 'both_changed' then 'there are no two values to merge' else 'resolution_data holds no object' end,
      case when old.rule <> 'both_changed' then 'Choose another strategy.' else 'Write the values into it, as {"' || split_part(old.field, ', ', 1) || '": ...}, in the same change.' end);
  elsif new.resolution_strategy = 'source_wins' and old.rule not in ('both_changed', 'target_deleted', 'deleted_in_source', 'left_edited') then
    perform sync.refuse_decision(old, 'the source''s record cannot be written as it is', old.remedy || ' target_wins leaves the target as it is until the source changes the record.');
  elsif old.rule = 'adoption.ambiguous' then
    perform sync.refuse_decision(old, 'which row it is has to be chosen', old.remedy);
  elsif old.state = 'resolved' and (old.decisions = 0 and old.resolved_by <> 'policy' or old.resolution_strategy is null) then
    perform sync.refuse_decision(old, 'it was resolved without a decision', 'There is nothing to put back.');
  elsif new.resolution_strategy is null and exists (
        select from public.sync_conflicts c
         where c.entity_id = old.entity_id and c.source_record_id = old.source_record_id and c.state in ('waiting', 'open')) then
    perform sync.refuse_decision(old, 'something else stops this record by now', 'Decide on the row of this record whose state is open or waiting.');
  end if;
  new.decisions := old.decisions + 1;
  new.next_attempt_at := null;
  if new.resolution_strategy is null then
    new.state := 'open';
    new.resolved_at := null;
    new.resolved_by := null;
    new.resolved_in := null;
    new.standing := false;
  else
    new.state := 'resolved';
    new.resolved_at := now();
    new.resolved_by := sync.actor(case when new.resolved_by is distinct from old.resolved_by then new.resolved_by end);
    new.standing := new.resolution_strategy = 'target_wins' and old.rule not in ('both_changed', 'deleted_in_source', 'left_edited');
  end if;
  return new;
end
$$;
comment on function sync.check_decision() is 'Refuses decisions that cannot be carried out, and stamps the others.';
create trigger check_decision before update of resolution_strategy, resolution_data on public.sync_conflicts
  for each row execute function sync.check_decision();

create function sync.apply_decisions() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  v_entity public.sync_entities;
  v_group  record;
  v_writer text := current_setting('isthmus.sync', true);
begin
  if not exists (select from decided n join before o on o.id = n.id where n.decisions > o.decisions) then
    return null;
  end if;
  -- Tells application triggers that this is the sync and not a person; what the person does next is theirs again.
  perform set_config('isthmus.sync', 'on', true);
  for v_group in
    select n.entity_id, array_agg(n.id order by n.target_record_id, n.id) as ids
      from decided n join before o on o.id = n.id where n.decisions > o.decisions group by n.entity_id order by n.entity_id
  loop
    select * into strict v_entity from public.sync_entities where id = v_group.entity_id;
    perform sync.carry_out(v_entity, v_group.ids,
      (select jsonb_object_agg(o.id, o.resolution_strategy) from before o where o.id = any (v_group.ids)));
    insert into public.sync_audit (actor, action, conflict_id, entity_id, legacy_id, fields, strategy)
    select coalesce(n.resolved_by, sync.actor(null)) || case when auth.jwt() ->> 'sub' is null then ' (' || session_user || ')' else '' end,
           case when n.resolution_strategy is null then 'reopened' else 'decided' end,
           n.id, n.entity_id, n.source_record_id, string_to_array(n.field, ', '), n.resolution_strategy
      from decided n where n.id = any (v_group.ids) order by n.id;
  end loop;
  perform set_config('isthmus.sync', coalesce(v_writer, ''), true);
  return null;
end
$$;
comment on function sync.apply_decisions() is 'Carries out all decisions of one UPDATE, or none.';
create trigger apply_decisions after update on public.sync_conflicts
  referencing old table as before new table as decided for each statement execute function sync.apply_decisions();

-- Settings are pinned as they are where rows are loaded.
create function sync.carry_out(p_entity public.sync_entities, p_ids uuid[], p_before jsonb) returns void
language plpgsql security invoker
set search_path = pg_catalog, pg_temp set timezone = 'UTC' set datestyle = 'ISO, YMD' set intervalstyle = 'iso_8601'
set extra_float_digits = 1 as $$
declare
  v_state      text;
  v_constraint text;
  v_hint       text;
  v_message    text;
  v_id         uuid;
  v_conflict   public.sync_conflicts;
begin
  begin
    perform sync.decide_fields(p_entity, p_ids, p_before);
    perform sync.decide_rows(p_entity, p_ids, p_before);
    set constraints all immediate;
    return;
  exception when others or assert_failure then
    get stacked diagnostics v_state = returned_sqlstate, v_constraint = constraint_name, v_message = message_text, v_hint = pg_exception_hint;
    if v_state = 'IS022' then
      raise exception '%', v_message using errcode = v_state, hint = v_hint;
    elsif not sync.is_record_error(v_state) then
      raise;
    end if;
  end;
  if cardinality(p_ids) = 1 then
    select * into strict v_conflict from public.sync_conflicts where id = p_ids[1];
    perform sync.refuse_decision(v_conflict, 'the target refuses it (' || coalesce(nullif(v_constraint, ''), 'SQLSTATE ' || v_state) || ')',
      'Correct what the constraint or trigger asks for, or decide otherwise.');
  end if;
  -- One of them is refused: one by one they say which.
  foreach v_id in array p_ids loop
    perform sync.carry_out(p_entity, array[v_id], p_before);
  end loop;
end
$$;
comment on function sync.carry_out(public.sync_entities, uuid[], jsonb) is
  'Carries out decisions on conflicts of one entity, all or none; the first that is refused is named. p_before: the strategies before, {id: strategy}.';

create function sync.decide_fields(p_entity public.sync_entities, p_ids uuid[], p_before jsonb) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_table   text := format('public.%I', p_entity.target_table);
  v_owned   text[] := array(select c ->> 'name' from jsonb_array_elements(p_entity.columns) c);
  v_exact   text[] := array(select c ->> 'name' from jsonb_array_elements(p_entity.columns) c where c ->> 'type' = 'numeric');
  v_work    jsonb;
  v_first   record;
begin
  -- expect: what the row must hold now; put: what is written; seen, left: what is remembered then, left null: what stands there.
  -- What the target keeps against the source's value, or gets instead of it, counts as somebody's edit of that value.
  select jsonb_agg(jsonb_build_object('id', c.id, 'row', c.target_record_id, 'key', c.source_record_id, 'fields', to_jsonb(f.names),
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
    from public.sync_conflicts c
    left join public.sync_conflict_values v on v.conflict_id = c.id
    cross join lateral (select string_to_array(c.field, ', ') as names) f
   where c.id = any (p_ids) and c.rule = 'both_changed';
  if v_work is null then
    return;
  end if;

  -- What was decided is judged by the record alone.
  select c.*, w.why, w.hint into v_first
    from (select (w ->> 'id')::uuid as id, case
                   when w ->> 'expect' is null then 'what it would put back is not known'
                   when w ->> 'strategy' = 'merge' and exists (select from jsonb_object_keys(w -> 'put') k where not w -> 'fields' ? k)
                     then 'resolution_data names ' || (select string_agg(k, ', ' order by k) from jsonb_object_keys(w -> 'put') k where not w -> 'fields' ? k)
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
                   when not (select array_agg(k) from jsonb_object_keys(w -> 'put') k) <@ v_owned then 'a field is no longer the sync''s own'
                 end as why,
                 'The fields are those in the column field; their values, unmasked and whole: select sync.reveal(''' || (w ->> 'id') || ''').' as hint
            from jsonb_array_elements(v_work) w) w
    join public.sync_conflicts c on c.id = w.id
   where w.why is not null order by c.first_seen_at, c.id limit 1;
  if found then
    perform sync.refuse_decision(x, v_first.why, v_first.hint) from public.sync_conflicts x where x.id = v_first.id;
  end if;

  execute format('select count(*) from (select from %s t where t.id in (select (w ->> ''row'')::uuid from jsonb_array_elements($1) w) order by t.id for no key update of t) l',
    v_table) using v_work;
  create temp table if not exists decided_rows (id uuid primary key, row uuid, key bigint, why text, "left" jsonb) on commit drop;
  -- A trigger that somebody else hung on a table of theirs would run with the owner's rights.
  if not exists (select from pg_catalog.pg_class where oid = 'pg_temp.decided_rows'::regclass and pg_get_userbyid(relowner) = current_user) then
    raise exception 'pg_temp.decided_rows belongs to somebody else' using errcode = '42501';
  end if;
  truncate pg_temp.decided_rows;
  execute format($q$
    insert into pg_temp.decided_rows (id, row, key, why)
    select (w ->> 'id')::uuid, t.id, (w ->> 'key')::bigint,
           case when t.id is null then 'its target row is gone'
                when sync.pick(o.now, f.names) <> w -> 'expect' then 'the target holds other values than it shows'
                when s.legacy_id is null or s.gone_at is not null
                  or s.seen_hash is null and sync.pick(s.seen, f.names) <> w -> 'was_seen'
                  or s.seen_hash is not null and (w ->> 'again')::boolean and s.seen_hash <> hashtextextended((w -> 'record')::text, 0)
                  then 'the source has gone on since' end
      from jsonb_array_elements($1) w
      cross join lateral (select array(select jsonb_array_elements_text(w -> 'fields')) as names) f
      left join %1$s t on t.id = (w ->> 'row')::uuid
      left join public.sync_row_states s on s.entity_id = %2$s and s.legacy_id = (w ->> 'key')::bigint
      cross join lateral (select to_jsonb(x) as now from (select %3$s) x offset 0) o
  $q$, v_table, p_entity.id, sync.owned_columns(p_entity)) using v_work;
  select c as conflict, d.why into v_first from pg_temp.decided_rows d join public.sync_conflicts c on c.id = d.id
   where d.why is not null order by c.first_seen_at, c.id limit 1;
  if found then
    perform sync.refuse_decision(v_first.conflict, v_first.why,
      'Have it read again, and decide on what it shows then: select sync.replay(''' || p_entity.entity_type || ''').');
  end if;

  execute format($q$
    update %1$s t set %2$s
      from (select (w ->> 'row')::uuid as row, w -> 'put' as put, v.* from jsonb_array_elements($1) w
             cross join lateral jsonb_populate_record(null::%1$s, w -> 'put') v where w -> 'put' <> '{}') d
     where t.id = d.row
  $q$, v_table, (select string_agg(format('%1$I = case when d.put ? %1$L then d.%1$I else t.%1$I end', name), ', ') from unnest(v_owned) name where name <> 'id')) using v_work;

  execute format($q$
    update pg_temp.decided_rows d
       set "left" = o.now
      from %1$s t cross join lateral (select to_jsonb(x) as now from (select %2$s) x offset 0) o where t.id = d.row
  $q$, v_table, sync.owned_columns(p_entity));
  select c as conflict into v_first
    from jsonb_array_elements(v_work) w join pg_temp.decided_rows d on d.id = (w ->> 'id')::uuid join public.sync_conflicts c on c.id = d.id
    cross join lateral jsonb_each(w -> 'put') p
   -- Text that reads as a number would do, and so would NaN, which is none.
   where p.key = any (v_exact) and (d."left" -> p.key is distinct from p.value or jsonb_typeof(p.value) = 'string') order by c.first_seen_at, c.id limit 1;
  if found then
    perform sync.refuse_decision(v_first.conflict, 'the target cannot hold the number exactly', 'Write one that fits its column, without quotes.');
  end if;

  update public.sync_conflict_values v
     set after = case when w ->> 'strategy' is not null then sync.pick(d."left", f.names) end,
         hashes = case when (w ->> 'again')::boolean then v.hashes else jsonb_build_object('seen', s.seen_hash, 'left', s.left_hash) end
    from jsonb_array_elements(v_work) w
    cross join lateral (select array(select jsonb_array_elements_text(w -> 'fields')) as names) f
    join pg_temp.decided_rows d on d.id = (w ->> 'id')::uuid
    left join public.sync_row_states s on s.entity_id = p_entity.id and s.legacy_id = d.key
   where v.conflict_id = d.id;
  -- Of hashes, 0 is what nothing fits.
  update public.sync_row_states s
     set seen = s.seen - f.names || (w -> 'seen'),
         "left" = s."left" - f.names || case when w ->> 'left' is null then sync.pick(d."left", f.names) else w -> 'left' end,
         seen_hash = case when s.seen_hash is not null then
           coalesce(case when w ->> 'strategy' is null then (w #>> '{hashes,seen}')::bigint else hashtextextended((w -> 'record')::text, 0) end, 0) end,
         left_hash = case when s.left_hash is not null then
           coalesce(case when w ->> 'strategy' is null then (w #>> '{hashes,left}')::bigint else (
             -- Edits of other fields stay edits: what the sync has left there is what the source says.
             select hashtextextended(jsonb_object_agg(e.key, case
                      when w -> 'fields' ? e.key then coalesce(w -> 'left' -> e.key, e.value)
                      when e.value = w -> 'record' -> e.key then e.value
                      else w -> 'record' -> e.key end)::text, 0) from jsonb_each(d."left") e) end, 0) end,
         source_digest = (w ->> 'digest')::bigint, written_by = null, synced_at = now()
    from jsonb_array_elements(v_work) w
    cross join lateral (select array(select jsonb_array_elements_text(w -> 'fields')) as names) f
    join pg_temp.decided_rows d on d.id = (w ->> 'id')::uuid
   where s.entity_id = p_entity.id and s.legacy_id = d.key;
end
$$;
comment on function sync.decide_fields(public.sync_entities, uuid[], jsonb) is
  'Decisions on fields that both sides have changed: target rows, row states and what is needed to put them back.';

create function sync.decide_rows(p_entity public.sync_entities, p_ids uuid[], p_before jsonb) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_table text := format('public.%I', p_entity.target_table);
  v_again text := format('Have it read again: select sync.replay(%L).', p_entity.entity_type);
  v_first public.sync_conflicts;
begin
  -- A row that was written or deleted by a decision is not put back: it may have changed since, or others refer to it.
  select c.* into v_first from public.sync_conflicts c
   where c.id = any (p_ids) and c.rule <> 'both_changed' and p_before ->> c.id::text = 'source_wins' order by c.first_seen_at, c.id limit 1;
  if found then
    perform sync.refuse_decision(v_first, 'a row that was written or deleted is not put back', 'Change the row itself.');
  end if;

  -- Their target rows, in id order, before anything is read of them.
  execute format('select count(*) from (select from %s t
                   where t.id in (select target_record_id from public.sync_conflicts where id = any ($1) and rule <> ''both_changed'')
                   order by t.id for update of t) l', v_table) using p_ids;

  -- Deleted in the source, or no longer wanted here: the row stays.
  insert into public.sync_row_states as s (entity_id, legacy_id, seen, "left", gone_at)
  select p_entity.id, source_record_id, '{}', '{}', now() from public.sync_conflicts
   where id = any (p_ids) and rule in ('deleted_in_source', 'left_edited') and resolution_strategy = 'target_wins'
  on conflict (entity_id, legacy_id) do update set gone_at = now(), source_digest = null;
  update public.sync_row_states s set gone_at = null
    from public.sync_conflicts c
   where c.id = any (p_ids) and c.rule in ('deleted_in_source', 'left_edited') and c.resolution_strategy is null
     and s.entity_id = p_entity.id and s.legacy_id = c.source_record_id;

  -- Somebody deleted the row: it is written again, under its id.
  select c.* into v_first from public.sync_conflicts c left join public.sync_conflict_values v on v.conflict_id = c.id
   where c.id = any (p_ids) and c.rule = 'target_deleted' and c.resolution_strategy = 'source_wins' and v.record is null
   order by c.first_seen_at, c.id limit 1;
  if found then
    perform sync.refuse_decision(v_first, 'what the source says of it is not known', v_again);
  end if;
  execute format($q$
    insert into %1$s (id, %2$s)
    select c.target_record_id, %3$s
      from public.sync_conflicts c join public.sync_conflict_values v on v.conflict_id = c.id
      cross join lateral jsonb_populate_record(null::%1$s, v.record) r
     where c.id = any ($1) and c.rule = 'target_deleted' and c.resolution_strategy = 'source_wins'
     order by c.target_record_id
  $q$, v_table, (select string_agg(quote_ident(c ->> 'name'), ', ') from jsonb_array_elements(p_entity.columns) c),
    (select string_agg(format('r.%I', c ->> 'name'), ', ') from jsonb_array_elements(p_entity.columns) c)) using p_ids;
  execute format($q$
    update public.sync_row_states s
       set seen = case when s.seen_hash is null then v.record end, "left" = case when s.left_hash is null then o.now end,
           seen_hash = case when s.seen_hash is not null then hashtextextended(v.record::text, 0) end,
           left_hash = case when s.left_hash is not null then hashtextextended(o.now::text, 0) end,
           source_digest = c.source_digest, written_by = null, gone_at = null, synced_at = now()
      from public.sync_conflicts c join public.sync_conflict_values v on v.conflict_id = c.id
      join %1$s t on t.id = c.target_record_id
      cross join lateral (select to_jsonb(x) as now from (select %2$s) x offset 0) o
     where c.id = any ($1) and c.rule = 'target_deleted' and c.resolution_strategy = 'source_wins'
       and s.entity_id = c.entity_id and s.legacy_id = c.source_record_id
  $q$, v_table, sync.owned_columns(p_entity)) using p_ids;

  -- The source no longer has it: the row goes. Nobody deletes or empties, without a word, what refers to it.
  execute format($q$
    select c.* from public.sync_conflicts c join %1$s t on t.id = c.target_record_id
     where c.id = any ($1) and c.rule in ('deleted_in_source', 'left_edited') and c.resolution_strategy = 'source_wins' and (%2$s)
     order by c.first_seen_at, c.id limit 1
  $q$, v_table, sync.referenced_sql(p_entity, null)) into v_first using p_ids;
  if v_first.id is not null then
    perform sync.refuse_decision(v_first, 'other rows refer to its target row', 'Decide on these first.');
  end if;
  execute format($q$
    select c.* from public.sync_conflicts c join public.sync_conflict_values v on v.conflict_id = c.id
      join %1$s t on t.id = c.target_record_id cross join lateral (select to_jsonb(x) as now from (select %2$s) x offset 0) o
     where c.id = any ($1) and c.rule = 'left_edited' and c.resolution_strategy = 'source_wins' and sync.pick(o.now, array(select jsonb_object_keys(v.target))) <> v.target
     order by c.first_seen_at, c.id limit 1
  $q$, v_table, sync.owned_columns(p_entity)) into v_first using p_ids;
  if v_first.id is not null then
    perform sync.refuse_decision(v_first, 'the target holds other values than it shows', v_again);
  end if;
  execute format($q$
    with kept as (
      insert into public.sync_conflict_values as k (conflict_id, target)
      select c.id, o.now from public.sync_conflicts c join %1$s t on t.id = c.target_record_id
        cross join lateral (select to_jsonb(x) as now from (select %2$s) x) o
       where c.id = any ($1) and c.rule in ('deleted_in_source', 'left_edited') and c.resolution_strategy = 'source_wins'
      on conflict (conflict_id) do update set target = excluded.target)
    delete from %1$s t using public.sync_conflicts c
     where c.id = any ($1) and c.rule in ('deleted_in_source', 'left_edited') and c.resolution_strategy = 'source_wins' and t.id = c.target_record_id
  $q$, v_table, sync.owned_columns(p_entity)) using p_ids;
  with gone as (
    delete from public.sync_row_states s using public.sync_conflicts c
     where c.id = any (p_ids) and c.rule in ('deleted_in_source', 'left_edited') and c.resolution_strategy = 'source_wins'
       and s.entity_id = c.entity_id and s.legacy_id = c.source_record_id)
  update public.uuid_mappings_enhanced m set sync_status = 'deleted' from public.sync_conflicts c
   where c.id = any (p_ids) and c.rule in ('deleted_in_source', 'left_edited') and c.resolution_strategy = 'source_wins'
     and m.source_id = p_entity.source_id and m.entity_type = p_entity.entity_type and m.legacy_id = c.source_record_id;
end
$$;
comment on function sync.decide_rows(public.sync_entities, uuid[], jsonb) is
  'Decisions on whole records: written again, deleted, or left as they are.';

create function sync.reveal(p_conflict uuid) returns jsonb
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  v_conflict public.sync_conflicts;
  v_values   public.sync_conflict_values;
  v_columns  jsonb;
begin
  -- Whoever comes through the Data API has a role of its own; others have the rights of their database user.
  if current_setting('role') in ('authenticated', 'anon') and sync.caller_role() is distinct from 'reviewer' then
    raise exception 'only reviewers see unmasked values' using errcode = '42501';
  end if;
  select * into v_conflict from public.sync_conflicts where id = p_conflict;
  if not found then
    raise exception 'there is no conflict %', p_conflict using errcode = 'IS022', hint = 'Give the id of a row of sync_conflicts.';
  end if;
  select columns into strict v_columns from public.sync_entities where id = v_conflict.entity_id;
  select * into v_values from public.sync_conflict_values where conflict_id = p_conflict;
  insert into public.sync_audit (actor, action, conflict_id, entity_id, legacy_id, fields)
  values (sync.actor(null), 'revealed', p_conflict, v_conflict.entity_id, v_conflict.source_record_id, string_to_array(v_conflict.field, ', '));
  return coalesce(sync.differences(v_columns, string_to_array(v_conflict.field, ', '), v_values.seen, v_values.source, v_values.target, false), '{}');
end
$$;
comment on function sync.reveal(uuid) is
  'The differing values of a conflict, unmasked and whole: {field: {seen, source, target}}. Leaves a row in sync_audit. select sync.reveal(''<id>'').';

revoke all on function sync.actor(text), sync.refuse_decision(public.sync_conflicts, text, text), sync.check_decision(), sync.apply_decisions(),
  sync.carry_out(public.sync_entities, uuid[], jsonb), sync.decide_fields(public.sync_entities, uuid[], jsonb),
  sync.decide_rows(public.sync_entities, uuid[], jsonb), sync.reveal(uuid) from public;
-- What sync.check_decision calls as whoever decides.
grant execute on function sync.actor(text), sync.refuse_decision(public.sync_conflicts, text, text), sync.reveal(uuid) to authenticated;

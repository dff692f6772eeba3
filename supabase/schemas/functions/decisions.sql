-- Purpose: carry out what people decide in sync_conflicts, in the transaction of their UPDATE, and put it back.
-- Locks:   the rows of sync_conflicts that the UPDATE touches, then their target rows in id order.
--
-- A row trigger judges each decision by what its row says and stamps it; a statement trigger carries all of them out,
-- entity by entity, so that ten thousand cost seconds. It runs as isthmus_decisions, because reviewers have no rights
-- on the application's tables: that role has those on what an owner has released (sync_released_entities), and no
-- others.

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
  -- A row that a page has opened and not committed is not seen yet.
  elsif new.resolution_strategy is null and not pg_try_advisory_xact_lock('public.sync_conflicts'::regclass::oid::integer, old.entity_id) then
    perform sync.refuse_decision(old, 'a page is putting records of this entity into the queue at this moment', 'Put it back in a moment.');
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
    new.standing := new.resolution_strategy = 'target_wins' and old.rule <> 'both_changed' and not sync.is_leaving(old.rule, old.conflict_data);
  end if;
  return new;
end
$$;
comment on function sync.check_decision() is 'Refuses decisions that cannot be carried out, and stamps the others.';
create trigger check_decision before update of resolution_strategy, resolution_data on public.sync_conflicts
  for each row execute function sync.check_decision();

create function sync.refuse_forged_name() returns trigger
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  raise exception 'the sync resolves in its own name only'
    using errcode = '42501', hint = 'People decide by setting resolution_strategy; sync_audit names them.';
end
$$;
comment on function sync.refuse_forged_name() is 'The worker cannot write that a person has decided.';
create trigger refuse_forged_name before insert or update of resolved_by on public.sync_conflicts for each row
  when (current_user = 'isthmus_worker' and new.resolved_by <> all (array['policy', 'sync', 'adoption', 'isthmus_worker']) and new.resolved_by not like 'sync: %')
  execute function sync.refuse_forged_name();

create function sync.deferred_constraints(p_table regclass) returns text
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  with tables as (select p_table::oid as oid union select relid from pg_partition_tree(p_table))
  select string_agg(distinct format('%I.%I', n.nspname, c.conname), ', ')
    from pg_constraint c join pg_namespace n on n.oid = c.connamespace
   where c.condeferrable and (c.conrelid in (select oid from tables) or c.confrelid in (select oid from tables))
     and has_schema_privilege(n.oid, 'usage')
     -- A name counts for all tables of its schema. Where it is also that of a trigger that calls somebody else's
     -- function, it waits.
     and not exists (
       select from pg_constraint o join pg_trigger t on t.tgconstraint = o.oid join pg_proc f on f.oid = t.tgfoid
        where o.contype = 't' and o.connamespace = c.connamespace and o.conname = c.conname
          and f.proowner <> (select relowner from pg_class where oid = p_table)
          and not (select rolsuper from pg_roles where oid = f.proowner))
$$;
comment on function sync.deferred_constraints(regclass) is
  'The deferrable constraints of a table and of what refers to it, as a list of names: those that run code of its '
  'owner only.';

-- Settings are pinned as they are where rows are loaded.
create function sync.carry_out(p_entity public.sync_entities, p_ids uuid[], p_before jsonb) returns void
language plpgsql security invoker
set search_path = pg_catalog, pg_temp set timezone = 'UTC' set timezone_abbreviations = 'Default' set datestyle = 'ISO, YMD'
set intervalstyle = 'iso_8601' set extra_float_digits = 3 set bytea_output = 'hex' set xmloption = 'content' set lc_monetary = 'C'
set array_nulls = on set standard_conforming_strings = on set quote_all_identifiers = off set transform_null_equals = off as $$
declare
  v_deferred   text;
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
    -- Not all: what else waits for the end of the transaction is the caller's, and would run with the rights of
    -- decisions.
    v_deferred := sync.deferred_constraints(format('public.%I', p_entity.target_table)::regclass);
    if v_deferred is not null then
      perform set_config('search_path', sync.application_path(), true);
      execute 'set constraints ' || v_deferred || ' immediate';
      perform set_config('search_path', 'pg_catalog, pg_temp', true);
    end if;
    return;
  exception when others or assert_failure then
    get stacked diagnostics v_state = returned_sqlstate, v_constraint = constraint_name, v_message = message_text, v_hint = pg_exception_hint;
    if v_state = 'IS022' then
      raise exception '%', v_message using errcode = v_state, hint = v_hint;
    elsif v_state = '42501' then
      raise exception 'a decision on % needs a right that isthmus_decisions does not have', p_entity.entity_type
        using errcode = 'IS022', hint = 'The owner of the database runs what npm run sync -- grants prints; a trigger of the table may need more. Nothing was changed.';
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
  'Carries out decisions on conflicts of one entity, all or none; the first that is refused is named. p_before: the '
  'strategies before, {id: strategy}.';

-- Its caller chooses the session's settings and owns pg_temp: names are qualified, and no temporary table is used.
create function sync.apply_decisions() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp set standard_conforming_strings = on as $$
declare
  v_before     jsonb;
  v_strategies jsonb;
  v_group      record;
  v_writer     text := current_setting('isthmus.sync', true);
begin
  -- A trigger of the application that names a table or type without its schema might find the caller's, with the
  -- caller's code on it.
  if pg_my_temp_schema() <> 0
    and exists (select from pg_type where typnamespace = pg_my_temp_schema() union all select from pg_class where relnamespace = pg_my_temp_schema())
    and not pg_has_role(sync.calling_role(), (select relowner from pg_class where oid = 'public.sync_conflicts'::regclass), 'usage') then
    raise exception 'no decision is carried out in a session that has temporary tables or types of its own'
      using errcode = 'IS022', hint = 'Drop them (discard temp), or decide in another session. Nothing was changed.';
  end if;
  -- Nobody knows how many rows these two tables have when this is planned. So they are not joined, but looked up by
  -- key.
  select jsonb_object_agg(id, decisions), jsonb_object_agg(id, resolution_strategy) into v_before, v_strategies from before;
  -- Tells application triggers that this is the sync and not a person; what the person does next is theirs again.
  perform set_config('isthmus.sync', 'on', true);
  for v_group in
    select entity_id, pg_catalog.array_agg(id order by target_record_id, id) as ids
      from decided where decisions > (v_before ->> id::text)::integer group by entity_id order by entity_id
  loop
    perform sync.carry_out(sync.released_entity(v_group.entity_id), v_group.ids, v_strategies);
    perform sync.note_changed_causes(v_group.entity_id, array(
      select source_record_id from decided where entity_id = v_group.entity_id and decisions > (v_before ->> id::text)::integer));
    insert into public.sync_audit (actor, action, conflict_id, entity_id, legacy_id, fields, strategy)
    select coalesce(resolved_by, sync.actor(null)) || case when sync.claims() ->> 'sub' is null then ' (' || session_user || ')' else '' end,
           case when resolution_strategy is null then 'reopened' else 'decided' end,
           id, entity_id, source_record_id, sync.unlisted(field), resolution_strategy
      from decided where entity_id = v_group.entity_id and decisions > (v_before ->> id::text)::integer order by id;
  end loop;
  perform set_config('isthmus.sync', coalesce(v_writer, ''), true);
  return null;
end
$$;
comment on function sync.apply_decisions() is 'Carries out all decisions of one UPDATE, or none.';
-- The worker decides nothing (sync.check_decision), and its pages do not pay for a look.
create trigger apply_decisions after update on public.sync_conflicts
  referencing old table as before new table as decided for each statement
  when (current_user <> 'isthmus_worker') execute function sync.apply_decisions();

revoke all on function sync.check_decision(), sync.refuse_forged_name(), sync.apply_decisions(), sync.deferred_constraints(regclass),
  sync.carry_out(public.sync_entities, uuid[], jsonb) from public;
grant execute on function sync.deferred_constraints(regclass), sync.carry_out(public.sync_entities, uuid[], jsonb) to isthmus_decisions;

grant create on schema sync to isthmus_decisions;
alter function sync.apply_decisions() owner to isthmus_decisions;
revoke create on schema sync from isthmus_decisions;

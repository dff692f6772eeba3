-- Purpose: put records into the queue, take landed ones out of it, and release what waited for them.
-- Locks:   row locks on sync_conflicts and sync_pending_keys.
-- Reverse: drop the functions.

create function sync.collect_issues(p_entity public.sync_entities, p_issues jsonb) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  create temp table page_issues on commit drop as
  select i.*, parent.id as parent_entity_id, false as settled
    from jsonb_to_recordset(p_issues) as i (
           k bigint, state public.sync_conflict_state, type public.conflict_type_enum, field text, rule text, policy text, retry text,
           remedy text, data jsonb, evidence jsonb, parent text, "parentId" bigint, digest bigint)
    left join public.sync_entities parent
      on parent.source_id = p_entity.source_id and parent.entity_type = i.parent;

  -- Which of several target rows is the record is decided first, whatever else is wrong with it.
  update pg_temp.page_issues i
     set state = 'open', type = 'uuid_mapping_conflict', field = null, rule = 'adoption.ambiguous', parent = null, retry = 'person',
         "parentId" = null, parent_entity_id = null, data = jsonb_build_object('candidates', a.candidates), evidence = null,
         remedy = 'Target rows share this legacy id. Choose the record: select sync.adopt_as(<id of this entry>, <id of the row>). Or correct the rows and adopt again.'
    from (select legacy_id, jsonb_agg(jsonb_build_object('id', id, 'claimed_by', claimed_by) order by id) as candidates
            from public.sync_adoption_rows
           where entity_id = p_entity.id and undecided and legacy_id in (select k from pg_temp.page_issues) group by legacy_id) a
   where a.legacy_id = i.k;

  update pg_temp.page_issues set retry = case state when 'waiting' then 'parent' else case when rule ~ '@[0-9]+$' then 'rule' else 'source' end end
   where retry is null;
  -- Settled: by policy, or because a decision stands and the source has not changed the record since.
  update pg_temp.page_issues i
     set settled = true,
         policy = case when p.name is not null then 'target_wins ' || p.name else i.policy end
    from (select k, case when rule = 'target_deleted' and p_entity.conflicts ->> 'deleted' = 'target_wins' then 'of deleted rows'
                         when state = 'open' and type <> 'concurrent_modification' and rule <> 'deleted_in_source'
                              and p_entity.conflicts -> 'types' ->> type::text = 'target_wins' then 'of the type ' || type end as name
            from pg_temp.page_issues) p
   where p.k = i.k and (p.name is not null or exists (
           select from public.sync_conflicts c
            where c.entity_id = p_entity.id and c.source_record_id = i.k and c.standing and c.source_digest is not distinct from i.digest
              and (c.conflict_type, c.rule) = (i.type, i.rule) and c.field is not distinct from i.field));
end
$$;
comment on function sync.collect_issues(public.sync_entities, jsonb) is
  'What stops records of a page, into pg_temp.page_issues: [{k, state, type, field, rule, policy, retry, remedy, data, evidence, parent, parentId, digest}]; evidence: {seen, source, target, left, record}.';

create function sync.next_attempt(p_class text, p_attempts integer) returns timestamptz
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  -- Whether somebody has changed a constraint or trigger nobody tells: after 5 minutes, then twice as long each time, up to a day.
  select case when p_class in ('target', 'clash') then now() + least(interval '1 day', interval '5 minutes' * 2 ^ least(p_attempts - 1, 20)) end
$$;
comment on function sync.next_attempt(text, integer) is 'When a record is read again though nothing told that its cause is gone; null: only when something tells.';

create function sync.queue_records(p_entity public.sync_entities, p_execution uuid) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  if not exists (select from pg_temp.page_issues) then
    return;
  end if;
  -- The same trouble again: one more attempt. Another one: the old row is superseded, the new one carries on.
  create temp table page_queued on commit drop as
  with same as (
    update public.sync_conflicts c
       set attempts = c.attempts + 1, last_seen_at = now(), source_digest = i.digest, remedy = i.remedy, conflict_data = coalesce(i.data, '{}'),
           policy = coalesce(i.policy, c.policy), retry_class = i.retry, next_attempt_at = sync.next_attempt(i.retry, c.attempts + 1)
      from pg_temp.page_issues i
     where c.entity_id = p_entity.id and c.source_record_id = i.k
       and (c.state = i.state and not i.settled or c.standing and i.settled and c.source_digest is not distinct from i.digest)
       and c.conflict_type = i.type and c.rule = i.rule and c.field is not distinct from i.field
       and c.parent_entity_id is not distinct from i.parent_entity_id
       and c.parent_legacy_id is not distinct from i."parentId"
       and (i.rule <> 'both_changed' or exists (
             select from public.sync_conflict_values v
              where v.conflict_id = c.id and v.source = i.evidence -> 'source' and v.target = i.evidence -> 'target'))
    returning c.id, c.source_record_id as k)
  select id, k, false as added from same;

  -- Left standing only what still holds; the record goes on as what stops it now.
  update public.sync_conflicts c set standing = false
    from pg_temp.page_issues i
   where c.entity_id = p_entity.id and c.source_record_id = i.k and c.standing
     and not exists (select from pg_temp.page_queued s where s.id = c.id);

  with superseded as (
    update public.sync_conflicts c
       set state = 'superseded', next_attempt_at = null
      from pg_temp.page_issues i
     where c.entity_id = p_entity.id and c.source_record_id = i.k and c.state in ('waiting', 'open')
       and not exists (select from pg_temp.page_queued s where s.id = c.id)
    returning c.source_record_id, c.attempts, c.first_seen_at, c.decisions
  ), added as (
    insert into public.sync_conflicts
      (state, entity_id, entity_type, source_record_id, conflict_type, field, rule, policy, remedy, conflict_data, differences,
       parent_entity_id, parent_legacy_id, source_digest, attempts, decisions, first_seen_at, source_table, target_table, target_record_id,
       execution_id, retry_class, next_attempt_at, resolution_strategy, resolved_at, resolved_by, standing)
    select case when i.settled then 'resolved' else i.state end, p_entity.id, p_entity.entity_type, i.k, i.type, i.field, i.rule, i.policy, i.remedy,
           coalesce(i.data, '{}'),
           case when i.evidence ? 'target' then
             sync.differences(p_entity.columns, string_to_array(i.field, ', '), i.evidence -> 'seen', i.evidence -> 'source', i.evidence -> 'target', true) end,
           i.parent_entity_id, i."parentId", i.digest, coalesce(s.attempts, 0) + 1, coalesce(s.decisions, 0), coalesce(s.first_seen_at, now()),
           p_entity.source_table, p_entity.target_table, m.entity_uuid, p_execution,
           i.retry, case when not i.settled then sync.next_attempt(i.retry, coalesce(s.attempts, 0) + 1) end,
           case when i.settled then 'target_wins'::public.conflict_resolution_strategy end,
           case when i.settled then now() end, case when i.settled then 'policy' end, i.settled
      from pg_temp.page_issues i
      left join superseded s on s.source_record_id = i.k
      left join public.uuid_mappings_enhanced m
        on m.source_id = p_entity.source_id and m.entity_type = p_entity.entity_type and m.legacy_id = i.k
     where not exists (select from pg_temp.page_queued q where q.k = i.k)
     order by i.k
    returning id, source_record_id as k)
  insert into pg_temp.page_queued select id, k, true from added;

  insert into public.sync_conflict_values as v (conflict_id, seen, source, target, "left", record)
  select q.id, i.evidence -> 'seen', i.evidence -> 'source', i.evidence -> 'target', i.evidence -> 'left', nullif(i.evidence -> 'record', 'null')
    from pg_temp.page_queued q join pg_temp.page_issues i on i.k = q.k where i.evidence is not null and not i.settled
  on conflict (conflict_id) do update set record = excluded.record;

  -- Two records may hold what the other one is to get: read together, they can change places.
  insert into public.sync_pending_keys (entity_id, legacy_id, reason)
  select p_entity.id, k, 'clash' from sync.clash_keys(array(select q.k from pg_temp.page_queued q where q.added)) k order by k
  on conflict (entity_id, legacy_id) do update set generation = default, requested_at = now(), gone = false;
end
$$;
comment on function sync.queue_records(public.sync_entities, uuid) is
  'Puts the records of pg_temp.page_issues into sync_conflicts.';

create function sync.clash_keys(p_new bigint[]) returns setof bigint
language plpgsql stable security invoker set search_path = pg_catalog, pg_temp as $$
begin
  return query
  select i.k from pg_temp.page_issues i where i.k = any (p_new) and i.retry = 'clash'
  union
  select h.k from pg_temp.page_issues i cross join lateral (select (i.data #>> '{clashes_with,legacy_id}')::bigint as k) h
   where i.k = any (p_new) and i.retry = 'clash' and h.k is not null;
end
$$;
comment on function sync.clash_keys(bigint[]) is
  'Of records that a page puts into the queue anew, those that clash for a unique value, with the records that hold it.';

create function sync.retry_due(p_source_id smallint) returns bigint
language sql security invoker set search_path = pg_catalog, pg_temp as $$
  with due as (
    insert into public.sync_pending_keys (entity_id, legacy_id, reason)
    select c.entity_id, c.source_record_id, 'retried'
      from public.sync_conflicts c join public.sync_entities e on e.id = c.entity_id and e.source_id = p_source_id
     where c.state = 'open' and c.next_attempt_at <= now()
     order by c.entity_id, c.source_record_id
    on conflict (entity_id, legacy_id) do nothing
    returning 1)
  select count(*) from due
$$;
comment on function sync.retry_due(smallint) is 'Asks for the records whose next attempt is due to be read again.';

create function sync.count_queue(p_source_id smallint) returns void
language sql security invoker set search_path = pg_catalog, pg_temp as $$
  delete from public.sync_queue_counts q using public.sync_entities e where e.id = q.entity_id and e.source_id = p_source_id;
  insert into public.sync_queue_counts (entity_id, entity_type, state, conflict_type, retry_class, records, oldest_at, next_attempt_at)
  select c.entity_id, c.entity_type, c.state, c.conflict_type, c.retry_class, count(*), min(c.first_seen_at), min(c.next_attempt_at)
    from public.sync_conflicts c join public.sync_entities e on e.id = c.entity_id and e.source_id = p_source_id
   where c.state in ('waiting', 'open') group by 1, 2, 3, 4, 5;
$$;
comment on function sync.count_queue(smallint) is 'Counts the queue for those who may not see its records.';

create function sync.alert_old_records(p_source_id smallint, p_hours integer) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_old record;
begin
  for v_old in
    select e.id as entity_id, e.entity_type, coalesce(sum(q.records) filter (where q.oldest_at < now() - make_interval(hours => p_hours)), 0) as n,
           min(q.oldest_at) as oldest_at
      from public.sync_entities e left join public.sync_queue_counts q on q.entity_id = e.id
     where e.source_id = p_source_id group by 1, 2
  loop
    if v_old.n > 0 then
      insert into public.sync_alerts as a (kind, severity, source_id, entity_id, message, details)
      values ('queue_old', 'warning', p_source_id, v_old.entity_id,
              format('Records of %s have been in the queue for more than %s hours.', v_old.entity_type, p_hours),
              jsonb_build_object('oldest_at', v_old.oldest_at))
      on conflict (kind, entity_id) where closed_at is null do update
         set occurrences = a.occurrences + 1, last_seen_at = now(), message = excluded.message, details = excluded.details;
    else
      update public.sync_alerts set closed_at = now() where kind = 'queue_old' and entity_id = v_old.entity_id and closed_at is null;
    end if;
  end loop;
end
$$;
comment on function sync.alert_old_records(smallint, integer) is 'Raises the alert queue_old for entities with records that have been in the queue for so long, and closes it for the others.';

create function sync.replay(p_entity_type text default null, p_rule text default null, p_type public.conflict_type_enum default null) returns bigint
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_count bigint;
begin
  insert into public.sync_pending_keys (entity_id, legacy_id, reason)
  select entity_id, source_record_id, 'replayed'
    from public.sync_conflicts
   where state in ('waiting', 'open')
     and entity_type = coalesce(p_entity_type, entity_type) and rule = coalesce(p_rule, rule) and conflict_type = coalesce(p_type, conflict_type)
   order by entity_id, source_record_id
  on conflict (entity_id, legacy_id) do update set generation = default, requested_at = now(), gone = false;
  get diagnostics v_count = row_count;
  return v_count;
end
$$;
comment on function sync.replay(text, text, public.conflict_type_enum) is
  'Has records of the queue read again now, all or some: of one entity, stopped by one rule, of one type. Returns how many; the next tick reads them. For the SQL editor, and npm run sync -- replay.';

create function sync.release_waiting(p_source_id smallint) returns bigint
language sql security invoker set search_path = pg_catalog, pg_temp as $$
  with released as (
    insert into public.sync_pending_keys (entity_id, legacy_id, reason)
    select c.entity_id, c.source_record_id, 'released'
      from public.sync_conflicts c
      join public.sync_entities parent on parent.id = c.parent_entity_id and parent.source_id = p_source_id
      -- One index probe per waiting record, whatever the planner thinks of a table that has just grown.
      cross join lateral (
        select from public.uuid_mappings_enhanced m
         where m.source_id = parent.source_id and m.entity_type = parent.entity_type
           and m.legacy_id = c.parent_legacy_id and m.sync_status = 'active'
         limit 1) landed
     where c.state = 'waiting'
       -- A key that a page is about to settle is not waited for: that page may be waiting for a lock of ours.
       and not exists (select from public.sync_pending_keys k where k.entity_id = c.entity_id and k.legacy_id = c.source_record_id)
     order by c.entity_id, c.source_record_id
    on conflict (entity_id, legacy_id) do nothing
    returning 1
  )
  select count(*) from released
$$;
comment on function sync.release_waiting(smallint) is
  'Asks for every waiting record whose parent has landed to be read again. A query, not a signal: safe to run at any time.';

create function sync.record_warnings(p_entity_id smallint, p_execution uuid, p_warnings jsonb) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  delete from public.sync_warnings w
   using pg_temp.page_plan p
   where w.entity_id = p_entity_id and w.legacy_id = p.legacy_id and p.action in ('insert', 'update', 'unchanged', 'delete', 'soft')
     and not exists (select from jsonb_to_recordset(p_warnings) as x (k bigint, rule text) where x.k = w.legacy_id and x.rule = w.rule);
  insert into public.sync_warnings as w (entity_id, legacy_id, rule, execution_id)
  select distinct p_entity_id, x.k, x.rule, p_execution
    from jsonb_to_recordset(p_warnings) as x (k bigint, rule text)
    join pg_temp.page_plan p on p.legacy_id = x.k and p.action in ('insert', 'update', 'unchanged')
   order by x.k, x.rule
  on conflict (entity_id, legacy_id, rule) do update set last_seen_at = now(), execution_id = excluded.execution_id;
end
$$;
comment on function sync.record_warnings(smallint, uuid, jsonb) is
  'Notes which records of a page have landed although they break a rule, and forgets those that no longer do.';

revoke all on function sync.collect_issues(public.sync_entities, jsonb), sync.next_attempt(text, integer), sync.queue_records(public.sync_entities, uuid),
  sync.clash_keys(bigint[]), sync.retry_due(smallint), sync.count_queue(smallint), sync.alert_old_records(smallint, integer),
  sync.replay(text, text, public.conflict_type_enum), sync.release_waiting(smallint),
  sync.record_warnings(smallint, uuid, jsonb) from public;
grant execute on function sync.collect_issues(public.sync_entities, jsonb), sync.next_attempt(text, integer), sync.queue_records(public.sync_entities, uuid),
  sync.clash_keys(bigint[]), sync.retry_due(smallint), sync.count_queue(smallint), sync.alert_old_records(smallint, integer),
  sync.replay(text, text, public.conflict_type_enum), sync.release_waiting(smallint),
  sync.record_warnings(smallint, uuid, jsonb) to isthmus_worker;

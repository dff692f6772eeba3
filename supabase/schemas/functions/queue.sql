-- Purpose: put records into the queue.
-- Locks:   row locks on sync_conflicts and sync_pending_keys.

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
    from (select k, case when rule = 'target_deleted' and p_entity.conflicts ->> 'deleted' = 'target_wins'
                              and (select c.rule from public.sync_conflicts c
                                    where c.entity_id = p_entity.id and c.source_record_id = k and c.state = 'open' limit 1) is distinct from rule
                              then 'of deleted rows'
                         when state = 'open' and type <> 'concurrent_modification' and rule <> 'deleted_in_source'
                              and p_entity.conflicts -> 'types' ->> type::text = 'target_wins' then 'of the type ' || type end as name
            from pg_temp.page_issues) p
   where p.k = i.k and (p.name is not null or (
           -- One index probe per record, whatever the planner thinks.
           select c.id from public.sync_conflicts c
            where c.entity_id = p_entity.id and c.source_record_id = i.k and c.standing and c.source_digest is not distinct from i.digest
              and (c.conflict_type, c.rule) = (i.type, i.rule) and c.field is not distinct from i.field limit 1) is not null);
  create index on pg_temp.page_issues (k);
  analyze pg_temp.page_issues (k, state, rule, retry);
end
$$;
comment on function sync.collect_issues(public.sync_entities, jsonb) is
  'What stops records of a page, into pg_temp.page_issues: [{k, state, type, field, rule, policy, retry, remedy, '
  'data, evidence, parent, parentId, digest}]; evidence: {seen, source, target, left, record}.';

create function sync.next_attempt(p_class text, p_attempts integer) returns timestamptz
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  -- Whether somebody has changed a constraint or trigger nobody tells: after 5 minutes, then twice as long each time,
  -- up to a day.
  select case when p_class in ('target', 'clash') then now() + least(interval '1 day', interval '5 minutes' * 2 ^ least(p_attempts - 1, 20)) end
$$;
comment on function sync.next_attempt(text, integer) is
  'When a record is read again though nothing told that its cause is gone; null: only when something tells.';

create function sync.enter_queue(p_entity_id smallint) returns void
language sql security invoker set search_path = pg_catalog, pg_temp as $$
  select pg_advisory_xact_lock_shared('public.sync_conflicts'::regclass::oid::integer, p_entity_id)
$$;
comment on function sync.enter_queue(smallint) is
  'Said by a page before it opens rows of the queue, which nobody sees until its commit: no decision is put back '
  'meanwhile (sync.check_decision).';

create function sync.waits_for(p_entity_id smallint, p_dry_run uuid, p_legacy_id bigint) returns bigint
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select w.next
    from (select 1 as rank, case when r.outcome = 'in_conflict' then r.clashes_with
                                 when r.outcome = 'waiting' and r.parent_entity_id = p_entity_id then r.parent_legacy_id end as next
            from public.sync_planned_records r
           where r.execution_id = p_dry_run and r.entity_id = p_entity_id and r.legacy_id = p_legacy_id
          union all
          select 2, case when c.state = 'open' then (c.conflict_data #>> '{clashes_with,legacy_id}')::bigint
                         when c.parent_entity_id = p_entity_id then c.parent_legacy_id end
            from public.sync_conflicts c
           where c.entity_id = p_entity_id and c.source_record_id = p_legacy_id and c.state in ('waiting', 'open')
             and (c.state = 'waiting' or c.retry_class = 'clash')) w
   order by w.rank limit 1
$$;
comment on function sync.waits_for(smallint, uuid, bigint) is
  'The record of the same entity that a record of the queue waits for: its parent, or the one that holds its unique '
  'value. Null: none. p_dry_run: as this dry run has planned it.';

create function sync.queue_rows(p_entity_id smallint, p_legacy_ids bigint[]) returns uuid[]
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  -- One index probe per record, whatever the planner thinks: a page must not cost more when the queue is long.
  select coalesce(array_agg(c.id), '{}')
    from unnest(p_legacy_ids) k
    cross join lateral (
      select c.id from public.sync_conflicts c
       where c.entity_id = p_entity_id and c.source_record_id = k and c.state in ('waiting', 'open')
      union all
      select c.id from public.sync_conflicts c where c.entity_id = p_entity_id and c.source_record_id = k and c.standing
      offset 0) c
$$;
comment on function sync.queue_rows(smallint, bigint[]) is
  'The rows of the queue that are live or stand for these records of an entity.';

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
  'Of records that a page puts into the queue anew, those that clash for a unique value, with the records that hold '
  'it.';

create function sync.ask_for_circles(p_entity public.sync_entities, p_dry_run uuid, p_new bigint[], p_longest integer) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp set plan_cache_mode = force_custom_plan as $$
declare
  v_keys   bigint[];
  v_next   integer[];
  v_circle bigint[];
  v_too_long text;
begin
  -- A circle closes with the record that comes into the queue last. What is followed is bounded, as a circle that a
  -- page takes is.
  with recursive met as (
    select k from unnest(p_new) k
    union
    select w.next from met cross join lateral sync.waits_for(p_entity.id, p_dry_run, met.k) w (next) where w.next is not null
  ), numbered as materialized (
    select m.k, w.next, (row_number() over ())::integer as i
      from (select k from met limit cardinality(p_new) + 100000) m cross join lateral sync.waits_for(p_entity.id, p_dry_run, m.k) w (next))
  select array_agg(n.k order by n.i), array_agg(t.i order by n.i) into v_keys, v_next
    from numbered n left join numbered t on t.k = n.next;
  if v_keys is null then
    return;
  end if;
  for v_circle in select array(select v_keys[x] from unnest(c) x) from sync.circles(v_next) c loop
    v_too_long := case when cardinality(v_circle) > p_longest then
      format('%s records wait for each other in a circle, and a page takes at most %s such records: change one of them in the source, or raise the page size.',
             cardinality(v_circle), p_longest) end;
    if v_too_long is not null and p_dry_run is not null then
      update public.sync_planned_records r set remedy = v_too_long
       where r.execution_id = p_dry_run and r.entity_id = p_entity.id and r.legacy_id = any (v_circle) and r.outcome in ('waiting', 'in_conflict');
    elsif v_too_long is not null then
      update public.sync_conflicts c set remedy = v_too_long
       where c.id = any (sync.queue_rows(p_entity.id, v_circle)) and c.state in ('waiting', 'open');
    else
      insert into public.sync_pending_keys (execution_id, entity_id, legacy_id, reason, circle)
      select p_dry_run, p_entity.id, k, 'circle', (select min(x) from unnest(v_circle) x) from unnest(v_circle) k order by k
      on conflict (entity_id, execution_id, legacy_id) do update
        set generation = default, requested_at = now(), gone = false, circle = excluded.circle;
    end if;
  end loop;
end
$$;
comment on function sync.ask_for_circles(public.sync_entities, uuid, bigint[], integer) is
  'Asks for the records that wait for each other in a circle, for their parent or for a unique value, to be read in '
  'one page: the circles that the records p_new have closed. p_longest: how many records a page takes. p_dry_run: '
  'the dry run that asks.';

create function sync.queue_records(p_entity public.sync_entities, p_execution uuid, p_page_size integer) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_known   uuid[];
  v_changed bigint[];
begin
  if not exists (select from pg_temp.page_issues) then
    return;
  end if;
  perform sync.enter_queue(p_entity.id);
  perform sync.name_causes();
  v_known := sync.queue_rows(p_entity.id, array(select k from pg_temp.page_issues order by k));
  v_changed := array(
    select c.source_record_id from public.sync_conflicts c join pg_temp.page_issues i on i.k = c.source_record_id
     where c.id = any (v_known) and c.state = 'waiting' and i.state = 'waiting' and c.conflict_data -> 'cause' is distinct from i.data -> 'cause');
  -- The same trouble again: one more attempt. Another one: the old row is superseded, the new one carries on.
  create temp table page_queued on commit drop as
  with same as (
    update public.sync_conflicts c
       set attempts = c.attempts + 1, last_seen_at = now(), source_digest = i.digest,
           -- What was found out about a circle stays while the record waits in it.
           remedy = case when c.conflict_data = coalesce(i.data, '{}') and coalesce(i.data #>> '{cause,kind}', 'circle') = 'circle' then c.remedy else i.remedy end, conflict_data = coalesce(i.data, '{}'),
           policy = coalesce(i.policy, c.policy), retry_class = i.retry, next_attempt_at = sync.next_attempt(i.retry, c.attempts + 1)
      from pg_temp.page_issues i
     where c.id = any (v_known) and c.source_record_id = i.k
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
   where c.id = any (v_known) and c.source_record_id = i.k and c.standing
     and not exists (select from pg_temp.page_queued s where s.id = c.id);

  with superseded as (
    update public.sync_conflicts c
       set state = 'superseded', next_attempt_at = null
      from pg_temp.page_issues i
     where c.id = any (v_known) and c.source_record_id = i.k and c.state in ('waiting', 'open')
       and not exists (select from pg_temp.page_queued s where s.id = c.id)
    returning c.source_record_id, c.attempts, c.first_seen_at, c.decisions, c.asked
  ), added as (
    insert into public.sync_conflicts
      (state, entity_id, entity_type, source_record_id, conflict_type, field, rule, policy, remedy, conflict_data, differences,
       parent_entity_id, parent_legacy_id, source_digest, attempts, decisions, asked, first_seen_at, source_table, target_table, target_record_id,
       execution_id, retry_class, next_attempt_at, resolution_strategy, resolved_at, resolved_by, standing)
    select case when i.settled then 'resolved' else i.state end, p_entity.id, p_entity.entity_type, i.k, i.type, i.field, i.rule, i.policy, i.remedy,
           coalesce(i.data, '{}'),
           case when i.evidence ? 'target' then
             sync.differences(p_entity.columns, sync.unlisted(i.field), i.evidence -> 'seen', i.evidence -> 'source', i.evidence -> 'target', true) end,
           i.parent_entity_id, i."parentId", i.digest, coalesce(s.attempts, 0) + 1, coalesce(s.decisions, 0),
           -- What stops the record now answers no question about its fields.
           case when i.rule = 'both_changed' then sync.unlisted(i.field) else coalesce(s.asked, '{}') end, coalesce(s.first_seen_at, now()),
           p_entity.source_table, p_entity.target_table, m.entity_uuid, p_execution,
           i.retry, case when not i.settled then sync.next_attempt(i.retry, coalesce(s.attempts, 0) + 1) end,
           case when i.settled then 'target_wins'::public.conflict_resolution_strategy end,
           case when i.settled then now() end, case when i.settled then 'policy' end, i.settled
      from pg_temp.page_issues i
      left join superseded s on s.source_record_id = i.k
      left join lateral (
        select m.entity_uuid from public.uuid_mappings_enhanced m
         where m.source_id = p_entity.source_id and m.entity_type = p_entity.entity_type and m.legacy_id = i.k limit 1) m on true
     where not exists (select from pg_temp.page_queued q where q.k = i.k)
     order by i.k
    returning id, source_record_id as k)
  insert into pg_temp.page_queued select id, k, true from added;

  insert into public.sync_conflict_values as v (conflict_id, seen, source, target, "left", record)
  select q.id, i.evidence -> 'seen', i.evidence -> 'source', i.evidence -> 'target', i.evidence -> 'left', nullif(i.evidence -> 'record', 'null')
    from pg_temp.page_queued q join pg_temp.page_issues i on i.k = q.k where i.evidence is not null and not i.settled
  on conflict (conflict_id) do update set record = excluded.record;

  -- Two records may hold what the other one is to get: read together, they can change places. Once in an execution:
  -- beside the one that holds the value, a record of a circle lacks its parent, beside the parent the value, and so
  -- on without an end.
  insert into public.sync_pending_keys (entity_id, legacy_id, reason)
  select p_entity.id, k, 'clash'
    from sync.clash_keys(array(
      select q.k from pg_temp.page_queued q join pg_temp.page_issues i on i.k = q.k
       where q.added
         and not exists (
           select from public.sync_conflicts c
            where c.entity_id = p_entity.id and c.source_record_id = q.k and c.state = 'superseded' and c.execution_id = p_execution
              and c.conflict_data #> '{clashes_with,legacy_id}' = i.data #> '{clashes_with,legacy_id}'))) k
   order by k
  on conflict (entity_id, execution_id, legacy_id) do update set generation = default, requested_at = now(), gone = false;
  v_changed := v_changed || array(select sync.name_causes_of_relatives(p_entity.id));
  perform sync.ask_for_circles(p_entity, null, array(select q.k from pg_temp.page_queued q where q.added order by q.k), 10 * p_page_size);
  perform sync.note_changed_causes(p_entity.id, v_changed || array(select q.k from pg_temp.page_queued q where q.added));
end
$$;
comment on function sync.queue_records(public.sync_entities, uuid, integer) is
  'Puts the records of pg_temp.page_issues into sync_conflicts. p_page_size: of the chain.';

create function sync.lock_queued(p_entity_id smallint, p_legacy_ids bigint[]) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp set plan_cache_mode = force_custom_plan as $$
declare
  v_queued uuid[] := sync.queue_rows(p_entity_id, p_legacy_ids);
begin
  -- Of none the planner would look through the whole queue.
  if v_queued <> '{}' then
    -- Before the target rows: whoever decides on a record has its row here first, and then wants the target row.
    perform from (
      select from public.sync_conflicts c
       -- As text, so that no index of all live rows can serve: the rows are found by their ids.
       where c.id = any (v_queued) and (c.state::text in ('waiting', 'open') or c.standing)
       order by c.source_record_id, c.id for no key update) held;
  end if;
end
$$;
comment on function sync.lock_queued(smallint, bigint[]) is
  'Locks what the queue has of a page''s records: a decision under way is waited for, and one that follows sees what '
  'the page has done.';

revoke all on function sync.enter_queue(smallint), sync.queue_rows(smallint, bigint[]),
  sync.ask_for_circles(public.sync_entities, uuid, bigint[], integer), sync.waits_for(smallint, uuid, bigint),
  sync.collect_issues(public.sync_entities, jsonb), sync.next_attempt(text, integer), sync.queue_records(public.sync_entities, uuid, integer),
  sync.clash_keys(bigint[]), sync.lock_queued(smallint, bigint[]) from public;
grant execute on function sync.enter_queue(smallint), sync.queue_rows(smallint, bigint[]),
  sync.ask_for_circles(public.sync_entities, uuid, bigint[], integer), sync.waits_for(smallint, uuid, bigint),
  sync.collect_issues(public.sync_entities, jsonb), sync.next_attempt(text, integer), sync.queue_records(public.sync_entities, uuid, integer),
  sync.clash_keys(bigint[]), sync.lock_queued(smallint, bigint[]) to isthmus_worker;

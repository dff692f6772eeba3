-- Purpose: take landed records out of the queue, release what waited for them, and tell what has stood there for long.
-- Locks:   row locks on sync_conflicts and sync_pending_keys.

create function sync.retry_due(p_source_id smallint) returns bigint
language sql security invoker set search_path = pg_catalog, pg_temp as $$
  with due as (
    insert into public.sync_pending_keys (entity_id, legacy_id, reason)
    select c.entity_id, c.source_record_id, 'retried'
      from public.sync_conflicts c join public.sync_entities e on e.id = c.entity_id and e.source_id = p_source_id
     where c.state = 'open' and c.next_attempt_at <= now()
     order by c.entity_id, c.source_record_id
    on conflict (entity_id, execution_id, legacy_id) do nothing
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
      perform sync.raise_alert('queue_old', 'warning', p_source_id, null, v_old.entity_id,
        format('Records of %s have been in the queue for more than %s hours.', v_old.entity_type, p_hours), jsonb_build_object('oldest_at', v_old.oldest_at));
    else
      perform sync.close_alerts(array(select id from public.sync_alerts where kind = 'queue_old' and entity_id = v_old.entity_id and closed_at is null));
    end if;
  end loop;
end
$$;
comment on function sync.alert_old_records(smallint, integer) is
  'Raises the alert queue_old for entities with records that have been in the queue for so long, and closes it for '
  'the others.';

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
  on conflict (entity_id, execution_id, legacy_id) do update set generation = default, requested_at = now(), gone = false;
  get diagnostics v_count = row_count;
  return v_count;
end
$$;
comment on function sync.replay(text, text, public.conflict_type_enum) is
  'Has records of the queue read again now, all or some: of one entity, stopped by one rule, of one type. Returns '
  'how many; the next tick reads them. For the SQL editor, and npm run sync -- replay.';

create function sync.release_waiting(p_source_id smallint) returns bigint
language plpgsql security invoker set search_path = pg_catalog, pg_temp set plan_cache_mode = force_custom_plan as $$
declare
  -- A chain that ends asks for the next ones, and every tick does.
  c_at_once constant bigint := 10000;
  v_entity  public.sync_entities;
  v_count   bigint;
  v_total   bigint := 0;
begin
  -- The entities that a record waits for, from one to the next: mostly there is none.
  for v_entity in
    with recursive waited as (
      (select c.parent_entity_id as id from public.sync_conflicts c where c.state = 'waiting' order by c.parent_entity_id limit 1)
      union all
      select (select c.parent_entity_id from public.sync_conflicts c
               where c.state = 'waiting' and c.parent_entity_id > w.id order by c.parent_entity_id limit 1)
        from waited w where w.id is not null)
    select e.* from waited w join public.sync_entities e on e.id = w.id where e.source_id = p_source_id order by e.id
  loop
    insert into public.sync_pending_keys (entity_id, legacy_id, reason)
    select r.entity_id, r.source_record_id, 'released'
      from (
        -- From one parent to the next: of 200,000 records that wait for one parent only those are looked at that are
        -- released.
        with recursive parent as (
          (select c.parent_legacy_id as id from public.sync_conflicts c
            where c.state = 'waiting' and c.parent_entity_id = v_entity.id order by c.parent_legacy_id limit 1)
          union all
          select (select c.parent_legacy_id from public.sync_conflicts c
                   where c.state = 'waiting' and c.parent_entity_id = v_entity.id and c.parent_legacy_id > p.id order by c.parent_legacy_id limit 1)
            from parent p where p.id is not null)
        select w.entity_id, w.source_record_id
          from parent p
          cross join lateral (
            select from public.uuid_mappings_enhanced m
             where m.source_id = v_entity.source_id and m.entity_type = v_entity.entity_type and m.legacy_id = p.id and m.sync_status = 'active'
             limit 1) landed
          cross join lateral (
            select c.entity_id, c.source_record_id from public.sync_conflicts c
             where c.state = 'waiting' and c.parent_entity_id = v_entity.id and c.parent_legacy_id = p.id
               -- A key that a page is about to settle is not waited for: that page may be waiting for a lock of ours.
               and (select k.legacy_id from public.sync_pending_keys k
                     where k.execution_id is null and k.entity_id = c.entity_id and k.legacy_id = c.source_record_id) is null
             offset 0) w
         limit c_at_once - v_total) r
     order by r.entity_id, r.source_record_id
    on conflict (entity_id, execution_id, legacy_id) do nothing;
    get diagnostics v_count = row_count;
    v_total := v_total + v_count;
    exit when v_total >= c_at_once;
  end loop;
  return v_total;
end
$$;
comment on function sync.release_waiting(smallint) is
  'Asks for waiting records whose parent has landed to be read again, at most 10,000 of them. A query, not a signal: '
  'safe to run at any time.';

create function sync.record_warnings(p_entity_id smallint, p_execution uuid, p_warnings jsonb) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  create temp table page_warnings on commit drop as
  select distinct x.k, x.rule from jsonb_to_recordset(p_warnings) as x (k bigint, rule text)
  union
  select o.legacy_id, 'written_otherwise: ' || o.field from sync.page_otherwise() o;
  delete from public.sync_warnings w
   where w.entity_id = p_entity_id
     and w.legacy_id = any (array(select p.legacy_id from pg_temp.page_plan p where p.action in ('insert', 'update', 'unchanged', 'review', 'delete', 'soft')))
     and not exists (select from pg_temp.page_warnings x where x.k = w.legacy_id and x.rule = w.rule);
  insert into public.sync_warnings as w (entity_id, legacy_id, rule, execution_id)
  select p_entity_id, x.k, x.rule, p_execution
    from pg_temp.page_warnings x
    join pg_temp.page_plan p on p.legacy_id = x.k and p.action in ('insert', 'update', 'unchanged', 'review')
   order by x.k, x.rule
  on conflict (entity_id, legacy_id, rule) do update set last_seen_at = now(), execution_id = excluded.execution_id;
end
$$;
comment on function sync.record_warnings(smallint, uuid, jsonb) is
  'Notes which records of a page have landed although they break a rule, or otherwise than they were written, and '
  'forgets those that no longer do.';

revoke all on function sync.retry_due(smallint), sync.count_queue(smallint), sync.alert_old_records(smallint, integer),
  sync.replay(text, text, public.conflict_type_enum), sync.release_waiting(smallint), sync.record_warnings(smallint, uuid, jsonb) from public;
grant execute on function sync.retry_due(smallint), sync.count_queue(smallint), sync.alert_old_records(smallint, integer),
  sync.replay(text, text, public.conflict_type_enum), sync.release_waiting(smallint), sync.record_warnings(smallint, uuid, jsonb) to isthmus_worker;

-- Purpose: put records into the queue, take landed ones out of it, and release what waited for them.
-- Locks:   row locks on sync_conflicts and sync_pending_keys.
-- Reverse: drop the functions.

create function sync.collect_issues(p_entity public.sync_entities, p_issues jsonb) returns void
language plpgsql security invoker set search_path = '' as $$
begin
  create temp table page_issues on commit drop as
  select i.*, parent.id as parent_entity_id
    from jsonb_to_recordset(p_issues) as i (
           k bigint, state public.sync_conflict_state, type public.conflict_type_enum, field text, rule text,
           remedy text, data jsonb, parent text, "parentId" bigint, digest bigint)
    left join public.sync_entities parent
      on parent.source_id = p_entity.source_id and parent.entity_type = i.parent;

  -- Which of several target rows is the record is decided first, whatever else is wrong with it.
  update pg_temp.page_issues i
     set state = 'open', type = 'uuid_mapping_conflict', field = null, rule = 'adoption.ambiguous', parent = null,
         "parentId" = null, parent_entity_id = null, data = jsonb_build_object('candidates', a.candidates),
         remedy = 'Target rows share this legacy id. Choose the record: select sync.adopt_as(<id of this entry>, <id of the row>). Or correct the rows and adopt again.'
    from (select legacy_id, jsonb_agg(jsonb_build_object('id', id, 'claimed_by', claimed_by) order by id) as candidates
            from public.sync_adoption_rows
           where entity_id = p_entity.id and undecided and legacy_id in (select k from pg_temp.page_issues) group by legacy_id) a
   where a.legacy_id = i.k;
end
$$;
comment on function sync.collect_issues(public.sync_entities, jsonb) is
  'What stops records of a page, into pg_temp.page_issues: [{k, state, type, field, rule, remedy, data, parent, parentId, digest}].';

create function sync.queue_records(p_entity public.sync_entities, p_execution uuid) returns void
language plpgsql security invoker set search_path = '' as $$
begin
  -- The same trouble again: one more attempt. Another one: the old row is superseded, the new one carries on.
  update public.sync_conflicts c
     set attempts = c.attempts + 1, last_seen_at = now(), source_digest = i.digest, remedy = i.remedy, conflict_data = coalesce(i.data, '{}')
    from pg_temp.page_issues i
   where c.entity_id = p_entity.id and c.source_record_id = i.k and c.state = i.state
     and c.conflict_type = i.type and c.rule = i.rule and c.field is not distinct from i.field
     and c.parent_entity_id is not distinct from i.parent_entity_id
     and c.parent_legacy_id is not distinct from i."parentId";

  with superseded as (
    update public.sync_conflicts c
       set state = 'superseded'
      from pg_temp.page_issues i
     where c.entity_id = p_entity.id and c.source_record_id = i.k and c.state in ('waiting', 'open')
       and (c.state, c.conflict_type, c.rule) is distinct from (i.state, i.type, i.rule)
        or c.entity_id = p_entity.id and c.source_record_id = i.k and c.state in ('waiting', 'open')
       and (c.field, c.parent_entity_id, c.parent_legacy_id)
           is distinct from (i.field, i.parent_entity_id, i."parentId")
    returning c.source_record_id, c.attempts, c.first_seen_at
  )
  insert into public.sync_conflicts
    (state, entity_id, entity_type, source_record_id, conflict_type, field, rule, remedy, conflict_data,
     parent_entity_id, parent_legacy_id, source_digest, attempts, first_seen_at, source_table, target_table, target_record_id,
     execution_id)
  select i.state, p_entity.id, p_entity.entity_type, i.k, i.type, i.field, i.rule, i.remedy, coalesce(i.data, '{}'),
         i.parent_entity_id, i."parentId", i.digest, coalesce(s.attempts, 0) + 1, coalesce(s.first_seen_at, now()),
         p_entity.source_table, p_entity.target_table, m.entity_uuid, p_execution
    from pg_temp.page_issues i
    left join superseded s on s.source_record_id = i.k
    left join public.uuid_mappings_enhanced m
      on m.source_id = p_entity.source_id and m.entity_type = p_entity.entity_type and m.legacy_id = i.k
   where s.source_record_id is not null
      or not exists (select from public.sync_conflicts c
                      where c.entity_id = p_entity.id and c.source_record_id = i.k and c.state in ('waiting', 'open'))
   order by i.k;
end
$$;
comment on function sync.queue_records(public.sync_entities, uuid) is
  'Puts the records of pg_temp.page_issues into sync_conflicts.';

create function sync.release_waiting(p_source_id smallint) returns bigint
language sql security invoker set search_path = '' as $$
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
language plpgsql security invoker set search_path = '' as $$
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

create function sync.keep_deleted(p_conflict uuid) returns void
language plpgsql security invoker set search_path = '' as $$
declare
  v_conflict public.sync_conflicts;
begin
  select * into v_conflict from public.sync_conflicts where id = p_conflict;
  perform sync.lock_records(v_conflict.entity_id, array[v_conflict.source_record_id]);
  update public.sync_conflicts
     set state = 'resolved', resolved_at = now(), resolved_by = session_user, resolution_strategy = 'target_wins'
   where id = p_conflict and state = 'open' and rule = 'deleted_in_source';
  if not found then
    raise exception 'there is no open entry % about a record that was deleted in the source', p_conflict
      using errcode = 'IS022', hint = 'They are listed by: select * from sync_conflicts where state = ''open'' and rule = ''deleted_in_source''';
  end if;
  insert into public.sync_row_states as s (entity_id, legacy_id, seen, "left", gone_at)
  values (v_conflict.entity_id, v_conflict.source_record_id, '{}', '{}', now())
  on conflict (entity_id, legacy_id) do update set gone_at = now(), source_digest = null;
end
$$;
comment on function sync.keep_deleted(uuid) is
  'A person''s decision: the target row stays although the source no longer has the record. If that returns, it is synced again. For the SQL editor.';

revoke all on function sync.keep_deleted(uuid) from public;
revoke all on function sync.collect_issues(public.sync_entities, jsonb), sync.queue_records(public.sync_entities, uuid), sync.release_waiting(smallint),
  sync.record_warnings(smallint, uuid, jsonb) from public;
grant execute on function sync.collect_issues(public.sync_entities, jsonb), sync.queue_records(public.sync_entities, uuid), sync.release_waiting(smallint),
  sync.record_warnings(smallint, uuid, jsonb) to isthmus_worker;

-- Purpose: what goes to the queue of a page: what the database rejected, and what a person decided before.

create function sync.page_overwritten() returns table (n integer, legacy_id bigint, id uuid, fields text[])
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  return query
  select q.n, q.legacy_id, q.id, array_agg(k order by k)
    from pg_temp.page_plan q cross join lateral jsonb_object_keys(q.written) k
   where (q.action = 'soft' and q.now -> k is distinct from q."left" -> k and (q."left" ? k or q.now -> k <> 'null')
          or q.action in ('update', 'review') and q.decided ->> k = 'overwrite')
   group by q.n, q.legacy_id, q.id;
end
$$;
comment on function sync.page_overwritten() is 'Edits by people that the updates of a page overwrite.';

create function sync.page_rejections(p_entity public.sync_entities, p_dry_run uuid, p_of_request text) returns jsonb
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_table      regclass := to_regclass(format('public.%I', p_entity.target_table));
  v_cancelling text;
  v_unmarking  text;
  v_spent      boolean := sync.tries_spent();
  v_exchange   text := format(' If the two exchange values: this page has tried for others as %s as a page may; it is tried again by itself, these first.', case when sync.time_spent() then 'long' else 'often' end);
begin
  if sync.time_spent() then
    v_exchange := v_exchange || coalesce(format(' Each try looks through what refers to such a row without an index: create one on %s.', sync.unindexed_references(v_table)), '');
  end if;
  if exists (select from pg_temp.page_rejects where sqlstate = 'IS004') then
    v_cancelling := sync.cancelling_triggers(v_table, null);
    v_unmarking := sync.cancelling_triggers(v_table, array(select jsonb_object_keys(p_entity.on_delete -> 'set')));
  end if;
  return coalesce((
    select jsonb_agg(jsonb_build_object(
             'k', p._key, 'state', 'open', 'field', coalesce(j.column_name, l.field),
             'rule', coalesce(j.constraint_name, case when p._leaves and j.sqlstate in ('IS001', 'IS004') then 'left_kept' when j.sqlstate = 'IS004' then 'write_cancelled' else j.sqlstate end),
             'type', case when j.sqlstate = '23503' then 'foreign_key_violation'
                          when j.sqlstate = 'IS002' or j.constraint_name ~ '^uuid_mappings_enhanced_' then 'uuid_mapping_conflict'
                          when j.sqlstate ~ '^(22|54|IS001)' or j.sqlstate ~ '^42' and j.column_name is not null then 'schema_mismatch'
                          else 'business_rule_violation' end,
             'retry', case when p._leaves and j.sqlstate in ('IS001', 'IS004') then 'person' when j.sqlstate = '23505' and j.other is not null then 'clash' else 'target' end,
             'remedy', case when p._leaves then sync.leave_remedy(j.sqlstate, v_unmarking)
                            when j.stuck then format('The record exchanges values of the unique index %s with others (the next is %s), and nothing can stand in for one of them meanwhile: every other value is taken, or the type, a constraint or a trigger refuses it. Make the index a DEFERRABLE constraint, or let one of the records have a free value in the source, sync, and then change it to the last one.',
                                                     j.constraint_name, coalesce('record ' || h.legacy_id, 'another row'))
                            when j.sqlstate = '23505' then coalesce('Record ' || h.legacy_id || ' holds', 'Another target row holds') || ' the same unique value: correct one of the two.'
                              || case when v_spent and j.other is not null then v_exchange else '' end
                            when l.n is not null then l.remedy
                            when j.sqlstate ~ '^(23|44)' then 'The target refuses the record: correct it in the source, or change the constraint.'
                            when j.sqlstate = 'IS001' then 'The target column would cut, round or pad the value, or a trigger changes the number: widen the column, correct the value in the source, or change the trigger. Of a time that its zone skips or has twice, inZone in the entity file says which moment is meant.'
                            when j.sqlstate = 'IS004' then 'The target cancels the write of this record without an error' || coalesce(' (trigger ' || v_cancelling || ')', '') || ': correct the record in the source, or change the trigger.'
                            when j.sqlstate ~ '^22' or j.sqlstate ~ '^42' and j.column_name is not null then 'A value does not fit the target column: correct it in the source, or widen the column.'
                            when j.sqlstate = '54001' then 'A value is nested too deeply for the target' || case when j.column_name is null then ', or a trigger of it calls itself without an end' else '' end
                              || ': correct it in the source, or raise the target''s max_stack_depth.'
                            when j.sqlstate = '54000' then 'A value is too long for an index of the target: shorten it in the source, or change the index.'
                            when j.sqlstate ~ '^42' then 'A trigger, an index or a constraint of the target takes a value for a name or a piece of SQL, and refuses it: correct the record in the source, or change these.'
                            else 'A trigger of the target refuses the record: correct it in the source, or change the trigger.' end,
             'data', jsonb_strip_nulls(jsonb_build_object('sqlstate', j.sqlstate, 'constraint', j.constraint_name, 'parent', l.parent, 'parentId', l.parent_id::text, 'cause', l.cause,
                       'circle', case when j.stuck then 'stuck' when j.sqlstate = '23505' and j.other is not null and v_spent then 'untried' end,
                       'tried', nullif(coalesce(t.tried, 0) + case when j.stuck then 1 else 0 end, 0),
                       'triggers', case when j.sqlstate = 'IS004' then case when p._leaves then v_unmarking else v_cancelling end end, 'leaves', case when p._leaves then true end,
                       'clashes_with', case when j.other is not null then jsonb_build_object('legacy_id', h.legacy_id, 'id', j.other) end)),
             'digest', p._digest))
      from pg_temp.page_rejects j join pg_temp.page_rows p on p.n = j.n
      left join (select distinct on (f.n) f.* from sync.lost_parents(p_entity) f) l on l.n = j.n
      left join lateral (
        select m.legacy_id from public.uuid_mappings_enhanced m
         where m.entity_type = p_entity.entity_type and m.entity_uuid = j.other limit 1) m on true
      left join public.sync_planned_records r on r.execution_id = p_dry_run and r.entity_id = p_entity.id and r.id = j.other
      -- What is told of a circle is told of the pages before, too.
      left join lateral (
        select (c.conflict_data ->> 'tried')::integer as tried from public.sync_conflicts c
         where (j.stuck or v_spent) and j.sqlstate = '23505' and j.other is not null
           and c.entity_id = p_entity.id and c.source_record_id = p._key and c.state = 'open' limit 1) t on true
      cross join lateral (select coalesce(m.legacy_id, r.legacy_id) as legacy_id) h), '[]') || coalesce((
    select jsonb_agg(jsonb_build_object(
             'k', r.k, 'state', 'waiting', 'type', 'foreign_key_violation', 'field', r.field, 'rule', 'parent_missing@1',
             'remedy', format('Waits for %s %s.', p_entity.entity_type, r.parent),
             'data', jsonb_build_object('parent', p_entity.entity_type, 'parentId', r.parent::text),
             'parent', p_entity.entity_type, 'parentId', r.parent, 'digest', p._digest))
      from pg_temp.page_relatives r join pg_temp.page_rows p on p.n = r.n where r.state = 'waits'), '[]') || coalesce((
    select jsonb_agg(jsonb_build_object(
             'k', q.legacy_id, 'state', 'open', 'rule', q.action, 'field', q.fields, 'retry', 'person',
             'type', case when q.action in ('target_unmapped', 'ambiguous') then 'uuid_mapping_conflict'
                          when q.action = 'left_kept' then 'business_rule_violation' else 'concurrent_modification' end,
             'remedy', case q.action when 'target_deleted' then 'Somebody deleted the target row. source_wins: it is written again. target_wins: it stays away.'
                                     when 'target_unmapped' then case when q.now ->> p_entity.legacy_key = q.legacy_id::text
                                       then format('The target row of this record is there, but what the sync knew of the row is gone. Do not remove the row; take it over: npm run sync -- adopt %s.', p_entity.entity_type)
                                       else 'Another target row has the id that this record would get: see which record that row is (its legacy key), and give it another id if it has to stay.' end
                                     else sync.leave_remedy(q.action, null) end,
             'evidence', case q.action when 'target_deleted' then jsonb_build_object('record', q.new)
                                       when 'left_edited' then jsonb_build_object('seen', sync.pick(q.seen, sync.unlisted(q.fields)), 'target', sync.pick(q.now, sync.unlisted(q.fields)), 'left', q."left") end,
             'digest', q.digest))
      from pg_temp.page_plan q where q.action ~ '^(target|left)_' or q.action = 'ambiguous'), '[]') || coalesce((
    select jsonb_agg(jsonb_build_object(
             'k', q.legacy_id, 'state', 'open', 'rule', 'both_changed', 'type', 'concurrent_modification', 'retry', 'person',
             'field', sync.listed(f.names),
             'policy', (select string_agg(x.policy, ', ' order by x.policy) from (select distinct
                          (sync.field_strategies(p_entity, p_of_request) ->> n) || ' ' || sync.strategy_origin(p_entity, p_of_request, n) as policy
                            from unnest(f.names) n) x),
             'remedy', 'Both sides have changed it. source_wins: the old application''s value is written. target_wins: the row stays as it is. merge: the values in resolution_data are written.',
             'evidence', jsonb_build_object('seen', sync.pick(q.seen, f.names), 'source', sync.pick(q.new, f.names), 'target', sync.pick(q.now, f.names),
                           'left', sync.pick(q."left", f.names), 'record', case when p_entity.history = 'hashes' then q.new end),
             'digest', q.digest))
      from pg_temp.page_plan q cross join lateral (select sync.decided_fields(q.decided, 'review') as names) f
     where q.action = 'review'), '[]');
end
$$;
comment on function sync.page_rejections(public.sync_entities, uuid, text) is
  'What the database, the present state of the target or a policy stopped of a page, as issues. p_dry_run, '
  'p_of_request: as for sync.load_records.';

create function sync.keep_decided(p_entity public.sync_entities, p_execution uuid, p_of_request text) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  if not exists (select from pg_temp.page_plan where action in ('update', 'unchanged', 'review', 'soft') and (decided is not null or action = 'soft')) then
    return;
  end if;
  with decided as materialized (
    select gen_random_uuid() as conflict_id, x.*, q.seen, q.new, q.now, q."left", q.digest, q.action
      from (select o.n, o.legacy_id, o.id, 'source_wins'::public.conflict_resolution_strategy as strategy, f.fields
              from sync.page_overwritten() o
              -- About the legacy key nothing is to be decided: it is told by itself.
             cross join lateral (select array_agg(k order by k) as fields from unnest(o.fields) k group by k = p_entity.legacy_key) f
            union all
            select r.n, r.legacy_id, r.id, 'target_wins', sync.decided_fields(r.decided, 'retain') from pg_temp.page_plan r
             where r.action in ('update', 'unchanged', 'review') and r.decided @? '$.* ? (@ == "retain")') x
      join pg_temp.page_plan q on q.n = x.n
     -- A difference that stays is told once.
     where x.strategy <> 'target_wins' or not exists (
             select from public.sync_conflicts c join public.sync_conflict_values v on v.conflict_id = c.id
              where c.entity_id = p_entity.id and c.source_record_id = x.legacy_id and c.rule = 'both_changed'
                and c.resolved_by = 'policy' and c.resolution_strategy = 'target_wins' and c.field = sync.listed(x.fields)
                and v.source = sync.pick(q.new, x.fields) and v.target = sync.pick(q.now, x.fields))
  ), kept as (
    insert into public.sync_conflicts
      (id, state, entity_id, entity_type, source_record_id, conflict_type, field, differences, rule, policy, remedy, conflict_data,
       resolution_strategy, resolved_at, resolved_by, asked, source_table, target_table, target_record_id, execution_id, resolved_in, source_digest)
    select d.conflict_id, 'resolved', p_entity.id, p_entity.entity_type, d.legacy_id, 'concurrent_modification', sync.listed(d.fields),
           sync.differences(p_entity.columns, d.fields, d.seen, d.new, d.now, true), 'both_changed',
           d.strategy || ' ' || sync.strategy_origin(p_entity, p_of_request, d.fields[1]),
           case when p_entity.legacy_key = any (d.fields) then 'Somebody changed the legacy key of the row. It says which record the row is, and was written back: nothing is to be decided.'
                else 'Decided by policy; what was not written is kept. Set another strategy, and it is written instead.' end,
           jsonb_build_object('fields', d.fields), d.strategy, now(), 'policy', d.fields, p_entity.source_table, p_entity.target_table, d.id, p_execution,
           p_execution, d.digest
      from decided d
  )
  insert into public.sync_conflict_values (conflict_id, seen, source, target, "left", after, record)
  select d.conflict_id, sync.pick(d.seen, d.fields), case when d.action <> 'soft' then sync.pick(d.new, d.fields) end, sync.pick(d.now, d.fields),
         sync.pick(d."left", d.fields), case when d.action <> 'soft' then sync.pick(case d.strategy when 'source_wins' then d.new else d.now end, d.fields) end,
         case when p_entity.history = 'hashes' then d.new end
    from decided d;
end
$$;
comment on function sync.keep_decided(public.sync_entities, uuid, text) is
  'What a policy has decided on a page where both sides had changed something: as decided conflicts, with the values '
  'that were not written.';

revoke all on function sync.page_rejections(public.sync_entities, uuid, text), sync.keep_decided(public.sync_entities, uuid, text),
  sync.page_overwritten() from public;
grant execute on function sync.page_rejections(public.sync_entities, uuid, text), sync.keep_decided(public.sync_entities, uuid, text),
  sync.page_overwritten() to isthmus_worker;

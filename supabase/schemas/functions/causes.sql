-- Purpose: what a waiting record waits for in the end: the record at the end of its chain of parents, and what stops
--          that one. And of a record that the target refuses because the row of its parent is gone, which parent that
--          is.
-- Locks:   rows of sync_conflicts that nobody else has locked; the rows of sync_changed_causes.

-- Plans are kept, whatever the tables held when they were made: indexes are probed.
create function sync.cause_of(p_entity_id smallint, p_legacy_id bigint) returns jsonb
language plpgsql stable security invoker set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan set enable_seqscan = off as $$
declare
  -- A longer chain is told as far as it was followed: 5,000 records at the end of chains of 100 would take a page 7 s.
  c_longest constant integer := 30;
  v_met     text[] := '{}';
  v_at      smallint := p_entity_id;
  v_record  bigint := p_legacy_id;
  v_source  smallint;
  v_entity  text;
  v_found   record;
  v_kind    text;
  v_removed boolean;
begin
  loop
    select c.state::text, c.rule, c.remedy, c.parent_entity_id, c.parent_legacy_id into v_found from public.sync_conflicts c
     where c.entity_id = v_at and c.source_record_id = v_record and c.state in ('waiting', 'open');
    v_kind := case when v_found.state = 'open' then 'stopped'
                   when v_found.state = 'waiting' and v_at || ' ' || v_record = any (v_met) then 'circle'
                   when v_found.state = 'waiting' and cardinality(v_met) >= c_longest then 'chain' end;
    exit when v_kind is not null or v_found.state is null;
    v_met := v_met || (v_at || ' ' || v_record);
    v_at := v_found.parent_entity_id;
    v_record := v_found.parent_legacy_id;
  end loop;
  select e.entity_type, e.source_id, e.removed_at is not null into v_entity, v_source, v_removed from public.sync_entities e where e.id = v_at;
  if v_removed and v_kind = 'stopped' then
    v_kind := 'removed';
  end if;
  if v_kind is null then
    select c.rule, null::text as remedy into v_found from public.sync_conflicts c where c.entity_id = v_at and c.source_record_id = v_record and c.standing;
    v_kind := case
      when v_found.rule is not null then 'decided'
      when exists (select from public.uuid_mappings_enhanced m
                    where m.source_id = v_source and m.entity_type = v_entity and m.legacy_id = v_record and m.sync_status = 'active') then 'landed'
      when v_removed then 'removed'
      when exists (select from public.sync_pending_keys k where k.execution_id is null and k.entity_id = v_at and k.legacy_id = v_record and not k.gone) then 'asked'
      else 'missing' end;
  end if;
  return jsonb_strip_nulls(jsonb_build_object('kind', v_kind, 'entity', v_entity, 'legacyId', v_record::text, 'rule', v_found.rule,
    'remedy', case when v_kind = 'stopped' then v_found.remedy end));
end
$$;
comment on function sync.cause_of(smallint, bigint) is
  'What stands at the end of the chain of records that wait for their parents, beginning with this one: {kind, '
  'entity, legacyId, rule, remedy}. kind: stopped (in the queue), decided (kept away by a decision), missing '
  '(neither landed nor in the queue), landed, asked (to be read), removed (its entity is synced no more), circle, or '
  'chain (it goes on).';

create function sync.waits_remedy(p_parent text, p_parent_id bigint, p_cause jsonb) returns text
language sql immutable security invoker set search_path = pg_catalog, pg_temp as $$
  select concat(format('Waits for %s %s', p_parent, p_parent_id),
           case when (p_cause ->> 'entity', p_cause ->> 'legacyId') <> (p_parent, p_parent_id::text)
             then format(', and behind that record for %s %s', p_cause ->> 'entity', p_cause ->> 'legacyId') end,
           case p_cause ->> 'kind'
             when 'stopped' then format(', which is in this queue (%s). %s', p_cause ->> 'rule', p_cause ->> 'remedy')
             when 'decided' then format(', which a decision keeps away (%s): choose another resolution_strategy in that record''s row of the queue, or correct the reference in the source.',
                                        p_cause ->> 'rule')
             when 'removed' then format(', which has not landed, and no entity file has %s any more: take the reference out of the entity file of this record, or bring the other file back.',
                                        p_cause ->> 'entity')
             when 'missing' then format(', which has not landed and is not in this queue. Where the source has no such record, correct the reference there; otherwise read it: npm run sync -- start --ids %s=%s.',
                                        p_cause ->> 'entity', p_cause ->> 'legacyId')
             when 'circle' then ', which waits for this record in turn: such records are read together.'
             when 'chain' then ', which waits itself: see that record in this queue.'
             else ', which has landed or is about to be read. Nothing to do here.' end)
$$;
comment on function sync.waits_remedy(text, bigint, jsonb) is
  'What to do about a record that waits for its parent, given what sync.cause_of says of the parent.';

create function sync.lost_parent_remedy(p_field text, p_parent text, p_parent_id bigint, p_cause jsonb) returns text
language sql immutable security invoker set search_path = pg_catalog, pg_temp as $$
  select format('%s refers to %s %s, whose target row somebody deleted. ', p_field, p_parent, p_parent_id) || case
    -- Of two values of a row that is gone nobody can decide: read, the record asks about its row.
    when p_cause ->> 'kind' = 'stopped' and p_cause ->> 'rule' <> 'both_changed' and (p_cause ->> 'entity', p_cause ->> 'legacyId') = (p_parent, p_parent_id::text)
      then format('That record is in this queue (%s). %s', p_cause ->> 'rule', p_cause ->> 'remedy')
    when p_cause ->> 'kind' = 'decided'
      then format('A decision keeps that record away (%s): choose another resolution_strategy in its row of the queue, or correct the reference in the source.', p_cause ->> 'rule')
    else format('Read that record: npm run sync -- start --ids %s=%s. Its row is written again, or a person is asked, as its entity says of deleted rows. This record is then tried again by itself.',
                p_parent, p_parent_id) end
$$;
comment on function sync.lost_parent_remedy(text, text, bigint, jsonb) is
  'What to do about a record that the target refuses because the row of its parent is gone, given what sync.cause_of '
  'says of the parent.';

create function sync.lost_parents(p_entity public.sync_entities) returns table (n integer, field text, parent text, parent_id bigint, cause jsonb, remedy text)
language plpgsql stable security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_key record;
begin
  for v_key in
    select c.conname, a.attname, f.slot, c.confrelid::regclass as refers_to, e.id, e.entity_type
      from (select distinct j.constraint_name from pg_temp.page_rejects j join pg_temp.page_rows p on p.n = j.n where j.sqlstate = '23503' and not p._leaves) r
      join pg_catalog.pg_constraint c
        on c.contype = 'f' and c.conname = r.constraint_name and c.conrelid = to_regclass(format('public.%I', p_entity.target_table)) and cardinality(c.conkey) = 1
      join pg_catalog.pg_attribute a on a.attrelid = c.conrelid and a.attnum = c.conkey[1]
      join sync.field_slots(p_entity) f on f.name = a.attname
      join pg_catalog.pg_attribute k on k.attrelid = c.confrelid and k.attnum = c.confkey[1] and k.attname = 'id' and k.atttypid = 'uuid'::regtype
      join pg_catalog.pg_class t on t.oid = c.confrelid and t.relnamespace = 'public'::regnamespace
      join public.sync_entities e on e.source_id = p_entity.source_id and e.target_table = t.relname and e.removed_at is null
     where has_column_privilege(c.confrelid, k.attnum, 'select')
  loop
    return query execute format($q$
      with lost as materialized (
        select v.n, m.legacy_id
          from (select j.n, p.%1$I as value from pg_temp.page_rejects j join pg_temp.page_rows p on p.n = j.n
                 where j.sqlstate = '23503' and j.constraint_name = %2$L and not p._leaves offset 0) v
          -- One index probe per record, whatever the planner thinks.
          cross join lateral (select m.legacy_id from public.uuid_mappings_enhanced m
                               where m.entity_type = %3$L and m.entity_uuid = v.value::uuid and m.sync_status = 'active' limit 1) m
         where (select t.id from %4$s t where t.id = v.value::uuid) is null)
      select l.n, %5$L, %3$L, l.legacy_id, r.cause - 'remedy', sync.lost_parent_remedy(%5$L, %3$L, l.legacy_id, r.cause)
        from lost l
        join (select d.legacy_id, sync.cause_of(%6$s::smallint, d.legacy_id) as cause from (select distinct lost.legacy_id from lost offset 0) d offset 0) r
          on r.legacy_id = l.legacy_id
    $q$, v_key.slot, v_key.conname, v_key.entity_type, v_key.refers_to, v_key.attname, v_key.id);
  end loop;
end
$$;
comment on function sync.lost_parents(public.sync_entities) is
  'Of the records in pg_temp.page_rejects that a foreign key refuses, those whose parent has landed and lacks its '
  'row: the field, the parent, what stops that one, and what to do.';

create function sync.name_causes() returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  update pg_temp.page_issues i
     set remedy = sync.waits_remedy(i.parent, i."parentId", w.cause), data = coalesce(i.data, '{}') || jsonb_build_object('cause', w.cause - 'remedy')
    from (select p.parent_entity_id, p."parentId", sync.cause_of(p.parent_entity_id, p."parentId") as cause
            from (select distinct parent_entity_id, "parentId" from pg_temp.page_issues
                   where state = 'waiting' and parent_entity_id is not null and "parentId" is not null offset 0) p) w
   where i.state = 'waiting' and i.parent_entity_id = w.parent_entity_id and i."parentId" = w."parentId";
end
$$;
comment on function sync.name_causes() is
  'Says of the waiting records in pg_temp.page_issues what they wait for in the end.';

create function sync.name_causes_of_relatives(p_entity_id smallint) returns setof bigint
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  return query
  update public.sync_conflicts c
     set remedy = sync.waits_remedy(w.parent, w.parent_id, w.cause), conflict_data = c.conflict_data || jsonb_build_object('cause', w.cause - 'remedy')
    from (select q.id, i.parent, i."parentId" as parent_id, sync.cause_of(p_entity_id, i."parentId") as cause
            from pg_temp.page_issues i join pg_temp.page_queued q on q.k = i.k
           where i.state = 'waiting' and i.parent_entity_id = p_entity_id and i."parentId" in (select k from pg_temp.page_queued) offset 0) w
   where c.id = w.id and c.state = 'waiting' and c.conflict_data -> 'cause' is distinct from w.cause - 'remedy'
  returning c.source_record_id;
end
$$;
comment on function sync.name_causes_of_relatives(smallint) is
  'The same of the records of a page that wait for others of this page, whose entries in the queue have just been '
  'written. Returns those of which something else is told now.';

create function sync.note_changed_causes(p_entity_id smallint, p_legacy_ids bigint[]) returns void
language sql security invoker set search_path = pg_catalog, pg_temp as $$
  insert into public.sync_changed_causes (entity_id, legacy_id)
  select distinct p_entity_id, k
    from unnest(p_legacy_ids) k
    -- One index probe per record, whatever the planner thinks.
    cross join lateral (
      select from public.sync_conflicts c
       where c.state = 'waiting' and c.parent_entity_id = p_entity_id and c.parent_legacy_id = k limit 1) waits
   order by 2
  on conflict (entity_id, legacy_id) do nothing
$$;
comment on function sync.note_changed_causes(smallint, bigint[]) is
  'Of records whose entry in the queue has come, changed or gone, notes those that others wait for.';

create function sync.tell_causes(p_source_id smallint, p_records integer) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp set plan_cache_mode = force_custom_plan as $$
declare
  v_changed record;
  v_cause   jsonb;
  v_remedy  text;
  v_told    uuid[];
  v_total   integer := 0;
  v_waiting bigint[];
  v_entity  smallint;
begin
  -- Those that wait for the records told of here are noted, and come to their turn in this very call.
  while v_total < p_records loop
    select c.entity_id, c.legacy_id, e.entity_type into v_changed
      from public.sync_changed_causes c join public.sync_entities e on e.id = c.entity_id
     where e.source_id = p_source_id order by c.entity_id, c.legacy_id limit 1 for update of c skip locked;
    exit when not found;
    v_cause := sync.cause_of(v_changed.entity_id, v_changed.legacy_id);
    v_remedy := sync.waits_remedy(v_changed.entity_type, v_changed.legacy_id, v_cause);
    -- What a page has locked it is just writing, and tells itself. Of a long circle it was told what it is.
    v_told := array(
      select c.id from public.sync_conflicts c
       where c.state = 'waiting' and c.parent_entity_id = v_changed.entity_id and c.parent_legacy_id = v_changed.legacy_id
         and c.remedy <> v_remedy and v_cause ->> 'kind' <> 'circle'
       limit p_records - v_total for no key update skip locked);
    update public.sync_conflicts c
       set remedy = v_remedy, conflict_data = c.conflict_data || jsonb_build_object('cause', v_cause - 'remedy')
     where c.id = any (v_told);
    for v_entity, v_waiting in
      select c.entity_id, array_agg(c.source_record_id) from public.sync_conflicts c where c.id = any (v_told) group by 1
    loop
      perform sync.note_changed_causes(v_entity, v_waiting);
    end loop;
    -- More may wait for this record: they follow with the next tick.
    exit when cardinality(v_told) = p_records - v_total;
    delete from public.sync_changed_causes where entity_id = v_changed.entity_id and legacy_id = v_changed.legacy_id;
    v_total := v_total + 1 + cardinality(v_told);
  end loop;
end
$$;
comment on function sync.tell_causes(smallint, integer) is
  'Rewrites what waiting records are told to wait for where that has changed, at most so many of them.';

revoke all on function sync.cause_of(smallint, bigint), sync.waits_remedy(text, bigint, jsonb), sync.lost_parent_remedy(text, text, bigint, jsonb),
  sync.lost_parents(public.sync_entities), sync.name_causes(), sync.name_causes_of_relatives(smallint), sync.note_changed_causes(smallint, bigint[]),
  sync.tell_causes(smallint, integer) from public;
grant execute on function sync.cause_of(smallint, bigint), sync.waits_remedy(text, bigint, jsonb),
  sync.lost_parent_remedy(text, text, bigint, jsonb), sync.lost_parents(public.sync_entities), sync.name_causes(),
  sync.name_causes_of_relatives(smallint), sync.note_changed_causes(smallint, bigint[]), sync.tell_causes(smallint, integer) to isthmus_worker;
grant execute on function sync.note_changed_causes(smallint, bigint[]) to isthmus_decisions;

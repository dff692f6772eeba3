-- Purpose: what a waiting record waits for in the end: the record at the end of its chain of parents, and what stops that one.
-- Locks:   rows of sync_conflicts that nobody else has locked; the rows of sync_changed_causes.
-- Reverse: drop the functions, then drop table public.sync_changed_causes.

create table public.sync_changed_causes (
  entity_id smallint not null references public.sync_entities (id) on delete cascade,
  legacy_id bigint not null,
  primary key (entity_id, legacy_id)
);
comment on table public.sync_changed_causes is
  'Records that others wait for, and of which something else is to be told since: the next tick rewrites the remedies of those that wait.';
alter table public.sync_changed_causes enable row level security;
create policy team_reads on public.sync_changed_causes for select to authenticated
  using ((select sync.caller_role()) in ('operator', 'reviewer'));
revoke all on public.sync_changed_causes from anon, authenticated, service_role;
grant select on public.sync_changed_causes to authenticated;
grant select, insert, update, delete on public.sync_changed_causes to isthmus_worker;
grant select, insert on public.sync_changed_causes to isthmus_decisions;

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
      when exists (select from public.sync_pending_keys k where k.entity_id = v_at and k.legacy_id = v_record and not k.gone) then 'asked'
      else 'missing' end;
  end if;
  return jsonb_strip_nulls(jsonb_build_object('kind', v_kind, 'entity', v_entity, 'legacyId', v_record::text, 'rule', v_found.rule,
    'remedy', case when v_kind = 'stopped' then v_found.remedy end));
end
$$;
comment on function sync.cause_of(smallint, bigint) is
  'What stands at the end of the chain of records that wait for their parents, beginning with this one: {kind, entity, legacyId, rule, remedy}. kind: stopped (in the queue), decided (kept away by a decision), missing (neither landed nor in the queue), landed, asked (to be read), removed (its entity is synced no more), circle, or chain (it goes on).';

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
comment on function sync.waits_remedy(text, bigint, jsonb) is 'What to do about a record that waits for its parent, given what sync.cause_of says of the parent.';

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
comment on function sync.name_causes() is 'Says of the waiting records in pg_temp.page_issues what they wait for in the end.';

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
  'The same of the records of a page that wait for others of this page, whose entries in the queue have just been written. Returns those of which something else is told now.';

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

revoke all on function sync.cause_of(smallint, bigint), sync.waits_remedy(text, bigint, jsonb), sync.name_causes(), sync.name_causes_of_relatives(smallint),
  sync.note_changed_causes(smallint, bigint[]), sync.tell_causes(smallint, integer) from public;
grant execute on function sync.cause_of(smallint, bigint), sync.waits_remedy(text, bigint, jsonb), sync.name_causes(), sync.name_causes_of_relatives(smallint),
  sync.note_changed_causes(smallint, bigint[]), sync.tell_causes(smallint, integer) to isthmus_worker;
grant execute on function sync.note_changed_causes(smallint, bigint[]) to isthmus_decisions;

-- Purpose: compare what the target knows of an entity's records with itself: its mappings, row states and rows. What
--          somebody has lost, put back or changed on one of these sides is found, mapped again where it is certain,
--          or told.
-- Locks:   none beyond those of the statements. Application rows are read, never locked.

create function sync.unmarked_sql(p_entity public.sync_entities) returns text
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  -- Marked by the sync, and not kept by a decision: of hashes, 0 is what nothing fits.
  select case when p_entity.on_delete ->> 'policy' = 'soft' and p_entity.on_delete -> 'set' is not null then format(
    '(t.id is not null and s.gone_at is not null and s.outside is null and case when s."left" is null then s.seen_hash = 0 else s."left" || %1$L::jsonb = s."left" end
      and (select to_jsonb(x.*) || %1$L::jsonb <> to_jsonb(x.*) from (select %2$s) x))', (sync.kept_marks(p_entity)).marks, sync.owned_columns(p_entity)) else 'false' end
$$;
comment on function sync.unmarked_sql(public.sync_entities) is
  'SQL: whether the target row t of a record that was deleted in the source (row state s) no longer has the mark '
  'that the sync gave it.';

create function sync.differing_sides(p_entity public.sync_entities, p_from bigint, p_to bigint) returns bigint[]
language plpgsql stable security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_buckets bigint[];
begin
  execute format($q$
    select array_agg(x.bucket order by x.bucket)
      from (
        select y.bucket
          from (
            select legacy_id >> 12 as bucket, count(*) as mapped, sum(hashint8extended(legacy_id, 0)) as mapped_keys,
                   sum(uuid_hash_extended(entity_uuid, legacy_id)) as mapped_rows, 0 as states, 0 as state_keys, 0 as found, 0 as found_rows
              from public.uuid_mappings_enhanced
             where source_id = %3$s and entity_type = %4$L and legacy_id between $1 and $2 and sync_status = 'active' group by 1
            union all
            select legacy_id >> 12, 0, 0, 0, count(*), sum(hashint8extended(legacy_id, 0)), 0, 0
              from public.sync_row_states where entity_id = %5$s and legacy_id between $1 and $2 group by 1
            union all
            select t.%2$I::bigint >> 12, 0, 0, 0, 0, 0, count(*), sum(uuid_hash_extended(t.id, t.%2$I::bigint))
              from public.%1$I t where t.%2$I between $1 and $2 group by 1) y
         group by y.bucket
        having (sum(y.mapped), sum(y.mapped_keys), sum(y.mapped), sum(y.mapped_rows))
                 is distinct from (sum(y.states), sum(y.state_keys), sum(y.found), sum(y.found_rows))) x
  $q$, p_entity.target_table, p_entity.legacy_key, p_entity.source_id, p_entity.entity_type, p_entity.id)
    into v_buckets using p_from, p_to;
  return coalesce(v_buckets, '{}');
end
$$;
comment on function sync.differing_sides(public.sync_entities, bigint, bigint) is
  'Buckets of 4,096 legacy ids in which mappings, row states and target rows are not the same records. Sums are '
  'compared: nothing is joined.';

-- Settings are pinned as they are where rows are loaded.
create function sync.strayed_records(p_entity_id smallint, p_from bigint, p_to bigint, p_limit integer, p_dry_run uuid)
returns table (legacy_id bigint, finding text, id uuid, as_left boolean, taken boolean)
language plpgsql stable security invoker
set search_path = pg_catalog, pg_temp set timezone = 'UTC' set timezone_abbreviations = 'Default' set datestyle = 'ISO, YMD'
set intervalstyle = 'iso_8601' set extra_float_digits = 3 set bytea_output = 'hex' set xmloption = 'content' set lc_monetary = 'C'
set array_nulls = on set standard_conforming_strings = on set quote_all_identifiers = off set transform_null_equals = off as $$
declare
  v_entity  public.sync_entities;
  v_buckets bigint[];
begin
  select * into strict v_entity from public.sync_entities where sync_entities.id = p_entity_id;
  v_buckets := sync.differing_sides(v_entity, p_from, p_to);
  if v_buckets = '{}' then
    return;
  end if;
  -- Only within the buckets that differ, and there one index probe per record, whatever the planner thinks.
  return query execute format($q$
    select f.* from unnest($1) b (bucket)
      cross join lateral (select greatest(b.bucket << 12, $2) as low, least((b.bucket << 12) + 4095, $3) as high) r
      cross join lateral (
        select coalesce(m.legacy_id, s.legacy_id),
               case when s.legacy_id is null and m.sync_status = 'active' then 'state_lost' when s.legacy_id is null then 'returned' else 'mapping_lost' end,
               m.entity_uuid, false, false
          from (select u.legacy_id, u.entity_uuid, u.sync_status from public.uuid_mappings_enhanced u
                 where u.source_id = %3$s and u.entity_type = %4$L and u.legacy_id between r.low and r.high) m
          full join (select w.legacy_id from public.sync_row_states w where w.entity_id = %5$s and w.legacy_id between r.low and r.high) s
            on s.legacy_id = m.legacy_id
         where case when m.legacy_id is null then true
                    when s.legacy_id is not null then m.sync_status <> 'active'
                    when m.sync_status <> 'active' then (select t.id from public.%1$I t where t.id = m.entity_uuid) is not null
                    -- What is in the queue is known to be there.
                    else (select c.id from public.sync_conflicts c
                           where c.entity_id = %5$s and c.source_record_id = m.legacy_id and (c.state in ('waiting', 'open') or c.standing) limit 1) is null end
        union all
        select t.%2$I::bigint, 'unmapped', t.id,
               case when s.legacy_id is null then false
                    when s.left_hash is null then (select to_jsonb(x.*) from (select %6$s) x) = s."left"
                    else s.left_hash = hashtextextended((select to_jsonb(x.*)::text from (select %6$s) x), 0) end,
               (select m.legacy_id from public.uuid_mappings_enhanced m
                 where m.source_id = %3$s and m.entity_type = %4$L and m.legacy_id = t.%2$I limit 1) is not null
          from public.%1$I t
          left join lateral (select w.* from public.sync_row_states w where w.entity_id = %5$s and w.legacy_id = t.%2$I limit 1) s on true
         where t.%2$I between r.low and r.high
           and (select m.legacy_id from public.uuid_mappings_enhanced m where m.entity_type = %4$L and m.entity_uuid = t.id) is null
           -- What an adoption has found is in the queue, or was decided.
           and (select a.legacy_id from public.sync_adoption_rows a where a.entity_id = %5$s and a.legacy_id = t.%2$I and a.id = t.id) is null) f (legacy_id, finding, id, as_left, taken)
     -- What a dry run has read already, a run would have put right.
     where case when $5 is null then true else (
             select r.legacy_id from public.sync_planned_records r
              where r.execution_id = $5 and r.entity_id = %5$s and r.legacy_id = f.legacy_id
                and case f.finding when 'mapping_lost' then r.lands or r.rule = 'both_changed' when 'unmapped' then r.lands and r.id = f.id
                                   else r.lands is not null or r.outcome in ('waiting', 'in_conflict', 'waived') end) is null end
     order by 1, 2 limit $4
  $q$, v_entity.target_table, v_entity.legacy_key, v_entity.source_id, v_entity.entity_type, v_entity.id, sync.owned_columns(v_entity))
    using v_buckets, p_from, p_to, p_limit, p_dry_run;
end
$$;
comment on function sync.strayed_records(smallint, bigint, bigint, integer, uuid) is
  'Records in a key range of which the target''s own sides do not agree. state_lost: mapped, and nothing else is '
  'known. mapping_lost: known, and not mapped as landed. returned: deleted, and the row is there. unmapped: a row '
  'with a legacy id that nothing maps (as_left: it holds what the sync left; taken: its legacy id is mapped to '
  'another row). p_dry_run: as for sync.known_records.';

create function sync.map_found(p_entity public.sync_entities, p_mapped jsonb) returns void
language sql security invoker set search_path = pg_catalog, pg_temp as $$
  insert into public.uuid_mappings_enhanced (source_id, entity_type, legacy_id, entity_uuid, source_table, target_table)
  select p_entity.source_id, p_entity.entity_type, x.k, x.id, p_entity.source_table, p_entity.target_table
    from jsonb_to_recordset(p_mapped) as x (k bigint, id uuid)
   where not exists (select from public.sync_adoption_rows a where a.entity_id = p_entity.id and a.legacy_id = x.k and a.undecided)
   order by x.k
  on conflict do nothing
$$;
comment on function sync.map_found(public.sync_entities, jsonb) is
  'Maps records again whose mapping somebody has removed: [{k, id}].';

create function sync.map_again(p_entity public.sync_entities, p_unmapped bigint[]) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  insert into public.uuid_mappings_enhanced as m (source_id, entity_type, legacy_id, entity_uuid, source_table, target_table)
  select p_entity.source_id, p_entity.entity_type, q.legacy_id, q.id, p_entity.source_table, p_entity.target_table
    from pg_temp.page_plan q
   where q.action in ('update', 'unchanged', 'review') and q.legacy_id = any (p_unmapped)
   order by q.legacy_id
  on conflict (source_id, entity_type, legacy_id) do update set sync_status = 'active' where m.entity_uuid = excluded.entity_uuid;
end
$$;
comment on function sync.map_again(public.sync_entities, bigint[]) is
  'Of the records of a page that were not mapped as landed, maps those whose row is there.';

create function sync.ask_for_unmapped_parents() returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  insert into public.sync_pending_keys (entity_id, legacy_id, reason)
  select i.parent_entity_id, i."parentId", 'parent'
    from (select distinct parent_entity_id, "parentId" from pg_temp.page_issues where state = 'waiting' and parent_entity_id is not null) i
   -- One index probe per record, whatever the planner thinks.
   where (select s.legacy_id from public.sync_row_states s where s.entity_id = i.parent_entity_id and s.legacy_id = i."parentId") is not null
     and (select m.legacy_id from public.sync_entities e, public.uuid_mappings_enhanced m
           where e.id = i.parent_entity_id and m.source_id = e.source_id and m.entity_type = e.entity_type and m.legacy_id = i."parentId" and m.sync_status = 'active') is null
   order by 1, 2
  on conflict (entity_id, execution_id, legacy_id) do nothing;
end
$$;
comment on function sync.ask_for_unmapped_parents() is
  'Asks for the parents that records of a page wait for although they have landed: somebody has removed their '
  'mappings, and reading them puts these right.';

-- Settings are pinned as they are where rows are loaded.
create function sync.find_again(p_entity public.sync_entities, p_absent bigint[], p_ids uuid[]) returns void
language plpgsql security invoker set plan_cache_mode = force_custom_plan
set search_path = pg_catalog, pg_temp set timezone = 'UTC' set timezone_abbreviations = 'Default' set datestyle = 'ISO, YMD'
set intervalstyle = 'iso_8601' set extra_float_digits = 3 set bytea_output = 'hex' set xmloption = 'content' set lc_monetary = 'C'
set array_nulls = on set standard_conforming_strings = on set quote_all_identifiers = off set transform_null_equals = off as $$
declare
  v_forgotten bigint[];
begin
  if p_absent = '{}' then
    return;
  end if;
  -- The row of a deleted record is back.
  execute format($q$
    update public.uuid_mappings_enhanced m set sync_status = 'active'
     where m.source_id = $1 and m.entity_type = $2 and m.legacy_id = any ($3) and m.sync_status <> 'active'
       and (select t.id from public.%I t where t.id = m.entity_uuid) is not null
  $q$, p_entity.target_table) using p_entity.source_id, p_entity.entity_type, p_absent;
  -- The row has the id that only this record gets.
  execute format($q$
    select sync.map_found($1, coalesce(jsonb_agg(jsonb_build_object('k', a.k, 'id', a.id)), '[]'))
      from unnest($2, $3) a (k, id)
     where (select t.id from public.%I t where t.id = a.id) is not null
       and (select m.legacy_id from public.uuid_mappings_enhanced m
             where m.source_id = ($1).source_id and m.entity_type = ($1).entity_type and m.legacy_id = a.k) is null
  $q$, p_entity.target_table) using p_entity, p_absent, p_ids;
  -- Somebody took the mark off: it is deleted once more, and what the row holds is kept.
  if p_entity.on_delete ->> 'policy' = 'soft' then
    execute format($q$
      update public.sync_row_states w set gone_at = null, outside = null
       where w.entity_id = %4$s and w.legacy_id = any (array(
         select a.k from unnest($1) a (k)
          cross join lateral (select r.* from public.sync_row_states r where r.entity_id = %4$s and r.legacy_id = a.k limit 1) s
          cross join lateral (select m.entity_uuid from public.uuid_mappings_enhanced m
                               where m.source_id = %2$s and m.entity_type = %3$L and m.legacy_id = a.k and m.sync_status = 'active' limit 1) m
          where (select %5$s from public.%1$I t where t.id = m.entity_uuid)))
    $q$, p_entity.target_table, p_entity.source_id, p_entity.entity_type, p_entity.id, sync.unmarked_sql(p_entity)) using p_absent;
  end if;
  v_forgotten := array(
    select a.k from unnest(p_absent) a (k)
     where (select s.legacy_id from public.sync_row_states s where s.entity_id = p_entity.id and s.legacy_id = a.k) is not null
       and (select m.legacy_id from public.uuid_mappings_enhanced m
             where m.source_id = p_entity.source_id and m.entity_type = p_entity.entity_type and m.legacy_id = a.k and m.sync_status = 'active') is null);
  if v_forgotten <> '{}' then
    -- Nothing is left of these on either side.
    execute format('delete from public.sync_row_states s where s.entity_id = $1 and s.legacy_id = any ($2)
                      and s.legacy_id not in (select t.%2$I::bigint from public.%1$I t where t.%2$I = any ($2))', p_entity.target_table, p_entity.legacy_key)
      using p_entity.id, v_forgotten;
  end if;
end
$$;
comment on function sync.find_again(public.sync_entities, bigint[], uuid[]) is
  'Before records that the source no longer has are judged: maps those again whose row is there, and forgets those '
  'of which nothing is. p_ids: the ids that the sync makes for them.';

create function sync.tell_digest(p_execution uuid, p_entity public.sync_entities, p_edits jsonb) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_found  jsonb := (select body from public.sync_reports where execution_id = p_execution and kind = 'digest:' || p_entity.entity_type);
  v_edited bigint := (v_found #>> '{edited,count}')::bigint;
  v_alert  public.sync_alerts;
  v_before bigint;
begin
  if (v_found #>> '{unmapped,count}')::bigint > 0 then
    perform sync.raise_alert('unmapped_rows', 'warning', null, p_execution, p_entity.id,
      format('%1$s: %2$s target rows have a legacy id, and nothing says which records they are: somebody put them in, or removed their mappings. To take them over as records: npm run sync -- adopt %1$s (one whose legacy id is mapped to a row that is gone: delete that mapping from uuid_mappings_enhanced first). If they are no records: remove the rows, or empty their legacy ids.',
        p_entity.entity_type, v_found #>> '{unmapped,count}'),
      jsonb_build_object('rows', v_found #> '{unmapped,count}', 'legacy_ids', jsonb_path_query_array(v_found, '$.unmapped.legacy_ids[0 to 19]')));
  else
    perform sync.close_alerts(array(select id from public.sync_alerts where kind = 'unmapped_rows' and entity_id = p_entity.id and closed_at is null));
  end if;

  select * into v_alert from public.sync_alerts where kind = 'edited_widely' and entity_id = p_entity.id and closed_at is null;
  -- People edit one record after the other: what stood there at the last comparison, they were told of then.
  v_before := coalesce((v_alert.details ->> 'before')::bigint, (
    select (r.body #>> '{edited,count}')::bigint from public.sync_reports r join public.sync_executions x on x.id = r.execution_id
     where r.kind = 'digest:' || p_entity.entity_type and r.execution_id <> p_execution and x.source_id = p_entity.source_id and not x.dry_run
     order by r.created_at desc limit 1), 0);
  if v_edited - v_before > (p_edits ->> 'records')::integer
     and v_edited - v_before > (p_edits ->> 'share')::numeric * (select count(*) from public.sync_row_states s where s.entity_id = p_entity.id and s.gone_at is null) then
    perform sync.raise_alert('edited_widely', 'critical', null, p_execution, p_entity.id,
      format('%1$s: %2$s target rows hold other values than the sync left, %3$s of them since they were compared before. If people wrote them, there is nothing to do: they stay. If a backup was put back or a script has written them, take the source''s values: look with npm run sync -- plan %1$s --capture digest --overwrite-edits, then npm run sync -- start %1$s --capture digest --overwrite-edits. What that overwrites is kept in the queue, and what a person has decided stays.',
        p_entity.entity_type, v_edited, v_edited - v_before),
      jsonb_build_object('edited', v_edited, 'before', v_before));
  elsif v_alert.id is not null then
    perform sync.close_alerts(array[v_alert.id]);
  end if;
end
$$;
comment on function sync.tell_digest(uuid, public.sync_entities, jsonb) is
  'At the end of a digest: alerts for rows that nothing maps, and for far more edits than at the comparison before '
  '({share, records}); closes them when that is over.';

revoke all on function sync.unmarked_sql(public.sync_entities), sync.differing_sides(public.sync_entities, bigint, bigint),
  sync.strayed_records(smallint, bigint, bigint, integer, uuid), sync.map_found(public.sync_entities, jsonb),
  sync.map_again(public.sync_entities, bigint[]), sync.ask_for_unmapped_parents(), sync.find_again(public.sync_entities, bigint[], uuid[]),
  sync.tell_digest(uuid, public.sync_entities, jsonb) from public;
grant execute on function sync.unmarked_sql(public.sync_entities), sync.differing_sides(public.sync_entities, bigint, bigint),
  sync.strayed_records(smallint, bigint, bigint, integer, uuid), sync.map_found(public.sync_entities, jsonb),
  sync.map_again(public.sync_entities, bigint[]), sync.ask_for_unmapped_parents(), sync.find_again(public.sync_entities, bigint[], uuid[]),
  sync.tell_digest(uuid, public.sync_entities, jsonb) to isthmus_worker;

-- Purpose: summaries of what is known of an entity's records, to be compared with the source's own; the page of a
--          digest.
-- Locks:   the chain's row; the execution's row when keys are asked for or a chain closes. Application rows are read,
--          never locked.

create function sync.known_records(p_entity_id smallint, p_from bigint, p_to bigint, p_dry_run uuid) returns table (legacy_id bigint, digest bigint)
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  with known as (
  -- What was stopped last counts for a record in the queue, whether it had landed before or not.
  select s.legacy_id, s.source_digest
    from public.sync_row_states s
   where s.entity_id = p_entity_id and s.legacy_id between p_from and p_to and s.gone_at is null
     -- One index probe per record, whatever the planner thinks.
     and (select c.id from public.sync_conflicts c
           where c.entity_id = p_entity_id and c.source_record_id = s.legacy_id and (c.state in ('waiting', 'open') or c.standing)
             and (c.source_digest is not null or c.rule = 'deleted_in_source') limit 1) is null
  union all
  select c.source_record_id, c.source_digest
    from public.sync_conflicts c
   where c.entity_id = p_entity_id and c.source_record_id between p_from and p_to and (c.state in ('waiting', 'open') or c.standing)
     and c.source_digest is not null
     -- Somebody has opened what waits for a parent: nothing would release it.
     and not (c.state = 'open' and c.retry_class = 'parent')
  )
  select k.legacy_id, k.source_digest from known k
   where case when p_dry_run is null then true else (
           select r.legacy_id from public.sync_planned_records r
            where r.execution_id = p_dry_run and r.entity_id = p_entity_id and r.legacy_id = k.legacy_id) is null end
  union all
  select r.legacy_id, r.source_digest from public.sync_planned_records r
   where r.execution_id = p_dry_run and r.entity_id = p_entity_id and r.legacy_id between p_from and p_to and r.source_digest is not null
$$;
comment on function sync.known_records(smallint, bigint, bigint, uuid) is
  'Landed and queued records in a key range, each with the hash of the projected record as it was read last. '
  'p_dry_run: as this dry run has read and planned it.';

create function sync.known_buckets(p_entity_id smallint, p_from bigint, p_to bigint, p_bits integer, p_dry_run uuid) returns table (bucket bigint, n bigint, digest numeric)
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select k.legacy_id >> p_bits, count(*), coalesce(sum(k.digest), 0) from sync.known_records(p_entity_id, p_from, p_to, p_dry_run) k group by 1
$$;
comment on function sync.known_buckets(smallint, bigint, bigint, integer, uuid) is
  'How many records each bucket of 2^p_bits neighbouring keys has, and the sum of their hashes.';

create function sync.kept_outside(p_entity_id smallint, p_from bigint, p_to bigint, p_limit integer) returns setof bigint
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select s.legacy_id
    from public.sync_row_states s
   where s.entity_id = p_entity_id and s.legacy_id between p_from and p_to and s.outside
     -- One index probe per record, whatever the planner thinks: of these a person has been asked.
     and (select c.id from public.sync_conflicts c
           where c.entity_id = p_entity_id and c.source_record_id = s.legacy_id and c.state = 'open' and c.rule = 'deleted_in_source' limit 1) is null
   order by s.legacy_id limit p_limit
$$;
comment on function sync.kept_outside(smallint, bigint, bigint, integer) is
  'The first records of a key range whose rows stay although their predicate no longer lets them in: the source may '
  'have deleted them since, and no comparison of records tells.';

-- Settings are pinned as they are where rows are loaded.
create function sync.drifted_rows(p_entity_id smallint, p_from bigint, p_to bigint, p_limit integer, p_dry_run uuid)
returns table (legacy_id bigint, finding text)
language plpgsql stable security invoker
set search_path = pg_catalog, pg_temp set timezone = 'UTC' set timezone_abbreviations = 'Default' set datestyle = 'ISO, YMD'
set intervalstyle = 'iso_8601' set extra_float_digits = 3 set bytea_output = 'hex' set xmloption = 'content' set lc_monetary = 'C'
set array_nulls = on set standard_conforming_strings = on set quote_all_identifiers = off set transform_null_equals = off as $$
declare
  v_entity  public.sync_entities;
  v_differs text;
  v_texts   boolean; -- values that are equal may print otherwise by now
begin
  select * into strict v_entity from public.sync_entities where id = p_entity_id;
  v_entity := sync.with_types(v_entity);
  v_differs := format($q$case when s.left_hash is null then (select to_jsonb(x.*) from (select %1$s) x) <> s."left"
                     else s.left_hash <> hashtextextended((select to_jsonb(x.*)::text from (select %1$s) x), 0) end$q$, sync.owned_columns(v_entity));
  v_texts := sync.reworded_sql(v_entity) is not null and sync.texts_moved(v_entity);
  return query execute format($q$
    select s.legacy_id, case when %12$s then 'edited' when s.gone_at is not null then 'returned' when t.id is null then 'target_deleted' when %5$s then 'edited' else 'rewritten' end
      from public.sync_row_states s
     -- One index probe per record, whatever the planner thinks.
     cross join lateral (
       select u.entity_uuid from public.uuid_mappings_enhanced u
        where u.source_id = %2$s and u.entity_type = %3$L and u.legacy_id = s.legacy_id offset 0) m
      left join lateral (select r.xmin, r.id, %15$s from public.%1$I r where r.id = m.entity_uuid offset 0) t on true
      %11$s
     where s.entity_id = %4$s and s.legacy_id between %6$L and %7$L
       and case %13$s when s.gone_at is not null then %10$s
                when t.id is null then true
                when %9$s is true then false
                else %5$s%14$s end
       and (select c.id from public.sync_conflicts c
             where c.entity_id = %4$s and c.source_record_id = s.legacy_id and (c.state = 'open' or c.standing) and c.rule = 'target_deleted' limit 1) is null
     order by s.legacy_id limit %8$s
  $q$, v_entity.target_table, v_entity.source_id, v_entity.entity_type, v_entity.id, v_differs, p_from, p_to, p_limit,
    sync.as_left_sql(v_entity), sync.unmarked_sql(v_entity),
    case when p_dry_run is null then '' else format('left join lateral (
        select r.lands, r.row_after, r.state_after, r.outcome, r.rule from public.sync_planned_records r
         where r.execution_id = %L and r.entity_id = %s and r.legacy_id = s.legacy_id limit 1) r on true', p_dry_run, p_entity_id) end,
    case when p_dry_run is null then 'false' else 'r.lands is true' end,
    case when p_dry_run is null then '' else $p$
                when r.lands then case when r.state_after -> 'left_hash' = 'null' then r.row_after - 'id' <> r.state_after -> 'left'
                                       else (r.state_after ->> 'left_hash')::bigint <> hashtextextended((r.row_after - 'id')::text, 0) end
                when r.lands is not null or r.outcome = 'in_conflict' and r.rule = 'target_deleted' then false $p$ end,
    case when v_texts then format(' or %s is not true', sync.untouched_sql(v_entity, 'public')) else '' end,
    (select string_agg(format('r.%I', c.name), ', ') from sync.field_slots(v_entity) c));
end
$$;
comment on function sync.drifted_rows(smallint, bigint, bigint, integer, uuid) is
  'Landed records in a key range whose target row is gone (target_deleted) or no longer what the sync left (edited), '
  'or written by DDL that may have changed texts of equal values (rewritten), and deleted ones whose mark is gone '
  '(returned). p_dry_run: as for sync.known_records.';

create function sync.merge_found(p_before jsonb, p_found jsonb) returns jsonb
language sql immutable security invoker set search_path = pg_catalog, pg_temp as $$
  select jsonb_object_agg(f.key, case
      when jsonb_typeof(f.value) = 'number' then to_jsonb(coalesce((p_before ->> f.key)::bigint, 0) + f.value::bigint)
      else jsonb_build_object('count', coalesce((p_before -> f.key ->> 'count')::bigint, 0) + jsonb_array_length(f.value),
             'legacy_ids', (select coalesce(jsonb_agg(x.id order by x.n), '[]')
                              from jsonb_array_elements(coalesce(p_before -> f.key -> 'legacy_ids', '[]') || f.value) with ordinality x (id, n)
                             where x.n <= 1000)) end)
    from jsonb_each(p_found) f
$$;
comment on function sync.merge_found(jsonb, jsonb) is
  'Adds what one page found to the report: numbers are summed, lists of legacy ids become {count, legacy_ids: the '
  'first 1,000}.';

create function sync.commit_digest_page(p_chain uuid, p_lease bigint, p_keys bigint[], p_mapped jsonb, p_found jsonb, p_page jsonb) returns jsonb
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_chain  public.sync_chains := sync.hold_chain(p_chain, p_lease);
  v_entity public.sync_entities;
  v_dry    boolean;
  v_begun  timestamptz := clock_timestamp();
begin
  select * into strict v_entity from public.sync_entities where id = v_chain.entity_id;
  v_entity := sync.with_types(v_entity);
  select dry_run into v_dry from public.sync_executions where id = v_chain.execution_id for no key update;
  if v_dry then
    perform sync.plan_found(v_chain.execution_id, v_entity, p_mapped);
  else
    perform sync.map_found(v_entity, p_mapped);
    -- Found by a comparison: who wrote the row says nothing of it any more. Where DDL has been there, that still
    -- tells its work from people's.
    update public.sync_row_states s set written_by = null
     where s.entity_id = v_entity.id and s.legacy_id = any (array(select e::bigint from jsonb_array_elements_text(p_found -> 'edited') e)) and s.written_by is not null
       and not exists (select from public.sync_entity_shapes h cross join lateral jsonb_each(h.reshaped) r
                        where h.entity_id = v_entity.id and s.synced_at < (r.value ->> 'at')::timestamptz);
  end if;
  insert into public.sync_pending_keys (execution_id, entity_id, legacy_id, reason)
  select case when v_dry then v_chain.execution_id end, v_entity.id, k, 'digest' from unnest(p_keys) k order by k
  on conflict (entity_id, execution_id, legacy_id) do update set generation = default, requested_at = now(), gone = false;
  insert into public.sync_reports as r (execution_id, kind, body)
  values (v_chain.execution_id, 'digest:' || v_entity.entity_type, sync.merge_found(null, p_found))
  on conflict (execution_id, kind, round) do update set body = sync.merge_found(r.body, p_found);
  if not v_dry and (p_page ->> 'done')::boolean then
    perform sync.tell_digest(v_chain.execution_id, v_entity, p_page -> 'edits');
  end if;
  return sync.end_join_page(v_chain, v_entity, p_page, v_begun);
end
$$;
comment on function sync.commit_digest_page(uuid, bigint, bigint[], jsonb, jsonb, jsonb) is
  'What a page of a digest found: mappings that are certain ([{k, id}]), the records to read again, the report, '
  'cursor and the next chains.';

revoke all on function sync.known_records(smallint, bigint, bigint, uuid), sync.known_buckets(smallint, bigint, bigint, integer, uuid),
  sync.kept_outside(smallint, bigint, bigint, integer), sync.drifted_rows(smallint, bigint, bigint, integer, uuid),
  sync.commit_digest_page(uuid, bigint, bigint[], jsonb, jsonb, jsonb), sync.merge_found(jsonb, jsonb) from public;
grant execute on function sync.known_records(smallint, bigint, bigint, uuid), sync.known_buckets(smallint, bigint, bigint, integer, uuid),
  sync.kept_outside(smallint, bigint, bigint, integer), sync.drifted_rows(smallint, bigint, bigint, integer, uuid),
  sync.commit_digest_page(uuid, bigint, bigint[], jsonb, jsonb, jsonb), sync.merge_found(jsonb, jsonb) to isthmus_worker;

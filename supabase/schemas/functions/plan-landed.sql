-- Purpose: what a dry run counts as landed, or as found again.

create function sync.plan_landed(p_execution uuid, p_entity public.sync_entities, p_found jsonb) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  execute format($q$
    insert into public.sync_planned_records as r (execution_id, entity_id, legacy_id, id, outcome, lands, row_after, state_after, source_digest)
    select $1, $2, x.k, x.id, 'unchanged', true, o.now, pg_catalog.to_jsonb(s) || '{"gone_at": null, "outside": null}', s.source_digest
      from jsonb_to_recordset($3) as x (k bigint, id uuid)
      -- One index probe per record, whatever the planner thinks.
      cross join lateral (select (select pg_catalog.to_jsonb(y.*) from (select t.id, %2$s) y) as now from public.%1$I t where t.id = x.id limit 1) o
      left join lateral (select w.* from public.sync_row_states w where w.entity_id = $2 and w.legacy_id = x.k limit 1) s on true
     order by x.k
    on conflict (execution_id, entity_id, legacy_id) do update
       set id = excluded.id, lands = true, row_after = excluded.row_after, state_after = excluded.state_after where r.lands is null
  $q$, p_entity.target_table, sync.owned_columns(p_entity)) using p_execution, p_entity.id, p_found;
end
$$;
comment on function sync.plan_landed(uuid, public.sync_entities, jsonb) is
  'Counts records as landed in a dry run, which a run would map to rows that are there: [{k, id}].';

create function sync.plan_found(p_execution uuid, p_entity public.sync_entities, p_mapped jsonb) returns void
language sql security invoker set search_path = pg_catalog, pg_temp as $$
  select sync.plan_landed(p_execution, p_entity, coalesce(pg_catalog.jsonb_agg(jsonb_build_object('k', x.k, 'id', x.id)), '[]'))
    from jsonb_to_recordset(p_mapped) as x (k bigint, id uuid)
   where not exists (select from public.sync_adoption_rows a where a.entity_id = p_entity.id and a.legacy_id = x.k and a.undecided)
     -- One index probe per record, whatever the planner thinks.
     and (select m.legacy_id from public.uuid_mappings_enhanced m
           where m.source_id = p_entity.source_id and m.entity_type = p_entity.entity_type and m.legacy_id = x.k) is null
     and (select m.legacy_id from public.uuid_mappings_enhanced m where m.entity_type = p_entity.entity_type and m.entity_uuid = x.id) is null
$$;
comment on function sync.plan_found(uuid, public.sync_entities, jsonb) is 'map_found of a dry run.';

-- Settings are pinned as they are where rows are loaded.
create function sync.plan_again(p_execution uuid, p_entity public.sync_entities, p_absent bigint[], p_ids uuid[]) returns void
language plpgsql security invoker set plan_cache_mode = force_custom_plan
set search_path = pg_catalog, pg_temp set timezone = 'UTC' set timezone_abbreviations = 'Default' set datestyle = 'ISO, YMD'
set intervalstyle = 'iso_8601' set extra_float_digits = 3 set bytea_output = 'hex' set xmloption = 'content' set lc_monetary = 'C'
set array_nulls = on set standard_conforming_strings = on set quote_all_identifiers = off set transform_null_equals = off as $$
declare
  v_found jsonb;
begin
  if p_absent = '{}' then
    return;
  end if;
  execute format($q$
    select coalesce(pg_catalog.jsonb_agg(jsonb_build_object('k', f.k, 'id', f.id)), '[]')
      from (select a.k, coalesce(m.entity_uuid, a.id) as id, m.sync_status
              from unnest($1, $2) a (k, id)
              left join lateral (select u.entity_uuid, u.sync_status from public.uuid_mappings_enhanced u
                                  where u.source_id = %2$s and u.entity_type = %3$L and u.legacy_id = a.k limit 1) m on true
            offset 0) f
      left join lateral (select w.* from public.sync_row_states w where w.entity_id = %4$s and w.legacy_id = f.k limit 1) s on true
      cross join lateral (select from public.%1$I t where t.id = f.id and (f.sync_status is distinct from 'active' or %5$s) limit 1) there
  $q$, p_entity.target_table, p_entity.source_id, p_entity.entity_type, p_entity.id, sync.unmarked_sql(p_entity)) into v_found using p_absent, p_ids;
  perform sync.plan_landed(p_execution, p_entity, v_found);
end
$$;
comment on function sync.plan_again(uuid, public.sync_entities, bigint[], uuid[]) is
  'find_again of a dry run: records that the source no longer has and whose row is back, or has lost its mark, count '
  'as landed.';

revoke all on function sync.plan_landed(uuid, public.sync_entities, jsonb), sync.plan_found(uuid, public.sync_entities, jsonb),
  sync.plan_again(uuid, public.sync_entities, bigint[], uuid[]) from public;
grant execute on function sync.plan_landed(uuid, public.sync_entities, jsonb), sync.plan_found(uuid, public.sync_entities, jsonb),
  sync.plan_again(uuid, public.sync_entities, bigint[], uuid[]) to isthmus_worker;

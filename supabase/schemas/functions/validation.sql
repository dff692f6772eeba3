-- Purpose: commit what a comparison of both sides found, entity by entity, and close the execution.
-- Locks:   the chain's row, then the execution's row.

-- Settings are pinned as they are where rows are loaded.
create function sync.edited_records(p_entity_id smallint, p_columns text[]) returns setof bigint
language plpgsql stable security invoker
set search_path = pg_catalog, pg_temp set timezone = 'UTC' set timezone_abbreviations = 'Default' set datestyle = 'ISO, YMD'
set intervalstyle = 'iso_8601' set extra_float_digits = 3 set bytea_output = 'hex' set xmloption = 'content' set lc_monetary = 'C'
set array_nulls = on set standard_conforming_strings = on set quote_all_identifiers = off set transform_null_equals = off as $$
declare
  v_entity public.sync_entities;
  v_differ text := (select string_agg(format($q$coalesce(pg_catalog.to_jsonb(t.%1$I), 'null') is distinct from s."left" -> %1$L$q$, c), ' or ')
                      from pg_catalog.unnest(p_columns) c);
begin
  if v_differ is null then
    return;
  end if;
  select * into strict v_entity from public.sync_entities where id = p_entity_id;
  return query execute format($q$
    select s.legacy_id
      from public.sync_row_states s
      join public.uuid_mappings_enhanced m on m.source_id = %2$s and m.entity_type = %3$L and m.legacy_id = s.legacy_id
      join public.%1$I t on t.id = m.entity_uuid
     where s.entity_id = %4$s and s.gone_at is null
       and %7$s is not true
       and case when s.left_hash is null then %5$s
                else s.left_hash <> hashtextextended((select pg_catalog.to_jsonb(x.*)::text from (select %6$s) x), 0) end
  $q$, v_entity.target_table, v_entity.source_id, v_entity.entity_type, v_entity.id, v_differ, sync.owned_columns(v_entity),
    sync.as_left_sql(v_entity));
end
$$;
comment on function sync.edited_records(smallint, text[]) is
  'Landed records whose target row no longer holds what the sync left in one of these columns (kept as hashes: in '
  'any column); what was decided for the target is such an edit.';

create function sync.tell_differences(p_chain public.sync_chains) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  perform sync.raise_alert('validation_failed', 'critical', null, p_chain.execution_id, e.id,
      format('Both sides of %s still differ after the differing records were read once more: %s records. Which, and counts and sums of both sides, stand in sync_reports (control_totals:%s) of the execution.',
        e.entity_type, jsonb_array_length(r.body -> 'differing'), e.entity_type),
      jsonb_build_object('code', 'CONTROL_TOTALS_DIFFER', 'records', jsonb_array_length(r.body -> 'differing'),
        'legacy_ids', jsonb_path_query_array(r.body, '$.differing[0 to 99]')))
     from public.sync_reports r join public.sync_executions x on x.id = r.execution_id join public.sync_entities e on e.source_id = x.source_id and e.entity_type = substr(r.kind, 16)
    where r.execution_id = p_chain.execution_id and r.kind like 'control\_totals:%' and r.round = p_chain.round and jsonb_array_length(r.body -> 'differing') > 0;
  perform sync.close_alerts(array(
    select a.id from public.sync_executions x join public.sync_alerts a on a.source_id = x.source_id join public.sync_entities e on e.id = a.entity_id
      join public.sync_reports r on r.execution_id = p_chain.execution_id and r.kind = 'control_totals:' || e.entity_type and r.round = p_chain.round
     where x.id = p_chain.execution_id and a.kind = 'validation_failed' and a.closed_at is null and jsonb_array_length(r.body -> 'differing') = 0));
end
$$;
comment on function sync.tell_differences(public.sync_chains) is
  'Opens or counts the alert validation_failed of each entity in which both sides differ at the end of a comparison, '
  'and closes that of each in which they do not.';

create function sync.commit_validation(p_chain uuid, p_lease bigint, p_entity_id smallint, p_report jsonb, p_recheck bigint[],
  p_last boolean, p_lease_seconds integer) returns jsonb
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_chain    public.sync_chains;
  v_entity   public.sync_entities;
  v_differ   jsonb;
  v_dispatch uuid[] := '{}';
begin
  select * into v_chain from public.sync_chains
   where id = p_chain and lease = p_lease and state = 'open' and lease_until is not null for update;
  if not found then
    raise exception 'chain %: the lease was lost to another delivery', p_chain using errcode = 'IS010';
  end if;
  perform from public.sync_executions where id = v_chain.execution_id for no key update;

  if p_entity_id is not null then
    select * into strict v_entity from public.sync_entities where id = p_entity_id;
    insert into public.sync_reports (execution_id, kind, round, body)
    values (v_chain.execution_id, 'control_totals:' || v_entity.entity_type, v_chain.round, p_report)
    on conflict (execution_id, kind, round) do update set body = excluded.body, created_at = now();
    insert into public.sync_pending_keys (entity_id, legacy_id, reason)
    select p_entity_id, k, 'control_total' from pg_catalog.unnest(p_recheck) k order by k
    on conflict (entity_id, execution_id, legacy_id) do update set generation = default, requested_at = now(), gone = false;
  end if;

  if not p_last then
    update public.sync_chains
       set page = page + 1, "cursor" = coalesce("cursor", -1) + 1, lease_until = null, sends = 0, failures = 0, last_error = null,
           due_at = clock_timestamp() + make_interval(secs => p_lease_seconds)
     where id = p_chain;
    v_dispatch := array[p_chain];
  else
    select pg_catalog.jsonb_agg(jsonb_build_object('code', 'CONTROL_TOTALS_DIFFER', 'entity', substr(kind, 16), 'legacy_ids', body -> 'differing'))
      into v_differ
      from public.sync_reports
     where execution_id = v_chain.execution_id and kind like 'control\_totals:%' and round = v_chain.round
       and jsonb_array_length(body -> 'differing') > 0;
    if v_differ is not null and v_chain.round = 1 then
      -- These records are read once more, and then everything is compared again.
      update public.sync_chains
         set state = 'blocked', due_at = null, round = 2, page = page + 1, "cursor" = null, lease_until = null, sends = 0, failures = 0
       where id = p_chain;
    else
      perform sync.tell_differences(v_chain);
      update public.sync_chains set state = 'done', closed_at = now(), due_at = null, page = page + 1, lease_until = null
       where id = p_chain;
      perform sync.finish_execution(v_chain.execution_id,
        case when v_differ is null then 'succeeded' else 'failed' end::public.sync_execution_status, v_differ);
    end if;
    v_dispatch := array(select sync.advance_execution(v_chain.execution_id));
  end if;
  return (select coalesce(pg_catalog.jsonb_agg(jsonb_build_object('chain', c.id, 'page', c.page, 'execution', c.execution_id)), '[]')
            from public.sync_chains c where c.id = any (v_dispatch));
end
$$;
comment on function sync.commit_validation(uuid, bigint, smallint, jsonb, bigint[], boolean, integer) is
  'Stores the comparison of one entity, and has the records p_recheck read again; after the last one compares '
  'everything once more, or finishes the execution.';

revoke all on function sync.edited_records(smallint, text[]), sync.tell_differences(public.sync_chains),
  sync.commit_validation(uuid, bigint, smallint, jsonb, bigint[], boolean, integer) from public;
grant execute on function sync.edited_records(smallint, text[]), sync.tell_differences(public.sync_chains),
  sync.commit_validation(uuid, bigint, smallint, jsonb, bigint[], boolean, integer) to isthmus_worker;

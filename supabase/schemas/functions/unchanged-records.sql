-- Purpose: tell the records of a page that nobody has touched on the target since the sync, so that the source's hash
--          alone decides.
-- Locks:   none.

-- Of a record that is told here nothing but the source can have changed: where the source's hash is the kept one,
-- too, a page would find it unchanged and write nothing. Whatever else could decide (queue, warnings, another
-- definition, DDL, a parent that no foreign key holds) leaves the record to the page.
create function sync.untouched_records(p_chain uuid, p_legacy_ids bigint[], p_definition_hash text) returns table (keys bigint[], digests bigint[])
language plpgsql stable security invoker set search_path = pg_catalog, pg_temp set plan_cache_mode = force_custom_plan as $$
declare
  v_chain  public.sync_chains;
  v_entity public.sync_entities;
  v_as_left text;
begin
  select * into strict v_chain from public.sync_chains where id = p_chain;
  select * into strict v_entity from public.sync_entities where id = v_chain.entity_id;
  v_entity := sync.with_types(v_entity);
  v_as_left := sync.as_left_sql(v_entity);
  if v_as_left = 'false'
     or not v_chain.skips_unchanged or v_chain.definition_hash <> p_definition_hash
     or exists (select from public.sync_executions x
                 where x.id = v_chain.execution_id and sync.strategy_of_request(x.request) = 'overwrite_edits')
     or exists (select from sync.unreferenced_parents(v_entity)) then
    return query select '{}'::bigint[], '{}'::bigint[];
    return;
  end if;
  return query execute format($q$
    select coalesce(pg_catalog.array_agg(r.legacy_id), '{}'), coalesce(pg_catalog.array_agg(r.source_digest), '{}')
      from pg_catalog.unnest($1) k (id)
     -- One index probe per record, whatever the planner thinks.
     cross join lateral (
       select s.legacy_id, s.source_digest, s.written_by, s.synced_at from public.sync_row_states s
        where s.entity_id = %1$s and s.legacy_id = k.id and s.gone_at is null and s.source_digest is not null
          and (s.seen_hash is null) = %2$L offset 0) r
     where (select %6$s
              from public.uuid_mappings_enhanced m
             cross join lateral (select t.xmin from public.%5$I t where t.id = m.entity_uuid offset 0) t
             cross join lateral (select r.written_by) s
             where m.source_id = %3$s and m.entity_type = %4$L and m.legacy_id = r.legacy_id and m.sync_status = 'active' limit 1)
       and (select c.id from public.sync_conflicts c
             where c.entity_id = %1$s and c.source_record_id = r.legacy_id and (c.state in ('waiting', 'open') or c.standing) limit 1) is null
       and (select w.legacy_id from public.sync_warnings w where w.entity_id = %1$s and w.legacy_id = r.legacy_id limit 1) is null
       -- What a dry run has planned already, it looks at again.
       and (select d.legacy_id from public.sync_planned_records d
             where d.execution_id = %7$L and d.entity_id = %1$s and d.legacy_id = r.legacy_id limit 1) is null
  $q$, v_entity.id, v_entity.history = 'values', v_entity.source_id, v_entity.entity_type, v_entity.target_table, v_as_left, v_chain.execution_id)
    using p_legacy_ids;
end
$$;
comment on function sync.untouched_records(uuid, bigint[], text) is
  'Of some keys of a page the landed records whose target row is as the sync left it, and of which nothing else is '
  'open: each with the hash of the source''s record as it was read last. p_definition_hash: the definition that the '
  'functions have.';

create function sync.look_at_keys(p_chain uuid, p_legacy_ids bigint[], p_definition_hash text) returns jsonb
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select jsonb_build_object('versions', (select sync.slot_versions(c.entity_id, p_legacy_ids) from public.sync_chains c where c.id = p_chain),
           'keys', u.keys::text[], 'digests', u.digests::text[],
           'others', array(select o.k::text from (select unnest(p_legacy_ids) except select unnest(u.keys)) o (k) order by o.k))
    from sync.untouched_records(p_chain, p_legacy_ids, p_definition_hash) u
$$;
comment on function sync.look_at_keys(uuid, bigint[], text) is
  'Before the records of a full pass''s page are read: the versions of their slots, the untouched ones with their '
  'hashes (sync.untouched_records, in the same order), and the others; integers as text.';

revoke all on function sync.untouched_records(uuid, bigint[], text), sync.look_at_keys(uuid, bigint[], text) from public;
grant execute on function sync.untouched_records(uuid, bigint[], text), sync.look_at_keys(uuid, bigint[], text) to isthmus_worker;

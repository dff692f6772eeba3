-- Purpose: note what entities consume of joined rows, and ask for the records of rows that differ to be read again.
-- Locks:   the chain's row; the execution's row when records are asked for or a chain closes.

create function sync.compare_join_rows(p_entity_id smallint, p_join_id integer, p_rows bigint[], p_links bigint[], p_digests bigint[],
  p_dry_run uuid) returns jsonb
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  with differing as (
    select r.link as new, s.link as old
      from unnest(p_rows, p_links, p_digests) as r (id, link, digest)
      -- One index probe for each row, whatever the planner thinks.
      left join lateral (select j.link, j.digest from public.sync_join_rows j
                          where j.entity_id = p_entity_id and j.join_id = p_join_id and j.row_id = r.id offset 0) s on true
     where (r.link, r.digest) is distinct from (s.link, s.digest)
  )
  select jsonb_build_object(
    'links', (select coalesce(jsonb_agg(l::text), '[]')
                from (select new as l from differing where new is not null
                       union select old from differing where old is not null) x),
    'listed', case
      when p_dry_run is null then (select count(*) from public.sync_pending_keys
                               where execution_id is null and entity_id = p_entity_id and reason = 'fan_out')
      else (select count(*) from public.sync_pending_keys
             where execution_id = p_dry_run and entity_id = p_entity_id and reason = 'fan_out') end)
$$;
comment on function sync.compare_join_rows(smallint, integer, bigint[], bigint[], bigint[], uuid) is
  'The links, new and old, of joined rows that differ from what was last consumed, and how many records are listed '
  'for it already: by this dry run (p_dry_run), or in earnest.';

create function sync.keys_to_list(p_chain public.sync_chains, p_keys bigint[]) returns setof bigint
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select distinct k from unnest(p_keys) k
   where not exists (select from public.sync_chains c
                      where c.execution_id = p_chain.execution_id and c.entity_id = p_chain.entity_id and c.capture = 'full'
                        and c.state = 'blocked' and k between c.range_from and c.range_to)
   order by 1
$$;
comment on function sync.keys_to_list(public.sync_chains, bigint[]) is
  'Of the records to read again, those that no range of the execution has read again anyway.';

create function sync.end_join_page(p_chain public.sync_chains, p_entity public.sync_entities, p_page jsonb, p_begun timestamptz)
returns jsonb
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_wall_ms  numeric := (p_page ->> 'wall_ms')::numeric + extract(epoch from clock_timestamp() - p_begun) * 1000;
  v_dispatch uuid[];
begin
  insert into public.sync_page_log
    (execution_id, chain_id, entity_id, page, read, inserted, updated, unchanged, waiting, in_conflict, heap_bytes, wall_ms)
  values (p_chain.execution_id, p_chain.id, p_entity.id, p_chain.page, 0, 0, 0, 0, 0, 0,
          (p_page ->> 'heap_bytes')::bigint, v_wall_ms);
  v_dispatch := sync.close_page(p_chain, p_entity, p_page, v_wall_ms);
  return (select coalesce(jsonb_agg(jsonb_build_object('chain', c.id, 'page', c.page, 'execution', c.execution_id)), '[]')
            from public.sync_chains c where c.id = any (v_dispatch));
end
$$;
comment on function sync.end_join_page(public.sync_chains, public.sync_entities, jsonb, timestamptz) is
  'Logs a page of joined rows, moves its chain, and tells what to dispatch.';

create function sync.replace_join_rows(p_chain public.sync_chains, p_rows bigint[], p_links bigint[], p_digests bigint[],
  p_page jsonb, p_full boolean) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_row bigint;
begin
  if p_full then
    -- A full pass has all rows between its cursors: what is not among them is gone.
    delete from public.sync_join_rows s
     where s.entity_id = p_chain.entity_id and s.join_id = p_chain.join_id
       and s.row_id >= coalesce(p_chain."cursor", '-9223372036854775808') and s.row_id is distinct from p_chain."cursor"
       and s.row_id <= case when (p_page ->> 'done')::boolean then 9223372036854775807 else (p_page ->> 'cursor')::bigint end
       and not exists (select from unnest(p_rows) r where r = s.row_id);
  end if;
  if p_full and (p_page ->> 'done')::boolean then
    -- Left by an earlier definition; the rest goes with the next full pass.
    delete from public.sync_join_rows
     where ctid = any (array(
       select s.ctid from public.sync_join_rows s
        where s.entity_id = p_chain.entity_id
          and not exists (select from public.sync_chains c
                           where c.execution_id = p_chain.execution_id and c.entity_id = s.entity_id and c.join_id = s.join_id)
        limit 50000));
  end if;
  -- One by one: each by its key, whatever the planner thinks.
  for v_row in select r.id from unnest(p_rows, p_links) as r (id, link) where r.link is null loop
    delete from public.sync_join_rows s where s.entity_id = p_chain.entity_id and s.join_id = p_chain.join_id and s.row_id = v_row;
  end loop;
  insert into public.sync_join_rows as s (entity_id, join_id, row_id, link, digest)
  select p_chain.entity_id, p_chain.join_id, r.id, r.link, r.digest
    from unnest(p_rows, p_links, p_digests) as r (id, link, digest) where r.link is not null
  on conflict (entity_id, join_id, row_id) do update set link = excluded.link, digest = excluded.digest
   where (s.link, s.digest) is distinct from (excluded.link, excluded.digest);
end
$$;
comment on function sync.replace_join_rows(public.sync_chains, bigint[], bigint[], bigint[], jsonb, boolean) is
  'Notes what was consumed of the rows of a page. A row that belongs to no record is not noted.';

create function sync.add_range(p_chain public.sync_chains, p_range jsonb) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_lowest  bigint := (p_range ->> 'lowest')::bigint;
  v_highest bigint := (p_range ->> 'highest')::bigint;
begin
  update public.sync_chains
     set range_from = least(range_from, v_lowest), range_to = greatest(range_to, v_highest)
   where execution_id = p_chain.execution_id and entity_id = p_chain.entity_id and capture = 'full' and state = 'blocked';
  if not found then
    insert into public.sync_chains (execution_id, entity_id, capture, range_from, range_to, definition_hash, skips_unchanged, page_size)
    select p_chain.execution_id, p_chain.entity_id, 'full', v_lowest, v_highest, p_chain.definition_hash, false, max(page_size)
      from public.sync_chains where execution_id = p_chain.execution_id and capture not in ('joins', 'digest');
  end if;
end
$$;
comment on function sync.add_range(public.sync_chains, jsonb) is
  'Has a range of records read again instead of one listed key each; the ranges of one execution become one.';

create function sync.commit_join_page(p_chain uuid, p_lease bigint, p_rows bigint[], p_links bigint[], p_digests bigint[],
  p_keys bigint[], p_page jsonb) returns jsonb
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_chain  public.sync_chains := sync.hold_chain(p_chain, p_lease);
  v_entity public.sync_entities;
  v_full   boolean := v_chain.changed_from is null;
  v_begun  timestamptz := clock_timestamp();
begin
  select * into strict v_entity from public.sync_entities where id = v_chain.entity_id;
  perform sync.replace_join_rows(v_chain, p_rows, p_links, p_digests, p_page, v_full);
  if p_page -> 'range' <> 'null' then
    perform from public.sync_executions where id = v_chain.execution_id for no key update;
    delete from public.sync_pending_keys
     where execution_id is null and entity_id = v_entity.id and reason = 'fan_out'
       and legacy_id between (p_page -> 'range' ->> 'lowest')::bigint and (p_page -> 'range' ->> 'highest')::bigint;
    perform sync.add_range(v_chain, p_page -> 'range');
  elsif cardinality(p_keys) > 0 then
    perform from public.sync_executions where id = v_chain.execution_id for no key update;
    insert into public.sync_pending_keys (entity_id, legacy_id, reason)
    select v_entity.id, k, 'fan_out' from sync.keys_to_list(v_chain, p_keys) k
    on conflict (entity_id, execution_id, legacy_id) do update set generation = default, requested_at = now(), gone = false;
  end if;
  if v_full or p_page -> 'range' <> 'null' then
    -- From here on the digests are ahead of the records. Only the commit that closes the entity's last chain says
    -- otherwise.
    update public.sync_checkpoints set definition_hash = 'unfinished'
     where source_id = v_entity.source_id and entity_type = v_entity.entity_type;
  end if;
  return sync.end_join_page(v_chain, v_entity, p_page, v_begun);
end
$$;
comment on function sync.commit_join_page(uuid, bigint, bigint[], bigint[], bigint[], bigint[], jsonb) is
  'Everything a page of joined rows changes: what was consumed of them, the records to read again, cursor and the '
  'next chains.';

revoke all on function sync.compare_join_rows(smallint, integer, bigint[], bigint[], bigint[], uuid),
  sync.commit_join_page(uuid, bigint, bigint[], bigint[], bigint[], bigint[], jsonb),
  sync.replace_join_rows(public.sync_chains, bigint[], bigint[], bigint[], jsonb, boolean), sync.keys_to_list(public.sync_chains, bigint[]),
  sync.end_join_page(public.sync_chains, public.sync_entities, jsonb, timestamptz), sync.add_range(public.sync_chains, jsonb) from public;
grant execute on function sync.compare_join_rows(smallint, integer, bigint[], bigint[], bigint[], uuid),
  sync.commit_join_page(uuid, bigint, bigint[], bigint[], bigint[], bigint[], jsonb),
  sync.replace_join_rows(public.sync_chains, bigint[], bigint[], bigint[], jsonb, boolean), sync.keys_to_list(public.sync_chains, bigint[]),
  sync.end_join_page(public.sync_chains, public.sync_entities, jsonb, timestamptz), sync.add_range(public.sync_chains, jsonb) to isthmus_worker;

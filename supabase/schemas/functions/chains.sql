-- Purpose: hold the chain of a page under its lease, end a page, close a chain.
-- Locks:   the slots of a page's records, the chain's row; the execution's row when a chain closes.

create function sync.hold_chain(p_chain uuid, p_lease bigint) returns public.sync_chains
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_chain public.sync_chains;
begin
  select * into v_chain from public.sync_chains
   where id = p_chain and lease = p_lease and state = 'open' and lease_until is not null for update;
  if not found then
    raise exception 'chain %: the lease was lost to another delivery', p_chain
      using errcode = 'IS010', hint = 'Nothing was written; the other delivery carries on.';
  end if;
  -- A pooler's session may hold what another client has left there, under the names of the page's own tables.
  discard temp;
  return v_chain;
end
$$;
comment on function sync.hold_chain(uuid, bigint) is
  'Locks the chain for the commit of a page under its lease, and drops the session''s temporary tables. Raises IS010 '
  'when another delivery has it.';

create function sync.hold_page(p_chain uuid, p_lease bigint, p_versions jsonb) returns public.sync_chains
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  perform sync.hold_records((select entity_id from public.sync_chains where id = p_chain), p_versions);
  return sync.hold_chain(p_chain, p_lease);
end
$$;
comment on function sync.hold_page(uuid, bigint, jsonb) is
  'The first locks of a page''s commit: its records, by their versions, and its chain. Raises IS011 or IS010 when '
  'either is not as it was.';

create function sync.latest_starts(p_starts text[], p_start text) returns text[]
language sql immutable security invoker set search_path = pg_catalog, pg_temp as $$
  select (p_start || array_remove(p_starts, p_start))[1:8]
$$;
comment on function sync.latest_starts(text[], text) is 'Server starts with this one at their head, at most eight.';

create function sync.move_watermark(p_execution uuid, p_entity public.sync_entities) returns void
language sql security invoker set search_path = pg_catalog, pg_temp as $$
  update public.sync_checkpoints k
     set watermark_at = c.cursor_at, watermark_id = c."cursor", job_id = e.job_id, execution_id = e.id, updated_at = now()
    from public.sync_chains c join public.sync_executions e on e.id = c.execution_id
   where c.execution_id = p_execution and c.entity_id = p_entity.id and c.capture = 'modified' and c.state = 'done' and not e.dry_run and e.status = 'running'
     and k.source_id = p_entity.source_id and k.entity_type = p_entity.entity_type
     and (c.cursor_at::timestamptz, c."cursor") >= (k.watermark_at::timestamptz, coalesce(k.watermark_id, '-9223372036854775808'))
$$;
comment on function sync.move_watermark(uuid, public.sync_entities) is
  'Moves the watermark to where a modified chain that is through has come, never back. The horizon stays: stamps do '
  'not tell of every change.';

create function sync.close_chain(p_execution uuid, p_entity public.sync_entities) returns uuid[]
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  -- A full pass, and not only a range of keys beside an incremental one.
  v_whole boolean := exists (select from public.sync_chains
                              where execution_id = p_execution and entity_id = p_entity.id and capture = 'full' and range_from is null);
begin
  perform from public.sync_executions where id = p_execution for no key update;
  perform sync.move_watermark(p_execution, p_entity);
  -- A plan moves nothing, nor does what was cancelled while its last page was at work. The horizon moves only when
  -- the last chain that looks for changes is through.
  if exists (select from public.sync_executions where id = p_execution and not dry_run and status = 'running')
     and not exists (select from public.sync_chains
                      where execution_id = p_execution and entity_id = p_entity.id and capture not in ('keys', 'selection', 'modified') and state <> 'done') then
    insert into public.sync_checkpoints as k
      (source_id, entity_type, job_id, execution_id, last_processed_id, records_processed, checkpoint_data,
       horizon, snapshot_xmax, watermark_at, system_identifier, timeline, database_oid, server_starts, definition_hash)
    select p_entity.source_id, p_entity.entity_type, e.job_id, e.id,
           max(c."cursor") filter (where c.capture <> 'joins' and coalesce(c.table_file, 0) = 0),
           coalesce((sync.counted(e.id, p_entity.id) ->> 'read')::bigint, 0),
           jsonb_build_object('capture', coalesce(min(c.capture::text) filter (where c.capture <> 'joins'), 'joins')),
           e.horizon, e.snapshot_xmax, e.source_time, e.system_identifier, e.timeline, e.database_oid, array[e.server_start],
           case when count(distinct c.definition_hash) = 1 then min(c.definition_hash) else 'mixed' end
      from public.sync_executions e
      join public.sync_chains c on c.execution_id = e.id and c.entity_id = p_entity.id
                               and c.capture not in ('keys', 'selection', 'modified')
     where e.id = p_execution
     group by e.id
    on conflict (source_id, entity_type) do update
       set job_id = excluded.job_id, execution_id = excluded.execution_id, last_processed_id = excluded.last_processed_id,
           records_processed = excluded.records_processed, checkpoint_data = excluded.checkpoint_data,
           horizon = excluded.horizon, snapshot_xmax = excluded.snapshot_xmax, watermark_at = excluded.watermark_at, watermark_id = null,
           system_identifier = excluded.system_identifier, timeline = excluded.timeline,
           database_oid = excluded.database_oid,
           -- What was known of other servers does not hold after everything was read from this one.
           server_starts = case when v_whole then excluded.server_starts
                           else sync.latest_starts(k.server_starts, excluded.server_starts[1]) end,
           definition_hash = excluded.definition_hash, updated_at = now()
     where v_whole or k.horizon <= excluded.horizon;
  end if;
  return array(select sync.advance_execution(p_execution));
end
$$;
comment on function sync.close_chain(uuid, public.sync_entities) is
  'Moves the entity''s checkpoint when its last chain is done and opens what comes next.';

create function sync.close_page(p_chain public.sync_chains, p_entity public.sync_entities, p_page jsonb, p_wall_ms numeric) returns uuid[]
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_done    boolean := (p_page ->> 'done')::boolean;
  v_counted boolean;
begin
  if not v_done and coalesce((p_page ->> 'cursor')::bigint, p_chain."cursor") is not distinct from p_chain."cursor"
     and coalesce(p_page ->> 'cursor_at', p_chain.cursor_at) is not distinct from p_chain.cursor_at
     and coalesce((p_page ->> 'table_file')::bigint, p_chain.table_file) is not distinct from p_chain.table_file then
    raise exception 'entity %: a page of capture % ended where it began', p_entity.entity_type, p_chain.capture
      using errcode = 'IS050', detail = jsonb_build_object('entity', p_entity.entity_type, 'capture', p_chain.capture)::text;
  end if;
  update public.sync_chains
     set page = page + 1, "cursor" = coalesce((p_page ->> 'cursor')::bigint, "cursor"),
         cursor_at = coalesce(p_page ->> 'cursor_at', cursor_at), table_file = coalesce((p_page ->> 'table_file')::bigint, table_file),
         -- A page must stay far within its lease, whatever the database took for it and for the rejects that it found.
         page_size = case when p_wall_ms > (p_page ->> 'lease_seconds')::integer * 500 then greatest(1, p_chain.page_size / 2)
                          when p_wall_ms > (p_page ->> 'lease_seconds')::integer * 250
                            then least(p_chain.page_size, (p_page ->> 'next_page_size')::integer)
                          else (p_page ->> 'next_page_size')::integer end,
         -- Where nearly everything has changed, asking for hashes first is work for nothing.
         skips_unchanged = skips_unchanged and coalesce((p_page ->> 'untouched')::bigint * 8 >= (p_page ->> 'read')::bigint - (p_page ->> 'waived')::bigint, true),
         slow_growth = slow_growth or coalesce((p_page ->> 'cut')::boolean, false) or p_wall_ms > (p_page ->> 'lease_seconds')::integer * 500,
         lease_until = null, sends = 0, failures = 0, crashes = 0, last_error = null,
         state = case when v_done then 'done' else 'open' end::public.sync_chain_state,
         closed_at = case when v_done then now() end,
         due_at = case when not v_done then clock_timestamp() + make_interval(secs => (p_page ->> 'lease_seconds')::integer) end
   where id = p_chain.id
  returning coalesce((counts ->> 'pages')::integer, 0) = page into v_counted;
  -- Brakes and reports go by these counts.
  if not v_counted then
    raise exception 'entity %: the counts of capture % are not those of its pages', p_entity.entity_type, p_chain.capture
      using errcode = 'IS073', hint = 'A trigger of sync_page_log is off, or somebody has written to it: alter table public.sync_page_log enable trigger all. Where rows were written by hand, cancel the execution and start again.';
  end if;
  -- Functions are deployed one after the other: what a page of another version landed is read again by the next
  -- execution.
  if p_page ->> 'definition_hash' is distinct from p_chain.definition_hash then
    update public.sync_chains set definition_hash = 'mixed' where id = p_chain.id;
    update public.sync_checkpoints set definition_hash = 'mixed'
     where source_id = p_entity.source_id and entity_type = p_entity.entity_type
       and not exists (select from public.sync_executions where id = p_chain.execution_id and dry_run);
  end if;
  -- Of what this page decided under another definition than the checkpoint's, the latter no longer tells: should that
  -- definition come back, or the pass end half way, everything is read again.
  update public.sync_checkpoints set definition_hash = 'unfinished'
   where source_id = p_entity.source_id and entity_type = p_entity.entity_type
     and definition_hash <> p_page ->> 'definition_hash' and definition_hash !~ '^(mixed$|unfinished$|reread:|none)'
     and not exists (select from public.sync_executions where id = p_chain.execution_id and dry_run);
  if v_done then
    return sync.close_chain(p_chain.execution_id, p_entity);
  end if;
  return array[p_chain.id];
end
$$;
comment on function sync.close_page(public.sync_chains, public.sync_entities, jsonb, numeric) is
  'Moves a chain behind the page that is being committed and closes it with its last page; returns what to dispatch.';

create function sync.end_page(p_chain public.sync_chains, p_entity public.sync_entities, p_page jsonb, p_surplus jsonb,
  p_begun timestamptz) returns jsonb
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_counts   jsonb;
  v_gone     integer;
  v_wall_ms  numeric;
  v_dispatch uuid[];
begin
  select jsonb_build_object(
           'inserted', count(*) filter (where action = 'insert'), 'updated', count(*) filter (where action = 'update'),
           'unchanged', count(*) filter (where action = 'unchanged') + coalesce((p_page ->> 'untouched')::integer, 0), 'deleted', count(*) filter (where action in ('delete', 'soft')),
           'waived', (p_page ->> 'waived')::integer + jsonb_array_length(p_page -> 'outside')
             - (select count(*) from pg_temp.page_rows where _leaves and p_page -> 'outside' ? _key::text)
             + (select count(*) from pg_temp.page_issues where settled),
           'waiting', (select count(*) from pg_temp.page_issues where state = 'waiting' and not settled),
           'in_conflict', (select count(*) from pg_temp.page_issues where state = 'open' and not settled))
    into v_counts from pg_temp.page_plan;
  -- Of the keys without a record, those that had landed were looked at where they are deleted.
  v_gone := case when p_chain.deletes then
    (select count(*) from (select _key from pg_temp.page_rows where _leaves union select k from pg_temp.page_issues) x
      where p_page -> 'gone' ? _key::text) else 0 end;

  v_wall_ms := (p_page ->> 'wall_ms')::numeric + extract(epoch from clock_timestamp() - p_begun) * 1000;
  insert into public.sync_page_log
    (execution_id, chain_id, entity_id, page, read, inserted, updated, unchanged, deleted, waiting, in_conflict, waived, waived_by,
     untouched, absent, surplus, nulled, overwritten, cache_lookups, cache_hits, heap_bytes, wall_ms)
  values (p_chain.execution_id, p_chain.id, p_entity.id, p_chain.page, (p_page ->> 'read')::integer + v_gone,
          (v_counts ->> 'inserted')::integer, (v_counts ->> 'updated')::integer, (v_counts ->> 'unchanged')::integer,
          (v_counts ->> 'deleted')::integer, (v_counts ->> 'waiting')::integer, (v_counts ->> 'in_conflict')::integer,
          (v_counts ->> 'waived')::integer,
          nullif(concat_ws(', ', p_entity.predicate ->> 'rule', (select 'decision' from pg_temp.page_issues where settled limit 1)), ''),
          coalesce((p_page ->> 'untouched')::integer, 0), (p_page ->> 'absent')::integer - v_gone, (p_surplus ->> 'count')::integer, sync.page_nulled(p_entity), sync.page_rewritten(p_entity), (p_page ->> 'cache_lookups')::integer, (p_page ->> 'cache_hits')::integer,
          (p_page ->> 'heap_bytes')::bigint, v_wall_ms);

  v_dispatch := sync.close_page(p_chain, p_entity, p_page, v_wall_ms);
  return jsonb_build_object('counts', v_counts, 'surplus', (p_surplus ->> 'count')::integer,
    'landed', (select coalesce(jsonb_agg(legacy_id::text), '[]') from pg_temp.page_plan where action = 'insert'),
    'dispatch', (select coalesce(jsonb_agg(jsonb_build_object('chain', c.id, 'page', c.page, 'execution', c.execution_id) order by d.n), '[]')
                   from unnest(v_dispatch) with ordinality d (id, n) join public.sync_chains c on c.id = d.id));
end
$$;
comment on function sync.end_page(public.sync_chains, public.sync_entities, jsonb, jsonb, timestamptz) is
  'Counts and logs a page, moves its chain, and tells what came of it and what to dispatch.';

revoke all on function sync.hold_chain(uuid, bigint), sync.hold_page(uuid, bigint, jsonb), sync.move_watermark(uuid, public.sync_entities),
  sync.end_page(public.sync_chains, public.sync_entities, jsonb, jsonb, timestamptz),
  sync.close_page(public.sync_chains, public.sync_entities, jsonb, numeric), sync.latest_starts(text[], text),
  sync.close_chain(uuid, public.sync_entities) from public;
grant execute on function sync.hold_chain(uuid, bigint), sync.hold_page(uuid, bigint, jsonb), sync.move_watermark(uuid, public.sync_entities),
  sync.end_page(public.sync_chains, public.sync_entities, jsonb, jsonb, timestamptz),
  sync.close_page(public.sync_chains, public.sync_entities, jsonb, numeric), sync.latest_starts(text[], text),
  sync.close_chain(uuid, public.sync_entities) to isthmus_worker;

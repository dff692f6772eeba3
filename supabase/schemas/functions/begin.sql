-- Purpose: begin an execution: its row, its chains, and the checkpoints of entities in which nothing changed.
-- Locks:   the source's row, so that two requests cannot plan the same entities at once.

create function sync.begin_source(p_name text) returns smallint
language sql security invoker set search_path = pg_catalog, pg_temp as $$
  insert into public.sync_sources (name) values (p_name)
  on conflict (name) do update set name = excluded.name
  returning id
$$;
comment on function sync.begin_source(text) is
  'The id of a source, registered on first use with a namespace of its own.';

create function sync.notice_target(p_source_id smallint, p_witness bigint) returns boolean
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_identity text := sync.target_identity();
  v_known    text;
  v_until    timestamptz;
  v_accepted timestamptz := (select max(accepted_at) from public.sync_identities
                              where source_id = p_source_id and side = 'target_state' and accepted_at is not null);
  v_latest   bigint := coalesce((select max(ordinal) from public.sync_executions), 0);
begin
  select target_identity, put_back_until into v_known, v_until from public.sync_sources where id = p_source_id for no key update;
  update public.sync_sources
     set target_identity = v_identity,
         put_back_until = coalesce(v_accepted, put_back_until),
         written_since = case when sync.without_timeline(v_known) <> sync.without_timeline(v_identity) then pg_current_xact_id()
                         else written_since end
   where id = p_source_id and (target_identity, put_back_until) is distinct from (v_identity, coalesce(v_accepted, put_back_until));
  if coalesce(v_known, v_identity) = v_identity and coalesce(p_witness, 0) <= v_latest and coalesce(v_accepted <= v_until, true) then
    return false;
  end if;
  -- Whatever was read and deleted since the backup is found again from the older checkpoints; what nobody wrote
  -- since, by comparing.
  update public.sync_checkpoints set server_starts = '{}' where source_id = p_source_id;
  perform sync.raise_alert('target_restored', 'critical', p_source_id, null, null,
    'This database was put back to an older state, or is a copy. The next execution of each entity reads what has changed since, and compares both sides. Edits that people made here since the backup are lost with it.',
    jsonb_build_object('executions_here', v_latest, 'executions_remembered', p_witness));
  return true;
end
$$;
comment on function sync.notice_target(smallint, bigint) is
  'True: this database was put back since the last execution, as a person has accepted; then both sides are '
  'compared. p_witness: the last execution that the cache remembers.';

create function sync.begin_execution(p_start jsonb) returns jsonb
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_source    public.sync_sources;
  v_entities  text[] := array(select jsonb_array_elements_text(p_start -> 'entities'));
  v_dry_run   boolean := p_start ->> 'kind' = 'plan';
  v_selective boolean := coalesce((p_start ->> 'selective')::boolean, false);
  v_active    uuid;
  v_execution public.sync_executions;
  v_dispatch  uuid[];
begin
  select * into strict v_source from public.sync_sources where id = (p_start ->> 'source_id')::smallint for no key update;
  -- What reads a selection runs beside others: the locks of the records order their pages. But ids are taken over
  -- alone.
  select x.id into v_active from public.sync_executions x
   where x.source_id = v_source.id and x.status = 'running' and x.entities && v_entities
     and (not (v_selective or x.selective) or p_start ->> 'kind' = 'adopt'
          or exists (select from public.sync_chains c where c.execution_id = x.id and c.capture = 'adopt'))
   order by x.started_at limit 1;
  if found then
    raise exception 'execution % is running and covers some of these entities', v_active
      using errcode = 'IS030', hint = 'Wait for it to finish, or ask for its state with GET ?execution=' || v_active;
  end if;

  if not v_dry_run then
    perform sync.keep_identities(v_source.id, coalesce(p_start -> 'parties', '{}')
      || jsonb_build_object('source', (p_start ->> 'system_identifier') || '/' || (p_start ->> 'database_oid')));
  end if;
  update public.sync_sources
     set system_identifier = p_start ->> 'system_identifier', timeline = (p_start ->> 'timeline')::integer,
         in_recovery = (p_start ->> 'in_recovery')::boolean, database_oid = (p_start ->> 'database_oid')::bigint,
         server_start = p_start ->> 'server_start',
         capabilities = capabilities || jsonb_build_object('server_version', (p_start ->> 'server_version')::integer), updated_at = now()
   where id = v_source.id and not v_dry_run;

  insert into public.sync_executions
    (job_id, source_id, triggered_by, request, entities, horizon, snapshot_xmax, system_identifier, timeline, database_oid,
     server_start, source_time, dry_run, selective, brake_share, brake_records, brake_overwrite_share, brake_overwrite_records)
  values ((p_start ->> 'job_id')::uuid, v_source.id, p_start ->> 'triggered_by', p_start -> 'request', v_entities,
          (p_start ->> 'horizon')::xid8, (p_start ->> 'snapshot_xmax')::xid8, p_start ->> 'system_identifier',
          (p_start ->> 'timeline')::integer, (p_start ->> 'database_oid')::bigint, p_start ->> 'server_start', p_start ->> 'source_time', v_dry_run, v_selective,
          (p_start -> 'brake' ->> 'share')::numeric, (p_start -> 'brake' ->> 'records')::integer,
          coalesce((p_start -> 'brake' ->> 'overwriteShare')::numeric, 0.25), coalesce((p_start -> 'brake' ->> 'overwriteRecords')::integer, 1000))
  returning * into v_execution;

  insert into public.sync_chains
    (execution_id, entity_id, capture, range_from, range_to, changed_from, seen_before, join_id, selection, "cursor", cursor_at, until_at,
     definition_hash, skips_unchanged, page_size)
  select v_execution.id, e.id, c.capture, c.range_from, c.range_to, c.changed_from::xid8, c.seen_before::xid8, c.join_id, c.selection, c."cursor", c.cursor_at,
         c.until_at, e.definition_hash,
         c.capture = 'full' and exists (
           select from public.sync_checkpoints k
            where k.source_id = v_source.id and k.entity_type = e.entity_type and k.definition_hash = e.definition_hash),
         coalesce(c.page_size, (p_start ->> 'page_size')::integer)
    from jsonb_to_recordset(p_start -> 'chains') as c
           (entity text, capture public.sync_capture, range_from bigint, range_to bigint, changed_from text, seen_before text,
            join_id integer, selection jsonb, "cursor" bigint, cursor_at text, until_at text, page_size integer)
    join public.sync_entities e on e.source_id = v_source.id and e.entity_type = c.entity;
  if p_start ->> 'kind' in ('sync', 'plan') then
    insert into public.sync_chains (execution_id, capture, page_size) values (v_execution.id, 'validate', (p_start ->> 'page_size')::integer);
  end if;

  if jsonb_path_exists(p_start, '$.contract.*[*]') then
    insert into public.sync_reports (execution_id, kind, body) values (v_execution.id, 'contract', p_start -> 'contract');
  end if;

  if not v_dry_run then
    if p_start -> 'restored' <> '[]' then
      perform sync.raise_alert('source_restored', 'critical', null, v_execution.id, null,
        'The source is a primary and stands before what was read from it already: it was restored from a backup or to a point in time, a replica was promoted that had not all of it, or it lost its last transactions in a crash. Everything is read again; records that it no longer has are deleted as their entities say.',
        jsonb_build_object('entities', p_start -> 'restored'),
        sync.subject_of((select string_agg(r, ', ' order by r) from jsonb_array_elements_text(p_start -> 'restored') r)));
    end if;
    if p_start -> 'promoted' <> '[]' then
      perform sync.raise_alert('source_promoted', 'warning', null, v_execution.id, null,
        'The source is on another timeline: a replica was promoted, or the source was restored to a point in time and has moved on since. Its last transactions before that may be lost. Everything is read again; records that it no longer has are deleted as their entities say.',
        jsonb_build_object('entities', p_start -> 'promoted'),
        sync.subject_of((select string_agg(r, ', ' order by r) from jsonb_array_elements_text(p_start -> 'promoted') r)));
    end if;
  end if;

  if p_start ->> 'kind' = 'sync' and not v_selective then
    perform sync.plan_shapes(v_source.id, v_execution.id, p_start -> 'shapes');
    if jsonb_typeof(p_start -> 'horizon_held') = 'object' then
      perform sync.raise_alert('horizon_held', 'warning', null, v_execution.id, null, p_start -> 'horizon_held' ->> 'message', p_start -> 'horizon_held' -> 'details');
    else
      perform sync.close_alert('horizon_held', v_source.id);
    end if;
  end if;

  if p_start ->> 'kind' = 'sync' then
    -- What was held back, or left over, may have come back since: it is looked at once more before it is deleted.
    update public.sync_pending_keys k set gone = false from public.sync_entities e
     where e.id = k.entity_id and e.source_id = v_source.id and e.entity_type = any (v_entities) and k.execution_id is null and k.gone;
  end if;
  if v_dry_run then
    -- A run would read these too.
    insert into public.sync_pending_keys (execution_id, entity_id, legacy_id, reason)
    select v_execution.id, k.entity_id, k.legacy_id, k.reason
      from public.sync_pending_keys k join public.sync_entities e on e.id = k.entity_id
     where e.source_id = v_source.id and e.entity_type = any (v_entities) and k.execution_id is null;
  end if;

  insert into public.sync_pending_keys as k (execution_id, entity_id, legacy_id, reason)
  select case when v_dry_run then v_execution.id end, e.id, r.k, r.reason
    from jsonb_to_recordset(p_start -> 'requested') as r (entity text, k bigint, reason text)
    join public.sync_entities e on e.source_id = v_source.id and e.entity_type = r.entity
   order by e.id, r.k
  on conflict (entity_id, execution_id, legacy_id) do update set generation = default, requested_at = now(), gone = false,
     reason = case when k.reason = 'dependants' then k.reason else excluded.reason end;

  -- Nothing was written there since the last horizon: the plan itself has looked.
  update public.sync_checkpoints k
     set horizon = v_execution.horizon, snapshot_xmax = v_execution.snapshot_xmax, watermark_at = v_execution.source_time, watermark_id = null, execution_id = v_execution.id,
         server_starts = sync.latest_starts(k.server_starts, v_execution.server_start), updated_at = now()
    from jsonb_to_recordset(p_start -> 'idle') as i (entity text, horizon text)
   where k.source_id = v_source.id and k.entity_type = i.entity and k.horizon = i.horizon::xid8;

  perform sync.begin_job(v_execution.job_id);
  -- A statement of its own: a query does not see the chains that a function it calls has just made.
  v_dispatch := array(select sync.advance_execution(v_execution.id));
  return jsonb_build_object('execution', v_execution.id, 'ordinal', v_execution.ordinal, 'dispatch', (
    select coalesce(jsonb_agg(jsonb_build_object('chain', c.id, 'page', c.page, 'execution', c.execution_id) order by d.n), '[]')
      from unnest(v_dispatch) with ordinality d (id, n) join public.sync_chains c on c.id = d.id));
end
$$;
comment on function sync.begin_execution(jsonb) is
  'Begins an execution and returns its first pages. Raises IS030 while another one covers an entity, IS060 for a '
  'source, target or installation that is new.';

revoke all on function sync.begin_source(text), sync.notice_target(smallint, bigint), sync.begin_execution(jsonb) from public;
grant execute on function sync.begin_source(text), sync.notice_target(smallint, bigint), sync.begin_execution(jsonb) to isthmus_worker;

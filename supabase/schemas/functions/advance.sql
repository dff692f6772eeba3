-- Purpose: the life of an execution: advance its chains, ask the brake, release what waited, open its deletes.
-- Locks:   the execution's row, so that two chains that close at once see each other.

create function sync.add_deletes(p_execution public.sync_executions, p_page_size integer) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_entity  public.sync_entities;
  v_gone    bigint;
  v_landed  bigint;
  v_up_to   bigint;
  v_stopped boolean := false;
  v_chains  jsonb := '[]';
begin
  if exists (select from public.sync_chains c
              where c.execution_id = p_execution.id and c.capture <> 'validate' and (c.state <> 'done' or c.deletes or c.capture = 'adopt'))
     or exists (select from public.sync_chains c
                 where c.execution_id = p_execution.id and c.capture = 'validate' and (c.state <> 'blocked' or c.round > 1)) then
    return;
  end if;
  -- What is held back of some entities is not for an execution that looks at a few keys.
  if (p_execution.selective or not exists (select from public.sync_chains c where c.execution_id = p_execution.id and c.capture = 'validate'))
     and exists (select from public.sync_brakes b join public.sync_entities e on e.id = b.entity_id
                  where e.source_id = p_execution.source_id and b.kind = 'delete' and b.closed_at is null and b.confirmed_at is null) then
    return;
  end if;
  for v_entity in
    select e.* from public.sync_entities e
     where e.source_id = p_execution.source_id and e.entity_type = any (p_execution.entities) order by e.id
  loop
    if p_execution.dry_run then
      select count(*), max(generation) into v_gone, v_up_to from public.sync_pending_keys k
       where k.execution_id = p_execution.id and k.entity_id = v_entity.id and k.gone;
    else
      -- A delete that was refused before, and is only asked about again, does not count: nothing was read when that
      -- was queued.
      select count(*) filter (where not exists (
               select from public.sync_conflicts c where c.entity_id = k.entity_id and c.source_record_id = k.legacy_id and c.state = 'open' and c.source_digest is null)),
             max(generation)
        into v_gone, v_up_to from public.sync_pending_keys k where k.execution_id is null and k.entity_id = v_entity.id and k.gone;
    end if;
    continue when v_up_to is null;
    v_chains := v_chains || jsonb_build_object('id', v_entity.id, 'up_to', v_up_to);
    if v_gone > p_execution.brake_records and not p_execution.dry_run and v_entity.on_delete ->> 'policy' in ('hard', 'soft') then
      select count(*) into v_landed from public.sync_row_states s where s.entity_id = v_entity.id and (s.gone_at is null or s.outside);
      if v_gone > p_execution.brake_share * v_landed then
        v_stopped := sync.pull_brake(p_execution.id, v_entity.id, 'delete', null, v_gone, v_landed) or v_stopped;
      end if;
    end if;
  end loop;
  -- Children and parents hang together: what must not be done of one entity is not done of the others either.
  if not v_stopped then
    insert into public.sync_chains (execution_id, entity_id, capture, deletes, up_to, definition_hash, page_size)
    select p_execution.id, e.id, 'keys', true, c.up_to, e.definition_hash, p_page_size
      from jsonb_to_recordset(v_chains) as c (id smallint, up_to bigint) join public.sync_entities e on e.id = c.id;
  end if;
end
$$;
comment on function sync.add_deletes(public.sync_executions, integer) is
  'When everything else of an execution is through: chains that delete what the source no longer has, unless that is '
  'more than the brake lets pass.';

create function sync.advance_execution(p_execution uuid) returns setof uuid
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_execution public.sync_executions;
  v_page_size integer;
  v_moved     integer;
begin
  -- Not `for update`: every page that logs itself holds a key share on this row, and two that close at once would
  -- deadlock.
  select * into v_execution from public.sync_executions where id = p_execution for no key update;
  if v_execution.status is distinct from 'running' then
    return;
  end if;

  -- What was released or requested is read again within this execution, once the entity's own chains are through.
  if v_execution.dry_run then
    perform sync.plan_released(v_execution, null, null);
  else
    perform sync.release_waiting(v_execution.source_id);
  end if;
  select coalesce(max(page_size), (v_execution.request ->> 'page_size')::integer) into v_page_size
    from public.sync_chains where execution_id = p_execution and capture not in ('joins', 'digest');
  insert into public.sync_chains (execution_id, entity_id, capture, definition_hash, page_size)
  select p_execution, e.id, 'keys', e.definition_hash, v_page_size
    from public.sync_entities e
   where e.source_id = v_execution.source_id and e.entity_type = any (v_execution.entities)
     and case when v_execution.dry_run
           then exists (select from public.sync_pending_keys k where k.execution_id = p_execution and k.entity_id = e.id and not k.gone)
           else e.adoption_epoch > 0 and exists (
             select from public.sync_pending_keys k where k.execution_id is null and k.entity_id = e.id and not k.gone) end
     and not exists (select from public.sync_chains c where c.execution_id = p_execution and c.capture = 'adopt')
     and not exists (select from public.sync_chains c
                      where c.execution_id = p_execution and c.entity_id = e.id and c.state <> 'done')
     -- While both sides are compared nothing is added: the comparison would end the execution before these pages.
     and not exists (select from public.sync_chains c
                      where c.execution_id = p_execution and c.capture = 'validate' and c.state = 'open');

  perform sync.add_deletes(v_execution, v_page_size);

  -- A chain whose entity depends on a failed one does not run: its records would only wait. Nor does one whose joined
  -- rows were not gone through.
  loop
    update public.sync_chains c set state = 'cancelled', closed_at = now()
      from public.sync_entities e
     where c.execution_id = p_execution and c.state = 'blocked' and e.id = c.entity_id
       and exists (select from public.sync_chains d join public.sync_entities p on p.id = d.entity_id
                    where d.execution_id = p_execution and d.state in ('failed', 'cancelled')
                      and case when c.deletes then e.entity_type = any (p.depends_on)
                               else p.entity_type = any (e.depends_on) or d.entity_id = c.entity_id and d.capture = 'joins' end);
    get diagnostics v_moved = row_count;
    exit when v_moved = 0;
  end loop;

  -- Parents before children, and joined rows before the records that consume them: what is noted of a row must never
  -- be newer than what its records were read with. Joined rows themselves wait for nothing. A digest waits for what
  -- is found without it. Deletes run the other way round: children before parents.
  return query
  with opened as (
  update public.sync_chains c set state = 'open', due_at = now()
    from public.sync_entities e
   where c.execution_id = p_execution and c.state = 'blocked' and e.id = c.entity_id
     and (c.capture = 'joins' or not exists (
           select from public.sync_chains d join public.sync_entities p on p.id = d.entity_id
           where d.execution_id = p_execution and d.state in ('blocked', 'open') and d.id <> c.id
             and case when c.deletes then d.deletes and e.entity_type = any (p.depends_on)
                      else not d.deletes and p.entity_type = any (e.depends_on)
                        or d.entity_id = c.entity_id and (d.capture = 'joins' or c.capture = 'digest' and d.capture not in ('digest', 'keys')) end))
  returning c.id, e.entity_type, c.range_from)
  -- In the order of the execution's entities, which is that of the request's priorities.
  select o.id from opened o order by array_position(v_execution.entities, o.entity_type::text), o.range_from nulls first;

  if exists (select from public.sync_chains
              where execution_id = p_execution and capture <> 'validate' and state in ('blocked', 'open')) then
    return;
  end if;
  if exists (select from public.sync_chains
              where execution_id = p_execution and state in ('failed', 'cancelled')) then
    update public.sync_chains set state = 'cancelled', closed_at = now()
     where execution_id = p_execution and state = 'blocked';
    perform sync.finish_execution(p_execution, 'failed',
      (select jsonb_agg(last_error) from public.sync_chains
        where execution_id = p_execution and state in ('failed', 'cancelled') and last_error is not null));
    return;
  end if;
  if not exists (select from public.sync_chains where execution_id = p_execution and capture = 'validate') then
    perform sync.finish_execution(p_execution, 'succeeded', null);
    return;
  end if;
  -- Everything is loaded: compare both sides. Everything is planned: report.
  return query
  update public.sync_chains set state = 'open', due_at = now()
   where execution_id = p_execution and capture = 'validate' and state = 'blocked'
  returning id;
end
$$;
comment on function sync.advance_execution(uuid) is
  'Opens the chains whose turn has come and returns them for dispatch; finishes the execution when a chain has '
  'failed.';

revoke all on function sync.add_deletes(public.sync_executions, integer), sync.advance_execution(uuid) from public;
grant execute on function sync.add_deletes(public.sync_executions, integer), sync.advance_execution(uuid) to isthmus_worker;

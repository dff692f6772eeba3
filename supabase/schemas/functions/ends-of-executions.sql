-- Purpose: every execution ends: its sums, what a person cancels, and what makes no progress.
-- Locks:   the rows of chains (in order, skipping those that a page is committing), then the execution's row.

create function sync.cancel_chain(p_chain public.sync_chains) returns boolean
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  if exists (select from public.sync_executions where id = p_chain.execution_id and status = 'running') then
    return false;
  end if;
  update public.sync_chains set state = 'cancelled', closed_at = now(), due_at = null, lease_until = null where id = p_chain.id;
  return true;
end
$$;
comment on function sync.cancel_chain(public.sync_chains) is
  'True: the execution of this chain, which the caller has locked, was cancelled, and the chain is closed.';

create function sync.settle_cancelled() returns setof uuid
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_execution uuid;
begin
  for v_execution in
    select id from public.sync_executions where status = 'cancelled' and metrics is null order by started_at limit 50
  loop
    -- A page at work may commit within its lease. One that commits right now holds its chain's row, and may want the
    -- execution's.
    with free as (
      select id from public.sync_chains
       where execution_id = v_execution and state in ('blocked', 'open') and (lease_until is null or lease_until <= clock_timestamp())
       order by id for update skip locked
    )
    update public.sync_chains c set state = 'cancelled', closed_at = now(), due_at = null, lease_until = null from free where free.id = c.id;
    if not exists (select from public.sync_chains where execution_id = v_execution and state in ('blocked', 'open')) then
      perform sync.sum_execution(v_execution);
      return next v_execution;
    end if;
  end loop;
end
$$;
comment on function sync.settle_cancelled() is
  'Closes the chains of cancelled executions; when the last page at work has committed or its lease has run out, '
  'sums and metrics are set.';

create function sync.cancel_executions(p_execution uuid, p_by text) returns jsonb
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_cancelled uuid[];
  v_ended     public.sync_execution_status := (select status from public.sync_executions where id = p_execution and status <> 'running');
begin
  if v_ended is not null then
    raise exception 'execution % has ended already: it is %', p_execution, v_ended
      using errcode = 'IS031', hint = 'Nothing to do. npm run sync -- executions lists those that run.';
  end if;
  -- p_execution null: all that run.
  with cancelled as (
    update public.sync_executions set status = 'cancelled', cancelled_by = p_by
     where id = p_execution or p_execution is null and status = 'running'
    returning id)
  select coalesce(array_agg(id), '{}') into v_cancelled from cancelled;
  perform sync.settle_cancelled();
  return (select coalesce(jsonb_agg(jsonb_build_object('execution', x.id, 'status', x.status, 'pagesAtWork',
                   (select count(*) from public.sync_chains c where c.execution_id = x.id and c.state in ('blocked', 'open'))) order by x.started_at), '[]')
            from public.sync_executions x where x.id = any (v_cancelled));
end
$$;
comment on function sync.cancel_executions(uuid, text) is
  'Cancels an execution, or all that run. Raises IS031 when it has ended already. Pages at work may commit; no other '
  'begins.';

create function sync.stalled_error(p_chain public.sync_chains, p_why text, p_minutes integer) returns jsonb
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select jsonb_strip_nulls(jsonb_build_object(
           'code', 'PAGE_STALLED', 'entity', n.entity, 'capture', p_chain.capture, 'page', p_chain.page,
           'tries', p_chain.failures + n.killed::integer, 'cause', n.cause,
           'passes', p_why <> 'tries' and n.cause is null
             -- A limit stays what it is; a lock does not.
             or not n.killed and (sync.category_of_code(n.cause ->> 'code') in ('transient', 'misfit') or n.cause ->> 'sqlstate' is not distinct from '55P03'),
           'message', format('%s of %s made no progress: %s.', case when p_chain.capture = 'validate' then 'The comparison' else 'Page ' || p_chain.page end,
             coalesce(n.entity, 'both sides'),
             case when n.killed then format('it was begun %s times, and the last function that took it was killed', p_chain.failures + 1)
                  when p_chain.refusals > 0 then format('the queue did not take its message %s times', p_chain.refusals)
                  when n.cause is not null then format('it failed %s times, the last time with %s', p_chain.failures, n.cause ->> 'code')
                  when p_chain.unclaimed > 0 then format('it was sent %s times and not begun', p_chain.unclaimed)
                  else format('nothing has moved for %s minutes', p_minutes) end),
           'remedy', case when n.killed then 'See the log of sync-page; lower ISTHMUS_PAGE_SIZE_MAX if it was its memory.'
                          when n.cause is not null then n.cause ->> 'remedy'
                          else 'See whether sync-page is deployed and the queue works: npm run sync -- check, the function''s log, and the queue''s dead letters.' end
             || ' Then start again: what was committed stays.'
             || case when p_chain.capture = 'keys' and not p_chain.deletes then ' The keys of the page stay in sync_pending_keys and are read again.' else '' end))
    from (select (select e.entity_type from public.sync_entities e where e.id = p_chain.entity_id) as entity,
                 coalesce(p_chain.refusal, p_chain.last_error, (select sync.refuses(x.source_id) from public.sync_executions x where x.id = p_chain.execution_id)) as cause,
                 p_chain.lease_until is not null as killed) n
$$;
comment on function sync.stalled_error(public.sync_chains, text, integer) is
  'Why a page made no progress, and what to do. passes: by itself, perhaps, so that a job tries again.';

create function sync.end_stuck(p_execution uuid) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  perform from public.sync_executions where id = p_execution for no key update;
  update public.sync_chains set state = 'cancelled', closed_at = now() where execution_id = p_execution and state = 'blocked';
  perform sync.finish_execution(p_execution, 'failed', coalesce((
      select jsonb_agg(last_error) from public.sync_chains where execution_id = p_execution and state = 'failed' and last_error is not null), '[]')
    || jsonb_build_object('code', 'EXECUTION_STALLED', 'message', 'None of what was left of the execution could begin.',
         'remedy', 'Start again. If it happens again, report it with the rows of sync_chains of this execution.'));
end
$$;
comment on function sync.end_stuck(uuid) is 'Ends an execution of which nothing can begin any more.';

create function sync.last_moved(p_execution public.sync_executions) returns timestamptz
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  -- What a person has let go on has had no time to move.
  select greatest(p_execution.started_at, p_execution.controlled_at, max(c.moved_at), max(c.controlled_at), max(e.controlled_at),
           (select j.controlled_at from public.sync_jobs j where j.id = p_execution.job_id))
    from public.sync_chains c left join public.sync_entities e on e.id = c.entity_id where c.execution_id = p_execution.id
$$;
comment on function sync.last_moved(public.sync_executions) is
  'When something of the execution moved last, or a person last said of it to pause or go on.';

create function sync.stop_stalled(p_tries integer, p_minutes integer) returns setof uuid
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_execution public.sync_executions;
  v_moved_at  timestamptz;
  v_latest    timestamptz := (select max(sync.last_moved(x)) from public.sync_executions x where x.status = 'running');
  v_stopped   public.sync_chains;
  v_any       boolean;
begin
  for v_execution in select * from public.sync_executions where status = 'running' order by started_at loop
    v_moved_at := sync.last_moved(v_execution);
    v_any := false;
    for v_stopped in
      with stalled as (
        select c.id, w.why
          from public.sync_chains c
          cross join lateral (select case
            -- Whoever took it has failed, or was killed, so often.
            when c.failures + (c.lease_until is not null)::integer >= p_tries then 'tries'
            -- Nobody takes it, and nothing of any execution moves: no queue, or no function.
            when c.unclaimed >= p_tries and v_latest <= clock_timestamp() - make_interval(mins => least(p_tries, p_minutes)) then 'unclaimed'
            -- Nothing of this execution moves. After a time without ticks, or a restored database, it is tried before
            -- it is judged.
            when v_moved_at <= clock_timestamp() - make_interval(mins => p_minutes)
             and (greatest(c.unclaimed, c.refusals, c.failures) >= 3 or c.due_at > clock_timestamp() + make_interval(mins => p_minutes)
                  -- Its pages wait for a source that refuses, and for that without an end.
                  or (select s.refused_since from public.sync_sources s where s.id = v_execution.source_id) <= clock_timestamp() - make_interval(mins => p_minutes))
             then 'minutes' end as why) w
         where c.execution_id = v_execution.id and c.state = 'open' and (c.lease_until is null or c.lease_until <= clock_timestamp())
           and w.why is not null and not sync.is_held(c)
         order by c.id for update of c skip locked
      )
      update public.sync_chains c
         set state = 'failed', closed_at = now(), due_at = null, lease_until = null, last_error = sync.stalled_error(c, s.why, p_minutes)
        from stalled s where s.id = c.id
      returning c.*
    loop
      v_any := true;
      if not v_execution.dry_run then
        perform sync.raise_alert('page_stalled', 'critical', null, v_execution.id, v_stopped.entity_id, v_stopped.last_error ->> 'message',
          v_stopped.last_error - 'message', v_stopped.capture::text);
      end if;
    end loop;
    if v_any then
      begin
        perform sync.advance_execution(v_execution.id);
      exception when others then
        -- What was stopped stays stopped. When nothing is open any more, the execution ends all the same.
        if sync.passes_by_itself(sqlstate) then
          raise;
        elsif not exists (select from public.sync_chains where execution_id = v_execution.id and state = 'open') then
          perform sync.end_stuck(v_execution.id);
        end if;
      end;
      return next v_execution.id;
    elsif v_moved_at <= clock_timestamp() - make_interval(mins => p_minutes)
      and not exists (select from public.sync_chains where execution_id = v_execution.id and state = 'open') then
      perform sync.end_stuck(v_execution.id);
      return next v_execution.id;
    end if;
  end loop;
end
$$;
comment on function sync.stop_stalled(integer, integer) is
  'Stops each chain whose page made no progress in so many tries, or of whose execution nothing has moved for so '
  'many minutes; the rest goes on. Returns executions of which something was stopped.';

create function sync.advance_running(p_source_id smallint) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_execution uuid;
  v_stuck     boolean := false;
begin
  for v_execution in
    select id from public.sync_executions where source_id = p_source_id and status = 'running' order by started_at
  loop
    begin
      perform sync.advance_execution(v_execution);
    exception when others then
      -- It holds up no other. Where it does not move for too long, it is ended.
      v_stuck := true;
      continue when sync.passes_by_itself(sqlstate);
      perform sync.raise_alert('execution_stuck', 'critical', null, v_execution, null,
        'The chains of an execution cannot be opened. It ends by itself when nothing has moved for ISTHMUS_STALLED_MINUTES.',
        jsonb_build_object('execution', v_execution, 'sqlstate', sqlstate));
    end;
  end loop;
  if not v_stuck then
    perform sync.close_alert('execution_stuck', p_source_id);
  end if;
end
$$;
comment on function sync.advance_running(smallint) is
  'Opens the chains of running executions whose turn has come; they are due at once, so the sweep sends them.';

revoke all on function sync.cancel_chain(public.sync_chains), sync.settle_cancelled(), sync.cancel_executions(uuid, text),
  sync.stalled_error(public.sync_chains, text, integer), sync.last_moved(public.sync_executions), sync.stop_stalled(integer, integer), sync.end_stuck(uuid),
  sync.advance_running(smallint) from public;
grant execute on function sync.cancel_chain(public.sync_chains), sync.settle_cancelled(), sync.cancel_executions(uuid, text),
  sync.stalled_error(public.sync_chains, text, integer), sync.last_moved(public.sync_executions), sync.stop_stalled(integer, integer), sync.end_stuck(uuid),
  sync.advance_running(smallint) to isthmus_worker;

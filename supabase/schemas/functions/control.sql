-- Purpose: carry out what a person says of a job, an execution, an entity or a chain, and tell what is paused.
-- Locks:   the source's row, so that a retry and a start see each other; the execution's row; its chains.

create function sync.retry_chains(p_execution uuid, p_chains uuid[]) returns boolean
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_execution public.sync_executions;
begin
  perform from public.sync_sources s join public.sync_executions x on x.source_id = s.id where x.id = p_execution for no key update of s;
  select * into v_execution from public.sync_executions where id = p_execution for no key update;
  -- Somebody else may have gone on with it meanwhile.
  if v_execution.status not in ('failed', 'running') or not exists (select from public.sync_chains where id = any (p_chains) and state = 'failed') then
    return true;
  end if;
  if v_execution.status = 'failed' then
    if exists (select from public.sync_executions o
                where o.source_id = v_execution.source_id and o.status = 'running' and o.entities && v_execution.entities
                  and (not (o.selective or v_execution.selective) or exists (select from public.sync_chains c where c.execution_id = o.id and c.capture = 'adopt'))) then
      return false;
    end if;
    perform sync.go_on_counting(p_execution);
    update public.sync_executions set status = 'running', completed_at = null, errors = null, metrics = null, controlled_at = clock_timestamp() where id = p_execution;
    update public.sync_jobs set status = 'running', attempts = 0, last_error = null, waits_since = null where id = v_execution.job_id;
  end if;
  -- What was not begun because of a failed one has its turn again; of what still has failed, the children are
  -- cancelled anew. The sweep sends them: the queue would swallow the first message of a page that it has had.
  update public.sync_chains
     set state = 'blocked', closed_at = null, due_at = null, lease_until = null, failures = 0, unclaimed = 0, refusals = 0, refusal = null, waits_since = null,
         last_error = null, control = null
   -- What a person has cancelled says so, and stays so.
   where execution_id = p_execution and (id = any (p_chains) and state = 'failed' or state = 'cancelled' and last_error ->> 'code' is distinct from 'EXECUTION_CANCELLED');
  perform sync.advance_execution(p_execution);
  return true;
end
$$;
comment on function sync.retry_chains(uuid, uuid[]) is
  'Opens failed chains where they stood, with those that were cancelled because of them, and their execution with '
  'them. False: another execution of these entities runs.';

create function sync.tell_stuck(p_execution uuid, p_sqlstate text) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  if not sync.passes_by_itself(p_sqlstate) then
    perform sync.raise_alert('execution_stuck', 'critical', null, p_execution, null,
      'What a person said of an execution cannot be carried out. It ends by itself when nothing has moved for ISTHMUS_STALLED_MINUTES.',
      jsonb_build_object('execution', p_execution, 'sqlstate', p_sqlstate));
  end if;
end
$$;
comment on function sync.tell_stuck(uuid, text) is
  'Opens the alert execution_stuck where a word cannot be carried out and that does not pass: it holds up no other.';

-- Words are few: they are looked up by their index, whatever the planner thinks of tables that were never analysed.
create function sync.cancel_held() returns setof uuid
language plpgsql security invoker set search_path = pg_catalog, pg_temp set enable_seqscan = off as $$
declare
  v_execution uuid;
begin
  update public.sync_executions set status = 'cancelled', cancelled_by = controlled_by, control = null where control = 'cancel' and status = 'running';
  -- A word is taken and carried out by one statement: none that is given meanwhile is lost.
  with said as (
    update public.sync_jobs set control = null where control = 'cancel' returning id, controlled_by
  )
  update public.sync_executions x set status = 'cancelled', cancelled_by = s.controlled_by, control = null
    from said s where x.job_id = s.id and x.status = 'running';
  for v_execution in
    select distinct c.execution_id from public.sync_executions x join public.sync_chains c on c.execution_id = x.id left join public.sync_entities e on e.id = c.entity_id
     where x.status = 'running' and c.state in ('blocked', 'open') and 'cancel' in (c.control, e.control)
  loop
    begin
      -- A page at work may commit within its lease.
      with free as (
        select c.id, coalesce(case when c.control = 'cancel' then c.controlled_by end, e.controlled_by) as by, e.entity_type as entity
          from public.sync_chains c left join public.sync_entities e on e.id = c.entity_id
         where c.execution_id = v_execution and c.state in ('blocked', 'open') and 'cancel' in (c.control, e.control)
           and (c.lease_until is null or c.lease_until <= clock_timestamp())
         order by c.id for update of c skip locked
      )
      update public.sync_chains c
         set state = 'cancelled', closed_at = now(), due_at = null, lease_until = null, control = null,
             last_error = jsonb_build_object('code', 'EXECUTION_CANCELLED', 'entity', f.entity, 'message', 'Its pages were cancelled by ' || f.by || '.')
        from free f where f.id = c.id;
      if found then
        perform sync.advance_execution(v_execution);
        return next v_execution;
      end if;
    exception when others then
      perform sync.tell_stuck(v_execution, sqlstate);
    end;
  end loop;
  update public.sync_entities e set control = null
   where e.control = 'cancel' and not exists (
     select from public.sync_executions x join public.sync_chains c on c.execution_id = x.id
      where x.status = 'running' and c.entity_id = e.id and c.state in ('blocked', 'open'));
end
$$;
comment on function sync.cancel_held() is
  'Ends what a person has cancelled: executions, and the chains of entities, where no page is at work.';

create function sync.apply_controls() returns setof uuid
language plpgsql security invoker set search_path = pg_catalog, pg_temp set enable_seqscan = off as $$
declare
  v_word   record;
  v_chains uuid[];
  v_where  uuid;
  v_done   boolean;
begin
  return query select * from sync.cancel_held();
  for v_word in
    select 'job' as what, to_jsonb(j) as "row" from public.sync_jobs j where j.control = 'retry'
    union all select 'execution', to_jsonb(x) from public.sync_executions x where x.control = 'retry'
    union all select 'entity', to_jsonb(e) from public.sync_entities e where e.control = 'retry'
    union all select 'chain', to_jsonb(c) from public.sync_chains c where c.control = 'retry'
  loop
    select array_agg(f.id), (array_agg(f.execution_id))[1] into v_chains, v_where from sync.failed_chains(v_word.what, v_word."row") f;
    -- Without a failed chain somebody else has gone on with it. Behind another execution it waits until that has
    -- ended.
    begin
      v_done := v_where is null or sync.retry_chains(v_where, v_chains);
    exception when others then
      perform sync.tell_stuck(v_where, sqlstate);
      v_done := false;
    end;
    continue when not v_done;
    if v_where is not null then
      return next v_where;
    elsif v_word.what = 'job' then
      update public.sync_jobs set status = case when status = 'running' then status else 'pending' end, attempts = 0, last_error = null, waits_since = null,
             next_execution_at = clock_timestamp()
       where id = (v_word."row" ->> 'id')::uuid;
    end if;
    update public.sync_jobs set control = null where control = 'retry' and v_word.what = 'job' and id = (case when v_word.what = 'job' then v_word."row" ->> 'id' end)::uuid;
    update public.sync_executions set control = null where control = 'retry' and v_word.what = 'execution' and id = (case when v_word.what = 'execution' then v_word."row" ->> 'id' end)::uuid;
    update public.sync_entities set control = null where control = 'retry' and v_word.what = 'entity' and id = (case when v_word.what = 'entity' then v_word."row" ->> 'id' end)::smallint;
    update public.sync_chains set control = null where control = 'retry' and v_word.what = 'chain' and id = (case when v_word.what = 'chain' then v_word."row" ->> 'id' end)::uuid;
  end loop;
  -- What has ended otherwise waits for nothing.
  update public.sync_executions set control = null where control in ('pause', 'cancel') and status <> 'running';
  update public.sync_chains set control = null where control in ('pause', 'cancel') and state not in ('blocked', 'open');
  perform sync.settle_cancelled();
end
$$;
comment on function sync.apply_controls() is
  'Carries out what people have said in control: every tick, and at once where it was said over HTTP. Returns the '
  'executions that go on or lost chains.';

create function sync.paused() returns table (what text, name text, source_id smallint, execution_id uuid, entity_id smallint, job_id uuid, by text, since timestamptz, message text)
language sql stable security invoker set search_path = pg_catalog, pg_temp set enable_seqscan = off as $$
  select p.*, format('The %s %s is paused by %s since %s. To go on: npm run sync -- resume %s %s', p.what, p.name, p.by,
           to_char(p.since at time zone 'UTC', 'YYYY-MM-DD HH24:MI "UTC"'), p.what, quote_ident(p.name))
    from (select 'job', j.name::text, null::smallint, null::uuid, null::smallint, j.id, j.controlled_by, j.controlled_at from public.sync_jobs j where j.control = 'pause'
          union all select 'execution', x.id::text, x.source_id, x.id, null, x.job_id, x.controlled_by, x.controlled_at
                      from public.sync_executions x where x.control = 'pause' and x.status = 'running'
          union all select 'entity', e.entity_type, e.source_id, null, e.id, null, e.controlled_by, e.controlled_at from public.sync_entities e where e.control = 'pause'
          union all select 'chain', c.id::text, x.source_id, x.id, c.entity_id, x.job_id, c.controlled_by, c.controlled_at
                      from public.sync_chains c join public.sync_executions x on x.id = c.execution_id
                     where c.control = 'pause' and c.state in ('blocked', 'open') and x.status = 'running') p (what, name, source_id, execution_id, entity_id, job_id, by, since)
$$;
comment on function sync.paused() is 'What people have paused, since when, and how it goes on.';

create function sync.tell_paused(p_source_id smallint, p_hours integer) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_paused record;
  v_kept   text[] := '{}';
begin
  for v_paused in
    select * from sync.paused() p where coalesce(p.source_id, p_source_id) = p_source_id and p.since <= clock_timestamp() - make_interval(hours => p_hours)
  loop
    perform sync.put_alert('paused_long', 'warning', p_source_id, v_paused.entity_id, v_paused.execution_id, v_paused.job_id, sync.subject_of(v_paused.what, v_paused.name),
      v_paused.message, jsonb_build_object('what', v_paused.what, 'since', v_paused.since));
    v_kept := v_kept || sync.subject_of(v_paused.what, v_paused.name);
  end loop;
  perform sync.close_alerts(array(
    select a.id from public.sync_alerts a where a.kind = 'paused_long' and a.source_id = p_source_id and a.closed_at is null and a.subject <> all (v_kept)));
end
$$;
comment on function sync.tell_paused(smallint, integer) is
  'Opens the alert paused_long of what people have paused for so many hours, and closes that of what goes on.';

create function sync.control(p_source_id smallint, p_what text, p_name text, p_word public.sync_control, p_by text) returns jsonb
language plpgsql security invoker set search_path = pg_catalog, pg_temp set enable_seqscan = off as $$
declare
  v_job       uuid := (select id from public.sync_jobs where p_what = 'job' and name = p_name);
  v_entity    smallint := (select id from public.sync_entities where p_what = 'entity' and source_id = p_source_id and entity_type = p_name);
  v_execution uuid := (select id from public.sync_executions where id = case when p_what = 'execution' then p_name::uuid end);
  v_chain     uuid := (select id from public.sync_chains where id = case when p_what = 'chain' then p_name::uuid end);
  v_touched   uuid[];
begin
  if coalesce(v_job, v_execution, v_chain) is null and v_entity is null then
    return null;
  end if;
  update public.sync_jobs set control = p_word, controlled_by = p_by where id = v_job and control is distinct from p_word;
  update public.sync_executions set control = p_word, controlled_by = p_by where id = v_execution and control is distinct from p_word;
  update public.sync_entities set control = p_word, controlled_by = p_by where id = v_entity and control is distinct from p_word;
  update public.sync_chains set control = p_word, controlled_by = p_by where id = v_chain and control is distinct from p_word;
  -- What goes on is due at once.
  update public.sync_chains c set due_at = clock_timestamp()
    from public.sync_executions x
   where p_word = 'resume' and x.id = c.execution_id and x.status = 'running' and (x.job_id = v_job or x.id = v_execution or c.entity_id = v_entity or c.id = v_chain)
     and c.state = 'open' and (c.lease_until is null or c.lease_until <= clock_timestamp());
  v_touched := array(select sync.apply_controls());
  return jsonb_build_object('what', p_what, 'name', p_name, 'word', p_word, 'executions', to_jsonb(v_touched),
    'waits', p_word in ('cancel', 'retry') and (
       exists (select from public.sync_jobs where id = v_job and control = p_word) or exists (select from public.sync_executions where id = v_execution and control = p_word)
       or exists (select from public.sync_entities where id = v_entity and control = p_word) or exists (select from public.sync_chains where id = v_chain and control = p_word)),
    'pagesAtWork', (select count(*) from public.sync_executions x join public.sync_chains c on c.execution_id = x.id
                     where (x.job_id = v_job or x.id = v_execution or c.entity_id = v_entity or c.id = v_chain) and c.state = 'open' and c.lease_until > clock_timestamp()
                       and (x.status = 'running' or x.metrics is null)));
end
$$;
comment on function sync.control(smallint, text, text, public.sync_control, text) is
  'Gives a word to a job (by name), an execution, an entity (by name) or a chain, and carries it out. Null: there is '
  'no such thing. Raises IS032 where the word has no meaning now. waits: something is in its way still, and a tick '
  'carries it out.';

revoke all on function sync.retry_chains(uuid, uuid[]), sync.tell_stuck(uuid, text), sync.cancel_held(), sync.apply_controls(), sync.paused(), sync.tell_paused(smallint, integer),
  sync.control(smallint, text, text, public.sync_control, text) from public;
grant execute on function sync.retry_chains(uuid, uuid[]), sync.tell_stuck(uuid, text), sync.cancel_held(), sync.apply_controls(), sync.paused(), sync.tell_paused(smallint, integer),
  sync.control(smallint, text, text, public.sync_control, text) to isthmus_worker;

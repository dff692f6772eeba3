-- Purpose: what a person says of a job, an execution, an entity or a chain: pause, resume, cancel, retry (the column
--          control); and what waits because of that.
-- Locks:   the row that is edited.

create function sync.is_held(p_chain public.sync_chains) returns boolean
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select p_chain.control in ('pause', 'cancel') is true or exists (
    select from public.sync_executions x
      left join public.sync_jobs j on j.id = x.job_id left join public.sync_entities e on e.id = p_chain.entity_id
     where x.id = p_chain.execution_id
       and (x.control in ('pause', 'cancel') or j.control in ('pause', 'cancel') or e.control in ('pause', 'cancel')))
$$;
comment on function sync.is_held(public.sync_chains) is
  'Whether a person has the chain wait: itself, its execution, job or entity is paused, or to be cancelled. No page '
  'of it is sent or begins.';

create function sync.failed_chains(p_what text, p_row jsonb) returns setof public.sync_chains
language plpgsql stable security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_execution public.sync_executions;
begin
  if p_what = 'entity' then
    select * into v_execution from public.sync_executions x
     where x.source_id = (p_row ->> 'source_id')::smallint and p_row ->> 'entity_type' = any (x.entities) and x.status in ('running', 'failed') and not x.dry_run
     order by x.source_id desc, x.ordinal desc limit 1;
  elsif p_what = 'job' then
    select * into v_execution from public.sync_executions x where x.job_id = (p_row ->> 'id')::uuid order by x.started_at desc limit 1;
  else
    select * into v_execution from public.sync_executions x where x.id = coalesce(p_row ->> 'execution_id', p_row ->> 'id')::uuid;
  end if;
  -- What a later execution has looked at as a whole, that one goes on with. A plan has forgotten what it found.
  if v_execution.status not in ('running', 'failed') or v_execution.dry_run or exists (
    select from public.sync_executions l
     where l.ordinal > v_execution.ordinal and l.source_id = v_execution.source_id and l.entities && v_execution.entities and not l.dry_run and not l.selective
       and exists (select from public.sync_chains c where c.execution_id = l.id and c.capture = 'validate')) then
    return;
  end if;
  return query
    select * from public.sync_chains c
     where c.execution_id = v_execution.id and c.state = 'failed'
       and (p_what in ('job', 'execution') or c.id::text = p_row ->> 'id' or p_what = 'entity' and c.entity_id::text = p_row ->> 'id');
end
$$;
comment on function sync.failed_chains(text, jsonb) is
  'The failed chains with which a retry of this row (job, execution, entity or chain) goes on: of its latest '
  'execution, while no later one has looked at the same entities.';

create function sync.why_not(p_what text, p_row jsonb, p_word public.sync_control) returns text
language plpgsql stable security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_state text := coalesce(p_row ->> 'state', p_row ->> 'status');
  v_ended boolean := p_what = 'execution' and v_state <> 'running' or p_what = 'chain' and v_state not in ('blocked', 'open');
begin
  if p_word = 'resume' then
    return case when p_row ->> 'control' is distinct from 'pause' then 'is not paused' end;
  elsif p_word = 'retry' and p_row ->> 'control' = 'pause' then
    return 'is paused: resume it first';
  elsif p_word in ('pause', 'cancel') and v_ended then
    return 'has ended already: it is ' || v_state;
  elsif p_word = 'cancel' and p_what in ('job', 'entity') and not exists (
      select from public.sync_executions x
       where x.status = 'running' and case p_what
         when 'job' then x.job_id = (p_row ->> 'id')::uuid
         else exists (select from public.sync_chains c where c.execution_id = x.id and c.entity_id::text = p_row ->> 'id' and c.state in ('blocked', 'open')) end) then
    return 'has nothing at work';
  elsif p_word = 'retry' and not exists (select from sync.failed_chains(p_what, p_row)) then
    return case
      when p_what = 'job' and v_state <> 'running' and (v_state in ('failed', 'incomplete') or p_row ->> 'last_error' is not null) then null
      when p_what = 'job' then 'has not failed: it is ' || v_state
      when p_what in ('execution', 'chain') and v_state <> 'failed' then 'has not failed: it is ' || v_state
      else 'has no failed chain to go on with, or a later execution has gone on with its entities: start again' end;
  end if;
  return null;
end
$$;
comment on function sync.why_not(text, jsonb, public.sync_control) is
  'Why this word has no meaning for the row as it is now; null: it has.';

create function sync.check_control() returns trigger
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_what text := tg_argv[0];
  v_row  jsonb := to_jsonb(old);
  v_why  text := sync.why_not(v_what, v_row, new.control);
begin
  if new.control is null and current_user = 'isthmus_worker' then
    -- It is carried out.
    return new;
  end if;
  if v_why is not null then
    raise exception '% % %', v_what, coalesce(v_row ->> 'name', v_row ->> 'entity_type', v_row ->> 'id'), v_why
      using errcode = 'IS032', hint = 'Nothing was changed. npm run sync -- status, or jobs, tells how it stands.';
  end if;
  if current_user <> 'isthmus_worker' then
    new.controlled_by := sync.actor(null);
  end if;
  new.controlled_at := clock_timestamp();
  new.control := nullif(new.control, 'resume');
  return new;
end
$$;
comment on function sync.check_control() is
  'Takes a word about a job, an execution, an entity or a chain, and stamps who gave it; raises IS032 where it has '
  'no meaning now.';
create trigger check_control before update of control on public.sync_jobs for each row
  when (new.control is distinct from old.control) execute function sync.check_control('job');
create trigger check_control before update of control on public.sync_executions for each row
  when (new.control is distinct from old.control) execute function sync.check_control('execution');
create trigger check_control before update of control on public.sync_entities for each row
  when (new.control is distinct from old.control) execute function sync.check_control('entity');
create trigger check_control before update of control on public.sync_chains for each row
  when (new.control is distinct from old.control) execute function sync.check_control('chain');

revoke all on function sync.is_held(public.sync_chains), sync.failed_chains(text, jsonb), sync.why_not(text, jsonb, public.sync_control), sync.check_control() from public;
grant execute on function sync.is_held(public.sync_chains) to isthmus_worker;
grant execute on function sync.failed_chains(text, jsonb), sync.why_not(text, jsonb, public.sync_control) to isthmus_worker, authenticated;

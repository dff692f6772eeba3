-- Purpose: what nobody changes by hand, and what an edit by hand has to bring with it.

create function sync.refuse_other_namespace() returns trigger
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  raise exception 'the namespace of source % never changes', old.name
    using errcode = 'IS022', hint = 'The ids of all its records derive from it: another one would give a record that returns another id.';
end
$$;
comment on function sync.refuse_other_namespace() is 'Nobody changes what ids are made from, by hand either.';
create trigger refuse_other_namespace before update of namespace on public.sync_sources
  for each row when (new.namespace <> old.namespace) execute function sync.refuse_other_namespace();

create function sync.renew_job() returns trigger
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  -- What somebody has changed deserves a fresh look.
  new.attempts := 0;
  new.last_error := null;
  new.waits_since := null;
  new.status := case when new.status in ('incomplete', 'failed') then 'pending'::public.sync_job_status else new.status end;
  if (new.cron_expression, new.time_zone) is distinct from (old.cron_expression, old.time_zone)
     and new.next_execution_at is not distinct from old.next_execution_at then
    new.next_execution_at := null;
  end if;
  return new;
end
$$;
comment on function sync.renew_job() is
  'Forgets the failure of a job whose time, zone or configuration was changed, and has its next time reckoned anew.';
create trigger renew_job before update of cron_expression, time_zone, configuration, enabled on public.sync_jobs
  for each row when ((new.cron_expression, new.time_zone, new.configuration, new.enabled)
    is distinct from (old.cron_expression, old.time_zone, old.configuration, old.enabled))
  execute function sync.renew_job();

create function sync.note_progress() returns trigger
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  new.moved_at := clock_timestamp();
  return new;
end
$$;
comment on function sync.note_progress() is 'Stamps the progress of a chain, whichever function it was that moved it.';
create trigger note_progress before update on public.sync_chains
  for each row when (new.page <> old.page or new.state <> old.state or new.page_size < old.page_size)
  execute function sync.note_progress();

create function sync.refuse_other_id() returns trigger
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  if (new.source_id, new.entity_type, new.legacy_id, new.entity_uuid) is distinct from (old.source_id, old.entity_type, old.legacy_id, old.entity_uuid) then
    raise exception '% %: a record keeps its id for ever', old.entity_type, old.legacy_id
      using errcode = 'IS022', hint = format('Other rows refer to it by this id. If the record''s row has another id: give that row the id of the mapping; or delete the mapping, and take the row over: npm run sync -- adopt %s', old.entity_type);
  end if;
  return new;
end
$$;
comment on function sync.refuse_other_id() is 'Nobody changes which id a record has, by hand either.';
create trigger refuse_other_id before update of source_id, entity_type, legacy_id, entity_uuid on public.uuid_mappings_enhanced
  for each row execute function sync.refuse_other_id();

create function sync.guard_states() returns trigger
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  if tg_op = 'INSERT' and not exists (select from public.sync_row_states) then
    return null;
  end if;
  raise exception 'sync_row_states says what both sides held when a record was decided on: nobody but the sync writes it'
    using errcode = 'IS022', hint = 'A value that the source comes to have later would count as seen, and never arrive. To have a record judged anew by what both sides hold, delete its row: the next digest reads it, or npm run sync -- start --ids <entity>=<legacy id>. A backup goes into the emptied table.';
end
$$;
comment on function sync.guard_states() is
  'What is remembered of records is written by pages and decisions alone; a backup may be put into the empty table.';
-- Once per statement, which costs a page nothing.
create trigger guard_states before insert or update on public.sync_row_states
  for each statement when (current_user not in ('isthmus_worker', 'isthmus_decisions')) execute function sync.guard_states();

create function sync.refuse_undecided() returns trigger
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  if exists (select from public.sync_adoption_rows where undecided) and exists (
    select from new_mappings m
      join public.sync_entities e on e.source_id = m.source_id and e.entity_type = m.entity_type
      join public.sync_adoption_rows r on r.entity_id = e.id and r.legacy_id = m.legacy_id and r.undecided
  ) then
    raise exception using errcode = 'IS002', message = 'several target rows have this legacy id: a person decides which one is the record';
  end if;
  return null;
end
$$;
comment on function sync.refuse_undecided() is
  'A legacy id that several target rows have gets no UUID by any path until one of them is chosen.';
create trigger refuse_undecided after insert on public.uuid_mappings_enhanced
  referencing new table as new_mappings for each statement execute function sync.refuse_undecided();

create function sync.guard_status() returns trigger
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  if old.status = 'failed' and new.status = 'running' and current_user = 'isthmus_worker' then
    -- sync.retry_chains
    return new;
  end if;
  if old.status <> 'running' then
    raise exception 'execution % has ended already: it is %', old.id, old.status
      using errcode = 'IS031', hint = 'Nothing to do. npm run sync -- executions lists those that run.';
  end if;
  if new.status = 'cancelled' then
    if current_user = 'authenticated' then
      new.cancelled_by := sync.actor(null);
    else
      new.cancelled_by := coalesce(nullif(btrim(new.cancelled_by), ''), session_user);
    end if;
    new.completed_at := clock_timestamp();
    new.errors := jsonb_build_array(jsonb_build_object('code', 'EXECUTION_CANCELLED', 'message', 'Cancelled by ' || new.cancelled_by || '.',
      'remedy', 'Nothing is half done: every page is one commit. Start again when it suits; the next execution goes on from the last checkpoints.'));
  elsif exists (select from public.sync_chains where execution_id = new.id and state in ('blocked', 'open')) then
    raise exception 'execution % still has chains that are not closed', new.id
      using errcode = 'IS031', hint = 'Set status to cancelled to end it.';
  end if;
  return new;
end
$$;
comment on function sync.guard_status() is
  'An execution ends once: succeeded or failed when its chains are closed, cancelled whenever a person says so. One '
  'that failed runs again when somebody has it retried.';
create trigger guard_status before update of status on public.sync_executions
  for each row when (new.status is distinct from old.status) execute function sync.guard_status();

create function sync.guard_chain() returns trigger
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  -- Who has a page, when it is tried again, and how large it is. All else says what is read.
  v_theirs constant text[] := array['state', 'closed_at', 'due_at', 'lease', 'lease_until', 'delivery', 'attempt', 'page_size', 'slow_growth', 'sends', 'failures', 'crashes', 'refusals',
                                    'unclaimed', 'waits_since', 'last_error', 'refusal', 'moved_at', 'control', 'controlled_by', 'controlled_at'];
begin
  -- What goes with its execution is deleted by a trigger of the foreign key.
  if pg_trigger_depth() > 1 or not exists (select from public.sync_executions where id = old.execution_id and status = 'running') then
    return coalesce(new, old);
  end if;
  if tg_op = 'UPDATE' and (new.state = old.state or new.state in ('failed', 'cancelled'))
     and to_jsonb(new) - v_theirs = to_jsonb(old) - v_theirs then
    return new;
  end if;
  raise exception 'a chain of a running execution says which records are still to be read: nobody but the sync moves or removes it'
    using errcode = 'IS031', hint = format('To end the execution: update sync_executions set status = ''cancelled'' where id = %L. What it has not read, the next one reads.', old.execution_id);
end
$$;
comment on function sync.guard_chain() is
  'People may have a page tried again, or its chain fail. Records that nobody has read do not count as read by their '
  'hand.';
create trigger guard_chain before update or delete on public.sync_chains
  for each row when (current_user <> 'isthmus_worker') execute function sync.guard_chain();

create function sync.note_forgotten() returns trigger
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  -- A message is tried again for hours, and a dead letter can be sent again for some days: no page of an execution
  -- that is older is still on its way.
  update public.sync_sources s set forgotten_at = now()
   where exists (select from gone g where g.source_id = s.id and coalesce(g.completed_at, now()) > now() - interval '8 days');
  return null;
end
$$;
comment on function sync.note_forgotten() is 'Pages of executions that somebody has deleted are no sign of a restore.';
create trigger note_forgotten after delete on public.sync_executions referencing old table as gone for each statement execute function sync.note_forgotten();

revoke all on function sync.refuse_other_namespace(), sync.renew_job(), sync.note_progress(), sync.refuse_other_id(), sync.guard_states(),
  sync.refuse_undecided(), sync.guard_status(), sync.guard_chain(), sync.note_forgotten() from public;

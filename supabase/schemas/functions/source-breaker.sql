-- Purpose: the circuit breaker of the source: while it refuses, one look of each tick asks it, and nothing else.
-- Locks:   the row of the source; chains and jobs that have waited for it; the open alert.

create function sync.asks_source(p_source_id smallint) returns boolean
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select exists (select from public.sync_sources where id = p_source_id and refused_since is not null)
      or exists (select from public.sync_alerts where kind = 'source_refuses' and source_id = p_source_id and closed_at is null)
      or exists (select from public.sync_jobs where enabled and cron_expression is not null and next_execution_at <= clock_timestamp())
      or exists (select from public.sync_chains c join public.sync_executions x on x.id = c.execution_id
                  where c.state = 'open' and c.failures > 0 and c.last_error ->> 'code' = 'SOURCE_UNAVAILABLE' and x.source_id = p_source_id)
      or exists (select from public.sync_jobs where enabled and waits_since is not null and last_error ->> 'code' = 'SOURCE_UNAVAILABLE')
      or exists (select from (select failed from public.sync_ticks where ended_at is not null order by created_at desc limit 1) t cross join unnest(t.failed) f
                  where f like '%: SOURCE_UNAVAILABLE')
$$;
comment on function sync.asks_source(smallint) is
  'Whether a tick looks at the source before all else: a job is due, or a page, a job or the tick before has met a '
  'source that does not answer, or that is told.';

create function sync.refuses(p_source_id smallint) returns jsonb
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select refusal from public.sync_sources where id = p_source_id and refused_since is not null
$$;
comment on function sync.refuses(smallint) is 'Why nobody asks the source now; null: it answers.';

create function sync.note_source(p_source_id smallint, p_refusal jsonb, p_message text) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  -- Pages hold connections of their own: while they land, one connection too many is no refusal.
  if p_refusal ->> 'sqlstate' = '53300' and exists (
    select from public.sync_executions x join public.sync_chains c on c.execution_id = x.id
     where x.source_id = p_source_id and x.status = 'running' and c.capture <> 'adopt' and c.state = 'open' and c.page > 0 and c.failures = 0
       and c.moved_at > clock_timestamp() - interval '1 minute') then
    return;
  end if;
  if p_refusal is not null then
    update public.sync_sources set refused_since = coalesce(refused_since, clock_timestamp()), refusal = p_refusal where id = p_source_id;
    perform sync.raise_alert('source_refuses', 'critical', p_source_id, null, null, p_message, p_refusal);
    return;
  end if;
  update public.sync_sources set refused_since = null where id = p_source_id and refused_since is not null;
  if not found then
    -- At the limit of its connections a source lets one in now and then: two looks in a row are an answer.
    perform sync.close_alert('source_refuses', p_source_id);
    return;
  end if;
  update public.sync_chains c set due_at = clock_timestamp()
    from (select o.id from public.sync_chains o join public.sync_executions x on x.id = o.execution_id
           where o.state = 'open' and o.capture <> 'adopt' and o.due_at > clock_timestamp()
             and (o.lease_until is null or o.lease_until <= clock_timestamp()) and x.source_id = p_source_id
           order by o.id for no key update of o skip locked) w
   where c.id = w.id;
  update public.sync_jobs j set next_execution_at = least(j.next_execution_at, clock_timestamp())
    from (select id from public.sync_jobs
           where enabled and waits_since is not null and last_error ->> 'code' = 'SOURCE_UNAVAILABLE' and taken_at is null order by id for update skip locked) w
   where j.id = w.id;
end
$$;
comment on function sync.note_source(smallint, jsonb, text) is
  'What a look at the source has found: p_refusal, or that it answers. The first look that it answers lets pages and '
  'jobs go on at once; the alert source_refuses closes by the second in a row.';

revoke all on function sync.asks_source(smallint), sync.refuses(smallint), sync.note_source(smallint, jsonb, text) from public;
grant execute on function sync.asks_source(smallint), sync.refuses(smallint), sync.note_source(smallint, jsonb, text) to isthmus_worker;

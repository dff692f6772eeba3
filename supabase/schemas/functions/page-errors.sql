-- Purpose: tell of pages that are tried again and again while they are, and at once of errors that nobody has
--          expected.
-- Locks:   the open alerts of these kinds.

create function sync.tell_internal(p_chain public.sync_chains, p_error jsonb) returns void
language sql security invoker set search_path = pg_catalog, pg_temp as $$
  select sync.raise_alert('internal_error', 'critical', null, x.id, p_chain.entity_id,
           format('An error that nobody has expected ended page %s of %s (%s). %s See page.failed in the log of sync-page at that time.', p_chain.page,
             coalesce(e.entity_type, 'both sides'), p_chain.capture,
             case when p_chain.state = 'open' then 'It is tried again, ISTHMUS_PAGE_TRIES times at most; nothing is half done.' else 'Its chain has failed.' end),
           jsonb_build_object('entity', e.entity_type, 'capture', p_chain.capture, 'page', p_chain.page, 'failures', p_chain.failures, 'error', p_error),
           p_chain.capture::text)
    from public.sync_executions x left join public.sync_entities e on e.id = p_chain.entity_id
   where x.id = p_chain.execution_id and not x.dry_run
$$;
comment on function sync.tell_internal(public.sync_chains, jsonb) is
  'Opens or counts the alert internal_error about a page: at its first occurrence.';

create function sync.tell_retried_pages(p_source_id smallint, p_tries integer) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  -- With pauses of 1, 2, 4, ... seconds these are two minutes; a blip is nobody's work.
  c_retries constant integer := 7;
  v_page    record;
  v_kept    uuid[] := '{}';
begin
  for v_page in
    select c.entity_id, e.entity_type, c.capture::text as capture, count(*) filter (where c.tries >= r.told) as chains, max(c.tries) as tries,
           bool_or(c.tries >= r.told) as is_told, (array_agg(c.page order by c.tries desc, c.id))[1] as page,
           (array_agg(c.execution_id order by c.tries desc, c.id))[1] as execution, (array_agg(c.last_error order by c.tries desc, c.id))[1] as error
      from (select o.*, o.failures + coalesce(o.lease_until <= clock_timestamp(), false)::integer as tries from public.sync_chains o where o.state = 'open' and not sync.is_held(o)) c
      join public.sync_executions x on x.id = c.execution_id
      left join public.sync_entities e on e.id = c.entity_id
      left join public.sync_jobs j on j.id = x.job_id
     cross join lateral (select least(coalesce((j.alarms ->> 'retries')::numeric, c_retries), greatest(p_tries - 1, 1)) as told) r
     where x.source_id = p_source_id and x.status = 'running' and not x.dry_run
       -- Of a page that is being tried again nothing is over, and nothing new is known.
       and c.failures + (c.lease_until is not null)::integer >= r.told
       -- What nobody has expected is told by itself.
       and c.last_error ->> 'code' is distinct from 'INTERNAL'
       -- What waits for a source that refuses is told by that.
       and not (coalesce(c.last_error ->> 'code', '') = 'SOURCE_UNAVAILABLE'
                -- Pages that it has refused come back within six minutes after it answers.
                and exists (select from public.sync_alerts a where a.kind = 'source_refuses' and a.source_id = p_source_id
                             and coalesce(a.closed_at > clock_timestamp() - interval '6 minutes', true)))
     group by 1, 2, 3
  loop
    perform sync.raise_alert('page_retried', 'warning', p_source_id, v_page.execution, v_page.entity_id,
      format('Page %s of %s (%s) has been tried %s times in vain%s. After %s times its chain is stopped alone. %s', v_page.page,
        coalesce(v_page.entity_type, 'both sides'), v_page.capture, v_page.tries,
        coalesce(', the last time with ' || (v_page.error ->> 'code') || coalesce(', SQLSTATE ' || (v_page.error ->> 'sqlstate'), '')
                 || coalesce(', ' || nullif(v_page.error ->> 'reason', v_page.error ->> 'sqlstate'), ''), ': whoever takes it is killed'), p_tries,
        coalesce(v_page.error ->> 'remedy', 'See the log of sync-page.')),
      jsonb_build_object('entity', v_page.entity_type, 'capture', v_page.capture, 'page', v_page.page, 'tries', v_page.tries, 'chains', v_page.chains, 'error', v_page.error),
      v_page.capture) where v_page.is_told;
    v_kept := v_kept || array(select a.id from public.sync_alerts a
                               where a.kind = 'page_retried' and a.source_id = p_source_id and a.entity_id is not distinct from v_page.entity_id
                                 and a.subject = v_page.capture and a.closed_at is null);
  end loop;
  perform sync.close_alerts(array(
    select a.id from public.sync_alerts a where a.kind = 'page_retried' and a.source_id = p_source_id and a.closed_at is null and a.id <> all (v_kept)));
end
$$;
comment on function sync.tell_retried_pages(smallint, integer) is
  'Opens or counts the alert page_retried for pages that were tried in vain seven times, or as often as their job '
  'says (retries), and closes it where none is any more: the page has landed, or its chain has ended. p_tries: after '
  'how many a chain is stopped.';

revoke all on function sync.tell_internal(public.sync_chains, jsonb), sync.tell_retried_pages(smallint, integer) from public;
grant execute on function sync.tell_internal(public.sync_chains, jsonb), sync.tell_retried_pages(smallint, integer) to isthmus_worker;

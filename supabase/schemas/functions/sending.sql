-- Purpose: the outbox: which pages are to be sent again, what became of a message that was sent, and who is told.
-- Locks:   the rows of the chains that were sent.

create function sync.overdue_chains(p_limit integer) returns setof jsonb
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select jsonb_build_object('chain', c.id, 'page', c.page, 'execution', c.execution_id, 'sends', c.sends + 1)
    from public.sync_chains c
   where c.state = 'open' and c.due_at <= clock_timestamp() and not sync.is_held(c)
     -- Pages of a source that refuses wait until it answers.
     and (c.capture = 'adopt' or not exists (select from public.sync_executions x join public.sync_sources s on s.id = x.source_id
                                              where x.id = c.execution_id and s.refused_since is not null))
   order by c.due_at limit p_limit
$$;
comment on function sync.overdue_chains(integer) is
  'The sweep: the messages that are overdue. Nothing is marked before the queue has accepted them: two sweeps at '
  'once send the same deduplication id.';

create function sync.note_sends(p_lease_seconds integer, p_sends jsonb) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  -- A chain that nobody takes is sent again after one lease, two, four, up to this.
  c_longest constant integer := greatest(300, p_lease_seconds);
begin
  perform from public.sync_chains c
    where c.id in (select s.chain from jsonb_to_recordset(p_sends) as s (chain uuid)) order by c.id for no key update;
  update public.sync_chains c
     set sends = c.sends + (s.refusal is null)::integer,
         unclaimed = c.unclaimed + (s.refusal is null)::integer,
         refusals = case when s.refusal is null then 0 else c.refusals + 1 end,
         -- What the page failed with stays what it failed with.
         refusal = s.refusal,
         waits_since = coalesce(c.waits_since, least(c.due_at, clock_timestamp())),
         due_at = clock_timestamp() + make_interval(secs => least(c_longest, p_lease_seconds
                    * 2 ^ least(30, case when s.refusal is null then c.unclaimed else c.refusals end)))
    from jsonb_to_recordset(p_sends) as s (chain uuid, page integer, sends integer, refusal jsonb)
   where c.id = s.chain and c.state = 'open' and c.page = s.page
     -- The first message of a page (sends 0) is only noted when the queue refused it. What another sweep noted stands.
     and c.sends = greatest(s.sends, 1) - 1
     -- Taken meanwhile: the message did what it was for.
     and (c.lease_until is null or c.lease_until <= clock_timestamp());
end
$$;
comment on function sync.note_sends(integer, jsonb) is
  'Marks chains by what the queue said of their messages ({chain, page, sends, refusal}): accepted, or refused, to '
  'be sent again after a growing pause.';

create function sync.tell_refused_sends(p_source_id smallint) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_told jsonb;
begin
  -- A blip of a minute is nobody's work. What QStash refuses with a reason stays until somebody acts, or the day is
  -- over.
  select jsonb_build_object('chains', count(*), 'since', min(c.waits_since), 'error', (array_agg(c.refusal order by c.refusals desc))[1])
    into v_told
    from public.sync_chains c join public.sync_executions e on e.id = c.execution_id
   where c.state = 'open' and c.refusals > 0 and e.source_id = p_source_id and not sync.is_held(c)
  having bool_or(c.refusals > 1 or c.refusal ->> 'code' = 'QUEUE_REFUSED');
  if v_told is null then
    perform sync.close_alert('queue_refused', p_source_id);
    return;
  end if;
  perform sync.raise_alert('queue_refused', 'critical', p_source_id, null, null,
    format('QStash does not take the messages of %s chains since %s (%s). %s', v_told ->> 'chains',
      to_char((v_told ->> 'since')::timestamptz at time zone 'UTC', 'YYYY-MM-DD HH24:MI "UTC"'),
      concat_ws(', ', v_told #>> '{error,reason}', 'status ' || (v_told #>> '{error,status}'), 'until ' || (v_told #>> '{error,resetsAt}')),
      v_told #>> '{error,remedy}'),
    v_told);
end
$$;
comment on function sync.tell_refused_sends(smallint) is
  'Opens the alert queue_refused while the queue does not accept what the open chains send, and closes it when it '
  'does again.';

create function sync.unclaimed_chains(p_source_id smallint) returns jsonb
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select jsonb_build_object('chains', count(*), 'since', min(c.waits_since))
    from public.sync_chains c join public.sync_executions e on e.id = c.execution_id
   where c.state = 'open' and c.unclaimed > 1 and e.source_id = p_source_id and not sync.is_held(c)
  having count(*) > 0
$$;
comment on function sync.unclaimed_chains(smallint) is
  'How many open chains the queue has accepted more than one message of and no function has taken, and since when; '
  'null: none.';

create function sync.tell_unrun_pages(p_source_id smallint) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  c_patience constant interval := '8 minutes';
  v_told jsonb;
begin
  select jsonb_build_object('chains', count(*), 'since', min(c.waits_since), 'entities', jsonb_agg(distinct n.entity_type))
    into v_told
    from public.sync_chains c join public.sync_executions e on e.id = c.execution_id join public.sync_entities n on n.id = c.entity_id
   where c.state = 'open' and c.unclaimed > 1 and c.refusals = 0 and c.waits_since <= clock_timestamp() - c_patience and e.source_id = p_source_id and not sync.is_held(c)
  having count(*) > 0;
  -- A queue that is slow brings one page or another meanwhile; from one that brings none, each has been sent more
  -- than once by then.
  if v_told is not null and (
       exists (select from public.sync_chains o join public.sync_executions x on x.id = o.execution_id
                where x.source_id = p_source_id and x.status = 'running' and o.state = 'open' and o.lease_until > clock_timestamp())
       or exists (select from public.sync_page_log l join public.sync_executions x on x.id = l.execution_id
                   where x.source_id = p_source_id and x.status = 'running' and l.committed_at > clock_timestamp() - c_patience)
       -- With the status of the answers there is more to say.
       or exists (select from public.sync_alerts a where a.kind = 'deliveries_refused' and a.source_id = p_source_id and a.closed_at is null)) then
    v_told := null;
  end if;
  if v_told is null then
    perform sync.close_alert('pages_not_run', p_source_id);
    return;
  end if;
  perform sync.raise_alert('pages_not_run', 'critical', p_source_id, null, null,
    format('QStash accepts the pages of %s chains since %s, and no function begins one. They are sent again and again; nothing is lost.', v_told ->> 'chains',
      to_char((v_told ->> 'since')::timestamptz at time zone 'UTC', 'YYYY-MM-DD HH24:MI "UTC"')), v_told);
end
$$;
comment on function sync.tell_unrun_pages(smallint) is
  'Opens the alert pages_not_run where the queue has accepted pages more than once for eight minutes and none was '
  'run, and closes it when one is.';

create function sync.take_look(p_source_id smallint, p_what text, p_seconds integer) returns boolean
language sql security invoker set search_path = pg_catalog, pg_temp as $$
  with look as (
    insert into public.sync_queue_looks as l (source_id, what, looked_at) values (p_source_id, p_what, clock_timestamp())
    on conflict (source_id, what) do update set looked_at = excluded.looked_at
     where l.looked_at <= excluded.looked_at - make_interval(secs => p_seconds)
    returning 1)
  select exists (select from look)
$$;
comment on function sync.take_look(smallint, text, integer) is
  'Whether QStash was not asked about this for so many seconds; from now on it was.';

create function sync.new_dead_letters(p_source_id smallint, p_ids jsonb) returns jsonb
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select coalesce(jsonb_agg(i), '[]') from jsonb_array_elements_text(p_ids) i
   where not exists (select from public.sync_queue_looks l where l.source_id = p_source_id and l.what = 'dead_letters' and i = any (l.dead_letters))
$$;
comment on function sync.new_dead_letters(smallint, jsonb) is 'Of these dead letters, those that nobody was told of.';

create function sync.note_dead_letters(p_source_id smallint, p_ids jsonb) returns void
language sql security invoker set search_path = pg_catalog, pg_temp as $$
  update public.sync_queue_looks set dead_letters = array(select jsonb_array_elements_text(p_ids)) where source_id = p_source_id and what = 'dead_letters'
$$;
comment on function sync.note_dead_letters(smallint, jsonb) is
  'Remembers which dead letters QStash holds, when they have been told: who is killed in between tells them once '
  'more.';

revoke all on function sync.overdue_chains(integer), sync.note_sends(integer, jsonb), sync.tell_refused_sends(smallint),
  sync.unclaimed_chains(smallint), sync.tell_unrun_pages(smallint), sync.take_look(smallint, text, integer), sync.new_dead_letters(smallint, jsonb),
  sync.note_dead_letters(smallint, jsonb) from public;
grant execute on function sync.overdue_chains(integer), sync.note_sends(integer, jsonb), sync.tell_refused_sends(smallint),
  sync.unclaimed_chains(smallint), sync.tell_unrun_pages(smallint), sync.take_look(smallint, text, integer), sync.new_dead_letters(smallint, jsonb),
  sync.note_dead_letters(smallint, jsonb) to isthmus_worker;

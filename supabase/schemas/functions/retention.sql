-- Purpose: removes history that is older than public.sync_retention says, some rows at a time.
-- Locks:   the rows that go; a row that somebody holds is left for the next time.

-- Called by pg_cron as the owner: the worker may add to the history, and take nothing of it away.
create function sync.remove_aged(p_rows integer) returns jsonb
language plpgsql security invoker set search_path = pg_catalog, pg_temp set enable_seqscan = off set enable_sort = off set lock_timeout = '1s' as $$
declare
  v_keep  public.sync_retention;
  v_gone  jsonb := '{}';
  v_count integer;
  v_rows  integer := least(greatest(p_rows, 0), 10000);
  v_old   uuid[];
begin
  -- One at a time: another call does the same work.
  if not pg_try_advisory_xact_lock(hashtextextended('isthmus: history', 0)) then
    return v_gone;
  end if;
  insert into public.sync_retention default values on conflict do nothing;
  select * into strict v_keep from public.sync_retention;

  -- By number, in which pages are committed but for a few: the first that is young ends it.
  delete from public.sync_page_log where id = any (array(
    select l.id from (select x.id, x.committed_at, x.execution_id from public.sync_page_log x order by x.id limit v_rows) l
      cross join lateral (select e.status from public.sync_executions e where e.id = l.execution_id offset 0) e
     where l.committed_at < now() - make_interval(days => v_keep.page_log_days) and e.status <> 'running'));
  get diagnostics v_count = row_count;
  v_gone := v_gone || jsonb_build_object('sync_page_log', v_count);

  delete from public.sync_reports where id = any (array(
    select r.id from public.sync_reports r where r.created_at < now() - make_interval(days => v_keep.report_days)
       and (select l.id from public.sync_reports l where l.kind = r.kind and l.created_at > r.created_at limit 1) is not null
     order by r.created_at limit v_rows for update skip locked));
  get diagnostics v_count = row_count;
  v_gone := v_gone || jsonb_build_object('sync_reports', v_count);

  delete from public.sync_conflicts where id = any (array(
    select c.id from public.sync_conflicts c
     where c.state in ('resolved', 'superseded') and not c.standing and not (c.decisions > 0 and c.resolution_strategy in ('target_wins', 'merge'))
       and coalesce(c.resolved_at, c.last_seen_at) < now() - make_interval(days => v_keep.conflict_days)
     order by coalesce(c.resolved_at, c.last_seen_at) limit v_rows for update skip locked));
  get diagnostics v_count = row_count;
  v_gone := v_gone || jsonb_build_object('sync_conflicts', v_count);

  -- What people have not been told to be over is kept until they have.
  delete from public.sync_alerts where id = any (array(
    select a.id from public.sync_alerts a
     where a.closed_at is not null and a.closed_at < now() - make_interval(days => v_keep.alert_days) and a.told_severity is null
     order by a.closed_at limit v_rows for update skip locked));
  get diagnostics v_count = row_count;
  v_gone := v_gone || jsonb_build_object('sync_alerts', v_count);

  -- Fewer of these: each takes its chains along. What is kept of one elsewhere loses its name first, some rows at a
  -- time.
  v_old := array(
    select e.id from (select x.* from public.sync_executions x
                       where x.ordinal <= (select y.ordinal from public.sync_executions y order by y.ordinal desc limit 1) - 1000
                       order by x.ordinal limit 100) e
     where e.status <> 'running'
       and e.started_at < now() - make_interval(days => greatest(v_keep.execution_days, v_keep.page_log_days, v_keep.report_days))
       and (select l.id from public.sync_page_log l where l.execution_id = e.id limit 1) is null
       and (select r.legacy_id from public.sync_planned_records r where r.execution_id = e.id limit 1) is null
       and (select a.id from public.sync_alerts a where a.execution_id = e.id and a.closed_at is null limit 1) is null
       and (select b.id from public.sync_brakes b where b.execution_id = e.id and b.closed_at is null limit 1) is null
     order by e.ordinal limit greatest(v_rows / 200, 1));
  update public.sync_conflicts c set execution_id = null
   where c.id = any (array(select k.id from public.sync_conflicts k where k.execution_id = any (v_old) limit v_rows for no key update skip locked));
  update public.sync_conflicts c set resolved_in = null
   where c.id = any (array(select k.id from public.sync_conflicts k where k.resolved_in = any (v_old) limit v_rows for no key update skip locked));
  update public.sync_warnings w set execution_id = null
   where w.ctid = any (array(select k.ctid from public.sync_warnings k where k.execution_id = any (v_old) limit v_rows for no key update skip locked));
  -- Where somebody holds such a row, as a decision that is being made does, the execution is left for the next time.
  begin
    delete from public.sync_executions e
     where e.id = any (v_old)
       and (select c.id from public.sync_conflicts c where c.execution_id = e.id limit 1) is null
       and (select c.id from public.sync_conflicts c where c.resolved_in = e.id limit 1) is null
       and (select w.legacy_id from public.sync_warnings w where w.execution_id = e.id limit 1) is null;
    get diagnostics v_count = row_count;
    v_gone := v_gone || jsonb_build_object('sync_executions', v_count);
  exception when lock_not_available then
    null;
  end;

  v_gone := (select coalesce(jsonb_object_agg(key, value), '{}') from jsonb_each(v_gone) where value <> '0');
  update public.sync_retention r
     set removed_at = now(),
         removed = r.removed || (select jsonb_object_agg(g.key, g.value::text::bigint + coalesce((r.removed ->> g.key)::bigint, 0)) from jsonb_each(v_gone) g)
   where v_gone <> '{}';
  return v_gone;
end
$$;
comment on function sync.remove_aged(integer) is
  'Removes history that is older than public.sync_retention says, up to p_rows rows of each table; returns how many '
  'went, by table.';

create function sync.remove_history() returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
begin
  perform sync.remove_aged(2000);
  perform sync.close_alerts(array(select id from public.sync_alerts where kind = 'history_kept' and closed_at is null));
exception when others then
  perform sync.raise_alert('history_kept', 'warning', null, null, null,
    format('History that is older than sync_retention says could not be removed (%s).', sqlstate), jsonb_build_object('sqlstate', sqlstate));
end
$$;
comment on function sync.remove_history() is
  'Removes some of the history that is older than public.sync_retention says, and opens or closes the alert '
  'history_kept. The job isthmus-remove-history runs it every minute.';

revoke all on function sync.remove_aged(integer), sync.remove_history() from public;

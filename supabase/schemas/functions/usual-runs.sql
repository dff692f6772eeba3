-- Purpose: a success that is none: weigh an execution that has come through against earlier ones like it, and tell what is far from what these did.
-- Locks:   the open alerts of this kind.

create function sync.usual_runs(p_execution uuid) returns setof uuid
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  -- What runs more often than once a day is compared with the same time of earlier days: at night a job reads less. One probe of an index for each.
  with this as (
    select x.*, greatest(1, round(extract(epoch from x.started_at - (
             select o.started_at from public.sync_executions o
              where o.source_id = x.source_id and o.triggered_by = x.triggered_by and o.started_at < x.started_at
                and o.status in ('succeeded', 'incomplete') and not o.dry_run and not o.selective
              order by o.started_at desc limit 1)) / 86400))::integer as days
      from public.sync_executions x where x.id = p_execution
  )
  select distinct l.id
    from this x
   cross join generate_series(1, 28) n
   cross join lateral (
     select o.id from public.sync_executions o
      where o.source_id = x.source_id and o.triggered_by = x.triggered_by and o.started_at < x.started_at - make_interval(days => n * x.days, mins => -30)
        and o.status in ('succeeded', 'incomplete') and not o.dry_run and not o.selective
      order by o.started_at desc limit 1) l
$$;
comment on function sync.usual_runs(uuid) is
  'Up to 28 earlier executions with the same trigger that have come through: the latest ones, and where there are several in a day, those that began at the same time of the day.';

create function sync.run_figures(p_executions uuid[]) returns table (execution uuid, started_at timestamptz, entity text, look text, measure text, value numeric)
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  with chains as (
    select c.execution_id, n.entity_type as entity,
           case when bool_or(c.capture = 'adopt') then 'adopt' when bool_or(c.capture = 'full' and not c.skips_unchanged) then 'full' when bool_or(c.capture = 'full') then 'full again'
                when bool_or(c.capture = 'digest') then 'digest' else 'changes' end as look,
           sum(coalesce((c.counts ->> 'read')::numeric, 0)) as read,
           sum(coalesce((c.counts ->> 'waiting')::numeric, 0) + coalesce((c.counts ->> 'in_conflict')::numeric, 0)) as rejected,
           sum(coalesce((c.counts ->> 'wall_ms')::numeric, 0)) / 1000 as seconds
      from public.sync_chains c join public.sync_entities n on n.id = c.entity_id
     where c.execution_id = any (p_executions) group by 1, 2
  ), entities as (
    -- In an entity without a chain nothing was written since: the plan has looked.
    select x.id, x.started_at, x.completed_at, e.entity, coalesce(c.look, 'changes') as look, coalesce(c.read, 0) as read, coalesce(c.rejected, 0) as rejected,
           coalesce(c.seconds, 0) as seconds
      from public.sync_executions x cross join unnest(x.entities) e (entity) left join chains c on c.execution_id = x.id and c.entity = e.entity
     where x.id = any (p_executions)
  )
  select e.id, e.started_at, e.entity, e.look, 'records read', e.read from entities e
  union all
  -- A share of a few records says nothing.
  select e.id, e.started_at, e.entity, e.look, 'share of rejects', e.rejected / e.read from entities e where e.read >= 20
  union all
  select e.id, e.started_at, e.entity, e.look, 'seconds of work', e.seconds from entities e
  union all
  select e.id, e.started_at, null, string_agg(e.entity || ' ' || e.look, ', ' order by e.entity), 'seconds from begin to end', extract(epoch from e.completed_at - e.started_at)
    from entities e group by e.id, e.started_at, e.completed_at
$$;
comment on function sync.run_figures(uuid[]) is
  'What executions read, rejected and took, of each entity; entity null: of the whole. look: only figures of the same look can be compared. Summed from the counts of their chains.';

create function sync.weigh_run(p_execution uuid, p_factor numeric) returns jsonb
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  -- Of fewer than seven earlier runs nobody knows what is usual. The least distances keep small numbers from being news.
  with figures as (
    select * from sync.run_figures(array(select sync.usual_runs(p_execution)) || p_execution)
  ), bands as (
    select n.entity, n.measure, n.value, b.runs, b.least, b.q[1] as low, b.q[2] as median, b.q[3] as high, b.q[3] - b.q[1] as width,
           case n.measure when 'records read' then 100 when 'share of rejects' then 0.05 else 300 end as distance
      from figures n
     cross join lateral (
       select count(*) as runs, min(e.value) as least, percentile_cont(array[0.1, 0.5, 0.9]) within group (order by e.value) as q
         from (select f.value from figures f
                where f.execution <> p_execution and f.entity is not distinct from n.entity and f.look = n.look and f.measure = n.measure
                order by f.started_at desc limit 14) e) b
     where n.execution = p_execution and b.runs >= 7
  ), judged as (
    select b.*, case when b.measure = 'records read' and b.value = 0 and b.runs = 14 and b.least > 0 then 'nothing'
                     when b.value > b.high + p_factor * greatest(2 * b.width, b.median, b.distance) then 'more'
                     when b.measure = 'records read' and b.value < b.low - p_factor * greatest(2 * b.width, b.median / 2, b.distance) then 'less' end as found
      from bands b
  )
  select jsonb_build_object('runs', coalesce(max(j.runs), 0), 'findings', coalesce(pg_catalog.jsonb_agg(jsonb_strip_nulls(jsonb_build_object(
           'entity', j.entity, 'found', j.found, 'measure', j.measure, 'value', round(j.value, 4), 'usual_from', round(j.low::numeric, 4), 'median', round(j.median::numeric, 4),
           'usual_to', round(j.high::numeric, 4), 'runs', j.runs))
           order by j.found <> 'nothing', abs(j.value - j.median) / greatest(j.median, j.distance) desc, j.entity, j.measure) filter (where j.found is not null), '[]'))
    from judged j
$$;
comment on function sync.weigh_run(uuid, numeric) is
  'What of an execution is far from its last fourteen like ones: {runs, findings}. Nothing read where each of them read something; or outside their band (tenth to ninetieth percentile) by more than twice its width, the median (half of it below the band) and a least distance. p_factor widens these.';

create function sync.shown_figure(p_value numeric, p_measure text) returns text
language sql immutable security invoker set search_path = pg_catalog, pg_temp as $$
  select case when p_measure like 'share%' then round(100 * p_value, 1) || ' %' else round(p_value)::text end
$$;
comment on function sync.shown_figure(numeric, text) is 'A figure of a run as people read it.';

create function sync.tell_unusual(p_execution uuid) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_execution public.sync_executions;
  v_weighed   jsonb;
  v_found     jsonb;
  v_text      text;
begin
  select * into strict v_execution from public.sync_executions where id = p_execution;
  -- What was asked for by keys, or released, has no usual size.
  if v_execution.dry_run or v_execution.selective or v_execution.triggered_by = 'release' or v_execution.status not in ('succeeded', 'incomplete') then
    return;
  end if;
  v_weighed := sync.weigh_run(p_execution, coalesce((select (j.alarms ->> 'band_factor')::numeric from public.sync_jobs j where j.id = v_execution.job_id), 1));
  v_found := v_weighed -> 'findings';
  -- Where no like run comes any more, a day after somebody has looked is enough.
  perform sync.close_alerts(array(
    select a.id from public.sync_alerts a
     where a.kind = 'unusual_run' and a.source_id = v_execution.source_id and a.closed_at is null
       and case when a.subject = sync.subject_of(v_execution.triggered_by) then v_found = '[]' and (v_weighed ->> 'runs')::integer > 0
                else greatest(a.acknowledged_at, a.last_seen_at) < now() - interval '1 day' and a.acknowledged_at is not null end));
  if v_found = '[]' then
    return;
  end if;
  select string_agg(format('%s%s: %s (usually %s to %s, median %s)', f.one ->> 'entity' || ', ', f.one ->> 'measure', sync.shown_figure((f.one ->> 'value')::numeric, f.one ->> 'measure'),
           sync.shown_figure((f.one ->> 'usual_from')::numeric, f.one ->> 'measure'), sync.shown_figure((f.one ->> 'usual_to')::numeric, f.one ->> 'measure'),
           sync.shown_figure((f.one ->> 'median')::numeric, f.one ->> 'measure')), '; ' order by f.n)
    into v_text from jsonb_array_elements(v_found) with ordinality f (one, n) where f.n <= 3;
  perform sync.raise_alert('unusual_run', case when v_execution.records_processed = 0 and v_found #>> '{0,found}' = 'nothing' then 'critical' else 'warning' end,
    null, p_execution, null,
    format('An execution by %s has come through, and is far from the last ones like it: %s%s.', v_execution.triggered_by, v_text,
      case when jsonb_array_length(v_found) > 3 then format('; and %s more in details', jsonb_array_length(v_found) - 3) else '' end),
    jsonb_build_object('findings', v_found), sync.subject_of(v_execution.triggered_by));
end
$$;
comment on function sync.tell_unusual(uuid) is
  'Opens or counts the alert unusual_run where an execution that has come through is far from earlier ones like it, with their band; closes it where one is not.';

revoke all on function sync.usual_runs(uuid), sync.run_figures(uuid[]), sync.weigh_run(uuid, numeric), sync.shown_figure(numeric, text), sync.tell_unusual(uuid) from public;
grant execute on function sync.usual_runs(uuid), sync.run_figures(uuid[]), sync.weigh_run(uuid, numeric), sync.shown_figure(numeric, text), sync.tell_unusual(uuid) to isthmus_worker;

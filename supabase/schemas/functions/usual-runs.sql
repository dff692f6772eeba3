-- Purpose: a success that is none: weigh an execution that has come through against earlier ones like it, and tell
--          what is far from what these did.
-- Locks:   the open alerts of this kind.

create function sync.usual_runs(p_execution uuid, p_before timestamptz) returns setof uuid
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  -- What runs more often than once a day is compared with the same time of earlier days: at night a job reads less.
  -- One probe of an index for each.
  with this as (
    select x.*, coalesce((select j.time_zone from public.sync_jobs j where j.id = x.job_id), 'UTC') as zone, greatest(1, round(extract(epoch from x.started_at - (
             select o.started_at from public.sync_executions o
              where o.source_id = x.source_id and o.triggered_by = x.triggered_by and hash_array(o.entities) = hash_array(x.entities) and o.started_at < x.started_at
                and o.status in ('succeeded', 'incomplete') and not o.dry_run and not o.selective
              order by o.started_at desc limit 1)) / 86400))::integer as days
      from public.sync_executions x where x.id = p_execution
  )
  select distinct l.id
    from this x
   cross join generate_series(1, 28) n
   cross join lateral (
     select o.id from public.sync_executions o
      where o.source_id = x.source_id and o.triggered_by = x.triggered_by and hash_array(o.entities) = hash_array(x.entities)
        and o.started_at < least(p_before, (x.started_at at time zone x.zone - make_interval(days => n * x.days, mins => -30)) at time zone x.zone)
        and o.status in ('succeeded', 'incomplete') and not o.dry_run and not o.selective
      order by o.started_at desc limit 1) l
$$;
comment on function sync.usual_runs(uuid, timestamptz) is
  'Up to 28 earlier executions with the same trigger and entities that have come through: the latest ones, and where '
  'there are several in a day, those that began at the same time of the day. p_before: only what began before that; '
  'null: any.';

create function sync.run_figures(p_executions uuid[])
returns table (execution uuid, started_at timestamptz, entity text, look text, measure text, value numeric, gap numeric)
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  with runs as (
    select x.id, x.started_at, x.completed_at, x.entities,
           -- Since somebody looked at these entities before, whoever that was: a run of its own a minute ago has read
           -- what there was.
           extract(epoch from x.started_at - (
             select o.started_at from public.sync_executions o
              where o.source_id = x.source_id and o.started_at < x.started_at and not o.dry_run and not o.selective and o.entities && x.entities
              order by o.started_at desc limit 1)) as gap
      from unnest(p_executions) p (id) cross join lateral (select e.* from public.sync_executions e where e.id = p.id offset 0) x
  ), chains as (
    select r.id, n.entity_type as entity,
           case when bool_or(c.capture = 'adopt') then 'adopt' when bool_or(c.capture = 'full') then 'full' when bool_or(c.capture = 'digest') then 'digest' else 'changes' end as look,
           sum(coalesce((c.counts ->> 'read')::numeric, 0)) as read,
           -- What waits for a parent may land a moment later.
           sum(coalesce((c.counts ->> 'in_conflict')::numeric, 0)) as rejected,
           sum(coalesce((c.counts ->> 'wall_ms')::numeric, 0)) / 1000 as seconds
      from runs r
     cross join lateral (select h.* from public.sync_chains h where h.execution_id = r.id offset 0) c
      join public.sync_entities n on n.id = c.entity_id
     group by 1, 2
  ), entities as (
    -- In an entity without a chain nothing was written since: the plan has looked.
    select r.id, r.started_at, r.completed_at, r.gap, e.entity, coalesce(c.look, 'changes') as look, coalesce(c.read, 0) as read, coalesce(c.rejected, 0) as rejected,
           coalesce(c.seconds, 0) as seconds
      from runs r cross join unnest(r.entities) e (entity) left join chains c on c.id = r.id and c.entity = e.entity
  )
  select e.id, e.started_at, e.entity, e.look, 'records read', e.read, e.gap from entities e
  union all
  -- A share of a few records says nothing.
  select e.id, e.started_at, e.entity, e.look, 'share of rejects', e.rejected / e.read, e.gap from entities e where e.read >= 20
  union all
  select e.id, e.started_at, e.entity, e.look, 'seconds of work', e.seconds, e.gap from entities e
  union all
  select e.id, e.started_at, '', string_agg(e.entity || ' ' || e.look, ', ' order by e.entity), 'seconds from begin to end', extract(epoch from e.completed_at - e.started_at), e.gap
    from entities e group by e.id, e.started_at, e.completed_at, e.gap
$$;
comment on function sync.run_figures(uuid[]) is
  'What executions read, rejected and took, of each entity; of the whole, where entity is empty. look: only figures '
  'of the same look can be compared. gap: seconds since an execution had begun before that looks at any of these '
  'entities. Summed from the counts of their chains.';

create function sync.weigh_run(p_execution uuid, p_factor numeric, p_before timestamptz) returns jsonb
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  -- Of fewer than seven earlier runs nobody knows what is usual. The least distances keep small numbers from being
  -- news.
  with figures as (
    select * from sync.run_figures(array(select sync.usual_runs(p_execution, p_before)) || p_execution)
  ), this as (
    select * from figures where execution = p_execution
  ), ranked as (
    select f.*, row_number() over (partition by f.entity, f.measure order by f.started_at desc) as nth
      from figures f join this using (entity, look, measure) where f.execution <> p_execution
  ), bands as (
    select x.*, b.runs, b.least, b.q[1] as low, b.q[2] as median, b.q[3] as high, b.q[3] - b.q[1] as width, b.usual_gap,
           case x.measure when 'records read' then 100 when 'share of rejects' then 0.05 else 300 end as distance
      from this x
      join (select r.entity, r.measure, count(*) as runs, min(r.value) as least, percentile_cont(array[0.1, 0.5, 0.9]) within group (order by r.value) as q,
                   percentile_cont(0.5) within group (order by r.gap) as usual_gap
              from ranked r where r.nth <= 14 group by 1, 2) b using (entity, measure)
     where b.runs >= 7
       -- After another while than usual another number of changes is to be expected.
       and (x.measure <> 'records read' or x.look = 'full' or x.gap between b.usual_gap / 2 and b.usual_gap * 2)
  ), judged as (
    select b.*, case when b.measure = 'records read' and b.value = 0 and b.runs = 14 and b.least > 0 then 'nothing'
                     when b.value > b.high + p_factor * greatest(2 * b.width, b.median, b.distance) then 'more'
                     when b.measure = 'records read' and b.value < b.low - p_factor * greatest(2 * b.width, b.median / 2, b.distance) then 'less' end as found
      from bands b
  )
  select jsonb_build_object(
           'read', (select coalesce(pg_catalog.jsonb_agg(x.entity), '[]') from this x where x.measure = 'records read' and x.value > 0),
           'usual', coalesce(pg_catalog.jsonb_agg(jsonb_build_object('entity', j.entity, 'measure', j.measure)) filter (where j.found is null), '[]'),
           'findings', coalesce(pg_catalog.jsonb_agg(jsonb_strip_nulls(jsonb_build_object(
             'entity', nullif(j.entity, ''), 'found', j.found, 'measure', j.measure, 'value', round(j.value, 4), 'usual_from', round(j.low::numeric, 4),
             'median', round(j.median::numeric, 4), 'usual_to', round(j.high::numeric, 4), 'runs', j.runs))
             order by j.found <> 'nothing', abs(j.value - j.median) / greatest(j.median, j.distance) desc, j.entity, j.measure) filter (where j.found is not null), '[]'))
    from judged j
$$;
comment on function sync.weigh_run(uuid, numeric, timestamptz) is
  'What of an execution is far from its last fourteen like ones (findings), and what is as usual; and the entities '
  'of which something was read. Far: nothing read where each of them read something; or outside their band (tenth to '
  'ninetieth percentile) by more than twice its width, the median (half of it below the band) and a least distance. '
  'p_factor widens these. p_before: as for sync.usual_runs.';

create function sync.shown_figure(p_value numeric, p_measure text) returns text
language sql immutable security invoker set search_path = pg_catalog, pg_temp as $$
  select case when p_measure like 'share%' then round(100 * p_value, 1) || ' %' else round(p_value)::text end
$$;
comment on function sync.shown_figure(numeric, text) is 'A figure of a run as people read it.';

create function sync.tell_unusual(p_execution uuid) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_execution public.sync_executions;
  v_alert     public.sync_alerts; -- of these entities by this trigger, still open
  v_subject   text;
  v_weighed   jsonb;
  v_found     jsonb;
  v_text      text;
begin
  select * into strict v_execution from public.sync_executions where id = p_execution;
  -- What was asked for by keys, or released, has no usual size.
  if v_execution.dry_run or v_execution.selective or v_execution.triggered_by = 'release' or v_execution.status not in ('succeeded', 'incomplete') then
    return;
  end if;
  v_subject := sync.subject_of(v_execution.triggered_by, hash_array(v_execution.entities)::text);
  select * into v_alert from public.sync_alerts a
   where a.kind = 'unusual_run' and a.source_id = v_execution.source_id and a.subject = v_subject and a.closed_at is null limit 1;
  begin
    v_weighed := sync.weigh_run(p_execution, coalesce((select (j.alarms ->> 'band_factor')::numeric from public.sync_jobs j where j.id = v_execution.job_id), 1),
      -- What goes on like this is no usual run before a person says so.
      case when v_alert.acknowledged_at is null then (select x.started_at from public.sync_executions x where x.id = (v_alert.details ->> 'since')::uuid) end);
  exception when data_exception then
    -- Nobody's execution fails for its weighing: a time zone of its job that does not exist, an unheard-of number.
    perform sync.raise_alert('unusual_run', 'warning', null, p_execution, null,
      format('An execution by %s has come through, and could not be weighed against the last ones like it (SQLSTATE %s): look at time_zone and alarms of its job.', v_execution.triggered_by, sqlstate),
      coalesce(v_alert.details, '{"findings": []}'), v_subject);
    return;
  end;
  v_found := v_weighed -> 'findings';
  if v_found = '[]' then
    -- All that was found then is as usual now; and where nothing had been read, something is.
    perform sync.close_alerts(array[v_alert.id])
      where v_alert.id is not null and not exists (
        select from jsonb_array_elements(v_alert.details -> 'findings') f
         where case when f ->> 'found' = 'nothing' and v_alert.acknowledged_at is null then not v_weighed -> 'read' ? (f ->> 'entity')
                    else not v_weighed -> 'usual' @> jsonb_build_array(jsonb_build_object('entity', coalesce(f ->> 'entity', ''), 'measure', f ->> 'measure')) end);
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
    jsonb_build_object('findings', v_found, 'since', coalesce(v_alert.details ->> 'since', p_execution::text)), v_subject);
end
$$;
comment on function sync.tell_unusual(uuid) is
  'Opens or counts the alert unusual_run where an execution that has come through is far from earlier ones like it, '
  'with their band; closes it where what was found is as usual again.';

revoke all on function sync.usual_runs(uuid, timestamptz), sync.run_figures(uuid[]), sync.weigh_run(uuid, numeric, timestamptz), sync.shown_figure(numeric, text),
  sync.tell_unusual(uuid) from public;
grant execute on function sync.usual_runs(uuid, timestamptz), sync.run_figures(uuid[]), sync.weigh_run(uuid, numeric, timestamptz), sync.shown_figure(numeric, text),
  sync.tell_unusual(uuid) to isthmus_worker;

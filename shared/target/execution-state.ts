import type { Queryable } from "../db/connect.ts";
import { query } from "../db/query.ts";
import { ERRORS, type ErrorCode } from "../errors.ts";

/** The state of an execution as sync-trigger answers it; undefined when there is none with that id. */
export async function executionState(target: Queryable, id: string): Promise<Record<string, unknown> | undefined> {
  const rows = await query<{ state: Record<string, unknown> }>(
    target,
    "target",
    `select jsonb_build_object(
         'execution', x.id, 'status', x.status, 'dryRun', x.dry_run,
         'plan', (select r.body from public.sync_reports r where r.execution_id = x.id and r.kind = 'plan' and x.status in ('succeeded', 'incomplete')),
         'triggeredBy', x.triggered_by, 'startedAt', x.started_at,
         'completedAt', x.completed_at, 'errors', x.errors,
         -- Of one that runs: for how long nothing has moved, and what its pages failed with last.
         'idleSeconds', case when x.status = 'running' then (
           select floor(extract(epoch from clock_timestamp() - greatest(x.started_at, max(c.moved_at)))) from public.sync_chains c where c.execution_id = x.id) end,
         'troubles', case when x.status = 'running' then (
           select coalesce(pg_catalog.jsonb_agg(jsonb_build_object('entity', e.entity_type, 'tries', c.failures, 'sends', c.unclaimed, 'code', coalesce(c.refusal, c.last_error) ->> 'code',
                    'message', coalesce(c.refusal, c.last_error) ->> 'message', 'remedy', coalesce(c.refusal, c.last_error) ->> 'remedy') order by e.id, c.id), '[]')
             from public.sync_chains c left join public.sync_entities e on e.id = c.entity_id
            where c.execution_id = x.id and c.state = 'open' and (c.failures > 0 or c.unclaimed > 1 or c.refusals > 0)) else '[]' end,
         'metrics', sync.execution_metrics(x.id),
         'entities', (
           select pg_catalog.jsonb_agg(jsonb_build_object(
                    'entity', e.entity_type,
                    'chains', (select jsonb_object_agg(s.state, s.n) from (
                                 select c.state, count(*) as n from public.sync_chains c
                                  where c.execution_id = x.id and c.entity_id = e.id group by c.state) s),
                    'capture', (select coalesce(min(c.capture::text) filter (where c.capture not in ('joins', 'keys')), min(c.capture::text))
                                  from public.sync_chains c
                                 where c.execution_id = x.id and c.entity_id = e.id and (c.capture <> 'keys' or x.selective)),
                    'counts', (select jsonb_build_object('pages', coalesce(l.pages, 0), 'read', coalesce(l.read, 0),
                                 'inserted', coalesce(l.inserted, 0), 'updated', coalesce(l.updated, 0),
                                 'unchanged', coalesce(l.unchanged, 0), 'deleted', coalesce(l.deleted, 0),
                                 'waiting', coalesce(l.waiting, 0), 'inConflict', coalesce(l.in_conflict, 0),
                                 'waived', coalesce(l.waived, 0), 'absent', coalesce(l.absent, 0),
                                 'surplus', coalesce(l.surplus, 0))
                                 from jsonb_to_record(sync.counted(x.id, e.id)) as l (pages bigint, read bigint, inserted bigint, updated bigint,
                                        unchanged bigint, deleted bigint, waiting bigint, in_conflict bigint, waived bigint, absent bigint, surplus bigint)))
                  order by array_position(x.entities, e.entity_type::text))
             from public.sync_entities e
            where e.source_id = x.source_id and e.entity_type = any (x.entities)
              -- Of a selection, those that it came to.
              and (not x.selective or exists (select from public.sync_chains c where c.execution_id = x.id and c.entity_id = e.id))),
         'queue', (select coalesce(pg_catalog.jsonb_agg(jsonb_build_object('entity', q.entity_type, 'state', q.state, 'type', q.conflict_type, 'rule', q.rule, 'count', q.n)
                            order by q.entity_type, q.state, q.n desc), '[]')
                     from (select entity_type, state, conflict_type, rule, count(*) as n from public.sync_conflicts
                            where state in ('waiting', 'open') and entity_type = any (x.entities) group by 1, 2, 3, 4) q),
         'waivers', (select coalesce(pg_catalog.jsonb_agg(jsonb_build_object('rule', v.rule, 'count', v.n) order by v.rule), '[]')
                       from (select substr(c.key, 11) as rule, c.value::bigint as n from jsonb_each_text(sync.counted(x.id)) c
                              where c.key like 'waived by %') v),
         'notices', (select coalesce(pg_catalog.jsonb_agg(a.message), '[]')
                       from (select h.message from public.sync_alerts h where h.source_id = x.source_id and h.kind = 'horizon_held' and h.closed_at is null
                             union all
                             select p.message from sync.paused() p
                              where x.status = 'running' and (p.execution_id = x.id or p.what = 'job' and p.job_id = x.job_id or p.what = 'entity' and p.source_id = x.source_id and p.name = any (x.entities))) a),
         'warnings', (select coalesce(pg_catalog.jsonb_agg(jsonb_build_object('rule', w.rule, 'count', w.n) order by w.rule), '[]')
                        from (select w.rule, count(*) as n from public.sync_warnings w join public.sync_entities e on e.id = w.entity_id
                               where e.source_id = x.source_id and e.entity_type = any (x.entities) group by 1) w)) as state
       from public.sync_executions x where x.id = $1`,
    [id],
  );
  const state = rows[0]?.state;
  return state && { ...state, errors: toldErrors(state["errors"]) };
}

/** Each error with what it means and what to do, which the database leaves out where the code says it. */
function toldErrors(errors: unknown): unknown {
  if (!Array.isArray(errors)) return errors ?? null;
  return errors.map((error: { code?: string }) => {
    const known = error.code !== undefined && error.code in ERRORS ? ERRORS[error.code as ErrorCode] : undefined;
    return known ? { message: known.meaning, remedy: known.remedy, ...error } : error;
  });
}

/** The latest executions, newest first. */
export async function latestExecutions(target: Queryable, limit: number): Promise<Record<string, unknown>[]> {
  return query(
    target,
    "target",
    `select id as execution, status, dry_run as "dryRun", triggered_by as "triggeredBy", started_at as "startedAt", completed_at as "completedAt",
            records_processed as "recordsProcessed", coalesce(control = 'pause', false) as paused
       from public.sync_executions order by started_at desc limit $1`,
    [limit],
  );
}

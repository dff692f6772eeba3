import type { Queryable } from "../db/connect.ts";
import { query } from "../db/query.ts";

/** Asks for every waiting record whose parent has landed to be read again. */
export async function releaseWaiting(target: Queryable, sourceId: number): Promise<void> {
  await query(target, "target", "select sync.release_waiting($1::integer::smallint)", [sourceId]);
}

/** Waiting records that one tick tells anew what they wait for; the rest follows with the next tick. */
const TOLD_AT_ONCE = 10_000;

/**
 * Masks what has become sensitive, closes what is open of removed entities, asks for every record whose next attempt
 * is due, counts the queue, raises an alert where records have been in it for too long, and says of waiting ones what
 * they wait for in the end where that has changed.
 */
export async function maintainQueue(target: Queryable, sourceId: number, ageHours: number): Promise<void> {
  await query(
    target,
    "target",
    "select sync.mask_queue($1::integer::smallint, $3), sync.close_removed($1::integer::smallint, $3), sync.retry_due($1::integer::smallint), sync.count_queue($1::integer::smallint), sync.alert_old_records($1::integer::smallint, $2), sync.tell_causes($1::integer::smallint, $3)",
    [sourceId, ageHours, TOLD_AT_ONCE],
  );
}

/** Entities with keys to read again that no running execution covers. Gone ones, and what a brake holds, are for the next execution that looks for changes. */
export async function entitiesWithPendingKeys(target: Queryable, sourceId: number): Promise<string[]> {
  const rows = await query<{ entity: string }>(
    target,
    "target",
    `select e.entity_type as entity
       from public.sync_entities e
      where e.source_id = $1 and e.adoption_epoch > 0 and e.control is null
        and exists (select from public.sync_pending_keys k where k.execution_id is null and k.entity_id = e.id and not k.gone)
        -- After a page of such keys made no progress, the pauses grow: an hour, two, four, ... a day.
        and not exists (select from public.sync_alerts a
                         where a.entity_id = e.id and a.kind = 'page_stalled' and a.closed_at is null and a.details ->> 'capture' = 'keys'
                           and a.last_seen_at > now() - least(interval '1 day', interval '1 hour' * 2 ^ least(a.occurrences - 1, 5)))
        and not exists (select from public.sync_brakes b where b.entity_id = e.id and b.closed_at is null and b.confirmed_at is null)
        and not exists (select from public.sync_executions x
                         where x.source_id = e.source_id and x.status = 'running' and e.entity_type = any (x.entities))
      order by e.id`,
    [sourceId],
  );
  return rows.map((row) => row.entity);
}

/** Opens the chains of running executions whose turn has come; they are due at once, so the sweep sends them. */
export async function advanceExecutions(target: Queryable, sourceId: number): Promise<void> {
  await query(target, "target", "select sync.advance_running($1::integer::smallint)", [sourceId]);
}

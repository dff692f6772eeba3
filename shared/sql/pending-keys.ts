import type { Queryable } from "../db/connect.ts";
import { query } from "../db/query.ts";
import type { PendingKey } from "../pipeline/types.ts";

/**
 * The next keys that were asked to be read again, ascending, with the generation of each request and its reason. With `upTo`
 * those whose records the source no longer has, asked for up to that generation, downwards: a record refers to older ones
 * rather than to younger ones.
 */
export async function pendingKeys(
  target: Queryable,
  entityId: number,
  after: string | null,
  limit: number,
  upTo: string | null,
): Promise<PendingKey[]> {
  return query(
    target,
    "target",
    `select legacy_id::text as k, generation::text as g, reason as r
       from public.sync_pending_keys
      where entity_id = $1 and ${nextKeys(upTo, 2, 4)} limit $3`,
    [entityId, after, limit, ...(upTo === null ? [] : [upTo])],
  );
}

/** Condition and order of a page of keys: the parameters of its cursor, and of the last generation. */
export function nextKeys(upTo: string | null, cursor: number, generation: number): string {
  return upTo === null
    ? `not gone and legacy_id > coalesce($${cursor}::text::bigint, -9223372036854775808) order by legacy_id`
    : `gone and generation <= $${generation}::text::bigint and legacy_id < coalesce($${cursor}::text::bigint, 9223372036854775807) order by legacy_id desc`;
}

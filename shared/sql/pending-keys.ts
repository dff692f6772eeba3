import type { Queryable } from "../db/connect.ts";
import { query } from "../db/query.ts";
import type { PendingKey } from "../pipeline/types.ts";

/**
 * The next keys that were asked to be read again, ascending, with the generation of each request and its reason; of `gone` ones, whose records
 * the source no longer has, the next ones downwards: a record refers to older ones rather than to younger ones.
 */
export async function pendingKeys(target: Queryable, entityId: number, after: string | null, limit: number, gone: boolean) {
  return query<PendingKey>(
    target,
    "target",
    `select legacy_id::text as k, generation::text as g, reason as r
       from public.sync_pending_keys
      where entity_id = $1 and ${nextKeys(gone, 2)} limit $3`,
    [entityId, after, limit],
  );
}

/** Condition and order of a page of keys behind the cursor in a parameter. */
export function nextKeys(gone: boolean, cursor: number): string {
  return gone
    ? `gone and legacy_id < coalesce($${cursor}::text::bigint, 9223372036854775807) order by legacy_id desc`
    : `not gone and legacy_id > coalesce($${cursor}::text::bigint, -9223372036854775808) order by legacy_id`;
}

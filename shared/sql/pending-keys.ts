import type { Queryable } from "../db/connect.ts";
import { query } from "../db/query.ts";
import type { PendingKey } from "../pipeline/types.ts";

/** The next keys that were asked to be read again, ascending, with the generation of each request and its reason. */
export async function pendingKeys(target: Queryable, entityId: number, after: string | null, limit: number) {
  return query<PendingKey>(
    target,
    "target",
    `select legacy_id::text as k, generation::text as g, reason as r
       from public.sync_pending_keys
      where entity_id = $1 and legacy_id > coalesce($2::text::bigint, -9223372036854775808)
      order by legacy_id limit $3`,
    [entityId, after, limit],
  );
}

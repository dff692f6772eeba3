import type { Queryable } from "../db/connect.ts";
import { query } from "../db/query.ts";

/** The next keys that were asked to be read again, ascending, with the generation of each request. */
export async function pendingKeys(target: Queryable, entityId: number, after: string | null, limit: number) {
  return query<{ k: string; g: string }>(
    target,
    "target",
    `select legacy_id::text as k, generation::text as g
       from public.sync_pending_keys
      where entity_id = $1 and legacy_id > coalesce($2::text::bigint, -9223372036854775808)
      order by legacy_id limit $3`,
    [entityId, after, limit],
  );
}

import type { Sql } from "../../db/connect.ts";
import { query } from "../../db/query.ts";
import type { Entity } from "../../entities/define-entity.ts";
import { pendingKeys } from "../../sql/pending-keys.ts";
import type { Claim, DetectedKeys } from "../types.ts";
import { allKeys, changedKeys } from "../../sql/source-keys.ts";

/** Finds the keys of the next page of a chain, as its capture says. State is read later, under the page's locks. */
export async function detect(source: Sql, target: Sql, entity: Entity, claim: Claim): Promise<DetectedKeys> {
  const { chain, execution } = claim;
  const limit = chain.page_size;
  const range = { after: chain.cursor ?? chain.range_from, upTo: chain.range_to, limit };
  switch (chain.capture) {
    case "full":
      return ofSource(source, allKeys(entity, range), limit);
    case "xmin":
      return ofSource(
        source,
        changedKeys(entity, range, chain.changed_from ?? execution.horizon, execution.snapshot_xmax),
        limit,
      );
    case "keys": {
      const keys = await pendingKeys(target, chain.entity_id ?? 0, range.after, limit);
      return { ids: keys.map((key) => key.k), done: keys.length < limit, pending: keys };
    }
    case "adopt":
    case "validate":
      return { ids: [], done: true, pending: [] };
  }
}

async function ofSource(source: Sql, keys: ReturnType<typeof allKeys>, limit: number): Promise<DetectedKeys> {
  const rows = await query<{ id: string }>(source, "source", keys.text, keys.parameters);
  return { ids: rows.map((row) => row.id), done: rows.length < limit, pending: [] };
}

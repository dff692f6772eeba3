import type { Queryable } from "../db/connect.ts";
import { query } from "../db/query.ts";

export interface Mapping {
  readonly entity: string;
  readonly legacyId: string;
  readonly uuid: string;
  /** False: a tombstone. Its UUID is kept for the record's return, but nothing may refer to it. */
  readonly active: boolean;
}

/** The UUIDs of landed records, for any number of entities in one round trip. Missing ones are not in the answer. */
export async function findMappings(
  target: Queryable,
  sourceId: number,
  keys: readonly { readonly entity: string; readonly legacyId: string }[],
): Promise<Mapping[]> {
  if (keys.length === 0) return [];
  return query<Mapping>(
    target,
    "target",
    `select k.entity, k."legacyId"::text as "legacyId", m.entity_uuid::text as uuid, m.sync_status = 'active' as active
       from json_to_recordset($2::text::json) as k (entity text, "legacyId" bigint)
       join public.uuid_mappings_enhanced m
         on m.source_id = $1 and m.entity_type = k.entity and m.legacy_id = k."legacyId"`,
    [sourceId, JSON.stringify(keys)],
  );
}

import type { Queryable } from "../db/connect.ts";
import { query } from "../db/query.ts";
import { keysBehind, keysUpTo, type KeyRange } from "../sql/key-range.ts";

export interface RecordId {
  readonly entity: string;
  readonly legacyId: string;
}
export interface MappedRecord extends RecordId {
  readonly uuid: string;
}

export interface Mapping {
  readonly entity: string;
  readonly legacyId: string;
  readonly uuid: string;
  /** False: a tombstone. Its UUID is kept for the record's return, but nothing may refer to it. */
  readonly active: boolean;
}

/** The first keys of a range whose records have landed, ascending. */
export async function landedKeys(target: Queryable, sourceId: number, entity: string, range: KeyRange): Promise<string[]> {
  const rows = await query<{ id: string }>(
    target,
    "target",
    `select legacy_id::text as id from public.uuid_mappings_enhanced
      where source_id = $1 and entity_type = $2 and sync_status = 'active'
        and ${keysBehind("legacy_id", "$3::text::bigint", "$4::text::bigint")} and ${keysUpTo("legacy_id", "$5::text::bigint")}
      order by legacy_id limit $6`,
    [sourceId, entity, range.after, range.from, range.upTo, range.limit],
  );
  return rows.map((row) => row.id);
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
      -- One index probe per key, whatever the planner thinks of a table that has just grown.
      cross join lateral (
        select u.entity_uuid, u.sync_status from public.uuid_mappings_enhanced u
         where u.source_id = $1 and u.entity_type = k.entity and u.legacy_id = k."legacyId" limit 1) m`,
    [sourceId, JSON.stringify(keys)],
  );
}

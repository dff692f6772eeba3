import type { Queryable } from "../db/connect.ts";
import { query } from "../db/query.ts";
import type { KeyRange } from "./source-keys.ts";

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
        and legacy_id > coalesce($3::text::bigint, -9223372036854775808) and legacy_id <= coalesce($4::text::bigint, 9223372036854775807)
      order by legacy_id limit $5`,
    [sourceId, entity, range.after, range.upTo, range.limit],
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
       join public.uuid_mappings_enhanced m
         on m.source_id = $1 and m.entity_type = k.entity and m.legacy_id = k."legacyId"`,
    [sourceId, JSON.stringify(keys)],
  );
}

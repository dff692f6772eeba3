import type { Queryable } from "../db/connect.ts";
import { findMappings, type MappedRecord, type RecordId } from "../target/mappings.ts";
import { findPlanned } from "../target/planned-records.ts";
import { mintUuid } from "./mint-uuid.ts";
import type { CacheKeyOf, MappingCache } from "../cache/mapping-cache.ts";
import type { Claim } from "../target/claims.ts";

export interface MappedIds {
  /** UUIDs of landed parents and counterparts by `entity:legacyId`. */
  readonly parents: ReadonlyMap<string, string>;
  /** UUIDs of the page's own records by legacy id: the landed one, else the one it will get. */
  readonly own: ReadonlyMap<string, string>;
  /** Those of the page's own records that were not mapped as landed. */
  readonly unmapped: readonly string[];
  /** Parents looked up, and how many of them the cache knew. */
  readonly lookups: number;
  readonly hits: number;
  /** Parents that have landed and were not in the cache. */
  readonly uncached: readonly MappedRecord[];
}

/** Cache keys carry the source, the target's identity and the entity's adoption epoch: ids of another life never match. */
export function cacheKeys(claim: Claim): CacheKeyOf {
  const prefix = `isthmus:${claim.source.name}:${claim.target}`;
  return (id) => `${prefix}:${claim.entities[id.entity]?.epoch ?? 0}:${id.entity}:${id.legacyId}`;
}

/**
 * Resolves all ids of a page: parents by one read of the cache, then one set-based query for those that it misses and
 * for the page's own records. Own ids are not worth a place in the cache: a first load never finds them there, and a
 * later one asks for each of them once. A negative answer is never cached. Own records without a mapping get a minted
 * id; a parent without one stays missing. Twins are asked of the table alone: whether a record has landed decides a
 * value, which no foreign key would catch.
 */
export async function mapIds(
  target: Queryable,
  cache: MappingCache,
  claim: Claim,
  entity: string,
  ownLegacyIds: readonly string[],
  parents: readonly RecordId[],
  counterparts: readonly RecordId[],
): Promise<MappedIds> {
  const cached = await cache.read(cacheKeys(claim), parents);
  const missing = parents.filter((id) => !cached.has(`${id.entity}:${id.legacyId}`));
  const asked = [...missing, ...counterparts, ...ownLegacyIds.map((legacyId) => ({ entity, legacyId }))];
  const found = await findMappings(target, claim.source.id, asked);
  // What this execution would land or delete already counts as done.
  if (claim.execution.dry_run) found.push(...(await findPlanned(target, claim, asked)));
  const known = new Map(cached);
  const landed = new Map<string, string>();
  const active = new Set<string>();
  for (const mapping of found) {
    if (mapping.entity === entity) {
      landed.set(mapping.legacyId, mapping.uuid);
      if (mapping.active) active.add(mapping.legacyId);
    }
    const key = `${mapping.entity}:${mapping.legacyId}`;
    if (mapping.active) known.set(key, mapping.uuid);
    else known.delete(key);
  }
  return {
    parents: known,
    own: new Map(ownLegacyIds.map((id) => [id, landed.get(id) ?? mintUuid(claim.source.namespace, entity, id)])),
    unmapped: ownLegacyIds.filter((id) => !active.has(id)),
    lookups: parents.length,
    hits: parents.length - missing.length,
    uncached: missing.flatMap((id) => {
      const uuid = known.get(`${id.entity}:${id.legacyId}`);
      return uuid === undefined ? [] : [{ ...id, uuid }];
    }),
  };
}

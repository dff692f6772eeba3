import type { Queryable } from "../db/connect.ts";
import { findMappings } from "../sql/mappings.ts";
import { mintUuid } from "./mint-uuid.ts";
import type { CacheKeyOf, Claim, MappedRecord, MappingCache, RecordId } from "./types.ts";

export interface MappedIds {
  /** UUIDs of landed parents by `entity:legacyId`. */
  readonly parents: ReadonlyMap<string, string>;
  /** UUIDs of the page's own records by legacy id: the landed one, else the one it will get. */
  readonly own: ReadonlyMap<string, string>;
  readonly lookups: number;
  readonly hits: number;
  /** Found in the table, so worth caching after the commit. */
  readonly found: readonly MappedRecord[];
}

/** Cache keys carry the source, the target's identity and the entity's adoption epoch: ids of another life never match. */
export function cacheKeys(claim: Claim): CacheKeyOf {
  const prefix = `isthmus:${claim.source.name}:${claim.target}`;
  return (id) => `${prefix}:${claim.entities[id.entity]?.epoch ?? 0}:${id.entity}:${id.legacyId}`;
}

/**
 * Resolves all ids of a page: one read of the cache, one set-based query for what it misses. A negative answer is
 * never cached. Own records without a mapping get a minted id; a parent without one stays missing.
 */
export async function mapIds(
  target: Queryable,
  cache: MappingCache,
  claim: Claim,
  entity: string,
  ownLegacyIds: readonly string[],
  parents: readonly RecordId[],
): Promise<MappedIds> {
  const wanted: RecordId[] = [...parents, ...ownLegacyIds.map((legacyId) => ({ entity, legacyId }))];
  const known = new Map(await cache.read(cacheKeys(claim), wanted));
  const hits = wanted.filter((key) => known.has(`${key.entity}:${key.legacyId}`)).length;
  const missing = wanted.filter((key) => !known.has(`${key.entity}:${key.legacyId}`));
  const found = await findMappings(target, claim.source.id, missing);
  const tombstones = new Map<string, string>();
  for (const mapping of found) {
    (mapping.active ? known : tombstones).set(`${mapping.entity}:${mapping.legacyId}`, mapping.uuid);
  }
  return {
    parents: known,
    own: new Map(
      ownLegacyIds.map((id) => {
        const key = `${entity}:${id}`;
        return [id, known.get(key) ?? tombstones.get(key) ?? mintUuid(claim.source.namespace, entity, id)];
      }),
    ),
    lookups: wanted.length,
    hits,
    found: found.filter((mapping) => mapping.active),
  };
}

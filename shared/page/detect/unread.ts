import type { Sql } from "../../db/connect.ts";
import { isSourceLimit } from "../../db/query.ts";
import type { Entity } from "../../entity/define-entity.ts";
import { digestsOfKeys } from "../../source/digests.ts";
import { knownDigests, type KnownOf } from "../../target/digests.ts";
import { type KeyDigest } from "../../sql/spans.ts";
import { stateOfRecord } from "../../source/read-records.ts";
import type { WrittenRecord } from "../../source/scan.ts";

/**
 * Of written records, those that have to be read: all that were written since the last run looked, and of the others,
 * which a transaction that is still open keeps within every run's reach, those that are not as they were read last.
 * Their hashes are made where the records are. It does not matter when either side is asked: what is equal then needs
 * no reading.
 */
export async function unread<Row extends WrittenRecord>(
  source: Sql,
  target: Sql,
  entity: Entity,
  of: KnownOf,
  rows: readonly Row[],
): Promise<readonly Row[]> {
  const ids = [...new Set(rows.filter(({ seen }) => seen === true).map(({ id }) => id))];
  if (ids.length === 0) return rows;
  try {
    const known = hashes(
      await knownDigests(
        target,
        of,
        ids.map((id) => ({ from: BigInt(id), to: BigInt(id) })),
      ),
    );
    const now = hashes(await digestsOfKeys(source, entity, ids));
    // A row that is no record, and of which nothing is known, is not to be read either.
    return rows.filter(({ id, seen }) => seen !== true || known.get(id) !== now.get(id) || known.get(id) === null);
  } catch (error) {
    // A record that cannot be computed, or not in time: the read says which.
    if (stateOfRecord(error) !== undefined || isSourceLimit(error)) return rows;
    throw error;
  }
}

function hashes(digests: readonly KeyDigest[]): ReadonlyMap<string, string | null> {
  return new Map(digests.map(({ id, digest }) => [id, digest]));
}

import type { Queryable } from "../db/connect.ts";
import { query } from "../db/query.ts";
import { consumedJoins } from "../entities/consumed-joins.ts";
import type { Entity } from "../entities/define-entity.ts";
import { IsthmusError } from "../errors.ts";
import { keysWithRowsSince } from "../sql/source-joins.ts";
import { inSpans } from "../sql/uncomputable.ts";
import type { Claim } from "./types.ts";

/**
 * The records of a page that may have consumed a joined row in another state than the one that is noted: it was written since. Should
 * it be as noted again when it is looked at next, nothing else would tell that they have to be read. To be asked after they were read:
 * a row that is written once more meanwhile was still written since. `ids`: ascending.
 */
export async function readAhead(
  source: Queryable,
  entity: Entity,
  { chain, execution }: Claim,
  ids: readonly string[],
): Promise<readonly string[]> {
  const joins = consumedJoins(entity);
  const { noted_from: from } = chain;
  const [first] = ids;
  // What a plan reads, it does not note.
  if (joins.length === 0 || from === null || execution.dry_run || first === undefined) return [];
  const whole = { from: BigInt(first), to: BigInt(ids.at(-1) ?? first) };
  try {
    const { results, refused, end } = await inSpans(
      source,
      entity,
      whole,
      async (span) => {
        const within = ids.filter((id) => span.from <= BigInt(id) && BigInt(id) <= span.to);
        const { text, parameters } = keysWithRowsSince(entity, joins, within, from);
        return query<{ id: string }>(source, "source", text, parameters);
      },
      { mayBeSlow: true },
    );
    // Of those that could not be asked about, nobody knows.
    const unasked = new Set(refused);
    return [...results.flat().map(({ id }) => id), ...ids.filter((id) => unasked.has(id) || BigInt(id) > end)];
  } catch (error) {
    // Where written rows cannot be told, every execution compares all records by their hashes.
    if (error instanceof IsthmusError && WITHOUT_XMIN.has(error.detail["sqlstate"])) return [];
    throw error;
  }
}

/** No right on the column xmin; no such column: a view; none that this kind of table could give. */
const WITHOUT_XMIN: ReadonlySet<unknown> = new Set(["42501", "42703", "0A000"]);

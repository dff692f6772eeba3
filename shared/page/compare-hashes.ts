import type { Clock } from "../clock.ts";
import type { Queryable } from "../db/connect.ts";
import type { Entity } from "../entity/define-entity.ts";
import { differingRecords } from "../source/digests.ts";
import type { LookedAt } from "../target/pages.ts";

/** The first keys that are compared at a time; how long the later ones are to take, by what those before them took. */
const FIRST = 200;
const STATEMENT_MS = 500;

export interface ComparedHashes {
  /** Keys whose record is another one, or gone. */
  readonly differing: readonly string[];
  /** The first key that there was no time for; undefined: all were compared. */
  readonly end?: string;
}

/**
 * Which of the untouched records of a page the source has otherwise than they were read last. A hash needs all of a
 * record: where these are large, a statement compares few of them, and the page ends where its time does. Undefined:
 * a key has several records.
 */
export async function compareHashes(
  source: Queryable,
  entity: Entity,
  { keys: ids, digests }: Pick<LookedAt, "keys" | "digests">,
  { clock, budgetMs }: { readonly clock: Clock; readonly budgetMs: number },
): Promise<ComparedHashes | undefined> {
  const started = clock();
  const differing: string[] = [];
  let size = FIRST;
  for (let from = 0; from < ids.length;) {
    const before = clock();
    if (from > 0 && before - started > budgetMs) return { differing, end: ids[from] ?? "" };
    const part = ids.slice(from, from + size);
    const found = await differingRecords(source, entity, part, digests.slice(from, from + size));
    if (found.rows !== part.length) return undefined;
    differing.push(...found.differing);
    from += part.length;
    size = Math.max(1, Math.min(ids.length, Math.floor((size * STATEMENT_MS) / Math.max(1, clock() - before))));
  }
  return { differing };
}

import type { Sql } from "../db/connect.ts";
import { query } from "../db/query.ts";
import type { Entity } from "../entity/define-entity.ts";
import { IsthmusError } from "../errors.ts";
import { parseSelection, referringKeys } from "../source/selected-keys.ts";
import { inAllSpans } from "../source/uncomputable.ts";
import type { Claim } from "../target/claims.ts";
import type { PendingKey } from "../target/pending-keys.ts";
import type { Dependant } from "../target/pages.ts";

/** Dependants that one page may ask for: they are listed in its commit. */
const MOST_DEPENDANTS = 100_000;

/** The keys of a page, and the requests that they answer. */
interface Asked {
  readonly ids: readonly string[];
  readonly pending: readonly PendingKey[];
}

/** Of a page's keys, those whose dependants were asked for with them. */
export function keysWithDependants({ chain }: Claim, { ids, pending }: Asked): readonly string[] {
  if (chain.capture === "selection") return parseSelection(chain.selection).dependants ? ids : [];
  return pending.filter(({ r }) => r === "dependants").map(({ k }) => k);
}

/**
 * The records that refer to these by a parent field, whatever their entity: as the source has them now, so that new
 * ones are among them. Those of the same entity are followed to the end, for they may refer to each other in a
 * circle.
 * @throws IsthmusError SELECTION_TOO_LARGE
 */
export async function findDependants(
  source: Sql,
  entities: ReadonlyMap<string, Entity>,
  parent: Entity,
  ids: readonly string[],
): Promise<Dependant[]> {
  if (ids.length === 0) return [];
  const family = new Set(ids);
  for (let generation = [...ids]; generation.length > 0;) {
    const children = await referring(source, parent, parent, generation);
    generation = children.filter((id) => !family.has(id));
    generation.forEach((id) => family.add(id));
    assertFew(parent, family.size - ids.length);
  }
  const own = [...family].slice(new Set(ids).size).map((k) => ({ entity: parent.name, k }));
  const found = [...own];
  for (const child of entities.values()) {
    if (child.name === parent.name) continue;
    const children = await referring(source, child, parent, [...family]);
    found.push(...children.map((k) => ({ entity: child.name, k })));
    assertFew(parent, found.length);
  }
  return found;
}

function assertFew(parent: Entity, dependants: number): void {
  if (dependants <= MOST_DEPENDANTS) return;
  throw new IsthmusError("SELECTION_TOO_LARGE", `More than ${MOST_DEPENDANTS} records refer to a page of ${parent.name}.`);
}

/** Keys of a child's records that refer to these of the parent's, once each. */
async function referring(source: Sql, child: Entity, parent: Entity, ids: readonly string[]): Promise<string[]> {
  const keys = new Set<string>();
  for (const reference of referencesTo(child, parent.name)) {
    const { results } = await inAllSpans(source, child, (span) => {
      const { text, parameters } = referringKeys(child, reference, ids, MOST_DEPENDANTS + 1, span);
      return query<{ id: string }>(source, "source", text, parameters);
    });
    for (const { id } of results.flat()) keys.add(id);
  }
  return [...keys];
}

/** Columns of a projection that hold ids of an entity. */
function referencesTo({ fields }: Entity, parent: string): string[] {
  const columns = Object.values(fields).flatMap((field) => (field.parent === parent ? (field.columns[0] ?? []) : []));
  return [...new Set(columns)];
}

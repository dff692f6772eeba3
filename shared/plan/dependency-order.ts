import type { Context } from "../context.ts";
import type { Entity } from "../entity/define-entity.ts";
import { IsthmusError } from "../errors.ts";

/**
 * Parents before children; entities of one level in the order of their names. The registry has no cycles. `first`:
 * those to come first, in this order, as far as their parents allow it, which are drawn forward with them.
 */
export function dependencyOrder(entities: readonly Entity[], first: readonly string[] = []): Entity[] {
  const names = new Set(entities.map((entity) => entity.name));
  const ranks = ranksOf(entities, first);
  const rank = ({ name }: Entity) => ranks.get(name) ?? first.length;
  const ordered: Entity[] = [];
  const placed = new Set<string>();
  let rest = [...entities].sort((a, b) => rank(a) - rank(b) || a.name.localeCompare(b.name));
  while (rest.length > 0) {
    const ready = rest.filter((entity) =>
      entity.dependsOn.every((name) => placed.has(name) || !names.has(name) || name === entity.name),
    );
    if (ready.length === 0) return [...ordered, ...rest];
    const next = ready.filter((entity) => rank(entity) === rank(ready[0] ?? entity));
    ordered.push(...next);
    for (const entity of next) placed.add(entity.name);
    rest = rest.filter((entity) => !placed.has(entity.name));
  }
  return ordered;
}

/** The entities of these names, once each; without names: all. @throws IsthmusError NOT_FOUND. */
export function selectEntities({ entities }: Pick<Context, "entities">, names: readonly string[] | undefined): Entity[] {
  if (names === undefined) return [...entities.values()];
  return [...new Set(names)].map((name) => {
    const entity = entities.get(name);
    if (!entity) {
      throw new IsthmusError("NOT_FOUND", `There is no entity ${JSON.stringify(name.slice(0, 60))}.`, {
        detail: { known: [...entities.keys()].sort() },
      });
    }
    return entity;
  });
}

/** These entities and all that they depend on, directly or not. */
export function withAncestors(all: ReadonlyMap<string, Entity>, names: readonly string[]): string[] {
  return closure(names, (name) => all.get(name)?.dependsOn ?? []);
}

/** These entities and all whose records refer to theirs, directly or not. */
export function withDescendants(all: ReadonlyMap<string, Entity>, names: readonly string[]): string[] {
  return closure(names, (name) =>
    [...all.values()].filter((entity) => entity.dependsOn.includes(name)).map((entity) => entity.name),
  );
}

function closure(names: readonly string[], next: (name: string) => readonly string[]): string[] {
  const found = new Set(names);
  for (const name of found) for (const other of next(name)) found.add(other);
  return [...found];
}

function ranksOf(entities: readonly Entity[], first: readonly string[]): ReadonlyMap<string, number> {
  const all = new Map(entities.map((entity) => [entity.name, entity]));
  const ranks = new Map<string, number>();
  for (const [rank, name] of first.entries()) {
    for (const each of withAncestors(all, [name])) if (!ranks.has(each)) ranks.set(each, rank);
  }
  return ranks;
}

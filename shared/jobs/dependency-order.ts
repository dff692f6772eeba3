import type { Entity } from "../entities/define-entity.ts";

/** Parents before children; entities of one level in the order of their names. The registry has no cycles. */
export function dependencyOrder(entities: readonly Entity[]): Entity[] {
  const names = new Set(entities.map((entity) => entity.name));
  const ordered: Entity[] = [];
  const placed = new Set<string>();
  let rest = [...entities].sort((a, b) => a.name.localeCompare(b.name));
  while (rest.length > 0) {
    const ready = rest.filter((entity) =>
      entity.dependsOn.every((name) => placed.has(name) || !names.has(name) || name === entity.name),
    );
    if (ready.length === 0) return [...ordered, ...rest];
    ordered.push(...ready);
    for (const entity of ready) placed.add(entity.name);
    rest = rest.filter((entity) => !placed.has(entity.name));
  }
  return ordered;
}

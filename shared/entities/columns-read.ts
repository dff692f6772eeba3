import { columnsOf, textOf } from "./consumed-joins.ts";
import type { Entity } from "./define-entity.ts";

/**
 * Source table → the columns of it that an entity names, of its driving, joined and watched tables, those by which its
 * records are selected, and `xmin`, by which their changes are found.
 */
export function columnsRead(entity: Entity): ReadonlyMap<string, ReadonlySet<string>> {
  const { table, key, alias, joins, watches, modified, dated, filters } = entity.source;
  const text = textOf(entity);
  const read = new Map<string, Set<string>>();
  const add = (name: string, columns: readonly string[]) => {
    read.set(name, new Set([...(read.get(name) ?? ["xmin"]), ...columns]));
  };
  add(table, [key, ...columnsOf(alias, text), ...[modified, dated].flatMap((column) => column ?? []), ...filters]);
  for (const [other, step] of Object.entries({ ...joins, ...watches })) {
    add(step.table, [step.key ?? "id", ...Object.keys(step.on), ...columnsOf(other, text)]);
  }
  return read;
}

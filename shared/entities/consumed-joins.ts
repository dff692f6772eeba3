// What an entity consumes of tables beside its own: the rows whose changes have its records read again.
import type { Watch, Watches } from "./columns.ts";
import type { Entity } from "./define-entity.ts";

/** A joined or watched table as the entity sees it. */
export interface ConsumedJoin {
  readonly table: string;
  /** Column by which a row belongs to records, and the `alias.column` of the projection that it equals. */
  readonly link: string;
  readonly reference: string;
  /** What leads from the driving table to the reference, in order. */
  readonly path: readonly (readonly [alias: string, step: Watch])[];
}

/** All joins and watches of an entity; those that lead to the same rows in the same way once. */
export function consumedJoins(entity: Entity): ConsumedJoin[] {
  const steps = { ...entity.source.joins, ...entity.source.watches };
  const all = Object.values(steps).map(({ table, on }) => {
    const [[link, reference] = ["", ""]] = Object.entries(on);
    return { table, link, reference, path: pathTo(reference, steps) };
  });
  return [...new Map(all.map((join) => [JSON.stringify(join), join])).values()];
}

/** Columns that a text of SQL reads of an alias. */
export function columnsOf(alias: string, text: string): string[] {
  return [...text.matchAll(new RegExp(`\\b${alias}"?\\s*\\.\\s*"?([a-z_][a-z_0-9]*)`, "g"))].map((match) => match[1] ?? "");
}

/** All SQL of a definition: columns, expressions, conditions. */
export function textOf({ source: { columns, joins, where, watches } }: Entity): string {
  return [
    ...Object.values(columns).map((column) => (typeof column === "string" ? column : column.sql)),
    ...Object.values({ ...joins, ...watches }).flatMap((step) => Object.values(step.on)),
    where ?? "",
  ].join("\n");
}

/** What lies between the driving table and a reference, each step behind those that it needs itself. */
function pathTo(reference: string, steps: Watches): [string, Watch][] {
  const [alias = ""] = reference.split(".");
  const { [alias]: step, ...others } = steps;
  if (!step) return [];
  const before = Object.values(step.on).flatMap((other) => pathTo(other, others));
  return [...new Map<string, Watch>([...before, [alias, step]])];
}

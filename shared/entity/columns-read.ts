import { columnsOf, referenceOf, textOf } from "./consumed-joins.ts";
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

/** The source table and column of an `alias.column` of the projection; undefined where no such table is read. */
export function placeOf({ source }: Entity, reference: string): readonly [table: string, column: string] | undefined {
  const [alias, column] = referenceOf(reference);
  const table = alias === source.alias ? source.table : source.joins[alias]?.table;
  return table === undefined ? undefined : [table, column];
}

/** Where a field reads, and whether it has the value as it is there. */
export interface PlaceRead {
  readonly table: string;
  readonly column: string;
  /** Otherwise it is computed: which part of the column is where in its value, nobody knows. */
  readonly copied: boolean;
}

/** Where each field reads that reads one column. */
export function placesRead(entity: Entity): ReadonlyMap<string, PlaceRead> {
  return new Map(
    Object.entries(entity.fields).flatMap(([name, { columns, kind }]) => {
      const read = columns.length === 1 ? entity.source.columns[columns[0] ?? ""] : undefined;
      const [table, column] = (typeof read === "string" ? placeOf(entity, read) : undefined) ?? [];
      return table === undefined || column === undefined ? [] : [[name, { table, column, copied: kind === "direct_copy" }]];
    }),
  );
}

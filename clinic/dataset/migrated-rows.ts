import type { Random } from "./random.ts";
import type { Cell, TableRows } from "./table.ts";

/** Rows that a migration wrote into a table of the target: id, legacy id, and the rest. */
export interface MigratedRows extends TableRows {
  readonly entity: string;
  readonly ids: readonly { readonly id: string; readonly legacyId: number | null }[];
}

/** A version 4 UUID, as the migration's own generator gave them. */
export function randomUuid(random: Random): string {
  const hex = Array.from({ length: 32 }, () => random.between(0, 15).toString(16));
  hex[12] = "4";
  hex[16] = "89ab"[random.between(0, 3)] ?? "8";
  const text = hex.join("");
  return [text.slice(0, 8), text.slice(8, 12), text.slice(12, 16), text.slice(16, 20), text.slice(20)].join("-");
}

export interface Copy<Row> {
  readonly id: string;
  readonly legacyId: number | null;
  readonly row: Row;
}

/** Each row once under a new random id, or `times` as often. */
export function copies<Row extends { readonly id: number }>(
  random: Random,
  rows: readonly Row[],
  times: (row: Row) => number = () => 1,
): Copy<Row>[] {
  return rows.flatMap((row) => Array.from({ length: times(row) }, () => ({ id: randomUuid(random), legacyId: row.id, row })));
}

/** `columns` are separated by blanks; id and legacy id come first. */
export function migratedRows<Row>(
  table: string,
  columns: string,
  rows: readonly Copy<Row>[],
  cells: (copy: Copy<Row>) => readonly Cell[],
): MigratedRows {
  return {
    entity: table,
    table,
    columns: ["id", ...columns.split(" ")],
    rows: rows.map((copy) => [copy.id, copy.legacyId, ...cells(copy)]),
    ids: rows.map(({ id, legacyId }) => ({ id, legacyId })),
  };
}

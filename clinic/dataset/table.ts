export type Cell = string | number | boolean | null;

/** A table's columns and rows; the rows of large tables are made while they are read, and can be read once. */
export interface TableRows {
  readonly table: string;
  readonly columns: readonly string[];
  readonly rows: Iterable<readonly Cell[]>;
}

/** `columns` are separated by blanks. */
export function table<Row>(
  name: string,
  columns: string,
  items: readonly Row[],
  cells: (row: Row) => readonly Cell[],
): TableRows {
  return {
    table: name,
    columns: columns.split(" "),
    rows: (function* () {
      for (const item of items) yield cells(item);
    })(),
  };
}

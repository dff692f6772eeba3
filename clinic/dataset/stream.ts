import { Random } from "./random.ts";
import type { Cell, TableRows } from "./table.ts";
import { nthId } from "./values.ts";

/** A table too large to be kept in memory: its rows are made one by one, seen by the manifest, written and forgotten. */
export interface Stream<Row> {
  readonly table: string;
  readonly columns: string;
  readonly count: number;
  readonly make: (random: Random, id: number, position: number) => Row;
  readonly cells: (row: Row) => readonly Cell[];
}

/** `seen` gets every row as it is made. */
export function streamTable<Row>(seed: number, stream: Stream<Row>, seen: (row: Row) => void): TableRows {
  return {
    table: stream.table,
    columns: stream.columns.split(" "),
    rows: (function* () {
      const random = Random.for(seed, stream.table);
      for (let position = 1; position <= stream.count; position++) {
        const row = stream.make(random, nthId(position), position);
        seen(row);
        yield stream.cells(row);
      }
    })(),
  };
}

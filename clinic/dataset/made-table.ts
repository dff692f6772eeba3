import { Random } from "./random.ts";
import type { Cell, TableRows } from "./table.ts";
import { nthId } from "./values.ts";

/** Cells of a row without its id, which is made: for tables that are too dull to be kept in memory. */
export type MakeCells = (random: Random, id: number, position: number) => readonly Cell[];

/** A table whose rows are made one by one; `columns` leaves the id out. */
export function madeTable(seed: number, name: string, columns: string, count: number, cells: MakeCells): TableRows {
  return {
    table: name,
    columns: ["id", ...(columns === "" ? [] : columns.split(" "))],
    rows: (function* () {
      const random = Random.for(seed, name);
      for (let position = 1; position <= count; position++) {
        const id = nthId(position);
        yield [id, ...cells(random, id, position)];
      }
    })(),
  };
}

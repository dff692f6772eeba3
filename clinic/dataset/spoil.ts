import type { Random } from "./random.ts";
import { dirty } from "./values.ts";

export type Spoil<Row> = (atScaleOne: number, change: (row: Row, index: number) => void, least?: number) => void;

/**
 * Gives rows their dirt: each kind its number of rows, at least `least` at any scale, and no row two kinds, so that
 * one does not hide another. @throws RangeError when the scale leaves too few rows for all kinds.
 */
export function spoiler<Row>(random: Random, rows: readonly Row[], scale: number): Spoil<Row> {
  const clean = random.shuffle(rows);
  return (atScaleOne, change, least = 1) => {
    for (let index = 0; index < dirty(scale, atScaleOne, least); index++) {
      const row = clean.pop();
      if (row === undefined) throw new RangeError(`scale ${scale} has too few rows for every kind of dirt`);
      change(row, index);
    }
  };
}

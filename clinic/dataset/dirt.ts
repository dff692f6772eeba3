/** A kind of dirt in a table too large to be shuffled: one row in `every` has it. */
export type Dirt<Row> = readonly [every: number, change: (row: Row, time: number) => void];

/**
 * Spreads dirt over rows that are made one by one: kind n strikes row n, so that every kind occurs at any scale, and
 * then one row in its `every`. No row has two kinds. `change` is told how often its kind has struck before.
 * @throws RangeError where a kind would strike too often for the others to have their rows.
 */
export function spreader<Row>(kinds: readonly Dirt<Row>[]): (row: Row, position: number) => void {
  for (const [every] of kinds)
    if (every <= kinds.length) throw new RangeError(`one in ${every} is too often for ${kinds.length} kinds`);
  return (row, position) => {
    for (const [index, [every, change]] of kinds.entries()) {
      if (position % every !== index + 1) continue;
      change(row, Math.floor(position / every));
      return;
    }
  };
}

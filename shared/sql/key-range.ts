// Ranges of keys, in the one form that holds at the ends of 64 bits: there no number lies before the lowest key or
// behind the highest. So a bound that is excluded is the range's first or last key and left out of it by name, and
// null stands for no bound. An index serves the comparison; the exclusion costs at most one row.

export const LOWEST = -(2n ** 63n);
export const HIGHEST = 2n ** 63n - 1n;
/** Bare, its digits would be read as numeric, and no index would serve. */
export const LOWEST_SQL = `'${LOWEST}'::bigint`;

/** Keys from `from` on and up to `upTo`, of which those up to `after` have been looked at; null: no bound. */
export interface KeyRange {
  readonly from: string | null;
  /** Not below `from`. */
  readonly after: string | null;
  readonly upTo: string | null;
  readonly limit: number;
}

/** SQL: the key lies behind `after`, and not before `from`. Both are SQL that may be null, of type bigint. */
export function keysBehind(key: string, after: string, from?: string): string {
  const first = [after, ...(from === undefined ? [] : [from]), LOWEST_SQL];
  return `${key} >= coalesce(${first.join(", ")}) and ${key} is distinct from ${after}`;
}

/** SQL: the key lies before `before`: a range that is walked downwards. */
export function keysBefore(key: string, before: string): string {
  return `${key} <= coalesce(${before}, ${HIGHEST}) and ${key} is distinct from ${before}`;
}

/** SQL: the key does not lie behind `upTo`. */
export function keysUpTo(key: string, upTo: string): string {
  return `${key} <= coalesce(${upTo}, ${HIGHEST})`;
}

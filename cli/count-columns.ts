import type { EntityState } from "./answers.ts";

/** What became of the records of an entity, in the order of countCells. */
export const COUNT_HEADINGS = ["read", "inserted", "updated", "unchanged", "deleted", "waiting", "in conflict", "waived"];

export function countCells(counts: EntityState["counts"]): number[] {
  const { read, inserted, updated, unchanged, deleted, waiting, inConflict, waived } = counts;
  return [read, inserted, updated, unchanged, deleted, waiting, inConflict, waived];
}

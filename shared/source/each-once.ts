import type { Entity } from "../entity/define-entity.ts";
import { IsthmusError } from "../errors.ts";

/**
 * A key that repeats is none: reading its rows multiplies the page, and which of them would land is chance.
 * @throws IsthmusError KEY_BROKEN at the first repeated one.
 */
export function assertEachOnce({ name, source: { table, key } }: Entity, ids: readonly string[]): void {
  const seen = new Set<string>();
  for (const id of ids) {
    if (seen.has(id)) {
      throw new IsthmusError(
        "KEY_BROKEN",
        `The source has several rows for record ${id} of ${name}: ${table}.${key}, or what its joins are joined by, is not unique.`,
        {
          detail: { entity: name, table, column: key, legacy_ids: [id] },
        },
      );
    }
    seen.add(id);
  }
}

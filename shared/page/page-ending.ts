import { describeError, IsthmusError } from "../errors.ts";
import { categoryOf, type Category } from "../recovery.ts";

/**
 * What, about the records that a page held, may have ended it: time or memory, of either server or of the worker, or
 * the data of one of them in a statement of the target. Such a page is tried again with half its records. Undefined:
 * the records have nothing to do with it, or nobody knows that they have.
 */
export type EndedBy = "time" | "memory" | "record" | undefined;

export function endedBy(error: unknown): EndedBy {
  const described = describeError(error);
  const category = categoryOf(described);
  if (category === "limit") return String(described["sqlstate"]).startsWith("53") ? "memory" : "time";
  if (category === "size") return "memory";
  // The load finds the guilty ones of its own statements itself; these are of a statement over the whole page.
  if (described.code === "TARGET_REFUSED" && OF_DATA.includes(category)) return "record";
  // A string or buffer that the runtime cannot hold.
  const thrown = error instanceof IsthmusError ? error.cause : error;
  return thrown instanceof RangeError ? "memory" : undefined;
}

/** Data of a record. */
const OF_DATA: readonly Category[] = ["record", "parent", "damage"];

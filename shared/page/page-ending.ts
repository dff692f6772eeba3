import { describeError, IsthmusError } from "../errors.ts";

/**
 * What, about the records that a page held, may have ended it: time or memory, of either server or of the worker, or the
 * data of one of them in a statement of the target. Such a page is tried again with half its records. Undefined: the
 * records have nothing to do with it, or nobody knows that they have.
 */
export type EndedBy = "time" | "memory" | "record" | undefined;

export function endedBy(error: unknown): EndedBy {
  const { code, sqlstate } = describeError(error) as { code: string; sqlstate?: unknown };
  const state = typeof sqlstate === "string" ? sqlstate : "";
  if (code === "SOURCE_LIMIT" || code === "TARGET_LIMIT") return state.startsWith("53") ? "memory" : "time";
  if (code === "SOURCE_REFUSED" || code === "TARGET_REFUSED") {
    if (state.startsWith("54")) return "memory";
    return code === "TARGET_REFUSED" && OF_DATA.test(state) ? "record" : undefined;
  }
  // A string or buffer that the runtime cannot hold.
  const thrown = error instanceof IsthmusError ? error.cause : error;
  return thrown instanceof RangeError ? "memory" : undefined;
}

/** Data of a record that only a statement over the whole page met: the load finds the guilty ones of its own statements itself. */
const OF_DATA = /^(2[0-3]|44|P0)|^XX00[12]$/;

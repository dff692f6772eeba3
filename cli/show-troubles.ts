import type { ExecutionState } from "./answers.ts";

/** That nothing moves, and what pages failed with last. */
export function showTroubles(state: ExecutionState): string {
  const lines = state.troubles.map(({ entity, tries, sends, code, message, remedy }) => {
    const what = code === null ? `sent ${sends} times and not told of` : `${code}: ${message ?? ""}`;
    return `  ${entity ?? "comparison"}, ${tries} tries: ${what}${remedy === null ? "" : `\n    What to do: ${remedy}`}\n`;
  });
  return `Nothing has moved for ${idleMinutes(state)} minutes; it is tried again, and stops by itself.\n${lines.join("")}`;
}

export function idleMinutes({ idleSeconds }: ExecutionState): number {
  return Math.floor((idleSeconds ?? 0) / 60);
}

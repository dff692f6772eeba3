import { isDeepStrictEqual } from "node:util";

export type Json = null | boolean | number | string | readonly Json[] | JsonObject;
export interface JsonObject {
  readonly [key: string]: Json;
}
/** undefined: nobody knows the value. */
export type Known = Json | undefined;

/** What each side holds, and what is remembered of either. */
export interface Sides {
  readonly seen: Known;
  readonly source: Json;
  readonly target: Json;
  readonly left: Known;
}

export const same = (a: Known, b: Known) => isDeepStrictEqual(a, b);
export const isObject = (value: Known): value is JsonObject =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** As sync.merge_objects should do it, written from its meaning: undefined where a person has to decide. */
export function mergeObjects({ seen, source, target, left }: Sides): JsonObject | undefined {
  if (!isObject(source) || !isObject(target)) return undefined;
  const merged: Record<string, Json> = {};
  for (const key of new Set([...Object.keys(source), ...Object.keys(target)])) {
    const [here, there] = [source[key], target[key]];
    let value: Known;
    if (same(here, there)) value = here;
    else if (!hasChanged(seen, key, here)) value = there;
    else if (!hasChanged(left, key, there)) value = here;
    else {
      if (here === undefined || there === undefined) return undefined;
      value = mergeObjects({ seen: within(seen, key), source: here, target: there, left: within(left, key) });
      if (value === undefined) return undefined;
    }
    if (value !== undefined) merged[key] = value;
  }
  return merged;
}

function hasChanged(before: Known, key: string, now: Known): boolean {
  return before === undefined || !same(isObject(before) ? before[key] : undefined, now);
}

/** What is no object has no keys; of what nobody knows, no key is known. */
function within(before: Known, key: string): Known {
  if (before === undefined) return undefined;
  return (isObject(before) ? before[key] : undefined) ?? null;
}

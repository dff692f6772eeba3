import { z } from "zod";

/** What a database can take as text: no NUL, no half of a character (a surrogate alone). */
export const PLAIN_TEXT = /^[^\0\p{Surrogate}]*$/u;

export const plainText = (most: number) => z.string().min(1).max(most).regex(PLAIN_TEXT, "must not hold NUL or half a character");

/** A list that names something: an empty one would ask for nothing, and must not be read as one that asks for all. */
export function list<Item extends z.ZodType>(item: Item) {
  return z.array(item).min(1, "is empty: name at least one, or leave it out");
}

/**
 * An object from names to values that names something. `__proto__` is refused here, because parsing drops that key,
 * and an object without its only key would ask for nothing.
 */
export function byName<Value extends z.ZodType>(what: string, value: Value) {
  return z
    .unknown()
    .superRefine((given, context) => {
      if (typeof given !== "object" || given === null || !Object.hasOwn(given, "__proto__")) return;
      context.addIssue({ code: "custom", path: ["__proto__"], message: `is not the name of ${what}` });
    })
    .pipe(
      z.record(z.string(), value).refine((given) => Object.keys(given).length > 0, `is empty: name ${what}, or leave it out`),
    );
}

/** PostgreSQL has no year 0, and no offset of sixteen hours; finer than microseconds it rounds. */
const POSTGRES_MOMENT = /^(?!0000)[^.]*(\.\d{1,6})?(Z|[+-](0\d|1[0-5]):\d\d)$/;

export const moment = z.iso
  .datetime({ offset: true, error: "must be a time with an offset, as 2026-01-31T08:00:00Z" })
  .regex(POSTGRES_MOMENT, "must be a time from the year 1 on, in microseconds at most, with an offset below 16 hours");

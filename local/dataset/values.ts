import type { Random } from "./random.ts";

/** Microseconds since the epoch as a timestamptz text, in UTC, with all six digits. */
export function timestamp(micros: bigint): string {
  const millis = Number(micros / 1000n);
  const rest = (micros % 1_000_000n).toString().padStart(6, "0");
  return `${new Date(millis).toISOString().slice(0, 19).replace("T", " ")}.${rest}+00`;
}

const FIRST_DAY = BigInt(Date.UTC(2017, 0, 1)) * 1000n;
const LAST_DAY = BigInt(Date.UTC(2025, 10, 1)) * 1000n;

/** A moment in the life of the old application; every fiftieth is exactly on the hour, so that equal timestamps occur. */
export function moment(random: Random): string {
  const micros = FIRST_DAY + BigInt(Math.floor(random.next() * Number(LAST_DAY - FIRST_DAY)));
  return timestamp(random.chance(0.02) ? micros - (micros % 3_600_000_000n) : micros);
}

/** Cents as a numeric(…,2) text, without floating point. */
export function money(cents: number): string {
  const sign = cents < 0 ? "-" : "";
  const digits = Math.abs(cents).toString().padStart(3, "0");
  return `${sign}${digits.slice(0, -2)}.${digits.slice(-2)}`;
}

/** A numeric text with two decimals as cents. */
export function cents(text: string): bigint {
  return BigInt(text.replace(".", ""));
}

/** Ascending ids with gaps, as deleted rows leave them. */
export function idsWithGaps(random: Random, count: number, first = 1): number[] {
  const ids: number[] = [];
  let id = first;
  for (let index = 0; index < count; index++) {
    ids.push(id);
    id += random.chance(0.06) ? random.between(2, 9) : 1;
  }
  return ids;
}

/** How many records get a kind of dirt: its number at scale 1, never fewer than `least`. */
export function dirty(scale: number, atScaleOne: number, least = 1): number {
  return Math.max(least, Math.round(atScaleOne * scale));
}

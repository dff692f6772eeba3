import type { Random } from "./random.ts";

const DAY = 86_400;
const FIRST_SECOND = Date.UTC(2017, 0, 1) / 1_000;
const LAST_SECOND = Date.UTC(2025, 10, 1) / 1_000;

/** Rows that a batch job wrote all at once: eight moments, which many rows share. */
const BATCH_SECONDS = 400 * DAY;

/** A moment in the life of the old application; every fiftieth is that of a batch job, so that equal timestamps occur. */
export function moment(random: Random): string {
  const second = FIRST_SECOND + Math.floor(random.next() * (LAST_SECOND - FIRST_SECOND));
  if (random.chance(0.02)) return timestamp(second - (second % BATCH_SECONDS), 0);
  return timestamp(second, Math.floor(random.next() * 1_000_000));
}

/** A timestamptz text in UTC with all six digits. Millions are needed, hence no Date per call. */
export function timestamp(second: number, micros: number): string {
  const time = second % DAY;
  const clock = `${two(Math.floor(time / 3_600))}:${two(Math.floor(time / 60) % 60)}:${two(time % 60)}`;
  return `${dayText(Math.floor(second / DAY))} ${clock}.${micros.toString().padStart(6, "0")}+00`;
}

const dayTexts = new Map<number, string>();

function dayText(day: number): string {
  let text = dayTexts.get(day);
  if (text === undefined) {
    text = new Date(day * DAY * 1_000).toISOString().slice(0, 10);
    dayTexts.set(day, text);
  }
  return text;
}

function two(value: number): string {
  return value < 10 ? `0${value}` : String(value);
}

/** Cents as a numeric(…,2) text, without floating point. */
export function money(cents: number | bigint): string {
  const digits = (cents < 0 ? -cents : cents).toString().padStart(3, "0");
  return `${cents < 0 ? "-" : ""}${digits.slice(0, -2)}.${digits.slice(-2)}`;
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

/** The id of the nth row (from 1) of a table too large to remember its ids: every seventeenth id is missing. */
export function nthId(position: number): number {
  return position + Math.floor(position / 16);
}

/** How many records get a kind of dirt: its number at scale 1, never fewer than `least`. */
export function dirty(scale: number, atScaleOne: number, least = 1): number {
  return Math.max(least, Math.round(atScaleOne * scale));
}

/** Rows of a table at a scale: its number at scale 1, never fewer than `least`. */
export type Size = (atScaleOne: number, least?: number) => number;

export function sizeAt(scale: number): Size {
  return (atScaleOne, least = 3) => Math.max(least, Math.round(atScaleOne * scale));
}

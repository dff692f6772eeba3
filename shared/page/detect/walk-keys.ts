import type { Sql } from "../../db/connect.ts";
import { isSourceLimit } from "../../db/query.ts";
import type { Entity } from "../../entity/define-entity.ts";
import { windowEnd } from "../../source/digests.ts";
import { HIGHEST, LOWEST, type KeyRange } from "../../sql/key-range.ts";
import { stateOfRecord } from "../../source/read-records.ts";
import { nextWindow, smallerWindow, type Pace } from "../../source/scan.ts";

/** The first keys of a range that a condition lets in, ascending, and what else of it is waived. */
export interface FoundKeys {
  readonly ids: readonly string[];
  readonly waived: number;
}

export interface Walked extends FoundKeys {
  readonly cursor: string | null;
  readonly done: boolean;
}

/** Rows of the driving table in the first window of a page, at least and for each record that the page may have. */
const FIRST_WINDOW = { least: 1_000, perRecord: 2 };

/**
 * A page of the keys that a condition lets in. Nobody knows how many rows lie between two of them, so the driving
 * table is walked in windows of its key's index until the page is full, its time is used up, or the range ends. A
 * window that a limit of the source ends, or that has a record that the source cannot compute, is tried again
 * smaller, down to that one record: its key is taken, and the read says what is wrong with it.
 */
export async function walkKeys(
  source: Sql,
  entity: Entity,
  range: KeyRange,
  pace: Omit<Pace, "rows">,
  find: (window: KeyRange) => Promise<FoundKeys>,
): Promise<Walked> {
  const begun = pace.clock();
  const ids: string[] = [];
  let waived = 0;
  let { after } = range;
  let size = Math.max(FIRST_WINDOW.least, FIRST_WINDOW.perRecord * range.limit);
  let grows = true;
  for (;;) {
    const windowBegun = pace.clock();
    const room = range.limit - ids.length;
    const window = await lookAt(source, entity, { ...range, after, limit: room }, size, find);
    if ("smaller" in window) {
      size = window.smaller;
      grows = false;
      continue;
    }
    ids.push(...window.ids);
    waived += window.waived;
    const full = window.ids.length >= room;
    if (window.ends && !full) return { ids, waived, cursor: ids.at(-1) ?? null, done: true };
    after = full ? (ids.at(-1) ?? after) : window.last;
    const now = pace.clock();
    if (full || now - begun >= pace.budgetMs) return { ids, waived, cursor: after, done: false };
    if (grows) size = nextWindow(size, now - windowBegun, pace.budgetMs);
  }
}

interface Window extends FoundKeys {
  /** The last row of the driving table in it. */
  readonly last: string | null;
  /** Nothing of the range lies behind it. */
  readonly ends: boolean;
}

/** What is found in the first so many rows of a range, or how many to try instead. */
async function lookAt(
  source: Sql,
  entity: Entity,
  range: KeyRange,
  size: number,
  find: (window: KeyRange) => Promise<FoundKeys>,
): Promise<Window | { readonly smaller: number }> {
  let rows = size;
  let last: string | null = null;
  try {
    ({ rows, last } = await endOfWindow(source, entity, range, size));
    const ends = last === null || rows < size;
    return { ...(await find({ ...range, upTo: ends ? range.upTo : last })), last, ends };
  } catch (error) {
    if (stateOfRecord(error) === undefined && !isSourceLimit(error)) throw error;
    if (rows > 1) return { smaller: smallerWindow(Math.min(size, rows)) };
    if (last === null) throw error;
    return { ids: [last], waived: 0, last, ends: false };
  }
}

function endOfWindow(source: Sql, entity: Entity, { from, after, upTo }: KeyRange, size: number) {
  const span = { from: after === null ? BigInt(from ?? LOWEST) : BigInt(after) + 1n, to: BigInt(upTo ?? HIGHEST) };
  return span.from > span.to ? { last: null, rows: 0 } : windowEnd(source, entity, span, size);
}

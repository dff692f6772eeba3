/** Heap that an isolate may have, 70 % of the platform's 256 MB. */
export const MEMORY_BUDGET_BYTES = 180 * 1024 * 1024;

/**
 * Text that a page may read, and that one record may have when it is alone on its page. A page holds it several times
 * over: what the driver receives, strings, the JSON of the commit, what the driver sends.
 */
export const PAGE_BYTES = 8 * 1024 * 1024;
export const RECORD_BYTES = 16 * 1024 * 1024;

/** Characters of JSON that a page may send to the target: twice of what it may read, for names of fields, ids of parents and escapes. */
export const SENT_BYTES = 16 * 1024 * 1024;

/** CPU that an isolate of the platform has left when it is retired (soft limit) until it is killed (hard limit), with all its pages. */
const RETIRED_CPU_MS = 1_000;

/** Kilobytes of a record up to which its text is many values, each of which is decoded; beyond, a long one is only copied. */
const DECODED_KB = 0.5;

/**
 * CPU of the function for a page, in milliseconds: nobody tells it there, so it is estimated. From 115 pages of a
 * whole database on Deno 2.1.4, alone in their isolates, and pages of rows of some megabytes, on a machine that other
 * work kept busy; a test holds it against what pages take. The first page of an isolate takes some 200 ms more, which
 * it has before it is retired.
 */
export function estimatedCpuMs(records: number, bytes: number): number {
  const kilobytes = bytes / 1_024;
  return 40 + records * 0.055 + Math.min(kilobytes, records * DECODED_KB) * 0.45 + kilobytes * 0.1;
}

export interface Measured {
  /** All that the page read: what landed, what was rejected, and what the source refused to compute. */
  readonly records: number;
  /** Records that were told unchanged by their hashes, and not read. */
  readonly unread: number;
  /** Text that the source sent. */
  readonly bytesIn: number;
  /** Characters of the JSON of the records and of the rejects that the target is sent. */
  readonly bytesOut: number;
  /** Of the whole isolate: pages beside this one count. */
  readonly heapBytes: number | null;
  readonly wallMs: number;
}

export interface Sizes {
  readonly current: number;
  /** What the execution began with: up to there a page may grow though it left most of its keys unread. */
  readonly first: number;
  readonly maximum: number;
  /** A limit has ended or cut a page of the chain: what its pages may hold is known by now, and growing again costs tries. */
  readonly slow: boolean;
}

export interface Budget {
  readonly leaseSeconds: number;
  /** Pages that an isolate runs at a time: together they must come to their end with what CPU it has left once it is retired. */
  readonly pagesAtATime: number;
}

/**
 * The size of a chain's next page, from what this one measured: never above the maximum, at most doubled (after a
 * page that a limit ended, by a quarter), and cut in proportion to whichever of heap, bytes in and out, time (half a
 * lease) and estimated CPU came closest to its budget; at the least one record. Records that were left unread say
 * nothing of what others would take: they let a page grow to its first size alone. What the database takes for the
 * commit, with the rejects that it finds there, is not known yet: sync.close_page cuts by that, or keeps the page
 * from growing.
 */
export function nextPageSize({ current, first, maximum, slow }: Sizes, budget: Budget, measured: Measured): number {
  if (measured.records + measured.unread < current / 2) return current;
  const load = Math.max(
    (measured.heapBytes ?? 0) / MEMORY_BUDGET_BYTES,
    measured.bytesIn / PAGE_BYTES,
    measured.bytesOut / SENT_BYTES,
    measured.wallMs / (budget.leaseSeconds * 500),
    (estimatedCpuMs(measured.records, measured.bytesIn) * budget.pagesAtATime) / RETIRED_CPU_MS,
  );
  // The heap of an isolate falls slowly, so a page that stays within half of every budget may grow.
  const most = measured.records >= current / 2 ? maximum : Math.max(current, first);
  const wanted = load > 1 ? Math.floor(current / load / 1.25) : load < 0.5 ? Math.min(most, grown(current, slow)) : current;
  return Math.max(1, Math.min(maximum, wanted));
}

/** The next window of a chain that reads no records: as large as it was, or on its way back there after a limit. */
export function nextWindowSize({ current, maximum, slow }: Omit<Sizes, "first">): number {
  return slow ? Math.min(Math.max(maximum, current), grown(current, slow)) : current;
}

/** A page that a limit ended had so many records: half of them are tried, and nothing below one. */
export function smallerPageSize(records: number): number {
  return Math.max(1, Math.floor(records / 2));
}

function grown(current: number, slow: boolean): number {
  return slow ? Math.ceil(current * 1.25) : current * 2;
}

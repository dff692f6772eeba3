/** CPU and memory that a page may use, 70 % of the platform's 2 s and 256 MB. */
export const CPU_BUDGET_MS = 1_400;
export const MEMORY_BUDGET_BYTES = 180 * 1024 * 1024;

/**
 * Text that a page may read, and that one record may have when it is alone on its page. A page holds it several times over:
 * what the driver receives, strings, the JSON of the commit, what the driver sends.
 */
export const PAGE_BYTES = 8 * 1024 * 1024;
export const RECORD_BYTES = 16 * 1024 * 1024;

export interface Measured {
  readonly records: number;
  readonly bytes: number;
  readonly cpuMs: number | null;
  readonly rssBytes: number | null;
  readonly wallMs: number;
}

export interface Sizes {
  readonly current: number;
  readonly maximum: number;
  /** A limit has ended or cut a page of the chain: what its pages may hold is known by now, and growing again costs tries. */
  readonly slow: boolean;
}

/**
 * The size of a chain's next page, from what this one measured: never above the maximum, at most doubled (after a page that
 * a limit ended, by a quarter), and cut in proportion to whichever of CPU, memory, bytes and time (half a lease) came
 * closest to its budget; at the least one record.
 */
export function nextPageSize({ current, maximum, slow }: Sizes, leaseSeconds: number, measured: Measured): number {
  if (measured.records < current / 2) return current;
  const load = Math.max(
    (measured.cpuMs ?? 0) / CPU_BUDGET_MS,
    (measured.rssBytes ?? 0) / MEMORY_BUDGET_BYTES,
    measured.bytes / PAGE_BYTES,
    measured.wallMs / (leaseSeconds * 500),
  );
  // Memory of a worker falls slowly, so a page that stays within half of every budget may grow.
  const wanted = load > 1 ? Math.floor(current / load / 1.25) : load < 0.5 ? grown(current, slow) : current;
  return Math.max(1, Math.min(maximum, wanted));
}

/** The next window of a chain that reads no records: as large as it was, or on its way back there after a limit. */
export function nextWindowSize({ current, maximum, slow }: Sizes): number {
  return slow ? Math.min(Math.max(maximum, current), grown(current, slow)) : current;
}

/** A page that a limit ended had so many records: half of them are tried, and nothing below one. */
export function smallerPageSize(records: number): number {
  return Math.max(1, Math.floor(records / 2));
}

function grown(current: number, slow: boolean): number {
  return slow ? Math.ceil(current * 1.25) : current * 2;
}

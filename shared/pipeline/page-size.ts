/** CPU and memory that a page may use, 70 % of the platform's 2 s and 256 MB. */
export const CPU_BUDGET_MS = 1_400;
export const MEMORY_BUDGET_BYTES = 180 * 1024 * 1024;
export const SMALLEST_PAGE = 50;

export interface Measured {
  readonly records: number;
  readonly cpuMs: number | null;
  readonly rssBytes: number | null;
  readonly wallMs: number;
}

/**
 * The size of a chain's next page, from what this one measured: never above the maximum, at most doubled, and cut in
 * proportion to whichever of CPU, memory and time (half a lease) came closest to its budget.
 */
export function nextPageSize(current: number, maximum: number, leaseSeconds: number, measured: Measured): number {
  if (measured.records < current / 2) return current;
  const load = Math.max(
    (measured.cpuMs ?? 0) / CPU_BUDGET_MS,
    (measured.rssBytes ?? 0) / MEMORY_BUDGET_BYTES,
    measured.wallMs / (leaseSeconds * 500),
  );
  // Memory of a worker falls slowly, so a page that stays within half of every budget may grow.
  const wanted = load > 1 ? current / load / 1.25 : load < 0.5 ? current * 2 : current;
  return Math.max(SMALLEST_PAGE, Math.min(maximum, Math.floor(wanted)));
}

/** The hosted platform's limits, per request unless said otherwise. */
export interface Limits {
  /** Memory of the whole process, its runtime included: stricter than the platform, which counts the isolate. */
  readonly memoryBytes: number;
  readonly cpuMs: number;
  /** No response within this time: 504. */
  readonly responseMs: number;
  /** Life of a worker; then it is retired between requests, or terminated during one. */
  readonly wallClockMs: number;
}

export const PLATFORM_LIMITS: Limits = {
  memoryBytes: 256 * 1024 * 1024,
  cpuMs: 2_000,
  responseMs: 150_000,
  wallClockMs: 400_000,
};

export type KillReason = "memory" | "cpu" | "wall_clock" | "termination" | "early_drop";

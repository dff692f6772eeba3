import type { FlowControl } from "./types.ts";

interface KeyState {
  active: number;
  periodStart: number;
  startedInPeriod: number;
  paused: boolean;
  latest: FlowControl;
}

/** What the SDK's `flowControl.get` reads of a key. */
export interface FlowSnapshot {
  readonly active: number;
  readonly startedInPeriod: number;
  readonly periodStart: number;
  readonly paused: boolean;
  readonly latest: FlowControl;
}

/**
 * Counts deliveries per flow-control key. Each message is held to the limits it was published with, so while old
 * and new limits mix the highest wins, as with the vendor. A period begins with its first call.
 */
export class FlowLimits {
  readonly #keys = new Map<string, KeyState>();

  /** When the message may start: now (0), at a time, or unknown (undefined: when another ends or is resumed). */
  startableAt(limits: FlowControl, now: number): number | undefined {
    const state = this.#state(limits);
    if (state.paused) return undefined;
    if (limits.parallelism !== undefined && state.active >= limits.parallelism) return undefined;
    if (limits.rate === undefined) return 0;
    const periodEnd = state.periodStart + limits.periodMs;
    return now >= periodEnd || state.startedInPeriod < limits.rate ? 0 : periodEnd;
  }

  start(limits: FlowControl, now: number): void {
    const state = this.#state(limits);
    if (now >= state.periodStart + limits.periodMs) {
      state.periodStart = now;
      state.startedInPeriod = 0;
    }
    state.active++;
    state.startedInPeriod++;
    state.latest = limits;
  }

  end(limits: FlowControl): void {
    this.#state(limits).active--;
  }

  setPaused(key: string, paused: boolean): void {
    this.#state({ key, parallelism: undefined, rate: undefined, periodMs: 1_000 }).paused = paused;
  }

  isPaused(key: string): boolean {
    return this.#keys.get(key)?.paused ?? false;
  }

  snapshot(key: string): FlowSnapshot | undefined {
    return this.#keys.get(key);
  }

  #state(limits: FlowControl): KeyState {
    const known = this.#keys.get(limits.key);
    if (known !== undefined) return known;
    const fresh = { active: 0, periodStart: -Infinity, startedInPeriod: 0, paused: false, latest: limits };
    this.#keys.set(limits.key, fresh);
    return fresh;
  }
}

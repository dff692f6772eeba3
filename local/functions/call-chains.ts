const MINUTE_MS = 60_000;

interface Chain {
  calls: number;
  readonly until: number;
}

/** Counts the calls from function to function per chain of requests, in windows of a minute. */
export class CallChains {
  readonly #budget: number;
  readonly #chains = new Map<string, Chain>();

  constructor(budget: number) {
    this.#budget = budget;
  }

  /** @returns undefined when the call may be made, else the milliseconds until the chain may call again. */
  refused(chain: string, now = Date.now()): number | undefined {
    for (const [id, { until }] of this.#chains) if (now >= until) this.#chains.delete(id);
    const known = this.#chains.get(chain) ?? { calls: 0, until: now + MINUTE_MS };
    this.#chains.set(chain, known);
    if (known.calls >= this.#budget) return known.until - now;
    known.calls += 1;
    return undefined;
  }
}

/** What goes wrong on purpose. Every field may be changed while the server runs. */
export interface QstashFaults {
  /** Share of messages (0 to 1) that are delivered twice. */
  duplicate: number;
  /** Share of messages (0 to 1) that are accepted and never delivered. */
  drop: number;
  /** Extra wait before each delivery, drawn evenly from this range in milliseconds; null for none. */
  delay: readonly [min: number, max: number] | null;
  /** Lets later messages overtake earlier ones: each first try waits a random time below `REORDER_WINDOW_MS`. */
  reorder: boolean;
  /** Messages that the plan still takes today, and when the next day begins (Unix milliseconds); null: as many as come. */
  quota: { left: number; readonly resetsAt: number } | null;
  /** Messages that are refused with this text, as those of a batch are one by one; null: none. */
  refuse: ((message: { readonly url: string; readonly body: string }) => string | undefined) | null;
  /** none · before: connections are accepted and nothing is answered · within: answers begin and do not end. */
  silence: "none" | "before" | "within";
}

export const REORDER_WINDOW_MS = 50;

export const NO_FAULTS: Readonly<QstashFaults> = {
  ...{ duplicate: 0, drop: 0, delay: null, reorder: false },
  ...{ quota: null, refuse: null, silence: "none" },
};

/** The fate of one message: never sent, or sent once or twice after the given extra waits. */
export type Fate = { readonly dropped: true } | { readonly dropped: false; readonly waitsMs: readonly number[] };

/** Decides what happens to the next message. Always draws equally often, so that one switch does not shift another. */
export function drawFate(faults: QstashFaults, random: () => number): Fate {
  const [drop, duplicate, delay1, delay2, order1, order2] = [random(), random(), random(), random(), random(), random()];
  if (drop < faults.drop) return { dropped: true };
  const wait = (delay: number, order: number) => {
    const [min, max] = faults.delay ?? [0, 0];
    return min + delay * (max - min) + (faults.reorder ? order * REORDER_WINDOW_MS : 0);
  };
  const first = wait(delay1, order1);
  return { dropped: false, waitsMs: duplicate < faults.duplicate ? [first, wait(delay2, order2)] : [first] };
}

/** Mulberry32: a small seeded generator of numbers in [0, 1). */
export function seededRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}

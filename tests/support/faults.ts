import { Random } from "../../clinic/dataset/random.ts";
import type { Platform } from "../../local/platform.ts";

/** What can die, each at any moment. */
const FAULTS = ["functions", "qstash", "redis", "target", "source", "duplicates", "drops"] as const;
export type Fault = (typeof FAULTS)[number];

/**
 * Breaks the platform at seeded random moments until told to stop, repairing each fault a little later. The moments
 * are wall-clock ones, so a seed repeats the plan, not the exact interleaving.
 * @returns a function that ends it and tells what was done.
 */
export function injectFaults(platform: Platform, seed: number, count: number, withinMs: number): () => Promise<readonly Fault[]> {
  const random = Random.for(seed, "faults");
  const done: Fault[] = [];
  let stopped = false;
  const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
  const running = (async () => {
    for (let index = 0; index < count && !stopped; index++) {
      await pause(random.between(20, Math.floor((2 * withinMs) / count)));
      if (stopped) break;
      const fault = random.pick(FAULTS);
      done.push(fault);
      await FAULT[fault](platform, random, pause);
    }
    Object.assign(platform.qstash.faults, { duplicate: 0, drop: 0, reorder: false });
  })();
  return async () => {
    // A run that is over before anything broke would prove nothing: the first fault always happens.
    stopped = done.length > 0;
    await running;
    return done;
  };
}

const FAULT: Readonly<
  Record<Fault, (platform: Platform, random: Random, pause: (ms: number) => Promise<unknown>) => Promise<void>>
> = {
  functions: async (platform) => {
    platform.functions.kill();
    return Promise.resolve();
  },
  qstash: async (platform, random, pause) => {
    await platform.crashQstash();
    await pause(random.between(0, 300));
    await platform.restartQstash();
  },
  redis: async (platform, random, pause) => {
    await platform.redis.crash();
    await pause(random.between(0, 500));
    await platform.redis.restart();
  },
  target: async (platform, random, pause) => {
    await platform.target.crash();
    await pause(random.between(0, 300));
    await platform.target.restart();
  },
  source: async (platform, random, pause) => {
    await platform.source.crash();
    await pause(random.between(0, 300));
    await platform.source.restart();
  },
  duplicates: async (platform, random) => {
    Object.assign(platform.qstash.faults, { duplicate: random.next(), reorder: random.chance(0.5) });
    return Promise.resolve();
  },
  drops: async (platform, random) => {
    Object.assign(platform.qstash.faults, { drop: random.next() / 2 });
    return Promise.resolve();
  },
};

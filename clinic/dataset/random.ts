/** A small seeded generator (mulberry32, public domain): the same seed gives the same legacy database, byte for byte. */
export class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  /** A generator of its own for one table, so that a change in one does not move the others. */
  static for(seed: number, name: string): Random {
    let hash = 2166136261;
    for (const character of `${seed}/${name}`) hash = Math.imul(hash ^ character.charCodeAt(0), 16777619);
    return new Random(hash);
  }

  /** In [0, 1). */
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0;
    let t = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296;
  }

  /** An integer in [low, high]. */
  between(low: number, high: number): number {
    return low + Math.floor(this.next() * (high - low + 1));
  }

  chance(probability: number): boolean {
    return this.next() < probability;
  }

  pick<T>(items: readonly T[]): T {
    return at(items, Math.floor(this.next() * items.length));
  }

  /** The first items are picked far more often than the last: a few doctors have most patients. */
  pickSkewed<T>(items: readonly T[]): T {
    return at(items, Math.floor(this.next() ** 2.2 * items.length));
  }

  /** The items in no particular order. */
  shuffle<T>(items: readonly T[]): T[] {
    const result = [...items];
    for (let last = result.length - 1; last > 0; last--) {
      const other = this.between(0, last);
      const moved = at(result, last);
      result[last] = at(result, other);
      result[other] = moved;
    }
    return result;
  }

  /** `count` different items, in no particular order. */
  sample<T>(items: readonly T[], count: number): T[] {
    return this.shuffle(items).slice(0, count);
  }
}

/** @throws RangeError where there is no such item; an item may be null. */
export function at<T>(items: readonly T[], index: number): T {
  if (!(index in items)) throw new RangeError(`no item ${index} in a list of ${items.length}`);
  return items[index] as T;
}

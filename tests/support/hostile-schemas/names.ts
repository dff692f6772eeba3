import type { Random } from "../../../clinic/dataset/random.ts";

/** What PostgreSQL allows as a name, and hardly anybody expects. */
export const HOSTILE_NAMES = [
  "CustomerId",
  "First Name",
  "Straße",
  "naïve ñ 名前",
  "select",
  "end",
  "a.b",
  'say "so"',
  "it's",
  "City, Zip",
  "back\\slash",
  "100%",
  "%I %s %1$s",
  "dollar$1",
  "cash$2",
  "$$",
  "-- no comment",
  " blank ",
  "_under",
  "_key",
  "_values",
  "1st",
  "constructor",
  "x".repeat(63),
  "ä".repeat(31),
];

const SIGNS = Array.from("aAbZ09 _-.,;:'\"\\%$@#!?*+/|&<>(){}[]~^`=\t\näß€名😀\u0301\u00a0\u200b");
const LONGEST = 63;

/** Draws names that no other object of a scope has, folded or not: half of them known to be awkward, the others of random signs. */
export class Names {
  readonly #random: Random;
  readonly #known: readonly string[];

  /** `ours`: names that our own SQL uses. */
  constructor(random: Random, ours: readonly string[]) {
    this.#random = random;
    this.#known = ours;
  }

  /** @param taken the names of the scope, to which the new one is added. */
  next(taken: Set<string>): string {
    for (;;) {
      const name = this.#draw();
      if (taken.has(name)) continue;
      taken.add(name);
      return name;
    }
  }

  /** A name that SQL takes without quotes, for aliases. */
  plain(taken: Set<string>): string {
    for (;;) {
      const name = this.#random.pick(this.#known);
      if (!/^[a-z_][a-z0-9_]*$/.test(name) || taken.has(name)) continue;
      taken.add(name);
      return name;
    }
  }

  #draw(): string {
    const kind = this.#random.next();
    if (kind < 0.3) return this.#random.pick(HOSTILE_NAMES);
    if (kind < 0.6) return this.#random.pick(this.#known);
    // Two names that differ in case alone are two names.
    if (kind < 0.7) return this.#random.pick(["Name", "name", "NAME", "ID", "Id", "User", "user", "xMin", "Xmax"]);
    const length = this.#random.chance(0.1) ? LONGEST : this.#random.between(1, 12);
    return cut(Array.from({ length }, () => this.#random.pick(SIGNS)).join(""));
  }
}

/** As much of a text as a name of PostgreSQL holds, by whole signs. */
function cut(text: string): string {
  let name = "";
  for (const sign of text) {
    if (Buffer.byteLength(name + sign) > LONGEST) break;
    name += sign;
  }
  return name;
}

import type { Random } from "./random.ts";

const STARTS = "Al Be Cor Da El Fen Gar Hal Il Jo Kel Lor Mir Nor Os Pel Quin Ros Sel Tav".split(" ");
const MIDDLES = "a e i o u ar en il on ur".split(" ");
const ENDS = "bek dan fis gol lam mir nok rin sto tev vax zim".split(" ");

/** An invented name: syllables that belong to nobody. */
export function inventName(random: Random): string {
  return random.pick(STARTS) + random.pick(MIDDLES) + random.pick(ENDS);
}

const LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZ0123456789";

export function inventCode(random: Random, length: number): string {
  let code = "";
  for (let index = 0; index < length; index++) code += LETTERS[Math.floor(random.next() * LETTERS.length)] ?? "X";
  return code;
}

/** A storage key of 32 characters, from four draws: hundreds of thousands are needed. */
export function inventUid(random: Random): string {
  let uid = "";
  for (let part = 0; part < 4; part++) uid += (random.next() * 4_294_967_296).toString(16).padStart(8, "0").slice(0, 8);
  return uid;
}

/** Text with everything that breaks naive escaping. */
export const HOSTILE_TEXTS: readonly string[] = [
  "tab\there",
  "line\nbreak\r\nand return",
  "back\\slash \\N \\. and 'single' \"double\" quotes",
  "emoji 😀 and accents àéîõü, 漢字, عربى",
  "null",
  "  leading and trailing blanks  ",
  "{curly} [square] $1 %s ; drop table nothing; --",
  "backspace \b, vertical tab \v, bell \u0007, no-break \u00a0, line separator \u2028",
  "\\.",
];

export const INVALID_ADDRESSES: readonly string[] = [
  "not an address",
  "two@@example.com",
  "spaces in@example.org",
  "@example.test",
];

/** JSON kept as text, as the old application left it: valid, empty, broken, and valid but unknown to jsonb. */
export const JSON_TEXTS = {
  valid: ['{"a": 1, "b": [true, null]}', '{"upper": {"stage": 3}}', "[1, 2, 3]", '"text"'],
  empty: ["", "[]", "{}"],
  broken: ["{'a': 1}", '{"a": 1,}', "None", '{"a": NaN}', "<xml/>"],
  unknownToJsonb: ['{"a": "\\u0000"}', '{"a": "\\ud800"}'],
} as const;

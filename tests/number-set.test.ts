import { readdirSync, readFileSync } from "node:fs";
import { afterEach, expect, it, vi } from "vitest";
import { numberSet, wholeSet } from "./support/number-set.ts";

afterEach(() => vi.unstubAllEnvs());
const NAME = "ISTHMUS_NUMBER_OF_A_TEST";

it.each(["abc", "", " ", "0", "-3", "NaN", "Infinity", "12 runs"])("%j is no number of runs", (text) => {
  vi.stubEnv(NAME, text);
  expect(() => numberSet(NAME, 20)).toThrow(NAME);
});

it("a number is itself, a count has no fraction, and what is not set is as the test has it", () => {
  expect(wholeSet(NAME, 20)).toBe(20);
  vi.stubEnv(NAME, "200");
  expect(wholeSet(NAME, 20)).toBe(200);
  vi.stubEnv(NAME, "0.5");
  expect(numberSet(NAME, 20, 0)).toBe(0.5);
  expect(() => wholeSet(NAME, 20, 0)).toThrow(NAME);
});

it("no test reads a number from the environment by itself", () => {
  const files = readdirSync(import.meta.dirname, { recursive: true, encoding: "utf8" }).filter((file) => file.endsWith(".ts"));
  const own = files.filter((file) =>
    /(?:Number|parse(?:Int|Float))\(\s*process\.env/.test(readFileSync(`${import.meta.dirname}/${file}`, "utf8")),
  );
  expect(files.length).toBeGreaterThan(100);
  expect(own).toEqual([]);
});

import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { describe, expect, it } from "vitest";
import { CallChains } from "../local/functions/call-chains.ts";
import { HOSTED } from "../local/functions/hosted.ts";
import { LogCap } from "../local/functions/log-cap.ts";

const page = readFileSync(resolve(import.meta.dirname, "../docs/local-functions.md"), "utf8");
const conformance = readFileSync(resolve(import.meta.dirname, "functions-host-limits.int.test.ts"), "utf8");
/** The second column of the table of behaviours. */
const cells = page
  .split("\n")
  .filter((line) => /^\| .* \| .* \| .* \|$/.test(line) && line.split("|").length === 5)
  .map((line) => line.split("|")[2]?.trim() ?? "")
  .filter((cell) => !/^(switch, and|-+|double|\d)/.test(cell));
const stated = cells
  .filter((cell) => cell !== "not switchable")
  .flatMap((cell) => cell.split(/, (?=`)/))
  .map((one) => /^`(\w+)` (.+)$/.exec(one))
  .map((found) => [found?.[1] ?? "", found?.[2] ?? ""] as const);

/** As a reader is told a value. */
function told(value: unknown): string {
  if (Array.isArray(value)) return value.join(" ");
  if (typeof value === "boolean") return value ? "on" : "off";
  return value === Infinity ? "no limit" : Number(value).toLocaleString("en");
}

describe("the table of what the local host does", () => {
  it("has every switch, and no other", () => {
    expect([...new Set(stated.map(([name]) => name))].sort()).toEqual(Object.keys(HOSTED).sort());
  });

  it.each(Object.entries(HOSTED))("states the value of %s", (name, value: unknown) => {
    expect(stated.filter(([one]) => one === name).map(([, text]) => text)).toEqual(
      stated.filter(([one]) => one === name).map(() => told(value)),
    );
  });
});

describe("each behaviour", () => {
  it.each(Object.keys(HOSTED))("%s is switched by a conformance test", (name) => {
    const switched = [...conformance.matchAll(/start\(\{([^}]*)\}\)/g)].map(([, given = ""]) => given);
    expect(switched.some((given) => new RegExp(`\\b${name}:`).test(given))).toBe(true);
  });

  it("has a place that says so: a file and the commit that it was read at, a page, or the runtime that was run", () => {
    const rows = page.split("\n").filter((line) => /^\| .* \| .* \| .* \|$/.test(line) && line.split("|").length === 5);
    const sources = rows
      .map((line) => line.split("|")[3]?.trim() ?? "")
      .filter((cell) => !/^(source|-+|\d.*|without.*)$/.test(cell));
    expect(sources.length).toBeGreaterThan(15);
    for (const source of sources)
      expect(source).toMatch(/\.(js|rs|ts)`.*\[[0-9a-f]{7}\]|(limits|secrets|status-codes|recursive-functions) page|^none: /);
    for (const name of ["limits", "secrets", "status-codes", "recursive-functions"])
      expect(page).toMatch(new RegExp(`\\b${name}\\.mdx\` \\[[0-9a-f]{7}\\]`));
  });
});

describe("windows", () => {
  it("a log that was full takes messages again in the next one", () => {
    const kept: string[] = [];
    const log = new LogCap({ logCharacters: 5, logEvents: 2, logWindowMs: 1_000 }, (line) => kept.push(line));
    for (const [index, at] of [0, 1, 2, 999, 1_000, 1_001, 1_002].entries()) log.log(String(index), at);
    expect(kept).toEqual(["0", "1", "4", "5"]);
  });

  it("a chain that has made its calls may call again a minute after its first one; others are not held", () => {
    const chains = new CallChains(2);
    expect([0, 10].map((at) => chains.refused("one", at))).toEqual([undefined, undefined]);
    expect(chains.refused("one", 20_000)).toBe(40_000);
    expect(chains.refused("other", 20_000)).toBeUndefined();
    expect(chains.refused("one", 60_000)).toBeUndefined();
  });
});

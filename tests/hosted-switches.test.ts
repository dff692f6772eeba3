import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { describe, expect, it } from "vitest";
import { HOSTED } from "../local/functions/hosted.ts";

const page = readFileSync(resolve(import.meta.dirname, "../docs/local-functions.md"), "utf8");
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

import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { expect, it } from "vitest";

const ROOT = resolve(import.meta.dirname, "..");

/** A line that a broken merge leaves, as git writes the line and as prettier then writes it: in a table, as quotes of quotes, escaped. */
const isMarker = (line: string): boolean =>
  [/^\s*\|?\s*\\?<{7}\s/, /^\s*\|?\s*\\?>{7}\s/, /^\s*(> ?){7}/, /^\s*\|?\s*={7}\s*\|?\s*$/, /^\s*\\?\|{7}\s/].some((pattern) =>
    pattern.test(line),
  );

it.each(["<", ">", "|"])("recognises a marker of seven %s", (sign) => {
  expect(isMarker(`${sign.repeat(7)} HEAD`)).toBe(true);
  expect(isMarker(`${sign.repeat(3)} HEAD`)).toBe(false);
});

it.each(["=".repeat(7), `| ${"=".repeat(7)}   |`, `${"> ".repeat(7)}189a2e8`, `\\${"<".repeat(7)} HEAD`])(
  "recognises %s",
  (line) => {
    expect(isMarker(line)).toBe(true);
  },
);

it.each(["=".repeat(8), "| a | b |", "> a quote", "| --- | --- |", `// ${"=".repeat(7)} part`])("takes %s for text", (line) => {
  expect(isMarker(line)).toBe(false);
});

it("no text file holds half a merge", () => {
  const files = execFileSync("git", ["ls-files", "-z"], { cwd: ROOT, encoding: "utf8" }).split("\0").filter(Boolean);
  expect(files.length).toBeGreaterThan(500);
  const found = files.flatMap((file) => {
    const text = read(file);
    if (text.includes("\0")) return [];
    return text.split("\n").flatMap((line, index) => (isMarker(line) ? [`${file}:${index + 1}`] : []));
  });
  expect(found).toEqual([]);
});

/** Nothing of a file that is deleted and not yet committed. */
function read(file: string): string {
  try {
    return readFileSync(resolve(ROOT, file), "utf8");
  } catch {
    return "";
  }
}

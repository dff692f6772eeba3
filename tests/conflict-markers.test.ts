import { readdirSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
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
  const files = filesBelow(ROOT);
  expect(files.length).toBeGreaterThan(500);
  const found = files.flatMap((file) => {
    const text = readFileSync(file, "utf8");
    if (text.includes("\0")) return [];
    return text.split("\n").flatMap((line, index) => (isMarker(line) ? [`${file}:${index + 1}`] : []));
  });
  expect(found).toEqual([]);
});

/** All files but those that git ignores, and links to folders that are there under another name. */
function filesBelow(folder: string): string[] {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    if (/^(node_modules|coverage|\.git|\.local.*|\.temp|\.branches)$/.test(entry.name)) return [];
    const path = join(folder, entry.name);
    return entry.isDirectory() ? filesBelow(path) : entry.isFile() ? [path] : [];
  });
}

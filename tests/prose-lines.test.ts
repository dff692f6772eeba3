// A line of prose has fewer than 120 characters: comments, what objects of the database are (comment on), and
// documentation. Prettier wraps the last (proseWrap); tables, examples and commands are left as they are.
import { readdirSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { expect, it } from "vitest";

const ROOT = resolve(import.meta.dirname, "..");
const LONGEST = 119;
const FOLDERS = ["bench", "cli", "clinic", "examples", "functions", "local", "scripts", "shared", "supabase/schemas", "tests"];

const sources = FOLDERS.flatMap((folder) =>
  readdirSync(join(ROOT, folder), { recursive: true, encoding: "utf8" })
    .filter((name) => /\.(sql|m?ts)$/.test(name) && !name.includes(".gen.") && !name.includes("node_modules"))
    .map((name) => join(folder, name)),
);
const pages = ["README.md", "CHANGELOG.md", ...readdirSync(join(ROOT, "docs")).map((name) => join("docs", name))].filter((name) =>
  name.endsWith(".md"),
);

/** A comment, or a line of what an object is: nothing but a text that may be cut between two words. */
const IN_SOURCE = /^\s*(--|\/\/|\*) +\S+ |^(comment on .* is| ) '\S+ .*';?$/;
const isLong = (line: string) => Array.from(line).length > LONGEST;

/** The lines of a page that are neither a row of a table nor in an example. */
function proseOf(page: string): string[] {
  let example = false;
  return page.split("\n").filter((line) => {
    if (line.trimStart().startsWith("```")) example = !example;
    return !example && !/^\s*(\||<!--)/.test(line);
  });
}

const read = (file: string) => readFileSync(join(ROOT, file), "utf8");

it("comments can be read without a wide window", () => {
  const long = sources.flatMap((file) =>
    read(file)
      .split("\n")
      .flatMap((line, n) => (isLong(line) && IN_SOURCE.test(line) ? [`${file}:${n + 1}`] : [])),
  );
  expect(long).toEqual([]);
  expect(sources.length).toBeGreaterThan(400);
});

it("so can the documentation", () => {
  const long = pages.flatMap((file) =>
    proseOf(read(file)).flatMap((line) => (isLong(line.replace(/`[^`]*`/g, "x")) ? [`${file}: ${line.slice(0, 60)}`] : [])),
  );
  expect(long).toEqual([]);
});

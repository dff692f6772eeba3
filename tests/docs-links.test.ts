import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join, normalize, relative, resolve } from "node:path";
import { describe, expect, it } from "vitest";

const ROOT = resolve(import.meta.dirname, "..");
const pages = [
  "README.md",
  "clinic/domain.md",
  "clinic/dataset/README.md",
  ...readdirSync(join(ROOT, "docs"))
    .filter((file) => file.endsWith(".md"))
    .map((file) => `docs/${file}`),
];

/** What a heading is linked by: its words in lower case, without punctuation, joined by hyphens. */
function anchors(page: string): string[] {
  const headings = readFileSync(join(ROOT, page), "utf8").matchAll(/^#+ (.*)$/gm);
  return Array.from(headings, ([, title = ""]) =>
    title
      .toLowerCase()
      .replace(/[^\w\- ]/g, "")
      .replaceAll(" ", "-"),
  );
}

describe("links of the documentation", () => {
  it.each(pages)("%s leads to files and headings that there are", (page) => {
    const links = Array.from(readFileSync(join(ROOT, page), "utf8").matchAll(/\]\(([^)\s]+)\)/g), ([, link = ""]) => link);
    const broken = links
      .filter((link) => !/^https?:/.test(link))
      .filter((link) => {
        const [path = "", anchor] = link.split("#");
        const file = path === "" ? page : relative(ROOT, normalize(join(ROOT, dirname(page), path)));
        return !existsSync(join(ROOT, file)) || (anchor !== undefined && !anchors(file).includes(anchor));
      });
    expect(broken).toEqual([]);
  });
});

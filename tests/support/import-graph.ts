import { readFileSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import ts from "typescript";

export interface ImportGraph {
  /** Every file reached, relative to the root, the entry included; imports of types count. */
  readonly files: ReadonlySet<string>;
  /** Every specifier that is no file of the repository. */
  readonly packages: ReadonlySet<string>;
}

/** What a module imports, directly or not, read from the sources by the TypeScript compiler's scanner. */
export function importGraph(root: string, entry: string): ImportGraph {
  const files = new Set<string>();
  const packages = new Set<string>();
  const pending = [resolve(root, entry)];
  for (let path = pending.pop(); path !== undefined; path = pending.pop()) {
    const name = relative(root, path);
    if (files.has(name)) continue;
    files.add(name);
    for (const { fileName } of ts.preProcessFile(readFileSync(path, "utf8"), true, true).importedFiles) {
      if (fileName.startsWith(".")) pending.push(join(dirname(path), fileName));
      else packages.add(fileName);
    }
  }
  return { files, packages };
}

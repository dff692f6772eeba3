import { readdirSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";

export const ROOT = resolve(import.meta.dirname, "../..");

/** One file of supabase/schemas/. `path` is relative to supabase/. */
export interface DeclaredFile {
  readonly path: string;
  readonly sql: string;
}

/**
 * The files that say what the database is, in the order in which a fresh one is made (supabase/config.toml,
 * schema_paths).
 * @throws Error where a file is not in that list, or one of the list is not there: it would be in no database, or in
 * no review.
 */
export function declaredFiles(root = ROOT): readonly DeclaredFile[] {
  const supabase = join(root, "supabase");
  const listed = schemaPaths(readFileSync(join(supabase, "config.toml"), "utf8"));
  const present = readdirSync(join(supabase, "schemas"), { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".sql"))
    .map((name) => `schemas/${name.replaceAll("\\", "/")}`);
  const unlisted = present.filter((path) => !listed.includes(path));
  const absent = listed.filter((path) => !present.includes(path));
  const twice = listed.filter((path, at) => listed.indexOf(path) !== at);
  if (unlisted.length + absent.length + twice.length > 0) {
    const said = [
      ...unlisted.map((path) => `${path} is not in the list`),
      ...absent.map((path) => `${path} does not exist`),
      ...twice.map((path) => `${path} is in the list twice`),
    ];
    throw new Error(`schema_paths of supabase/config.toml names each file of supabase/schemas/ once: ${said.join("; ")}.`);
  }
  return listed.map((path) => ({ path, sql: readFileSync(join(supabase, path), "utf8") }));
}

/** The list schema_paths. The CLI takes globs, too; here every file is named, because the order counts. */
export function schemaPaths(config: string): readonly string[] {
  const [, list] = /^schema_paths = \[([^\]]*)\]/m.exec(config) ?? [];
  if (list === undefined) throw new Error("supabase/config.toml has no list schema_paths.");
  return [...list.matchAll(/"(?:\.\/)?([^"]+)"/g)].map(([, path = ""]) => path);
}

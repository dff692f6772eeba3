import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

/** Where the version stands that the database has, and the one that the functions were made for. */
const PLACES: readonly (readonly [file: string, version: RegExp])[] = [
  ["supabase/schemas/functions/versions.sql", /(?<=function sync\.schema_version\(\)[^$]*\$\$ select )\d+/],
  ["shared/db/schema-version.ts", /(?<=SCHEMA_VERSION = )\d+/],
];

/** Gives both the version of a migration. */
export function setVersion(root: string, file: string): void {
  for (const [path, version] of PLACES)
    writeFileSync(join(root, path), readFileSync(join(root, path), "utf8").replace(version, file.slice(0, 14)));
}

export function versionsOf(root: string): readonly string[] {
  return PLACES.map(([path, version]) => version.exec(readFileSync(join(root, path), "utf8"))?.[0] ?? "none");
}

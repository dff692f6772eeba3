import { createHash } from "node:crypto";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { ROOT } from "./declared.ts";

/** What was released, with the hash of each migration: written by `npm run migration -- --release`, never by hand. */
export interface Released {
  readonly release: string;
  readonly file: string;
  readonly sha256: string;
}

export interface MigrationFile {
  readonly file: string;
  readonly sql: string;
}

export const RELEASED_FILE = "supabase/released.json";

/** The files of migrations/ in the order in which they are applied. */
export function migrationFiles(root = ROOT): readonly MigrationFile[] {
  const folder = join(root, "migrations");
  if (!existsSync(folder)) return [];
  return readdirSync(folder)
    .sort()
    .map((file) => ({ file, sql: readFileSync(join(folder, file), "utf8") }));
}

export function releasedMigrations(root = ROOT): readonly Released[] {
  return JSON.parse(readFileSync(join(root, RELEASED_FILE), "utf8")) as readonly Released[];
}

export function sha256(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}

/** Migrations that no release has: they may still change. */
export function unreleased(files: readonly MigrationFile[], released: readonly Released[]): readonly MigrationFile[] {
  const known = new Set(released.map(({ file }) => file));
  return files.filter(({ file }) => !known.has(file));
}

/** What is wrong with the files of migrations/: nobody who has installed a release could be brought to this one. Empty: nothing. */
export function problemsOf(files: readonly MigrationFile[], released: readonly Released[]): readonly string[] {
  const texts = new Map(files.map(({ file, sql }) => [file, sql]));
  const last =
    released
      .map(({ file }) => file)
      .sort()
      .at(-1) ?? "";
  return [
    ...released
      .filter(({ file }) => !texts.has(file))
      .map(({ file, release }) => `${file} is missing: release ${release} has it. Put it back.`),
    ...released
      .filter(({ file, sha256: hash }) => texts.has(file) && sha256(texts.get(file) ?? "") !== hash)
      .map(
        ({ file, release }) =>
          `${file} was edited after release ${release}. Put it back, and write another: npm run migration -- NAME.`,
      ),
    ...files
      .filter(({ file }) => !/^\d{14}_[a-z0-9_]+\.sql$/.test(file))
      .map(({ file }) => `${file} is not named YYYYMMDDHHMMSS_verb_object.sql.`),
    ...unreleased(files, released)
      .filter(({ file }) => file < last)
      .map(
        ({ file }) =>
          `${file} comes before ${last}, which is released: who has that one would never be given it. Give it a later time.`,
      ),
  ];
}

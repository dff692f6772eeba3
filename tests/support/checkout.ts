import { execFile } from "node:child_process";
import { cpSync, existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { INSTALLATION_FOLDER } from "../../functions/installation.gen.ts";

const ROOT = resolve(import.meta.dirname, "../..");

/** What the command line of a checkout reads. */
const PARTS = [
  "functions",
  "shared",
  INSTALLATION_FOLDER,
  "isthmus.json",
  "cli",
  "local",
  "scripts",
  "migrations",
  "supabase/config.toml",
  "supabase/schemas",
  "package.json",
  "package-lock.json",
];

/**
 * A checkout of another release: these sources, with some files added or changed. @returns its `npm run sync -- ...`,
 * run as a process that sees nothing of this one's environment but PATH.
 */
export function checkout(
  folder: string,
  changes: Readonly<Record<string, string | ((text: string) => string)>>,
): (...args: string[]) => Promise<{ code: number; out: string; err: string }> {
  for (const path of PARTS.filter((part) => existsSync(join(ROOT, part))))
    cpSync(join(ROOT, path), join(folder, path), { recursive: true, dereference: true });
  symlinkSync(join(ROOT, "node_modules"), join(folder, "node_modules"));
  for (const [path, change] of Object.entries(changes)) {
    mkdirSync(dirname(join(folder, path)), { recursive: true });
    writeFileSync(join(folder, path), typeof change === "string" ? change : change(readFileSync(join(folder, path), "utf8")));
  }
  return (...args) =>
    new Promise((done) => {
      execFile(
        process.execPath,
        [join(folder, "cli/isthmus.mjs"), ...args],
        { cwd: folder, env: { PATH: process.env["PATH"] ?? "" } },
        (error, out, err) => done({ code: error === null ? 0 : typeof error.code === "number" ? error.code : 1, out, err }),
      );
    });
}

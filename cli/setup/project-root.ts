import { existsSync } from "node:fs";
import { dirname, join } from "node:path";

/** The folder of this project: also from the one file that the command line is built into. */
export const PROJECT_ROOT = above(import.meta.dirname);

function above(folder: string): string {
  if (existsSync(join(folder, "supabase/config.toml")) && existsSync(join(folder, "migrations"))) return folder;
  const parent = dirname(folder);
  if (parent === folder) throw new Error("The command does not stand in a checkout of this project.");
  return above(parent);
}

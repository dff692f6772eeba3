import type { DeclaredFile } from "./declared.ts";

/** The first migration: a fresh database as supabase/schemas/ says. */
export function baselineSql(files: readonly DeclaredFile[], release: string): string {
  const header = [
    `-- Purpose: everything that release ${release} has: the control tables, and the functions that change them.`,
    "-- Locks:   none on existing objects.",
    "-- Reverse: npm run sync -- uninstall",
    "--",
    "-- Written by `npm run migration` from supabase/schemas/, until the release is made. Change these files instead.",
  ];
  return `${header.join("\n")}\n${files.map(({ path, sql }) => `\n-- supabase/${path}\n\n${sql}`).join("")}`;
}

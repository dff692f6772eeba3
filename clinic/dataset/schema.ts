import { readFile } from "node:fs/promises";
import { resolve } from "node:path";
import { openConnection } from "./connect.ts";

/** Creates the legacy schema, all 53 dispatch_* tables and Django's own, where it is absent. */
export async function createLegacySchema(url: string): Promise<void> {
  const sql = openConnection(url);
  try {
    const [row] = await sql<{ present: boolean }[]>`select to_regclass('public.dispatch_patient') is not null as present`;
    if (row?.present === true) return;
    await sql.unsafe(await readFile(resolve(import.meta.dirname, "../source/legacy-schema.sql"), "utf8")).simple();
  } finally {
    await sql.end();
  }
}

import { resolve } from "node:path";
import type { TestProject } from "vitest/node";
import { startPostgres } from "../../local/postgres.ts";
import { prepareSource, prepareSupabase } from "../../local/target/supabase.ts";
import { createLegacySchema } from "../../local/dataset/schema.ts";

declare module "vitest" {
  interface ProvidedContext {
    postgresPort: number;
    postgresLog: string;
  }
}

/** One server for all tests that need databases, with a template of each side; every test file clones its own. */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const pg = await startPostgres({ name: "tests", dataDir: resolve(".local/tests"), settings: { fsync: "off" } });
  await dropLeftovers(pg.superuserUrl());
  await prepareSupabase(pg, { database: "target_template" });
  const { owner } = await prepareSource(pg, { database: "source_template" });
  await createLegacySchema(owner);
  project.provide("postgresPort", pg.port);
  project.provide("postgresLog", pg.logFile);
  return () => pg.stop();
}

/** Templates and clones of an earlier run: migrations may have changed since. */
async function dropLeftovers(url: string): Promise<void> {
  const { default: postgres } = await import("postgres");
  const sql = postgres(url, { max: 1, onnotice: () => undefined });
  try {
    for (const { datname } of await sql<
      { datname: string }[]
    >`select datname from pg_database where datname ~ '^(target|source)_'`) {
      await sql.unsafe(`drop database "${datname}" with (force)`);
    }
  } finally {
    await sql.end();
  }
}

import { rm } from "node:fs/promises";
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
  const dataDir = resolve(`.local/tests-${process.pid}`);
  const pg = await startPostgres({ name: "tests", dataDir, settings: { fsync: "off" } });
  await prepareSupabase(pg, { database: "target_template" });
  const { owner } = await prepareSource(pg, { database: "source_template" });
  await createLegacySchema(owner);
  project.provide("postgresPort", pg.port);
  project.provide("postgresLog", pg.logFile);
  return async () => {
    await pg.stop();
    await rm(dataDir, { recursive: true, force: true });
  };
}

import { existsSync, readdirSync, rmSync } from "node:fs";
import { resolve } from "node:path";
import postgres from "postgres";
import type { TestProject } from "vitest/node";
import { createLegacySchema } from "../../local/dataset/schema.ts";
import { startPostgres, type LocalPostgres } from "../../local/postgres.ts";
import { commandLine } from "../../local/processes.ts";
import { prepareSource, prepareSupabase } from "../../local/target/supabase.ts";
import { TEST_DATABASE } from "./databases.ts";

declare module "vitest" {
  interface ProvidedContext {
    postgresPort: number;
    postgresLog: string;
  }
}

const LOCAL = resolve(import.meta.dirname, "../../.local");

/** One server for all tests of a project that need databases, with a template of each side; every test clones its own. */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  removeOldServers();
  const dataDir = resolve(LOCAL, `tests-${process.pid}-${project.name}`);
  const pg = await startPostgres({ name: "tests", dataDir, settings: { fsync: "off", autovacuum: "off" } });
  try {
    await prepareSupabase(pg, { database: "target_template" });
    const { owner } = await prepareSource(pg, { database: "source_template" });
    await createLegacySchema(owner);
  } catch (error) {
    await pg.remove();
    throw error;
  }
  project.provide("postgresPort", pg.port);
  project.provide("postgresLog", pg.logFile);
  return async () => {
    const kept = await keptDatabases(pg);
    if (kept.length === 0) {
      await pg.remove();
    } else {
      await pg.stop();
      process.stderr.write(
        `Databases of failed tests, kept until the next run: ${kept.join(", ")}\nTo look: npx tsx local/open-postgres.ts ${dataDir}\n`,
      );
    }
  };
}

async function keptDatabases(pg: LocalPostgres): Promise<string[]> {
  const sql = postgres(pg.superuserUrl(), { max: 1 });
  try {
    return (await sql<{ datname: string }[]>`select datname from pg_database where datname ~ ${TEST_DATABASE}`).map(
      ({ datname }) => datname,
    );
  } finally {
    await sql.end();
  }
}

/** What earlier runs kept for a look, or left behind because they were killed. */
function removeOldServers(): void {
  if (!existsSync(LOCAL)) return;
  for (const name of readdirSync(LOCAL)) {
    const pid = /^tests-(\d+)(-|$)/.exec(name)?.[1];
    if (pid !== undefined && commandLine(Number(pid)) === undefined)
      rmSync(resolve(LOCAL, name), { recursive: true, force: true });
  }
}

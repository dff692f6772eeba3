import { existsSync, readdirSync, rmSync } from "node:fs";
import { resolve } from "node:path";
import postgres from "postgres";
import type { TestProject } from "vitest/node";
import { createLegacySchema } from "../../local/dataset/schema.ts";
import { startPostgres, type LocalPostgres } from "../../local/postgres.ts";
import { commandLine } from "../../local/processes.ts";
import { prepareSource, prepareSupabase } from "../../local/target/supabase.ts";
import { TEST_DATABASE } from "./databases.ts";

const LOCAL = resolve(import.meta.dirname, "../../.local");

/** A server per worker for tests that need databases, with a template of each side; every test clones its own. */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  removeOldServers();
  const servers: LocalPostgres[] = [];
  const ready = await Promise.allSettled(
    Array.from({ length: project.config.maxWorkers }, async (_, index) => {
      const pg = await startPostgres({
        name: "tests",
        dataDir: folderOf(index),
        // Nothing writes but the tests themselves.
        settings: { fsync: "off", autovacuum: "off" },
      });
      servers[index] = pg;
      await prepareSupabase(pg, { database: "target_template" });
      const { owner } = await prepareSource(pg, { database: "source_template" });
      await createLegacySchema(owner);
    }),
  );
  const failed = ready.find((one) => one.status === "rejected");
  if (failed) {
    await Promise.all(servers.map((pg) => pg.remove()));
    throw failed.reason;
  }
  project.provide(
    "postgresServers",
    servers.map((pg) => ({ port: pg.port, log: pg.logFile })),
  );
  return async () => {
    await Promise.all(servers.map((pg, index) => removeOrKeep(pg, folderOf(index))));
  };
}

const folderOf = (index: number) => resolve(LOCAL, `tests-${process.pid}-${index + 1}`);

async function removeOrKeep(pg: LocalPostgres, folder: string): Promise<void> {
  const kept = await keptDatabases(pg);
  if (kept.length === 0) return pg.remove();
  await pg.stop();
  process.stderr.write(
    `Databases of failed tests, kept until the next run: ${kept.join(", ")}\nTo look: npx tsx local/open-postgres.ts ${folder}\n`,
  );
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

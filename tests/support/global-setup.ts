import { mkdirSync } from "node:fs";
import postgres from "postgres";
import type { TestProject } from "vitest/node";
import { startPostgres, type LocalPostgres } from "../../local/postgres.ts";
import { TEST_DATABASE } from "./databases.ts";
import { LOCAL, scratchFolder, sweepScratch } from "./scratch.ts";
import { databaseTemplates, SETTINGS } from "./templates.ts";

/** A server per worker for tests that need databases, with a template of each side; every test clones its own. */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  mkdirSync(LOCAL, { recursive: true });
  sweepScratch();
  const templates = await databaseTemplates();
  const servers: LocalPostgres[] = [];
  const ready = await Promise.allSettled(
    // As many as files run at a time: `--maxWorkers` of the command line does not change the project's.
    Array.from({ length: project.config.maxWorkers }, async (_, index) => {
      servers[index] = await startPostgres({
        name: "tests",
        dataDir: folderOf(project.name, index),
        settings: SETTINGS,
        copyOf: templates,
      });
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
    await Promise.all(servers.map((pg, index) => removeOrKeep(pg, folderOf(project.name, index))));
  };
}

const folderOf = (project: string, index: number) => scratchFolder(`${project}-${index + 1}`);

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

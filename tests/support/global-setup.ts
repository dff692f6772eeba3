import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { resolve } from "node:path";
import postgres from "postgres";
import type { TestProject } from "vitest/node";
import { createLegacySchema } from "../../clinic/dataset/schema.ts";
import { startPostgres, type LocalPostgres } from "../../local/postgres.ts";
import { commandLine } from "../../local/processes.ts";
import { prepareSource, prepareSupabase } from "../../local/target/supabase.ts";
import { TEST_DATABASE } from "./databases.ts";
import { LOCAL, scratchFolder, sweepScratch } from "./scratch.ts";

/** A server per worker for tests that need databases, with a template of each side; every test clones its own. */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  mkdirSync(LOCAL, { recursive: true });
  sweepScratch();
  const templates = await preparedTemplates();
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

// Nothing writes but the tests themselves.
const SETTINGS = { fsync: "off", autovacuum: "off" };

/** What decides what is in the templates. */
const MADE_OF = [
  "migrations",
  "local/target",
  "clinic/source",
  "clinic/dataset/schema.ts",
  "local/postgres.ts",
  "local/postgres-files.ts",
  "shared/entities",
  "clinic/entities",
  "clinic/target",
  "shared/jobs/grants.ts",
  "shared/jobs/contract",
  "shared/sql",
  "package-lock.json",
];

/**
 * The folder of a stopped server that has both templates: made once for what they are made of, because the migrations take
 * longer than most test files. While another run makes them, this one makes its own.
 */
async function preparedTemplates(): Promise<string> {
  const shared = resolve(LOCAL, `templates-${fingerprint()}`);
  const maker = resolve(shared, "made-by");
  const made = existsSync(maker) ? readFileSync(maker, "utf8") : undefined;
  if (made === DONE) return shared;
  if (made !== undefined && commandLine(Number(made)) !== undefined) return makeTemplates(scratchFolder("templates"));
  for (const name of readdirSync(LOCAL))
    if (name.startsWith("templates-")) rmSync(resolve(LOCAL, name), { recursive: true, force: true });
  mkdirSync(shared, { recursive: true });
  writeFileSync(maker, String(process.pid));
  await makeTemplates(shared);
  writeFileSync(maker, DONE);
  return shared;
}

const DONE = "done";

async function makeTemplates(folder: string): Promise<string> {
  const pg = await startPostgres({ name: "templates", dataDir: folder, settings: SETTINGS });
  try {
    await prepareSupabase(pg, { database: "target_template" });
    const { owner } = await prepareSource(pg, { database: "source_template" });
    await createLegacySchema(owner);
    await pg.stop();
  } catch (error) {
    await pg.remove();
    throw error;
  }
  return folder;
}

function fingerprint(): string {
  const hash = createHash("sha256");
  const add = (path: string) => {
    if (statSync(path).isDirectory()) for (const name of readdirSync(path).sort()) add(resolve(path, name));
    else hash.update(path).update(readFileSync(path));
  };
  for (const path of MADE_OF) add(resolve(LOCAL, "..", path));
  return hash.digest("hex").slice(0, 12);
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

import { randomBytes } from "node:crypto";
import postgres, { type Sql } from "postgres";
import { onTestFinished } from "vitest";
import { testServer } from "./servers.ts";

/** Names of databases that tests made; what is left of them after a run belongs to tests that failed. */
export const TEST_DATABASE = "^(target|source)_[0-9a-f]{12}$";

export interface TestDatabase extends AsyncDisposable {
  readonly name: string;
  /** The server's superuser, for what a test must see or break. */
  readonly admin: Sql;
  readonly superuserUrl: string;
  readonly url: (role: string, password?: string) => string;
}

/** A fresh target: application tables and migrations, empty. `await using` drops it, unless its test fails. */
export const createTestTarget = () => cloneDatabase("target");
/** A fresh source: the legacy schema, empty. `await using` drops it, unless its test fails. */
export const createTestSource = () => cloneDatabase("source");

/** postgres, as on a hosted project: owns the application and the control tables, is no superuser. */
export const ownerUrl = (db: TestDatabase) => db.url("postgres");
export const workerUrl = (db: TestDatabase) => db.url("isthmus_worker", "local-worker");
export const readerUrl = (db: TestDatabase) => db.url("isthmus_reader", "local-reader");

async function cloneDatabase(side: "target" | "source"): Promise<TestDatabase> {
  const { port } = await testServer();
  const name = `${side}_${randomBytes(6).toString("hex")}`;
  const url = (role: string, password?: string, database = name) =>
    `postgres://${role}${password === undefined ? "" : `:${password}`}@127.0.0.1:${port}/${database}`;
  const server = url("supabase_admin", undefined, "postgres");
  const drop = () => run(server, `drop database if exists "${name}" with (force)`);
  // A clone does not inherit its template's owner.
  const owner = side === "target" ? "postgres" : "supabase_admin";
  await run(server, `create database "${name}" template "${side}_template" owner ${owner} strategy file_copy`);
  const admin = postgres(url("supabase_admin"), { max: 4, onnotice: () => undefined });
  const decided = dropUnlessFailed(name, url("supabase_admin"), drop);
  return {
    name,
    admin,
    superuserUrl: url("supabase_admin"),
    url,
    [Symbol.asyncDispose]: async () => {
      await admin.end({ timeout: 1 });
      if (!decided) await drop();
    },
  };
}

/** Only when a test has ended is it known whether it failed. @returns false outside a test: in a hook, for a whole file. */
function dropUnlessFailed(name: string, url: string, drop: () => Promise<void>): boolean {
  try {
    onTestFinished(async ({ task }) => {
      if (task.result?.state === "fail") process.stderr.write(`  kept for a look: ${name}  ${url}\n`);
      else await drop();
    });
    return true;
  } catch {
    return false;
  }
}

async function run(url: string, statement: string): Promise<void> {
  const sql = postgres(url, { max: 1, onnotice: () => undefined });
  try {
    await sql.unsafe(statement);
  } finally {
    await sql.end();
  }
}

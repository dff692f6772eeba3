import { randomBytes } from "node:crypto";
import postgres, { type Sql } from "postgres";
import { inject } from "vitest";

export interface TestDatabase extends AsyncDisposable {
  readonly name: string;
  /** The server's superuser, for what a test must see or break. */
  readonly admin: Sql;
  readonly superuserUrl: string;
  readonly url: (role: string, password?: string) => string;
}

/** A fresh target: application tables and migrations, empty. */
export const createTestTarget = () => cloneDatabase("target");
/** A fresh source: the legacy schema, empty. */
export const createTestSource = () => cloneDatabase("source");

export const workerUrl = (db: TestDatabase) => db.url("isthmus_worker", "local-worker");
export const readerUrl = (db: TestDatabase) => db.url("isthmus_reader", "local-reader");

async function cloneDatabase(side: "target" | "source"): Promise<TestDatabase> {
  const port = inject("postgresPort");
  const name = `${side}_${randomBytes(6).toString("hex")}`;
  const url = (role: string, password?: string, database = name) =>
    `postgres://${role}${password === undefined ? "" : `:${password}`}@127.0.0.1:${port}/${database}`;
  await asSuperuser(url("supabase_admin", undefined, "postgres"), `create database "${name}" template "${side}_template"`);
  const admin = postgres(url("supabase_admin"), { max: 4, onnotice: () => undefined });
  return {
    name,
    admin,
    superuserUrl: url("supabase_admin"),
    url,
    [Symbol.asyncDispose]: async () => {
      await admin.end({ timeout: 1 });
      await asSuperuser(url("supabase_admin", undefined, "postgres"), `drop database "${name}" with (force)`);
    },
  };
}

async function asSuperuser(url: string, statement: string): Promise<void> {
  const sql = postgres(url, { max: 1, onnotice: () => undefined });
  try {
    await sql.unsafe(statement);
  } finally {
    await sql.end();
  }
}

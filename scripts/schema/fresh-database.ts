import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import postgres from "postgres";
import { readCatalog, type Catalog } from "./catalog.ts";
import { ROOT } from "./declared.ts";

/** A server on which databases can be made: as the cluster's superuser, and as the owner of a project's tables. */
export interface Server {
  superuserUrl(database?: string): string;
  ownerUrl(database: string): string;
}

export const freshName = () => `schema_${randomBytes(6).toString("hex")}`;

/** The catalog of a new database, after its owner has run some SQL in it. The database is gone then. */
export async function catalogAfter(server: Server, name: string, texts: readonly string[]): Promise<Catalog> {
  return inFreshDatabase(server, name, texts, (owner) => readCatalog(owner));
}

export async function inFreshDatabase<T>(
  server: Server,
  name: string,
  texts: readonly string[],
  work: (owner: postgres.Sql) => Promise<T>,
): Promise<T> {
  const first = postgres(server.superuserUrl(), QUIET);
  await first.unsafe(`create database "${name}"`);
  const admin = postgres(server.superuserUrl(name), QUIET);
  const owner = postgres(server.ownerUrl(name), QUIET);
  try {
    await admin.unsafe(readFileSync(join(ROOT, "local/target/bootstrap.sql"), "utf8")).simple();
    for (const text of texts) await owner.begin((tx) => tx.unsafe(text).simple());
    return await work(owner);
  } finally {
    await Promise.all([admin.end(), owner.end()]);
    await first.unsafe(`drop database if exists "${name}" with (force)`);
    await first.end();
  }
}

const QUIET = { max: 1, onnotice: () => undefined } as const;

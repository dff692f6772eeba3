import { spawnSync } from "node:child_process";
import { rmSync } from "node:fs";
import postgres, { type Sql } from "postgres";
import { createLegacySchema } from "../../clinic/dataset/schema.ts";
import { prepareFiles, type ServerPackage } from "../../local/postgres-files.ts";
import { startPostgres, type LocalPostgres } from "../../local/postgres.ts";
import { prepareSource } from "../../local/target/supabase.ts";
import { createPipeline, type Pipeline } from "./pipeline.ts";
import { scratchFolder } from "./scratch.ts";
import { createSeeds, type Seeds } from "./legacy-seeds.ts";

/** A source on a server of its own, which a test may stop, put back or replace. */
export interface OwnSource extends AsyncDisposable {
  readonly pg: LocalPostgres;
  readonly admin: Sql;
  readonly seed: Seeds;
  readonly readerUrl: string;
  /** Stops the server and keeps a copy of its files, as a backup does. It runs again afterwards. */
  backUp(): Promise<void>;
  /** Stops the server, puts the copy in the place of its files and starts it: the same server, timeline and database. */
  putBack(): Promise<void>;
}

/** PostgreSQL 12 would keep passwords in a form that our access file does not take. */
const SETTINGS = { fsync: "off", autovacuum: "off", password_encryption: "scram-sha-256" };

let made = 0;

export async function createOwnSource(options: { server?: ServerPackage; port?: number } = {}): Promise<OwnSource> {
  const folder = scratchFolder(`own-source-${++made}`);
  const pg = await startPostgres({
    name: "own source",
    dataDir: folder,
    settings: SETTINGS,
    ...options,
  });
  const { owner, reader } = await prepareSource(pg);
  await createLegacySchema(owner);
  const admin = postgres(owner, { max: 2, fetch_types: false, onnotice: () => undefined });
  const { data } = prepareFiles(folder, options.server);
  const copy = (from: string, to: string) => {
    rmSync(to, { recursive: true, force: true });
    const { status, stderr } = spawnSync("/bin/cp", ["-a", from, to], { encoding: "utf8" });
    if (status !== 0) throw new Error(stderr);
  };
  const stopped = async (work: () => void) => {
    await pg.stop();
    work();
    await pg.restart();
  };
  return {
    pg,
    admin,
    seed: createSeeds(admin),
    readerUrl: reader,
    backUp: () => stopped(() => copy(data, `${data}-copy`)),
    putBack: () => stopped(() => copy(`${data}-copy`, data)),
    [Symbol.asyncDispose]: async () => {
      await admin.end({ timeout: 1 });
      await pg.remove();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** The pipeline, reading from this source. Its own `source` and `seed` stand idle. */
export function pipelineFrom({ readerUrl }: OwnSource, env: Record<string, string> = {}): Promise<Pipeline> {
  return createPipeline({ env: { ...env, SOURCE_DB_URL: readerUrl } });
}

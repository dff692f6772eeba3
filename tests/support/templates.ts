import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { basename, resolve } from "node:path";
import { createLegacySchema } from "../../clinic/dataset/schema.ts";
import { TARGET_SERVER, type PlatformOptions, type TargetVersion } from "../../local/platform.ts";
import { startPostgres, type LocalPostgres } from "../../local/postgres.ts";
import type { ServerPackage } from "../../local/postgres-files.ts";
import { commandLine } from "../../local/processes.ts";
import { prepareSource, prepareSupabase, TARGET_DATABASE } from "../../local/target/supabase.ts";
import { LOCAL } from "./scratch.ts";

// Nothing writes but the tests themselves.
export const SETTINGS = { fsync: "off", autovacuum: "off" };
const DATABASES = { source: "source_template", target: "target_template" };

/** The folder of a stopped server, PostgreSQL 17, that has a template of each side. */
export const databaseTemplates = (): Promise<string> =>
  madeOnce({
    name: "templates",
    make: async (pg) => {
      await prepareSupabase(pg, { database: DATABASES.target });
      const { owner } = await prepareSource(pg, { database: DATABASES.source });
      await createLegacySchema(owner);
    },
  });

/** The servers that a platform whose target has this version begins with. */
export async function platformTemplates(version: TargetVersion): Promise<Required<PlatformOptions>["copyOf"]> {
  const folder = await databaseTemplates();
  return {
    source: { folder, database: DATABASES.source },
    target: version === 17 ? { folder, database: DATABASES.target } : { folder: await targetOn15(), database: TARGET_DATABASE },
  };
}

/** Of a target with pg_cron, whose jobs know the name of their database: none can be renamed. */
const targetOn15 = (): Promise<string> =>
  madeOnce({
    name: "target-15",
    ...TARGET_SERVER[15],
    make: async (pg) => {
      await prepareSupabase(pg, { schedules: true });
    },
  });

/** What decides what is in the templates. */
const MADE_OF = [
  "migrations",
  "local/target",
  "local/net",
  "clinic/source",
  "clinic/dataset/schema.ts",
  "local/postgres.ts",
  "local/postgres-files.ts",
  "shared/entity",
  "clinic/entities",
  "clinic/target",
  "shared/operate/grants.ts",
  "shared/contract",
  "shared/sql",
  "shared/source",
  "shared/target",
  "package-lock.json",
];

interface Template {
  readonly name: string;
  readonly server?: ServerPackage;
  readonly settings?: Readonly<Record<string, string>>;
  readonly make: (pg: LocalPostgres) => Promise<void>;
}

/**
 * The folder of a stopped server: made once for what it is made of, because the migrations take longer than most test
 * files. While another process makes it, this one waits.
 */
async function madeOnce(template: Template): Promise<string> {
  const folder = resolve(LOCAL, `${template.name}-${fingerprint()}`);
  const maker = resolve(folder, "made-by");
  for (;;) {
    const by = existsSync(maker) ? readFileSync(maker, "utf8") : undefined;
    if (by === DONE) return folder;
    if (by !== undefined && commandLine(Number(by)) === undefined) rmSync(folder, { recursive: true, force: true });
    if (claims(folder, maker)) break;
    await new Promise((again) => setTimeout(again, 100));
  }
  for (const name of readdirSync(LOCAL))
    if (name.startsWith(`${template.name}-`) && name !== basename(folder))
      rmSync(resolve(LOCAL, name), { recursive: true, force: true });
  await makeServer(folder, template);
  writeFileSync(maker, DONE);
  return folder;
}

const DONE = "done";

/** @returns whether this process is the one that makes it. */
function claims(folder: string, maker: string): boolean {
  mkdirSync(folder, { recursive: true });
  try {
    writeFileSync(maker, String(process.pid), { flag: "wx" });
    return true;
  } catch (error) {
    if ((error as { code?: string }).code === "EEXIST") return false;
    throw error;
  }
}

async function makeServer(dataDir: string, { name, server, settings, make }: Template): Promise<void> {
  const pg = await startPostgres({ name, dataDir, ...(server && { server }), settings: { ...SETTINGS, ...settings } });
  try {
    await make(pg);
    await pg.stop();
  } catch (error) {
    await pg.remove();
    throw error;
  }
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

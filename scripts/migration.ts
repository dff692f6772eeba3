import { mkdtemp, rm } from "node:fs/promises";
import { readFileSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { startPostgres } from "../local/postgres.ts";
import { baseline } from "./schema/baseline.ts";
import { declaredFiles, ROOT } from "./schema/declared.ts";
import { writeObjects } from "./schema/declared-objects.ts";
import { difference, type Difference } from "./schema/difference.ts";
import { draftSql, handPart, leftToWrite, withGenerated } from "./schema/draft.ts";
import { catalogAfter, type Server } from "./schema/fresh-database.ts";
import {
  migrationFiles,
  problemsOf,
  RELEASED_FILE,
  releasedMigrations,
  sha256,
  unreleased,
  type MigrationFile,
} from "./schema/migration-files.ts";
import { setVersion } from "./schema/version.ts";

type WithServer = <T>(work: (server: Server) => Promise<T>) => Promise<T>;

/** What a run has done: the file that it wrote, and what is left for a person to write. */
export interface Written {
  readonly files?: readonly string[];
  readonly said: string;
}

/**
 * `npm run migration -- NAME` writes a migration of what differs between migrations/ and supabase/schemas/; without
 * NAME what no release has is written anew; with `--release` all migrations belong to the release of package.json
 * from now on. Beside migrations it writes what the declared schema makes, for the check of an installation
 * (schema/declared-objects.ts).
 */
export async function writeMigration(
  args: readonly string[],
  withServer: WithServer,
  root = ROOT,
  now = new Date(),
): Promise<Written> {
  const files = migrationFiles(root);
  const released = releasedMigrations(root);
  const problems = problemsOf(files, released);
  if (problems.length > 0) throw new Error(problems.join("\n"));
  if (args[0] === "--release") return release(root, files, withServer);
  if (released.length === 0) {
    if (args.length > 0)
      throw new Error("Nothing is released yet: change supabase/schemas/, then run `npm run migration` without a name.");
    return writeBaseline(root, files, withServer);
  }
  const [name] = args;
  if (name !== undefined && !/^[a-z][a-z0-9_]*$/.test(name))
    throw new Error("NAME says what changes: verb_object, in lower case.");
  const last = unreleased(files, released).at(-1);
  if (name === undefined && last === undefined)
    return { said: "Every migration is released. Name a new one: npm run migration -- NAME." };
  const hand = name === undefined && last !== undefined ? handPart(last.sql) : undefined;
  const file = last !== undefined && hand !== undefined ? last.file : `${stamp(now)}_${name ?? ""}.sql`;
  const before = files.filter((one) => hand === undefined || one !== last).map(({ sql }) => sql);
  setVersion(root, file);
  const keepVersion = () => setVersion(root, files.at(-1)?.file ?? "");
  const found = await withServer(async (server) => {
    const differs = await compare(server, [...before, ...(hand === undefined ? [] : [hand])], root);
    if (hand === undefined && isVersionAlone(differs)) keepVersion();
    await writeObjects(server, root);
    return differs;
  }).catch((error: unknown) => {
    keepVersion();
    throw error;
  });
  if (hand === undefined && isVersionAlone(found))
    return { said: "migrations/ and supabase/schemas/ are equal: there is nothing to write." };
  return write(root, file, hand === undefined ? draftSql(name ?? "", found) : withGenerated(hand, found.statements), found);
}

/** Whether nothing differs but the version that the new migration would have. */
function isVersionAlone({ statements, byHand }: Difference): boolean {
  return byHand.length === 0 && statements.every((statement) => statement.includes("FUNCTION sync.schema_version()"));
}

/** What the declared schema has otherwise than a database that was migrated so. */
async function compare(server: Server, migrations: readonly string[], root: string): Promise<Difference> {
  const migrated = await catalogAfter(server, "migrated", migrations);
  const declared = await catalogAfter(
    server,
    "declared",
    declaredFiles(root).map(({ sql }) => sql),
  );
  return difference(migrated, declared);
}

function write(root: string, file: string, sql: string, { statements, byHand }: Difference): Written {
  writeFileSync(join(root, "migrations", file), sql);
  const left = byHand.map((line) => `  ${line}\n`).join("");
  return {
    files: [file],
    said:
      `migrations/${file}: ${statements.length} statements for functions and triggers.` +
      (byHand.length === 0 ? "" : `\nLeft to you, at its beginning (then run \`npm run migration\` again):\n${left}`),
  };
}

async function writeBaseline(root: string, files: readonly MigrationFile[], withServer: WithServer): Promise<Written> {
  const first = baseline(declaredFiles(root), version(root)).map(({ file }) => file);
  const strangers = files.filter(({ file }) => !first.includes(file));
  if (strangers.length > 0)
    throw new Error(`Nothing is released yet, but migrations/ has ${strangers.map((one) => one.file).join(", ")}.`);
  setVersion(root, first.at(-1) ?? "");
  for (const { file, sql } of baseline(declaredFiles(root), version(root))) writeFileSync(join(root, "migrations", file), sql);
  await withServer((server) => writeObjects(server, root));
  return { files: first, said: `migrations/${first.join(", migrations/")}: what supabase/schemas/ says.` };
}

/** @throws Error where a migration is a draft, where the release exists already, or where the migrations do not lead to the declared schema. */
async function release(root: string, files: readonly MigrationFile[], withServer: WithServer): Promise<Written> {
  const released = releasedMigrations(root);
  const added = unreleased(files, released).map(({ file, sql }) => ({ release: version(root), file, sha256: sha256(sql) }));
  if (added.length === 0) return { said: "Every migration is released." };
  const problems = unreleased(files, released).flatMap(({ file, sql }) => leftToWrite(sql).map((left) => `${file}: ${left}`));
  if (released.some(({ release: name }) => name === version(root)))
    problems.push(`Release ${version(root)} has its migrations. Raise the version in package.json.`);
  if (problems.length > 0) throw new Error(problems.join("\n"));
  const { statements, byHand } = await withServer((server) =>
    compare(
      server,
      files.map(({ sql }) => sql),
      root,
    ),
  );
  if (statements.length + byHand.length > 0)
    throw new Error(`migrations/ and supabase/schemas/ differ. Write the step first: npm run migration -- NAME.`);
  writeFileSync(join(root, RELEASED_FILE), `${JSON.stringify([...released, ...added], undefined, 2)}\n`);
  return { said: `${added.length} migrations belong to release ${version(root)}. None of them is edited from now on.` };
}

function version(root: string): string {
  return (JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as { version: string }).version;
}

function stamp(now: Date): string {
  return now.toISOString().replace(/\D/g, "").slice(0, 14);
}

/** The embedded server, for as long as the databases are compared. */
async function withEmbedded<T>(work: (server: Server) => Promise<T>): Promise<T> {
  const folder = await mkdtemp(resolve(ROOT, ".local-schema-"));
  const pg = await startPostgres({ name: "migration", dataDir: folder, settings: { fsync: "off" } });
  try {
    return await work({
      superuserUrl: (database) => pg.superuserUrl(database),
      ownerUrl: (database) => pg.url("postgres", undefined, database),
    });
  } finally {
    await pg.remove();
    await rm(folder, { recursive: true, force: true });
  }
}

if (process.argv[1] === import.meta.filename) {
  try {
    process.stdout.write(`${(await writeMigration(process.argv.slice(2), withEmbedded)).said}\n`);
  } catch (error) {
    process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
    process.exitCode = 1;
  }
}

import { existsSync } from "node:fs";
import { mkdir, mkdtemp, rename, rm, writeFile } from "node:fs/promises";
import { basename, dirname, join, relative } from "node:path";
import type { Sql } from "postgres";
import { format, resolveConfig } from "prettier";
import type { Denied } from "../../shared/entity/denied.ts";
import { validateRegistry } from "../../shared/entity/validate-registry.ts";
import { byTable, columnsOf, targetColumns } from "../catalog.ts";
import { generateKinds } from "../generate-kinds.ts";
import { generateRegistry } from "../generate-registry.ts";
import { generatedFiles, importPath, loadInstallation, ROOT } from "../installations.ts";
import { sourceTypes, targetTypes } from "../schema-types.ts";
import { pairTables, type Chosen, type LeftTable, type Pair } from "./pair-tables.ts";
import { fileOf } from "./names.ts";
import { proposeEntity } from "./propose.ts";
import { isSecret } from "./secrets.ts";

export interface Written {
  readonly entities: readonly Pair[];
  /** Tables that became no entity, each with the reason. */
  readonly left: readonly LeftTable[];
  readonly denied: readonly string[];
  /** What has to be decided before anything starts. */
  readonly open: readonly string[];
}

/**
 * Writes an installation into a new folder: the types of both catalogs, and an entity file for each pair of tables.
 * The folder is there as a whole, or not at all.
 * @throws Error when the folder is there already: nothing of it is overwritten.
 */
export async function writeInstallation(folder: string, source: Sql, target: Sql, chosen?: Chosen): Promise<Written> {
  const refuse = () => {
    if (existsSync(folder)) throw new Error(`${relative(ROOT, folder)}/ is there already. Name another folder, or remove it.`);
  };
  refuse();
  // Beside it, so that the files find the engine from there as they will; no tool looks into folders with a dot.
  const draft = await mkdtemp(join(dirname(folder), `.${basename(folder)}-`));
  try {
    const written = await writeDraft(draft, relative(ROOT, folder), source, target, chosen);
    refuse();
    await rename(draft, folder);
    return written;
  } catch (error) {
    await rm(draft, { recursive: true, force: true });
    throw error;
  }
}

async function writeDraft(
  folder: string,
  called: string,
  source: Sql,
  target: Sql,
  chosen: Chosen | undefined,
): Promise<Written> {
  const [there, here] = [await columnsOf(source), await targetColumns(target)];
  const denied: Denied = {
    secrets: [...new Set(there.map(({ column }) => column).filter(isSecret))].sort(),
    onRequest: [],
    optedIn: {},
  };
  const sides = { source: byTable(there), target: byTable(here) };
  const { pairs, left } = pairTables(sides.source, sides.target, chosen, isSecret);
  const files = generatedFiles(folder);
  for (const part of ["entities", "schema"]) await mkdir(join(folder, part), { recursive: true });
  const write = async (path: string, text: string) =>
    writeFile(path, await format(text, { ...(await resolveConfig(import.meta.filename)), parser: "typescript" }));
  await writeFile(files.sourceTypes, await sourceTypes(source, denied));
  await writeFile(files.targetTypes, await targetTypes(target));
  await write(join(folder, "denied.ts"), deniedFile(denied, called));
  await write(join(folder, "entities/define-entity.ts"), defineEntityFile(folder));
  await write(join(folder, "installation.ts"), installationFile(folder));
  for (const pair of pairs)
    await write(join(folder, "entities", `${fileOf(pair.name)}.ts`), proposeEntity(pair, { ...sides, pairs, denied }));
  await writeFile(files.registry, await generateRegistry(join(folder, "entities")));
  await writeFile(files.kinds, await generateKinds(folder, []));
  const { entities } = await loadInstallation(folder);
  await writeFile(files.kinds, await generateKinds(folder, entities));
  return { entities: pairs, left, denied: denied.secrets, open: validateRegistry(entities, denied) };
}

function deniedFile({ secrets }: Denied, called: string): string {
  return `/**
 * Columns that stay in the source, by their names in whatever table: look whether these are all. After a change:
 * \`npm run schema:types -- ${called} --env-file ../databases.env && npm run generate\`, with the file that init had.
 */
export const denied = {
  secrets: ${JSON.stringify(secrets)},
  /** Columns that leave the source only where \`optedIn\` says why; then fields that read them must be sensitive. */
  onRequest: [],
  optedIn: {},
} as const;
`;
}

function defineEntityFile(folder: string): string {
  const shared = importPath(join(folder, "entities"), join(ROOT, "shared/entity/define-entity.ts"));
  return `// What the entity files of this folder are written with: the engine's tools, checked against the two catalogs of this installation.
import { entityDefiner } from "${shared}";
import type { denied } from "../denied.ts";
import type { SourceTables } from "../schema/source-tables.gen.ts";
import type { TargetTables } from "../schema/target-tables.gen.ts";

export * from "${shared}";

/** Entity name → its driving table in the source and its table in the target. Every entity file adds its own line. */
// eslint-disable-next-line @typescript-eslint/no-empty-object-type -- filled by declaration merging
export interface Entities {}

export const defineEntity = entityDefiner<{
  source: SourceTables;
  target: TargetTables;
  entities: Entities;
  denied: (typeof denied)["secrets" | "onRequest"][number];
}>();
`;
}

function installationFile(folder: string): string {
  return `// The installation as the engine sees it. What is here, the functions carry.
import type { Installation } from "${importPath(folder, join(ROOT, "shared/entity/installation.ts"))}";
import { denied } from "./denied.ts";
import { codeHashes, registry } from "./entities/registry.gen.ts";
import { besideColumns, sourceKinds, targetKinds } from "./schema/column-kinds.gen.ts";

export const installation: Installation = {
  entities: registry,
  codeHashes,
  columns: { source: sourceKinds, target: targetKinds, beside: besideColumns },
  denied,
};
`;
}

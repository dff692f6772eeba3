import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join, relative, resolve, sep } from "node:path";
import { pathToFileURL } from "node:url";
import type { Installation } from "../shared/entity/installation.ts";

export const ROOT = resolve(import.meta.dirname, "..");
export const CONFIG_FILE = join(ROOT, "isthmus.json");

/** The files of an installation that are generated. */
export function generatedFiles(folder: string) {
  return {
    registry: join(folder, "entities/registry.gen.ts"),
    kinds: join(folder, "schema/column-kinds.gen.ts"),
    sourceTypes: join(folder, "schema/source-tables.gen.ts"),
    targetTypes: join(folder, "schema/target-tables.gen.ts"),
  };
}

/**
 * The folder that isthmus.json names: what the functions are deployed with. @throws Error when it is no installation.
 */
export function configuredFolder(file = CONFIG_FILE): string {
  const { installation } = JSON.parse(readFileSync(file, "utf8")) as { readonly installation?: unknown };
  const folder = typeof installation === "string" ? resolve(ROOT, installation) : ROOT;
  if (folder !== ROOT && existsSync(join(folder, "installation.ts"))) return folder;
  throw new Error(
    `${relative(ROOT, file)} must name a folder that holds an installation.ts, as {"installation": "clinic"} does.`,
  );
}

/** Every installation of the repository: a folder with an installation.ts, at its root or in examples/. */
export function installationFolders(): string[] {
  const examples = join(ROOT, "examples");
  return [ROOT, ...(existsSync(examples) ? [examples] : [])]
    .flatMap((parent) => readdirSync(parent, { withFileTypes: true }).map((entry) => ({ parent, entry })))
    .filter(({ entry }) => entry.isDirectory() && !entry.name.startsWith(".") && entry.name !== "node_modules")
    .map(({ parent, entry }) => join(parent, entry.name))
    .filter((folder) => existsSync(join(folder, "installation.ts")))
    .sort();
}

/** Loads an installation as the functions have it. */
export async function loadInstallation(folder: string): Promise<Installation> {
  const module = (await import(pathToFileURL(join(folder, "installation.ts")).href)) as { readonly installation: Installation };
  return module.installation;
}

/** How a file in `from` imports `to`. */
export function importPath(from: string, to: string): string {
  const path = relative(from, to).split(sep).join("/");
  return path.startsWith(".") ? path : `./${path}`;
}

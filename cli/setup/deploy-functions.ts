import { readdirSync, readFileSync } from "node:fs";
import { join, relative, sep } from "node:path";
import { INSTALLATION_FOLDER } from "../../functions/installation.gen.ts";
import type { Setup } from "./context.ts";
import { PROJECT_ROOT } from "./project-root.ts";
import { appliedMigrations, note, RELEASE, sha256 } from "./schema-history.ts";
import { Problem } from "../problem.ts";
import { supabase } from "./supabase-cli.ts";
import type { Step } from "./step.ts";

export const FUNCTIONS = ["sync-page", "sync-tick", "sync-trigger"] as const;

/** The three functions, bundled on the platform's side. Functions of the application stay as they are. */
export const deployFunctions: Step<Setup> = {
  title: "functions",
  async look(setup) {
    const deployed = (await setup.api.functions()).filter(({ status }) => status === "ACTIVE").map(({ slug }) => slug);
    const missing = FUNCTIONS.filter((name) => !deployed.includes(name));
    if (missing.length < FUNCTIONS.length && (await appliedMigrations(setup.owner)) === undefined) {
      const taken = FUNCTIONS.filter((name) => deployed.includes(name)).join(", ");
      throw new Problem(
        "NAME_TAKEN",
        `The application has functions of these names: ${taken}.`,
        "Rename them, or install into another project.",
      );
    }
    if (missing.length > 0) return { state: "due", text: `deploy ${missing.join(", ")}` };
    const last = await lastDeployment(setup);
    if (last?.digest !== sourcesDigest()) return { state: "due", text: `deploy these sources (release ${RELEASE})` };
    if (!last.whole) return { state: "due", text: "deploy anew: secrets were set since" };
    return { state: "done", text: `${FUNCTIONS.join(", ")} run these sources` };
  },
  act: deploy,
};

export async function deploy({ api, cliEnv, owner }: Setup): Promise<void> {
  try {
    await supabase(["functions", "deploy", "--use-api", "--yes", `--remote=${api.ref}`], cliEnv());
  } catch (error) {
    throw cliProblem("The functions could not be deployed", error);
  }
  await note(owner, "functions", RELEASE, FUNCTIONS.join(", "), sourcesDigest());
}

/**
 * Sets secrets, then deploys: an isolate that runs keeps what it began with. Until that is done a deployment is noted
 * as outstanding, so that a run which is broken off in between is finished by the next.
 */
export async function teachFunctions(setup: Setup, secrets: Readonly<Record<string, string>>): Promise<void> {
  await note(setup.owner, "functions", RELEASE, "secrets are set, to be deployed", null);
  await setup.api.setSecrets(secrets);
  await deploy(setup);
}

export async function areDeployed({ api }: Setup): Promise<boolean> {
  const slugs = (await api.functions()).map(({ slug }) => slug);
  return FUNCTIONS.every((name) => slugs.includes(name));
}

/** What the CLI prints of a deployment: names of files and functions, and what the platform answered. */
export function cliProblem(what: string, error: unknown): Problem {
  const said = error instanceof Error ? error.message.trim().split("\n").slice(-3).join(" ") : String(error);
  return new Problem("PLATFORM_ERROR", `${what}: ${said}`, "Run the command again; what was done stays done.", { cause: error });
}

/** What was deployed last. */
export interface Deployment {
  /** Of its sources; null where none is noted. */
  readonly digest: string | null;
  /** No secret was set since. */
  readonly whole: boolean;
}

/** @returns undefined where nothing of ours is. */
export async function lastDeployment({ owner }: Setup): Promise<Deployment | undefined> {
  if ((await appliedMigrations(owner)) === undefined) return undefined;
  const [row] = await owner<Deployment[]>`
    select (pg_catalog.array_agg(sha256 order by id desc) filter (where sha256 is not null))[1] as digest, (pg_catalog.array_agg(sha256 order by id desc))[1] is not null as whole
      from sync.installed where part = 'functions'`;
  return row;
}

/** Every file that a function can be made of. */
export function sourceFiles(): string[] {
  return [...filesBelow("functions"), ...filesBelow("shared"), ...installedFiles()];
}

/** The code of an installation, in whatever file an entity may import; what is for local databases and the demo stays on this machine. */
export function installedFiles(folder = INSTALLATION_FOLDER, root = PROJECT_ROOT): string[] {
  return filesBelow(folder, root).filter((file) => {
    const [part = ""] = relative(folder, file).split(sep);
    return /\.[jt]s(on)?$/.test(file) && !["dataset", "demo.ts", "source", "target"].includes(part);
  });
}

function filesBelow(path: string, root = PROJECT_ROOT): string[] {
  return readdirSync(join(root, path), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => relative(root, join(entry.parentPath, entry.name)));
}

/** A digest over all of them. */
export function sourcesDigest(): string {
  const parts = sourceFiles()
    .sort()
    .map((file) => `/${file}\n${sha256(readFileSync(join(PROJECT_ROOT, file), "utf8"))}\n`);
  return sha256(parts.join("") + readFileSync(join(PROJECT_ROOT, "supabase/config.toml"), "utf8"));
}

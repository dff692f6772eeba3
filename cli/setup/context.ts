import { relative, resolve } from "node:path";
import type postgres from "postgres";
import { databaseAddress, projectOfDatabase, projectOfHost } from "../../shared/db/address.ts";
import { openClient } from "../../shared/db/connect.ts";
import { INSTALLATION_FOLDER, installation } from "../../functions/installation.gen.ts";
import type { Entity } from "../../shared/entity/define-entity.ts";
import type { Installation } from "../../shared/entity/installation.ts";
import { connectionTo } from "../connection.ts";
import { Problem } from "../problem.ts";
import { required, withEnvFile, type Environment } from "../settings.ts";
import { putVariables, removeDraft, writeTemplate } from "./env-file.ts";
import { managementApi, type ManagementApi } from "./management-api.ts";
import { abandoningWhatIsLost } from "./lost-transaction.ts";
import { PROJECT_ROOT } from "./project-root.ts";

/** What the steps of an installation work with. */
export interface Setup {
  readonly envFile: string;
  /** The variables as they are now: of the file, below those that are exported. */
  readonly env: () => Environment;
  /** Adds variables to the file. */
  readonly keep: (values: Readonly<Record<string, string>>) => void;
  readonly api: ManagementApi;
  /** The target as the owner of its tables. Nothing is pinned: migrations run as they would by any other tool. */
  readonly owner: postgres.Sql;
  /** The whole of what is synced. */
  readonly installation: Installation;
  readonly entities: readonly Entity[];
  /** Entities were named, and are not simply all. */
  readonly chosen: boolean;
  readonly upgrade: boolean;
  /** Another client of the same role, for what has to stand while `owner` works. */
  readonly anotherOwner: () => postgres.Sql;
  /** What the CLI needs besides the network. */
  readonly cliEnv: () => Readonly<Record<string, string>>;
}

export interface SetupOptions {
  readonly envFile: string | undefined;
  readonly entities?: readonly string[];
  readonly upgrade?: boolean;
  /** Told of what a killed run had left, and is gone now. */
  readonly tell?: (text: string) => void;
}

const OWNER = "It is the project's database as postgres (Connect, Session pooler).";

/** Reads the file, opens what steps work with, and closes it behind them. @throws Problem, exit code 2, naming what is missing. */
export async function withSetup<T>(given: Environment, options: SetupOptions, work: (setup: Setup) => Promise<T>): Promise<T> {
  const { envFile } = options;
  if (envFile === undefined) {
    throw new Problem(
      "CONFIG_INVALID",
      "setup keeps what it needs, and what it makes, in a file.",
      "Name one outside the repository: --env-file ../isthmus.env. It is written for you if there is none.",
      { exitCode: 2 },
    );
  }
  if (!relative(PROJECT_ROOT, resolve(envFile)).startsWith("..")) {
    throw new Problem(
      "CONFIG_INVALID",
      `${envFile} stands in the repository, and holds secrets.`,
      "Name a file outside: --env-file ../isthmus.env.",
      { exitCode: 2 },
    );
  }
  if (writeTemplate(envFile)) {
    throw new Problem(
      "CONFIG_INVALID",
      `${envFile} was written.`,
      "Fill it in, then run the command again. Nothing else was done.",
      { exitCode: 2 },
    );
  }
  const left = removeDraft(envFile);
  if (left !== undefined) options.tell?.(`Removed ${left}: a run that was killed left it behind, with secrets in it.\n`);
  const env = () => withEnvFile(given, envFile);
  const ref = projectRef(env());
  const api = managementApi(
    ref,
    required(env(), "SUPABASE_ACCESS_TOKEN", "It is made on the dashboard (Account, Access Tokens)."),
    present(env()["SUPABASE_API_URL"]),
  );
  refuseOthers(given, envFile);
  refuseStrangers(ref, env());
  const owner = openOwner(env());
  try {
    return await work({
      envFile,
      env,
      keep: (values) => putVariables(envFile, values),
      api,
      owner,
      anotherOwner: () => openOwner(env()),
      installation,
      entities: chosenEntities(options.entities ?? []),
      chosen: (options.entities ?? []).length > 0,
      upgrade: options.upgrade ?? false,
      cliEnv: () => {
        const profile = present(env()["SUPABASE_PROFILE"]);
        return {
          SUPABASE_ACCESS_TOKEN: env()["SUPABASE_ACCESS_TOKEN"] ?? "",
          ...(profile === undefined ? {} : { SUPABASE_PROFILE: profile }),
        };
      },
    });
  } finally {
    await owner.end({ timeout: 5 });
  }
}

/**
 * What setup itself writes into the file: an exported value would win over the file's next one. And the source, which
 * another command may have been given as somebody with all rights: the functions would get that.
 */
const KEPT = [
  "SOURCE_DB_URL",
  ...["TARGET_DB_URL", "ISTHMUS_API_KEY", "QSTASH_CURRENT_SIGNING_KEY", "QSTASH_NEXT_SIGNING_KEY"],
  ...["ISTHMUS_MADE_SECRETS", "ISTHMUS_MADE_KEYS"],
];

function refuseOthers(given: Environment, envFile: string): void {
  const ofFile = withEnvFile({}, envFile);
  const others = KEPT.filter((name) => present(given[name]) !== undefined && given[name] !== ofFile[name]);
  if (others.length === 0) return;
  throw new Problem(
    "CONFIG_INVALID",
    `${others.join(", ")}: exported, and not what ${envFile} has.`,
    "Unset what is exported, or put it into the file: the functions get what the file has.",
    { exitCode: 2 },
  );
}

/** Functions of one project and the database of another: what is deleted in the one would be dropped in the other. */
function refuseStrangers(ref: string, env: Environment): void {
  for (const name of ["TARGET_OWNER_URL", "TARGET_DB_URL"]) {
    const url = present(env[name]);
    if (url === undefined || !URL.canParse(url)) continue;
    const other = projectOfDatabase(databaseAddress(url));
    if (other === undefined || other === ref) continue;
    throw new Problem(
      "CONFIG_INVALID",
      `${name} leads to another project than SUPABASE_URL.`,
      "Correct whichever is wrong. Nothing was done.",
      {
        exitCode: 2,
      },
    );
  }
}

export function present(value: string | undefined): string | undefined {
  return value === undefined || value === "" ? undefined : value;
}

function projectRef(env: Environment): string {
  const url = required(env, "SUPABASE_URL", "It is https://<project ref>.supabase.co.");
  const host = /^https:\/\/([^/]+)\/?$/.exec(url)?.[1];
  const ref = (host === undefined ? undefined : projectOfHost(host)) ?? present(env["SUPABASE_PROJECT_REF"]);
  if (ref !== undefined) return ref;
  throw new Problem(
    "CONFIG_INVALID",
    "SUPABASE_URL does not name a project.",
    "Write https://<project ref>.supabase.co; with a custom domain set SUPABASE_PROJECT_REF too.",
    { exitCode: 2 },
  );
}

function openOwner(env: Environment): postgres.Sql {
  const options = { ...connectionTo(env, "target", "TARGET_OWNER_URL", OWNER), applicationName: "isthmus-setup" };
  return abandoningWhatIsLost((onclose) => openClient(options, onclose).sql);
}

function chosenEntities(names: readonly string[]): readonly Entity[] {
  const unknown = names.filter((name) => !installation.entities.some((entity) => entity.name === name));
  if (unknown.length > 0) {
    throw new Problem(
      "REQUEST_INVALID",
      `There is no entity ${unknown.join(", ")}.`,
      `${INSTALLATION_FOLDER}/entities holds one file for each.`,
      { exitCode: 2 },
    );
  }
  const { entities } = installation;
  return names.length === 0 ? entities : entities.filter((entity) => names.includes(entity.name));
}

import { connect } from "../../shared/db/connect.ts";
import { INSTALLATION_FOLDER } from "../../functions/installation.gen.ts";
import { queryOne } from "../../shared/db/query.ts";
import { validateRegistry } from "../../shared/entity/validate-registry.ts";
import { reasonOf } from "../../shared/net-reason.ts";
import { connectionTo } from "../connection.ts";
import { Problem } from "../problem.ts";
import { present, type Setup } from "./context.ts";
import { difference } from "./apply-schema.ts";
import { lastDeployment, sourcesDigest } from "./deploy-functions.ts";
import { appliedMigrations, RELEASE } from "./schema-history.ts";
import type { Step } from "./step.ts";

const OLDEST_TARGET = 15;
const OLDEST_SOURCE = 12;

/** The entity files say what the functions can work with: what these would refuse at their start is told before anything is made. */
export const lookAtEntities: Step<Setup> = {
  title: "entities",
  look: ({ installation: { entities, denied } }) => {
    const problems = validateRegistry(entities, denied);
    if (problems.length === 0) return Promise.resolve({ state: "done", text: `${entities.length} of ${INSTALLATION_FOLDER}/` });
    const text = problems.map((problem) => `\n    ${problem}`).join("");
    throw new Problem(
      "ENTITIES_INVALID",
      `${INSTALLATION_FOLDER}/ is not ready (${problems.length}):${text}`,
      "Mend the entity files, then run npm run generate && npm run typecheck, and the command again.",
    );
  },
};

/** The project answers to the access token, and is awake. */
export const lookAtProject: Step<Setup> = {
  title: "project",
  async look({ api }) {
    const { name, region, status } = await api.project();
    if (status !== "ACTIVE_HEALTHY" && status !== "ACTIVE_UNHEALTHY")
      throw new Problem("PROJECT_ASLEEP", `The project is ${status}.`, "Resume it on the dashboard, then run the command again.");
    return { state: "done", text: `${name} (${api.ref}${region === undefined ? "" : `, ${region}`})` };
  },
};

/** What goes on from an installation needs one. */
export const lookAtInstallation: Step<Setup> = {
  title: "installation",
  async look(setup) {
    const applied = await appliedMigrations(setup.owner);
    if (!(applied instanceof Map) || applied.size === 0 || present(setup.env()["ISTHMUS_API_KEY"]) === undefined)
      throw new Problem(
        "NOT_INSTALLED",
        "There is no whole installation in this project.",
        "Run setup without this option first.",
      );
    const { pending } = await difference(setup);
    // These sources are deployed again: those of another release would meet migrations that they do not know.
    if (pending.length > 0 || (await lastDeployment(setup))?.digest !== sourcesDigest())
      throw new Problem(
        "OTHER_RELEASE",
        "These are not the sources that are installed.",
        "Run setup --upgrade first, or check out the release that is installed.",
      );
    return { state: "done", text: `release ${RELEASE}, ${applied.size} migrations` };
  },
};

/** The target can be reached as the owner of its tables, is new enough, and lets that role do what an installation needs. */
export const lookAtTarget: Step<Setup> = {
  title: "target",
  async look({ owner }) {
    const [facts] = await owner<
      { role: string; version: number; creates: boolean; roles: boolean; standby: boolean; tables: number; history: boolean }[]
    >`
      select current_user as role, current_setting('server_version_num')::int / 10000 as version, pg_is_in_recovery() as standby,
             has_schema_privilege('public', 'create') and has_database_privilege(current_database(), 'create') as creates,
             (select rolcreaterole or rolsuper from pg_roles where rolname = current_user) as roles,
             (select count(*)::int from pg_class where relnamespace = 'public'::regnamespace and relkind in ('r', 'p')) as tables,
             to_regclass('supabase_migrations.schema_migrations') is not null as history`.catch((error: unknown) => {
      throw unreachable("TARGET_OWNER_URL", error);
    });
    if (!facts) throw new Problem("TARGET_UNAVAILABLE", "The target does not answer.", "Check TARGET_OWNER_URL.");
    if (facts.version < OLDEST_TARGET)
      throw new Problem(
        "TARGET_TOO_OLD",
        `The target is PostgreSQL ${facts.version}.`,
        `Upgrade the project to ${OLDEST_TARGET} or later.`,
      );
    if (facts.standby || !facts.creates || !facts.roles)
      throw new Problem(
        "TARGET_READ_ONLY",
        `${facts.role} may not create schemas and roles there.`,
        "TARGET_OWNER_URL is the primary database as postgres.",
      );
    const own = facts.history ? await ownMigrations(owner) : 0;
    return {
      state: "done",
      text: `PostgreSQL ${facts.version} as ${facts.role}: ${facts.tables} tables in public, ${own} migrations of the application, which stay as they are`,
    };
  },
};

async function ownMigrations(owner: Setup["owner"]): Promise<number> {
  const [row] = await owner<{ n: number }[]>`select count(*)::int as n from supabase_migrations.schema_migrations`;
  return row?.n ?? 0;
}

/** The source, as this machine sees it. What counts is whether the functions reach it: the last step asks them. */
export const lookAtSource: Step<Setup> = {
  title: "source",
  async look({ env }) {
    if (present(env()["SOURCE_DB_URL"]) === undefined) {
      return {
        state: "person",
        text: "SOURCE_DB_URL is not set",
        actions: [
          "Have the owner of the source make a role that reads, and let the functions reach it (docs/deployment.md, sections 3 and 4):\n     npm run --silent sync -- setup-source > setup-source.sql\n     Then put SOURCE_DB_URL into the file, and run setup again.",
        ],
      };
    }
    const source = connect(
      connectionTo(env(), "source", "SOURCE_DB_URL", "The role reads; it is postgres://role:password@host:5432/database."),
    );
    try {
      const { version } = await queryOne<{ version: number }>(
        source,
        "source",
        "select current_setting('server_version_num')::int / 10000 as version",
      );
      if (version < OLDEST_SOURCE)
        throw new Problem("SOURCE_TOO_OLD", `The source is PostgreSQL ${version}.`, `It has to be ${OLDEST_SOURCE} or later.`);
      return { state: "done", text: `PostgreSQL ${version} answers this machine` };
    } catch (error) {
      if (error instanceof Problem) throw error;
      return { state: "done", text: `does not answer this machine (${reasonOf(error)}); the functions are asked below` };
    } finally {
      await source.end({ timeout: 5 });
    }
  },
};

function unreachable(variable: string, error: unknown): Problem {
  const { code } = error as { code?: string };
  const reason = code === "28P01" || code === "28000" ? "password or role refused" : (code ?? reasonOf(error));
  return new Problem(
    "TARGET_UNAVAILABLE",
    `${variable} leads to no database that answers (${reason}).`,
    "Check host, port and password (Connect, Session pooler); write special characters of the password as %XX.",
    { cause: error },
  );
}

import { CONFIG_NAMES, REQUIRED_NAMES } from "../../shared/config.ts";
import { Problem } from "../problem.ts";
import { present, type Setup } from "./context.ts";
import { areDeployed, teachFunctions } from "./deploy-functions.ts";
import { made, noteMade } from "./made.ts";
import { appliedMigrations, sha256 } from "./schema-history.ts";
import type { Step } from "./step.ts";

/** The functions' configuration, as the file has it. Variables that begin with SUPABASE_ are the platform's. */
export const setSecrets: Step<Setup> = {
  title: "secrets",
  async look(setup) {
    const open = await unset(setup);
    await refuseTaken(setup, open);
    const due = [...open, ...(present(setup.env()["TARGET_DB_URL"]) === undefined ? ["TARGET_DB_URL"] : [])];
    if (due.length > 0) return { state: "due", text: `set ${due.join(", ")}` };
    const missing = missingNames(setup);
    if (missing.length === 0) return { state: "done", text: `${Object.keys(wantedSecrets(setup)).length} are set` };
    // How to come by these, earlier steps have said; the signing keys are asked of QStash.
    const told = missing.filter((name) => name !== "SOURCE_DB_URL" && !name.startsWith("QSTASH_"));
    return {
      state: "person",
      text: `${missing.join(", ")} are still missing`,
      actions: told.length === 0 ? [] : [`Put ${told.join(", ")} into the file, then run setup again.`],
    };
  },
  async act(setup) {
    const wanted = wantedSecrets(setup);
    const [open, known] = [await unset(setup), await setup.api.secrets()];
    // What stands there with the same value, or stood there before, others use too: only what was not there is ours
    // to take away again.
    noteMade(
      setup,
      "secrets",
      open.filter((name) => !known.has(name)),
    );
    const secrets = Object.fromEntries(open.map((name) => [name, wanted[name] ?? ""]));
    await ((await areDeployed(setup)) ? teachFunctions(setup, secrets) : setup.api.setSecrets(secrets));
  },
};

/** Required variables that the file does not have. */
export function missingNames({ env }: Setup): readonly string[] {
  return REQUIRED_NAMES.filter((name) => !name.startsWith("SUPABASE_") && present(env()[name]) === undefined);
}

export function wantedSecrets({ env }: Setup): Readonly<Record<string, string>> {
  return Object.fromEntries(
    CONFIG_NAMES.filter((name) => !name.startsWith("SUPABASE_")).flatMap((name) => {
      const value = present(env()[name]);
      return value === undefined ? [] : [[name, value]];
    }),
  );
}

/** Of this file, those that are not set, or set to something else. The platform tells of each its SHA-256 alone. */
async function unset(setup: Setup): Promise<readonly string[]> {
  const wanted = wantedSecrets(setup);
  const known = await setup.api.secrets();
  return Object.keys(wanted).filter((name) => known.get(name) !== sha256(wanted[name] ?? ""));
}

/**
 * @throws Problem where others have set secrets of these names to something else: all of them in a project in which
 * nothing of ours is, and later those that setup has not noted, if it has noted any.
 */
async function refuseTaken(setup: Setup, open: readonly string[]): Promise<void> {
  const [known, noted] = [await setup.api.secrets(), made(setup, "secrets")];
  const taken = open.filter((name) => known.has(name) && !noted.includes(name));
  if (taken.length === 0 || (noted.length === 0 && (await appliedMigrations(setup.owner)) !== undefined)) return;
  throw new Problem(
    "NAME_TAKEN",
    `The application's functions have secrets of these names, with other values: ${taken.join(", ")}.`,
    "Put the same values into the file, if both are to share them; or install into another project. A secret that is replaced cannot be read back.",
  );
}

import { dirname, join } from "node:path";
import type { Command } from "commander";
import type { Terminal } from "../output.ts";
import { applySchema } from "./apply-schema.ts";
import { askFunctions } from "./ask-functions.ts";
import { withSetup, type Setup, type SetupOptions } from "./context.ts";
import { deployFunctions } from "./deploy-functions.ts";
import { GO_LIVE } from "./go-live.ts";
import { grantRights } from "./grant-rights.ts";
import { lookAtEntities, lookAtInstallation, lookAtProject, lookAtSource, lookAtTarget } from "./look-around.ts";
import { metricsToken } from "./metrics-token.ts";
import { lookAtQueue } from "./queue-and-cache.ts";
import { ROTATE_KEYS, ROTATE_SIGNING_KEYS } from "./rotate-keys.ts";
import { fillVault, scheduler, scheduleTicks, tickJobs, TICK } from "./schedule-ticks.ts";
import { secretKey } from "./secret-key.ts";
import { setSecrets } from "./set-secrets.ts";
import { lookAt, perform, type Seen, type Step } from "./step.ts";
import { uninstallSteps } from "./uninstall.ts";
import { workerLogin } from "./worker-login.ts";

/** An installation, from what it finds to what it leaves to a person. The order is that in which parts need each other. */
export const SETUP: readonly Step<Setup>[] = [
  lookAtEntities,
  lookAtProject,
  lookAtTarget,
  lookAtSource,
  lookAtQueue,
  applySchema,
  workerLogin,
  grantRights,
  secretKey,
  metricsToken,
  setSecrets,
  deployFunctions,
  fillVault,
  scheduleTicks,
  askFunctions,
];

interface Surroundings {
  readonly terminal: Terminal;
  readonly options: () => { envFile?: string; json?: boolean };
  readonly print: (value: unknown, text: string) => void;
  readonly exitWith: (code: 1) => void;
}

/** Adds setup and uninstall to the program. */
export function addSetupCommands(program: Command, { terminal, options, print, exitWith }: Surroundings): void {
  /** Looks at every part before it touches the first; asks, unless told not to; does what is due. @returns what every step then found. */
  const run = async (steps: readonly Step<Setup>[], setup: Setup, yes = false) => {
    const silent: Terminal = { ...terminal, err: () => undefined };
    const shown = options().json === true ? silent : terminal;
    if (!yes) shown.err("Looking, and changing nothing:\n");
    const seen = await lookAt(steps, setup, yes ? silent : shown);
    const due = seen.some(({ found }) => found.state === "due");
    if (due && !yes && !(await agreed(terminal))) return { seen, done: false };
    return { seen: due || yes ? await perform(steps, setup, shown) : seen, done: true };
  };
  const given = (more: Omit<SetupOptions, "envFile"> = {}): SetupOptions => ({
    envFile: options().envFile,
    tell: (text) => terminal.err(text),
    ...more,
  });

  program
    .command("setup")
    .description("install into a Supabase project, for all or the named entities: shows what it would do, then asks")
    .argument("[entities...]")
    .option("--yes", "do it without asking")
    .option("--upgrade", "bring an installation to this release")
    .option("--go-live", "have an installation begin: schedule and job")
    .option("--rotate-keys", "give an installation a new secret key, password and metrics token, with no failed tick in between")
    .option("--rotate-signing-keys", "roll the signing keys of the QStash account")
    .action(async (entities: string[], chosen: Chosen) => {
      const later = laterSteps(chosen);
      const steps = later === undefined ? SETUP : [lookAtInstallation, ...later];
      await withSetup(terminal.env, given({ entities, upgrade: chosen.upgrade ?? false }), async (setup) => {
        const { seen, done } = await run(steps, setup, chosen.yes);
        const actions = steps === SETUP && done ? leftToDo(seen, await isLive(setup), setup.envFile) : [];
        print({ done, steps: seen, actions }, done ? leftText(actions) : NOT_DONE);
        if (seen.some(({ found }) => found.state === "person")) exitWith(1);
      });
    });

  program
    .command("uninstall")
    .description("take an installation back, and leave the application's rows as they are: shows what it would do, then asks")
    .option("--yes", "do it without asking")
    .option(
      "--backup <file>",
      "where the mappings are written before they go; default: isthmus-mappings.csv beside the file of variables",
    )
    .action(async ({ yes, backup: named }: { yes?: boolean; backup?: string }) => {
      await withSetup(terminal.env, given(), async (setup) => {
        const backup = named ?? join(dirname(setup.envFile), "isthmus-mappings.csv");
        const { seen, done } = await run(uninstallSteps(backup), setup, yes);
        print(
          { done, steps: seen },
          done ? "The application's rows, its ids and pg_cron, pg_net and Vault stay as they are.\n" : NOT_DONE,
        );
      });
    });
}

interface Chosen {
  readonly yes?: boolean;
  readonly upgrade?: boolean;
  readonly goLive?: boolean;
  readonly rotateKeys?: boolean;
  readonly rotateSigningKeys?: boolean;
}

function laterSteps({ goLive, rotateKeys, rotateSigningKeys }: Chosen): readonly Step<Setup>[] | undefined {
  if (goLive === true) return GO_LIVE;
  if (rotateKeys === true) return ROTATE_KEYS;
  return rotateSigningKeys === true ? ROTATE_SIGNING_KEYS : undefined;
}

const NOT_DONE = "Nothing was changed. Run the command with --yes to do it.\n";

/** @returns whether a person at the terminal says yes; without a person there nobody does. */
async function agreed(terminal: Terminal): Promise<boolean> {
  return terminal.ask === undefined ? false : /^y(es)?$/i.test((await terminal.ask("Do it? [y/N] ")).trim());
}

/** Whether the scheduled calls were begun. What QStash schedules is not asked. */
async function isLive(setup: Setup): Promise<boolean> {
  return (await scheduler(setup)) === "pg_cron" && (await tickJobs(setup)).get(TICK) === true;
}

/** What only a person can do, in order: five actions at most. The last is to have it begin. */
export function leftToDo(seen: readonly Seen[], live: boolean, envFile: string): readonly string[] {
  const actions = seen.flatMap(({ found }) => (found.state === "person" ? found.actions : []));
  return live ? actions : [...actions, `Have it begin: npm run sync -- setup --go-live --env-file ${envFile}`];
}

function leftText(actions: readonly string[]): string {
  if (actions.length === 0) return "Done. Nothing is left to do.\n";
  return `Done. Left to you:\n${actions.map((action, i) => `  ${i + 1}. ${action}\n`).join("")}`;
}

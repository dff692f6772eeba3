import { existsSync, renameSync } from "node:fs";
import type postgres from "postgres";
import { installationId } from "../../shared/queue/installation.ts";
import { Problem } from "../problem.ts";
import { removeSchedule } from "../schedule.ts";
import { functionsUrl } from "../settings.ts";
import { VAULT_SECRETS } from "./alert-secrets.ts";
import { present, type Setup } from "./context.ts";
import { cliProblem, FUNCTIONS } from "./deploy-functions.ts";
import { atRest, draftOf, dropAll, isInstalled, saveAndDrop } from "./drop-ours.ts";
import { forgetMade, made } from "./made.ts";
import { JOBS } from "./schedule-ticks.ts";
import { deleteOurKeys, ourKeys } from "./secret-key.ts";
import { wantedSecrets } from "./set-secrets.ts";
import type { Step } from "./step.ts";
import { supabase } from "./supabase-cli.ts";
import { tried } from "./tried.ts";

const idle: Step<Setup> = {
  title: "executions",
  async look({ owner }) {
    if (!(await isInstalled(owner))) return { state: "done", text: "none runs" };
    const [row] = await owner<{ running: number }[]>`
      select count(*)::int as running from public.sync_executions where status = 'running' and not dry_run`;
    if (row?.running === 0) return { state: "done", text: "none runs" };
    throw new Problem(
      "SYNC_RUNNING",
      "An execution is running.",
      "Let it end, or end it: npm run sync -- cancel --all. Then run this again.",
    );
  },
};

const schedule: Step<Setup> = {
  title: "schedule",
  async look(setup) {
    const jobs = await cronJobs(setup.owner);
    if (jobs.length > 0) return { state: "due", text: `remove ${jobs.join(", ")} from pg_cron` };
    if (present(setup.env()["QSTASH_TOKEN"]) !== undefined && !qstashAsked.has(setup))
      return {
        state: "due",
        text: `remove the QStash schedule of ${installationId(functionsUrl(setup.env()))}, if there is one`,
      };
    return { state: "done", text: "nothing calls sync-tick" };
  },
  async act(setup) {
    for (const job of await cronJobs(setup.owner)) await setup.owner`select cron.unschedule(${job})`;
    if (present(setup.env()["QSTASH_TOKEN"]) === undefined) return;
    await removeSchedule(setup.env());
    qstashAsked.add(setup);
  },
};
const qstashAsked = new WeakSet<Setup>();

async function cronJobs(owner: postgres.Sql): Promise<readonly string[]> {
  const [cron] = await owner<{ present: boolean }[]>`select to_regclass('cron.job') is not null as present`;
  if (cron?.present !== true) return [];
  return (await owner<{ jobname: string }[]>`select jobname from cron.job where jobname in ${owner(JOBS)} order by 1`).map(
    ({ jobname }) => jobname,
  );
}

const functions: Step<Setup> = {
  title: "functions",
  async look({ api }) {
    const known = await deployed(api);
    return known.length === 0
      ? { state: "done", text: "none of ours is deployed" }
      : { state: "due", text: `delete ${known.join(", ")}` };
  },
  async act({ api, cliEnv }) {
    for (const name of await deployed(api)) await cli(["functions", "delete", name, "--yes", `--remote=${api.ref}`], cliEnv());
  },
};

async function deployed(api: Setup["api"]): Promise<readonly string[]> {
  const slugs = (await api.functions()).map(({ slug }) => slug);
  return FUNCTIONS.filter((name) => slugs.includes(name));
}

const secrets: Step<Setup> = {
  title: "secrets",
  async look(setup) {
    const { ours, others } = await ownSecrets(setup);
    const stay = others.length === 0 ? "" : `; ${others.join(", ")} stay: setup did not make them`;
    return ours.length === 0
      ? { state: "done", text: `none of ours is set${stay}` }
      : { state: "due", text: `unset ${ours.join(", ")}${stay}` };
  },
  async act(setup) {
    await setup.api.unsetSecrets((await ownSecrets(setup)).ours);
    forgetMade(setup, "secrets", made(setup, "secrets"));
  },
};

/** Secrets that setup has set where there were none, whatever the file says by now; and those of the file's names that others set before, and may use. */
async function ownSecrets(setup: Setup): Promise<{ ours: readonly string[]; others: readonly string[] }> {
  const [known, noted] = [await setup.api.secrets(), made(setup, "secrets")];
  return {
    ours: noted.filter((name) => known.has(name)),
    others: Object.keys(wantedSecrets(setup)).filter((name) => known.has(name) && !noted.includes(name)),
  };
}

const key: Step<Setup> = {
  title: "secret key",
  async look(setup) {
    const known = (await ourKeys(setup)).map(({ name }) => name);
    return known.length === 0
      ? { state: "done", text: "none that setup made" }
      : { state: "due", text: `delete ${known.join(", ")}` };
  },
  async act(setup) {
    await deleteOurKeys(setup);
  },
};

const vault: Step<Setup> = {
  title: "Vault",
  async look({ owner }) {
    const known = await vaultNames(owner);
    return known.length === 0
      ? { state: "done", text: "holds nothing of ours" }
      : { state: "due", text: `delete ${known.join(", ")}` };
  },
  async act({ owner }) {
    await owner`delete from vault.secrets where name in ${owner(VAULT_SECRETS)}`;
  },
};

async function vaultNames(owner: postgres.Sql): Promise<readonly string[]> {
  const [row] = await owner<{ present: boolean }[]>`select to_regclass('vault.secrets') is not null as present`;
  if (row?.present !== true) return [];
  return (await owner<{ name: string }[]>`select name from vault.secrets where name in ${owner(VAULT_SECRETS)} order by 1`).map(
    ({ name }) => name,
  );
}

/** The mappings are what keeps one record at one UUID for ever, so they are written to a file before they go. */
export function uninstallSteps(backup: string): readonly Step<Setup>[] {
  const schema: Step<Setup> = {
    title: "schema",
    async look({ owner }) {
      if (!(await isInstalled(owner)))
        return isLeftOver(backup)
          ? { state: "due", text: `give the mappings that a broken-off run has written their name: ${backup}` }
          : { state: "done", text: "nothing of ours is in the database; the application's rows stay" };
      if (existsSync(backup))
        throw new Problem("FILE_EXISTS", `${backup} exists.`, "Name another file: --backup <file>.", { exitCode: 2 });
      const [row] = await owner<{ mappings: number }[]>`select count(*)::int as mappings from public.uuid_mappings_enhanced`;
      await atRest(() => tried(owner, dropAll));
      return {
        state: "due",
        text: `write ${row?.mappings.toLocaleString("en") ?? 0} mappings to ${backup}, then drop our tables, types, functions and roles (tried and taken back)`,
      };
    },
    async act({ owner }) {
      if (await isInstalled(owner)) await atRest(() => saveAndDrop(owner, backup));
      else renameSync(draftOf(backup), backup);
    },
  };
  return [idle, schedule, functions, secrets, key, vault, schema];
}

/** The drop was committed, and the run ended before the file had its name. */
function isLeftOver(backup: string): boolean {
  return existsSync(draftOf(backup)) && !existsSync(backup);
}

async function cli(args: readonly string[], env: Readonly<Record<string, string>>): Promise<void> {
  try {
    await supabase(args, env);
  } catch (error) {
    throw cliProblem(`supabase ${args.slice(0, 2).join(" ")} failed`, error);
  }
}

import { readFileSync } from "node:fs";
import { join } from "node:path";
import type postgres from "postgres";
import { redirectAdvice, redirectedAddresses, TOLD } from "../redirects.ts";
import { functionsUrl } from "../settings.ts";
import { ALERT_SECRETS, alertSecrets, VAULT_SECRETS } from "./alert-secrets.ts";
import { present, type Setup } from "./context.ts";
import { withoutLimits } from "./limits.ts";
import { PROJECT_ROOT } from "./project-root.ts";
import type { Found, Step } from "./step.ts";

export const TICK = "isthmus-sync-tick";
export const WATCH = "isthmus-watch-tick";
export const DELIVER = "isthmus-deliver-alerts";
/** What runs every minute. */
const SCHEDULED = [TICK, WATCH, DELIVER, "isthmus-remove-history"];
/** All jobs of ours, each by its name: the application may have jobs whose names begin like these. */
export const JOBS = [...SCHEDULED, "isthmus-prune-cron-history"];
const SCHEDULE = "supabase/schemas/schedule.sql";

/** What a project can schedule with. */
export async function scheduler({ owner }: Setup): Promise<"pg_cron" | "qstash"> {
  const [row] = await owner<{ complete: boolean }[]>`
    select to_regclass('cron.job') is not null and to_regclass('vault.decrypted_secrets') is not null and to_regnamespace('net') is not null as complete`;
  return row?.complete === true ? "pg_cron" : "qstash";
}

/** Address and key of the functions, where the scheduled call finds them. */
export const fillVault: Step<Setup> = {
  title: "Vault",
  async look(setup) {
    const [has] = await setup.owner<{ vault: boolean; installed: boolean }[]>`
      select to_regclass('vault.decrypted_secrets') is not null as vault, to_regnamespace('sync') is not null as installed`;
    if (has?.vault !== true)
      return (await untold(setup)) ?? { state: "done", text: "the project has none: QStash calls sync-tick" };
    const wanted = vaultSecrets(setup);
    if (wanted === undefined) return { state: "due", text: "store the functions' address and the key" };
    const rows = await setup.owner<{ name: string; value: string }[]>`
      select name, decrypted_secret as value from vault.decrypted_secrets where name in ${setup.owner(VAULT_SECRETS)}`;
    const known = new Map(rows.map(({ name, value }) => [name, value]));
    const open = Object.entries(wanted).filter(([name, value]) => known.get(name) !== value);
    if (open.length > 0) return { state: "due", text: `store ${open.map(([name]) => name).join(" and ")}` };
    const stored = { state: "done", text: "holds the functions' address and the key" + toldText(Object.keys(wanted)) } as const;
    // The migrations enable what the project has.
    return has.installed ? ((await untold(setup)) ?? stored) : stored;
  },
  async act(setup) {
    for (const [name, value] of Object.entries(vaultSecrets(setup) ?? {})) await storeSecret(setup, name, value);
  },
};

export async function storeSecret({ owner }: Setup, name: string, value: string): Promise<void> {
  await owner`
    select case when known.id is null then vault.create_secret(${value}, ${name})::text else vault.update_secret(known.id, ${value})::text end
      from (select (select id from vault.secrets where name = ${name}) as id) known`;
}

/** Why nobody is told of alerts although the file has an address; undefined: people are, or nobody is to be. */
async function untold(setup: Setup): Promise<Found | undefined> {
  const addresses = Object.keys(TOLD).filter((variable) => present(setup.env()[variable]) !== undefined);
  if (addresses.length === 0) return undefined;
  if ((await scheduler(setup)) !== "pg_cron")
    return {
      state: "person",
      text: `nobody is told of alerts, whatever ${addresses.join(" and ")} says`,
      actions: [
        `Enable pg_cron, pg_net and Vault (dashboard: Extensions), from which messages about alerts leave, and run setup again; or leave ${addresses.join(" and ")} empty, and look at sync_alerts yourself.`,
      ],
    };
  const redirected = await redirectedAddresses(setup.env());
  return redirected.length === 0
    ? undefined
    : { state: "person", text: "an address for alerts redirects", actions: redirected.map(redirectAdvice) };
}

function vaultSecrets({ env }: Setup): Readonly<Record<string, string>> | undefined {
  const key = present(env()["ISTHMUS_API_KEY"]);
  return key === undefined
    ? undefined
    : { isthmus_functions_url: functionsUrl(env()), isthmus_secret_key: key, ...alertSecrets(env()) };
}

function toldText(names: readonly string[]): string {
  const told = Object.values(ALERT_SECRETS).filter((name) => names.includes(name));
  return told.length === 0 ? "" : `, and ${told.join(", ")}`;
}

/** The jobs of pg_cron stand on the dashboard's Cron page, paused until somebody has the installation begin. */
export const scheduleTicks: Step<Setup> = {
  title: "schedule",
  async look(setup) {
    if ((await scheduler(setup)) === "qstash") return { state: "done", text: "QStash will call sync-tick, once it begins" };
    const jobs = await tickJobs(setup);
    if (jobs.size < SCHEDULED.length)
      return { state: "due", text: "schedule sync-tick, its watch, the delivery of alerts and the removal of history, paused" };
    const text = jobs.get(TICK) === true ? "pg_cron calls sync-tick every minute" : "pg_cron has its jobs, paused";
    const open = (await isQueueOpen(setup)) ? "; everybody may read pg_net's queue (docs/deployment.md, section 6)" : "";
    return { state: "done", text: text + open };
  },
  // The extensions may have been enabled after the migrations ran: this one can be run again.
  async act({ owner }) {
    await owner.begin(async (tx) => {
      const [before] = await tx<{ active: boolean }[]>`
        select coalesce(bool_or(active), false) as active from cron.job where jobname in (${TICK}, ${WATCH})`;
      await tx.unsafe(readFileSync(join(PROJECT_ROOT, SCHEDULE), "utf8")).simple();
      if (before?.active !== true) await pauseTicks(tx);
    });
  },
};

/** pg_net lets everybody read its queue, where the key stands until a call is sent; only the table's owner can change that. */
async function isQueueOpen({ owner }: Setup): Promise<boolean> {
  const [row] = await owner<{ open: boolean | null }[]>`
    select has_table_privilege('anon', to_regclass('net.http_request_queue')::oid, 'select') as open`;
  return row?.open === true;
}

/** Whether each of our jobs runs. */
export async function tickJobs({ owner }: Setup): Promise<ReadonlyMap<string, boolean>> {
  const rows = await owner<{ name: string; active: boolean }[]>`
    select jobname as name, active from cron.job where jobname in ${owner(SCHEDULED)}`;
  return new Map(rows.map(({ name, active }) => [name, active]));
}

export async function startTicks({ owner }: Setup): Promise<void> {
  await owner`select cron.alter_job(jobid, active := true) from cron.job where jobname in ${owner(JOBS)}`;
}

export async function pauseTicks(owner: postgres.TransactionSql): Promise<void> {
  await owner`select cron.alter_job(jobid, active := false) from cron.job where jobname in ${owner(JOBS)}`;
}

/** sync.call_tick does nothing while somebody holds this advisory lock. */
const TICKS = 4_973_118_223;

/** Has no tick called while `work` runs. Whatever ends this process lets them be called again: the server frees the lock. */
export async function withoutTicks(setup: Setup, work: () => Promise<void>): Promise<void> {
  const holder = setup.anotherOwner();
  try {
    await holder.begin(async (tx) => {
      await withoutLimits(tx);
      await tx`set local lock_timeout = '30s'`;
      await tx`select pg_advisory_xact_lock(${TICKS})`;
      await untilTicksHaveEnded(setup);
      await work();
    });
  } finally {
    await holder.end({ timeout: 5 });
  }
}

/** A tick that was called, and has not ended by then, is lost: its function has no more time. */
const LOST_MS = 180_000;

/** Every tick that was called until now has ended, with what it then knew, or was refused. */
export async function untilTicksHaveEnded({ owner }: Setup): Promise<void> {
  const [now] = await owner<{ at: string }[]>`select clock_timestamp()::text as at`;
  for (const until = Date.now() + LOST_MS; Date.now() < until;) {
    const [row] = await owner<{ open: boolean }[]>`
      select exists (select from public.sync_ticks where ended_at is null and coalesce(status_code, 202) = 202 and error is null
                        and created_at <= ${now?.at ?? ""}::timestamptz and created_at > now() - interval '3 minutes') as open`;
    if (row?.open !== true) return;
    await new Promise((later) => setTimeout(later, 1_000));
  }
}

import type postgres from "postgres";
import { Problem } from "../problem.ts";
import type { Setup } from "./context.ts";
import { withoutLimits } from "./limits.ts";
import { pauseTicks } from "./schedule-ticks.ts";
import { appliedMigrations, isPushed, migrations, note, type Migration } from "./schema-history.ts";
import type { Step } from "./step.ts";
import { tried } from "./tried.ts";

/** Two setups of one target at once: the second waits, then finds everything done. A number of ours among advisory locks. */
const LOCK = 4_973_118_222;

/** All pending migrations are applied in one transaction: an installation has all of them or none. The project's own migration history is not touched. */
export const applySchema: Step<Setup> = {
  title: "schema",
  async look(setup) {
    const { pending, taken, fresh } = await difference(setup);
    if (pending.length === 0 && !taken) return { state: "done", text: `all ${migrations().length} migrations are applied` };
    if (pending.length > 0 && !fresh && !setup.upgrade) {
      throw new Problem(
        "SCHEMA_OUTDATED",
        `An older release is installed: ${pending.length} migrations are missing.`,
        "Upgrade it: npm run sync -- setup --upgrade --env-file <file>.",
      );
    }
    const due = [
      ...(taken ? ["take over what supabase db push has applied into our own history"] : []),
      ...(pending.length > 0 ? [await trial(setup.owner, pending, fresh)] : []),
    ];
    return { state: "due", text: due.join("; ") };
  },
  async act({ owner }) {
    await owner.begin(async (tx) => {
      await hold(tx);
      const applied = await appliedMigrations(tx);
      if (applied === "unknown") throw foreignSchema();
      if (applied && (await isPushed(tx)))
        for (const [version, { name }] of applied) await note(tx, "migration", version, name, null);
      await apply(
        tx,
        migrations().filter(({ version }) => applied?.has(version) !== true),
        applied === undefined,
      );
    });
  },
};

/** @throws Problem where the database has what these files do not have, or another text of what they have. */
export async function difference({ owner }: Setup): Promise<{ pending: readonly Migration[]; taken: boolean; fresh: boolean }> {
  const applied = await appliedMigrations(owner);
  if (applied === "unknown") throw foreignSchema();
  if (applied === undefined) return { pending: migrations(), taken: false, fresh: true };
  const files = new Map(migrations().map((one) => [one.version, one]));
  const ahead = [...applied.keys()].filter((version) => !files.has(version));
  if (ahead.length > 0) {
    throw new Problem(
      "SCHEMA_AHEAD",
      `A newer release is installed: this one does not have ${ahead.length} of its migrations.`,
      "Check out the newer release, or a later one.",
    );
  }
  const changed = [...applied].filter(([version, { sha256 }]) => sha256 !== null && sha256 !== files.get(version)?.sha256);
  if (changed.length > 0) {
    throw new Problem(
      "SCHEMA_CHANGED",
      `Migrations were changed after they were applied: ${changed.map(([version, { name }]) => `${version}_${name}`).join(", ")}.`,
      "Check out the release that was installed, unchanged. A released migration is never edited.",
    );
  }
  const pending = [...files.values()].filter(({ version }) => !applied.has(version));
  return { pending, taken: applied.size > 0 && (await isPushed(owner)), fresh: false };
}

function foreignSchema(): Problem {
  return new Problem(
    "NAME_TAKEN",
    "The project has a schema named sync that this installation did not make.",
    "Rename it (alter schema sync rename to ...), or install into another project. Nothing was changed.",
  );
}

/** One setup at a time; whoever else holds a lock is waited for as long as this says. */
async function hold(tx: postgres.TransactionSql): Promise<void> {
  await withoutLimits(tx);
  await tx`set local lock_timeout = '10s'`;
  await tx`select pg_advisory_xact_lock(${LOCK})`;
}

async function apply(tx: postgres.TransactionSql, pending: readonly Migration[], fresh: boolean): Promise<void> {
  for (const { version, name, sha256, sql } of pending) {
    try {
      await tx.unsafe(sql).simple();
    } catch (error) {
      throw refusal(`${version}_${name}`, error);
    }
    await note(tx, "migration", version, name, sha256);
  }
  if (fresh) await pause(tx);
}

/** A new installation does nothing by itself until somebody has it begin. */
async function pause(tx: postgres.TransactionSql): Promise<void> {
  await tx`update public.sync_jobs set enabled = false`;
  const [cron] = await tx<{ present: boolean }[]>`select to_regclass('cron.job') is not null as present`;
  if (cron?.present === true) await pauseTicks(tx);
}

/** Applies the migrations to the target itself, counts what they make, and takes all of it back. */
function trial(owner: postgres.Sql, pending: readonly Migration[], fresh: boolean): Promise<string> {
  return tried(owner, async (tx) => {
    await hold(tx);
    const before = await counts(tx);
    await apply(tx, pending, fresh);
    const after = await counts(tx);
    const made = `${after.tables - before.tables} tables in public, ${after.functions - before.functions} functions in sync`;
    return `apply ${pending.length} migrations (tried and taken back): ${made}`;
  });
}

async function counts(tx: postgres.TransactionSql): Promise<{ tables: number; functions: number }> {
  const [row] = await tx<{ tables: number; functions: number }[]>`
    select (select count(*)::int from pg_class where relnamespace = to_regnamespace('public') and relkind = 'r') as tables,
           (select count(*)::int from pg_proc where pronamespace = to_regnamespace('sync')) as functions`;
  return row ?? { tables: 0, functions: 0 };
}

function refusal(file: string, error: unknown): Problem {
  const { code, message } = error as { code?: string; message?: string };
  const taken = ["42P07", "42710", "42P06", "42723"].includes(code ?? "");
  return new Problem(
    taken ? "NAME_TAKEN" : "SCHEMA_REFUSED",
    `The database refused ${file} (SQLSTATE ${code ?? "?"}): ${message ?? String(error)}. All of it was taken back.`,
    taken
      ? "The application has something of this name. Rename it, or install into another project."
      : "docs/deployment.md says what the migrations need. Correct it, then run the command again.",
  );
}

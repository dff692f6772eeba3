import { rm } from "node:fs/promises";
import postgres, { type Sql } from "postgres";
import { loadLegacy } from "../../clinic/dataset/load.ts";
import type { LogLine } from "../../local/functions/isolate-pool.ts";
import type { Manifest } from "../../clinic/dataset/manifest.ts";
import type { ExecutionState } from "../../local/demo/watch.ts";
import { startPlatform, type Platform, type PlatformOptions } from "../../local/platform.ts";
import { scratchFolder } from "./scratch.ts";
import { platformTemplates } from "./templates.ts";

export interface TestPlatform extends AsyncDisposable {
  readonly platform: Platform;
  readonly manifest: Manifest;
  /** The project's owner, `postgres`, who is no superuser, as a hosted project has it. */
  readonly target: Sql;
  /** The source's superuser: the legacy application. */
  readonly source: Sql;
  readonly logs: LogLine[];
  start(body?: object): Promise<{ execution: string }>;
  state(execution: string): Promise<ExecutionState>;
  /** Waits until an execution is closed, calling sync-tick as often as told. @throws Error when it does not close in time. */
  finish(execution: string, options?: { tickEveryMs?: number; timeoutMs?: number; pollMs?: number }): Promise<ExecutionState>;
}

/** The whole platform with a small generated legacy database, data in a folder of its own. */
export async function startTestPlatform(
  name: string,
  options: { scale: number; logScale?: number; seed?: number } & Omit<PlatformOptions, "dataDir" | "acknowledge" | "copyOf">,
): Promise<TestPlatform> {
  const dataDir = scratchFolder(name);
  await rm(dataDir, { recursive: true, force: true });
  const logs: LogLine[] = [];
  const copyOf = await platformTemplates(options.targetVersion ?? 17);
  const platform = await startPlatform({ ...options, copyOf, dataDir, onFunctionLog: (event) => logs.push(event) });
  const manifest = await loadLegacy({
    url: platform.urls.sourceOwner,
    seed: options.seed ?? 1,
    scale: options.scale,
    logScale: options.logScale ?? 0.0005,
  });
  const connection = { max: 2, onnotice: () => undefined, idle_timeout: 1 };
  const target = postgres(platform.urls.targetOwner, connection);
  const source = postgres(platform.source.superuserUrl("legacy"), connection);
  const state = async (execution: string) =>
    (await (await platform.call(`sync-trigger?execution=${execution}`)).json()) as ExecutionState;
  return {
    platform,
    manifest,
    target,
    source,
    logs,
    state,
    start: async (body = {}) => {
      const answer = await platform.call("sync-trigger", { body });
      const begun = (await answer.json()) as { execution: string };
      if (answer.status !== 202) throw new Error(`sync-trigger answered ${answer.status}: ${JSON.stringify(begun)}`);
      return begun;
    },
    finish: async (execution, { tickEveryMs = 1_000, timeoutMs = 100_000, pollMs = 50 } = {}) => {
      const deadline = Date.now() + timeoutMs;
      let nextTick = Date.now() + tickEveryMs;
      for (;;) {
        // A function that is asked all the time would use up the CPU of its isolates, and that of the machine.
        const [row] = await target<Pick<ExecutionState, "status">[]>`
          select status from public.sync_executions where id = ${execution}`.catch(() => []);
        const late = Date.now() > deadline;
        if (late || (row !== undefined && row.status !== "running")) {
          const current = await state(execution).catch(() => undefined);
          if (current?.status !== undefined && current.status !== "running") return current;
          if (late) throw new Error(`execution ${execution} did not close: ${JSON.stringify(current)}`);
        }
        if (Date.now() > nextTick) {
          nextTick = Date.now() + tickEveryMs;
          await platform.call("sync-tick", { body: {} }).catch(() => undefined);
        }
        await new Promise((again) => setTimeout(again, pollMs));
      }
    },
    [Symbol.asyncDispose]: async () => {
      await Promise.all([target.end({ timeout: 1 }), source.end({ timeout: 1 })]);
      await platform.stop();
      await rm(dataDir, { recursive: true, force: true });
    },
  };
}

/** Most connections that the functions have had to each database at the same time, and most isolates that lived at the same time. */
export interface MostConnections {
  readonly source: number;
  readonly target: number;
  readonly isolates: number;
}

/** Counts from now on, twenty times a second; the returned function ends it. */
export function countConnections({ platform, source, target }: TestPlatform): () => Promise<MostConnections> {
  const most = { source: 0, target: 0, isolates: 0 };
  let over = false;
  const count = async (sql: Sql) =>
    (await sql<{ n: number }[]>`select count(*)::integer as n from pg_stat_activity where application_name = 'isthmus'`)[0]?.n ??
    0;
  const counting = (async () => {
    while (!over) {
      const alive = platform.functions.isolates().filter(({ ended }) => ended === undefined).length;
      const [there, here] = await Promise.all([count(source), count(target)]);
      most.isolates = Math.max(most.isolates, alive);
      most.source = Math.max(most.source, there);
      most.target = Math.max(most.target, here);
      await new Promise((again) => setTimeout(again, 50));
    }
  })();
  return async () => {
    over = true;
    await counting;
    return most;
  };
}

/** Keeps the target as it is now. @returns what brings it back, with an empty cache. */
export async function keepPristine({ platform }: TestPlatform): Promise<() => Promise<void>> {
  const admin = async (...statements: readonly string[]) => {
    const sql = postgres(platform.target.superuserUrl(), { max: 1, onnotice: () => undefined });
    for (const statement of statements) await sql.unsafe(statement);
    await sql.end();
  };
  const replace = (to: string, from: string) => [
    `select pg_terminate_backend(pid) from pg_stat_activity where datname = '${from}'`,
    `drop database if exists ${to} with (force)`,
    `create database ${to} template ${from} owner postgres`,
  ];
  await platform.functions.stop();
  await admin(...replace("pristine", "supabase"));
  return async () => {
    await admin(...replace("supabase", "pristine"));
    await platform.redis.crash();
    await platform.redis.restart();
  };
}

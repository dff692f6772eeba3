import { rm } from "node:fs/promises";
import postgres, { type Sql } from "postgres";
import { loadLegacy } from "../../local/dataset/load.ts";
import type { Manifest } from "../../local/dataset/manifest.ts";
import type { ExecutionState } from "../../local/demo/watch.ts";
import { startPlatform, type Platform, type PlatformOptions } from "../../local/platform.ts";
import { scratchFolder } from "./scratch.ts";

export interface TestPlatform extends AsyncDisposable {
  readonly platform: Platform;
  readonly manifest: Manifest;
  /** The servers' superuser on both sides. */
  readonly target: Sql;
  readonly source: Sql;
  readonly logs: { function: string; line: string }[];
  start(body?: object): Promise<{ execution: string }>;
  state(execution: string): Promise<ExecutionState>;
  /** Waits until an execution is closed, calling sync-tick as often as told. @throws Error when it does not close in time. */
  finish(execution: string, options?: { tickEveryMs?: number; timeoutMs?: number; pollMs?: number }): Promise<ExecutionState>;
}

/** The whole platform with a small generated legacy database, data in a folder of its own. */
export async function startTestPlatform(
  name: string,
  options: { scale: number; logScale?: number; seed?: number } & Omit<PlatformOptions, "dataDir">,
): Promise<TestPlatform> {
  const dataDir = scratchFolder(name);
  await rm(dataDir, { recursive: true, force: true });
  const logs: { function: string; line: string }[] = [];
  const platform = await startPlatform({ ...options, dataDir, onFunctionLog: (event) => logs.push(event) });
  const manifest = await loadLegacy({
    url: platform.urls.sourceOwner,
    seed: options.seed ?? 1,
    scale: options.scale,
    logScale: options.logScale ?? 0.0005,
  });
  const connection = { max: 2, onnotice: () => undefined, idle_timeout: 1 };
  const target = postgres(platform.target.superuserUrl("supabase"), connection);
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
        const current = await state(execution).catch(() => undefined);
        if (current?.status !== undefined && current.status !== "running") return current;
        if (Date.now() > deadline) throw new Error(`execution ${execution} did not close: ${JSON.stringify(current)}`);
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

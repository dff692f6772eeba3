import type { Hosted } from "../../local/functions/hosted.ts";
import { killedTwice } from "../support/killed-pages.ts";
import { sentTo } from "../support/sent.ts";
import type { TestPlatform } from "../support/platform.ts";

/** An execution may take so many times as long on the double as on the same host without its limits. */
export const SLOWER = 1.5;
/** As far as a timer of Node reaches. */
const NEVER_MS = 2 ** 31 - 1;

export const HOSTS = {
  double: {},
  kind: { cpuSoftMs: Infinity, cpuHardMs: Infinity, memoryBytes: 4 * 2 ** 30, wallClockMs: NEVER_MS, earlyDrop: false },
} as const satisfies Record<string, Partial<Hosted>>;
export type Host = keyof typeof HOSTS;

export const EXECUTIONS = ["first load", "everything read again", "nothing changed"] as const;
export type Execution = (typeof EXECUTIONS)[number];

/** One execution on one of the hosts. */
export interface Run {
  readonly host: Host;
  readonly execution: Execution;
  readonly seconds: number;
  readonly records: number;
  readonly pages: number;
  readonly starts: number;
  readonly retired: number;
  readonly busy: number;
  readonly killed: number;
  readonly killedTwice: number;
  /** Messages that carried pages, and how often they were delivered. */
  readonly messages: number;
  readonly deliveries: number;
  /** CPU of the isolates that ran pages, after their starts. */
  readonly cpuMs: number;
}

/** @throws Error when the execution does not succeed. */
export async function execute(
  { platform, ...test }: TestPlatform,
  host: Host,
  execution: Execution,
  entities?: readonly string[],
): Promise<Run> {
  const { functions, qstash } = platform;
  const again = execution === "everything read again";
  // Else hashes would tell of most records that there is nothing to read.
  if (again) await test.target`update public.sync_checkpoints set definition_hash = 'read again'`;
  functions.resetInvocations();
  const pageIsolates = () => functions.isolates().filter((isolate) => isolate.function === "sync-page");
  const cpuMs = () => pageIsolates().reduce((sum, isolate) => sum + isolate.cpuMs, 0);
  const [isolates, deliveries, cpuBefore] = [pageIsolates().length, qstash.history().length, cpuMs()];
  const began = performance.now();
  const { execution: id } = await test.start({ ...(entities ? { entities } : {}), ...(again ? { capture: "full" } : {}) });
  const state = await test.finish(id, { tickEveryMs: 60_000, timeoutMs: 3_600_000 });
  const seconds = (performance.now() - began) / 1_000;
  if (state.status !== "succeeded") throw new Error(`${host}: ${execution} ${state.status}: ${JSON.stringify(state.errors)}`);
  const calls = functions.invocations().filter((call) => call.function === "sync-page");
  const own = pageIsolates().slice(isolates);
  const history = qstash.history().slice(deliveries);
  const sent = sentTo(history, "sync-page");
  return {
    host,
    execution,
    seconds,
    records: state.entities.reduce((sum, { counts }) => sum + counts.read, 0),
    pages: calls.length,
    starts: own.length,
    retired: own.filter(({ ended }) => ended === "early_drop").length,
    busy: calls.filter(({ status }) => status === 429).length,
    killed: calls.filter(({ killed }) => killed !== undefined).length,
    killedTwice: killedTwice(history).length,
    messages: sent.messages,
    deliveries: sent.deliveries,
    cpuMs: cpuMs() - cpuBefore,
  };
}

/** Of all runs of an execution on a host together. */
export const total = (runs: readonly Run[], host: Host, execution: Execution, what: (run: Run) => number) =>
  runs.filter((run) => run.host === host && run.execution === execution).reduce((sum, run) => sum + what(run), 0);

/** How many times as long an execution took on the double. */
export const slowerOnDouble = (runs: readonly Run[], execution: Execution) =>
  total(runs, "double", execution, ({ seconds }) => seconds) / total(runs, "kind", execution, ({ seconds }) => seconds);

import { connect } from "../../shared/db/connect.ts";
import type { Context } from "../../shared/context.ts";
import type { PageOutcome } from "../../shared/page/page-outcome.ts";
import { describeError } from "../../shared/errors.ts";
import { readerUrl, workerUrl } from "./databases.ts";
import { seedOffices, toItsEnd } from "./limits.ts";
import type { Side } from "./page-ends.ts";
import { createPipeline, type Pipeline } from "./pipeline.ts";
import { testServer } from "./servers.ts";
import { clearSocket } from "./sockets.ts";
import { startTransactionPooler, type PoolerOptions, type TransactionPooler } from "./transaction-pooler.ts";
import { createWire, type Wire } from "./wire.ts";

export const OFFICES = 6;
export const TRIES = 3;
/** How long a page waits for a connection here. */
export const ACQUIRE_SECONDS = 2;

/** A pipeline over six offices in pages of three, each side behind a real pooler of its own, and that behind a wire that can be cut. */
export interface Pooled extends AsyncDisposable {
  readonly test: Pipeline;
  readonly poolers: Readonly<Record<Side, TransactionPooler>>;
  /** Between pooler and server. */
  readonly wires: Readonly<Record<Side, Wire>>;
  /** The address of a side through its pooler. */
  readonly url: Readonly<Record<Side, string>>;
  /** Changes every office at the source and begins an execution that has to find it; its first page is the next in the queue. */
  begin(): Promise<string>;
  /** Runs the execution to its end, and tells what is missing then: nothing, of an undisturbed one. */
  end(execution: string): Promise<{ status: string; missing: number[]; queued: number }>;
  /** Takes every fault away, and ends what is under way. */
  mend(): Promise<void>;
  /** Whatever the page comes to: its outcome and the error's reason, also where not even its claim came through. */
  attempt(context?: Context): Promise<Attempt>;
}

export interface Attempt {
  readonly outcome: PageOutcome["outcome"] | "unclaimed";
  readonly code?: string;
  readonly reason?: string;
  /** Whether the message comes back by itself. */
  readonly again: boolean;
  readonly ms: number;
}

export async function createPooled(options: PoolerOptions = {}): Promise<Pooled> {
  const { port } = await testServer();
  const wires = { source: await createWire(port), target: await createWire(port) };
  const behind = (side: Side) => startTransactionPooler({ ...options, serverPort: wires[side].port });
  const poolers = { source: await behind("source"), target: await behind("target") };
  const test = await createPipeline({
    env: {
      ...{ ISTHMUS_PAGE_SIZE: "3", ISTHMUS_PAGE_SIZE_MAX: "3", ISTHMUS_CHAINS_PER_ENTITY: "1", ISTHMUS_POOL_SIZE: "1" },
      ...{ ISTHMUS_PAGE_TRIES: String(TRIES), ISTHMUS_ACQUIRE_TIMEOUT_SECONDS: String(ACQUIRE_SECONDS) },
    },
    sourceUrl: (db) => poolers.source.through(readerUrl(db)),
    targetUrl: (db) => poolers.target.through(workerUrl(db)),
  });
  await seedOffices(test, OFFICES);
  await test.sync({ entities: ["offices"] });
  let changes = 0;
  return {
    test,
    poolers,
    wires,
    url: { source: poolers.source.through(readerUrl(test.source)), target: poolers.target.through(workerUrl(test.target)) },
    begin: async () => {
      changes += 1;
      await test.source.admin`update public.dispatch_office set city = ${`city ${changes}`}`;
      return (await test.start({ entities: ["offices"], capture: "full" })).execution;
    },
    end: async (execution) => {
      const { status, queued } = await toItsEnd(test, execution);
      const here = await test.target.admin<{ id: number; city: string }[]>`
        select legacy_office_id::integer as id, city from public.offices`;
      const landed = new Set(here.filter(({ city }) => city === `city ${changes}`).map(({ id }) => id));
      const missing = Array.from({ length: OFFICES }, (_, at) => at + 1).filter((id) => !landed.has(id));
      return { status, missing, queued: queued.length };
    },
    mend: async () => {
      for (const side of ["source", "target"] as const) {
        await wires[side].mend();
        await poolers[side].restart();
      }
      const running = await test.target.admin<{ id: string }[]>`select id from public.sync_executions where status = 'running'`;
      for (const { id } of running) await toItsEnd(test, id);
      test.queue.length = 0;
    },
    attempt: async (context) => {
      const message = test.queue.shift();
      if (!message) throw new Error("no page waits");
      const began = performance.now();
      const ms = () => Math.round(performance.now() - began);
      try {
        const outcome = await test.run(message, context);
        if (outcome.outcome !== "failed") return { outcome: outcome.outcome, again: true, ms: ms() };
        return { outcome: "failed", ...told(outcome.error), again: outcome.retrySeconds !== null, ms: ms() };
      } catch (error) {
        const described = describeError(error);
        return { outcome: "unclaimed", ...told(described), again: described.code === "TARGET_UNAVAILABLE", ms: ms() };
      }
    },
    [Symbol.asyncDispose]: async () => {
      await test[Symbol.asyncDispose]();
      for (const side of ["source", "target"] as const) {
        await poolers[side][Symbol.asyncDispose]();
        await wires[side][Symbol.asyncDispose]();
      }
    },
  };
}

/** The context with one side reached without its pooler, over a wire that can be cut: where a pooler stands that is not to be had. */
export async function createDirect({ test }: Pooled, side: Side): Promise<{ wire: Wire; context: Context } & AsyncDisposable> {
  const { port } = await testServer();
  const wire = await createWire(port);
  const url = (side === "source" ? readerUrl(test.source) : workerUrl(test.target)).replace(`:${port}/`, `:${wire.port}/`);
  const sql = connect({
    ...{ side, url, tls: "disable", poolSize: 1, idleTimeoutSeconds: 5, connectTimeoutSeconds: ACQUIRE_SECONDS },
    ...{ applicationName: "test", socket: clearSocket },
  });
  return {
    wire,
    context: { ...test.context, [side]: sql },
    [Symbol.asyncDispose]: async () => {
      await sql.end({ timeout: 1 });
      await wire[Symbol.asyncDispose]();
    },
  };
}

function told(error: { readonly code: string; readonly reason?: unknown }): Pick<Attempt, "code" | "reason"> {
  return { code: error.code, ...(typeof error.reason === "string" ? { reason: error.reason } : {}) };
}

import { loadLegacy } from "../../clinic/dataset/load.ts";
import { installation as clinic } from "../../clinic/installation.ts";
import { createContext, type Context } from "../../shared/context.ts";
import type { Installation } from "../../shared/entity/installation.ts";
import type { Entity } from "../../shared/entity/define-entity.ts";
import { definitionHash } from "../../shared/entity/validate-registry.ts";
import type { BegunExecution } from "../../shared/plan/begin.ts";
import type { SelectionRequest } from "../../shared/plan/plan-selection.ts";
import { start as startSync } from "../../shared/plan/start.ts";
import { validate } from "../../shared/page/validate.ts";
import { createLog } from "../../shared/log.ts";
import { runPage } from "../../shared/page/run-page.ts";
import type { PageMessage } from "../../shared/target/sending.ts";
import type { PageOutcome } from "../../shared/page/page-outcome.ts";
import { clearSocket } from "./sockets.ts";
import { createTestSource, createTestTarget, readerUrl, workerUrl, type TestDatabase } from "./databases.ts";

export const NAMESPACE = "6f1f7e1c-2f0b-4c0d-9d52-0a1b2c3d4e5f";

/** The pipeline over two fresh databases, without HTTP: messages wait in `queue` until a test runs them. */
export interface InProcess extends AsyncDisposable {
  readonly source: TestDatabase;
  readonly target: TestDatabase;
  readonly context: Context;
  readonly queue: PageMessage[];
  /** `using`: with another context, which reads another node for one. */
  start(request?: Partial<SelectionRequest>, using?: Context): Promise<BegunExecution>;
  run(message: PageMessage, context?: Context): Promise<PageOutcome>;
  /** Runs the queued pages of joined rows, so that the next in the queue is one of records. */
  runJoins(): Promise<PageOutcome[]>;
  /** Runs every queued message until none is left. */
  drain(using?: Context): Promise<PageOutcome[]>;
  /** start and drain; throws when the execution did not succeed. */
  sync(request?: Partial<SelectionRequest>, using?: Context): Promise<BegunExecution>;
}

export async function createInProcess(
  options: {
    scale?: number;
    /** Of the large tables. */
    logScale?: number;
    env?: Record<string, string>;
    sourceUrl?: (db: TestDatabase) => string;
    targetUrl?: (db: TestDatabase) => string;
    /** Another installation than the clinic. */
    installation?: Installation;
    /** Other entities than the installation's. */
    entities?: readonly Entity[];
    /** Hears what the functions log. */
    onLog?: (line: string) => void;
    /** Hears what goes to the queue. */
    onMessage?: (message: PageMessage) => void;
  } = {},
): Promise<InProcess> {
  const source = await createTestSource();
  const target = await createTestTarget();
  if (options.scale !== undefined)
    await loadLegacy({ url: source.superuserUrl, scale: options.scale, logScale: options.logScale ?? 0.0002 });
  await target.admin`insert into public.sync_sources (name, namespace) values ('legacy', ${NAMESPACE})`;
  const queue: PageMessage[] = [];
  const installation = options.installation ?? clinic;
  const made = createContext(
    {
      env: {
        SOURCE_DB_URL: options.sourceUrl?.(source) ?? readerUrl(source),
        TARGET_DB_URL: options.targetUrl?.(target) ?? workerUrl(target),
        SUPABASE_URL: "http://127.0.0.1:1",
        SUPABASE_SECRET_KEYS: '{"default":"unused"}',
        SUPABASE_PUBLISHABLE_KEYS: '{"default":"unused"}',
        QSTASH_URL: "http://127.0.0.1:1",
        QSTASH_TOKEN: "unused",
        QSTASH_CURRENT_SIGNING_KEY: "unused",
        QSTASH_NEXT_SIGNING_KEY: "unused",
        ISTHMUS_POOL_SIZE: "4",
        ...options.env,
      },
      log: createLog(options.onLog ?? (() => undefined)),
      meter: { heapBytes: () => null },
      waitUntil: () => undefined,
      socket: clearSocket,
    },
    installation,
  );
  const entities = options.entities ?? installation.entities;
  const context: Context = {
    ...made,
    entities: new Map(entities.map((entity) => [entity.name, entity])),
    // Without the code behind them, so that a test can say what the hash of a changed entity is.
    hashes: new Map(entities.map((entity) => [entity.name, definitionHash(entity)])),
    queue: {
      send: (messages) => {
        if (options.onMessage) messages.forEach(options.onMessage);
        queue.push(...messages);
        return Promise.resolve([]);
      },
    },
  };
  const run = (message: PageMessage, using = context) => runPage(using, message, validate);
  const start = (request: Partial<SelectionRequest> = {}, using = context) =>
    startSync(using, { triggeredBy: "http:test", ...request });
  const runJoins = async () => {
    const joins = await target.admin<{ id: string }[]>`select id from public.sync_chains where capture = 'joins'`;
    const ids = new Set(joins.map(({ id }) => id));
    const outcomes: PageOutcome[] = [];
    for (;;) {
      const index = queue.findIndex(({ chain }) => ids.has(chain));
      const [message] = index < 0 ? [] : queue.splice(index, 1);
      if (!message) return outcomes;
      outcomes.push(await run(message));
    }
  };
  const drain = async (using = context) => {
    const outcomes: PageOutcome[] = [];
    for (let message = queue.shift(); message; message = queue.shift()) outcomes.push(await run(message, using));
    return outcomes;
  };
  return {
    source,
    target,
    context,
    queue,
    start,
    run,
    runJoins,
    drain,
    sync: async (request, using) => {
      const begun = await start(request, using);
      const outcomes = await drain(using);
      const [row] = await target.admin<
        { status: string; errors: unknown }[]
      >`select status, errors from public.sync_executions where id = ${begun.execution}`;
      if (row?.status !== (begun.paused.length > 0 ? "incomplete" : "succeeded")) {
        throw new Error(
          `execution ${row?.status ?? "missing"}: ${JSON.stringify(row?.errors)} ${JSON.stringify(outcomes.filter((o) => o.outcome === "failed"))}`,
        );
      }
      return begun;
    },
    [Symbol.asyncDispose]: async () => {
      await Promise.all([made.source.end({ timeout: 1 }), made.target.end({ timeout: 1 })]);
      await source[Symbol.asyncDispose]();
      await target[Symbol.asyncDispose]();
    },
  };
}

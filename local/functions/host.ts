import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { resolve } from "node:path";
import { existsSync } from "node:fs";
import { PLATFORM_LIMITS, type KillReason, type Limits } from "./limits.ts";
import { WorkerProcess, type Reply } from "./worker-process.ts";

export interface FunctionsHostOptions {
  readonly functionsDir: string;
  /** All that the functions see of the environment, besides what the platform adds itself. */
  readonly env: Readonly<Record<string, string>>;
  readonly names?: readonly string[];
  readonly port?: number;
  readonly limits?: Partial<Limits>;
  /** Workers per function. */
  readonly poolSize?: number;
  readonly onLog?: (event: { function: string; line: string }) => void;
}

/** One request and what it cost. */
export interface Invocation {
  readonly function: string;
  readonly startedAt: number;
  readonly wallMs: number;
  readonly cpuMs: number;
  readonly bootCpuMs: number;
  readonly peakRssBytes: number;
  /** Peak without the bare runtime: what the platform counts, its isolate's memory. */
  readonly memoryBytes: number;
  readonly status: number;
  readonly cold: boolean;
  readonly killed: KillReason | undefined;
}

export interface FunctionsHost {
  /** http://127.0.0.1:PORT/functions/v1 */
  readonly url: string;
  readonly port: number;
  invocations(): readonly Invocation[];
  resetInvocations(): void;
  /** Ends the workers of one function, or of all, at once and without notice. @returns how many. */
  kill(name?: string): number;
  stop(): Promise<void>;
}

const DEFAULT_POOL_SIZE = 5;

/** Serves functions/NAME/index.ts on the real Deno under /functions/v1/NAME, with the platform's limits enforced. */
export async function startFunctionsHost(options: FunctionsHostOptions): Promise<FunctionsHost> {
  const limits = { ...PLATFORM_LIMITS, ...options.limits };
  const invocations: Invocation[] = [];
  const pools = new Map<string, Pool>();
  const pool = (name: string): Pool | undefined => {
    if (!/^[a-z][a-z0-9-]*$/.test(name) || !(options.names?.includes(name) ?? true)) return undefined;
    if (!existsSync(resolve(options.functionsDir, name, "index.ts"))) return undefined;
    const made = pools.get(name) ?? new Pool(name, options, limits);
    pools.set(name, made);
    return made;
  };

  const server = createServer((request, response) => {
    void serve(request, response).catch(() => {
      if (!response.headersSent) send(response, json(503, "WORKER_ERROR", "The function's worker failed."));
    });
  });
  await new Promise<void>((listening) => server.listen(options.port ?? 0, "127.0.0.1", listening));
  const { port } = server.address() as AddressInfo;
  const url = `http://127.0.0.1:${port}/functions/v1`;

  async function serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const startedAt = Date.now();
    const body = await readAll(request);
    const name = /^\/functions\/v1\/([^/?]+)/.exec(request.url ?? "")?.[1] ?? "";
    const workers = pool(name);
    if (!workers) {
      send(response, json(404, "NOT_FOUND", "Requested function was not found"));
      return;
    }
    let taken: { worker: WorkerProcess; cold: boolean };
    try {
      taken = await workers.take();
    } catch (error) {
      options.onLog?.({ function: name, line: String(error) });
      send(response, json(503, "BOOT_ERROR", "Function failed to start (please check logs)"));
      return;
    }
    const { worker, cold } = taken;
    try {
      const { settled, cost } = await attend(worker, request, response, body);
      const spent = await cost;
      invocations.push({
        function: name,
        startedAt,
        wallMs: Date.now() - startedAt,
        cpuMs: spent.cpuMs,
        bootCpuMs: cold ? worker.bootCpuMs : 0,
        peakRssBytes: spent.peakRssBytes,
        memoryBytes: Math.max(0, spent.peakRssBytes - worker.bareRssBytes),
        status: settled.status,
        cold,
        killed: spent.killed,
      });
    } catch (error) {
      // What the worker is doing is not known: it serves nobody else.
      await worker.kill("early_drop", 0);
      throw error;
    } finally {
      workers.giveBack(worker);
    }
  }

  /** Has the worker answer, within the time. `cost` is known once its background work is through, or the worker is gone. */
  async function attend(worker: WorkerProcess, request: IncomingMessage, response: ServerResponse, body: Buffer) {
    // As behind the platform's gateway: the function sees its own address without /functions/v1.
    const { reply, cost } = worker.handle({
      method: request.method ?? "GET",
      url: `http://127.0.0.1:${port}${(request.url ?? "").replace("/functions/v1", "")}`,
      headers: request.headers,
      body,
    });
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<"late">((done) => (timer = setTimeout(() => done("late"), limits.responseMs)));
    const answer = await Promise.race([reply.catch(() => "died" as const), late]);
    clearTimeout(timer);
    if (answer === "late") void worker.kill("wall_clock");
    // Without an answer of the function's own nobody tells when its work is through.
    else if (answer === "died" || !answer.handled) void worker.kill("early_drop", 0);
    const settled =
      answer === "late"
        ? json(504, "IDLE_TIMEOUT", "The function did not respond in time.")
        : answer === "died"
          ? died(worker)
          : answer;
    send(response, settled);
    return { settled, cost };
  }

  return {
    url,
    port,
    invocations: () => invocations,
    resetInvocations: () => {
      invocations.length = 0;
    },
    kill: (name) => [...pools.values()].filter((p) => name === undefined || p.name === name).reduce((n, p) => n + p.killAll(), 0),
    stop: async () => {
      server.closeAllConnections();
      await new Promise<void>((closed) => server.close(() => closed()));
      await Promise.all([...pools.values()].map((p) => p.stop()));
    },
  };
}

/** The workers of one function: started when needed, kept warm, one request each. */
class Pool {
  readonly name: string;
  readonly #options: FunctionsHostOptions;
  readonly #limits: Limits;
  readonly #idle: WorkerProcess[] = [];
  readonly #all = new Set<WorkerProcess>();
  readonly #booting = new Set<Promise<WorkerProcess>>();
  readonly #queue: (() => void)[] = [];
  #size = 0;
  #stopped = false;

  constructor(name: string, options: FunctionsHostOptions, limits: Limits) {
    this.name = name;
    this.#options = options;
    this.#limits = limits;
  }

  async take(): Promise<{ worker: WorkerProcess; cold: boolean }> {
    for (;;) {
      const worker = this.#idle.pop();
      if (worker) {
        if (worker.alive && !worker.expired) return { worker, cold: false };
        this.#retire(worker);
        continue;
      }
      if (this.#stopped) throw new Error("stopped");
      if (this.#size < (this.#options.poolSize ?? DEFAULT_POOL_SIZE)) return { worker: await this.#boot(), cold: true };
      await new Promise<void>((free) => this.#queue.push(free));
    }
  }

  giveBack(worker: WorkerProcess): void {
    if (worker.alive && !worker.killed) this.#idle.push(worker);
    else this.#retire(worker);
    this.#queue.shift()?.();
  }

  killAll(): number {
    const alive = [...this.#all].filter((worker) => worker.alive);
    for (const worker of alive) void worker.kill("termination", 0);
    return alive.length;
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    for (const free of this.#queue.splice(0)) free();
    await Promise.allSettled(this.#booting);
    await Promise.all([...this.#all].map((worker) => worker.kill("termination")));
  }

  async #boot(): Promise<WorkerProcess> {
    this.#size += 1;
    const booting = WorkerProcess.boot({
      name: this.name,
      functionsDir: this.#options.functionsDir,
      env: this.#options.env,
      limits: this.#limits,
      onLog: (line) => this.#options.onLog?.({ function: this.name, line }),
    });
    this.#booting.add(booting);
    try {
      const worker = await booting;
      this.#all.add(worker);
      return worker;
    } catch (error) {
      this.#size -= 1;
      this.#queue.shift()?.();
      throw error;
    } finally {
      this.#booting.delete(booting);
    }
  }

  #retire(worker: WorkerProcess): void {
    if (!this.#all.delete(worker)) return;
    this.#size -= 1;
    void worker.kill("early_drop");
  }
}

function died(worker: WorkerProcess): Reply {
  return worker.killed === "memory" || worker.killed === "cpu" || worker.killed === "wall_clock"
    ? json(546, "WORKER_LIMIT", "Function failed due to not having enough compute resources (please check logs)")
    : json(503, "WORKER_ERROR", "The function's worker ended.");
}

function json(status: number, code: string, message: string): Reply {
  return {
    handled: true,
    status,
    headers: { "content-type": "application/json" },
    body: Buffer.from(JSON.stringify({ code, message })),
  };
}

function send(response: ServerResponse, reply: Reply): void {
  const headers = Object.fromEntries(
    Object.entries(reply.headers).filter(
      ([name, value]) =>
        value !== undefined && !["connection", "transfer-encoding", "content-length", "keep-alive"].includes(name),
    ),
  );
  response.writeHead(reply.status, { ...headers, "content-length": reply.body.length });
  response.end(reply.body);
}

async function readAll(request: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}

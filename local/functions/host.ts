import { existsSync } from "node:fs";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { resolve } from "node:path";
import { endedAnswer, plain, platformAnswer, readAll, send } from "./answers.ts";
import { CallChains } from "./call-chains.ts";
import { checkSecrets, type ProjectEnvironment } from "./environment.ts";
import { HOSTED, type EndReason, type Hosted } from "./hosted.ts";
import type { Reply } from "./isolate-process.ts";
import { IsolatePool, type LogLine } from "./isolate-pool.ts";
import type { Isolate } from "./isolate.ts";
import { HEADERS } from "./protocol.ts";

export interface FunctionsHostOptions {
  readonly functionsDir: string;
  /** The secrets of the project. */
  readonly env: Readonly<Record<string, string>>;
  /** What the platform sets by itself. */
  readonly project?: ProjectEnvironment;
  readonly names?: readonly string[];
  readonly port?: number;
  /** Switches that differ from the hosted runtime. */
  readonly hosted?: Partial<Hosted>;
  readonly onLog?: (event: LogLine) => void;
}

/** One request, and what its isolate used meanwhile: its own and that of the requests beside it. */
export interface Invocation {
  readonly function: string;
  readonly isolate: string;
  readonly startedAt: number;
  readonly wallMs: number;
  readonly cpuMs: number;
  readonly peakHeapBytes: number;
  readonly status: number;
  readonly cold: boolean;
  readonly killed: EndReason | undefined;
}

/** One isolate, and all that it used in its life. */
export interface IsolateRecord {
  readonly function: string;
  readonly id: string;
  readonly pid: number;
  readonly startedAt: number;
  readonly requests: number;
  readonly cpuMs: number;
  readonly bootCpuMs: number;
  readonly peakHeapBytes: number;
  readonly ended: EndReason | undefined;
}

export interface FunctionsHost {
  /** http://127.0.0.1:PORT/functions/v1 */
  readonly url: string;
  readonly port: number;
  invocations(): readonly Invocation[];
  resetInvocations(): void;
  isolates(): readonly IsolateRecord[];
  /** Ends the isolates of one function, or of all, at once and without notice. @returns how many. */
  kill(name?: string): number;
  stop(): Promise<void>;
}

/** Serves functions/NAME/index.ts on the real Deno under /functions/v1/NAME, and does to them what the hosted runtime does. */
export async function startFunctionsHost(options: FunctionsHostOptions): Promise<FunctionsHost> {
  const hosted = { ...HOSTED, ...options.hosted };
  checkSecrets(options.env);
  const invocations: Invocation[] = [];
  const isolates: { name: string; isolate: Isolate }[] = [];
  const pools = new Map<string, IsolatePool>();
  const chains = new CallChains(hosted.chainedCalls);

  const server = createServer((request, response) => {
    void serve(request, response).catch(() => {
      if (!response.headersSent) send(response, platformAnswer(503, "WORKER_ERROR", "The function's isolate failed."));
    });
  });
  await new Promise<void>((listening) => server.listen(options.port ?? 0, "127.0.0.1", listening));
  const { port } = server.address() as AddressInfo;
  const url = `http://127.0.0.1:${port}/functions/v1`;

  function pool(name: string): IsolatePool | undefined {
    if (!/^[a-z][a-z0-9-]*$/.test(name) || !(options.names?.includes(name) ?? true)) return undefined;
    if (!existsSync(resolve(options.functionsDir, name, "index.ts"))) return undefined;
    const made =
      pools.get(name) ??
      new IsolatePool({
        name,
        functionsDir: options.functionsDir,
        project: options.project ?? {},
        env: options.env,
        functionsUrl: url,
        hosted,
        onLog: (event) => options.onLog?.(event),
        onIsolate: (isolate) => isolates.push({ name, isolate }),
      });
    pools.set(name, made);
    return made;
  }

  /** What the platform answers by itself, before a function is asked. */
  function refusal(request: IncomingMessage, body: Buffer | undefined): Reply | undefined {
    if (!hosted.methods.includes(request.method ?? "")) return platformAnswer(405, "METHOD_NOT_ALLOWED", "Method not allowed");
    if (body === undefined) return platformAnswer(413, "PAYLOAD_TOO_LARGE", "The request's body is too large");
    const chain = request.headers[HEADERS.chain];
    const retryAfterMs = typeof chain === "string" ? chains.refused(chain) : undefined;
    if (retryAfterMs === undefined) return undefined;
    return platformAnswer(429, "RATE_LIMITED", "Rate limit exceeded for trace", { [HEADERS.overCalled]: String(retryAfterMs) });
  }

  async function serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const startedAt = Date.now();
    const body = await readAll(request, hosted.requestBytes);
    const name = /^\/functions\/v1\/([^/?]+)/.exec(request.url ?? "")?.[1] ?? "";
    const isolatesOfIt = pool(name);
    const refused = isolatesOfIt ? refusal(request, body) : platformAnswer(404, "NOT_FOUND", "Requested function was not found");
    if (!isolatesOfIt || body === undefined || refused) {
      if (refused) send(response, refused);
      return;
    }
    let taken: { isolate: Isolate; cold: boolean };
    try {
      taken = await isolatesOfIt.take();
    } catch (error) {
      options.onLog?.({ function: name, line: String(error) });
      send(response, platformAnswer(503, "BOOT_ERROR", "Function failed to start (please check logs)"));
      return;
    }
    const { isolate, cold } = taken;
    const { status, cost } = await attend(isolate, request, response, body);
    const { killed, cpuMs, peakHeapBytes } = await cost;
    const wallMs = Date.now() - startedAt;
    invocations.push({ function: name, isolate: isolate.id, startedAt, wallMs, cpuMs, peakHeapBytes, status, cold, killed });
  }

  /** Has the isolate answer, within the time. `cost` is known once its background work is through, or the isolate is gone. */
  async function attend(isolate: Isolate, request: IncomingMessage, response: ServerResponse, body: Buffer) {
    const { [HEADERS.chain]: chain, ...headers } = request.headers;
    const { reply, cost } = isolate.handle({
      method: request.method ?? "GET",
      // As behind the platform's gateway: the function sees its own address without /functions/v1.
      url: `http://127.0.0.1:${port}${(request.url ?? "").replace("/functions/v1", "")}`,
      headers,
      body,
      chain: typeof chain === "string" ? chain : undefined,
    });
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<Reply>((done) => {
      const answer = platformAnswer(504, "IDLE_TIMEOUT", "The function did not respond in time.");
      timer = setTimeout(() => done(answer), hosted.responseMs);
    });
    const broken = async () => {
      await cost;
      return endedAnswer(isolate);
    };
    const answer = await Promise.race([reply.catch(broken), late]);
    clearTimeout(timer);
    send(response, hosted.plainHtml && request.method === "GET" ? plain(answer) : answer);
    return { status: answer.status, cost };
  }

  return {
    url,
    port,
    invocations: () => invocations,
    resetInvocations: () => {
      invocations.length = 0;
    },
    isolates: () => isolates.map(({ name, isolate }) => recordOf(name, isolate)),
    kill: (name) => [...pools.values()].filter((p) => name === undefined || p.name === name).reduce((n, p) => n + p.killAll(), 0),
    stop: async () => {
      server.closeAllConnections();
      await new Promise<void>((closed) => server.close(() => closed()));
      await Promise.all([...pools.values()].map((p) => p.stop()));
    },
  };
}

function recordOf(name: string, isolate: Isolate): IsolateRecord {
  const { id, pid, startedAt, requests, cpuMs, bootCpuMs, peakHeapBytes, ended } = isolate;
  return { function: name, id, pid, startedAt, requests, cpuMs, bootCpuMs, peakHeapBytes, ended };
}

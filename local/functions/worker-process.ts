import { spawn, type ChildProcess } from "node:child_process";
import { randomUUID } from "node:crypto";
import { request as httpRequest, type IncomingHttpHeaders } from "node:http";
import { resolve } from "node:path";
import { createInterface } from "node:readline";
import type { KillReason, Limits } from "./limits.ts";
import { usageOf } from "./usage.ts";

export interface WorkerOptions {
  readonly name: string;
  readonly functionsDir: string;
  readonly env: Readonly<Record<string, string>>;
  readonly limits: Limits;
  readonly onLog: (line: string) => void;
}

export interface Reply {
  /** The function's own answer, and not one of the server before it, which tells nothing of the end of the work. */
  readonly handled: boolean;
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
}

/** What a request cost, background work included. */
export interface Cost {
  readonly cpuMs: number;
  readonly peakRssBytes: number;
  readonly killed: KillReason | undefined;
}

const ROOT = resolve(import.meta.dirname, "../..");
const DENO = resolve(ROOT, "node_modules/.bin/deno");
const HOST = "\u0001host ";
/** The header by which the worker marks the answers of its function. */
const HANDLED = "x-local-handled";
const POLL_MS = 25;
/** Time between beforeunload and the end. */
const GRACE_MS = 100;
const BOOT_TIMEOUT_MS = 60_000;

/** One Deno process that serves one function, one request at a time, so that CPU and memory have an owner. */
export class WorkerProcess {
  readonly #options: WorkerOptions;
  readonly #child: ChildProcess;
  readonly #exited: Promise<undefined>;
  readonly #born = Date.now();
  readonly #finished = new Map<string, (cost: { cpuMs: number; rssBytes: number }) => void>();
  #port = 0;
  #dead = false;
  bootCpuMs = 0;
  /** Memory of the runtime before it has loaded the function. */
  bareRssBytes = 0;
  killed: KillReason | undefined;

  private constructor(options: WorkerOptions) {
    this.#options = options;
    const { name, functionsDir, env, limits } = options;
    const megabytes = Math.floor(limits.memoryBytes / 1024 / 1024);
    this.#child = spawn(
      DENO,
      [
        "run",
        "--quiet",
        "--no-lock",
        "--no-prompt",
        "--cached-only",
        // The packages that npm has installed, at the versions that deno.json names: nothing is downloaded.
        "--node-modules-dir=manual",
        `--config=${resolve(functionsDir, name, "deno.json")}`,
        `--v8-flags=--max-old-space-size=${megabytes}`,
        "--allow-net",
        "--allow-env",
        `--allow-read=${[functionsDir, resolve(ROOT, "shared"), resolve(ROOT, "node_modules"), import.meta.dirname].join(",")}`,
        resolve(import.meta.dirname, "worker.ts"),
        `file://${resolve(functionsDir, name, "index.ts")}`,
      ],
      {
        cwd: ROOT,
        stdio: ["pipe", "pipe", "pipe"],
        detached: true,
        env: {
          PATH: process.env["PATH"] ?? "",
          HOME: process.env["HOME"] ?? "",
          DENO_NO_UPDATE_CHECK: "1",
          NO_COLOR: "1",
          SB_REGION: "local",
          SB_EXECUTION_ID: randomUUID(),
          ...env,
        },
      },
    );
    this.#child.stdin?.on("error", () => undefined);
    this.#exited = new Promise((done) => {
      const ended = () => {
        this.#dead = true;
        done(undefined);
      };
      this.#child.once("exit", ended);
      // There is no such program, or no process to be had.
      this.#child.once("error", ended);
    });
    if (this.#child.stderr) createInterface({ input: this.#child.stderr }).on("line", options.onLog);
  }

  /** Starts a worker and waits until its function listens. @throws Error BOOT_ERROR. */
  static async boot(options: WorkerOptions): Promise<WorkerProcess> {
    const worker = new WorkerProcess(options);
    try {
      await worker.#listening();
      return worker;
    } catch (error) {
      await worker.kill("early_drop", 0);
      throw error;
    }
  }

  get alive(): boolean {
    return !this.#dead;
  }

  get expired(): boolean {
    return Date.now() - this.#born > this.#options.limits.wallClockMs * 0.9;
  }

  /** Passes one request on. Resolves `reply` with the response and `cost` when its background work is through as well. */
  handle(request: { method: string; url: string; headers: IncomingHttpHeaders; body: Buffer }): {
    reply: Promise<Reply>;
    cost: Promise<Cost>;
  } {
    const id = randomUUID();
    const finished = new Promise<{ cpuMs: number; rssBytes: number }>((done) => this.#finished.set(id, done));
    const watch = this.#watch(finished);
    const reply = new Promise<Reply>((done, failed) => {
      const outgoing = httpRequest(
        {
          host: "127.0.0.1",
          port: this.#port,
          path: "/",
          method: request.method,
          headers: { ...request.headers, connection: "close", "x-local-request": id, "x-local-url": request.url },
        },
        (incoming) => {
          const chunks: Buffer[] = [];
          incoming.on("data", (chunk: Buffer) => chunks.push(chunk));
          incoming.on("end", () => {
            const { [HANDLED]: handled, ...headers } = incoming.headers;
            done({
              handled: handled !== undefined,
              status: incoming.statusCode ?? 500,
              headers,
              body: Buffer.concat(chunks),
            });
          });
          incoming.on("error", failed);
        },
      );
      outgoing.on("error", failed);
      outgoing.end(request.body);
    });
    const cost = Promise.race([finished, this.#exited]).then(async (report) => {
      this.#finished.delete(id);
      const observed = await watch.stop();
      return {
        cpuMs: report ? report.cpuMs : observed.cpuMs,
        peakRssBytes: Math.max(observed.peakRssBytes, report?.rssBytes ?? 0),
        killed: this.killed,
      };
    });
    return { reply, cost };
  }

  /** Tells the function, then ends the process. */
  async kill(reason: KillReason, graceMs = GRACE_MS): Promise<void> {
    if (this.#dead) return;
    this.killed ??= reason;
    if (graceMs > 0) {
      this.#child.stdin?.write(`unload ${reason}\n`);
      await new Promise((resolve) => setTimeout(resolve, graceMs));
    }
    this.#child.kill("SIGKILL");
    await this.#exited;
  }

  async #listening(): Promise<void> {
    const { stdout } = this.#child;
    if (!stdout) throw new Error("BOOT_ERROR: no output");
    const lines = createInterface({ input: stdout });
    await new Promise<void>((ready, failed) => {
      const timer = setTimeout(() => failed(new Error("BOOT_ERROR: the function did not start listening")), BOOT_TIMEOUT_MS);
      void this.#exited.then(() => {
        clearTimeout(timer);
        failed(new Error(`BOOT_ERROR: the worker ended with ${this.#child.exitCode ?? "a signal"}`));
      });
      lines.on("line", (line) => {
        if (!line.startsWith(HOST)) {
          this.#options.onLog(line);
          return;
        }
        const message = JSON.parse(line.slice(HOST.length)) as {
          type: string;
          port: number;
          cpuMs: number;
          id: string;
          rssBytes: number;
        };
        if (message.type === "ready") {
          this.#port = message.port;
          this.bootCpuMs = message.cpuMs;
          this.bareRssBytes = message.rssBytes;
          clearTimeout(timer);
          ready();
        } else {
          this.#finished.get(message.id)?.({ cpuMs: message.cpuMs, rssBytes: message.rssBytes });
        }
      });
    });
  }

  /** Samples the process while a request runs and ends it when it goes over a limit. */
  #watch(finished: Promise<unknown>): { stop(): Promise<{ cpuMs: number; peakRssBytes: number }> } {
    const { limits } = this.#options;
    const pid = this.#child.pid ?? 0;
    const first = usageOf(pid);
    let latest = 0;
    let peakRssBytes = 0;
    let over = false;
    void finished.then(() => (over = true));
    const loop = (async () => {
      const before = (await first)?.cpuMs ?? 0;
      while (!over && !this.#dead) {
        const usage = await usageOf(pid);
        if (!usage) break;
        latest = usage.cpuMs - before;
        peakRssBytes = Math.max(peakRssBytes, usage.rssBytes);
        if (usage.rssBytes > limits.memoryBytes) await this.kill("memory");
        else if (latest > limits.cpuMs) await this.kill("cpu");
        else if (Date.now() - this.#born > limits.wallClockMs) await this.kill("wall_clock");
        await new Promise((resolve) => setTimeout(resolve, POLL_MS));
      }
    })();
    return {
      stop: async () => {
        over = true;
        await loop;
        return { cpuMs: latest, peakRssBytes };
      },
    };
  }
}

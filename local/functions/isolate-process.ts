import { spawn, type ChildProcess } from "node:child_process";
import { request as httpRequest, type IncomingHttpHeaders } from "node:http";
import { resolve } from "node:path";
import { createInterface } from "node:readline";
import { INSTALLATION_FOLDER } from "../../functions/installation.gen.ts";
import { denoProgram } from "./deno.ts";
import { HEADERS, HOST_LINE, type FromIsolate, type IsolateSettings } from "./protocol.ts";

export interface ProcessOptions {
  readonly name: string;
  readonly functionsDir: string;
  /** All that the function sees of the environment. */
  readonly env: Readonly<Record<string, string>>;
  readonly settings: Omit<IsolateSettings, "hidden">;
  readonly onMessage: (message: FromIsolate) => void;
  /** A line that did not come through the function's console: the runtime's own. */
  readonly onLine: (line: string) => void;
}

export interface Incoming {
  readonly id: string;
  readonly method: string;
  readonly url: string;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
  /** The chain of calls that the request belongs to, when a function has sent it. */
  readonly chain: string | undefined;
}

export interface Reply {
  /** The function's own answer, and not one of the server before it, which tells nothing of the end of the work. */
  readonly handled: boolean;
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
}

const ROOT = resolve(import.meta.dirname, "../..");
/** What an isolate reads beside the functions: the engine, what is synced, and the packages. */
const READABLE = ["shared", INSTALLATION_FOLDER, "node_modules"];
const BOOT_TIMEOUT_MS = 60_000;
/** V8 ends a process whose heap is full with one of these. */
const OUT_OF_MEMORY: readonly (NodeJS.Signals | null)[] = ["SIGTRAP", "SIGABRT", "SIGILL"];

/** One Deno process that serves one function: the isolate and the wires to it. */
export class IsolateProcess {
  readonly exited: Promise<undefined>;
  readonly #child: ChildProcess;
  readonly #options: ProcessOptions;
  #port = 0;
  #gone = false;

  constructor(options: ProcessOptions) {
    this.#options = options;
    this.#child = start(options);
    this.#child.stdin?.on("error", () => undefined);
    this.exited = new Promise((done) => {
      const ended = () => {
        this.#gone = true;
        done(undefined);
      };
      this.#child.once("exit", ended);
      // There is no such program, or no process to be had.
      this.#child.once("error", ended);
    });
    if (this.#child.stderr) createInterface({ input: this.#child.stderr }).on("line", options.onLine);
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  get gone(): boolean {
    return this.#gone;
  }

  /** V8 has ended the process because its heap was full. */
  get outOfMemory(): boolean {
    return OUT_OF_MEMORY.includes(this.#child.signalCode);
  }

  /** Waits until the function listens. @throws Error BOOT_ERROR. */
  async listening(): Promise<void> {
    const { stdout } = this.#child;
    if (!stdout) throw new Error("BOOT_ERROR: no output");
    await new Promise<void>((ready, failed) => {
      const timer = setTimeout(() => failed(new Error("BOOT_ERROR: the function did not start listening")), BOOT_TIMEOUT_MS);
      void this.exited.then(() => {
        clearTimeout(timer);
        failed(new Error(`BOOT_ERROR: the isolate ended with ${this.#child.exitCode ?? "a signal"}`));
      });
      createInterface({ input: stdout }).on("line", (line) => {
        if (!line.startsWith(HOST_LINE)) {
          this.#options.onLine(line);
          return;
        }
        const message = JSON.parse(line.slice(HOST_LINE.length)) as FromIsolate;
        if (message.type === "ready") {
          this.#port = message.port;
          clearTimeout(timer);
          ready();
        }
        this.#options.onMessage(message);
      });
    });
  }

  /** Passes one request on. */
  async send(request: Incoming): Promise<Reply> {
    const { chain } = request;
    const headers = {
      ...request.headers,
      connection: "close",
      [HEADERS.request]: request.id,
      [HEADERS.url]: request.url,
      ...(chain === undefined ? {} : { [HEADERS.chain]: chain }),
    };
    return await new Promise<Reply>((done, failed) => {
      const outgoing = httpRequest(
        // A connection of its own: one that is used again can be closed by the other end at that moment.
        { agent: false, host: "127.0.0.1", port: this.#port, path: "/", method: request.method, headers },
        (incoming) => {
          const chunks: Buffer[] = [];
          incoming.on("data", (chunk: Buffer) => chunks.push(chunk));
          incoming.on("end", () => {
            const { [HEADERS.handled]: handled, ...rest } = incoming.headers;
            const status = incoming.statusCode ?? 500;
            done({ handled: handled !== undefined, status, headers: rest, body: Buffer.concat(chunks) });
          });
          incoming.on("error", failed);
        },
      );
      outgoing.on("error", failed);
      outgoing.end(request.body);
    });
  }

  /** Dispatches `beforeunload`, as soon as the function's code yields. */
  notice(reason: string): void {
    this.#child.stdin?.write(`unload ${reason}\n`);
  }

  async end(): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.exited;
  }
}

function start({ name, functionsDir, env, settings }: ProcessOptions): ChildProcess {
  // Deno needs them to start.
  const needed = { PATH: process.env["PATH"] ?? "", HOME: process.env["HOME"] ?? "", DENO_NO_UPDATE_CHECK: "1", NO_COLOR: "1" };
  const hidden = Object.keys(needed).filter((variable) => !(variable in env));
  return spawn(
    denoProgram(),
    [
      "run",
      "--quiet",
      "--no-lock",
      "--no-prompt",
      "--cached-only",
      // The packages that npm has installed, at the versions that deno.json names: nothing is downloaded.
      "--node-modules-dir=manual",
      `--config=${resolve(functionsDir, name, "deno.json")}`,
      `--v8-flags=--max-old-space-size=${Math.floor(settings.memoryBytes / 1024 / 1024)}`,
      "--allow-net",
      "--allow-env",
      `--allow-read=${[functionsDir, ...READABLE.map((folder) => resolve(ROOT, folder)), import.meta.dirname].join(",")}`,
      resolve(import.meta.dirname, "in-isolate.ts"),
      `file://${resolve(functionsDir, name, "index.ts")}`,
      JSON.stringify({ ...settings, hidden } satisfies IsolateSettings),
    ],
    { cwd: ROOT, stdio: ["pipe", "pipe", "pipe"], detached: true, env: { ...needed, ...env } },
  );
}

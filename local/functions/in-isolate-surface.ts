// Runs inside Deno: the places where the hosted runtime's globals differ from those of the Deno that it is compatible
// with.
import process from "node:process";
import { HEADERS, type IsolateSettings } from "./protocol.ts";

/** Makes the globals of this isolate those of the hosted runtime. `chain` names the current chain of calls. */
export function surface(settings: IsolateSettings, chain: () => string): void {
  for (const name of settings.hidden) Deno.env.delete(name);
  if (settings.deadMeters) deadenMeters();
  if (settings.noExit)
    for (const name of ["exit", "kill", "addSignalListener", "removeSignalListener"]) set(Deno, name, () => undefined);
  if (settings.absentGlobals) leaveOut();
  countChainedCalls(settings.functionsUrl, chain);
}

/** Globals of Deno 2.1.4 that `globalScope` of the hosted runtime's bootstrap.js does not list. */
const ABSENT = (
  "alert Cache CacheStorage close closed confirm EventSource localStorage location Location MessagePort name prompt " +
  "sessionStorage SharedArrayBuffer Storage Worker"
).split(" ");

/** Members of `Deno` that its denoOverrides.js and bootstrap.js list, but for file functions. */
const MEMBERS = new Set(
  (
    "addSignalListener args build Command connect connectTls consoleSize env errors execPath exit gid hostname isatty kill listen " +
    "loadavg mainModule memoryUsage networkInterfaces osRelease osUptime permissions Permissions PermissionStatus pid refTimer " +
    "removeSignalListener resolveDns serve serveHttp startTls stderr stdin stdout systemMemoryInfo uid unrefTimer upgradeWebSocket version"
  ).split(" "),
);
/** File functions that a function may call there: each within what the runtime lets it see. */
const FILES = new Set(
  "create cwd makeTempDir mkdir open readDir readFile readTextFile realPath realPathSync remove stat writeFile writeTextFile".split(
    " ",
  ),
);
/** File functions that throw there. */
const BLOCKED = new Set(
  (
    "chdir chmod chmodSync chown chownSync copyFile copyFileSync createSync link linkSync lstat lstatSync makeTempDirSync makeTempFile " +
    "makeTempFileSync mkdirSync openSync readDirSync readFileSync readLink readLinkSync readTextFileSync removeSync rename renameSync " +
    "statSync symlink symlinkSync truncate truncateSync utime utimeSync writeFileSync writeTextFileSync"
  ).split(" "),
);

function leaveOut(): void {
  for (const name of ABSENT) Reflect.deleteProperty(globalThis, name);
  for (const name of Object.keys(Deno).filter((one) => !MEMBERS.has(one) && !FILES.has(one))) {
    if (BLOCKED.has(name)) set(Deno, name, blocked(name));
    else Reflect.deleteProperty(Deno, name);
  }
}

function blocked(name: string): () => never {
  const { PermissionDenied } = Deno.errors;
  return () => {
    throw new PermissionDenied(`Deno.${name} is blocklisted`);
  };
}

function deadenMeters(): void {
  const memory = Deno.memoryUsage.bind(Deno);
  const nodeMemory = process.memoryUsage.bind(process);
  set(Deno, "memoryUsage", () => ({ ...memory(), rss: 0 }));
  set(
    process,
    "memoryUsage",
    Object.assign(() => ({ ...nodeMemory(), rss: 0 }), { rss: () => 0 }),
  );
  set(process, "cpuUsage", () => {
    console.warn("Warning: Not implemented: process.cpuUsage()");
    return { user: 0, system: 0 };
  });
}

class RateLimitError extends Error {
  override readonly name = "RateLimitError";
  readonly retryAfterMs: number;
  constructor(retryAfterMs: number) {
    super("Rate limit exceeded for trace");
    this.retryAfterMs = retryAfterMs;
  }
}

/** A call of a function of the same project goes out as a part of its caller's chain, and throws when the host refuses it. */
function countChainedCalls(functionsUrl: string, chain: () => string): void {
  const send = globalThis.fetch.bind(globalThis);
  set(Deno, "errors", { ...Deno.errors, RateLimitError });
  set(globalThis, "fetch", async (input: Request | URL | string, init?: RequestInit) => {
    const address = input instanceof Request ? input.url : String(input);
    if (!address.startsWith(`${functionsUrl}/`)) return await send(input, init);
    const request = new Request(input, init);
    request.headers.set(HEADERS.chain, chain());
    const response = await send(request);
    const retryAfterMs = response.headers.get(HEADERS.overCalled);
    if (retryAfterMs === null) return response;
    await response.body?.cancel();
    throw new RateLimitError(Number(retryAfterMs));
  });
}

function set(target: object, name: string, value: unknown): void {
  Object.defineProperty(target, name, { value, configurable: true, writable: true });
}

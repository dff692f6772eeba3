// Runs inside Deno: one function, served as the platform serves it. Started by isolate-process.ts with the entrypoint
// and its settings as arguments.
import { AsyncLocalStorage } from "node:async_hooks";
import { format } from "node:util";
import { surface } from "./in-isolate-surface.ts";
import { HEADERS, HOST_LINE, type FromIsolate, type IsolateSettings } from "./protocol.ts";

type Handler = (request: Request) => Response | Promise<Response>;

interface Current {
  readonly id: string;
  readonly chain: string;
  readonly background: Set<Promise<unknown>>;
  peakHeapBytes: number;
}

const SAMPLE_MS = 20;
const [entrypoint = "", settingsText = "{}"] = Deno.args;
const settings = JSON.parse(settingsText) as IsolateSettings;
const current = new AsyncLocalStorage<Current>();
const open = new Set<Current>();
/** Background work that was begun outside of a request. */
const ownerless: Current = { id: "", chain: "", background: new Set(), peakHeapBytes: 0 };
const memoryUsage = Deno.memoryUsage.bind(Deno);
let noticed = false;

const tell = (message: FromIsolate) => {
  Deno.stdout.writeSync(new TextEncoder().encode(`${HOST_LINE}${JSON.stringify(message)}\n`));
};
for (const level of ["log", "info", "debug", "warn", "error"] as const) {
  console[level] = (...args: unknown[]) => tell({ type: "log", text: format(...args) });
}

Object.defineProperty(globalThis, "EdgeRuntime", {
  value: {
    waitUntil(promise: Promise<unknown>) {
      const { background } = current.getStore() ?? ownerless;
      const settled = Promise.resolve(promise)
        .catch((error: unknown) => console.error("background work failed:", error instanceof Error ? error.name : "error"))
        .finally(() => background.delete(settled));
      background.add(settled);
    },
  },
});

const serve = Deno.serve.bind(Deno);
const intercepted = (...args: unknown[]) => {
  const handler = args.find((arg): arg is Handler => typeof arg === "function");
  if (!handler) throw new TypeError("Deno.serve needs a handler.");
  return serve({ hostname: "127.0.0.1", port: 0, onListen: ({ port }) => tell({ type: "ready", port }) }, (request) =>
    answer(handler, request),
  );
};
Object.defineProperty(Deno, "serve", { value: intercepted });

async function answer(handler: Handler, request: Request): Promise<Response> {
  const id = request.headers.get(HEADERS.request) ?? "";
  const chain = request.headers.get(HEADERS.chain) ?? crypto.randomUUID();
  const own: Current = { id, chain, background: new Set(), peakHeapBytes: 0 };
  const { body, drain } = absorbed(request);
  watch(own);
  try {
    return marked(await current.run(own, async () => await handler(asSent(request, body))));
  } catch (error) {
    console.error(error);
    return marked(new Response("Internal Server Error", { status: 500 }));
  } finally {
    await drain();
    // The response goes out first; what was handed to waitUntil still belongs to this request.
    queueMicrotask(() => void finished(own));
  }
}

/** The request as its sender made it: with the public address, and without the host's own headers. */
function asSent(request: Request, body: ReadableStream | null): Request {
  const url = new URL(request.headers.get(HEADERS.url) ?? request.url);
  const headers = new Headers(request.headers);
  for (const name of [HEADERS.request, HEADERS.url, HEADERS.chain]) headers.delete(name);
  const bodyless = request.method === "GET" || request.method === "HEAD";
  return new Request(url, { method: request.method, headers, ...(bodyless ? {} : { body }) });
}

/** The platform's gateway takes all of a body whether the function reads it or not; an answer before its end would be lost here. */
function absorbed(request: Request): { body: ReadableStream | null; drain: () => Promise<void> } {
  const reader = request.body?.getReader();
  if (!reader) return { body: null, drain: () => Promise.resolve() };
  const body = new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        const { done, value } = await reader.read();
        if (done) controller.close();
        else controller.enqueue(value);
      },
    },
    { highWaterMark: 0 },
  );
  const drain = async () => {
    while (!(await reader.read().catch(() => ({ done: true }))).done);
  };
  return { body, drain };
}

/** Tells the host that the function itself has answered, so that a report of the end of its work follows. */
function marked(response: Response): Response {
  const headers = new Headers(response.headers);
  headers.set(HEADERS.handled, "yes");
  return new Response(response.body, { status: response.status, statusText: response.statusText, headers });
}

async function finished(own: Current): Promise<void> {
  while (own.background.size > 0) await Promise.allSettled([...own.background]);
  await new Promise((resolve) => setTimeout(resolve, 0));
  const heapBytes = sample();
  open.delete(own);
  tell({ type: "finished", id: own.id, heapBytes, peakHeapBytes: own.peakHeapBytes });
}

/** Looks at the heap while requests are open. A loop that never yields is watched from outside. */
function watch(own: Current): void {
  open.add(own);
  if (open.size > 1) return;
  const timer = setInterval(() => {
    if (open.size === 0) clearInterval(timer);
    else sample();
  }, SAMPLE_MS);
}

function sample(): number {
  const { heapUsed, external } = memoryUsage();
  const bytes = heapUsed + external;
  for (const one of open) one.peakHeapBytes = Math.max(one.peakHeapBytes, bytes);
  if (bytes >= settings.memoryBytes * settings.noticeShare && !noticed) {
    noticed = true;
    unload("memory");
  }
  if (bytes >= settings.memoryBytes) tell({ type: "memory" });
  return bytes;
}

function unload(reason: string): void {
  globalThis.dispatchEvent(new CustomEvent("beforeunload", { cancelable: true, detail: { reason } }));
}

/** The host's commands; when its end closes, this isolate must not outlive it. */
async function obey(end: (code: number) => never): Promise<void> {
  for await (const chunk of Deno.stdin.readable.pipeThrough(new TextDecoderStream())) {
    for (const [, reason = ""] of chunk.matchAll(/^unload (\w+)$/gm)) unload(reason);
  }
  end(0);
}

void obey(Deno.exit.bind(Deno));
surface(settings, () => (current.getStore() ?? ownerless).chain);
await import(entrypoint);

// Runs inside Deno: one function, served as the platform serves it. Started by worker-process.ts with the entrypoint
// as its argument. Speaks JSON lines: "ready" and one report per request on standard output, commands on standard input.
import process from "node:process";

type Handler = (request: Request) => Response | Promise<Response>;

/** Lines that start with this are for the host; all others are the function's own log. */
const HOST = "\u0001host ";
const entrypoint = Deno.args[0] ?? "";
/** The runtime by itself, before any of the function's code is loaded. */
const bareRssBytes = Deno.memoryUsage().rss;
const background = new Set<Promise<unknown>>();

const tell = (message: Record<string, unknown>) => {
  Deno.stdout.writeSync(new TextEncoder().encode(`${HOST}${JSON.stringify(message)}\n`));
};
const cpuMs = () => {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1_000;
};

Object.defineProperty(globalThis, "EdgeRuntime", {
  value: {
    waitUntil(promise: Promise<unknown>) {
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
  return serve(
    {
      hostname: "127.0.0.1",
      port: 0,
      onListen: ({ port }) => tell({ type: "ready", port, cpuMs: cpuMs(), rssBytes: bareRssBytes }),
    },
    async (request) => {
      const id = request.headers.get("x-local-request") ?? "";
      const before = cpuMs();
      try {
        return marked(await handler(asSent(request)));
      } finally {
        // The response goes out first; what was handed to waitUntil still counts for this request.
        queueMicrotask(() => void finished(id, before));
      }
    },
  );
};
Object.defineProperty(Deno, "serve", { value: intercepted });

/** The request as its sender made it: with the public address, and without the host's own headers. */
function asSent(request: Request): Request {
  const url = new URL(request.headers.get("x-local-url") ?? request.url);
  const headers = new Headers(request.headers);
  for (const name of ["x-local-request", "x-local-url"]) headers.delete(name);
  const bodyless = request.method === "GET" || request.method === "HEAD";
  return new Request(url, { method: request.method, headers, ...(bodyless ? {} : { body: request.body }) });
}

/** Tells the host that the function itself has answered, so that a report of the end of its work follows. */
function marked(response: Response): Response {
  const headers = new Headers(response.headers);
  headers.set("x-local-handled", "yes");
  return new Response(response.body, { status: response.status, statusText: response.statusText, headers });
}

async function finished(id: string, before: number): Promise<void> {
  while (background.size > 0) await Promise.allSettled([...background]);
  await new Promise((resolve) => setTimeout(resolve, 0));
  tell({ type: "finished", id, cpuMs: cpuMs() - before, rssBytes: Deno.memoryUsage().rss });
}

/** The host's commands; when its end closes, this worker must not outlive it. */
async function obey(): Promise<void> {
  for await (const chunk of Deno.stdin.readable.pipeThrough(new TextDecoderStream())) {
    const reason = /^unload (\w+)/m.exec(chunk)?.[1];
    if (reason !== undefined) globalThis.dispatchEvent(new CustomEvent("beforeunload", { detail: { reason } }));
  }
  Deno.exit(0);
}

void obey();
await import(entrypoint);

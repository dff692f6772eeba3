import { spawnSync } from "node:child_process";
import { connect } from "node:net";
import { resolve } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { startFunctionsHost, type FunctionsHost, type FunctionsHostOptions } from "../local/functions/host.ts";

const functionsDir = resolve(import.meta.dirname, "fixtures/functions");

describe("the local Edge Functions host", () => {
  let host: FunctionsHost;
  let lines: string[];
  const start = async (options: Partial<FunctionsHostOptions> = {}) => {
    host = await startFunctionsHost({ functionsDir, env: { GIVEN: "yes" }, onLog: ({ line }) => lines.push(line), ...options });
  };
  const call = (path: string, init?: RequestInit) => fetch(`${host.url}/probe/${path}`, init);
  /** The cost of a request is known once its background work is through, a little after its answer. */
  const recorded = async (count = 1) => {
    for (let tries = 0; host.invocations().length < count; tries++) {
      if (tries > 400) throw new Error("the invocation was not recorded");
      await new Promise((again) => setTimeout(again, 10));
    }
    return host.invocations();
  };
  /** The process that has a request in hand. */
  const inFlight = async () => {
    for (;;) {
      const busy = host.isolates().find((isolate) => isolate.ended === undefined && isolate.requests > 0);
      if (busy) return busy.pid;
      await new Promise((again) => setTimeout(again, 10));
    }
  };
  const workers = () =>
    spawnSync("pgrep", ["-f", `probe/index.ts .*"${host.url}"`])
      .stdout.toString()
      .trim();

  beforeEach(() => {
    lines = [];
  });
  afterEach(() => host.stop());

  it("passes method, path, query, headers and body on, and the answer back", async () => {
    await start();
    const answer = await call("echo?a=1", { method: "PUT", headers: { "x-test": "t" }, body: "hello" });
    expect([answer.status, answer.headers.get("x-answer")]).toEqual([201, "yes"]);
    expect(await answer.json()).toEqual({
      method: "PUT",
      path: "/probe/echo",
      query: "?a=1",
      header: "t",
      body: "hello",
      driver: "function",
    });
  });

  it("gives a function the environment it was given and the platform's own, not the machine's", async () => {
    process.env["ISTHMUS_SECRET_OF_THE_MACHINE"] = "x";
    await start({ project: { SUPABASE_URL: "http://project" } });
    const env = (await (await call("env")).json()) as Record<string, string>;
    expect(env["GIVEN"]).toBe("yes");
    expect(env["SB_EXECUTION_ID"]).toBe(host.isolates()[0]?.id);
    expect(env["DENO_DEPLOYMENT_ID"]).toBe("local_probe_1");
    expect(Object.keys(env).sort()).toEqual(["DENO_DEPLOYMENT_ID", "GIVEN", "SB_EXECUTION_ID", "SB_REGION", "SUPABASE_URL"]);
  });

  it("answers before background work ends, and charges the request for it", async () => {
    await start();
    const answer = await call("later");
    expect([answer.status, lines]).toEqual([202, []]);
    const [invocation] = await recorded();
    expect(lines).toContain("background done");
    // 400 ms of work, less what other processes took of them.
    expect(invocation?.cpuMs).toBeGreaterThan(50);
  });

  it("answers 503 when an isolate dies, and serves the next request with a new one", async () => {
    await start();
    const dying = call("hang");
    process.kill(await inFlight(), "SIGKILL");
    expect((await dying).status).toBe(503);
    expect((await call("echo")).status).toBe(201);
  });

  it("answers 503 when a function does not start, and logs why", async () => {
    await start();
    const answer = await fetch(`${host.url}/broken`);
    expect([answer.status, ((await answer.json()) as { code: string }).code]).toEqual([503, "BOOT_ERROR"]);
    expect(lines.join("\n")).toContain("broken at start");
  });

  it("lets a function neither run programs nor write files nor read outside its own", async () => {
    await start({ hosted: { absentGlobals: false } });
    expect(await (await call("rights")).json()).toEqual({ run: "NotCapable", write: "NotCapable", read: "NotCapable" });
  });

  it("can kill workers in the middle of a request, and leaves none behind when it stops", async () => {
    await start();
    const killed = call("hang");
    await inFlight();
    expect(host.kill("probe")).toBe(1);
    expect((await killed).status).toBe(503);
    expect((await call("echo")).status).toBe(201);
    await host.stop();
    expect(workers()).toBe("");
    await start();
  });

  describe.each([
    ["has an isolate of its own", 1],
    ["shares an isolate", Infinity],
  ])("when each request %s: after more requests than there are isolates have died, it still answers", (_, requestsPerIsolate) => {
    const DEATHS = 3;
    const raw = (text: string, end: "wait" | "abort") =>
      new Promise<void>((closed) => {
        const socket = connect(host.port, "127.0.0.1", () => {
          socket.write(text);
          if (end === "abort") setTimeout(() => socket.destroy(), 30);
        });
        socket.on("error", () => undefined).on("data", () => undefined);
        socket.once("close", () => closed());
      });
    const post = (path: string, headers: string, body = "") =>
      `POST /functions/v1/${path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n${headers}\r\n\r\n${body}`;

    it.each<[string, () => Promise<unknown>]>([
      ["the client aborts in the middle of the body", () => raw(post("probe/echo", "content-length: 100", "half"), "abort")],
      ["the client aborts while the function works", () => raw(post("probe/nap", "content-length: 0"), "abort")],
      ["the request cannot be passed on", () => raw(post("probe/echo", "content-length: 0\r\ntrailer: x-sum"), "wait")],
      [
        "the server before the handler refuses it",
        () => raw(post("probe/echo", "content-length: 0\r\nx-local-url: nowhere\r\nexpect: 200-ok"), "wait"),
      ],
      ["the answer cannot be passed on", () => call("strange").catch(() => undefined)],
      [
        "a GET has a body",
        () => raw("GET /functions/v1/probe/echo HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}", "wait"),
      ],
      ["the handler throws", () => call("throw")],
      ["the isolate is killed", () => killed(call("hang"))],
      ["the function does not start", () => fetch(`${host.url}/broken`)],
    ])("%s", async (_, request) => {
      await start({ hosted: { requestsPerIsolate, isolates: DEATHS - 1 } });
      for (let death = 0; death < DEATHS; death++) await request();
      const answer = await call("echo", { method: "POST", body: "alive", signal: AbortSignal.timeout(30_000) });
      expect(answer.status).toBe(201);
    });

    async function killed(request: Promise<unknown>): Promise<void> {
      let over = false;
      void request.finally(() => (over = true));
      while (!over) {
        host.kill("probe");
        await new Promise((again) => setTimeout(again, 20));
      }
    }
  });

  it("ends what waits for a worker, and a worker that is starting, when it stops", async () => {
    await start({ hosted: { requestsPerIsolate: 1, isolates: 1 } });
    const waiting = [call("hang"), call("echo"), call("echo")].map((one) => one.catch(() => undefined));
    while (workers() === "") await new Promise((again) => setTimeout(again, 10));
    await host.stop();
    await Promise.all(waiting);
    expect(workers()).toBe("");
    await start();
  });

  it("answers 404 for a function that does not exist", async () => {
    await start({ names: ["probe"] });
    expect((await fetch(`${host.url}/broken`)).status).toBe(404);
    expect((await fetch(`${host.url}/..%2fprobe`)).status).toBe(404);
  });
});

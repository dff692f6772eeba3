import { resolve } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { Hosted } from "../local/functions/hosted.ts";
import { startFunctionsHost, type FunctionsHost } from "../local/functions/host.ts";

const functionsDir = resolve(import.meta.dirname, "fixtures/functions");
const MB = 1024 * 1024;

describe("what the local functions host does as the hosted runtime does", () => {
  let host: FunctionsHost;
  let lines: string[];
  // One isolate for requests that come together, but where a test says otherwise: most are about what happens within
  // one.
  const start = async (hosted: Partial<Hosted> = {}) => {
    host = await startFunctionsHost({
      functionsDir,
      env: {},
      onLog: ({ line }) => lines.push(line),
      hosted: { bootEach: false, ...hosted },
    });
  };
  const call = (path: string, init?: RequestInit) => fetch(`${host.url}/probe/${path}`, init);
  const until = async (what: () => boolean) => {
    for (let tries = 0; !what(); tries++) {
      if (tries > 500) throw new Error(`it did not come: ${JSON.stringify([host.isolates(), lines])}`);
      await new Promise((again) => setTimeout(again, 10));
    }
  };
  const ends = () => host.isolates().map((isolate) => isolate.ended);
  const codeOf = async (answer: Response) => ({ status: answer.status, code: ((await answer.json()) as { code: string }).code });
  const KILLED = { status: 546, code: "WORKER_RESOURCE_LIMIT" };

  beforeEach(() => {
    lines = [];
  });
  afterEach(() => host.stop());

  describe("an isolate", () => {
    it("is shared by requests at the same time", async () => {
      await start();
      await call("echo");
      const began = Date.now();
      await Promise.all([call("nap"), call("nap"), call("nap")]);
      expect(Date.now() - began).toBeLessThan(800);
      expect(host.isolates().map((isolate) => isolate.requests)).toEqual([4]);
    });

    it("is started by each request that finds none, up to their number, and takes requests in its turn", async () => {
      await start({ isolates: 3, bootEach: true });
      await Promise.all([call("nap"), call("nap"), call("nap"), call("nap")]);
      expect(host.isolates().length).toBe(3);
      const before = host.isolates().map((isolate) => isolate.requests);
      for (let n = 0; n < 6; n++) await call("echo");
      expect(host.isolates().map((isolate, n) => isolate.requests - (before[n] ?? 0))).toEqual([2, 2, 2]);
    });

    it("is started once for requests that come together where the switch says so", async () => {
      await start();
      await Promise.all([call("nap"), call("nap"), call("nap"), call("nap")]);
      expect(host.isolates().map((isolate) => isolate.requests)).toEqual([4]);
    });

    it("is one request's where the switch says so, and stays warm", async () => {
      await start({ requestsPerIsolate: 1, isolates: 3 });
      await Promise.all([call("nap"), call("nap"), call("nap")]);
      await Promise.all([call("nap"), call("nap"), call("nap")]);
      expect(host.isolates().map((isolate) => isolate.requests)).toEqual([2, 2, 2]);
    });

    it("keeps a request waiting no longer than it is told for an isolate", async () => {
      await start({ requestsPerIsolate: 1, isolates: 1, isolateWaitMs: 300 });
      const first = call("nap");
      expect((await call("hang")).status).toBe(503);
      expect((await first).status).toBe(200);
    });
  });

  describe("CPU adds up over an isolate's life", () => {
    /** Two requests at a time: how much CPU they get is up to the machine. */
    const workUntil = async (done: () => boolean) => {
      for (let tries = 0; !done(); tries++) {
        if (tries > 200) throw new Error(JSON.stringify(host.isolates()));
        const answers = await Promise.all([call("work?ms=30"), call("work?ms=30")]);
        expect(answers.map((answer) => answer.status)).toEqual([200, 200]);
      }
    };

    it("over the soft limit it finishes what it has and takes nothing new", async () => {
      await start({ cpuSoftMs: 300 });
      await workUntil(() => host.isolates().length > 1);
      await until(() => ends()[0] !== undefined);
      const [first, second] = host.isolates();
      expect([first?.ended, second?.ended, lines]).toEqual(["early_drop", undefined, ["unloading: early_drop"]]);
      expect(first?.cpuMs).toBeGreaterThanOrEqual(300);
    });

    it("over the hard limit it is killed with everything in flight, after a notice", async () => {
      await start({ cpuSoftMs: 10_000, cpuHardMs: 900, noticeShare: 0.3 });
      await workUntil(() => lines.includes("unloading: cpu"));
      const beside = call("hang");
      expect(await codeOf(await call("spin"))).toEqual(KILLED);
      expect(await codeOf(await beside)).toEqual(KILLED);
      expect(ends()).toEqual(["cpu"]);
    });
  });

  it("has two seconds of CPU, where no switch says otherwise", async () => {
    await start();
    expect(await codeOf(await call("spin"))).toEqual(KILLED);
    const [isolate] = host.isolates();
    expect(isolate?.ended).toBe("cpu");
    expect(isolate?.cpuMs).toBeGreaterThanOrEqual(2_000);
    expect(isolate?.cpuMs).toBeLessThan(3_000);
  });

  describe("memory is that of the isolate", () => {
    it.each(["grow", "heap"])("over the limit it is killed with everything in flight (%s)", async (how) => {
      await start({ memoryBytes: 64 * MB, cpuSoftMs: 10_000, cpuHardMs: 20_000 });
      const beside = call("hang");
      expect(await codeOf(await call(how))).toEqual(KILLED);
      expect(await codeOf(await beside)).toEqual(KILLED);
      expect(ends()).toEqual(["memory"]);
    });

    it("gives notice before the limit", async () => {
      await start({ memoryBytes: 64 * MB, noticeShare: 0.6 });
      await call("hold?mb=45");
      await until(() => lines.includes("unloading: memory"));
    });

    it("half full and idle it is dropped", async () => {
      await start({ memoryBytes: 64 * MB });
      expect((await call("hold?mb=40")).status).toBe(200);
      await until(() => ends()[0] === "early_drop");
    });
  });

  describe("wall clock", () => {
    it("at half of it an isolate takes nothing new, at its end it is killed with everything in flight", async () => {
      await start({ wallClockMs: 1_200 });
      const caught = call("hang");
      await until(() => host.isolates().length > 0);
      await new Promise((later) => setTimeout(later, 700));
      expect((await call("echo")).status).toBe(201);
      expect(host.isolates().map((isolate) => isolate.requests)).toEqual([1, 1]);
      expect(await codeOf(await caught)).toEqual(KILLED);
      expect(ends()[0]).toBe("wall_clock");
      expect(lines).toContain("unloading: wall_clock");
    });

    it("an idle isolate is dropped at half of it, one with a pending waitUntil is not", async () => {
      await start({ wallClockMs: 2_000 });
      expect((await call("linger?ms=1200")).status).toBe(202);
      await until(() => ends()[0] !== undefined);
      expect([ends(), lines]).toEqual([["early_drop"], ["lingered", "unloading: early_drop"]]);
    });

    it("without early drop it lives to the end", async () => {
      await start({ wallClockMs: 600, earlyDrop: false });
      await call("echo");
      await until(() => ends()[0] !== undefined);
      expect(ends()).toEqual(["wall_clock"]);
    });
  });

  it("answers 504 when no response comes in time, and the isolate stays", async () => {
    await start({ responseMs: 300 });
    expect(await codeOf(await call("hang"))).toEqual({ status: 504, code: "IDLE_TIMEOUT" });
    expect((await call("echo")).status).toBe(201);
    expect([host.isolates().map((isolate) => isolate.requests), ends()]).toEqual([[2], [undefined]]);
  });

  describe("meters", () => {
    it("tell nothing of CPU and resident memory, with a warning; the heap is there", async () => {
      await start();
      const told = (await (await call("meters")).json()) as { heapUsed: number };
      expect(told).toMatchObject({ cpu: { user: 0, system: 0 }, rss: [0, 0, 0] });
      expect(told.heapUsed).toBeGreaterThan(1_000_000);
      expect(lines).toEqual(["Warning: Not implemented: process.cpuUsage()"]);
    });

    it("are alive where the switch says so", async () => {
      // The current Deno's own meter is a member of Deno that the platform lacks.
      await start({ deadMeters: false, absentGlobals: false });
      const { rss } = (await (await call("meters")).json()) as { rss: number[] };
      expect(Math.min(...rss)).toBeGreaterThan(1_000_000);
    });
  });

  it("cuts long log messages, and loses what is more than so many in a window", async () => {
    await start({ logCharacters: 5, logEvents: 3, logWindowMs: 60_000 });
    await call("log?events=2&length=9");
    await call("log?events=1&length=9");
    await until(() => lines.length >= 3);
    expect(lines).toEqual(["xxxxx", "xxxxx", "two\nl"]);
  });

  it("refuses bodies over its limit", async () => {
    await start({ requestBytes: 1_000 });
    expect((await call("echo", { method: "POST", body: "x".repeat(1_000) })).status).toBe(201);
    expect((await call("echo", { method: "POST", body: "x".repeat(1_001) })).status).toBe(413);
  });

  it("lets a chain of requests call functions so many times a minute, then fetch throws", async () => {
    await start({ chainedCalls: 3 });
    const chain = (depth: number) => call(`chain?depth=${depth}&base=${encodeURIComponent(host.url)}`);
    expect(await (await chain(5)).json()).toEqual(["called", "called", "called", "refused"]);
    expect(await (await chain(2)).json()).toEqual(["called", "called"]);
  });

  it("lets no other methods through than the platform, and no web page", async () => {
    await start();
    expect((await call("echo", { method: "HEAD" })).status).toBe(405);
    expect((await call("html")).headers.get("content-type")).toBe("text/plain; charset=utf-8");
    expect((await call("html", { method: "POST" })).headers.get("content-type")).toBe("text/html; charset=utf-8");
  });

  it("has no global and no member of Deno that the platform lacks, and blocklisted file functions throw", async () => {
    await start();
    expect(await (await call("surface")).json()).toEqual({
      globals: ["fetch", "WebSocket"],
      members: ["connect", "startTls"],
      readFileSync: "PermissionDenied",
    });
  });

  it("has what its Deno has where the switch says so", async () => {
    await start({ absentGlobals: false });
    const surface = (await (await call("surface")).json()) as { globals: string[]; members: string[] };
    expect(surface.globals).toContain("Worker");
    expect(surface.members).toContain("createHttpClient");
  });

  it("does not let a function end itself", async () => {
    await start();
    expect(await (await call("exit")).text()).toBe("still here");
  });

  it("lets a function end itself, other methods through and web pages out where the switches say so", async () => {
    await start({ noExit: false, methods: ["GET", "HEAD"], plainHtml: false });
    expect((await call("html")).headers.get("content-type")).toBe("text/html; charset=utf-8");
    expect((await call("echo", { method: "HEAD" })).status).toBe(201);
    expect((await call("echo", { method: "PUT" })).status).toBe(405);
    expect((await call("exit")).status).toBe(503);
    expect(ends()).toEqual(["crash"]);
  });

  it.each([
    ["a name of the platform's", { SUPABASE_URL: "x" }, /SUPABASE_URL/],
    ["a name too long", { ["N".repeat(257)]: "x" }, /256/],
    ["a value too long", { NAME: "x".repeat(24_577) }, /NAME.*24576/],
    ["too many", Object.fromEntries(Array.from({ length: 101 }, (_, n) => [`N${n}`, ""])), /101 secrets/],
  ])("takes no secrets that the platform would not take: %s", async (_, env, message) => {
    await expect(startFunctionsHost({ functionsDir, env }).then((started) => (host = started))).rejects.toThrow(message);
    await start();
  });
});

import { spawn } from "node:child_process";
import { once } from "node:events";
import { Redis } from "@upstash/redis";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { startRedis, type LocalRedis } from "../local/redis/server.ts";
import { SET_MANY_SCRIPT } from "../shared/cache/cache-script.ts";

const BACKINGS = ["redis-server", "built-in"] as const;

describe.each(BACKINGS)("the REST endpoint in front of %s", (prefer) => {
  let local: LocalRedis;
  let redis: Redis;

  beforeEach(async () => {
    local = await startRedis({ prefer });
    redis = new Redis({ url: local.url, token: local.token, retry: false, automaticDeserialization: false });
  });

  afterEach(() => local.stop());

  const raw = (path: string, init: { method?: string; body?: string; headers?: Record<string, string> } = {}) =>
    fetch(local.url + path, {
      ...init,
      headers: { authorization: `Bearer ${local.token}`, ...init.headers },
    });

  it("says what stands behind it", () => {
    expect(local.backing).toBe(prefer);
  });

  it("sets, reads, lists and removes keys", async () => {
    expect(await redis.ping()).toBe("PONG");
    expect(await redis.set("a", "1")).toBe("OK");
    expect(await redis.mset({ b: "2", kéy: "žluťoučký 🐴" })).toBe("OK");
    expect(await redis.get("kéy")).toBe("žluťoučký 🐴");
    expect(await redis.get("none")).toBeNull();
    expect(await redis.mget("a", "none", "b")).toEqual(["1", null, "2"]);
    expect(await redis.exists("a", "b", "none")).toBe(2);
    expect(await redis.dbsize()).toBe(3);
    expect(await redis.del("a", "none")).toBe(1);
    expect(await redis.get("a")).toBeNull();
    expect(await redis.flushdb()).toBe("OK");
    expect(await redis.dbsize()).toBe(0);
  });

  it("keeps a value that reads OK apart from the status OK", async () => {
    await redis.set("a", "OK");
    expect(await redis.get("a")).toBe("OK");
    const encoded = async (path: string) => (await raw(path, { headers: { "Upstash-Encoding": "base64" } })).json();
    expect(await encoded("/get/a")).toEqual({ result: Buffer.from("OK").toString("base64") });
    expect(await encoded("/set/a/b")).toEqual({ result: "OK" });
    expect(await encoded("/ping")).toEqual({ result: Buffer.from("PONG").toString("base64") });
  });

  it("sets only absent keys with NX and only present ones with XX", async () => {
    expect(await redis.set("a", "1", { xx: true })).toBeNull();
    expect(await redis.set("a", "1", { nx: true })).toBe("OK");
    expect(await redis.set("a", "2", { nx: true })).toBeNull();
    expect(await redis.get("a")).toBe("1");
    expect(await redis.set("a", "3", { xx: true })).toBe("OK");
    expect(await redis.get("a")).toBe("3");
  });

  it("gives a token that only reads its reads, and refuses its writes", async () => {
    await redis.set("a", "1");
    const reader = new Redis({ url: local.url, token: local.readOnlyToken, retry: false, automaticDeserialization: false });
    expect(await reader.get("a")).toBe("1");
    await expect(reader.set("a", "2")).rejects.toThrow(/NOPERM/);
    await expect(reader.flushdb()).rejects.toThrow(/NOPERM/);
    await expect(reader.pipeline().get("a").set("a", "2").exec()).rejects.toThrow(/NOPERM/);
    expect(await redis.get("a")).toBe("1");
  });

  it("lets keys live as long as told", async () => {
    await redis.set("short", "1", { px: 20 });
    await redis.set("long", "1", { ex: 3_600 });
    await redis.set("forever", "1");
    expect(await redis.ttl("long")).toBe(3_600);
    expect(await redis.ttl("forever")).toBe(-1);
    expect(await redis.ttl("none")).toBe(-2);
    expect(await redis.expire("forever", 60)).toBe(1);
    expect(await redis.ttl("forever")).toBe(60);
    expect(await redis.expire("none", 60)).toBe(0);
    await vi.waitFor(async () => expect(await redis.get("short")).toBeNull(), { interval: 5 });
    expect(await redis.exists("short", "long")).toBe(1);
    await redis.expire("long", -1);
    expect(await redis.get("long")).toBeNull();
  });

  it("scans by pattern, to the end of the cursor", async () => {
    const keys = Array.from({ length: 30 }, (_, n) => `iso:patients:${n}`);
    await redis.mset(Object.fromEntries([...keys, "iso.patients.x", "other"].map((key) => [key, "v"])));
    const found: string[] = [];
    let cursor = "0";
    do {
      const [next, page] = await redis.scan(cursor, { match: "iso:*", count: 10 });
      found.push(...page);
      cursor = next;
    } while (cursor !== "0");
    expect(found.toSorted()).toEqual(keys.toSorted());
  });

  it("runs the pipeline's script: many keys, one life, one billed command", async () => {
    const before = local.commands();
    expect(await redis.eval(SET_MANY_SCRIPT, ["k1", "k2"], ["v1", "v2", "600"])).toBe(2);
    expect(local.commands()).toBe(before + 1);
    expect(await redis.mget("k1", "k2")).toEqual(["v1", "v2"]);
    expect(await redis.ttl("k2")).toBe(600);
  });

  it("bills each command of a pipeline, and a variadic one once", async () => {
    await redis.set("a", "1");
    expect(local.commands()).toBe(1);
    await redis.mget("a", "b", "c");
    expect(local.commands()).toBe(2);
    expect(await redis.pipeline().get("a").set("b", "2").dbsize().exec()).toEqual(["1", "OK", 2]);
    expect(local.commands()).toBe(5);
    expect(await redis.multi().set("c", "3").get("c").exec()).toEqual(["OK", "3"]);
    expect(local.commands()).toBe(7);
  });

  it("answers each command of a pipeline by itself, errors included", async () => {
    const results = await redis.pipeline().set("a", "1").eval("broken(", [], []).get("a").exec({ keepErrors: true });
    expect(results.map(({ error }) => error === undefined)).toEqual([true, false, true]);
    expect(results[2]?.result).toBe("1");
  });

  it("runs nothing of a transaction with an unknown command", async () => {
    const response = await raw("/multi-exec", { method: "POST", body: '[["SET","a","1"],["NOSUCH","a"]]' });
    expect(response.status).toBe(400);
    expect(await response.json()).toEqual({ error: expect.stringMatching(/^ERR unknown command/) as string });
    expect(await redis.get("a")).toBeNull();
  });

  it("speaks plain JSON without the encoding header", async () => {
    await redis.set("a", "ž");
    const plain = new Redis({ url: local.url, token: local.token, retry: false, responseEncoding: false });
    expect(await plain.get("a")).toBe("ž");
    expect(await plain.mget("a", "none")).toEqual(["ž", null]);
  });

  it("takes a command from the path, the body as its last word but for the query", async () => {
    const post = await raw("/set/path%3Akey?EX=100", { method: "POST", body: "a value" });
    expect(await post.json()).toEqual({ result: "OK" });
    expect(await redis.get("path:key")).toBe("a value");
    expect(await (await raw("/mget/path:key/none")).json()).toEqual({ result: ["a value", null] });
  });

  it("answers 401 without the token", async () => {
    const stranger = new Redis({ url: local.url, token: "wrong", retry: false });
    await expect(stranger.get("a")).rejects.toThrow(/WRONGPASS/);
    expect((await fetch(`${local.url}/get/a`)).status).toBe(401);
    expect((await fetch(`${local.url}/get/a?_token=${local.token}`)).status).toBe(200);
    expect(local.commands()).toBe(1);
  });

  it("answers 400 to a wrong command, an unreadable one and one that needs a connection", async () => {
    await expect(redis.exec(["GET"])).rejects.toThrow(/wrong number of arguments/);
    await expect(redis.exec(["NOSUCH"])).rejects.toThrow(/unknown command/);
    await expect(redis.exec(["WATCH", "a"])).rejects.toThrow(/not available/);
    await expect(redis.exec(["SET", "a", "1", "EX", "0"])).rejects.toThrow(/invalid expire time/);
    await expect(redis.exec(["SET", "a", "1", "EX", "soon"])).rejects.toThrow(/not an integer/);
    const response = await raw("/", { method: "POST", body: "{" });
    expect(response.status).toBe(400);
    expect(await response.json()).toEqual({ error: expect.stringMatching(/^ERR/) as string });
    expect((await raw("/get/a", { method: "DELETE" })).status).toBe(405);
  });

  it("carries thousands of keys in one command", async () => {
    const keys = Array.from({ length: 5_000 }, (_, n) => `iso:patients:${n}`);
    const values = keys.map((_, n) => `00000000-0000-5000-8000-${String(n).padStart(12, "0")}`);
    expect(await redis.eval(SET_MANY_SCRIPT, keys, [...values, "60"])).toBe(5_000);
    expect(await redis.mget(...keys)).toEqual(values);
    expect(local.commands()).toBe(2);
  });

  it("forgets everything in a crash, refuses connections, and comes back on the same port", async () => {
    await redis.set("a", "1");
    const { url } = local;
    await local.crash();
    await expect(redis.get("a")).rejects.toThrow(/fetch failed/);
    await local.restart();
    expect(local.url).toBe(url);
    expect(await redis.get("a")).toBeNull();
    expect(await redis.set("a", "2")).toBe("OK");
  });

  it("when full refuses writes in the vendor's words, and still reads and deletes", async () => {
    await redis.mset({ a: "1", b: "2" });
    local.faults.mode = "full";
    await expect(redis.set("c", "3")).rejects.toThrow(/ERR DB capacity quota exceeded/);
    await expect(redis.eval(SET_MANY_SCRIPT, ["c"], ["3", "60"])).rejects.toThrow(/quota exceeded/);
    expect(await redis.mget("a", "b", "c")).toEqual(["1", "2", null]);
    expect(await redis.del("a")).toBe(1);
    local.faults.mode = "ok";
    expect(await redis.set("c", "3")).toBe("OK");
  });

  it("when rate-limited answers 429 in the vendor's words and does nothing", async () => {
    local.faults.mode = "rate-limited";
    await expect(redis.set("a", "1")).rejects.toThrow(/ERR max requests limit exceeded/);
    expect((await raw("/get/a")).status).toBe(429);
    expect(local.commands()).toBe(0);
    local.faults.mode = "ok";
    expect(await redis.get("a")).toBeNull();
  });

  it("when slow answers right, but late", async () => {
    await redis.set("a", "1");
    Object.assign(local.faults, { mode: "slow", delayMs: 60 });
    const startedAt = performance.now();
    expect(await redis.get("a")).toBe("1");
    expect(performance.now() - startedAt).toBeGreaterThanOrEqual(55);
  });

  it("when wrong answers other values, garbage or too few, and takes writes as ever", async () => {
    await redis.mset({ a: "1", b: "2", c: "3" });
    local.faults.mode = "wrong";
    const answers = [await redis.mget("a", "b", "c"), await redis.mget("a", "b", "c"), await redis.mget("a", "b", "c")];
    expect(answers[0]).toEqual(["2", "3", "1"]);
    expect(answers[1]).toEqual(["garbage 1", "garbage 1", "garbage 1"]);
    expect(answers[2]).toEqual(["1", "2"]);
    expect(await redis.get("a")).toMatch(/garbage/);
    expect(await redis.set("a", "9")).toBe("OK");
    local.faults.mode = "ok";
    expect(await redis.mget("a", "b", "c")).toEqual(["9", "2", "3"]);
  });

  it("when absent resets every connection", async () => {
    await redis.set("a", "1");
    local.faults.mode = "absent";
    await expect(redis.get("a")).rejects.toThrow(/fetch failed/);
    await expect(raw("/get/a")).rejects.toThrow();
    local.faults.mode = "ok";
    expect(await redis.get("a")).toBe("1");
  });
});

describe("the built-in store", () => {
  it("runs no other script than the pipeline's", async () => {
    const local = await startRedis({ prefer: "built-in" });
    const redis = new Redis({ url: local.url, token: local.token, retry: false });
    await expect(redis.eval("return 1", [], [])).rejects.toThrow(/one script/);
    await local.stop();
  });

  it("expires by its injected clock", async () => {
    let now = 1_000_000;
    const local = await startRedis({ prefer: "built-in", clock: () => now });
    const redis = new Redis({
      url: local.url,
      token: local.token,
      retry: false,
      automaticDeserialization: false,
    });
    await redis.set("a", "1", { ex: 3_600 });
    now += 3_599_999;
    expect(await redis.get("a")).toBe("1");
    now += 1;
    expect(await redis.get("a")).toBeNull();
    expect(await redis.dbsize()).toBe(0);
    await local.stop();
  });
});

describe("a redis-server", () => {
  it("is preferred when installed, and gone after a stop", async () => {
    const local = await startRedis();
    expect(local.backing).toBe("redis-server");
    const redis = new Redis({ url: local.url, token: local.token, retry: false });
    expect(await redis.ping()).toBe("PONG");
    await local.stop();
    await expect(redis.ping()).rejects.toThrow(/fetch failed/);
  });

  it("does not outlive the process that started it, even a killed one", async () => {
    const script = [
      'import { startRedis } from "./local/redis/server.ts";',
      'const local = await startRedis({ prefer: "redis-server" });',
      "console.log(JSON.stringify({ url: local.url, token: local.token }));",
    ].join("\n");
    const child = spawn(process.execPath, ["--import", "tsx", "--input-type=module", "-e", script], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    const [line] = (await once(child.stdout, "data")) as [Buffer];
    const redis = new Redis({ ...(JSON.parse(line.toString()) as { url: string; token: string }), retry: false });
    const pid = Number(/^process_id:(\d+)/m.exec(String(await redis.exec(["INFO", "server"])))?.[1]);
    expect(() => process.kill(pid, 0)).not.toThrow();
    child.kill("SIGKILL");
    await vi.waitFor(() => expect(() => process.kill(pid, 0)).toThrow(/ESRCH/), { timeout: 5_000, interval: 10 });
  });

  it("that is not on the path makes way for the built-in store, unless it was asked for", async () => {
    vi.stubEnv("PATH", "/nonexistent");
    try {
      const local = await startRedis();
      expect(local.backing).toBe("built-in");
      await local.stop();
      await expect(startRedis({ prefer: "redis-server" })).rejects.toThrow(/no redis-server/);
    } finally {
      vi.unstubAllEnvs();
    }
  });
});

describe("the built-in store", () => {
  it.each([
    ["SET", "a", "1", "EXAT", "1800000000"],
    ["SET", "a", "1", "PXAT", "1800000000000"],
    ["SET", "a", "1", "KEEPTTL"],
    ["SET", "a", "1", "GET"],
    ["EXPIRE", "a", "10", "NX"],
    ["EXPIRE", "a", "10", "XX"],
    ["SCAN", "0", "TYPE", "string"],
    ["GET", "a", "b"],
    ["TTL", "a", "b"],
    ["FLUSHDB", "ASYNC"],
  ])("refuses what it does not speak: %s %s %s %s %s", async (...command) => {
    const local = await startRedis({ prefer: "built-in" });
    const headers = { authorization: `Bearer ${local.token}` };
    const ask = (words: readonly unknown[]) => fetch(local.url, { method: "POST", headers, body: JSON.stringify(words) });
    await ask(["SET", "a", "0"]);
    const answer = await ask(command.filter((word) => typeof word === "string"));
    expect({ status: answer.status, body: await answer.json() }).toEqual({
      status: 400,
      body: { error: expect.stringMatching(/^ERR /) as string },
    });
    expect(await (await ask(["GET", "a"])).json()).toEqual({ result: "0" });
    await local.stop();
  });
});

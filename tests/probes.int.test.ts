import { Client } from "@upstash/qstash";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { startRecordingDestination, type RecordingDestination } from "../local/qstash/recording-destination.ts";
import { startQstash, type LocalQstash } from "../local/qstash/server.ts";
import { startRedis, type LocalRedis } from "../local/redis/server.ts";
import type { Config } from "../shared/config.ts";
import { probeCache } from "../shared/cache/probe-cache.ts";
import { createLog } from "../shared/log.ts";
import { reasonOf } from "../shared/net-reason.ts";
import { createMappingCache } from "../shared/cache/mapping-cache.ts";
import { scheduleId } from "../shared/queue/installation.ts";
import { probeQueue } from "../shared/queue/probe.ts";

describe("the check of the queue", () => {
  let qstash: LocalQstash;
  let page: RecordingDestination;
  const config = (more: Partial<Config> = {}) =>
    ({ QSTASH_URL: qstash.url, QSTASH_TOKEN: qstash.token, FUNCTIONS_URL: page.url, ...more }) as Config;

  beforeEach(async () => {
    page = await startRecordingDestination();
    qstash = await startQstash();
  });
  afterEach(async () => {
    await qstash.stop();
    await page.stop();
  });

  it("sends one message, and is content when it was delivered", async () => {
    expect(await probeQueue(config())).toBeUndefined();
    expect(page.received).toMatchObject([{ method: "POST", path: "/sync-page", body: '{"check":true}' }]);
    expect(qstash.stats().published).toBe(1);
  });

  it("tells of a token that only reads, and of one that is unknown", async () => {
    expect(await probeQueue(config({ QSTASH_TOKEN: qstash.readOnlyToken }))).toBe("credentials_refused");
    expect(await probeQueue(config({ QSTASH_TOKEN: "unknown" }))).toBe("credentials_refused");
    expect(page.received).toEqual([]);
  });

  it("tells of a quota that is used up", async () => {
    qstash.faults.quota = { left: 0, resetsAt: Date.now() + 3_600_000 };
    expect(await probeQueue(config())).toBe("quota_used_up");
  });

  it.each([
    [401, "signature_refused"],
    [404, "delivery_failed"],
  ] as const)("tells of a function that answers %i, once and without another try", async (status, problem) => {
    page.answer = () => ({ status });
    expect(await probeQueue(config())).toBe(problem);
    await qstash.idle();
    expect(page.received.length).toBe(1);
  });

  it("takes its message back when it does not arrive", async () => {
    qstash.faults.delay = [60_000, 60_000];
    expect(await probeQueue(config())).toBe("not_delivered");
    expect(qstash.stats().queued).toBe(0);
  });

  it("tells of a paused schedule of its own, and not of another installation's", async () => {
    const { schedules } = new Client({ baseUrl: qstash.url, token: qstash.token });
    await schedules.create({ scheduleId: "other", destination: "http://other.invalid/sync-tick", cron: "* * * * *" });
    await schedules.pause({ schedule: "other" });
    await schedules.create({ scheduleId: scheduleId(page.url), destination: `${page.url}/sync-tick`, cron: "* * * * *" });
    expect(await probeQueue(config())).toBeUndefined();
    await schedules.pause({ schedule: scheduleId(page.url) });
    expect(await probeQueue(config())).toBe("schedule_paused");
  });
});

describe.each(["redis-server", "built-in"] as const)("the check of the cache (%s)", (prefer) => {
  let redis: LocalRedis;
  const config = (more: Partial<Config> = {}) =>
    ({
      ...{ UPSTASH_REDIS_REST_URL: redis.url, UPSTASH_REDIS_REST_TOKEN: redis.token, SOURCE_NAME: "legacy" },
      ...{ SUPABASE_URL: "http://127.0.0.1:1", ISTHMUS_CACHE_TTL_SECONDS: 60, ...more },
    }) as Config;

  beforeEach(async () => {
    redis = await startRedis({ prefer });
  });
  afterEach(() => redis.stop());

  it("writes a key and reads it again", async () => {
    expect(await probeCache(config())).toBeUndefined();
  });

  it("tells of a token that only reads, of an unknown one, of a full store, and of answers that are wrong", async () => {
    expect(await probeCache(config({ UPSTASH_REDIS_REST_TOKEN: redis.readOnlyToken }))).toBe("read_only");
    expect(await probeCache(config({ UPSTASH_REDIS_REST_TOKEN: "unknown" }))).toBe("credentials_refused");
    for (const [mode, problem] of [
      ["full", "write_refused"],
      ["rate-limited", "rate_limited"],
      ["wrong", "wrong_answer"],
    ] as const) {
      redis.faults.mode = mode;
      expect(await probeCache(config())).toBe(problem);
    }
  });

  it("calls a cache that hangs a time-out, in the check and in the log of a page", async () => {
    Object.assign(redis.faults, { mode: "slow", delayMs: 7_000 });
    const lines: string[] = [];
    const cache = createMappingCache(
      config(),
      createLog((line) => lines.push(line)),
    );
    const warned = vi.spyOn(console, "warn");
    const [probed, found, again] = await Promise.all([
      probeCache(config()).catch(reasonOf),
      cache.read(({ legacyId }) => legacyId, [{ entity: "offices", legacyId: "1" }]),
      cache.recallExecution(),
    ]);
    expect([probed, found.size, again]).toEqual(["timeout", 0, null]);
    expect(lines.map((line) => (JSON.parse(line) as { reason: string }).reason)).toEqual(["timeout", "timeout"]);
    expect(warned).not.toHaveBeenCalled();
  });
});

import { Client, Receiver } from "@upstash/qstash";
import { describe, expect, it, vi } from "vitest";
import { advance, client, destination, now, pass, qstash, useQstash } from "./support/qstash.ts";

useQstash();

describe("publishing", () => {
  it("delivers body, method, content type and forwarded headers to the exact URL", async () => {
    const url = `${destination.url}/sync-page?chain=a%20b`;
    const headers = { "X-Trace": "t1" };
    const { messageId } = await client.publishJSON({ url, method: "PUT", headers, body: { page: 1 } });
    await qstash.idle();
    expect(destination.received).toEqual([expect.objectContaining({ method: "PUT", path: "/sync-page?chain=a%20b" })]);
    const [received] = destination.received;
    expect(JSON.parse(received?.body ?? "")).toEqual({ page: 1 });
    expect(received?.headers).toMatchObject({
      "content-type": "application/json",
      "x-trace": "t1",
      "upstash-message-id": messageId,
      "upstash-retried": "0",
    });
    expect(received?.headers).not.toHaveProperty("authorization");
    expect(Object.keys(received?.headers ?? {}).filter((name) => name.includes("telemetry"))).toEqual([]);
    expect(qstash.stats()).toMatchObject({ published: 1, delivered: 1, retried: 0, inFlight: 0, queued: 0 });
  });

  it("delivers a batch, each message by its own settings", async () => {
    const answers = await client.batchJSON([
      { url: `${destination.url}/a`, body: { n: 1 }, headers: { "X-One": "1" } },
      { url: `${destination.url}/b`, body: { n: 2 }, delay: 60 },
      { url: `${destination.url}/a`, body: { n: 1 }, deduplicationId: "same" },
      { url: `${destination.url}/a`, body: { n: 1 }, deduplicationId: "same" },
    ]);
    expect(answers).toHaveLength(4);
    expect(answers[3]).toMatchObject({ deduplicated: true });
    await qstash.idle();
    expect(destination.received.map(({ path }) => path)).toEqual(["/a", "/a"]);
    expect(destination.received.filter(({ headers }) => headers["x-one"] === "1")).toHaveLength(1);
    await pass(60_000);
    expect(destination.received.at(-1)).toMatchObject({ path: "/b", body: '{"n":2}' });
  });

  it("takes a batch in part: an error stands in the place of a message that is refused, the others are sent", async () => {
    const answers: unknown[] = await client.batch([
      { url: destination.url },
      { url: "not-a-url" },
      { url: `${destination.url}/b` },
    ]);
    const accepted = { messageId: expect.stringMatching(/^msg_/) as string };
    expect(answers).toMatchObject([accepted, { error: expect.stringContaining("invalid destination url") as string }, accepted]);
    await qstash.idle();
    expect(destination.received.map(({ path }) => path).sort()).toEqual(["/", "/b"]);
    const answer = await fetch(`${qstash.url}/v2/batch`, {
      method: "POST",
      headers: { authorization: `Bearer ${qstash.token}` },
      body: '{"no": "list"}',
    });
    expect(answer.status).toBe(400);
  });

  it("refuses what the day's quota does not hold, a batch from the message on that does not fit", async () => {
    qstash.faults.quota = { left: 2, resetsAt: 1_772_409_600_000 };
    const three = ["/1", "/2", "/3"].map((path) => ({ url: destination.url + path }));
    const answers: unknown[] = await client.batch(three);
    expect(answers[2]).toEqual({ error: expect.stringContaining("quota") as string });
    const used = { name: "QstashDailyRatelimitError", status: 429, remaining: "0", reset: "1772409600" };
    await expect(client.batch(three)).rejects.toMatchObject(used);
    await expect(client.publish({ url: destination.url })).rejects.toMatchObject(used);
    qstash.faults.quota = null;
    await client.publish({ url: destination.url });
    await qstash.idle();
    expect(destination.received.map(({ path }) => path).sort()).toEqual(["/", "/1", "/2"]);
  });

  it("is silent when told to, before an answer or within it", async () => {
    for (const silence of ["before", "within"] as const) {
      qstash.faults.silence = silence;
      const headers = { authorization: `Bearer ${qstash.token}` };
      const asked = fetch(`${qstash.url}/v2/keys`, { headers, signal: AbortSignal.timeout(300) });
      await expect(asked.then((answer) => answer.text())).rejects.toMatchObject({ name: "TimeoutError" });
    }
  });

  it("answers 401 in JSON without the right token, and delivers nothing", async () => {
    const stranger = new Client({ baseUrl: qstash.url, token: "wrong", devMode: false, retry: false });
    await expect(stranger.publish({ url: destination.url })).rejects.toMatchObject({ status: 401 });
    const response = await fetch(`${qstash.url}/v2/messages/x`);
    expect(response.status).toBe(401);
    expect(await response.json()).toEqual({ error: expect.any(String) as string });
    await qstash.idle();
    expect(destination.received).toEqual([]);
  });

  it("waits for a delay and for a time", async () => {
    await client.publish({ url: `${destination.url}/delayed`, delay: "1m30s" as "90s" });
    await client.publish({ url: `${destination.url}/timed`, notBefore: Math.floor(now / 1_000) + 30 });
    await qstash.idle();
    expect(destination.received).toEqual([]);
    await pass(30_000);
    expect(destination.received.map(({ path }) => path)).toEqual(["/timed"]);
    await pass(60_000);
    expect(destination.received.map(({ path }) => path)).toEqual(["/timed", "/delayed"]);
  });

  it("reports a waiting message, and cancels it by id, by filter or with all others", async () => {
    const publish = async (label: string) => {
      const flowControl = { key: "page", parallelism: 4, rate: 5, period: "1m" as const };
      return client.publishJSON({
        url: destination.url,
        body: { label },
        delay: 60,
        label,
        retries: 7,
        flowControl,
      });
    };
    const first = await publish("one");
    expect(await client.messages.get(first.messageId)).toMatchObject({
      ...{ messageId: first.messageId, url: destination.url, method: "POST", body: '{"label":"one"}' },
      ...{ maxRetries: 7, createdAt: now, notBefore: now + 60_000, labels: ["one"] },
      ...{ flowControlKey: "page", parallelism: 4, rate: 5, period: 60 },
    });
    expect(await client.messages.cancel(first.messageId)).toEqual({ cancelled: 1 });
    await expect(client.messages.get(first.messageId)).rejects.toMatchObject({ status: 404 });
    await publish("two");
    await publish("three");
    const last = await publish("four");
    expect(await client.messages.cancel({ filter: { label: "two" } })).toEqual({ cancelled: 1 });
    expect(await client.messages.cancel([last.messageId, "msg_unknown"])).toEqual({ cancelled: 1 });
    expect(await client.messages.cancel({ all: true })).toEqual({ cancelled: 1 });
    await pass(120_000);
    expect(destination.received).toEqual([]);
  });
});

describe("signatures", () => {
  const verify = (over: { url?: string; body?: string; keys?: [string, string] } = {}) => {
    const [current, next] = over.keys ?? [qstash.currentSigningKey, qstash.nextSigningKey];
    const receiver = new Receiver({ currentSigningKey: current, nextSigningKey: next, devMode: false });
    const received = destination.received.at(-1);
    return receiver.verify({
      signature: String(received?.headers["upstash-signature"]),
      body: over.body ?? received?.body ?? "",
      url: over.url ?? destination.url + (received?.path ?? ""),
    });
  };

  it("satisfy the SDK's Receiver for this URL and body only", async () => {
    await client.publishJSON({ url: `${destination.url}/page?a=1`, body: { name: "Zoë" } });
    await qstash.idle();
    await expect(verify()).resolves.toBe(true);
    await expect(verify({ url: `${destination.url}/page` })).rejects.toThrow(/invalid subject/);
    await expect(verify({ body: '{"name":"Zoe"}' })).rejects.toThrow(/body hash/);
    await expect(verify({ keys: ["sig_other", "sig_another"] })).rejects.toThrow();
  });

  it("live five minutes and name issuer, destination and an id", async () => {
    await client.publish({ url: destination.url, body: "x" });
    await qstash.idle();
    const token = String(destination.received[0]?.headers["upstash-signature"]).split(".");
    const claims = JSON.parse(Buffer.from(token[1] ?? "", "base64url").toString()) as Record<string, unknown>;
    expect(claims).toMatchObject({
      iss: "Upstash",
      sub: destination.url,
      jti: expect.stringMatching(/^jwt_/) as string,
    });
    expect(Number(claims["exp"]) - Number(claims["nbf"])).toBe(300);
    expect(Math.abs(Number(claims["iat"]) - Date.now() / 1_000)).toBeLessThan(60);
  });

  it("change to the next key on rotation; who knows both keys goes on, and /v2/keys tells them", async () => {
    const before: [string, string] = [qstash.currentSigningKey, qstash.nextSigningKey];
    qstash.rotateKeys();
    expect(qstash.currentSigningKey).toBe(before[1]);
    expect(qstash.nextSigningKey).not.toBe(before[1]);
    await client.publish({ url: `${destination.url}/`, body: "x" });
    await qstash.idle();
    await expect(verify({ keys: before })).resolves.toBe(true);
    await expect(verify({ keys: [before[0], "sig_unknown"] })).rejects.toThrow();
    const response = await fetch(`${qstash.url}/v2/keys`, {
      headers: { authorization: `Bearer ${qstash.token}` },
    });
    expect(await response.json()).toEqual({ current: qstash.currentSigningKey, next: qstash.nextSigningKey });
  });
});

describe("deduplication", () => {
  it("swallows a repeated id for ten minutes and answers with the first message", async () => {
    const publish = () => client.publish({ url: destination.url, body: "x", deduplicationId: "chain-1-page-2-attempt-1" });
    const first = await publish();
    expect(first).not.toHaveProperty("deduplicated");
    await qstash.idle();
    advance(599_999);
    expect(await publish()).toMatchObject({ messageId: first.messageId, deduplicated: true });
    await qstash.idle();
    expect(destination.received).toHaveLength(1);
    advance(1);
    const second = await publish();
    expect(second.messageId).not.toBe(first.messageId);
    await qstash.idle();
    expect(destination.received).toHaveLength(2);
    expect(qstash.stats()).toMatchObject({ published: 2, deduplicated: 1 });
  });

  it("by content looks at destination, body and forwarded headers", async () => {
    const publish = (path: string, body: string, trace: string) => {
      const headers = { "X-Trace": trace };
      return client.publish({ url: destination.url + path, body, headers, contentBasedDeduplication: true });
    };
    await publish("/a", "x", "1");
    expect(await publish("/a", "x", "1")).toMatchObject({ deduplicated: true });
    for (const [path, body, trace] of [
      ["/b", "x", "1"],
      ["/a", "y", "1"],
      ["/a", "x", "2"],
    ] as const) {
      expect(await publish(path, body, trace)).not.toHaveProperty("deduplicated");
    }
  });
});

describe("flow control", () => {
  it("keeps to the parallelism of a key", async () => {
    const waiting: (() => void)[] = [];
    destination.answer = () => new Promise((resolve) => waiting.push(() => resolve({})));
    const flowControl = { key: "source", parallelism: 2 };
    for (let n = 0; n < 5; n++) await client.publish({ url: destination.url, body: String(n), flowControl });
    await vi.waitFor(() => expect(waiting).toHaveLength(2));
    expect(await client.flowControl.get("source")).toMatchObject({
      ...{ parallelismMax: 2, parallelismCount: 2, waitListSize: 3, isPaused: false },
    });
    expect(await client.flowControl.getGlobalParallelism()).toMatchObject({ parallelismCount: 2 });
    waiting[0]?.();
    await vi.waitFor(() => expect(waiting).toHaveLength(3));
    expect(qstash.stats()).toMatchObject({ inFlight: 2, queued: 2 });
    destination.answer = () => ({});
    for (const release of waiting) release();
    await qstash.idle();
    expect(destination.received.map(({ body }) => body)).toEqual(["0", "1", "2", "3", "4"]);
  });

  it("keeps to the rate of a period", async () => {
    const flowControl = { key: "rated", rate: 2, period: "1m" as const };
    for (let n = 0; n < 5; n++) await client.publish({ url: destination.url, body: String(n), flowControl });
    await vi.waitFor(() => expect(destination.received).toHaveLength(2));
    const counts: number[] = [];
    for (const step of [59_999, 1, 60_000]) {
      advance(step);
      qstash.wake();
      await vi.waitFor(() => expect(qstash.stats().inFlight).toBe(0));
      counts.push(destination.received.length);
    }
    expect(counts).toEqual([2, 4, 5]);
  });

  it("holds the messages of a paused key until it is resumed", async () => {
    const flowControl = { key: "paused", parallelism: 1 };
    await client.flowControl.pause("paused");
    await client.publish({ url: destination.url, flowControl });
    await qstash.idle();
    expect(destination.received).toEqual([]);
    await client.flowControl.resume("paused");
    await qstash.idle();
    expect(destination.received).toHaveLength(1);
  });
});

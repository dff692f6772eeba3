import { Client } from "@upstash/qstash";
import { describe, expect, it, vi } from "vitest";
import { advance, client, destination, now, pass, qstash, start, useQstash } from "./support/qstash.ts";

useQstash();

const tries = (path = "/") => destination.received.filter((request) => request.path === path).length;

describe("retries", () => {
  it("come three times, after 12 s, 2m28s and 30m8s, then the message is a dead letter", async () => {
    destination.answer = () => ({ status: 500, headers: { "x-why": "broken" }, body: "no" });
    const { messageId } = await client.publishJSON({ url: `${destination.url}/`, body: { page: 1 } });
    await qstash.idle();
    for (const [index, seconds] of [12, 148, 1_808].entries()) {
      await pass(seconds * 1_000 - 1);
      expect(tries()).toBe(index + 1);
      await pass(1);
      expect(tries()).toBe(index + 2);
    }
    await pass(100_000_000);
    expect(tries()).toBe(4);
    expect(destination.received.map(({ headers }) => headers["upstash-retried"])).toEqual(["0", "1", "2", "3"]);
    expect(new Set(destination.received.map(({ headers }) => headers["upstash-message-id"]))).toEqual(new Set([messageId]));
    expect(qstash.stats()).toMatchObject({ delivered: 0, retried: 3, deadLettered: 1, queued: 0 });
    const { messages } = await client.dlq.listMessages();
    expect(messages).toEqual([
      expect.objectContaining({
        messageId,
        responseStatus: 500,
        responseBody: "no",
        body: '{"page":1}',
        maxRetries: 3,
      }),
    ]);
    expect(messages[0]?.responseHeader).toMatchObject({ "X-Why": ["broken"] });
  });

  it("end with the first success", async () => {
    destination.answer = ({ headers }) => ({ status: headers["upstash-retried"] === "1" ? 204 : 503 });
    await client.publish({ url: `${destination.url}/` });
    await qstash.idle();
    await pass(12_000);
    await pass(100_000_000);
    expect(tries()).toBe(2);
    expect(qstash.stats()).toMatchObject({ delivered: 1, retried: 1, deadLettered: 0 });
  });

  it("follow the message's own count and delay expression", async () => {
    destination.answer = () => ({ status: 500 });
    await client.publish({ url: `${destination.url}/`, retries: 2, retryDelay: "1000 * (1 + retried)" });
    await qstash.idle();
    await pass(999);
    expect(tries()).toBe(1);
    await pass(1);
    expect(tries()).toBe(2);
    await pass(1_999);
    expect(tries()).toBe(2);
    await pass(1);
    expect(tries()).toBe(3);
    expect(qstash.stats()).toMatchObject({ deadLettered: 1 });
  });

  it("follow the function given at the start, unless the answer or the message says otherwise", async () => {
    await qstash.stop();
    await start({ retryDelay: (retry) => retry * 5_000 });
    destination.answer = () => ({ status: 500 });
    await client.publish({ url: `${destination.url}/`, retries: 2 });
    await qstash.idle();
    await pass(5_000);
    expect(tries()).toBe(2);
    await pass(9_999);
    expect(tries()).toBe(2);
    await pass(1);
    expect(tries()).toBe(3);
  });

  it("come when the answer's Retry-After says", async () => {
    const date = new Date(now + 30_000 + 45_000).toUTCString();
    const asks = ["30", date];
    destination.answer = ({ headers }) => {
      const ask = asks[Number(headers["upstash-retried"])];
      return { status: 503, headers: ask === undefined ? {} : { "retry-after": ask } };
    };
    await client.publish({ url: `${destination.url}/` });
    await qstash.idle();
    await pass(29_999);
    expect(tries()).toBe(1);
    await pass(1);
    expect(tries()).toBe(2);
    await pass(44_999);
    expect(tries()).toBe(2);
    await pass(1);
    expect(tries()).toBe(3);
    await pass(1_808_000);
    expect(tries()).toBe(4);
  });

  it("come also when nobody listens at the destination", async () => {
    const { url } = destination;
    await destination.stop();
    await client.publish({ url, retries: 1 });
    await qstash.idle();
    await pass(12_000);
    const { messages } = await client.dlq.listMessages();
    expect(messages).toEqual([
      expect.objectContaining({
        responseStatus: 0,
        responseBody: expect.stringMatching(/ECONNREFUSED/) as string,
      }),
    ]);
  });

  it("come also when a header cannot be sent at all", async () => {
    const message = {
      destination: destination.url,
      headers: { "upstash-forward-x": "\u{1f434}", "upstash-retries": "0" },
    };
    const headers = { authorization: `Bearer ${qstash.token}` };
    await fetch(`${qstash.url}/v2/batch`, { method: "POST", headers, body: JSON.stringify([message]) });
    await qstash.idle();
    expect(qstash.stats()).toMatchObject({ published: 1, deadLettered: 1, inFlight: 0 });
  });

  it("come when the destination takes longer than the timeout", async () => {
    destination.answer = () => new Promise(() => undefined);
    await client.publish({ url: `${destination.url}/`, timeout: "30s", retries: 0 });
    await vi.waitFor(() => expect(tries()).toBe(1));
    advance(29_999);
    qstash.wake();
    expect(qstash.stats()).toMatchObject({ inFlight: 1 });
    await pass(1);
    expect(qstash.stats()).toMatchObject({ inFlight: 0, deadLettered: 1 });
  });
});

describe("a non-retryable answer", () => {
  it("489 with its header makes a dead letter at once", async () => {
    destination.answer = () => ({ status: 489, headers: { "Upstash-NonRetryable-Error": "true" } });
    await client.publish({ url: `${destination.url}/` });
    await qstash.idle();
    expect(qstash.stats()).toMatchObject({ deadLettered: 1, queued: 0 });
    expect((await client.dlq.listMessages({ filter: { responseStatus: 489 } })).messages).toHaveLength(1);
  });

  it("489 without the header is tried again", async () => {
    destination.answer = () => ({ status: 489 });
    await client.publish({ url: `${destination.url}/` });
    await qstash.idle();
    expect(qstash.stats()).toMatchObject({ deadLettered: 0, queued: 1 });
  });
});

describe("callbacks", () => {
  it("a failure callback tells of the last try, signed for its own URL, with its own headers", async () => {
    destination.answer = ({ path }) => (path === "/" ? { status: 418, body: "teapot" } : {});
    const { messageId } = await client.publishJSON({
      ...{
        url: `${destination.url}/`,
        body: { page: 3 },
        retries: 1,
        failureCallback: `${destination.url}/failed`,
      },
      headers: { "Upstash-Failure-Callback-Forward-X-Chain": "c1" },
    });
    await qstash.idle();
    expect(tries("/failed")).toBe(0);
    await pass(12_000);
    expect(tries("/failed")).toBe(1);
    const call = destination.received.find(({ path }) => path === "/failed");
    const body = JSON.parse(call?.body ?? "") as Record<string, unknown>;
    const { messages } = await client.dlq.listMessages();
    expect(body).toMatchObject({
      ...{ status: 418, retried: 1, maxRetries: 1, sourceMessageId: messageId, dlqId: messages[0]?.dlqId },
      ...{ url: `${destination.url}/`, method: "POST", body: Buffer.from("teapot").toString("base64") },
      sourceBody: Buffer.from('{"page":3}').toString("base64"),
      // Under the names that the vendor reports, whatever they travelled under.
      sourceHeader: { "Content-Type": ["application/json"] },
    });
    const named = [body["header"], body["sourceHeader"]].flatMap((headers) => Object.keys(headers as object));
    expect(named.filter((name) => name === name.toLowerCase())).toEqual([]);
    expect(call?.headers).toMatchObject({ "x-chain": "c1", "content-type": "application/json" });
    expect(call?.headers["upstash-message-id"]).not.toBe(messageId);
  });

  it("a callback tells of every try and what was answered", async () => {
    destination.answer = ({ path, headers }) =>
      path === "/" && headers["upstash-retried"] === "0" ? { status: 500 } : { body: "done" };
    await client.publish({ url: `${destination.url}/`, callback: `${destination.url}/told` });
    await qstash.idle();
    await pass(12_000);
    const told = destination.received.filter(({ path }) => path === "/told");
    expect(told.map(({ body }) => (JSON.parse(body) as { status: number }).status)).toEqual([500, 200]);
  });
});

describe("the dead-letter queue", () => {
  it("lists with filters and pages, deletes, and publishes anew", async () => {
    destination.answer = () => ({ status: 500 });
    for (const path of ["/a", "/b", "/c"]) await client.publish({ url: destination.url + path, retries: 0 });
    await qstash.idle();
    const first = await client.dlq.listMessages({ count: 2 });
    expect(first.messages).toHaveLength(2);
    const second = await client.dlq.listMessages({
      count: 2,
      ...(first.cursor ? { cursor: first.cursor } : {}),
    });
    expect(second.messages.map(({ url }) => url)).toEqual([`${destination.url}/c`]);
    expect(second.cursor).toBeUndefined();
    const { messages } = await client.dlq.listMessages({ filter: { url: `${destination.url}/a` } });
    expect(await client.dlq.delete(messages[0]?.dlqId ?? "")).toEqual({ deleted: 1 });
    destination.answer = () => ({});
    const [dlqId = ""] = (await client.dlq.listMessages()).messages.map((message) => message.dlqId);
    const { responses } = await client.dlq.retry(dlqId);
    await qstash.idle();
    expect(destination.received.at(-1)).toMatchObject({ path: "/b" });
    expect(destination.received.at(-1)?.headers["upstash-message-id"]).toBe(responses[0]?.messageId);
    expect(await client.dlq.delete({ all: true })).toMatchObject({ deleted: 1 });
    expect((await client.dlq.listMessages()).messages).toEqual([]);
    await expect(client.dlq.delete("unknown")).rejects.toMatchObject({ status: 404 });
  });
});

describe("the log", () => {
  it("tells the life of a message, newest first", async () => {
    destination.answer = ({ headers }) => ({ status: headers["upstash-retried"] === "0" ? 500 : 200 });
    const { messageId } = await client.publish({ url: `${destination.url}/` });
    await client.publish({ url: `${destination.url}/other`, delay: 60 });
    await qstash.idle();
    await pass(12_000);
    const { logs } = await client.logs({ messageIds: [messageId] });
    expect(logs.map(({ state }) => state)).toEqual(["DELIVERED", "ACTIVE", "RETRY", "ERROR", "ACTIVE", "CREATED"]);
    expect(logs[2]).toMatchObject({ nextDeliveryTime: now });
    expect((await client.logs({ filter: { state: "DELIVERED" } })).logs).toHaveLength(1);
  });
});

describe("lists", () => {
  it("come in the order that is asked for, and not by a filter that is not known", async () => {
    destination.answer = () => ({ status: 489, headers: { "Upstash-NonRetryable-Error": "true" } });
    for (const path of ["/1", "/2"]) {
      await client.publish({ url: destination.url + path });
      await qstash.idle();
    }
    const headers = { authorization: `Bearer ${qstash.token}` };
    const ask = (path: string) => fetch(qstash.url + path, { headers });
    const urls = async (path: string) =>
      ((await (await ask(path)).json()) as { messages: { url: string }[] }).messages.map(({ url }) => url.slice(-2));
    expect(await urls("/v2/dlq")).toEqual(["/1", "/2"]);
    expect(await urls("/v2/dlq?order=latestFirst&count=1")).toEqual(["/2"]);
    for (const path of ["/v2/dlq?host=example.com", "/v2/events?surprise=1", "/v2/dlq?order=upside"]) {
      expect((await ask(path)).status, path).toBe(400);
    }
    const reader = new Client({ baseUrl: qstash.url, token: qstash.readOnlyToken, devMode: false, retry: false });
    expect((await reader.logs({ filter: { state: "ERROR" } })).logs).toMatchObject([
      { responseStatus: 489 },
      { responseStatus: 489 },
    ]);
    await expect(reader.publish({ url: destination.url })).rejects.toMatchObject({ status: 403 });
  });
});

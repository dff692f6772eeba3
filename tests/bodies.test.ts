import { describe, expect, it } from "vitest";
import { readBody } from "../shared/http/read-body.ts";
import { createFunctions, deliveryClaims, secretToken, SECRET_KEY, SIGNING_KEYS, type FunctionName } from "./support/handlers.ts";

const MEGABYTE = 1_048_576;
const LIMITS: Readonly<Record<FunctionName, number>> = { "sync-trigger": MEGABYTE, "sync-page": 4_096, "sync-tick": 4_096 };
const NAMES = Object.keys(LIMITS) as FunctionName[];

describe.each(NAMES)("the body of a request to %s", (name) => {
  const functions = createFunctions();
  const machine = { apikey: SECRET_KEY };
  const answerTo = async (
    headers: Record<string, string>,
    body: string | Uint8Array<ArrayBuffer> | ReadableStream | undefined,
    method = "POST",
  ) => {
    const answer = await functions.call(name, { method, headers, ...(body === undefined ? {} : { body, duplex: "half" }) });
    return { status: answer.status, ...((await answer.json()) as { error?: { code: string; message: string } }).error };
  };

  it.each<[string, Record<string, string>]>([
    ["nobody", {}],
    ["a wrong key", { apikey: "wrong" }],
    ["a token that is none", { authorization: "Bearer a.b.c" }],
    ["a signature that is none", { "upstash-signature": "a.b.c" }],
    [
      "a signature for another function",
      { "upstash-signature": secretToken(SIGNING_KEYS.current, deliveryClaims(name, "x"), {}).slice(2) },
    ],
  ])("is not read when it comes from %s", async (_, headers) => {
    const sent = chunks(20 * MEGABYTE);
    expect(await answerTo(headers, sent.stream)).toMatchObject({ status: 401, code: "UNAUTHENTICATED" });
    // A stream makes its first chunk ready unasked.
    expect(sent.pulled()).toBeLessThanOrEqual(1);
    expect(sent.cancelled()).toBe(true);
  });

  it("is not read with another method", async () => {
    const sent = chunks(20 * MEGABYTE);
    expect(await answerTo(machine, sent.stream, "PUT")).toMatchObject({ status: 405 });
    expect(sent.pulled()).toBeLessThanOrEqual(1);
    expect(sent.cancelled()).toBe(true);
  });

  it("is not read when it says that it is longer than allowed", async () => {
    const sent = chunks(20 * MEGABYTE);
    const answer = await answerTo({ ...machine, "content-length": String(LIMITS[name] + 1) }, sent.stream);
    expect(answer).toMatchObject({ status: 413, code: "BODY_TOO_LARGE" });
    expect(answer.message).toContain(LIMITS[name].toLocaleString("en"));
    expect(sent.pulled()).toBeLessThanOrEqual(1);
    expect(sent.cancelled()).toBe(true);
  });

  it.each([
    ["does not say how long it is", {}],
    ["says that it is short", { "content-length": "2" }],
    ["says a length that is no number", { "content-length": "many" }],
  ])("is read up to the limit when it %s", async (_, header) => {
    const sent = chunks(20 * MEGABYTE);
    expect(await answerTo({ ...machine, ...header }, sent.stream)).toMatchObject({ status: 413, code: "BODY_TOO_LARGE" });
    expect(sent.pulled() * CHUNK).toBeLessThanOrEqual(LIMITS[name] + 2 * CHUNK);
    expect(sent.cancelled()).toBe(true);
  });

  it("may be exactly as long as allowed", async () => {
    const allowed = `${" ".repeat(LIMITS[name] - 1)}[`;
    const sync = name === "sync-tick";
    expect(await answerTo(machine, allowed)).toMatchObject(
      sync ? { status: 503, code: "TARGET_UNAVAILABLE" } : { status: 400, code: "REQUEST_INVALID" },
    );
    expect(await answerTo(machine, `${allowed}[`)).toMatchObject({ status: 413 });
  });

  it("is refused when it breaks off, or is no UTF-8", async () => {
    const broken = new ReadableStream<Uint8Array>({
      start: (controller) => controller.enqueue(new Uint8Array([123])),
      pull: (controller) => controller.error(new Error("the connection is gone")),
    });
    expect(await answerTo(machine, broken)).toMatchObject({ status: 400, code: "REQUEST_INVALID" });
    expect(await answerTo(machine, new Uint8Array([0x22, 0xff, 0x22]))).toMatchObject({ status: 400, code: "REQUEST_INVALID" });
  });
});

it("a body that trickles in is given up when its time is over, although something of it comes all the time", async () => {
  let cancelled = false;
  const trickle = new ReadableStream<Uint8Array>({
    pull: async (controller) => {
      await new Promise((later) => setTimeout(later, 5));
      if (!cancelled) controller.enqueue(new Uint8Array([32]));
    },
    cancel: () => void (cancelled = true),
  });
  const silent = new ReadableStream<Uint8Array>({ pull: () => new Promise(() => undefined) });
  for (const body of [trickle, silent]) {
    const request = new Request("http://127.0.0.1:1", { method: "POST", body, duplex: "half" });
    await expect(readBody(request, 1_000, 50)).rejects.toMatchObject({ code: "BODY_TOO_SLOW" });
  }
  expect(cancelled).toBe(true);
});

const CHUNK = 65_536;

function chunks(bytes: number) {
  let pulled = 0;
  let cancelled = false;
  const chunk = new Uint8Array(CHUNK).fill(32);
  const stream = new ReadableStream<Uint8Array>(
    {
      pull(controller) {
        pulled += 1;
        if (pulled * CHUNK > bytes) controller.close();
        else controller.enqueue(chunk);
      },
      cancel() {
        cancelled = true;
      },
    },
    { highWaterMark: 0 },
  );
  return { stream, pulled: () => pulled, cancelled: () => cancelled };
}

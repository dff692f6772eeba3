import { afterAll, beforeAll, expect, it } from "vitest";
import { startTestPlatform, type TestPlatform } from "./support/platform.ts";

const LEASE_SECONDS = 60;
/** An isolate that holds a page so long is killed with the page. */
const LIFE_MS = 5_000;

let test: TestPlatform;
beforeAll(async () => {
  const env = {
    ISTHMUS_LEASE_SECONDS: String(LEASE_SECONDS),
    ISTHMUS_POOL_SIZE: "1",
    ISTHMUS_TURN_SECONDS: "1",
    ISTHMUS_ROWS_PER_CHAIN: "3",
  };
  // All pages meet in one isolate, whose turns are asked for.
  test = await startTestPlatform("pages-return", { scale: 0.01, env, hosted: { isolates: 1 } });
});
afterAll(() => test[Symbol.asyncDispose]());

/** Lets nobody write offices while `work` runs. */
async function held<T>(work: () => Promise<T>): Promise<T> {
  return (await test.target.begin(async (tx) => {
    await tx`lock table public.offices in exclusive mode`;
    return work();
  })) as T;
}
/** Deliveries of pages that were answered so, oldest first. */
const answered = (status?: number) =>
  test.platform.qstash.history().filter((one) => one.url.endsWith("/sync-page") && (status ?? one.status) === one.status);
async function until<T>(what: () => T | undefined): Promise<T> {
  for (let tries = 0; tries < 600; tries++) {
    const found = what();
    if (found !== undefined) return found;
    await new Promise((again) => setTimeout(again, 50));
  }
  throw new Error(`it did not come: ${JSON.stringify(answered().map(({ status, retried }) => [status, retried]))}`);
}

it("a page that gets no turn answers 429, and the queue brings it again", async () => {
  const execution = await held(async () => {
    const begun = await test.start({ entities: ["offices"] });
    await until(() => answered(429)[0]);
    return begun.execution;
  });
  // No tick: nobody but the queue sends the page again.
  expect((await test.finish(execution, { tickEveryMs: 600_000 })).status).toBe("succeeded");
  const { messageId } = answered(429)[0] ?? {};
  const again = answered().filter((one) => one.messageId === messageId);
  expect(again.map(({ status, retried }) => [status, retried > 0])).toEqual([
    ...again.slice(1).map((_, at) => [429, at > 0]),
    [200, true],
  ]);
});

it("a page whose isolate is killed lands with the queue's next delivery, long before its lease has run out", async () => {
  const before = answered().length;
  await test.platform.restartFunctions({ wallClockMs: LIFE_MS }, undefined, {
    ISTHMUS_TURN_SECONDS: "30",
    ISTHMUS_ROWS_PER_CHAIN: "10000",
  });
  const { execution, killed } = await held(async () => {
    await test.source`update public.dispatch_office set city = city || ' anew'`;
    const begun = await test.start({ entities: ["offices"], capture: "full" });
    return { execution: begun.execution, killed: await until(() => answered(546)[0]) };
  });
  expect((await test.finish(execution, { tickEveryMs: 600_000 })).status).toBe("succeeded");
  const tries = answered()
    .slice(before)
    .filter(({ messageId }) => messageId === killed.messageId);
  expect(tries.map(({ status, retried }) => [status, retried])).toEqual([
    [546, 0],
    [200, 1],
  ]);
  expect((tries[1]?.at ?? Infinity) - (tries[0]?.at ?? 0)).toBeLessThan((LEASE_SECONDS * 1_000) / 2);
});

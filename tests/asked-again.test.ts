import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { expect, it } from "vitest";
import { checkFromInside } from "../cli/setup/ask-functions.ts";
import type { Setup } from "../cli/setup/context.ts";

const both = { source: { reachable: true, ms: 1 }, target: { reachable: true, ms: 1 } };
const lost = { code: "TARGET_UNAVAILABLE", message: "The target does not answer.", remedy: "Look at it." };
const answer = (error: object | null, reachable: object = both) => ({
  ok: error === null,
  reachable,
  findings: error === null ? [] : null,
  sideEffects: [],
  error,
});

/** What the functions answer to one call after the other; the last one to all that follow. @returns the check, and how often it was asked. */
async function asked(answers: readonly object[]) {
  let calls = 0;
  const server = createServer((_, response) => {
    response
      .writeHead(200, { "content-type": "application/json" })
      .end(JSON.stringify(answers[Math.min(calls++, answers.length - 1)]));
  }).listen(0, "127.0.0.1");
  await new Promise((ready) => server.once("listening", ready));
  const env = {
    FUNCTIONS_URL: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    ISTHMUS_API_KEY: "sb_secret_of_a_test",
  };
  const { error } = await checkFromInside({ env: () => env } as unknown as Setup);
  server.close();
  return { code: error?.code, calls };
}

it.each([
  ["is asked again, and fits", [answer(lost), answer(null)], { code: undefined, calls: 2 }],
  ["is asked three times at most", [answer(lost)], { code: "TARGET_UNAVAILABLE", calls: 3 }],
  [
    "is believed where the target does not answer",
    [answer(lost, { ...both, target: { reachable: false, reason: "timeout" } })],
    { code: "TARGET_UNAVAILABLE", calls: 1 },
  ],
  [
    "is believed where a statement is refused",
    [answer({ ...lost, code: "TARGET_REFUSED" })],
    { code: "TARGET_REFUSED", calls: 1 },
  ],
])("a check from inside that lost a database for a moment %s", { timeout: 20_000 }, async (_, answers, expected) => {
  expect(await asked(answers)).toEqual(expected);
});

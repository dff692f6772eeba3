import { z } from "zod";
import { reasonOf } from "../../shared/net-reason.ts";
import { Problem } from "../problem.ts";
import { present, type Setup } from "./context.ts";
import type { Step } from "./step.ts";

const PROBE_TIMEOUT_MS = 15_000;

/** QStash takes the token, and signs with the keys that the file has. Redis, where there is one, answers. */
export const lookAtQueue: Step<Setup> = {
  title: "queue and cache",
  async look({ env }) {
    const token = present(env()["QSTASH_TOKEN"]);
    if (token === undefined) {
      return {
        state: "person",
        text: "QSTASH_TOKEN is not set",
        actions: ["Make a QStash account, put QSTASH_TOKEN into the file, and run setup again."],
      };
    }
    const keys = await signingKeys(env());
    const [current, next] = [env()["QSTASH_CURRENT_SIGNING_KEY"], env()["QSTASH_NEXT_SIGNING_KEY"]];
    if (keys.current !== current || keys.next !== next) {
      if (current !== keys.next && next !== keys.current && present(current) !== undefined)
        throw new Problem(
          "CONFIG_INVALID",
          "The signing keys in the file are not this QStash account's.",
          "Copy both from the QStash console, or delete the lines: they are then asked of QStash.",
          { exitCode: 2 },
        );
      return { state: "due", text: "write this account's signing keys into the file" };
    }
    return { state: "done", text: `QStash takes the token; ${await cacheSays(env())}` };
  },
  async act({ env, keep }) {
    const { current, next } = await signingKeys(env());
    keep({ QSTASH_CURRENT_SIGNING_KEY: current, QSTASH_NEXT_SIGNING_KEY: next });
  },
};

const pair = z.object({ current: z.string().min(1), next: z.string().min(1) });
export type SigningKeys = z.output<typeof pair>;

/** The signing keys of the QStash account; `rotate` makes the next one the current one. https://upstash.com/docs/qstash/api-reference/signing-keys */
export async function signingKeys(env: ReturnType<Setup["env"]>, rotate = false): Promise<SigningKeys> {
  const base = (present(env["QSTASH_URL"]) ?? "https://qstash.upstash.io").replace(/\/+$/, "");
  let response: Response;
  try {
    response = await fetch(`${base}/v2/keys${rotate ? "/rotate" : ""}`, {
      method: rotate ? "POST" : "GET",
      headers: { authorization: `Bearer ${env["QSTASH_TOKEN"] ?? ""}` },
      signal: AbortSignal.timeout(PROBE_TIMEOUT_MS),
    });
  } catch (error) {
    throw new Problem("QUEUE_UNAVAILABLE", `QStash does not answer (${reasonOf(error)}).`, "Check QSTASH_URL and the network.", {
      cause: error,
    });
  }
  const keys = response.ok ? pair.safeParse(await response.json().catch(() => undefined)) : undefined;
  if (keys?.success === true) return keys.data;
  throw new Problem(
    "QUEUE_UNAVAILABLE",
    `QStash answered ${response.status} when it was asked for its signing keys.`,
    "Check QSTASH_TOKEN and QSTASH_URL: a region has an address of its own.",
  );
}

async function cacheSays(env: ReturnType<Setup["env"]>): Promise<string> {
  const [url, token] = [present(env["UPSTASH_REDIS_REST_URL"]), present(env["UPSTASH_REDIS_REST_TOKEN"])];
  if (url === undefined || token === undefined) return "there is no Redis: pages are slower, nothing else";
  try {
    const response = await fetch(url, {
      method: "POST",
      headers: { authorization: `Bearer ${token}` },
      body: JSON.stringify(["PING"]),
      signal: AbortSignal.timeout(PROBE_TIMEOUT_MS),
    });
    return response.ok ? "Redis answers" : `Redis answered ${response.status}: pages are slower until that is mended`;
  } catch (error) {
    return `Redis does not answer this machine (${reasonOf(error)})`;
  }
}

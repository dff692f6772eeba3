import { z } from "zod";
import type { Config } from "../config.ts";
import { CHECK_LABEL } from "./deliveries.ts";
import { askQstash } from "./qstash.ts";
import { refusalOfAnswer, refusalOfEntry, type RefusalReason } from "./refusal.ts";

/** How long the check waits for its message to arrive: QStash delivers within some 100 ms. */
const DELIVERY_MS = 5_000;
const POLL_MS = 250;

/** Why the queue cannot be used although it answers. */
export type ProbeProblem =
  | "credentials_refused"
  | "quota_used_up"
  | "rate_limited"
  | "message_refused"
  | "signature_refused"
  | "delivery_failed"
  | "not_delivered"
  | "schedule_paused"
  | "unreachable"
  | "timeout";

const PROBLEM: Readonly<Record<RefusalReason, ProbeProblem>> = {
  quota: "quota_used_up",
  token: "credentials_refused",
  request: "message_refused",
  rate: "rate_limited",
  server: "unreachable",
  answer: "unreachable",
  timeout: "timeout",
  unreachable: "unreachable",
};

const events = z.object({ events: z.array(z.object({ state: z.string(), responseStatus: z.number().optional() })) });
const schedules = z.array(z.object({ destination: z.string(), isPaused: z.boolean().optional() }));

/**
 * Sends one message to sync-page that asks for nothing, and waits for its delivery: the token may publish, the quota
 * is not used up, QStash reaches the function, and the function knows the key it signs with. It costs that one
 * message.
 * @returns what is wrong; undefined: nothing. @throws Error when QStash does not answer.
 */
export async function probeQueue(config: Config): Promise<ProbeProblem | undefined> {
  const published = await askQstash(config, `/v2/publish/${config.FUNCTIONS_URL}/sync-page`, {
    method: "POST",
    headers: { "content-type": "application/json", "upstash-retries": "0", "upstash-label": CHECK_LABEL },
    body: JSON.stringify({ check: true }),
  });
  const refusal =
    published.status === 200 || published.status === 201 || published.status === 202
      ? refusalOfEntry(published.body, published.headers)
      : refusalOfAnswer(published);
  if (refusal !== undefined) return PROBLEM[refusal.reason];
  const { messageId } = published.body as { messageId: string };
  return (await deliveryProblem(config, messageId)) ?? (await scheduleProblem(config));
}

async function deliveryProblem(config: Config, messageId: string): Promise<ProbeProblem | undefined> {
  for (let waited = 0; waited < DELIVERY_MS; waited += POLL_MS) {
    const log = events.safeParse((await askQstash(config, `/v2/events?messageIds=${messageId}`)).body);
    const met = log.success ? log.data.events : [];
    if (met.some(({ state }) => state === "DELIVERED")) return undefined;
    const failed = met.find(({ state }) => state === "ERROR" || state === "FAILED");
    if (failed !== undefined) return failed.responseStatus === 401 ? "signature_refused" : "delivery_failed";
    await new Promise((again) => setTimeout(again, POLL_MS));
  }
  await askQstash(config, `/v2/messages/${messageId}`, { method: "DELETE" });
  return "not_delivered";
}

/** A schedule that stands still calls nobody; where pg_cron calls there is none. */
async function scheduleProblem(config: Config): Promise<ProbeProblem | undefined> {
  const found = schedules.safeParse((await askQstash(config, "/v2/schedules")).body);
  const ours = found.success ? found.data.filter(({ destination }) => destination === `${config.FUNCTIONS_URL}/sync-tick`) : [];
  return ours.some(({ isPaused }) => isPaused === true) ? "schedule_paused" : undefined;
}

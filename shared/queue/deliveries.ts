import { z } from "zod";
import type { Config } from "../config.ts";
import { IsthmusError } from "../errors.ts";
import { askQstash } from "./qstash.ts";

/** The messages of `npm run sync -- check` carry this label: what becomes of them is told by the check. */
export const CHECK_LABEL = "isthmus-check";
/** Entries of QStash's log and dead letters that one look reads. */
const LOOK = 100;

/** How often the function was reached and did not take a message, by the status it answered; 0: nothing answered. */
export type FailedDeliveries = Readonly<Record<string, number>>;

const events = z.object({
  events: z.array(z.object({ responseStatus: z.number().optional(), label: z.string().optional() })),
});
const letters = z.object({
  messages: z.array(z.object({ dlqId: z.string(), responseStatus: z.number().optional(), label: z.string().optional() })),
});
const keys = z.object({ current: z.string(), next: z.string() });

/** The latest failed deliveries of pages since a time. @throws Error when QStash does not answer. */
export async function failedDeliveries(config: Config, sinceMs: number): Promise<FailedDeliveries> {
  const query = { url: pageUrl(config), state: "ERROR", fromDate: String(Math.floor(sinceMs)) };
  const { events: failed } = events.parse(await look(config, "/v2/events", query));
  return countStatuses(failed);
}

export interface DeadLetter {
  readonly id: string;
  readonly status: number;
}

/** The latest messages of ours that QStash has given up. What a page refused for good is told by its execution and left out. */
export async function deadLetters(config: Config): Promise<DeadLetter[]> {
  const { messages } = letters.parse(await look(config, "/v2/dlq", { url: pageUrl(config) }));
  return messages
    .filter(({ label, responseStatus }) => label !== CHECK_LABEL && responseStatus !== FINAL)
    .map(({ dlqId, responseStatus }) => ({ id: dlqId, status: responseStatus ?? 0 }));
}

/** Whether the functions know the keys that QStash signs with now. */
export async function knowsSigningKeys(config: Config): Promise<boolean> {
  const { current } = keys.parse(await ask(config, "/v2/keys"));
  return [config.QSTASH_CURRENT_SIGNING_KEY, config.QSTASH_NEXT_SIGNING_KEY].includes(current);
}

export function countStatuses(
  of: readonly { readonly responseStatus?: number | undefined; readonly label?: string | undefined }[],
) {
  const counts: Record<string, number> = {};
  for (const { responseStatus = 0, label } of of) {
    if (label !== CHECK_LABEL) counts[responseStatus] = (counts[responseStatus] ?? 0) + 1;
  }
  return counts;
}

/** The status with which a page says that another try would not help. */
const FINAL = 489;

function pageUrl(config: Config): string {
  return `${config.FUNCTIONS_URL}/sync-page`;
}

async function look(config: Config, path: string, query: Readonly<Record<string, string>>): Promise<unknown> {
  const parameters = new URLSearchParams({ ...query, order: "latestFirst", count: String(LOOK) });
  return ask(config, `${path}?${parameters.toString()}`);
}

async function ask(config: Config, path: string): Promise<unknown> {
  const answer = await askQstash(config, path).catch((cause: unknown) => {
    throw new IsthmusError("QUEUE_UNAVAILABLE", undefined, { cause });
  });
  if (answer.status !== 200) throw new IsthmusError("QUEUE_UNAVAILABLE", undefined, { detail: { status: answer.status } });
  return answer.body;
}

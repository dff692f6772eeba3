import type { Config } from "../config.ts";
import type { PageMessage } from "../target/sending.ts";
import { flowControlKey } from "./installation.ts";
import { MESSAGE_FORMAT } from "./message-format.ts";
import { askQstash, type QstashAnswer } from "./qstash.ts";
import { refusalOfAnswer, refusalOfEntry, refusalOfError, type Refusal } from "./refusal.ts";

export interface PageQueue {
  /** Sends within a few seconds or not at all. @returns what the queue did not accept: nothing is lost, the sweep sends it again. */
  send(messages: readonly PageMessage[]): Promise<readonly RefusedPage[]>;
}

/** A message that the queue did not accept. */
export interface RefusedPage {
  readonly message: PageMessage;
  readonly refusal: Refusal;
}

/**
 * Sends pages through QStash, all in one request. A message is deduplicated by chain, page and attempt: the same page
 * sent again by the sweep has another id, because QStash swallows a repeated one for ten minutes.
 */
export function createPageQueue(config: Config): PageQueue {
  const entry = entryOf(config);
  return {
    async send(messages) {
      if (messages.length === 0) return [];
      try {
        const headers = { "content-type": "application/json" };
        const body = JSON.stringify(messages.map(entry));
        return refusedOf(messages, await askQstash(config, "/v2/batch", { method: "POST", headers, body }));
      } catch (error) {
        const refusal = refusalOfError(error);
        return messages.map((message) => ({ message, refusal }));
      }
    },
  };
}

/** A message as QStash's batch takes it. */
function entryOf(config: Config) {
  const destination = `${config.FUNCTIONS_URL}/sync-page`;
  const headers = {
    "Content-Type": "application/json",
    "Upstash-Method": "POST",
    "Upstash-Flow-Control-Key": flowControlKey(config.FUNCTIONS_URL),
    "Upstash-Flow-Control-Value": `parallelism=${config.ISTHMUS_PARALLEL_PAGES}`,
  };
  return (message: PageMessage) => ({
    destination,
    headers: { ...headers, "Upstash-Deduplication-Id": `${message.chain}-${message.page}-${message.sends ?? 0}` },
    body: JSON.stringify({ format: MESSAGE_FORMAT, ...message }),
  });
}

/** A batch is taken in part: a refused entry has an error in its place, and the others are sent. */
function refusedOf(messages: readonly PageMessage[], answer: QstashAnswer): RefusedPage[] {
  const whole = refusalOfAnswer(answer);
  if (whole !== undefined) return messages.map((message) => ({ message, refusal: whole }));
  const entries = answer.body as readonly unknown[];
  return messages.flatMap((message, index) => {
    const refusal = refusalOfEntry(entries[index], answer.headers);
    return refusal === undefined ? [] : [{ message, refusal }];
  });
}

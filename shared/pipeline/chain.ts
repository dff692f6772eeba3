import { Client } from "@upstash/qstash";
import type { Config } from "../config.ts";
import { IsthmusError } from "../errors.ts";
import type { PageQueue } from "./types.ts";

/**
 * Sends pages through QStash. A message is deduplicated by chain, page and attempt: the same page sent again by the
 * sweep has another id, because QStash swallows a repeated one for ten minutes.
 */
export function createPageQueue(config: Config): PageQueue {
  const client = new Client({
    baseUrl: config.QSTASH_URL,
    token: config.QSTASH_TOKEN,
    enableTelemetry: false,
    retry: { retries: 1, backoff: () => 200 },
  });
  const url = `${config.FUNCTIONS_URL}/sync-page`;
  return {
    async send(messages) {
      if (messages.length === 0) return;
      try {
        await client.batchJSON(
          messages.map((message) => ({
            url,
            body: message,
            deduplicationId: `${message.chain}-${message.page}-${message.sends ?? 0}`,
            flowControl: { key: "isthmus-pages", parallelism: config.ISTHMUS_PARALLEL_PAGES },
          })),
        );
      } catch (error) {
        throw new IsthmusError("QUEUE_UNAVAILABLE", undefined, { cause: error });
      }
    },
  };
}

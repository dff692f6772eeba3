import type { DeliveryRecord } from "../../local/qstash/types.ts";

/** Messages of the queue to one function, and how often they were delivered: what the queue's account is billed. */
export function sentTo(
  history: readonly Pick<DeliveryRecord, "messageId" | "url">[],
  name: string,
): { readonly messages: number; readonly deliveries: number } {
  const own = history.filter(({ url }) => new URL(url).pathname.endsWith(`/${name}`));
  return { messages: new Set(own.map(({ messageId }) => messageId)).size, deliveries: own.length };
}

import { signDelivery } from "./signature.ts";
import type { Message } from "./types.ts";

/** Headers of a connection, not of a message: forwarding them would break the delivery. */
const NOT_FORWARDED: ReadonlySet<string> = new Set(["host", "content-length", "connection", "transfer-encoding"]);

/** The headers with which a message reaches its destination, signed now. */
export function deliveryHeaders(message: Message, signingKey: string): Record<string, string> {
  const headers: Record<string, string> = {};
  for (const [name, values] of Object.entries(message.settings.forward)) {
    if (!NOT_FORWARDED.has(name)) headers[name] = values.join(", ");
  }
  return {
    "user-agent": "Upstash-QStash",
    ...headers,
    "upstash-signature": signDelivery(signingKey, message.url, message.body, Date.now()),
    "upstash-message-id": message.messageId,
    "upstash-retried": String(message.retried),
    "upstash-caller-ip": message.callerIp,
    ...(message.scheduleId === undefined ? {} : { "upstash-schedule-id": message.scheduleId }),
  };
}

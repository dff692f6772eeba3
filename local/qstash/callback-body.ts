import { reportedHeaders } from "./types.ts";
import type { DeliveryResult, Message } from "./types.ts";

/** The JSON that a callback (and, with `dlqId`, a failure callback) receives about a delivery. */
export function callbackBody(message: Message, result: DeliveryResult, dlqId: string | undefined): Buffer {
  return Buffer.from(
    JSON.stringify({
      status: result.status,
      header: reportedHeaders(result.headers),
      body: (result.body.length > 0 ? result.body : Buffer.from(result.error ?? "")).toString("base64"),
      retried: message.retried,
      maxRetries: message.settings.retries,
      dlqId,
      sourceMessageId: message.messageId,
      url: message.url,
      method: message.settings.method,
      sourceHeader: reportedHeaders(message.settings.forward),
      sourceBody: message.body.toString("base64"),
      notBefore: message.notBefore,
      createdAt: message.createdAt,
      scheduleId: message.scheduleId,
      callerIP: message.callerIp,
    }),
  );
}

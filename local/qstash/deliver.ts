import { request as requestHttp } from "node:http";
import { request as requestHttps } from "node:https";
import type { DeliveryResult } from "./types.ts";

const MAX_RESPONSE_BYTES = 1_048_576;

export interface DeliveryRequest {
  readonly url: string;
  readonly method: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Buffer;
  readonly signal: AbortSignal;
}

/** Sends one request and resolves with whatever came of it; never rejects. The answer's body is cut at 1 MB. */
export async function deliver(delivery: DeliveryRequest): Promise<DeliveryResult> {
  try {
    return await exchange(delivery);
  } catch (error) {
    const message = error instanceof Error ? error.message : "the delivery failed";
    return { status: 0, headers: {}, body: Buffer.alloc(0), error: message };
  }
}

function exchange(delivery: DeliveryRequest): Promise<DeliveryResult> {
  return new Promise((resolve, reject) => {
    const send = delivery.url.toLowerCase().startsWith("https:") ? requestHttps : requestHttp;
    const options = {
      method: delivery.method,
      headers: { ...delivery.headers, "content-length": String(delivery.body.length) },
      signal: delivery.signal,
      // One connection per delivery: a kept one would turn a restarted destination into a lost try.
      agent: false as const,
    };
    const request = send(delivery.url, options, (response) => {
      const chunks: Buffer[] = [];
      let size = 0;
      response.on("data", (chunk: Buffer) => {
        if (size < MAX_RESPONSE_BYTES) chunks.push(chunk);
        size += chunk.length;
      });
      response.on("error", reject);
      response.on("end", () => {
        const headers: Record<string, string[]> = {};
        for (const [name, values] of Object.entries(response.headersDistinct)) headers[name] = values ?? [];
        const body = Buffer.concat(chunks).subarray(0, MAX_RESPONSE_BYTES);
        resolve({ status: response.statusCode ?? 0, headers, body, error: undefined });
      });
    });
    request.on("error", reject);
    request.end(delivery.body);
  });
}

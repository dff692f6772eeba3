import type { Config } from "../config.ts";

/**
 * How long anything asked of QStash may take, its answer's body included. QStash answers within some 100 ms, and a
 * page or a tick waits: far less than a lease.
 */
export const QSTASH_TIMEOUT_MS = 5_000;
/** Far more than any answer to what is asked here; one that never ends must not fill the memory. */
const MAX_ANSWER_BYTES = 4 * 1024 * 1024;
/** A connection that breaks is tried once more after this, within the same time limit. */
const RETRY_PAUSE_MS = 200;

export interface QstashRequest {
  readonly method?: "GET" | "POST" | "DELETE";
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
  readonly timeoutMs?: number;
}

export interface QstashAnswer {
  readonly status: number;
  readonly headers: Headers;
  /** undefined: what answered does not speak JSON. */
  readonly body: unknown;
}

/**
 * Asks QStash's API. The vendor's client is not used for it: its calls have no time limit, and it keeps only the text
 * of a refusal.
 * @throws Error of the runtime (a TimeoutError, a socket's code) when QStash does not answer.
 */
export async function askQstash(config: Config, path: string, request: QstashRequest = {}): Promise<QstashAnswer> {
  const signal = AbortSignal.timeout(request.timeoutMs ?? QSTASH_TIMEOUT_MS);
  try {
    return await ask(config, path, request, signal);
  } catch (error) {
    if (signal.aborted) throw error;
    await new Promise((again) => setTimeout(again, RETRY_PAUSE_MS));
    return ask(config, path, request, signal);
  }
}

async function ask(config: Config, path: string, request: QstashRequest, signal: AbortSignal): Promise<QstashAnswer> {
  const { method = "GET", headers, body } = request;
  const response = await fetch(`${config.QSTASH_URL.replace(/\/$/, "")}${path}`, {
    method,
    headers: { ...headers, authorization: `Bearer ${config.QSTASH_TOKEN}` },
    signal,
    ...(body === undefined ? {} : { body }),
  });
  return { status: response.status, headers: response.headers, body: parse(await readWithin(response, signal)) };
}

/** The answer's text. @throws Error when the time is over before its end, or when it is longer than any answer. */
async function readWithin(response: Response, signal: AbortSignal): Promise<string> {
  const reader = response.body?.getReader() as ReadableStreamDefaultReader<Uint8Array> | undefined;
  if (reader === undefined) return "";
  const decoder = new TextDecoder();
  let text = "";
  for (let bytes = 0; ;) {
    const { done, value } = await beforeAbort(reader.read(), signal);
    if (done) return text + decoder.decode();
    bytes += value.byteLength;
    if (bytes > MAX_ANSWER_BYTES) {
      await reader.cancel();
      throw new RangeError("The answer is too long.");
    }
    text += decoder.decode(value, { stream: true });
  }
}

/** Not every runtime ends the reading of a body with the request's signal. */
async function beforeAbort<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  let abort: () => void = () => undefined;
  const aborted = new Promise<never>((_, reject) => {
    abort = () => reject(signal.reason as Error);
    if (signal.aborted) abort();
    else signal.addEventListener("abort", abort, { once: true });
  });
  try {
    return await Promise.race([work, aborted]);
  } finally {
    signal.removeEventListener("abort", abort);
  }
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

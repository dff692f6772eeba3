import { request as requestHttp, type IncomingMessage } from "node:http";
import { request as requestHttps } from "node:https";

export interface QueuedRequest {
  readonly id: string;
  readonly method: string;
  readonly url: string;
  readonly headers: Readonly<Record<string, string>> | null;
  readonly body: Buffer | null;
  readonly timeout_milliseconds: number;
}

/** A row of net._http_response. */
export interface Answer {
  readonly id: string;
  readonly status_code: number | null;
  readonly content_type: string | null;
  readonly headers: Readonly<Record<string, string>> | null;
  readonly content: string | null;
  readonly timed_out: boolean;
  readonly error_msg: string | null;
}

const AGENT = "pg_net/0.20.0";
const REDIRECTS = [301, 302, 303, 307, 308];

/** Sends one request as pg_net does through curl: redirects are followed, all headers with them, and one time limit is for everything. */
export async function send(queued: QueuedRequest): Promise<Answer> {
  const begun = performance.now();
  const limit = AbortSignal.timeout(queued.timeout_milliseconds);
  try {
    let { url, method, body } = queued;
    for (;;) {
      const { response, content } = await exchange(url, method, body, queued.headers, limit);
      const status = response.statusCode ?? 0;
      const { location } = response.headers;
      if (!REDIRECTS.includes(status) || location === undefined) return answered(queued.id, response, content);
      url = new URL(location, url).href;
      if (status < 307 && method !== "GET") [method, body] = ["GET", null];
    }
  } catch (error) {
    const failed = { id: queued.id, status_code: null, content_type: null, headers: null, content: null };
    return limit.aborted
      ? { ...failed, timed_out: true, error_msg: timeout(queued.timeout_milliseconds, performance.now() - begun) }
      : { ...failed, timed_out: false, error_msg: wordsOf(error) };
  }
}

function exchange(
  url: string,
  method: string,
  body: Buffer | null,
  headers: QueuedRequest["headers"],
  signal: AbortSignal,
): Promise<{ response: IncomingMessage; content: string }> {
  return new Promise((done, failed) => {
    const request = url.startsWith("https:") ? requestHttps : requestHttp;
    const given = { ...headers, "user-agent": AGENT, ...(body === null ? {} : { "content-length": String(body.length) }) };
    const sent = request(url, { method, headers: given, signal, agent: false }, (response) => {
      const parts: Buffer[] = [];
      response.on("data", (part: Buffer) => parts.push(part));
      response.once("error", failed);
      response.once("end", () => done({ response, content: Buffer.concat(parts).toString() }));
    });
    sent.once("error", failed);
    sent.end(body ?? undefined);
  });
}

function answered(id: string, response: IncomingMessage, content: string): Answer {
  const headers = Object.fromEntries(Object.entries(response.headers).map(([name, value]) => [name, String(value)]));
  return {
    id,
    status_code: response.statusCode ?? 0,
    content_type: response.headers["content-type"] ?? null,
    headers,
    content: content === "" ? null : content,
    timed_out: false,
    error_msg: null,
  };
}

/** Where the time went is not measured here: all of it counts as the last step's. */
function timeout(limit: number, took: number): string {
  const ms = (value: number) => `${value.toFixed(6)} ms`;
  return `Timeout of ${limit} ms reached. Total time: ${ms(took)} (DNS time: ${ms(0)}, TCP/SSL handshake time: ${ms(0)}, HTTP Request/Response time: ${ms(took)})`;
}

/** What curl_easy_strerror() says of the same failure. */
const WORDS: Readonly<Record<string, string>> = {
  ECONNREFUSED: "Couldn't connect to server",
  EHOSTUNREACH: "Couldn't connect to server",
  ENETUNREACH: "Couldn't connect to server",
  ENOTFOUND: "Couldn't resolve host name",
  EAI_AGAIN: "Couldn't resolve host name",
  ECONNRESET: "Server returned nothing (no headers, no data)",
  EPIPE: "Failed sending data to the peer",
  ERR_INVALID_URL: "URL using bad/illegal format or missing URL",
  ERR_INVALID_PROTOCOL: "Unsupported protocol",
  ERR_TLS_CERT_ALTNAME_INVALID: "SSL peer certificate or SSH remote key was not OK",
  DEPTH_ZERO_SELF_SIGNED_CERT: "SSL peer certificate or SSH remote key was not OK",
  SELF_SIGNED_CERT_IN_CHAIN: "SSL peer certificate or SSH remote key was not OK",
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: "SSL peer certificate or SSH remote key was not OK",
  CERT_HAS_EXPIRED: "SSL peer certificate or SSH remote key was not OK",
};

function wordsOf(error: unknown): string {
  const { code } = error as { code?: string };
  if (code?.startsWith("HPE_") === true) return "Weird server reply";
  return WORDS[code ?? ""] ?? "Failure when receiving data from the peer";
}

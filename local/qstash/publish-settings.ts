import { evaluateRetryDelay } from "./backoff.ts";
import { parseDuration } from "./durations.ts";
import { RequestRefused } from "./types.ts";
import type { FlowControl, HeaderMap, PublishSettings } from "./types.ts";

const DEFAULT_RETRIES = 3;
const DEFAULT_TIMEOUT_MS = 15 * 60_000;
const METHODS: ReadonlySet<string> = new Set(["GET", "POST", "PUT", "PATCH", "DELETE"]);

/** Reads what a publish asks for. Header names are lower case. Throws RequestRefused on a malformed value. */
export function parsePublishSettings(headers: HeaderMap): PublishSettings {
  const method = (first(headers, "upstash-method") ?? "POST").toUpperCase();
  if (!METHODS.has(method)) throw new RequestRefused(400, `invalid method: ${method}`);
  return {
    method,
    delayMs: durationOf(headers, "upstash-delay"),
    notBefore: wholeNumberOf(headers, "upstash-not-before", 1_000),
    retries: wholeNumberOf(headers, "upstash-retries", 1) ?? DEFAULT_RETRIES,
    retryDelay: retryDelayOf(headers),
    timeoutMs: durationOf(headers, "upstash-timeout") ?? DEFAULT_TIMEOUT_MS,
    deduplicationId: first(headers, "upstash-deduplication-id"),
    contentBasedDeduplication: first(headers, "upstash-content-based-deduplication") === "true",
    flowControl: flowControlOf(headers),
    callback: callbackUrl(headers, "upstash-callback"),
    failureCallback: callbackUrl(headers, "upstash-failure-callback"),
    callbackHeaders: stripPrefix(headers, "upstash-callback-", "upstash-"),
    failureCallbackHeaders: stripPrefix(headers, "upstash-failure-callback-", "upstash-"),
    forward: forwarded(headers),
    labels: (first(headers, "upstash-label") ?? "").split(",").filter((label) => label !== ""),
  };
}

/** The destination of a publish: an absolute http(s) URL, exactly as it was sent. */
export function parseDestination(raw: string): string {
  const destination = /^https?%3a/i.test(raw) ? decodeURIComponent(raw) : raw;
  if (!/^https?:\/\//i.test(destination) || !URL.canParse(destination)) {
    throw new RequestRefused(
      400,
      "invalid destination url: endpoint has invalid scheme, add http:// or https:// in front of your url",
    );
  }
  return destination;
}

function first(headers: HeaderMap, name: string): string | undefined {
  const value = headers[name]?.[0];
  return value === undefined || value === "" ? undefined : value;
}

function durationOf(headers: HeaderMap, name: string): number | undefined {
  const value = first(headers, name);
  if (value === undefined) return undefined;
  const parsed = parseDuration(value);
  if (parsed === undefined) throw new RequestRefused(400, `invalid ${name} header: ${value}`);
  return parsed;
}

function wholeNumberOf(headers: HeaderMap, name: string, factor: number): number | undefined {
  const value = first(headers, name);
  if (value === undefined) return undefined;
  if (!/^\d+$/.test(value)) throw new RequestRefused(400, `invalid ${name} header: ${value}`);
  return Number(value) * factor;
}

function retryDelayOf(headers: HeaderMap): string | undefined {
  const expression = first(headers, "upstash-retry-delay");
  if (expression === undefined) return undefined;
  try {
    evaluateRetryDelay(expression, 0);
  } catch (error) {
    throw new RequestRefused(400, `invalid retry delay expression: ${error instanceof Error ? error.message : ""}`);
  }
  return expression;
}

function callbackUrl(headers: HeaderMap, name: string): string | undefined {
  const url = first(headers, name);
  return url === undefined ? undefined : parseDestination(url);
}

function flowControlOf(headers: HeaderMap): FlowControl | undefined {
  const key = first(headers, "upstash-flow-control-key");
  if (key === undefined) return undefined;
  const value = first(headers, "upstash-flow-control-value") ?? "";
  const fields = new Map<string, string>();
  for (const part of value.split(",")) {
    const [name, setting] = part.split("=");
    if (name !== undefined && setting !== undefined) fields.set(name.trim().toLowerCase(), setting.trim());
  }
  const parallelism = positive(fields.get("parallelism"));
  const rate = positive(fields.get("rate"));
  if (parallelism === undefined && rate === undefined) {
    throw new RequestRefused(400, "invalid flow control value: give parallelism or rate");
  }
  return { key, parallelism, rate, periodMs: periodMs(fields.get("period")) };
}

function positive(value: string | undefined): number | undefined {
  if (value === undefined) return undefined;
  if (!/^[1-9]\d*$/.test(value)) throw new RequestRefused(400, `invalid flow control value: ${value}`);
  return Number(value);
}

function periodMs(value: string | undefined): number {
  if (value === undefined) return 1_000;
  const parsed = /^\d+$/.test(value) ? Number(value) * 1_000 : parseDuration(value);
  if (parsed === undefined || parsed <= 0) throw new RequestRefused(400, `invalid flow control period: ${value}`);
  return parsed;
}

function stripPrefix(headers: HeaderMap, prefix: string, replacement: string): HeaderMap {
  const result: Record<string, readonly string[]> = {};
  for (const [name, values] of Object.entries(headers)) {
    if (name.startsWith(prefix)) result[replacement + name.slice(prefix.length)] = values;
  }
  return result;
}

function forwarded(headers: HeaderMap): HeaderMap {
  const contentType = headers["content-type"];
  return {
    ...(contentType === undefined ? {} : { "content-type": contentType }),
    ...stripPrefix(headers, "upstash-forward-", ""),
  };
}

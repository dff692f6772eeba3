const UNIT_MS: Readonly<Record<string, number>> = {
  ns: 1e-6,
  us: 1e-3,
  µs: 1e-3,
  ms: 1,
  s: 1_000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
};
const PART = /(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h|d)/gy;
const DAY_MS = 86_400_000;

/** Milliseconds of a duration such as `10s`, `1m30s` or `2d`; undefined when it is none. */
export function parseDuration(text: string): number | undefined {
  const trimmed = text.trim();
  let total = 0;
  let end = 0;
  for (const match of trimmed.matchAll(PART)) {
    total += Number(match[1]) * (UNIT_MS[match[2] ?? ""] ?? 0);
    end = match.index + match[0].length;
  }
  return end > 0 && end === trimmed.length ? Math.round(total) : undefined;
}

/** Headers with which a destination moves its next try, in the order in which they are looked at. */
const RETRY_HEADERS = ["retry-after", "x-ratelimit-reset", "x-ratelimit-reset-requests", "x-ratelimit-reset-tokens"] as const;

/**
 * How long the destination asks to be left alone: seconds, an HTTP date or a duration. Undefined when it does not
 * ask, asks in another form or for more than a day: then the usual backoff holds.
 */
export function requestedRetryMs(headers: Readonly<Record<string, readonly string[]>>, now: number): number | undefined {
  for (const name of RETRY_HEADERS) {
    const value = headers[name]?.[0];
    if (value === undefined) continue;
    const wait = readRetryAfter(value.trim(), now);
    if (wait !== undefined && wait <= DAY_MS) return wait;
  }
  return undefined;
}

function readRetryAfter(value: string, now: number): number | undefined {
  if (/^\d+$/.test(value)) return Number(value) * 1_000;
  const duration = parseDuration(value);
  if (duration !== undefined) return duration;
  const date = Date.parse(value);
  return Number.isNaN(date) ? undefined : Math.max(0, date - now);
}

import type { DescribedError } from "../errors.ts";
import { ERRORS } from "../errors.ts";
import type { QstashAnswer } from "./qstash.ts";

/**
 * Why a message was not accepted. quota: the plan's messages of the day are used up · token: it may not publish ·
 * request: this message is not accepted · rate: too many requests in this second · server: QStash has a problem ·
 * answer: what answers is not QStash · timeout, unreachable: nothing answers.
 */
export type RefusalReason = "quota" | "token" | "request" | "rate" | "server" | "answer" | "timeout" | "unreachable";

export interface Refusal {
  readonly reason: RefusalReason;
  readonly status?: number;
  /** When the quota begins anew. */
  readonly resetsAt?: string;
}

/** What ends by itself within moments, and what somebody has to look at. */
const CODE: Readonly<Record<RefusalReason, "QUEUE_REFUSED" | "QUEUE_UNAVAILABLE">> = {
  quota: "QUEUE_REFUSED",
  token: "QUEUE_REFUSED",
  request: "QUEUE_REFUSED",
  rate: "QUEUE_UNAVAILABLE",
  server: "QUEUE_UNAVAILABLE",
  answer: "QUEUE_UNAVAILABLE",
  timeout: "QUEUE_UNAVAILABLE",
  unreachable: "QUEUE_UNAVAILABLE",
};

/** A refusal as chains, logs and alerts keep it. */
export function describeRefusal(refusal: Refusal): DescribedError {
  const code = CODE[refusal.reason];
  return { ...refusal, code, message: ERRORS[code].meaning, remedy: ERRORS[code].remedy };
}

/** Why no message of an answer was accepted; undefined: it has to be read entry by entry. */
export function refusalOfAnswer({ status, headers, body }: QstashAnswer): Refusal | undefined {
  if (status < 200 || status > 299) return refusalOf(status, headers);
  return Array.isArray(body) ? undefined : { reason: "answer", status };
}

/** Why one entry of a batch was not accepted; undefined: it was. An error stands in the place of the message's id. */
export function refusalOfEntry(entry: unknown, headers: Headers): Refusal | undefined {
  const { messageId, status } = (entry ?? {}) as { messageId?: unknown; status?: unknown };
  if (typeof messageId === "string" && messageId !== "") return undefined;
  if (typeof status === "number") return refusalOf(status, headers);
  return headers.get("ratelimit-remaining") === "0" ? quota(headers) : { reason: "request" };
}

/** Why nothing answered. */
export function refusalOfError(error: unknown): Refusal {
  return { reason: error instanceof Error && /^(Timeout|Abort)Error$/.test(error.name) ? "timeout" : "unreachable" };
}

function refusalOf(status: number, headers: Headers): Refusal {
  if (status === 429) return headers.get("ratelimit-limit") === null ? { reason: "rate", status } : quota(headers, status);
  if (status === 401 || status === 403) return { reason: "token", status };
  return { reason: status >= 500 ? "server" : "request", status };
}

function quota(headers: Headers, status?: number): Refusal {
  const reset = Number(headers.get("ratelimit-reset") ?? Number.NaN);
  return {
    reason: "quota",
    ...(status === undefined ? {} : { status }),
    ...(reset > 0 && reset < 1e11 ? { resetsAt: new Date(reset * 1_000).toISOString() } : {}),
  };
}

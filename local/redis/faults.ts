import { RedisReplyError } from "./reply.ts";
import type { Command, Reply } from "./reply.ts";

/**
 * ok · full: writes are refused · rate-limited: every request is answered 429 · slow: answers wait `delayMs` · wrong:
 * reads answer other values, garbage, or too few · absent: every connection is reset.
 */
export type RedisFaultMode = "ok" | "full" | "rate-limited" | "slow" | "wrong" | "absent";

/** May be changed while the server runs. */
export interface RedisFaults {
  mode: RedisFaultMode;
  delayMs: number;
}

/** What the vendor answers when the plan's commands are used up. */
export const RATE_LIMITED_ERROR =
  "ERR max requests limit exceeded. Limit: 500000, Usage: 500000. " +
  "See https://upstash.com/docs/redis/troubleshooting/max_requests_limit for details";

/** What the vendor answers to a write when the database is full and eviction is off. */
export const FULL_ERROR = "ERR DB capacity quota exceeded. Threshold: 268435456 bytes, Usage: 268979370 bytes.";

const ALLOWED_WHEN_FULL: ReadonlySet<string> = new Set([
  ...["PING", "GET", "MGET", "EXISTS", "TTL", "PTTL", "DBSIZE", "SCAN", "KEYS", "STRLEN", "TYPE"],
  ...["HGET", "HMGET", "HGETALL", "DEL", "UNLINK", "EXPIRE", "FLUSHDB", "FLUSHALL"],
]);

/** The error that a token gets which may only read. */
export function refusalWhenReadOnly([name = ""]: Command): RedisReplyError | undefined {
  const reads = ALLOWED_WHEN_FULL.has(name.toUpperCase()) && !/^(DEL|UNLINK|EXPIRE|FLUSH\w+)$/i.test(name);
  return reads
    ? undefined
    : new RedisReplyError(`NOPERM this user has no permissions to run the '${name.toLowerCase()}' command or its subcommand`);
}

/** The error that a full database gives to a command that would store something. */
export function refusalWhenFull([name = ""]: Command): RedisReplyError | undefined {
  return ALLOWED_WHEN_FULL.has(name.toUpperCase()) ? undefined : new RedisReplyError(FULL_ERROR);
}

const LIES = ["moved", "garbage", "short"] as const;

/**
 * Falsifies what a read answered; the kinds of lie take turns by `turn`: values under their neighbours' keys (the
 * worst: they look right), garbage, an array that is one too short. Numbers and OK stay as they are.
 */
export function falsify(reply: Reply, turn: number): Reply {
  const garbage = Buffer.from(`garbage ${turn}`);
  if (Buffer.isBuffer(reply) || reply === null) return garbage;
  if (!Array.isArray(reply)) return reply;
  const items = reply as readonly Reply[];
  const lie = LIES[turn % LIES.length];
  if (lie === "short") return items.slice(0, -1);
  if (lie === "moved" && items.length > 1) return [...items.slice(1), items[0] ?? null];
  return items.map((item) => falsify(item, turn));
}

import { Redis } from "@upstash/redis";
import type { Config } from "../config.ts";
import type { Sql } from "../db/connect.ts";
import type { Side } from "../db/query.ts";
import { IsthmusError } from "../errors.ts";
import type { Context } from "../pipeline/types.ts";
import { nodeFacts, type NodeFacts } from "../sql/node-facts.ts";

const TIMEOUT_MS = 5_000;

export type Reach =
  | ({ readonly reachable: true; /** One round trip. */ readonly ms: number } & Partial<NodeFacts>)
  | { readonly reachable: false; readonly reason: Reason };

/** Why something does not answer: a code, never what a server or a variable says. */
export type Reason =
  | "credentials_refused"
  | "no_such_database"
  | "name_not_resolved"
  | "connection_refused"
  | "timeout"
  | "tls_refused"
  | "too_many_connections"
  | "not_configured"
  | "unreachable";

export type Reachability = Readonly<Record<"source" | "target" | "redis" | "qstash", Reach>>;

/** Whether what a function needs answers it, over the network, with the credentials and under the TLS that it has. */
export async function reachability({ config, source, target, clock }: Context): Promise<Reachability> {
  const measure = (call: () => Promise<NodeFacts | undefined>) => measured(clock, call);
  const [ofSource, ofTarget, redis, qstash] = await Promise.all([
    reachDatabase(source, "source", measure),
    reachDatabase(target, "target", measure),
    config.UPSTASH_REDIS_REST_URL === undefined || config.UPSTASH_REDIS_REST_TOKEN === undefined
      ? ({ reachable: false, reason: "not_configured" } as const)
      : measure(() => pingRedis(config)),
    measure(() => askQstash(config)),
  ]);
  return { source: ofSource, target: ofTarget, redis, qstash };
}

/** The reason behind a failed call, by the codes of sockets, TLS, PostgreSQL and HTTP. */
export function reasonOf(error: unknown): Reason {
  const codes = codesOf(error);
  for (const [pattern, reason] of REASONS) if (codes.some((code) => pattern.test(code))) return reason;
  return "unreachable";
}

const REASONS: readonly (readonly [RegExp, Reason])[] = [
  [/^28|^40[13]$/, "credentials_refused"],
  [/^3D000$/, "no_such_database"],
  [/^53/, "too_many_connections"],
  [/^(ENOTFOUND|EAI_\w+)$/, "name_not_resolved"],
  [/^ECONNREFUSED$/, "connection_refused"],
  [/TIMEDOUT|CONNECT_TIMEOUT|^TimeoutError$|^AbortError$/, "timeout"],
  [/CERT|SSL|TLS|UNABLE_TO/, "tls_refused"],
];

type Measure = (call: () => Promise<NodeFacts | undefined>) => Promise<Reach>;

/** The first answer is awaited for what it says, the second for the time it takes on an open connection. */
async function reachDatabase(db: Sql, side: Side, measure: Measure): Promise<Reach> {
  const first = await measure(() => nodeFacts(db, side));
  return first.reachable ? measure(() => nodeFacts(db, side)) : first;
}

async function measured(clock: Context["clock"], call: () => Promise<NodeFacts | undefined>): Promise<Reach> {
  const began = clock();
  try {
    const facts = await call();
    return { reachable: true, ms: Math.round(clock() - began), ...facts };
  } catch (error) {
    return { reachable: false, reason: reasonOf(error) };
  }
}

async function pingRedis(config: Config): Promise<undefined> {
  const redis = new Redis({
    url: config.UPSTASH_REDIS_REST_URL,
    token: config.UPSTASH_REDIS_REST_TOKEN,
    retry: false,
    enableTelemetry: false,
    signal: AbortSignal.timeout(TIMEOUT_MS),
  });
  await redis.ping();
}

async function askQstash(config: Config): Promise<undefined> {
  const response = await fetch(`${config.QSTASH_URL.replace(/\/$/, "")}/v2/schedules`, {
    headers: { authorization: `Bearer ${config.QSTASH_TOKEN}` },
    signal: AbortSignal.timeout(TIMEOUT_MS),
  });
  await response.body?.cancel();
  if (!response.ok) throw new IsthmusError("QUEUE_UNAVAILABLE", undefined, { detail: { reason: String(response.status) } });
}

/** Codes and names of an error and of what caused it. */
function codesOf(error: unknown): string[] {
  if (!(error instanceof Error)) return [];
  const { code, status } = error as { code?: unknown; status?: unknown };
  const detail = error instanceof IsthmusError ? [error.detail["sqlstate"], error.detail["reason"]] : [];
  const own = [code, status, error.name, ...detail].filter((one) => one !== undefined).map(String);
  return [...own, ...codesOf(error.cause)];
}

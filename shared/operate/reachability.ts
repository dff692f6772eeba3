import type { Sql } from "../db/connect.ts";
import type { Side } from "../db/settings.ts";
import { reasonOf, type NetReason } from "../net-reason.ts";
import type { Context } from "../context.ts";
import { probeQueue, type ProbeProblem } from "../queue/probe.ts";
import { nodeFacts, type NodeFacts } from "../source/node-facts.ts";
import { probeCache, type CacheProblem } from "../cache/probe-cache.ts";

export type Reach =
  | ({ readonly reachable: true; /** One round trip. */ readonly ms: number } & Partial<NodeFacts>)
  | { readonly reachable: false; readonly reason: Reason };

/** Why something cannot be used: a code, never what a server or a variable says. */
export type Reason = NetReason | ProbeProblem | CacheProblem | "not_configured";

export type Reachability = Readonly<Record<"source" | "target" | "redis" | "qstash", Reach>>;

/** Whether what a function needs answers it, over the network, with the credentials and under the TLS that it has, and lets it do what it does. */
export async function reachability({ config, source, target, clock }: Context): Promise<Reachability> {
  const measure = (call: () => Promise<NodeFacts | undefined>) => measured(clock, call);
  const [ofSource, ofTarget, redis, qstash] = await Promise.all([
    reachDatabase(source, "source", measure),
    reachDatabase(target, "target", measure),
    config.UPSTASH_REDIS_REST_URL === undefined || config.UPSTASH_REDIS_REST_TOKEN === undefined
      ? ({ reachable: false, reason: "not_configured" } as const)
      : measure(() => probe(probeCache(config))),
    measure(() => probe(probeQueue(config))),
  ]);
  return { source: ofSource, target: ofTarget, redis, qstash };
}

/** What answers and cannot be used. */
class Unusable extends Error {
  constructor(readonly reason: ProbeProblem | CacheProblem) {
    super(reason);
  }
}

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
    return { reachable: false, reason: error instanceof Unusable ? error.reason : reasonOf(error) };
  }
}

async function probe(problem: Promise<ProbeProblem | CacheProblem | undefined>): Promise<undefined> {
  const found = await problem;
  if (found !== undefined) throw new Unusable(found);
}

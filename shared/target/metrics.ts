import type { Queryable } from "../db/connect.ts";
import { query } from "../db/query.ts";

/** One sample of a scrape. */
export interface Sample {
  readonly metric: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

/** All samples, in one statement. */
export async function readMetrics(target: Queryable): Promise<readonly Sample[]> {
  return query<Sample & object>(target, "target", "select m.metric, m.labels, m.value from sync.metrics() m");
}

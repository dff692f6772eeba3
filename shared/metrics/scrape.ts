import type { Queryable } from "../db/connect.ts";
import { IsthmusError } from "../errors.ts";
import { readMetrics, type Sample } from "../target/metrics.ts";
import { ALL_METRICS } from "./registry.ts";

export interface Scrape {
  readonly contentType: string;
  readonly text: string;
}

/** What a scrape is answered, in the OpenMetrics text format. */
export async function scrape(target: Queryable): Promise<Scrape> {
  return openMetrics(await readMetrics(target));
}

/** Samples as OpenMetrics text. @throws IsthmusError INTERNAL for a metric that nobody has described. */
export async function openMetrics(samples: readonly Sample[]): Promise<Scrape> {
  // Loaded only here: it takes twenty milliseconds, which would cost every other cold start its time.
  const { Counter, Gauge, Registry } = await import("./prom-client.gen.mjs");
  const registry = new Registry();
  registry.setContentType(Registry.OPENMETRICS_CONTENT_TYPE);
  const made = new Map<string, { inc(labels: Sample["labels"], value: number): void }>(
    ALL_METRICS.map(([name, { type, help, labels }]) => {
      // The format ends the name of a counter's samples with _total, and the library adds that.
      const options = {
        name: type === "counter" ? name.replace(/_total$/, "") : name,
        help,
        labelNames: labels,
        registers: [registry],
      };
      const metric = type === "counter" ? new Counter(options) : new Gauge(options);
      return [name, metric];
    }),
  );
  for (const { metric, labels, value } of samples) {
    const known = made.get(metric);
    if (known === undefined) throw new IsthmusError("INTERNAL", `sync.metrics() tells of ${metric}, which no metric is called.`);
    known.inc(labels, value);
  }
  return { contentType: registry.contentType, text: await registry.metrics() };
}

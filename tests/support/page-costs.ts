import type { Invocation } from "../../local/functions/host.ts";
import type { LogLine } from "../../local/functions/isolate-pool.ts";

/** A page of records, and the CPU of its isolate's thread while it ran there alone. */
export interface PageCost {
  readonly records: number;
  readonly bytes: number;
  readonly cpuMs: number;
}

/**
 * What committed pages read, by their log, and what they cost, by the host, where an isolate takes one request at a
 * time (`requestsPerIsolate: 1`): its lines are in the order of its requests. Its first request is left out: it
 * compiles and prepares.
 * @throws Error when a page has no line.
 */
export function pageCosts(invocations: readonly Invocation[], logs: readonly LogLine[]): PageCost[] {
  const calls = group(invocations, (call) => (call.function === "sync-page" && call.status === 200 ? call.isolate : undefined));
  const lines = group(logs, (event) => (event.line.includes('"event":"page"') ? event.isolate : undefined));
  return [...calls].flatMap(([isolate, own]) => {
    const told = lines.get(isolate) ?? [];
    if (told.length !== own.length) throw new Error(`${own.length} requests of an isolate logged ${told.length} pages.`);
    const inOrder = [...own].sort((a, b) => a.startedAt - b.startedAt);
    return inOrder.flatMap(({ cpuMs, cold }, index) => {
      const page = JSON.parse(told[index]?.line ?? "") as { outcome: string; read: number; bytes: number };
      return page.outcome === "committed" && !cold ? [{ records: page.read, bytes: page.bytes, cpuMs }] : [];
    });
  });
}

function group<Item>(items: readonly Item[], keyOf: (item: Item) => string | undefined): Map<string, Item[]> {
  const groups = new Map<string, Item[]>();
  for (const item of items) {
    const key = keyOf(item);
    if (key !== undefined) groups.set(key, [...(groups.get(key) ?? []), item]);
  }
  return groups;
}

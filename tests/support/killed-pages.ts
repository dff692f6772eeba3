import type { DeliveryRecord } from "../../local/qstash/types.ts";

/** Pages whose isolates were killed with them (546) more than once, by whichever messages: the tick sends a page that got lost in a new one. */
export function killedTwice(history: readonly Pick<DeliveryRecord, "status" | "body">[]): readonly string[] {
  const deaths = new Map<string, number>();
  for (const { status, body } of history) {
    if (status !== 546) continue;
    const { chain, page } = JSON.parse(body) as { chain: string; page: number };
    const key = `page ${page} of chain ${chain}`;
    deaths.set(key, (deaths.get(key) ?? 0) + 1);
  }
  return [...deaths].filter(([, times]) => times > 1).map(([page]) => page);
}

import type { LoggedEvent } from "./event-log.ts";
import { RequestRefused } from "./types.ts";

/** The fields by which the SDK filters messages, dead letters and events. */
export interface Filterable {
  readonly messageId: string;
  readonly url: string;
  readonly scheduleId: string | undefined;
  readonly flowControlKey: string | undefined;
  readonly labels: readonly string[];
  readonly time: number;
  readonly dlqId?: string;
  readonly responseStatus?: number | undefined;
  readonly state?: LoggedEvent["state"];
}

const READ: Readonly<Record<string, (item: Filterable) => readonly (string | undefined)[]>> = {
  messageId: (item) => [item.messageId],
  messageIds: (item) => [item.messageId],
  dlqIds: (item) => [item.dlqId],
  url: (item) => [item.url],
  host: (item) => [new URL(item.url).host],
  path: (item) => [new URL(item.url).pathname],
  scheduleId: (item) => [item.scheduleId],
  flowControlKey: (item) => [item.flowControlKey],
  label: (item) => item.labels,
  state: (item) => [item.state],
  responseStatus: (item) => [String(item.responseStatus)],
};

/** What narrows a list besides filters. */
const LIST_OPTIONS = ["fromDate", "toDate", "cursor", "count", "order"];

/** Throws RequestRefused for a filter that is not spoken: one that is ignored would let everything through. */
export function assertFilters(query: URLSearchParams, known: readonly string[] = Object.keys(READ)): void {
  for (const name of query.keys()) {
    if (!known.includes(name) && !LIST_OPTIONS.includes(name))
      throw new RequestRefused(400, `the filter ${name} is not spoken by the local stand-in`);
  }
}

/** In the order that is asked for; `items` are the earliest first. */
export function inOrder<T>(
  items: readonly T[],
  query: URLSearchParams,
  otherwise: "earliestFirst" | "latestFirst",
): readonly T[] {
  const order = query.get("order") ?? otherwise;
  if (order !== "earliestFirst" && order !== "latestFirst") throw new RequestRefused(400, `invalid order: ${order}`);
  return order === "earliestFirst" ? items : items.toReversed();
}

/** Several values of one filter are alternatives; several filters must all hold. */
export function matches(item: Filterable, query: URLSearchParams): boolean {
  for (const [name, read] of Object.entries(READ)) {
    const wanted = query.getAll(name);
    if (wanted.length > 0 && !read(item).some((value) => value !== undefined && wanted.includes(value))) return false;
  }
  const [from, to] = [query.get("fromDate"), query.get("toDate")];
  return (from === null || item.time >= Number(from)) && (to === null || item.time <= Number(to));
}

/** One page of a list; the cursor is the position of the next one. */
export function page<T>(items: readonly T[], query: URLSearchParams): { items: readonly T[]; cursor?: string } {
  const start = Number(query.get("cursor") ?? "0") || 0;
  const end = start + (Number(query.get("count") ?? "100") || 100);
  return { items: items.slice(start, end), ...(end < items.length ? { cursor: String(end) } : {}) };
}

import type { IncomingMessage } from "node:http";
import { GLOBAL_PARALLELISM } from "./broker.ts";
import type { Broker } from "./broker.ts";
import type { DeadLetter } from "./dead-letters.ts";
import { assertFilters, inOrder, matches, page } from "./filters.ts";
import type { Filterable } from "./filters.ts";
import { parseBatch } from "./parse-batch.ts";
import { parseDestination, parsePublishSettings } from "./publish-settings.ts";
import type { Schedules } from "./schedules.ts";
import { RequestRefused } from "./types.ts";
import type { HeaderMap, Message } from "./types.ts";
import { deadLetterView, eventView, flowView, messageView, scheduleView } from "./views.ts";

export interface RouteContext {
  readonly broker: Broker;
  readonly schedules: Schedules;
  readonly now: () => number;
  readonly keys: () => { current: string; next: string };
  readonly rotateKeys: () => void;
  readonly changed: () => void;
}

export interface Answer {
  readonly status: number;
  readonly body?: unknown;
  readonly headers?: Readonly<Record<string, string>>;
}

interface Call {
  readonly headers: HeaderMap;
  readonly query: URLSearchParams;
  readonly body: Buffer;
  readonly callerIp: string;
  /** What the route's pattern captured. */
  readonly captured: string;
}

type Route = readonly [method: string, pattern: RegExp, act: (context: RouteContext, call: Call) => Answer];

const OK: Answer = { status: 200, body: {} };

/** Destinations keep their own query string, so these patterns see the whole URL and the others only its path. */
const PUBLISHES: readonly Route[] = [
  ["POST", /^\/v2\/publish\/(.+)$/s, publish],
  ["POST", /^\/v2\/schedules\/(.+)$/s, createSchedule],
];

const ROUTES: readonly Route[] = [
  ["POST", /^\/v2\/batch()$/, batch],
  ["GET", /^\/v2\/schedules()$/, ({ schedules }) => ({ status: 200, body: schedules.all().map(scheduleView) })],
  ["GET", /^\/v2\/schedules\/([^/]+)$/, ({ schedules }, { captured }) => answer(scheduleView(schedules.get(captured)))],
  ["DELETE", /^\/v2\/schedules\/([^/]+)$/, deleteSchedule],
  ["PATCH", /^\/v2\/schedules\/([^/]+)\/pause$/, (context, { captured }) => pauseSchedule(context, captured, true)],
  ["PATCH", /^\/v2\/schedules\/([^/]+)\/resume$/, (context, { captured }) => pauseSchedule(context, captured, false)],
  ["GET", /^\/v2\/messages\/([^/]+)$/, getMessage],
  ["DELETE", /^\/v2\/messages\/([^/]+)$/, cancelMessage],
  ["DELETE", /^\/v2\/messages()$/, cancelMessages],
  ["GET", /^\/v2\/dlq()$/, listDeadLetters],
  ["POST", /^\/v2\/dlq\/retry()$/, retryDeadLetters],
  ["GET", /^\/v2\/dlq\/([^/]+)$/, ({ broker }, { captured }) => answer(deadLetterView(deadLetter(broker, captured)))],
  ["DELETE", /^\/v2\/dlq\/([^/]+)$/, deleteDeadLetter],
  ["DELETE", /^\/v2\/dlq()$/, deleteDeadLetters],
  ["GET", /^\/v2\/(?:events|logs)()$/, listEvents],
  ["GET", /^\/v2\/keys()$/, ({ keys }) => answer(keys())],
  ["POST", /^\/v2\/keys\/rotate()$/, rotate],
  ["GET", /^\/v2\/globalParallelism()$/, globalParallelism],
  ["GET", /^\/v2\/flowControl\/([^/]+)$/, getFlow],
  ["POST", /^\/v2\/flowControl\/([^/]+)\/pause$/, (context, { captured }) => pauseFlow(context, captured, true)],
  ["POST", /^\/v2\/flowControl\/([^/]+)\/resume$/, (context, { captured }) => pauseFlow(context, captured, false)],
];

/** Answers one authenticated request. Throws RequestRefused for what the protocol refuses. */
export function route(context: RouteContext, request: IncomingMessage, body: Buffer): Answer {
  const target = request.url ?? "/";
  const url = new URL(target, "http://local");
  const call = {
    headers: headersOf(request),
    query: url.searchParams,
    body,
    callerIp: request.socket.remoteAddress?.replace(/^::ffff:/, "") ?? "127.0.0.1",
  };
  for (const [routes, path] of [
    [PUBLISHES, target],
    [ROUTES, url.pathname],
  ] as const) {
    for (const [method, pattern, act] of routes) {
      const captured = pattern.exec(path)?.[1];
      if (captured === undefined || method !== request.method) continue;
      return act(context, { ...call, captured: routes === ROUTES ? decodeURIComponent(captured) : captured });
    }
  }
  throw new RequestRefused(404, `${request.method ?? ""} ${url.pathname} is not spoken by the local stand-in`);
}

function publish(context: RouteContext, call: Call): Answer {
  if (call.headers["upstash-cron"] !== undefined) return createSchedule(context, call);
  const settings = parsePublishSettings(call.headers);
  const url = parseDestination(call.captured);
  context.broker.admit({ url, body: call.body });
  const published = context.broker.publish({ url, settings, body: call.body, callerIp: call.callerIp });
  return { status: published.deduplicated === true ? 202 : 200, body: published };
}

function batch(context: RouteContext, call: Call): Answer {
  const entries = parseBatch(call.body);
  const refused: RequestRefused[] = [];
  // Each is taken or refused by itself; an error stands in the place of a refused one.
  const answers = entries.map((entry) => {
    try {
      const message = entry();
      context.broker.admit(message);
      return context.broker.publish({ ...message, callerIp: call.callerIp });
    } catch (error) {
      if (!(error instanceof RequestRefused)) throw error;
      refused.push(error);
      return { error: error.message };
    }
  });
  // A plan that takes no more refuses the request before it looks into it.
  const used = refused.find(({ status }) => status === 429);
  if (used !== undefined && refused.length === entries.length) throw used;
  return { status: 200, body: answers, headers: context.broker.quotaHeaders() };
}

function createSchedule(context: RouteContext, call: Call): Answer {
  const settings = parsePublishSettings(call.headers);
  const destination = parseDestination(call.captured);
  const { scheduleId } = context.schedules.put({ ...call, destination, settings }, context.now());
  context.changed();
  return answer({ scheduleId });
}

function deleteSchedule({ schedules }: RouteContext, { captured }: Call): Answer {
  schedules.remove(captured);
  return OK;
}

function pauseSchedule({ schedules, now, changed }: RouteContext, scheduleId: string, paused: boolean): Answer {
  schedules.setPaused(scheduleId, paused, now());
  changed();
  return OK;
}

function getMessage({ broker }: RouteContext, { captured }: Call): Answer {
  const message = broker.messages.get(captured);
  if (message === undefined) throw new RequestRefused(404, `message ${captured} not found`);
  return answer(messageView(message));
}

function cancelMessage({ broker }: RouteContext, { captured }: Call): Answer {
  if (!broker.cancel(captured)) throw new RequestRefused(404, `message ${captured} not found`);
  return answer({ cancelled: 1 });
}

function cancelMessages({ broker }: RouteContext, { query }: Call): Answer {
  assertFilters(query);
  const found = [...broker.messages.values()].filter((message) => matches(filterable(message), query));
  return answer({ cancelled: found.filter(({ messageId }) => broker.cancel(messageId)).length });
}

function deadLetter(broker: Broker, dlqId: string): DeadLetter {
  const letter = broker.deadLetters.get(dlqId);
  if (letter === undefined) throw new RequestRefused(404, `dlq message ${dlqId} not found`);
  return letter;
}

/** The vendor does not filter dead letters by host or path. */
const DEAD_LETTER_FILTERS = ["messageId", "dlqIds", "url", "scheduleId", "flowControlKey", "label", "responseStatus"];

function findDeadLetters(broker: Broker, query: URLSearchParams) {
  assertFilters(query, DEAD_LETTER_FILTERS);
  const found = broker.deadLetters.all().filter(({ dlqId, message, result }) => {
    return matches({ ...filterable(message), dlqId, responseStatus: result.status }, query);
  });
  return page(inOrder(found, query, "earliestFirst"), query);
}

function listDeadLetters({ broker }: RouteContext, { query }: Call): Answer {
  const { items, cursor } = findDeadLetters(broker, query);
  return answer({ messages: items.map(deadLetterView), cursor });
}

function deleteDeadLetter({ broker }: RouteContext, { captured }: Call): Answer {
  broker.deadLetters.remove(deadLetter(broker, captured).dlqId);
  return OK;
}

function deleteDeadLetters({ broker }: RouteContext, { query }: Call): Answer {
  const found = takeFromStart(broker, query);
  for (const { dlqId } of found.letters) broker.deadLetters.remove(dlqId);
  return answer({ deleted: found.letters.length, cursor: found.cursor });
}

function retryDeadLetters({ broker }: RouteContext, { query }: Call): Answer {
  const found = takeFromStart(broker, query);
  const responses = found.letters.map(({ dlqId, message }) => {
    broker.deadLetters.remove(dlqId);
    const { url, body, callerIp, scheduleId } = message;
    // The vendor publishes a new message; its old deduplication id and delay are spent.
    const settings = {
      ...message.settings,
      ...{
        deduplicationId: undefined,
        contentBasedDeduplication: false,
        delayMs: undefined,
        notBefore: undefined,
      },
    };
    const { messageId } = broker.publish({
      url,
      body,
      callerIp,
      settings,
      ...(scheduleId ? { scheduleId } : {}),
    });
    return { messageId };
  });
  return answer({ responses, cursor: found.cursor });
}

/** A page that is about to be removed: the next one begins at the start again, so the cursor stays "0". */
function takeFromStart(broker: Broker, query: URLSearchParams) {
  const { items, cursor } = findDeadLetters(broker, query);
  return { letters: items, cursor: cursor === undefined ? undefined : "0" };
}

function listEvents({ broker }: RouteContext, { query }: Call): Answer {
  assertFilters(query);
  const found = broker.events.all().filter((event) => matches(event, query));
  const { items, cursor } = page(inOrder(found, query, "latestFirst"), query);
  return answer({ events: items.map(eventView), cursor });
}

function rotate({ keys, rotateKeys }: RouteContext): Answer {
  rotateKeys();
  return answer(keys());
}

function globalParallelism({ broker }: RouteContext): Answer {
  return answer({ parallelismMax: GLOBAL_PARALLELISM, parallelismCount: broker.stats().inFlight });
}

function getFlow({ broker }: RouteContext, { captured }: Call): Answer {
  return answer(flowView(captured, broker.flow.snapshot(captured), broker.waitingFor(captured)));
}

function pauseFlow({ broker, changed }: RouteContext, key: string, paused: boolean): Answer {
  broker.flow.setPaused(key, paused);
  changed();
  return OK;
}

function filterable(message: Message): Filterable {
  const { messageId, url, scheduleId, settings, createdAt } = message;
  return {
    ...{ messageId, url, scheduleId, labels: settings.labels },
    ...{ flowControlKey: settings.flowControl?.key, time: createdAt },
  };
}

function headersOf(request: IncomingMessage): HeaderMap {
  const headers: Record<string, readonly string[]> = {};
  for (const [name, values] of Object.entries(request.headersDistinct)) headers[name] = values ?? [];
  return headers;
}

function answer(body: unknown): Answer {
  return { status: 200, body };
}

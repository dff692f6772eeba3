import { randomUUID } from "node:crypto";
import type { Clock } from "../../shared/clock.ts";
import { defaultBackoffMs, evaluateRetryDelay } from "./backoff.ts";
import { callbackBody } from "./callback-body.ts";
import { DeadLetters } from "./dead-letters.ts";
import { Deduplication } from "./deduplication.ts";
import { deliver } from "./deliver.ts";
import { deliveryHeaders } from "./delivery-headers.ts";
import { requestedRetryMs } from "./durations.ts";
import { EventLog } from "./event-log.ts";
import { drawFate } from "./faults.ts";
import type { QstashFaults } from "./faults.ts";
import { FlowLimits } from "./flow-limits.ts";
import { parsePublishSettings } from "./publish-settings.ts";
import { RequestRefused } from "./types.ts";
import type { Attempt, DeliveryRecord, DeliveryResult, HeaderMap, Message, PublishSettings, QstashStats } from "./types.ts";

const HISTORY_KEPT = 10_000;
const NON_RETRYABLE_STATUS = 489;
/** Deliveries under way at once, over all flow-control keys. */
export const GLOBAL_PARALLELISM = 100;

export interface BrokerOptions {
  readonly clock: Clock;
  readonly random: () => number;
  readonly faults: QstashFaults;
  /** Replaces the vendor's backoff; `Retry-After` and `Upstash-Retry-Delay` still go first. */
  readonly retryDelay: ((retry: number) => number) | undefined;
  readonly signingKey: () => string;
  /** Called whenever what is due next may have changed. */
  readonly onChange: () => void;
}

interface Publish {
  readonly url: string;
  readonly settings: PublishSettings;
  readonly body: Buffer;
  readonly callerIp: string;
  readonly scheduleId?: string;
}

interface Flight {
  readonly message: Message;
  readonly deadline: number;
  readonly abort: AbortController;
}

/**
 * The queue: accepted messages wait as attempts, each with the time it is due.
 *
 *   publish ─► waiting ─due, limits allow─► in flight ─2xx─► done
 *                 ▲                            │
 *                 └── backoff or Retry-After ──┤ retries left
 *                                              └─ none left, or 489 ─► dead letters ─► failure callback
 */
export class Broker {
  readonly events = new EventLog();
  readonly deadLetters = new DeadLetters();
  readonly flow = new FlowLimits();
  readonly messages = new Map<string, Message>();
  readonly history: DeliveryRecord[] = [];
  readonly #counters = {
    published: 0,
    delivered: 0,
    retried: 0,
    deduplicated: 0,
    deadLettered: 0,
    dropped: 0,
    duplicated: 0,
  };
  readonly #deduplication = new Deduplication();
  readonly #finished = new Map<string, Message>();
  readonly #flights = new Set<Flight>();
  #queue: Attempt[] = [];
  #sequence = 0;
  #closed = false;

  constructor(readonly options: BrokerOptions) {}

  /** Accepts a message, or recognises it as one accepted in the last ten minutes. */
  publish(publish: Publish): { messageId: string; url: string; deduplicated?: true } {
    const now = this.options.clock();
    const known = this.#deduplication.find(publish, now);
    if (known !== undefined) {
      this.#counters.deduplicated++;
      return { messageId: known, url: publish.url, deduplicated: true };
    }
    const message = this.#createMessage(publish, now);
    this.#deduplication.remember(publish, message.messageId, now);
    this.#counters.published++;
    this.events.record(message, "CREATED", now);
    this.#enqueueWithFaults(message);
    return { messageId: message.messageId, url: message.url };
  }

  /** The headers in which the vendor tells of the daily quota. */
  quotaHeaders(): Record<string, string> {
    const { quota } = this.options.faults;
    if (quota === null) return {};
    return {
      "RateLimit-Limit": "1000",
      "RateLimit-Remaining": String(quota.left),
      "RateLimit-Reset": String(Math.floor(quota.resetsAt / 1_000)),
    };
  }

  /** Lets a request's message in. Throws RequestRefused where the plan, or a test, takes no more. */
  admit({ url, body }: Pick<Publish, "url" | "body">): void {
    const { quota, refuse } = this.options.faults;
    const said = refuse?.({ url, body: body.toString("utf8") });
    if (said !== undefined) throw new RequestRefused(400, said);
    if (quota === null) return;
    if (quota.left <= 0) throw new RequestRefused(429, "quota maxRequestsPerDay exceeded", this.quotaHeaders());
    quota.left--;
  }

  /** Sends a message of the past once more, signed anew, whatever became of it. Not tried again. */
  redeliver(messageId: string): Promise<DeliveryRecord> {
    const message = this.messages.get(messageId) ?? this.#finished.get(messageId);
    if (message === undefined) throw new Error(`no message ${messageId} is remembered`);
    return this.#send(message, "redelivery").then(({ record }) => record);
  }

  cancel(messageId: string): boolean {
    const message = this.messages.get(messageId);
    if (message === undefined) return false;
    message.state = "cancelled";
    this.#queue = this.#queue.filter((attempt) => attempt.message !== message);
    this.#finish(message);
    this.events.record(message, "CANCELED", this.options.clock());
    this.options.onChange();
    return true;
  }

  /** Starts every attempt that is due and allowed, aborts what took too long; returns when to look again. */
  pump(): number | undefined {
    if (this.#closed) return undefined;
    const now = this.options.clock();
    let next = Infinity;
    for (const flight of this.#flights) {
      if (flight.deadline <= now) flight.abort.abort();
      else next = Math.min(next, flight.deadline);
    }
    this.#queue.sort((a, b) => a.dueAt - b.dueAt || a.sequence - b.sequence);
    const waiting: Attempt[] = [];
    for (const attempt of this.#queue) {
      const startAt = this.#startableAt(attempt, now);
      if (startAt === 0) this.#start(attempt, now);
      else {
        waiting.push(attempt);
        if (startAt !== undefined) next = Math.min(next, startAt);
      }
    }
    this.#queue = waiting;
    return next === Infinity ? undefined : next;
  }

  /** True when nothing is under way and nothing is due before `until` (messages of a paused key do not count). */
  isIdle(until: number): boolean {
    return this.#flights.size === 0 && !this.#queue.some((attempt) => attempt.dueAt <= until && !this.#isPaused(attempt));
  }

  stats(): QstashStats {
    return { ...this.#counters, inFlight: this.#flights.size, queued: this.#queue.length };
  }

  waitingFor(flowControlKey: string): number {
    const now = this.options.clock();
    return this.#queue.filter(({ message, dueAt }) => message.settings.flowControl?.key === flowControlKey && dueAt <= now)
      .length;
  }

  /** Starts nothing any more and forgets what waits; aborts what is under way at once, or leaves it to end. */
  close(abort: boolean): void {
    this.#closed = true;
    this.#queue = [];
    if (abort) for (const flight of this.#flights) flight.abort.abort();
  }

  #createMessage({ url, settings, body, callerIp, scheduleId }: Publish, now: number): Message {
    const messageId = `msg_${randomUUID().replaceAll("-", "")}`;
    const notBefore = Math.max(now, settings.notBefore ?? now + (settings.delayMs ?? 0));
    const message: Message = {
      ...{ messageId, url, body, settings, notBefore, callerIp, scheduleId },
      ...{ createdAt: now, retried: 0, state: "waiting" },
    };
    this.messages.set(messageId, message);
    return message;
  }

  #enqueueWithFaults(message: Message): void {
    const fate = drawFate(this.options.faults, this.options.random);
    if (fate.dropped) {
      this.#counters.dropped++;
      this.#finish(message);
      return;
    }
    for (const [index, wait] of fate.waitsMs.entries()) this.#enqueue(message, message.notBefore + wait, index > 0);
  }

  #enqueue(message: Message, dueAt: number, copy: boolean): void {
    this.#queue.push({ message, dueAt, copy, sequence: this.#sequence++ });
    this.options.onChange();
  }

  #startableAt(attempt: Attempt, now: number): number | undefined {
    if (attempt.dueAt > now) return attempt.dueAt;
    if (this.#flights.size >= GLOBAL_PARALLELISM) return undefined;
    const limits = attempt.message.settings.flowControl;
    return limits === undefined ? 0 : this.flow.startableAt(limits, now);
  }

  #isPaused(attempt: Attempt): boolean {
    const key = attempt.message.settings.flowControl?.key;
    return key !== undefined && this.flow.isPaused(key);
  }

  #start(attempt: Attempt, now: number): void {
    const { message, copy } = attempt;
    const limits = message.settings.flowControl;
    if (limits !== undefined) this.flow.start(limits, now);
    if (copy) this.#counters.duplicated++;
    else if (message.retried > 0) this.#counters.retried++;
    this.events.record(message, "ACTIVE", now);
    const kind = copy ? "duplicate" : message.retried > 0 ? "retry" : "first";
    void this.#send(message, kind).then(({ result }) => {
      if (limits !== undefined) this.flow.end(limits);
      if (!this.#closed && !copy && message.state === "waiting") this.#settle(message, result);
      this.options.onChange();
    });
  }

  async #send(message: Message, kind: DeliveryRecord["kind"]) {
    const { url, body, settings, messageId, retried } = message;
    const at = this.options.clock();
    const flight: Flight = { message, deadline: at + settings.timeoutMs, abort: new AbortController() };
    this.#flights.add(flight);
    this.options.onChange();
    const headers = deliveryHeaders(message, this.options.signingKey());
    const result = await deliver({
      url,
      method: settings.method,
      headers,
      body,
      signal: flight.abort.signal,
    });
    this.#flights.delete(flight);
    const record: DeliveryRecord = {
      ...{ messageId, url, method: settings.method, headers, body: body.toString("utf8") },
      ...{ status: result.status, error: result.error, retried, at, kind },
    };
    this.history.push(record);
    if (this.history.length > HISTORY_KEPT) this.history.splice(0, this.history.length - HISTORY_KEPT);
    if (result.status >= 200 && result.status < 300) this.#counters.delivered++;
    this.options.onChange();
    return { record, result };
  }

  #settle(message: Message, result: DeliveryResult): void {
    const now = this.options.clock();
    if (result.status >= 200 && result.status < 300) {
      message.state = "done";
      this.events.record(message, "DELIVERED", now, { status: result.status });
      this.#callback(message, result);
      this.#finish(message);
      return;
    }
    const error = result.error ?? `status ${result.status}`;
    this.events.record(message, "ERROR", now, { error, status: result.status });
    this.#callback(message, result);
    if (isNonRetryable(result) || message.retried >= message.settings.retries) this.#giveUp(message, result, error);
    else this.#retryLater(message, result, now);
  }

  #retryLater(message: Message, result: DeliveryResult, now: number): void {
    const wait = this.#retryWaitMs(message, result, now);
    message.retried++;
    this.events.record(message, "RETRY", now, { next: now + wait });
    this.#enqueue(message, now + wait, false);
  }

  #retryWaitMs(message: Message, result: DeliveryResult, now: number): number {
    const asked = requestedRetryMs(result.headers, now);
    if (asked !== undefined) return asked;
    const expression = message.settings.retryDelay;
    if (expression !== undefined) return evaluateRetryDelay(expression, message.retried);
    return (this.options.retryDelay ?? defaultBackoffMs)(message.retried + 1);
  }

  #giveUp(message: Message, result: DeliveryResult, error: string): void {
    const now = this.options.clock();
    message.state = "done";
    this.#counters.deadLettered++;
    this.events.record(message, "FAILED", now, { error, status: result.status });
    const { dlqId } = this.deadLetters.add(message, result, now);
    const { failureCallback, failureCallbackHeaders } = message.settings;
    if (failureCallback !== undefined) {
      this.#publishCallback(message, failureCallback, failureCallbackHeaders, callbackBody(message, result, dlqId));
    }
    this.#finish(message);
  }

  #callback(message: Message, result: DeliveryResult): void {
    const { callback, callbackHeaders } = message.settings;
    if (callback === undefined) return;
    this.#publishCallback(message, callback, callbackHeaders, callbackBody(message, result, undefined));
  }

  #publishCallback(message: Message, url: string, headers: HeaderMap, body: Buffer): void {
    const retries = headers["upstash-retries"] ?? [String(message.settings.retries)];
    const settings = settingsOfCallback({
      "content-type": ["application/json"],
      ...headers,
      "upstash-retries": retries,
    });
    this.publish({ url, settings, body, callerIp: message.callerIp });
  }

  #finish(message: Message): void {
    this.messages.delete(message.messageId);
    this.#finished.set(message.messageId, message);
    for (const oldest of this.#finished.keys()) {
      if (this.#finished.size <= HISTORY_KEPT) break;
      this.#finished.delete(oldest);
    }
  }
}

function settingsOfCallback(headers: HeaderMap): PublishSettings {
  try {
    return parsePublishSettings(headers);
  } catch (error) {
    // A malformed callback option must not lose the callback itself.
    if (error instanceof RequestRefused) return parsePublishSettings({ "content-type": ["application/json"] });
    throw error;
  }
}

function isNonRetryable(result: DeliveryResult): boolean {
  return result.status === NON_RETRYABLE_STATUS && result.headers["upstash-nonretryable-error"]?.[0] === "true";
}

import { createHash, randomUUID, timingSafeEqual } from "node:crypto";
import { createServer } from "node:http";
import type { IncomingMessage, Server } from "node:http";
import type { AddressInfo } from "node:net";
import { systemClock } from "../../shared/clock.ts";
import type { Clock } from "../../shared/clock.ts";
import { readBody } from "../read-body.ts";
import { Broker } from "./broker.ts";
import { NO_FAULTS, seededRandom } from "./faults.ts";
import type { QstashFaults } from "./faults.ts";
import { route } from "./routes.ts";
import type { Answer, RouteContext } from "./routes.ts";
import { Schedules } from "./schedules.ts";
import type { Schedule } from "./schedules.ts";
import { RequestRefused } from "./types.ts";
import type { DeliveryRecord, QstashStats } from "./types.ts";

const MAX_BODY_BYTES = 10 * 1024 * 1024;
/** setTimeout takes no longer wait than this. */
const MAX_TIMER_MS = 2_147_483_647;
/** How long stop() lets deliveries under way come to their end. */
const STOP_GRACE_MS = 1_000;

export interface QstashOptions {
  /** 0 or absent: a free one. */
  readonly port?: number;
  readonly token?: string;
  readonly currentSigningKey?: string;
  readonly nextSigningKey?: string;
  /** Decides what is due. After moving an injected clock, call `wake()`. */
  readonly clock?: Clock;
  /** Replaces the vendor's backoff: milliseconds before the nth retry. */
  readonly retryDelay?: (retry: number) => number;
  /** Seeds the faults. */
  readonly seed?: number;
  readonly faults?: Partial<QstashFaults>;
}

export interface LocalQstash {
  readonly url: string;
  readonly token: string;
  /** Lists and reads, and publishes nothing. */
  readonly readOnlyToken: string;
  readonly currentSigningKey: string;
  readonly nextSigningKey: string;
  readonly faults: QstashFaults;
  /** Counts since the start; `delivered` counts every delivery that was answered 2xx, copies included. */
  stats(): QstashStats;
  /**
   * Waits until nothing is under way and nothing is due within `withinMs`. Default: 1,000, and 0 with an injected
   * clock, since nobody moves that one meanwhile.
   */
  idle(withinMs?: number): Promise<void>;
  /** Sends a message of the past once more, signed anew, and returns what became of it. */
  redeliver(messageId: string): Promise<DeliveryRecord>;
  /** The latest finished deliveries, oldest first. */
  history(): readonly DeliveryRecord[];
  /** The next signing key becomes the current one. */
  rotateKeys(): void;
  /** Looks at the clock now: what has become due starts. Needed only with an injected clock. */
  wake(): void;
  /** Takes no more requests, lets deliveries under way end (a second at most), frees the port. */
  stop(): Promise<void>;
  /** Loses everything at once, as a killed process would; starting on the same port is the restart. */
  crash(): Promise<void>;
}

/** Starts a QStash stand-in on 127.0.0.1 that speaks the vendor's protocol to the vendor's SDK. State is in memory. */
export async function startQstash(options: QstashOptions = {}): Promise<LocalQstash> {
  const service = new QstashService(options);
  await service.listen(options.port ?? 0);
  return service;
}

class QstashService implements LocalQstash {
  readonly token: string;
  readonly readOnlyToken = `local-qstash-read-${randomUUID()}`;
  readonly faults: QstashFaults;
  currentSigningKey: string;
  nextSigningKey: string;
  url = "";
  readonly #clock: Clock;
  readonly #broker: Broker;
  readonly #schedules = new Schedules();
  readonly #server: Server;
  readonly #idlers = new Set<() => void>();
  #timer: NodeJS.Timeout | undefined;
  #pumpQueued = false;
  #down = false;

  constructor(options: QstashOptions) {
    this.token = options.token ?? `local-qstash-${randomUUID()}`;
    this.currentSigningKey = options.currentSigningKey ?? newSigningKey();
    this.nextSigningKey = options.nextSigningKey ?? newSigningKey();
    this.faults = { ...NO_FAULTS, ...options.faults };
    this.#clock = options.clock ?? systemClock;
    this.#broker = new Broker({
      clock: this.#clock,
      random: seededRandom(options.seed ?? 1),
      faults: this.faults,
      retryDelay: options.retryDelay,
      signingKey: () => this.currentSigningKey,
      onChange: () => this.#queuePump(),
    });
    this.#server = createServer((request, response) => {
      if (this.faults.silence === "before") return;
      void this.#answer(request).then(({ status, body, headers }) => {
        response.writeHead(status, { "content-type": "application/json", ...headers });
        if (this.faults.silence === "within") response.write(" ");
        else response.end(JSON.stringify(body));
      });
    });
  }

  async listen(port: number): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      this.#server.once("error", reject);
      this.#server.listen(port, "127.0.0.1", resolve);
    });
    this.url = `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  stats(): QstashStats {
    return this.#broker.stats();
  }

  async idle(withinMs = this.#clock === systemClock ? 1_000 : 0): Promise<void> {
    // A pump that is queued may start something: only after it does "nothing under way" mean anything.
    while (!this.#down && (this.#pumpQueued || !this.#broker.isIdle(this.#clock() + withinMs))) {
      await new Promise<void>((resolve) => this.#idlers.add(resolve));
    }
  }

  redeliver(messageId: string): Promise<DeliveryRecord> {
    return this.#broker.redeliver(messageId);
  }

  history(): readonly DeliveryRecord[] {
    return [...this.#broker.history];
  }

  rotateKeys(): void {
    this.currentSigningKey = this.nextSigningKey;
    this.nextSigningKey = newSigningKey();
  }

  wake(): void {
    this.#pump();
  }

  async stop(): Promise<void> {
    if (this.#down) return;
    this.#goDown(false);
    const closed = this.#close();
    const deadline = Date.now() + STOP_GRACE_MS;
    while (this.#broker.stats().inFlight > 0 && Date.now() < deadline) {
      await new Promise<void>((resolve) => setTimeout(resolve, 5));
    }
    this.#broker.close(true);
    await closed;
  }

  async crash(): Promise<void> {
    if (this.#down) return;
    this.#goDown(true);
    await this.#close();
  }

  #goDown(abort: boolean): void {
    this.#down = true;
    clearTimeout(this.#timer);
    this.#broker.close(abort);
    this.#releaseIdlers();
  }

  async #close(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    this.#server.closeAllConnections();
    await closed;
  }

  async #answer(request: IncomingMessage): Promise<Answer> {
    try {
      const right = this.#rightOf(request);
      if (right === undefined) throw new RequestRefused(401, "unable to authenticate: invalid token");
      if (right === "read" && request.method !== "GET") throw new RequestRefused(403, "the token is read-only");
      const body = await readBody(request, MAX_BODY_BYTES);
      if (!body) throw new RequestRefused(413, "the message is larger than 10 MB");
      return route(this.#routeContext(), request, body);
    } catch (error) {
      if (error instanceof RequestRefused)
        return { status: error.status, body: { error: error.message }, headers: error.headers };
      return { status: 500, body: { error: error instanceof Error ? error.message : "internal error" } };
    }
  }

  #rightOf(request: IncomingMessage): "all" | "read" | undefined {
    const digest = (text: string) => createHash("sha256").update(text).digest();
    const isGiven = (token: string) => timingSafeEqual(digest(request.headers.authorization ?? ""), digest(`Bearer ${token}`));
    if (isGiven(this.token)) return "all";
    return isGiven(this.readOnlyToken) ? "read" : undefined;
  }

  #routeContext(): RouteContext {
    return {
      broker: this.#broker,
      schedules: this.#schedules,
      now: this.#clock,
      keys: () => ({ current: this.currentSigningKey, next: this.nextSigningKey }),
      rotateKeys: () => this.rotateKeys(),
      changed: () => this.#queuePump(),
    };
  }

  /** Pumps after the current turn: a change often comes from inside a pump. */
  #queuePump(): void {
    if (this.#pumpQueued || this.#down) return;
    this.#pumpQueued = true;
    setImmediate(() => this.#pump());
  }

  #pump(): void {
    this.#pumpQueued = false;
    if (this.#down) return;
    const nextSchedule = this.#schedules.fireDue(this.#clock(), (schedule) => this.#fire(schedule));
    const nextAttempt = this.#broker.pump();
    const next = Math.min(nextSchedule ?? Infinity, nextAttempt ?? Infinity);
    clearTimeout(this.#timer);
    if (next !== Infinity) {
      const wait = Math.min(MAX_TIMER_MS, Math.max(1, next - this.#clock()));
      this.#timer = setTimeout(() => this.#pump(), wait);
    }
    this.#releaseIdlers();
  }

  #fire({ destination, settings, body, scheduleId, callerIp }: Schedule): void {
    // Deduplicating the firings of a schedule against each other would swallow all but one in ten minutes.
    const fresh = {
      ...settings,
      deduplicationId: undefined,
      contentBasedDeduplication: false,
      notBefore: undefined,
    };
    this.#broker.publish({ url: destination, settings: fresh, body, scheduleId, callerIp });
  }

  #releaseIdlers(): void {
    const idlers = [...this.#idlers];
    this.#idlers.clear();
    for (const resume of idlers) resume();
  }
}

function newSigningKey(): string {
  return `sig_${randomUUID().replaceAll("-", "")}`;
}

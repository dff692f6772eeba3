import { randomUUID } from "node:crypto";
import type { EndReason, Hosted } from "./hosted.ts";
import { IsolateProcess, type Incoming, type Reply } from "./isolate-process.ts";
import { LogCap } from "./log-cap.ts";
import type { FromIsolate } from "./protocol.ts";
import { usageOf } from "./usage.ts";

export interface IsolateOptions {
  readonly name: string;
  readonly functionsDir: string;
  readonly env: Readonly<Record<string, string>>;
  readonly functionsUrl: string;
  readonly hosted: Hosted;
  readonly onLog: (event: { isolate: string; line: string }) => void;
  /** It may take a request again, takes none any more, or is gone. */
  readonly onChange: () => void;
}

/** What a request cost, background work included. Others in the same isolate are counted as well. */
export interface Cost {
  readonly cpuMs: number;
  readonly peakHeapBytes: number;
  readonly killed: EndReason | undefined;
}

const POLL_MS = 25;
/** Between `beforeunload` and the end of an isolate that is dropped or terminated. */
const GRACE_MS = 100;
const EXIT_MS = 50;
/** Process memory says little of the heap; beyond this many limits the heap has to be full, though its code never yields. */
const PROCESS_SHARE = 1.5;

/**
 * One isolate and its supervisor.
 *
 *   active ─ soft CPU, half the wall clock ─► retired ─ nothing in flight ─► dropped
 *      └────────── hard CPU, memory, wall clock: killed with everything in flight ◄──┘
 */
export class Isolate {
  readonly id = randomUUID();
  readonly startedAt = Date.now();
  readonly #options: IsolateOptions;
  readonly #process: IsolateProcess;
  readonly #flights = new Map<string, (peakHeapBytes: number) => void>();
  readonly #timers: NodeJS.Timeout[] = [];
  #bareRssBytes = 0;
  #heapBytes = 0;
  #cpuNoticed = false;
  #watching = false;
  #ending = false;
  #reserved = 0;
  #retired = false;
  bootCpuMs = 0;
  /** CPU since the function has started to listen: how long it takes to get there is no property of the platform. */
  cpuMs = 0;
  peakHeapBytes = 0;
  requests = 0;
  ended: EndReason | undefined;

  private constructor(options: IsolateOptions) {
    this.#options = options;
    const { hosted, functionsUrl, onLog } = options;
    const cap = new LogCap(hosted, (line) => onLog({ isolate: this.id, line }));
    const { memoryBytes, noticeShare, deadMeters, noExit, absentGlobals } = hosted;
    this.#process = new IsolateProcess({
      name: options.name,
      functionsDir: options.functionsDir,
      env: { SB_EXECUTION_ID: this.id, ...options.env },
      settings: { memoryBytes, noticeShare, deadMeters, noExit, absentGlobals, functionsUrl },
      onMessage: (message) => this.#hear(message, cap),
      onLine: (line) => cap.log(line),
    });
    void this.#process.exited.then(() => this.#gone());
  }

  /** Starts an isolate and waits until its function listens. @throws Error BOOT_ERROR. */
  static async boot(options: IsolateOptions): Promise<Isolate> {
    const isolate = new Isolate(options);
    try {
      await isolate.#process.listening();
      await isolate.#born();
      return isolate;
    } catch (error) {
      await isolate.kill("crash");
      throw error;
    }
  }

  get alive(): boolean {
    return !this.#process.gone;
  }

  get pid(): number {
    return this.#process.pid;
  }

  get inFlight(): number {
    return this.#flights.size + this.#reserved;
  }

  /** Takes requests. */
  get active(): boolean {
    return this.alive && !this.#retired && !this.#ending && this.inFlight < this.#options.hosted.requestsPerIsolate;
  }

  /** Keeps a place for a request that is about to be handled. */
  reserve(): void {
    this.#reserved += 1;
  }

  /** Passes one request on, for which a place was reserved. `cost` is known once its background work is through as well, or the isolate is gone. */
  handle(request: Omit<Incoming, "id">): { reply: Promise<Reply>; cost: Promise<Cost> } {
    const id = randomUUID();
    this.#reserved -= 1;
    const reported = new Promise<number>((report) => this.#flights.set(id, report));
    const cpuAtStart = this.cpuMs;
    this.requests += 1;
    void this.#watch();
    const reply = this.#process.send({ ...request, id });
    const cost = this.#landed(id, reply, reported).then(async (peakHeapBytes) => {
      // What ends the isolate from here on has not killed this request.
      const killed = this.ended;
      await this.#measure();
      return { cpuMs: this.cpuMs - cpuAtStart, peakHeapBytes, killed };
    });
    return { reply, cost };
  }

  /** Takes nothing new from now on, finishes what it has, and ends. */
  retire(): void {
    if (this.#retired) return;
    this.#retired = true;
    this.#options.onChange();
    this.#dropWhenIdle();
  }

  /** Ends the process, with whatever is in flight. An isolate that ends in peace is told before. */
  async kill(reason: EndReason, notice = false): Promise<void> {
    if (!this.alive) return;
    if (notice && !this.#ending) {
      this.#ending = true;
      this.#process.notice(reason);
      await new Promise((resolve) => setTimeout(resolve, GRACE_MS));
    }
    this.#ending = true;
    this.ended ??= reason;
    await this.#process.end();
  }

  async #born(): Promise<void> {
    const usage = await usageOf(this.#process.pid);
    this.bootCpuMs = usage?.cpuMs ?? 0;
    this.#bareRssBytes = usage?.rssBytes ?? 0;
    const { wallClockMs, noticeShare } = this.#options.hosted;
    const at = (share: number, act: () => void) => this.#timers.push(setTimeout(act, wallClockMs * share).unref());
    at(0.5, () => this.retire());
    at(noticeShare, () => this.#ending || this.#process.notice("wall_clock"));
    at(1, () => void this.kill("wall_clock"));
  }

  #hear(message: FromIsolate, cap: LogCap): void {
    if (message.type === "log") cap.log(message.text);
    else if (message.type === "memory") void this.kill("memory");
    else if (message.type === "finished") {
      this.#heapBytes = message.heapBytes;
      this.peakHeapBytes = Math.max(this.peakHeapBytes, message.peakHeapBytes);
      this.#flights.get(message.id)?.(message.peakHeapBytes);
    }
  }

  /** A request is over when its answer has gone out and its background work is through. */
  async #landed(id: string, reply: Promise<Reply>, reported: Promise<number>): Promise<number> {
    const handled = await reply.then(
      (answer) => answer.handled,
      () => false,
    );
    if (!handled) {
      // A connection breaks a little before its process is known to be gone. Otherwise nobody tells when the work is
      // through: the isolate takes nothing new, finishes the others and ends.
      await Promise.race([this.#process.exited, new Promise((resolve) => setTimeout(resolve, EXIT_MS))]);
      this.retire();
      this.#flights.get(id)?.(0);
    }
    const peakHeapBytes = await reported;
    this.#flights.delete(id);
    this.#options.onChange();
    this.#dropWhenIdle();
    return peakHeapBytes;
  }

  #dropWhenIdle(): void {
    const { earlyDrop, memoryBytes } = this.#options.hosted;
    const alerted = this.#retired || this.#heapBytes >= memoryBytes / 2;
    if (earlyDrop && alerted && this.inFlight === 0 && !this.#ending) void this.kill("early_drop", true);
  }

  #gone(): void {
    for (const timer of this.#timers) clearTimeout(timer);
    this.ended ??= this.#process.outOfMemory ? "memory" : "crash";
    for (const report of this.#flights.values()) report(this.peakHeapBytes);
    this.#options.onChange();
  }

  /** Looks at the process while requests are in flight. */
  async #watch(): Promise<void> {
    if (this.#watching) return;
    this.#watching = true;
    while (this.#flights.size > 0 && this.alive) {
      await this.#measure();
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
    this.#watching = false;
  }

  async #measure(): Promise<void> {
    const usage = await usageOf(this.#process.pid);
    if (!usage) return;
    const { cpuSoftMs, cpuHardMs, noticeShare, memoryBytes } = this.#options.hosted;
    this.cpuMs = Math.max(this.cpuMs, usage.cpuMs - this.bootCpuMs);
    if (this.cpuMs >= cpuHardMs) void this.kill("cpu");
    else if (usage.rssBytes - this.#bareRssBytes > memoryBytes * PROCESS_SHARE) void this.kill("memory");
    if (this.cpuMs >= cpuHardMs * noticeShare && !this.#cpuNoticed) {
      this.#cpuNoticed = true;
      this.#process.notice("cpu");
    }
    if (this.cpuMs >= cpuSoftMs) this.retire();
  }
}

import { environment, type ProjectEnvironment } from "./environment.ts";
import type { Hosted } from "./hosted.ts";
import { Isolate } from "./isolate.ts";

/** What an isolate has said. */
export interface LogLine {
  readonly function: string;
  readonly isolate?: string;
  readonly line: string;
}

export interface PoolOptions {
  readonly name: string;
  readonly functionsDir: string;
  readonly project: ProjectEnvironment;
  readonly env: Readonly<Record<string, string>>;
  readonly functionsUrl: string;
  readonly hosted: Hosted;
  readonly onLog: (event: LogLine) => void;
  readonly onIsolate: (isolate: Isolate) => void;
}

/** The isolates of one function: started when needed, each of the active ones in its turn. */
export class IsolatePool {
  readonly name: string;
  readonly #options: PoolOptions;
  readonly #env: Record<string, string>;
  readonly #isolates = new Set<Isolate>();
  readonly #booting = new Set<Promise<Isolate>>();
  #waiting: (() => void)[] = [];
  /** Whose turn it is among the active ones. */
  #turn = 0;
  #stopped = false;

  constructor(options: PoolOptions) {
    this.name = options.name;
    this.#options = options;
    this.#env = environment(options.name, options.project, options.env);
  }

  /** An isolate with a place reserved for a request. @throws Error when none starts, or none is free in time. */
  async take(): Promise<{ isolate: Isolate; cold: boolean }> {
    const { isolates, isolateWaitMs, requestsPerIsolate, bootEach } = this.#options.hosted;
    const deadline = Date.now() + isolateWaitMs;
    for (;;) {
      if (this.#stopped) throw new Error("stopped");
      const isolate = this.#nextActive();
      if (isolate) {
        isolate.reserve();
        return { isolate, cold: false };
      }
      // Unless each request starts its own, whoever comes while a shared isolate starts waits for that one.
      const started = bootEach || requestsPerIsolate !== Infinity ? 0 : this.#booting.size;
      if (started === 0 && this.#isolates.size + this.#booting.size < isolates)
        return { isolate: await this.#boot(), cold: true };
      if (!(await this.#changed(started > 0 ? Infinity : deadline - Date.now()))) throw new Error("no isolate was free in time");
    }
  }

  /** The active isolates take requests in turns. */
  #nextActive(): Isolate | undefined {
    const active = [...this.#isolates].filter((isolate) => isolate.active);
    if (this.#turn >= active.length) this.#turn = 0;
    return active[this.#turn++];
  }

  killAll(): number {
    const alive = [...this.#isolates].filter((isolate) => isolate.alive);
    for (const isolate of alive) void isolate.kill("termination");
    return alive.length;
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    this.#wake();
    await Promise.allSettled(this.#booting);
    await Promise.all([...this.#isolates].map((isolate) => isolate.kill("termination", true)));
  }

  async #boot(): Promise<Isolate> {
    const { onLog, onIsolate, ...options } = this.#options;
    const booting = Isolate.boot({
      ...options,
      env: this.#env,
      onLog: (event) => onLog({ function: this.name, ...event }),
      onChange: () => this.#wake(),
    });
    this.#booting.add(booting);
    try {
      const isolate = await booting;
      isolate.reserve();
      this.#isolates.add(isolate);
      onIsolate(isolate);
      return isolate;
    } finally {
      this.#booting.delete(booting);
      this.#wake();
    }
  }

  /** Waits until something may have changed for a request that waits. @returns false when the time is over. */
  async #changed(timeoutMs: number): Promise<boolean> {
    return await new Promise<boolean>((done) => {
      const timer = timeoutMs === Infinity ? undefined : setTimeout(() => done(false), Math.max(0, timeoutMs));
      this.#waiting.push(() => {
        clearTimeout(timer);
        done(true);
      });
    });
  }

  #wake(): void {
    for (const isolate of this.#isolates) if (!isolate.alive) this.#isolates.delete(isolate);
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const wake of waiting) wake();
  }
}

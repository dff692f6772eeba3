/** What the hosted runtime does, one switch each. docs/local-functions.md names the place that says so. */
export interface Hosted {
  /** Requests that one isolate takes at the same time. */
  readonly requestsPerIsolate: number;
  /** Each request that finds no active isolate starts one, also while another one starts: a burst on a cold function starts several. */
  readonly bootEach: boolean;
  /** Isolates of one function, those included that finish what they have. */
  readonly isolates: number;
  /** A request waits so long for an isolate. */
  readonly isolateWaitMs: number;
  /** CPU of an isolate's life: from here on it finishes what it has and takes nothing new. */
  readonly cpuSoftMs: number;
  /** CPU of an isolate's life: here it is killed with everything in flight. */
  readonly cpuHardMs: number;
  /** Heap and external memory of an isolate: here it is killed with everything in flight. */
  readonly memoryBytes: number;
  /** Life of an isolate: at half it takes nothing new, at its end it is killed with everything in flight. */
  readonly wallClockMs: number;
  /** Share of the hard limits at which `beforeunload` gives notice. */
  readonly noticeShare: number;
  /** An isolate that is retired, or half full, ends as soon as it has neither a request nor a pending `waitUntil`. */
  readonly earlyDrop: boolean;
  /** No response within this time: 504. The handler is not told, and the isolate stays. */
  readonly responseMs: number;
  /** `process.cpuUsage()` warns and returns zeros, `rss` is zero. */
  readonly deadMeters: boolean;
  /** `Deno.exit`, `Deno.kill` and signal listeners do nothing. */
  readonly noExit: boolean;
  /** Globals, and members of `Deno`, that the hosted runtime does not have are absent; its blocklisted file functions throw. */
  readonly absentGlobals: boolean;
  /** Characters of a log message; the rest is cut off. */
  readonly logCharacters: number;
  /** Log messages of an isolate within `logWindowMs`; the rest is lost. */
  readonly logEvents: number;
  readonly logWindowMs: number;
  /** Size of a request's body, else 413. The platform documents none. */
  readonly requestBytes: number;
  /** Calls from function to function that one chain of requests may make in a minute; `fetch` throws beyond. */
  readonly chainedCalls: number;
  /** Methods that reach a function; 405 for others. */
  readonly methods: readonly string[];
  /** An answer to GET that is `text/html` goes out as `text/plain`. */
  readonly plainHtml: boolean;
}

export const HOSTED: Hosted = {
  requestsPerIsolate: Infinity,
  bootEach: true,
  isolates: 5,
  isolateWaitMs: 10_000,
  cpuSoftMs: 1_000,
  cpuHardMs: 2_000,
  memoryBytes: 256 * 1024 * 1024,
  wallClockMs: 400_000,
  noticeShare: 0.9,
  earlyDrop: true,
  responseMs: 150_000,
  deadMeters: true,
  noExit: true,
  absentGlobals: true,
  logCharacters: 10_000,
  logEvents: 100,
  logWindowMs: 10_000,
  requestBytes: Infinity,
  chainedCalls: 5_000,
  methods: ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"],
  plainHtml: true,
};

/** Why an isolate ended. */
export type EndReason = "memory" | "cpu" | "wall_clock" | "early_drop" | "termination" | "crash";

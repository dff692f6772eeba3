/** What host and isolate say to each other besides requests. */

/** Lines of the isolate's standard output that start with this are for the host. */
export const HOST_LINE = "\u0001host ";

export type FromIsolate =
  | { readonly type: "ready"; readonly port: number }
  /** A request and its background work are through. */
  | { readonly type: "finished"; readonly id: string; readonly heapBytes: number; readonly peakHeapBytes: number }
  | { readonly type: "memory" }
  | { readonly type: "log"; readonly text: string };

/** How the isolate behaves, as its second argument. */
export interface IsolateSettings {
  readonly memoryBytes: number;
  readonly noticeShare: number;
  readonly deadMeters: boolean;
  readonly noExit: boolean;
  readonly absentGlobals: boolean;
  /** Where the project's functions are, as `fetch` within an isolate sees them. */
  readonly functionsUrl: string;
  /** Variables that the program needed to start, and that the function must not see. */
  readonly hidden: readonly string[];
}

/** Headers between host and isolate; no function sees them. */
export const HEADERS = {
  /** The request's id. */
  request: "x-local-request",
  /** The request's address as its sender wrote it. */
  url: "x-local-url",
  /** The chain of calls from function to function that the request belongs to. */
  chain: "x-local-chain",
  /** The function itself has answered, and not the server before it. */
  handled: "x-local-handled",
  /** The chain has used up its calls: milliseconds until it has new ones. */
  overCalled: "x-local-retry-after-ms",
} as const;

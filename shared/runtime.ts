import type { Log } from "./log.ts";
import type { SocketFactory } from "./db/connect.ts";

/** What only the runtime has, handed in by the entrypoint. */
export interface Runtime {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly log: Log;
  readonly meter: Meter;
  /** Keeps the worker alive for work that goes on after the response. */
  readonly waitUntil: (work: Promise<unknown>) => void;
  /** Opens sockets to databases, TLS always verified; absent where the driver's own will do. */
  readonly socket?: SocketFactory;
}

/** What the hosted runtime tells of an isolate: neither CPU nor resident memory. */
export interface Meter {
  /** Heap and external memory now, those of requests beside this one included; null where nobody tells. */
  heapBytes(): number | null;
}

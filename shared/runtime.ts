import type { Log } from "./log.ts";
import type { SocketFactory } from "./db/connect.ts";

/** What only the runtime has, handed in by the entrypoint. */
export interface Runtime {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly log: Log;
  readonly meter: Meter;
  /** Keeps the worker alive for work that goes on after the response. */
  readonly waitUntil: (work: Promise<unknown>) => void;
  /** Opens a TCP socket without Nagle's delay; absent where the driver's own will do. */
  readonly socket?: SocketFactory;
}

/** CPU milliseconds of the process so far and its resident memory; null where the platform does not tell. */
export interface Meter {
  cpuMs(): number | null;
  rssBytes(): number | null;
}

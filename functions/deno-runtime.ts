// What the handlers need from Deno. Not a function: the folder has no index.ts.
import { createLog } from "../shared/log.ts";
import type { Meter, Runtime } from "../shared/runtime.ts";
import { DatabaseSocket } from "./database-socket.ts";

declare const EdgeRuntime: { waitUntil(work: Promise<unknown>): void };

/** The runtime of a function: environment, log, meter, background work and sockets to databases. */
export function denoRuntime(name: string): Runtime {
  return {
    env: Deno.env.toObject(),
    log: createLog((line) => console.log(line), { function: name }),
    meter: denoMeter,
    waitUntil: (work) => EdgeRuntime.waitUntil(work),
    socket: (target) => new DatabaseSocket(target),
  };
}

// CPU is not asked for: `process.cpuUsage()` logs a warning at each call there, and tells nothing.
const denoMeter: Meter = {
  heapBytes: () => {
    const { heapUsed, external } = Deno.memoryUsage();
    return heapUsed + external;
  },
};

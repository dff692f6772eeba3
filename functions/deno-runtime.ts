// What the handlers need from Deno. Not a function: the folder has no index.ts.
import { connect as connectTcp } from "node:net";
import process from "node:process";
import { createLog } from "../shared/log.ts";
import type { Meter, Runtime } from "../shared/runtime.ts";

declare const EdgeRuntime: { waitUntil(work: Promise<unknown>): void };

/** The runtime of a function: environment, log, meter, background work and a socket without Nagle's delay. */
export function denoRuntime(name: string): Runtime {
  return {
    env: Deno.env.toObject(),
    log: createLog((line) => console.log(line), { function: name }),
    meter: denoMeter,
    waitUntil: (work) => EdgeRuntime.waitUntil(work),
    // Handed over before it is connected: the driver listens to its errors itself, and would wait for ever for a
    // socket that it never got.
    socket: (host, port) => {
      const socket = connectTcp({ host, port });
      socket.setNoDelay(true);
      return socket;
    },
  };
}

const denoMeter: Meter = {
  cpuMs: () =>
    measured(() => {
      const { user, system } = process.cpuUsage();
      return (user + system) / 1_000;
    }),
  rssBytes: () => measured(() => Deno.memoryUsage().rss),
};

/** A platform that does not tell is not an error. */
function measured(read: () => number): number | null {
  try {
    const value = read();
    return Number.isFinite(value) && value > 0 ? value : null;
  } catch {
    return null;
  }
}

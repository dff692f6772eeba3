import { Client } from "@upstash/qstash";
import { afterEach, beforeEach, vi } from "vitest";
import { startRecordingDestination, type RecordingDestination } from "../../local/qstash/recording-destination.ts";
import { startQstash, type LocalQstash, type QstashOptions } from "../../local/qstash/server.ts";

/** The stand-in under test, the vendor's client, a destination that records, and the time that the stand-in believes it is. */
export let qstash: LocalQstash;
export let client: Client;
export let destination: RecordingDestination;
export let now = 0;

/** Starts the stand-in under the test's clock; done before each test, again for one with other options. */
export async function start(options: QstashOptions = {}): Promise<void> {
  qstash = await startQstash({ clock: () => now, ...options });
  client = new Client({ baseUrl: qstash.url, token: qstash.token, devMode: false, retry: false });
}

/** Moves the clock, and nothing more. */
export function advance(ms: number): void {
  now += ms;
}

/** Moves the clock and waits for what that made due. */
export async function pass(ms: number): Promise<void> {
  advance(ms);
  qstash.wake();
  await qstash.idle();
}

/** A fresh stand-in and destination for each test of the file. */
export function useQstash(): void {
  beforeEach(async () => {
    now = Date.parse("2026-03-01T12:00:30Z");
    vi.spyOn(console, "error").mockImplementation(() => undefined);
    destination = await startRecordingDestination();
    await start();
  });
  afterEach(async () => {
    await qstash.stop();
    await destination.stop();
    vi.restoreAllMocks();
  });
}

import type { Hosted } from "./hosted.ts";

/** Lets through what the platform keeps of an isolate's log. */
export class LogCap {
  readonly #caps: Pick<Hosted, "logCharacters" | "logEvents" | "logWindowMs">;
  readonly #write: (line: string) => void;
  #windowStart = -Infinity;
  #events = 0;

  constructor(caps: Pick<Hosted, "logCharacters" | "logEvents" | "logWindowMs">, write: (line: string) => void) {
    this.#caps = caps;
    this.#write = write;
  }

  log(message: string, now = Date.now()): void {
    const { logCharacters, logEvents, logWindowMs } = this.#caps;
    if (now - this.#windowStart >= logWindowMs) {
      this.#windowStart = now;
      this.#events = 0;
    }
    this.#events += 1;
    if (this.#events <= logEvents) this.#write(message.slice(0, logCharacters));
  }
}

import { createHash } from "node:crypto";
import type { PublishSettings } from "./types.ts";

const WINDOW_MS = 10 * 60_000;

interface Identified {
  readonly url: string;
  readonly settings: PublishSettings;
  readonly body: Buffer;
}

/** Remembers for ten minutes which messages were accepted, by their id or by their content. */
export class Deduplication {
  readonly #accepted = new Map<string, { readonly messageId: string; readonly until: number }>();

  /** The message that this one repeats, if any. */
  find(message: Identified, now: number): string | undefined {
    const key = keyOf(message);
    const known = key === undefined ? undefined : this.#accepted.get(key);
    return known !== undefined && now < known.until ? known.messageId : undefined;
  }

  remember(message: Identified, messageId: string, now: number): void {
    const key = keyOf(message);
    if (key === undefined) return;
    for (const [old, { until }] of this.#accepted) {
      // In the order of acceptance: the first that still holds ends the clean-up.
      if (until > now) break;
      this.#accepted.delete(old);
    }
    this.#accepted.delete(key);
    this.#accepted.set(key, { messageId, until: now + WINDOW_MS });
  }
}

function keyOf({ url, settings, body }: Identified): string | undefined {
  if (settings.deduplicationId !== undefined) return `id:${settings.deduplicationId}`;
  if (!settings.contentBasedDeduplication) return undefined;
  const hash = createHash("sha256")
    .update(JSON.stringify([url, settings.forward]))
    .update(body);
  return `content:${hash.digest("hex")}`;
}

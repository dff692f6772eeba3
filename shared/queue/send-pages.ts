import type { Config } from "../config.ts";
import type { Queryable } from "../db/connect.ts";
import { describeError } from "../errors.ts";
import { type PageMessage, noteSends } from "../target/sending.ts";
import type { Log } from "../log.ts";
import type { PageQueue } from "./page-queue.ts";
import { describeRefusal } from "./refusal.ts";

/** Pages that one sweep sends again at most; the rest follows with the next tick. */
export const SWEEP_LIMIT = 200;

/** What sending needs of the context. */
interface Sender {
  readonly config: Pick<Config, "ISTHMUS_LEASE_SECONDS">;
  readonly log: Log;
  readonly queue: PageQueue;
  readonly target: Queryable;
}

/**
 * Sends pages that are committed to be run. A queue that does not take them costs time, not pages: their chains' rows
 * tell that, and sync-tick sends them again.
 * @returns how many the queue has accepted.
 */
export async function sendPages(sender: Sender, messages: readonly PageMessage[]): Promise<number> {
  if (messages.length === 0) return 0;
  const { queue, target, config, log } = sender;
  try {
    const refused = new Map((await queue.send(messages)).map(({ message, refusal }) => [message, describeRefusal(refusal)]));
    for (const [{ chain, page }, refusal] of refused) log.error("page.not_sent", { chain, page, ...refusal });
    // Of a first message only a refusal is news: its chain is due again after a lease anyway.
    const notes = messages.filter((message) => refused.has(message) || (message.sends ?? 0) > 0);
    await noteSends(
      target,
      config.ISTHMUS_LEASE_SECONDS,
      notes.map((message) => ({ ...message, sends: message.sends ?? 0, refusal: refused.get(message) ?? null })),
    );
    return messages.length - refused.size;
  } catch (error) {
    log.error("page.not_sent", { ...describeError(error), chains: messages.map(({ chain }) => chain) });
    return 0;
  }
}

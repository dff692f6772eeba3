import type { Context } from "../context.ts";
import { countStatuses, deadLetters, failedDeliveries, knowsSigningKeys, type FailedDeliveries } from "../queue/deliveries.ts";
import { closeAlert, lookAtDeadLetters, newDeadLetters, noteDeadLetters, openAlert, unclaimedChains } from "../target/sending.ts";

/** QStash's log is asked at most so often, and only while messages are sent that nobody takes. */
const LOG_SECONDS = 120;
const DEAD_LETTER_SECONDS = 300;
/** Failed deliveries of so long count. */
const WINDOW_MINUTES = 10;
/** A page that failed and is tried again answers this: it was taken. */
const TAKEN: ReadonlySet<string> = new Set(["503", "489"]);

/**
 * Tells of messages that QStash accepts and the functions do not. @returns whether that is known now: while pages
 * wait, QStash is not asked each time.
 * @throws IsthmusError QUEUE_UNAVAILABLE.
 */
export async function watchRefusals({ target, config, clock }: Context, sourceId: number): Promise<boolean> {
  const unclaimed = await unclaimedChains(target, sourceId, LOG_SECONDS);
  if (unclaimed === "none") await closeAlert(target, sourceId, "deliveries_refused");
  if (typeof unclaimed === "string") return unclaimed === "none";
  const failed = await failedDeliveries(config, clock() - WINDOW_MINUTES * 60_000);
  const statuses = Object.fromEntries(Object.entries(failed).filter(([status]) => !TAKEN.has(status)));
  if (Object.keys(statuses).length === 0) return true;
  const outdated = (statuses["401"] !== undefined || statuses["403"] !== undefined) && !(await knowsSigningKeys(config));
  await openAlert(target, sourceId, {
    kind: "deliveries_refused",
    severity: "critical",
    message: `QStash delivers pages to ${config.FUNCTIONS_URL}/sync-page, and they are not taken (${shown(statuses)} in ${WINDOW_MINUTES} minutes). ${remedyOf(statuses, outdated)}`,
    details: { ...unclaimed, statuses, signingKeysOutdated: outdated },
  });
  return true;
}

/** What is to be done about the status that comes most often. */
function remedyOf(statuses: FailedDeliveries, outdated: boolean): string {
  if (outdated)
    return "The functions know neither of QStash's signing keys any more: set QSTASH_CURRENT_SIGNING_KEY and QSTASH_NEXT_SIGNING_KEY anew.";
  const [most = "0"] = Object.entries(statuses).sort(([, a], [, b]) => b - a)[0] ?? [];
  return REMEDIES[most] ?? "Look at the log of sync-page.";
}

const REMEDIES: Readonly<Record<string, string>> = {
  "0": "Nothing answers there: check FUNCTIONS_URL.",
  "401":
    "The signature does not fit: FUNCTIONS_URL has to be the address that QStash calls, letter by letter, and verify_jwt has to be off.",
  "403": "Something in front of the function refuses the call.",
  "404": "There is no such function: deploy sync-page, or check FUNCTIONS_URL.",
  "429":
    "Either the project has used up what it may call (see its usage), or its isolates are busy with slow pages for minutes: look at the times in sync_page_log, and at ISTHMUS_POOL_SIZE.",
  "546": "The function is killed for its memory or CPU before it can answer: look at its log.",
};

/**
 * Tells of messages that QStash has given up, each once. @returns whether QStash was asked: it is not each time.
 * @throws IsthmusError QUEUE_UNAVAILABLE.
 */
export async function watchDeadLetters({ target, config }: Context, sourceId: number): Promise<boolean> {
  if (!(await lookAtDeadLetters(target, sourceId, DEAD_LETTER_SECONDS))) return false;
  const letters = await deadLetters(config);
  if (letters.length === 0) await closeAlert(target, sourceId, "dead_letters");
  const ids = letters.map(({ id }) => id);
  const added = new Set(await newDeadLetters(target, sourceId, ids));
  if (added.size > 0) {
    const statuses = countStatuses(letters.filter(({ id }) => added.has(id)).map(({ status }) => ({ responseStatus: status })));
    await openAlert(target, sourceId, {
      kind: "dead_letters",
      severity: "warning",
      message: `QStash has given up ${added.size} messages to sync-page (${shown(statuses)}). Their chains are sent again by sync-tick; look at the log of sync-page for the cause. The messages themselves can be deleted.`,
      details: { messages: added.size, statuses },
    });
  }
  // After they were told: who is killed before this tells them once more.
  await noteDeadLetters(target, sourceId, ids);
  return true;
}

function shown(statuses: FailedDeliveries): string {
  return Object.entries(statuses)
    .map(([status, count]) => `${count} × ${status === "0" ? "no answer" : `status ${status}`}`)
    .join(", ");
}

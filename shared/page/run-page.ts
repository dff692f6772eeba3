import { addressesOf } from "../db/connect.ts";
import type { Entity } from "../entity/define-entity.ts";
import { describeError, IsthmusError, type DescribedError } from "../errors.ts";
import { MESSAGE_FORMAT } from "../queue/message-format.ts";
import { CATEGORIES, categoryOf, pauseSeconds } from "../recovery.ts";
import { sendPages } from "../queue/send-pages.ts";
import { adoptPage } from "../target/adoption.ts";
import {
  type ChainKind,
  type Claim,
  type ClaimOf,
  type RecordCapture,
  claimPage,
  giveBackPage,
  openPage,
  type GivenBack,
  type Delivery,
} from "../target/claims.ts";
import { whereaboutsOf, sourcePosition } from "../source/position.ts";
import { digest } from "./digest.ts";
import { fanOut } from "./fan-out.ts";
import { loadPage, PageTooLarge } from "./load-page.ts";
import { cacheKeys } from "./map-ids.ts";
import { endedBy } from "./page-ending.ts";
import { smallerPageSize } from "./page-size.ts";
import type { Context } from "../context.ts";
import type { PageMessage } from "../target/sending.ts";
import type { PageOutcome } from "./page-outcome.ts";

/** @throws IsthmusError DEPLOYMENT_BEHIND where a later release has sent the message: the queue brings it again, to functions that can read it. */
export function refuseLater(message: unknown): void {
  const format = typeof message === "object" && message !== null && "format" in message ? message.format : undefined;
  if (typeof format === "number" && format > MESSAGE_FORMAT)
    throw new IsthmusError("DEPLOYMENT_BEHIND", "A later release has sent this message: this one cannot read its format.");
}

type Validate = (context: Context, claim: Claim) => Promise<{ dispatch: readonly PageMessage[]; outcome: PageOutcome }>;

/**
 * The life of a page: claim its lease, load it in one commit, chain the next. Whatever kills it between two steps, the
 * chain's row is still due and the sweep sends it again; a late or repeated message finds another page or lease.
 */
export async function runPage(
  context: Context,
  message: PageMessage & { readonly delivery?: Delivery },
  validate: Validate,
): Promise<PageOutcome> {
  const { target, config } = context;
  const claim = await claimPage(target, message, config.ISTHMUS_LEASE_SECONDS, addressesOf(config));
  if (claim.outcome !== "claimed") return claim;
  try {
    const run = PAGES[claim.chain.capture] as Run<ChainKind>;
    return await run(context, claim, validate);
  } catch (error) {
    return recover(context, claim, error);
  }
}

type Run<Kind extends ChainKind> = (context: Context, claim: ClaimOf<Kind>, validate: Validate) => Promise<PageOutcome>;

/** What a page of each kind of chain does. */
const PAGES: { readonly [Kind in ChainKind]: Run<Kind> } = {
  full: recordsPage,
  xmin: recordsPage,
  modified: recordsPage,
  selection: recordsPage,
  keys: recordsPage,
  digest: digestPage,
  joins: fanOutPage,
  adopt,
  validate: validatePage,
};

/** Compares the totals of both sides. */
async function validatePage(context: Context, claim: Claim, validate: Validate): Promise<PageOutcome> {
  const { dispatch, outcome } = await validate(context, claim);
  await sendPages(context, dispatch);
  return outcome;
}

/** Takes over the ids of one page of target rows: a single statement there, no row travels. */
async function adopt(context: Context, claim: Claim): Promise<PageOutcome> {
  const { dispatch, ...counts } = await adoptPage(context.target, claim, context.config.ISTHMUS_LEASE_SECONDS);
  await sendPages(context, dispatch);
  return { outcome: "adopted", ...counts, next: dispatch.length };
}

/** Goes through one page of joined rows. It reads no records: it asks for them. */
async function fanOutPage(context: Context, claim: Claim): Promise<PageOutcome> {
  await assertSameSource(context, claim);
  const { asked, dispatch } = await fanOut(context, claim, entityOf(context, claim));
  await sendPages(context, dispatch);
  return { outcome: "fanned_out", asked, next: dispatch.length };
}

/** Compares one range of both sides. It reads no records either. */
async function digestPage(context: Context, claim: Claim): Promise<PageOutcome> {
  await assertSameSource(context, claim);
  const { records, differing, dispatch } = await digest(context, claim, entityOf(context, claim));
  await sendPages(context, dispatch);
  return { outcome: "compared", records, differing, next: dispatch.length };
}

/** Loads one page of records. What it found out is worth caching once it is committed. */
async function recordsPage(context: Context, claim: ClaimOf<RecordCapture>): Promise<PageOutcome> {
  await assertSameSource(context, claim);
  const entity = entityOf(context, claim);
  const { committed, read, bytes, uncached } = await loadPage(context, claim, entity);
  if (!claim.execution.dry_run) await context.cache.write(cacheKeys(claim), uncached);
  await sendPages(context, committed.dispatch);
  return { outcome: "committed", entity: entity.name, read, bytes, counts: committed.counts, next: committed.dispatch.length };
}

function entityOf(context: Context, claim: Claim): Entity {
  const name = Object.keys(claim.entities).find((key) => claim.entities[key]?.id === claim.chain.entity_id);
  const entity = name === undefined ? undefined : context.entities.get(name);
  if (!entity) {
    throw new IsthmusError("DEPLOYMENT_BEHIND", `This deployment has no entity ${name ?? "with that id"}.`);
  }
  return entity;
}

/** @throws IsthmusError when another source answers than the one the execution began on, or a state before that. */
async function assertSameSource(context: Context, claim: Claim): Promise<void> {
  const position = await sourcePosition(context.source);
  const { execution } = claim;
  const whereabouts = whereaboutsOf(execution, execution.not_before, position);
  if (whereabouts === "behind") throw new IsthmusError("SOURCE_BEHIND");
  if (whereabouts !== "same") throw new IsthmusError("SOURCE_CHANGED");
}

async function recover(context: Context, claim: Claim, error: unknown): Promise<PageOutcome> {
  const cause = error instanceof PageTooLarge ? error.cause : error;
  const described = describedFor(claim, cause);
  const given = whatNow(context, claim, error);
  context.log.error("page.failed", { ...described, chain: claim.chain.id, page: claim.chain.page });
  // The commit may have gone through although its answer was lost: the chain's row knows.
  const open = await openPage(context.target, claim.chain.id);
  if (!open) return { outcome: "closed" };
  if (described.code === "LEASE_LOST") return { outcome: "leased" };
  if (open.page !== claim.chain.page) {
    await sendPages(context, [open]);
    return { outcome: "stale" };
  }
  await sendPages(context, await giveBackPage(context.target, claim, described, given));
  if ("pageSize" in given) return { outcome: "smaller", error: described, pageSize: given.pageSize };
  return { outcome: "failed", error: described, retrySeconds: given.retrySeconds };
}

/** What is told of an error, with the entity whose page it ended. */
function describedFor({ entities, chain }: Claim, error: unknown): DescribedError {
  const entity = Object.keys(entities).find((name) => entities[name]?.id === chain.entity_id);
  return { ...(entity === undefined ? {} : { entity }), ...describeError(error) };
}

/** A page that a limit ended is tried again at once with fewer records; one that cannot be smaller, like any other error. */
function whatNow({ config }: Context, { chain }: Claim, error: unknown): GivenBack {
  const leaseSeconds = config.ISTHMUS_LEASE_SECONDS;
  if (error instanceof PageTooLarge) return { pageSize: error.pageSize, leaseSeconds };
  const by = endedBy(error);
  // A comparison of totals is not cut by a page's size: it halves its ranges itself.
  if ((by === "time" || by === "memory") && chain.page_size > 1 && chain.capture !== "validate")
    return { pageSize: smallerPageSize(chain.page_size), leaseSeconds };
  const { retried } = CATEGORIES[categoryOf(describeError(error))];
  return { retrySeconds: retried ? pauseSeconds(chain.failures) : null };
}

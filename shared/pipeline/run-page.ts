import type { Config } from "../config.ts";
import { inTransaction } from "../db/query.ts";
import type { Entity } from "../entities/define-entity.ts";
import { KEY } from "../entities/define-entity.ts";
import { describeError, ERRORS, IsthmusError } from "../errors.ts";
import { sendPages } from "../queue/send-pages.ts";
import { adoptPage } from "../sql/adoption.ts";
import { claimPage, commitPage, giveBackPage, lockRecords, openPage } from "../sql/pages.ts";
import { compareSource, sourcePosition } from "../sql/source-position.ts";
import { findDependants, keysWithDependants } from "./dependants.ts";
import { detect } from "./detect/detect.ts";
import { digest } from "./digest.ts";
import { fanOut } from "./fan-out.ts";
import { cacheKeys, mapIds } from "./map-ids.ts";
import { NO_CACHE } from "./mapping-cache.ts";
import { nextPageSize } from "./page-size.ts";
import { readProjection } from "./read.ts";
import { parentsOf, transform, twinsOf } from "./transform.ts";
import type { Claim, CommittedPage, Context, MappedRecord, MappingCache, PageMessage, PageOutcome } from "./types.ts";

type Validate = (context: Context, claim: Claim) => Promise<{ dispatch: readonly PageMessage[]; outcome: PageOutcome }>;

/**
 * The life of a page: claim its lease, load it in one commit, chain the next. Whatever kills it between two steps, the
 * chain's row is still due and the sweep sends it again; a late or repeated message finds another page or lease.
 */
export async function runPage(context: Context, message: PageMessage, validate: Validate): Promise<PageOutcome> {
  const claim = await claimPage(context.target, message, context.config.ISTHMUS_LEASE_SECONDS);
  if (claim.outcome !== "claimed") return claim;
  try {
    if (claim.chain.capture === "validate") {
      const { dispatch, outcome } = await validate(context, claim);
      await sendPages(context, dispatch);
      return outcome;
    }
    if (claim.chain.capture === "adopt") return await adopt(context, claim);
    if (claim.chain.capture === "joins") return await fanOutPage(context, claim);
    if (claim.chain.capture === "digest") return await digestPage(context, claim);
    // A plan asks the table alone: no lie of the cache may get into it, and what it finds must not get into the cache.
    const cache = claim.execution.dry_run ? NO_CACHE : context.cache;
    const page = await loadPage(context, claim, cache).catch((error: unknown) => {
      // The target rejected an id that the cache had given: all is rolled back and resolved from the table.
      if (error instanceof DoubtfulCache) return loadPage(context, claim, NO_CACHE);
      throw error;
    });
    await cache.write(cacheKeys(claim), page.uncached);
    await sendPages(context, page.committed.dispatch);
    return { outcome: "committed", read: page.read, counts: page.committed.counts, next: page.committed.dispatch.length };
  } catch (error) {
    return recover(context, claim, error);
  }
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

interface LoadedPage {
  readonly committed: CommittedPage;
  readonly read: number;
  readonly uncached: readonly MappedRecord[];
}

/** detect ► lock ► read ► map ► transform ► reconcile and load, in one transaction on the target. */
async function loadPage(context: Context, claim: Claim, cache: MappingCache): Promise<LoadedPage> {
  const { config, source, target, meter, clock } = context;
  const entity = entityOf(context, claim);
  const started = { wall: clock(), cpu: meter.cpuMs() };
  await assertSameSource(context, claim);
  const keys = await detect(source, target, entity, claim, { clock, budgetMs: config.ISTHMUS_SCAN_SECONDS * 1_000 });
  const dependants = await findDependants(source, context.entities, entity, keysWithDependants(claim, keys));

  return inTransaction(target, "target", async (tx) => {
    // Before the read: from here on no other page reads or writes these records, so the state that is read is the one
    // that lands, and the last reader lands last.
    await lockRecords(tx, claim.chain.entity_id ?? 0, keys.ids);
    const { rows, outside } = await readProjection(source, entity, keys.ids);
    const read = rows.length + outside.length + keys.waived;
    const own = rows.map((row) => row[KEY] ?? "");
    const present = new Set([...own, ...outside]);
    const gone = keys.ids.filter((id) => !present.has(id));
    const ids = await mapIds(tx, cache, claim, entity.name, own, parentsOf(entity, rows), twinsOf(entity, rows));
    const { records, issues, warnings } = transform(entity, rows, ids.parents, ids.own, claim.severities);

    const wallMs = clock() - started.wall;
    const cpuNow = meter.cpuMs();
    const cpuMs = cpuNow === null || started.cpu === null ? null : cpuNow - started.cpu;
    const rssBytes = meter.rssBytes();
    const committed = await commitPage(tx, claim, records, issues, {
      read,
      waived: keys.waived,
      outside,
      absent: gone.length,
      gone,
      cursor: keys.cursor,
      cursor_at: keys.cursorAt ?? null,
      table_file: keys.tableFile ?? null,
      done: keys.done,
      present: claim.chain.capture === "full" ? [...present] : [],
      pending: keys.pending,
      dependants,
      warnings,
      cache_lookups: ids.lookups,
      cache_hits: ids.hits,
      cpu_ms: cpuMs,
      peak_rss_bytes: rssBytes,
      wall_ms: wallMs,
      next_page_size: nextPageSize(claim.chain.page_size, largestPage(config, claim), config.ISTHMUS_LEASE_SECONDS, {
        records: rows.length,
        cpuMs,
        rssBytes,
        wallMs,
      }),
      lease_seconds: config.ISTHMUS_LEASE_SECONDS,
      definition_hash: context.hashes.get(entity.name) ?? "",
    });
    if (committed.foreign_key_rejects > 0 && ids.hits > 0) throw new DoubtfulCache();
    // The cache is for parents: ids that nobody refers to would only fill it.
    const asParents = isParent(context, entity) ? committed.landed : [];
    const landed = asParents.map((legacyId) => ({ entity: entity.name, legacyId, uuid: ids.own.get(legacyId) ?? "" }));
    return { committed, read, uncached: [...ids.uncached, ...landed] };
  });
}

function largestPage({ ISTHMUS_PAGE_SIZE_MAX: configured }: Config, { execution }: Claim): number {
  return Math.max(configured, execution.page_size ?? 0);
}

function isParent({ entities }: Context, { name }: Entity): boolean {
  return [...entities.values()].some(({ fields }) => Object.values(fields).some(({ parent }) => parent === name));
}

class DoubtfulCache extends IsthmusError {
  constructor() {
    super("INTERNAL", "The target rejected a cached id.");
  }
}

function entityOf(context: Context, claim: Claim): Entity {
  const name = Object.keys(claim.entities).find((key) => claim.entities[key]?.id === claim.chain.entity_id);
  const entity = name === undefined ? undefined : context.entities.get(name);
  if (!entity) {
    throw new IsthmusError("CONTRACT_BROKEN", `This deployment has no entity ${name ?? "with that id"}.`, {
      detail: { hint: "Deploy the version of the functions that has the entity file, or start a new execution." },
    });
  }
  return entity;
}

/** @throws IsthmusError when another source answers than the one the execution began on, or a state before that. */
async function assertSameSource(context: Context, claim: Claim): Promise<void> {
  const position = await sourcePosition(context.source);
  const { execution } = claim;
  const whereabouts = compareSource(execution, execution.not_before, position);
  if (whereabouts === "behind") throw new IsthmusError("SOURCE_BEHIND");
  if (whereabouts !== "same") throw new IsthmusError("SOURCE_CHANGED");
}

/** Longest pause before a failed page is tried again. */
const LONGEST_PAUSE_SECONDS = 300;

async function recover(context: Context, claim: Claim, error: unknown): Promise<PageOutcome> {
  const described = describeError(error);
  context.log.error("page.failed", { ...described, chain: claim.chain.id, page: claim.chain.page });
  if (described.code === "LEASE_LOST") return { outcome: "leased" };
  const retrySeconds = ERRORS[described.code].retryable ? Math.min(LONGEST_PAUSE_SECONDS, 2 ** claim.chain.failures) : null;
  // The commit may have gone through although its answer was lost: the chain's row knows.
  const open = await openPage(context.target, claim.chain.id);
  if (!open) return { outcome: "closed" };
  if (open.page !== claim.chain.page) {
    await sendPages(context, [open]);
    return { outcome: "stale" };
  }
  await sendPages(context, await giveBackPage(context.target, claim, described, retrySeconds));
  return { outcome: "failed", error: described, retrySeconds };
}

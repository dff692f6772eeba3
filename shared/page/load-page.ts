import type { Queryable } from "../db/connect.ts";
import { inTransaction, isSourceLimit } from "../db/query.ts";
import { KEY, type Entity } from "../entity/define-entity.ts";
import { IsthmusError } from "../errors.ts";
import {
  commitPage,
  encodePage,
  lockRecords,
  lookAtKeys,
  slotVersions,
  type SentPage,
  type SlotVersions,
  type CommittedPage,
  type Dependant,
} from "../target/pages.ts";
import { recordBytes, stateOfRecord } from "../source/read-records.ts";
import { findDependants, keysWithDependants } from "./dependants.ts";
import { compareHashes } from "./compare-hashes.ts";
import { detect, type DetectedKeys } from "./detect/detect.ts";
import { mapIds } from "./map-ids.ts";
import { mintUuid } from "./mint-uuid.ts";
import { NO_CACHE, type MappingCache } from "../cache/mapping-cache.ts";
import { endedBy } from "./page-ending.ts";
import { nextPageSize, PAGE_BYTES, RECORD_BYTES, smallerPageSize } from "./page-size.ts";
import { readProjection, type Projected } from "./read.ts";
import { overweightIssue, refusedIssue, type Overweight } from "./set-aside.ts";
import { parentsOf, transform, counterpartsOf } from "./transform.ts";
import type { Claim, ClaimOf, RecordCapture } from "../target/claims.ts";
import type { Context } from "../context.ts";
import type { MappedRecord } from "../target/mappings.ts";

/** A page that reads records. */
type RecordsClaim = ClaimOf<RecordCapture>;

export interface LoadedPage {
  readonly committed: CommittedPage;
  readonly read: number;
  /** Text of the records, as the source sent it. */
  readonly bytes: number;
  /** What the cache did not know. */
  readonly uncached: readonly MappedRecord[];
}

/** A page that a limit ended, to be tried again with fewer records. */
export class PageTooLarge extends Error {
  readonly pageSize: number;
  constructor(pageSize: number, cause: unknown) {
    super("A limit ended the page.", { cause });
    this.pageSize = pageSize;
  }
}

/**
 * detect ► read ► map ► transform ► reconcile and load, in one commit. A record that cannot be carried even alone
 * goes to the queue.
 * @throws PageTooLarge when a limit ended it and it can be smaller.
 */
export async function loadPage(
  context: Context,
  claim: RecordsClaim,
  entity: Entity,
  { window, started }: Begun = { window: windowOf(claim, entity), started: context.clock() },
): Promise<LoadedPage> {
  const { source, target, config, clock } = context;
  const seen = { ...claim, chain: { ...claim.chain, page_size: window } };
  const keys = await detect(source, target, entity, seen, { clock, budgetMs: config.ISTHMUS_SCAN_SECONDS * 1_000 });
  const page: Page = { context, claim, entity, started, keys, dependants: [] };
  const { ids } = keys;
  if (claim.chain.page_size === 1 && claim.chain.crashes >= CRASHES_ALONE && ids.length === 1) {
    return setAside(page, { by: "crash" });
  }
  try {
    return await loadKeys(page);
  } catch (error) {
    const by = error instanceof PageTooLarge ? undefined : endedBy(error);
    if (by === undefined || ids.length === 0) throw error;
    if (ids.length > 1) throw new PageTooLarge(smallerPageSize(Math.min(ids.length, claim.chain.page_size)), error);
    return setAside(page, { by, error });
  }
}

/** How many keys a page looks at, and since when it is at work: it may have looked at more of them before. */
interface Begun {
  readonly window: number;
  readonly started: number;
}

/** Keys that a page looks at for each record that it may read, where it leaves unread what neither side has changed. */
const KEYS_PER_RECORD = 4;

/** How many keys a page looks at. One that is to be of a single record is of a single key. */
function windowOf(claim: RecordsClaim, entity: Entity): number {
  const { page_size } = claim.chain;
  return page_size > 1 && maySkip(claim, entity) ? page_size * KEYS_PER_RECORD : page_size;
}

/** A page of one record that has killed its worker so often is not read again. */
const CRASHES_ALONE = 2;

interface Page {
  readonly context: Context;
  readonly claim: RecordsClaim;
  readonly entity: Entity;
  readonly started: number;
  readonly keys: DetectedKeys;
  readonly dependants: readonly Dependant[];
}

async function loadKeys(page: Page): Promise<LoadedPage> {
  const { context, claim, entity, started, keys } = page;
  const dependants = await findDependants(context.source, context.entities, entity, keysWithDependants(claim, keys));
  const read = await readInOrder({ ...page, dependants });
  if (!("window" in read)) return read;
  // A page may always take fewer keys; which ones these are, its capture says. Before the first record that does not
  // fit there may be untouched ones: the window ends behind these, however few records are read.
  const again = { window: Math.max(1, read.window), started };
  if (read.fits === undefined) return loadPage(context, claim, entity, again);
  if (keys.ids.length === 1) return setAside(page, { by: "bytes", bytes: read.fits.bytes, most: RECORD_BYTES });
  const pageSize = Math.max(1, Math.min(claim.chain.page_size, read.fits.records));
  return loadPage(context, { ...claim, chain: { ...claim.chain, page_size: pageSize, slow_growth: true } }, entity, again);
}

/**
 * Tries without a lock; after as many the page holds its records while it reads, so that it gets its turn. One that
 * is only planned holds nothing: what it tells may then be older than what has landed since.
 */
const TRIES_WITHOUT_LOCK = 3;
/** How long a page that holds its records may wait for the source. */
const HELD_SECONDS = 15;

/** Nothing was committed: so many of the keys, from the first, are what a page may take. */
interface Unfit {
  readonly window: number;
  /** Because of what was read: how many records fit, and how many bytes they have. */
  readonly fits?: { readonly records: number; readonly bytes: number };
}

/**
 * Reads the page's records, and commits them only if no other page, and nobody else, has committed records of the
 * same slots between the moment before the read and the commit: so what lands was read after the last commit of these
 * records, and the last reader lands last. Otherwise they are read again. No transaction of the target is open while
 * the source works.
 */
async function readInOrder(page: Page): Promise<LoadedPage | Unfit> {
  const { target, cache } = page.context;
  const entityId = page.claim.chain.entity_id ?? 0;
  const planned = page.claim.execution.dry_run;
  // A plan asks the table alone: no lie of the cache may get into it, and what it finds must not get into the cache.
  let trusted = planned ? NO_CACHE : cache;
  for (let tries = 0; ;) {
    try {
      if (tries < TRIES_WITHOUT_LOCK) {
        const found = await findUnchanged(page);
        if ("window" in found) return found;
        return await readAndCommit(page, target, found.versions, trusted, found);
      }
      // Without a look at hashes all of the keys are read.
      if (page.keys.ids.length > mostRead(page)) return { window: mostRead(page) };
      const all = { ids: page.keys.ids, unchanged: [] };
      if (planned) return await readAndCommit(page, target, null, trusted, all);
      return await inTransaction(target, "target", async (tx) => {
        await lockRecords(tx, entityId, page.keys.ids, HELD_SECONDS);
        return readAndCommit(page, tx, null, trusted, all);
      });
    } catch (error) {
      if (!(error instanceof IsthmusError)) throw error;
      if (error.code === "CACHE_OUTDATED") trusted = NO_CACHE;
      else if (error.code === "RECORDS_MOVED") tries++;
      else throw error;
    }
  }
}

/** Keys of a page whose records have to be read, and those of which the hashes on both sides tell that there is nothing to do. */
interface ToRead {
  readonly ids: readonly string[];
  readonly unchanged: readonly string[];
}

/** Whether a page may leave records unread that neither side has changed. */
function maySkip({ chain }: Claim, entity: Entity): boolean {
  // Whether a record has landed as another entity too, its own hash does not tell.
  const counterparts = Object.values(entity.fields).some(({ landedAs }) => landedAs !== undefined);
  return chain.capture === "full" && chain.skips_unchanged && !counterparts;
}

/** How many of its keys a page may read. Of other captures the keys are never more than the page has. */
function mostRead({ claim, entity, keys }: Page): number {
  return maySkip(claim, entity) ? claim.chain.page_size : keys.ids.length;
}

/**
 * Asks the target which records of the page nobody has touched there, and the source which of these it has otherwise
 * than they were read last. What neither has changed is not read: a page would find it unchanged.
 */
async function findUnchanged(page: Page): Promise<(ToRead & { versions: SlotVersions }) | Unfit> {
  const { context, claim, entity, keys } = page;
  const { source, target, config, clock } = context;
  const { ids } = keys;
  if (ids.length === 0) return { versions: {}, ids, unchanged: [] };
  if (!maySkip(claim, entity))
    return { versions: await slotVersions(target, claim.chain.entity_id ?? 0, ids), ids, unchanged: [] };
  const looked = await lookAtKeys(target, claim, context.hashes.get(entity.name) ?? "", ids);
  const { versions } = looked;
  const all = ids.length > mostRead(page) ? { window: mostRead(page) } : { versions, ids, unchanged: [] };
  try {
    const compared = await compareHashes(source, entity, looked, { clock, budgetMs: config.ISTHMUS_LEASE_SECONDS * 250 });
    // A key that repeats: the read says which.
    if (compared === undefined) return all;
    if (compared.end !== undefined) return { window: ids.indexOf(compared.end) };
    const toRead = new Set([...looked.others, ...compared.differing]);
    const read = ids.filter((id) => toRead.has(id));
    const beyond = read[mostRead(page)];
    if (beyond !== undefined) return { window: ids.indexOf(beyond) };
    return { versions, ids: read, unchanged: ids.filter((id) => !toRead.has(id)) };
  } catch (error) {
    // A record that cannot be computed, or not in time: the read says which.
    if (stateOfRecord(error) !== undefined || isSourceLimit(error)) return all;
    throw error;
  }
}

async function readAndCommit(
  page: Page,
  target: Queryable,
  versions: SlotVersions | null,
  cache: MappingCache,
  { ids: toRead, unchanged }: ToRead,
): Promise<LoadedPage | Unfit> {
  const { context, claim, entity, keys } = page;
  const budget = {
    bytes: keys.ids.length === 1 ? RECORD_BYTES : PAGE_BYTES,
    searchMs: context.config.ISTHMUS_LEASE_SECONDS * 250,
    clock: context.clock,
  };
  const read = await readProjection(context.source, entity, toRead, budget);
  if (read.fits !== undefined)
    return { window: keys.ids.indexOf(toRead[read.fits] ?? ""), fits: { records: read.fits, bytes: read.bytes } };
  const found = { ...read, unchanged };
  const own = found.rows.map((row) => row[KEY] ?? "");
  const ids = await mapIds(
    target,
    cache,
    claim,
    entity.name,
    own,
    parentsOf(entity, found.rows),
    counterpartsOf(entity, found.rows),
  );
  const { records, issues, warnings } = transform(entity, found.rows, ids.parents, ids.own, claim.severities);
  const refused = found.refused.map(({ id, sqlstate, column }) => refusedIssue(entity, id, sqlstate, column));
  const sent = encodePage(records, [...issues, ...refused]);
  const committed = await commitPage(target, claim, sent, {
    ...factsOf(page, found, sent),
    versions,
    warnings,
    unmapped: ids.unmapped,
    cache_lookups: ids.lookups,
    cache_hits: ids.hits,
  });
  // The cache is for parents: ids that nobody refers to would only fill it.
  const asParents = isParent(context, entity) ? committed.landed : [];
  const landed = asParents.map((legacyId) => ({ entity: entity.name, legacyId, uuid: ids.own.get(legacyId) ?? "" }));
  return { committed, read: readOf(keys, found), bytes: found.bytes, uncached: [...ids.uncached, ...landed] };
}

/** Puts the one record of a page into the queue instead of landing it, so that the chain goes on behind it. */
async function setAside(page: Page, why: Overweight): Promise<LoadedPage> {
  const { context, claim, entity, keys } = page;
  const [id = ""] = keys.ids;
  const bytes = why.by === "bytes" ? why.bytes : await recordBytes(context.source, entity, id);
  const found = { rows: [], outside: [], refused: [], unchanged: [], bytes: 0, aside: id };
  const sent = encodePage([], [overweightIssue(id, why, bytes)]);
  const versions = await slotVersions(context.target, claim.chain.entity_id ?? 0, [id]);
  const facts = {
    ...factsOf(page, found, sent),
    versions,
    warnings: [],
    unmapped: [],
    cache_lookups: 0,
    cache_hits: 0,
    cut: true,
  };
  const committed = await commitPage(context.target, claim, sent, facts);
  return { committed, read: readOf(keys, found), bytes: 0, uncached: [] };
}

/** What a page found, the records that it did not have to read, and the one that it puts aside unread. */
type Found = Projected & { readonly unchanged: readonly string[]; readonly aside?: string };

function readOf(keys: DetectedKeys, { rows, outside, refused, unchanged, aside }: Found): number {
  return rows.length + outside.length + refused.length + unchanged.length + (aside === undefined ? 0 : 1) + keys.waived;
}

/** What a page reports of its records and of itself. */
function factsOf({ context, claim, entity, started, keys, dependants }: Page, found: Found, sent: SentPage) {
  const { config, clock, meter } = context;
  const { chain, execution } = claim;
  const own = found.rows.map((row) => row[KEY] ?? "");
  const there = [
    ...found.unchanged,
    ...own,
    ...found.outside,
    ...found.refused.map(({ id }) => id),
    ...(found.aside === undefined ? [] : [found.aside]),
  ];
  const present = new Set(there);
  const unread = new Set(found.unchanged);
  const gone = keys.ids.filter((id) => !present.has(id));
  const heapBytes = meter.heapBytes();
  const wallMs = clock() - started;
  const budget = { leaseSeconds: config.ISTHMUS_LEASE_SECONDS, pagesAtATime: config.ISTHMUS_POOL_SIZE };
  const sizes = {
    current: chain.page_size,
    first: execution.page_size ?? config.ISTHMUS_PAGE_SIZE,
    maximum: Math.max(config.ISTHMUS_PAGE_SIZE_MAX, execution.page_size ?? 0),
    slow: chain.slow_growth,
  };
  return {
    read: readOf(keys, found),
    untouched: found.unchanged.length,
    keys: unread.size === 0 ? keys.ids : keys.ids.filter((id) => !unread.has(id)),
    waived: keys.waived,
    outside: found.outside,
    absent: gone.length,
    gone,
    gone_ids: gone.map((id) => mintUuid(claim.source.namespace, entity.name, id)),
    cursor: keys.cursor,
    cursor_at: keys.cursorAt ?? null,
    table_file: keys.tableFile ?? null,
    done: keys.done,
    present: chain.capture === "full" ? [...present] : [],
    pending: keys.pending,
    dependants,
    heap_bytes: heapBytes,
    wall_ms: wallMs,
    next_page_size: nextPageSize(sizes, budget, {
      records: found.rows.length + found.refused.length,
      unread: found.unchanged.length,
      bytesIn: found.bytes,
      bytesOut: sent.records.length + sent.issues.length,
      heapBytes,
      wallMs,
    }),
    cut: chain.slow_growth,
    lease_seconds: config.ISTHMUS_LEASE_SECONDS,
    definition_hash: context.hashes.get(entity.name) ?? "",
  };
}

function isParent({ entities }: Context, { name }: Entity): boolean {
  return [...entities.values()].some(({ fields }) => Object.values(fields).some(({ parent }) => parent === name));
}

import type { addressesOf, Queryable } from "../db/connect.ts";
import { integerArray } from "../db/ident.ts";
import { query, queryOne } from "../db/query.ts";
import type {
  Claim,
  CommittedPage,
  Delivery,
  Dependant,
  Issue,
  LoadRecord,
  NoClaim,
  PageMessage,
  PendingKey,
  Warning,
} from "../page/types.ts";
import { IF_FITTING } from "../sql/fitting.ts";

/**
 * Claims the next page of a chain under a new lease. A later attempt of the message that has the lease takes the page over.
 * `addresses`: where this installation looks for the databases.
 * @throws IsthmusError TARGET_UNKNOWN, SOURCE_UNKNOWN, SCHEMA_OUTDATED, SCHEMA_AHEAD.
 */
export async function claimPage(
  target: Queryable,
  message: PageMessage & { readonly delivery?: Delivery },
  leaseSeconds: number,
  addresses: ReturnType<typeof addressesOf>,
): Promise<Claim | NoClaim> {
  const row = await queryOne<{ claim: Claim | NoClaim }>(
    target,
    "target",
    `select sync.claim_page($1, $2, $3, $4::text::jsonb, $5, $6) as claim ${IF_FITTING}`,
    [
      ...[message.chain, message.page, leaseSeconds, JSON.stringify(addresses)],
      ...[message.delivery?.id ?? null, message.delivery?.attempt ?? null],
    ],
  );
  return row.claim;
}

/** How often records of the slots of a page's records were committed: what is read later is at least as new as these commits. */
export type SlotVersions = Readonly<Record<string, number>>;

export async function slotVersions(target: Queryable, entityId: number, ids: readonly string[]): Promise<SlotVersions> {
  const row = await queryOne<{ versions: SlotVersions }>(
    target,
    "target",
    "select sync.slot_versions($1::integer::smallint, $2::text::bigint[]) as versions",
    [entityId, integerArray(ids)],
  );
  return row.versions;
}

/** Some keys of a page before it reads: which of their records only the source can have changed. */
export interface LookedAt {
  readonly versions: SlotVersions;
  /** Those that are untouched on the target, and their hashes in the same order. */
  readonly keys: readonly string[];
  readonly digests: readonly string[];
  /** All other keys, ascending. */
  readonly others: readonly string[];
}

/** The versions of the slots of a page's records, and which of these the target's side says nothing new of. */
export async function lookAtKeys(
  target: Queryable,
  { chain }: Claim,
  definitionHash: string,
  ids: readonly string[],
): Promise<LookedAt> {
  const row = await queryOne<{ looked: LookedAt }>(
    target,
    "target",
    "select sync.look_at_keys($1, $2::text::bigint[], $3) as looked",
    [chain.id, integerArray(ids), definitionHash],
  );
  return row.looked;
}

/**
 * Keeps every other page from committing these records until the transaction ends. The server ends it after so long without a
 * statement.
 */
export async function lockRecords(
  target: Queryable,
  entityId: number,
  ids: readonly string[],
  idleSeconds: number,
): Promise<void> {
  await query(target, "target", "select sync.lock_records($1::integer::smallint, $2::text::bigint[], $3)", [
    entityId,
    integerArray(ids),
    idleSeconds,
  ]);
}

/** What a page reports of itself besides its records. */
export interface PageFacts {
  /** The slots of its records as they were before the read; null: the transaction has held them since. */
  readonly versions: SlotVersions | null;
  readonly read: number;
  /** Of them: told unchanged by their hashes, and not read. */
  readonly untouched: number;
  /** All others of the page: those whose rows in the queue the commit holds. */
  readonly keys: readonly string[];
  /** Rows of the source in the page's key range that are waived, and not among its keys. */
  readonly waived: number;
  /** Keys of the page whose row the predicate does not let in. */
  readonly outside: readonly string[];
  readonly absent: number;
  /** The absent ones: keys of the page that have no record in the projection. */
  readonly gone: readonly string[];
  /** The ids that the sync makes for them, in their order. */
  readonly gone_ids: readonly string[];
  /** Records of the page that were not mapped as landed. */
  readonly unmapped: readonly string[];
  readonly cursor: string | null;
  readonly cursor_at: string | null;
  readonly table_file: string | null;
  readonly done: boolean;
  readonly present: readonly string[];
  readonly warnings: readonly Warning[];
  readonly pending: readonly PendingKey[];
  /** Records to read because they refer to selected ones of this page. */
  readonly dependants: readonly Dependant[];
  readonly cache_lookups: number;
  readonly cache_hits: number;
  readonly heap_bytes: number | null;
  readonly wall_ms: number;
  readonly next_page_size: number;
  /** A limit has cut the page: the next ones grow slowly. */
  readonly cut: boolean;
  /** The entity definition that this deployment has. */
  readonly definition_hash: string;
  readonly lease_seconds: number;
}

/** The records and rejects of a page as the JSON that the target is sent. */
export interface SentPage {
  readonly records: string;
  readonly issues: string;
}

export function encodePage(records: readonly LoadRecord[], issues: readonly Issue[]): SentPage {
  return { records: JSON.stringify(records), issues: JSON.stringify(issues) };
}

/**
 * Everything a page changes, or in a dry run would change, in one statement and so in one commit.
 * @throws IsthmusError RECORDS_MOVED, CACHE_OUTDATED, LEASE_LOST; nothing is written then.
 */
export async function commitPage(target: Queryable, claim: Claim, sent: SentPage, facts: PageFacts): Promise<CommittedPage> {
  const row = await queryOne<{ page: CommittedPage }>(
    target,
    "target",
    `select sync.${claim.execution.dry_run ? "plan_page" : "commit_page"}($1, $2, $3, $4::text::jsonb, $5::text::jsonb) as page ${IF_FITTING}`,
    [claim.chain.id, claim.chain.lease, sent.records, sent.issues, JSON.stringify(facts)],
  );
  return row.page;
}

/** What becomes of a page that ended with an error: tried again after a pause, at once with fewer records, or its chain fails. */
export type GivenBack = { readonly retrySeconds: number | null } | { readonly pageSize: number; readonly leaseSeconds: number };

/** Gives a page back after an error. Returns what can run now. */
export async function giveBackPage(target: Queryable, claim: Claim, error: object, given: GivenBack): Promise<PageMessage[]> {
  const [seconds, size] = "pageSize" in given ? [given.leaseSeconds, given.pageSize] : [given.retrySeconds, null];
  const row = await queryOne<{ messages: PageMessage[] }>(
    target,
    "target",
    "select sync.give_back_page($1, $2, $3::text::jsonb, $4, $5) as messages",
    [claim.chain.id, claim.chain.lease, JSON.stringify(error), seconds, size],
  );
  return row.messages;
}

/** The chain's open page, or nothing when it is closed: how an unknown outcome of a commit is settled. */
export async function openPage(target: Queryable, chain: string): Promise<PageMessage | undefined> {
  const rows = await query<{ chain: string; page: number; execution: string }>(
    target,
    "target",
    "select id as chain, page, execution_id as execution from public.sync_chains where id = $1 and state = 'open'",
    [chain],
  );
  return rows[0];
}

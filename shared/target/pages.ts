import type { Queryable } from "../db/connect.ts";
import { integerArray } from "../db/ident.ts";
import { query, queryOne } from "../db/query.ts";
import type { Claim } from "./claims.ts";
import type { PageMessage } from "./sending.ts";
import type { PendingKey } from "./pending-keys.ts";
import { IF_FITTING } from "../sql/fitting.ts";

/** A record that refers to a selected one. */
export interface Dependant {
  readonly entity: string;
  readonly k: string;
}

/** A record ready to load, with its key, UUID and raw codes. */
export interface LoadRecord {
  readonly _key: string;
  readonly _uuid: string | null;
  readonly _raw: Readonly<Record<string, string | null>> | null;
  /** Hash of the record as the source has it. */
  readonly _digest: string | null;
  /** Legacy ids of records on the same page without which it does not land, by the field that refers to them. */
  readonly _together?: Readonly<Record<string, string>>;
  /** Target column → text. */
  readonly _values: Readonly<Record<string, string | null>>;
}

/** A record that does not land with this page. */
export interface Issue {
  readonly k: string;
  readonly state: "waiting" | "open";
  readonly type: "foreign_key_violation" | "business_rule_violation" | "schema_mismatch" | "uuid_mapping_conflict";
  readonly field: string | null;
  readonly rule: string;
  readonly remedy: string;
  readonly data: Readonly<Record<string, unknown>>;
  /** What has the record read again; default: parent, rule or source, by what stops it. */
  readonly retry?: "source" | "target";
  readonly parent?: string;
  readonly parentId?: string;
  /** Hash of the record as the source has it. */
  readonly digest?: string | null;
}

/** A record that lands although it breaks a rule. */
export interface Warning {
  readonly k: string;
  readonly rule: string;
}

export interface CommittedPage {
  readonly counts: Readonly<
    Record<"inserted" | "updated" | "unchanged" | "deleted" | "waiting" | "in_conflict" | "waived", number>
  >;
  /** Legacy ids of the records that landed for the first time. */
  readonly landed: readonly string[];
  readonly surplus: number;
  readonly dispatch: readonly PageMessage[];
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
 * Keeps every other page from committing these records until the transaction ends. The server ends it after so long
 * without a statement.
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

import type { addressesOf, Queryable } from "../db/connect.ts";
import { query, queryOne } from "../db/query.ts";
import type { Severity } from "../entity/rules.ts";
import { IF_FITTING } from "../sql/fitting.ts";
import type { PageMessage } from "./sending.ts";

/** Which message of the queue brought a page, and for which time, counted from 0. */
export interface Delivery {
  readonly id: string;
  readonly attempt: number;
}

/** How the records of a chain are found. */
export type RecordCapture = "full" | "xmin" | "modified" | "selection" | "keys";

/** What the pages of a chain do: read records, or compare both sides by hashes, go through joined rows, adopt ids, compare totals. */
export type ChainKind = RecordCapture | "digest" | "joins" | "adopt" | "validate";

export interface Chain {
  readonly id: string;
  readonly execution_id: string;
  readonly entity_id: number | null;
  readonly capture: ChainKind;
  readonly page: number;
  readonly page_size: number;
  /** A limit has ended or cut a page of the chain. */
  readonly slow_growth: boolean;
  /** How often this page, of one record, has ended with its worker. */
  readonly crashes: number;
  /** full capture: what neither side has changed since it was read last is not read. */
  readonly skips_unchanged: boolean;
  readonly round: number;
  readonly lease: number;
  readonly failures: number;
  readonly cursor: string | null;
  /** The first key and the last one; null: no bound. */
  readonly range_from: string | null;
  readonly range_to: string | null;
  readonly changed_from: string | null;
  /** xmin capture: what was written before this transaction, the last run may have read. */
  readonly seen_before: string | null;
  /** keys capture: records that the source no longer has are deleted as their entity says. */
  readonly deletes: boolean;
  /** deletes: the last generation of keys that belongs to this chain. */
  readonly up_to: string | null;
  /** modified capture: the time stamp that goes with the cursor, and the last one that belongs to this chain. */
  readonly cursor_at: string | null;
  readonly until_at: string | null;
  /** selection capture: which records were asked for. */
  readonly selection: Readonly<Record<string, unknown>> | null;
  /** Scans by place: the table's file that the cursor is a place in. */
  readonly table_file: string | null;
  /** joins capture: the ConsumedJoin whose rows are looked at. */
  readonly join_id: number | null;
}

export interface Claim {
  readonly outcome: "claimed";
  readonly chain: Chain;
  readonly execution: {
    readonly id: string;
    readonly horizon: string;
    /** A node that has not got here must not be read: its state is older than what was read already. */
    readonly not_before: string;
    readonly snapshot_xmax: string;
    readonly system_identifier: string;
    readonly timeline: number;
    readonly database_oid: string;
    readonly entities: readonly string[];
    /** Those whose changes were looked for and found: of the others, neither side has moved by this execution. */
    readonly compared: readonly string[];
    /** A plan: nothing is written but what it finds out. */
    readonly dry_run: boolean;
    /** Records per page that its request asked for; null: as configured. */
    readonly page_size: number | null;
  };
  /** Severities that overrides give to rules now, by rule name. */
  readonly severities: Readonly<Record<string, Severity>>;
  readonly source: { readonly id: number; readonly name: string; readonly namespace: string };
  readonly entities: Readonly<Record<string, { readonly id: number; readonly epoch: number; readonly hash: string }>>;
  readonly target: string;
}
/** A page of a chain of this kind. */
export type ClaimOf<Kind extends ChainKind> = Claim & { readonly chain: { readonly capture: Kind } };

export interface NoClaim {
  readonly outcome: "closed" | "stale" | "leased" | "paused" | "source_refuses";
}

/**
 * Claims the next page of a chain under a new lease. A later attempt of the message that has the lease takes the page
 * over. `addresses`: where this installation looks for the databases.
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

import type { Queryable } from "../db/connect.ts";
import { integerArray } from "../db/ident.ts";
import { query, queryOne } from "../db/query.ts";
import type { Claim } from "./claims.ts";
import type { PageMessage } from "./sending.ts";
import { IF_FITTING } from "../sql/fitting.ts";
import { type Span, type Bucket, type KeyDigest, arraysOf } from "../sql/spans.ts";

/** Whose records, as the target knows them; and the dry run that is to count what it has planned already. */
export interface KnownOf {
  readonly entityId: number;
  readonly plan: string | null;
}

/** Of a chain's entity, as its execution knows them. */
export function knownOf({ chain, execution }: Claim): KnownOf {
  return { entityId: chain.entity_id ?? 0, plan: execution.dry_run ? execution.id : null };
}

/** The same buckets of the records as they were read last. */
export async function knownBuckets(
  target: Queryable,
  { entityId, plan }: KnownOf,
  spans: readonly Span[],
  bits: number,
): Promise<Bucket[]> {
  return query<Bucket>(
    target,
    "target",
    `select k.bucket::text, sum(k.n)::text as n, sum(k.digest)::text as digest
       from unnest($1::text::bigint[], $2::text::bigint[]) b (low, high)
       cross join lateral sync.known_buckets($3::integer::smallint, b.low, b.high, ${bits}, $4::uuid) k group by 1`,
    [...arraysOf(spans), entityId, plan],
  );
}

/** The records as they were read last, each with its hash. */
export async function knownDigests(target: Queryable, { entityId, plan }: KnownOf, spans: readonly Span[]): Promise<KeyDigest[]> {
  return query<KeyDigest>(
    target,
    "target",
    `select k.legacy_id::text as id, k.digest::text
       from unnest($1::text::bigint[], $2::text::bigint[]) b (low, high)
       cross join lateral sync.known_records($3::integer::smallint, b.low, b.high, $4::uuid) k`,
    [...arraysOf(spans), entityId, plan],
  );
}

/** The first records of a span whose rows stay although their predicate no longer lets them in, ascending. */
export async function keptOutside(
  target: Queryable,
  { entityId }: KnownOf,
  { from, to }: Span,
  limit: number,
): Promise<string[]> {
  const rows = await query<{ id: string }>(
    target,
    "target",
    `select k::text as id from sync.kept_outside($1::integer::smallint, $2::text::bigint, $3::text::bigint, $4) k`,
    [entityId, String(from), String(to), limit],
  );
  return rows.map(({ id }) => id);
}

/** Records whose target row is gone, or no longer what the sync left, or was written by DDL, or has lost the mark of a deleted one; ascending. */
export async function driftedRows(target: Queryable, { entityId, plan }: KnownOf, { from, to }: Span, limit: number) {
  return query<{ id: string; finding: "target_deleted" | "edited" | "rewritten" | "returned" }>(
    target,
    "target",
    `select legacy_id::text as id, finding
       from sync.drifted_rows($1::integer::smallint, $2::text::bigint, $3::text::bigint, $4, $5::uuid) order by legacy_id`,
    [entityId, String(from), String(to), limit, plan],
  );
}

/** A record of which mapping, row state and target row do not agree. */
export interface Strayed {
  readonly id: string;
  readonly finding: "returned" | "state_lost" | "mapping_lost" | "unmapped";
  /** Of the row, where there is one. */
  readonly uuid: string | null;
  /** unmapped: the row holds what the sync left of this record. */
  readonly as_left: boolean;
  /** unmapped: the legacy id is mapped to another row. */
  readonly taken: boolean;
}

/** Records of which the target's own sides do not agree; ascending. */
export async function strayedRecords(
  target: Queryable,
  { entityId, plan }: KnownOf,
  { from, to }: Span,
  limit: number,
): Promise<Strayed[]> {
  return query<Strayed>(
    target,
    "target",
    `select legacy_id::text as id, finding, id::text as uuid, as_left, taken
       from sync.strayed_records($1::integer::smallint, $2::text::bigint, $3::text::bigint, $4, $5::uuid) s order by s.legacy_id`,
    [entityId, String(from), String(to), limit, plan],
  );
}

/** Why records differ: legacy ids by reason, and how many records were compared. */
export interface DigestFindings {
  readonly records: number;
  /** On the source, and neither landed nor in the queue. */
  readonly missing: readonly string[];
  /** Landed or in the queue, and not on the source. */
  readonly surplus: readonly string[];
  /** Not as they were read last. */
  readonly changed: readonly string[];
  /** Their target row was deleted by somebody. */
  readonly target_deleted: readonly string[];
  /** Their target row was edited by somebody. */
  readonly edited: readonly string[];
  /** Their target row was written by DDL, it seems: texts of equal values may be others. */
  readonly rewritten: readonly string[];
  /** The source no longer has them, they were deleted or marked, and their row is back. */
  readonly returned: readonly string[];
  /** Mapped, and nothing else is known of them. */
  readonly state_lost: readonly string[];
  /** Known, and not mapped as landed. */
  readonly mapping_lost: readonly string[];
  /** Mapped again by this digest. */
  readonly mapped_again: readonly string[];
  /** A target row has their legacy id, and nothing maps the row. */
  readonly unmapped: readonly string[];
}

/** What a page of a digest reports of itself. */
export interface DigestPageFacts {
  readonly cursor: string | null;
  readonly done: boolean;
  readonly heap_bytes: number | null;
  readonly wall_ms: number;
  readonly next_page_size: number;
  readonly lease_seconds: number;
  readonly definition_hash: string;
  /** More new edits than this share and number are told of. */
  readonly edits: { readonly share: number; readonly records: number };
}

/** A record and the id of its row. */
export interface Mapped {
  readonly k: string;
  readonly id: string;
}

/** The records to map, and to read again, the report and the next page, in one commit. */
export async function commitDigestPage(
  target: Queryable,
  claim: Claim,
  keys: readonly string[],
  mapped: readonly Mapped[],
  findings: DigestFindings,
  facts: DigestPageFacts,
): Promise<PageMessage[]> {
  const row = await queryOne<{ dispatch: PageMessage[] }>(
    target,
    "target",
    `select sync.commit_digest_page($1, $2, $3::text::bigint[], $4::text::jsonb, $5::text::jsonb, $6::text::jsonb) as dispatch ${IF_FITTING}`,
    [
      claim.chain.id,
      claim.chain.lease,
      integerArray(keys),
      JSON.stringify(mapped),
      JSON.stringify(findings),
      JSON.stringify(facts),
    ],
  );
  return row.dispatch;
}

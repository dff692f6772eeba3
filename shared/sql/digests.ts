import type { Queryable } from "../db/connect.ts";
import { integerArray } from "../db/ident.ts";
import { query, queryOne } from "../db/query.ts";
import type { Entity } from "../entity/define-entity.ts";
import type { Claim, PageMessage } from "../page/types.ts";
import { DIGEST_SQL, drivingSql, keySql, memberSql, RECORD_KEY, recordsOfKeysSql, recordsSql, whereSql } from "../source/projection.ts";
import { IF_FITTING } from "./fitting.ts";

/** Keys from `from` up to `to`, both among them. */
export interface Span {
  readonly from: bigint;
  readonly to: bigint;
}

/** A span's ends as two parameters; none of no span. */
export function spanParameters(span: Span | undefined): string[] {
  return span === undefined ? [] : [String(span.from), String(span.to)];
}

/** Neighbouring keys, aligned to a power of two: how many records there are, and the sum of their hashes. */
export interface Bucket {
  readonly bucket: string;
  readonly n: string;
  readonly digest: string;
}
export interface KeyDigest {
  readonly id: string;
  readonly digest: string | null;
}

/** Whose records, as the target knows them; and the dry run that is to count what it has planned already. */
export interface KnownOf {
  readonly entityId: number;
  readonly plan: string | null;
}

/** Of a chain's entity, as its execution knows them. */
export function knownOf({ chain, execution }: Claim): KnownOf {
  return { entityId: chain.entity_id ?? 0, plan: execution.dry_run ? execution.id : null };
}

/** The key that ends a window of `limit` rows of the driving table, and how many it has. */
export async function windowEnd(source: Queryable, entity: Entity, { from, to }: Span, limit: number) {
  const key = keySql(entity);
  return queryOne<{ last: string | null; rows: number }>(
    source,
    "source",
    `select max(id)::text as last, count(*)::integer as rows
       from (select ${key} as id from ${drivingSql(entity)}
              where ${key} between $1::text::bigint and $2::text::bigint order by ${key} limit $3) w`,
    [String(from), String(to), limit],
    { inKeyOrder: true },
  );
}

/**
 * Buckets of 2^bits keys of the records that the source has now. `within`: the width of the spans, where these are buckets;
 * `without`: records that it cannot compute.
 */
export async function sourceBuckets(
  source: Queryable,
  entity: Entity,
  spans: readonly Span[],
  within: number | undefined,
  bits: number,
  without: readonly string[] = [],
): Promise<Bucket[]> {
  return query<Bucket>(
    source,
    "source",
    `select (${RECORD_KEY}::bigint >> ${bits})::text as bucket, count(*)::text as n, sum(${DIGEST_SQL})::text as digest
       from (${spansSql(entity, within)}) q group by 1`,
    spansOf(spans, within, without),
  );
}

/** The records that the source has now, each with its hash. */
export async function sourceDigests(
  source: Queryable,
  entity: Entity,
  spans: readonly Span[],
  within: number | undefined,
  without: readonly string[] = [],
): Promise<KeyDigest[]> {
  return query<KeyDigest>(
    source,
    "source",
    `select ${RECORD_KEY} as id, ${DIGEST_SQL}::text as digest from (${spansSql(entity, within)}) q`,
    spansOf(spans, within, without),
  );
}

/** The records of these keys that the source has now, each with its hash. */
export async function digestsOfKeys(source: Queryable, entity: Entity, ids: readonly string[]): Promise<KeyDigest[]> {
  return query<KeyDigest>(
    source,
    "source",
    `select ${RECORD_KEY} as id, ${DIGEST_SQL}::text as digest from (${recordsOfKeysSql(entity, whereSql(entity))}) q`,
    [integerArray(ids)],
  );
}

/** What the source says of records of which a hash is known. */
export interface DifferingRecords {
  /** Keys whose record is another one, or gone. */
  readonly differing: readonly string[];
  /** Records found; more than there are keys where a joined table has several rows for one. */
  readonly rows: number;
}

/** Which of these records are not as their hashes say. `digests`: in the order of the keys. */
export async function differingRecords(
  source: Queryable,
  entity: Entity,
  keys: readonly string[],
  digests: readonly string[],
): Promise<DifferingRecords> {
  return queryOne<DifferingRecords>(
    source,
    "source",
    `select pg_catalog.to_json(coalesce(pg_catalog.array_agg(h.id::text) filter (where ${DIGEST_SQL} is distinct from h.digest), '{}')) as differing,
            count(*)::integer as rows
       from rows from (pg_catalog.unnest($1::text::bigint[]), pg_catalog.unnest($2::text::bigint[])) as h (id, digest)
       left join (${recordsOfKeysSql(entity, memberSql(entity))}) q on ${RECORD_KEY}::bigint = h.id`,
    [integerArray(keys), integerArray(digests)],
  );
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

/**
 * Records whose keys lie in the spans: between $1 and $2, and in the buckets of $4; but those of $3. Not a join on ranges: for that
 * the planner goes through the whole table once for each.
 */
function spansSql(entity: Entity, within: number | undefined): string {
  const key = keySql(entity);
  const inBuckets = within === undefined ? "" : ` and ${key} >> ${within} in (select pg_catalog.unnest($4::text::bigint[]))`;
  return recordsSql(
    entity,
    drivingSql(entity),
    // The predicate of a record that is left out may be what cannot be computed.
    `${key} between $1::text::bigint and $2::text::bigint${inBuckets}
      and case when ${key} = any ($3::text::bigint[]) then false else (${whereSql(entity)}) end`,
  );
}

function spansOf(spans: readonly Span[], within: number | undefined, without: readonly string[]): string[] {
  // Without spans: no key.
  const ends = [String(spans[0]?.from ?? 1n), String(spans.at(-1)?.to ?? 0n), integerArray(without)];
  return within === undefined ? ends : [...ends, integerArray(spans.map(({ to }) => String(to >> BigInt(within))))];
}

function arraysOf(spans: readonly Span[]): [string, string] {
  return [integerArray(spans.map(({ from }) => String(from))), integerArray(spans.map(({ to }) => String(to)))];
}

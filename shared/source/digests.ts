import type { Queryable } from "../db/connect.ts";
import { integerArray } from "../db/ident.ts";
import { query, queryOne } from "../db/query.ts";
import type { Entity } from "../entity/define-entity.ts";
import {
  DIGEST_SQL,
  drivingSql,
  freeName,
  joinsSql,
  keySql,
  memberSql,
  RECORD_KEY,
  recordsOfKeysSql,
  recordsSql,
  whereSql,
} from "./projection.ts";
import { type Span, type Bucket, type KeyDigest } from "../sql/spans.ts";

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
 * Buckets of 2^bits keys of the records that the source has now. `within`: the width of the spans, where these are
 * buckets; `without`: records that it cannot compute.
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

/** Of these keys, those of which the source has no record, whether the predicate lets it in or not. */
export async function keysWithoutRecord(source: Queryable, entity: Entity, ids: readonly string[]): Promise<string[]> {
  const [keys, key] = [freeName(entity, "k"), freeName(entity, "id")];
  const rows = await query<{ id: string }>(
    source,
    "source",
    `select ${keys}.${key}::text as id from pg_catalog.unnest($1::text::bigint[]) ${keys} (${key})
      where not exists (select from ${drivingSql(entity)} ${joinsSql(entity)} where ${keySql(entity)} = ${keys}.${key} and ${memberSql(entity)}
                         -- One index probe per key, whatever the planner thinks.
                         offset 0)`,
    [integerArray(ids)],
  );
  return rows.map(({ id }) => id);
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

/**
 * Records whose keys lie in the spans: between $1 and $2, and in the buckets of $4; but those of $3. Not a join on
 * ranges: for that the planner goes through the whole table once for each.
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

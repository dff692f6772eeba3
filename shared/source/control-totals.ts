import type { Queryable } from "../db/connect.ts";
import { integerArray } from "../db/ident.ts";
import type { Entity } from "../entity/define-entity.ts";
import { addDecimals } from "../sql/decimals.ts";
import { spanParameters, type Span } from "../sql/spans.ts";
import { drivingSql, freeName, joinsSql, keySql, whereSql } from "./projection.ts";
import { inAllSpans } from "./uncomputable.ts";
import { BUCKET_BITS, type BucketTotals, moneyColumns, queryAmounts } from "../sql/amounts.ts";

/**
 * Counts and sums of the source's settled records. What a statement over all of them cannot compute, or has no time
 * for, is asked for in halves; records that cannot be computed are left out, and named.
 */
export async function sourceTotals(
  source: Queryable,
  entity: Entity,
  unsettled: readonly string[],
): Promise<{ readonly totals: readonly BucketTotals[]; readonly refused: readonly string[] }> {
  const { results, refused } = await inAllSpans(source, entity, async (span) => ({
    span,
    totals: await totalsOf(source, entity, unsettled, span),
  }));
  // Rows without a key lie in no range.
  const whole = results.some(({ span }) => span === undefined);
  const keyless = whole ? [] : await totalsOf(source, entity, unsettled, "keyless");
  return { totals: addedUp([...results.flatMap(({ totals }) => totals), ...keyless]), refused };
}

/** Of a range of keys, of the rows without a key, or of all. */
async function totalsOf(source: Queryable, entity: Entity, unsettled: readonly string[], part: Span | "keyless" | undefined) {
  const span = part === "keyless" ? undefined : part;
  const sums = moneyColumns(entity).map((money, index) => `sum(${money.source})::text as m${index}`);
  const asked = freeName(entity, "x");
  return queryAmounts<BucketTotals>(
    entity,
    source,
    "source",
    `select (${keySql(entity)} >> ${BUCKET_BITS})::text as bucket, ${["count(*)::text as n", ...sums].join(", ")}
       ${fromProjection(entity)}
        ${span === undefined ? "" : `and ${keySql(entity)} between $2::text::bigint and $3::text::bigint`}
        ${part === "keyless" ? `and ${keySql(entity)} is null` : ""}
        and not exists (select from pg_catalog.unnest($1::text::bigint[]) ${asked} (id) where ${asked}.id = ${keySql(entity)})
      group by 1`,
    [integerArray(unsettled), ...spanParameters(span)],
  );
}

/** A bucket may have been asked for in parts. */
function addedUp(parts: readonly BucketTotals[]): BucketTotals[] {
  const buckets = new Map<string, BucketTotals>();
  for (const part of parts) {
    const before = buckets.get(part.bucket);
    const names = Object.keys(part).filter((name) => name !== "bucket");
    const sum = (name: string) => {
      const [a, b] = [before?.[name] ?? null, part[name] ?? null];
      return a === null || b === null ? (a ?? b) : addDecimals(a, b);
    };
    const sums = Object.fromEntries(names.map((name) => [name, sum(name)]));
    buckets.set(part.bucket, { ...sums, bucket: part.bucket } as BucketTotals);
  }
  return [...buckets.values()];
}

/** Every settled record of a bucket with its amounts, on the source. */
export async function sourceBucket(
  source: Queryable,
  entity: Entity,
  unsettled: readonly string[],
  bucket: string,
): Promise<Readonly<Record<string, string | null>>[]> {
  const columns = moneyColumns(entity).map((money, index) => `(${money.source})::text as m${index}`);
  const asked = freeName(entity, "x");
  return queryAmounts(
    entity,
    source,
    "source",
    `select ${[`${keySql(entity)}::text as id`, ...columns].join(", ")}
       ${fromProjection(entity)}
        and ${keySql(entity)} >> ${BUCKET_BITS} = $2::text::bigint
        and not exists (select from pg_catalog.unnest($1::text::bigint[]) ${asked} (id) where ${asked}.id = ${keySql(entity)})`,
    [integerArray(unsettled), bucket],
  );
}

function fromProjection(entity: Entity): string {
  return `from ${drivingSql(entity)} ${joinsSql(entity)} where ${whereSql(entity)}`;
}

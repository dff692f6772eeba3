import type { Queryable } from "../db/connect.ts";
import { ident, integerArray } from "../db/ident.ts";
import { query, queryOne } from "../db/query.ts";
import type { Entity } from "../entity/define-entity.ts";
import type { Claim, PageMessage } from "../page/types.ts";
import { addDecimals } from "./decimals.ts";
import { spanParameters, type Span } from "./digests.ts";
import { columnSql, drivingSql, freeName, joinsSql, keySql, whereSql } from "../source/projection.ts";
import { inAllSpans } from "../source/uncomputable.ts";
import { IF_FITTING } from "./fitting.ts";

/** Keys are summed in buckets of 2^14 neighbours, and only buckets that differ are looked into. */
const BUCKET_BITS = 14;

/** Money column of the target, the name under which its sums are told, and how the source spells it. */
export type MoneyColumns = readonly { readonly target: string; readonly told: string; readonly source: string }[];
/** Count and exact sums of a bucket, as text: `{n, <column>: sum}`. */
export type BucketTotals = Readonly<Record<string, string | null>> & { readonly bucket: string; readonly n: string };

/** What totals tell besides money. */
const TOLD = ["bucket", "n", "id"];

export function moneyColumns(entity: Entity): MoneyColumns {
  return Object.entries(entity.fields)
    .filter(([, field]) => field.money)
    .map(([target, field]) => {
      const column = entity.source.columns[field.columns[0] ?? ""];
      // No two columns are told by one name, whatever they are called.
      const told = TOLD.includes(target) || target.endsWith(" (money)") ? `${target} (money)` : target;
      return { target, told, source: column === undefined ? "null" : columnSql(column) };
    });
}

/** Records that a comparison leaves out: in the queue, asked to be read again, or edited by people. */
export async function unsettledKeys(target: Queryable, entityId: number, entity: Entity): Promise<string[]> {
  const columns = moneyColumns(entity).map((money) => money.target);
  const rows = await query<{ id: string }>(
    target,
    "target",
    `select source_record_id::text as id from public.sync_conflicts where entity_id = $1 and (state in ('waiting', 'open') or standing)
     union select legacy_id::text from public.sync_pending_keys where entity_id = $1
     union select k::text from sync.edited_records($1::integer::smallint, array(select jsonb_array_elements_text($2::text::jsonb))) k`,
    [entityId, JSON.stringify(columns)],
  );
  return rows.map((row) => row.id);
}

/** Of these records, those whose target row somebody has deleted, or edited in a column of money, since it was written. */
export async function changedInTarget(
  target: Queryable,
  entityId: number,
  entity: Entity,
  ids: readonly string[],
): Promise<string[]> {
  if (ids.length === 0) return [];
  const columns = moneyColumns(entity).map((money) => money.target);
  const rows = await query<{ id: string }>(
    target,
    "target",
    `select d.legacy_id::text as id
       from pg_catalog.unnest($3::text::bigint[]) k cross join lateral sync.drifted_rows($1::integer::smallint, k, k, 1, null) d where d.finding = 'target_deleted'
     union
     select k::text from sync.edited_records($1::integer::smallint, array(select jsonb_array_elements_text($2::text::jsonb))) k
      where k = any ($3::text::bigint[])`,
    [entityId, JSON.stringify(columns), integerArray(ids)],
  );
  return rows.map((row) => row.id);
}

/**
 * Counts and sums of the source's settled records. What a statement over all of them cannot compute, or has no time for, is asked for
 * in halves; records that cannot be computed are left out, and named.
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

export async function targetTotals(
  target: Queryable,
  entityId: number,
  entity: Entity,
  unsettled: readonly string[],
): Promise<BucketTotals[]> {
  const sums = moneyColumns(entity).map((money, index) => `sum(t.${ident(money.target)})::text as m${index}`);
  return queryAmounts<BucketTotals>(
    entity,
    target,
    "target",
    `select (s.legacy_id >> ${BUCKET_BITS})::text as bucket, ${["count(*)::text as n", ...sums].join(", ")}
       ${fromLanded(entity)}
        and not exists (select from pg_catalog.unnest($2::text::bigint[]) x where x = s.legacy_id)
      group by 1`,
    [entityId, integerArray(unsettled)],
  );
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

export async function targetBucket(
  target: Queryable,
  entityId: number,
  entity: Entity,
  unsettled: readonly string[],
  bucket: string,
): Promise<Readonly<Record<string, string | null>>[]> {
  const columns = moneyColumns(entity).map((money, index) => `t.${ident(money.target)}::text as m${index}`);
  return queryAmounts(
    entity,
    target,
    "target",
    `select ${["s.legacy_id::text as id", ...columns].join(", ")}
       ${fromLanded(entity)}
        and s.legacy_id >> ${BUCKET_BITS} = $3::text::bigint
        and not exists (select from pg_catalog.unnest($2::text::bigint[]) x where x = s.legacy_id)`,
    [entityId, integerArray(unsettled), bucket],
  );
}

/** The records that differed in the first round, and have been read once more since. */
export async function readOnceMore(target: Queryable, execution: string, entity: string): Promise<string[]> {
  const rows = await query<{ id: string }>(
    target,
    "target",
    `select jsonb_array_elements_text(body -> 'differing') as id from public.sync_reports
      where execution_id = $1 and kind = $2 and round = 1`,
    [execution, `control_totals:${entity}`],
  );
  return rows.map((row) => row.id);
}

export async function commitValidation(
  target: Queryable,
  claim: Claim,
  result: { entityId: number | null; report: object; recheck: readonly string[]; last: boolean; leaseSeconds: number },
): Promise<PageMessage[]> {
  const row = await queryOne<{ messages: PageMessage[] }>(
    target,
    "target",
    `select sync.commit_validation($1, $2, $3::integer::smallint, $4::text::jsonb, $5::text::bigint[], $6, $7) as messages ${IF_FITTING}`,
    [
      claim.chain.id,
      claim.chain.lease,
      result.entityId,
      JSON.stringify(result.report),
      integerArray(result.recheck),
      result.last,
      result.leaseSeconds,
    ],
  );
  return row.messages;
}

/** Rows of keys, counts and amounts, each amount in the one form that it has without trailing zeros. */
async function queryAmounts<Row extends Readonly<Record<string, string | null>>>(
  entity: Entity,
  ...args: Parameters<typeof query>
): Promise<Row[]> {
  const rows = await query<Row>(...args);
  const told = new Map(moneyColumns(entity).map((money, index) => [`m${index}`, money.told]));
  const trimmed = (row: Row) =>
    Object.entries(row).map(([name, text]) => [told.get(name) ?? name, text === null ? null : trimScale(text)]);
  return rows.map((row) => Object.fromEntries(trimmed(row)) as Row);
}

/** A number's text without trailing zeros behind its point; trim_scale of PostgreSQL 13, for sources that have none. */
export function trimScale(text: string): string {
  return text.includes(".") ? text.replace(/\.?0+$/, "") : text;
}

/** Landed records with their rows, found by id: the legacy key is a column that people can edit. $1: the entity's id. */
function fromLanded(entity: Entity): string {
  return `from public.sync_row_states s
       join public.sync_entities e on e.id = s.entity_id
       join public.uuid_mappings_enhanced m
         on m.source_id = e.source_id and m.entity_type = e.entity_type and m.legacy_id = s.legacy_id
       join public.${ident(entity.target.table)} t on t.id = m.entity_uuid
      where s.entity_id = $1 and s.gone_at is null`;
}

function fromProjection(entity: Entity): string {
  return `from ${drivingSql(entity)} ${joinsSql(entity)} where ${whereSql(entity)}`;
}

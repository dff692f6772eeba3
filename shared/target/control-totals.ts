import type { Queryable } from "../db/connect.ts";
import { ident, integerArray } from "../db/ident.ts";
import { query, queryOne } from "../db/query.ts";
import type { Entity } from "../entity/define-entity.ts";
import type { Claim } from "./claims.ts";
import type { PageMessage } from "./sending.ts";
import { IF_FITTING } from "../sql/fitting.ts";
import { BUCKET_BITS, type BucketTotals, moneyColumns, queryAmounts } from "../sql/amounts.ts";

/** Records that a comparison leaves out: in the queue, asked to be read again, or edited by people. */
export async function unsettledKeys(target: Queryable, entityId: number, entity: Entity): Promise<string[]> {
  const columns = moneyColumns(entity).map((money) => money.target);
  const rows = await query<{ id: string }>(
    target,
    "target",
    `select source_record_id::text as id from public.sync_conflicts where entity_id = $1 and (state in ('waiting', 'open') or standing)
     union select legacy_id::text from public.sync_pending_keys where execution_id is null and entity_id = $1
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

/** Landed records with their rows, found by id: the legacy key is a column that people can edit. $1: the entity's id. */
function fromLanded(entity: Entity): string {
  return `from public.sync_row_states s
       join public.sync_entities e on e.id = s.entity_id
       join public.uuid_mappings_enhanced m
         on m.source_id = e.source_id and m.entity_type = e.entity_type and m.legacy_id = s.legacy_id
       join public.${ident(entity.target.table)} t on t.id = m.entity_uuid
      where s.entity_id = $1 and s.gone_at is null`;
}

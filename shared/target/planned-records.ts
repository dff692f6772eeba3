import type { Queryable } from "../db/connect.ts";
import { query, queryOne } from "../db/query.ts";
import type { Claim } from "./claims.ts";
import type { PageMessage } from "./sending.ts";
import type { RecordId, Mapping } from "./mappings.ts";
import { IF_FITTING } from "../sql/fitting.ts";

/** Of these records, those that the dry run has planned to land or to delete. */
export async function findPlanned(target: Queryable, claim: Claim, keys: readonly RecordId[]): Promise<Mapping[]> {
  if (keys.length === 0) return [];
  return query<Mapping>(
    target,
    "target",
    `select k.entity, k."legacyId"::text as "legacyId", r.id::text as uuid, r.lands as active
       from json_to_recordset($3::text::json) as k (entity text, "legacyId" bigint)
       join public.sync_entities e on e.source_id = $1 and e.entity_type = k.entity
       -- One index probe per record, whatever the planner thinks.
       cross join lateral (select r.id, r.lands from public.sync_planned_records r
                            where r.execution_id = $2 and r.entity_id = e.id and r.legacy_id = k."legacyId" and r.lands is not null limit 1) r`,
    [claim.source.id, claim.execution.id, JSON.stringify(keys)],
  );
}

/** Writes the report of one entity and forgets up to `rows` of its planned records. */
export async function commitPlan(target: Queryable, claim: Claim, leaseSeconds: number, rows: number): Promise<PageMessage[]> {
  const row = await queryOne<{ messages: PageMessage[] }>(
    target,
    "target",
    `select sync.commit_plan($1, $2, $3, $4) as messages ${IF_FITTING}`,
    [claim.chain.id, claim.chain.lease, leaseSeconds, rows],
  );
  return row.messages;
}

/** Forgets some of what failed dry runs have left behind. */
export async function forgetClosedPlans(target: Queryable, rows: number): Promise<void> {
  await query(target, "target", "select sync.forget_closed_plans($1)", [rows]);
}

import type { Queryable } from "../db/connect.ts";
import { integerArray } from "../db/ident.ts";
import { query } from "../db/query.ts";
import { keysBefore, keysBehind } from "../sql/key-range.ts";

/** A request to read a record: its generation, and why it was made. */
export interface PendingKey {
  readonly k: string;
  readonly g: string;
  readonly r: string;
}

/** A key of a page. `beside`: it stands beyond the page, which takes it because it is one of a circle, or is to go with its keys. */
export type FoundKey = PendingKey & { readonly beside: boolean };

/**
 * The next keys that were asked to be read again, in earnest or by a dry run (its execution), ascending, with the
 * generation of each request and its reason. With `upTo` those whose records the source no longer has, asked for up
 * to that generation, downwards: a record refers to older ones rather than to younger ones. In earnest, those that
 * refer to them all the same stand beside these.
 */
export async function pendingKeys(
  target: Queryable,
  dryRun: string | null,
  entityId: number,
  after: string | null,
  limit: number,
  upTo: string | null,
): Promise<FoundKey[]> {
  const owner = dryRun === null ? [] : [dryRun];
  const parameters = [entityId, after, limit, ...(upTo === null ? [] : [upTo]), ...owner];
  const page = await query<FoundKey>(target, "target", pageOfKeys(dryRun === null ? null : parameters.length, upTo), parameters);
  if (dryRun !== null || upTo === null || page.length === 0) return page;
  const keys = integerArray(page.map(({ k }) => k));
  const relatives = await query<FoundKey>(
    target,
    "target",
    `select legacy_id::text as k, generation::text as g, reason as r, true as beside
       from sync.gone_relatives($1::integer::smallint, $2::text::bigint[], $3::text::bigint, $4)`,
    [entityId, keys, upTo, 10 * limit],
  );
  return [...page, ...relatives];
}

/**
 * A page of the keys asked for, and beside it the others of a circle of records that wait for each other, unless
 * these would be far more than a page: one by one they would wait for ever. `dryRun`: the number of the parameter.
 */
function pageOfKeys(dryRun: number | null, upTo: string | null): string {
  const asked = (alias: string) =>
    `${alias}.entity_id = $1 and ${alias}.execution_id ${dryRun === null ? "is null" : `= $${dryRun}::uuid`}`;
  return `with page as materialized (
       select p.legacy_id, p.generation, p.reason, p.circle from public.sync_pending_keys p
        where ${asked("p")} and ${nextKeys(upTo)} limit $3::bigint
     ), beside as materialized (
       select o.legacy_id, o.generation, o.reason
         from (select distinct page.circle from page where page.circle is not null) c
         join public.sync_pending_keys o on ${asked("o")} and o.circle = c.circle and not o.gone
        where (select count(*) from public.sync_pending_keys x where ${asked("x")} and x.circle = c.circle) <= 10 * $3::bigint
          and not exists (select from page p where p.legacy_id = o.legacy_id)
     )
     select legacy_id::text as k, generation::text as g, reason as r, false as beside from page
     union all
     select legacy_id::text, generation::text, reason, true from beside`;
}

/** Condition and order of a page of keys. The execution, one for all of them, stands in the order so that the index has it. */
function nextKeys(upTo: string | null): string {
  const at = "$2::text::bigint";
  return upTo === null
    ? `not gone and ${keysBehind("legacy_id", at)} order by execution_id, legacy_id`
    : `gone and generation <= $4::text::bigint and ${keysBefore("legacy_id", at)} order by execution_id desc, legacy_id desc`;
}

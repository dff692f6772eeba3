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
 * The next keys that were asked to be read again, ascending, with the generation of each request and its reason. With `upTo`
 * those whose records the source no longer has, asked for up to that generation, downwards: a record refers to older ones
 * rather than to younger ones. Beside these stand those that refer to them all the same.
 */
export async function pendingKeys(
  target: Queryable,
  entityId: number,
  after: string | null,
  limit: number,
  upTo: string | null,
): Promise<FoundKey[]> {
  const { text, parameters } = pageOfKeys("public.sync_pending_keys", { entity_id: entityId }, after, limit, upTo);
  const page = await query<FoundKey>(target, "target", text, parameters);
  if (upTo === null || page.length === 0) return page;
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
 * A page of the keys asked for, and beside it the others of a circle of records that wait for each other, unless these would be
 * far more than a page: one by one they would wait for ever.
 */
export function pageOfKeys(
  table: string,
  owner: Readonly<Record<string, string | number>>,
  after: string | null,
  limit: number,
  upTo: string | null,
): { text: string; parameters: (string | number | null)[] } {
  const values = Object.values(owner);
  const owned = (alias: string) =>
    Object.keys(owner)
      .map((column, index) => `${alias}.${column} = $${index + 1}`)
      .join(" and ");
  const cursor = values.length + 1;
  const text = `with page as materialized (
       select p.legacy_id, p.generation, p.reason, p.circle from ${table} p
        where ${owned("p")} and ${nextKeys(upTo, cursor, cursor + 2)} limit $${cursor + 1}::bigint
     ), beside as materialized (
       select o.legacy_id, o.generation, o.reason
         from (select distinct page.circle from page where page.circle is not null) c
         join ${table} o on ${owned("o")} and o.circle = c.circle and not o.gone
        where (select count(*) from ${table} x where ${owned("x")} and x.circle = c.circle) <= 10 * $${cursor + 1}::bigint
          and not exists (select from page p where p.legacy_id = o.legacy_id)
     )
     select legacy_id::text as k, generation::text as g, reason as r, false as beside from page
     union all
     select legacy_id::text, generation::text, reason, true from beside`;
  return { text, parameters: [...values, after, limit, ...(upTo === null ? [] : [upTo])] };
}

/** Condition and order of a page of keys: the parameters of its cursor, and of the last generation. */
function nextKeys(upTo: string | null, cursor: number, generation: number): string {
  const at = `$${cursor}::text::bigint`;
  return upTo === null
    ? `not gone and ${keysBehind("legacy_id", at)} order by legacy_id`
    : `gone and generation <= $${generation}::text::bigint and ${keysBefore("legacy_id", at)} order by legacy_id desc`;
}

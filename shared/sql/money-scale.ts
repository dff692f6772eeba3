import type { Sql } from "../db/connect.ts";
import { query } from "../db/query.ts";
import { IsthmusError } from "../errors.ts";
import type { Side } from "../db/settings.ts";

/**
 * Every lc_monetary that the server, the database or a role of the database has of its own, as a JSON array in SQL: amounts were written under one
 * of them. What a transaction of ours pins is none of them.
 */
export const LC_MONETARY = `(
  select pg_catalog.jsonb_agg(l.value order by l.value) from (
    select reset_val as value from pg_settings where name = 'lc_monetary'
    union
    select substr(c.value, length('lc_monetary=') + 1) from pg_db_role_setting s cross join pg_catalog.unnest(s.setconfig) c (value)
     where s.setdatabase in (0, (select d.oid from pg_database d where d.datname = current_database())) and c.value like 'lc_monetary=%') l)`;

/** invalid_parameter_value: so the server refuses a locale that it does not have. */
const INVALID_VALUE = "22023";

/** How many units of a money column are 1 under an lc_monetary: 100 where amounts have two decimals. undefined: the server has no such locale. */
export async function moneyScale(db: Sql, side: Side, lcMonetary: string): Promise<number | undefined> {
  const rows = await query<{ scale: string }>(
    db,
    side,
    // Of the transaction alone, which is this statement.
    `select ('x' || encode(cash_send(l.one::money), 'hex'))::bit(64)::bigint::text as scale
       from (select 1 as one from (select set_config('lc_monetary', $1, true) offset 0) s offset 0) l`,
    [lcMonetary],
  ).catch((error: unknown) => {
    if (error instanceof IsthmusError && error.detail["sqlstate"] === INVALID_VALUE) return [];
    throw error;
  });
  return rows[0] && Number(rows[0].scale);
}

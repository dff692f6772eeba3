import type { Sql } from "../db/connect.ts";
import { query } from "../db/query.ts";
import { IsthmusError } from "../errors.ts";
import type { Side } from "../db/settings.ts";

/**
 * Every lc_monetary that sessions in this database begin with, as a JSON array in SQL: amounts were written under one
 * of them. A role's own stands before the database's, and that before the server's. What a transaction of ours pins
 * is none of them. The server's counts where neither the database nor all roles together have one; a role of ours
 * that has its own cannot see it: null.
 */
export const LC_MONETARY = `(
  with own as (
    select s.setrole, substr(c.value, length('lc_monetary=') + 1) as value
      from pg_db_role_setting s cross join pg_catalog.unnest(s.setconfig) c (value)
     where s.setdatabase in (0, (select d.oid from pg_database d where d.datname = current_database())) and c.value like 'lc_monetary=%')
  select pg_catalog.jsonb_agg(l.value order by l.value) from (
    select o.value from own o
    union
    select case when not exists (select from own o join pg_roles r on r.oid = o.setrole where r.rolname = session_user) then g.reset_val end
      from pg_settings g where g.name = 'lc_monetary' and not exists (select from own o where o.setrole = 0)) l)`;

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

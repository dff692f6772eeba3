import type postgres from "postgres";

/** Time limits of the role or the database that would end a transaction of setup. Not every version knows each. */
const LIMITS = ["statement_timeout", "transaction_timeout", "idle_in_transaction_session_timeout"];

/** Has the rest of a transaction take as long as its work takes. */
export async function withoutLimits(tx: postgres.TransactionSql): Promise<void> {
  await tx`select set_config(name, '0', true) from pg_settings where name in ${tx(LIMITS)}`;
}

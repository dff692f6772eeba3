import type { Queryable } from "../db/connect.ts";
import { query } from "../db/query.ts";
import { scannedParameter } from "../sql/xid.ts";

/** The transaction that is the horizon: the oldest one that runs. Never its statements. */
export interface HorizonHolder {
  readonly kind: "session" | "prepared";
  /** The session's process id, or the prepared transaction's name. */
  readonly id: string;
  readonly application: string | null;
  readonly database: string | null;
  readonly user: string | null;
  /** How long it has been open; null: the role may not see that of others. */
  readonly seconds: number | null;
}

/**
 * Who holds the horizon; undefined when the transaction has ended, or runs on the primary of a replica. A horizon is
 * the oldest transaction that writes, so neither readers nor replication slots hold it: those hold back vacuum alone.
 */
export async function horizonHolder(source: Queryable, horizon: string): Promise<HorizonHolder | undefined> {
  const [holder] = await query<HorizonHolder>(
    source,
    "source",
    `select 'session' as kind, pid::text as id, nullif(application_name, '') as application, datname as database, usename as "user",
            extract(epoch from clock_timestamp() - xact_start)::integer as seconds
       from pg_stat_activity where backend_xid::text = $1
      union all
     select 'prepared', gid, null, database, owner, extract(epoch from clock_timestamp() - prepared)::integer
       from pg_prepared_xacts where transaction::text = $1`,
    [scannedParameter(horizon)],
  );
  return holder;
}

import type { SourcePosition } from "../sql/position.ts";
import type { Queryable } from "../db/connect.ts";
import { queryOne } from "../db/query.ts";
import { serverVersion, snapshotSql } from "./version.ts";

/**
 * A promoted replica has its new timeline in the control file only after its first checkpoint, minutes later; the name
 * of the segment that it writes has it at once. A replica writes none.
 */
const TIMELINE = `case when pg_is_in_recovery() then p.timeline_id
                 else ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::integer end`;

/** The commit horizon and the identity of the node that answers. Taken before anything else is read. */
export async function sourcePosition(source: Queryable): Promise<SourcePosition> {
  const snapshot = snapshotSql(await serverVersion(source));
  return queryOne<SourcePosition>(
    source,
    "source",
    `select ${snapshot.xmin("s")}::text as xmin, ${snapshot.xmax("s")}::text as xmax, c.system_identifier::text,
            ${TIMELINE} as timeline, pg_is_in_recovery() as in_recovery,
            (select d.oid::text from pg_database d where d.datname = current_database()) as database_oid,
            current_database() as database_name,
            to_char(pg_postmaster_start_time() at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') as server_start,
            current_setting('server_version_num')::integer as server_version,
            pg_catalog.to_json(clock_timestamp()) #>> '{}' as source_time
       from ${snapshot.current} s, pg_control_system() c, pg_control_checkpoint() p`,
  );
}

/** Server and database. A replica, a failover and a backup of the same server have the same; a dump that was restored elsewhere has another. */
export function identityOf({
  system_identifier,
  database_oid,
}: Pick<SourcePosition, "system_identifier" | "database_oid">): string {
  return `${system_identifier}/${database_oid}`;
}

/** Who answered before. */
export interface KnownSource {
  readonly system_identifier: string;
  readonly timeline: number;
  readonly database_oid: string;
}

/**
 * Whether the node that answers holds everything that was read up to a horizon. A replica that does not lags behind.
 * A primary that does not was put back, from a backup, to a point in time, by a failover or by a crash that took its
 * last transactions: it gives their ids away again. One on another timeline (`promoted`) may have lost some and be
 * past the horizon with others.
 */
export function whereaboutsOf(
  known: KnownSource,
  horizon: string,
  position: SourcePosition,
): "same" | "changed" | "promoted" | "restored" | "behind" {
  if (identityOf(known) !== identityOf(position)) return "changed";
  if (BigInt(position.xmin) < BigInt(horizon)) return position.in_recovery ? "behind" : "restored";
  return known.timeline === position.timeline ? "same" : "promoted";
}

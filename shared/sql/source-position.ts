import type { Queryable } from "../db/connect.ts";
import { queryOne } from "../db/query.ts";

/** Where the reading node stands. Transaction ids are 64 bits wide, as text. */
export interface SourcePosition {
  readonly xmin: string;
  readonly xmax: string;
  readonly system_identifier: string;
  readonly timeline: number;
  readonly in_recovery: boolean;
  readonly server_version: number;
  /** The node's clock, with microseconds. */
  readonly source_time: string;
}

/**
 * A promoted replica has its new timeline in the control file only after its first checkpoint, minutes later; the name
 * of the segment that it writes has it at once. A replica writes none.
 */
const TIMELINE = `case when pg_is_in_recovery() then p.timeline_id
                 else ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::integer end`;

/** The commit horizon and the identity of the node that answers. Taken before anything else is read. */
export async function sourcePosition(source: Queryable): Promise<SourcePosition> {
  return queryOne<SourcePosition>(
    source,
    "source",
    `select pg_snapshot_xmin(s)::text as xmin, pg_snapshot_xmax(s)::text as xmax, c.system_identifier::text,
            ${TIMELINE} as timeline, pg_is_in_recovery() as in_recovery,
            current_setting('server_version_num')::integer as server_version,
            to_json(clock_timestamp()) #>> '{}' as source_time
       from pg_current_snapshot() s, pg_control_system() c, pg_control_checkpoint() p`,
  );
}

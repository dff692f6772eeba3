import type { Queryable } from "../db/connect.ts";
import { queryOne } from "../db/query.ts";

/** How a version spells what horizons rest on. */
export interface SnapshotSql {
  readonly current: string;
  readonly xmin: (snapshot: string) => string;
  readonly xmax: (snapshot: string) => string;
}

/** PostgreSQL 13 renamed these functions; their ids are 64 bits wide before and after. */
export function snapshotSql(version: number): SnapshotSql {
  const [current, prefix] = version >= 130_000 ? ["pg_current_snapshot()", "pg"] : ["txid_current_snapshot()", "txid"];
  return {
    current,
    xmin: (snapshot) => `${prefix}_snapshot_xmin(${snapshot})`,
    xmax: (snapshot) => `${prefix}_snapshot_xmax(${snapshot})`,
  };
}

const known = new WeakMap<Queryable, Promise<number>>();

/** The version of the server behind a connection, as a number such as 170010. Asked once: no node is replaced by an older one. */
export function serverVersion(db: Queryable): Promise<number> {
  const earlier = known.get(db);
  if (earlier) return earlier;
  const answer = ask(db);
  known.set(db, answer);
  answer.catch(() => known.delete(db));
  return answer;
}

async function ask(db: Queryable): Promise<number> {
  const row = await queryOne<{ version: number }>(
    db,
    "source",
    "select current_setting('server_version_num')::integer as version",
  );
  return row.version;
}

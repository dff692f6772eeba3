import type { Queryable } from "../db/connect.ts";
import { queryOne } from "../db/query.ts";
import type { Side } from "../db/settings.ts";

export interface NodeFacts {
  /** For example 17.6. */
  readonly version: string;
  readonly role: "primary" | "replica";
}

/** Which PostgreSQL answers. */
export async function nodeFacts(db: Queryable, side: Side): Promise<NodeFacts> {
  return queryOne<NodeFacts>(
    db,
    side,
    `select current_setting('server_version_num')::integer / 10000 || '.' || current_setting('server_version_num')::integer % 10000 as version,
            case when pg_is_in_recovery() then 'replica' else 'primary' end as role`,
  );
}

import type { Queryable } from "../db/connect.ts";
import { query } from "../db/query.ts";

/** What the last inspection of a source chose for a table. */
export interface KeptCapability {
  readonly capture: string | null;
  readonly backedBy: string | null;
  readonly reason: string;
}

/** Keeps what an inspection chose in sync_sources.capabilities; `inspected_at` tells since when it has been that. */
export async function keepCapabilities(
  target: Queryable,
  sourceId: number,
  tables: Readonly<Record<string, KeptCapability>>,
): Promise<void> {
  await query(
    target,
    "target",
    `update public.sync_sources
        set capabilities = capabilities || jsonb_build_object('tables', $2::text::jsonb, 'inspected_at', now())
      where id = $1::integer::smallint and capabilities -> 'tables' is distinct from $2::text::jsonb`,
    [sourceId, JSON.stringify(tables)],
  );
}

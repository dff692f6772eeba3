import type { Queryable } from "../db/connect.ts";
import { query, queryOne } from "../db/query.ts";

export interface Cancelled {
  readonly execution: string;
  readonly status: string;
  /** Pages that may still commit; no other begins. */
  readonly pagesAtWork: number;
}

/** Cancels an execution, or with null all that run. @throws IsthmusError EXECUTION_CLOSED when it has ended already. */
export async function cancelExecutions(target: Queryable, execution: string | null, by: string): Promise<Cancelled[]> {
  const row = await queryOne<{ cancelled: Cancelled[] }>(
    target,
    "target",
    "select sync.cancel_executions($1::text::uuid, $2) as cancelled",
    [execution, by],
  );
  return row.cancelled;
}

/** Closes what is left of cancelled executions. Returns those whose sums are set now. */
export async function settleCancelled(target: Queryable): Promise<string[]> {
  const rows = await query<{ id: string }>(target, "target", "select sync.settle_cancelled() as id");
  return rows.map(({ id }) => id);
}

/** Stops chains whose page made no progress in so many tries, or of whose execution nothing moved for so long. Returns the executions. */
export async function stopStalled(target: Queryable, tries: number, minutes: number): Promise<string[]> {
  const rows = await query<{ id: string }>(target, "target", "select sync.stop_stalled($1, $2) as id", [tries, minutes]);
  return rows.map(({ id }) => id);
}

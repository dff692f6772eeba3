import type { Queryable } from "../db/connect.ts";
import { query, queryOne } from "../db/query.ts";
import type { DescribedError } from "../errors.ts";

/** Whether a tick looks at the source before all else: something needs it, or has met it refusing. */
export async function asksSource(target: Queryable, sourceId: number): Promise<boolean> {
  const row = await queryOne<{ asks: boolean }>(target, "target", "select sync.asks_source($1::integer::smallint) as asks", [
    sourceId,
  ]);
  return row.asks;
}

/** What a look at the source has found, null: it answers. Opens or closes its alert, and lets go on what has waited for it. */
export async function noteSource(
  target: Queryable,
  sourceId: number,
  refusal: DescribedError | null,
  message: string,
): Promise<void> {
  await query(target, "target", "select sync.note_source($1::integer::smallint, $2::text::jsonb, $3)", [
    sourceId,
    refusal === null ? null : JSON.stringify(refusal),
    message,
  ]);
}

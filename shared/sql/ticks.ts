import type { Queryable } from "../db/connect.ts";
import { query, queryOne } from "../db/query.ts";

/** A tick begins its work on this target. @returns what endTick() takes. */
export async function beginTick(target: Queryable, call: string | null): Promise<string> {
  return (await queryOne<{ id: string }>(target, "target", "select sync.begin_tick($1::text::uuid) as id", [call])).id;
}

/** It has done its work, but for the parts that failed: the alerts about missing ticks close. */
export async function endTick(target: Queryable, id: string, failed: readonly string[] = []): Promise<void> {
  if (failed.length > 0)
    await query(
      target,
      "target",
      "select sync.note_failed_parts($1::text::uuid, array(select jsonb_array_elements_text($2::text::jsonb)))",
      [id, JSON.stringify(failed)],
    );
  await query(target, "target", "select sync.end_tick($1::text::uuid)", [id]);
}

/** Whether messages about alerts do not arrive, and why; null: they do, or nobody is told. */
export async function undelivered(target: Queryable): Promise<string | null> {
  const rows = await query<{ message: string }>(
    target,
    "target",
    "select message from public.sync_alerts where kind = 'alert_undelivered' and closed_at is null",
  );
  return rows[0]?.message ?? null;
}

import type { Queryable } from "../db/connect.ts";
import { query, queryOne } from "../db/query.ts";

/** A tick begins its work on this target. @returns what endTick() takes. */
export async function beginTick(target: Queryable, call: string | null): Promise<string> {
  return (await queryOne<{ id: string }>(target, "target", "select sync.begin_tick($1::text::uuid) as id", [call])).id;
}

/** It has done its work, but for the parts that failed (each with its code) and those that had nothing to look at: the alerts about missing ticks close. */
export async function endTick(
  target: Queryable,
  id: string,
  failed: readonly string[] = [],
  idle: readonly string[] = [],
): Promise<void> {
  if (idle.length > 0)
    await query(
      target,
      "target",
      "select sync.note_idle_parts($1::text::uuid, array(select jsonb_array_elements_text($2::text::jsonb)))",
      [id, JSON.stringify(idle)],
    );
  if (failed.length > 0)
    await query(
      target,
      "target",
      "select sync.note_failed_parts($1::text::uuid, array(select jsonb_array_elements_text($2::text::jsonb)))",
      [id, JSON.stringify(failed)],
    );
  await query(target, "target", "select sync.end_tick($1::text::uuid)", [id]);
}

/** Why people are not told of alerts: messages do not arrive, or nobody sends them. Null: they are told, or nobody is to be. */
export async function undelivered(target: Queryable): Promise<string | null> {
  await query(target, "target", "select sync.watch_delivery()");
  const rows = await query<{ message: string }>(
    target,
    "target",
    "select message from public.sync_alerts where kind in ('alert_undelivered', 'alerts_not_delivered') and closed_at is null order by kind, subject",
  );
  return rows.length === 0 ? null : rows.map(({ message }) => message).join(" ");
}

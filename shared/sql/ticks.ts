import type { Queryable } from "../db/connect.ts";
import { query, queryOne } from "../db/query.ts";

/** A tick begins its work on this target. @returns what endTick() takes. */
export async function beginTick(target: Queryable, call: string | null): Promise<string> {
  return (await queryOne<{ id: string }>(target, "target", "select sync.begin_tick($1::text::uuid) as id", [call])).id;
}

/** It has done its work: the alerts about missing ticks close. */
export async function endTick(target: Queryable, id: string): Promise<void> {
  await query(target, "target", "select sync.end_tick($1::text::uuid)", [id]);
}

import type postgres from "postgres";
import { arrivals } from "./edits/arrivals.ts";
import { largeEdits } from "./edits/large.ts";
import { moves } from "./edits/moves.ts";
import { scatteredEdits } from "./edits/scattered.ts";
import type { Edit } from "./edits/edit.ts";
import { openConnection } from "./connect.ts";

export type EditSummary = Readonly<Record<string, { readonly inserted: number; readonly updated: number }>>;

/**
 * A morning's work in the old application: about `count` scattered changes, none of which touches a modification
 * time, as Django's bulk updates do. Deterministic for a seed and the data it meets.
 */
export async function applyEdits(options: { url: string; seed?: number; count?: number }): Promise<EditSummary> {
  const { seed = 1, count = 300 } = options;
  const sql = openConnection(options.url);
  const summary: Record<string, { inserted: number; updated: number }> = {};
  const run = async (connection: postgres.ISql, { table, kind, statement }: Edit) => {
    const { count: rows } = await connection.unsafe(statement);
    (summary[table] ??= { inserted: 0, updated: 0 })[kind] += rows;
  };
  const inOneTransaction = (edits: readonly Edit[]) =>
    sql.begin(async (tx) => {
      for (const edit of edits) await run(tx, edit);
    });
  try {
    const drawn = Math.trunc(seed);
    for (const edit of [...scatteredEdits(drawn, count), ...largeEdits(drawn, count)]) await run(sql, edit);
    await inOneTransaction(moves(drawn, count));
    await inOneTransaction(await arrivals(sql, drawn, Math.max(2, Math.round(count * 0.04))));
  } finally {
    await sql.end();
  }
  return summary;
}

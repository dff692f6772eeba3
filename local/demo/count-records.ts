import postgres from "postgres";
import { installation } from "../../functions/installation.gen.ts";

/** How many records each entity has, to give the progress bars their length: at most, where only some of the rows are records. */
export async function countRecords(sourceUrl: string, entities: readonly string[]): Promise<ReadonlyMap<string, number>> {
  const sql = postgres(sourceUrl, { max: 1 });
  try {
    const counts = new Map<string, number>();
    for (const { name, source } of installation.entities) {
      if (!entities.includes(name)) continue;
      const [row] = await sql<{ n: number }[]>`select count(*)::integer as n from ${sql(source.table)}`;
      counts.set(name, row?.n ?? 0);
    }
    return counts;
  } finally {
    await sql.end();
  }
}

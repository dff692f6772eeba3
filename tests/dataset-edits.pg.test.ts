import type { Sql } from "postgres";
import { describe, expect, it } from "vitest";
import { applyEdits } from "../clinic/dataset/edit.ts";
import { loadLegacy } from "../clinic/dataset/load.ts";
import { createTestSource } from "./support/databases.ts";

describe("edits", () => {
  it("change what they say, no timestamp with it, and the same rows for the same seed", async () => {
    await using one = await createTestSource();
    await using other = await createTestSource();
    for (const db of [one, other]) await loadLegacy({ url: db.superuserUrl, scale: 0.02, logScale: 0.0002 });
    const before = await rowHashes(one.admin);
    const summary = await applyEdits({ url: one.superuserUrl, seed: 5, count: 100 });
    expect(await applyEdits({ url: other.superuserUrl, seed: 5, count: 100 })).toEqual(summary);
    const after = await rowHashes(one.admin);
    expect(await rowHashes(other.admin)).toEqual(after);
    for (const [table, rows] of Object.entries(after)) {
      const old = before[table] ?? {};
      const ids = Object.keys(rows);
      expect(
        Object.keys(old).filter((id) => !(id in rows)),
        table,
      ).toEqual([]);
      expect(ids.filter((id) => !(id in old)).length, table).toBe(summary[table]?.inserted ?? 0);
      const changed = ids.filter((id) => id in old && old[id]?.row !== rows[id]?.row);
      // Two edits can meet in one row.
      expect(changed.length, table).toBeLessThanOrEqual(summary[table]?.updated ?? 0);
      if ((summary[table]?.updated ?? 0) > 0) expect(changed, table).not.toEqual([]);
      for (const id of changed) expect(rows[id]?.times, `${table} ${id}`).toBe(old[id]?.times);
    }
    expect(Object.values(summary).reduce((sum, { inserted, updated }) => sum + inserted + updated, 0)).toBeGreaterThan(80);
  });
});

type RowHashes = Readonly<Record<string, Readonly<Record<string, { readonly row: string; readonly times: string }>>>>;

/** Every row of every legacy table by its id: the whole row, and its timestamps alone. */
async function rowHashes(source: Sql): Promise<RowHashes> {
  const tables = await source<{ name: string; times: string | null }[]>`
    select c.table_name as name,
           string_agg('coalesce(t.' || quote_ident(c.column_name) || '::text, ''-'')', ' || ' order by c.ordinal_position)
             filter (where c.data_type = 'timestamp with time zone') as times
      from information_schema.columns c where c.table_schema = 'public' group by 1`;
  const hashes: Record<string, Record<string, { row: string; times: string }>> = {};
  for (const { name, times } of tables) {
    const rows = await source.unsafe<{ id: string; row: string; times: string }[]>(
      `select t.id::text as id, md5(t::text) as row, ${times ?? "''"} as times from public."${name}" t`,
    );
    hashes[name] = Object.fromEntries(rows.map(({ id, ...hash }) => [id, hash]));
  }
  return hashes;
}

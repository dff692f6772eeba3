import { describe, expect, it } from "vitest";
import { migrateBadly } from "../clinic/dataset/already-migrated.ts";
import { largeCounts } from "../clinic/dataset/large-tables.ts";
import { MIGRATED_LOGS, migrateLogs } from "../clinic/dataset/migrated-logs.ts";
import { registry } from "../clinic/entities/registry.gen.ts";
import { adopt } from "./support/adoption.ts";
import { createInProcess, type InProcess } from "./support/in-process.ts";
import { pinnedSession, recomputed, verify } from "./verifier/verify.ts";
import { wholeSet } from "./support/number-set.ts";

/** User actions. 2,000,000 with `npm run test:adoption`; in every run a fraction of them. */
const ROWS = wholeSet("ISTHMUS_ADOPTION_ROWS", 4_000);
const LOG_SCALE = ROWS / largeCounts(1).actions;
const SCALE = Math.min(1, Math.max(0.02, LOG_SCALE));
const NAMES = ["offices", "profiles", "doctors", "patients", "orders", "payments", "operations", ...MIGRATED_LOGS];
const entities = registry.filter(({ name }) => NAMES.includes(name));

/** Per table: a digest of all its rows, legacy ids that one row has and that several have, and all rows. */
async function survey(test: InProcess) {
  const found: Record<string, { rows: number; digest: string; once: number; twice: number }> = {};
  for (const { target } of entities) {
    const [row] = await test.target.admin.unsafe<{ rows: number; digest: string; once: number; twice: number }[]>(`
      select (select count(*)::integer from public.${target.table}) as rows,
             (select coalesce(sum(hashtextextended(t::text, 0)::numeric), 0)::text from public.${target.table} t) as digest,
             count(*) filter (where n = 1)::integer as once, count(*) filter (where n > 1)::integer as twice
        from (select count(*) as n from public.${target.table} where ${target.legacyKey} is not null group by ${target.legacyKey}) x`);
    if (row) found[target.table] = row;
  }
  return found;
}

describe(`${ROWS.toLocaleString("en")} actions, and a whole clinic, in a target that a real migration filled`, () => {
  it(
    "are adopted without a change to any row, and synced onto the adopted ids with nothing inserted twice",
    { timeout: 7_200_000 },
    async () => {
      await using test = await createInProcess({ scale: SCALE, logScale: LOG_SCALE, entities });
      const urls = { source: test.source.superuserUrl, target: test.target.superuserUrl };
      await migrateBadly({ url: urls.target, scale: SCALE });
      const counts = await migrateLogs(urls);
      expect(counts["user_actions"]).toBeGreaterThan(ROWS);
      const before = await survey(test);
      expect(before["treatment_plans"]).toMatchObject({ once: 0 });
      expect(before["case_messages"]?.rows).toBe(
        3 * (before["case_messages"]?.twice ?? 0) + (before["case_messages"]?.once ?? 0),
      );
      expect(before["case_states"]?.twice).toBeGreaterThan(0);

      const began = performance.now();
      await adopt(test);
      const adopted = (performance.now() - began) / 1_000;
      const all = Object.values(before).reduce((sum, { rows }) => sum + rows, 0);
      process.stdout.write(
        `  ${all.toLocaleString("en")} rows of ${entities.length} tables: adopted in ${adopted.toFixed(1)} s\n`,
      );
      expect(await survey(test)).toEqual(before);
      for (const { name, target } of entities) {
        const [row] = await test.target.admin.unsafe<{ mapped: number; right: number; queued: number }[]>(
          `select count(*)::integer as mapped, count(t.id)::integer as right,
                  (select count(*)::integer from public.sync_conflicts where entity_type = $1 and state = 'open' and rule = 'adoption.ambiguous') as queued
             from public.uuid_mappings_enhanced m left join public.${target.table} t on t.id = m.entity_uuid and t.${target.legacyKey} = m.legacy_id
            where m.entity_type = $1`,
          [name],
        );
        const { once = 0, twice = 0 } = before[target.table] ?? {};
        expect(row, name).toEqual({ mapped: once, right: once, queued: twice });
      }

      const starting = performance.now();
      await test.sync();
      const synced = (performance.now() - starting) / 1_000;
      const [source, target] = [pinnedSession(urls.source), pinnedSession(urls.target)];
      for (const { name, target: to } of entities) {
        // Every row is where it was; what is new has a legacy id that no row had.
        const [row] = await test.target.admin.unsafe<{ rows: number; distinct: number; keyless: number }[]>(`
          select count(*)::integer as rows, count(distinct ${to.legacyKey})::integer as distinct, count(*) filter (where ${to.legacyKey} is null)::integer as keyless
            from public.${to.table}`);
        const then = before[to.table];
        if (!row || !then) throw new Error(`no rows of ${name}`);
        const inserted = row.rows - then.rows;
        expect(row.distinct, name).toBe(then.once + then.twice + inserted);
        // Records whose values the target now holds are equal to the source, column by column; legacy ids that the
        // source does not know are surplus.
        const definition = recomputed.find(({ entity }) => entity === name);
        if (!definition) throw new Error(`${name} is not recomputed`);
        const { differences, compared } = await verify(source, target, definition);
        expect(compared, name).toBeGreaterThan(0);
        expect(
          differences.filter(({ columns }) => columns[0] !== "row"),
          name,
        ).toEqual([]);
      }
      await Promise.all([source.end(), target.end()]);
      process.stdout.write(`  synced onto the adopted ids in ${synced.toFixed(1)} s\n`);
    },
  );
});

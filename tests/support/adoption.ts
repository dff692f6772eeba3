import { startAdoption } from "../../shared/jobs/adopt.ts";
import type { PageOutcome } from "../../shared/pipeline/types.ts";
import type { InProcess } from "./in-process.ts";

/** Takes over the target's ids; throws when that did not succeed. */
export async function adopt(test: InProcess, ...entities: string[]): Promise<{ execution: string; outcomes: PageOutcome[] }> {
  const { execution } = await startAdoption(test.context, {
    ...(entities.length > 0 ? { entities } : {}),
    triggeredBy: "http:test",
  });
  const outcomes = await test.drain();
  const [row] = await test.target.admin<{ status: string; errors: unknown }[]>`
    select status, errors from public.sync_executions where id = ${execution}`;
  if (row?.status !== "succeeded") throw new Error(`adoption ${row?.status ?? "missing"}: ${JSON.stringify(row?.errors)}`);
  return { execution, outcomes };
}

/** The target as an earlier migration left it: nothing makes the legacy ids of these tables unique or present. */
export async function loosen(
  test: InProcess,
  ...columns: readonly (readonly [table: string, legacyKey: string])[]
): Promise<void> {
  for (const [table, key] of columns) {
    await test.target.admin.unsafe(`
      alter table public.${table} drop constraint ${table}_${key}_key;
      alter table public.${table} alter column ${key} drop not null`);
  }
}

/** Every target row of a table as `id legacyId`. */
export async function idsOf(test: InProcess, table: string, legacyKey: string): Promise<string[]> {
  const rows = await test.target.admin.unsafe<{ line: string }[]>(
    `select concat_ws(' ', id, ${legacyKey}) as line from public.${table} order by 1`,
  );
  return rows.map((row) => row.line);
}

import { startAdoption } from "../../shared/plan/adopt.ts";
import type { Sql } from "../../shared/db/connect.ts";
import type { Context } from "../../shared/context.ts";
import type { PageOutcome } from "../../shared/page/page-outcome.ts";
import { overduePages } from "../../shared/target/sending.ts";
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

/** A process that dies: after some statements on the target nothing of it works any more. The last one's answer never comes. */
export function dying(context: Context, statements: number): Context {
  let left = statements;
  const dead = () =>
    Promise.reject(Object.assign(new Error("killed"), { code: "CONNECTION_CLOSED", errno: "CONNECTION_CLOSED" }));
  const unsafe = async (...args: Parameters<Sql["unsafe"]>) => {
    if (left <= 0) return dead();
    left -= 1;
    const answer = await context.target.unsafe(...args);
    return left === 0 ? dead() : answer;
  };
  return {
    ...context,
    target: { unsafe, begin: dead } as unknown as Sql,
    queue: { send: () => (left <= 0 ? dead() : context.queue.send([])) },
  };
}

/** What the sweep does when a lease and every message are long overdue. */
export async function sweep(test: InProcess): Promise<void> {
  await test.target.admin`
    update public.sync_chains set due_at = now() - interval '1 second', lease_until = lease_until - interval '1 hour' where state = 'open'`;
  test.queue.length = 0;
  test.queue.push(...(await overduePages(test.context.target, 200)));
}

/** Everything an adoption decides. */
export async function adoptionState(test: InProcess): Promise<string[]> {
  const rows = await test.target.admin<{ line: string }[]>`
    select concat_ws(' ', 'mapping', entity_type, legacy_id, entity_uuid) as line from public.uuid_mappings_enhanced
    union all select concat_ws(' ', 'row', e.entity_type, r.legacy_id, r.id, r.undecided) from public.sync_adoption_rows r join public.sync_entities e on e.id = r.entity_id
    union all select concat_ws(' ', 'queue', entity_type, source_record_id, state, rule, conflict_data) from public.sync_conflicts
    union all select concat_ws(' ', 'entity', entity_type, adoption_epoch) from public.sync_entities
    union all select concat_ws(' ', 'report', kind, body) from public.sync_reports order by 1`;
  return rows.map((row) => row.line);
}

import type { Sql } from "postgres";
import { counted } from "../plan.ts";
import type { HostileSchema, HostileTable } from "./schema.ts";

/**
 * What a plan counted is what the run after it counted; else a sentence. Not of entities with triggers, which a plan
 * cannot foretell, nor of those whose totals the run has found to differ: it reads their records once more, and a
 * plan compares none. Nor of what refers to such.
 */
export async function compareForecast(target: Sql, schema: HostileSchema, plan: string, ran: string): Promise<string[]> {
  // A digest of a plan compares what stands there, and asks once more for what the plan has changed.
  const [compared] = await target`
    select from public.sync_chains where execution_id = ${plan} and capture = 'digest' limit 1`;
  if (compared) return [];
  const again = await target<{ entity: string }[]>`
    select substr(kind, 16) as entity from public.sync_reports
     where execution_id = ${ran} and kind like 'control\\_totals:%' and round = 1 and jsonb_path_exists(body, '$.differing[*]')`;
  const unforeseen = new Set([
    ...schema.tables.filter(({ triggers }) => triggers.length > 0).map(({ entity }) => entity),
    ...again.map(({ entity }) => entity),
  ]);
  const foretold = new Set(schema.tables.filter((table) => !dependsOn(unforeseen, schema, table)).map(({ entity }) => entity));
  const [one, other] = await Promise.all(
    [plan, ran].map(async (execution) =>
      (await counted(target, execution))
        .filter(({ entity }) => foretold.has(entity as string))
        // How often a record is looked at, and stopped, is not what becomes of it.
        .map(({ entity, inserted, updated, deleted }) => ({ entity, inserted, updated, deleted })),
    ),
  );
  if (JSON.stringify(one) === JSON.stringify(other)) return [];
  return [`a plan foretold ${JSON.stringify(one)}, and the run did ${JSON.stringify(other)}`];
}

/** What becomes of a record decides whether those wait that refer to it. */
function dependsOn(entities: ReadonlySet<string>, schema: HostileSchema, table: HostileTable): boolean {
  const parents = table.references.flatMap(({ parent }) => schema.tables[parent] ?? []);
  return entities.has(table.entity) || parents.some((parent) => parent !== table && dependsOn(entities, schema, parent));
}

import type postgres from "postgres";
import type { Conflicts, Entity } from "../../shared/entity/define-entity.ts";
import { operations as operationsEntity } from "../../clinic/entities/operations.ts";
import { workerGrants } from "../../shared/operate/grants.ts";
import { createPipeline, type Pipeline } from "./pipeline.ts";

// People act as the table editor does: plain UPDATEs as the database user postgres.

export const only = { entities: ["operations"] };
export type Id = number;

export async function clinic(
  rows: number,
  conflicts: Conflicts = { strategy: "manual_review" },
  more: Partial<Entity> = {},
): Promise<Pipeline> {
  const operations: Entity = {
    ...operationsEntity,
    conflicts: { ...operationsEntity.conflicts, ...conflicts },
    onDelete: "review",
    ...more,
  };
  const test = await createPipeline({ entities: [operations] });
  await test.target.admin.unsafe(workerGrants([operations]));
  await test.source.admin`
    insert into public.dispatch_operation (id, type, price, card_brand, card_last)
    select id, 1, id, 'VISA', '1234' from generate_series(1, ${rows}::integer) id`;
  await test.sync(only);
  return test;
}

/** One UPDATE, as the table editor sends it. */
export const studio = <Row extends object>(test: Pipeline, statement: string, ...before: string[]) =>
  test.target.admin.begin(async (tx) => {
    await tx.unsafe("set local role postgres");
    for (const setting of before) await tx.unsafe(setting);
    return (await tx.unsafe<Row[]>(statement)) as Row[];
  });
export const refused = async (work: Promise<unknown>) => {
  const error = await work.then(
    () => undefined,
    (reason: unknown) => reason as postgres.PostgresError,
  );
  return error && { code: error.code, message: error.message, hint: error.hint };
};

export const rowOf = async (test: Pipeline, id: Id) => {
  const [row] = await test.target.admin<{ amount: string; brand: string | null; last: string | null }[]>`
    select amount::text, card_brand as brand, card_last as last from public.operations where legacy_operation_id = ${id}`;
  return row && { ...row };
};
export const conflictsOf = async (test: Pipeline, id: Id) =>
  [
    ...(await test.target.admin<
      {
        id: string;
        state: string;
        rule: string;
        field: string | null;
        differences: unknown;
        policy: string | null;
        strategy: string | null;
        by: string | null;
        attempts: number;
        decidable: boolean;
        standing: boolean;
      }[]
    >`
      select id, state, rule, field, differences, policy, resolution_strategy as strategy, resolved_by as by, attempts, decidable, standing
        from public.sync_conflicts where source_record_id = ${id} order by first_seen_at, attempts, state`),
  ].map((row) => ({ ...row }));
export const openOf = async (test: Pipeline, id: Id) => {
  const [open] = (await conflictsOf(test, id)).filter(({ state }) => state === "open");
  if (!open) throw new Error(`record ${id} is not open`);
  return open;
};
export const auditOf = async (test: Pipeline) =>
  (
    await test.target.admin`select actor, action, legacy_id::integer as id, fields, strategy from public.sync_audit order by id`
  ).map((row) => ({ ...row }));

/** Both sides change the amount and the brand of a record. */
export async function bothChange(test: Pipeline, id: Id, price = 1000 + id): Promise<void> {
  await test.source.admin`update public.dispatch_operation set price = ${price}, card_brand = 'source' where id = ${id}`;
  await test.target
    .admin`update public.operations set amount = ${2000 + id}, card_brand = 'target' where legacy_operation_id = ${id}`;
}

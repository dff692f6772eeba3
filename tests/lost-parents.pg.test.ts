import { describe, expect, it } from "vitest";
import { registry } from "../clinic/entities/registry.gen.ts";
import { acknowledge } from "../shared/contract/check.ts";
import { tick } from "../shared/tick/tick.ts";
import { planned } from "./support/plan.ts";
import { createPipeline, type Pipeline } from "./support/pipeline.ts";

// Of a record whose parent has landed, and whose parent's row somebody has deleted since, the target says no more
// than that a foreign key refuses it. Neither the record nor the constraint is to be changed then.

const READ =
  "Read that record: npm run sync -- start --ids patients=1. Its row is written again, or a person is asked, as its entity says of deleted rows. This record is then tried again by itself.";
const LOST = "patient_id refers to patients 1, whose target row somebody deleted. ";
const REFUSED = "The target refuses the record: correct it in the source, or change the constraint.";

/** Patients 1 and 2, who have landed. `rewritten`: deleted rows are written again without a question. */
async function clinic(rewritten = false): Promise<Pipeline> {
  const entities = registry.map((entity) =>
    rewritten && entity.name === "patients"
      ? { ...entity, conflicts: { ...entity.conflicts, deleted: "source_wins" as const } }
      : entity,
  );
  const test = await createPipeline({ entities });
  await test.seed.office(1);
  await test.seed.doctor(50);
  for (const id of [1, 2]) await test.seed.patient(id, { userId: 10 + id, doctorId: 50, officeId: 1 });
  await test.sync({ entities: ["profiles", "doctors", "offices", "patients"] });
  return test;
}

const deletePatient = (test: Pipeline) => test.target.admin`
  delete from public.patients where id = (select entity_uuid from public.uuid_mappings_enhanced where entity_type = 'patients' and legacy_id = 1)`;
const orders = (test: Pipeline) => test.target.admin`
  select source_record_id::integer as id, state, conflict_type as type, field, rule, remedy, conflict_data ->> 'parent' as parent,
         conflict_data ->> 'parentId' as "parentId", retry_class as retry
    from public.sync_conflicts where entity_type = 'orders' and state in ('waiting', 'open') order by 1`;
const told = (id: number, remedy: string) => ({
  id,
  state: "open",
  type: "foreign_key_violation",
  field: "patient_id",
  rule: "orders_patient_id_fkey",
  remedy,
  parent: "patients",
  parentId: "1",
  retry: "target",
});

describe("a record whose parent's target row somebody deleted", () => {
  it("names the parent and how it is read, in a plan too; that heals it, and the record is tried again by itself", async () => {
    await using test = await clinic(true);
    await deletePatient(test);
    await test.seed.instruction(10, 1);
    await test.seed.instruction(11, 1);
    await test.seed.instruction(12, 2);
    const plan = await planned(test, { entities: ["orders"] });
    expect(plan.records).toMatchObject([
      { legacyId: "10", outcome: "in_conflict", rule: "orders_patient_id_fkey", field: "patient_id" },
      { legacyId: "11", outcome: "in_conflict", rule: "orders_patient_id_fkey", field: "patient_id" },
      { legacyId: "12", outcome: "inserted" },
    ]);
    const [report] = await test.target.admin<{ remedies: string[] }[]>`
      select jsonb_path_query_array(body, '$.entities[*].outcomes[*].remedy') as remedies from public.sync_reports where kind = 'plan'`;
    expect(report?.remedies).toContain(LOST + READ);

    await test.sync({ entities: ["orders"] });
    expect(await orders(test)).toEqual([told(10, LOST + READ), told(11, LOST + READ)]);

    await test.sync({ legacyIds: { patients: ["1"] } });
    await test.target.admin`update public.sync_conflicts set next_attempt_at = now() where state = 'open'`;
    await tick(test.context);
    await test.drain();
    expect(await orders(test)).toEqual([]);
    expect(await test.target.admin`select from public.orders`).toHaveLength(3);
  });

  it("says so of a record that had landed and refers to that parent from now on", async () => {
    await using test = await clinic();
    await test.seed.instruction(10, 2);
    await test.sync({ entities: ["orders"] });
    await deletePatient(test);
    await test.source.admin`update public.dispatch_instruction set patient_id = 1 where id = 10`;
    await test.sync({ entities: ["orders"] });
    expect(await orders(test)).toEqual([told(10, LOST + READ)]);
  });

  it("leads to the question about that row where one is open, and to the decision where one was made", async () => {
    await using test = await clinic();
    await deletePatient(test);
    await test.sync({ legacyIds: { patients: ["1"] } });
    await test.seed.instruction(10, 1);
    await test.sync({ entities: ["orders"] });
    expect(await orders(test)).toEqual([
      told(
        10,
        `${LOST}That record is in this queue (target_deleted). Somebody deleted the target row. source_wins: it is written again. target_wins: it stays away.`,
      ),
    ]);
    await test.target.admin`
      update public.sync_conflicts set resolution_strategy = 'target_wins', resolved_by = 'Ada' where entity_type = 'patients' and state = 'open'`;
    await test.sync({ legacyIds: { orders: ["10"] } });
    expect(await orders(test)).toEqual([
      told(
        10,
        `${LOST}A decision keeps that record away (target_deleted): choose another resolution_strategy in its row of the queue, or correct the reference in the source.`,
      ),
    ]);
  });

  it("is not confused with one that a foreign key refuses for another reason", async () => {
    await using test = await clinic();
    await test.target.admin.unsafe(`
      create function public.refuse() returns trigger language plpgsql as $$
        begin raise exception using errcode = '23503', constraint = 'orders_patient_id_fkey', message = 'not these'; end $$;
      create trigger refuse before insert on public.orders for each row execute function public.refuse()`);
    await acknowledge(test.context, undefined, "a test");
    await test.seed.instruction(10, 1);
    await test.sync({ entities: ["orders"] });
    expect(await orders(test)).toMatchObject([
      { id: 10, field: null, rule: "orders_patient_id_fkey", remedy: REFUSED, parent: null },
    ]);
  });
});

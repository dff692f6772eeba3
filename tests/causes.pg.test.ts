import { describe, expect, it } from "vitest";
import { tick } from "../shared/tick/tick.ts";
import { createPipeline, type Pipeline } from "./support/pipeline.ts";

const FAMILY = ["profiles", "doctors", "offices", "patients", "orders", "payments", "operations"];
const family = { entities: FAMILY };
const remedies = async (test: Pipeline) =>
  Object.fromEntries(
    (
      await test.target.admin<{ record: string; remedy: string }[]>`
        select entity_type || ' ' || source_record_id as record, remedy from public.sync_conflicts where state = 'waiting' order by 1`
    ).map(({ record, remedy }) => [record, remedy]),
  );
const cause = async (test: Pipeline, entity: string) =>
  (
    await test.target.admin<{ cause: unknown }[]>`
      select conflict_data -> 'cause' as cause from public.sync_conflicts where state = 'waiting' and entity_type = ${entity}`
  ).map((row) => row.cause);

/** Patient 1 with an order, its payment and two operations of that. */
async function familyOf(prepare: (test: Pipeline) => Promise<unknown> = () => Promise.resolve()): Promise<Pipeline> {
  const test = await createPipeline();
  await test.seed.office(1);
  await test.seed.doctor(50);
  await test.seed.patient(1, { userId: 11, doctorId: 50, officeId: 1 });
  await test.seed.instruction(10, 1);
  await test.seed.payment(20, { instructionId: 10 });
  await test.seed.operation(30, { paymentId: 20 });
  await test.seed.operation(31, { paymentId: 20 });
  await prepare(test);
  return test;
}

const refusing = (rule: string) => (test: Pipeline) =>
  test.target.admin.unsafe(`alter table public.patients add constraint ${rule} check (id is null)`);
const STOPPED = (rule: string) =>
  `for patients 1, which is in this queue (${rule}). The target refuses the record: correct it in the source, or change the constraint.`;
const behind = (what: string) => ({
  "orders 10": `Waits ${what}`,
  "payments 20": `Waits for orders 10, and behind that record ${what}`,
  "operations 30": `Waits for payments 20, and behind that record ${what}`,
  "operations 31": `Waits for payments 20, and behind that record ${what}`,
});

describe("a record that waits says what it waits for in the end", () => {
  it("the record of the queue that stops the whole chain, with its rule and what to do", async () => {
    await using test = await familyOf(refusing("no_patients"));
    await test.sync(family);
    expect(await remedies(test)).toEqual(behind(STOPPED("no_patients")));
    expect(await cause(test, "payments")).toEqual([{ kind: "stopped", entity: "patients", legacyId: "1", rule: "no_patients" }]);
  });

  it("a record that has neither landed nor is in the queue: dangling, or never read", async () => {
    await using test = await familyOf();
    await test.source.admin.unsafe("set session_replication_role = replica; delete from public.dispatch_instruction");
    await test.sync(family);
    const missing =
      "for orders 10, which has not landed and is not in this queue. Where the source has no such record, correct the reference there; otherwise read it: npm run sync -- start --ids orders=10.";
    expect(await remedies(test)).toEqual({
      "payments 20": `Waits ${missing}`,
      "operations 30": `Waits for payments 20, and behind that record ${missing}`,
      "operations 31": `Waits for payments 20, and behind that record ${missing}`,
    });
  });

  it("another cause as soon as there is another one, all down the chain, within a tick", async () => {
    await using test = await familyOf(refusing("no_patients"));
    await test.sync(family);
    await test.target.admin.unsafe(
      "alter table public.patients drop constraint no_patients; alter table public.patients add constraint nobody check (id is null)",
    );
    await test.sync({ entities: ["patients"], legacyIds: { patients: ["1"] } });
    await tick(test.context);
    expect(await remedies(test)).toEqual(behind(STOPPED("nobody")));
    expect(await cause(test, "operations")).toMatchObject([{ rule: "nobody" }, { rule: "nobody" }]);
    expect(await test.target.admin`select from public.sync_changed_causes`).toHaveLength(0);
    // The source no longer has the record: nothing of the queue stops the others now.
    await test.source.admin.unsafe("set session_replication_role = replica; delete from public.dispatch_patient");
    await test.sync({ entities: ["patients"], legacyIds: { patients: ["1"] } });
    await tick(test.context);
    expect(
      Object.values(await remedies(test)).filter((remedy) => remedy.includes("patients 1, which has not landed")),
    ).toHaveLength(4);
  });

  it("nothing of the kind once the chain has landed", async () => {
    await using test = await familyOf(refusing("no_patients"));
    await test.sync(family);
    await test.target.admin.unsafe("alter table public.patients drop constraint no_patients");
    await test.target.admin`select sync.replay('patients')`;
    await tick(test.context);
    for (let ticks = 0; ticks < 6; ticks++) {
      await test.drain();
      await tick(test.context);
    }
    expect(await remedies(test)).toEqual({});
    expect((await test.target.admin`select from public.operations`).length).toBe(2);
  });

  it("a decision that keeps the record away", async () => {
    await using test = await familyOf(refusing("no_patients"));
    await test.sync(family);
    await test.target.admin`
      update public.sync_conflicts set resolution_strategy = 'target_wins', resolved_by = 'Ada' where entity_type = 'patients'`;
    await tick(test.context);
    await test.drain();
    expect(await remedies(test)).toEqual(
      behind(
        "for patients 1, which a decision keeps away (no_patients): choose another resolution_strategy in that record's row of the queue, or correct the reference in the source.",
      ),
    );
  });

  it("within one entity, whatever the order of the keys", async () => {
    await using test = await createPipeline();
    for (const [id, parent] of [
      [1, 5],
      [5, 3],
      [3, 7],
      [7, null],
    ] as const)
      await test.seed.orphan("dispatch_category", { id, name: `category ${id}`, parent_id: parent });
    await test.target.admin.unsafe("alter table public.categories add constraint no_seven check (name <> 'category 7')");
    await test.sync({ entities: ["categories"] });
    const seven =
      "for categories 7, which is in this queue (no_seven). The target refuses the record: correct it in the source, or change the constraint.";
    expect(await remedies(test)).toEqual({
      "categories 1": `Waits for categories 5, and behind that record ${seven}`,
      "categories 3": `Waits ${seven}`,
      "categories 5": `Waits for categories 3, and behind that record ${seven}`,
    });
  });

  it("however many wait for one record: some in each tick, none twice", async () => {
    await using test = await createPipeline();
    await test.sync({ entities: ["payments", "operations"] });
    await test.target.admin`
      insert into public.sync_conflicts (state, entity_id, entity_type, source_record_id, conflict_type, field, rule, remedy, source_table, target_table,
                                         retry_class, parent_entity_id, parent_legacy_id)
      select 'waiting', e.id, e.entity_type, n, 'foreign_key_violation', 'payment_id', 'parent_missing@1', 'Waits.', e.source_table, e.target_table, 'parent', p.id, 77
        from public.sync_entities e cross join public.sync_entities p cross join generate_series(1, 25000) n
       where e.entity_type = 'operations' and p.entity_type = 'payments'`;
    await test.target
      .admin`insert into public.sync_changed_causes select id, 77 from public.sync_entities where entity_type = 'payments'`;
    const told = async () =>
      (
        await test.target.admin<
          { n: number }[]
        >`select count(*)::integer as n from public.sync_conflicts where remedy like 'Waits for payments 77, which has%'`
      )[0]?.n;
    const found: (number | undefined)[] = [];
    for (let ticks = 0; ticks < 4; ticks++) {
      await tick(test.context);
      found.push(await told());
    }
    expect(found).toEqual([10_000, 20_000, 25_000, 25_000]);
  });
});

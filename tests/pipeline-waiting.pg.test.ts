import { describe, expect, it } from "vitest";
import { advanceExecutions } from "../shared/target/release.ts";
import { createPipeline, type Pipeline } from "./support/pipeline.ts";

/** A doctor, and a chain of records that hang on patient 1: order 1, payments 1 and 2, operations 1 to 3. */
async function seedFamily(test: Pipeline, status: number): Promise<void> {
  await test.seed.doctor(10);
  await test.seed.office(1);
  await test.seed.patient(1, { userId: 20, doctorId: 10, officeId: 1, status });
  await test.seed.patient(2, { userId: 21, doctorId: 10, officeId: 1 });
  await test.seed.instruction(1, 1);
  await test.seed.instruction(2, 2);
  await test.seed.payment(1, { instructionId: 1 });
  await test.seed.payment(2, { instructionId: 1 });
  await test.seed.payment(3, { instructionId: 2 });
  await test.seed.operation(1, { paymentId: 1 });
  await test.seed.operation(2, { paymentId: 1 });
  await test.seed.operation(3, { paymentId: 2 });
  await test.seed.operation(4, { paymentId: 3 });
}
const UNKNOWN_STATUS = 77;

describe("a record with an unknown code", () => {
  it("goes to the queue with its raw code, and everything below it waits, each under its own parent", async () => {
    await using test = await createPipeline();
    await seedFamily(test, UNKNOWN_STATUS);
    const { execution } = await test.sync();
    expect(await test.live("patients")).toMatchObject([
      { id: 1, state: "open", type: "business_rule_violation", field: "status", rule: "patients.status.known_code@1" },
    ]);
    expect(await test.live("orders")).toMatchObject([{ id: 1, state: "waiting", parent: "patients", parentId: 1 }]);
    expect(await test.live("payments")).toMatchObject([
      { id: 1, state: "waiting", parent: "orders", parentId: 1 },
      { id: 2, state: "waiting", parent: "orders", parentId: 1 },
    ]);
    expect(await test.live("operations")).toMatchObject([
      { id: 1, parent: "payments", parentId: 1 },
      { id: 2, parent: "payments", parentId: 1 },
      { id: 3, parent: "payments", parentId: 2 },
    ]);
    // The family of the other patient is not held up.
    expect(await ids(test, "operations", "legacy_operation_id")).toEqual([4]);
    const sums = await test.sums(execution);
    expect(sums.read).toBe(sums.outcomes);
    expect(sums.read).toBe(sums.processed);
  });

  it("lands with all its descendants in the execution that reads the correction", async () => {
    await using test = await createPipeline();
    await seedFamily(test, UNKNOWN_STATUS);
    await test.sync();
    await test.source.admin`update public.dispatch_patient set status = 4 where id = 1`;
    const { execution, chains } = await test.sync();
    // Only patients (and what is projected with them) had changes of their own: the rest came by release.
    expect(chains.map((chain) => chain.entity)).not.toContain("payments");
    expect(chains.map((chain) => chain.entity)).not.toContain("operations");
    for (const entity of ["patients", "orders", "payments", "operations"]) expect(await test.live(entity)).toEqual([]);
    expect(await ids(test, "operations", "legacy_operation_id")).toEqual([1, 2, 3, 4]);
    const [joined] = await test.target.admin<{ n: number }[]>`
      select count(*)::integer as n from public.operations c join public.payments m on m.id = c.payment_id
        join public.orders o on o.id = m.order_id join public.patients p on p.id = o.patient_id where p.legacy_patient_id = 1`;
    expect(joined?.n).toBe(3);
    const resolved = await test.target.admin<{ entity: string }[]>`
      select entity_type as entity from public.sync_conflicts where state = 'resolved' and resolved_in = ${execution}`;
    expect(resolved.map(({ entity }) => entity).sort()).toEqual([
      ...["cases", "operations", "operations", "operations", "order_cases", "orders"],
      ...["patients", "patients_doctors_offices", "payments", "payments"],
    ]);
    expect((await test.target.admin`select from public.sync_pending_keys`).length).toBe(0);
  });

  it("releases children even when the pages of parents and children are as small as they can be", async () => {
    await using test = await createPipeline({ env: { ISTHMUS_PAGE_SIZE: "1", ISTHMUS_PAGE_SIZE_MAX: "1" } });
    await seedFamily(test, UNKNOWN_STATUS);
    await test.sync();
    await test.source.admin`update public.dispatch_patient set status = 4 where id = 1`;
    await test.sync();
    expect(await ids(test, "operations", "legacy_operation_id")).toEqual([1, 2, 3, 4]);
  });
});

describe("a waiting record whose source row is deleted before its parent lands", () => {
  it("ends its wait, and the execution that lands the parent ends too", async () => {
    await using test = await createPipeline();
    await seedFamily(test, UNKNOWN_STATUS);
    await test.sync();
    await test.source.admin`delete from public.dispatch_operation where id = 3`;
    await test.source.admin`update public.dispatch_patient set status = 4 where id = 1`;
    await test.sync();
    expect(await ids(test, "operations", "legacy_operation_id")).toEqual([1, 2, 4]);
    expect(await test.live("operations")).toEqual([]);
  });
});

describe("an execution that compares both sides", () => {
  it("does not succeed while a page of records requested meanwhile is still open", async () => {
    await using test = await createPipeline();
    await seedFamily(test, 1);
    const { execution } = await test.start();
    while (!(await validating(test, execution))) await test.runOne();
    // Somebody asks for a record again, and the sweep of every minute comes by, between two pages of the comparison.
    await test.runOne();
    await test.target.admin`
      insert into public.sync_pending_keys (entity_id, legacy_id, reason) select id, 1, 'requested' from public.sync_entities where entity_type = 'offices'`;
    const [source] = await test.target.admin<{ id: number }[]>`select id from public.sync_sources`;
    await advanceExecutions(test.context.target, source?.id ?? 0);
    await test.drain();
    expect(await test.status(execution)).toMatchObject({ status: "succeeded" });
    expect(
      (await test.target.admin`select from public.sync_chains where execution_id = ${execution} and state in ('open', 'blocked')`)
        .length,
    ).toBe(0);
    const sums = await test.sums(execution);
    expect(sums.processed).toBe(sums.read);
  });
});

async function validating(test: Pipeline, execution: string): Promise<boolean> {
  return (
    (
      await test.target
        .admin`select from public.sync_chains where execution_id = ${execution} and capture = 'validate' and state = 'open'`
    ).length > 0
  );
}

async function ids(test: Pipeline, table: string, key: string): Promise<number[]> {
  const { admin } = test.target;
  const rows = await admin<{ id: number }[]>`select ${admin(key)}::integer as id from ${admin(`public.${table}`)} order by 1`;
  return rows.map((row) => row.id);
}

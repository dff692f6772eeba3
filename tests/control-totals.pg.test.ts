import { expect, it } from "vitest";
import { offices } from "../clinic/entities/offices.ts";
import { tick } from "../shared/tick/tick.ts";
import { sourceTotals } from "../shared/source/control-totals.ts";
import { limited, seedOffices } from "./support/limits.ts";
import { createPipeline, type Pipeline } from "./support/pipeline.ts";

/** Runs an execution, with an edit of the source just before the first page of each round of the comparison. */
async function editedBetween(test: Pipeline, entities: string[], edits: readonly (() => Promise<unknown>)[]) {
  const left = new Map(edits.map((edit, index) => [index + 1, edit]));
  const { execution } = await test.start({ entities, capture: "digest" });
  for (let message = test.queue.shift(); message; message = test.queue.shift()) {
    const [chain] = await test.target.admin<
      { round: number }[]
    >`select round from public.sync_chains where id = ${message.chain} and capture = 'validate'`;
    await left.get(chain?.round ?? 0)?.();
    left.delete(chain?.round ?? 0);
    await test.runOne(message);
  }
  expect(left.size).toBe(0);
  return { execution, ...(await test.status(execution)) };
}

it("a target row that somebody deleted is noticed by the next execution, though its source row never changes", async () => {
  await using test = await createPipeline();
  for (const id of [1, 2, 3]) await test.seed.office(id);
  await test.sync({ entities: ["offices"] });
  await test.target.admin`delete from public.offices where legacy_office_id = 2`;
  await test.seed.office(4);
  await test.sync({ entities: ["offices"] });
  expect(await test.live("offices")).toMatchObject([{ id: 2, state: "open", rule: "target_deleted" }]);
});

it("a legacy key that somebody edited is an edit like any other: the record is still compared, and nothing fails", async () => {
  await using test = await createPipeline();
  for (const id of [1, 2, 3]) await test.seed.payment(id);
  await test.sync({ entities: ["payments"] });
  await test.target.admin`update public.payments set legacy_payment_id = 900 where legacy_payment_id = 2`;
  await test.sync({ entities: ["payments"], capture: "full" });
  const [report] = await test.target.admin`
    select body -> 'target' ->> 'n' as n from public.sync_reports where kind = 'control_totals:payments' order by created_at desc limit 1`;
  expect(report).toEqual({ n: "3" });
});

it("an amount that is no number goes to the queue, and the others are compared as ever", async () => {
  await using test = await createPipeline();
  await test.seed.payment(1);
  await test.seed.payment(2, { total: "NaN" });
  await test.sync({ entities: ["payments"] });
  expect(await test.live("payments")).toMatchObject([{ id: 2, state: "open", field: "amount" }]);
});

it("an amount of a joined row that is edited again before the second round is no difference; one that nobody edited is", async () => {
  await using test = await createPipeline();
  for (const id of [1, 2, 3]) await test.seed.doctor(id, { credit: "10" });
  await test.sync({ entities: ["profiles", "doctors"] });
  const credit = (id: number, value: number) =>
    test.source.admin`update public.dispatch_doctorsetting set credit = ${value} where user_id = ${id}`;
  const busy = await editedBetween(test, ["profiles", "doctors"], [() => credit(1, 20), () => credit(1, 30)]);
  expect(busy).toMatchObject({ status: "succeeded", errors: null });

  await test.target.admin.begin(async (tx) => {
    await tx`update public.doctors set credit = 11 where legacy_user_id = 3`;
    await tx`set local session_replication_role = replica`;
    await tx`update public.sync_row_states set "left" = jsonb_set("left", '{credit}', '11')
              where legacy_id = 3 and entity_id = (select id from public.sync_entities where entity_type = 'doctors')`;
  });
  const wrong = await editedBetween(test, ["profiles", "doctors"], [() => credit(1, 40), () => credit(1, 50)]);
  expect(wrong.errors).toEqual([{ code: "CONTROL_TOTALS_DIFFER", entity: "doctors", legacy_ids: ["3"] }]);
});

it("a record that a watched row makes one before the second round is no difference", async () => {
  await using test = await createPipeline();
  await test.seed.group(1, "Dentist");
  for (const id of [3, 5]) await test.seed.user(id);
  await test.seed.membership(1, 3, 1);
  await test.seed.doctor(4, { credit: "10" });
  await test.sync({ entities: ["profiles", "doctors"] });
  const ended = await editedBetween(
    test,
    ["profiles", "doctors"],
    [
      () => test.source.admin`update public.dispatch_doctorsetting set credit = 20 where user_id = 4`,
      async () => {
        await test.seed.payment(1, { doctorId: 5 });
        await test.source.admin`update public.auth_group set name = 'Doctor'`;
      },
    ],
  );
  expect(ended).toMatchObject({ status: "succeeded", errors: null });
  const [report] = await test.target.admin`
    select body -> 'source' ->> 'n' as source, body -> 'target' ->> 'n' as target from public.sync_reports
     where execution_id = ${ended.execution} and kind = 'control_totals:doctors' and round = 2`;
  expect(report).toEqual({ source: "3", target: "1" });
});

it("a target row that somebody deletes between the two rounds is no difference: it is told of like any other", async () => {
  await using test = await createPipeline();
  for (const id of [1, 2, 3]) await test.seed.doctor(id, { credit: "10" });
  await test.sync({ entities: ["profiles", "doctors"] });
  const credit = (id: number, value: number) =>
    test.source.admin`update public.dispatch_doctorsetting set credit = ${value} where user_id = ${id}`;
  const ended = await editedBetween(
    test,
    ["profiles", "doctors"],
    [() => credit(1, 20), () => test.target.admin`delete from public.doctors where legacy_user_id = 3`],
  );
  expect(ended).toMatchObject({ status: "succeeded", errors: null });
  expect(await test.target.admin`select from public.sync_alerts where kind = 'execution_failed'`).toHaveLength(0);
  await tick(test.context);
  await test.drain();
  expect(await test.live("doctors")).toMatchObject([{ id: 3, state: "open", rule: "target_deleted" }]);
});

it("rows that have no key count once, also where the source is asked in halves because it cannot compute some of its records", async () => {
  const entity = { ...offices, source: { ...offices.source, where: "o.phone::numeric > 1" } };
  await using test = await limited({ entity });
  await seedOffices(test, 12);
  await test.source.admin.unsafe(`
    alter table public.dispatch_office drop constraint dispatch_office_pkey cascade, alter id drop not null;
    insert into public.dispatch_office (id, name, valid, emails, phone) select null, 'no key', true, true, '5' from generate_series(1, 2)`);
  const counted = async () => {
    const { totals, refused } = await sourceTotals(test.context.source, entity, []);
    return { counts: Object.fromEntries(totals.map(({ bucket, n }) => [bucket, n])), refused };
  };
  expect(await counted()).toEqual({ counts: { 0: "12", null: "2" }, refused: [] });
  await test.source.admin`update public.dispatch_office set phone = 'x' where id in (3, 9)`;
  expect(await counted()).toEqual({ counts: { 0: "10", null: "2" }, refused: ["3", "9"] });
});

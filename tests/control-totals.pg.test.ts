import { expect, it } from "vitest";
import { createPipeline } from "./support/pipeline.ts";

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

import { beforeEach, afterEach, describe, expect, it } from "vitest";
import { tick } from "../shared/tick/tick.ts";
import { createPipeline, type Pipeline } from "./support/pipeline.ts";

const RULE = "payments.paid_within_total@1";

describe("a business rule", () => {
  let test: Pipeline;
  beforeEach(async () => {
    test = await createPipeline();
    await test.source.admin.unsafe(`
      insert into public.dispatch_payment
        (id, total_price, subtotal_price, paid_price, additional_price, tax_rate, tax_value, used_credit, paid, canceled, free, netsuite, installments)
      select id, 100, 100, case id when 2 then 100.01 else 100 end, 0, 0, 0, 0, true, false, false, false, '' from generate_series(1, 3) id`);
    await test.sync({ entities: ["payments"] });
  });
  afterEach(() => test[Symbol.asyncDispose]());

  const warnings = async () =>
    (
      await test.target.admin<{ id: number; rule: string }[]>`
      select legacy_id::integer as id, rule from public.sync_warnings order by 1`
    ).map(({ id, rule }) => ({ id, rule }));
  const override = (severity: string, from = "now()", to = "null") =>
    test.target.admin.unsafe(
      `insert into public.sync_rule_overrides (rule, severity, reason, valid_from, valid_to) values ('${RULE}', '${severity}', 'a test', ${from}, ${to})`,
    );
  /** What the minute brings: records that were asked for are read again. */
  const minute = async () => {
    await tick(test.context);
    await test.drain();
  };
  const paid = async (id: number) =>
    (
      await test.target.admin<
        { paid: string }[]
      >`select paid_amount::text as paid from public.payments where legacy_payment_id = ${id}`
    )[0]?.paid;

  it("that warns lets the record land and names it, until it is corrected", async () => {
    expect(await paid(2)).toBe("100.01");
    expect(await warnings()).toEqual([{ id: 2, rule: RULE }]);
    const { execution } = await test.sync({ entities: ["payments"], capture: "full" });
    expect(await warnings()).toEqual([{ id: 2, rule: RULE }]);
    const { executionState } = await import("../shared/target/execution-state.ts");
    expect(await executionState(test.context.target, execution)).toMatchObject({ warnings: [{ rule: RULE, count: 1 }] });
    await test.source.admin`update public.dispatch_payment set paid_price = 99 where id = 2`;
    await test.sync({ entities: ["payments"] });
    expect(await warnings()).toEqual([]);
    await test.source.admin`update public.dispatch_payment set paid_price = 101 where id = 1`;
    await test.sync({ entities: ["payments"] });
    await test.source.admin`delete from public.dispatch_payment where id = 1`;
    await test.sync({ entities: ["payments"], capture: "full" });
    expect(await warnings()).toEqual([{ id: 1, rule: RULE }]);
  });

  it("parks while a dated row says so: the record keeps what it had, and lands again when the row goes", async () => {
    await override("park");
    await minute();
    expect(await test.live("payments")).toMatchObject([
      { id: 2, state: "open", type: "business_rule_violation", field: "paid_amount, amount", rule: RULE },
    ]);
    await test.source.admin`update public.dispatch_payment set paid_price = 200 where id = 2`;
    await test.sync({ entities: ["payments"] });
    expect(await paid(2)).toBe("100.01");
    await test.target.admin`delete from public.sync_rule_overrides`;
    await minute();
    expect(await test.live("payments")).toEqual([]);
    expect(await paid(2)).toBe("200.00");
    expect(await warnings()).toEqual([{ id: 2, rule: RULE }]);
  });

  it("is not changed by a row whose time is over or has not come, and the row that began last counts", async () => {
    await override("park", "now() - interval '2 days'", "now() - interval '1 day'");
    await override("park", "now() + interval '1 day'");
    await minute();
    expect(await test.live("payments")).toEqual([]);
    await override("warn", "now() - interval '1 hour'");
    await override("park", "now() - interval '1 minute'");
    await minute();
    expect(await test.live("payments")).toMatchObject([{ id: 2, rule: RULE }]);
  });

  it("that nobody has cannot be overridden: the error names those that there are", async () => {
    const misspelled = test.target
      .admin`insert into public.sync_rule_overrides (rule, severity, reason) values ('payments.paid@1', 'warn', 'x')`;
    await expect(misspelled).rejects.toMatchObject({
      message: "no entity has the rule payments.paid@1",
      hint: expect.stringContaining(RULE) as string,
    });
    await override("warn");
    await test.target.admin`update public.sync_entities set rules = '[]' where entity_type = 'payments'`;
    await test.target.admin`update public.sync_rule_overrides set valid_to = now() + interval '1 hour'`;
    const unexplained = test.target
      .admin`insert into public.sync_rule_overrides (rule, severity, reason) values (${RULE}, 'warn', ' ')`;
    await test.target
      .admin`update public.sync_entities set rules = ${test.target.admin.json([{ rule: RULE }])} where entity_type = 'payments'`;
    await expect(unexplained).rejects.toMatchObject({ constraint_name: "sync_rule_overrides_reason_check" });
  });
});

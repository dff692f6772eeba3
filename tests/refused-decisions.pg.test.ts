import { describe, expect, it } from "vitest";
import { tick } from "../shared/tick/tick.ts";
import { only, clinic, studio, refused, rowOf, openOf, auditOf, bothChange } from "./support/studio.ts";

describe("a decision that cannot be carried out", () => {
  it("changes nothing and says why, which record, and what to do", async () => {
    await using test = await clinic(4);
    await test.target.admin`alter table public.operations add constraint small check (amount < 5000)`;
    for (const id of [1, 2]) await bothChange(test, id, id === 2 ? 6000 : 1001);
    await test.source
      .admin`insert into public.dispatch_operation (id, type, price, payment_id) values (90, 1, 1, null), (91, 99, 1, null)`;
    await test.sync(only);
    const [one, two, code] = await Promise.all([openOf(test, 1), openOf(test, 2), openOf(test, 91)]);
    const decide = (id: string, set: string) =>
      refused(studio(test, `update public.sync_conflicts set ${set} where id = '${id}'`));
    const cases: [string, string, string][] = [
      [one.id, "resolution_strategy = 'manual_review'", "no decision"],
      [one.id, "resolution_strategy = 'merge'", "resolution_data holds no object"],
      [one.id, `resolution_strategy = 'merge', resolution_data = '{"amount": 1}'`, "resolution_data lacks card_brand"],
      [
        one.id,
        `resolution_strategy = 'merge', resolution_data = '{"amount": 1, "card_brand": "x", "id": "y"}'`,
        "resolution_data names id",
      ],
      [one.id, `resolution_strategy = 'merge', resolution_data = '{"amount": "•••", "card_brand": "x"}'`, "a masked value"],
      [
        one.id,
        `resolution_strategy = 'merge', resolution_data = '{"amount": "ten", "card_brand": "x"}'`,
        "the column amount cannot hold its value in resolution_data exactly",
      ],
      [
        one.id,
        `resolution_strategy = 'merge', resolution_data = '{"amount": 1.005, "card_brand": "x"}'`,
        "the column amount cannot hold its value in resolution_data exactly",
      ],
      [two.id, "resolution_strategy = 'source_wins'", "the target refuses it (small)"],
      [code.id, "resolution_strategy = 'source_wins'", "cannot be written as it is"],
    ];
    for (const [id, set, message] of cases)
      expect([set, await decide(id, set)]).toMatchObject([
        set,
        { code: "IS022", message: expect.stringContaining(message) as string },
      ]);
    await test.target.admin`update public.operations set amount = 1 where legacy_operation_id = 1`;
    expect(await decide(one.id, "resolution_strategy = 'source_wins'")).toMatchObject({
      message: expect.stringContaining("the target holds other values than it shows") as string,
      hint: expect.stringContaining("sync.replay('operations')") as string,
    });
    expect([await rowOf(test, 1), await rowOf(test, 2)]).toMatchObject([
      { amount: "1.00", brand: "target" },
      { amount: "2002.00" },
    ]);
    expect(await auditOf(test)).toEqual([]);
    // What it says helps.
    await studio(test, "select sync.replay('operations')");
    await tick(test.context);
    await test.drain();
    await studio(
      test,
      `update public.sync_conflicts set resolution_strategy = 'source_wins' where id = '${(await openOf(test, 1)).id}'`,
    );
    expect((await rowOf(test, 1))?.amount).toBe("1001.00");
  });
});

describe("a decision that a deferred constraint of the target refuses", () => {
  it("is refused by its own statement, with record and constraint, and not as a raw error at the end of the transaction", async () => {
    await using test = await clinic(4);
    await test.target
      .admin`alter table public.operations add constraint one_amount unique (amount) deferrable initially deferred`;
    for (const id of [1, 2]) await bothChange(test, id);
    await test.sync(only);
    await test.target.admin`update public.operations set amount = 1002 where legacy_operation_id = 4`;
    const both = "update public.sync_conflicts set resolution_strategy = 'source_wins' where decidable";
    expect(await refused(studio(test, both))).toMatchObject({
      code: "IS022",
      message: expect.stringMatching(/^operations 2 .*the target refuses it \(one_amount\)$/) as string,
    });
    expect([await rowOf(test, 1), await rowOf(test, 2)]).toMatchObject([{ amount: "2001.00" }, { amount: "2002.00" }]);
    await test.target.admin`update public.operations set amount = 4 where legacy_operation_id = 4`;
    await studio(test, both);
    expect([await rowOf(test, 1), await rowOf(test, 2)]).toMatchObject([{ amount: "1001.00" }, { amount: "1002.00" }]);
  });
});

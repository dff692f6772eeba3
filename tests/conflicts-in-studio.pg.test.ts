import { describe, expect, it } from "vitest";
import type { History } from "../shared/entity/define-entity.ts";
import { only, clinic, studio, refused, rowOf, conflictsOf, openOf, auditOf, bothChange } from "./support/studio.ts";

describe.each<History>(["values", "hashes"])("a field that both sides have changed, with %s kept", (history) => {
  it("stops, tells everything in one row, and is decided by one change of it", async () => {
    await using test = await clinic(5, undefined, { history });
    for (const id of [1, 2, 3]) await bothChange(test, id);
    await test.sync(only);
    const open = await openOf(test, 1);
    const fields = history === "values" ? "amount, card_brand" : "amount, card_brand, metadata";
    expect(open).toMatchObject({ rule: "both_changed", policy: "manual_review of the entity", attempts: 1, decidable: true });
    expect(open.field).toBe(fields.replace("metadata", "metadata"));
    expect(open.differences).toMatchObject({
      amount: { source: 1001, target: 2001 },
      card_brand: { source: "source", target: "target" },
    });
    if (history === "values") expect(open.differences).toMatchObject({ amount: { seen: 1 }, card_brand: { seen: "VISA" } });
    expect(await rowOf(test, 1)).toEqual({ amount: "2001.00", brand: "target", last: "1234" });

    await studio(
      test,
      `update public.sync_conflicts set resolution_strategy = 'source_wins', resolved_by = 'Ada' where id = '${open.id}'`,
    );
    expect(await rowOf(test, 1)).toEqual({ amount: "1001.00", brand: "source", last: "1234" });
    await studio(
      test,
      `update public.sync_conflicts set resolution_strategy = 'target_wins' where id = '${(await openOf(test, 2)).id}'`,
    );
    expect(await rowOf(test, 2)).toEqual({ amount: "2002.00", brand: "target", last: "1234" });
    const merged = JSON.stringify({
      amount: 7.5,
      card_brand: null,
      ...(history === "hashes" ? { metadata: { merged: true } } : {}),
    });
    await studio(
      test,
      `update public.sync_conflicts set resolution_strategy = 'merge', resolution_data = '${merged}' where id = '${(await openOf(test, 3)).id}'`,
    );
    expect(await rowOf(test, 3)).toEqual({ amount: "7.50", brand: null, last: "1234" });
    expect(await auditOf(test)).toMatchObject([
      {
        actor: expect.stringMatching(/^Ada \(/) as string,
        action: "decided",
        id: 1,
        fields: fields.split(", "),
        strategy: "source_wins",
      },
      { id: 2, strategy: "target_wins" },
      { id: 3, strategy: "merge" },
    ]);
    // Settled: none of it comes back, whoever reads the records again.
    await test.sync({ ...only, capture: "full" });
    await test.sync({ ...only, capture: "digest" });
    expect(await test.live("operations")).toEqual([]);
    expect([(await rowOf(test, 1))?.amount, (await rowOf(test, 2))?.amount, (await rowOf(test, 3))?.amount]).toEqual([
      "1001.00",
      "2002.00",
      "7.50",
    ]);
    // The next change of the source is one like any other where the source has won, and asked about where the target
    // holds its own.
    await test.source.admin`update public.dispatch_operation set price = 9 where id in (1, 2, 3)`;
    await test.sync(only);
    expect([(await rowOf(test, 1))?.amount, (await rowOf(test, 2))?.amount, (await rowOf(test, 3))?.amount]).toEqual([
      "9.00",
      "2002.00",
      "7.50",
    ]);
    expect(await test.live("operations")).toMatchObject([
      { id: 2, rule: "both_changed" },
      { id: 3, rule: "both_changed" },
    ]);
  });

  it("can be put back and decided again, until something has moved on", async () => {
    await using test = await clinic(3, undefined, { history });
    for (const id of [1, 2]) await bothChange(test, id);
    await test.sync(only);
    const { id } = await openOf(test, 1);
    const decide = (strategy: string) =>
      studio(test, `update public.sync_conflicts set resolution_strategy = ${strategy} where id = '${id}'`);
    await decide("'source_wins'");
    await decide("null");
    expect(await rowOf(test, 1)).toEqual({ amount: "2001.00", brand: "target", last: "1234" });
    expect(await openOf(test, 1)).toMatchObject({ id, by: null, strategy: null });
    // It is as it was: the next run finds the same conflict.
    await test.sync({ ...only, capture: "full" });
    expect(await openOf(test, 1)).toMatchObject({ id, attempts: 2 });
    await decide("'target_wins'");
    await decide("'source_wins'");
    expect(await rowOf(test, 1)).toEqual({ amount: "1001.00", brand: "source", last: "1234" });
    expect((await auditOf(test)).map(({ action, strategy }) => [String(action), strategy as string | null])).toEqual([
      ["decided", "source_wins"],
      ["reopened", null],
      ["decided", "target_wins"],
      ["decided", "source_wins"],
    ]);
    await test.target.admin`update public.operations set amount = 5 where legacy_operation_id = 1`;
    expect(await refused(decide("null"))).toMatchObject({
      code: "IS022",
      message: expect.stringContaining("the target holds other values") as string,
    });
    await test.target.admin`update public.operations set amount = 1001 where legacy_operation_id = 1`;
    await test.source.admin`update public.dispatch_operation set price = 1 where id = 1`;
    await test.sync(only);
    expect(await refused(decide("null"))).toMatchObject({ code: "IS022" });
    expect((await rowOf(test, 1))?.amount).toBe("1.00");
  });

  it("is not put back while a page puts the record into the queue, and says so", async () => {
    await using test = await clinic(3, undefined, { history });
    await bothChange(test, 1);
    await test.sync(only);
    const { id } = await openOf(test, 1);
    await studio(test, `update public.sync_conflicts set resolution_strategy = 'target_wins' where id = '${id}'`);
    await test.source.admin`update public.dispatch_operation set price = 7001 where id = 1`;
    await test.target.admin`update public.operations set amount = 8001 where legacy_operation_id = 1`;
    // The page stops between its row of the queue and its commit.
    await test.target.admin.unsafe(`
      create function public.hold() returns trigger language plpgsql as $$ begin perform pg_advisory_xact_lock(4711); return new; end $$;
      create trigger hold after insert on public.sync_conflicts for each row execute function public.hold();`);
    const holder = await test.target.admin.reserve();
    await holder`select pg_advisory_lock(4711)`;
    const run = test.sync(only);
    const waiting = () => test.target.admin`select from pg_locks where locktype = 'advisory' and objid = 4711 and not granted`;
    while ((await waiting()).length === 0) await new Promise((again) => setTimeout(again, 20));
    const putBack = () => refused(studio(test, `update public.sync_conflicts set resolution_strategy = null where id = '${id}'`));
    const early = await Promise.race([putBack(), new Promise((late) => setTimeout(late, 5_000, "waits"))]);
    await holder`select pg_advisory_unlock(4711)`;
    holder.release();
    await run;
    expect(early).toMatchObject({
      code: "IS022",
      message: expect.stringContaining("a page is putting records of this entity into the queue") as string,
    });
    expect(await putBack()).toMatchObject({
      code: "IS022",
      message: expect.stringContaining("something else stops this record") as string,
    });
    expect(await test.live("operations")).toMatchObject([{ id: 1, rule: "both_changed" }]);
  });

  it("is decided by the entity's policy, kept, and can be decided otherwise afterwards", async () => {
    await using test = await clinic(3, { strategy: "source_wins" }, { history });
    await bothChange(test, 1);
    await test.sync(only);
    const [kept] = await conflictsOf(test, 1);
    expect(kept).toMatchObject({ state: "resolved", strategy: "source_wins", by: "policy", policy: "source_wins of the entity" });
    expect((await rowOf(test, 1))?.amount).toBe("1001.00");
    await studio(test, `update public.sync_conflicts set resolution_strategy = 'target_wins' where id = '${kept?.id ?? ""}'`);
    expect(await rowOf(test, 1)).toMatchObject({ amount: "2001.00", brand: "target" });
    await test.sync({ ...only, capture: "full" });
    expect(await rowOf(test, 1)).toMatchObject({ amount: "2001.00", brand: "target" });
  });
});

describe("while a field is open", () => {
  it("other fields flow, and a new development supersedes it, which carries age and attempts on", async () => {
    await using test = await clinic(2);
    await bothChange(test, 1);
    await test.sync(only);
    const first = await openOf(test, 1);
    await test.source.admin`update public.dispatch_operation set card_last = '9999' where id = 1`;
    await test.sync(only);
    expect(await rowOf(test, 1)).toEqual({ amount: "2001.00", brand: "target", last: "9999" });
    expect(await openOf(test, 1)).toMatchObject({ id: first.id, attempts: 2 });
    await test.source.admin`update public.dispatch_operation set price = 3001 where id = 1`;
    await test.sync(only);
    const second = await openOf(test, 1);
    expect(second).toMatchObject({ attempts: 3, differences: { amount: { seen: 1, source: 3001, target: 2001 } } });
    expect((await conflictsOf(test, 1)).map(({ state }) => state).sort()).toEqual(["open", "superseded"]);
    expect(
      await refused(
        studio(test, `update public.sync_conflicts set resolution_strategy = 'source_wins' where id = '${first.id}'`),
      ),
    ).toMatchObject({
      code: "IS022",
      message: expect.stringContaining("operations 1") as string,
      hint: expect.stringContaining("state is open") as string,
    });
    // The two sides agree after all.
    await test.target.admin`update public.operations set amount = 3001, card_brand = 'source' where legacy_operation_id = 1`;
    await test.sync({ ...only, capture: "full" });
    expect(await test.live("operations")).toEqual([]);
  });
});

describe("many decisions in one UPDATE", () => {
  it("on fields of one record are all carried out", async () => {
    await using test = await clinic(2, { strategy: "source_wins" });
    await test.source.admin`update public.dispatch_operation set price = 1001 where id = 1`;
    await test.target.admin`update public.operations set amount = 2001 where legacy_operation_id = 1`;
    await test.sync(only);
    await test.source.admin`update public.dispatch_operation set card_brand = 'source' where id = 1`;
    await test.target.admin`update public.operations set card_brand = 'target' where legacy_operation_id = 1`;
    await test.sync(only);
    expect(await rowOf(test, 1)).toEqual({ amount: "1001.00", brand: "source", last: "1234" });
    await studio(test, "update public.sync_conflicts set resolution_strategy = 'target_wins' where source_record_id = 1");
    expect(await rowOf(test, 1)).toEqual({ amount: "2001.00", brand: "target", last: "1234" });
    expect(await test.target.admin`select from public.sync_warnings`).toHaveLength(0);
  });

  it("are carried out in seconds, all of them, or none with the first that cannot be named", { timeout: 120_000 }, async () => {
    const rows = 10_000;
    await using test = await clinic(rows + 10);
    await test.source.admin`update public.dispatch_operation set price = price + 0.5 where id <= ${rows}`;
    await test.target.admin`update public.operations set amount = amount + 0.25 where legacy_operation_id <= ${rows}`;
    await test.sync(only);
    await test.target.admin`update public.operations set amount = 77 where legacy_operation_id = 5000`;
    const all =
      "update public.sync_conflicts set resolution_strategy = 'source_wins' where decidable and entity_type = 'operations'";
    expect(await refused(studio(test, all))).toMatchObject({
      code: "IS022",
      message: expect.stringMatching(/^operations 5000 /) as string,
    });
    const totals = async () =>
      (
        await test.target.admin<{ n: number; open: number }[]>`
        select (select count(*)::integer from public.operations where amount = legacy_operation_id + 0.5) as n,
               (select count(*)::integer from public.sync_conflicts where state = 'open') as open`
      )[0];
    expect(await totals()).toMatchObject({ n: 0, open: rows });
    await test.target.admin`update public.operations set amount = 5000.25 where legacy_operation_id = 5000`;
    const began = performance.now();
    await studio(test, all);
    const seconds = (performance.now() - began) / 1_000;
    expect(await totals()).toMatchObject({ n: rows, open: 0 });
    expect(seconds).toBeLessThan(20);
    process.stdout.write(`${rows} decisions: ${seconds.toFixed(1)} s\n`);
  });
});

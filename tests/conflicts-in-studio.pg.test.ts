import { describe, expect, it } from "vitest";
import type postgres from "postgres";
import type { Conflicts, Entity, History } from "../shared/entities/define-entity.ts";
import { operations as operationsEntity } from "../shared/entities/operations.ts";
import { tick } from "../shared/jobs/tick.ts";
import { workerGrants } from "../shared/jobs/grants.ts";
import { createPipeline, type Pipeline } from "./support/pipeline.ts";

// People act as the table editor does: plain UPDATEs as the database user postgres.

const only = { entities: ["operations"] };
type Id = number;

async function clinic(
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
const studio = <Row extends object>(test: Pipeline, statement: string, ...before: string[]) =>
  test.target.admin.begin(async (tx) => {
    await tx.unsafe("set local role postgres");
    for (const setting of before) await tx.unsafe(setting);
    return (await tx.unsafe<Row[]>(statement)) as Row[];
  });
const refused = async (work: Promise<unknown>) => {
  const error = await work.then(
    () => undefined,
    (reason: unknown) => reason as postgres.PostgresError,
  );
  return error && { code: error.code, message: error.message, hint: error.hint };
};

const rowOf = async (test: Pipeline, id: Id) => {
  const [row] = await test.target.admin<{ amount: string; brand: string | null; last: string | null }[]>`
    select amount::text, card_brand as brand, card_last as last from public.operations where legacy_operation_id = ${id}`;
  return row && { ...row };
};
const conflictsOf = async (test: Pipeline, id: Id) =>
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
const openOf = async (test: Pipeline, id: Id) => {
  const [open] = (await conflictsOf(test, id)).filter(({ state }) => state === "open");
  if (!open) throw new Error(`record ${id} is not open`);
  return open;
};
const auditOf = async (test: Pipeline) =>
  (
    await test.target.admin`select actor, action, legacy_id::integer as id, fields, strategy from public.sync_audit order by id`
  ).map((row) => ({ ...row }));

/** Both sides change the amount and the brand of a record. */
async function bothChange(test: Pipeline, id: Id, price = 1000 + id): Promise<void> {
  await test.source.admin`update public.dispatch_operation set price = ${price}, card_brand = 'source' where id = ${id}`;
  await test.target
    .admin`update public.operations set amount = ${2000 + id}, card_brand = 'target' where legacy_operation_id = ${id}`;
}

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
    // The next change of the source is one like any other where the source has won, and asked about where the target holds its own.
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

describe("many decisions in one UPDATE", () => {
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

describe("a record as a whole", () => {
  it("whose target row somebody deleted is written again under its id, or stays away, and is not asked about again", async () => {
    await using test = await clinic(6);
    const ids = async () =>
      (
        await test.target.admin<{ id: number; uuid: string }[]>`
        select legacy_operation_id::integer as id, id as uuid from public.operations where legacy_operation_id in (1, 2) order by 1`
      ).map((row) => ({ ...row }));
    const before = await ids();
    await test.target.admin`delete from public.operations where legacy_operation_id in (1, 2)`;
    await test.sync({ ...only, capture: "full" });
    expect(await openOf(test, 1)).toMatchObject({ rule: "target_deleted", decidable: true });
    await studio(
      test,
      `update public.sync_conflicts set resolution_strategy = 'source_wins' where id = '${(await openOf(test, 1)).id}'`,
    );
    await studio(
      test,
      `update public.sync_conflicts set resolution_strategy = 'target_wins' where id = '${(await openOf(test, 2)).id}'`,
    );
    expect(await ids()).toEqual(before.slice(0, 1));
    for (const capture of ["full", "digest"] as const) {
      const { execution } = await test.sync({ ...only, capture });
      expect(await test.live("operations")).toEqual([]);
      expect((await test.sums(execution)).read).toBe(capture === "full" ? 6 : 0);
    }
    // Until the source changes it.
    await test.source.admin`update public.dispatch_operation set price = 5 where id = 2`;
    await test.sync(only);
    expect(await openOf(test, 2)).toMatchObject({ rule: "target_deleted" });
    // A decision that stood can be put back, too.
    const { id } = await openOf(test, 2);
    await studio(test, `update public.sync_conflicts set resolution_strategy = 'target_wins' where id = '${id}'`);
    await studio(test, `update public.sync_conflicts set resolution_strategy = null where id = '${id}'`);
    await studio(test, `update public.sync_conflicts set resolution_strategy = 'source_wins' where id = '${id}'`);
    expect(await ids()).toEqual(before);
    expect((await rowOf(test, 2))?.amount).toBe("5.00");
  });

  it("that the source deleted goes, with what it held kept, or stays", async () => {
    await using test = await clinic(6);
    await test.source.admin`delete from public.dispatch_operation where id in (1, 2)`;
    await test.sync({ ...only, capture: "digest" });
    const { id } = await openOf(test, 1);
    await studio(test, `update public.sync_conflicts set resolution_strategy = 'source_wins' where id = '${id}'`);
    await studio(
      test,
      `update public.sync_conflicts set resolution_strategy = 'target_wins' where id = '${(await openOf(test, 2)).id}'`,
    );
    expect([await rowOf(test, 1), (await rowOf(test, 2))?.amount]).toEqual([undefined, "2.00"]);
    const [kept] = await test.target
      .admin`select target ->> 'card_brand' as brand from public.sync_conflict_values where conflict_id = ${id}`;
    expect(kept).toEqual({ brand: "VISA" });
    await test.sync({ ...only, capture: "digest" });
    expect(await test.live("operations")).toEqual([]);
    expect(
      await refused(studio(test, `update public.sync_conflicts set resolution_strategy = null where id = '${id}'`)),
    ).toMatchObject({ message: expect.stringContaining("is not put back") as string });
  });

  it("that a rule stops can be left out until the source changes it: it is neither asked about nor compared", async () => {
    await using test = await clinic(3);
    await test.source.admin`insert into public.dispatch_operation (id, type, price) values (50, 99, 1), (51, 99, 1)`;
    await test.source.admin`update public.dispatch_operation set type = 99 where id = 1`;
    await test.sync(only);
    await studio(test, "update public.sync_conflicts set resolution_strategy = 'target_wins' where source_record_id in (1, 50)");
    expect((await test.live("operations")).map(({ id }) => id)).toEqual([51]);
    for (const capture of ["digest", "full"] as const) {
      const { execution } = await test.sync({ ...only, capture });
      const { read, outcomes } = await test.sums(execution);
      expect(read).toBe(outcomes);
      expect((await test.live("operations")).map(({ id }) => id)).toEqual([51]);
    }
    await test.source.admin`update public.dispatch_operation set price = 2 where id in (1, 50)`;
    await test.sync(only);
    expect((await test.live("operations")).map(({ id }) => id)).toEqual([1, 50, 51]);
    await test.source.admin`update public.dispatch_operation set type = 1`;
    await test.sync(only);
    expect(await test.live("operations")).toEqual([]);
  });

  it("is settled by the policy of its type, or of deleted rows, without a person", async () => {
    await using test = await clinic(3, { types: { business_rule_violation: "target_wins" }, deleted: "target_wins" });
    await test.target.admin`delete from public.operations where legacy_operation_id = 1`;
    await test.target.admin`alter table public.operations add constraint small check (amount < 5000)`;
    await test.source.admin`update public.dispatch_operation set price = 6000 where id in (1, 2)`;
    await test.sync(only);
    expect(await test.live("operations")).toEqual([]);
    expect(await conflictsOf(test, 1)).toMatchObject([
      { state: "resolved", rule: "target_deleted", by: "policy", policy: "target_wins of deleted rows", standing: true },
    ]);
    expect(await conflictsOf(test, 2)).toMatchObject([
      { state: "resolved", rule: "small", policy: "target_wins of the type business_rule_violation" },
    ]);
    const { execution } = await test.sync({ ...only, capture: "digest" });
    expect((await test.sums(execution)).read).toBe(0);
    await test.source.admin`update public.dispatch_operation set price = 60 where id = 2`;
    await test.sync(only);
    expect((await rowOf(test, 2))?.amount).toBe("60.00");
    expect((await conflictsOf(test, 2)).map(({ standing }) => standing)).toEqual([false]);
  });
});

describe("what the queue shows and keeps", () => {
  it("masks sensitive values, cuts long ones short, and reveals them with a trace", async () => {
    await using test = await clinic(2);
    const long = "x".repeat(20_000);
    await test.source.admin`update public.dispatch_operation set card_last = '7777', card_brand = 'source' where id = 1`;
    await test.target.admin`update public.operations set card_last = '8888', card_brand = ${long} where legacy_operation_id = 1`;
    await test.sync(only);
    const open = await openOf(test, 1);
    const masked = { seen: "•••", source: "•••", target: "•••" };
    expect(open.differences).toMatchObject({
      card_last: masked,
      card_brand: { target: expect.stringContaining("(20000 characters)") as string },
    });
    expect(JSON.stringify(open).length).toBeLessThan(3_000);
    // All fields at once fit into a cell as well.
    const [cell] = await test.target.admin<{ size: number }[]>`
      select length(sync.differences((select jsonb_agg(jsonb_build_object('name', 'field_' || n, 'sensitive', false)) from generate_series(1, 50) n),
               (select array_agg('field_' || n) from generate_series(1, 50) n), v.whole, v.whole, v.whole, true)::text) as size
        from (select jsonb_object_agg('field_' || n, repeat('x', 5000)) as whole from generate_series(1, 50) n) v`;
    expect(cell?.size).toBeLessThan(16_000);
    const [shown] = await studio<{ reveal: unknown }>(test, `select sync.reveal('${open.id}')`);
    expect(shown?.reveal).toMatchObject({
      card_last: { seen: "1234", source: "7777", target: "8888" },
      card_brand: { target: long },
    });
    expect(await auditOf(test)).toMatchObject([{ action: "revealed", id: 1, fields: ["card_brand", "card_last"] }]);
  });

  it("does not depend on the settings of any session", async () => {
    await using test = await clinic(4);
    const settings = [
      "set local timezone = 'Asia/Tokyo'",
      "set local datestyle = 'German, DMY'",
      "set local extra_float_digits = 0",
      "set local intervalstyle = 'sql_standard'",
    ];
    await test.source.admin`update public.dispatch_operation set made_at = '2026-03-29 01:30:00.123456+00' where id <= 3`;
    await test.target
      .admin`update public.operations set made_at = '2026-10-25 00:30:00.654321+00' where legacy_operation_id <= 3`;
    await test.sync(only);
    const made = async () =>
      (
        await test.target.admin<
          { at: string }[]
        >`select to_char(made_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') as at from public.operations where legacy_operation_id <= 3 order by legacy_operation_id`
      ).map(({ at }) => at);
    const decide = async (id: Id, set: string) =>
      studio(test, `update public.sync_conflicts set ${set} where id = '${(await openOf(test, id)).id}'`, ...settings);
    await decide(1, "resolution_strategy = 'source_wins'");
    await decide(2, "resolution_strategy = 'target_wins'");
    await decide(3, `resolution_strategy = 'merge', resolution_data = '{"made_at": "2026-01-01T12:00:00.000001+02:00"}'`);
    expect(await made()).toEqual(["2026-03-29 01:30:00.123456", "2026-10-25 00:30:00.654321", "2026-01-01 10:00:00.000001"]);
    await test.target.admin.unsafe(
      "alter role isthmus_worker set timezone = 'Asia/Tokyo'; alter role isthmus_worker set datestyle = 'German, DMY'; alter role isthmus_worker set extra_float_digits = 0",
    );
    try {
      await test.sync({ ...only, capture: "full" });
      expect(await test.live("operations")).toEqual([]);
    } finally {
      await test.target.admin.unsafe(
        "alter role isthmus_worker reset timezone; alter role isthmus_worker reset datestyle; alter role isthmus_worker reset extra_float_digits",
      );
    }
  });

  it("tells application triggers which writes are the sync's: a decision is, what the person writes beside it is not; names without a schema are found", async () => {
    await using test = await clinic(2);
    await bothChange(test, 1);
    await test.sync(only);
    await test.target.admin.unsafe(`
      create table public.who (n serial, setting text); grant all on public.who to postgres, isthmus_decisions;
      grant usage on sequence public.who_n_seq to postgres, isthmus_decisions;
      create function public.note_writer() returns trigger language plpgsql as $$ begin insert into who (setting) values (current_setting('isthmus.sync', true)); return new; end $$;
      create trigger note_writer after update on public.operations for each row execute function public.note_writer()`);
    await studio(
      test,
      "update public.operations set amount = 3 where legacy_operation_id = 2",
      "update public.sync_conflicts set resolution_strategy = 'source_wins' where state = 'open'",
    );
    const who = await test.target.admin<{ setting: string | null }[]>`select setting from public.who order by n`;
    expect(who.map(({ setting }) => setting ?? "")).toEqual(["on", ""]);
  });
});

describe("unique values", () => {
  it("that two records exchange land, in one page or in two, and a clash names both", async () => {
    await using test = await clinic(6);
    await test.source.admin`update public.dispatch_operation set card_brand = 'brand ' || id`;
    await test.sync(only);
    await test.target.admin`create unique index one_brand on public.operations (card_brand)`;
    const swap = (a: Id, b: Id) =>
      test.source
        .admin`update public.dispatch_operation set card_brand = case id when ${a} then ${`brand ${b}`} else ${`brand ${a}`} end where id in (${a}, ${b})`;
    await swap(1, 2);
    await test.sync(only);
    expect([(await rowOf(test, 1))?.brand, (await rowOf(test, 2))?.brand]).toEqual(["brand 2", "brand 1"]);
    expect(await test.live("operations")).toEqual([]);
    // In two pages: each finds the value taken, and both are read together.
    await swap(3, 6);
    const { execution } = await test.start(only);
    await test.target.admin`update public.sync_chains set page_size = 1 where execution_id = ${execution}`;
    await test.drain();
    for (let tries = 0; tries < 3; tries++) {
      await tick(test.context);
      await test.drain();
    }
    expect([(await rowOf(test, 3))?.brand, (await rowOf(test, 6))?.brand]).toEqual(["brand 6", "brand 3"]);
    expect(await test.live("operations")).toEqual([]);
    await test.source.admin`update public.dispatch_operation set card_brand = 'brand 5' where id = 4`;
    await test.sync(only);
    const [clash] = await test.target.admin`
      select source_record_id::integer as id, conflict_type, rule, remedy, conflict_data #> '{clashes_with,legacy_id}' as other, retry_class, next_attempt_at > now() as again
        from public.sync_conflicts where state = 'open'`;
    expect(clash).toMatchObject({
      id: 4,
      conflict_type: "business_rule_violation",
      rule: "one_brand",
      other: 5,
      retry_class: "clash",
      again: true,
    });
    expect(clash?.["remedy"]).toContain("Record 5 holds");
  });
});

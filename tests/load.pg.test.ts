import { beforeAll, afterAll, describe, expect, it } from "vitest";
import { createInProcess, type InProcess } from "./support/in-process.ts";

describe("reconciling and loading a page", () => {
  let test: InProcess;
  beforeAll(async () => {
    test = await createInProcess();
    await test.source.admin`insert into public.dispatch_order (id) values (1)`;
    await test.source.admin`
      insert into public.dispatch_payment (id, order_id, total_price, subtotal_price, paid_price, additional_price, tax_rate, tax_value, used_credit, paid, canceled, free, netsuite, installments)
      select id, 1, 100 + id / 100.0, 1, 0, 0, 8.2500, 0, 0, false, false, false, false, '' from generate_series(1, 500) id`;
    await test.source
      .admin`insert into public.dispatch_operation (id, payment_id, type, price) select id, id, 1, case when id in (17, 256, 499) then -1 else 10 end from generate_series(1, 500) id`;
  });
  afterAll(() => test[Symbol.asyncDispose]());

  const payment = async (id: number) =>
    (await test.target.admin`select * from public.payments where legacy_payment_id = ${id}`)[0];
  const live = (entity: string) =>
    test.target.admin<
      { id: number; state: string; type: string; rule: string; remedy: string; data: object; attempts: number }[]
    >`
      select source_record_id::integer as id, state, conflict_type as type, rule, remedy, conflict_data as data, attempts
        from public.sync_conflicts where entity_type = ${entity} and state in ('waiting', 'open') order by 1`;
  const last = async (entity: string) =>
    (
      await test.target.admin`
      select l.read, l.inserted, l.updated, l.unchanged, l.waiting, l.in_conflict from public.sync_page_log l join public.sync_entities e on e.id = l.entity_id
       where e.entity_type = ${entity} order by l.id desc limit 1`
    )[0];

  it("lands 497 of 500 records and queues exactly the three that the target's check refuses, each with its constraint and a remedy", async () => {
    await test.sync();
    expect(await last("operations")).toEqual({ read: 500, inserted: 497, updated: 0, unchanged: 0, waiting: 0, in_conflict: 3 });
    const queue = await live("operations");
    expect(queue.map((row) => row.id)).toEqual([17, 256, 499]);
    for (const row of queue) {
      expect(row).toMatchObject({
        state: "open",
        type: "business_rule_violation",
        rule: "operations_amount_check",
        data: { sqlstate: "23514" },
      });
      expect(row.remedy).toMatch(/correct it in the source/);
    }
  });

  it("counts another attempt instead of another row while the trouble stays, and closes the row when the record lands", async () => {
    await test.sync({ entities: ["operations"], capture: "full" });
    expect((await live("operations")).map((row) => row.attempts)).toEqual([2, 2, 2]);
    await test.source.admin`update public.dispatch_operation set price = 5 where id = 17`;
    const { execution } = await test.sync({ entities: ["operations"] });
    expect((await live("operations")).map((row) => row.id)).toEqual([256, 499]);
    const [resolved] = await test.target
      .admin`select state, resolved_by, resolved_in from public.sync_conflicts where source_record_id = 17`;
    expect(resolved).toEqual({ state: "resolved", resolved_by: "sync", resolved_in: execution });
    const [metrics] = await test.target.admin<
      { rate: number }[]
    >`select (metrics ->> 'conflictResolutionRate')::float8 as rate from public.sync_executions where id = ${execution}`;
    expect(metrics?.rate).toBe(1);
  });

  it("supersedes the row when the trouble becomes another one, which carries age and attempts on", async () => {
    await test.source.admin`update public.dispatch_operation set type = 3 where id = 256`;
    await test.sync({ entities: ["operations"] });
    expect(await live("operations")).toMatchObject([
      { id: 256, rule: "operations.type.known_code@1", attempts: 3, data: { raw: "3" } },
      { id: 499 },
    ]);
    const states = await test.target.admin<
      { state: string }[]
    >`select state from public.sync_conflicts where source_record_id = 256 order by first_seen_at, state`;
    expect(states.map((row) => row.state).sort()).toEqual(["open", "superseded"]);
  });

  it("never rounds: a number that the target column cannot hold exactly goes to the queue", async () => {
    await using own = await createInProcess();
    await own.source.admin`insert into public.dispatch_order (id) values (1)`;
    await own.source.admin`
      insert into public.dispatch_payment (id, order_id, total_price, subtotal_price, paid_price, additional_price, tax_rate, tax_value, used_credit, paid, canceled, free, netsuite, installments)
      select id, 1, 100, 1, 0, 0, 8.2500, 0, 0, false, false, false, false, '' from generate_series(1, 5) id`;
    await own.target.admin`alter table public.payments alter column amount type numeric(10, 1)`;
    await own.sync();
    await own.source.admin`update public.dispatch_payment set total_price = 77.77 where id = 3`;
    await own.source.admin`update public.dispatch_payment set total_price = 77.70 where id = 4`;
    await own.sync({ entities: ["payments"] });
    const queue = await own.target.admin`
      select source_record_id::integer as id, conflict_type as type, rule from public.sync_conflicts where state in ('waiting', 'open')`;
    expect([...queue]).toEqual([{ id: 3, type: "schema_mismatch", rule: "IS001" }]);
    const amounts = await own.target.admin<{ amount: string }[]>`select amount from public.payments order by legacy_payment_id`;
    expect(amounts.map(({ amount }) => amount)).toEqual(["100.0", "100.0", "100.0", "77.7", "100.0"]);
  });

  it("keeps somebody's edit of one field while another changes in the source, and never touches columns it does not own", async () => {
    await test.sync({ entities: ["payments"], capture: "full" });
    const before = await payment(10);
    await test.target.admin`update public.payments set netsuite = true where legacy_payment_id = 10`;
    await test.source.admin`update public.dispatch_payment set paid = true, paid_price = 5 where id = 10`;
    await test.sync({ entities: ["payments"] });
    expect(await payment(10)).toMatchObject({
      netsuite: true,
      paid_amount: "5.00",
      payment_status: "completed",
      created_at: before?.["created_at"] as Date,
    });
    await test.sync({ entities: ["payments"], capture: "full" });
    expect(await payment(10)).toMatchObject({ netsuite: true });
  });

  it("lets the source win when both sides changed a field, and keeps the overwritten value as a decided conflict", async () => {
    await test.target.admin`update public.payments set paid_amount = 42 where legacy_payment_id = 11`;
    await test.source.admin`update public.dispatch_payment set paid_price = 6 where id = 11`;
    await test.sync({ entities: ["payments"] });
    expect(await payment(11)).toMatchObject({ paid_amount: "6.00" });
    const [kept] = await test.target.admin`
      select c.state, c.conflict_type, c.resolution_strategy, c.resolved_by, c.field, v.target as "values" from public.sync_conflicts c
        join public.sync_conflict_values v on v.conflict_id = c.id where c.source_record_id = 11`;
    expect(kept).toEqual({
      state: "resolved",
      conflict_type: "concurrent_modification",
      resolution_strategy: "source_wins",
      resolved_by: "policy",
      field: "paid_amount",
      values: { paid_amount: 42 },
    });
  });

  it("does not bring back a row that somebody deleted: it asks", async () => {
    await test.target.admin`delete from public.operations where legacy_operation_id = 20`;
    await test.source.admin`update public.dispatch_operation set price = 11 where id = 20`;
    await test.sync({ entities: ["operations"] });
    expect((await test.target.admin`select from public.operations where legacy_operation_id = 20`).length).toBe(0);
    expect((await live("operations")).find((row) => row.id === 20)).toMatchObject({
      state: "open",
      type: "concurrent_modification",
      rule: "target_deleted",
    });
  });

  it("tells application triggers that it is the sync that writes; those that name tables and types without a schema find them", async () => {
    await test.target.admin.unsafe(`
      create domain public.setting as text;
      create table public.who (setting public.setting);
      create function public.note_writer() returns trigger language plpgsql as $$ begin insert into who values (current_setting('isthmus.sync', true)::setting); return new; end $$;
      grant insert on public.who to isthmus_worker;
      create trigger note_writer after update on public.payments for each row execute function public.note_writer()`);
    await test.source.admin`update public.dispatch_payment set paid_price = 7 where id = 12`;
    await test.sync({ entities: ["payments"] });
    await test.target.admin`update public.payments set netsuite = true where legacy_payment_id = 12`;
    expect(
      (await test.target.admin<{ setting: string | null }[]>`select setting from public.who`).map((row) => row.setting ?? ""),
    ).toEqual(["on", ""]);
    await test.target.admin`drop trigger note_writer on public.payments`;
  });

  it("releases what waited when the parent lands, and again when that was lost: a query, not a signal", async () => {
    const landed = async () => (await test.target.admin`select from public.operations where legacy_operation_id = 600`).length;
    await test.source
      .admin`insert into public.dispatch_payment select id + 599, made_at, instruction_id, order_id, doctor_id, office_id, total_price, subtotal_price, paid_price,
      additional_price, custom_price, tax_rate, tax_value, used_credit, paid, canceled, free, netsuite, installments from public.dispatch_payment where id in (1, 2)`;
    await test.source.admin`insert into public.dispatch_operation (id, payment_id, type, price) values (600, 600, 1, 10)`;
    await test.sync({ entities: ["operations"] });
    expect((await live("operations")).find((row) => row.id === 600)).toMatchObject({
      state: "waiting",
      rule: "parent_missing@1",
    });
    // In the commit of the page that lands the parent, though more pages follow.
    const { execution } = await test.start({ entities: ["payments"] });
    // Other sessions of this server may hold the horizon back, so that records of before come first.
    const parent = async () => (await test.target.admin`select from public.payments where legacy_payment_id = 600`).length;
    while ((await parent()) === 0) {
      const next = test.queue.shift();
      if (!next) throw new Error("no page");
      await test.target.admin`update public.sync_chains set page_size = 1 where execution_id = ${execution}`;
      expect(await test.run(next)).toMatchObject({ outcome: "committed", read: 1 });
    }
    expect((await test.target.admin`select from public.payments where legacy_payment_id = 601`).length).toBe(0);
    const lose = () =>
      test.target.admin<{ reason: string }[]>`delete from public.sync_pending_keys where legacy_id = 600 returning reason`;
    expect([...(await lose())]).toEqual([{ reason: "released" }]);
    // When the chain closes.
    await test.drain();
    expect([...(await lose())]).toEqual([{ reason: "released" }]);
    expect(await landed()).toBe(0);
    await test.sync({ entities: ["operations"] });
    expect(await landed()).toBe(1);
  });

  it("asks about what the source no longer has, in a full pass", async () => {
    await test.source.admin`delete from public.dispatch_operation where id = 30`;
    await test.sync({ entities: ["operations"], capture: "full" });
    expect(
      await test.target.admin`select source_record_id::integer as id, rule from public.sync_conflicts
      where entity_type = 'operations' and state = 'open' and rule = 'deleted_in_source'`,
    ).toMatchObject([{ id: 30, rule: "deleted_in_source" }]);
  });

  describe("control totals", () => {
    /** Makes the target wrong in a way that no comparison of field by field would notice. */
    const corrupt = (id: number) =>
      test.target.admin.begin(async (tx) => {
        await tx`update public.payments set amount = amount + 0.01 where legacy_payment_id = ${id}`;
        await tx`set local session_replication_role = replica`;
        await tx`update public.sync_row_states s set "left" = jsonb_set("left", '{amount}', to_jsonb((select amount from public.payments where legacy_payment_id = ${id})))
                where legacy_id = ${id} and entity_id = (select id from public.sync_entities where entity_type = 'payments')`;
      });
    /** An entity in which nothing has changed is not compared. */
    const touch = (table: string) =>
      test.source.admin.unsafe(
        `update public.dispatch_${table} set id = id where id = (select min(id) from public.dispatch_${table})`,
      );
    const errors = async (execution: string) =>
      (await test.target.admin`select status, errors from public.sync_executions where id = ${execution}`)[0];

    it("find a cent, read the record once more, and fail the execution when the difference stays", async () => {
      await corrupt(50);
      await touch("payment");
      const { execution } = await test.start({ entities: ["payments"] });
      await test.drain();
      expect(await errors(execution)).toEqual({
        status: "failed",
        errors: [{ code: "CONTROL_TOTALS_DIFFER", entity: "payments", legacy_ids: ["50"] }],
      });
      const rounds = await test.target
        .admin`select round, body -> 'differing' as differing from public.sync_reports where execution_id = ${execution} order by round`;
      expect([...rounds]).toEqual([
        { round: 1, differing: ["50"] },
        { round: 2, differing: ["50"] },
      ]);
      expect((await test.target.admin`select kind from public.sync_alerts where kind = 'execution_failed'`).length).toBe(1);
    });

    it("heal what reading the record once more puts right", async () => {
      await test.target.admin.begin(async (tx) => {
        await tx`set local session_replication_role = replica`;
        await tx`update public.sync_row_states set seen = jsonb_set(seen, '{amount}', '0') where legacy_id = 50 and entity_id = (select id from public.sync_entities where entity_type = 'payments')`;
      });
      await touch("payment");
      const { execution } = await test.sync({ entities: ["payments"] });
      expect(await errors(execution)).toEqual({ status: "succeeded", errors: null });
      expect((await payment(50))?.["amount"]).toBe("100.50");
    });

    it("find a record that never landed although nothing says why", async () => {
      await test.target.admin`delete from public.sync_conflicts where source_record_id = 499`;
      await touch("operation");
      const { execution } = await test.sync({ entities: ["operations"] });
      const [report] = await test.target
        .admin`select body -> 'differing' as differing from public.sync_reports where execution_id = ${execution} and round = 1`;
      expect(report?.["differing"]).toEqual(["499"]);
      expect((await live("operations")).map((row) => row.id)).toContain(499);
    });

    it("leave out what people edited and what waits", async () => {
      await test.target.admin`update public.payments set amount = 1 where legacy_payment_id = 60`;
      await touch("payment");
      const { execution } = await test.sync({ entities: ["payments"] });
      const [report] = await test.target.admin<
        { unsettled: number }[]
      >`select (body ->> 'unsettled')::integer as unsettled from public.sync_reports where execution_id = ${execution}`;
      expect(report?.unsettled).toBeGreaterThanOrEqual(1);
    });
  });
});

describe("a chain that reads nothing silently", () => {
  it("cannot commit a page whose outcomes do not add up to what it read", async () => {
    await using test = await createInProcess();
    await test.source.admin`insert into public.dispatch_office (id, name, valid, emails) values (1, 'one', true, true)`;
    await test.start({ entities: ["offices"] });
    await test.drain();
    const [row] = await test.target.admin<
      { chain_id: string; execution_id: string; entity_id: number }[]
    >`select chain_id, execution_id, entity_id from public.sync_page_log`;
    const forged = test.target.admin`
      insert into public.sync_page_log (execution_id, chain_id, entity_id, page, read, inserted, updated, unchanged, waiting, in_conflict, wall_ms)
      values (${row?.execution_id ?? ""}, ${row?.chain_id ?? ""}, ${row?.entity_id ?? 0}, 9, 5, 4, 0, 0, 0, 0, 1)`;
    await expect(forged).rejects.toMatchObject({ constraint_name: "nothing_silent" });
  });
});

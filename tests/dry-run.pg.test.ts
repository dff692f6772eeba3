import { describe, expect, it } from "vitest";
import type { Sql as AdminSql } from "postgres";
import type { Sql } from "../shared/db/connect.ts";
import { tick } from "../shared/tick/tick.ts";
import { defineEntity, type Entity } from "../shared/entity/define-entity.ts";
import { workerGrants } from "../shared/operate/grants.ts";
import type { Context } from "../shared/context.ts";
import { applyEdits } from "../clinic/dataset/edit.ts";
import { adopt, loosen } from "./support/adoption.ts";
import { expectAgreement } from "./support/agreement.ts";
import { createInProcess } from "./support/in-process.ts";
import { createPipeline } from "./support/pipeline.ts";
import { counted, everything, notedRecords, planned } from "./support/plan.ts";

const env = { ISTHMUS_PAGE_SIZE: "150", ISTHMUS_PAGE_SIZE_MAX: "150" };

describe("a plan of everything", () => {
  it(
    "before the first run agrees with it, planned parents included, and so do those after edits, in part and in full",
    { timeout: 400_000 },
    async () => {
      await using test = await createInProcess({ scale: 0.01, env });
      await test.start({ dryRun: true });
      await test.drain();
      const first = await expectAgreement(test);
      expect(new Set(first.outcomes.map((record) => record.outcome))).toEqual(new Set(["inserted", "waiting", "in_conflict"]));

      await applyEdits({ url: test.source.superuserUrl, count: 200 });
      await test.target.admin`update public.offices set phone = 'edited by somebody'`;
      const second = await expectAgreement(test);
      expect(new Set(second.outcomes.map((record) => record.outcome))).toContain("updated");
      expect(second.outcomes.filter((record) => record.rule === "source_wins").length).toBeGreaterThan(0);

      await applyEdits({ url: test.source.superuserUrl, seed: 2, count: 100 });
      await expectAgreement(test, { capture: "full" });
      await expectAgreement(test);
    },
  );
});

const offices = { entities: ["offices"] };
/** Pages of two: what clashes is seldom in one page. */
const inTwos = { ISTHMUS_PAGE_SIZE: "2", ISTHMUS_PAGE_SIZE_MAX: "2" };

describe("what the database would reject", () => {
  it("is found without touching its table: NOT NULL, CHECK, unique values of earlier pages, freed ones, expressions, types", async () => {
    await using test = await createInProcess({ env: inTwos });
    await test.target.admin.unsafe(`
      alter table public.offices add constraint short_name check (length(name) < 20);
      alter table public.offices add constraint one_phone unique (phone);
      alter table public.offices alter column city type varchar(5);
      create unique index one_square on public.offices (lower(square_customer_id)) where is_active`);
    await test.source.admin.unsafe(`
      insert into public.dispatch_office (id, name, valid, emails, phone, city, sq_customer_id) values
        (1, 'one', true, true, '1', 'a', 'x'), (2, 'two', true, true, '2', null, null), (3, 'three', true, true, '1', 'b', 'y'),
        (4, 'a name that is far too long', true, true, '4', null, null), (5, 'five', true, true, '5', 'too long', null),
        (6, 'six', true, true, '6', null, 'X'), (7, 'seven', false, true, '7', null, 'x'), (8, 'eight', true, true, '8', null, null),
        (9, 'nine', true, true, '9', null, null)`);
    const first = await expectAgreement(test, offices);
    expect(first.outcomes.map(({ legacyId, outcome, rule, field }) => [legacyId, outcome, rule ?? field])).toEqual([
      ["1", "inserted", null],
      ["2", "inserted", null],
      ["3", "in_conflict", "one_phone"],
      ["4", "in_conflict", "short_name"],
      ["5", "in_conflict", "22001"],
      ["6", "in_conflict", "one_square"],
      ["7", "inserted", null],
      ["8", "inserted", null],
      ["9", "inserted", null],
    ]);
    // 1 frees a number that 8 takes, and takes one that is nobody's yet; 9 wants one that stays; 2 loses what it
    // needs.
    await test.source.admin.unsafe(`
      update public.dispatch_office set phone = '11', sq_customer_id = null where id = 1;
      update public.dispatch_office set phone = '1' where id = 8;
      update public.dispatch_office set phone = '7' where id = 9;
      update public.dispatch_office set sq_customer_id = 'X' where id = 9;
      update public.dispatch_office set name = 'still far too long a name' where id = 2`);
    const second = await expectAgreement(test, offices);
    expect(second.outcomes.map(({ legacyId, outcome, rule }) => [legacyId, outcome, rule])).toEqual([
      ["1", "updated", null],
      ["2", "in_conflict", "short_name"],
      ["8", "updated", null],
      ["9", "in_conflict", "one_phone"],
    ]);
  });

  it("is found of a record that waits for a decision, whose other fields are written all the same; two that change places are planned together", async () => {
    await using test = await createPipeline({ env: inTwos });
    await test.target.admin`alter table public.offices add constraint one_phone unique (phone)`;
    for (const id of [1, 2, 3, 4, 5, 6]) await test.seed.office(id);
    await test.source.admin`update public.dispatch_office set phone = id::text`;
    await test.sync(offices);
    const change = async (id: number, phone: string) =>
      test.source.admin`update public.dispatch_office set phone = ${phone}, name = 'renamed' where id = ${id}`;
    const agreed = async () =>
      (await expectAgreement(test, { ...offices, conflictStrategy: "manual_review" })).outcomes.map(
        ({ legacyId, outcome, rule, field }) => [legacyId, outcome, rule, field],
      );
    // 1 frees a number that 4 takes, and a person has changed its name too; 2 and 3 are not of one page.
    await test.target.admin`update public.offices set name = 'by hand' where legacy_office_id in (1, 5)`;
    await change(1, "11");
    await change(2, "3");
    await change(4, "1");
    await change(3, "2");
    expect(await agreed()).toEqual([
      ["1", "in_conflict", "both_changed", "name"],
      ["2", "updated", null, null],
      ["3", "updated", null, null],
      ["4", "updated", null, null],
    ]);
    expect((await test.target.admin`select phone from public.offices where legacy_office_id = 1`)[0]).toEqual({ phone: "11" });
    await change(5, "6");
    expect((await agreed()).slice(-1)).toEqual([["5", "in_conflict", "one_phone", null]]);
  });

  it("is found of one record alone: three others of its page that pass a unique value round land, one that wants it too does not", async () => {
    await using test = await createPipeline();
    await test.target.admin`alter table public.offices add constraint one_phone unique (phone)`;
    for (let id = 1; id <= 9; id++) await test.seed.office(id);
    await test.source.admin`update public.dispatch_office set phone = id::text`;
    await test.sync(offices);
    await test.source.admin`
      update public.dispatch_office o set phone = x.phone
        from (values (1, '2'), (2, '3'), (3, '1'), (4, '5'), (5, '4'), (6, '7'), (8, '1')) x (id, phone) where o.id = x.id`;
    const { outcomes } = await expectAgreement(test, offices);
    expect(outcomes.map(({ legacyId, outcome, rule }) => [legacyId, outcome, rule])).toEqual([
      ...["1", "2", "3", "4", "5"].map((id) => [id, "updated", null]),
      ["6", "in_conflict", "one_phone"],
      ["8", "in_conflict", "one_phone"],
    ]);
    const rows = await test.target.admin<{ phone: string }[]>`select phone from public.offices order by legacy_office_id`;
    expect(rows.map(({ phone }) => phone)).toEqual(["2", "3", "1", "5", "4", "6", "7", "8", "9"]);
  });
});

interface Builders {
  readonly copy: (column: string) => unknown;
}
const define = defineEntity as unknown as (spec: object) => Entity;
const codes = define({
  name: "codes",
  target: { table: "codes", legacyKey: "legacy_id" },
  source: { table: "code", key: "id", alias: "c", columns: { code: "c.code" } },
  fields: ({ copy }: Builders) => ({ code: copy("code") }),
});

describe("equal values that are written differently", () => {
  it.each([
    ["char(5)", "text", "A", "A  "],
    ["numeric", "numeric", "1.0", "1.00"],
    ["numeric[]", "numeric[]", "{1.0}", "{1.00}"],
    ["double precision", "double precision", "0", "-0"],
    ["bit varying", "bit varying", "101", "101"],
  ])("of %s are planned to clash, on whichever pages they stand", async (target, source, one, other) => {
    await using test = await createPipeline({ entities: [codes], env: { ISTHMUS_PAGE_SIZE: "1", ISTHMUS_PAGE_SIZE_MAX: "1" } });
    await test.source.admin.unsafe(`
      create table public.code (id bigint primary key, code ${source});
      grant select on public.code to isthmus_reader;
      insert into public.code values (1, '${one}'), (2, null), (3, '${other}'), (4, null)`);
    await test.target.admin.unsafe(`
      create table public.codes (id uuid primary key, legacy_id bigint not null unique, code ${target}, unique nulls not distinct (code));
      alter table public.codes owner to postgres`);
    await test.target.admin.unsafe(workerGrants([codes]));
    const { outcomes } = await expectAgreement(test, {});
    expect(outcomes.map(({ legacyId, outcome }) => [legacyId, outcome])).toEqual([
      ["1", "inserted"],
      ["2", "inserted"],
      ["3", "in_conflict"],
      ["4", "in_conflict"],
    ]);
  });
});

describe("what waits", () => {
  it("is planned again when its parent would land, down to the last descendant, in pages as small as can be", async () => {
    await using test = await createPipeline({ env: { ISTHMUS_PAGE_SIZE: "1", ISTHMUS_PAGE_SIZE_MAX: "1" } });
    await test.seed.office(1);
    await test.seed.patient(1, { userId: 20, officeId: 1, status: 77 });
    await test.seed.instruction(1, 1);
    await test.seed.payment(1, { instructionId: 1 });
    await test.seed.operation(1, { paymentId: 1 });
    const first = await expectAgreement(test);
    const descendants = ["cases", "operations", "order_cases", "orders", "patients_doctors_offices", "payments"];
    expect(first.outcomes.filter((record) => record.outcome === "waiting").map((record) => record.entity)).toEqual(descendants);
    await test.source.admin`update public.dispatch_patient set status = 1 where id = 1`;
    const second = await expectAgreement(test);
    expect(second.outcomes.filter((record) => record.outcome === "inserted").map((record) => record.entity)).toEqual(
      [...descendants, "patients"].sort(),
    );
  });

  it("and was asked for by somebody is planned too, and stays asked for", async () => {
    await using test = await createPipeline();
    await test.seed.office(1);
    await test.sync(offices);
    await test.target.admin`
      insert into public.sync_pending_keys (entity_id, legacy_id, reason) select id, 1, 'requested' from public.sync_entities where entity_type = 'offices'`;
    const { plan } = await expectAgreement(test, offices);
    expect(await counted(test.target.admin, plan.execution)).toMatchObject([{ entity: "offices", read: 1, unchanged: 1 }]);
  });
});

describe("a changed row of a joined table", () => {
  const orders = { entities: ["orders"] };
  const chainsOf = async (target: AdminSql, execution: string) => [
    ...(await target`
      select e.entity_type as entity, c.capture::text, c.range_from, c.range_to from public.sync_chains c
        join public.sync_entities e on e.id = c.entity_id where c.execution_id = ${execution} order by 1, 2`),
  ];

  it.each([
    ["listed one by one", {}, ["joins", "keys"]],
    ["as a range", { ISTHMUS_FANOUT_KEYS: "1", ISTHMUS_JOIN_ROWS: "1" }, ["full", "joins"]],
    ["listed, and then as a range beside them", { ISTHMUS_FANOUT_KEYS: "4", ISTHMUS_JOIN_ROWS: "1" }, ["full", "joins", "keys"]],
  ])("has its records planned, %s, and still has them read by the run", async (_, limits, captures) => {
    await using test = await createPipeline({ env: limits });
    await test.seed.office(1);
    for (const patient of [1, 2, 3]) await test.seed.patient(patient, { userId: 20 + patient, officeId: 1, suffix: "A" });
    // A range of the second patient's has one within that the first has listed, and one that the third would list.
    for (const order of [11, 13, 16]) await test.seed.instruction(order, 1);
    for (const order of [12, 15, 17]) await test.seed.instruction(order, 2);
    for (const order of [14, 18]) await test.seed.instruction(order, 3);
    await test.sync();
    await test.source.admin`update public.dispatch_patient set suffix = 'Z'`;
    const { plan, outcomes, execution } = await expectAgreement(test, orders);
    expect(outcomes.map(({ entity, legacyId, outcome }) => [entity, legacyId, outcome])).toEqual(
      ["11", "12", "13", "14", "15", "16", "17", "18"].map((id) => ["orders", id, "updated"]),
    );
    const chains = await chainsOf(test.target.admin, plan.execution);
    expect(chains.map(({ capture }) => capture as string)).toEqual(captures);
    expect(chains).toEqual(await chainsOf(test.target.admin, execution));
    expect(await counted(test.target.admin, plan.execution)).toMatchObject([{ entity: "orders", read: 8, updated: 8 }]);
    const after = await expectAgreement(test, orders);
    expect(after.outcomes).toEqual([]);
  });

  it("that moved has the records of its old link planned too, and one of which nothing consumed changed has none", async () => {
    await using test = await createPipeline();
    await test.seed.office(1);
    for (const id of [50, 51]) await test.seed.doctor(id);
    await test.seed.patient(1, { userId: 20, doctorId: 51, officeId: 1 });
    await test.seed.instruction(11, 1);
    await test.sync();
    await test.source.admin`update public.dispatch_doctorsetting set user_id = 20 where id = 51`;
    await test.source.admin`update public.dispatch_patient set updated_at = now(), archived = true`;
    const { plan } = await expectAgreement(test, { entities: ["doctors", "orders"] });
    expect(await counted(test.target.admin, plan.execution)).toMatchObject([{ entity: "doctors", read: 2 }]);
  });
});

describe("a target that was migrated before", () => {
  it("is planned as it will be once its ids are adopted: overwritten, inserted beside, undecided with what waits for it", async () => {
    await using test = await createPipeline();
    await loosen(test, ["offices", "legacy_office_id"]);
    for (const id of [1, 2, 3, 4]) await test.seed.office(id);
    await test.seed.patient(1, { userId: 20, officeId: 1 });
    await test.seed.patient(2, { userId: 21, officeId: 2 });
    // Two rows are office 1, one is office 2, and one an office that the source does not have.
    await test.target.admin`
      insert into public.offices (legacy_office_id, name, is_active, email_notifications)
      select legacy_id, 'there before', true, true from unnest(array[1, 1, 2, 9]) legacy_id`;
    await adopt(test, "offices");
    const { outcomes } = await expectAgreement(test);
    expect(
      outcomes
        .filter(({ entity }) => /^(offices|patients)$/.test(entity))
        .map(({ legacyId, outcome, rule }) => [legacyId, outcome, rule]),
    ).toEqual([
      ["1", "in_conflict", "adoption.ambiguous"],
      ["2", "updated", "source_wins"],
      ["3", "inserted", null],
      ["4", "inserted", null],
      ["9", "in_conflict", "deleted_in_source"],
      ["1", "waiting", "parent_missing@1"],
      ["2", "inserted", null],
    ]);
    expect((await expectAgreement(test, { ...offices, capture: "full" })).outcomes).toMatchObject([
      { rule: "adoption.ambiguous" },
      { rule: "deleted_in_source" },
    ]);
  });
});

describe("records that leave", () => {
  it("are planned to be deleted, unless somebody has edited them", async () => {
    await using test = await createInProcess({ scale: 0.01 });
    const messages = { entities: ["profiles", "doctors", "offices", "patients", "orders", "system_messages"] };
    await test.sync(messages);
    const [some] = await test.target.admin<{ ids: string[] }[]>`
      select array_agg(legacy_notification_id::text) as ids from (select legacy_notification_id from public.system_messages order by 1 limit 3) m`;
    const ids = some?.ids ?? [];
    await test.target.admin`update public.system_messages set sender = 'edited' where legacy_notification_id = ${ids[0] ?? ""}`;
    await test.source.admin.unsafe(`update public.dispatch_notification set send = false where id in (${ids.join(", ")})`);
    const { outcomes } = await expectAgreement(test, messages);
    expect(outcomes.map((record) => [record.outcome, record.rule])).toEqual([
      ["in_conflict", "left_edited"],
      ["deleted", null],
      ["deleted", null],
    ]);
  });
});

/** A function that is killed before a statement: that one and all later ones never reach the database. */
function killedBefore(context: Context, statement: number): Context {
  let run = 0;
  const mortal = (sql: Sql): Sql =>
    Object.assign(Object.create(sql) as Sql, {
      unsafe: (...args: Parameters<Sql["unsafe"]>) => {
        if (run++ >= statement) throw new Error("killed");
        return sql.unsafe(...args);
      },
      begin: (work: (tx: Sql) => Promise<unknown>) => sql.begin(async (tx) => work(mortal(tx as unknown as Sql))),
    });
  return { ...context, source: mortal(context.source), target: mortal(context.target) };
}

describe("a plan that is disturbed", () => {
  it("killed before each statement of its pages, and with every message twice, ends with the same report", async () => {
    await using test = await createInProcess({ scale: 0.003, env });
    const reportOf = async (execution: string) =>
      (await test.target.admin`select body from public.sync_reports where execution_id = ${execution} and kind = 'plan'`)[0];
    const undisturbed = await planned(test);
    // The ticks below start what is due, and note when they asked the queue.
    const ticks = ["sync_jobs", "sync_queue_looks", "sync_ticks"];
    const before = await everything(test.target.admin, ticks);

    const { execution } = await test.start({ dryRun: true });
    let noted: unknown;
    // A death costs most of a page's size, so each kind of page dies nine times, before one statement more each time.
    const deaths = new Map<string | undefined, number>();
    for (let message = test.queue.shift(); message; message = test.queue.shift()) {
      const [chain] = await test.target.admin<{ capture: string; cursor: string | null }[]>`
        select capture, "cursor" from public.sync_chains where id = ${message.chain}`;
      if (chain?.capture === "validate" && chain.cursor === null) noted ??= await notedRecords(test.target.admin, execution);
      const statement = deaths.get(chain?.capture) ?? 0;
      deaths.set(chain?.capture, statement + 1);
      if (statement < 9) await test.run(message, killedBefore(test.context, statement)).catch(() => undefined);
      await test.target
        .admin`update public.sync_chains set lease_until = now() - interval '1 second' where lease_until is not null`;
      test.queue.length = 0;
      const both = await Promise.all([test.run(message), test.run(message)]);
      expect(both.filter(({ outcome }) => ["committed", "fanned_out", "reported"].includes(outcome)).length).toBeLessThanOrEqual(
        1,
      );
      // What its death kept from being sent is sent by the sweep.
      await test.target.admin`update public.sync_chains set due_at = now() where state = 'open'`;
      test.queue.length = 0;
      await tick(test.context);
    }
    expect(noted).toEqual(undisturbed.records);
    expect(await reportOf(execution)).toEqual(await reportOf(undisturbed.execution));
    expect(await everything(test.target.admin, ticks)).toEqual(before);
  });

  it("by pages of another version does not have everything read again by the next run", async () => {
    await using test = await createPipeline();
    await test.seed.office(1);
    await test.sync(offices);
    const before = await everything(test.target.admin);
    await test.start({ ...offices, capture: "full", dryRun: true });
    const other: Context = { ...test.context, hashes: new Map([["offices", "another version"]]) };
    for (let message = test.queue.shift(); message; message = test.queue.shift()) await test.run(message, other);
    expect(await everything(test.target.admin)).toEqual(before);
    expect((await test.sync(offices)).chains).toEqual([]);
  });

  it("that fails leaves nothing behind: no alert, and what it had noted goes with the next ticks", async () => {
    await using test = await createPipeline();
    await test.seed.office(1);
    await test.seed.patient(1, { userId: 20, officeId: 1 });
    const { execution } = await test.start({ dryRun: true });
    await test.source.admin`revoke select on public.dispatch_patient from isthmus_reader`;
    await test.drain();
    expect((await test.status(execution)).status).toBe("failed");
    expect((await test.target.admin`select from public.sync_planned_records`).length).toBeGreaterThan(0);
    for (let left = 5; left > 0; left--) await tick(test.context);
    expect((await test.target.admin`select from public.sync_planned_records`).length).toBe(0);
    expect((await test.target.admin`select from public.sync_alerts where kind = 'execution_failed'`).length).toBe(0);
  });
});

describe("the cache", () => {
  it("is neither believed nor written by a plan: it would outlive what never was", async () => {
    await using test = await createPipeline();
    await test.seed.office(1);
    await test.seed.patient(1, { userId: 20, officeId: 1 });
    const cache: Context["cache"] = {
      read: () => Promise.reject(new Error("read")),
      write: () => Promise.reject(new Error("written")),
      recallExecution: () => Promise.reject(new Error("recalled")),
      rememberExecution: () => Promise.reject(new Error("remembered")),
    };
    // Of joined rows a full pass would only take notes, and a plan keeps none.
    expect((await test.start({ dryRun: true })).chains.map(({ capture }) => capture)).not.toContain("joins");
    for (let message = test.queue.shift(); message; message = test.queue.shift()) {
      expect((await test.run(message, { ...test.context, cache })).outcome).toMatch(/committed|reported/);
    }
  });
});

describe("a plan and a run", () => {
  it("of the same entities refuse each other, whichever came first", async () => {
    await using test = await createPipeline();
    await test.seed.office(1);
    const refused = { code: "EXECUTION_ACTIVE" };
    await test.start({ ...offices, dryRun: true });
    await expect(test.start(offices)).rejects.toMatchObject(refused);
    await test.drain();
    await test.start(offices);
    await expect(test.start({ ...offices, dryRun: true })).rejects.toMatchObject(refused);
    await test.drain();
  });

  it("differ where a first load would set off what nobody has acknowledged: the plan says so, the run does not begin", async () => {
    await using test = await createPipeline();
    await test.seed.office(1);
    await test.target.admin`update public.sync_side_effects set acknowledged_at = null where table_name = 'offices'`;
    const begun = await test.start({ ...offices, dryRun: true });
    expect(begun).toMatchObject({ entities: ["offices"], paused: [], warnings: [{ code: "side_effect", severity: "fatal" }] });
    await test.drain();
    expect((await test.status(begun.execution)).status).toBe("succeeded");
    expect((await test.target.admin`select from public.sync_alerts`).length).toBe(0);
    await expect(test.start(offices)).rejects.toMatchObject({ code: "SIDE_EFFECTS_UNACKNOWLEDGED" });
  });

  it("both leave out what does not fit a catalog, and the plan alerts of nothing", async () => {
    await using test = await createPipeline();
    await test.seed.office(1);
    await test.target.admin`alter table public.operations rename column card_last to card`;
    const both = { entities: ["offices", "operations"] };
    const plan = await test.start({ ...both, dryRun: true });
    expect(plan).toMatchObject({ entities: ["offices"], paused: [{ entity: "operations" }] });
    await test.drain();
    expect((await test.target.admin`select from public.sync_alerts`).length).toBe(0);
    expect((await test.sync(both)).paused).toEqual(plan.paused);
  });

  it("both refuse rows that nobody has adopted, and a plan of an empty table does not open it for minting", async () => {
    await using test = await createPipeline();
    await test.seed.office(1);
    await planned(test, offices);
    await test.target.admin`
      insert into public.offices (legacy_office_id, name, is_active, email_notifications) values (1, 'there before', true, true)`;
    for (const dryRun of [true, false])
      await expect(test.start({ ...offices, dryRun })).rejects.toMatchObject({ code: "TARGET_NOT_EMPTY" });
  });
});

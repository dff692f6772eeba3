import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { Entity, OnDelete } from "../shared/entity/define-entity.ts";
import { offices as officeEntity } from "../clinic/entities/offices.ts";
import { registry } from "../clinic/entities/registry.gen.ts";
import { definitionHash } from "../shared/entity/validate-registry.ts";
import { workerGrants } from "../shared/operate/grants.ts";
import { createPipeline, type Pipeline } from "./support/pipeline.ts";

const FAMILY = ["profiles", "doctors", "offices", "patients", "orders", "payments", "operations"] as const;
type Name = (typeof FAMILY)[number];
const family = { entities: [...FAMILY] };

describe("a record that the source deleted", () => {
  let test: Pipeline;

  /** What becomes of deleted records of these entities, instead of what their files say. */
  const declare = async (policies: Partial<Record<Name, OnDelete>>, changes: Partial<Entity> = {}) => {
    for (const [name, onDelete] of Object.entries(policies)) {
      const entity = registry.find((one) => one.name === name);
      if (!entity) throw new Error(name);
      const changed = { ...entity, ...changes, onDelete };
      (test.context.entities as Map<string, Entity>).set(name, changed);
      (test.context.hashes as Map<string, string>).set(name, definitionHash(changed));
      await test.target.admin.unsafe(workerGrants([changed]));
    }
  };

  beforeEach(async () => {
    test = await createPipeline({ entities: [...registry], env: { ISTHMUS_PAGE_SIZE: "2", ISTHMUS_PAGE_SIZE_MAX: "2" } });
    await test.seed.office(1);
    await test.seed.doctor(50);
    for (const id of [1, 2, 3]) {
      await test.seed.patient(id, { userId: 10 + id, doctorId: 50, officeId: 1 });
      await test.seed.instruction(10 + id, id);
      await test.seed.payment(20 + id, { instructionId: 10 + id });
      await test.seed.operation(30 + id, { paymentId: 20 + id });
      await test.seed.operation(40 + id, { paymentId: 20 + id });
    }
  });
  afterEach(() => test[Symbol.asyncDispose]());

  const source = (statement: string) => test.source.admin.unsafe(`set session_replication_role = replica; ${statement}`);
  const remove = (table: string, ...ids: number[]) => source(`delete from public.dispatch_${table} where id in (${ids.join()})`);
  const ids = async (name: Name) => {
    const { table, legacyKey } = registry.find((one) => one.name === name)?.target ?? { table: "", legacyKey: "" };
    const rows = await test.target.admin.unsafe<{ id: number }[]>(
      `select ${legacyKey}::integer as id from public.${table} order by 1`,
    );
    return rows.map(({ id }) => id);
  };
  const mapping = async (name: Name, id: number) => {
    const [row] = await test.target.admin<{ uuid: string; status: string; gone: boolean | null }[]>`
      select m.entity_uuid::text as uuid, m.sync_status::text as status, s.gone_at is not null as gone
        from public.uuid_mappings_enhanced m join public.sync_entities e on e.entity_type = m.entity_type
        left join public.sync_row_states s on s.entity_id = e.id and s.legacy_id = m.legacy_id
       where m.entity_type = ${name} and m.legacy_id = ${id}`;
    return row;
  };
  const pending = () => test.target.admin`select legacy_id::integer as id, reason, gone from public.sync_pending_keys order by 1`;
  const counts = async ({ execution }: { execution: string }) => {
    const { read, outcomes } = await test.sums(execution);
    expect(outcomes).toBe(read);
    const [row] = await test.target.admin<{ deleted: number; conflict: number }[]>`
      select sum(deleted)::integer as deleted, sum(in_conflict)::integer as conflict from public.sync_page_log where execution_id = ${execution}`;
    return { ...row };
  };

  it.each(["digest", "full"] as const)(
    "goes with its children, youngest first, when the policy is hard: found by %s",
    async (capture) => {
      await declare({ patients: "hard", orders: "hard", payments: "hard", operations: "hard" });
      await test.sync(family);
      const before = await mapping("orders", 12);
      await remove("operation", 32, 42);
      await remove("payment", 22);
      await remove("instruction", 12);
      // Without a look at what is known, nobody misses them.
      await test.sync(family);
      expect(await ids("orders")).toEqual([11, 12, 13]);
      const begun = await test.start({ ...family, capture });
      const order: string[] = [];
      await test.drain();
      const chains = await test.target.admin<{ entity: string }[]>`
        select e.entity_type as entity from public.sync_chains c join public.sync_entities e on e.id = c.entity_id
         where c.execution_id = ${begun.execution} and c.deletes order by c.closed_at`;
      order.push(...chains.map(({ entity }) => entity));
      expect(order).toEqual(["operations", "payments", "orders"]);
      expect((await test.status(begun.execution)).status).toBe("succeeded");
      expect(await counts(begun)).toEqual({ deleted: 4, conflict: 0 });
      expect(await ids("orders")).toEqual([11, 13]);
      expect(await ids("operations")).toEqual([31, 33, 41, 43]);
      expect(await mapping("orders", 12)).toEqual({ uuid: before?.uuid, status: "deleted", gone: false });
      expect([...(await pending())]).toEqual([]);
      // The legacy id gets its UUID back.
      await test.seed.instruction(12, 2);
      await test.sync(family);
      expect(await mapping("orders", 12)).toEqual({ ...before, status: "active", gone: false });
      expect(await counts(await test.sync({ ...family, capture }))).toEqual({ deleted: 0, conflict: 0 });
    },
  );

  it("stays while others refer to it, whatever the foreign key would do to them, and goes when these have gone", async () => {
    await declare({ orders: "hard", payments: "ignore" });
    await test.target.admin.unsafe(`
      alter table public.payments drop constraint payments_order_id_fkey,
        add constraint payments_order_id_fkey foreign key (order_id) references public.orders (id) on delete set null`);
    await test.sync(family);
    await remove("instruction", 12);
    const begun = await test.sync({ ...family, capture: "digest" });
    expect(await counts(begun)).toEqual({ deleted: 0, conflict: 1 });
    expect(await test.live("orders")).toMatchObject([{ id: 12, state: "open", rule: "left_referenced" }]);
    const [payment] = await test.target
      .admin`select order_id is not null as kept from public.payments where legacy_payment_id = 22`;
    expect(payment).toEqual({ kept: true });
    await test.target.admin`update public.payments set order_id = null where legacy_payment_id = 22`;
    await test.sync({ ...family, capture: "digest" });
    expect(await test.live("orders")).toEqual([]);
    expect(await ids("orders")).toEqual([11, 13]);
  });

  it("that the target refuses to delete stays once a person has said so, and is not tried again until that is put back", async () => {
    await declare({ orders: "hard", payments: "ignore" });
    await test.sync(family);
    await test.target.admin.unsafe(`
      create table public.tried (id integer);
      create function public.keep_eleven() returns trigger language plpgsql security definer as $$ begin
        insert into public.tried values (old.legacy_instruction_id);
        if old.legacy_instruction_id = 11 then return null; end if; return old; end $$;
      create trigger keep_eleven before delete on public.orders for each row execute function public.keep_eleven()`);
    await remove("instruction", 11, 12);
    const kept = [
      { id: 11, rule: "left_kept" },
      { id: 12, rule: "payments_order_id_fkey" },
    ];
    await test.target.admin`update public.payments set order_id = null where legacy_payment_id = 21`;
    expect(await counts(await test.sync({ ...family, capture: "digest" }))).toEqual({ deleted: 0, conflict: 2 });
    expect(await test.live("orders")).toMatchObject(kept);
    await test.target.admin`update public.sync_conflicts set resolution_strategy = 'target_wins' where state = 'open'`;
    await test.target.admin`delete from public.tried`;
    for (const capture of ["digest", "digest", "full"] as const) {
      expect(await counts(await test.sync({ ...family, capture })), capture).toEqual({ deleted: 0, conflict: 0 });
    }
    expect(await test.live("orders")).toEqual([]);
    expect(await ids("orders")).toEqual([11, 12, 13]);
    expect((await test.target.admin`select from public.tried`).length).toBe(0);
    // Put back, it is tried again.
    await test.target
      .admin`update public.sync_conflicts set resolution_strategy = null where rule = 'payments_order_id_fkey' and state = 'resolved'`;
    await test.target.admin`update public.payments set order_id = null where legacy_payment_id = 22`;
    expect(await counts(await test.sync({ ...family, capture: "digest" }))).toEqual({ deleted: 1, conflict: 0 });
    expect(await ids("orders")).toEqual([11, 13]);
    // Back in the source, it is a record like any other.
    await test.seed.instruction(11, 1);
    await test.sync(family);
    expect(await mapping("orders", 11)).toMatchObject({ status: "active", gone: false });
  });

  it.each(["values", "hashes"] as const)(
    "is marked in its row when the policy is soft, with %s kept, and unmarked when it returns",
    async (history) => {
      await declare({ orders: { soft: { deleted: true } } }, { history });
      // The history is of the whole family's changes; only orders' matters here.
      await declare({ orders: { soft: { deleted: true } } });
      await test.sync(family);
      const before = await mapping("orders", 12);
      await remove("instruction", 12);
      expect(await counts(await test.sync({ ...family, capture: "digest" }))).toEqual({ deleted: 1, conflict: 0 });
      const marked = async () =>
        (
          await test.target.admin<{ id: number }[]>`select legacy_instruction_id::integer as id from public.orders where deleted`
        ).map((row) => row.id);
      expect(await marked()).toEqual([12]);
      expect(await mapping("orders", 12)).toEqual({ ...before, gone: true });
      // Known to be gone: neither a digest nor a full pass asks again, and no total differs.
      expect(await counts(await test.sync({ ...family, capture: "digest" }))).toEqual({ deleted: 0, conflict: 0 });
      expect(await counts(await test.sync({ ...family, capture: "full" }))).toEqual({ deleted: 0, conflict: 0 });
      await test.seed.instruction(12, 2);
      await test.sync(family);
      expect(await marked()).toEqual([]);
      expect(await mapping("orders", 12)).toEqual({ ...before, gone: false });
    },
  );

  it("is left as it is when the policy is ignore, and counts again when it returns", async () => {
    await declare({ orders: "ignore" });
    await test.sync(family);
    await remove("instruction", 12);
    const begun = await test.sync({ ...family, capture: "digest" });
    expect(await counts(begun)).toEqual({ deleted: 0, conflict: 0 });
    expect(await ids("orders")).toEqual([11, 12, 13]);
    expect(await mapping("orders", 12)).toMatchObject({ status: "active", gone: true });
    await test.seed.instruction(12, 2, { notes: "again" });
    await test.sync(family);
    expect(await mapping("orders", 12)).toMatchObject({ status: "active", gone: false });
  });

  it("is put to a person when the policy is review, who lets it go or keeps it", async () => {
    await test.sync(family);
    await remove("operation", 31, 32, 33);
    expect(await counts(await test.sync({ ...family, capture: "digest" }))).toEqual({ deleted: 0, conflict: 3 });
    expect(await test.live("operations")).toMatchObject(
      [31, 32, 33].map((id) => ({ id, state: "open", rule: "deleted_in_source" })),
    );
    // Known already: not asked for again by any look.
    expect(await counts(await test.sync({ ...family, capture: "digest" }))).toEqual({ deleted: 0, conflict: 0 });
    expect(await test.live("operations")).toHaveLength(3);
    const decide = (id: number, strategy: string) => test.target.admin`
      update public.sync_conflicts set resolution_strategy = ${strategy}::public.conflict_resolution_strategy
       where entity_type = 'operations' and source_record_id = ${id} and state = 'open'`;
    await decide(31, "source_wins");
    expect(await ids("operations")).toEqual([32, 33, 41, 42, 43]);
    await decide(32, "target_wins");
    await test.target.admin`delete from public.operations where legacy_operation_id = 33`;
    await test.target.admin`
      insert into public.sync_pending_keys (entity_id, legacy_id, reason) select id, 33, 'test' from public.sync_entities where entity_type = 'operations'`;
    await test.sync(family);
    expect(await test.live("operations")).toEqual([]);
    expect(await ids("operations")).toEqual([32, 41, 42, 43]);
    expect(await mapping("operations", 31)).toMatchObject({ status: "deleted" });
    expect(await mapping("operations", 32)).toMatchObject({ status: "active", gone: true });
    expect(await mapping("operations", 33)).toMatchObject({ status: "deleted" });
    expect(await counts(await test.sync({ ...family, capture: "digest" }))).toEqual({ deleted: 0, conflict: 0 });
  });

  it("is found by any chain that meets its key, and stays when it is back before it would be deleted", async () => {
    await declare({ operations: "hard" });
    await test.sync(family);
    await remove("operation", 32, 33);
    await test.target.admin`
      insert into public.sync_pending_keys (entity_id, legacy_id, reason)
      select id, k, 'test' from public.sync_entities, unnest('{32,33}'::bigint[]) k where entity_type = 'operations'`;
    await test.start(family);
    while ((await pending()).filter((row) => row["gone"] === true).length < 2) await test.runOne();
    await test.seed.operation(33, { paymentId: 23, price: "77.00" });
    await test.drain();
    expect(await ids("operations")).toEqual([31, 33, 41, 42, 43]);
    const [row] = await test.target.admin`select amount from public.operations where legacy_operation_id = 33`;
    expect(row).toEqual({ amount: "77.00" });
  });

  it("is asked about instead of deleted when somebody has edited it since", async () => {
    await declare({ operations: "hard" });
    await source("update public.dispatch_operation set card_brand = 'visa' where id = 32");
    await test.sync(family);
    const before = "visa";
    await test.target.admin`update public.operations set card_brand = 'edited' where legacy_operation_id = 32`;
    await remove("operation", 32, 33);
    expect(await counts(await test.sync({ ...family, capture: "digest" }))).toEqual({ deleted: 1, conflict: 1 });
    expect(await test.live("operations")).toMatchObject([{ id: 32, rule: "left_edited", field: "card_brand" }]);
    const [asked] = await test.target.admin`select differences from public.sync_conflicts where rule = 'left_edited'`;
    expect(asked).toEqual({ differences: { card_brand: { seen: before, source: null, target: "edited" } } });
    // An edit that the queue does not show is not deleted with the row.
    const letGo = () =>
      test.target
        .admin`update public.sync_conflicts set resolution_strategy = 'source_wins' where rule = 'left_edited' and state = 'open'`;
    await test.target.admin`update public.operations set card_brand = 'edited again' where legacy_operation_id = 32`;
    await expect(letGo()).rejects.toThrow("the target holds other values than it shows");
    await test.target.admin`update public.operations set card_brand = 'edited' where legacy_operation_id = 32`;
    await letGo();
    expect(await ids("operations")).not.toContain(32);
  });

  it("is planned as it is done", async () => {
    const { counted, everything, planned } = await import("./support/plan.ts");
    await declare({ operations: "hard", payments: "hard", orders: { soft: { deleted: true } } });
    await test.sync(family);
    await remove("operation", 32, 42);
    await remove("payment", 22, 23);
    await remove("instruction", 13);
    for (const capture of ["digest", "full"] as const) {
      const before = await everything(test.target.admin);
      const plan = await planned(test, { ...family, capture });
      expect(await everything(test.target.admin)).toEqual(before);
      expect(
        plan.records
          .filter(({ outcome }) => outcome !== "unchanged")
          .map(({ entity, legacyId, outcome, rule }) => [entity, legacyId, outcome, rule]),
      ).toEqual(
        capture === "full"
          ? []
          : [
              ["operations", "32", "deleted", null],
              ["operations", "42", "deleted", null],
              ["orders", "13", "deleted", null],
              ["payments", "22", "deleted", null],
              ["payments", "23", "in_conflict", "left_referenced"],
            ],
      );
      if (capture === "full") break;
      const { execution } = await test.sync({ ...family, capture });
      expect(await counted(test.target.admin, plan.execution)).toEqual(await counted(test.target.admin, execution));
      // 23 is referred to by operations that the source still has: its entry stays, so the next look asks once more.
      await test.target.admin`update public.operations set payment_id = null where legacy_operation_id in (33, 43)`;
      await test.source.admin`update public.dispatch_operation set payment_id = null where id in (33, 43)`;
      await test.sync({ ...family, capture });
      expect(await ids("payments")).toEqual([21]);
    }
  });
});

describe("the brake", () => {
  const brakes = async (test: Pipeline) => [
    ...(await test.target.admin<{ id: string; kind: string; field: string | null; records: number; landed: number }[]>`
      select id::text, kind, field, records::integer, landed::integer from public.sync_brakes where closed_at is null`),
  ];
  const env = { ISTHMUS_PAGE_SIZE: "5", ISTHMUS_PAGE_SIZE_MAX: "5", ISTHMUS_BRAKE_RECORDS: "3", ISTHMUS_BRAKE_SHARE: "0.25" };
  const only = { entities: ["offices"] };
  const offices: Entity = { ...officeEntity, onDelete: "hard" };
  const landed = async (test: Pipeline) => (await test.target.admin`select from public.offices`).length;
  const made = async () => {
    const test = await createPipeline({ entities: [offices], env });
    await test.target.admin.unsafe(workerGrants([offices]));
    for (let id = 1; id <= 20; id++) await test.seed.office(id);
    await test.source.admin`update public.dispatch_office set phone = id::text`;
    await test.sync(only);
    return test;
  };

  it("lets few deletes pass, holds many until a person has confirmed as many, and keeps everything else in step", async () => {
    await using test = await made();
    await test.source.admin`delete from public.dispatch_office where id <= 3`;
    await test.sync({ ...only, capture: "digest" });
    expect(await landed(test)).toBe(17);
    await test.source.admin`delete from public.dispatch_office where id <= 8`;
    await test.source.admin`update public.dispatch_office set phone = 'changed' where id = 20`;
    const { execution } = await test.start({ ...only, capture: "digest" });
    await test.drain();
    expect(await test.status(execution)).toMatchObject({
      status: "failed",
      errors: [{ code: "BRAKE_APPLIED", entity: "offices", kind: "delete", records: 5, landed: 17 }],
    });
    expect(await landed(test)).toBe(17);
    expect((await test.target.admin`select from public.offices where phone = 'changed'`).length).toBe(1);
    const [brake] = await brakes(test);
    expect(brake).toMatchObject({ kind: "delete", records: 5, landed: 17 });
    expect((await test.target.admin`select from public.sync_alerts where kind = 'brake' and closed_at is null`).length).toBe(1);

    // More than was confirmed is held again.
    await test.target.admin`update public.sync_brakes set confirmed_by = 'a person' where id = ${brake?.id ?? ""}`;
    await test.source.admin`delete from public.dispatch_office where id <= 9`;
    const again = await test.start({ ...only, capture: "digest" });
    await test.drain();
    expect((await test.status(again.execution)).status).toBe("failed");
    expect(await landed(test)).toBe(17);
    await test.target.admin`update public.sync_brakes set confirmed_by = 'a person in the table editor' where closed_at is null`;
    await test.sync(only);
    expect(await landed(test)).toBe(11);
    expect(await brakes(test)).toEqual([]);
    expect((await test.target.admin`select from public.sync_alerts where kind = 'brake' and closed_at is null`).length).toBe(0);
  });

  it("stops records that leave their predicate in crowds, and lets the tick alone", async () => {
    const waiving: Entity = {
      ...officeEntity,
      source: {
        ...officeEntity.source,
        predicate: { name: "open", version: 1, where: "o.phone <> 'closed'", reason: "closed", onLeave: "delete" },
      },
    };
    await using test = await createPipeline({ entities: [waiving], env });
    await test.target.admin.unsafe(workerGrants([waiving]));
    for (let id = 1; id <= 20; id++) await test.seed.office(id);
    await test.source.admin`update public.dispatch_office set phone = id::text`;
    await test.sync(only);
    await test.source.admin`update public.dispatch_office set phone = 'closed' where id <= 16`;
    for (let run = 0; run < 2; run++) {
      const { execution } = await test.start(only);
      await test.drain();
      expect(await test.status(execution)).toMatchObject({
        status: "failed",
        errors: [{ code: "BRAKE_APPLIED", kind: "delete" }],
      });
      expect(await landed(test)).toBe(15);
    }
    await test.target.admin`
      insert into public.sync_pending_keys (entity_id, legacy_id, reason) select id, 16, 'test' from public.sync_entities where entity_type = 'offices'`;
    const { tick } = await import("../shared/tick/tick.ts");
    await test.target.admin`update public.sync_jobs set enabled = false`;
    expect((await tick(test.context)).released).toEqual([]);
    await test.target.admin`update public.sync_brakes set confirmed_by = 'a person' where closed_at is null`;
    await test.sync(only);
    expect(await landed(test)).toBe(4);
    expect(await brakes(test)).toEqual([]);
  });

  it("counts deleted records that were in the queue for another reason", async () => {
    await using test = await made();
    await test.target.admin`alter table public.offices add constraint no_bad check (name <> 'bad')`;
    await test.source.admin`update public.dispatch_office set name = 'bad' where id <= 8`;
    await test.sync(only);
    expect(await test.live("offices")).toHaveLength(8);
    await test.source.admin`delete from public.dispatch_office where id <= 8`;
    const { execution } = await test.start({ ...only, capture: "digest" });
    await test.drain();
    expect(await test.status(execution)).toMatchObject({ status: "failed", errors: [{ code: "BRAKE_APPLIED", records: 8 }] });
    expect(await landed(test)).toBe(20);
  });

  it("is released by itself when the records are back", async () => {
    await using test = await made();
    await test.source.admin`create table kept as select * from public.dispatch_office`;
    await test.source.admin`delete from public.dispatch_office where id <= 10`;
    await test.start({ ...only, capture: "digest" });
    await test.drain();
    expect(await brakes(test)).toHaveLength(1);
    await test.source.admin`insert into public.dispatch_office select * from kept where id <= 10`;
    await test.sync(only);
    expect(await landed(test)).toBe(20);
    expect(await brakes(test)).toEqual([]);
  });

  it("stops an execution that would empty a column of many, before its page, until a person has confirmed it", async () => {
    await using test = await made();
    await test.source.admin`update public.dispatch_office set phone = null where id <= 16`;
    const { execution } = await test.start(only);
    await test.drain();
    expect(await test.status(execution)).toMatchObject({ status: "failed", errors: [{ code: "BRAKE_APPLIED", field: "phone" }] });
    // The first page, of five, lies within the share; with the second it would be ten.
    const emptied = async () => (await test.target.admin`select from public.offices where phone is null`).length;
    expect(await emptied()).toBe(5);
    const [brake] = await brakes(test);
    expect(brake).toMatchObject({ kind: "null", field: "phone", records: 10, landed: 20 });
    // What passed before does not add up over executions: from now on not one more does.
    const again = await test.start(only);
    await test.drain();
    expect((await test.status(again.execution)).status).toBe("failed");
    expect(await emptied()).toBe(5);
    await test.target.admin`update public.sync_brakes set confirmed_by = 'a person' where id = ${brake?.id ?? ""}`;
    await test.sync(only);
    expect(await emptied()).toBe(16);
    expect(await brakes(test)).toEqual([]);
  });
});

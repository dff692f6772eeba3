import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { Entity, Predicate } from "../shared/entity/define-entity.ts";
import { operations } from "../clinic/entities/operations.ts";
import { workerGrants } from "../shared/operate/grants.ts";
import { executionState } from "../shared/target/execution-state.ts";
import { registry } from "../clinic/entities/registry.gen.ts";
import { definitionHash } from "../shared/entity/validate-registry.ts";
import { createPipeline, type Pipeline } from "./support/pipeline.ts";

const SETTLED: Predicate = { name: "settled", version: 1, where: "c.attempts >= 1", reason: "not tried yet", onLeave: "delete" };
const HISTORIES = ["values", "hashes"] as const;
const RULE = "operations.settled@1";

const waiving = (predicate: Partial<Predicate> = {}): Entity => ({
  ...operations,
  source: { ...operations.source, predicate: { ...SETTLED, ...predicate } },
});
const only = { entities: ["operations"] };
const full = { ...only, capture: "full" } as const;

describe("a predicate", () => {
  let test: Pipeline;
  const define = (predicate: Partial<Predicate> = {}, changes: Partial<Entity> = {}) => {
    const entity = { ...waiving(predicate), ...changes };
    (test.context.entities as Map<string, Entity>).set("operations", entity);
    (test.context.hashes as Map<string, string>).set("operations", definitionHash(entity));
  };

  beforeEach(async () => {
    test = await createPipeline({ entities: [...registry] });
    define();
    await test.target.admin.unsafe(workerGrants([waiving()]));
    // 1 to 20: every fourth has been tried; every fifth has no number of attempts at all.
    await test.source.admin`
      insert into public.dispatch_operation (id, type, price, attempts)
      select id, 1, 10 + id, case when id % 5 = 0 then null when id % 4 = 0 then 1 else 0 end from generate_series(1, 20) id`;
  });
  afterEach(() => test[Symbol.asyncDispose]());

  const source = (statement: string) => test.source.admin.unsafe(statement);
  const attempts = (id: number, value: number | null) =>
    source(`update public.dispatch_operation set attempts = ${String(value)} where id = ${id}`);
  const landed = async () =>
    (await test.target.admin<{ id: number }[]>`select legacy_operation_id::integer as id from public.operations order by 1`).map(
      (row) => row.id,
    );
  const mapping = async (id: number) => {
    const [row] = await test.target.admin<{ uuid: string; status: string; state: boolean }[]>`
      select m.entity_uuid::text as uuid, m.sync_status::text as status, s.entity_id is not null as state
        from public.uuid_mappings_enhanced m
        join public.sync_entities e on e.source_id = m.source_id and e.entity_type = m.entity_type
        left join public.sync_row_states s on s.entity_id = e.id and s.legacy_id = m.legacy_id
       where m.entity_type = 'operations' and m.legacy_id = ${id}`;
    return row;
  };
  /** What became of the records of an execution, by outcome; only what is not 0. The sums hold. */
  const outcome = async ({ execution }: { execution: string }) => {
    const { read, outcomes, processed } = await test.sums(execution);
    expect([outcomes, processed]).toEqual([read, read]);
    const state = (await executionState(test.context.target, execution)) as {
      entities: { counts: Record<string, number> }[];
      waivers: object[];
    };
    const { pages: _, ...counts } = state.entities[0]?.counts ?? {};
    return {
      ...Object.fromEntries(Object.entries(counts).filter(([, n]) => n !== 0)),
      ...(state.waivers.length > 0 ? { waivers: state.waivers } : {}),
    };
  };
  const waived = (count: number, rule = RULE) => ({ waived: count, waivers: [{ rule, count }] });

  it.each([2, 3, 50])(
    "counts every row that it waives in a full pass, in pages of %i, and transfers the others",
    async (size) => {
      const { execution } = await test.start(full);
      await test.target.admin`update public.sync_chains set page_size = ${size} where execution_id = ${execution}`;
      await test.drain();
      expect((await test.status(execution)).status).toBe("succeeded");
      expect(await outcome({ execution })).toEqual({ read: 20, inserted: 4, ...waived(16) });
      expect(await landed()).toEqual([4, 8, 12, 16]);
      const pages = await test.target.admin<{ rule: string }[]>`select distinct waived_by as rule from public.sync_page_log`;
      expect(pages.map((page) => page.rule)).toEqual([RULE]);
      // Again, now that some have landed.
      expect(await outcome(await test.sync(full))).toEqual({ read: 20, unchanged: 4, ...waived(16) });
    },
  );

  it("transfers a row that comes to satisfy it, and counts a changed one that does not as waived", async () => {
    await test.sync(only);
    await attempts(1, 1);
    await attempts(2, -1);
    await source("insert into public.dispatch_operation (id, type, price, attempts) values (21, 1, 5, 0), (22, 1, 5, 3)");
    expect(await outcome(await test.sync(only))).toEqual({ read: 4, inserted: 2, ...waived(2) });
    expect(await landed()).toEqual([1, 4, 8, 12, 16, 22]);
  });

  it.each(HISTORIES)(
    "deletes the target row of a record that leaves, of which %s are kept, and gives it its UUID back when it returns",
    async (history) => {
      define({}, { history });
      await test.sync(only);
      const before = await mapping(8);
      await attempts(8, 0);
      await attempts(12, null);
      expect(await outcome(await test.sync(only))).toEqual({ read: 2, deleted: 2 });
      expect(await landed()).toEqual([4, 16]);
      expect(await mapping(8)).toEqual({ uuid: before?.uuid, status: "deleted", state: false });
      // A tombstone is neither landed nor surplus.
      expect(await outcome(await test.sync(full))).toEqual({ read: 20, unchanged: 2, ...waived(18) });
      await source("update public.dispatch_operation set attempts = 2, price = 99 where id = 8");
      expect(await outcome(await test.sync(only))).toEqual({ read: 1, inserted: 1 });
      expect(await mapping(8)).toEqual({ ...before, status: "active", state: true });
      const [row] = await test.target.admin`select id, amount from public.operations where legacy_operation_id = 8`;
      expect(row).toEqual({ id: before?.uuid, amount: "99.00" });
    },
  );

  it("treats a record that was asked for like any other", async () => {
    await test.sync(only);
    await attempts(8, 0);
    await attempts(1, 1);
    await test.target.admin`
      insert into public.sync_pending_keys (entity_id, legacy_id, reason)
      select id, k, 'test' from public.sync_entities, unnest('{1,2,8}'::bigint[]) k where entity_type = 'operations'`;
    // The release reads what is pending and compares nothing.
    const { execution } = await test.start(only);
    const [now] = await test.source.admin<{ at: string }[]>`select pg_snapshot_xmax(pg_current_snapshot())::text as at`;
    await test.target.admin.begin(async (tx) => {
      await tx`set local session_replication_role = replica`;
      await tx`update public.sync_chains set changed_from = ${now?.at ?? "0"}::xid8 where execution_id = ${execution} and capture = 'xmin'`;
    });
    await test.drain();
    expect(await outcome({ execution })).toEqual({ read: 3, inserted: 1, deleted: 1, ...waived(1) });
    expect((await test.target.admin`select from public.sync_pending_keys`).length).toBe(0);
  });

  it.each(HISTORIES)(
    "asks instead of deleting what somebody has edited, of which %s are kept, until the edit or the row is gone",
    async (history) => {
      define({}, { history });
      await test.sync(only);
      await test.target.admin`update public.operations set card_brand = 'edited' where legacy_operation_id in (8, 12)`;
      await source("update public.dispatch_operation set attempts = 0 where id in (8, 12, 16)");
      expect(await outcome(await test.sync(only))).toEqual({ read: 3, deleted: 1, inConflict: 2 });
      expect(await landed()).toEqual([4, 8, 12]);
      expect(await test.live("operations")).toMatchObject(
        [8, 12].map((id) => ({
          id,
          state: "open",
          type: "concurrent_modification",
          rule: "left_edited",
          field: history === "values" ? "card_brand" : null,
        })),
      );
      await test.target.admin`update public.operations set card_brand = null where legacy_operation_id = 8`;
      await test.target.admin`delete from public.operations where legacy_operation_id = 12`;
      expect(await outcome(await test.sync(full))).toEqual({ read: 20, unchanged: 1, deleted: 2, ...waived(17) });
      expect(await test.live("operations")).toEqual([]);
      expect([await landed(), (await mapping(12))?.status]).toEqual([[4], "deleted"]);
    },
  );

  it("queues what the target refuses to delete, alone, with the reason and what to do", async () => {
    await test.sync(only);
    await test.target.admin.unsafe(`
      create table public.receipts (operation_id uuid references public.operations (id));
      insert into public.receipts select id from public.operations where legacy_operation_id = 8;
      create function public.keep_sixteen() returns trigger language plpgsql as
        $$ begin return case when old.legacy_operation_id = 16 then null else old end; end $$;
      create trigger keep_sixteen before delete on public.operations for each row execute function public.keep_sixteen()`);
    await source("update public.dispatch_operation set attempts = 0 where id in (8, 12, 16)");
    expect(await outcome(await test.sync(only))).toEqual({ read: 3, deleted: 1, inConflict: 2 });
    expect(await landed()).toEqual([4, 8, 16]);
    expect(await test.live("operations")).toMatchObject([
      { id: 8, type: "foreign_key_violation", rule: "receipts_operation_id_fkey" },
      { id: 16, type: "business_rule_violation", rule: "left_kept" },
    ]);
    expect((await test.live("operations"))[0]?.remedy).toMatch(/referred to by others/);
    expect(await mapping(8)).toMatchObject({ status: "active", state: true });
    // Decided: it stays, and no pass tries again.
    await test.target
      .admin`update public.sync_conflicts set resolution_strategy = 'target_wins' where rule = 'left_kept' and state = 'open'`;
    await test.target.admin`delete from public.receipts`;
    await test.target.admin`update public.sync_conflicts set next_attempt_at = now() + interval '1 day' where state = 'open'`;
    await source("update public.dispatch_operation set attempts = 0 where id = 16");
    await test.sync(full);
    expect((await test.live("operations")).map((row) => row.id)).toEqual([]);
    expect(await landed()).toEqual([4, 16]);
    expect(await mapping(16)).toMatchObject({ status: "active", state: true });
    await test.target
      .admin`update public.sync_conflicts set resolution_strategy = null where rule = 'left_kept' and state = 'resolved'`;
    await attempts(8, 1);
    await test.sync(only);
    await test.target.admin`insert into public.receipts select id from public.operations where legacy_operation_id = 8`;
    await attempts(8, 0);
    await test.sync(only);
    // The record returns before anybody has decided: there is nothing left to decide.
    await attempts(8, 7);
    expect(await outcome(await test.sync(only))).toEqual({ read: 1, updated: 1 });
    expect((await test.live("operations")).map((row) => row.id)).toEqual([16]);
  });

  it("asks about a row of an earlier migration, which the sync has never written", async () => {
    await test.sync(only);
    await test.target.admin`delete from public.sync_row_states where legacy_id = 8`;
    await attempts(8, 0);
    expect(await outcome(await test.sync(only))).toEqual({ read: 1, inConflict: 1 });
    expect(await test.live("operations")).toMatchObject([{ id: 8, state: "open", rule: "left_unknown" }]);
    expect(await landed()).toEqual([4, 8, 12, 16]);
  });

  it("keeps the target row of a record that leaves, where it says so, and counts the record as waived", async () => {
    define({ onLeave: "keep" });
    await test.sync(only);
    await source("update public.dispatch_operation set attempts = 0, price = 1 where id = 8");
    expect(await outcome(await test.sync(only))).toEqual({ read: 1, ...waived(1) });
    expect(await outcome(await test.sync(full))).toEqual({ read: 20, unchanged: 3, ...waived(17) });
    expect(await landed()).toEqual([4, 8, 12, 16]);
    await attempts(8, 1);
    expect(await outcome(await test.sync(only))).toEqual({ read: 1, updated: 1 });
  });

  it("that changes has everything read again: what it no longer lets in leaves, in pages of any size, what it lets in lands", async () => {
    await test.sync(only);
    await test.target.admin`update public.operations set card_brand = 'edited' where legacy_operation_id = 12`;
    define({ version: 2, where: "c.price > 25" });
    const { execution, chains } = await test.start(only);
    expect(chains).toMatchObject([{ entity: "operations", capture: "full" }]);
    await test.target.admin`update public.sync_chains set page_size = 2 where execution_id = ${execution}`;
    await test.drain();
    expect((await test.status(execution)).status).toBe("succeeded");
    // 4 and 8 leave, 12 would, 16 stays, 17 to 20 come.
    expect(await outcome({ execution })).toEqual({
      read: 20,
      inserted: 4,
      unchanged: 1,
      deleted: 2,
      inConflict: 1,
      ...waived(12, "operations.settled@2"),
    });
    expect(await landed()).toEqual([12, 16, 17, 18, 19, 20]);
    // Nothing is let in any more: no page is larger than it may be.
    define({ version: 3, where: "false" });
    const last = await test.start(only);
    await test.target.admin`update public.sync_chains set page_size = 2 where execution_id = ${last.execution}`;
    await test.drain();
    expect(await outcome(last)).toEqual({ read: 20, deleted: 5, inConflict: 1, ...waived(14, "operations.settled@3") });
    const [largest] = await test.target.admin<{ n: number }[]>`
      select max(deleted + in_conflict)::integer as n from public.sync_page_log where execution_id = ${last.execution}`;
    expect(largest?.n).toBe(2);
  });

  it("tells records that have left from those that the source no longer has", async () => {
    await test.sync(only);
    await source("delete from public.dispatch_operation where id in (4, 5)");
    await attempts(8, 0);
    expect(await outcome(await test.sync(full))).toEqual({
      read: 19,
      unchanged: 2,
      deleted: 1,
      ...waived(15),
      absent: 1,
      inConflict: 1,
    });
    expect(await test.live("operations")).toMatchObject([{ id: 4, rule: "deleted_in_source" }]);
    expect(await landed()).toEqual([4, 12, 16]);
  });

  it("closes the queue's entry of a record that it waives, and forgets its warnings", async () => {
    await source("update public.dispatch_operation set type = 9 where id = 8");
    await source("update public.dispatch_operation set type = 2 where id = 12");
    await test.sync(only);
    expect((await test.live("operations")).map((row) => row.id)).toEqual([8]);
    expect((await test.target.admin`select from public.sync_warnings where legacy_id = 12`).length).toBe(1);
    await source("update public.dispatch_operation set attempts = 0 where id in (8, 12)");
    expect(await outcome(await test.sync(only))).toEqual({ read: 2, deleted: 1, ...waived(1) });
    const [entry] = await test.target.admin`select state, resolved_by from public.sync_conflicts where source_record_id = 8`;
    expect(entry).toEqual({ state: "resolved", resolved_by: `sync: waived by ${RULE}` });
    expect((await test.target.admin`select from public.sync_warnings`).length).toBe(0);
  });

  it("changes nothing when the messages of a page in which records leave come twice and late", async () => {
    await test.sync(only);
    await attempts(8, 0);
    const { execution } = await test.start(full);
    const [message] = test.queue;
    if (!message) throw new Error("no page");
    const both = await Promise.all([test.runOne(), test.run(message)]);
    expect(both.filter((page) => page.outcome === "committed")).toHaveLength(1);
    await test.drain();
    expect((await test.run(message)).outcome).toBe("closed");
    expect(await outcome({ execution })).toEqual({ read: 20, unchanged: 3, deleted: 1, ...waived(16) });
  });

  it.each(HISTORIES)(
    "compares money of what is transferred only, edited records, of which %s are kept, aside",
    async (history) => {
      define({}, { history });
      await test.sync(only);
      await test.target.admin`update public.operations set amount = 1 where legacy_operation_id = 8`;
      const { execution } = await test.sync(full);
      const [report] = await test.target.admin<{ body: object }[]>`
      select body from public.sync_reports where execution_id = ${execution} and kind = 'control_totals:operations'`;
      expect(report?.body).toMatchObject({ source: { n: "3", amount: "62" }, target: { n: "3", amount: "62" }, unsettled: 1 });
    },
  );
});

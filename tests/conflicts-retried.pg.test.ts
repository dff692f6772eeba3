import { describe, expect, it } from "vitest";
import type { Entity } from "../shared/entity/define-entity.ts";
import { operations as operationsEntity } from "../clinic/entities/operations.ts";
import { payments } from "../clinic/entities/payments.ts";
import { workerGrants } from "../shared/operate/grants.ts";
import { tick } from "../shared/tick/tick.ts";
import { createPipeline, type Pipeline } from "./support/pipeline.ts";

const ENTITIES: readonly Entity[] = [payments, operationsEntity];
const only = { entities: ["operations"] };

async function clinic(rows: number): Promise<Pipeline> {
  const test = await createPipeline({ entities: ENTITIES });
  await test.target.admin.unsafe(workerGrants(ENTITIES));
  await test.source
    .admin`insert into public.dispatch_operation (id, type, price) select id, 1, id from generate_series(1, ${rows}::integer) id`;
  await test.sync();
  // Of an entity that is not asked for again: what refers to it waits.
  await test.seed.payment(77);
  return test;
}

const entry = async (test: Pipeline, id: number) => {
  const [row] = await test.target.admin`
    select conflict_type as type, rule, field, retry_class as class, attempts,
           round(extract(epoch from next_attempt_at - last_seen_at) / 60)::integer as minutes
      from public.sync_conflicts where source_record_id = ${id} and state in ('waiting', 'open')`;
  return row && { ...row };
};
const ticks = async (test: Pipeline) => {
  const report = await tick(test.context);
  await test.drain();
  return report;
};
const makeDue = (test: Pipeline) =>
  test.target
    .admin`update public.sync_conflicts set next_attempt_at = now() where next_attempt_at is not null and state = 'open'`;

describe("what a record in the queue waits for", () => {
  it("is said by its class; what the target refused is tried again by itself, ever more rarely, and lands when it can", async () => {
    await using test = await clinic(3);
    await test.target.admin`alter table public.operations add constraint small check (amount < 50)`;
    await test.source.admin`update public.dispatch_operation set price = 60 where id = 1`;
    await test.source.admin`update public.dispatch_operation set type = 99 where id = 2`;
    await test.source.admin`insert into public.dispatch_operation (id, type, price, payment_id) values (4, 2, 1, 77)`;
    await test.sync(only);
    expect(await entry(test, 1)).toEqual({
      type: "business_rule_violation",
      rule: "small",
      field: null,
      class: "target",
      attempts: 1,
      minutes: 5,
    });
    expect(await entry(test, 2)).toMatchObject({ class: "rule", minutes: null });
    expect(await entry(test, 4)).toMatchObject({ class: "parent", minutes: null });

    // Not before it is due.
    await ticks(test);
    expect(await entry(test, 1)).toMatchObject({ attempts: 1 });
    for (const minutes of [10, 20, 40]) {
      await makeDue(test);
      await ticks(test);
      expect(await entry(test, 1)).toMatchObject({ minutes });
    }
    await test.target.admin`update public.sync_conflicts set attempts = 40 where source_record_id = 1`;
    await makeDue(test);
    await ticks(test);
    expect(await entry(test, 1)).toMatchObject({ attempts: 41, minutes: 24 * 60 });
    await test.target.admin`alter table public.operations drop constraint small`;
    await makeDue(test);
    await ticks(test);
    expect(await entry(test, 1)).toBeUndefined();
    const [row] = await test.target.admin`select amount::text from public.operations where legacy_operation_id = 1`;
    expect(row).toEqual({ amount: "60.00" });
  });

  it("names the column that a value does not fit, whatever kind of misfit it is, and no value", async () => {
    await using test = await clinic(5);
    await test.target.admin.unsafe(`
      alter table public.operations alter column card_brand type varchar(5), alter column amount type numeric(5, 2)`);
    await test.source.admin.unsafe(`
      update public.dispatch_operation set card_brand = 'too long' where id = 1;
      update public.dispatch_operation set price = 99999 where id = 2`);
    await test.sync(only);
    expect(await entry(test, 1)).toMatchObject({ type: "schema_mismatch", field: "card_brand", rule: "22001", class: "target" });
    expect(await entry(test, 2)).toMatchObject({ type: "schema_mismatch", field: "amount", rule: "22003" });
    const rows = await test.target.admin`select * from public.sync_conflicts`;
    expect(JSON.stringify(rows)).not.toMatch(/too long|99999/);
    // The schema is repaired: the next attempt lands them.
    await test.target.admin.unsafe(`
      alter table public.operations alter column card_brand type varchar(50), alter column amount type numeric(10, 2)`);
    await makeDue(test);
    await ticks(test);
    expect(await test.live("operations")).toEqual([]);
  });
});

describe("the queue as a whole", () => {
  it("is counted by every tick, alarms when records grow old in it, and the alarm ends with its cause", async () => {
    await using test = await clinic(2);
    await test.source
      .admin`insert into public.dispatch_operation (id, type, price, payment_id) values (4, 2, 1, 77), (5, 99, 1, null)`;
    await test.sync(only);
    await ticks(test);
    const counts = async () =>
      (
        await test.target
          .admin`select entity_type as entity, state, retry_class as class, records::integer from public.sync_queue_counts order by 2`
      ).map((row) => ({ ...row }));
    expect(await counts()).toEqual([
      { entity: "operations", state: "waiting", class: "parent", records: 1 },
      { entity: "operations", state: "open", class: "rule", records: 1 },
    ]);
    const alerts = async () =>
      (await test.target.admin`select message, closed_at is null as open from public.sync_alerts where kind = 'queue_old'`).map(
        (row) => ({ ...row }),
      );
    expect(await alerts()).toEqual([]);
    await test.target.admin`update public.sync_conflicts set first_seen_at = now() - interval '73 hours'`;
    await ticks(test);
    expect(await alerts()).toEqual([
      { message: "Records of operations have been in the queue for more than 72 hours.", open: true },
    ]);
    await test.source.admin`delete from public.dispatch_operation where id in (4, 5)`;
    await test.sync({ ...only, capture: "digest" });
    await ticks(test);
    expect(await counts()).toEqual([]);
    expect(await alerts()).toMatchObject([{ open: false }]);
  });

  it("is read again at once where somebody asks for it, all or some", async () => {
    await using test = await clinic(2);
    await test.source.admin`update public.dispatch_operation set type = 99`;
    await test.sync(only);
    const replay = async (given: string) => {
      const [row] = await test.target.admin.unsafe<{ n: number }[]>(`select sync.replay(${given})::integer as n`);
      return row?.n;
    };
    expect(await replay("'payments'")).toBe(0);
    expect(await replay("p_rule => 'operations.type.known_code@1'")).toBe(2);
    await ticks(test);
    expect(await entry(test, 1)).toMatchObject({ attempts: 2 });
  });
});

describe("a decision beside a page of the same records", () => {
  const conflicts = { ...operationsEntity.conflicts, strategy: "manual_review" } as const;
  const decide =
    "update public.sync_conflicts set resolution_strategy = 'source_wins' where state = 'open' and source_record_id = 1";

  /** The amount is open at 11 (source) and 15 (target), and the source has changed the brand since. */
  async function openConflict(): Promise<Pipeline> {
    const test = await createPipeline({ entities: [{ ...operationsEntity, conflicts }] });
    await test.target.admin.unsafe(workerGrants([operationsEntity]));
    await test.source.admin`insert into public.dispatch_operation (id, type, price) values (1, 1, 1), (2, 1, 2)`;
    await test.sync();
    await test.source.admin`update public.dispatch_operation set price = 11 where id = 1`;
    await test.target.admin`update public.operations set amount = 15 where legacy_operation_id = 1`;
    await test.sync();
    await test.source.admin`update public.dispatch_operation set card_brand = 'later' where id = 1`;
    await test.start();
    return test;
  }
  /** Runs the page; `before` is called before each of its statements on the target, of which the last is the commit. */
  async function runPage(test: Pipeline, before: (statement: number, text: string) => Promise<void>): Promise<number> {
    const { target } = test.context;
    let count = 0;
    let committed = false;
    const through = new Proxy(target, {
      get(real, name) {
        const value = Reflect.get(real, name) as unknown;
        if (name !== "unsafe" || typeof value !== "function") return value;
        return async (...args: Parameters<typeof real.unsafe>) => {
          if (!committed) await before(++count, args[0]);
          committed ||= args[0].includes("commit_page");
          return real.unsafe(...args);
        };
      },
    });
    Object.assign(test.context, { target: through });
    await test.drain();
    Object.assign(test.context, { target });
    return count;
  }
  const landed = async (test: Pipeline) => {
    const [row] = await test.target.admin<{ amount: string; brand: string }[]>`
      select amount::text, card_brand as brand from public.operations where legacy_operation_id = 1`;
    return row && { ...row };
  };

  it(
    "before any statement of the page, its commit included, is carried out, and the page's own change lands",
    { timeout: 120_000 },
    async () => {
      let statements = 1;
      for (let step = 1; step <= statements; step++) {
        await using test = await openConflict();
        let decided: Promise<unknown> = Promise.resolve();
        statements = await runPage(test, async (statement) => {
          if (statement !== step) return;
          decided = test.target.admin.unsafe(decide);
          // It ends, or it waits for what the page has locked.
          await Promise.race([decided, waiting(test)]);
        });
        await decided;
        expect([step, await landed(test)]).toEqual([step, { amount: "11.00", brand: "later" }]);
        await test.sync({ capture: "full" });
        expect(await test.live("operations")).toEqual([]);
      }
      expect(statements).toBe(4);
    },
  );

  it("that is not committed yet is waited for: committed or rolled back, nothing of it is overwritten", async () => {
    for (const commits of [true, false]) {
      await using test = await openConflict();
      let release: () => void = () => undefined;
      let over: Promise<unknown> = Promise.resolve();
      await runPage(test, async (_, text) => {
        if (!text.includes("commit_page")) return;
        const held = new Promise<void>((resolve) => (release = resolve));
        await new Promise<void>((begun) => {
          over = test.target.admin
            .begin(async (tx) => {
              await tx.unsafe(decide);
              begun();
              await held;
              if (!commits) throw new Error("changed my mind");
            })
            .catch(() => undefined);
        });
        void waiting(test).then(release);
      });
      await over;
      expect(await landed(test)).toEqual({ amount: commits ? "11.00" : "15.00", brand: "later" });
      expect((await test.live("operations")).length).toBe(commits ? 0 : 1);
    }
  });

  it("an edit of the target row in flight is waited for, and stays, whatever the field", async () => {
    await using test = await openConflict();
    let release: () => void = () => undefined;
    let over: Promise<unknown> = Promise.resolve();
    await runPage(test, async (_, text) => {
      if (!text.includes("commit_page")) return;
      const held = new Promise<void>((resolve) => (release = resolve));
      await new Promise<void>((begun) => {
        over = test.target.admin.begin(async (tx) => {
          await tx`update public.operations set card_brand = 'mine' where legacy_operation_id = 1`;
          begun();
          await held;
        });
      });
      void waiting(test).then(release);
    });
    await over;
    // Both sides have changed the brand, too, now.
    expect(await landed(test)).toEqual({ amount: "15.00", brand: "mine" });
    expect(await test.live("operations")).toMatchObject([{ id: 1, field: "amount, card_brand" }]);
  });
});

/** Resolves when a session of the test's target waits for a lock. */
async function waiting(test: Pipeline): Promise<void> {
  for (;;) {
    const [row] = await test.target.admin<{ n: number }[]>`
      select count(*)::integer as n from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()`;
    if ((row?.n ?? 0) > 0) return;
  }
}

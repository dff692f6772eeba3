import { describe, expect, it } from "vitest";
import { operations } from "../clinic/entities/operations.ts";
import { payments } from "../clinic/entities/payments.ts";
import { workerGrants } from "../shared/operate/grants.ts";
import { median, workerCpuMs } from "./support/cpu.ts";
import { createPipeline, type Pipeline } from "./support/pipeline.ts";
import { wholeSet } from "./support/number-set.ts";

const ROWS = 1_000;

async function clinic(env: Record<string, string> = {}): Promise<Pipeline> {
  const test = await createPipeline({
    entities: [payments, operations],
    env: { ISTHMUS_BRAKE_OVERWRITE_SHARE: "1", ...env },
  });
  await test.target.admin.unsafe(workerGrants([payments, operations]));
  await test.sync();
  return test;
}

describe("the queue of an entity", () => {
  it(
    "costs a page nothing, however long it is: with 100,000 open conflicts no more than with none",
    { timeout: 300_000 },
    async () => {
      await using test = await clinic({ ISTHMUS_PAGE_SIZE: String(ROWS + 1), ISTHMUS_PAGE_SIZE_MAX: String(ROWS + 1) });
      await test.source.admin`
      insert into public.dispatch_operation (id, type, price) select id, 1, id from generate_series(1, ${ROWS}::integer) id`;
      let price = 0;
      // Half of the page changes, and a few of its records go to the queue.
      const load = async () => {
        await test.source
          .admin`update public.dispatch_operation set price = ${++price} + id, type = case when id <= 20 then 90 + ${price}::integer % 2 else 1 end where id <= ${ROWS / 2}`;
        await test.start({ entities: ["operations"], capture: "full" });
        const before = await workerCpuMs(test.target);
        expect(await test.runOne()).toMatchObject({ outcome: "committed", read: ROWS });
        const used = (await workerCpuMs(test.target)) - before;
        await test.drain();
        return used;
      };
      const measure = async () => {
        const used: number[] = [];
        for (let round = 0; round < 7; round++) used.push(await load());
        return median(used.slice(2));
      };
      const costs = [await measure()];
      for (const [from, to] of [
        [1, 10_000],
        [10_001, 100_000],
      ] as const) {
        await test.target.admin`
        insert into public.sync_conflicts (state, entity_id, entity_type, source_record_id, conflict_type, rule, remedy, source_table, target_table, retry_class)
        select 'open', id, entity_type, 1000000 + n, 'business_rule_violation', 'one@1', 'Correct it.', source_table, target_table, 'source'
          from public.sync_entities cross join generate_series(${from}::integer, ${to}::integer) n where entity_type = 'operations'`;
        costs.push(await measure());
      }
      process.stdout.write(`CPU of a page with 0, 10,000 and 100,000 open conflicts: ${costs.join(", ")} ms\n`);
      for (const cost of costs.slice(1)) expect(cost).toBeLessThan(1.3 * (costs[0] ?? 0));
    },
  );
});

/** 200,000 with the environment variable: some minutes. */
const WAITING = wholeSet("ISTHMUS_RELEASE_ROWS", 30_000);

describe("records that wait for one parent", () => {
  it.each([
    { way: "run", dryRun: false },
    { way: "plan", dryRun: true },
  ])(
    "are released in slices by a $way, all within the execution that lands it, and each page costs what its records cost",
    { timeout: 1_800_000 },
    async ({ dryRun }) => {
      const size = 2_000;
      await using test = await clinic({ ISTHMUS_PAGE_SIZE: String(size), ISTHMUS_PAGE_SIZE_MAX: String(size) });
      await test.seed.payment(77);
      await test.source.admin`
      insert into public.dispatch_operation (id, type, price, payment_id) select id, 1, id, 77 from generate_series(1, ${WAITING}::integer) id`;
      await test.target.admin`
      insert into public.sync_conflicts (state, entity_id, entity_type, source_record_id, conflict_type, field, rule, remedy, source_table, target_table,
                                         retry_class, parent_entity_id, parent_legacy_id)
      select 'waiting', e.id, e.entity_type, n, 'foreign_key_violation', 'payment_id', 'parent_missing@1', 'Waits.', e.source_table, e.target_table, 'parent', p.id, 77
        from public.sync_entities e cross join public.sync_entities p cross join generate_series(1, ${WAITING}::integer) n
       where e.entity_type = 'operations' and p.entity_type = 'payments'`;
      const { execution } = await test.start({ entities: ["payments"], capture: "full", dryRun });
      // The operations of the source are no change that this execution looks for.
      await test.target
        .admin`update public.sync_executions set entities = array['payments', 'operations'] where id = ${execution}`;
      const times: number[] = [];
      const all: number[] = [];
      const cpu: number[] = [];
      let pending = 0;
      while (test.queue.length > 0) {
        const [begun, before] = [performance.now(), await workerCpuMs(test.target)];
        const outcome = await test.runOne();
        const ms = performance.now() - begun;
        all.push(ms);
        cpu.push((await workerCpuMs(test.target)) - before);
        if (outcome.outcome === "committed" && outcome.read === size) times.push(ms);
        const [row] = await test.target.admin<
          { n: number }[]
        >`select count(*)::integer as n from public.sync_pending_keys where (execution_id is not null) = ${dryRun}`;
        pending = Math.max(pending, row?.n ?? 0);
      }
      expect(await test.status(execution)).toMatchObject({ status: "succeeded" });
      // The parent's commit releases some, the end of its chain more: each asks for 10,000 at most.
      expect(pending).toBe(Math.min(WAITING, 20_000));
      expect(times.length).toBeGreaterThan((WAITING / size) * 0.9);
      const [first, last] = [times.slice(0, 5), times.slice(-5)].map(median);
      process.stdout.write(
        `${WAITING} released: pages of ${size} took ${median(times).toFixed()} ms, the longest of all ${Math.max(...all).toFixed()} ms (CPU of the worker ${median(cpu)} and ${Math.max(...cpu)} ms)\n`,
      );
      expect(last).toBeLessThan(3 * (first ?? 0));
      // Those that release, or report, too.
      expect(Math.max(...cpu)).toBeLessThan(8 * median(cpu));
      expect(Math.max(...all)).toBeLessThan(test.context.config.ISTHMUS_LEASE_SECONDS * 1_000);
      const landed = await test.target.admin`select count(*)::integer as n from public.operations`;
      const waits = await test.target.admin`select from public.sync_conflicts where state in ('waiting', 'open')`;
      if (dryRun) {
        expect([landed[0], waits.length]).toEqual([{ n: 0 }, WAITING]);
        const [report] = await test.target.admin<{ entities: { entity: string; outcomes: object[] }[] }[]>`
          select body -> 'entities' as entities from public.sync_reports where execution_id = ${execution} and kind = 'plan'`;
        expect(report?.entities.find(({ entity }) => entity === "operations")?.outcomes).toMatchObject([
          { outcome: "inserted", count: WAITING },
        ]);
      } else {
        expect([landed[0], waits.length]).toEqual([{ n: WAITING }, 0]);
      }
    },
  );
});

import { describe, expect, it } from "vitest";
import { tick } from "../shared/tick/tick.ts";
import { Gate, gated, PAGE_STATEMENTS, REPEATED_STATEMENTS } from "./support/gate.ts";
import { createPipeline, type Pipeline } from "./support/pipeline.ts";

/** Patient 1 with an order that waits for it, and the source as it was corrected since. */
async function orphan(): Promise<Pipeline> {
  const test = await createPipeline();
  await test.seed.office(1);
  await test.seed.patient(1, { userId: 20, officeId: 1, status: 77 });
  await test.seed.instruction(1, 1);
  await test.sync();
  expect(await test.live("orders")).toMatchObject([{ id: 1, state: "waiting" }]);
  await test.source.admin`update public.dispatch_patient set status = 1 where id = 1`;
  return test;
}

const cases = Array.from({ length: PAGE_STATEMENTS + 1 }, (_, held) => held).flatMap((held) => [
  { held, first: "patients", second: "orders" },
  { held, first: "orders", second: "patients" },
]);

describe("a parent and its waiting child, read by two executions at the same time", () => {
  it.each(cases)(
    "both land when the page of $first is held after $held statements while the one of $second runs",
    async ({ held, first, second }) => {
      await using test = await orphan();
      const begin = async (entity: string) => {
        const { execution } = await test.start({ entities: [entity], capture: "full" });
        await test.runJoins();
        const message = test.queue.shift();
        if (!message) throw new Error(`no page of ${entity}`);
        return { execution, message };
      };
      const [one, two] = [await begin(first), await begin(second)];
      const gate = new Gate(held);
      const page = test.run(one.message, gated(test.context, gate));
      await Promise.race([gate.reached, page]);
      const other = test.run(two.message);
      await Promise.race([other, new Promise((enough) => setTimeout(enough, 150))]);
      gate.open();
      for (const outcome of await Promise.all([page, other])) expect(outcome.outcome).toBe("committed");
      expect(gate.passed).toBeLessThanOrEqual(PAGE_STATEMENTS + REPEATED_STATEMENTS);
      await test.drain();
      // Whatever the order, the child is in or asked for: the tick of every minute fetches what no execution covers.
      // The patient's and the order's cases come one after the other.
      for (let minutes = 0; minutes < 2; minutes++) {
        await tick(test.context);
        await test.drain();
      }
      expect((await test.target.admin`select from public.orders o join public.patients p on p.id = o.patient_id`).length).toBe(1);
      expect([...(await test.live("orders")), ...(await test.live("patients"))]).toEqual([]);
      expect((await test.target.admin`select from public.sync_pending_keys`).length).toBe(0);
      for (const { execution } of [one, two]) {
        expect((await test.status(execution)).status).toBe("succeeded");
        const sums = await test.sums(execution);
        expect([sums.outcomes, sums.processed]).toEqual([sums.read, sums.read]);
      }
    },
  );
});

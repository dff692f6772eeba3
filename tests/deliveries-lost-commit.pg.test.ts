import { describe, expect, it } from "vitest";
import type { Sql } from "../shared/db/connect.ts";
import type { Context } from "../shared/context.ts";
import { endState } from "./support/digest.ts";
import { createPipeline, type Pipeline } from "./support/pipeline.ts";

/** Ends the backend that works for the page, as a failover or an operator would: before the commit's statement, within it, after it. */
type Moment = "before COMMIT" | "after COMMIT" | "while the source is read";

/** The page's context; at the given moment of its first commit its connection is ended by the server. */
function killedAt(moment: Moment, test: Pipeline): { context: Context; killed: () => number } {
  const { source, target } = test.context;
  const { admin } = test.target;
  let killed = 0;
  /** The commit stands before the row that it logs of itself, which is its last but for the chain's. */
  const endWithin = async (commit: () => Promise<unknown>): Promise<unknown> => {
    killed += 1;
    const held = await admin.reserve();
    try {
      await held.unsafe("begin; lock table public.sync_page_log in share mode");
      const running = commit();
      running.catch(() => undefined);
      for (let ended = 0; ended === 0;) {
        const rows = await admin`select pg_terminate_backend(pid, 1000) from pg_locks
          where relation = 'public.sync_page_log'::regclass and not granted`;
        ended = rows.length;
      }
      return await running;
    } finally {
      await held.unsafe("rollback");
      held.release();
    }
  };
  const context: Context = {
    ...test.context,
    source: Object.assign(Object.create(source) as Sql, {
      unsafe: async (...args: Parameters<Sql["unsafe"]>) => {
        if (moment === "while the source is read" && killed === 0 && args[0].includes("r.bytes")) {
          killed += 1;
          await admin`select pg_terminate_backend(pid, 1000) from pg_stat_activity
            where datname = current_database() and usename = 'isthmus_worker'`;
        }
        return source.unsafe(...args);
      },
    }),
    target: Object.assign(Object.create(target) as Sql, {
      unsafe: async (...args: Parameters<Sql["unsafe"]>) => {
        if (killed > 0 || !args[0].includes("sync.commit_page")) return target.unsafe(...args);
        if (moment === "before COMMIT") return endWithin(() => target.unsafe(...args));
        const rows = await target.unsafe(...args);
        if (moment === "while the source is read") return rows;
        // The server has committed, and its answer never arrives.
        killed += 1;
        throw Object.assign(new Error("read ECONNRESET"), { code: "ECONNRESET", errno: -104 });
      },
    }),
  };
  return { context, killed: () => killed };
}

async function seed(test: Pipeline): Promise<void> {
  for (let id = 1; id <= 3; id++) await test.seed.office(id);
  for (let id = 1; id <= 3; id++) await test.seed.doctor(id);
  for (let id = 1; id <= 3; id++) await test.seed.patient(id, { userId: 10 + id, doctorId: id, officeId: id });
  for (let id = 1; id <= 3; id++) await test.seed.instruction(id, id, { price: "19.99" });
  for (let id = 1; id <= 3; id++) await test.seed.payment(id, { instructionId: id });
  for (let id = 1; id <= 3; id++) await test.seed.operation(id, { paymentId: id, price: id === 2 ? "-1" : "5.00" });
}
const env = { ISTHMUS_PAGE_SIZE: "2", ISTHMUS_PAGE_SIZE_MAX: "2", ISTHMUS_CHAINS_PER_ENTITY: "1" };

describe("a connection that is ended around a page's COMMIT", () => {
  it.each(["while the source is read", "before COMMIT", "after COMMIT"] as const)(
    "ended %s of every page: each page is settled by its chain's row, and the end is that of an undisturbed run",
    async (moment) => {
      await using calm = await createPipeline({ env });
      await seed(calm);
      await calm.sync();
      await using test = await createPipeline({ env });
      await seed(test);
      const { execution } = await test.start();
      let kills = 0;
      for (let turns = 0; (await test.status(execution)).status === "running"; turns++) {
        if (turns > 200) throw new Error("never ended");
        const message = test.queue.shift() ?? (await due(test));
        const { context, killed } = killedAt(moment, test);
        const outcome = await test.run(message, context);
        if (killed() === 0) {
          expect(["committed", "fanned_out", "validated"]).toContain(outcome.outcome);
        } else {
          kills += 1;
          if (moment === "after COMMIT") expect(["stale", "closed"]).toContain(outcome.outcome);
          // Nothing of the target is open then: the page does not even notice.
          else if (moment === "while the source is read") expect(outcome).toMatchObject({ outcome: "committed" });
          else {
            expect(outcome).toMatchObject({ outcome: "failed", error: { code: "TARGET_UNAVAILABLE" }, retrySeconds: 1 });
            expect(await test.run(message)).toMatchObject({ outcome: "committed" });
          }
        }
      }
      expect(kills).toBeGreaterThan(10);
      expect(await endState(test.target.admin)).toEqual(await endState(calm.target.admin));
      expect(await pages(test)).toEqual(await pages(calm));
    },
  );
});

/** What the sweep would send. */
async function due(test: Pipeline) {
  const [row] = await test.target.admin<{ chain: string; page: number; execution: string }[]>`
    select id as chain, page, execution_id as execution from public.sync_chains where state = 'open' and due_at <= clock_timestamp() order by id limit 1`;
  if (!row)
    throw new Error(
      "nothing is due, and nothing is queued" +
        JSON.stringify(await test.target.admin`select state, page, failures, last_error, due_at, now() from public.sync_chains`),
    );
  return row;
}

async function pages(test: Pipeline): Promise<string[]> {
  const rows = await test.target.admin<{ line: string }[]>`
    select concat_ws(' ', e.entity_type, c.capture, l.page, l.read, l.inserted, l.updated, l.unchanged, l.waiting, l.in_conflict, l.absent) as line
      from public.sync_page_log l join public.sync_chains c on c.id = l.chain_id join public.sync_entities e on e.id = l.entity_id order by 1`;
  return rows.map((row) => row.line);
}

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { PageMessage } from "../shared/target/sending.ts";
import { Gate, gated, PAGE_STATEMENTS, REPEATED_STATEMENTS } from "./support/gate.ts";
import { createInProcess, type InProcess } from "./support/in-process.ts";

/** Long enough for a page of one record; a page that is still running then waits for the other's lock. */
const PATIENCE_MS = 150;

describe("two chains that share a record, interleaved at every step", () => {
  let test: InProcess;
  beforeAll(async () => {
    test = await createInProcess();
    await test.source
      .admin`insert into public.dispatch_office (id, name, valid, emails) select id, 'start', true, true from generate_series(1, 3) id`;
    await test.sync({ entities: ["offices"] });
  });
  afterAll(() => test[Symbol.asyncDispose]());

  /** An execution with a full chain and a keys chain, both of which hold office 2. */
  async function twoChains(): Promise<{ full: PageMessage; keys: PageMessage; execution: string }> {
    const { execution } = await test.start({ entities: ["offices"], capture: "full" });
    const full = test.queue.shift();
    await test.target
      .admin`insert into public.sync_pending_keys (entity_id, legacy_id, reason) select id, 2, 'test' from public.sync_entities where entity_type = 'offices'`;
    const [chain] = await test.target.admin<{ id: string }[]>`
      insert into public.sync_chains (execution_id, entity_id, capture, state, due_at, definition_hash, page_size)
      select ${execution}, id, 'keys', 'open', now(), definition_hash, 100 from public.sync_entities where entity_type = 'offices' returning id`;
    if (!full || !chain) throw new Error("the chains were not made");
    return { full, keys: { execution, chain: chain.id, page: 0 }, execution };
  }

  const cases = Array.from({ length: PAGE_STATEMENTS + 1 }, (_, held) => held).flatMap((held) => [
    { held, first: "full" as const, second: "keys" as const },
    { held, first: "keys" as const, second: "full" as const },
  ]);

  it.each(cases)(
    "ends at the newest source value when the $first page is held after $held statements and the $second page runs",
    async ({ held, first, second }) => {
      const chains = await twoChains();
      const newest = `newest ${first} ${held}`;
      await test.source.admin`update public.dispatch_office set name = ${`older ${first} ${held}`} where id = 2`;

      const gate = new Gate(held);
      const one = test.run(chains[first], gated(test.context, gate));
      await Promise.race([gate.reached, one]);
      await test.source.admin`update public.dispatch_office set name = ${newest} where id = 2`;
      const two = test.run(chains[second]);
      await Promise.race([two, new Promise((enough) => setTimeout(enough, PATIENCE_MS))]);
      gate.open();
      const outcomes = await Promise.all([one, two]);
      expect(outcomes.map((outcome) => outcome.outcome)).toEqual(["committed", "committed"]);
      expect(gate.passed).toBeLessThanOrEqual(PAGE_STATEMENTS + REPEATED_STATEMENTS);

      await test.drain();
      const [row] = await test.target.admin<{ name: string; seen: string; left: string; status: string; pending: number }[]>`
      select o.name, s.seen ->> 'name' as seen, s."left" ->> 'name' as left, (select status from public.sync_executions where id = ${chains.execution}) as status,
             (select count(*)::integer from public.sync_pending_keys) as pending
        from public.offices o join public.sync_row_states s on s.legacy_id = o.legacy_office_id where o.legacy_office_id = 2`;
      expect(row).toEqual({ name: newest, seen: newest, left: newest, status: "succeeded", pending: 0 });
      const [sums] = await test.target.admin<{ read: number; out: number }[]>`
      select sum(read)::integer as read, sum(inserted + updated + unchanged + waiting + in_conflict)::integer as out from public.sync_page_log where execution_id = ${chains.execution}`;
      expect(sums).toEqual({ read: 4, out: 4 });
    },
  );
});

import postgres from "postgres";
import { describe, expect, it } from "vitest";
import type { Sql } from "../shared/db/connect.ts";
import type { Context } from "../shared/context.ts";
import { createTestTarget, workerUrl } from "./support/databases.ts";
import { limited, officesWith, seedOffices, toItsEnd } from "./support/limits.ts";
import type { Pipeline } from "./support/pipeline.ts";

const RECORDS = 4;
/** As often another page has committed the records while this one read them, it reads them under their locks. */
const TRIES = 3;

/** The page's context; `reading` happens before each of its reads, the first of which is number 1. */
function whenReading(test: Pipeline, reading: (read: number) => Promise<unknown>): { context: Context; reads: () => number } {
  let reads = 0;
  const { source } = test.context;
  const spied = Object.assign(Object.create(source) as Sql, {
    unsafe: async (...args: Parameters<Sql["unsafe"]>) => {
      if (args[0].includes("r.bytes")) await reading(++reads);
      return source.unsafe(...args);
    },
  });
  return { context: { ...test.context, source: spied }, reads: () => reads };
}

/** What another page's commit does to the slots of the offices. */
const commitOfAnother = (test: Pipeline) =>
  test.target
    .admin`update public.sync_record_slots set version = version + 1 where entity_id = (select id from public.sync_entities where entity_type = 'offices')`;
const slotsAreFree = async (test: Pipeline): Promise<boolean> => {
  const rows = await test.target
    .admin`select from public.sync_record_slots where entity_id = (select id from public.sync_entities where entity_type = 'offices') for update skip locked`;
  return rows.length > 0;
};
const city = (test: Pipeline, text: string) => test.source.admin`update public.dispatch_office set city = ${text}`;
const landed = (test: Pipeline, text: string) => test.target.admin`select from public.offices where city = ${text}`;

describe("a page whose records others commit again and again while it reads them", () => {
  it("holds them from its fourth read on: it reads what is newest then, and nobody commits them in between", async () => {
    await using test = await limited({});
    await seedOffices(test, RECORDS);
    await test.sync({ entities: ["offices"] });
    await city(test, "first");
    const { execution } = await test.start({ entities: ["offices"], capture: "full" });
    const free: boolean[] = [];
    let other: Promise<unknown> | undefined;
    let otherIsThrough = false;
    const { context, reads } = whenReading(test, async (read) => {
      free.push(await slotsAreFree(test));
      if (read <= TRIES) await commitOfAnother(test);
      else {
        await city(test, "last");
        other = commitOfAnother(test).then(() => (otherIsThrough = true));
        await new Promise((enough) => setTimeout(enough, 100));
        expect(otherIsThrough).toBe(false);
      }
    });
    const message = test.queue.shift();
    if (!message) throw new Error("no page");
    expect(await test.run(message, context)).toMatchObject({ outcome: "committed", counts: { updated: RECORDS } });
    await other;
    expect(reads()).toBe(TRIES + 1);
    expect(free).toEqual([true, true, true, false]);
    await test.drain();
    expect(await test.status(execution)).toMatchObject({ status: "succeeded", errors: null });
    expect(await landed(test, "last")).toHaveLength(RECORDS);
  });

  it("and the target ends it for being idle: it is tried smaller, and in the end its records land or are queued", async () => {
    const entity = officesWith("(select 'x' || max(n) from (select pg_sleep(0.1 + 0 * o.id), 1 as n) s)");
    await using test = await limited({ entity, worker: { idle_in_transaction_session_timeout: "250ms" } });
    await seedOffices(test, RECORDS);
    await test.sync({ entities: ["offices"] });
    await city(test, "moved");
    const { execution } = await test.start({ entities: ["offices"], capture: "full" });
    const { context } = whenReading(test, async () => {
      if (await slotsAreFree(test)) await commitOfAnother(test);
    });
    const ended = await toItsEnd(test, execution, context);
    expect(ended).toMatchObject({ status: "succeeded", queued: [] });
    expect(
      ended.outcomes.filter(({ outcome }) => outcome === "smaller").map((one) => (one as { error: object }).error),
    ).toMatchObject([{ code: "TARGET_LIMIT", sqlstate: "25P03" }]);
    expect(await landed(test, "moved")).toHaveLength(RECORDS);
  });

  it.each([
    ["1h", "15s"],
    ["0", "15s"],
    ["2s", "2s"],
  ])("and holds them no longer than its own limit, or the target's: %s there", async (theirs, limit) => {
    await using target = await createTestTarget();
    await target.admin.unsafe(
      `alter role isthmus_worker in database "${target.name}" set idle_in_transaction_session_timeout = '${theirs}'`,
    );
    const worker = postgres(workerUrl(target), { max: 1, fetch_types: false, onnotice: () => undefined });
    try {
      const [row] = await worker.begin(async (tx) => {
        await tx`select sync.lock_records(1::smallint, '{}'::bigint[], 15)`;
        return tx<{ limit: string }[]>`select current_setting('idle_in_transaction_session_timeout') as limit`;
      });
      expect(row?.limit).toBe(limit);
    } finally {
      await worker.end({ timeout: 1 });
    }
  });
});

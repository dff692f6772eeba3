import { describe, expect, it } from "vitest";
import { createPipeline } from "./support/pipeline.ts";

describe("chains that close at the same time", () => {
  it("do not wait for a page that has logged itself and is about to close its own", async () => {
    await using test = await createPipeline();
    await test.seed.office(1);
    const { execution } = await test.start({ entities: ["offices"] });
    // What the foreign keys of the other page's log hold until its commit.
    await test.target.admin.begin(async (other) => {
      await other`select from public.sync_executions where id = ${execution} for key share`;
      await test.drain();
      expect(await test.status(execution)).toEqual({ status: "succeeded", errors: null });
    });
  });

  it("do not wait for a page that settles a waiting record when they release it themselves", async () => {
    await using test = await createPipeline();
    await test.seed.patient(1, { userId: 20, status: 77 });
    await test.seed.instruction(1, 1);
    await test.sync();
    expect(await test.live("orders")).toMatchObject([{ id: 1, state: "waiting", parent: "patients" }]);
    await test.source.admin`update public.dispatch_patient set status = 1 where id = 1`;
    const { execution } = await test.sync({ entities: ["patients"] });
    const released = () => test.target.admin<{ entity: string }[]>`
      select entity_type as entity from public.sync_pending_keys k join public.sync_entities e on e.id = k.entity_id order by 1`;
    const before = [...(await released())];
    expect(before).toEqual([{ entity: "cases" }, { entity: "orders" }]);
    await test.target.admin.begin(async (page) => {
      await page`delete from public.sync_pending_keys`;
      await test.target.admin.begin(async (closing) => {
        await closing`set local lock_timeout = '1s'`;
        await closing`select sync.release_waiting(source_id) from public.sync_executions where id = ${execution}`;
      });
    });
    // Had the page not settled it, the next one to release would.
    await test.target.admin`select sync.release_waiting(source_id) from public.sync_executions where id = ${execution}`;
    expect([...(await released())]).toEqual(before);
  });
});

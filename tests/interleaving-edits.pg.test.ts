import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Gate, gated, PAGE_STATEMENTS, REPEATED_STATEMENTS } from "./support/gate.ts";
import { createPipeline, type Pipeline } from "./support/pipeline.ts";

const offices = { entities: ["offices"] };

describe("a person who edits a field while a page carries another value of it over, at every step", () => {
  let test: Pipeline;
  beforeAll(async () => {
    test = await createPipeline();
    await test.seed.office(1);
    await test.sync(offices);
  });
  afterAll(() => test[Symbol.asyncDispose]());

  const office = async () =>
    (
      await test.target.admin<
        { name: string; city: string | null }[]
      >`select name, city from public.offices where legacy_office_id = 1`
    )[0];
  const kept = async (text: string) =>
    (
      await test.target.admin`select from public.sync_conflict_values v join public.sync_conflicts c on c.id = v.conflict_id
      where v.target ->> 'name' = ${text} and c.state = 'resolved' and c.resolution_strategy = 'source_wins'`
    ).length;

  it.each(Array.from({ length: PAGE_STATEMENTS + 1 }, (_, held) => held))(
    "the edit stands or is kept in the queue when it comes after %i statements of the page",
    async (held) => {
      const [ours, theirs] = [`source ${held}`, `person ${held}`];
      await test.source.admin`update public.dispatch_office set name = ${ours} where id = 1`;
      const { execution } = await test.start(offices);
      const gate = new Gate(held);
      const message = test.queue.shift();
      if (!message) throw new Error("no page");
      const page = test.run(message, gated(test.context, gate));
      await Promise.race([gate.reached, page]);
      // Blocks while the page holds the row; then it comes after the page's commit.
      const edit = test.target.admin`update public.offices set name = ${theirs} where legacy_office_id = 1`.execute();
      await new Promise((soon) => setTimeout(soon, 30));
      gate.open();
      expect(await page).toMatchObject({ outcome: "committed", counts: { updated: 1 } });
      expect(gate.passed).toBeLessThanOrEqual(PAGE_STATEMENTS + REPEATED_STATEMENTS);
      await edit;
      await test.drain();
      expect((await test.status(execution)).status).toBe("succeeded");
      const name = (await office())?.name;
      if (name === ours) expect(await kept(theirs)).toBe(1);
      else expect([name, await kept(theirs)]).toEqual([theirs, 0]);

      // An edit that stands stays, although the row is written again for another field.
      await test.source.admin`update public.dispatch_office set city = ${`city ${held}`} where id = 1`;
      await test.sync(offices);
      expect(await office()).toEqual({ name, city: `city ${held}` });
    },
  );
});

describe("a person whose transaction is still open when the page comes to write", () => {
  it.each([
    [
      "edits the row: the page waits for it, the source wins, and the edit is kept",
      "update public.offices set name = 'person' where legacy_office_id = 1",
      "edit",
    ],
    [
      "deletes the row: the page waits for it, asks, and does not bring the row back",
      "delete from public.offices where legacy_office_id = 1",
      "delete",
    ],
    [
      "edits the row and changes their mind: nothing is kept",
      "update public.offices set name = 'person' where legacy_office_id = 1",
      "rollback",
    ],
  ])("%s", async (_, statement, kind) => {
    await using test = await createPipeline();
    await test.seed.office(1);
    await test.sync(offices);
    const session = await test.target.admin.reserve();
    try {
      await session.unsafe("begin");
      await session.unsafe(statement);
      await test.source.admin`update public.dispatch_office set name = 'source' where id = 1`;
      await test.start(offices);
      const page = test.runOne();
      await blocked(test);
      await session.unsafe(kind === "rollback" ? "rollback" : "commit");
      expect(await page).toMatchObject({ outcome: "committed" });
    } finally {
      session.release();
    }
    await test.drain();
    const rows = await test.target.admin<{ name: string }[]>`select name from public.offices`;
    const overwritten = await test.target.admin<{ target: object }[]>`
      select target from public.sync_conflict_values where target is not null`;
    expect(rows.map((row) => row.name)).toEqual(kind === "delete" ? [] : ["source"]);
    expect(overwritten.map((row) => row.target)).toEqual(kind === "edit" ? [{ name: "person" }] : []);
    expect(await test.live("offices")).toMatchObject(
      kind === "delete" ? [{ id: 1, state: "open", type: "concurrent_modification", rule: "target_deleted" }] : [],
    );
  });
});

/** Resolves when somebody in the target's database waits for a lock. */
async function blocked(test: Pipeline): Promise<void> {
  for (let turn = 0; turn < 400; turn++) {
    const waiting = await test.target.admin`
      select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`;
    if (waiting.length > 0) return;
    await new Promise((soon) => setTimeout(soon, 10));
  }
  throw new Error("nobody waits for a lock");
}

import { describe, expect, it } from "vitest";
import type { Strategy } from "../shared/entity/define-entity.ts";
import { createStranger, ENTITY, type Stranger } from "./support/stranger.ts";
import type { Pipeline } from "./support/pipeline.ts";

const TABLES: Stranger = {
  source: "old",
  target: "new",
  columns: { name: { type: "text" }, note: { type: "text" } },
};
const entities = [ENTITY];
/** As the alert says. */
const overwrite = { entities, capture: "digest", overwriteEdits: true } as const;

/** `rows` records, a copy of the target's table as it is then, and a newer value in each of them. */
async function made(rows: number, more: { history?: "hashes" | "values"; strategy?: Strategy; onDelete?: "hard" | "soft" } = {}) {
  const { history = "values", strategy = "source_wins", onDelete = "hard" } = more;
  const test = await createStranger(
    TABLES,
    {
      history,
      conflicts: { strategy },
      ...(onDelete === "soft" ? { onDelete: { soft: { note: "gone" } } } : { onDelete }),
    },
    {
      ISTHMUS_EDITS_RECORDS: "5",
      ISTHMUS_BRAKE_OVERWRITE_RECORDS: "5",
      ISTHMUS_BRAKE_SHARE: "1",
      ISTHMUS_BRAKE_OVERWRITE_SHARE: "1",
    },
  );
  await test.source.admin`insert into public.old select id, 'first ' || id, 'note' from generate_series(1, ${rows}::integer) id`;
  await test.sync();
  await test.target.admin`create table public.copy as table public.new`;
  await test.source.admin`update public.old set name = 'second ' || id`;
  await test.sync({ capture: "digest" });
  return test;
}

/** The table's rows are those of the copy again: no change of the catalog. */
const putBack = (test: Pipeline) =>
  test.target.admin.begin(async (tx) => {
    await tx`delete from public.new`;
    await tx`insert into public.new select * from public.copy`;
  });
const names = async (test: Pipeline) =>
  (await test.target.admin<{ name: string }[]>`select name from public.new order by legacy_id`).map(({ name }) => name);
const second = (rows: number) => Array.from({ length: rows }, (_, n) => `second ${n + 1}`);
const alerts = async (test: Pipeline) =>
  (
    await test.target.admin<{ message: string; details: object }[]>`
    select message, details from public.sync_alerts where kind = 'edited_widely' and closed_at is null`
  ).map(({ message, details }) => ({
    message,
    details,
  }));

describe.each(["values", "hashes"] as const)("a table that was put back from an older dump (%s)", (history) => {
  it("is told by the next digest, and the command that it names takes the source's values", async () => {
    await using test = await made(20, { history });
    await putBack(test);
    await test.sync({ capture: "digest" });
    // Nobody can tell them from edits of people: they stay until somebody asks for it.
    expect(await names(test)).not.toEqual(second(20));
    const [alert] = await alerts(test);
    expect(alert?.details).toEqual({ edited: 20, before: 0 });
    expect(alert?.message).toContain(`${ENTITY}: 20 target rows`);
    expect(alert?.message).toContain(`npm run sync -- start ${ENTITY} --capture digest --overwrite-edits`);
    expect(alert?.message).toContain(`npm run sync -- plan ${ENTITY} --capture digest --overwrite-edits`);

    // A plan tells, and writes nothing.
    const plan = await test.sync({ ...overwrite, dryRun: true });
    const [planned] = await test.target.admin<{ updated: number }[]>`
      select sum(updated)::integer as updated from public.sync_page_log where execution_id = ${plan.execution}`;
    expect(planned).toEqual({ updated: 20 });
    expect(await names(test)).not.toEqual(second(20));

    await test.sync(overwrite);
    expect(await names(test)).toEqual(second(20));
    await test.sync({ capture: "digest" });
    expect(await alerts(test)).toEqual([]);
    // What was overwritten is kept, and can be put back.
    const kept = await test.target.admin<{ id: string }[]>`
      select id from public.sync_conflicts where state = 'resolved' and resolved_by = 'policy' and resolution_strategy = 'source_wins' order by source_record_id`;
    expect(kept).toHaveLength(20);
    await test.target.admin`update public.sync_conflicts set resolution_strategy = 'target_wins' where id = ${kept[0]?.id ?? ""}`;
    expect((await names(test))[0]).toBe("first 1");
    await test.sync(overwrite);
    expect((await names(test))[0]).toBe("first 1");
  });

  it("is healed by a full pass in the same way, and a start of another kind leaves edits alone", async () => {
    await using test = await made(8, { history });
    await putBack(test);
    for (const capture of ["auto", "full", "digest"] as const) await test.sync({ capture, conflictStrategy: "source_wins" });
    expect(await names(test)).not.toEqual(second(8));
    await test.sync({ entities, capture: "full", overwriteEdits: true });
    expect(await names(test)).toEqual(second(8));
  });
});

describe("edits of people", () => {
  it("are not told of while they are few, or come one by one, and stay", async () => {
    await using test = await made(20);
    for (let id = 1; id <= 12; id += 4) {
      await test.target.admin`update public.new set name = 'edited' where legacy_id between ${id} and ${id + 3}`;
      await test.sync({ capture: "digest" });
      expect(await alerts(test)).toEqual([]);
    }
    await test.target.admin`update public.new set name = 'script' where legacy_id > 12`;
    await test.sync({ capture: "digest" });
    expect((await alerts(test)).map(({ details }) => details)).toEqual([{ edited: 20, before: 12 }]);
    // It stays open while nothing is done, and closes when the rows are what they were.
    await test.sync({ capture: "digest" });
    expect((await alerts(test)).map(({ details }) => details)).toEqual([{ edited: 20, before: 12 }]);
    await test.target.admin`update public.new set name = 'second ' || legacy_id where legacy_id > 12`;
    await test.sync({ capture: "digest" });
    expect(await alerts(test)).toEqual([]);
  });

  it("that people have been asked about, or have decided, no such request overwrites", async () => {
    await using test = await made(4, { strategy: "manual_review" });
    await test.target.admin`update public.new set name = 'edited' where legacy_id <= 2`;
    await test.source.admin`update public.old set name = 'third' where id <= 2`;
    await test.sync();
    expect((await test.live(ENTITY)).map(({ id }) => id)).toEqual([1, 2]);
    await test.target
      .admin`update public.sync_conflicts set resolution_strategy = 'target_wins' where source_record_id = 1 and state = 'open'`;
    await test.target.admin`update public.new set name = 'another edit' where legacy_id = 3`;
    await test.sync(overwrite);
    await test.sync({ entities, capture: "full", overwriteEdits: true });
    expect(await names(test)).toEqual(["edited", "edited", "second 3", "second 4"]);
    expect((await test.live(ENTITY)).map(({ id }) => id)).toEqual([2]);
  });
});

describe("the same dump, with a record that was deleted since", () => {
  it("a hard-deleted one whose row is back is put to a person", async () => {
    await using test = await made(4);
    await test.source.admin`delete from public.old where id = 4`;
    await test.sync({ capture: "digest" });
    expect(await names(test)).toHaveLength(3);
    await putBack(test);
    await test.sync({ capture: "digest" });
    expect(await test.live(ENTITY)).toMatchObject([{ id: 4, rule: "deleted_in_source" }]);
  });

  it("a marked one whose mark is gone is marked again, and what its row held is kept", async () => {
    await using test = await made(4, { onDelete: "soft" });
    await test.source.admin`delete from public.old where id = 4`;
    await test.sync({ capture: "digest" });
    await putBack(test);
    const { execution } = await test.sync({ capture: "digest" });
    const [row] = await test.target.admin`select note from public.new where legacy_id = 4`;
    expect(row).toEqual({ note: "gone" });
    const [found] = await test.target.admin`
      select body -> 'returned' -> 'legacy_ids' as ids from public.sync_reports where execution_id = ${execution} and kind = ${`digest:${ENTITY}`}`;
    expect(found).toEqual({ ids: ["4"] });
    const kept = await test.target
      .admin`select from public.sync_conflicts where source_record_id = 4 and state = 'resolved' and resolved_by = 'policy'`;
    expect(kept.length).toBeGreaterThan(0);
  });
});

import { describe, expect, it } from "vitest";
import { acknowledge } from "../shared/jobs/check.ts";
import type { Pipeline } from "./support/pipeline.ts";
import { createStranger, ENTITY } from "./support/stranger.ts";

const TABLES = {
  source: "old",
  target: "fresh",
  columns: { name: { type: "text" }, stamp: { type: "timestamptz" }, n: { type: "integer" } },
} as const;

/** Five records in the source; nothing has landed yet. */
async function strange(more: Parameters<typeof createStranger>[1] = {}): Promise<Pipeline> {
  const test = await createStranger(TABLES, more);
  await test.source.admin`
    insert into public.old (id, name, stamp, n) select i, 'Name ' || i, '2026-01-01 00:00:00+00', 0 from generate_series(1, 5) i`;
  return test;
}

/** A row trigger of the target, which somebody has acknowledged. */
async function trigger(test: Pipeline, name: string, when: string, body: string): Promise<void> {
  await test.target.admin.unsafe(`
    create or replace function public.${name}() returns trigger language plpgsql security definer as $$ begin ${body} end $$;
    drop trigger if exists ${name} on public.fresh;
    create trigger ${name} ${when} on public.fresh for each row execute function public.${name}()`);
  await acknowledge(test.context, undefined, "a test");
}
const rows = (test: Pipeline) =>
  test.target.admin<{ id: number; name: string; n: number; stamp: Date }[]>`
    select legacy_id::integer as id, name, n, stamp from public.fresh order by 1`;
const warnings = async (test: Pipeline) =>
  (
    await test.target.admin<{ line: string }[]>`
      select legacy_id || ' ' || rule as line from public.sync_warnings order by legacy_id, rule`
  ).map(({ line }) => line);
const alerts = (test: Pipeline) =>
  test.target.admin<{ message: string; fields: unknown }[]>`
    select message, details -> 'fields' as fields from public.sync_alerts where kind = 'written_otherwise' and closed_at is null`;
const counts = async (test: Pipeline) =>
  (
    await test.target.admin`
      select inserted, updated, unchanged, deleted, in_conflict from public.sync_page_log where read > 0 order by id desc limit 1`
  )[0];

describe("a write that the target cancels without an error", () => {
  it("of a new record is in the queue as that, with the trigger's name, and lands when the trigger is gone", async () => {
    await using test = await strange();
    await trigger(test, "harmless", "before insert or update", "return new;");
    await trigger(test, "no_second", "before insert", "if new.legacy_id = 2 then return null; end if; return new;");
    await test.sync();
    expect((await rows(test)).map(({ id }) => id)).toEqual([1, 3, 4, 5]);
    expect(await counts(test)).toEqual({ inserted: 4, updated: 0, unchanged: 0, deleted: 0, in_conflict: 1 });
    const [queued, ...others] = await test.live(ENTITY);
    expect(others).toEqual([]);
    expect(queued).toMatchObject({ id: 2, state: "open", type: "business_rule_violation", rule: "write_cancelled" });
    expect(queued?.remedy).toMatch(/cancels the write of this record.*\(trigger no_second\)/);
    expect((await test.target.admin`select from public.uuid_mappings_enhanced where legacy_id = 2`).length).toBe(0);
    await test.target.admin`drop trigger no_second on public.fresh`;
    await test.sync({ capture: "full" });
    expect((await rows(test)).length).toBe(5);
    expect(await test.live(ENTITY)).toEqual([]);
  });

  it.each([
    ["before update", "if new.legacy_id in (2, 4) then return null; end if; return new;"],
    // Some of what it does to other rows would stay.
    ["after update", "if new.legacy_id in (2, 4) then delete from public.fresh where id = new.id; end if; return null;"],
  ])("of a change is in the queue, %s, and is written when the trigger is gone", async (when, body) => {
    await using test = await strange();
    await test.sync();
    await trigger(test, "keeps_some", when, body);
    await test.source.admin`update public.old set name = 'New ' || id`;
    await test.sync();
    expect(await counts(test)).toEqual({ inserted: 0, updated: 3, unchanged: 0, deleted: 0, in_conflict: 2 });
    expect((await test.live(ENTITY)).map(({ id, rule }) => [id, rule])).toEqual([
      [2, "write_cancelled"],
      [4, "write_cancelled"],
    ]);
    expect((await rows(test)).map(({ name }) => name)).toEqual(["New 1", "Name 2", "New 3", "Name 4", "New 5"]);
    await test.target.admin`drop trigger keeps_some on public.fresh`;
    await test.sync({ capture: "full" });
    expect((await rows(test)).map(({ name }) => name)).toEqual(["New 1", "New 2", "New 3", "New 4", "New 5"]);
    expect(await test.live(ENTITY)).toEqual([]);
  });

  it("by a rule instead of a trigger is told alike, and so is a mark of a deleted record", async () => {
    await using test = await strange({ onDelete: { soft: { name: "gone" } } });
    await test.target.admin`create rule drop_third as on insert to public.fresh where new.legacy_id = 3 do instead nothing`;
    await acknowledge(test.context, undefined, "a test");
    await test.sync();
    expect((await test.live(ENTITY)).map(({ id, rule }) => [id, rule])).toEqual([[3, "write_cancelled"]]);
    expect((await test.live(ENTITY))[0]?.remedy).toContain("rule drop_third");
    await trigger(test, "keeps_first", "before update", "if new.legacy_id = 1 then return null; end if; return new;");
    await test.source.admin`delete from public.old where id in (1, 2)`;
    await test.sync({ capture: "digest" });
    expect((await rows(test)).map(({ id, name }) => [id, name])).toEqual([
      [1, "Name 1"],
      [2, "gone"],
      [4, "Name 4"],
      [5, "Name 5"],
    ]);
    expect((await test.live(ENTITY)).map(({ id, rule }) => [id, rule])).toEqual([
      [1, "left_kept"],
      [3, "write_cancelled"],
    ]);
  });

  it("of a decision is refused, and nothing of it is remembered", async () => {
    await using test = await strange({ conflicts: { strategy: "manual_review" } } as never);
    await test.sync();
    await test.target.admin`update public.fresh set name = 'Edited'`;
    await test.source.admin`update public.old set name = 'New'`;
    await test.sync();
    await trigger(test, "keeps_some", "before update", "if new.legacy_id = 2 then return null; end if; return new;");
    const decide = test.target.admin`update public.sync_conflicts set resolution_strategy = 'source_wins' where state = 'open'`;
    await expect(decide).rejects.toMatchObject({
      code: "IS022",
      message: expect.stringMatching(/things 2 .*cancels.*keeps_some/) as string,
    });
    expect(new Set((await rows(test)).map(({ name }) => name))).toEqual(new Set(["Edited"]));
    await test.target.admin`drop trigger keeps_some on public.fresh`;
    await test.target.admin`update public.sync_conflicts set resolution_strategy = 'source_wins' where state = 'open'`;
    expect(new Set((await rows(test)).map(({ name }) => name))).toEqual(new Set(["New"]));
  });

  it("is none when the trigger suppresses what changes nothing", async () => {
    await using test = await strange();
    await test.sync();
    await test.target.admin.unsafe(
      `create trigger z_suppress before update on public.fresh for each row execute function suppress_redundant_updates_trigger()`,
    );
    await test.source.admin`update public.old set name = 'New ' || id`;
    await test.sync();
    expect(await test.live(ENTITY)).toEqual([]);
    expect((await rows(test)).map(({ name }) => name)).toEqual(["New 1", "New 2", "New 3", "New 4", "New 5"]);
  });
});

describe("a value that a trigger of the target changes", () => {
  it("is told with field and trigger for as long as the row holds another one, whatever capture looks", async () => {
    await using test = await strange();
    await trigger(test, "touch", "before update", "new.stamp := '2030-05-05 05:05:05+00'; return new;");
    await trigger(test, "tidy", "before insert or update", "new.name := lower(new.name); return new;");
    await test.source.admin`update public.old set name = 'name ' || id where id > 2`;
    await test.sync();
    expect(await warnings(test)).toEqual(["1 written_otherwise: name", "2 written_otherwise: name"]);
    await test.source.admin`update public.old set n = 1, stamp = '2026-02-02 00:00:00+00' where id in (1, 3)`;
    const { execution } = await test.sync();
    const told = [
      "1 written_otherwise: name",
      "1 written_otherwise: stamp",
      "2 written_otherwise: name",
      "3 written_otherwise: stamp",
    ];
    expect(await warnings(test)).toEqual(told);
    expect(await test.live(ENTITY)).toEqual([]);
    expect(await test.sums(execution)).toMatchObject({ read: 2, outcomes: 2 });
    const [alert, ...more] = await alerts(test);
    expect(more).toEqual([]);
    expect(alert?.fields).toEqual([{ field: "stamp", triggers: "touch" }]);
    expect(alert?.message).toContain("stamp (trigger touch)");
    for (const capture of ["full", "digest"] as const) {
      await test.sync({ capture });
      expect(await warnings(test), capture).toEqual(told);
    }
    // Both sides agree again: by the source, by somebody's edit, by a trigger that is gone.
    await test.target.admin`drop trigger touch on public.fresh`;
    await test.target.admin`drop trigger tidy on public.fresh`;
    await test.source.admin`update public.old set name = 'name 1', stamp = '2026-03-03 00:00:00+00' where id = 1`;
    await test.target.admin`update public.fresh set name = 'Name 2' where legacy_id = 2`;
    await test.sync({ capture: "full" });
    expect(await warnings(test)).toEqual(["3 written_otherwise: stamp"]);
  });

  it.each(["values", "hashes"] as const)(
    "of a decision is told with field and trigger, and stays told (history %s)",
    async (history) => {
      await using test = await strange({ history, conflicts: { strategy: "manual_review", deleted: "manual_review" } });
      await test.sync();
      await trigger(test, "tidies", "before insert or update", "new.name := upper(new.name); return new;");
      await test.target.admin`update public.fresh set name = 'Mine ' || legacy_id where legacy_id in (1, 2)`;
      await test.target.admin`delete from public.fresh where legacy_id = 3`;
      await test.source.admin`update public.old set name = 'New ' || id, n = 1 where id <= 3`;
      await test.sync({ capture: "full" });
      expect((await test.live(ENTITY)).map(({ id }) => id)).toEqual([1, 2, 3]);
      expect(await warnings(test)).toEqual([]);
      const decide = (strategy: string, id: number, data?: object) =>
        test.target.admin`
        update public.sync_conflicts set resolution_strategy = ${strategy},
               resolution_data = ${data === undefined ? null : test.target.admin.json(data as never)}
         where source_record_id = ${id} and state = 'open'`;
      await decide("source_wins", 1);
      expect(await warnings(test)).toEqual(["1 written_otherwise: name"]);
      await decide("merge", 2, { name: "Both", ...(history === "hashes" ? { n: 1 } : {}) });
      await decide("source_wins", 3);
      const told = ["1 written_otherwise: name", "2 written_otherwise: name", "3 written_otherwise: name"];
      expect(await warnings(test)).toEqual(told);
      expect(await alerts(test)).toMatchObject([
        {
          message: expect.stringMatching(/name \(trigger tidies\)\. The rows hold something else than was written/) as unknown,
          fields: [{ field: "name", triggers: "tidies" }],
        },
      ]);
      expect((await rows(test)).slice(0, 3).map(({ name, n }) => [name, n])).toEqual([["NEW 1", 1], ["BOTH", 1], ["NEW 3", 1]]); // prettier-ignore
      await test.sync({ capture: "full" });
      expect(await test.live(ENTITY)).toEqual([]);
      expect((await warnings(test)).filter((line) => !line.startsWith("2 "))).toEqual([told[0], told[2]]);
    },
  );

  it("is told of an entity that keeps hashes, and of a page whose other records wait for a person", async () => {
    await using test = await strange({ history: "hashes" });
    await trigger(
      test,
      "touch",
      "after insert or update",
      `
      if pg_trigger_depth() = 1 then update public.fresh set stamp = '2030-05-05 05:05:05+00' where id = new.id; end if; return null;`,
    );
    await test.source.admin`delete from public.old where id > 2`;
    await test.sync();
    expect(await warnings(test)).toEqual(["1 written_otherwise: stamp", "2 written_otherwise: stamp"]);
    expect((await alerts(test))[0]?.message).toContain("trigger touch");
    await test.sync({ capture: "full" });
    expect((await warnings(test)).length).toBe(2);
  });

  it("is nothing to tell when it is not the sync's, or when it is what the source says in other words", async () => {
    await using test = await strange();
    await test.target.admin`alter table public.fresh add column note text`;
    await trigger(test, "notes", "before insert or update", "new.note := 'seen'; new.stamp := new.stamp; return new;");
    await test.sync();
    await test.source.admin`update public.old set n = 7, stamp = '2026-02-02 01:00:00+01'`;
    await test.sync();
    await test.target.admin`update public.fresh set name = 'Edited' where legacy_id = 1`;
    await test.sync({ capture: "full" });
    expect(await warnings(test)).toEqual([]);
    expect([...(await alerts(test))]).toEqual([]);
  });
});

describe("a value that does not fit, beside one that a trigger changes", () => {
  it.each([1, 2])("is not written cut because of that, in a page of %i", async (count) => {
    await using test = await createStranger({
      source: "old",
      target: "fresh",
      columns: { name: { type: "text" }, amount: { type: "numeric(10,2)", sourceType: "numeric" } },
    });
    await test.source
      .admin`insert into public.old (id, name, amount) select i, 'a', 1 from generate_series(1, ${count}::integer) i`;
    await test.sync();
    await trigger(test, "shouts", "before insert or update", "new.name := upper(new.name); return new;");
    await test.source.admin`update public.old set name = 'b', amount = 1.005`;
    await test.source
      .admin`insert into public.old (id, name, amount) select 10 + i, 'c', 2.005 from generate_series(1, ${count}::integer) i`;
    await test.sync();
    const amounts = await test.target.admin<{ amount: string }[]>`select amount::text from public.fresh order by legacy_id`;
    expect(amounts.map(({ amount }) => amount)).toEqual(Array.from({ length: count }, () => "1.00"));
    expect((await test.live(ENTITY)).map(({ type, field }) => [type, field])).toEqual(
      Array.from({ length: 2 * count }, () => ["schema_mismatch", "amount"]),
    );
  });
});

import { describe, expect, it } from "vitest";
import { acknowledge } from "../shared/contract/check.ts";
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
  it("is told of a first load, too, where the column's collation takes both values for equal", async () => {
    await using test = await strange();
    await test.target.admin.unsafe(`
      create collation public.any_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
      alter table public.fresh alter column name type text collate public.any_case`);
    await trigger(test, "tidy", "before insert or update", "new.name := lower(new.name); return new;");
    await test.sync({ capture: "full" });
    expect((await rows(test)).map(({ name }) => name)).toEqual(["name 1", "name 2", "name 3", "name 4", "name 5"]);
    expect(await warnings(test)).toEqual([1, 2, 3, 4, 5].map((id) => `${id} written_otherwise: name`));
    expect((await alerts(test)).map(({ fields }) => fields)).toEqual([[{ field: "name", triggers: "tidy" }]]);
  });

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

  it.each(["values", "hashes"] as const)(
    "is told where the write was about another field, whatever the trigger makes of it then (history %s)",
    async (history) => {
      await using test = await strange({ history });
      await test.sync();
      await trigger(test, "touch", "before update", "new.stamp := '2030-05-05 05:05:05+00'; return new;");
      await test.source.admin`update public.old set n = 1 where id in (1, 2)`;
      await test.sync();
      expect(await counts(test)).toEqual({ inserted: 0, updated: 2, unchanged: 0, deleted: 0, in_conflict: 0 });
      const told = ["1 written_otherwise: stamp", "2 written_otherwise: stamp"];
      expect(await warnings(test)).toEqual(told);
      expect(await alerts(test)).toMatchObject([
        { message: expect.stringMatching(/stamp \(trigger touch\)/) as string, fields: [{ field: "stamp", triggers: "touch" }] },
      ]);
      for (const capture of ["full", "digest"] as const) {
        await test.sync({ capture });
        expect(await warnings(test), capture).toEqual(told);
        expect(await test.live(ENTITY)).toEqual([]);
      }
      await test.target.admin`drop trigger touch on public.fresh`;
      await test.source.admin`update public.old set stamp = '2026-04-04 00:00:00+00'`;
      await test.sync();
      expect(await warnings(test)).toEqual([]);
    },
  );

  it("is nothing to tell where it is the source's, of a field that somebody had edited", async () => {
    await using test = await strange();
    await test.sync();
    await test.target.admin`update public.fresh set name = 'Edited' where legacy_id < 3`;
    await trigger(test, "back", "before update", "if new.legacy_id = 1 then new.name := 'Name 1'; end if; return new;");
    await test.source.admin`update public.old set n = 1 where id < 4`;
    await test.sync();
    expect((await rows(test)).slice(0, 3).map(({ name }) => name)).toEqual(["Name 1", "Edited", "Name 3"]);
    expect(await warnings(test)).toEqual([]);
    expect([...(await alerts(test))]).toEqual([]);
  });

  it("is told of a merge, of its own value and of another field", async () => {
    const json = { ...TABLES, columns: { ...TABLES.columns, data: { type: "jsonb" } } };
    await using test = await createStranger(json, { conflicts: { strategy: "source_wins", fields: { data: "merge" } } as never });
    await test.source
      .admin`insert into public.old (id, name, n, data) select i, 'a', 0, '{"a": 1, "b": 1}' from generate_series(1, 2) i`;
    await test.sync();
    await test.target.admin`update public.fresh set data = data || '{"b": 2}'`;
    await trigger(
      test,
      "stirs",
      "before update",
      `new.n := 7; if new.legacy_id = 2 then new.data := new.data || '{"c": 3}'; end if; return new;`,
    );
    await test.source.admin`update public.old set data = '{"a": 5, "b": 1}'`;
    await test.sync();
    const merged = await test.target.admin<{ data: object }[]>`select data from public.fresh order by legacy_id`;
    expect(merged.map(({ data }) => data)).toEqual([{ a: 5, b: 2 }, { a: 5, b: 2, c: 3 }]); // prettier-ignore
    expect(await warnings(test)).toEqual(["1 written_otherwise: n", "2 written_otherwise: data", "2 written_otherwise: n"]);
  });

  it.each(["values", "hashes"] as const)("is told where a decision was about another field (history %s)", async (history) => {
    await using test = await strange({ history, conflicts: { strategy: "manual_review" } });
    await test.sync();
    await test.target.admin`update public.fresh set name = 'Mine ' || legacy_id where legacy_id <= 3`;
    await test.source.admin`update public.old set name = 'New ' || id where id <= 3`;
    await test.sync();
    await trigger(test, "touch", "before update", "new.stamp := '2030-05-05 05:05:05+00'; return new;");
    const decide = (strategy: string | null, id: number, data?: object) =>
      test.target.admin`
        update public.sync_conflicts set resolution_strategy = ${strategy}::public.conflict_resolution_strategy,
               resolution_data = ${data === undefined ? null : test.target.admin.json(data as never)}
         where source_record_id = ${id}`;
    await decide("source_wins", 1);
    await decide("merge", 2, { name: "Both" });
    expect(await warnings(test)).toEqual(["1 written_otherwise: stamp", "2 written_otherwise: stamp"]);
    expect(await alerts(test)).toMatchObject([{ fields: [{ field: "stamp", triggers: "touch" }] }]);
    // Nothing is written, and so nothing is altered.
    await decide("target_wins", 3);
    expect((await warnings(test)).length).toBe(2);
    const { execution } = await test.sync({ capture: "digest" });
    const [found] = await test.target.admin<{ edited: unknown }[]>`
      select body #> '{edited,legacy_ids}' as edited from public.sync_reports where execution_id = ${execution} and kind = ${`digest:${ENTITY}`}`;
    // Of a value that a person put there: who asked for it is told, and it is no edit of the other field.
    expect(found?.edited).toEqual(["2", "3"]);
    expect((await warnings(test))[0]).toBe("1 written_otherwise: stamp");
    // Put back, the row is written once more.
    await test.target.admin`delete from public.sync_warnings`;
    await decide(null, 2);
    expect(await warnings(test)).toEqual([]);
    await trigger(test, "touch", "before update", "new.stamp := '2031-05-05 05:05:05+00'; return new;");
    await decide(null, 1);
    expect(await warnings(test)).toEqual(["1 written_otherwise: stamp"]);
  });

  it("is named where a trigger of the whole statement does it", async () => {
    await using test = await strange();
    await test.target.admin.unsafe(`
      create function public.sweeps() returns trigger language plpgsql security definer as $$ begin
        if pg_trigger_depth() = 1 then update public.fresh set stamp = '2030-05-05 05:05:05+00' where n = 1; end if; return null; end $$;
      create function public.looks() returns trigger language plpgsql as $$ begin return null; end $$;
      create trigger sweeps after insert or update on public.fresh for each statement execute function public.sweeps();
      create trigger looks after update on public.fresh for each row execute function public.looks()`);
    await acknowledge(test.context, undefined, "a test");
    await test.sync();
    await test.source.admin`update public.old set n = 1 where id = 2`;
    await test.sync();
    expect(await warnings(test)).toEqual(["2 written_otherwise: stamp"]);
    expect(await alerts(test)).toMatchObject([{ fields: [{ field: "stamp", triggers: "sweeps" }] }]);
    await test.target.admin.unsafe(`
      create or replace function public.sweeps() returns trigger language plpgsql security definer as $$ begin
        delete from public.fresh where n = 2; return null; end $$`);
    await test.source.admin`update public.old set n = 2 where id = 3`;
    await test.sync();
    const queued = await test.live(ENTITY);
    expect(queued).toMatchObject([{ id: 3, rule: "write_cancelled" }]);
    expect(queued[0]?.remedy).toContain("(trigger sweeps)");
  });
});

/** Types of which what is kept as JSON does not tell all texts apart. */
const PRINTED = {
  ...TABLES,
  columns: {
    name: { type: "text" },
    n: { type: "integer" },
    data: { type: "json" },
    f: { type: "real" },
    d: { type: "double precision" },
  },
} as const;
/** A trigger that prints these values as JSON would. */
const REPRINTS = "new.data := new.data::jsonb::json; new.f := new.f + 0; new.d := new.d + 0; return new;";

describe("a text that a trigger changes, of a value that JSON calls equal", () => {
  async function printed(more: Parameters<typeof createStranger>[1] = {}): Promise<Pipeline> {
    const test = await createStranger(PRINTED, more);
    // The second record prints as JSON would.
    await test.source.admin`
      insert into public.old (id, name, n, data, f, d) values (1, 'a', 0, '{"b":1, "a":2}', '-0', '-0'), (2, 'a', 0, '{"a": 2, "b": 1}', 0.10, 1e-7)`;
    return test;
  }
  const texts = async (test: Pipeline) =>
    (
      await test.target.admin<{ line: string }[]>`
        select data || ' ' || f || ' ' || d || ' ' || xmin as line from public.fresh order by legacy_id`
    ).map(({ line }) => line);
  const told = ["1 written_otherwise: d", "1 written_otherwise: data", "1 written_otherwise: f"];

  it.each(["values", "hashes"] as const)(
    "is told with field and trigger for as long as it differs from the source's (history %s)",
    async (history) => {
      await using test = await printed({ history });
      await trigger(test, "reprints", "before insert or update", REPRINTS);
      await test.sync();
      expect(await warnings(test)).toEqual(told);
      expect(await alerts(test)).toMatchObject([
        { fields: ["d", "data", "f"].map((field) => ({ field, triggers: "reprints" })) },
      ]);
      const before = await texts(test);
      for (const capture of ["full", "digest"] as const) {
        await test.sync({ capture });
        expect(await warnings(test), capture).toEqual(told);
      }
      expect(await texts(test)).toEqual(before);
      await test.source.admin`update public.old set n = 1`;
      await test.sync();
      expect(await warnings(test)).toEqual(told);
      // What somebody else does to the row takes nothing back.
      await test.target.admin`update public.fresh set id = id`;
      await test.sync({ capture: "full" });
      expect(await warnings(test)).toEqual(told);
      expect(await test.live(ENTITY)).toEqual([]);
      await test.target.admin`drop trigger reprints on public.fresh`;
      await test.source.admin`update public.old set data = '{"b":3}'`;
      await test.sync();
      expect(await warnings(test)).toEqual([]);
      expect((await texts(test))[0]).toMatch(/^{"b":3} -0 -0 /);
    },
  );

  it("is told where the write was about another field, and where a decision was", async () => {
    await using test = await printed({ conflicts: { strategy: "manual_review" } } as never);
    await test.source.admin`insert into public.old (id, name, n, data, f, d) values (3, 'a', 0, '{"b":1, "a":2}', '-0', '-0')`;
    await test.sync();
    await test.target.admin`update public.fresh set name = 'Mine' where legacy_id = 3`;
    await test.source.admin`update public.old set name = 'New' where id = 3`;
    await test.sync();
    await trigger(test, "reprints", "before insert or update", REPRINTS);
    await test.source.admin`update public.old set n = 1 where id < 3`;
    // Found by the number alone: the texts are what the source says, and no page writes them again.
    await test.sync();
    expect(await warnings(test)).toEqual(told);
    await test.target.admin`update public.sync_conflicts set resolution_strategy = 'source_wins' where state = 'open'`;
    expect(await warnings(test)).toEqual([...told, ...told.map((line) => line.replace("1", "3"))]);
  });

  it("is nothing to tell where the trigger leaves the value, where the source prints it otherwise, or where a person does", async () => {
    await using test = await createStranger(PRINTED);
    await test.source.admin`
      insert into public.old (id, name, n, data, f, d) values (1, 'a', 0, '{"b":1, "a":1.50}', 0.10, 1e2), (2, 'a', 0, 'null', null, null), (3, 'a', 0, null, 1, 1)`;
    await trigger(test, "leaves", "before insert or update", "new.data := new.data; new.f := new.f * 1; return new;");
    for (const n of [0, 1]) {
      await test.source.admin`update public.old set n = ${n}`;
      await test.sync({ capture: "full" });
      expect(await warnings(test)).toEqual([]);
    }
    await test.target.admin`update public.fresh set data = '{"a":1.50, "b":1}' where legacy_id = 1`;
    for (const capture of ["full", "digest"] as const) {
      await test.sync({ capture });
      expect(await warnings(test), capture).toEqual([]);
    }
    expect([...(await alerts(test))]).toEqual([]);
    expect(await test.live(ENTITY)).toEqual([]);
  });

  it.each(["values", "hashes"] as const)(
    "is a person's where a person has changed it, also when the sync has noted the row anew since (history %s)",
    async (history) => {
      await using test = await printed({ history });
      await test.sync();
      await test.target.admin`update public.fresh set data = data::jsonb::json, f = 0, d = 0 where legacy_id = 1`;
      const before = await texts(test);
      for (const capture of ["full", "digest"] as const) {
        // As after another value of the source that both sides have by now.
        await test.target.admin.begin(async (tx) => {
          await tx`set local session_replication_role = replica`;
          await tx`update public.sync_row_states set seen = seen || '{"n": 9}', seen_hash = seen_hash + 1 where legacy_id = 1`;
        });
        await test.sync({ capture: "full" });
        await test.sync({ capture });
        expect(await warnings(test), capture).toEqual([]);
        expect(await texts(test)).toEqual(before);
      }
      expect([...(await alerts(test))]).toEqual([]);
    },
  );
});

describe("a record that waits for a person's decision, of which a trigger prints the texts otherwise", () => {
  it.each(["values", "hashes"] as const)(
    "is not written at each full pass, nor once it is decided (history %s)",
    async (history) => {
      const shapes = { ...PRINTED, columns: { ...PRINTED.columns, amount: { type: "numeric" } } };
      await using test = await createStranger(shapes, { history, conflicts: { strategy: "manual_review" } } as never);
      await test.source.admin`
      insert into public.old (id, name, n, data, f, d, amount) values (1, 'a', 0, '{"b":1, "a":2}', 0, 0, 1.50), (2, 'a', 0, '{"b":1, "a":2}', 0, 0, 1.50)`;
      await test.sync();
      await trigger(test, "reprints", "before insert or update", `new.amount := trim_scale(new.amount); ${REPRINTS}`);
      await test.target.admin`update public.fresh set name = 'Mine' where legacy_id = 1`;
      await test.source.admin`update public.old set name = 'New', data = '{"b":1,   "a":2}', amount = 1.500`;
      await test.sync();
      const open = [{ id: 1, state: "open", type: "concurrent_modification", field: "name" }];
      expect(await test.live(ENTITY)).toMatchObject(open);
      const versions = async () =>
        (await test.target.admin<{ v: string }[]>`select xmin::text as v from public.fresh order by legacy_id`).map(({ v }) => v);
      const told = [
        "1 written_otherwise: amount",
        "1 written_otherwise: data",
        "2 written_otherwise: amount",
        "2 written_otherwise: data",
      ];
      const stays = async (label: string) => {
        const before = await versions();
        for (const capture of ["full", "digest", "full"] as const) {
          await test.sync({ capture });
          expect(await versions(), `${label} ${capture}`).toEqual(before);
          expect(await warnings(test), `${label} ${capture}`).toEqual(told);
        }
      };
      await stays("open");
      expect(await test.live(ENTITY)).toMatchObject(open);
      // What the source changes meanwhile lands once. Of hashes, a value that was changed would be asked about, too.
      const data = history === "values" ? '{"b":1, "a":3}' : '{"b":1,     "a":2}';
      const earlier = await versions();
      await test.source.admin.unsafe(`update public.old set data = '${data}' where id = 1`);
      await test.sync();
      const [row] = await test.target.admin<{ data: object }[]>`select data from public.fresh where legacy_id = 1`;
      expect(row?.data).toEqual(JSON.parse(data));
      expect((await versions())[0]).not.toBe(earlier[0]);
      expect(await test.live(ENTITY)).toMatchObject(open);
      await stays("changed");
      await test.target.admin`update public.sync_conflicts set resolution_strategy = 'source_wins' where state = 'open'`;
      await test.sync({ capture: "full" });
      await stays("decided");
      expect(await test.live(ENTITY)).toEqual([]);
    },
  );
});

describe("a number that a trigger changes, in a column that was not written", () => {
  it("is refused like one that was, in pages and decisions", async () => {
    const amounts = { ...TABLES, columns: { ...TABLES.columns, amount: { type: "numeric" } } };
    await using test = await createStranger(amounts, { conflicts: { strategy: "manual_review" } });
    await test.source.admin`insert into public.old (id, name, n, amount) select i, 'a', 0, 1.5 from generate_series(1, 2) i`;
    await test.sync();
    await test.target.admin`update public.fresh set name = 'Mine' where legacy_id = 2`;
    await test.source.admin`update public.old set name = 'b' where id = 2`;
    await test.sync();
    await trigger(test, "counts", "before update", "new.amount := new.amount + 1; return new;");
    await test.source.admin`update public.old set n = 1 where id = 1`;
    await test.sync();
    expect((await test.live(ENTITY)).map(({ id, type }) => [id, type])).toEqual([
      [1, "schema_mismatch"],
      [2, "concurrent_modification"],
    ]);
    const decide = test.target
      .admin`update public.sync_conflicts set resolution_strategy = 'source_wins' where source_record_id = 2`;
    await expect(decide).rejects.toMatchObject({
      code: "IS022",
      message: expect.stringMatching(/things 2 .*number.*amount.*\(trigger counts\)/) as string,
    });
    const left = await test.target.admin<{ amount: string }[]>`select amount::text from public.fresh`;
    expect(left.map(({ amount }) => amount)).toEqual(["1.5", "1.5"]);
  });
});

describe("a mark of a deleted record", () => {
  const versions = async (test: Pipeline) =>
    (await test.target.admin<{ v: string }[]>`select xmin::text as v from public.fresh order by legacy_id`).map(({ v }) => v);

  it.each(["values", "hashes"] as const)(
    "that a trigger takes off again is undone and told with the trigger, and made when the trigger is gone (history %s)",
    async (history) => {
      await using test = await strange({ history, onDelete: { soft: { name: "gone" } } });
      await test.sync();
      await trigger(test, "looks", "after update", "return null;");
      await trigger(
        test,
        "unmarks",
        "before update",
        "new.stamp := now(); if new.legacy_id = 1 then new.name := old.name; end if; return new;",
      );
      await test.source.admin`delete from public.old where id in (1, 2)`;
      const before = await versions(test);
      await test.sync({ capture: "digest" });
      expect(await counts(test)).toEqual({ inserted: 0, updated: 0, unchanged: 0, deleted: 1, in_conflict: 1 });
      const [queued, ...more] = await test.live(ENTITY);
      expect(more).toEqual([]);
      expect(queued).toMatchObject({ id: 1, state: "open", type: "business_rule_violation", rule: "left_kept" });
      expect(queued?.remedy).toMatch(/does not keep its mark.*\(trigger unmarks\)/);
      const after = await versions(test);
      expect(after[0]).toBe(before[0]);
      // What else the trigger did to the marked row is named, and is nobody's edit when the record returns.
      expect(await alerts(test)).toMatchObject([{ fields: [{ field: "stamp", triggers: "unmarks" }] }]);
      for (const capture of ["digest", "full", "digest"] as const) {
        await test.sync({ capture });
        expect(await versions(test), capture).toEqual(after);
        expect((await test.live(ENTITY)).map(({ id, rule }) => [id, rule])).toEqual([[1, "left_kept"]]);
      }
      await test.target.admin`drop trigger unmarks on public.fresh`;
      await test.sync({ capture: "digest" });
      expect((await rows(test)).slice(0, 3).map(({ name }) => name)).toEqual(["gone", "gone", "Name 3"]);
      expect(await test.live(ENTITY)).toEqual([]);
    },
  );

  it("that does not stay is not tried again once a person has said that the row stays", async () => {
    await using test = await strange({ onDelete: { soft: { name: "gone" } } });
    await test.sync();
    await trigger(test, "unmarks", "before update", "new.name := old.name; return new;");
    await test.source.admin`delete from public.old where id = 1`;
    await test.sync({ capture: "digest" });
    await test.target.admin`update public.sync_conflicts set resolution_strategy = 'target_wins' where state = 'open'`;
    for (const capture of ["digest", "full"] as const) {
      await test.sync({ capture });
      expect(await test.live(ENTITY)).toEqual([]);
    }
  });

  it.each([
    ["char(4)", "x", "x   "],
    ["timestamptz", "2026-01-01T00:00:00Z", "2026-01-01 00:00:00+00"],
    ["numeric(4,2)", "1.5", "1.50"],
    ["jsonb", '{"b":1,"a":[2]}', '{"a": [2], "b": 1}'],
  ])("holds in a column of type %s that writes it otherwise, and is made once", async (type, mark, kept) => {
    const marked = { ...TABLES, columns: { ...TABLES.columns, mark: { type } } };
    await using test = await createStranger(marked, { onDelete: { soft: { mark } } });
    await test.source.admin`insert into public.old (id, name) values (1, 'a'), (2, 'b')`;
    await test.sync();
    await test.source.admin`delete from public.old where id = 1`;
    await test.sync({ capture: "digest" });
    expect(await counts(test)).toMatchObject({ deleted: 1, in_conflict: 0 });
    const after = await versions(test);
    const [row] = await test.target.admin<{ same: boolean }[]>`
      select to_jsonb(mark) = to_jsonb(${kept}::text::${test.target.admin.unsafe(type)}) as same from public.fresh where legacy_id = 1`;
    expect(row).toEqual({ same: true });
    for (const capture of ["digest", "full", "digest"] as const) await test.sync({ capture });
    expect(await versions(test)).toEqual(after);
    // Taken off by somebody, it is made again.
    await test.target.admin`update public.fresh set mark = null where legacy_id = 1`;
    await test.sync({ capture: "digest" });
    expect((await test.target.admin`select from public.fresh where legacy_id = 1 and mark is not null`).length).toBe(1);
  });

  it.each([
    ["numeric(3,1)", "1.25"],
    ["date", "2026-01-01 10:00:00"],
    ["varchar(3)", "go    "],
    ["integer", "gone"],
  ])("that a column of type %s does not hold exactly is in the queue, and the row is left alone", async (type, mark) => {
    const marked = { ...TABLES, columns: { ...TABLES.columns, mark: { type } } };
    await using test = await createStranger(marked, { onDelete: { soft: { mark } } });
    await test.source.admin`insert into public.old (id, name) values (1, 'a'), (2, 'b')`;
    await test.sync();
    await test.source.admin`delete from public.old`;
    const before = await versions(test);
    for (const capture of ["digest", "full", "digest"] as const) {
      await test.sync({ capture });
      expect((await test.live(ENTITY)).map(({ id, state }) => [id, state])).toEqual([[1, "open"], [2, "open"]]); // prettier-ignore
    }
    expect(await versions(test)).toEqual(before);
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

describe("what a trigger writes into the row of another record", () => {
  /** Whoever renames record 1 has its trigger write the number of record 2. */
  const REACHES =
    "if new.legacy_id = 1 and new.name like 'changed%' then update public.fresh set n = 9 where legacy_id = 2; end if; return null;";

  it("is told where one slice writes both rows", async () => {
    await using test = await strange();
    await test.sync();
    await trigger(test, "reaches", "after update of name", REACHES);
    await test.source.admin`update public.old set name = 'changed ' || id where id <= 2`;
    await test.sync();
    expect(await warnings(test)).toEqual(["2 written_otherwise: n"]);
  });

  it("counts as a person's edit where nothing else of the slice writes that row, as docs/invariants.md says among the gaps", async () => {
    await using test = await strange({ conflicts: { strategy: "manual_review" } });
    await test.sync();
    await trigger(test, "reaches", "after update of name", REACHES);
    await test.source.admin`update public.old set name = 'changed' where id = 1`;
    await test.sync();
    expect([await warnings(test), await test.live(ENTITY)]).toEqual([[], []]);
    const { execution } = await test.sync({ capture: "digest" });
    const [report] = await test.target.admin<{ edited: unknown }[]>`
      select body #> '{edited,legacy_ids}' as edited from public.sync_reports where execution_id = ${execution} and kind = ${`digest:${ENTITY}`}`;
    expect(report?.edited).toEqual(["2"]);
    await test.source.admin`update public.old set n = 5 where id = 2`;
    await test.sync();
    expect((await test.live(ENTITY)).map(({ id, rule, field }) => [id, rule, field])).toEqual([[2, "both_changed", "n"]]);
  });
});

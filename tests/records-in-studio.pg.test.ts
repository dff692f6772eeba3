import { describe, expect, it } from "vitest";
import { tick } from "../shared/tick/tick.ts";
import { only, clinic, studio, refused, rowOf, conflictsOf, openOf, auditOf, bothChange, type Id } from "./support/studio.ts";

describe("a record as a whole", () => {
  it("whose target row somebody deleted is written again under its id, or stays away, and is not asked about again", async () => {
    await using test = await clinic(6);
    const ids = async () =>
      (
        await test.target.admin<{ id: number; uuid: string }[]>`
        select legacy_operation_id::integer as id, id as uuid from public.operations where legacy_operation_id in (1, 2) order by 1`
      ).map((row) => ({ ...row }));
    const before = await ids();
    await test.target.admin`delete from public.operations where legacy_operation_id in (1, 2)`;
    await test.sync({ ...only, capture: "full" });
    expect(await openOf(test, 1)).toMatchObject({ rule: "target_deleted", decidable: true });
    await studio(
      test,
      `update public.sync_conflicts set resolution_strategy = 'source_wins' where id = '${(await openOf(test, 1)).id}'`,
    );
    await studio(
      test,
      `update public.sync_conflicts set resolution_strategy = 'target_wins' where id = '${(await openOf(test, 2)).id}'`,
    );
    expect(await ids()).toEqual(before.slice(0, 1));
    for (const capture of ["full", "digest"] as const) {
      const { execution } = await test.sync({ ...only, capture });
      expect(await test.live("operations")).toEqual([]);
      expect((await test.sums(execution)).read).toBe(capture === "full" ? 6 : 0);
    }
    // Until the source changes it.
    await test.source.admin`update public.dispatch_operation set price = 5 where id = 2`;
    await test.sync(only);
    expect(await openOf(test, 2)).toMatchObject({ rule: "target_deleted" });
    // A decision that stood can be put back, too.
    const { id } = await openOf(test, 2);
    await studio(test, `update public.sync_conflicts set resolution_strategy = 'target_wins' where id = '${id}'`);
    await studio(test, `update public.sync_conflicts set resolution_strategy = null where id = '${id}'`);
    await studio(test, `update public.sync_conflicts set resolution_strategy = 'source_wins' where id = '${id}'`);
    expect(await ids()).toEqual(before);
    expect((await rowOf(test, 2))?.amount).toBe("5.00");
  });

  it("that the source deleted goes, with what it held kept, or stays", async () => {
    await using test = await clinic(6);
    await test.source.admin`delete from public.dispatch_operation where id in (1, 2)`;
    await test.sync({ ...only, capture: "digest" });
    const { id } = await openOf(test, 1);
    await studio(test, `update public.sync_conflicts set resolution_strategy = 'source_wins' where id = '${id}'`);
    await studio(
      test,
      `update public.sync_conflicts set resolution_strategy = 'target_wins' where id = '${(await openOf(test, 2)).id}'`,
    );
    expect([await rowOf(test, 1), (await rowOf(test, 2))?.amount]).toEqual([undefined, "2.00"]);
    const [kept] = await test.target
      .admin`select target ->> 'card_brand' as brand from public.sync_conflict_values where conflict_id = ${id}`;
    expect(kept).toEqual({ brand: "VISA" });
    await test.sync({ ...only, capture: "digest" });
    expect(await test.live("operations")).toEqual([]);
    expect(
      await refused(studio(test, `update public.sync_conflicts set resolution_strategy = null where id = '${id}'`)),
    ).toMatchObject({ message: expect.stringContaining("is not put back") as string });
  });

  it("that a rule stops can be left out until the source changes it: it is neither asked about nor compared", async () => {
    await using test = await clinic(3);
    await test.source.admin`insert into public.dispatch_operation (id, type, price) values (50, 99, 1), (51, 99, 1)`;
    await test.source.admin`update public.dispatch_operation set type = 99 where id = 1`;
    await test.sync(only);
    await studio(test, "update public.sync_conflicts set resolution_strategy = 'target_wins' where source_record_id in (1, 50)");
    expect((await test.live("operations")).map(({ id }) => id)).toEqual([51]);
    for (const capture of ["digest", "full"] as const) {
      const { execution } = await test.sync({ ...only, capture });
      const { read, outcomes } = await test.sums(execution);
      expect(read).toBe(outcomes);
      expect((await test.live("operations")).map(({ id }) => id)).toEqual([51]);
    }
    await test.source.admin`update public.dispatch_operation set price = 2 where id in (1, 50)`;
    await test.sync(only);
    expect((await test.live("operations")).map(({ id }) => id)).toEqual([1, 50, 51]);
    await test.source.admin`update public.dispatch_operation set type = 1`;
    await test.sync(only);
    expect(await test.live("operations")).toEqual([]);
  });

  it("is settled by the policy of its type, or of deleted rows, without a person", async () => {
    await using test = await clinic(3, { types: { business_rule_violation: "target_wins" }, deleted: "target_wins" });
    await test.target.admin`delete from public.operations where legacy_operation_id = 1`;
    await test.target.admin`alter table public.operations add constraint small check (amount < 5000)`;
    await test.source.admin`update public.dispatch_operation set price = 6000 where id in (1, 2)`;
    await test.sync(only);
    expect(await test.live("operations")).toEqual([]);
    expect(await conflictsOf(test, 1)).toMatchObject([
      { state: "resolved", rule: "target_deleted", by: "policy", policy: "target_wins of deleted rows", standing: true },
    ]);
    expect(await conflictsOf(test, 2)).toMatchObject([
      { state: "resolved", rule: "small", policy: "target_wins of the type business_rule_violation" },
    ]);
    const { execution } = await test.sync({ ...only, capture: "digest" });
    expect((await test.sums(execution)).read).toBe(0);
    await test.source.admin`update public.dispatch_operation set price = 60 where id = 2`;
    await test.sync(only);
    expect((await rowOf(test, 2))?.amount).toBe("60.00");
    expect((await conflictsOf(test, 2)).map(({ standing }) => standing)).toEqual([false]);
  });
});

describe("what the queue shows and keeps", () => {
  it("masks sensitive values, cuts long ones short, and reveals them with a trace", async () => {
    await using test = await clinic(2);
    const long = "x".repeat(20_000);
    await test.source.admin`update public.dispatch_operation set card_last = '7777', card_brand = 'source' where id = 1`;
    await test.target.admin`update public.operations set card_last = '8888', card_brand = ${long} where legacy_operation_id = 1`;
    await test.sync(only);
    const open = await openOf(test, 1);
    const masked = { seen: "•••", source: "•••", target: "•••" };
    expect(open.differences).toMatchObject({
      card_last: masked,
      card_brand: { target: expect.stringContaining("(20000 characters)") as string },
    });
    expect(JSON.stringify(open).length).toBeLessThan(3_000);
    // All fields at once fit into a cell as well.
    const [cell] = await test.target.admin<{ size: number }[]>`
      select length(sync.differences((select jsonb_agg(jsonb_build_object('name', 'field_' || n, 'sensitive', false)) from generate_series(1, 50) n),
               (select array_agg('field_' || n) from generate_series(1, 50) n), v.whole, v.whole, v.whole, true)::text) as size
        from (select jsonb_object_agg('field_' || n, repeat('x', 5000)) as whole from generate_series(1, 50) n) v`;
    expect(cell?.size).toBeLessThan(16_000);
    const [shown] = await studio<{ reveal: unknown }>(test, `select sync.reveal('${open.id}')`);
    expect(shown?.reveal).toMatchObject({
      card_last: { seen: "1234", source: "7777", target: "8888" },
      card_brand: { target: long },
    });
    expect(await auditOf(test)).toMatchObject([{ action: "revealed", id: 1, fields: ["card_brand", "card_last"] }]);
  });

  it("does not depend on the settings of any session", async () => {
    await using test = await clinic(4);
    const settings = [
      "set local timezone = 'Asia/Tokyo'",
      "set local datestyle = 'German, DMY'",
      "set local extra_float_digits = 0",
      "set local intervalstyle = 'sql_standard'",
    ];
    await test.source.admin`update public.dispatch_operation set made_at = '2026-03-29 01:30:00.123456+00' where id <= 3`;
    await test.target
      .admin`update public.operations set made_at = '2026-10-25 00:30:00.654321+00' where legacy_operation_id <= 3`;
    await test.sync(only);
    const made = async () =>
      (
        await test.target.admin<
          { at: string }[]
        >`select to_char(made_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') as at from public.operations where legacy_operation_id <= 3 order by legacy_operation_id`
      ).map(({ at }) => at);
    const decide = async (id: Id, set: string) =>
      studio(test, `update public.sync_conflicts set ${set} where id = '${(await openOf(test, id)).id}'`, ...settings);
    await decide(1, "resolution_strategy = 'source_wins'");
    await decide(2, "resolution_strategy = 'target_wins'");
    await decide(3, `resolution_strategy = 'merge', resolution_data = '{"made_at": "2026-01-01T12:00:00.000001+02:00"}'`);
    expect(await made()).toEqual(["2026-03-29 01:30:00.123456", "2026-10-25 00:30:00.654321", "2026-01-01 10:00:00.000001"]);
    await test.target.admin.unsafe(
      "alter role isthmus_worker set timezone = 'Asia/Tokyo'; alter role isthmus_worker set datestyle = 'German, DMY'; alter role isthmus_worker set extra_float_digits = 0",
    );
    try {
      await test.sync({ ...only, capture: "full" });
      expect(await test.live("operations")).toEqual([]);
    } finally {
      await test.target.admin.unsafe(
        "alter role isthmus_worker reset timezone; alter role isthmus_worker reset datestyle; alter role isthmus_worker reset extra_float_digits",
      );
    }
  });

  it("tells application triggers which writes are the sync's: a decision is, what the person writes beside it is not; names without a schema are found", async () => {
    await using test = await clinic(2);
    await bothChange(test, 1);
    await test.sync(only);
    await test.target.admin.unsafe(`
      create table public.who (n serial, setting text); grant all on public.who to postgres, isthmus_decisions;
      grant usage on sequence public.who_n_seq to postgres, isthmus_decisions;
      create function public.note_writer() returns trigger language plpgsql as $$ begin insert into who (setting) values (current_setting('isthmus.sync', true)); return new; end $$;
      create trigger note_writer after update on public.operations for each row execute function public.note_writer()`);
    await studio(
      test,
      "update public.operations set amount = 3 where legacy_operation_id = 2",
      "update public.sync_conflicts set resolution_strategy = 'source_wins' where state = 'open'",
    );
    const who = await test.target.admin<{ setting: string | null }[]>`select setting from public.who order by n`;
    expect(who.map(({ setting }) => setting ?? "")).toEqual(["on", ""]);
  });
});

describe("unique values", () => {
  it("that two records exchange land, in one page or in two, and a clash names both", async () => {
    await using test = await clinic(6);
    await test.source.admin`update public.dispatch_operation set card_brand = 'brand ' || id`;
    await test.sync(only);
    await test.target.admin`create unique index one_brand on public.operations (card_brand)`;
    const swap = (a: Id, b: Id) =>
      test.source
        .admin`update public.dispatch_operation set card_brand = case id when ${a} then ${`brand ${b}`} else ${`brand ${a}`} end where id in (${a}, ${b})`;
    await swap(1, 2);
    await test.sync(only);
    expect([(await rowOf(test, 1))?.brand, (await rowOf(test, 2))?.brand]).toEqual(["brand 2", "brand 1"]);
    expect(await test.live("operations")).toEqual([]);
    // In two pages: each finds the value taken, and both are read together.
    await swap(3, 6);
    const { execution } = await test.start(only);
    await test.target.admin`update public.sync_chains set page_size = 1 where execution_id = ${execution}`;
    await test.drain();
    for (let tries = 0; tries < 3; tries++) {
      await tick(test.context);
      await test.drain();
    }
    expect([(await rowOf(test, 3))?.brand, (await rowOf(test, 6))?.brand]).toEqual(["brand 6", "brand 3"]);
    expect(await test.live("operations")).toEqual([]);
    await test.source.admin`update public.dispatch_operation set card_brand = 'brand 5' where id = 4`;
    await test.sync(only);
    const [clash] = await test.target.admin`
      select source_record_id::integer as id, conflict_type, rule, remedy, conflict_data #> '{clashes_with,legacy_id}' as other, retry_class, next_attempt_at > now() as again
        from public.sync_conflicts where state = 'open'`;
    expect(clash).toMatchObject({
      id: 4,
      conflict_type: "business_rule_violation",
      rule: "one_brand",
      other: 5,
      retry_class: "clash",
      again: true,
    });
    expect(clash?.["remedy"]).toContain("Record 5 holds");
  });
});

import { describe, expect, it } from "vitest";
import type { Entity } from "../shared/entity/define-entity.ts";
import { createBuilders } from "../shared/entity/fields.ts";
import { definitionHash } from "../shared/entity/validate-registry.ts";
import { tick } from "../shared/tick/tick.ts";
import type { Pipeline } from "./support/pipeline.ts";
import { createStranger, createStrangers, ENTITY, entityOf } from "./support/stranger.ts";

const TABLES = { source: "old", target: "fresh", columns: { name: { type: "text" }, note: { type: "text" } } } as const;
const SECRET = "secret-of-this-test";

/** From here on the deployed functions have the entity like this; undefined: not at all. */
function deploy(test: Pipeline, name: string, changed: Entity | undefined): void {
  const { entities, hashes } = test.context as unknown as { entities: Map<string, Entity>; hashes: Map<string, string> };
  if (changed === undefined) {
    entities.delete(name);
    hashes.delete(name);
    return;
  }
  entities.set(name, changed);
  hashes.set(name, definitionHash(changed));
}

function entityNamed(test: Pipeline, name: string): Entity {
  const entity = test.context.entities.get(name);
  if (!entity) throw new Error(`no entity ${name}`);
  return entity;
}

describe("a field that becomes sensitive", () => {
  const hide = (test: Pipeline, field: string) => {
    const entity = entityNamed(test, ENTITY);
    const hidden = Object.fromEntries(
      Object.entries(entity.fields).map(([name, of]) => [name, name === field ? { ...of, sensitive: true } : of]),
    );
    deploy(test, ENTITY, { ...entity, fields: hidden });
  };
  const shown = async (test: Pipeline) =>
    test.target.admin<{ id: number; state: string; by: string | null; text: string }[]>`
      select source_record_id::integer as id, state, resolution_strategy::text as by, concat(differences, resolution_data) as text
        from public.sync_conflicts order by 1, first_seen_at, state`;

  it("is masked wherever the queue shows it: open, superseded and decided; the values can still be decided on", async () => {
    await using test = await createStranger(TABLES, { conflicts: { strategy: "manual_review" } });
    await test.source.admin`insert into public.old select i, 'name', 'note' from generate_series(1, 4) i`;
    await test.sync();
    await test.target.admin`update public.fresh set name = ${`${SECRET} t`}, note = 'plain t'`;
    await test.source.admin`update public.old set name = ${`${SECRET} s`}, note = 'plain s'`;
    await test.sync();
    // One is superseded by a newer development, one decided, one merged.
    await test.source.admin`update public.old set name = ${`${SECRET} s2`} where id = 2`;
    await test.sync();
    const decide = (id: number, strategy: string, data: object | null = null) =>
      test.target.admin`update public.sync_conflicts set resolution_strategy = ${strategy}::public.conflict_resolution_strategy,
        resolution_data = ${data === null ? null : JSON.stringify(data)}::text::jsonb where state = 'open' and source_record_id = ${id}`;
    await decide(3, "source_wins");
    await decide(4, "merge", { name: `${SECRET} m`, note: "plain m" });
    const before = await shown(test);
    expect(before.map(({ id, state }) => [id, state])).toEqual([[1, "open"], [2, "open"], [2, "superseded"], [3, "resolved"], [4, "resolved"]]); // prettier-ignore
    expect(before.every(({ text }) => text.includes(SECRET))).toBe(true);

    hide(test, "name");
    await test.sync();
    const after = await shown(test);
    expect(after.length).toBeGreaterThanOrEqual(before.length);
    expect(after.filter(({ text }) => text.includes(SECRET))).toEqual([]);
    expect(after.every(({ text }) => text.includes("plain") && text.includes("•••"))).toBe(true);
    // Nothing of the values is lost.
    await decide(1, "source_wins");
    await test.target
      .admin`update public.sync_conflicts set resolution_strategy = null where source_record_id = 3 and state = 'resolved'`;
    const rows = await test.target.admin<{ id: number; name: string }[]>`
      select legacy_id::integer as id, name from public.fresh where legacy_id in (1, 3) order by 1`;
    expect(rows.map(({ name }) => name)).toEqual([`${SECRET} s`, `${SECRET} t`]);
    expect((await shown(test)).filter(({ text }) => text.includes(SECRET))).toEqual([]);
  });

  it.each(["[1]", "7", "null", "{}"])("is masked where a decision carries %s, which is no object of fields", async (data) => {
    await using test = await createStranger(TABLES, { conflicts: { strategy: "manual_review" } });
    await test.source.admin`insert into public.old values (1, 'name', 'note')`;
    await test.sync();
    await test.target.admin`update public.fresh set name = ${`${SECRET} t`}`;
    await test.source.admin`update public.old set name = ${`${SECRET} s`}`;
    await test.sync();
    await test.target.admin`
      update public.sync_conflicts set resolution_strategy = 'source_wins', resolution_data = ${data}::text::jsonb where state = 'open'`;
    hide(test, "name");
    await test.sync();
    const [row] = await test.target.admin<{ data: string; differences: string }[]>`
      select resolution_data::text as data, differences::text from public.sync_conflicts`;
    expect(row?.data).toBe(data);
    expect(row?.differences).toContain("•••");
    expect(row?.differences).not.toContain(SECRET);
  });

  it("is masked in the evidence of rules, whatever column this was taken from", async () => {
    const f = createBuilders(ENTITY);
    const says = (evidence: Record<string, string | null>) => ({
      problem: { rule: "things.note.odd@1", remedy: "Mend it.", evidence },
    });
    await using test = await createStranger(TABLES, {
      fields: {
        ...entityOf(TABLES).fields,
        // Reads its own column alone, and tells of another one.
        note: f.decide(["c1"], ({ c0 = null, c1 = null }) =>
          c1 === "by name" ? says({ c0, c1 }) : c1 === "raw" ? says({ column: "c0", raw: c0 }) : { value: c1 },
        ),
      },
    });
    await test.source.admin`insert into public.old values (1, ${SECRET}, 'by name'), (2, ${SECRET}, 'raw'), (3, 'x', 'fine')`;
    await test.sync();
    const told = async () =>
      (
        await test.target.admin<
          { data: object }[]
        >`select conflict_data as data from public.sync_conflicts order by source_record_id`
      ).map(({ data }) => data);
    expect(await told()).toEqual([
      { c0: SECRET, c1: "by name" },
      { column: "c0", raw: SECRET },
    ]);
    await test.target.admin`update public.sync_conflicts set state = 'resolved', resolved_at = now(), resolved_by = 'test'`;
    hide(test, "name");
    // The records themselves are gone from the source: nothing is told of them anew.
    await test.source.admin`delete from public.old where id < 3`;
    await test.sync();
    expect(await told()).toEqual([
      { c0: "•••", c1: "by name" },
      { column: "c0", raw: "•••" },
    ]);
  });

  it("is masked a part at a time in a long queue, by the start and then by every tick", async () => {
    await using test = await createStranger(TABLES, { conflicts: { strategy: "manual_review" } });
    await test.source.admin`insert into public.old values (1, 'name', 'note')`;
    await test.sync();
    await test.target.admin`
      insert into public.sync_conflicts (state, entity_id, entity_type, source_record_id, conflict_type, rule, remedy, source_table, target_table, differences)
      select 'superseded', e.id, e.entity_type, i, 'concurrent_modification', 'both_changed', '', '', '',
             jsonb_build_object('name', jsonb_build_object('source', ${SECRET}::text))
        from public.sync_entities e, generate_series(9223372036854775807 - 24999, 9223372036854775807) i where e.entity_type = ${ENTITY}`;
    hide(test, "name");
    const clear = async () =>
      (await test.target.admin`select from public.sync_conflicts where differences::text like ${`%${SECRET}%`}`).length;
    const left: number[] = [];
    await test.sync();
    left.push(await clear());
    for (let ticks = 0; ticks < 3; ticks++) {
      await tick(test.context);
      left.push(await clear());
    }
    expect(left).toEqual([15_000, 5_000, 0, 0]);
    expect((await test.target.admin`select from public.sync_entities where mask_from is not null`).length).toBe(0);
  });
});

describe("an entity that no file has any more", () => {
  it("leaves nothing open after a day, tells those that wait for its records, and is read anew when it comes back", async () => {
    await using test = await createStrangers([TABLES, { ...TABLES, name: "others", source: "old2", target: "fresh2" }]);
    await test.target.admin`alter table public.fresh add check (name <> 'refused')`;
    await test.source.admin`insert into public.old values (1, 'refused', ''), (2, 'fine', '')`;
    await test.source.admin`insert into public.old2 values (1, 'fine', '')`;
    await test.sync();
    expect(await test.live(ENTITY)).toMatchObject([{ id: 1, state: "open" }]);
    await test.target.admin.unsafe(`
      insert into public.sync_pending_keys (entity_id, legacy_id, reason) select id, 2, 'requested' from public.sync_entities where entity_type = '${ENTITY}';
      insert into public.sync_conflicts (state, entity_id, entity_type, source_record_id, conflict_type, rule, remedy, source_table, target_table, parent_entity_id, parent_legacy_id)
      select 'waiting', o.id, o.entity_type, 7, 'foreign_key_violation', 'parent_missing@1', 'Waits.', '', '', e.id, 1
        from public.sync_entities e, public.sync_entities o where e.entity_type = '${ENTITY}' and o.entity_type = 'others'`);
    const entity = entityNamed(test, ENTITY);
    const pending = async () => (await test.target.admin`select from public.sync_pending_keys`).length;
    const removed = async () =>
      (
        await test.target.admin<
          { entity: string }[]
        >`select entity_type as entity from public.sync_entities where removed_at is not null`
      ).map((row) => row.entity);

    deploy(test, ENTITY, undefined);
    await test.sync();
    expect(await removed()).toEqual([ENTITY]);
    await tick(test.context);
    await test.drain();
    // Perhaps only some functions are of the new version yet.
    expect([(await test.live(ENTITY)).length, await pending()]).toEqual([1, 1]);
    expect((await test.live("others"))[0]?.remedy).toMatch(/no entity file has things any more/);
    await test.target
      .admin`update public.sync_entities set removed_at = now() - interval '25 hours' where removed_at is not null`;
    await tick(test.context);
    expect([(await test.live(ENTITY)).length, await pending()]).toEqual([0, 0]);
    const [closed] = await test.target.admin`select state, resolved_by from public.sync_conflicts where rule like 'fresh%'`;
    expect(closed).toEqual({ state: "resolved", resolved_by: "sync: the entity is no longer synced" });

    deploy(test, ENTITY, entity);
    await test.sync();
    expect(await removed()).toEqual([]);
    expect(await test.live(ENTITY)).toMatchObject([{ id: 1, state: "open" }]);
  });
});

describe("a record whose row is there, but of which the sync's memory was removed", () => {
  it("is told so, and what to do keeps the row", async () => {
    await using test = await createStranger(TABLES);
    await test.source.admin`insert into public.old values (1, 'name', 'note'), (2, 'name', 'note')`;
    await test.sync();
    await test.target.admin`delete from public.uuid_mappings_enhanced where legacy_id = 1`;
    await test.target.admin`delete from public.sync_row_states where legacy_id = 1`;
    await test.source.admin`update public.old set name = 'changed'`;
    await test.sync();
    const [told] = await test.live(ENTITY);
    expect(told).toMatchObject({ id: 1, rule: "target_unmapped" });
    expect(told?.remedy).toMatch(/Do not remove the row; take it over: npm run sync -- adopt things/);
  });
});

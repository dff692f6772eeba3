import { describe, expect, it } from "vitest";
import { createStranger, ENTITY, type Stranger } from "./support/stranger.ts";
import { createPipeline, type Pipeline } from "./support/pipeline.ts";

const TABLES: Stranger = {
  source: "old",
  target: "new",
  columns: { name: { type: "text" }, note: { type: "text" } },
};
const MANUAL = { conflicts: { strategy: "manual_review", deleted: "manual_review" }, onDelete: "hard" } as const;

/** Ten records; 9 and 10 have been deleted in the source since, and their rows with them. 8 is asked about: both sides have changed its name. */
async function made(): Promise<Pipeline> {
  const test = await createStranger(TABLES, MANUAL);
  await test.source.admin`insert into public.old select id, 'name ' || id, 'note' from generate_series(1, 10) id`;
  await test.sync();
  await test.target.admin`create table public.copy as table public.new`;
  await test.source.admin`delete from public.old where id in (9, 10)`;
  await test.sync({ capture: "digest" });
  await test.target.admin`update public.new set name = 'edited' where legacy_id = 8`;
  await test.source.admin`update public.old set name = 'changed' where id = 8`;
  await test.sync();
  expect(await test.live(ENTITY)).toMatchObject([{ id: 8, rule: "both_changed" }]);
  await behindTheHorizon(test);
  return test;
}

/** Changes that no transaction id tells of: as if the horizon had moved past them. */
async function behindTheHorizon(test: Pipeline): Promise<void> {
  const [now] = await test.source.admin<{ at: string }[]>`select pg_snapshot_xmin(pg_current_snapshot())::text as at`;
  await test.target.admin`update public.sync_checkpoints set horizon = ${now?.at ?? "0"}::xid8`;
}

/** What is not as it has to be, by SQL of its own: each record of the source has one row, one mapping onto it, and one row state. */
async function problems(test: Pipeline, but: readonly number[] = []): Promise<string[]> {
  const source = await test.source.admin<{ id: number; name: string }[]>`select id::integer, name from public.old order by id`;
  const rows = await test.target.admin<{ id: number; name: string; mapped: number | null; known: boolean }[]>`
    select t.legacy_id::integer as id, t.name, m.legacy_id::integer as mapped, s.legacy_id is not null as known
      from public.new t
      left join public.uuid_mappings_enhanced m on m.entity_uuid = t.id and m.sync_status = 'active'
      left join public.sync_row_states s on s.legacy_id = m.legacy_id order by 1`;
  const stray = await test.target.admin<{ what: string }[]>`
    select 'mapping ' || legacy_id as what from public.uuid_mappings_enhanced m
     where sync_status = 'active' and not exists (select from public.new t where t.id = m.entity_uuid)
    union select 'state ' || legacy_id from public.sync_row_states s
     where not exists (select from public.uuid_mappings_enhanced m where m.legacy_id = s.legacy_id and m.sync_status = 'active') order by 1`;
  return [
    ...source
      .filter(({ id }) => !but.includes(id) && rows.filter((row) => row.id === id).length !== 1)
      .map(({ id }) => `row ${id}`),
    ...source
      .filter(({ id, name }) => !but.includes(id) && id !== 8 && rows.some((row) => row.id === id && row.name !== name))
      .map(({ id }) => `value ${id}`),
    ...rows.filter(({ id }) => !but.includes(id) && !source.some((one) => one.id === id)).map(({ id }) => `surplus ${id}`),
    ...rows.filter(({ id, mapped }) => !but.includes(id) && mapped !== id).map(({ id }) => `unmapped ${id}`),
    ...rows.filter(({ id, known }) => !but.includes(id) && !known).map(({ id }) => `unknown ${id}`),
    ...stray.map(({ what }) => what).filter((what) => !but.some((id) => what.endsWith(` ${id}`))),
  ];
}

const uuidOf = async (test: Pipeline, id: number) =>
  (await test.target.admin<{ id: string }[]>`select id from public.copy where legacy_id = ${id}`)[0]?.id ?? "";

/** What a capture has to make of it. `healed`: nothing is left. Otherwise what the queue has, or which alert is open, or that it is not found. */
type Outcome =
  | "healed"
  | "later" // Nothing of it is written or read again by this capture: the digest finds it.
  | { readonly queue: string }
  | { readonly alert: string };

interface Case {
  readonly side: string;
  readonly what: "lost" | "put back" | "changed";
  readonly title: string;
  readonly damage: (test: Pipeline) => Promise<unknown>;
  /** The record. */
  readonly id: number;
  /** Of the report, where the digest finds it. */
  readonly finding?: string;
  readonly digest: Outcome;
  readonly full: Outcome;
}

const target = (statement: string) => (test: Pipeline) => test.target.admin.unsafe(statement);
const source = (statement: string) => (test: Pipeline) => test.source.admin.unsafe(statement);
const both =
  (...parts: readonly ((test: Pipeline) => Promise<unknown>)[]) =>
  async (test: Pipeline) => {
    for (const part of parts) await part(test);
    await behindTheHorizon(test);
  };
const back = (id: number) => `insert into public.new select * from public.copy where legacy_id = ${id};`;
const unmap = (id: number) => `delete from public.uuid_mappings_enhanced where legacy_id = ${id};`;
const forget = (id: number) => `delete from public.sync_row_states where legacy_id = ${id};`;
/** Around what refuses people. */
const forced = (statement: string) => (test: Pipeline) =>
  test.target.admin.begin(async (tx) => {
    await tx.unsafe("set local session_replication_role = replica");
    await tx.unsafe(statement);
  });
const dropUnique = async (test: Pipeline) => {
  const constraints = await test.target.admin<{ name: string }[]>`
    select quote_ident(conname) as name from pg_constraint where conrelid = 'public.new'::regclass and contype = 'u'`;
  for (const { name } of constraints) await test.target.admin.unsafe(`alter table public.new drop constraint ${name}`);
};
const gone = (id: number) => source(`delete from public.old where id = ${id}`);

const CASES: readonly Case[] = [
  {
    side: "source",
    what: "lost",
    title: "a row is deleted",
    damage: both(gone(3)),
    id: 3,
    finding: "surplus",
    digest: "healed",
    full: "healed",
  },
  {
    side: "source",
    what: "put back",
    title: "a deleted row is back",
    damage: both(source("insert into public.old values (9, 'name 9', 'note')")),
    id: 9,
    finding: "missing",
    digest: "healed",
    full: "healed",
  },
  {
    side: "source",
    what: "changed",
    title: "a row is changed",
    damage: both(source("update public.old set name = 'other' where id = 3")),
    id: 3,
    finding: "changed",
    digest: "healed",
    full: "healed",
  },
  {
    side: "row",
    what: "lost",
    title: "a row is deleted",
    damage: target("delete from public.new where legacy_id = 3"),
    id: 3,
    finding: "target_deleted",
    digest: { queue: "target_deleted" },
    full: { queue: "target_deleted" },
  },
  {
    side: "row",
    what: "put back",
    title: "the row of a deleted record is back",
    damage: target(back(9)),
    id: 9,
    finding: "returned",
    digest: { queue: "deleted_in_source" },
    full: { queue: "deleted_in_source" },
  },
  {
    side: "row",
    what: "put back",
    title: "a row with a legacy id that no record has is there",
    damage: target("insert into public.new values (gen_random_uuid(), 77, 'name', 'note')"),
    id: 77,
    finding: "unmapped",
    digest: { alert: "unmapped_rows" },
    full: "later",
  },
  {
    side: "row",
    what: "put back",
    title: "and the source has a new record of that id",
    damage: both(
      target("insert into public.new values (gen_random_uuid(), 77, 'name', 'note')"),
      source("insert into public.old values (77, 'name', 'note')"),
    ),
    id: 77,
    finding: "unmapped",
    digest: { queue: "target_unmapped" },
    full: { queue: "target_unmapped" },
  },
  {
    side: "row",
    what: "changed",
    title: "changed key: the row has another legacy id",
    damage: target("update public.new set legacy_id = 30 where legacy_id = 3"),
    id: 3,
    finding: "edited",
    digest: "healed",
    full: "healed",
  },
  {
    side: "row",
    what: "changed",
    title: "changed key: the row has no legacy id",
    damage: target(
      "alter table public.new alter column legacy_id drop not null; update public.new set legacy_id = null where legacy_id = 3",
    ),
    id: 3,
    finding: "edited",
    digest: "healed",
    full: "healed",
  },
  {
    side: "row",
    what: "changed",
    title: "changed key: the row has another record's, beside its row",
    damage: async (test) => {
      await dropUnique(test);
      await test.target.admin`update public.new set legacy_id = 4 where legacy_id = 3`;
    },
    id: 3,
    finding: "edited",
    digest: "healed",
    full: "healed",
  },
  {
    side: "row",
    what: "changed",
    title: "changed key: two rows have exchanged theirs",
    damage: target(
      "update public.new set legacy_id = 30 where legacy_id = 3; update public.new set legacy_id = 3 where legacy_id = 4; update public.new set legacy_id = 4 where legacy_id = 30",
    ),
    id: 3,
    finding: "edited",
    digest: "healed",
    full: "healed",
  },
  {
    side: "mapping",
    what: "lost",
    title: "a mapping is deleted",
    damage: target(unmap(3)),
    id: 3,
    finding: "mapped_again",
    digest: "healed",
    full: "healed",
  },
  {
    side: "mapping",
    what: "lost",
    title: "a mapping is deleted, and then the source's record",
    damage: both(target(unmap(3)), gone(3)),
    id: 3,
    finding: "mapped_again",
    digest: "healed",
    full: "healed",
  },
  {
    side: "mapping",
    what: "lost",
    title: "a mapping is deleted, and then the target row",
    damage: target(unmap(3) + "delete from public.new where legacy_id = 3"),
    id: 3,
    finding: "mapping_lost",
    digest: { queue: "target_deleted" },
    full: { queue: "target_deleted" },
  },
  {
    side: "mapping",
    what: "changed",
    title: "a mapping is called deleted",
    damage: target("update public.uuid_mappings_enhanced set sync_status = 'deleted' where legacy_id = 3"),
    id: 3,
    finding: "mapping_lost",
    digest: "healed",
    full: "healed",
  },
  {
    side: "mapping",
    what: "changed",
    title: "a mapping is called deleted, and the source's record is",
    damage: both(target("update public.uuid_mappings_enhanced set sync_status = 'deleted' where legacy_id = 3"), gone(3)),
    id: 3,
    finding: "mapping_lost",
    digest: "healed",
    full: "healed",
  },
  {
    side: "mapping",
    what: "changed",
    title: "a mapping is replaced by one onto another id",
    damage: async (test) => {
      await test.target.admin.unsafe(unmap(3));
      await test.target
        .admin`insert into public.uuid_mappings_enhanced (source_id, entity_type, legacy_id, entity_uuid, source_table, target_table)
        select source_id, entity_type, 3, gen_random_uuid(), source_table, target_table from public.uuid_mappings_enhanced where legacy_id = 2`;
    },
    id: 3,
    finding: "unmapped",
    digest: { alert: "unmapped_rows" },
    full: { queue: "target_deleted" },
  },
  {
    side: "tombstone",
    what: "lost",
    title: "a deleted record's mapping is removed, and its row is back",
    damage: target(unmap(9) + back(9)),
    id: 9,
    finding: "mapped_again",
    digest: { queue: "deleted_in_source" },
    full: "later",
  },
  {
    side: "tombstone",
    what: "put back",
    title: "a deleted record is called active, with its row",
    damage: target("update public.uuid_mappings_enhanced set sync_status = 'active' where legacy_id = 9;" + back(9)),
    id: 9,
    finding: "state_lost",
    digest: { queue: "deleted_in_source" },
    full: { queue: "deleted_in_source" },
  },
  {
    side: "tombstone",
    what: "changed",
    title: "a deleted record is called active, without its row",
    damage: target("update public.uuid_mappings_enhanced set sync_status = 'active' where legacy_id = 9"),
    id: 9,
    finding: "state_lost",
    digest: "healed",
    full: "healed",
  },
  {
    side: "state",
    what: "lost",
    title: "a row state is deleted",
    damage: target(forget(3)),
    id: 3,
    finding: "state_lost",
    digest: "healed",
    full: "healed",
  },
  {
    side: "state",
    what: "lost",
    title: "a row state is deleted, and then the source's record",
    damage: both(target(forget(3)), gone(3)),
    id: 3,
    finding: "state_lost",
    digest: { queue: "deleted_in_source" },
    full: { queue: "deleted_in_source" },
  },
  {
    side: "state",
    what: "lost",
    title: "a row state and its mapping are deleted",
    damage: target(forget(3) + unmap(3)),
    id: 3,
    finding: "mapped_again",
    digest: "healed",
    full: { queue: "target_unmapped" },
  },
  {
    side: "state",
    what: "lost",
    title: "a row state and its mapping are deleted, and then the source's record",
    damage: both(target(forget(3) + unmap(3)), gone(3)),
    id: 3,
    finding: "mapped_again",
    digest: { queue: "deleted_in_source" },
    full: "later",
  },
  {
    side: "state",
    what: "put back",
    title: "a deleted record's row state is back",
    damage: forced(
      `insert into public.sync_row_states (entity_id, legacy_id, seen, "left", source_digest) select entity_id, 9, seen, "left", source_digest from public.sync_row_states where legacy_id = 2`,
    ),
    id: 9,
    finding: "mapping_lost",
    digest: "healed",
    full: "healed",
  },
  {
    side: "state",
    what: "changed",
    title: "the source's hash is another one",
    damage: forced("update public.sync_row_states set source_digest = 1 where legacy_id = 3"),
    id: 3,
    finding: "changed",
    digest: "healed",
    full: "healed",
  },
  {
    side: "state",
    what: "changed",
    title: "it is called gone",
    damage: forced("update public.sync_row_states set gone_at = now() where legacy_id = 3"),
    id: 3,
    finding: "missing",
    digest: "healed",
    full: "healed",
  },
  {
    side: "queue",
    what: "lost",
    title: "a question is deleted",
    damage: target("delete from public.sync_conflicts where source_record_id = 8 and state = 'open'"),
    id: 8,
    finding: "changed",
    digest: { queue: "both_changed" },
    full: { queue: "both_changed" },
  },
  {
    side: "queue",
    what: "changed",
    title: "a question is called resolved",
    damage: target(
      "update public.sync_conflicts set state = 'resolved', resolved_at = now() where source_record_id = 8 and state = 'open'",
    ),
    id: 8,
    finding: "changed",
    digest: { queue: "both_changed" },
    full: { queue: "both_changed" },
  },
  {
    side: "queue",
    what: "lost",
    title: "what stops a record that never landed is deleted",
    damage: async (test) => {
      await test.target.admin`alter table public.new add constraint fine check (name <> 'refused')`;
      await test.source.admin`insert into public.old values (11, 'refused', 'note')`;
      await test.sync();
      expect(await test.live(ENTITY)).toMatchObject([{ id: 8 }, { id: 11, state: "open", rule: "fine" }]);
      await both(target("delete from public.sync_conflicts where source_record_id = 11"))(test);
    },
    id: 11,
    finding: "missing",
    digest: { queue: "fine" },
    full: { queue: "fine" },
  },
  {
    side: "queue",
    what: "lost",
    title: "a decision that stands is deleted",
    damage: async (test) => {
      await test.target.admin`delete from public.new where legacy_id = 3`;
      await test.sync({ capture: "digest" });
      await test.target
        .admin`update public.sync_conflicts set resolution_strategy = 'target_wins' where source_record_id = 3 and state = 'open'`;
      for (const capture of ["digest", "full"] as const) {
        await test.sync({ capture });
        expect(await test.live(ENTITY)).toMatchObject([{ id: 8 }]);
      }
      const lost = await test.target.admin`delete from public.sync_conflicts where source_record_id = 3 and standing`;
      expect(lost.count).toBe(1);
      await behindTheHorizon(test);
    },
    id: 3,
    finding: "target_deleted",
    digest: { queue: "target_deleted" },
    full: { queue: "target_deleted" },
  },
];

async function reported(test: Pipeline, execution: string, finding: string): Promise<number[]> {
  const [row] = await test.target.admin<{ ids: string[] }[]>`
    select body -> ${finding}::text -> 'legacy_ids' as ids from public.sync_reports where execution_id = ${execution} and kind = ${`digest:${ENTITY}`}`;
  return (row?.ids ?? []).map(Number);
}

async function expectOutcome(test: Pipeline, { id }: Case, outcome: Outcome): Promise<void> {
  const queue = (await test.live(ENTITY)).filter((one) => one.id === id);
  const alerts = await test.target.admin<{ kind: string; message: string }[]>`
    select kind, message from public.sync_alerts where closed_at is null and kind in ('unmapped_rows', 'edited_widely')`;
  if (outcome === "later") return;
  if (outcome === "healed") {
    expect(queue).toEqual([]);
    expect(await problems(test)).toEqual([]);
    return;
  }
  if ("queue" in outcome) expect(queue).toMatchObject([{ state: "open", rule: outcome.queue }]);
  if ("alert" in outcome) {
    expect(alerts).toMatchObject([{ kind: outcome.alert }]);
    expect(alerts[0]?.message).toContain(`npm run sync -- adopt ${ENTITY}`);
  }
  // Nothing else has come of it.
  expect(await problems(test, [id])).toEqual([]);
}

/** What the pages of an execution count together. */
async function sums(test: Pipeline, execution: string) {
  const [row] = await test.target.admin`
    select sum(read)::integer as read, sum(inserted)::integer as inserted, sum(updated)::integer as updated, sum(unchanged)::integer as unchanged,
           sum(deleted)::integer as deleted, sum(waiting)::integer as waiting, sum(in_conflict)::integer as "inConflict", sum(waived)::integer as waived,
           sum(absent)::integer as absent, sum(surplus)::integer as surplus
      from public.sync_page_log where execution_id = ${execution}`;
  return { ...row };
}

/** A run, of which a plan has foretold what it counts. */
async function foretold(test: Pipeline, request: Parameters<Pipeline["sync"]>[0] = {}): Promise<string> {
  const plan = await test.sync({ ...request, dryRun: true });
  const { execution } = await test.sync(request);
  expect(await sums(test, plan.execution), "the plan, and what the run counted").toEqual(await sums(test, execution));
  return execution;
}

describe.each(CASES)("$side, $what: $title", (one) => {
  it("a digest", async () => {
    await using test = await made();
    await one.damage(test);
    const execution = await foretold(test, { capture: "digest" });
    if (one.finding !== undefined) expect(await reported(test, execution, one.finding)).toContain(one.id);
    await expectOutcome(test, one, one.digest);
    // And it stays so.
    await test.sync({ capture: "digest" });
    await expectOutcome(test, one, one.digest);
    const ids = await test.target.admin<{ id: string; row: string }[]>`
      select m.entity_uuid as id, c.id as row from public.uuid_mappings_enhanced m join public.copy c using (legacy_id) where m.legacy_id <> ${one.id} or ${one.title !== "a mapping is replaced by one onto another id"}`;
    for (const { id, row } of ids) expect(id).toBe(row);
  });

  it("a full pass", async () => {
    await using test = await made();
    await one.damage(test);
    await foretold(test, { capture: "full" });
    await expectOutcome(test, one, one.full);
  });

  it("an incremental run, and the next digest", async () => {
    await using test = await made();
    await one.damage(test);
    await foretold(test);
    await foretold(test, { capture: "digest" });
    await expectOutcome(test, one, one.digest);
  });
});

describe("a plan whose digest comes behind what was written since", () => {
  it("counts each record as often as the run does", async () => {
    await using test = await made();
    await test.source.admin.unsafe(`
      update public.old set name = 'changed' where id in (1, 2, 8);
      update public.old set note = null where id = 3;
      update public.old set name = 'name 4' where id = 4;
      update public.old set name = 'as edited' where id = 7;
      delete from public.old where id = 5;
      insert into public.old select id, 'new', 'note' from generate_series(20, 25) id`);
    await test.target.admin.unsafe(`
      update public.new set note = 'edited' where legacy_id in (2, 6);
      update public.new set name = 'as edited' where legacy_id = 7;
      delete from public.new where legacy_id = 4`);
    await foretold(test, { capture: "digest" });
    await foretold(test, { capture: "digest" });
  });
});

describe("what a person then does", () => {
  it("takes an unmapped row over, and the alert closes", async () => {
    await using test = await made();
    await test.target.admin`insert into public.new values (gen_random_uuid(), 77, 'theirs', 'note')`;
    await test.source.admin`insert into public.old values (77, 'name', 'note')`;
    await test.sync({ capture: "digest" });
    expect(await test.live(ENTITY)).toMatchObject([{ id: 8 }, { id: 77, rule: "target_unmapped" }]);
    await test.sync({ adopt: true, entities: [ENTITY] });
    await test.sync({ capture: "digest" });
    expect((await test.live(ENTITY)).map(({ id }) => id)).toEqual([8, 77]);
    await test.target
      .admin`update public.sync_conflicts set resolution_strategy = 'source_wins' where source_record_id = 77 and state = 'open'`;
    await test.sync({ capture: "digest" });
    expect(await problems(test)).toEqual([]);
    const [open] = await test.target
      .admin`select count(*)::integer as n from public.sync_alerts where kind = 'unmapped_rows' and closed_at is null`;
    expect(open).toEqual({ n: 0 });
  });

  it.each([
    ["source_wins", 0],
    ["target_wins", 1],
  ])("decides %s about a row that is back, and is not asked again", async (strategy, rows) => {
    await using test = await made();
    await test.target.admin.unsafe(back(9));
    await test.sync({ capture: "digest" });
    const decided = await test.target.admin.unsafe(
      `update public.sync_conflicts set resolution_strategy = '${strategy}' where source_record_id = 9 and state = 'open'`,
    );
    expect(decided.count).toBe(1);
    for (const capture of ["digest", "full", "digest"] as const) {
      await test.sync({ capture });
      expect((await test.live(ENTITY)).map(({ id }) => id)).toEqual([8]);
      expect(await test.target.admin`select from public.new where legacy_id = 9`).toHaveLength(rows);
    }
  });
});

const policyOf = async (test: Pipeline) => [
  ...(await test.target.admin`
    select source_record_id::integer as id, field, policy from public.sync_conflicts where resolved_by = 'policy' order by 1, 2`),
];

it("a changed key is told, and no decision changes it", async () => {
  await using test = await made();
  await test.target.admin`update public.new set legacy_id = 30, note = 'theirs' where legacy_id = 3`;
  await test.sync({ capture: "digest" });
  expect(await policyOf(test)).toEqual([{ id: 3, field: "legacy_id", policy: "source_wins of the legacy key" }]);
  // Only the key belongs to the sync.
  expect([...(await test.target.admin`select note from public.new where legacy_id = 3`)]).toEqual([{ note: "theirs" }]);
  await expect(
    test.target.admin`update public.sync_conflicts set resolution_strategy = 'target_wins' where field = 'legacy_id'`,
  ).rejects.toMatchObject({
    code: "IS022",
    message: expect.stringContaining("legacy_id says which record the row is") as string,
  });
  expect(await test.target.admin`select from public.new where legacy_id = 3`).toHaveLength(1);
});

it.each(["hashes", "values"] as const)("a changed key leaves no edit behind where a row state keeps %s", async (history) => {
  await using test = await createStranger(TABLES, { ...MANUAL, history });
  await test.source.admin`insert into public.old select id, 'name ' || id, 'note' from generate_series(1, 5) id`;
  await test.sync();
  await test.target.admin`update public.new set legacy_id = 30 where legacy_id = 3`;
  await foretold(test, { capture: "digest" });
  expect(await problems(test)).toEqual([]);
  const again = await foretold(test, { capture: "digest" });
  expect(await reported(test, again, "edited")).toEqual([]);
  // What the source changes then is no conflict.
  await test.source.admin`update public.old set name = 'changed' where id = 3`;
  await test.sync();
  expect(await test.live(ENTITY)).toEqual([]);
  expect(await problems(test)).toEqual([]);
});

it.each(["digest", "full"] as const)("a changed key that another row has taken is asked about by a %s", async (capture) => {
  await using test = await made();
  await test.target.admin.unsafe(`
    update public.new set legacy_id = 30 where legacy_id = 3;
    insert into public.new values (gen_random_uuid(), 3, 'theirs', 'note')`);
  await foretold(test, { capture });
  expect((await test.live(ENTITY)).filter(({ id }) => id === 3)).toMatchObject([{ state: "open", rule: "new_legacy_id_key" }]);
  await test.target.admin`delete from public.new where name = 'theirs'`;
  await test.sync({ capture: "digest" });
  expect((await test.live(ENTITY)).map(({ id }) => id)).toEqual([8]);
  expect(await problems(test)).toEqual([]);
});

it("a mapping that somebody has replaced is put right as the alert says", async () => {
  await using test = await made();
  await CASES.find(({ title }) => title === "a mapping is replaced by one onto another id")?.damage(test);
  await test.sync({ capture: "digest" });
  const [alert] = await test.target.admin<{ message: string }[]>`
    select message from public.sync_alerts where kind = 'unmapped_rows' and closed_at is null`;
  expect(alert?.message).toContain("delete that mapping from uuid_mappings_enhanced first");
  await test.target.admin.unsafe(unmap(3));
  await test.sync({ adopt: true, entities: [ENTITY] });
  await test.sync({ capture: "digest" });
  expect((await test.live(ENTITY)).map(({ id }) => id)).toEqual([8]);
  expect(await problems(test)).toEqual([]);
});

it("no decision writes a second row of a record whose mapping somebody has replaced", async () => {
  await using test = await made();
  const rows = async () => (await test.target.admin`select id from public.new where legacy_id = 3`).map(({ id }) => id as string);
  const before = await rows();
  await CASES.find(({ title }) => title === "a mapping is replaced by one onto another id")?.damage(test);
  await test.sync({ capture: "full" });
  expect(await test.live(ENTITY)).toContainEqual(expect.objectContaining({ id: 3, rule: "target_deleted" }));
  await expect(
    test.target
      .admin`update public.sync_conflicts set resolution_strategy = 'source_wins' where source_record_id = 3 and state = 'open'`,
  ).rejects.toMatchObject({
    code: "IS022",
    message: expect.stringContaining("another row of the target has its legacy id") as string,
  });
  expect(await rows()).toEqual(before);
});

it("a child whose parent's mapping is gone waits no longer than the execution", async () => {
  await using test = await createPipeline();
  await test.seed.doctor(10);
  await test.seed.office(1);
  await test.seed.patient(1, { userId: 20, doctorId: 10, officeId: 1 });
  await test.sync();
  const [before] = await test.target.admin`select id from public.offices`;
  await test.target.admin`delete from public.uuid_mappings_enhanced where entity_type = 'offices'`;
  await test.source.admin`update public.dispatch_patient set suffix = 'Jr' where id = 1`;
  await test.source.admin`update public.auth_user set first_name = 'changed' where id = 20`;
  await test.sync();
  expect(await test.live("patients")).toEqual([]);
  const [after] = await test.target.admin`
    select o.id from public.offices o join public.uuid_mappings_enhanced m on m.entity_uuid = o.id and m.sync_status = 'active'`;
  expect(after).toEqual(before);
});

it.each(["digest", "full"] as const)("a waiting record that somebody has called open waits again after a %s", async (capture) => {
  await using test = await createPipeline();
  await test.target.admin`alter table public.offices add constraint none check (false)`;
  await test.seed.doctor(10);
  await test.seed.office(1);
  await test.seed.patient(1, { userId: 20, doctorId: 10, officeId: 1 });
  await test.sync();
  const waits = [{ id: 1, state: "waiting", parent: "offices", parentId: 1 }];
  expect(await test.live("patients")).toMatchObject(waits);
  const called = await test.target
    .admin`update public.sync_conflicts set state = 'open' where state = 'waiting' and entity_type = 'patients'`;
  expect(called.count).toBe(1);
  await behindTheHorizon(test);
  await foretold(test, { capture });
  expect(await test.live("patients")).toMatchObject(waits);
  // The parent's commit releases it.
  await test.target.admin`alter table public.offices drop constraint none`;
  await test.source.admin`update public.dispatch_office set id = id`;
  await test.sync();
  expect(await test.live("patients")).toEqual([]);
  expect(await test.target.admin`select from public.patients`).toHaveLength(1);
});

it("nobody changes which id a record has", async () => {
  await using test = await made();
  await expect(
    test.target.admin`update public.uuid_mappings_enhanced set entity_uuid = gen_random_uuid() where legacy_id = 3`,
  ).rejects.toMatchObject({ code: "IS022", hint: expect.stringContaining("adopt things") as string });
  await expect(test.target.admin`update public.sync_sources set namespace = gen_random_uuid()`).rejects.toMatchObject({
    code: "IS022",
  });
  expect(await uuidOf(test, 3)).not.toBe("");
});

import { readFile } from "node:fs/promises";
import { describe, expect, it } from "vitest";
import { tick } from "../shared/tick/tick.ts";
import { createStranger, ENTITY, type Stranger } from "./support/stranger.ts";
import type { Pipeline } from "./support/pipeline.ts";

const TABLES: Stranger = { source: "old", target: "new", columns: { name: { type: "text" }, note: { type: "text" } } };

async function made(): Promise<Pipeline> {
  const test = await createStranger(TABLES, { onDelete: "hard" });
  await test.source.admin`insert into public.old select id, 'name ' || id, 'note' from generate_series(1, 5) id`;
  await test.sync();
  return test;
}
const names = async (test: Pipeline) =>
  (await test.target.admin<{ name: string }[]>`select name from public.new order by legacy_id`).map(({ name }) => name);
const one = [1, 2, 3, 4, 5].map((id) => `name ${id}`);
const renamed = ["name 1", "renamed", ...one.slice(2)];
const rename = (test: Pipeline) => test.source.admin`update public.old set name = 'renamed' where id = 2`;

/** What somebody does to a control row as the database's owner, and that the next run finds a change of the source all the same. */
const HARMLESS: readonly (readonly [string, string])[] = [
  ["checkpoints are deleted", "delete from public.sync_checkpoints"],
  ["a checkpoint is put back", "update public.sync_checkpoints set horizon = '3', snapshot_xmax = '3'"],
  [
    // By as much as other databases of the server use up while the test runs, and far more.
    "a checkpoint is moved beyond the source's present",
    "update public.sync_checkpoints set horizon = (horizon::text::bigint + 100000000)::text::xid8, snapshot_xmax = (horizon::text::bigint + 100000000)::text::xid8",
  ],
  ["a checkpoint is of another definition", "update public.sync_checkpoints set definition_hash = 'by hand'"],
  ["a checkpoint is of another server", "update public.sync_checkpoints set server_starts = '{}', timeline = 99"],
  ["slots of records are deleted", "delete from public.sync_record_slots"],
  ["a slot is counted otherwise", "update public.sync_record_slots set version = 0"],
  ["shapes are deleted", "delete from public.sync_entity_shapes"],
  ["identities are deleted", "delete from public.sync_identities"],
  ["the contract check is deleted", "delete from public.sync_contract_checks"],
  [
    "ended executions are deleted, with their chains, pages and reports",
    "delete from public.sync_executions where status <> 'running'",
  ],
  ["the pages of the past are deleted", "delete from public.sync_page_log"],
  ["chains of the past are deleted", "delete from public.sync_chains"],
  [
    "an entity is described otherwise",
    "update public.sync_entities set columns = '[]', source_table = 'x', target_table = 'x', legacy_key = 'x', conflicts = '{}', history = 'hashes', on_delete = '{}', definition_hash = 'x'",
  ],
  [
    "keys are asked for that no record has",
    "insert into public.sync_pending_keys (entity_id, legacy_id, reason) select id, 99, 'by hand' from public.sync_entities",
  ],
  [
    "a key that is there is called gone",
    "insert into public.sync_pending_keys (entity_id, legacy_id, reason, gone) select id, 1, 'gone', true from public.sync_entities",
  ],
  [
    "all that was noticed is deleted",
    "delete from public.sync_alerts; delete from public.sync_warnings; delete from public.sync_audit; delete from public.sync_queue_counts; delete from public.sync_queue_looks; delete from public.sync_changed_causes; delete from public.sync_ticks; delete from public.sync_totals",
  ],
  ["releases of tables are deleted", "delete from public.sync_released_entities"],
  [
    "plans are written by hand",
    "insert into public.sync_pending_keys (execution_id, entity_id, legacy_id, reason, gone) select x.id, e.id, 1, 'x', true from public.sync_executions x, public.sync_entities e",
  ],
];

describe.each(HARMLESS)("%s", (_, statement) => {
  it("and the next run finds what the source has changed, and loses nothing", async () => {
    await using test = await made();
    const ids = await test.target.admin`select legacy_id, entity_uuid from public.uuid_mappings_enhanced order by 1`;
    await test.target.admin.unsafe(statement);
    await rename(test);
    await test.sync();
    expect(await names(test)).toEqual(renamed);
    expect(await test.live(ENTITY)).toEqual([]);
    expect(await test.target.admin`select legacy_id, entity_uuid from public.uuid_mappings_enhanced order by 1`).toEqual(ids);
    await test.sync({ capture: "digest" });
    expect(await names(test)).toEqual(renamed);
  });
});

async function toThePresent(test: Pipeline): Promise<void> {
  const [now] = await test.source.admin<{ at: string }[]>`select pg_snapshot_xmin(pg_current_snapshot())::text as at`;
  await test.target.admin`update public.sync_checkpoints set horizon = ${now?.at ?? "0"}::xid8`;
}

describe("what an incremental run cannot know, the digest finds", () => {
  it.each<readonly [string, (test: Pipeline) => Promise<unknown>]>([
    ["a checkpoint is moved ahead, to the source's present", toThePresent],
    [
      "what was asked for is deleted, behind a checkpoint that has moved on",
      async (test) => {
        await toThePresent(test);
        await test.target
          .admin`insert into public.sync_pending_keys (entity_id, legacy_id, reason) select id, 2, 'requested' from public.sync_entities`;
        await test.target.admin`delete from public.sync_pending_keys`;
      },
    ],
  ])("%s", async (_, damage) => {
    await using test = await made();
    await rename(test);
    await damage(test);
    await test.sync();
    expect(await names(test)).toEqual(one);
    await test.sync({ capture: "digest" });
    expect(await names(test)).toEqual(renamed);
  });
});

describe("DDL whose shape somebody has forgotten", () => {
  it("is compared, what differs is named, and taken from the source where that is asked for", async () => {
    await using test = await made();
    await test.target.admin.unsafe(`
      alter table public.new drop column note; alter table public.new add column note text;
      grant select (note), insert (note), update (note) on public.new to isthmus_worker;
      delete from public.sync_entity_shapes`);
    const { execution } = await test.sync();
    const [report] = await test.target.admin`
      select body -> 'edited' -> 'legacy_ids' as edited from public.sync_reports where execution_id = ${execution} and kind = ${`digest:${ENTITY}`}`;
    expect(report).toEqual({ edited: ["1", "2", "3", "4", "5"] });
    await test.sync({ entities: [ENTITY], capture: "digest", overwriteEdits: true });
    expect(await emptied(test)).toBe(0);
  });
});
const emptied = async (test: Pipeline) => (await test.target.admin`select from public.new where note is null`).length;

describe("rows that nobody may change by hand", () => {
  it.each([
    ["delete from public.sync_sources", "23503"],
    ["delete from public.sync_entities", "23503"],
    ["update public.sync_sources set namespace = gen_random_uuid()", "IS022"],
    ["update public.uuid_mappings_enhanced set entity_uuid = gen_random_uuid()", "IS022"],
    ["update public.uuid_mappings_enhanced set legacy_id = legacy_id + 100", "IS022"],
    ["update public.sync_executions set status = 'failed'", "IS031"],
    [`update public.sync_row_states set seen = jsonb_set(seen, '{name}', '"renamed"') where legacy_id = 2`, "IS022"],
    ["update public.sync_row_states set source_digest = 1, written_by = '9'", "IS022"],
    [
      `with gone as (delete from public.sync_row_states where legacy_id = 2 returning *)
       insert into public.sync_row_states select * from gone`,
      "IS022",
    ],
    [
      `insert into public.sync_row_states select * from public.sync_row_states
       on conflict (entity_id, legacy_id) do update set seen = jsonb_set(excluded.seen, '{name}', '"renamed"')`,
      "IS022",
    ],
  ])("%s is refused", async (statement, code) => {
    await using test = await made();
    await expect(test.target.admin.unsafe(statement)).rejects.toMatchObject({ code });
  });

  it.each([
    "delete from public.sync_chains where state = 'open'",
    "update public.sync_chains set state = 'done', closed_at = now(), due_at = null where state = 'open'",
    `update public.sync_chains set "cursor" = 1000 where state = 'open'`,
    "update public.sync_chains set range_to = 1 where state = 'open'",
    "update public.sync_chains set seen_before = '9999999' where state = 'open'",
    "update public.sync_chains set capture = 'keys' where state = 'open'",
    "update public.sync_executions set status = 'succeeded' where status = 'running'",
  ])("while an execution runs: %s", async (statement) => {
    await using test = await made();
    await rename(test);
    const { execution } = await test.start({ capture: "full" });
    const answer = test.target.admin.unsafe(statement);
    await expect(answer).rejects.toMatchObject({ code: "IS031", hint: expect.stringContaining("cancelled") as string });
    await test.drain();
    expect(await test.status(execution)).toMatchObject({ status: "succeeded" });
    expect(await names(test)).toEqual(renamed);
  });

  it("what is remembered of a record may be deleted, and the next digest judges it by what both sides hold", async () => {
    await using test = await made();
    await rename(test);
    await test.target.admin`delete from public.sync_row_states where legacy_id = 2`;
    await test.sync({ capture: "digest" });
    expect(await names(test)).toEqual(renamed);
  });

  it("what is remembered of all records may be emptied, and put back from a backup", async () => {
    await using test = await made();
    const backup = "create table public.backup as table public.sync_row_states";
    await test.target.admin.begin(async (tx) => {
      await tx.unsafe("set local role postgres");
      await tx.unsafe(`${backup}; truncate public.sync_row_states`);
      await tx.unsafe("insert into public.sync_row_states select * from public.backup");
    });
    await rename(test);
    await test.sync();
    expect(await names(test)).toEqual(renamed);
  });

  it("an execution that is deleted while it runs leaves all to the next one", async () => {
    await using test = await made();
    await rename(test);
    await test.start();
    await test.target.admin`delete from public.sync_executions where status = 'running'`;
    await test.drain();
    await tick(test.context);
    await test.sync();
    expect(await names(test)).toEqual(renamed);
  });

  it("a person may have a chain fail, and the next run reads what it has not", async () => {
    await using test = await made();
    await rename(test);
    const { execution } = await test.start();
    await test.target
      .admin`update public.sync_chains set state = 'failed', closed_at = now(), due_at = null where state = 'open'`;
    await test.drain();
    await test.target
      .admin`update public.sync_executions set status = 'cancelled' where id = ${execution} and status = 'running'`;
    await test.sync();
    expect(await names(test)).toEqual(renamed);
  });
});

describe("the values behind a question", () => {
  it("that somebody has deleted refuse the decision instead of writing something else, and are read again", async () => {
    await using test = await made();
    await test.target.admin`update public.new set name = 'edited' where legacy_id = 2`;
    await rename(test);
    await test.sync({ conflictStrategy: "manual_review" });
    await test.target.admin`delete from public.sync_conflict_values`;
    await expect(
      test.target.admin`update public.sync_conflicts set resolution_strategy = 'source_wins' where state = 'open'`,
    ).rejects.toMatchObject({ code: "IS022" });
    await test.sync({ legacyIds: { [ENTITY]: ["2"] } });
    await test.target.admin`update public.sync_conflicts set resolution_strategy = 'source_wins' where state = 'open'`;
    expect(await names(test)).toEqual(renamed);
  });
});

it("docs/reference.md says of every control table what becomes of a change by hand", async () => {
  await using test = await made();
  const text = await readFile(new URL("../docs/reference.md", import.meta.url), "utf8");
  const section = text.slice(text.indexOf("## Control rows changed by hand"));
  const tables = await test.target.admin<{ name: string }[]>`
    select relname as name from pg_class where relnamespace = 'public'::regnamespace and relkind in ('r', 'p') and (relname like 'sync%' or relname like 'uuid%')`;
  expect(
    tables.map(({ name }) => name).filter((name) => !section.slice(0, section.indexOf("\n## ", 5)).includes(`\`${name}\``)),
  ).toEqual([]);
});

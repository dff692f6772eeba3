import { describe, expect, it } from "vitest";
import { defineEntity, type Entity } from "../shared/entity/define-entity.ts";
import { workerGrants } from "../shared/operate/grants.ts";
import { expectAgreement } from "./support/agreement.ts";
import { createPipeline, type Pipeline } from "./support/pipeline.ts";

// A plan and the run after it, of records whose parent does not land, or whose row is gone: for each fate of the
// parent, and for each place that it may have: the page of its child, an earlier page, a later page, and another
// entity of the same execution.

interface Builders {
  readonly copy: (column: string) => unknown;
  readonly lookup: (parent: string, column: string) => unknown;
}
const define = defineEntity as unknown as (spec: object) => Entity;

const tree = define({
  name: "nodes",
  target: { table: "nodes", legacyKey: "legacy_id" },
  source: { table: "node", key: "id", alias: "n", columns: { name: "n.name", parent: "n.parent_id" } },
  onDelete: "hard",
  conflicts: { deleted: "manual_review" },
  fields: ({ copy, lookup }: Builders) => ({ name: copy("name"), parent_id: lookup("nodes", "parent") }),
});

const leaves = define({
  name: "leaves",
  target: { table: "leaves", legacyKey: "legacy_id" },
  source: { table: "leaf", key: "id", alias: "l", columns: { name: "l.name", node: "l.node_id" } },
  fields: ({ copy, lookup }: Builders) => ({ name: copy("name"), node_id: lookup("nodes", "node") }),
});

const KEYS = {
  "a foreign key": "references public.nodes (id)",
  "no foreign key": "",
} as const;

async function grow(key: string): Promise<Pipeline> {
  const entities = [tree, leaves];
  // Pages of three: 1 to 3, 4 to 6, and 7.
  const test = await createPipeline({ entities, env: { ISTHMUS_PAGE_SIZE: "3", ISTHMUS_PAGE_SIZE_MAX: "3" } });
  await test.source.admin.unsafe(`
    create table public.node (id bigint primary key, name text, parent_id bigint);
    create table public.leaf (id bigint primary key, name text, node_id bigint);
    grant select on public.node, public.leaf to isthmus_reader`);
  await test.target.admin.unsafe(`
    create table public.nodes (id uuid primary key, legacy_id bigint not null unique, name text, parent_id uuid ${key},
      constraint no_bad_name check (name <> 'bad'));
    create table public.leaves (id uuid primary key, legacy_id bigint not null unique, name text, node_id uuid ${key});
    alter table public.nodes owner to postgres; alter table public.leaves owner to postgres`);
  await test.target.admin.unsafe(workerGrants(entities));
  for (const id of [1, 2, 4, 5, 7]) await test.source.admin`insert into public.node values (${id}, ${`node ${id}`}, null)`;
  await test.source.admin`insert into public.leaf values (1, 'leaf 1', null), (2, 'leaf 2', null)`;
  await test.sync();
  expect(await test.live("nodes")).toEqual([]);
  return test;
}

const decide = (test: Pipeline, id: number, strategy: string) => test.target.admin`
  update public.sync_conflicts set resolution_strategy = ${strategy}::public.conflict_resolution_strategy
   where entity_type = 'nodes' and source_record_id = ${id} and state = 'open'`;
const removeRow = async (test: Pipeline, id: number) => {
  await test.target.admin`
    update public.nodes set parent_id = null where parent_id = (select id from public.nodes where legacy_id = ${id})`;
  await test.target.admin`delete from public.nodes where legacy_id = ${id}`;
};

/** What becomes of node 4 before it gets its new children. */
const FATES: Readonly<Record<string, (test: Pipeline) => Promise<unknown>>> = {
  "is there": () => Promise.resolve(),
  "changes too": (test) => test.source.admin`update public.node set name = 'other' where id = 4`,
  "is refused from now on": (test) => test.source.admin`update public.node set name = 'bad' where id = 4`,
  "has a row that somebody deleted": (test) => removeRow(test, 4),
  "has a row that somebody deleted, and changes": async (test) => {
    await removeRow(test, 4);
    await test.source.admin`update public.node set name = 'other' where id = 4`;
  },
  "has a row that somebody deleted, which is asked": async (test) => {
    await removeRow(test, 4);
    await test.sync({ capture: "full" });
    expect(await test.live("nodes")).toMatchObject([{ id: 4, rule: "target_deleted" }]);
  },
  "has a row that somebody deleted, which is decided": async (test) => {
    await removeRow(test, 4);
    await test.sync({ capture: "full" });
    await decide(test, 4, "target_wins");
  },
  "is new": async (test) => {
    await test.source.admin`delete from public.node where id = 4`;
    await test.sync({ capture: "full" });
    await test.source.admin`insert into public.node values (4, 'again', null)`;
  },
  "is new, and refused": async (test) => {
    await test.source.admin`delete from public.node where id = 4`;
    await test.sync({ capture: "full" });
    await test.source.admin`insert into public.node values (4, 'bad', null)`;
  },
  "is new, refused, and decided": async (test) => {
    await test.source.admin`delete from public.node where id = 4`;
    await test.sync({ capture: "full" });
    await test.source.admin`insert into public.node values (4, 'bad', null)`;
    await test.sync();
    await decide(test, 4, "target_wins");
  },
  "is new, and waits": async (test) => {
    await test.source.admin`delete from public.node where id = 4`;
    await test.sync({ capture: "full" });
    await test.source.admin`insert into public.node values (4, 'waits', 99)`;
  },
};

describe("a plan foretells what becomes of the children of a parent that", () => {
  const fates = Object.entries(FATES).flatMap(([fate, happens]) =>
    Object.entries(KEYS)
      // Without a key nothing keeps a child from referring to a row that is gone.
      .filter(([key]) => key === "a foreign key" || fate.includes("somebody deleted"))
      .map(([key, references]) => ({ fate, happens, key, references })),
  );
  it.each(fates)("$fate, under $key", async ({ happens, references }) => {
    await using test = await grow(references);
    await happens(test);
    // A child on the parent's page, one before and one behind, those of a child, some that had landed, and of another
    // entity.
    await test.source.admin.unsafe(`
      insert into public.node values (3, 'new', 4), (6, 'new', 4), (8, 'new', 6);
      update public.node set parent_id = 4 where id in (5, 7);
      insert into public.leaf values (3, 'new', 4);
      update public.leaf set node_id = 4 where id = 1`);
    // Of all records: that a row is gone which nobody has asked for, a run sees when it compares totals, and a plan
    // compares none.
    await expectAgreement(test, { capture: "full" });
    // Once more: what the queue holds by now is foretold likewise.
    await test.source.admin`update public.leaf set name = name || '!'`;
    await expectAgreement(test);
  });
});

import { mkdirSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Sql } from "postgres";
import { registry } from "../clinic/entities/registry.gen.ts";
import { ROOT } from "../scripts/installations.ts";
import { acknowledge } from "../shared/contract/check.ts";
import { createInProcess, type InProcess } from "./support/in-process.ts";
import { createShop, type Shop } from "./support/music-shop.ts";
import { scratchFolder } from "./support/scratch.ts";
import { expectSeen, handsOf, type Hands } from "./support/sabotage.ts";
import { shapesOf, type Shapes } from "./verifier/catalog.ts";
import { say } from "./verifier/finding.ts";
import { recomputedOf } from "./verifier/installations.ts";
import { musicShop } from "./verifier/music-shop.ts";
import type { Recomputed } from "./verifier/recompute.ts";
import { report } from "./verifier/report.ts";
import { pinnedSession, recomputed, verify } from "./verifier/verify.ts";

function definitionOf(entity: string) {
  const definition = recomputed.find((one) => one.entity === entity);
  if (!definition) throw new Error(`${entity} is not recomputed`);
  return definition;
}

/** What `npm run verify` prints of entities, all or the named ones, and what nobody answers for. */
async function reported(source: Sql, target: Sql, definitions: readonly Recomputed[], ...names: string[]) {
  const lines: string[] = [];
  const wrong = await report(source, target, definitions, names, (line) => {
    lines.push(line);
  });
  return { wrong, lines, found: lines.filter((line) => line.startsWith(" ")).map((line) => line.trim()) };
}

describe("the target, recomputed from the source in plain SQL", () => {
  let sync: InProcess;
  let source: Sql;
  let target: Sql;
  let before: Shapes;
  beforeAll(async () => {
    sync = await createInProcess({ scale: 0.02 });
    [source, target] = [pinnedSession(sync.source.superuserUrl), pinnedSession(sync.target.superuserUrl)];
    before = await shapesOf(target, recomputed);
    await sync.sync();
  });
  afterAll(async () => {
    await Promise.all([source.end(), target.end()]);
    await sync[Symbol.asyncDispose]();
  });

  it("is recomputed for every entity", () => {
    expect(recomputed.map(({ entity }) => entity).sort()).toEqual(registry.map(({ name }) => name).sort());
  });

  it.each(recomputed.map((definition) => [definition.entity, definition] as const))(
    "holds %s, from every side: what differs is in the queue",
    async (_, definition) => {
      const { findings, differences, compared } = await verify(source, target, definition, before);
      expect(findings.filter(({ told }) => told !== "queue").map(say)).toEqual([]);
      expect(differences).toEqual([]);
      expect(compared).toBeGreaterThan(0);
    },
  );

  it.each<[title: string, entity: string, breaks: (hands: Hands) => readonly string[], says: readonly string[]]>([
    ["a value that a person wrote", "orders", ({ edit }) => [edit("suffix = suffix || '!'")], ["value ID suffix (edit)"]],
    ["a value that the sync wrote", "orders", ({ forge }) => [forge("suffix = suffix || '!'", "suffix")], ["value ID suffix"]],
    [
      "a value that nobody wrote",
      "orders",
      ({ forge }) => [forge("suffix = suffix || '!'")],
      ["state_left ID suffix", "value ID suffix"],
    ],
    [
      "a reference",
      "orders",
      ({ forge }) => [
        forge("patient_id = (select p.id from public.patients p where p.id <> t.patient_id limit 1)", "patient_id"),
      ],
      ["value ID patient_id"],
    ],
    [
      "a lost row",
      "operations",
      () => ["delete from public.operations where legacy_operation_id = ID"],
      ["mapping_without_row ID", "row_missing ID"],
    ],
    [
      "a row of no record",
      "teams",
      () => ["insert into public.teams (legacy_group_id, name) values (99999, 'x')"],
      ["row_surplus 99999", "row_without_mapping 99999"],
    ],
    [
      "a second row of a record",
      "teams",
      () => [
        "alter table public.teams drop constraint teams_legacy_group_id_key",
        "insert into public.teams (legacy_group_id, name) select legacy_group_id, name from public.teams where legacy_group_id = ID",
      ],
      ["row_twice ID"],
    ],
    [
      "a legacy key that somebody changed",
      "wares",
      () => ["update public.wares set legacy_ware_id = 99999 where legacy_ware_id = ID"],
      ["mapping_elsewhere ID", "row_missing ID", "row_surplus 99999", "row_without_mapping 99999"],
    ],
    [
      "a lost mapping",
      "teams",
      ({ mapping }) => [`delete from ${mapping}`],
      ["row_without_mapping ID", "state_without_mapping ID"],
    ],
    [
      "a mapping to another row",
      "teams",
      ({ mapping }) => [
        // What a trigger refuses.
        "set local session_replication_role = replica",
        `update ${mapping.replace(" where", " set entity_uuid = gen_random_uuid() where")}`,
        "set local session_replication_role = origin",
      ],
      ["mapping_elsewhere ID", "mapping_without_row ID"],
    ],
    [
      "a tombstone of a record that is there",
      "teams",
      ({ mapping }) => [`update ${mapping.replace(" where", " set sync_status = 'deleted' where")}`],
      ["tombstone_with_row ID", "tombstone_with_state ID"],
    ],
    ["a lost row state", "teams", ({ state }) => [`delete from ${state}`], ["mapping_without_state ID"]],
    [
      "a row state of nobody",
      "teams",
      ({ state }) => [`update ${state.replace(" where", " set legacy_id = 99999 where")}`],
      ["mapping_without_state ID", "state_without_mapping 99999"],
    ],
    [
      "a row state that says that the source has said something else",
      "teams",
      ({ state }) => [`update ${state.replace(" where", ` set seen = seen || '{"name": "x"}' where`)}`],
      ["state_seen ID name"],
    ],
    [
      "a row state that says that the sync has left something else",
      "teams",
      ({ state }) => [`update ${state.replace(" where", ` set "left" = "left" || '{"name": "x"}' where`)}`],
      ["state_left ID name"],
    ],
    ["an entry of the queue for nothing", "teams", ({ queue }) => [queue("open", "some_rule", [])], ["queue_for_nothing ID"]],
    [
      "an entry of the queue about another field",
      "orders",
      ({ forge, queue }) => [forge("suffix = suffix || '!'", "suffix"), queue("open", "both_changed", ["notes"])],
      ["value ID suffix"],
    ],
    [
      "nothing, where an entry of the queue is about the field",
      "orders",
      ({ forge, queue }) => [forge("suffix = suffix || '!'", "suffix"), queue("open", "both_changed", ["suffix"])],
      ["value ID suffix (queue)"],
    ],
    [
      "an entry of the queue that waits for what has landed",
      "teams",
      ({ queue }) => [
        queue("waiting", "parent", [], {
          parent_entity_id: "(select id from public.sync_entities where entity_type = 'wares')",
          parent_legacy_id: "(select min(legacy_ware_id) from public.wares)",
        }),
      ],
      ["queue_for_nothing ID", "waits_for_landed ID"],
    ],
    ["a warning of nothing", "teams", ({ warn }) => [warn("name")], ["warning_for_nothing ID name"]],
    [
      "a warning of a trigger that is not there",
      "teams",
      ({ forge, warn }) => ["drop trigger touch_updated_at on public.teams", forge("name = name || '!'", "name"), warn("name")],
      ["value ID name"],
    ],
    [
      "a column of another type",
      "offers",
      () => ["alter table public.offers alter column price_both type numeric(20,7)"],
      ["column_retyped price_both"],
    ],
    [
      "a column that nobody has declared",
      "teams",
      () => ["alter table public.teams add column own text"],
      ["column_unknown own"],
    ],
    ["a column that is gone", "teams", () => ["alter table public.teams drop column name"], ["column_missing name"]],
    [
      "a column that was dropped and added again",
      "teams",
      () => ["alter table public.teams drop column name", "alter table public.teams add column name text"],
      ["column_replaced name", "state_left ALL name", "value ALL name"],
    ],
    [
      "a column that the target computes by now",
      "teams",
      () => [
        "alter table public.teams drop column name",
        "alter table public.teams add column name text generated always as (legacy_group_id::text) stored",
      ],
      ["column_generated name", "column_replaced name", "value ALL name"],
    ],
  ])("is seen to be broken by %s", async (_, entity, breaks, says) => {
    const definition = definitionOf(entity);
    await expectSeen(source, target, definition, { breaks: breaks(handsOf(definition)), says }, before);
  });

  // What these two break stays broken.
  it.each([
    [
      "a column",
      "alter table public.teams drop column name; alter table public.teams add column name text",
      ["column_replaced name"],
    ],
    [
      "a table",
      "alter table public.teams rename to former_teams; create table public.teams (like public.former_teams including all); insert into public.teams select * from public.former_teams",
      ["column_replaced legacy_group_id", "column_replaced name"],
    ],
  ])("is reported, with %s that DDL has replaced since the sync compared all rows", async (_, ddl, says) => {
    expect(await reported(source, target, recomputed, "wares")).toMatchObject({ wrong: 0, found: [] });
    await target.unsafe(ddl);
    const { wrong, found } = await reported(source, target, recomputed, "teams");
    expect(wrong).toBeGreaterThan(0);
    expect(found).toEqual(expect.arrayContaining(says));
  });
});

describe("a second domain, recomputed and reported", () => {
  let shop: Shop;
  beforeAll(async () => {
    shop = await createShop();
    await shop.sync();
  });
  afterAll(() => shop[Symbol.asyncDispose]());
  const report = (...names: string[]) => reported(shop.sides.source, shop.sides.target, musicShop, ...names);
  /** Breaks something as an owner of the target, has it reported, and undoes it. */
  const reportedAfter = async (entity: string, ...statements: string[]) => {
    const undone = new Error("undone");
    let seen: Awaited<ReturnType<typeof reported>> | undefined;
    await shop.sides.target
      .begin(async (tx) => {
        for (const statement of statements) await tx.unsafe(statement);
        seen = await reported(shop.sides.source, tx as unknown as Sql, musicShop, entity);
        throw undone;
      })
      .catch((error: unknown) => {
        if (error !== undone) throw error;
      });
    return seen;
  };

  it("is equal after a load, or told why not, in a line for each entity", async () => {
    const { wrong, lines } = await report();
    expect(wrong, lines.join("\n")).toBe(0);
    expect(lines).toHaveLength(musicShop.length);
    expect(lines.filter((line) => line.includes("told why not")).map((line) => line.split("  ")[0])).toEqual([
      "customers",
      "invoices",
      "invoice lines",
    ]);
  });

  it("has only the named entities reported, and refuses the name of no entity", async () => {
    expect((await report("artists", "media types")).lines.map((line) => line.split("  ")[0])).toEqual(["artists", "media types"]);
    await expect(report("artists", "nobody")).rejects.toThrow("no entity nobody");
  });

  it.each<[what: string, entity: string, statements: readonly string[], found: readonly string[]]>([
    [
      "a generated column whose function was replaced",
      "artists",
      [
        `create or replace function public.plain_name(name text) returns text language sql immutable set search_path = '' return name || case when name like '%No. 1' then '!' else '' end`,
      ],
      ["generated 1 Search Name"],
    ],
    [
      "DDL that empties a column",
      "customers",
      [`alter table customers drop column company; alter table customers add column company text`],
      ["column_replaced company", "value 10 company"],
    ],
    [
      "DDL that cuts a column",
      "invoices",
      [`alter table "Invoices" alter column "Currency" type char(2) using left("Currency", 2)`],
      ["column_retyped Currency", "inexact 1 Currency"],
    ],
    [
      "a row put back without its mapping",
      "playlists",
      [`delete from public.uuid_mappings_enhanced where entity_type = 'playlists' and legacy_id = 1`],
      ["row_without_mapping 1", "state_without_mapping 1"],
    ],
  ])("is seen to be wrong by %s", async (_, entity, statements, found) => {
    const seen = await reportedAfter(entity, ...statements);
    expect(seen?.found).toEqual(expect.arrayContaining([...found]));
  });

  it("is told why not where a trigger changes what the sync writes, and is wrong where nobody was told", async () => {
    await shop.target.admin.unsafe(`
      create function public.in_capitals() returns trigger language plpgsql as $$ begin new.street := upper(new.street); return new; end $$;
      create trigger in_capitals before update on customers for each row execute function public.in_capitals()`);
    await acknowledge(shop.context, undefined, "a test");
    await shop.source.admin.unsafe(`update "Customer" set "Address" = 'Lane 1' where "CustomerId" = 1`);
    await shop.sync();
    expect((await report("customers")).found).toEqual([]);
    const untold = await reportedAfter("customers", "delete from public.sync_warnings where rule = 'written_otherwise: street'");
    expect(untold?.found).toEqual(["value 1 street"]);
  });
});

describe("npm run verify", () => {
  it.each([
    ["clinic", recomputed],
    ["examples/music-shop", musicShop],
  ])("takes the installation %s", async (folder, definitions) => {
    expect(await recomputedOf(resolve(ROOT, folder))).toBe(definitions);
  });

  it("takes what another installation says of itself, and says what is missing where it says nothing", async () => {
    const folder = scratchFolder("another-installation");
    await expect(recomputedOf(folder)).rejects.toThrow(/Nothing recomputes the installation .*verifier\.ts/);
    mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, "verifier.ts"), "export const recomputed = [];");
    expect(await recomputedOf(folder)).toEqual([]);
  });
});

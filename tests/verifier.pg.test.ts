import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Sql } from "postgres";
import { registry } from "../clinic/entities/registry.gen.ts";
import { createInProcess, type InProcess } from "./support/in-process.ts";
import { expectSeen, handsOf, type Hands } from "./support/sabotage.ts";
import { shapesOf, type Shapes } from "./verifier/catalog.ts";
import { say } from "./verifier/finding.ts";
import { pinnedSession, recomputed, verify } from "./verifier/verify.ts";

function definitionOf(entity: string) {
  const definition = recomputed.find((one) => one.entity === entity);
  if (!definition) throw new Error(`${entity} is not recomputed`);
  return definition;
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
});

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { loadLegacy } from "../clinic/dataset/load.ts";
import type { Entity } from "../shared/entity/define-entity.ts";
import { registry } from "../clinic/entities/registry.gen.ts";
import { projectionSql } from "../shared/source/projection.ts";
import { allKeys, sentOrLandedKeys } from "../shared/source/keys.ts";
import { createTestSource, type TestDatabase } from "./support/databases.ts";

describe("a page of the source costs what it reads, not what the table holds", () => {
  let source: TestDatabase;
  beforeAll(async () => {
    source = await createTestSource();
    await loadLegacy({ url: source.superuserUrl, seed: 1, scale: 0.1, logScale: 0.002 });
    await source.admin`analyze`;
  });
  afterAll(() => source[Symbol.asyncDispose]());

  const plan = (text: string, parameters: readonly (string | number | null)[], without: readonly string[] = []) =>
    source.admin.begin(async (tx) => {
      for (const way of without) await tx.unsafe(`set local enable_${way} = off`);
      const rows = await tx.unsafe<{ "QUERY PLAN": string }[]>(`explain (costs off) ${text}`, [...parameters]);
      return rows.map((row) => row["QUERY PLAN"]).join("\n");
    });
  const byKey = ({ source: { table } }: Entity) => new RegExp(`Index (Only )?Scan using ${table}_pkey on ${table} `);

  it.each(registry.map((entity) => [entity.name, entity] as const))(
    "keys of %s come from the index, in its order",
    async (_, entity) => {
      const { text, parameters } = allKeys(entity, { from: null, after: "10", upTo: "20", limit: 5 });
      // Small tables the planner would rather read whole; it does not where the index serves.
      const lines = await plan(text, parameters, ["seqscan", "bitmapscan", "sort"]);
      expect(lines).toMatch(byKey(entity));
      expect(lines).toMatch(/Index Cond: \(\(id >= '10'::bigint\) AND \(id <= '20'::bigint\)\)/);
      expect(lines).not.toMatch(/Sort/);
      expect(text).not.toMatch(/offset/i);
    },
  );

  it.each(registry.filter(({ source }) => source.predicate).map((entity) => [entity.name, entity] as const))(
    "keys of %s, and how many rows of their range its predicate waives, come from the index",
    async (_, entity) => {
      const { text, parameters } = sentOrLandedKeys(entity, { from: null, after: "10", upTo: "20", limit: 5 }, ["12"]);
      const lines = await plan(text, parameters, ["seqscan", "bitmapscan"]);
      const { table } = entity.source;
      expect(lines.match(new RegExp(`Index Scan using ${table}_pkey on ${table} `, "g"))).toHaveLength(2);
      expect(lines).toMatch(/Index Cond: \(\(id >= '10'::bigint\) AND \(id <= '20'::bigint\)\)/);
      expect(lines).toMatch(
        /Index Cond: \(\(id >= '10'::bigint\) AND \(id <= COALESCE\(\(InitPlan \d+\)\.col1, '9223372036854775807'::bigint\)\)/,
      );
    },
  );

  /** Tables that have thousands of rows here, and up to millions in the clinic. */
  const LARGE = [
    "dispatch_instruction",
    "dispatch_jaw",
    "dispatch_payment",
    "dispatch_notification",
    "dispatch_action",
    "dispatch_task",
  ];
  const large = registry.filter((entity) => LARGE.includes(entity.source.table));

  it("every table that is large is read", () => {
    expect(new Set(large.map((entity) => entity.source.table))).toEqual(new Set(LARGE));
  });

  it.each(registry.map((entity) => [entity.name, entity] as const))(
    "every table that %s reads has an index by which its rows are found",
    async (_, entity) => {
      const lines = await plan(projectionSql(entity), ["{10,20,30,40,50}", "1000000"], ["seqscan", "hashjoin", "mergejoin"]);
      expect(lines).not.toMatch(/Seq Scan/);
    },
  );

  it.each(large.map((entity) => [entity.name, entity] as const))(
    "records of %s, whose table is not small, are looked up by their keys, and what they are joined with as well",
    async (_, entity) => {
      const lines = await plan(projectionSql(entity), ["{10,20,30,40,50}", "1000000"]);
      expect(lines).toMatch(byKey(entity));
      expect(lines).toMatch(/Index Cond: \(id = k\w*\.\w+\)/);
      for (const table of LARGE) expect(lines).not.toMatch(`Seq Scan on ${table} `);
    },
  );
});

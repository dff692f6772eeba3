import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Sql } from "postgres";
import { registry } from "../shared/entities/registry.gen.ts";
import { createInProcess, type InProcess } from "./support/in-process.ts";
import { pinnedSession, recomputed, verify } from "./verifier/verify.ts";

describe("the target, recomputed from the source in plain SQL", () => {
  let sync: InProcess;
  let source: Sql;
  let target: Sql;
  beforeAll(async () => {
    sync = await createInProcess({ scale: 0.02 });
    await sync.sync();
    [source, target] = [pinnedSession(sync.source.superuserUrl), pinnedSession(sync.target.superuserUrl)];
  });
  afterAll(async () => {
    await Promise.all([source.end(), target.end()]);
    await sync[Symbol.asyncDispose]();
  });

  it("is recomputed for every entity, every column that the application does not own", async () => {
    expect(recomputed.map(({ entity }) => entity).sort()).toEqual(registry.map(({ name }) => name).sort());
    for (const { entity, columns, application = [], target: side } of recomputed) {
      const own = await target<{ name: string }[]>`
        select attname as name from pg_attribute where attrelid = ${entity}::regclass and attnum > 0 and not attisdropped`;
      const expected = own.map(({ name }) => name).filter((name) => !["id", "created_at", "updated_at"].includes(name));
      expect([...Object.keys(columns), ...application, side.id.replace("t.", "")].sort(), entity).toEqual(expected.sort());
    }
  });

  it.each(recomputed.map((definition) => [definition.entity, definition] as const))(
    "holds %s without a difference",
    async (_, definition) => {
      const verdict = await verify(source, target, definition);
      expect(verdict).toMatchObject({ differences: [] });
      expect(verdict.compared).toBeGreaterThan(0);
    },
  );

  it.each([
    [
      "a value",
      "update public.orders set suffix = suffix || '!' where id = (select id from public.orders limit 1)",
      "orders",
      "suffix",
    ],
    [
      "a reference",
      `update public.orders set patient_id = (select id from public.patients p where p.id <> patient_id limit 1)
        where id = (select id from public.orders limit 1)`,
      "orders",
      "patient_id",
    ],
    ["a lost row", "delete from public.operations where id = (select id from public.operations limit 1)", "operations", "row"],
  ])("is seen to differ in %s", async (_, sabotage, entity, column) => {
    const definition = recomputed.find((one) => one.entity === entity);
    if (!definition) throw new Error("not recomputed");
    await target
      .begin(async (tx) => {
        await tx.unsafe(sabotage);
        const { differences } = await verify(source, tx as unknown as Sql, definition);
        expect(differences.map((one) => one.columns)).toEqual([[column]]);
        throw new Error("undone");
      })
      .catch((error: unknown) => {
        if (!(error instanceof Error) || error.message !== "undone") throw error;
      });
  });
});

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { registry } from "../shared/entities/registry.gen.ts";
import { changedKeys } from "../shared/sql/source-keys.ts";
import { sourcePosition } from "../shared/sql/source-position.ts";
import { createInProcess, type InProcess } from "./support/in-process.ts";

/** Each table that an entity reads beside its own, with the SQL that leads from its own to a row of it. */
const declared = registry.flatMap(({ name, source }) => {
  const steps = Object.entries({ ...source.joins, ...source.watches });
  const conditionOf = (alias: string, on: Readonly<Record<string, string>>) =>
    Object.entries(on)
      .map(([column, other]) => `${alias}.${column} = ${other}`)
      .join(" and ");
  return steps.map(([alias, { table, on }]) => ({
    name,
    table,
    on: conditionOf(alias, on),
    // All the others too: a step may need another one, and none of them takes a record away.
    from: `public.${source.table} ${source.alias} ${steps.map(([one, step]) => `left join public.${step.table} ${one} on ${conditionOf(one, step.on)}`).join(" ")}`,
    row: `${alias}.id`,
    record: `${source.alias}.${source.key}`,
  }));
});

describe("a changed row of a table that an entity only joins or asks about", () => {
  let test: InProcess;
  beforeAll(async () => {
    test = await createInProcess({ scale: 0.05 });
  });
  afterAll(() => test[Symbol.asyncDispose]());

  it.each(declared)("of $table on ($on) has exactly its records of $name read again", async ({ name, table, from, row }) => {
    const { admin } = test.source;
    const entity = registry.find((one) => one.name === name);
    if (!entity) throw new Error("no such entity");
    const [changed] = await admin.unsafe<{ id: number }[]>(`select ${row} as id from ${from} where ${row} is not null limit 1`);
    if (!changed) throw new Error("the generated data has no such row");
    // The same row may belong to other records through another join, or be of the driving table itself.
    const belongs = declared
      .filter((one) => one.name === name && one.table === table)
      .map((one) => `select ${one.record}::text as id from ${one.from} where ${one.row} = ${changed.id}`)
      .concat(entity.source.table === table ? [`select '${changed.id}'`] : []);
    const expected = await admin.unsafe<{ id: string }[]>(belongs.join(" union "));

    const before = await sourcePosition(test.context.source);
    await admin.unsafe(`update public.${table} set id = id where id = ${changed.id}`);
    const after = await sourcePosition(test.context.source);
    const query = changedKeys(entity, { after: null, upTo: null, limit: 10_000 }, before.xmax, after.xmax);
    const found = await test.context.source.unsafe<{ id: string }[]>(query.text, [...query.parameters]);
    expect(new Set(found.map(({ id }) => id))).toEqual(new Set(expected.map(({ id }) => id)));
  });
});

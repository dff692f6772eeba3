import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { registry } from "../shared/entities/registry.gen.ts";
import { changedKeys } from "../shared/sql/source-keys.ts";
import { sourcePosition } from "../shared/sql/source-position.ts";
import { createInProcess, type InProcess } from "./support/in-process.ts";

/** Each table that an entity reads beside its own, with the SQL that says which records a row of it belongs to. */
const declared = registry.flatMap(({ name, source }) => [
  ...Object.values(source.joins).map(({ table, on }) => ({
    name,
    table,
    on: Object.entries(on)
      .map(([column, other]) => `w.${column} = ${other}`)
      .join(" and "),
  })),
  ...source.watches.map(({ table, on }) => ({ name, table, on })),
]);

describe("a changed row of a table that an entity only joins or asks about", () => {
  let test: InProcess;
  beforeAll(async () => {
    test = await createInProcess({ scale: 0.05 });
  });
  afterAll(() => test[Symbol.asyncDispose]());

  it.each(declared)("of $table on ($on) has exactly its records of $name read again", async ({ name, table, on }) => {
    const { admin } = test.source;
    const entity = registry.find((one) => one.name === name);
    if (!entity) throw new Error("no such entity");
    const driving = `public.${entity.source.table} ${entity.source.alias}`;
    const key = `${entity.source.alias}.${entity.source.key}`;
    const [row] = await admin.unsafe<{ id: number }[]>(
      `select w.id from public.${table} w join ${driving} on ${on} order by w.id limit 1`,
    );
    if (!row) throw new Error("the generated data has no such row");
    // The same row may belong to other records through another join, or be of the driving table itself.
    const belongs = declared
      .filter((one) => one.name === name && one.table === table)
      .map((one) => `select ${key}::text as id from public.${table} w join ${driving} on ${one.on} where w.id = ${row.id}`)
      .concat(entity.source.table === table ? [`select '${row.id}'`] : []);
    const expected = await admin.unsafe<{ id: string }[]>(belongs.join(" union "));

    const before = await sourcePosition(test.context.source);
    await admin.unsafe(`update public.${table} set id = id where id = ${row.id}`);
    const after = await sourcePosition(test.context.source);
    const query = changedKeys(entity, { after: null, upTo: null, limit: 10_000 }, before.xmax, after.xmax);
    const found = await test.context.source.unsafe<{ id: string }[]>(query.text, [...query.parameters]);
    expect(new Set(found.map(({ id }) => id))).toEqual(new Set(expected.map(({ id }) => id)));
  });
});

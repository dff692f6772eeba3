import type { TransactionSql } from "postgres";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { consumedJoins, type JoinRow } from "../shared/entity/consumed-joins.ts";
import { registry } from "../clinic/entities/registry.gen.ts";
import { sourceColumnsRead } from "../shared/entity/validate-registry.ts";
import { projectionSql } from "../shared/source/projection.ts";
import { joinRows } from "../shared/source/joins.ts";
import { createInProcess, type InProcess } from "./support/in-process.ts";

/** Each table that an entity reads beside its own, with SQL of its own for what leads from the entity's rows to it. */
const declared = registry.flatMap((entity) => {
  const { table: driving, alias: self, key, joins, watches } = entity.source;
  const steps = Object.entries({ ...joins, ...watches });
  // A step may need another one, and none of them takes a record away.
  const from = `public.${driving} ${self} ${steps
    .map(([alias, { table, on }]) => {
      const equal = Object.entries(on).map(([column, other]) => `${alias}.${column} = ${other}`);
      return `left join public.${table} ${alias} on ${equal.join(" and ")}`;
    })
    .join(" ")}`;
  return steps.map(([alias, { table, key: rowKey = "id", on }]) => {
    const [link = "", reference = ""] = Object.entries(on)[0] ?? [];
    const join = consumedJoins(entity).find((one) => one.table === table && one.link === link && one.reference === reference);
    if (!join) throw new Error(`${entity.name} does not consume its ${alias}`);
    return {
      entity,
      name: entity.name,
      alias,
      table,
      join,
      rowKey,
      from,
      row: `${alias}.${rowKey}`,
      record: `${self}.${key}`,
      reference,
    };
  });
});
type Declared = (typeof declared)[number];

/** Another value of the same type. A type that is not here fails. */
const OTHER: Readonly<Record<string, (column: string, room: number) => string>> = {
  int2: (column) => `coalesce(${column}, 0) + 1`,
  int4: (column) => `coalesce(${column}, 0) + 1000003`,
  int8: (column) => `coalesce(${column}, 0) + 1000003`,
  numeric: (column) => `coalesce(${column}, 0) + 0.01`,
  float8: (column) => `coalesce(${column}, 0) + 1`,
  bool: (column) => `not coalesce(${column}, false)`,
  text: (column) => `coalesce(${column}, '') || 'x'`,
  // Another one each time, because some are unique.
  varchar: (column, room) => (room < 8 ? `case ${column} when 'x' then 'y' else 'x' end` : "left(md5(random()::text), 8)"),
  date: (column) => `coalesce(${column}, date '2000-01-01') + 1`,
  timestamptz: (column) => `coalesce(${column}, timestamptz '2000-01-01') + interval '1 day'`,
  jsonb: () => `'{"other": true}'`,
};

describe("a row of a table that an entity only joins or asks about", () => {
  let test: InProcess;
  beforeAll(async () => {
    test = await createInProcess({ scale: 0.05 });
    await test.sync();
  });
  afterAll(() => test[Symbol.asyncDispose]());

  /** Changes columns of one row; what they refer to need not exist, as in a database whose constraints came late. */
  const change = async (tx: TransactionSql, { table, rowKey }: Declared, id: string, columns: readonly string[]) => {
    const types = await tx<{ name: string; type: string; room: number }[]>`
      select a.attname as name, t.typname as type, coalesce(nullif(a.atttypmod, -1) - 4, 100) as room from pg_attribute a join pg_type t on t.oid = a.atttypid
       where a.attrelid = ${`public.${table}`}::regclass and a.attname in ${tx(columns)}`;
    const values = types.map(({ name, type, room }) => {
      const other = OTHER[type];
      if (!other) throw new Error(`no other value of type ${type} for ${table}.${name}`);
      return `"${name}" = ${other(`"${name}"`, room)}`;
    });
    await tx`set local session_replication_role = replica`;
    await tx.unsafe(`update public.${table} set ${values.join(", ")} where ${rowKey} = ${id}`);
  };
  const someRow = async ({ from, row }: Declared) => {
    const [found] = await test.source.admin.unsafe<{ id: string }[]>(
      `select ${row}::text as id from ${from} where ${row} is not null limit 1`,
    );
    if (!found) throw new Error("the generated data has no such row");
    return found.id;
  };
  const columnsOf = async (table: string) =>
    (
      await test.source.admin<{ name: string }[]>`
        select attname as name from pg_attribute where attrelid = ${`public.${table}`}::regclass and attnum > 0 and not attisdropped`
    ).map(({ name }) => name);
  /** The records that the row belongs to now, through every join that consumes one of the columns. */
  const recordsOf = async (one: Declared, id: string, columns: readonly string[]) => {
    const through = declared.filter(
      ({ name, table, join }) =>
        name === one.name && table === one.table && columns.some((column) => join.columns.includes(column)),
    );
    const found = await test.source.admin.unsafe<{ id: string }[]>(
      through.map(({ record, from, row }) => `select ${record}::text as id from ${from} where ${row} = ${id}`).join(" union "),
    );
    return found.map((record) => record.id).filter((record) => one.entity.source.table !== one.table || record !== id);
  };
  /** Keys that the joined rows' pages of an execution of the entity ask for; the execution runs to its end. */
  const askedFor = async (name: string) => {
    await test.start({ entities: [name] });
    await test.runJoins();
    const keys = await test.target.admin<{ id: string }[]>`
      select legacy_id::text as id from public.sync_pending_keys k join public.sync_entities e on e.id = k.entity_id
       where e.entity_type = ${name} and k.reason = 'fan_out'`;
    await test.drain();
    return new Set(keys.map(({ id }) => id));
  };

  it.each(declared)(
    "$table $alias of $name: its digest tells the consumed columns, and no other column shows in a record",
    async (one) => {
      const { entity, name, table, join, rowKey } = one;
      const id = await someRow(one);
      const all = (await columnsOf(table)).filter((column) => column !== rowKey);
      const digest = async (tx: TransactionSql) => {
        const { text, parameters } = joinRows(join, (BigInt(id) - 1n).toString(), 1);
        return (await tx.unsafe<JoinRow[]>(text, [...parameters]))[0]?.digest;
      };
      const changed = async <T>(columns: readonly string[], look: (tx: TransactionSql) => Promise<T>) => {
        let seen: T | undefined;
        await test.source.admin.begin(async (tx) => {
          if (columns.length > 0) await change(tx, one, id, columns);
          seen = await look(tx);
          await tx`rollback`;
        });
        return seen;
      };
      const before = await changed([], digest);
      for (const column of all) {
        expect((await changed([column], digest)) !== before, column).toBe(join.columns.includes(column));
      }
      const consumed = new Set(
        declared.filter((other) => other.name === name && other.table === table).flatMap(({ join: { columns } }) => columns),
      );
      if (entity.source.table === table) for (const column of sourceColumnsRead(entity)) consumed.add(column);
      const others = all.filter((column) => !consumed.has(column));
      const keys = await recordsOf(one, id, join.columns);
      const records = (tx: TransactionSql) => tx.unsafe(projectionSql(entity), [`{${keys.join(",")}}`, "1000000"]);
      expect(await changed(others, records)).toEqual(await changed([], records));
    },
  );

  it.each(declared)(
    "$table $alias of $name: exactly its records are read again, and none for what they do not consume",
    async (one) => {
      const { name, table, join, rowKey, record, from, reference } = one;
      // What other tests have changed.
      await askedFor(name);
      const id = await someRow(one);
      const consumed = new Set(
        declared.filter((other) => other.name === name && other.table === table).flatMap(({ join: { columns } }) => columns),
      );
      const others = (await columnsOf(table)).filter((column) => column !== rowKey && !consumed.has(column));
      const { admin } = test.source;
      if (others.length > 0) await admin.begin((tx) => change(tx, one, id, others));
      else await admin.unsafe(`update public.${table} set ${rowKey} = ${rowKey} where ${rowKey} = ${id}`);
      expect(await askedFor(name)).toEqual(new Set());

      const values = join.columns.filter((column) => column !== rowKey && column !== join.link);
      if (values.length > 0) {
        await admin.begin((tx) => change(tx, one, id, values));
        expect(await askedFor(name)).toEqual(new Set(await recordsOf(one, id, values)));
      }
      if (join.link === rowKey) return;
      const old = await recordsOf(one, id, [join.link]);
      const [other] = await admin.unsafe<{ link: string }[]>(
        `select ${reference}::text as link from ${from} where ${reference} is not null
          and not exists (select from public.${table} x where x.${join.link} = ${reference}) order by ${record} desc limit 1`,
      );
      if (!other) throw new Error("the generated data has no record without such a row");
      await admin.begin(async (tx) => {
        await tx`set local session_replication_role = replica`;
        await tx.unsafe(`update public.${table} set ${join.link} = ${other.link} where ${rowKey} = ${id}`);
      });
      const now = await recordsOf(one, id, [join.link]);
      expect(now.length).toBeGreaterThan(0);
      expect(await askedFor(name)).toEqual(new Set([...old, ...now]));
    },
  );
});

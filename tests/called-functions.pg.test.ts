import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { expression, type ColumnSource } from "../shared/entity/columns.ts";
import { defineEntity, type Entity } from "../shared/entity/define-entity.ts";
import { functionsCalled } from "../shared/entity/functions-called.ts";
import { workerGrants } from "../shared/operate/grants.ts";
import { createPipeline, type Pipeline } from "./support/pipeline.ts";

const sql = (body: string, name: string, args = "value text", as = "immutable") =>
  `create or replace function public.${name}(${args}) returns text language sql ${as} as $f$ ${body} $f$`;
const plpgsql = (body: string, name: string) =>
  `create or replace function public.${name}(value text) returns text language plpgsql immutable as $f$ begin ${body} end $f$`;

/** An entity whose SQL comes by a way of its own to a function: `made` before it lands, `other` later, which alone changes what it says. */
interface Way {
  readonly name: string;
  readonly made: readonly string[];
  readonly other: readonly string[];
  /** Its column: SQL over s.label, of which each row has its own. Default: the column itself. */
  readonly says?: ColumnSource;
  readonly where?: string;
  readonly predicate?: string;
  /** No SQL names the function: every entity is compared. */
  readonly everybody?: true;
}

const WAYS: readonly Way[] = [
  {
    name: "by name",
    made: [sql("select upper(value)", "named")],
    other: [sql("select lower(value)", "named")],
    says: expression("text", "public.named (s.label)"),
  },
  {
    name: "without a schema, as an overload of what PostgreSQL has",
    made: [sql("select upper(value || n)", "reverse", "value text, n integer")],
    other: [sql("select value || n", "reverse", "value text, n integer")],
    says: expression("text", "REVERSE(s.label, 1)"),
  },
  {
    name: "by a name in quotes",
    made: [sql("select upper(value)", '"Made, by ""me"""')],
    other: [sql("select lower(value)", '"Made, by ""me"""')],
    says: expression("text", 'public."Made, by ""me"""(s.label)'),
  },
  {
    name: "by a name that is no word, and longer than names are",
    made: [sql("select upper(value)", `½ü${"x".repeat(80)}`)],
    other: [sql("select lower(value)", `½ü${"x".repeat(80)}`)],
    says: expression("text", `½ü${"x".repeat(80)}(s.label)`),
  },
  {
    name: "like a field of a value",
    made: [
      "create type public.pair as (a text, b text)",
      "create function public.shown(public.pair) returns text language sql immutable as 'select upper($1.a)'",
    ],
    other: ["create or replace function public.shown(public.pair) returns text language sql immutable as 'select lower($1.a)'"],
    says: expression("text", "(row(s.label, s.label)::public.pair).shown"),
  },
  {
    name: "by way of another one, whose body is a text",
    made: [
      plpgsql("return upper(value);", "inner_one"),
      plpgsql("return /* or so */ Inner_One (value);", "between"),
      plpgsql('return public."between"(value);', "outer_one"),
    ],
    other: [plpgsql("return lower(value);", "inner_one")],
    says: expression("text", "public.outer_one(s.label)"),
  },
  {
    name: "by way of another one, whose body the catalog reads",
    made: [
      sql("select upper(value)", "atom"),
      "create function public.molecule(value text) returns text language sql immutable begin atomic; select public.atom(value); end",
    ],
    other: [sql("select lower(value)", "atom")],
    says: expression("text", "public.molecule(s.label)"),
  },
  {
    name: "with another default of an argument",
    made: [sql("select value || more", "defaulted", "value text, more text default 'a'")],
    other: [sql("select value || more", "defaulted", "value text, more text default 'b'")],
    says: expression("text", "public.defaulted(s.label)"),
  },
  {
    name: "with another way to take NULL",
    made: [sql("select coalesce($2, value)", "taken", "value text, text")],
    other: ["alter function public.taken(text, text) strict"],
    says: expression("text", "public.taken(s.label, null)"),
  },
  {
    name: "in an aggregate",
    made: [
      sql("select $1 || upper($2)", "joined_up", "text, text"),
      "create aggregate public.all_of(text) (sfunc = public.joined_up, stype = text, initcond = '')",
    ],
    other: [sql("select $1 || lower($2)", "joined_up", "text, text")],
    says: expression("text", "(select public.all_of(v) from pg_catalog.unnest(array[s.label, s.label]) as l (v))"),
  },
  {
    name: "in a condition of its records",
    made: ["create function public.is_one(id bigint) returns boolean language sql immutable as 'select id < 3'"],
    other: ["create or replace function public.is_one(id bigint) returns boolean language sql immutable as 'select id > 1'"],
    where: "public.is_one(s.id)",
  },
  {
    name: "in a predicate",
    made: ["create function public.is_let_in(id bigint) returns boolean language sql immutable as 'select id < 3'"],
    other: ["create or replace function public.is_let_in(id bigint) returns boolean language sql immutable as 'select id > 1'"],
    predicate: "public.is_let_in(s.id)",
  },
  {
    name: "behind an operator",
    made: [
      sql("select upper($1) || $2", "behind", "text, text"),
      "create operator public.<+> (leftarg = text, rightarg = text, function = public.behind)",
    ],
    other: [sql("select lower($1) || $2", "behind", "text, text")],
    says: expression("text", "s.label operator(public.<+>) '!'"),
    everybody: true,
  },
  {
    name: "behind a cast that nobody writes",
    made: [
      "create type public.shade as (tone text)",
      "create function public.shade_text(public.shade) returns text language sql immutable as 'select upper($1.tone)'",
      "create cast (public.shade as text) with function public.shade_text(public.shade)",
    ],
    other: [
      "create or replace function public.shade_text(public.shade) returns text language sql immutable as 'select lower($1.tone)'",
    ],
    says: expression("text", "row(s.label)::public.shade"),
    everybody: true,
  },
];
const entityName = (n: number) => `way_${n}`;
const ENTITIES = WAYS.map(({ says = "s.label", where, predicate }, n) =>
  (defineEntity as unknown as (spec: object) => Entity)({
    name: entityName(n),
    target: { table: entityName(n), legacyKey: "legacy_id" },
    source: {
      table: `of_${n}`,
      key: "id",
      alias: "s",
      columns: { says, label: "s.label" },
      ignored: {},
      ...(where === undefined ? {} : { where }),
      ...(predicate === undefined
        ? {}
        : { predicate: { name: "some", version: 1, where: predicate, reason: "a test", onLeave: "delete" } }),
    },
    onDelete: "hard",
    fields: ({ copy }: { copy: (column: string) => unknown }) => ({ says: copy("says") }),
  }),
);

describe("another body of a function that the SQL of an entity calls", () => {
  let test: Pipeline;
  beforeAll(async () => {
    test = await createPipeline({ entities: ENTITIES, env: { ISTHMUS_CHAINS_PER_ENTITY: "1" } });
    for (const { made } of WAYS) for (const statement of made) await test.source.admin.unsafe(statement);
    await test.source.admin.unsafe(sql("select value", "of_nobody"));
    for (const n of WAYS.keys()) {
      await test.source.admin.unsafe(`
        create table public.of_${n} (id bigint primary key, label text);
        insert into public.of_${n} values (1, 'One'), (2, 'Two'), (3, 'Three');
        grant select on public.of_${n} to isthmus_reader`);
      await test.target.admin.unsafe(`
        create table public.${entityName(n)} (id uuid primary key, legacy_id bigint not null unique, says text);
        alter table public.${entityName(n)} owner to postgres`);
    }
    await test.target.admin.unsafe(workerGrants(ENTITIES));
    await test.sync();
  });
  afterAll(() => test[Symbol.asyncDispose]());

  const says = async (n: number) =>
    Object.fromEntries(
      (
        await test.target.admin.unsafe<{ id: number; says: string }[]>(
          `select legacy_id::integer as id, says from public.${entityName(n)}`,
        )
      ).map((row) => [row.id, row.says]),
    );
  /** What the source says itself. */
  const meant = async (n: number) => {
    const { says: column = "s.label", where = "true", predicate = "true" } = WAYS[n] ?? {};
    const rows = await test.source.admin.unsafe<{ id: number; says: string }[]>(
      `select s.id::integer as id, (${typeof column === "string" ? column : column.sql})::text as says from public.of_${n} s where (${where}) and (${predicate})`,
    );
    return Object.fromEntries(rows.map((row) => [row.id, row.says]));
  };
  const runs = async () => {
    const begun = await test.sync();
    return begun.warnings.flatMap(({ code, entity }) => (code === "source_reshaped" ? [entity] : []));
  };

  it.each(WAYS.map((way, n) => ({ ...way, n })))(
    "$name: is noticed by the next run, and lands",
    async ({ n, other, everybody }) => {
      const before = await says(n);
      expect(before).toEqual(await meant(n));
      for (const statement of other) await test.source.admin.unsafe(statement);
      const told = await runs();
      expect(told.sort()).toEqual(everybody ? ENTITIES.map(({ name }) => name).sort() : [entityName(n)]);
      expect(await says(n)).toEqual(await meant(n));
      expect(await says(n)).not.toEqual(before);
      expect(await runs()).toEqual([]);
    },
  );

  it("the same body again, another owner's rights, and what no entity calls cost no comparison", async () => {
    await test.source.admin.unsafe(sql("select lower(value)", "named"));
    await test.source.admin.unsafe(
      "revoke execute on function public.named(text) from public; grant execute on function public.named(text) to isthmus_reader",
    );
    await test.source.admin.unsafe(sql("select value || 'x'", "of_nobody"));
    await test.source.admin.unsafe(sql("select value || 'x'", "label"));
    const { chains } = await test.sync();
    expect(chains).toEqual([]);
  });
});

it("names before a parenthesis and fields of expressions are asked about, columns and texts are not", () => {
  const entity = {
    source: {
      columns: {
        a: "s.plain",
        b: expression("text", "f(s.a) || public.\"G h\" (s.b) || 'no(' || (s.c).field || (s.d)[1].part || Sub.S(s.e)"),
      },
      joins: {},
      watches: {},
      where: "s.x in (1, 2)",
    },
  } as unknown as Entity;
  expect(functionsCalled(entity)).toEqual(["G h", "f", "field", "in", "part", "s"]);
});

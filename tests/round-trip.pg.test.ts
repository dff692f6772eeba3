import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { createTestSource } from "./support/databases.ts";
import { differencesFound } from "./support/digest-differences.ts";
import { COMBINATIONS, neutralText, setHostile } from "./support/hostile-settings.ts";
import type { Pipeline } from "./support/pipeline.ts";
import { createStranger, createStrangers, type Stranger } from "./support/stranger.ts";
import { BUILT_IN, NOT_FOR_COLUMNS, NARROWED, valuesOf } from "./support/typed-values.ts";
import { wholeSet } from "./support/number-set.ts";

const SEED = wholeSet("ISTHMUS_SEED", 20261128, 0);
const ROWS = 40;

/** Texts of one value, or of values that JSON calls equal. In the first rows each is followed by the next. */
const EQUAL: Readonly<Record<string, readonly string[]>> = {
  numeric: ["1.5", "1.50", "1.500"],
  real: ["0", "-0"],
  "double precision": ["0", "-0"],
  json: ['{"a":1,"a":2}', '{"a":3,"a":2}', '{ "a":2.0}', '{"a":2}'],
  jsonb: ['{"a": 2}', '{"a": 2.0}'],
  "numeric(30,10)[]": ["{1}", "[2:2]={1}"],
  "character(12)": ["ab", "ab "],
};
const EQUAL_ROWS = 6;

/** Leaves a value out that the source itself does not take. */
const TAKEN = `create function public.taken(value text, type text) returns text language plpgsql as $$
  begin execute format('select %L::%s', value, type); return value; exception when others then return null; end $$`;

async function put(
  test: Pipeline,
  table: string,
  types: Readonly<Record<string, string>>,
  values: Readonly<Record<string, readonly string[]>>,
) {
  const list = Object.entries(types);
  const update = list.map(([name]) => `${name} = excluded.${name}`).join(", ");
  for (let row = 0; row < ROWS; row++) {
    const cells = list.map(
      ([name, type]) =>
        `public.taken(convert_from('\\x${Buffer.from(values[name]?.[row] ?? "").toString("hex")}', 'UTF8'), $t$${type}$t$)::${type}`,
    );
    await test.source.admin.unsafe(
      `insert into public.${table} (id, ${list.map(([name]) => name).join(", ")}) values (${row + 1}, ${cells.join(", ")})
       on conflict (id) do update set ${update}`,
    );
  }
}

/** What landed under one combination of settings is the same under another: no hash of either side follows them. */
async function expectNothingDiffers(test: Pipeline, n: number): Promise<void> {
  await setHostile(test, n);
  const { execution } = await test.sync({ capture: "digest" });
  expect(await differencesFound(test, execution)).toBe(0);
}

it("every built-in type is generated, or named with the reason why no column has it", async () => {
  await using source = await createTestSource();
  const types = await source.admin<{ name: string }[]>`
    select format_type(oid, null) as name from pg_type
     where typnamespace = 'pg_catalog'::regnamespace and typtype in ('b', 'r', 'm') and typcategory <> 'A' order by 1`;
  const known = [...BUILT_IN.map(({ type }) => type.replace(/\(.*\)/, "").replace(/\[\]$/, "")), ...Object.keys(NOT_FOR_COLUMNS)];
  expect(types.map(({ name }) => name).filter((name) => !known.includes(name))).toEqual([]);
});

describe("a value of a built-in type lands as the source has it, or is in the queue", () => {
  it.each(COMBINATIONS.map((_, n) => n))("all types as they are, settings %i", { timeout: 120_000 }, async (n) => {
    const types = Object.fromEntries(BUILT_IN.map(({ type }, at) => [`v${at}`, type]));
    const values = Object.fromEntries(
      BUILT_IN.map(({ values: generated }, at) => [`v${at}`, valuesOf(generated, ROWS, SEED + n)]),
    );
    await using test = await createStranger({
      source: "old",
      target: "fresh",
      columns: Object.fromEntries(Object.entries(types).map(([name, type]) => [name, { type }])),
      computed: true,
    });
    await test.source.admin.unsafe(TAKEN);
    await put(test, "old", types, values);
    await setHostile(test, n);
    const columns = Object.keys(types);
    const expectSame = async (what: string) => {
      const queued = await test.live("things");
      expect(queued.map(({ id, field, rule }) => [id, field === null ? null : types[field], rule])).toEqual([]);
      expect(await neutralText(test.target, "fresh", "legacy_id", columns), what).toEqual(
        await neutralText(test.source, "old", "id", columns),
      );
    };
    await test.sync({ capture: "full" });
    await expectSame("a first load");
    await expectNothingDiffers(test, n + 1);
    // Then every value becomes another one of its type: of some types those that are equal and print differently, too.
    for (const [round, capture] of (["auto", "full", "digest"] as const).entries()) {
      const next = BUILT_IN.map(({ type, values: generated }, at): [string, string[]] => {
        const texts = EQUAL[type] ?? [];
        const drawn = valuesOf(generated, ROWS, SEED + n + 1000 * (round + 1));
        return [
          `v${at}`,
          drawn.map((value, row) => (row < EQUAL_ROWS ? texts[(row + round) % texts.length] : undefined) ?? value),
        ];
      });
      await put(test, "old", types, Object.fromEntries(next));
      await test.sync({ capture });
      await expectSame(`changes found by ${capture}`);
    }
    await expectNothingDiffers(test, n + 2);
  });

  it.each(COMBINATIONS.map((_, n) => n))(
    "types that hold less than the source's, settings %i",
    { timeout: 120_000 },
    async (n) => {
      const strangers = NARROWED.map(({ from, to }, at): Stranger => {
        const name = `narrow_${at}`;
        return { name, source: name, target: name, columns: { value: { type: to, sourceType: from } }, computed: true };
      });
      await using test = await createStrangers(strangers, {}, { ISTHMUS_CHAINS_PER_ENTITY: "1" });
      await test.source.admin.unsafe(TAKEN);
      for (const [at, { from, values }] of NARROWED.entries())
        await put(test, `narrow_${at}`, { value: from }, { value: valuesOf(values, ROWS, SEED + 100 * n + at) });
      await setHostile(test, n);
      await test.sync({ capture: "full" });
      await test.target.admin
        .unsafe(`create function public.held(value text, source text, target text) returns boolean language plpgsql as $$
      declare v boolean;
      begin
        execute format('select (%1$L::%2$s::text::%3$s::text::%2$s)::text = (%1$L::%2$s)::text', value, source, target) into v;
        return v;
      exception when others then return false; end $$`);
      for (const [at, { from, to }] of NARROWED.entries()) {
        const rows = await test.source.admin.unsafe<{ id: number; value: string | null }[]>(
          `select id::integer, value::text as value from public.narrow_${at} order by id`,
        );
        const landed = new Map(
          (
            await test.target.admin.unsafe<{ id: number; value: string | null }[]>(
              `select legacy_id::integer as id, value::text::${from}::text as value from public.narrow_${at}`,
            )
          ).map(({ id, value }) => [id, value]),
        );
        const queue = new Map((await test.live(`narrow_${at}`)).map(({ id, type }) => [id, type]));
        for (const { id, value } of rows) {
          const what = `${from} ${JSON.stringify(value)} in ${to}`;
          const [held] = await test.target.admin<
            { held: boolean }[]
          >`select ${value}::text is null or public.held(${value}, ${from}, ${to}) as held`;
          if (held?.held === true) {
            expect(queue.get(id), what).toBeUndefined();
            expect(landed.get(id), what).toBe(value);
          } else {
            expect(landed.has(id), what).toBe(false);
            expect(queue.get(id), what).toBe("schema_mismatch");
          }
        }
      }
      await expectNothingDiffers(test, n + 1);
    },
  );

  it("generates the same values from the same seed", () => {
    const [first, second] = [1, 2].map(() => BUILT_IN.map(({ values }) => valuesOf(values, 3, SEED)));
    expect(first).toEqual(second);
    expect(fc.__version).toMatch(/^4\./);
  });
});

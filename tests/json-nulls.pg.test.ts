import { describe, expect, it } from "vitest";
import type { Conflicts, Entity } from "../shared/entity/define-entity.ts";
import { adopt } from "./support/adoption.ts";
import type { Pipeline } from "./support/pipeline.ts";
import { createStranger, ENTITY, type Stranger } from "./support/stranger.ts";

/** What a JSON column can hold that could be taken for something else: NULL, the null of JSON, texts that read so, and nulls within. */
const NULL = "NULL";
const VALUES = [NULL, "null", '"null"', `"'null"`, `"''null"`, '"NULL"', '{"a": null}', "[null]"] as const;
type Value = (typeof VALUES)[number];

const sql = (value: string) => (value === NULL ? "null" : `'${value.replaceAll("'", "''")}'`);
const only = { entities: [ENTITY] };

interface Column {
  readonly type: string;
  readonly sourceType: string;
  readonly values: readonly Value[];
}
const COLUMNS: readonly Column[] = [
  { type: "jsonb", sourceType: "jsonb", values: VALUES },
  { type: "json", sourceType: "json", values: VALUES },
  { type: "public.document", sourceType: "text", values: VALUES },
  { type: "jsonb not null", sourceType: "jsonb", values: VALUES.slice(1) },
];

async function made(
  { type, sourceType }: Pick<Column, "type" | "sourceType">,
  more: Omit<Partial<Entity>, "conflicts"> & { readonly conflicts?: Conflicts } = {},
  stranger: Partial<Stranger> = {},
): Promise<Pipeline> {
  const columns = { doc: { type, sourceType }, name: { type: "text" } };
  const test = await createStranger(
    { source: "old", target: "fresh", columns, computed: true, modified: "changed_at", ...stranger },
    more,
    { ISTHMUS_BRAKE_RECORDS: "1000", ISTHMUS_BRAKE_OVERWRITE_RECORDS: "1000" },
    (prepared) => prepared.target.admin.unsafe("create domain public.document as jsonb").then(() => undefined),
  );
  await test.target.admin`update public.sync_jobs set enabled = true`;
  return test;
}
async function put(test: Pipeline, docs: readonly string[]): Promise<void> {
  await test.source.admin.unsafe(
    `insert into public.old (id, doc, name) values ${docs.map((doc, n) => `(${n + 1}, ${sql(doc)}, 'a')`).join(", ")}
     on conflict (id) do update set doc = excluded.doc, changed_at = clock_timestamp()`,
  );
}
const shown = async (test: Pipeline) =>
  (await test.target.admin<{ doc: string | null }[]>`select doc::text from public.fresh order by legacy_id`).map(
    ({ doc }) => doc ?? NULL,
  );
const edit = (test: Pipeline, value: string, id = 1) =>
  test.target.admin.unsafe(`update public.fresh set doc = ${sql(value)} where legacy_id = ${id}`);
const decide = (test: Pipeline, set: string, where = "true") =>
  test.target.admin.begin(async (tx) => {
    await tx.unsafe("set local role postgres");
    await tx.unsafe(`update public.sync_conflicts set ${set} where state in ('open', 'resolved') and ${where}`);
  });

const CAPTURES = [
  ["auto", {}],
  ["full", { capture: "full" }],
  ["digest", { capture: "digest" }],
  ["modified", { capture: "modified" }],
  ["keys", undefined],
] as const;

describe.each(COLUMNS)("NULL, the null of JSON and what reads like them, in $type", (column) => {
  const pairs = column.values.flatMap((from) => column.values.filter((to) => to !== from).map((to) => [from, to] as const));
  const before = pairs.map(([from]) => from as string);
  const after = pairs.map(([, to]) => to as string);

  it.each(["values", "hashes"] as const)("are each carried over from one to the other by every capture (%s)", async (history) => {
    await using test = await made(column, { history });
    await put(test, before);
    await test.sync(only);
    expect(await shown(test)).toEqual(before);
    let [now, next] = [before, after];
    for (const [name, request] of CAPTURES) {
      await put(test, next);
      const ids = { legacyIds: { [ENTITY]: pairs.map((_, n) => String(n + 1)) } };
      await test.sync(request === undefined ? ids : { ...only, ...request });
      expect(await shown(test), name).toEqual(next);
      [now, next] = [next, now];
    }
    const { execution } = await test.sync({ ...only, capture: "digest" });
    expect(await compared(test, execution)).toMatchObject({ edited: 0, changed: 0 });
  });

  it("are foretold by a plan, also of a record that is planned twice", async () => {
    await using test = await made(column);
    await put(test, before);
    await test.sync(only);
    await put(test, after);
    await test.target.admin`
      insert into public.sync_pending_keys (entity_id, legacy_id, reason) select s.entity_id, s.legacy_id, 'requested' from public.sync_row_states s`;
    const { execution } = await test.sync({ ...only, dryRun: true });
    const [plan] = await test.target.admin<{ updated: number }[]>`
      select count(*)::integer as updated from public.sync_reports r, jsonb_array_elements(r.body -> 'entities') e, jsonb_array_elements(e -> 'outcomes') o
       where r.execution_id = ${execution} and r.kind = 'plan' and o ->> 'outcome' = 'updated' and (o ->> 'count')::integer = ${pairs.length}`;
    expect(plan).toEqual({ updated: 1 });
    expect(await shown(test)).toEqual(before);
  });

  it("are found by a digest where somebody changed them in the target, and taken back where that is asked for", async () => {
    await using test = await made(column);
    await put(test, before);
    await test.sync(only);
    for (const [n, doc] of after.entries()) await edit(test, doc, n + 1);
    const { execution } = await test.sync({ ...only, capture: "digest" });
    expect(await compared(test, execution)).toMatchObject({ edited: pairs.length });
    expect(await shown(test)).toEqual(after);
    await test.sync({ ...only, capture: "digest", overwriteEdits: true });
    expect(await shown(test)).toEqual(before);
  });

  it.each(["values", "hashes"] as const)("are put back, one for the other, by a decision (%s)", async (history) => {
    await using test = await made(column, { history });
    await put(test, before);
    await test.sync(only);
    await test.source.admin`update public.old set doc = '{"b": 1}'`;
    for (const [n, doc] of after.entries()) await edit(test, doc, n + 1);
    await test.sync(only);
    expect(new Set(await shown(test))).toEqual(new Set(['{"b": 1}']));
    await decide(test, "resolution_strategy = null");
    // Of hashes nobody knows what was left: what is empty holds nothing that could be lost, and was not asked about.
    const asked = (doc: string) => history === "values" || doc !== NULL;
    expect(await shown(test)).toEqual(after.map((doc) => (asked(doc) ? doc : '{"b": 1}')));
    await decide(test, "resolution_strategy = 'source_wins'");
    expect(new Set(await shown(test))).toEqual(new Set(['{"b": 1}']));
  });
});

async function compared(test: Pipeline, execution: string) {
  const [report] = await test.target.admin<{ edited: number; changed: number }[]>`
    select (body #>> '{edited,count}')::integer as edited, (body #>> '{changed,count}')::integer as changed
      from public.sync_reports where execution_id = ${execution} and kind = ${`digest:${ENTITY}`}`;
  return report;
}

/** The source says one, somebody wrote another one, and then the source says a third. */
const SIDES = [
  { seen: NULL, source: "null", edited: "{}" },
  { seen: "null", source: NULL, edited: "{}" },
  { seen: "{}", source: "null", edited: NULL },
  { seen: "{}", source: NULL, edited: "null" },
  { seen: "{}", source: '"null"', edited: "null" },
  { seen: "{}", source: "null", edited: '"null"' },
] as const;
const KEPT: Readonly<Record<string, unknown>> = { [NULL]: null, null: "null", '"null"': "'null", "{}": {} };
/** What a person decides, and what the column holds then. */
const DECISIONS: readonly (readonly [strategy: string, data: string, holds: (side: (typeof SIDES)[number]) => string])[] = [
  ["source_wins", NULL, ({ source }) => source],
  ["target_wins", NULL, ({ edited }) => edited],
  ["merge", '{"doc": null}', () => NULL],
  ["merge", '{"doc": "null"}', () => "null"],
  ["merge", `{"doc": "'null"}`, () => '"null"'],
  ["merge", `{"doc": "''null"}`, () => `"'null"`],
  ["merge", '{"doc": {"x": null}}', () => '{"x": null}'],
];
const JSONB = { type: "jsonb", sourceType: "jsonb" };

describe("a value that both sides have changed", () => {
  const both = async (conflicts: Conflicts, sides: readonly (typeof SIDES)[number][]) => {
    const test = await made(JSONB, { conflicts });
    await put(
      test,
      sides.map(({ seen }) => seen),
    );
    await test.sync(only);
    for (const [n, { edited }] of sides.entries()) await edit(test, edited, n + 1);
    await put(
      test,
      sides.map(({ source }) => source),
    );
    await test.sync(only);
    return test;
  };

  it.each(["source_wins", "target_wins", "manual_review", "merge"] as const)("is one for %s", async (strategy) => {
    await using test = await both({ strategy }, SIDES);
    expect(await shown(test)).toEqual(SIDES.map(({ source, edited }) => (strategy === "source_wins" ? source : edited)));
    const queue = await test.target.admin`
      select state::text, differences -> 'doc' as doc from public.sync_conflicts order by source_record_id`;
    const state = strategy === "source_wins" || strategy === "target_wins" ? "resolved" : "open";
    expect(queue.map((row) => ({ ...row }))).toEqual(
      SIDES.map(({ seen, source, edited }) => ({
        state,
        doc: { seen: KEPT[seen], source: KEPT[source], target: KEPT[edited] },
      })),
    );
  });

  it("becomes what a person decides, and nothing of it comes back, whoever looks", async () => {
    const cases = SIDES.flatMap((side) => DECISIONS.map((decision) => [side, ...decision] as const));
    await using test = await both(
      { strategy: "manual_review" },
      cases.map(([side]) => side),
    );
    for (const [n, [, strategy, data]] of cases.entries())
      await decide(test, `resolution_strategy = '${strategy}', resolution_data = ${sql(data)}`, `source_record_id = ${n + 1}`);
    const decided = cases.map(([side, , , holds]) => holds(side));
    expect(await shown(test)).toEqual(decided);
    await test.sync({ ...only, capture: "full" });
    await test.sync({ ...only, capture: "digest" });
    const open = await test.target.admin`select from public.sync_conflicts where state = 'open'`;
    expect([await shown(test), open.length]).toEqual([decided, 0]);
  });
});

describe("a row that somebody deleted", () => {
  it.each([
    ["jsonb not null", "null"],
    ["json not null", "null"],
    ["public.document", "null"],
  ])("of %s is written again with %s", async (type, value) => {
    await using test = await made({ type, sourceType: "text" }, { conflicts: { deleted: "manual_review" } });
    await put(test, [value]);
    await test.sync(only);
    await test.target.admin`delete from public.fresh`;
    await test.sync({ ...only, capture: "digest" });
    await decide(test, "resolution_strategy = 'source_wins'");
    expect(await shown(test)).toEqual([value]);
    const { execution } = await test.sync({ ...only, capture: "digest" });
    expect(await compared(test, execution)).toMatchObject({ edited: 0, changed: 0 });
  });
});

describe("rows of an earlier migration", () => {
  it("are adopted, and their nulls are told apart", async () => {
    await using test = await made(JSONB);
    await put(test, ["null", NULL, '"null"', "null"]);
    await test.target.admin.unsafe(`insert into public.fresh (id, legacy_id, doc, name) values
      (gen_random_uuid(), 1, null, 'a'), (gen_random_uuid(), 2, 'null', 'a'), (gen_random_uuid(), 3, 'null', 'a'), (gen_random_uuid(), 4, 'null', 'a')`);
    await adopt(test, ENTITY);
    await test.sync({ ...only, capture: "full" });
    expect(await shown(test)).toEqual(["null", NULL, '"null"', "null"]);
    // What was empty holds nothing that could be lost, the null of JSON is a value like others.
    const kept = await test.target.admin`
      select source_record_id::integer as id, differences -> 'doc' -> 'target' as held from public.sync_conflicts order by 1`;
    expect(kept.map((row) => ({ ...row }))).toEqual([
      { id: 2, held: "null" },
      { id: 3, held: "null" },
    ]);
  });
});

describe("objects", () => {
  it.each(["jsonb", "json"])("of %s are merged key by key, with the nulls in them", async (type) => {
    await using test = await made({ type, sourceType: "jsonb" }, { conflicts: { strategy: "merge" } });
    await put(test, ['{"a": 1, "b": 1}']);
    await test.sync(only);
    await edit(test, '{"a": null, "b": 1}');
    await put(test, ['{"a": 1, "b": null}']);
    await test.sync(only);
    const [row] = await test.target.admin`select doc::jsonb as doc from public.fresh`;
    expect({ ...row }).toEqual({ doc: { a: null, b: null } });
    expect(await test.live(ENTITY)).toEqual([]);
  });
});

describe("the brake", () => {
  it("counts the null of JSON as empty, and a text that reads so as a value", async () => {
    await using test = await made(JSONB);
    await put(test, ["{}", "null", NULL, '"null"', "{}"]);
    await test.source.admin`update public.old set name = 'null'`;
    await test.sync(only);
    await put(test, ["null", NULL, "null", NULL, '"null"']);
    await test.source.admin`update public.old set name = case when id = 1 then null else 'null!' end`;
    const { execution } = await test.sync(only);
    const [log] = await test.target.admin`
      select jsonb_object_agg(k, v) as nulled, max(overwritten) as overwritten from public.sync_page_log left join lateral jsonb_each(nulled) n (k, v) on true
       where execution_id = ${execution} and k is not null`;
    expect({ ...log }).toEqual({ nulled: { doc: 2, name: 1 }, overwritten: 4 });
  });
});

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { Entity, History, Strategy } from "../shared/entity/define-entity.ts";
import { createBuilders } from "../shared/entity/fields.ts";
import { operations } from "../clinic/entities/operations.ts";
import { registry } from "../clinic/entities/registry.gen.ts";
import { definitionHash } from "../shared/entity/validate-registry.ts";
import { ConflictModel, REFUSALS, type Decision, type Entry, type Values } from "./support/conflict-model.ts";
import { same, type Json } from "./support/json-merge.ts";
import { createPipeline, type Pipeline } from "./support/pipeline.ts";

/** Field of the target → column of the source. */
const COLUMNS = {
  amount: "price",
  attempts: "attempts",
  card_brand: "card_brand",
  card_last: "card_last",
  metadata: "sq_payment_id",
  square_order_id: "sq_order_id",
} as const;
type Name = keyof typeof COLUMNS;
const NAMES = Object.keys(COLUMNS) as Name[];
const STRATEGY: Readonly<Record<Name, Strategy>> = {
  amount: "target_wins",
  attempts: "manual_review",
  card_brand: "source_wins",
  // No object: merge puts it to a person.
  card_last: "merge",
  metadata: "merge",
  square_order_id: "manual_review",
};
const LANDED: Values = {
  amount: 1,
  attempts: 1,
  card_brand: "a",
  card_last: "a",
  metadata: { a: 1, b: 1 },
  square_order_id: "a",
};
const full = { entities: ["operations"], capture: "full" } as const;

function entityOf(history: History, changes: Partial<Entity> = {}): Entity {
  const { legacy_operation_id: key, operation_type: type, ...fields } = operations.fields;
  if (!key || !type) throw new Error("operations have other fields");
  const metadata = createBuilders("operations").json("sq_payment_id" as never);
  const own = NAMES.map((name) => [name, name === "metadata" ? metadata : fields[name]] as const);
  return {
    ...operations,
    rules: [],
    fields: { legacy_operation_id: key, operation_type: type, ...(Object.fromEntries(own) as Entity["fields"]) },
    conflicts: { ...operations.conflicts, fields: STRATEGY },
    history,
    ...changes,
  };
}

function define(test: Pipeline, entity: Entity): void {
  (test.context.entities as Map<string, Entity>).set(entity.name, entity);
  (test.context.hashes as Map<string, string>).set(entity.name, definitionHash(entity));
}

async function begin(entity: Entity, records: number): Promise<Pipeline> {
  const test = await createPipeline({ entities: [...registry] });
  define(test, entity);
  await test.source.admin`
    insert into public.dispatch_operation (id, type, price, attempts, card_brand, card_last, sq_payment_id, sq_order_id)
    select id, 1, 1, 1, 'a', 'a', '{"a": 1, "b": 1}', 'a' from generate_series(1, ${records}::integer) id`;
  await test.sync(full);
  return test;
}

const written = (values: Values) =>
  Object.fromEntries(
    Object.entries(values).map(([name, value]) => [name, typeof value === "object" && value ? JSON.stringify(value) : value]),
  );

async function editSource(test: Pipeline, id: number, values: Values): Promise<void> {
  const columns = Object.fromEntries(Object.entries(written(values)).map(([name, value]) => [COLUMNS[name as Name], value]));
  await test.source.admin`update public.dispatch_operation set ${test.source.admin(columns)} where id = ${id}`;
}

async function editTarget(test: Pipeline, id: number, values: Values): Promise<void> {
  await test.target.admin`
    update public.operations t set (amount, attempts, card_brand, card_last, metadata, square_order_id) =
           (select amount, attempts, card_brand, card_last, metadata, square_order_id
              from jsonb_populate_record(t, ${JSON.stringify(values)}::text::jsonb))
     where legacy_operation_id = ${id}`;
}

/** As somebody does it in the table editor. */
async function decide(test: Pipeline, entry: string, strategy: Decision | null, data: Values | null): Promise<void> {
  await test.target.admin`
    update public.sync_conflicts
       set resolution_strategy = ${strategy}, resolved_by = 'somebody',
           resolution_data = coalesce(${data && JSON.stringify(data)}::text::jsonb, resolution_data)
     where id = ${entry}`;
}

interface Observed {
  readonly id: number;
  readonly now: Values;
  readonly entries: readonly (Entry & { readonly id: string })[];
}

/** What the target and the queue hold, of one record or all. */
async function observe(test: Pipeline, id?: number): Promise<readonly Observed[]> {
  return await test.target.admin<Observed[]>`
    select t.legacy_operation_id::integer as id,
           jsonb_build_object('amount', t.amount, 'attempts', t.attempts, 'card_brand', t.card_brand, 'card_last', t.card_last,
                              'metadata', t.metadata, 'square_order_id', t.square_order_id) as now,
           coalesce((select jsonb_agg(jsonb_build_object('id', c.id, 'state', c.state, 'fields', string_to_array(c.field, ', '),
                       'strategy', c.resolution_strategy,
                       'by', case when c.resolved_by in ('policy', 'sync') then c.resolved_by when c.resolved_by is not null then 'person' end,
                       'attempts', c.attempts, 'decisions', c.decisions,
                       'since', (select count(*) from public.sync_executions x where x.started_at <= c.first_seen_at),
                       'seen', v.seen, 'source', v.source, 'target', v.target, 'left', v."left", 'after', v.after))
                       from public.sync_conflicts c join public.sync_conflict_values v on v.conflict_id = c.id
                      where c.source_record_id = t.legacy_operation_id), '[]') as entries
      from public.operations t where ${id ?? null}::integer is null or t.legacy_operation_id = ${id ?? null} order by 1`;
}

const withoutId = ({ id: _, ...entry }: Observed["entries"][number]): Entry => entry;
const inOrder = (entries: readonly Entry[]) =>
  [...entries]
    .map((entry) => [ordered(entry), entry] as const)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([, entry]) => entry);
/** The same text for what is the same, whatever the order of its keys. */
function ordered(value: unknown): string {
  return JSON.stringify(value, (_, inner: unknown) =>
    typeof inner === "object" && inner !== null && !Array.isArray(inner)
      ? Object.fromEntries(Object.entries(inner).sort())
      : inner,
  );
}

function expectAsModelled({ id, now, entries }: Observed, model: ConflictModel, when: string): void {
  const wanted = { id, now: model.now, entries: inOrder(model.entries) };
  expect({ id, now, entries: inOrder(entries.map(withoutId)) }, `record ${id}, ${when}`).toEqual(wanted);
}

const ROUNDS = 8;
const RECORDS = 80;

type Action =
  | { readonly kind: "source"; readonly values: Values }
  | { readonly kind: "target"; readonly values: Values }
  /** Somebody writes into the target all that the source says. */
  | { readonly kind: "agree" }
  /** `which`: an entry of the record by a number, or the open one. */
  | { readonly kind: "decide"; readonly which: number | "open"; readonly strategy: Decision | null; readonly data: Values };

const source = {
  amount: fc.constantFrom<Json>(1, 2, 3, null),
  attempts: fc.constantFrom<Json>(1, 2, 3, null),
  card_brand: fc.constantFrom<Json>("a", "b", "c", null),
  card_last: fc.constantFrom<Json>("a", "b", "c", null),
  metadata: fc.oneof(
    fc.dictionary(fc.constantFrom("a", "b", "c"), fc.constantFrom<Json>(1, 2, { d: 1 }, { d: 1, e: 1 }), {
      noNullPrototype: true,
    }),
    fc.constantFrom<Json>({ a: 1, b: 2 }, { a: 2, b: 1 }, { a: 1, b: 1, c: 1 }, null),
  ),
  square_order_id: fc.constantFrom<Json>("a", "b", "c", null),
};
/** People write what the source has, too, and what it never has. */
const target = {
  ...source,
  amount: fc.oneof(source.amount, fc.constantFrom<Json>(8, 9)),
  attempts: fc.oneof(source.attempts, fc.constantFrom<Json>(8, 9)),
  card_brand: fc.oneof(source.card_brand, fc.constantFrom<Json>("x", "y")),
  card_last: fc.oneof(source.card_last, fc.constantFrom<Json>("x", "y")),
  square_order_id: fc.oneof(source.square_order_id, fc.constantFrom<Json>("x", "y")),
};
/** One field alone, two that meet often, or any of them. */
const some = (fields: Readonly<Record<Name, fc.Arbitrary<Json>>>): fc.Arbitrary<Values> =>
  fc.oneof(
    fc.constantFrom(...NAMES).chain((name) => fields[name].map((value) => ({ [name]: value }))),
    fc.record({ attempts: fields.attempts, square_order_id: fields.square_order_id }),
    fc.record(fields, { requiredKeys: [] }),
  );
const action: fc.Arbitrary<Action> = fc.oneof(
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("source" as const), values: some(source) }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("target" as const), values: some(target) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("agree" as const) }) },
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant("decide" as const),
      which: fc.oneof(fc.constant("open" as const), fc.nat(9)),
      strategy: fc.constantFrom<(Decision | null)[]>("source_wins", "target_wins", "merge", null, null),
      data: fc.record(target),
    }),
  },
);
/** Per record and round what happens before the execution, and per round what its request asks for. */
const histories = fc.sample(
  fc.array(fc.array(action, { minLength: 1, maxLength: 4 }), { minLength: ROUNDS, maxLength: ROUNDS }),
  {
    numRuns: RECORDS,
    seed: 20_261_101,
  },
);
const ASKED: readonly (Strategy | undefined)[] = [
  undefined,
  undefined,
  undefined,
  "manual_review",
  undefined,
  "source_wins",
  undefined,
  undefined,
];

/** What no execution may do to what people have written, told from the rows alone: a value that the source has never had is theirs. */
class Edits {
  private readonly said: Values[][];

  constructor(records: number) {
    this.said = Array.from({ length: records }, () => [LANDED]);
  }

  expectKept(
    before: readonly Observed[],
    after: readonly Observed[],
    sources: readonly Values[],
    asked: Strategy | undefined,
  ): void {
    for (const [index, { id, now, entries }] of after.entries()) {
      const said = this.said[index] ?? [];
      const held = before[index]?.now ?? {};
      for (const name of NAMES) {
        const theirs = held[name] !== null && said.every((values) => !same(values[name], held[name]));
        if (!theirs || same(held[name], now[name])) continue;
        if (STRATEGY[name] === "target_wins") expect(asked, `what has changed record ${id} in ${name}`).toBe("source_wins");
        // Objects are merged, and then nothing of them is lost.
        if (name === "metadata" && asked === undefined) continue;
        const kept = entries.map(({ target }) => target[name]);
        expect(kept, `what the queue has kept of record ${id} in ${name}`).toContainEqual(held[name]);
      }
      said.push(sources[index] ?? {});
      expect(entries.filter(({ state }) => state === "open").length, `open entries of record ${id}`).toBeLessThanOrEqual(1);
    }
  }
}

describe.each(["values", "hashes"] as const)("conflicts of records of which %s are kept", (history) => {
  it(`come to what policy and people decide, whatever happens in between (${RECORDS} random histories)`, async () => {
    await using test = await begin(entityOf(history), RECORDS);
    const models = histories.map(() => new ConflictModel(history, STRATEGY, LANDED));
    const met = new Map<string, number>();
    const meet = (event: string) => met.set(event, (met.get(event) ?? 0) + 1);
    const edits = new Edits(RECORDS);
    for (let round = 0; round < ROUNDS; round++) {
      for (const [index, steps] of histories.entries()) {
        const model = models[index];
        if (!model) throw new Error("no model");
        for (const step of steps[round] ?? []) await act(test, index + 1, model, step, meet);
      }
      const before = await observe(test);
      const asked = ASKED[round];
      const { execution } = await test.sync({ ...full, ...(asked ? { conflictStrategy: asked } : {}) });
      const outcomes = models.map((model) => model.execute(round + 2, asked));
      const [counts] = await test.target.admin`
        select sum(updated)::integer as updated, sum(unchanged)::integer as unchanged, sum(in_conflict)::integer as in_conflict
          from public.sync_page_log where execution_id = ${execution}`;
      const after = await observe(test);
      for (const [index, observed] of after.entries()) {
        const model = models[index];
        if (model) expectAsModelled(observed, model, `after execution ${round + 2}`);
      }
      const of = (outcome: string) => outcomes.filter((one) => one === outcome).length;
      expect(counts).toEqual({ updated: of("updated"), unchanged: of("unchanged"), in_conflict: of("in_conflict") });
      for (const { entries } of after) for (const { state, by, strategy } of entries) meet(`${state} ${by} ${strategy}`);
      edits.expectKept(
        before,
        after,
        models.map(({ source }) => source),
        asked,
      );
    }

    // Nothing that was decided comes back while nobody changes anything: what is open is tried once more, and that is
    // all.
    const before = await observe(test);
    await test.sync(full);
    const after = await observe(test);
    const told = ({ id, now, entries }: Observed) => ({ id, now, entries: entries.length });
    expect(after.map(told)).toEqual(before.map(told));

    const wanted = [
      "decided source_wins",
      "decided target_wins",
      "decided merge",
      "decided otherwise",
      "put back",
      "superseded null null",
      "resolved sync null",
      "resolved policy source_wins",
      "resolved policy target_wins",
      ...Object.keys(REFUSALS).map((refusal) => `refused: ${refusal}`),
    ];
    expect(wanted.filter((event) => !met.has(event))).toEqual([]);
  });
});

async function act(test: Pipeline, id: number, model: ConflictModel, step: Action, meet: (event: string) => void): Promise<void> {
  if (step.kind === "source") {
    if (Object.keys(step.values).length > 0) await editSource(test, id, step.values);
    model.source = { ...model.source, ...step.values };
    return;
  }
  if (step.kind === "target" || step.kind === "agree") {
    const values = step.kind === "agree" ? model.source : step.values;
    await editTarget(test, id, values);
    model.now = { ...model.now, ...values };
    return;
  }
  const entry = step.which === "open" ? model.open : model.entries[step.which % model.entries.length];
  if (!entry || entry.strategy === step.strategy) return;
  const [observed] = await observe(test, id);
  const row = observed?.entries.find((one) => ordered(withoutId(one)) === ordered(entry));
  if (!row) throw new Error("the queue lacks an entry");
  const data = Object.fromEntries(entry.fields.map((field) => [field, step.data[field] ?? null]));
  const again = entry.strategy !== null;
  const refusal = model.decide(entry, step.strategy, data);
  const decision = decide(test, row.id, step.strategy, step.strategy === "merge" ? data : null);
  if (refusal)
    await expect(decision, `record ${id}`).rejects.toMatchObject({
      code: "IS022",
      message: expect.stringContaining(REFUSALS[refusal]) as unknown,
    });
  else await decision;
  meet(
    refusal
      ? `refused: ${refusal}`
      : step.strategy === null
        ? "put back"
        : again
          ? "decided otherwise"
          : `decided ${step.strategy}`,
  );
  const [decided] = await observe(test, id);
  if (decided) expectAsModelled(decided, model, `after ${String(step.strategy)}${refusal ? ", which is refused" : ""}`);
}

describe("a decision", () => {
  const open = async (test: Pipeline) => {
    const [record] = await observe(test);
    const entry = record?.entries.find(({ state }) => state === "open");
    if (!record || !entry) throw new Error("nothing is open");
    return { now: record.now, entry };
  };

  it("about a field that is new to the sync is put back to what was not known of it", async () => {
    const entity = entityOf("values");
    const { square_order_id: _, ...fewer } = entity.fields;
    await using test = await begin({ ...entity, fields: fewer }, 1);
    await editTarget(test, 1, { square_order_id: "x" });
    define(test, entity);
    await test.sync(full);
    await decide(test, (await open(test)).entry.id, "target_wins", null);
    const [record] = await observe(test);
    await decide(test, record?.entries[0]?.id ?? "", null, null);
    await test.sync(full);
    const { now, entry } = await open(test);
    expect([now["square_order_id"], entry]).toMatchObject([
      "x",
      { seen: {}, source: { square_order_id: "a" }, decisions: 2, attempts: 2 },
    ]);
    await decide(test, entry.id, "source_wins", null);
    expect((await observe(test))[0]?.now["square_order_id"]).toBe("a");
  });

  it.each<[string, Values, string]>([
    ["lacks one of its fields", { attempts: 1 }, "resolution_data lacks square_order_id"],
    ["names another field", { attempts: 1, square_order_id: "x", card_brand: "x" }, "resolution_data names card_brand"],
    ["holds a masked value", { attempts: 1, square_order_id: "•••" }, "resolution_data holds a masked value"],
  ])("to merge is refused when its data %s, and nothing is changed", async (_, data, message) => {
    await using test = await begin(entityOf("values"), 1);
    await editSource(test, 1, { attempts: 2, square_order_id: "b" });
    await editTarget(test, 1, { attempts: 8, square_order_id: "x" });
    await test.sync(full);
    const before = await observe(test);
    await expect(decide(test, (await open(test)).entry.id, "merge", data)).rejects.toMatchObject({
      code: "IS022",
      message: expect.stringContaining(message) as unknown,
    });
    expect(await observe(test)).toEqual(before);
  });
});

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { Entity, History } from "../shared/entity/define-entity.ts";
import { operations } from "../clinic/entities/operations.ts";
import { registry } from "../clinic/entities/registry.gen.ts";
import { definitionHash } from "../shared/entity/validate-registry.ts";
import { createPipeline, type Pipeline } from "./support/pipeline.ts";

/** Field of the target → column of the source. */
const COLUMNS = { amount: "price", card_brand: "card_brand", square_order_id: "sq_order_id" } as const;
type Name = keyof typeof COLUMNS;
type Values = Record<Name, string | null>;
const NAMES = Object.keys(COLUMNS) as Name[];
const full = { entities: ["operations"], capture: "full" } as const;

/** Without the field that holds copies of the others. */
const { metadata: _, ...fields } = operations.fields;

const define = (test: Pipeline, entity: Entity) => {
  (test.context.entities as Map<string, Entity>).set(entity.name, entity);
  (test.context.hashes as Map<string, string>).set(entity.name, definitionHash(entity));
};

/** What somebody changes before a sync: some columns of the source, some of the target. */
const text = fc.constantFrom("a", "b", null);
const edit = fc.record(
  { amount: fc.constantFrom("1.00", "2.50", null), card_brand: text, square_order_id: text },
  { requiredKeys: [] },
);
const mostlyNothing = fc.oneof({ arbitrary: fc.constant({}), weight: 2 }, { arbitrary: edit, weight: 1 });
const ROUNDS = 5;
const RECORDS = 60;
const histories = fc.sample(
  fc.array(fc.record({ source: mostlyNothing, target: mostlyNothing }), { minLength: ROUNDS, maxLength: ROUNDS }),
  { numRuns: RECORDS, seed: 20_261_101 },
);

/** The policy in a few lines: what a record becomes, and what is kept of what the source has overwritten. */
class Model {
  source: Values = { amount: "1.00", card_brand: "a", square_order_id: null };
  seen: Values = { ...this.source };
  now: Values = { ...this.source };
  left: Values = { ...this.source };
  readonly kept: Partial<Values>[] = [];
  outcome = "unchanged";

  constructor(readonly history: History) {}

  sync(): void {
    const byField = this.history === "values";
    const changed = (name: Name) => this.source[name] !== this.seen[name];
    const edited = (name: Name) => this.now[name] !== this.left[name];
    const touched = NAMES.filter((name) => (byField ? changed(name) : NAMES.some(changed)));
    const written = touched.filter((name) => this.source[name] !== this.now[name]);
    const lost = written.filter((name) => (byField ? edited(name) : NAMES.some(edited) && this.now[name] !== null));
    if (lost.length > 0) this.kept.push(Object.fromEntries(lost.map((name) => [name, this.now[name]])));
    for (const name of touched) this.left[name] = this.now[name] = this.seen[name] = this.source[name];
    this.outcome = written.length > 0 ? "updated" : "unchanged";
  }
}

async function begin(history: History, records = RECORDS): Promise<Pipeline> {
  const test = await createPipeline({ entities: [...registry] });
  define(test, { ...operations, fields, history });
  await test.source.admin`
    insert into public.dispatch_operation (id, type, price, card_brand) select id, 1, 1, 'a' from generate_series(1, ${records}::integer) id`;
  await test.sync(full);
  return test;
}

const rows = (test: Pipeline) =>
  test.target.admin<(Values & { id: number })[]>`
    select legacy_operation_id::integer as id, amount::text, card_brand, square_order_id from public.operations order by 1`;
const kept = async (test: Pipeline) =>
  (
    await test.target.admin<{ id: number; values: Partial<Values> }[]>`
      select c.source_record_id::integer as id, v.target as "values" from public.sync_conflicts c
        join public.sync_conflict_values v on v.conflict_id = c.id where c.state = 'resolved' order by c.source_record_id, c.first_seen_at`
  ).map(({ id, values }) => ({ id, values }));

describe.each(["values", "hashes"] as const)("records of which %s are kept", (history) => {
  it(`become what the policy says, whatever both sides do to them (${RECORDS} random histories)`, async () => {
    await using test = await begin(history);
    const models = histories.map(() => new Model(history));
    for (let round = 0; round < ROUNDS; round++) {
      for (const [index, steps] of histories.entries()) {
        const model = models[index];
        const step = steps[round];
        if (!model || !step) throw new Error("no step");
        const columns = Object.fromEntries(Object.entries(step.source).map(([name, value]) => [COLUMNS[name as Name], value]));
        if (Object.keys(columns).length > 0)
          await test.source.admin`update public.dispatch_operation set ${test.source.admin(columns)} where id = ${index + 1}`;
        if (Object.keys(step.target).length > 0)
          await test.target
            .admin`update public.operations set ${test.target.admin(step.target)} where legacy_operation_id = ${index + 1}`;
        Object.assign(model.source, step.source);
        Object.assign(model.now, step.target);
        model.sync();
      }
      const { execution } = await test.sync(full);
      const [counts] = await test.target.admin`
        select sum(updated)::integer as updated, sum(unchanged)::integer as unchanged from public.sync_page_log where execution_id = ${execution}`;
      const of = (outcome: string) => models.filter((model) => model.outcome === outcome).length;
      expect(counts).toEqual({ updated: of("updated"), unchanged: of("unchanged") });
    }
    expect([...(await rows(test))]).toEqual(models.map(({ now }, index) => ({ id: index + 1, ...now })));
    const values = ({ amount, ...others }: Partial<Values>) => ({
      ...others,
      ...(amount === undefined ? {} : { amount: amount === null ? null : Number(amount) }),
    });
    expect(await kept(test)).toEqual(
      models.flatMap((model, index) => model.kept.map((lost) => ({ id: index + 1, values: values(lost) }))),
    );
  });
});

describe("what is kept of records", () => {
  it("is hashes alone where an entity says so, with the raw codes that differ", async () => {
    await using test = await begin("hashes", 1);
    const [state] = await test.target.admin`
      select seen, "left", seen_hash is not null and left_hash is not null as hashed, raw from public.sync_row_states`;
    expect(state).toEqual({ seen: null, left: null, hashed: true, raw: { type: "1" } });
  });

  it.each([
    ["values", "hashes"],
    ["hashes", "values"],
  ] as const)("moves from %s to %s in the next execution, without writing a row, and edits stay known", async (from, to) => {
    await using test = await begin(from, 3);
    await test.target.admin`update public.operations set card_brand = 'edited' where legacy_operation_id = 2`;
    const before = await test.target.admin`select id, xmin::text from public.operations order by 1`;
    define(test, { ...operations, fields, history: to });
    await test.sync({ entities: ["operations"] });
    expect([...(await test.target.admin`select id, xmin::text from public.operations order by 1`)]).toEqual([...before]);
    const states = await test.target.admin<{ form: string }[]>`
      select distinct case when seen_hash is null then 'values' else 'hashes' end as form from public.sync_row_states`;
    expect(states.map((state) => state.form)).toEqual([to]);
    // The source wins over the edit, and it is kept: so nobody has taken it for what the sync left.
    await test.source.admin`update public.dispatch_operation set card_brand = 'source' where id in (1, 2)`;
    await test.sync({ entities: ["operations"] });
    expect(await kept(test)).toEqual([{ id: 2, values: { card_brand: "edited" } }]);
    await test.sync(full);
    expect(await kept(test)).toHaveLength(1);
  });
});

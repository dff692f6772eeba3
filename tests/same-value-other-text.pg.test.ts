import { describe, expect, it } from "vitest";
import type { Conflicts, Entity } from "../shared/entity/define-entity.ts";
import type { Pipeline } from "./support/pipeline.ts";
import { createStranger, ENTITY } from "./support/stranger.ts";

/** Types of which one value has several texts, each with texts that jsonb calls equal; all of them are what a source may hold. */
const TEXTS = {
  document: {
    type: "json",
    texts: ['{"a":1,"a":2}', '{"a":3,"a":2}', '{"a": 2}', '{ "a":2.0 }'],
  },
  ordered: {
    type: "json",
    texts: ['{"a":1,"b":[1.5]}', '{"b":[1.50],"a":1}', '{"a":1,"b":[1.5],"b":[1.5]}', '{"b":[1.5],"a":1e0}'],
  },
  parsed: { type: "jsonb", texts: ['{"a": 1.5}', '{"a": 1.50}', '{"a": 1.500}', '{"a": 1.5000}'] },
  amount: { type: "numeric", texts: ["1.5", "1.50", "1.500", "1.5000"] },
  domained: { type: "public.amount", texts: ["-0.10", "-0.1", "-0.100", "-0.1000"] },
  double: { type: "double precision", texts: ["0", "-0", "0", "-0"] },
  single: { type: "real", texts: ["-0", "0", "-0", "0"] },
} as const;
const NAMES = Object.keys(TEXTS) as (keyof typeof TEXTS)[];
const only = { entities: [ENTITY] };

async function made(more: Omit<Partial<Entity>, "conflicts"> & { readonly conflicts?: Conflicts } = {}): Promise<Pipeline> {
  const columns = Object.fromEntries(NAMES.map((name) => [name, { type: TEXTS[name].type }]));
  const test = await createStranger(
    { source: "old", target: "fresh", columns, computed: true, modified: "changed_at" },
    more,
    {},
    async ({ source, target }) => {
      for (const { admin } of [source, target]) await admin`create domain public.amount as numeric`;
    },
  );
  await test.target.admin`update public.sync_jobs set enabled = true`;
  return test;
}

/** A record for each type, which alone changes there, and one in which all do. */
async function put(test: Pipeline, at: number): Promise<void> {
  const value = (name: keyof typeof TEXTS, n: number) => `'${TEXTS[name].texts[n] ?? ""}'::${TEXTS[name].type}`;
  const rows = [undefined, ...NAMES].map(
    (changed, n) =>
      `(${n + 1}, ${NAMES.map((name) => value(name, changed === undefined || changed === name ? at : 0)).join(", ")})`,
  );
  await test.source.admin.unsafe(
    `insert into public.old (id, ${NAMES.join(", ")}) values ${rows.join(", ")}
     on conflict (id) do update set ${NAMES.map((name) => `${name} = excluded.${name}`).join(", ")}, changed_at = clock_timestamp()`,
  );
}
const texts = async (test: Pipeline, side: "source" | "target") => [
  ...(await test[side].admin.unsafe(
    `select ${NAMES.map((name) => `${name}::text`).join(", ")} from public.${side === "source" ? "old order by id" : "fresh order by legacy_id"}`,
  )),
];
const expectSame = async (test: Pipeline, what?: string) => {
  expect(await texts(test, "target"), what).toEqual(await texts(test, "source"));
};
const updatedBy = async (test: Pipeline, execution: string) =>
  (
    await test.target.admin<{ n: number }[]>`
      select coalesce(sum(updated), 0)::integer as n from public.sync_page_log where execution_id = ${execution}`
  )[0]?.n;

const CAPTURES = [
  ["auto", {}],
  ["full", { capture: "full" }],
  ["digest", { capture: "digest" }],
  ["modified", { capture: "modified" }],
  ["keys", undefined],
] as const;
const request = (named: object | undefined) =>
  named === undefined ? { legacyIds: { [ENTITY]: [undefined, ...NAMES].map((_, n) => String(n + 1)) } } : { ...only, ...named };

describe("a change of a value's text alone is a change", () => {
  it.each(["values", "hashes"] as const)("lands through every capture, once (%s)", async (history) => {
    await using test = await made({ history });
    await put(test, 0);
    await test.sync(only);
    await expectSame(test);
    let at = 0;
    for (const [name, named] of CAPTURES) {
      at = (at + 1) % 4;
      await put(test, at);
      await test.sync(request(named));
      await expectSame(test, name);
    }
    for (const capture of ["full", "digest"] as const) {
      const { execution } = await test.sync({ ...only, capture });
      expect(await updatedBy(test, execution), capture).toBe(0);
    }
  });

  it("is foretold by a plan", async () => {
    await using test = await made();
    await put(test, 0);
    await test.sync(only);
    await put(test, 1);
    const { execution } = await test.sync({ ...only, dryRun: true });
    const [plan] = await test.target.admin<{ n: number }[]>`
      select sum((e -> 'counts' ->> 'updated')::integer)::integer as n from public.sync_reports r, jsonb_array_elements(r.body -> 'entities') e
       where r.execution_id = ${execution} and r.kind = 'plan'`;
    expect(plan).toEqual({ n: NAMES.length + 1 });
    const ran = await test.sync(only);
    expect(await updatedBy(test, ran.execution)).toBe(NAMES.length + 1);
    await expectSame(test);
  });

  it("lands beside a change of another field, and leaves what people have edited", async () => {
    await using test = await made({ conflicts: { strategy: "target_wins" } });
    await put(test, 0);
    await test.sync(only);
    await test.target.admin`update public.fresh set document = '{"mine": 1}', amount = 7 where legacy_id = 1`;
    await put(test, 1);
    await test.source.admin`update public.old set amount = 9.00 where id = 2`;
    await test.sync(only);
    const [mine] = await test.target
      .admin`select document::text, amount::text, double::text from public.fresh where legacy_id = 1`;
    expect(mine).toEqual({ document: '{"mine": 1}', amount: "7", double: "-0" });
    const rest = async (side: "source" | "target") => (await texts(test, side)).slice(1);
    expect(await rest("target")).toEqual(await rest("source"));
  });

  it("is taken back where edits are to be overwritten, and only there", async () => {
    await using test = await made();
    await put(test, 0);
    await test.sync(only);
    const edits = NAMES.map((name) => `${name} = '${TEXTS[name].texts[3]}'`).filter((edit) => !/^document|^single/.test(edit));
    await test.target.admin.unsafe(`update public.fresh set ${edits.join(", ")}`);
    const edited = await texts(test, "target");
    const plain = await test.sync({ ...only, capture: "full" });
    expect(await updatedBy(test, plain.execution)).toBe(0);
    expect(await texts(test, "target")).toEqual(edited);
    const taken = await test.sync({ ...only, capture: "full", overwriteEdits: true });
    expect(await updatedBy(test, taken.execution)).toBe(NAMES.length + 1);
    await expectSame(test);
  });

  it("is written as the source has it by the execution that follows a decision", async () => {
    await using test = await made({ conflicts: { strategy: "manual_review", deleted: "manual_review" } });
    await put(test, 0);
    await test.sync(only);
    await test.source.admin`update public.old set document = '{"z":1,"z":2,"a":1.50}', single = '0', amount = 3.30`;
    await test.target.admin`update public.fresh set document = '{"mine": 1}', amount = 7`;
    await test.target.admin`delete from public.fresh where legacy_id = 2`;
    await test.sync(only);
    await test.sync({ ...only, capture: "digest" });
    await test.target.admin.begin(async (tx) => {
      await tx.unsafe("set local role postgres");
      await tx`update public.sync_conflicts set resolution_strategy = 'source_wins' where state = 'open'`;
    });
    await test.sync(only);
    await expectSame(test);
    const { execution } = await test.sync({ ...only, capture: "digest" });
    expect(await updatedBy(test, execution)).toBe(0);
  });

  it("is written as the source has it by the execution that follows a decision, while another question is open", async () => {
    await using test = await made({ conflicts: { strategy: "manual_review", fields: { document: "target_wins" } } });
    await put(test, 0);
    await test.sync(only);
    await test.source.admin`update public.old set document = '{"z":1,"z":2,"a":1.50}', amount = 3.30 where id = 1`;
    await test.target.admin`update public.fresh set document = '{"mine": 1}', amount = 7 where legacy_id = 1`;
    await test.sync(only);
    await test.sync({ ...only, capture: "full" });
    await test.target.admin.begin(async (tx) => {
      await tx.unsafe("set local role postgres");
      await tx`update public.sync_conflicts set resolution_strategy = 'source_wins' where field = 'document'`;
    });
    await test.sync(only);
    expect(await test.target.admin`select document::text, amount::text from public.fresh where legacy_id = 1`).toEqual([
      { document: '{"z":1,"z":2,"a":1.50}', amount: "7" },
    ]);
    expect(await test.target.admin`select field from public.sync_conflicts where state = 'open'`).toEqual([{ field: "amount" }]);
  });
});

const REWRITES: Readonly<Record<keyof typeof TEXTS, string>> = {
  document: "document::jsonb::json",
  ordered: "ordered::jsonb::json",
  parsed: `replace(parsed::text, '1.5', '1.500')::jsonb`,
  amount: "trim_scale(amount)",
  domained: "trim_scale(domained)",
  double: "double + 0",
  single: "single + 0",
};

describe("DDL of the target that changes texts alone", () => {
  const rewrite = (test: Pipeline) =>
    test.target.admin.unsafe(
      `alter table public.fresh ${NAMES.map((name) => `alter column ${name} type ${TEXTS[name].type} using ${REWRITES[name]}`).join(", ")}`,
    );
  const made3 = async (history: "values" | "hashes") => {
    const test = await made({ history });
    // In the last record of each type a text that the rewrite changes.
    for (const at of [0, 1]) {
      await put(test, at);
      await test.sync(only);
    }
    await expectSame(test);
    return test;
  };

  it.each(CAPTURES.flatMap(([name, named]) => (["values", "hashes"] as const).map((history) => [name, history, named] as const)))(
    "is taken back by the next run: %s (%s)",
    async (_, history, named) => {
      await using test = await made3(history);
      await rewrite(test);
      expect(await texts(test, "target")).not.toEqual(await texts(test, "source"));
      const { execution } = await test.sync(request(named));
      await expectSame(test);
      expect(await updatedBy(test, execution)).toBeGreaterThan(0);
      for (const capture of ["auto", "full", "digest"] as const) {
        const later = await test.sync({ ...only, capture });
        expect(await updatedBy(test, later.execution), capture).toBe(0);
      }
      expect((await test.target.admin`select from public.sync_warnings`).length).toBe(0);
      expect(await test.live(ENTITY)).toEqual([]);
    },
  );

  it("is foretold by a plan, and named in the report of a digest, beside values that people have edited", async () => {
    await using test = await made3("values");
    await test.target.admin`update public.fresh set amount = 7 where legacy_id = 1`;
    await rewrite(test);
    const plan = await test.sync({ ...only, dryRun: true });
    const [counts] = await test.target.admin<{ n: number }[]>`
      select sum((e -> 'counts' ->> 'updated')::integer)::integer as n from public.sync_reports r, jsonb_array_elements(r.body -> 'entities') e
       where r.execution_id = ${plan.execution} and r.kind = 'plan'`;
    const { execution } = await test.sync(only);
    expect(counts?.n).toBe(await updatedBy(test, execution));
    const [report] = await test.target.admin`
      select body #> '{edited,legacy_ids}' as edited, (body #>> '{rewritten,count}')::integer as rewritten
        from public.sync_reports where execution_id = ${execution} and kind like 'digest:%'`;
    expect(report).toEqual({ edited: ["1"], rewritten: NAMES.length });
    const [mine] = await test.target.admin`select amount::text from public.fresh where legacy_id = 1`;
    expect(mine).toEqual({ amount: "7" });
  });

  it("is none where a file is written anew: no row is written", async () => {
    await using test = await made3("values");
    const held = async () => [...(await test.target.admin`select legacy_id::text, xmin::text from public.fresh order by 1`)];
    const before = await held();
    await test.target.admin.unsafe("vacuum full public.fresh");
    await test.sync({ ...only, capture: "digest" });
    expect(await held()).toEqual(before);
  });
});

describe("another definition that changes texts alone", () => {
  it("is written into rows whose source nobody has changed", async () => {
    await using test = await made();
    await put(test, 0);
    await test.sync(only);
    const entity = [...test.context.entities.values()][0];
    const amount = entity?.fields["amount"];
    if (!entity || !amount) throw new Error("no entity");
    const longer: typeof amount = {
      ...amount,
      decide: (row, landedAs) => {
        const decision = amount.decide(row, landedAs);
        return "value" in decision && decision.value !== null ? { ...decision, value: `${decision.value}0` } : decision;
      },
    };
    (test.context.entities as Map<string, Entity>).set(ENTITY, { ...entity, fields: { ...entity.fields, amount: longer } });
    (test.context.hashes as Map<string, string>).set(ENTITY, "another");
    await test.sync(only);
    expect([...(await test.target.admin`select distinct amount::text from public.fresh order by 1`)]).toEqual([
      { amount: "1.50" },
    ]);
    expect((await test.target.admin`select from public.sync_warnings`).length).toBe(0);
    expect((await test.sync(only)).chains).toEqual([]);
  });
});

describe("a change of text that the target's type does not keep is none", () => {
  it("rewrites no row", async () => {
    const columns = {
      parsed: { type: "jsonb", sourceType: "text" },
      amount: { type: "numeric(9,2)", sourceType: "numeric" },
      moment: { type: "timestamptz", sourceType: "text" },
      short: { type: "varchar(5)", sourceType: "text" },
      padded: { type: "char(4)", sourceType: "char(6)" },
      floated: { type: "double precision", sourceType: "numeric" },
    };
    await using test = await createStranger({ source: "old", target: "fresh", columns, computed: true });
    await test.source.admin`insert into public.old (id, parsed, amount, moment, short, padded, floated)
      values (1, '{"a":1,"b":2}', 1.5, '2026-01-02 03:04:05+02', 'ab', 'ab', 1.5)`;
    await test.sync();
    const held = () => test.target.admin`select xmin::text, legacy_id from public.fresh`;
    const before = [...(await held())];
    expect(before).toHaveLength(1);
    await test.source
      .admin`update public.old set parsed = '{"b": 2, "a": 1}', amount = 1.500, moment = '2026-01-02 01:04:05Z', floated = 1.50`;
    for (const capture of ["auto", "full", "digest"] as const) {
      const { execution } = await test.sync({ ...only, capture });
      expect(await updatedBy(test, execution)).toBe(0);
    }
    expect([...(await held())]).toEqual(before);
  });
});

describe("a trigger of the target that minds only values", () => {
  const skipsEqual = `
    create function public.skip_equal() returns trigger language plpgsql as $$ begin return null; end $$;
    create trigger skip_equal before update on public.fresh for each row when (old.* is not distinct from new.*) execute function public.skip_equal()`;

  it("and skips a write of equal ones cancels nothing: no record is in the queue", async () => {
    await using test = await createStranger({ source: "old", target: "fresh", columns: { amount: { type: "numeric" } } });
    await test.source.admin`insert into public.old (id, amount) select n, 1.5 from generate_series(1, 3) n`;
    await test.sync(only);
    await test.target.admin.unsafe(skipsEqual);
    await test.source.admin`update public.old set amount = 1.50`;
    await test.sync({ ...only, capture: "full" });
    expect(await test.live(ENTITY)).toEqual([]);
    await test.source.admin`update public.old set amount = 2`;
    await test.sync(only);
    expect([...(await test.target.admin`select distinct amount::text from public.fresh`)]).toEqual([{ amount: "2" }]);
  });

  it("and rounds a number that the write is not about leaves its value: nothing is refused", async () => {
    await using test = await createStranger({
      source: "old",
      target: "fresh",
      columns: { amount: { type: "numeric" }, name: { type: "text" } },
    });
    await test.source.admin`insert into public.old (id, amount, name) values (1, 1.5, 'a')`;
    await test.sync(only);
    await test.target.admin.unsafe(`
      create function public.round_amount() returns trigger language plpgsql as $$ begin new.amount := round(new.amount, 2); return new; end $$;
      create trigger round_amount before update on public.fresh for each row execute function public.round_amount()`);
    await test.source.admin`update public.old set name = 'b'`;
    await test.sync(only);
    expect(await test.live(ENTITY)).toEqual([]);
    expect([...(await test.target.admin`select name from public.fresh`)]).toEqual([{ name: "b" }]);
  });
});

import { describe, expect, it } from "vitest";
import { IsthmusError } from "../shared/errors.ts";
import { workerGrants } from "../shared/operate/grants.ts";
import type { Finding } from "../shared/contract/finding.ts";
import type { SelectionRequest } from "../shared/plan/plan-selection.ts";
import { SOURCE_DDL, TARGET_DDL, type DdlCase } from "./support/ddl-cases.ts";
import type { Pipeline } from "./support/pipeline.ts";
import { createStrangers, entityOf, type Stranger } from "./support/stranger.ts";

const CAPTURES = ["auto", "full", "xmin", "digest", "modified", "ids"] as const;
type Capture = (typeof CAPTURES)[number];

/** One entity for each way to look for changes, called like it. */
const strangerOf = (capture: Capture, { columns = {} }: DdlCase): Stranger => ({
  name: capture,
  source: `of_${capture}`,
  target: `to_${capture}`,
  computed: true,
  columns: {
    name: { type: "text" },
    kind: { type: "mood", sourceType: "mood" },
    amount: { type: columns.amount?.type ?? "numeric(10,2)" },
    label: { type: columns.label?.type ?? "text" },
    stamp: { type: "timestamptz" },
  },
});
const KEYS = [1, 2, 3, 4, 5, 6, 200, 201, 202, 203];
const requestOf = (capture: Capture): Partial<SelectionRequest> =>
  capture === "ids" ? { legacyIds: { ids: KEYS.map(String) } } : { entities: [capture], capture };

async function landed(side: "source" | "target", one: DdlCase): Promise<Pipeline> {
  const { base, columns = {} } = one;
  const { amount = { type: "numeric", value: "g + 0.25" }, label = { type: "text", value: one.label ?? "'l' || g" } } = columns;
  const strangers = CAPTURES.map((capture) => strangerOf(capture, one));
  const test = await createStrangers(strangers, {}, {}, async ({ source, target }) => {
    for (const { admin } of [source, target]) await admin.unsafe("create type public.mood as enum ('a', 'b')");
  });
  const entities = strangers.map((stranger) => {
    const entity = entityOf(stranger);
    return { ...entity, source: { ...entity.source, modified: "stamp" as never } };
  });
  const context = { ...test.context, entities: new Map(entities.map((entity) => [entity.name, entity])) };
  Object.assign(test.context, context);
  await test.target.admin`
    insert into public.sync_jobs (name, schedule_type, cron_expression, configuration) values ('nightly', 'daily', '0 3 * * *', '{"capture": "digest"}')`;
  for (const capture of CAPTURES) {
    for (const statement of base?.(tableOf(side, capture)) ?? []) await test[side].admin.unsafe(statement);
    const generated = await test.source
      .admin`select from pg_attribute where attrelid = ${`of_${capture}`}::regclass and attgenerated <> ''`;
    await test.source.admin.unsafe(
      `insert into public.of_${capture} (id, name, kind, amount, stamp${generated.length > 0 ? "" : ", label"})
       select g, 'n' || g, case when g % 2 = 0 then 'a' else 'b' end::text::${await typeOf(test, capture, "kind")}, (${amount.value})::${amount.type}, '2026-01-01'${generated.length > 0 ? "" : `, (${label.value})::${label.type}::${await typeOf(test, capture, "label")}`}
         from generate_series(1, 6) g`,
    );
  }
  await grant(test);
  await test.sync();
  for (const capture of CAPTURES)
    await test.target.admin.unsafe(`update public.to_${capture} set name = 'edited' where legacy_id = 2`);
  return test;
}

const tableOf = (side: "source" | "target", capture: Capture) => (side === "source" ? `of_${capture}` : `to_${capture}`);
const typeOf = async (test: Pipeline, capture: Capture, column: "kind" | "label") => {
  const [row] = await test.source.admin<{ type: string }[]>`
    select format_type(atttypid, -1) as type from pg_attribute where attrelid = ${`of_${capture}`}::regclass and attname = ${column}`;
  return row?.type ?? "";
};

/** Rights as the owner gives them; of what is left of the columns. */
async function grant(test: Pipeline): Promise<void> {
  for (const capture of CAPTURES) {
    await test.source.admin.unsafe(`grant select on public.of_${capture} to isthmus_reader`);
    const entity = test.context.entities.get(capture);
    await test.target.admin.unsafe(`alter table public.to_${capture} owner to postgres`);
    if (entity) await test.target.admin.unsafe(workerGrants([entity])).catch(() => undefined);
  }
}

async function change(test: Pipeline, side: "source" | "target", { ddl }: DdlCase): Promise<string | undefined> {
  const place = `elsewhere_${test[side].name}`;
  const one = await test[side].admin.reserve();
  const statements = CAPTURES.flatMap((capture) => ddl(tableOf(side, capture)));
  const moves = statements.some((statement) => statement.includes("elsewhere"));
  if (moves) {
    await one`set allow_in_place_tablespaces = on`;
    await one.unsafe(`create tablespace ${place} location ''`);
  }
  for (const statement of statements) await one.unsafe(statement.replace("tablespace elsewhere", `tablespace ${place}`));
  one.release();
  await grant(test);
  return moves ? place : undefined;
}

/** Legacy ids of which the sides do not say the same, but for what a person has changed. */
async function differing(test: Pipeline, capture: Capture, { columns }: DdlCase): Promise<number[]> {
  const amount = columns?.amount ? "amount::text" : "trim_scale(amount::numeric)";
  const read = async (side: "source" | "target", key: string) => {
    const rows = await test[side].admin.unsafe<{ id: number; row: string }[]>(
      `select ${key}::integer as id, concat_ws('|', case when ${key} = 2 then '' else name end, kind, ${amount}, label, extract(epoch from stamp)) as row
         from public.${tableOf(side, capture)}`,
    );
    return new Map(rows.map(({ id, row }) => [id, row]));
  };
  const [there, here] = [await read("source", "id"), await read("target", "legacy_id")];
  return [...new Set([...there.keys(), ...here.keys()])].filter((id) => there.get(id) !== here.get(id)).sort((a, b) => a - b);
}

interface Ended {
  readonly refused: boolean;
  /** What refuses it. */
  readonly refusals?: readonly Finding[];
  readonly told: boolean;
  /** Records that differ, and of which nothing says so. */
  readonly silent: readonly number[];
}

/** Runs one capture, and says what of its entity's difference nobody was told. */
async function run(test: Pipeline, capture: Capture, one: DdlCase, request: Partial<SelectionRequest>): Promise<Ended> {
  let begun: Awaited<ReturnType<Pipeline["start"]>>;
  try {
    begun = await test.start(request);
  } catch (error) {
    if (!(error instanceof IsthmusError) || error.code !== "CONTRACT_BROKEN") throw error;
    return { refused: true, refusals: error.detail["findings"] as Finding[], told: false, silent: [] };
  }
  await test.drain();
  const told = begun.warnings.some(({ code, entity }) => code.endsWith("_reshaped") && entity === capture);
  const [report] = await test.target.admin<{ edited: string[] | null; unmapped: string[] | null }[]>`
    select body #> '{edited,legacy_ids}' as edited, body #> '{unmapped,legacy_ids}' as unmapped
      from public.sync_reports where execution_id = ${begun.execution} and kind = ${`digest:${capture}`}`;
  const alerted = await test.target.admin`
    select from public.sync_alerts a join public.sync_entities e on e.id = a.entity_id
     where a.kind = 'unmapped_rows' and a.closed_at is null and e.entity_type = ${capture}`;
  const queue = (await test.live(capture)).map(({ id }) => id);
  const reported = [...(told ? (report?.edited ?? []) : []), ...(alerted.length > 0 ? (report?.unmapped ?? []) : [])];
  const named = new Set([...queue, ...reported.map(Number)]);
  return { refused: false, told, silent: (await differing(test, capture, one)).filter((id) => !named.has(id)) };
}

describe.each([
  ["source", SOURCE_DDL],
  ["target", TARGET_DDL],
] as const)("DDL on the %s", (side, cases) => {
  it.each(cases)("$name: $ends, by every capture", async (one) => {
    await using test = await landed(side, one);
    const place = await change(test, side, one);
    const ends: Record<string, Ended> = {};
    for (const capture of CAPTURES) {
      let ended = await run(test, capture, one, requestOf(capture));
      // A selection reads what it is asked for, and says that the rest is still to be compared.
      if (capture === "ids" && ended.told)
        ended = { ...ended, silent: (await run(test, capture, one, { entities: [capture] })).silent };
      ends[capture] = ended;
    }
    const told = one.told ?? (one.ends === "found" ? true : undefined);
    for (const capture of CAPTURES) {
      const refused =
        one.finding === undefined
          ? { refused: false }
          : {
              refused: true,
              told: false,
              refusals: [{ entity: capture, code: `${side}_${one.finding.code}`, column: one.finding.column }],
            };
      const expected = { capture, silent: [], ...(told === undefined ? {} : { told }), ...refused };
      expect({ capture, ...ends[capture] }).toMatchObject(expected);
    }
    if (one.columns !== undefined) {
      // Texts are the source's again: nothing of them is told instead.
      for (const capture of CAPTURES) expect(await differing(test, capture, one), capture).toEqual([]);
    }
    if (one.ends === "same") {
      for (const capture of CAPTURES) {
        expect(await differing(test, capture, one)).toEqual([]);
        expect(await test.target.admin.unsafe(`select name from public.to_${capture} where legacy_id = 2`)).toEqual([
          { name: "edited" },
        ]);
        expect(await test.live(capture)).toEqual([]);
      }
    }
    if (one.finding === undefined) {
      // Compared once: the next run has nothing to do with it.
      for (const capture of CAPTURES) expect((await run(test, capture, one, { entities: [capture] })).told).toBe(false);
    }
    if (place !== undefined) {
      for (const capture of CAPTURES) await test[side].admin.unsafe(`drop table public.${tableOf(side, capture)} cascade`);
      await test[side].admin.unsafe(`drop tablespace ${place}`);
    }
  });
});

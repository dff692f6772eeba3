import fc from "fast-check";
import postgres, { type TransactionSql } from "postgres";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createTestTarget, ownerUrl, type TestDatabase } from "./support/databases.ts";
import { anyJson, SEED } from "./support/hostile.ts";

/** What a reviewer may write into resolution_data, over columns of each kind that a target could have. */
const MARK = "nobody's business";
const LATE_MS = 2_000;

/** JSON and what the column then shows; and JSON that the column could not show as it is. */
interface Kind {
  readonly type: string;
  readonly takes: readonly (readonly [json: string, shows: string])[];
  readonly refuses: readonly string[];
}
const LONG = JSON.stringify(MARK.repeat(200));
const KINDS: Readonly<Record<string, Kind>> = {
  name: {
    type: "text",
    takes: [
      ['"a"', '"a"'],
      ['""', '""'],
      ["7", '"7"'],
      ["null", "null"],
      [LONG, LONG],
    ],
    refuses: ['{"a": 1}', "[]"],
  },
  code: {
    type: "char(3)",
    takes: [
      ['"CH"', '"CH "'],
      ['"CHF"', '"CHF"'],
    ],
    refuses: ['"CHFX"', `"${MARK}"`, "[1]"],
  },
  label: {
    type: "varchar(5)",
    takes: [
      ['"12345"', '"12345"'],
      ["12345", '"12345"'],
    ],
    refuses: ['"123456"', '"12345 "', "123456"],
  },
  amount: {
    type: "numeric(6,2)",
    takes: [
      ["1.50", "1.50"],
      ["-9999.99", "-9999.99"],
      ["1e2", "100.00"],
      ["0", "0.00"],
    ],
    refuses: ["1.505", "10000", "1e400", '"NaN"', '"1.5"', `"${MARK}"`, "true", "{}"],
  },
  whole: {
    type: "integer",
    takes: [
      ["7", "7"],
      ["2147483647", "2147483647"],
      ["1e3", "1000"],
    ],
    refuses: ["1.5", "2147483648", `"${MARK}"`, "[7]"],
  },
  large: {
    type: "bigint",
    takes: [
      ["9007199254740993", "9007199254740993"],
      ["-9223372036854775808", "-9223372036854775808"],
    ],
    refuses: ["9223372036854775808", "0.1", "false"],
  },
  near: {
    type: "real",
    takes: [
      ["0.5", "0.5"],
      ["1.25e10", "12500000000"],
    ],
    refuses: ["0.1234567891", "16777217", "1e39", "1e-60"],
  },
  at: {
    type: "timestamptz(0)",
    takes: [['"2026-01-31T08:00:00+02:00"', '"2026-01-31T06:00:00+00:00"']],
    refuses: ['"2026-01-31T08:00:00.6Z"', '"2026-02-30"', '"999999-01-01"', `"${MARK}"`, "5"],
  },
  day: {
    type: "date",
    takes: [
      ['"2026-01-31"', '"2026-01-31"'],
      ['"2026-01-31T00:00:00"', '"2026-01-31"'],
    ],
    refuses: ['"2026-01-31T08:00:00Z"', '"2026-01-31T00:00:00Z"', '"2026-13-01"', '"5874898-01-01"', "20260131.5"],
  },
  hour: { type: "time", takes: [['"08:30"', '"08:30:00"']], refuses: ['"08:30+02"', '"2026-01-31T08:30:00"', '"24:30"'] },
  plain: {
    type: "timestamp",
    takes: [['"2026-01-31T08:00:00"', '"2026-01-31T08:00:00"']],
    refuses: ['"2026-01-31T08:00:00+02:00"', '"0000-01-01"'],
  },
  span: { type: "interval(0)", takes: [['"PT1H"', '"PT1H"']], refuses: ['"PT0.6S"', `"${MARK}"`] },
  bits: { type: "bit(3)", takes: [['"101"', '"101"']], refuses: ['"10"', '"1011"', '"102"'] },
  extra: {
    type: "jsonb",
    takes: [
      ['{"a": [1, 1.50]}', '{"a": [1, 1.50]}'],
      ["[]", "[]"],
      ['"x"', '"x"'],
      ['"null"', "null"],
      [`"'null"`, '"null"'],
      [`${"[".repeat(500)}${"]".repeat(500)}`, `${"[".repeat(500)}${"]".repeat(500)}`],
    ],
    refuses: [],
  },
  tags: {
    type: "varchar(3)[]",
    takes: [
      ['["abc", null]', '["abc", null]'],
      ["[]", "[]"],
    ],
    refuses: ['["abcd"]', '"abc"', '{"a": "b"}', "[[1], 2]"],
  },
  flag: {
    type: "boolean",
    takes: [
      ["true", "true"],
      ['"no"', "false"],
    ],
    refuses: ["2", `"${MARK}"`, "{}"],
  },
  ref: {
    type: "uuid",
    takes: [['"A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11"', '"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"']],
    refuses: ['"a0eebc99"', "1"],
  },
  mood: { type: "public.mood", takes: [['"glad"', '"glad"']], refuses: ['"Glad"', `"${MARK}"`, "1"] },
};
const COLUMNS = Object.keys(KINDS);

let target: TestDatabase;
beforeAll(async () => {
  target = await createTestTarget();
  const owner = postgres(ownerUrl(target), { max: 1, onnotice: () => undefined });
  await owner.unsafe(`
    create type public.mood as enum ('glad', 'sad');
    create table public.oddities (id uuid primary key default gen_random_uuid(), legacy_id bigint unique, untouched text default 'mine',
      ${COLUMNS.map((name) => `${name} ${KINDS[name]?.type ?? ""}`).join(", ")});
    select sync.release_entity('oddities', 'oddities', array['legacy_id', '${COLUMNS.join("', '")}'], true);
    insert into public.sync_sources (name) values ('legacy');
    insert into public.sync_entities (source_id, entity_type, source_table, target_table, legacy_key, columns, definition_hash, adoption_epoch)
    select min(id), 'oddities', 'x', 'oddities', 'legacy_id', '${JSON.stringify(["legacy_id", ...COLUMNS].map((name) => ({ name, type: "text" })))}', 'h', 1 from public.sync_sources;
    insert into public.oddities (legacy_id) values (1), (2);
    insert into public.sync_row_states (entity_id, legacy_id, seen, "left") select e.id, legacy_id, '{}', '{}' from public.oddities, public.sync_entities e;
  `).simple(); // prettier-ignore
  await owner.end();
});
afterAll(() => target[Symbol.asyncDispose]());

interface Outcome {
  readonly refused: { code: string; said: string } | null;
  /** The row of the record as JSON text by column, after the decision. */
  readonly shows: Readonly<Record<string, string>>;
  readonly other: Outcome["shows"];
  readonly took: number;
}

/** A reviewer merges a conflict about these fields; nothing of it stays. */
async function merge(fields: readonly string[], resolution: string): Promise<Outcome> {
  let outcome: Outcome | undefined;
  const decide = async (tx: TransactionSql) => {
    const empty = JSON.stringify(Object.fromEntries(fields.map((name) => [name, null])));
    await tx.unsafe(
      `with conflict as (
         insert into public.sync_conflicts (state, entity_type, source_record_id, conflict_type, field, remedy, rule, source_table, target_table, entity_id, target_record_id)
         select 'open', 'oddities', 1, 'concurrent_modification', $1, '', 'both_changed', 'x', 'oddities', e.id, o.id
           from public.oddities o, public.sync_entities e where o.legacy_id = 1 returning id)
       insert into public.sync_conflict_values (conflict_id, seen, source, target, "left")
       select id, $2::text::jsonb, $2::text::jsonb, $2::text::jsonb, $2::text::jsonb from conflict`,
      [fields.join(", "), empty],
    );
    await tx`set local session_replication_role = replica`;
    await tx`update public.sync_row_states set seen = ${empty}::text::jsonb where legacy_id = 1`;
    await tx`set local session_replication_role = origin`;
    const claims = { sub: "1", role: "authenticated", app_metadata: { isthmus_role: "reviewer" } };
    await tx`select set_config('request.jwt.claims', ${JSON.stringify(claims)}, true)`;
    await tx.unsafe("set local role authenticated");
    const began = Date.now();
    const refused = await tx
      .savepoint((inner) =>
        inner.unsafe(
          "update public.sync_conflicts set resolution_strategy = 'merge', resolution_data = $1::text::jsonb where state = 'open'",
          [resolution],
        ),
      )
      .then(
        () => null,
        (error: unknown) => {
          const { code, message, detail, hint } = error as { code: string; message: string; detail?: string; hint?: string };
          return { code, said: `${message} ${detail ?? ""} ${hint ?? ""}` };
        },
      );
    const took = Date.now() - began;
    await tx.unsafe("reset role; set local timezone = 'UTC'; set local intervalstyle = 'iso_8601'").simple();
    const rows = await tx<{ id: string; shows: Outcome["shows"] }[]>`
      select o.legacy_id as id, jsonb_object_agg(e.key, e.value::text) as shows from public.oddities o, jsonb_each(to_jsonb(o)) e
       where e.key <> 'id' group by 1 order by 1`;
    outcome = { refused, shows: rows[0]?.shows ?? {}, other: rows[1]?.shows ?? {}, took };
    throw new Error(UNDONE);
  };
  await target.admin.begin(decide).catch((error: unknown) => {
    if ((error as Error).message !== UNDONE) throw error;
  });
  if (!outcome) throw new Error("no outcome");
  return outcome;
}
const UNDONE = "nothing of it stays";
const NOTHING = Object.fromEntries(COLUMNS.map((name) => [name, "null"]));

/** What holds whatever becomes of a merge. */
function expectSafe({ refused, shows, other, took }: Outcome, fields: readonly string[]): void {
  expect(took).toBeLessThan(LATE_MS);
  expect(other).toEqual({ ...NOTHING, legacy_id: "2", untouched: '"mine"' });
  const beyond = Object.fromEntries(Object.entries(shows).filter(([name]) => !fields.includes(name)));
  const left = Object.fromEntries(Object.entries(NOTHING).filter(([name]) => !fields.includes(name)));
  expect(beyond).toEqual({ ...left, legacy_id: "1", untouched: '"mine"' });
  if (!refused) return;
  // What is no JSON to the database does not come as far as a decision.
  expect(refused.code, refused.said).toMatch(/^(IS022|22P0[25]|22030|22003|54001)$/);
  expect(refused.said.length).toBeLessThan(2_000);
  expect(refused.said).not.toContain(MARK);
  expect(shows).toEqual({ ...NOTHING, legacy_id: "1", untouched: '"mine"' });
}

describe("a person's merge", { timeout: 200_000 }, () => {
  const cases = COLUMNS.flatMap((name) => [
    ...(KINDS[name]?.takes ?? []).map(([json, shows]) => ({ name, json, shows })),
    ...(KINDS[name]?.refuses ?? []).map((json) => ({ name, json, shows: null })),
  ]);
  it("shows in each kind of column what it says, or is refused: nothing is cut, rounded or moved to another zone", async () => {
    for (const { name, json, shows } of cases) {
      const outcome = await merge([name], `{"${name}": ${json}}`);
      expectSafe(outcome, [name]);
      const title = `${KINDS[name]?.type ?? ""} ${json.slice(0, 60)}`;
      if (shows === null) expect(outcome.refused?.code, title).toBe("IS022");
      else expect([outcome.refused?.said, outcome.shows[name]], title).toEqual([undefined, shows]);
    }
  });

  it("1,000 of them: each is carried out as it says or refused with a reason, without a value, and touches nothing else", async () => {
    const value = (name: string) =>
      fc.oneof(
        { weight: 6, arbitrary: fc.constantFrom(...(KINDS[name]?.takes ?? [])).map(([json, shows]) => ({ name, json, shows })) },
        { weight: 1, arbitrary: anyJson.map((json) => ({ name, json, shows: undefined })) },
      );
    const entries = fc
      .uniqueArray(fc.constantFrom(...COLUMNS), { minLength: 1, maxLength: 4 })
      .chain((names) => fc.tuple(...names.map(value)));
    const more = fc.oneof(
      { weight: 8, arbitrary: fc.constant("") },
      {
        weight: 1,
        arbitrary: fc
          .constantFrom("id", "legacy_id", "untouched", "__proto__", "x".repeat(5_000), 'name" = null --', ...COLUMNS)
          .map((name) => `,${JSON.stringify(name)}: ${JSON.stringify(MARK)}`),
      },
    );
    const lacking = fc.oneof({ weight: 8, arbitrary: fc.constant(0) }, { weight: 1, arbitrary: fc.constant(1) });
    const whole = fc.oneof({ weight: 12, arbitrary: fc.constant(null) }, { weight: 1, arbitrary: anyJson });
    let carriedOut = 0;
    await fc.assert(
      fc.asyncProperty(entries, more, lacking, whole, async (given, added, less, instead) => {
        const fields = given.map(({ name }) => name);
        const said = given.slice(less).map(({ name, json }) => `"${name}": ${json}`);
        const outcome = await merge(fields, instead ?? `{${said.join(", ")}${said.length > 0 ? added : ""}}`);
        expectSafe(outcome, fields);
        const right = instead === null && less === 0 && added === "" && given.every(({ shows }) => shows !== undefined);
        if (right) expect(outcome.refused?.said).toBeUndefined();
        if (instead === null && less === 1) expect(outcome.refused).not.toBeNull();
        if (outcome.refused) return;
        carriedOut += 1;
        for (const { name, shows } of given) if (shows !== undefined && added === "") expect(outcome.shows[name]).toBe(shows);
      }),
      { seed: SEED, numRuns: 1_000 },
    );
    expect(carriedOut).toBeGreaterThan(200);
  });
});

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { SourceRow } from "../shared/entity/define-entity.ts";
import { createBuilders } from "../shared/entity/fields.ts";
import type { IsthmusError } from "../shared/errors.ts";
import { createStranger, ENTITY, entityOf, type Stranger } from "./support/stranger.ts";

/** Target type → source type, values that it holds exactly, and values that it would cut, round or otherwise alter. */
const TYPES: readonly { type: string; from: string; holds: readonly string[]; alters: readonly string[] }[] = [
  { type: "char(2)", from: "text", holds: ["CH", "C", ""], alters: ["CHF", "C ", "CH  ", " "] },
  { type: "char(10)", from: "char(12)", holds: ["8001", "8001  ", "0123456789"], alters: ["01234567891"] },
  { type: "char(12)", from: "char(12)", holds: ["8001", "8001        ", "012345678901", ""], alters: [] },
  { type: "char(3)[]", from: "char(3)[]", holds: ['{"ab ",abc,NULL,""}'], alters: [] },
  { type: "char(3)[]", from: "text[]", holds: ["{ab,abc}"], alters: ["{abcd}", '{"ab   "}', '{"ab "}'] },
  { type: "char(3)[]", from: "text", holds: ["{ab,abc}"], alters: ["{abcd}", '{"ab "}'] },
  { type: "char(4)[]", from: "char(6)[]", holds: ['{"ab ",abcd,NULL,""}', "[2:3]={a,b}", "{{a,b},{c,d}}"], alters: ["{abcde}"] },
  { type: '"char"', from: "text", holds: ["x"], alters: ["xy"] },
  { type: "varchar(3)", from: "text", holds: ["abc", "äöü", ""], alters: ["abcd", "ab  "] },
  { type: "name", from: "text", holds: ["a".repeat(63)], alters: ["a".repeat(64), `${"a".repeat(62)}ä`] },
  { type: "bit(3)", from: "text", holds: ["101"], alters: ["1011", "10"] },
  { type: "bit varying(3)", from: "text", holds: ["101", "1", ""], alters: ["1011"] },
  { type: "bit varying(8)", from: "text", holds: ["0101"], alters: ["x1", "X1", "b101"] },
  { type: "bytea", from: "text", holds: ["\\x6162", "\\x"], alters: ["plain", "a\\134b", "\\x61 62", ""] },
  { type: "int4range", from: "text", holds: ["[5,5]", "empty", "[1,)"], alters: ["[5,5)", "(5,5]", "(5,6)"] },
  { type: "nummultirange", from: "text", holds: ["{[5,5]}", "{}"], alters: ["{[5,5)}"] },
  { type: "numeric(5,2)", from: "numeric", holds: ["1.5", "999.99", "-0.10", "NaN"], alters: ["1.005", "1000"] },
  { type: "numeric(3,-2)", from: "numeric", holds: ["1200"], alters: ["1234"] },
  { type: "smallint", from: "numeric", holds: ["3"], alters: ["3.5", "40000"] },
  { type: "real", from: "double precision", holds: ["0.5", "1e10"], alters: ["0.1234567891", "1e300"] },
  { type: "timestamptz(0)", from: "timestamptz", holds: ["2026-01-02 03:04:05+00"], alters: ["2026-01-02 03:04:05.6+00"] },
  {
    type: "timestamp(3)",
    from: "timestamp",
    holds: ["2026-01-02 03:04:05.123", "infinity"],
    alters: ["2026-01-02 03:04:05.1234"],
  },
  {
    type: "timestamptz",
    from: "text",
    holds: ["2026-01-02 03:04:05+02", "2026-01-02T03:04:05.5Z", "0044-03-15 12:00:00+00 BC", "-infinity"],
    alters: ["2026-01-02 03:04:05", "2026-01-02", "infinity and beyond"],
  },
  {
    type: "timestamp",
    from: "text",
    holds: ["2026-01-02 03:04:05", "2026-01-02", "0044-03-15 12:00:00 BC"],
    alters: ["2026-01-02 03:04:05+00", "2026-01-02 03:04:05+02", "now", "today"],
  },
  { type: "timetz", from: "text", holds: ["03:04:05+02", "24:00:00-12"], alters: ["03:04:05", "2026-01-02 03:04:05+02"] },
  { type: "date", from: "timestamptz", holds: ["infinity"], alters: ["2026-01-02 00:00:00+00"] },
  {
    type: "date",
    from: "text",
    holds: ["2026-01-02", "infinity", "20260102", "2026-1-2", "2026/01/02", "0044-03-15 BC"],
    alters: ["tomorrow", "yesterday", "03/04/25", "3.4.2025", "990108", "Jan 8 99", "J2451187", "epoch"],
  },
  {
    type: "timestamp",
    from: "text",
    holds: ["20260102T03:04", "20260102T030405", "2026/01/02 03:04:05"],
    alters: ["03/04/25 10:00", "20260102T030460", "2026-01-02 03:04:60", "2026-01-02 03:04:05 PST"],
  },
  {
    type: "timestamptz",
    from: "text",
    holds: ["20260102 03:04+00", "20260102T030405.5Z"],
    alters: ["20260102T030405", "03/04/25 10:00+00", "2026-01-02 03:04:60Z", "epoch"],
  },
  { type: "time(0)", from: "time", holds: ["03:04:05"], alters: ["03:04:05.6"] },
  { type: "interval(0)", from: "interval", holds: ["-1 days -02:03:04"], alters: ["1.6 seconds"] },
  { type: "interval hour to minute", from: "interval", holds: ["02:03:00"], alters: ["02:03:04"] },
  { type: "date", from: "timestamp", holds: ["2026-01-02 00:00:00"], alters: ["2026-01-02 03:04:05"] },
  {
    type: "jsonb",
    from: "json",
    holds: ['{ "a": 1.50, "b": [{"a": 2}, {"a": "\\u0022:"}]}', '"a"', "null", "[]"],
    alters: ['{"a": 1, "a": 2}', '[{"b": {"c": 1, "d": 0, "c": 1}}]', '{"a": 1, "\\u0061": 1}'],
  },
  { type: "varchar(2)[]", from: "text[]", holds: ["{ab,cd}"], alters: ["{abc}"] },
  { type: "real[]", from: "double precision[]", holds: ["{0.5,NULL,1e10}", "{}", "[0:1]={1,2}"], alters: ["{0.5,0.1234567891}"] },
  { type: "jsonb[]", from: "json[]", holds: ['{"{\\"a\\": 1}",NULL}'], alters: ['{"1","{\\"a\\": 1, \\"a\\": 2}"}'] },
  { type: "name[]", from: "text[]", holds: [`{{a,b},{c,${"a".repeat(63)}}}`], alters: [`{a,${"a".repeat(64)}}`] },
  {
    type: "timestamptz[]",
    from: "text",
    holds: ['{"2026-01-02 03:04:05+02",infinity}'],
    alters: ['{"2026-01-02 03:04:05+02","2026-01-02 03:04:05"}', '{"2026-01-02 03:04:05.1234567+02"}'],
  },
  { type: "timestamp", from: "text", holds: ["2026-01-02 03:04:05.1234560"], alters: ["2026-01-02 03:04:05.1234567"] },
  { type: "timestamptz", from: "text", holds: ["2026-01-02 03:04:05.123456000Z"], alters: ["2026-01-02 03:04:05.123456789Z"] },
  { type: "time", from: "text", holds: ["03:04:05.123456"], alters: ["03:04:05.1234567"] },
  { type: "interval", from: "text", holds: ["1.123456 seconds"], alters: ["1.1234567 seconds"] },
  {
    type: "interval",
    from: "text",
    holds: ["1.5 seconds", "00:00:01.5 ago", "PT1.5S", "1.0 years", "2 mons 3 days", "1 day 01:30:00"],
    alters: ["1:30", "1 day 1:30", "01:30.5", "1.04 years", "0.333 months", "P1.04Y"],
  },
  {
    type: "money",
    from: "text",
    holds: ["1.50", "$1,234.500", "-$12,345,678.9"],
    alters: ["1.005", "1,50", "12,34.5", "1,234,5"],
  },
  { type: "oid", from: "text", holds: ["7"], alters: ["-7"] },
  { type: "xid", from: "text", holds: ["7"], alters: ["-7", "010", "0x10"] },
  { type: "tid", from: "text", holds: ["(1,2)"], alters: ["(-1,2)"] },
  { type: "point", from: "text", holds: ["(0.10,1)", "1e3 , -.5"], alters: ["(0.12345678901234567890,1)"] },
  { type: "line", from: "text", holds: ["{1,-1,0}"], alters: ["{0.12345678901234567890,1,0}", "(0,0),(0.1,0.7)"] },
  { type: "lseg", from: "text", holds: ["[(0.10,1),(2,3)]"], alters: ["[(0,1),(2,0.12345678901234567890)]"] },
  { type: "box", from: "text", holds: ["(2,3),(0.10,1)"], alters: ["(2,0.12345678901234567890),(0,1)"] },
  {
    type: "box[]",
    from: "text",
    holds: ["{(2,3),(0.10,1);(1,1),(0,0)}"],
    alters: ["{(2,3),(0,1);(1,0.12345678901234567890),(0,0)}"],
  },
  { type: "path", from: "text", holds: ["[(0.10,1),(2,3)]"], alters: ["((0,1),(2,0.12345678901234567890))"] },
  { type: "polygon", from: "text", holds: ["((0.10,1),(2,3))"], alters: ["((0,1),(2,0.12345678901234567890))"] },
  { type: "circle", from: "text", holds: ["<(0.10,1),2>"], alters: ["<(0,1),0.12345678901234567890>"] },
  { type: "tsvector", from: "text", holds: ["'a':1 'b':2B"], alters: ["'a':16384", "'a':1,1", "a b a"] },
  { type: "macaddr8", from: "text", holds: ["08:00:2b:01:02:03:04:05"], alters: ["08:00:2b:01:02:03"] },
  {
    type: "tstzrange",
    from: "text",
    holds: ['["2026-01-02 03:04:05+02","2026-01-03 03:04:05Z")', "empty", "(,)", "[-infinity,2026-01-02T03:04:05Z]"],
    alters: ['["2026-01-02 03:04:05+02","2026-01-03 03:04:05")', "[2026-01-02,)"],
  },
  {
    type: "tsrange",
    from: "text",
    holds: ['["2026-01-02 03:04:05","2026-01-03")'],
    alters: ['["2026-01-02 03:04:05","2026-01-03 00:00:00+02")', "[now,)"],
  },
  {
    type: "daterange",
    from: "text",
    holds: ["[2026-01-02,2026-01-03]", "(,20260103)"],
    alters: ['[2026-01-02,"2026-01-03 04:05")', "[03/04/25,)", "[2026-01-02\\ 04:05,)"],
  },
  {
    type: "datemultirange",
    from: "text",
    holds: ['{[2026-01-02,"2026-01-03"),[2026-02-01,)}', "{}"],
    alters: ["{[2026-01-02,2026-01-03),[tomorrow,)}"],
  },
  { type: "numrange", from: "text", holds: ["[ 1.50,2)"], alters: [] },
  { type: "cidr", from: "text", holds: ["10.0.0.0/8", "10.1.2.3", "::1"], alters: ["10.0.0.1/8", "10", "10.1.2"] },
];

describe("a value lands exactly as the source has it, or the record is in the queue", () => {
  it.each(TYPES)("$type", async ({ type, from, holds, alters }) => {
    // Types that a field of this kind is not compiled for are computed into, as an entity file would.
    await using test = await createStranger({
      source: "old",
      target: "fresh",
      columns: { value: { type, sourceType: from } },
      computed: true,
    });
    for (const [n, value] of [...holds, ...alters].entries()) {
      await test.source.admin.unsafe(`insert into public.old (id, value) values (${n + 1}, $v$${value}$v$)`);
    }
    await test.sync({ capture: "full" });
    const landed = await test.target.admin<{ id: number }[]>`select legacy_id::integer as id from public.fresh order by 1`;
    expect(landed.map(({ id }) => id)).toEqual(holds.map((_, n) => n + 1));
    const queued = await test.live(ENTITY);
    expect(queued.map(({ id, type: kind, field }) => [id, kind, field])).toEqual(
      alters.map((_, n) => [holds.length + n + 1, "schema_mismatch", "value"]),
    );
    // Equal in the target's own type, whatever the text looks like.
    const there = await test.source.admin.unsafe<{ id: string; value: string }[]>(
      "select id, value::text from public.old order by id",
    );
    for (const { id, value } of there.slice(0, holds.length)) {
      const [same] = await test.target.admin.unsafe<{ same: boolean }[]>(
        `select value::text = ($2::text::${type})::text as same from public.fresh where legacy_id = $1`,
        [id, value],
      );
      expect(same?.same, value).toBe(true);
    }
  });

  it("keys that stand twice are found without the server's own test too, as before PostgreSQL 16", async () => {
    await using test = await createStranger({
      source: "old",
      target: "fresh",
      columns: { value: { type: "text", sourceType: "text" } },
    });
    const key = fc.constantFrom("a", "b", "\\u0061", "");
    const { json } = fc.letrec<{ json: string; object: string; list: string }>((tie) => ({
      json: fc.oneof({ depthSize: "small" }, fc.constantFrom("1.50", "null", '"a\\":"', "{}", "[]"), tie("object"), tie("list")),
      object: fc
        .array(fc.tuple(key, tie("json")), { maxLength: 3 })
        .map((pairs) => `{${pairs.map(([name, value]) => `"${name}": ${value}`).join(",")}}`),
      list: fc.array(tie("json"), { maxLength: 3 }).map((values) => `[${values.join(",")}]`),
    }));
    const found = new Set<boolean>();
    for (const value of fc.sample(json, { numRuns: 300, seed: 7 })) {
      const [row] = await test.target.admin.unsafe<{ ours: boolean; servers: boolean }[]>(
        "select sync.has_unique_keys($1::text::json) as ours, $1::text is json with unique keys as servers",
        [value],
      );
      expect(row?.ours, value).toBe(row?.servers);
      if (row) found.add(row.ours);
    }
    expect(found).toEqual(new Set([true, false]));
  });

  it("times without a zone are refused by the check, and land as the moments of the zone that the entity declares, and back", async () => {
    const stranger = (zone?: string): Stranger => ({
      source: "old",
      target: "fresh",
      columns: {
        moment: { type: "timestamptz", sourceType: "timestamp", ...(zone === undefined ? {} : { zone }) },
        wall: { type: "timestamp", sourceType: "timestamptz", ...(zone === undefined ? {} : { zone }) },
      },
    });
    await using undeclared = await createStranger(stranger());
    const refusal: unknown = await undeclared.start().catch((error: unknown) => error);
    expect(refusal).toMatchObject({ code: "CONTRACT_BROKEN" });
    expect(JSON.stringify((refusal as IsthmusError).detail)).toMatch(/zone_undeclared.*zone_undeclared/);

    await using test = await createStranger(stranger("Europe/Zurich"));
    await test.source.admin`insert into public.old (id, moment, wall) values
      (1, '2026-01-02 03:04:05.678901', '2026-07-02 01:04:05.678901+00'), (2, '2026-07-02 03:04:05', 'infinity'),
      (3, '2026-03-29 03:00:00', '2026-10-25 02:00:00+00'), (4, null, null), (5, '294276-12-31 23:00:00', '4714-11-24 12:00:00+00 BC'),
      (6, '2026-03-29 02:30:00', null), (7, '2026-10-25 02:30:00', null), (8, null, '2026-10-25 00:30:00+00'), (9, null, '2026-10-25 01:30:00+00')`;
    await test.sync();
    // What the clocks of the zone skip or repeat is no moment, or two: a person says which.
    const stopped = (await test.live(ENTITY)).map(({ id, type }) => [id, type]);
    expect(stopped).toEqual([6, 7, 8, 9].map((id) => [id, "schema_mismatch"]));
    const rows = await test.target.admin.unsafe<{ line: string }[]>(
      "select (concat_ws(' | ', moment at time zone 'UTC', wall)) as line from public.fresh order by legacy_id",
    );
    expect(rows.map(({ line }) => line)).toEqual([
      "2026-01-02 02:04:05.678901 | 2026-07-02 03:04:05.678901",
      "2026-07-02 01:04:05 | infinity",
      "2026-03-29 01:00:00 | 2026-10-25 03:00:00",
      "",
      "294276-12-31 22:00:00 | 4714-11-24 12:34:08 BC",
    ]);
  });

  it("times that a zone's clocks skip or repeat land as the entity declares", async () => {
    const moment = { type: "timestamptz", sourceType: "timestamp", zone: "Europe/Zurich" } as const;
    await using test = await createStranger({
      source: "old",
      target: "fresh",
      columns: {
        early: { ...moment, zoneRules: { skipped: "back", repeated: "first" } },
        late: { ...moment, zoneRules: { skipped: "forward", repeated: "second" } },
        wall: { type: "timestamp", sourceType: "timestamptz", zone: "Europe/Zurich", zoneRules: { repeated: "first" } },
      },
    });
    await test.source.admin`insert into public.old (id, early, late, wall) values
      (1, '2026-03-29 02:30', '2026-03-29 02:30', '2026-10-25 00:30+00'), (2, '2026-10-25 02:30', '2026-10-25 02:30', '2026-10-25 01:30+00')`;
    await test.sync();
    expect(await test.live(ENTITY)).toEqual([]);
    const rows = await test.target.admin.unsafe<{ line: string }[]>(
      "select concat_ws(' | ', early at time zone 'UTC', late at time zone 'UTC', wall) as line from public.fresh order by legacy_id",
    );
    expect(rows.map(({ line }) => line)).toEqual([
      "2026-03-29 00:30:00 | 2026-03-29 01:30:00 | 2026-10-25 02:30:00",
      "2026-10-25 00:30:00 | 2026-10-25 01:30:00 | 2026-10-25 02:30:00",
    ]);
  });

  it("a change that only a wider type shows is a change", async () => {
    await using test = await createStranger({
      source: "old",
      target: "fresh",
      columns: { country: { type: "char(2)" }, zip: { type: "char(10)" }, currency: { type: "char(3) not null" } },
    });
    await test.source.admin`insert into public.old (id, country, zip, currency) values (1, 'CH', '8001', 'CHF')`;
    await test.sync();
    const row = async () => (await test.target.admin`select country, rtrim(zip) as zip, currency from public.fresh`)[0];
    expect(await row()).toEqual({ country: "CH", zip: "8001", currency: "CHF" });
    await test.source.admin`update public.old set country = 'CN', currency = 'CNY'`;
    await test.sync();
    expect(await row()).toEqual({ country: "CN", zip: "8001", currency: "CNY" });
    expect(await test.live(ENTITY)).toEqual([]);
  });
});

it("bounds of an array, alone or within a composite type, are a part of the value: a change of them lands, and a decision writes them", async () => {
  const columns = {
    list: { type: "text[]" },
    short: { type: "varchar(2)[]", sourceType: "text[]" },
    pair: { type: "public.pair" },
  };
  await using test = await createStranger(
    { source: "old", target: "fresh", columns, computed: true },
    { conflicts: { deleted: "source_wins" } },
    {},
    async ({ source, target }) => {
      for (const { admin } of [source, target]) await admin`create type public.pair as (list integer[], note text)`;
    },
  );
  const write = (bounds: string) =>
    test.source.admin.unsafe(`
      insert into public.old select i, '${bounds}{a,b}', '${bounds}{c,NULL}', row('${bounds}{1,2}', 'x')::public.pair from generate_series(1, 3) i
      on conflict (id) do update set list = excluded.list, short = excluded.short, pair = excluded.pair`);
  const read = async (side: "source" | "target") => [
    ...(await test[side].admin.unsafe(
      `select list::text, short::text, pair::text from public.${side === "source" ? "old order by id" : "fresh order by legacy_id"}`,
    )),
  ];
  for (const bounds of ["", "[2:3]=", "[0:1]=", ""]) {
    await write(bounds);
    await test.sync();
    expect(await read("target")).toEqual(await read("source"));
  }
  // Written from what the queue keeps: a row that somebody deleted, and fields that both sides have changed.
  await write("[5:6]=");
  await test.target.admin`delete from public.fresh where legacy_id = 1`;
  await test.target
    .admin`update public.fresh set list = '{mine}', short = null, pair = row('{9}', 'mine')::public.pair where legacy_id = 2`;
  await test.sync({ conflictStrategy: "manual_review" });
  await test.sync({ capture: "digest" });
  await test.target.admin`update public.sync_conflicts set resolution_strategy = 'source_wins' where state = 'open'`;
  expect(await read("target")).toEqual(await read("source"));
});

it("blanks with which the source pads parts of a value are no part of it, and those of a text are", async () => {
  await using test = await createStranger(
    {
      source: "old",
      target: "fresh",
      columns: {
        codes: { type: "public.code[]" },
        pair: { type: "public.pair" },
        pairs: { type: "public.pair[]" },
        bag: { type: "public.bag" },
      },
      computed: true,
    },
    {},
    {},
    async (both) => {
      for (const [side, n] of [
        ["source", 6],
        ["target", 4],
      ] as const) {
        await both[side].admin
          .unsafe(
            `create domain public.inner_code as char(${n}); create domain public.code as public.inner_code;
             create type public.pair as (left_out int, code char(${n}), note ${side === "source" ? "text" : "char(4)"});
             alter type public.pair drop attribute left_out;
             create type public.codes_and_notes as (codes char(${n})[], notes ${side === "source" ? "text[]" : "char(4)[]"});
             create domain public.bag as public.codes_and_notes`,
          )
          .simple();
      }
    },
  );
  await test.source.admin.unsafe(`insert into public.old (id, codes, pair, pairs, bag) values
    (1, '{ab,NULL,""}', '(ab,cd)', '{"(ab,cd)","(,)"}', '("{ab,abcd}","{cd}")'), (2, '{abcde}', null, null, null),
    (3, null, '(abcde,cd)', null, null), (4, null, '(ab,"cd ")', null, null), (5, null, null, '{"(ab,cd)","(ab,\\"cd \\")"}', null),
    (6, null, null, null, '("{ab}","{\\"cd \\"}")'), (7, null, null, null, '("{abcde}","{cd}")')`);
  for (const capture of ["full", "digest"] as const) {
    await test.sync({ capture });
    expect((await test.live(ENTITY)).map(({ id, type, field }) => [id, type, field])).toEqual(
      ["codes", "pair", "pair", "pairs", "bag", "bag"].map((field, n) => [n + 2, "schema_mismatch", field]),
    );
  }
  expect(
    await test.target.admin`select legacy_id::integer as id, codes::text, pair::text, pairs::text, bag::text from public.fresh`,
  ).toEqual([
    {
      id: 1,
      codes: '{"ab  ",NULL,"    "}',
      pair: '("ab  ","cd  ")',
      pairs: '{"(\\"ab  \\",\\"cd  \\")","(,)"}',
      bag: '("{""ab  "",abcd}","{""cd  ""}")',
    },
  ]);
  // Texts of the source from now on: its blanks are its own.
  await test.source.admin.unsafe("alter table public.old alter column codes type text[] using codes::text[]");
  await test.source.admin.unsafe(`update public.old set codes = '{"ab "}' where id = 1`);
  await test.sync({ entities: [ENTITY] });
  expect((await test.live(ENTITY)).map(({ id, field }) => [id, field])).toContainEqual([1, "codes"]);
});

it("a value that is computed from a padded part is held, as long as no letter is cut", async () => {
  const stranger: Stranger = {
    source: "old",
    target: "fresh",
    columns: {
      first: { type: "char(6)", from: "pair_1", sourceType: "public.pair" },
      listed: { type: "char(6)[]", from: "pair_2", sourceType: "public.pair" },
      short: { type: "char(4)", from: "pair_3", sourceType: "public.pair" },
    },
    computed: true,
  };
  await using test = await createStranger(
    stranger,
    {
      fields: {
        ...entityOf(stranger).fields,
        ...Object.fromEntries(
          ["first", "listed", "short"].map((name, at) => {
            const text = (row: SourceRow) => /^\("?([^",]*)/.exec(row[`c${at}`] ?? "")?.[1] ?? null;
            const of = (row: SourceRow) => (name === "listed" && text(row) !== null ? `{"${text(row)}"}` : text(row));
            return [name, createBuilders(ENTITY).calculate([`c${at}`], of)];
          }),
        ),
      },
    },
    {},
    async (both) => {
      await both.source.admin.unsafe("create type public.pair as (code char(6), note text)");
    },
  );
  await test.source.admin.unsafe(
    `insert into public.old (id, pair_1, pair_2, pair_3) values (1, '(ab,x)', '(ab,x)', null), (2, null, null, '(abcde,x)')`,
  );
  await test.sync({ capture: "full" });
  expect((await test.live(ENTITY)).map(({ id, type, field }) => [id, type, field])).toEqual([[2, "schema_mismatch", "short"]]);
  expect(await test.target.admin`select first::text || '|' as first, listed::text as listed from public.fresh`).toEqual([
    { first: "ab|", listed: '{"ab    "}' },
  ]);
});

describe("where blanks of the source are its padding no longer", () => {
  it("the brake on overwritten values holds: no deployment has decided what changes then", async () => {
    await using test = await createStranger(
      {
        source: "old",
        target: "fresh",
        columns: { codes: { type: "text[]", sourceType: "char(2)[]" }, note: { type: "text" } },
        computed: true,
      },
      {},
      { ISTHMUS_PAGE_SIZE: "5", ISTHMUS_BRAKE_OVERWRITE_RECORDS: "3", ISTHMUS_BRAKE_OVERWRITE_SHARE: "0.25" },
    );
    await test.source.admin.unsafe(
      `insert into public.old (id, codes, note) select n, '{ab}', 'as it was' from generate_series(1, 20) n`,
    );
    await test.sync();
    await test.source.admin.unsafe("alter table public.old alter column codes type text[]");
    await test.source.admin.unsafe("update public.old set note = 'changed' where id <= 16");
    const { execution, chains } = await test.start();
    expect(chains).toMatchObject([{ capture: "full" }]);
    await test.drain();
    expect(await test.status(execution)).toMatchObject({
      status: "failed",
      errors: [{ code: "BRAKE_APPLIED", kind: "overwrite" }],
    });
  });

  it.each(["auto", "digest", "full"] as const)(
    "what landed before that was noticed, and what stood before, is looked at again by %s",
    async (capture) => {
      await using test = await createStranger({
        source: "old",
        target: "fresh",
        columns: { codes: { type: "char(4)[]", sourceType: "char(6)[]" } },
        computed: true,
      });
      await test.source.admin.unsafe(`insert into public.old (id, codes) values (1, '{ab}'), (2, '{abcd}')`);
      await test.sync();
      expect(await test.live(ENTITY)).toEqual([]);
      await test.start({ capture: "full" });
      // While an execution runs: the text of the first stays, with blanks that are its own from now on.
      await test.source.admin.unsafe(
        "alter table public.old alter column codes type text[] using array[pg_catalog.rpad(codes[1]::text, case when id = 1 then 6 else 4 end)]",
      );
      await test.source.admin.unsafe(`insert into public.old (id, codes) values (3, '{"cd "}')`);
      await test.drain();
      await test.sync({ capture });
      expect((await test.live(ENTITY)).map(({ id, type, field }) => [id, type, field])).toEqual([
        [1, "schema_mismatch", "codes"],
        [3, "schema_mismatch", "codes"],
      ]);
      const { execution } = await test.sync();
      const [log] = await test.target.admin<{ read: number }[]>`
        select coalesce(sum(read), 0)::integer as read from public.sync_page_log where execution_id = ${execution}`;
      expect(log?.read).toBe(0);
    },
  );
});

it("what is cut or rounded within a composite type, an array of a domain, or a copied array is in the queue", async () => {
  await using test = await createStranger(
    {
      source: "old",
      target: "fresh",
      columns: {
        pair: { type: "public.pair" },
        pairs: { type: "public.pair[]" },
        prices: { type: "public.price[]", sourceType: "numeric[]" },
        copied: { type: "double precision[]" },
      },
      computed: true,
    },
    {},
    {},
    async ({ source, target }) => {
      await source.admin`create type public.pair as (amount numeric, note text)`;
      await target.admin.unsafe("create type public.pair as (amount numeric(5,2), note text); create domain public.price as numeric(5,2)").simple(); // prettier-ignore
    },
  );
  await test.source.admin.unsafe(`insert into public.old values
    (1, row(1.5, 'a, "b" \\ (c)'), array[row(1.5, null), row(2.25, '')]::public.pair[], '{1.5,2.25,NULL}', '{0.1}'),
    (2, row(1.005, 'a'), null, null, null), (3, null, array[row(1.005, 'a')]::public.pair[], null, null), (4, null, null, '{1.5,1.005}', null)`);
  await test.sync({ capture: "full" });
  expect((await test.live(ENTITY)).map(({ id, type, field }) => [id, type, field])).toEqual([
    [2, "schema_mismatch", "pair"],
    [3, "schema_mismatch", "pairs"],
    [4, "schema_mismatch", "prices"],
  ]);
  const [row] = await test.target.admin.unsafe("select pair::text, pairs::text, prices::text, copied::text from public.fresh");
  expect(row).toEqual({
    pair: '(1.50,"a, ""b"" \\\\ (c)")',
    pairs: '{"(1.50,)","(2.25,\\"\\")"}',
    prices: "{1.50,2.25,NULL}",
    copied: "{0.1}",
  });
});

describe("composite values are written by place: a copy between types with other parts is refused before anything lands", () => {
  /** What both databases are given, and what the check says where it refuses. */
  const TYPES: readonly { what: string; type: string; source: string; target: string; apart?: readonly [string, string] }[] = [
    {
      what: "attributes in another order",
      type: "public.home",
      source: "create type public.home as (street text, zip text)",
      target: "create type public.home as (zip text, street text)",
      apart: [".street", ".zip"],
    },
    {
      what: "within a composite type",
      type: "public.person",
      source: "create type public.home as (street text, zip text); create type public.person as (name text, home public.home)",
      target: "create type public.home as (zip text, street text); create type public.person as (name text, home public.home)",
      apart: [".home.street", ".home.zip"],
    },
    {
      what: "in an array of a domain",
      type: "public.place[]",
      source: "create type public.home as (street text, zip text); create domain public.place as public.home",
      target: "create type public.home as (zip text, street text); create domain public.place as public.home",
      apart: ["[].street", "[].zip"],
    },
    {
      what: "an attribute more",
      type: "public.home",
      source: "create type public.home as (street text)",
      target: "create type public.home as (street text, zip text)",
      apart: ["nothing more", ".zip"],
    },
    {
      what: "ranges of other bounds",
      type: "public.span",
      source: "create type public.span as range (subtype = date)",
      target: "create type public.span as range (subtype = timestamp)",
      apart: ["(date)", "(timestamp)"],
    },
    {
      what: "the same parts, one side behind a domain and with a dropped attribute",
      type: "public.home",
      source: "create type public.home as (street text, zip text)",
      target:
        "create domain public.code as text; create type public.home as (gone int, street text, zip public.code); alter type public.home drop attribute gone",
    },
  ];
  it.each(TYPES)("$what", async ({ type, source, target, apart }) => {
    await using test = await createStranger(
      { source: "old", target: "fresh", columns: { value: { type } } },
      {},
      {},
      async (both) => {
        await both.source.admin.unsafe(source).simple();
        await both.target.admin.unsafe(target).simple();
      },
    );
    const refusal: unknown = await test.start().catch((error: unknown) => error);
    if (apart === undefined) {
      expect(refusal).toMatchObject({ paused: [] });
      return;
    }
    expect(refusal).toMatchObject({ code: "CONTRACT_BROKEN" });
    expect(JSON.stringify((refusal as IsthmusError).detail)).toContain(`there ${apart[0]}, here ${apart[1]} at the same place`);
  });

  it("names that DDL of one side exchanges between runs", async () => {
    await using test = await createStranger(
      { source: "old", target: "fresh", columns: { value: { type: "public.home" } } },
      {},
      {},
      async ({ source, target }) => {
        for (const { admin } of [source, target]) await admin`create type public.home as (street text, zip text)`;
      },
    );
    await test.source.admin`insert into public.old values (1, row('High Street', '8001')::public.home)`;
    await test.sync();
    for (const [from, to] of ["street, was", "zip, street", "was, zip"].map((names) => names.split(", ")))
      await test.source.admin.unsafe(`alter type public.home rename attribute ${from} to ${to}`);
    await expect(test.start()).rejects.toMatchObject({ code: "CONTRACT_BROKEN" });
    expect(await test.target.admin`select value::text from public.fresh`).toEqual([{ value: '("High Street",8001)' }]);
  });
});

import postgres from "postgres";
import { describe, expect, it } from "vitest";
import { connect } from "../shared/db/connect.ts";
import { PINNED } from "../shared/db/settings.ts";
import { createTestTarget, readerUrl, workerUrl } from "./support/databases.ts";
import { createStranger, ENTITY, type Stranger } from "./support/stranger.ts";
import { COMBINATIONS, neutralText, setHostile } from "./support/hostile-settings.ts";
import type { Pipeline } from "./support/pipeline.ts";
import { startTransactionPooler } from "./support/transaction-pooler.ts";

const COLUMNS: Readonly<Record<string, { type: string; values: readonly (string | null)[] }>> = {
  span: { type: "interval", values: ["-1 days -02:03:04", "1 year 2 mons -3 days 04:05:06.789", "-00:00:00.000001"] },
  bytes: { type: "bytea", values: ["\\xdeadbeef00", "\\x5c", "\\x"] },
  at: { type: "timestamptz", values: ["2026-02-03 04:05:06.789+00", "-infinity", "0044-03-15 12:00:00+00 BC"] },
  wall: { type: "timestamp", values: ["2026-02-03 04:05:06.789", "infinity", "2026-12-11 00:00:00"] },
  day: { type: "date", values: ["2026-02-03", "infinity", "0044-03-15 BC"] },
  hour: { type: "timetz", values: ["04:05:06.789+05:45", "00:00:00-12", "24:00:00+00"] },
  wide: { type: "double precision", values: ["0.30000000000000004", "-0", "5e-324"] },
  narrow: { type: "real", values: ["0.1", "1.1754944e-38", "NaN"] },
  sum: { type: "money", values: ["1234567.89", "-0.01", "0"] },
  markup: { type: "xml", values: ["a<b/>c", "<a>1</a>", null] },
  list: { type: "text[]", values: ['{NULL,"NULL","a,b","\\\\"}', "{}", null] },
  times: { type: "timestamptz[]", values: ["{2026-02-03 04:05:06+00}", "{NULL}", null] },
  range: { type: "tstzrange", values: ["[2026-02-03 04:05:06+00,)", "empty", null] },
  words: { type: "text", values: ["C:\\new\\x41 'quoted' ä€", "", null] },
  document: { type: "jsonb", values: ['{"a": "\\\\ ä", "b": 1.50}', "null", null] },
};

const CONNECTION = { tls: "disable", ca: undefined, poolSize: 3, idleTimeoutSeconds: 5, connectTimeoutSeconds: 10 } as const;
const STRANGER: Stranger = {
  source: "old",
  target: "fresh",
  columns: Object.fromEntries(Object.entries(COLUMNS).map(([name, { type }]) => [name, { type }])),
  computed: true,
};

it("settings are pinned whatever functions a search path leads to first", async () => {
  await using target = await createTestTarget();
  const roles = ["isthmus_worker", "isthmus_reader"];
  await target.admin
    .unsafe(
      `create schema shadow; grant usage on schema shadow to ${roles.join(", ")};
       create function shadow.current_setting(text, boolean) returns text language plpgsql as $$ begin raise 'a stranger''s' ; end $$;
       create function shadow.set_config(text, text, boolean) returns text language plpgsql as $$ begin raise 'a stranger''s'; end $$;`,
    )
    .simple();
  for (const role of roles)
    await target.admin.unsafe(`alter role ${role} in database ${target.name} set search_path = shadow, pg_catalog`);
  for (const side of ["source", "target"] as const) {
    const url = side === "source" ? readerUrl(target) : workerUrl(target);
    const sql = connect({ ...CONNECTION, side, url, applicationName: "test" });
    const [row] = await sql.unsafe<{ path: string; timeout: string }[]>(
      "select current_setting('search_path') as path, current_setting('transaction_timeout') as timeout",
    );
    expect(row).toEqual({ path: PINNED.search_path, timeout: "0" });
    await sql.end({ timeout: 1 });
  }
});

describe("a value lands as the source has it, whatever the settings of either side", () => {
  it.each(COMBINATIONS.map((_, n) => n))("combination %i", async (n) => {
    await using test = await createStranger(STRANGER);
    await insertValues(test);
    await setHostile(test, n);
    await test.sync({ capture: "full" });
    expect(await test.live(ENTITY)).toEqual([]);
    expect(await neutralText(test.target, "fresh", "legacy_id", Object.keys(COLUMNS))).toEqual(
      await neutralText(test.source, "old", "id", Object.keys(COLUMNS)),
    );

    // The settings change, and nothing else.
    await setHostile(test, n + 1);
    const { execution } = await test.sync({ capture: "digest" });
    const [report] = await test.target.admin<{ body: { changed: { count: number }; edited: { count: number } } }[]>`
      select body from public.sync_reports where execution_id = ${execution} and kind = ${`digest:${ENTITY}`}`;
    expect([report?.body.changed.count, report?.body.edited.count]).toEqual([0, 0]);
  });

  it.each([0, 4, 7])("combination %i, through poolers in transaction mode", async (n) => {
    await using pooler = await startTransactionPooler();
    await using test = await createStranger(STRANGER);
    await insertValues(test);
    const pooled = (side: "source" | "target", url: string) =>
      connect({ ...CONNECTION, side, url: pooler.through(url), applicationName: "test" });
    const direct = test.context;
    const context = {
      ...direct,
      source: pooled("source", readerUrl(test.source)),
      target: pooled("target", workerUrl(test.target)),
    };
    const run = async (capture: "full" | "digest") => {
      const { execution } = await test.start({ capture }, context);
      for (let message = test.queue.shift(); message; message = test.queue.shift()) await test.run(message, context);
      expect((await test.status(execution)).status).toBe("succeeded");
      return execution;
    };
    // What others who share the pool's connections leave in them is no one's wish either.
    const stray = async (url: string) => {
      const other = postgres(pooler.through(url), { max: 3, prepare: false, fetch_types: false, onnotice: () => undefined });
      const leave =
        "set datestyle = 'German'; set intervalstyle = 'sql_standard'; set timezone = 'Asia/Tokyo'; set bytea_output = 'escape'";
      await Promise.all([1, 2, 3].map(() => other.unsafe(`${leave}; select pg_sleep(0.1)`).simple()));
      await other.end();
    };
    await setHostile(test, n);
    await Promise.all([stray(readerUrl(test.source)), stray(workerUrl(test.target))]);
    await run("full");
    expect(await test.live(ENTITY)).toEqual([]);
    expect(await neutralText(test.target, "fresh", "legacy_id", Object.keys(COLUMNS))).toEqual(
      await neutralText(test.source, "old", "id", Object.keys(COLUMNS)),
    );
    await Promise.all([stray(readerUrl(test.source)), stray(workerUrl(test.target))]);
    const execution = await run("digest");
    const [report] = await test.target.admin<{ body: { changed: { count: number }; edited: { count: number } } }[]>`
      select body from public.sync_reports where execution_id = ${execution} and kind = ${`digest:${ENTITY}`}`;
    expect([report?.body.changed.count, report?.body.edited.count]).toEqual([0, 0]);
    await Promise.all([context.source.end({ timeout: 1 }), context.target.end({ timeout: 1 })]);
  });

  it("a decision in a session with other settings writes the source's value, and a digest finds nothing", async () => {
    await using test = await createStranger(STRANGER, { conflicts: { strategy: "manual_review" } });
    await insertValues(test);
    await test.sync();
    await test.target.admin.unsafe(
      "update public.fresh set span = '9 days', bytes = '\\x01', at = now(), wide = 9, day = 'today' where legacy_id = 1",
    );
    await test.source.admin.unsafe(
      `update public.old set span = '-2 days -03:04:05', bytes = '\\xdead5c', at = '2025-02-03 04:05:06.5+00', wide = 0.1 + 0.2, day = '2026-03-02' where id = 1`,
    );
    await test.sync();
    await setHostile(test, 0);
    const studio = test.target.url("postgres");
    const session = postgres(studio, { max: 1, onnotice: () => undefined });
    await session.unsafe("set search_path = evil; set session characteristics as transaction isolation level read committed");
    await session.unsafe("update public.sync_conflicts set resolution_strategy = 'source_wins' where state = 'open'");
    await session.end();
    expect(await neutralText(test.target, "fresh", "legacy_id", Object.keys(COLUMNS))).toEqual(
      await neutralText(test.source, "old", "id", Object.keys(COLUMNS)),
    );
    await setHostile(test, 4);
    const { execution } = await test.sync({ capture: "digest" });
    const [report] = await test.target.admin<{ body: { changed: { count: number }; edited: { count: number } } }[]>`
      select body from public.sync_reports where execution_id = ${execution} and kind = ${`digest:${ENTITY}`}`;
    expect([report?.body.changed.count, report?.body.edited.count]).toEqual([0, 0]);
    expect(await test.live(ENTITY)).toEqual([]);
  });
});

/** What a session of a person's can have set, and changes values: the functions that such sessions call pin all of it. */
const OF_FUNCTIONS = [
  "TimeZone",
  "timezone_abbreviations",
  "DateStyle",
  "IntervalStyle",
  "extra_float_digits",
  "bytea_output",
  "xmloption",
  "lc_monetary",
  "array_nulls",
  "standard_conforming_strings",
  "quote_all_identifiers",
  "transform_null_equals",
] as const;

it("functions that pin a setting pin all, as the sync's transactions do", async () => {
  await using target = await createTestTarget();
  const functions = await target.admin<{ name: string; settings: string[] }[]>`
    select proname as name, to_json(proconfig) as settings from pg_proc
     where pronamespace = 'sync'::regnamespace and proconfig::text ~* 'timezone=' order by 1`;
  expect(functions.map(({ name }) => name)).toEqual([
    "carry_out",
    "drifted_rows",
    "edited_records",
    "find_again",
    "kept_marks",
    "load_records",
    "plan_again",
    "strayed_records",
  ]);
  for (const { name, settings } of functions) {
    const pinned = settings
      .filter((setting) => !/^(search_path|plan_cache_mode)=/.test(setting))
      .map((setting) => setting.toLowerCase());
    expect(pinned.sort(), name).toEqual(OF_FUNCTIONS.map((setting) => `${setting}=${PINNED[setting]}`.toLowerCase()).sort());
  }
});

async function insertValues(test: Pipeline): Promise<void> {
  for (const row of [0, 1, 2]) {
    const names = Object.keys(COLUMNS);
    const values = names.map((name) => {
      const value = COLUMNS[name]?.values[row] ?? null;
      return value === null ? "null" : `$v$${value}$v$`;
    });
    await test.source.admin.unsafe(`insert into public.old (id, ${names.join(", ")}) values (${row + 1}, ${values.join(", ")})`);
  }
}

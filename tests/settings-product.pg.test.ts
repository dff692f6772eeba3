import postgres from "postgres";
import { expect, it } from "vitest";
import { openClient } from "../shared/db/connect.ts";
import { pinned } from "../shared/db/pinned.ts";
import { query } from "../shared/db/query.ts";
import { PINNED, PINS, type Side } from "../shared/db/settings.ts";
import type { Queryable } from "../shared/db/connect.ts";
import { KEY } from "../shared/entity/define-entity.ts";
import { DIGEST_SQL, drivingSql, RECORD_KEY, recordsSql } from "../shared/source/projection.ts";
import { readRecords } from "../shared/source/read-records.ts";
import { createTestTarget, type TestDatabase } from "./support/databases.ts";
import { HOSTILE, localeOf, neutralText } from "./support/hostile-settings.ts";
import type { Pipeline } from "./support/pipeline.ts";
import { createStranger, ENTITY } from "./support/stranger.ts";
import { BUILT_IN, valuesOf } from "./support/typed-values.ts";
import { wholeSet } from "./support/number-set.ts";

const SEED = wholeSet("ISTHMUS_SEED", 20261128, 0);
const ROWS = 4;

/** Categories of pg_settings with settings that shape the text of values, the reading of it, or which rows and names a statement sees. */
const SHAPING =
  /^Client Connection Defaults \/ (Locale and Formatting|Statement Behavior|Other Defaults)$|^Version and Platform Compatibility /;

/** The other categories, of which no setting does. A category that is in neither list is a question to whoever updates PostgreSQL. */
const NOT_SHAPING =
  /^(Autovacuum|Client Connection Defaults \/ Shared Library Preloading|Connections and Authentication .*|Customized Options|Developer Options|Error Handling|File Locations|Lock Management|Preset Options|Process Title|Query Tuning .*|Replication .*|Reporting and Logging .*|Resource Usage .*|Statistics .*|Write-Ahead Log .*|Vacuuming .*)$/;

/** Settings of these categories that no transaction of ours sets, and why the text of a value does not depend on them. */
const REASONS: Readonly<Record<string, string>> = {
  allow_alter_system: "is of the server as a whole",
  backslash_quote: "is of strings with an E before them, which neither our SQL nor an entity file has",
  check_function_bodies: "is of functions that are created",
  client_min_messages: "is of notices, which nobody reads",
  createrole_self_grant: "is of roles that are created",
  default_table_access_method: "is of tables that are created: ours are temporary",
  default_tablespace: "is of tables that are created: ours are temporary",
  default_toast_compression: "is of how values are stored",
  default_transaction_deferrable: "is of transactions that are serializable and read only: ours say how they begin",
  default_transaction_isolation: "is of transactions that do not say it: ours do",
  default_transaction_read_only: "is of transactions that do not say it: ours do",
  dynamic_library_path: "is of libraries that are loaded",
  escape_string_warning: "is of notices, which nobody reads",
  event_triggers: "is a superuser's",
  extension_control_path: "is of extensions that are created",
  gin_fuzzy_search_limit: "the target's rows are found by keys, which no GIN index has",
  gin_pending_list_limit: "is of how an index is kept",
  icu_validation_level: "is of collations that are created",
  idle_session_timeout: "ends a session and changes no value",
  lc_messages: "is a superuser's, and of messages: errors are known by their SQLSTATE",
  lo_compat_privileges: "is a superuser's, and of large objects",
  restrict_nonsystem_relation_kind: "refuses and changes no value",
  row_security: "a target that hides rows from the worker is refused (target_rows_hidden)",
  server_encoding: "is the database's, and cannot be set",
  session_replication_role: "sessions in which triggers are off are refused (TRIGGERS_OFF)",
  synchronize_seqscans: "is of an order that no statement of ours counts on",
  temp_tablespaces: "is of where temporary tables stand",
  transaction_deferrable: "is of the transaction, which says how it begins",
  transaction_isolation: "is of the transaction, which says how it begins",
  transaction_read_only: "is of the transaction, which says how it begins",
  ...Object.fromEntries(
    [
      "failsafe_age",
      "freeze_min_age",
      "freeze_table_age",
      "multixact_failsafe_age",
      "multixact_freeze_min_age",
      "multixact_freeze_table_age",
    ].map((name) => [`vacuum_${name}`, "is of vacuum"]),
  ),
};

/** What shapes the text of a value, or the reading of it: of these, every combination is met. */
const OF_DATABASE = ["DateStyle", "bytea_output", "lc_monetary"] as const;
const OF_ROLE = [
  "IntervalStyle",
  "TimeZone",
  "extra_float_digits",
  "xmloption",
  "xmlbinary",
  "standard_conforming_strings",
  "quote_all_identifiers",
] as const;
/** The driver says it when it logs in, so a role's does not count: a session is found with it, as a pooler hands one on. */
const OF_SESSION = "client_encoding";

const VALUES: Readonly<Record<string, readonly [string, string]>> = {
  ...HOSTILE,
  lc_numeric: ["POSIX", localeOf("de_DE") ?? "C"],
  lc_time: ["POSIX", localeOf("de_DE") ?? "C"],
};
/** Varied beside them, so that any two meet: of no built-in type. */
const BESIDE = Object.keys(VALUES).filter(
  (name) => ![...OF_DATABASE, ...OF_ROLE, OF_SESSION].includes(name as typeof OF_SESSION),
);

/** Of these the transaction itself says what it has; row_security is of the reader's alone. */
const NOT_ASKED = ["default_transaction_isolation", "default_transaction_deferrable", "escape_string_warning", "row_security"];
const ASKED = Object.keys(VALUES).filter((name) => !NOT_ASKED.includes(name));

type Settings = Readonly<Record<string, string>>;

/** The n-th of all combinations of the two values that each of these has. */
const combination = (names: readonly string[], n: number): Settings =>
  Object.fromEntries(names.map((name, at) => [name, VALUES[name]?.[(n >> at) & 1] ?? ""]));

/** A number that follows from two, and looks like none of them. */
function spread(n: number, at: number): number {
  let hash = Math.imul(n + 1, 2_654_435_761) ^ Math.imul(at + 1, 1_597_334_677);
  hash = Math.imul(hash ^ (hash >>> 15), 2_246_822_519);
  hash = Math.imul(hash ^ (hash >>> 13), 3_266_489_917);
  return (hash ^ (hash >>> 16)) >>> 0;
}

/** What the n-th role has. */
const ofRole = (n: number): Settings => ({
  ...combination(OF_ROLE, n),
  ...Object.fromEntries(BESIDE.map((name, at) => [name, VALUES[name]?.[spread(n, at) & 1] ?? ""])),
});
const ROLES = 1 << OF_ROLE.length;
const PHASES = 1 << OF_DATABASE.length;
/** Every combination of what shapes text, as a stranger leaves it in a session of a pooler. */
const LEFT = [...OF_DATABASE, ...OF_ROLE, OF_SESSION];

const setting = (name: string, value: string) => `${name} = ${name === "search_path" ? value : `'${value}'`}`;
const statements = (what: string, settings: Settings) =>
  Object.entries(settings).map(([name, value]) => `alter ${what} set ${setting(name, value)}`);

const OPTIONS = { tls: "disable", ca: undefined, poolSize: 1, idleTimeoutSeconds: 30, connectTimeoutSeconds: 30 } as const;

/** A value that the source takes of each type, and of every type as many as there are rows. */
const TYPES = Object.fromEntries(BUILT_IN.map(({ type }, at) => [`v${at}`, type]));

async function landed(): Promise<Pipeline> {
  const test = await createStranger({
    source: "old",
    target: "fresh",
    columns: Object.fromEntries(Object.entries(TYPES).map(([name, type]) => [name, { type }])),
    computed: true,
  });
  await test.source.admin.unsafe(`create function public.taken(value text, type text) returns text language plpgsql as $$
    begin execute format('select %L::%s', value, type); return value; exception when others then return null; end $$`);
  const names = Object.keys(TYPES);
  const values = BUILT_IN.map(({ values: generated }, at) => valuesOf(generated, ROWS, SEED + at));
  for (let row = 0; row < ROWS; row++) {
    const cells = values.map(
      (list, at) =>
        `public.taken(convert_from('\\x${Buffer.from(list[row] ?? "").toString("hex")}', 'UTF8'), $t$${TYPES[`v${at}`]}$t$)::${TYPES[`v${at}`]}`,
    );
    await test.source.admin.unsafe(`insert into public.old (id, ${names.join(", ")}) values (${row + 1}, ${cells.join(", ")})`);
  }
  await test.sync({ capture: "full" });
  expect(await test.live(ENTITY)).toEqual([]);
  expect(await neutralText(test.target, "fresh", "legacy_id", names)).toEqual(await neutralText(test.source, "old", "id", names));
  return test;
}

/** What a side makes of every value: by name, what is compared. */
type Answer = Readonly<Record<string, string | null>>;
type Ask = (sql: Queryable) => Promise<Answer>;

const SETTINGS_SQL = `select ${ASKED.map((name) => `pg_catalog.current_setting('${name}') as "${name}"`).join(", ")}`;

/** The statement by which a page reads its records: each as text, with its hash. */
function asksSource(test: Pipeline): Ask {
  const entity = test.context.entities.get(ENTITY);
  if (!entity) throw new Error("no entity");
  const ids = Array.from({ length: ROWS }, (_, row) => String(row + 1));
  return async (sql) => {
    const { rows } = await readRecords(sql, entity, ids, 1_000_000_000);
    const [settings = {}] = await query<Record<string, string>>(sql, "source", SETTINGS_SQL);
    return {
      ...Object.fromEntries(rows.flatMap((row) => Object.entries(row).map(([name, value]) => [`${row[KEY]} ${name}`, value]))),
      ...Object.fromEntries(Object.entries(settings).map(([name, value]) => [`setting ${name}`, value])),
    };
  };
}

/**
 * The expressions by which a page's texts become values, are asked whether they fit, and are compared with the
 * target's: over the texts that the source has sent. The value itself is compared by its bytes.
 */
async function asksTarget(test: Pipeline, texts: Answer): Promise<{ readonly ask: Ask; readonly statement: string }> {
  const [sql] = await test.target.admin<
    { typed: string; fits: string; current: string; same: string; slots: string[]; names: string[] }[]
  >`
    select a.*, sync.owned_columns(e) as current
      from public.sync_entities e
      cross join lateral (
        select string_agg(format('%s as %I', sync.kept_sql(format('(p.%s)::%s%s', c.slot, c.type, '::' || nullif(c.exact, c.type)), c.type, c.recast), c.name), ', ') as typed,
               string_agg(sync.fits_sql(c.slot, c.type, c.exact, sync.padded_parts(e) -> c.name) || ' is not false', ' and ') as fits,
               string_agg(format('case when pg_catalog.record_image_eq(row((p.%s)::%s%s), row(t.%I)) then null else %L end', c.slot, c.type, '::' || nullif(c.exact, c.type), c.name, c.name), ', ') as same,
               to_json(array_agg(c.slot)) as slots, to_json(array_agg(c.name)) as names
          from sync.field_slots(e) c) a
     where e.entity_type = ${ENTITY}`;
  if (!sql) throw new Error("no entity");
  const columns = sql.slots.map((slot, at) => ({ slot, name: sql.names[at] ?? "" }));
  await test.target.admin.unsafe(
    `create table public.page_texts (_key bigint primary key, ${columns.map(({ slot }) => `${slot} text`).join(", ")});
     grant select on public.page_texts to isthmus_worker`,
  );
  for (let row = 1; row <= ROWS; row++) {
    const values = columns.map(({ name }) =>
      name === "legacy_id" ? String(row) : (texts[`${row} ${sourceNameOf(name)}`] ?? null),
    );
    await test.target.admin.unsafe(
      `insert into public.page_texts values (${row}, ${values.map((_, at) => `$${at + 1}`).join(", ")})`,
      values,
    );
  }
  const statement = `
    select p._key::text as key, ${sql.fits} as fits, pg_catalog.concat_ws(', ', ${sql.same}) as otherwise,
           (select pg_catalog.to_jsonb(x.*) from (select ${sql.typed}) x)::text as new,
           (select pg_catalog.to_jsonb(x.*) from (select ${sql.current}) x)::text as now,
           pg_catalog.hashtextextended((t.*)::text, 0)::text as hash
      from public.page_texts p join public.fresh t on t.legacy_id = p._key order by p._key`;
  const ask: Ask = async (client) => {
    const rows = await query<Record<string, string | boolean | null>>(client, "target", statement);
    const [settings = {}] = await query<Record<string, string>>(client, "target", SETTINGS_SQL);
    return {
      ...Object.fromEntries(
        rows.flatMap((row) =>
          Object.entries(row).map(([name, value]) => [`${String(row["key"])} ${name}`, value === null ? null : String(value)]),
        ),
      ),
      ...Object.fromEntries(Object.entries(settings).map(([name, value]) => [`setting ${name}`, value])),
    };
  };
  return { ask, statement };
}

/** What the stranger's entity calls the source's column of a field. */
const sourceNameOf = (field: string) => `c${field.slice(1)}`;

/** What is another in the second answer. */
const otherwise = (expected: Answer, found: Answer) =>
  [...new Set([...Object.keys(expected), ...Object.keys(found)])].filter((name) => expected[name] !== found[name]);

interface Difference {
  readonly settings: Settings;
  readonly of: readonly string[];
}

/** A session of the product's with what role and database have set, found in another encoding. */
function session(side: Side, url: string, encoding: string) {
  return pinned(
    (onclose) => {
      const client = openClient({ ...OPTIONS, side, url, applicationName: "test" }, onclose);
      client.sql.unsafe(`set client_encoding = '${encoding}'`).catch(() => undefined);
      return client;
    },
    { side, poolSize: 1, connectTimeoutSeconds: OPTIONS.connectTimeoutSeconds },
  );
}

const setConfig = (settings: Settings) =>
  Object.entries(settings)
    .map(([name, value]) => `pg_catalog.set_config('${name}', '${value}', false)`)
    .join(", ");

/** Role and database have them: every combination of a role's, each with another one of the database's; sessions are new, and statements the product's own. */
async function asInstalled(side: Side, db: TestDatabase, ask: Ask, expected: Answer): Promise<Difference[]> {
  const group = side === "source" ? "isthmus_reader" : "isthmus_worker";
  const roleOf = (n: number) => `of_${db.name}_${n}`;
  const numbers = Array.from({ length: ROLES }, (_, n) => n);
  const differences: Difference[] = [];
  let asked = 0;
  try {
    await db.admin.unsafe(
      numbers
        .flatMap((n) => [
          `create role ${roleOf(n)} login in role ${group}`,
          ...statements(`role ${roleOf(n)} in database "${db.name}"`, ofRole(n)),
        ])
        .join("; "),
    );
    for (let phase = 0; phase < PHASES; phase++) {
      const ofDatabase = combination(OF_DATABASE, phase);
      await db.admin.unsafe(statements(`database "${db.name}"`, ofDatabase).join("; "));
      const waiting = numbers.filter((n) => spread(n, 99) % PHASES === phase);
      const lane = async () => {
        for (let n = waiting.pop(); n !== undefined; n = waiting.pop()) {
          const encoding = VALUES[OF_SESSION]?.[n & 1] ?? "";
          const sql = session(side, db.url(roleOf(n)), encoding);
          const of = otherwise(expected, await ask(sql));
          await sql.end({ timeout: 0 });
          if (of.length > 0) differences.push({ settings: { ...ofDatabase, ...ofRole(n), [OF_SESSION]: encoding }, of });
          asked++;
        }
      };
      await Promise.all([lane(), lane(), lane()]);
    }
  } finally {
    await db.admin.unsafe(numbers.map((n) => `drop role if exists ${roleOf(n)}`).join("; "));
  }
  expect(asked).toBe(ROLES);
  return differences;
}

/** A query that says, as one text, what a side makes of all values in a session of ours. */
type Said = string;

/**
 * The same of every combination, as a stranger leaves it in a session of a pooler: the server itself sets one after
 * the other, then what a transaction of ours sets, and says which of them make another answer. Its plan is kept, so
 * only the first is read under a combination.
 */
const LOOP = (said: Said) => `
  create function public.combinations_told(pins text[], numbers integer[], expected text) returns setof integer language plpgsql as $f$
  #variable_conflict use_column
  declare v_n integer; v_pin text; v_said text;
  begin
    foreach v_n in array numbers loop
      perform ${LEFT.map((name, at) => `pg_catalog.set_config('${name}', case when (v_n >> ${at}) & 1 = 0 then '${VALUES[name]?.[0]}' else '${VALUES[name]?.[1]}' end, false)`).join(", ")};
      foreach v_pin in array pins loop execute v_pin; end loop;
      v_said := (${said});
      if v_said is distinct from expected then return next v_n; end if;
    end loop;
  end $f$`;
const SETTINGS_SAID = `pg_catalog.concat_ws('|', ${ASKED.map((name) => `pg_catalog.current_setting('${name}')`).join(", ")})`;

const range = (length: number) => Array.from({ length }, (_, n) => n);
const COMBINATIONS = range(1 << LEFT.length);

/** Asks in a session of its own, in which the settings are left before. */
async function toldIn(
  db: TestDatabase,
  pins: readonly string[],
  numbers: readonly number[],
  expected: string,
  left: Settings = {},
) {
  const client = postgres(db.superuserUrl, { max: 1, fetch_types: false, onnotice: () => undefined });
  try {
    if (Object.keys(left).length > 0) await client.unsafe(`select ${setConfig(left)}`);
    const rows = await client.unsafe<{ n: number }[]>(
      `select n from public.combinations_told(array(select pg_catalog.jsonb_array_elements_text($1::text::jsonb)), '{${numbers.join()}}', $2::text) n`,
      [JSON.stringify(pins), expected],
    );
    return rows.map(({ n }) => combination(LEFT, n));
  } finally {
    await client.end({ timeout: 1 });
  }
}

/** What the side says in a session of ours with nothing else set; and what it is asked with. */
async function askedByServer(side: Side, test: Pipeline, said: Said) {
  const db = test[side];
  await db.admin.unsafe(LOOP(said));
  const [row] = await test.context[side].unsafe<{ said: string }[]>(`select (${said}) as said`);
  const pins = PINS[side].split("; ");
  const expected = row?.said ?? "";
  const half = COMBINATIONS.length / 2;
  const told = async () =>
    (
      await Promise.all([
        toldIn(db, pins, COMBINATIONS.slice(0, half), expected),
        toldIn(db, pins, COMBINATIONS.slice(half), expected),
      ])
    ).flat();
  /** The settings of which nobody would tell that they are not pinned. */
  const unseen = async () => {
    const names: string[] = [];
    for (const name of Object.keys(PINNED)) {
      const without = pins.filter((pin) => !pin.startsWith(`set local ${name} = `));
      const all = await Promise.all(
        (VALUES[name] ?? []).map((value, at) =>
          toldIn(
            db,
            without,
            [at === 0 ? 0 : COMBINATIONS.length - 1],
            expected,
            LEFT.includes(name as typeof OF_SESSION) ? {} : { [name]: value },
          ).catch(() => ["refused"]),
        ),
      );
      if (without.length !== pins.length - 1 || all.flat().length === 0) names.push(name);
    }
    return names;
  };
  return { told, unseen };
}

it("under every combination of the settings that shape text, on either side, each value of each built-in type is read, and lands, as the same", async () => {
  await using test = await landed();
  const ofSource = asksSource(test);
  const texts = await ofSource(test.context.source);
  const ofTarget = await asksTarget(test, texts);
  const expected = { source: texts, target: await ofTarget.ask(test.context.target) };
  for (let row = 1; row <= ROWS; row++)
    expect([expected.target[`${row} fits`], expected.target[`${row} otherwise`], expected.target[`${row} new`]]).toEqual([
      "true",
      "",
      expected.target[`${row} now`],
    ]);
  // Any two values of the others meet.
  for (const [at, one] of BESIDE.entries())
    for (const other of BESIDE.slice(at + 1)) {
      const met = new Set(range(ROLES).map((n) => JSON.stringify([ofRole(n)[one], ofRole(n)[other]])));
      expect(met.size, `${one} and ${other}`).toBe(4);
    }

  // What a side says depends on that side's settings alone: what holds in every combination of each side holds in
  // every combination of both.
  const entity = test.context.entities.get(ENTITY);
  if (!entity) throw new Error("no entity");
  const records = recordsSql(entity, drivingSql(entity), "true");
  const source = await askedByServer(
    "source",
    test,
    `select pg_catalog.string_agg(${DIGEST_SQL}::text, ',' order by ${RECORD_KEY}) || ${SETTINGS_SAID} from (${records}) q`,
  );
  const target = await askedByServer(
    "target",
    test,
    `select pg_catalog.string_agg(pg_catalog.md5((x.*)::text), ',' order by x.key) || ${SETTINGS_SAID} from (${ofTarget.statement}) x`,
  );
  const told = await Promise.all([source.told(), target.told()]);
  expect(told.map((list) => list.slice(0, 3))).toEqual([[], []]);
  const installed = await Promise.all([
    asInstalled("source", test.source, ofSource, expected.source),
    asInstalled("target", test.target, ofTarget.ask, expected.target),
  ]);
  expect(installed.map((list) => list.slice(0, 3))).toEqual([[], []]);

  // Not for nothing: where one setting is not pinned, the same questions tell.
  expect(await Promise.all([source.unseen(), target.unseen()])).toEqual([[], []]);
});

it.each(["source", "target"] as const)(
  "each setting of the server that may shape text is pinned, or there is a reason (%s)",
  async (side) => {
    await using db = await createTestTarget();
    const settings = await db.admin<{ name: string; category: string }[]>`select name, category from pg_settings order by name`;
    const set = new Set(
      [...PINS[side].matchAll(/set local (\w+)|set_config\('(\w+)'/g)].map(([, plain, called]) =>
        (plain ?? called ?? "").toLowerCase(),
      ),
    );
    const shaping = settings.filter(({ category }) => SHAPING.test(category));
    expect(settings.filter(({ category }) => !SHAPING.test(category) && !NOT_SHAPING.test(category))).toEqual([]);
    expect(shaping.map(({ name }) => name).filter((name) => !set.has(name.toLowerCase()) && !(name in REASONS))).toEqual([]);
    expect(Object.keys(PINNED).filter((name) => !set.has(name.toLowerCase()) || !(name in VALUES))).toEqual([]);
  },
);

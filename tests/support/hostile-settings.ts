import { execFileSync } from "node:child_process";
import type { TestDatabase } from "./databases.ts";
import type { Pipeline } from "./pipeline.ts";

/** A locale of a language in UTF-8 that this machine has. */
export function localeOf(language: string): string | undefined {
  const locales = execFileSync("locale", ["-a"], { encoding: "utf8" }).split("\n");
  return locales.find((name) => new RegExp(`^${language}\\.utf-?8$`, "i").test(name));
}

/** Settings that shape the text of values, or the reading of it, each with two values; most of them are none of our own. */
export const HOSTILE: Readonly<Record<string, readonly [string, string]>> = {
  IntervalStyle: ["sql_standard", "postgres_verbose"],
  DateStyle: ["SQL, DMY", "German"],
  TimeZone: ["Asia/Kathmandu", "America/St_Johns"],
  extra_float_digits: ["-15", "0"],
  bytea_output: ["escape", "hex"],
  xmloption: ["document", "content"],
  xmlbinary: ["hex", "base64"],
  standard_conforming_strings: ["off", "on"],
  client_encoding: ["LATIN1", "SQL_ASCII"],
  array_nulls: ["off", "on"],
  quote_all_identifiers: ["on", "off"],
  transform_null_equals: ["on", "off"],
  search_path: ["evil", "pg_temp, evil, pg_catalog"],
  default_transaction_isolation: ["serializable", "repeatable read"],
  default_transaction_deferrable: ["on", "off"],
  timezone_abbreviations: ["India", "Australia"],
  default_text_search_config: ["german", "french"],
  escape_string_warning: ["off", "on"],
  row_security: ["off", "on"],
  // Two decimals in all of them; another sign, other separators.
  lc_monetary: ["POSIX", localeOf("en_US") ?? "C"],
};

/**
 * Nine combinations of the settings of both sides in which any two settings meet with any two of their two values: in
 * the first each has its first; of the others each setting has its second in another five of eight. Two fives of
 * eight share one, and differ. All combinations would be 2 to the power of twice the settings, and one takes half a
 * minute.
 */
export const COMBINATIONS: readonly (readonly number[])[] = (() => {
  const fives = Array.from({ length: 256 }, (_, set) => Array.from({ length: 8 }, (_unused, bit) => (set >> bit) & 1)).filter(
    (set) => set.reduce((sum, bit) => sum + bit, 0) === 5,
  );
  const columns = Object.keys(HOSTILE).flatMap((_, at) => [fives[2 * at], fives[2 * at + 1]]);
  if (columns.includes(undefined)) throw new Error("there are more settings than fives");
  return [columns.map(() => 0), ...Array.from({ length: 8 }, (_, row) => columns.map((column) => column?.[row] ?? 0))];
})();

/** Sets every setting on either side, of the database or of the role in it, and ends the sessions that had others. */
export async function setHostile(test: Pipeline, n: number): Promise<void> {
  const combination = COMBINATIONS[n % COMBINATIONS.length] ?? [];
  for (const [side, db, role] of [
    [0, test.source, "isthmus_reader"],
    [1, test.target, "isthmus_worker"],
  ] as const) {
    await db.admin.unsafe(`create schema if not exists evil`);
    for (const [at, [name, values]] of Object.entries(HOSTILE).entries()) {
      const value = values[combination[2 * at + side] ?? 0] ?? "";
      const of = (n + at + side) % 2 === 0 ? `database "${db.name}"` : `role ${role} in database "${db.name}"`;
      await db.admin.unsafe(`alter database "${db.name}" reset ${name}`);
      await db.admin.unsafe(`alter role ${role} in database "${db.name}" reset ${name}`);
      await db.admin.unsafe(`alter ${of} set ${name} = ${name === "search_path" ? value : `'${value}'`}`);
    }
    await db.admin`select pg_terminate_backend(pid) from pg_stat_activity where datname = ${db.name} and usename = ${role}`;
  }
  // Whoever still believes in an ended session learns of it here.
  for (const pool of [test.context.source, test.context.target])
    await Promise.all([1, 2, 3, 4].map(() => pool.unsafe("select 1").catch(() => undefined)));
}

/** Every value as text, in a session whose settings are all known; none of them is one of the sync's. */
export async function neutralText(db: TestDatabase, table: string, key: string, columns: readonly string[]): Promise<unknown> {
  const session = await db.admin.reserve();
  try {
    await session.unsafe(`
      set IntervalStyle = 'postgres'; set DateStyle = 'Postgres, YMD'; set TimeZone = 'Etc/GMT+1'; set extra_float_digits = 1;
      set bytea_output = 'escape'; set xmloption = 'content'; set array_nulls = on; set standard_conforming_strings = on;
      set client_encoding = 'UTF8'; set lc_monetary = 'C'; set search_path = public`);
    return [
      ...(await session.unsafe(
        `select ${key}::text as id, ${columns
          .map((name) => `${name}::text as ${name}`)
          .join(", ")} from public.${table} t order by t.${key}`,
      )),
    ];
  } finally {
    await session.unsafe("reset all");
    session.release();
  }
}

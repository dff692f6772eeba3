import { readdirSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { expect, it } from "vitest";

const ROOT = resolve(import.meta.dirname, "..");

/** A table whose name is somebody's, or the whole of what stands for one, behind a word that reads or writes tables. */
const READ =
  /\b(from|join|update|into|using|truncate|lock table|copy)\s+(?:only\s+)?((?:(?:public|pg_temp|sync)\.)?(?:%(?:\d+\$)?[Is]|\$\{[^}]*\}(?:\})?)(?:\.\w+|\.%(?:\d+\$)?I)?)([^\n]*)/g;
/** The alias behind it: a word of ours that PostgreSQL takes for one. */
const ALIASED =
  /^ (?:as )?(?!(?:where|group|order|cross|left|join|on|set|limit|for|using|select|values|from|cascade|to)\b)[a-z_]+\b|^ \$\{\w+\} /;

/** Texts that have their alias: of a table of the source the one of the entity file, which no word of ours beside it is (freeName). */
const WITH_ALIAS = /^\$\{(drivingSql|keysSql)\(entity\)\}$/;
const OF_RIGHTS = /^\$\{(name|role|ident\(role\))\}|^%s cascade|^%s, with check/;

interface Place {
  readonly file: string;
  readonly verb: string;
  readonly table: string;
  readonly behind: string;
}

/** What is wrong with a place where a statement names a table; undefined: no word of ours can be meant by its name, nor its name by one of ours. */
function wrongWith({ verb, table, behind }: Omit<Place, "file">): string | undefined {
  // Rights are given and taken, and policies shown, by no statement that reads.
  if (OF_RIGHTS.test(table + behind)) return undefined;
  // What stands for a table with the alias that the entity file gives it, or that its own text has.
  if (WITH_ALIAS.test(table) || (/^%(\d+\$)?s$/.test(table) && /^( on true)?$/.test(behind))) return undefined;
  // A schema and a table of ours.
  if (/^%(\d+\$)?I\.(sync_|uuid_mappings_)\w+$/.test(table)) return undefined;
  if (/^%(\d+\$)?I/.test(table) || table.startsWith("${ident(")) return "is found by the search path";
  // Of a row that is inserted nothing is read under its table's name.
  if (verb === "into") return undefined;
  return ALIASED.test(behind) ? undefined : "has no alias: its name is a word of the statement";
}

function placesIn(text: string): Omit<Place, "file">[] {
  return [...text.matchAll(READ)].map(([, verb = "", table = "", behind = ""]) => ({ verb, table, behind }));
}

it.each([
  ["select from public.%I t where t.id = $1", undefined],
  ["insert into %1$s (id, %2$s) select", undefined],
  ["left join %10$I.uuid_mappings_enhanced m on true", undefined],
  ["from ${drivingSql(entity)} where true", undefined],
  ["left join %2$s on true", undefined],
  ["delete from %s where id = 1", "has no alias: its name is a word of the statement"],
  ["select from %I t where t.id = $1", "is found by the search path"],
  ["join ${ident(table)} x on true", "is found by the search path"],
  ["select count(*) from public.%2$I where id = $1", "has no alias: its name is a word of the statement"],
  ["update public.%I set x = 1", "has no alias: its name is a word of the statement"],
])("%s: %s", (sql, wrong) => {
  expect(placesIn(sql).map(wrongWith)).toEqual([wrong]);
});

const ALONE = "no other table is in its scope, and columns go before tables";
const OWN_QUERY = "a query of ours, under a name that no word of the entity file is (freeName)";
/** Places without an alias, and why no name matters there. */
const KNOWN: Readonly<Record<string, string>> = {
  "supabase/schemas/functions/adoption-decisions.sql: from public.%I where id = $1 and %I = $2": ALONE,
  "supabase/schemas/functions/registration.sql: from public.%I)": ALONE,
  "supabase/schemas/functions/shadows.sql: from %4$s) k": "the text of a query that has its alias",
  "supabase/schemas/functions/shadows.sql: from %3$s cross join lateral": "the text of a query that has its alias",
  "shared/sql/key-range.ts: from ${": "is distinct from",
  "shared/source/projection.ts: from ${from}": "the text of tables that have their aliases",
  "shared/source/claims.ts: from public.${ident(table)} where": ALONE,
  "shared/source/keys.ts: from ${page})": OWN_QUERY,
  "shared/source/keys.ts: from ${last})": OWN_QUERY,
  "shared/source/keys.ts: from ${stamp})": "extract(epoch from ...)",
  "shared/source/tables.ts: from ${table}": ALONE,
  "shared/source/tables.ts: from public.${ident(table)} where": ALONE,
  "shared/contract/key-claims.ts: from public.${ident(table)}": "what a person is told to run, alone",
};

it("no statement of ours can take a table of an installation for a query, an alias or a variable of ours, or the other way round", () => {
  const places = ["supabase/schemas", "shared/sql", "shared/source", "shared/target", "shared/page", "shared/contract"].flatMap(
    (folder) =>
      readdirSync(join(ROOT, folder), { recursive: true, encoding: "utf8" })
        .filter((file) => /\.(sql|ts)$/.test(file) && !file.endsWith(".gen.ts"))
        .flatMap((file): Place[] => {
          const text = readFileSync(join(ROOT, folder, file), "utf8").replace(/^\s*(--|\/\/|\*|\/\*).*$/gm, "");
          return placesIn(text).map((place) => ({ file: `${folder}/${file}`, ...place }));
        }),
  );
  expect(places.length).toBeGreaterThan(60);
  const wrong = places.flatMap((place) => {
    const why = wrongWith(place);
    return why === undefined ? [] : [`${place.file}: ${place.verb} ${place.table}${place.behind} (${why})`];
  });
  const known = Object.keys(KNOWN);
  expect(wrong.filter((one) => !known.some((start) => one.startsWith(start)))).toEqual([]);
  expect(known.filter((start) => !wrong.some((one) => one.startsWith(start)))).toEqual([]);
});

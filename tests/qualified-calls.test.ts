import { readdirSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { expect, it } from "vitest";

const ROOT = resolve(import.meta.dirname, "..");

/** Functions that take an argument of any type. Where somebody's type has the name of one, PostgreSQL takes the call for a cast to that type. */
const UNQUALIFIED =
  /(?<![.\w])(unnest\((?!\$\d::text::bigint\[\], )|((jsonb?|array|range)_agg|to_jsonb?|pg_typeof|cardinality|any_value)\()/;

it.each([
  ["select unnest($1::bigint[])", true],
  ["coalesce(jsonb_agg(a.attname), '[]')", true],
  ["select pg_catalog.unnest($1::bigint[])", false],
  // Several arguments are no cast.
  ["from unnest($1::text::bigint[], $2::text::bigint[])", false],
  ["jsonb_object_agg(a.key, a.value)", false],
])("%s can be taken for a cast: %s", (sql, can) => {
  expect(UNQUALIFIED.test(sql)).toBe(can);
});

// Functions of the schema sync have a search path without public.
it.each(["shared", "functions", "cli", "local/demo", "scripts"])(
  "no statement below %s calls a function that a type of the installation can stand for",
  (folder) => {
    const found = readdirSync(join(ROOT, folder), { recursive: true, encoding: "utf8" })
      .filter((file) => file.endsWith(".ts"))
      .filter((file) => UNQUALIFIED.test(readFileSync(join(ROOT, folder, file), "utf8")));
    expect(found).toEqual([]);
  },
);

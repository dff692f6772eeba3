import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { CALL_GRAPH_FILE, generateCallGraph } from "../scripts/generate-call-graph.ts";
import { callsAhead, callsOf, fileCalls, functionsOf, reduced, type SqlFunction } from "../scripts/schema/call-graph.ts";
import { declaredFiles } from "../scripts/schema/declared.ts";
import { createTestTarget } from "./support/databases.ts";

const file = (path: string, ...functions: string[]) => ({
  path,
  sql: functions.map((text) => `create function sync.${text};\ncomment on function sync.a() is 'calls sync.c()';\n`).join("\n"),
});
const body = (text: string) => `() returns void language sql as $$ ${text} $$`;

describe("functions of the database call those of their own file and of earlier ones", () => {
  const files = [
    file("one.sql", `a${body("select 1")}`, `b${body("select sync.a()")}`),
    file("two.sql", `c${body("select format('%s', 'perform sync.a()') -- sync.d()\n")}`),
    file("three.sql", `d() returns text return sync.c()`),
  ];
  const calls = (all = files) => callsOf(all.flatMap(functionsOf), all);

  it("a call within the file, one of an earlier file and one that a comment names are fine", () => {
    expect(calls().map(({ from, to }) => `${from} > ${to}`)).toEqual(["b > a", "c > a", "d > c"]);
    expect(callsAhead(calls(), files)).toEqual([]);
  });

  it("a call into a later file is found, and with it every circle of files", () => {
    const circle = [file("one.sql", `a${body("select sync.d()")}`), ...files.slice(1)];
    expect(callsAhead(calls(circle), circle)).toEqual([{ from: "a", to: "d", fromFile: "one.sql", toFile: "three.sql" }]);
  });

  it("the drawing leaves out what follows from the rest", () => {
    const more = [...files, file("four.sql", `e${body("select sync.a(), sync.d()")}`)];
    expect(fileCalls(calls(more), more).get("four.sql")).toEqual(["one.sql", "three.sql"]);
    expect(reduced(fileCalls(calls(more), more)).get("four.sql")).toEqual(["three.sql"]);
  });

  it("no function of supabase/schemas/ calls one of a later file, as the database has them", async () => {
    await using target = await createTestTarget();
    const functions = await target.admin<SqlFunction[]>`
      select proname as name, pg_get_functiondef(oid) as text from pg_proc where pronamespace = 'sync'::regnamespace order by oid`;
    const declared = declaredFiles();
    expect(functions.map(({ name }) => name).sort()).toEqual(
      declared
        .flatMap(functionsOf)
        .map(({ name }) => name)
        .sort(),
    );
    const found = callsOf(functions, declared);
    expect(found.length).toBeGreaterThan(400);
    expect(
      callsAhead(found, declared).map(({ from, to, fromFile, toFile }) => `${from} (${fromFile}) calls ${to} (${toFile})`),
    ).toEqual([]);
    // What is drawn is what the database has.
    const edges = (all: typeof found) => all.map(({ from, to }) => `${from} > ${to}`).sort();
    expect(edges(found)).toEqual(edges(callsOf(declared.flatMap(functionsOf), declared)));
  });

  it("docs/sql-files.md draws them (npm run generate)", async () => {
    expect(readFileSync(CALL_GRAPH_FILE, "utf8")).toBe(await generateCallGraph());
  });
});

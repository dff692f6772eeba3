import { readdirSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { describe, expect, it } from "vitest";

const ROOT = resolve(import.meta.dirname, "..");

/** What outlives its transaction in a session, and what of it is allowed. A pooler gives the session to others then. */
const LEAKS: readonly { readonly what: string; readonly pattern: RegExp; readonly leak: string; readonly fine: string }[] = [
  {
    what: "set_config without is_local",
    pattern: /set_config\((?:[^()]|\([^()]*\))*,\s*false\s*\)/i,
    leak: "set_config('a.b', 'c', false)",
    fine: "set_config('a.b', f(1), true)",
  },
  {
    what: "a lock of the session",
    pattern: /pg_(try_)?advisory_(lock|unlock)/i,
    leak: "select pg_try_advisory_lock(1)",
    fine: "select pg_advisory_xact_lock(1)",
  },
  {
    what: "a temporary table that stays",
    pattern: /create\s+temp(orary)?\s+(table|view|sequence)\b(?![^;]*\bon commit drop)/i,
    leak: "create temp table t (id integer);",
    fine: "create temp table t (id integer) on commit drop;",
  },
  { what: "LISTEN", pattern: /^\s*(un)?listen\s+\w+/im, leak: "listen pages", fine: "-- they listen" },
  { what: "a cursor that stays", pattern: /with hold/i, leak: "declare c cursor with hold for select 1", fine: "cursor for" },
];

describe("nothing that a pooler's session keeps is relied on", () => {
  it.each(LEAKS)("$what is recognised", ({ pattern, leak, fine }) => {
    expect(pattern.test(leak)).toBe(true);
    expect(pattern.test(fine)).toBe(false);
  });

  const files = ["migrations", "supabase/schemas", "shared"].flatMap((folder) =>
    readdirSync(join(ROOT, folder), { recursive: true, encoding: "utf8" })
      .filter((file) => /\.(sql|ts)$/.test(file))
      .map((file) => join(ROOT, folder, file)),
  );
  it.each(LEAKS)("no SQL of ours leaves $what behind", ({ pattern }) => {
    const found = files.filter((file) => pattern.test(readFileSync(file, "utf8").replace(/^\s*(--|\*|\/\*\*).*$/gm, "")));
    expect(found.map((file) => file.slice(ROOT.length + 1))).toEqual([]);
  });
});

import { readdirSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import type { Sql } from "postgres";

const ROOT = resolve(import.meta.dirname, "../..");

/** What stands in our SQL before a dot, behind AS, WITH, FROM, JOIN or TEMP TABLE, or is a variable: everything that a user's name could meet. */
const RELATIONS = [
  /\b([a-z_][a-z0-9_]*)"?\s*\.\s*(?:\*|"?[a-z_])/g,
  /\b(?:with(?: recursive)?|from|join|temp table|update|into)\s+(?:pg_temp\.|public\.)?([a-z_][a-z0-9_]*)/g,
  /\b([a-z_][a-z0-9_]*)\s+as\s+(?:not )?(?:materialized )?\(/g,
  /\)\s+(?:as\s+)?([a-z_][a-z0-9_]*)(?=\s*(?:\(|\n|on\b|where\b|cross\b|left\b|join\b|order\b|limit\b|\)))/g,
];
const COLUMNS = [/\.\s*"?([a-z_][a-z0-9_]*)/g, /\bas\s+"?([a-z_][a-z0-9_]*)/g, /\b([vpc]_[a-z0-9_]+)/g];

export interface SqlNames {
  /** Aliases, tables and queries. */
  readonly relations: readonly string[];
  /** Columns, variables, parameters and functions, and the relations: a column may be taken for a whole row. */
  readonly columns: readonly string[];
}

/** Every name that our SQL uses, from its own text and from the catalog of a target that has it. */
export async function sqlNames(target: Sql): Promise<SqlNames> {
  const text = [...["supabase/schemas", "shared/sql", "shared/source", "shared/target", "shared/contract"].flatMap(sqlIn)].join(
    "\n",
  );
  const found = (patterns: readonly RegExp[]) =>
    patterns.flatMap((pattern) => [...text.matchAll(pattern)].map(([, name = ""]) => name));
  const catalog = await target<{ name: string; relation: boolean }[]>`
    select c.relname::text as name, true as relation from pg_class c where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p', 'v') and c.relname like 'sync\_%'
    union select a.attname, false from pg_attribute a join pg_class c on c.oid = a.attrelid
     where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p', 'v') and c.relname ~ '^(sync_|uuid_mappings)' and a.attnum > 0 and not a.attisdropped
    union select p.proname, false from pg_proc p where p.pronamespace = 'sync'::regnamespace
    union select a, false from pg_proc p cross join lateral unnest(p.proargnames) a where p.pronamespace = 'sync'::regnamespace and a <> ''`;
  const relations = unique([...found(RELATIONS), ...catalog.filter(({ relation }) => relation).map(({ name }) => name)]);
  return { relations, columns: unique([...relations, ...found(COLUMNS), ...catalog.map(({ name }) => name)]) };
}

/** PostgreSQL itself gives these to no column. */
const SYSTEM = ["tableoid", "xmin", "cmin", "xmax", "cmax", "ctid", "oid"];

function unique(names: readonly string[]): string[] {
  return [...new Set(names)].filter((name) => name !== "" && !SYSTEM.includes(name)).sort();
}

/** The SQL of files: the declared schema without what it only says, and the texts in backticks of the code. */
function sqlIn(folder: string): string[] {
  return readdirSync(join(ROOT, folder), { recursive: true, encoding: "utf8" })
    .filter((name) => /\.(sql|ts)$/.test(name))
    .map((name) => {
      const text = readFileSync(join(ROOT, folder, name), "utf8").replace(/^\s*(--|\/\/|\*|\/\*).*$/gm, "");
      if (name.endsWith(".sql")) return text.replace(/^comment on[^;]*;$/gm, "").replace(/\b(?:hint|message) = [^;]*;/g, "");
      return [...text.matchAll(/`[^`]*`/g)].map(([sql]) => sql).join("\n");
    });
}

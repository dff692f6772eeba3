// What an entity's SQL may look like, so that all it reads of the source is plain to see: columns, each behind its alias.
import { deniedColumns } from "./columns.ts";
import { textOf } from "./consumed-joins.ts";
import type { Entity } from "./define-entity.ts";

/** A name as it stands in an entity file. */
export const SIMPLE_NAME = /^[a-z_][a-z0-9_]*$/;

/** `from public.table alias` or `join ...`; what else follows the word, a subquery or the field of an extract(), is none. */
const DECLARATION = /\b(?:from|join)\s+(?:public\.)?([a-z_0-9]+)(?![a-z_0-9]|\s*[.(])(?:\s+(?:as\s+)?([a-z_0-9]+))?/gi;

/** One sentence per thing in an entity's SQL that would read what no `alias.column` names. */
export function sqlProblems(entity: Entity): string[] {
  const { alias, joins, watches } = entity.source;
  const sql = withoutLiterals(textOf(entity));
  const rest = sql.replace(DECLARATION, "");
  const aliases = [alias, ...Object.keys(joins), ...Object.keys(watches)];
  return [
    ...aliases
      .filter((name) => !SIMPLE_NAME.test(name) || name === "w" || name === "k")
      .map((name) => `the alias ${name} is taken, or no plain lower-case name.`),
    ...aliases.filter((name, index) => aliases.indexOf(name) !== index).map((name) => `the alias ${name} is defined twice.`),
    ...aliases.filter((name) => standsAlone(name, rest)).map((name) => `${name} is read as a whole row: name its columns.`),
    ...(/(?<!\(\s*)\*\s*(?:,|\)|\bfrom\b)/i.test(rest) ? ["* reads every column: name the columns."] : []),
    ...[...sql.matchAll(DECLARATION)]
      .filter(([, table, name = ""]) => watches[name]?.table !== table)
      .map(([, table = "", name = ""]) => `a query asks about ${table} ${name}, which no watch of that alias names.`),
    ...(/(?<![.\w])public\s*\./i.test(rest) || new RegExp(`(?:${DECLARATION.source})\\s*,`, "i").test(sql)
      ? ["a query asks about a table otherwise than by from or join with an alias."]
      : []),
    ...(/\be''|\bu&|\$|--|\/\*/i.test(sql)
      ? ["comments, escapes and dollar quotes hide what the SQL reads: write it without them."]
      : []),
    ...deniedNames(entity).map((name) => `its SQL names ${name}, which never leaves the source.`),
  ];
}

/** An alias that no column follows is its whole row, whatever stands around it. Columns are found by lower-case aliases alone. */
function standsAlone(alias: string, sql: string): boolean {
  const mentions = [...sql.matchAll(new RegExp(`(?<![.\\w]|\\.\\s+)${alias}\\b`, "gi"))];
  return mentions.some(({ 0: name, index }) => name !== alias || !/^\s*\.\s*[a-z_]/.test(sql.slice(index + name.length)));
}

/** Texts in quotes read nothing, and a plain name is the same without them. */
function withoutLiterals(text: string): string {
  return text.replace(/"([^"]*)"|'[^']*'/g, (_, name?: string) => {
    if (name === undefined) return "''";
    return SIMPLE_NAME.test(name) ? name : '"?"';
  });
}

/** Denied columns that conditions, joins and keys name: what a join consumes enters a digest. Columns are judged by their names. */
function deniedNames({ source: { key, where, predicate, joins, watches } }: Entity): string[] {
  const steps = Object.values({ ...joins, ...watches });
  const named = [key, where, predicate?.where, ...steps.flatMap((step) => [step.key, ...Object.entries(step.on).flat()])];
  return deniedColumns({}).filter((denied) => named.some((text) => new RegExp(`\\b${denied}\\b`, "i").test(text ?? "")));
}

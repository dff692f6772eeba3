// What an entity's SQL may look like, so that all it reads of the source is plain to see: columns, each behind its
// alias.
import { textOf } from "./consumed-joins.ts";
import type { Entity } from "./define-entity.ts";
import { everDenied, mentions, type Denied } from "./denied.ts";
import { isSign, isWord, tokensOf, unquoted, type Token } from "./sql-tokens.ts";

/** A name as it stands in an entity file. */
export const SIMPLE_NAME = /^[a-z_][a-z0-9_]*$/;

/** `from public.table alias` or `join ...` of a query in an expression; what else follows the word, a subquery or the field of an extract(), is none. */
interface Declaration {
  readonly table: string;
  readonly alias: string;
  /** Its first token, and the first behind it. */
  readonly from: number;
  readonly to: number;
}

/** One sentence per thing in an entity's SQL that would read what no `alias.column` names. */
export function sqlProblems(entity: Entity, denied: Denied): string[] {
  const { alias, joins, watches } = entity.source;
  const sql = textOf(entity);
  const tokens = tokensOf(sql);
  const declared = declarationsIn(tokens);
  const rest = tokens.filter((_, at) => !declared.some(({ from, to }) => at >= from && at < to));
  const aliases = [alias, ...Object.keys(joins), ...Object.keys(watches)];
  return [
    ...aliases.filter((name) => !SIMPLE_NAME.test(name)).map((name) => `the alias ${name} is no plain lower-case name.`),
    ...aliases.filter((name, index) => aliases.indexOf(name) !== index).map((name) => `the alias ${name} is defined twice.`),
    ...aliases.filter((name) => standsAlone(name, rest)).map((name) => `${name} is read as a whole row: name its columns.`),
    ...(rest.some((_, at) => readsEverything(rest, at)) ? ["* reads every column: name the columns."] : []),
    ...declared
      .filter(({ table, alias: name }) => watches[name]?.table !== table)
      .map(({ table, alias: name }) => `a query asks about ${table} ${name}, which no watch of that alias names.`),
    ...(rest.some((token, at) => isWord(token, "public") && isSign(rest[at + 1], ".") && !isSign(rest[at - 1], ".")) ||
    declared.some(({ to }) => isSign(tokens[to], ","))
      ? ["a query asks about a table otherwise than by from or join with an alias."]
      : []),
    ...(/\be''|\bu&|(?<![\p{L}\p{N}_$])\$|--|\/\*/iu.test(unquoted(sql))
      ? ["comments, escapes and dollar quotes hide what the SQL reads: write it without them."]
      : []),
    ...deniedNames(entity, denied).map((name) => `its SQL names ${name}, which never leaves the source.`),
  ];
}

function declarationsIn(tokens: readonly Token[]): Declaration[] {
  return tokens.flatMap((token, from) => {
    if (!isWord(token, "from", "join")) return [];
    const inPublic = tokens[from + 1]?.kind === "name" && isWord(tokens[from + 1], "public") && isSign(tokens[from + 2], ".");
    const at = from + (inPublic ? 3 : 1);
    const table = tokens[at];
    if (table?.kind !== "name" || isSign(tokens[at + 1], ".", "(")) return [];
    const next = at + (isWord(tokens[at + 1], "as") ? 2 : 1);
    const alias = tokens[next];
    return [
      alias?.kind === "name"
        ? { table: table.name, alias: alias.name, from, to: next + 1 }
        : { table: table.name, alias: "", from, to: next },
    ];
  });
}

/** An alias that no column follows is its whole row, whatever stands around it. */
function standsAlone(alias: string, tokens: readonly Token[]): boolean {
  return tokens.some(
    (token, at) =>
      token.kind === "name" &&
      token.name === alias &&
      !isSign(tokens[at - 1], ".") &&
      !(isSign(tokens[at + 1], ".") && tokens[at + 2]?.kind === "name"),
  );
}

/** `*` and `alias.*`, but neither count(*) nor a product. */
function readsEverything(tokens: readonly Token[], at: number): boolean {
  const next = tokens[at + 1];
  return isSign(tokens[at], "*") && !isSign(tokens[at - 1], "(") && (isSign(next, ",", ")") || isWord(next, "from"));
}

/** Denied columns that conditions, joins and keys name: what a join consumes enters a digest. Columns are judged by their names. */
function deniedNames({ source: { key, where, predicate, joins, watches } }: Entity, denied: Denied): string[] {
  const steps = Object.values({ ...joins, ...watches });
  const named = [key, where, predicate?.where, ...steps.flatMap((step) => [step.key, ...Object.entries(step.on).flat()])];
  return everDenied(denied).filter((column) => named.some((text) => mentions(text ?? "", column)));
}

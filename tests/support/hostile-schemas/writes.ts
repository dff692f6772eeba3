import type { Sql } from "postgres";
import type { Random } from "../../../clinic/dataset/random.ts";
import { ident, literal } from "../../../shared/db/ident.ts";
import { valuesOf } from "../typed-values.ts";
import type { HostileColumn, HostileSchema, HostileTable } from "./schema.ts";
import { nameOf, sourceSql, targetSql } from "./tables.ts";

/** What somebody does in a database, who lives with a refusal; either is noted in the log. `alone`: not in a transaction. */
export async function attempt(
  log: string[],
  side: string,
  sql: Sql,
  statements: readonly string[],
  alone: boolean,
): Promise<void> {
  try {
    if (alone) for (const statement of statements) await sql.unsafe(statement);
    else
      await sql.begin(async (transaction) => {
        for (const statement of statements) await transaction.unsafe(statement);
      });
    for (const statement of statements) log.push(`${side}: ${statement};`);
  } catch (error) {
    const { code, message } = error as Error & { code?: string };
    if (code === undefined) throw error;
    log.push(`${side} refuses: ${statements.join("; ")} (${code} ${message})`);
  }
}

/** Statements that make one side; those with a `?` at the front may be refused. */
export async function create(log: string[], side: string, sql: Sql, statements: readonly string[]): Promise<void> {
  for (const statement of statements) {
    if (statement.startsWith("?")) await attempt(log, side, sql, [statement.slice(1)], false);
    else await sql.unsafe(statement);
  }
}

/** SQL of a value of a column on one side. Most of them the other side can hold. */
export function valueSql(random: Random, side: "source" | "target", { pair, required }: HostileColumn, seed: number): string {
  if (!required[side] && random.chance(required.target || pair.codes ? 0.02 : 0.15)) return "null";
  const [type, other] = side === "source" ? [pair.source, pair.target] : [pair.target, pair.source];
  const texts = valuesOf(pair.values, 5, seed);
  const fits = random.chance(0.97);
  const drawn = (fitting: boolean) =>
    `pg_temp.drawn(array[${texts.map(literal).join(", ")}], ${literal(type)}, ${literal(other)}, ${String(fitting)})`;
  return `${fits ? `coalesce(${drawn(true)}, ${drawn(false)})` : drawn(false)}::${type}`;
}

/** Both sides change one field of one record; undefined: the source computes it. */
export function meetingSql(random: Random, table: HostileTable, id: string): { source: string; target: string } | undefined {
  const column = random.pick(table.columns);
  if (column.generated) return undefined;
  const update = (side: "source" | "target", key: string) =>
    `update ${nameOf(table[side])} set ${ident(column[side])} = ${valueSql(random, side, column, random.between(0, 2 ** 31 - 1))} where ${ident(key)} = '${id}'`;
  return { target: update("target", table.legacyKey), source: update("source", table.key) };
}

/** Two records of the source get each other's values; undefined: the table has none of its own. */
export function exchangeSql(table: HostileTable, one: string, other: string): string | undefined {
  const columns = table.columns.filter(({ generated }) => !generated).map(({ source }) => ident(source));
  if (columns.length === 0) return undefined;
  const name = nameOf(table.source);
  const key = ident(table.key);
  return `update ${name} w set (${columns.join(", ")}) = (select ${columns.map((column) => `o.${column}`).join(", ")} from ${name} o where o.${key} = case w.${key} when '${one}' then '${other}' else '${one}' end::bigint) where w.${key} in ('${one}', '${other}')`;
}

/** A schema, to read. */
export function describeSchema(schema: HostileSchema): string {
  const entities = schema.tables.map(
    ({ entity, source, target, onDelete, strategy, deleted, history, modified, columns, references }) =>
      `${entity}: ${source} → ${target}, ${JSON.stringify({ onDelete, strategy, deleted, history, modified })}\n` +
      [
        ...columns.map(
          ({ source: from, target: to, pair }) =>
            `    ${JSON.stringify(from)} → ${JSON.stringify(to)}: ${pair.source} → ${pair.target}, ${pair.kind}, ${pair.builder}`,
        ),
        ...references.map(
          ({ source: from, target: to, parent }) => `    ${JSON.stringify(from)} → ${JSON.stringify(to)}: table ${parent}`,
        ),
      ].join("\n"),
  );
  return [`settings ${schema.settings}`, ...entities, "source:", ...sourceSql(schema), "target:", ...targetSql(schema)].join(
    "\n",
  );
}

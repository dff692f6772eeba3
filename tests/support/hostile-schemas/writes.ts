import type { Random } from "../../../local/dataset/random.ts";
import { ident, literal } from "../../../shared/db/ident.ts";
import { valuesOf } from "../typed-values.ts";
import type { HostileColumn, HostileSchema, HostileTable } from "./schema.ts";
import { nameOf, sourceSql, targetSql } from "./tables.ts";

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

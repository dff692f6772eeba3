// What an entity consumes of tables beside its own: the rows whose changes have its records read again.
import { sha1 } from "@noble/hashes/legacy.js";
import { utf8ToBytes } from "@noble/hashes/utils.js";
import type { ColumnSource, Watch, Watches } from "./columns.ts";
import type { Entity } from "./define-entity.ts";
import { isSign, referenceOf, referenceSql, tokensOf } from "./sql-tokens.ts";

export { referenceOf } from "./sql-tokens.ts";

/** A joined or watched table as the entity sees it. */
export interface ConsumedJoin {
  /** Stands for everything below: what consumes something else has another id. */
  readonly id: number;
  readonly table: string;
  /** Column that identifies a row. */
  readonly key: string;
  /** Column by which a row belongs to records, and the `alias.column` of the projection that it equals. */
  readonly link: string;
  readonly reference: string;
  /** What leads from the driving table to the reference, in order. */
  readonly path: readonly (readonly [alias: string, step: Watch])[];
  /** Columns whose change changes records. */
  readonly columns: readonly string[];
}

/** All joins and watches of an entity; those that consume the same of the same rows once. */
export function consumedJoins(entity: Entity): ConsumedJoin[] {
  const text = textOf(entity);
  const steps = { ...entity.source.joins, ...entity.source.watches };
  const all = Object.entries(steps).map(([alias, { table, key = "id", on }]) => {
    const [[link, reference] = ["", ""]] = Object.entries(on);
    const columns = [...new Set([...Object.keys(on), ...columnsOf(alias, text)])].sort();
    const join = { table, key, link, reference, path: pathTo(reference, steps), columns };
    return { id: idOf([entity.source.table, entity.source.key, join]), ...join };
  });
  return [...new Map(all.map((join) => [join.id, join])).values()];
}

/** Columns that a text of SQL reads of an alias. */
export function columnsOf(alias: string, text: string): string[] {
  const tokens = tokensOf(text);
  return tokens.flatMap((token, at) => {
    const column = tokens[at + 2];
    const reads =
      token.kind === "name" &&
      token.name === alias &&
      !isSign(tokens[at - 1], ".") &&
      isSign(tokens[at + 1], ".") &&
      column?.kind === "name";
    return reads ? [column.name] : [];
  });
}

/** All SQL of a definition: columns, expressions, conditions. */
export function textOf({ source: { columns, joins, where, predicate, watches } }: Entity): string {
  return [
    ...Object.values(columns).map(sqlOf),
    ...Object.values({ ...joins, ...watches }).flatMap((step) => Object.values(step.on).map(sqlOf)),
    where ?? "",
    predicate?.where ?? "",
  ].join("\n");
}

/** A column of a projection as SQL. */
export function sqlOf(column: ColumnSource): string {
  return typeof column === "string" ? referenceSql(column) : column.sql;
}

/** What lies between the driving table and a reference, each step behind those that it needs itself. */
export function pathTo(reference: string, steps: Watches): [string, Watch][] {
  const [alias] = referenceOf(reference);
  const { [alias]: step, ...others } = steps;
  if (!step) return [];
  const before = Object.values(step.on).flatMap((other) => pathTo(other, others));
  return [...new Map<string, Watch>([...before, [alias, step]])];
}

function idOf(definition: unknown): number {
  const digest = sha1(utf8ToBytes(JSON.stringify(definition)));
  return new DataView(digest.buffer, digest.byteOffset).getInt32(0);
}

/** What an entity consumes of a joined row. A row whose link is NULL belongs to no record, and nothing of it counts. */
export interface JoinRow {
  readonly id: string;
  readonly link: string | null;
  readonly digest: string | null;
}

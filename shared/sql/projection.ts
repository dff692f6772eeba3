import { ident } from "../db/ident.ts";
import type { ColumnSource, Watch } from "../entities/columns.ts";
import type { Entity } from "../entities/define-entity.ts";

/** A column of a projection: `alias.column` with its names quoted, or the expression as the entity file has it. */
export function columnSql(column: ColumnSource): string {
  return typeof column === "string" ? column.split(".").map(ident).join(".") : column.sql;
}

/** The key of the driving table, without a cast: its index must serve every comparison and order. */
export function keySql(entity: Entity): string {
  return `${ident(entity.source.alias)}.${ident(entity.source.key)}`;
}

/** The driving table under its alias. */
export function drivingSql(entity: Entity): string {
  return `public.${ident(entity.source.table)} ${ident(entity.source.alias)}`;
}

/** The joined tables: none of them adds a row to the driving table's. */
export function joinsSql(entity: Entity): string {
  return Object.entries(entity.source.joins)
    .map(([alias, join]) => joinSql(alias, join, join.required === true ? "join" : "left join"))
    .join(" ");
}

/** One joined table under its alias. */
export function joinSql(alias: string, { table, on }: Watch, kind: "join" | "left join"): string {
  const equal = Object.entries(on).map(([column, other]) => `${ident(alias)}.${ident(column)} = ${columnSql(other)}`);
  return `${kind} public.${ident(table)} ${ident(alias)} on ${equal.join(" and ")}`;
}

/** Which rows of the driving table are records. */
export function whereSql(entity: Entity): string {
  return entity.source.where === undefined ? "true" : `(${entity.source.where})`;
}

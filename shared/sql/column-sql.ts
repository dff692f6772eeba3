import { ident } from "../db/ident.ts";
import type { ColumnSource } from "../entity/columns.ts";
import { referenceOf } from "../entity/consumed-joins.ts";

/** A column of a projection: `alias.column` with its names quoted, or the expression as the entity file has it. */
export function columnSql(column: ColumnSource): string {
  if (typeof column !== "string") return column.sql;
  return referenceOf(column).map(ident).join(".");
}

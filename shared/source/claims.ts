import type { Sql } from "../db/connect.ts";
import { ident } from "../db/ident.ts";
import { inTransaction, query } from "../db/query.ts";
import { IsthmusError } from "../errors.ts";

/** What a statement is cancelled with at its time limit; and a table that may not be read, or of which policies hide rows: a finding of its own. */
const UNANSWERED: readonly unknown[] = ["57014", "42501"];

/** Whether a column of a table is null in some row. undefined: not answered within the limit, or not readable. */
export function hasNull(source: Sql, table: string, column: string, limitMs: number): Promise<boolean | undefined> {
  return answer(source, `select from public.${ident(table)} where ${ident(column)} is null limit 1`, limitMs);
}

/** Whether several rows of a table have the same values in these columns; a row with a null has none. undefined: not answered within the limit, or not readable. */
export function hasRepeated(
  source: Sql,
  table: string,
  columns: readonly string[],
  limitMs: number,
): Promise<boolean | undefined> {
  const list = columns.map(ident);
  return answer(
    source,
    `select from public.${ident(table)} where ${list.map((column) => `${column} is not null`).join(" and ")}
      group by ${list.join(", ")} having count(*) > 1 limit 1`,
    limitMs,
  );
}

async function answer(source: Sql, text: string, limitMs: number): Promise<boolean | undefined> {
  try {
    return await inTransaction(source, "source", async (tx) => {
      await query(tx, "source", "select set_config('statement_timeout', $1, true)", [`${Math.max(1, Math.ceil(limitMs))}ms`]);
      return (await query(tx, "source", text)).length > 0;
    });
  } catch (error) {
    if (error instanceof IsthmusError && UNANSWERED.includes(error.detail["sqlstate"])) return undefined;
    throw error;
  }
}

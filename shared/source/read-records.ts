import type { Queryable } from "../db/connect.ts";
import { integerArray } from "../db/ident.ts";
import { query } from "../db/query.ts";
import type { ColumnSource } from "../entity/columns.ts";
import { KEY, type Entity, type SourceRow } from "../entity/define-entity.ts";
import { IsthmusError } from "../errors.ts";
import { categoryOfState, type StateCategory } from "../recovery.ts";
import { BYTES, columnProbeSql, decodeRecord, projectionSql, sizeSql } from "./projection.ts";

export interface ReadRecords {
  /** In the order of their keys. */
  readonly rows: readonly SourceRow[];
  /** Of the rows; where there are none, because the first goes beyond the budget, of that one. */
  readonly bytes: number;
  /** The first key whose record goes beyond the budget; undefined: all are there. */
  readonly beyond?: string;
}

/** The current records of the keys, as far as they fit into the budget. A key without a record is missing from the answer. */
export async function readRecords(
  source: Queryable,
  entity: Entity,
  ids: readonly string[],
  budgetBytes: number,
): Promise<ReadRecords> {
  // One row more than keys is enough to know that a key repeats: a joined table may have a million for each.
  const sql = `${projectionSql(entity)} limit ${ids.length + 1}`;
  const sent = await query<Record<string, string | null>>(source, "source", sql, [integerArray(ids), String(budgetBytes)]);
  const all = sent.map((row) => decodeRecord(entity, row));
  const sizes = all.map((row) => Number(row[BYTES]));
  const fits = sizes.findIndex((bytes) => bytes > budgetBytes);
  const rows = fits < 0 ? all : all.slice(0, fits);
  const beyond = fits < 0 ? undefined : all[fits]?.[KEY];
  return { rows, bytes: sizes[Math.max(0, rows.length - 1)] ?? 0, ...(typeof beyond === "string" ? { beyond } : {}) };
}

/** How many bytes a record has as text; undefined: it has none, or the source cannot tell. */
export async function recordBytes(source: Queryable, entity: Entity, id: string): Promise<number | undefined> {
  try {
    const [row] = await query<{ bytes: string }>(source, "source", sizeSql(entity), [integerArray([id])]);
    return row === undefined ? undefined : Number(row.bytes);
  } catch {
    return undefined;
  }
}

/** What the data of one record can cause while the source computes or sends it: a cast, bytes that are no text of the encoding, a function, a damaged row. */
const OF_ONE_RECORD: readonly StateCategory[] = ["record", "size", "damage"];

/** The SQLSTATE of an error that one record can have caused, undefined of any other. */
export function stateOfRecord(error: unknown): string | undefined {
  if (!(error instanceof IsthmusError) || error.code !== "SOURCE_REFUSED") return undefined;
  const state = String(error.detail["sqlstate"]);
  return OF_ONE_RECORD.includes(categoryOfState(state)) ? state : undefined;
}

/** The column of a record that the source cannot compute, asked for one by one; `first` is asked for first. */
export async function refusedColumn(source: Queryable, entity: Entity, id: string, first: string | null): Promise<string | null> {
  const columns: [string | null, ColumnSource][] = Object.entries(entity.source.columns);
  columns.sort(([a], [b]) => Number(b === first) - Number(a === first));
  // What fails without any column is the condition.
  columns.unshift([null, { type: "text", sql: "''" }]);
  for (const [name, column] of columns) {
    try {
      await query(source, "source", columnProbeSql(entity, column), [integerArray([id])]);
    } catch (error) {
      if (stateOfRecord(error) !== undefined) return name;
      throw error;
    }
  }
  return null;
}

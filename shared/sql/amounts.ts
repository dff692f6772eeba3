import { query } from "../db/query.ts";
import type { Entity } from "../entity/define-entity.ts";
import { columnSql } from "./column-sql.ts";

/** Money column of the target, the name under which its sums are told, and how the source spells it. */
export type MoneyColumns = readonly { readonly target: string; readonly told: string; readonly source: string }[];

/** Count and exact sums of a bucket, as text: `{n, <column>: sum}`. */
export type BucketTotals = Readonly<Record<string, string | null>> & { readonly bucket: string; readonly n: string };

/** Keys are summed in buckets of 2^14 neighbours, and only buckets that differ are looked into. */
export const BUCKET_BITS = 14;

/** What totals tell besides money. */
const TOLD = ["bucket", "n", "id"];

export function moneyColumns(entity: Entity): MoneyColumns {
  return Object.entries(entity.fields)
    .filter(([, field]) => field.money)
    .map(([target, field]) => {
      const column = entity.source.columns[field.columns[0] ?? ""];
      // No two columns are told by one name, whatever they are called.
      const told = TOLD.includes(target) || target.endsWith(" (money)") ? `${target} (money)` : target;
      return { target, told, source: column === undefined ? "null" : columnSql(column) };
    });
}

/** Rows of keys, counts and amounts, each amount in the one form that it has without trailing zeros. */
export async function queryAmounts<Row extends Readonly<Record<string, string | null>>>(
  entity: Entity,
  ...args: Parameters<typeof query>
): Promise<Row[]> {
  const rows = await query<Row>(...args);
  const told = new Map(moneyColumns(entity).map((money, index) => [`m${index}`, money.told]));
  const trimmed = (row: Row) =>
    Object.entries(row).map(([name, text]) => [told.get(name) ?? name, text === null ? null : trimScale(text)]);
  return rows.map((row) => Object.fromEntries(trimmed(row)) as Row);
}

/** A number's text without trailing zeros behind its point; trim_scale of PostgreSQL 13, for sources that have none. */
export function trimScale(text: string): string {
  return text.includes(".") ? text.replace(/\.?0+$/, "") : text;
}

import { z } from "zod";
import { ident, integerArray } from "../db/ident.ts";
import { KEY, type Entity } from "../entity/define-entity.ts";
import { keysBehind, keysUpTo, type KeyRange } from "../sql/key-range.ts";
import { spanParameters, type Span } from "../sql/spans.ts";
import { columnSql } from "../sql/column-sql.ts";
import { drivingSql, joinsSql, keySql } from "./projection.ts";
import type { KeyQuery } from "./keys.ts";

/** What a filter's values are compared as: of the family of the column's own type, so that its index serves. */
export const FILTER_TYPES = ["bigint", "text", "boolean"] as const;

const selection = z.object({
  filters: z.array(z.object({ column: z.string(), type: z.enum(FILTER_TYPES), values: z.array(z.string()) })).default([]),
  /** Column → from (inclusive) and to (exclusive). */
  dated: z.object({ column: z.string(), from: z.string().optional(), to: z.string().optional() }).optional(),
  /** The records that refer to the selected ones are read as well. */
  dependants: z.boolean().default(false),
});
/** Which records of an entity a selection chain reads, as it stands in sync_chains. */
export type Selection = z.input<typeof selection>;

export function parseSelection(stored: unknown): z.output<typeof selection> {
  return selection.parse(stored);
}

/** Keyset page over the records of a selection, by columns of the driving table. Whether they are let in, the read tells. */
export function selectedKeys(entity: Entity, range: KeyRange, { filters, dated }: ReturnType<typeof parseSelection>): KeyQuery {
  const key = keySql(entity);
  const parameters: (string | number | null)[] = [range.after, range.limit, range.upTo];
  const bind = (value: string) => `$${parameters.push(value)}::text`;
  const column = (name: string) => `${ident(entity.source.alias)}.${ident(name)}`;
  const conditions = filters.map(
    (filter) =>
      `${column(filter.column)} = any (array(select jsonb_array_elements_text(${bind(JSON.stringify(filter.values))}::jsonb)::${filter.type}))`,
  );
  if (dated?.from !== undefined) conditions.push(`${column(dated.column)} >= ${bind(dated.from)}::timestamptz`);
  if (dated?.to !== undefined) conditions.push(`${column(dated.column)} < ${bind(dated.to)}::timestamptz`);
  // What names no record selects none.
  if (conditions.length === 0) conditions.push("false");
  return {
    text: `select ${key}::text as id from ${drivingSql(entity)}
            where ${[keysBehind(key, "$1::text::bigint"), keysUpTo(key, "$3::text::bigint"), ...conditions].join(" and ")} order by ${key} limit $2`,
    parameters,
  };
}

/** Keys of the records whose field refers to one of these; `reference`: the projection's column that holds the parent's id; `span`: of these keys only. */
export function referringKeys(
  entity: Entity,
  reference: string,
  parents: readonly string[],
  limit: number,
  span?: Span,
): KeyQuery {
  return {
    text: `select ${keySql(entity)}::text as id from ${drivingSql(entity)} ${joinsSql(entity)}
            where ${reference === KEY ? keySql(entity) : columnSql(entity.source.columns[reference] ?? "")} = any ($1::text::bigint[])
              ${span === undefined ? "" : `and ${keySql(entity)} between $3::text::bigint and $4::text::bigint`} limit $2`,
    parameters: [integerArray(parents), limit, ...spanParameters(span)],
  };
}

import { ident, integerArray } from "../db/ident.ts";
import type { ConsumedJoin } from "../entity/consumed-joins.ts";
import type { Entity } from "../entity/define-entity.ts";
import { spanParameters, type Span } from "../sql/spans.ts";
import { keysBehind } from "../sql/key-range.ts";
import { columnSql } from "../sql/column-sql.ts";
import { drivingSql, joinSql, keySql } from "./projection.ts";
import type { KeyQuery } from "./keys.ts";
import type { Scan, Written } from "./scan.ts";
import { changedParameters, changedSql } from "../sql/xid.ts";

/** Keyset page over the rows of a joined table. Gives JoinRow. */
export function joinRows(join: ConsumedJoin, after: string | null, limit: number): KeyQuery {
  const key = `w.${ident(join.key)}`;
  const values = Object.entries(consumedOf(join)).map(([name, sql]) => `${sql} as ${name}`);
  return {
    text: `select ${[`${key}::text as id`, ...values].join(", ")}
             from public.${ident(join.table)} w
            where ${keysBehind(key, "$1::text::bigint")}
            order by ${key} limit $2`,
    parameters: [after, limit],
    inKeyOrder: true,
  };
}

/** The rows of a joined table that were written since a horizon, to be found by a scan. Gives JoinRow. */
export function writtenJoinRows(join: ConsumedJoin, from: string): Scan {
  return { table: join.table, key: join.key, values: consumedOf(join), from };
}

/**
 * Keys of the records that joined rows with these links belong to. A record whose own row was written in the same
 * span is left out: its entity's xmin chain reads it anyway, behind this page. `span`: of these keys only.
 */
export function dependantKeys(
  entity: Entity,
  join: ConsumedJoin,
  links: readonly string[],
  written: Written,
  limit: number,
  span?: Span,
): KeyQuery {
  return {
    text: `select ${keySql(entity)}::text as id ${dependantsSql(entity, join, span)} limit ${limit}`,
    parameters: dependantParameters(links, written, span),
  };
}

/** The lowest and the highest of these keys. */
export function dependantRange(
  entity: Entity,
  join: ConsumedJoin,
  links: readonly string[],
  written: Written,
  span?: Span,
): KeyQuery {
  const key = keySql(entity);
  return {
    text: `select min(${key})::text as lowest, max(${key})::text as highest ${dependantsSql(entity, join, span)}`,
    parameters: dependantParameters(links, written, span),
  };
}

/** What JoinRow tells of a row `w` besides its key. */
function consumedOf(join: ConsumedJoin): { readonly link: string; readonly digest: string } {
  const link = `w.${ident(join.link)}`;
  return { link: `${link}::text`, digest: `(case when ${link} is not null then ${digestSql(join)} end)::text` };
}

/** A row expression keeps NULL and '' apart. */
function digestSql({ columns }: ConsumedJoin): string {
  return `hashtextextended(row(${columns.map((column) => `w.${ident(column)}`).join(", ")})::text, 0)`;
}

function dependantParameters(links: readonly string[], written: Written, span: Span | undefined): string[] {
  return [integerArray(links), ...changedParameters(written.from, written.to), ...spanParameters(span)];
}

function dependantsSql(entity: Entity, join: ConsumedJoin, span: Span | undefined): string {
  return `from ${drivingSql(entity)} ${join.path.map(([alias, step]) => joinSql(alias, step, "join")).join(" ")}
    where ${columnSql(join.reference)} = any ($1::text::bigint[])
      and not ${changedSql(`${ident(entity.source.alias)}.xmin`, 2, 3)}${span === undefined ? "" : ` and ${keySql(entity)} between $4::text::bigint and $5::text::bigint`}`;
}

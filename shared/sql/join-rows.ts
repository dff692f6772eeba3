import type { Queryable } from "../db/connect.ts";
import { ident, integerArray } from "../db/ident.ts";
import { query, queryOne } from "../db/query.ts";
import type { ConsumedJoin } from "../entities/consumed-joins.ts";
import type { Entity } from "../entities/define-entity.ts";
import type { Claim, PageMessage } from "../pipeline/types.ts";
import { columnSql, drivingSql, joinSql, keySql } from "./projection.ts";
import { changedParameters, changedSql } from "./xid.ts";

/** Rows written in [from, to); without it all rows. */
export interface Written {
  readonly from: string;
  readonly to: string;
}

/** What an entity consumes of a joined row. A row whose link is NULL belongs to no record, and nothing of it counts. */
export interface JoinRow {
  readonly id: string;
  readonly link: string | null;
  readonly digest: string | null;
}

/** Keyset page over a joined table. */
export async function joinRows(
  source: Queryable,
  join: ConsumedJoin,
  after: string | null,
  written: Written | undefined,
  limit: number,
): Promise<JoinRow[]> {
  const key = `w.${ident(join.key)}`;
  const link = `w.${ident(join.link)}`;
  return query<JoinRow>(
    source,
    "source",
    `select ${key}::text as id, ${link}::text as link, case when ${link} is not null then ${digestSql(join)} end::text as digest
       from public.${ident(join.table)} w
      where ${key} > $1::text::bigint ${written ? `and ${changedSql("w.xmin", 3, 4)}` : ""}
      order by ${key} limit $2`,
    [after ?? LOWEST, limit, ...(written ? changedParameters(written.from, written.to) : [])],
  );
}

/** A row expression keeps NULL and '' apart. */
function digestSql({ columns }: ConsumedJoin): string {
  return `hashtextextended(row(${columns.map((column) => `w.${ident(column)}`).join(", ")})::text, 0)`;
}

/**
 * Keys of the records that joined rows with these links belong to. A record whose own row was written in the same span is
 * left out: its entity's xmin chain reads it anyway, behind this page.
 */
export async function dependantKeys(
  source: Queryable,
  entity: Entity,
  join: ConsumedJoin,
  links: readonly string[],
  written: Written,
  limit: number,
): Promise<string[]> {
  const rows = await query<{ id: string }>(
    source,
    "source",
    `select ${keySql(entity)}::text as id ${dependantsSql(entity, join)} limit $4`,
    [integerArray(links), ...changedParameters(written.from, written.to), limit],
  );
  return rows.map((row) => row.id);
}

/** The lowest and the highest of these keys; undefined when there is none. */
export async function dependantRange(
  source: Queryable,
  entity: Entity,
  join: ConsumedJoin,
  links: readonly string[],
  written: Written,
): Promise<{ lowest: string; highest: string } | undefined> {
  const row = await queryOne<{ lowest: string | null; highest: string | null }>(
    source,
    "source",
    `select min(${keySql(entity)})::text as lowest, max(${keySql(entity)})::text as highest ${dependantsSql(entity, join)}`,
    [integerArray(links), ...changedParameters(written.from, written.to)],
  );
  return row.lowest === null || row.highest === null ? undefined : { lowest: row.lowest, highest: row.highest };
}

function dependantsSql(entity: Entity, join: ConsumedJoin): string {
  return `from ${drivingSql(entity)} ${join.path.map(([alias, step]) => joinSql(alias, step, "join")).join(" ")}
    where ${columnSql(join.reference)} = any ($1::text::bigint[])
      and not ${changedSql(`${ident(entity.source.alias)}.xmin`, 2, 3)}`;
}

/** The links, new and old, of rows that differ from what was consumed last, and how many records are listed for it already. */
export async function differingLinks(
  target: Queryable,
  entityId: number,
  join: ConsumedJoin,
  rows: readonly JoinRow[],
): Promise<{ links: string[]; listed: number }> {
  const row = await queryOne<{ found: { links: string[]; listed: number } }>(
    target,
    "target",
    `select sync.compare_join_rows($1::integer::smallint, $2, $3::text::bigint[], $4::text::bigint[], $5::text::bigint[]) as found`,
    [entityId, join.id, ...arraysOf(rows)],
  );
  return row.found;
}

/** What a page of joined rows reports of itself. */
export interface JoinPageFacts {
  readonly range: { readonly lowest: string; readonly highest: string } | null;
  readonly cursor: string | null;
  readonly done: boolean;
  readonly cpu_ms: number | null;
  readonly peak_rss_bytes: number | null;
  readonly wall_ms: number;
  readonly next_page_size: number;
  readonly lease_seconds: number;
  readonly definition_hash: string;
}

/** What was consumed and the records to read again, in one commit. */
export async function commitJoinPage(
  target: Queryable,
  claim: Claim,
  rows: readonly JoinRow[],
  keys: readonly string[],
  facts: JoinPageFacts,
): Promise<PageMessage[]> {
  const row = await queryOne<{ dispatch: PageMessage[] }>(
    target,
    "target",
    `select sync.commit_join_page($1, $2, $3::text::bigint[], $4::text::bigint[], $5::text::bigint[], $6::text::bigint[],
                                  $7::text::jsonb) as dispatch`,
    [claim.chain.id, claim.chain.lease, ...arraysOf(rows), integerArray(keys), JSON.stringify(facts)],
  );
  return row.dispatch;
}

const LOWEST = "-9223372036854775808";

function arraysOf(rows: readonly JoinRow[]): [string, string, string] {
  return [
    integerArray(rows.map((row) => row.id)),
    integerArray(rows.map((row) => row.link)),
    integerArray(rows.map((row) => row.digest)),
  ];
}

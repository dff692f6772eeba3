import { ident } from "../db/ident.ts";
import type { ColumnSource, Watch } from "../entities/columns.ts";
import { KEY, type Entity } from "../entities/define-entity.ts";

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
export function memberSql({ source: { where } }: Entity): string {
  return where === undefined ? "true" : `(${where})`;
}

/** Which records are transferred: never NULL. */
export function sentSql({ source: { predicate } }: Entity): string {
  return predicate === undefined ? "true" : `((${predicate.where}) is true)`;
}

/** Which rows of the driving table are records that are transferred. */
export function whereSql({ source: { predicate, where } }: Entity): string {
  const condition = predicate?.where ?? where;
  return condition === undefined ? "true" : `(${condition})`;
}

/** The alias under which a row tells whether the predicate lets it in. */
export const SENT = "_sent";

/** The alias under which a record's hash travels. */
export const DIGEST = "_digest";

/** The hash of a record q of recordsSql: of its key and every column, as text. A row keeps NULL and '' apart. */
export const DIGEST_SQL = "hashtextextended(q::text, 0)";

/** Records with every column as text; `from` and `where` choose which. */
export function recordsSql(entity: Entity, from: string, where: string): string {
  const list = Object.entries(entity.source.columns).map(([name, column]) => `(${columnSql(column)})::text as ${ident(name)}`);
  const sent = entity.source.predicate === undefined ? [] : [`${sentSql(entity)}::text as ${ident(SENT)}`];
  return `select ${[`${keySql(entity)}::text as ${ident(KEY)}`, ...sent, ...list].join(", ")} from ${from} ${joinsSql(entity)} where ${where}`;
}

/** The alias under which a row tells how many bytes it and the rows before it have. */
export const BYTES = "_bytes";

/**
 * What a record q of recordsSql has as text. Of a text column only its length is looked at, which stands in its head: what is stored
 * apart or compressed is not fetched for it. An integer, so that sums are quick.
 */
function bytesSql(entity: Entity): string {
  const lengths = Object.keys(entity.source.columns).map((name) => `coalesce(octet_length(q.${ident(name)}), 0)::bigint`);
  return `least(${["0", ...lengths].join(" + ")}, ${MOST_INTEGER})::integer`;
}

const MOST_INTEGER = 2_147_483_647;

/**
 * The records of the keys in $1, an array of integers as text: every column as text, the record's hash, and the size of it and
 * those before it. Of what goes beyond $2 bytes only keys and sizes travel, and nothing is fetched.
 */
export function projectionSql(entity: Entity): string {
  const columns = [...(entity.source.predicate === undefined ? [] : [SENT]), ...Object.keys(entity.source.columns)].map(ident);
  const within = (sql: string, name: string) => `case when r.${ident(BYTES)} <= $2::text::bigint then ${sql} end as ${name}`;
  const sent = [...columns.map((name) => within(`r.${name}`, name)), within(`${DIGEST_SQL}::text`, ident(DIGEST))];
  return `select ${[`r.${ident(KEY)}`, ...sent, `r.${ident(BYTES)}::text as ${ident(BYTES)}`].join(", ")}
    from (select q.*, q.${ident(KEY)}::bigint as "_order",
                 sum(${bytesSql(entity)}) over (order by q.${ident(KEY)}::bigint rows unbounded preceding) as ${ident(BYTES)}
            from (${recordsSql(entity, keysSql(entity), memberSql(entity))}) q) r
   cross join lateral (select ${[ident(KEY), ...columns].map((name) => `r.${name}`).join(", ")}) q
   order by r."_order"`;
}

/** What the record of the key in $1 takes as text, without sending it. Gives { bytes }. */
export function sizeSql(entity: Entity): string {
  return `select (${bytesSql(entity)})::text as bytes from (${recordsSql(entity, keysSql(entity), memberSql(entity))}) q`;
}

/** One column of the record of the key in $1, sent as the projection would send it. */
export function columnProbeSql(entity: Entity, column: ColumnSource): string {
  return `select (${columnSql(column)})::text as value from ${keysSql(entity)} ${joinsSql(entity)} where ${memberSql(entity)}`;
}

/** Records of the keys in $1, an array of integers as text. */
export function recordsOfKeysSql(entity: Entity, where: string): string {
  return recordsSql(entity, keysSql(entity), where);
}

function keysSql(entity: Entity): string {
  return `unnest($1::text::bigint[]) k (id) join ${drivingSql(entity)} on ${keySql(entity)} = k.id`;
}

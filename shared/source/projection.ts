import { ident } from "../db/ident.ts";
import type { ColumnSource, Watch } from "../entity/columns.ts";
import { KEY, type Entity, type SourceRow } from "../entity/define-entity.ts";
import { columnSql } from "../sql/column-sql.ts";

const taken = new WeakMap<Entity, ReadonlySet<string>>();

/**
 * A name for an alias or a column of ours that stands beside an entity's own SQL: no word of that SQL. What an entity
 * file calls its tables, or finds in them, is none of our business.
 */
export function freeName(entity: Entity, wish: string): string {
  let words = taken.get(entity);
  if (!words) {
    words = new Set(wordsOf(entity.source));
    taken.set(entity, words);
  }
  let name = wish;
  while (words.has(name)) name += "_";
  return name;
}

/** All words of all texts of a definition, in lower case. */
function wordsOf(value: unknown): string[] {
  if (typeof value === "string") return value.toLowerCase().match(/[\p{L}\p{N}_$]+/gu) ?? [];
  return typeof value === "object" && value !== null ? Object.entries(value).flatMap((entry) => entry.flatMap(wordsOf)) : [];
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

/** What a record is as text, of a row q of recordsSql; a column that is called like the row is not the row. */
const TEXT_SQL = "(q.*)::text";

/** The hash of a record q of recordsSql: of its key and every column, as text. A row keeps NULL and '' apart. */
export const DIGEST_SQL = `hashtextextended(${TEXT_SQL}, 0)`;

/** The columns of recordsSql: the key, whether the predicate lets the record in, and the entity's columns in their order. */
const KEY_COLUMN = "k";

const SENT_COLUMN = "s";

const columnName = (index: number) => `c${index}`;

/** The key of a record q of recordsSql, as text. */
export const RECORD_KEY = `q.${KEY_COLUMN}`;

/** Records with every column as text, under names of ours; `from` and `where` choose which. */
export function recordsSql(entity: Entity, from: string, where: string): string {
  const list = Object.values(entity.source.columns).map(
    (column, index) => `(${columnSql(column)})::text as ${columnName(index)}`,
  );
  const sent = entity.source.predicate === undefined ? [] : [`${sentSql(entity)}::text as ${SENT_COLUMN}`];
  return `select ${[`${keySql(entity)}::text as ${KEY_COLUMN}`, ...sent, ...list].join(", ")} from ${from} ${joinsSql(entity)} where ${where}`;
}

/** The alias under which a row tells how many bytes it and the rows before it have. */
export const BYTES = "_bytes";

/**
 * What a record q of recordsSql has as text. Of a text column only its length is looked at, which stands in its head:
 * what is stored apart or compressed is not fetched for it. An integer, so that sums are quick.
 */
function bytesSql(entity: Entity): string {
  const lengths = Object.keys(entity.source.columns).map(
    (_, index) => `coalesce(octet_length(q.${columnName(index)}), 0)::bigint`,
  );
  return `least(${["0", ...lengths].join(" + ")}, ${MOST_INTEGER})::integer`;
}

const MOST_INTEGER = 2_147_483_647;

/**
 * The records of the keys in $1, an array of integers as text: every column as text, the record's hash, and the size
 * of it and those before it. Of what goes beyond $2 bytes only keys and sizes travel, and nothing is fetched. Gives
 * rows for decodeRecord.
 */
export function projectionSql(entity: Entity): string {
  const columns = sentColumns(entity).flatMap(([column]) => (column === DIGEST_COLUMN ? [] : [column]));
  const within = (sql: string, name: string) => `case when r.bytes <= $2::text::bigint then ${sql} end as ${name}`;
  const sent = [...columns.map((name) => within(`'${BEFORE}' || r.${name}`, name)), within(`${DIGEST_SQL}::text`, DIGEST_COLUMN)];
  return `select ${[`r.${KEY_COLUMN}`, ...sent, "r.bytes::text as bytes"].join(", ")}
    from (select q.*, ${RECORD_KEY}::bigint as place,
                 sum(${bytesSql(entity)}) over (order by ${RECORD_KEY}::bigint rows unbounded preceding) as bytes
            from (${recordsSql(entity, keysSql(entity), memberSql(entity))}) q) r
   cross join lateral (select ${[KEY_COLUMN, ...columns].map((name) => `r.${name}`).join(", ")}) q
   order by r.place`;
}

/**
 * What stands before every value of a column on its way. A runtime may take a byte order mark that a text begins with
 * for no part of the text (Deno 2.1 does, in Buffer.toString), and the value would land without it.
 */
const BEFORE = ".";

/** A row of projectionSql under the names that the entity has for it. */
export function decodeRecord(entity: Entity, row: Readonly<Record<string, string | null>>): SourceRow {
  const named = sentColumns(entity).map(([column, name]) => {
    const text = row[column] ?? null;
    return [name, text === null || column === DIGEST_COLUMN ? text : text.slice(BEFORE.length)];
  });
  return Object.fromEntries([[KEY, row[KEY_COLUMN] ?? null], ...named, [BYTES, row["bytes"] ?? null]]) as SourceRow;
}

const DIGEST_COLUMN = "digest";

/** The columns of projectionSql between key and size, each with its name. */
function sentColumns({ source: { predicate, columns } }: Entity): [column: string, name: string][] {
  return [
    ...(predicate === undefined ? [] : [[SENT_COLUMN, SENT] as [string, string]]),
    ...Object.keys(columns).map((name, index): [string, string] => [columnName(index), name]),
    [DIGEST_COLUMN, DIGEST],
  ];
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
  const [keys, key] = [freeName(entity, "k"), freeName(entity, "id")];
  return `pg_catalog.unnest($1::text::bigint[]) ${keys} (${key}) join ${drivingSql(entity)} on ${keySql(entity)} = ${keys}.${key}`;
}

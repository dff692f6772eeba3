import { ident, integerArray } from "../db/ident.ts";
import type { Entity } from "../entity/define-entity.ts";
import { spanParameters, type Span } from "../sql/spans.ts";
import { keysBehind, keysUpTo, LOWEST_SQL, type KeyRange } from "../sql/key-range.ts";
import { drivingSql, freeName, joinsSql, keySql, sentSql, whereSql } from "./projection.ts";

export interface KeyQuery {
  readonly text: string;
  readonly parameters: readonly (string | number | null)[];
  /** It walks one table in the order of an index up to a limit. */
  readonly inKeyOrder?: boolean;
}

/** Keyset page over all records of an entity. */
export function allKeys(entity: Entity, range: KeyRange): KeyQuery {
  const key = keySql(entity);
  return {
    text: `select ${key}::text as id from ${drivingSql(entity)} ${joinsFor(entity)}
            where ${between(key)} and ${whereSql(entity)}
            order by ${key} limit $4`,
    parameters: bounds(range),
    // What SQL of an entity file has to do with them is for the planner to say.
    inKeyOrder: whereSql(entity) === "true",
  };
}

/**
 * Keyset page over the records that a predicate lets in and those that have landed, which it may have let in before;
 * and how many other rows of the page's key range it waives. $5: landed keys, the first `limit` of the range.
 */
export function sentOrLandedKeys(entity: Entity, range: KeyRange, landed: readonly string[]): KeyQuery {
  const key = keySql(entity);
  const [page, last, id] = ["page", "last", "id"].map((name) => freeName(entity, name));
  const from = `from ${drivingSql(entity)} ${joinsSql(entity)}`;
  return {
    text: `with ${page} as materialized (
             select ${id} from (
               (select ${key} as ${id} ${from} where ${between(key)} and ${whereSql(entity)} order by ${key} limit $4)
               union select pg_catalog.unnest($5::text::bigint[])) k
              order by ${id} limit $4),
           ${last} as materialized (select case when count(*) < $4 then $3::text::bigint else max(${id}) end as ${id} from ${page})
           select (select coalesce(pg_catalog.json_agg(${id}::text order by ${id}), '[]') from ${page}) as ids,
                  (select count(*) ${from}
                    where ${keysBehind(key, ...BOUNDS)} and ${keysUpTo(key, `(select ${last}.${id} from ${last})`)} and not ${sentSql(entity)}
                      and ${key} not in (select ${page}.${id} from ${page}))::integer as waived`,
    parameters: [...bounds(range), integerArray(landed)],
  };
}

/** A time stamp and a key (null: before the first): where a pass over modified rows stands. Stamps are the source's own text, with microseconds. */
export interface Watermark {
  readonly at: string;
  readonly id: string | null;
}

/**
 * Keyset page over the records stamped after a watermark and not after `until`, by stamp and key: rows of one stamp
 * may be parted by a page's end. A row without a stamp is never found. Gives { id, at, epoch }. `span`: of these keys
 * only.
 */
export function modifiedKeys(
  entity: Entity,
  column: string,
  after: Watermark,
  until: string,
  limit: number,
  span?: Span,
): KeyQuery {
  const key = keySql(entity);
  const stamp = `${ident(entity.source.alias)}.${ident(column)}`;
  return {
    // As JSON writes it, whatever DateStyle the session has.
    text: `select ${key}::text as id, pg_catalog.to_json(${stamp}) #>> '{}' as at, extract(epoch from ${stamp})::text as epoch from ${drivingSql(entity)}
            where (${stamp}, ${key}) >= ($1::text::timestamptz, coalesce($2::text::bigint, ${LOWEST_SQL}))
              and (${stamp}, ${key}) is distinct from ($1::text::timestamptz, $2::text::bigint) and ${stamp} <= $3::text::timestamptz
              ${span === undefined ? "" : `and ${key} between $5::text::bigint and $6::text::bigint`}
            order by ${stamp}, ${key} limit $4`,
    parameters: [after.at, after.id, until, limit, ...spanParameters(span)],
    // A part of the keys may be had by the key and sorted.
    inKeyOrder: span === undefined,
  };
}

/** A range's parameters: what has been looked at, and its first key. */
const BOUNDS = ["$1::text::bigint", "$2::text::bigint"] as const;

/** Joins are needed to find keys only where the membership condition may name them. */
function joinsFor(entity: Entity): string {
  return whereSql(entity) === "true" ? "" : joinsSql(entity);
}

function between(key: string): string {
  return `${keysBehind(key, ...BOUNDS)} and ${keysUpTo(key, "$3::text::bigint")}`;
}

function bounds({ after, from, upTo, limit }: KeyRange): (string | number | null)[] {
  return [after, from, upTo, limit];
}

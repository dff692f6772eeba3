import { ident } from "../db/ident.ts";
import { consumedJoins } from "../entities/consumed-joins.ts";
import type { Entity } from "../entities/define-entity.ts";
import { columnSql, drivingSql, joinSql, joinsSql, keySql, whereSql } from "./projection.ts";
import { changedParameters, changedSql } from "./xid.ts";

export interface KeyRange {
  /** Keys above this one; null: from the first. */
  readonly after: string | null;
  /** Keys up to this one; null: to the last. */
  readonly upTo: string | null;
  readonly limit: number;
}

export interface KeyQuery {
  readonly text: string;
  readonly parameters: readonly (string | number)[];
}

/** Keyset page over all records of an entity. */
export function allKeys(entity: Entity, range: KeyRange): KeyQuery {
  const key = keySql(entity);
  return {
    text: `select ${key}::text as id from ${drivingSql(entity)} ${joinsFor(entity)}
            where ${between(key)} and ${whereSql(entity)}
            order by ${key} limit $3`,
    parameters: bounds(range),
  };
}

/** Keyset page over the records whose own row, or a row they are joined with, was written in [from, to). */
export function changedKeys(entity: Entity, range: KeyRange, from: string, to: string): KeyQuery {
  const key = keySql(entity);
  const changed = (table: string) => changedSql(`${ident(table)}.xmin`, 4, 5);
  const branches = [
    `select ${key} as id from ${drivingSql(entity)} where ${between(key)} and ${changed(entity.source.alias)}`,
    ...consumedJoins(entity).map(
      ({ table, link, reference, path }) =>
        `select ${key} from ${drivingSql(entity)} ${path.map(([alias, join]) => joinSql(alias, join, "join")).join(" ")}
           join public.${ident(table)} w on w.${ident(link)} = ${columnSql(reference)}
          where ${between(key)} and ${changed("w")}`,
    ),
  ];
  return {
    text: `select id::text as id from (${branches.join(" union ")}) k order by k.id limit $3`,
    parameters: [...bounds(range), ...changedParameters(from, to)],
  };
}

const LOWEST = "-9223372036854775808";
const HIGHEST = "9223372036854775807";

/** Joins are needed to find keys only where the membership condition may name them. */
function joinsFor(entity: Entity): string {
  return entity.source.where === undefined ? "" : joinsSql(entity);
}

function between(key: string): string {
  return `${key} > $1::text::bigint and ${key} <= $2::text::bigint`;
}

function bounds(range: KeyRange): (string | number)[] {
  return [range.after ?? LOWEST, range.upTo ?? HIGHEST, range.limit];
}

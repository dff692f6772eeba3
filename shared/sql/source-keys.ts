import { ident } from "../db/ident.ts";
import type { Entity } from "../entities/define-entity.ts";
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
  const { alias, where } = entity.source;
  const key = `${alias}.${ident(entity.source.key)}`;
  return {
    text: `select ${key}::text as id from ${driving(entity)} ${joinsFor(entity)}
            where ${between(key)}${where === undefined ? "" : ` and ${where}`}
            order by ${key} limit $3`,
    parameters: bounds(range),
  };
}

/** Keyset page over the records whose own row, or a row they are joined with, was written in [from, to). */
export function changedKeys(entity: Entity, range: KeyRange, from: string, to: string): KeyQuery {
  const { alias } = entity.source;
  const key = `${alias}.${ident(entity.source.key)}`;
  const branches = [
    `select ${key} as id from ${driving(entity)} where ${between(key)} and ${changedSql(`${alias}.xmin`, 4, 5)}`,
    ...entity.source.watches.map(
      (watch) =>
        `select ${key} from public.${ident(watch.table)} w join ${driving(entity)} on ${watch.on}
          where ${between(key)} and ${changedSql("w.xmin", 4, 5)}`,
    ),
  ];
  return {
    text: `select id::text as id from (${branches.join(" union ")}) k order by k.id limit $3`,
    parameters: [...bounds(range), ...changedParameters(from, to)],
  };
}

const LOWEST = "-9223372036854775808";
const HIGHEST = "9223372036854775807";

function driving(entity: Entity): string {
  return `public.${ident(entity.source.table)} ${entity.source.alias}`;
}

/** Joins are needed to detect only where the membership condition names them. */
function joinsFor(entity: Entity): string {
  return entity.source.where === undefined ? "" : entity.source.joins;
}

function between(key: string): string {
  return `${key} > $1::text::bigint and ${key} <= $2::text::bigint`;
}

function bounds(range: KeyRange): (string | number)[] {
  return [range.after ?? LOWEST, range.upTo ?? HIGHEST, range.limit];
}

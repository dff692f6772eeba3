// What an entity reads: columns of its driving table and of joined ones, checked against the source's catalog.
import { referenceSql } from "./sql-tokens.ts";
import { questionIn, questionsWithin } from "./undecided.ts";
import { zonedSql, type ZoneRules } from "./zones.ts";

/** A table that the projection reads beside the driving one: at most one row per record. Its changed rows change their records. */
export interface Join<Table extends string = string> {
  readonly table: Table;
  /** What identifies its rows, an integer (default: id). */
  readonly key?: string;
  /** Column of this table → column it equals, `alias.column`. The first is an integer: by it a changed row finds its records. */
  readonly on: Readonly<Record<string, string>>;
  /** A row of the driving table without this one is no record (default: it is one, and the columns are NULL). */
  readonly required?: boolean;
}
/** Alias → joined table. */
export type Joins<Table extends string = string> = Readonly<Record<string, Join<Table>>>;

/**
 * A table that expressions or `where` ask about in queries of their own: any number of rows per record. Its alias is
 * the one that it has in these queries; `on` says how they find its rows, and may name another watch.
 */
export type Watch<Table extends string = string> = Omit<Join<Table>, "required">;
/** Alias → watched table. */
export type Watches<Table extends string = string> = Readonly<Record<string, Watch<Table>>>;

/** A column, `alias.column`, or an expression over columns with the kind of value it gives. */
export type ColumnSource = string | Expression;
export type Columns = Readonly<Record<string, ColumnSource>>;
export interface Expression<Type extends string = string, Ids extends string = string> {
  readonly sql: string;
  readonly type: Type;
  /** The table whose ids the values are. */
  readonly ids?: Ids;
  /** The column whose times are taken to be of a zone, `alias.column`. */
  readonly inZone?: string;
  /** Why of that zone. */
  readonly reason?: string;
  /** What becomes of the times that the zone's clocks skip and repeat. */
  readonly zoneRules?: ZoneRules;
  /** What has to be decided first. */
  readonly undecided?: string;
}

/** An SQL expression as a column. The compiler takes its type on trust. */
export function expression<const Type extends string>(type: Type, sql: string): Expression<Type, never> {
  return { sql, type };
}

/**
 * A column of times, `alias.column`, in the zone that they were meant in, and why in that one: a timestamp without a
 * time zone becomes the moment that it was there, and a moment the time that it was there. A record with a time that
 * the zone's clocks skip or repeat is put to a person, unless the rules say what becomes of it. @throws RangeError
 * where the zone is neither UTC nor a region and a place, or the reason is blank.
 */
export function inZone(column: string, zone: string, reason: string, rules: ZoneRules = {}): Expression<"timestamp", never> {
  const sql = referenceSql(column);
  const open = questionIn(zone) ?? questionIn(reason) ?? questionsWithin(rules)[0];
  if (open) return { sql, type: "timestamp", undecided: open.question };
  // "UTC+2" is two hours west of it to PostgreSQL, "EST" knows no summer time, and "IST" is of several zones.
  if (!/^(UTC|[A-Z][A-Za-z_]*(\/[A-Za-z0-9_+-]+)+)$/.test(zone))
    throw new RangeError(`${zone} is no name of a time zone: write UTC, or a region and a place, such as Europe/Zurich.`);
  if (reason.trim() === "") throw new RangeError(`${column} is read in the zone ${zone}: say why in that one.`);
  return { sql: zonedSql(sql, zone, rules), type: "timestamp", inZone: column, reason, zoneRules: rules };
}

/** Ids of a table, where the source has no foreign key that says so. */
export function idsOf<const Table extends string>(table: Table, sql: string): Expression<"integer", Table> {
  return { sql, type: "integer", ids: table };
}

export type TableOf<S> = keyof S & string;
export type ColumnOf<S, Table extends keyof S> = keyof S[Table] & string;

/** Columns of a table that are of a type. */
export type ColumnOfType<S, Table extends keyof S, Type extends string> = {
  [C in ColumnOf<S, Table>]: S[Table][C] extends { readonly type: Type } ? C : never;
}[ColumnOf<S, Table>];
/** That it has a time zone, and so is one moment, is checked against the live catalog. */
export type StampOf<S, Table extends keyof S> = ColumnOfType<S, Table, "timestamp">;
/** Columns by whose values a request may select records. */
export type FilterOf<S, Table extends keyof S> = ColumnOfType<S, Table, "integer" | "text" | "boolean">;

/** Every `alias.column` of a projection. */
export type Reference<S, Table extends keyof S, Alias extends string, J extends Joins> =
  `${Alias}.${ColumnOf<S, Table>}` | JoinedReference<S, J>;
/** Where no joins are given the compiler takes them for any joins: these have no aliases. */
type JoinedReference<S, J extends Joins> = string extends keyof J
  ? never
  : { [K in keyof J & string]: `${K}.${ColumnOf<S, J[K]["table"] & keyof S>}` }[keyof J & string];

/** Joins on columns that exist, to columns that exist among these tables and `Others`. */
export type CheckedJoins<S, Table extends keyof S, Alias extends string, J extends Joins, Others extends Joins = J> = {
  readonly [K in keyof J]: {
    readonly key?: ColumnOf<S, J[K]["table"] & keyof S>;
    readonly on: {
      readonly [C in keyof J[K]["on"]]: C extends ColumnOf<S, J[K]["table"] & keyof S>
        ? Reference<S, Table, Alias, J> | JoinedReference<S, Others>
        : never;
    };
  };
};

/** The column of the source behind each name of a projection: its type, and the table whose ids it holds. */
export type Resolved<S, Table extends keyof S, Alias extends string, J extends Joins, C extends Columns> = {
  [Name in keyof C & string]: Known<
    C[Name] extends Expression<infer Type, infer Ids>
      ? { type: Type; ids: Ids }
      : C[Name] extends `${infer A}.${infer Column}`
        ? A extends Alias
          ? S[Table][Column & keyof S[Table]]
          : A extends keyof J
            ? S[J[A]["table"] & keyof S][Column & keyof S[J[A]["table"] & keyof S]]
            : never
        : never
  >;
};
/** Tells the compiler what it cannot see: whatever a reference resolves to is a column. */
type Known<C> = C extends SourceColumn ? C : never;

export interface SourceColumn {
  readonly type: string;
  readonly ids?: string;
}
export type ResolvedColumns = Readonly<Record<string, SourceColumn>>;
/** Names of columns of a type. */
export type OfType<C extends ResolvedColumns, Type> = { [K in keyof C]: C[K]["type"] extends Type ? K : never }[keyof C] & string;
/** Names of columns that hold ids of a table. */
export type IdsOf<C extends ResolvedColumns, Table> = {
  [K in keyof C]: C[K] extends { ids: Table } ? K : never;
}[keyof C] &
  string;

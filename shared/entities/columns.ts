// What an entity reads: columns of its driving table and of joined ones, checked against the source's catalog.
import type { SourceTables } from "../schema/source-tables.gen.ts";
import { referenceSql } from "./sql-tokens.ts";

/** Columns that never leave the source, whatever an entity file says. */
const SECRETS = ["password", "access_token"] as const;
/** Columns that stay there too, unless somebody answers for them. Where one may leave, only sensitive fields read it. */
const ON_REQUEST = ["card_bin"] as const;
export type DeniedColumn = (typeof SECRETS)[number] | (typeof ON_REQUEST)[number];

/** Column → why it is needed. */
export type OptIn = Readonly<Partial<Record<(typeof ON_REQUEST)[number], string>>>;
/** What this installation has opted in to: nothing. After a change: `npm run schema:types && npm run generate`. */
export const OPTED_IN: OptIn = {};

/** Columns that no entity may read: the secrets, and those that nobody has given a reason for. */
export function deniedColumns(optIn: OptIn): DeniedColumn[] {
  return [...SECRETS, ...ON_REQUEST.filter((column) => !optIn[column]?.trim())];
}

/** Which of the columns that need an opt-in an SQL expression reads. */
export function onRequest(sql: string): DeniedColumn[] {
  return ON_REQUEST.filter((column) => mentions(sql, column));
}

/** Whether SQL reads a column of this name, however it is written. */
export function mentions(sql: string, column: DeniedColumn): boolean {
  return new RegExp(`\\b${column}\\b`, "i").test(sql);
}

export type SourceTable = keyof SourceTables;

/** A table that the projection reads beside the driving one: at most one row per record. Its changed rows change their records. */
export interface Join {
  readonly table: SourceTable;
  /** What identifies its rows, an integer (default: id). */
  readonly key?: string;
  /** Column of this table → column it equals, `alias.column`. The first is an integer: by it a changed row finds its records. */
  readonly on: Readonly<Record<string, string>>;
  /** A row of the driving table without this one is no record (default: it is one, and the columns are NULL). */
  readonly required?: boolean;
}
/** Alias → joined table. */
export type Joins = Readonly<Record<string, Join>>;

/**
 * A table that expressions or `where` ask about in queries of their own: any number of rows per record. Its alias is the one
 * that it has in these queries; `on` says how they find its rows, and may name another watch.
 */
export type Watch = Omit<Join, "required">;
/** Alias → watched table. */
export type Watches = Readonly<Record<string, Watch>>;

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
}

/** An SQL expression as a column. The compiler takes its type on trust. */
export function expression<const Type extends string>(type: Type, sql: string): Expression<Type, never> {
  return { sql, type };
}

/**
 * A column of times, `alias.column`, in the zone that they were meant in: a timestamp without a time zone becomes the moment that it was
 * there, and a moment the time that it was there.
 */
export function inZone(column: string, zone: string): Expression<"timestamp", never> {
  if (!/^[A-Za-z][A-Za-z0-9_+/-]*$/.test(zone)) throw new RangeError(`${zone} is no name of a time zone.`);
  return { sql: `${referenceSql(column)} at time zone '${zone}'`, type: "timestamp", inZone: column };
}

/** Ids of a table, where the source has no foreign key that says so. */
export function idsOf<const Table extends SourceTable>(table: Table, sql: string): Expression<"integer", Table> {
  return { sql, type: "integer", ids: table };
}

export type ColumnOf<Table extends SourceTable> = keyof SourceTables[Table] & string;

/** Columns of a table that are of a type. */
export type ColumnOfType<Table extends SourceTable, Type extends string> = {
  [C in ColumnOf<Table>]: SourceTables[Table][C] extends { readonly type: Type } ? C : never;
}[ColumnOf<Table>];
/** That it has a time zone, and so is one moment, is checked against the live catalog. */
export type StampOf<Table extends SourceTable> = ColumnOfType<Table, "timestamp">;
/** Columns by whose values a request may select records. */
export type FilterOf<Table extends SourceTable> = ColumnOfType<Table, "integer" | "text" | "boolean">;

/** Every `alias.column` of a projection. */
export type Reference<Table extends SourceTable, Alias extends string, J extends Joins> =
  `${Alias}.${ColumnOf<Table>}` | JoinedReference<J>;
/** Where no joins are given the compiler takes them for any joins: these have no aliases. */
type JoinedReference<J extends Joins> = string extends keyof J
  ? never
  : { [K in keyof J & string]: `${K}.${ColumnOf<J[K]["table"]>}` }[keyof J & string];

/** Joins on columns that exist, to columns that exist among these tables and `Others`. */
export type CheckedJoins<Table extends SourceTable, Alias extends string, J extends Joins, Others extends Joins = J> = {
  readonly [K in keyof J]: {
    readonly key?: ColumnOf<J[K]["table"]>;
    readonly on: {
      readonly [C in keyof J[K]["on"]]: C extends ColumnOf<J[K]["table"]>
        ? Reference<Table, Alias, J> | JoinedReference<Others>
        : never;
    };
  };
};

/** The column of the source behind each name of a projection: its type, and the table whose ids it holds. */
export type Resolved<Table extends SourceTable, Alias extends string, J extends Joins, C extends Columns> = {
  [Name in keyof C & string]: Known<
    C[Name] extends Expression<infer Type, infer Ids>
      ? { type: Type; ids: Ids }
      : C[Name] extends `${infer A}.${infer Column}`
        ? A extends Alias
          ? SourceTables[Table][Column & ColumnOf<Table>]
          : A extends keyof J
            ? SourceTables[J[A]["table"]][Column & ColumnOf<J[A]["table"]>]
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

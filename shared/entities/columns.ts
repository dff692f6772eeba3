// What an entity reads: columns of its driving table and of joined ones, checked against the source's catalog.
import type { SourceTables } from "../schema/source-tables.gen.ts";

/** Columns that never leave the source, whatever an entity file says. */
export const DENIED_COLUMNS = ["password", "access_token", "card_bin"] as const;
export type DeniedColumn = (typeof DENIED_COLUMNS)[number];

export type SourceTable = keyof SourceTables;

/** A table that the projection reads beside the driving one: at most one row per record. Its changed rows change their records. */
export interface Join {
  readonly table: SourceTable;
  /** Column of this table → column it equals, `alias.column`. By the first a changed row finds its records. */
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
}

/** An SQL expression as a column. The compiler takes its type on trust. */
export function expression<const Type extends string>(type: Type, sql: string): Expression<Type, never> {
  return { sql, type };
}

/** Ids of a table, where the source has no foreign key that says so. */
export function idsOf<const Table extends SourceTable>(table: Table, sql: string): Expression<"integer", Table> {
  return { sql, type: "integer", ids: table };
}

export type ColumnOf<Table extends SourceTable> = keyof SourceTables[Table] & string;

/** Every `alias.column` of a projection. */
export type Reference<Table extends SourceTable, Alias extends string, J extends Joins> =
  `${Alias}.${ColumnOf<Table>}` | { [K in keyof J & string]: `${K}.${ColumnOf<J[K]["table"]>}` }[keyof J & string];

/** Joins on columns that exist, to columns that exist among the tables `Seen`. */
export type CheckedJoins<Table extends SourceTable, Alias extends string, J extends Joins, Seen extends Joins = J> = {
  readonly [K in keyof J]: {
    readonly on: { readonly [C in keyof J[K]["on"]]: C extends ColumnOf<J[K]["table"]> ? Reference<Table, Alias, Seen> : never };
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

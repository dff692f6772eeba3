/** The kinds of value that a field's type is checked by; any other type can only be computed into. */
const KINDS: Readonly<Record<string, string>> = {
  smallint: "integer",
  integer: "integer",
  bigint: "integer",
  numeric: "numeric",
  real: "float",
  "double precision": "float",
  boolean: "boolean",
  text: "text",
  "character varying": "text",
  character: "text",
  "timestamp with time zone": "timestamp",
  "timestamp without time zone": "timestamp",
  date: "date",
  json: "json",
  jsonb: "json",
  uuid: "uuid",
};

/** The kind of a column by its type as PostgreSQL writes it, without a length or a precision. */
export function kindOf(type: string, isEnum: boolean): string {
  return isEnum ? "enum" : (KINDS[type] ?? "other");
}

/** Kind of a target column → kinds of a source column that it takes as they are: none would be rounded, and money can be summed. */
export const TAKES = {
  text: ["text", "integer", "numeric", "float", "boolean", "timestamp", "date", "json", "uuid", "other"],
  integer: ["integer", "money of integer"],
  numeric: ["numeric", "integer", "money of numeric", "money of integer"],
  float: ["float"],
  boolean: ["boolean"],
  timestamp: ["timestamp", "date"],
  date: ["date"],
  json: ["json"],
  uuid: ["uuid"],
  other: ["other"],
} as const;

/** What an amount yields that is read from a column of a kind. */
export type MoneyOf<Kind extends string> = `money of ${Kind}`;

/** Table → kind → its columns, separated by spaces. */
export type ColumnKinds = Readonly<Record<string, Readonly<Record<string, string>>>>;

/** Table that is read, but drives no entity → all its columns at compile time, separated by spaces. */
export type KnownColumns = Readonly<Record<string, string>>;

/** The kind that a column had when the entity files were compiled; undefined when that is not known. */
export function compiledKind(kinds: ColumnKinds, table: string, column: string): string | undefined {
  const found = Object.entries(kinds[table] ?? {}).find(([, columns]) => columns.split(" ").includes(column));
  return found?.[0];
}

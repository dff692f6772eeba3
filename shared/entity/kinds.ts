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

/** Text of the extension citext, in whatever schema it stands. */
const CITEXT = /^(?:.*\.)?citext$/s;

/** The kind of a column by its type as PostgreSQL writes it, without a length or a precision. */
export function kindOf(type: string, isEnum: boolean): string {
  return isEnum ? "enum" : (KINDS[type] ?? (CITEXT.test(type) ? "text" : "other"));
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

/** Table → kind → its columns, as listNames has them. */
export type ColumnKinds = Readonly<Record<string, Readonly<Record<string, string>>>>;

/** Table that is read, but drives no entity → all its columns at compile time, as listNames has them. */
export type KnownColumns = Readonly<Record<string, string>>;

/** Names as one text, separated by spaces; those that hold a space or a quote are in quotes. */
export function listNames(names: readonly string[]): string {
  return names.map((name) => (/[\s"]/.test(name) ? JSON.stringify(name) : name)).join(" ");
}

/** The names of such a text. */
export function namesIn(list: string): string[] {
  return [...list.matchAll(/"(?:[^"\\]|\\.)*"|\S+/g)].map(([name]) =>
    name.startsWith('"') ? (JSON.parse(name) as string) : name,
  );
}

/** The kind that a column had when the entity files were compiled; undefined when that is not known. */
export function compiledKind(kinds: ColumnKinds, table: string, column: string): string | undefined {
  const found = Object.entries(kinds[table] ?? {}).find(([, columns]) => namesIn(columns).includes(column));
  return found?.[0];
}

export type Side = "source" | "target";

/**
 * What shapes the text of values, or which rows and names a statement sees, whatever the server, the database, the
 * role or a pooler have set. A pooler in transaction mode forwards no such parameter of a connection, or refuses the
 * connection for it; so each transaction sets them for itself. None of the values depends on how a session reads
 * strings.
 */
export const PINNED = {
  client_encoding: "UTF8",
  standard_conforming_strings: "on",
  // Before the path, whose text it shapes.
  quote_all_identifiers: "off",
  search_path: "pg_catalog, public, pg_temp",
  TimeZone: "UTC",
  timezone_abbreviations: "Default",
  DateStyle: "ISO, YMD",
  // The one style that reads the same under every other.
  IntervalStyle: "iso_8601",
  // Enough digits on every version: 12 and later write the shortest exact number, those before 17 digits.
  extra_float_digits: "3",
  bytea_output: "hex",
  xmloption: "content",
  xmlbinary: "base64",
  lc_monetary: "C",
  lc_numeric: "C",
  lc_time: "C",
  array_nulls: "on",
  transform_null_equals: "off",
  default_text_search_config: "pg_catalog.simple",
} as const;

/** Settings of the reading side alone: a policy that hides rows is refused, since hidden rows would look deleted; no index gives less than all. */
const OF_READER = { row_security: "off", gin_fuzzy_search_limit: "0" } as const;

/**
 * What a database's owner decides, for the role or the database: neither ours to choose nor another client's, who may
 * have left something else in a session of the pooler.
 */
const OF_OWNER = ["statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "synchronous_commit"] as const;

/**
 * Of the owner's too, since PostgreSQL 17. The server itself is asked each time: servers of two versions may stand
 * behind one pooler, and a connection may be another server's from one transaction to the next. No name in here
 * depends on a search path.
 */
const LIMIT_OF_TRANSACTIONS =
  "select case when pg_catalog.current_setting('transaction_timeout', true) is not null then pg_catalog.set_config('transaction_timeout', null, true) end";

/** How a transaction begins on each side: what one statement locks, the next one sees. */
export const ISOLATION = {
  source: "isolation level read committed read only",
  target: "isolation level read committed read write",
} as const;

/** The statements that pin a transaction's settings, sent as one. The role is the one that logged in, whatever a session of the pooler has been set to. */
export const PINS: Readonly<Record<Side, string>> = { source: pins("source"), target: pins("target") };

/**
 * For a statement that walks one table in the order of an index and stops at a limit. Of a table that nobody has
 * analysed the planner takes few rows for left, and would fetch and sort them all, page after page. Only a plan that
 * gives the order without a sort is left, where an index has that order; without one the table is sorted as before,
 * and nothing is compiled for the price of a plan that is not wanted. Not for statements with SQL of an entity file,
 * or with joins: what these need is the planner's choice alone.
 */
export const KEY_ORDER_PINS = "set local enable_sort = off; set local jit = off";

function pins(side: Side): string {
  const settings = { ...PINNED, ...(side === "source" ? OF_READER : {}) };
  const value = (name: string, text: string) => (name === "search_path" ? text : `'${text}'`);
  return [
    "set local role none",
    // First of all: a time limit that somebody has left counts until then.
    ...OF_OWNER.map((name) => `set local ${name} to default`),
    LIMIT_OF_TRANSACTIONS,
    ...Object.entries(settings).map(([name, text]) => `set local ${name} = ${value(name, text)}`),
  ].join("; ");
}

import type { ErrorCode } from "./errors.ts";

/**
 * What the sync does by itself about an error, by its category. `retried`: a page or a job that meets it is tried
 * again. docs/errors.md and supabase/schemas/functions/recovery.sql are generated from the tables of this file; no
 * other place says of a code or a SQLSTATE what kind it is.
 */
export const CATEGORIES = {
  transient: {
    retried: true,
    meaning: "What passes: a network, a server or a queue that cannot for now.",
    does: "A page is tried again after 1, 2, 4, … 300 seconds, each less by chance up to a half, and a job after 1 to 30 minutes. A database that does not answer is asked by one attempt at a time until it does. After ISTHMUS_PAGE_TRIES, or ISTHMUS_STALLED_MINUTES, the chain alone is stopped and told.",
  },
  limit: {
    retried: true,
    meaning: "A time or memory limit ended a statement.",
    does: "The page is tried again at once with half as many records, down to one, and from there as what passes. A record that alone meets the limit goes to the queue.",
  },
  size: {
    retried: false,
    meaning: "Something is too large for the server, whatever its limits.",
    does: "The page is tried again at once with half as many records, down to one, which goes to the queue.",
  },
  mapping: {
    retried: true,
    meaning: "An id that the cache gave is not true.",
    does: "The page resolves its ids from the table at once, and writes what it found into the cache.",
  },
  schema: {
    retried: false,
    meaning: "Source or target do not have, or do not let us use, what an entity file says.",
    does: "The chain alone fails and is told. Each start checks both catalogs first: it leaves the entity out while they do not fit, with an alert, runs the others, and takes it up again by itself when they do.",
  },
  parent: {
    retried: false,
    meaning: "A record refers to one that is not there.",
    does: "The record waits under its parent's key, and is read again when that has landed. The page goes on.",
  },
  record: {
    retried: false,
    meaning: "A record's own data, or a rule, trigger or constraint that it breaks.",
    does: "The record goes to the queue with what to do. The page goes on.",
  },
  damage: {
    retried: false,
    meaning: "A server reads damaged data.",
    does: "The record that meets them goes to the queue. The page goes on.",
  },
  misfit: {
    retried: true,
    meaning: "Functions and database are of different releases, or the database's sessions are not as they must be.",
    does: "No page is claimed and nothing begins until they fit; then all goes on. The watch over the ticks tells it.",
  },
  turn: {
    retried: false,
    meaning: "Somebody else is at it.",
    does: "A job is tried again after 1 to 30 minutes; a page leaves it to the other delivery.",
  },
  person: {
    retried: false,
    meaning: "Only a person can say how to go on.",
    does: "Nothing is tried again before a person has acted: it is told, and a job waits for its next time.",
  },
  caller: { retried: false, meaning: "What was asked for cannot be done.", does: "The caller is told." },
  ended: {
    retried: false,
    meaning: "A page or an execution has come to its end without success.",
    does: "It is told; all that was committed stays. The next execution goes on from the last checkpoints.",
  },
  defect: {
    retried: true,
    meaning: "What nobody has expected.",
    does: "It is told at its first occurrence. A page is tried again as what passes, ISTHMUS_PAGE_TRIES times, and then stopped alone; a job five times until its next time.",
  },
  other: {
    retried: false,
    meaning: "A refusal of no kind above.",
    does: "Its chain alone fails and is told; the others go on. The next execution tries it again.",
  },
} as const satisfies Readonly<Record<string, { readonly retried: boolean; readonly meaning: string; readonly does: string }>>;

export type Category = keyof typeof CATEGORIES;

/** Every code. Of what a database has refused the SQLSTATE says more: categoryOf(). */
export const CODES: Readonly<Record<ErrorCode, Category>> = {
  CONFIG_INVALID: "person",
  REQUEST_INVALID: "caller",
  BODY_TOO_LARGE: "caller",
  BODY_TOO_SLOW: "transient",
  UNAUTHENTICATED: "caller",
  FORBIDDEN: "caller",
  NOT_FOUND: "caller",
  METHOD_NOT_ALLOWED: "caller",
  EXECUTION_ACTIVE: "turn",
  EXECUTION_CLOSED: "caller",
  CONTROL_REFUSED: "caller",
  ENTITY_PAUSED: "turn",
  EXECUTION_CANCELLED: "person",
  PAGE_STALLED: "ended",
  EXECUTION_STALLED: "ended",
  SCHEMA_OUTDATED: "misfit",
  SCHEMA_AHEAD: "misfit",
  TICK_KILLED: "transient",
  TRIGGERS_OFF: "misfit",
  DEPLOYMENT_BEHIND: "misfit",
  CAPTURE_UNBACKED: "person",
  SELECTION_TOO_LARGE: "caller",
  TARGET_NOT_EMPTY: "person",
  DECISION_REFUSED: "caller",
  CONTRACT_BROKEN: "schema",
  ENTITY_LEFT_OUT: "schema",
  KEY_BROKEN: "schema",
  PAGE_STANDS_STILL: "ended",
  CAPTURE_IMPOSSIBLE: "person",
  SIDE_EFFECTS_UNACKNOWLEDGED: "person",
  SOURCE_BEHIND: "transient",
  SOURCE_CHANGED: "ended",
  SOURCE_UNKNOWN: "person",
  TARGET_UNKNOWN: "person",
  INSTALLATION_UNKNOWN: "person",
  SOURCE_UNAVAILABLE: "transient",
  SOURCE_REFUSED: "other",
  TARGET_UNAVAILABLE: "transient",
  TARGET_REFUSED: "other",
  SOURCE_LIMIT: "limit",
  TARGET_LIMIT: "limit",
  RECORDS_MOVED: "transient",
  CACHE_OUTDATED: "mapping",
  LEASE_LOST: "turn",
  CONTROL_TOTALS_DIFFER: "ended",
  BRAKE_APPLIED: "person",
  QUEUE_UNAVAILABLE: "transient",
  QUEUE_REFUSED: "transient",
  INTERNAL: "defect",
};

export type SqlstateClass =
  | ("00" | "01" | "02" | "03" | "08" | "09" | "0A" | "0B" | "0F" | "0L" | "0P" | "0Z" | "10" | "20" | "21" | "22" | "23" | "24")
  | ("25" | "26" | "27" | "28" | "2B" | "2D" | "2F" | "34" | "38" | "39" | "3B" | "3D" | "3F" | "40" | "42" | "44" | "53" | "54")
  | ("55" | "57" | "58" | "72" | "F0" | "HV" | "P0" | "XX");

export type StateCategory = Extract<
  Category,
  "transient" | "limit" | "size" | "schema" | "parent" | "record" | "damage" | "other"
>;

/** PostgreSQL's classes (its documentation, Appendix A; 72: up to 16). */
export const CLASSES: Readonly<Record<SqlstateClass, StateCategory>> = {
  "00": "other", // successful completion
  "01": "other", // warning
  "02": "other", // no data
  "03": "other", // SQL statement not yet complete
  // Connection exception. All of PgBouncer 1.18's own refusals are 08P01: query_wait_timeout, no more connections, no
  // such database, a wrong password, and what the server said to it (run). Supavisor: 08006 when a login takes too
  // long, 08P01 (client_handler/error.ex, read).
  "08": "transient",
  "09": "record", // triggered action
  "0A": "schema", // feature not supported
  "0B": "other", // invalid transaction initiation
  "0F": "other", // locator
  "0L": "schema", // grantor
  "0P": "schema", // role specification
  "0Z": "other", // diagnostics
  "10": "record", // XQuery
  "20": "record", // case not found
  "21": "record", // cardinality
  "22": "record", // data
  "23": "record", // integrity constraint; an exception below
  "24": "other", // cursor state
  "25": "other", // transaction state; exceptions below
  "26": "transient", // unknown prepared statement: a pooler gave the next statement to another server connection (Supavisor's error.ex, read)
  "27": "record", // triggered data change
  "28": "transient", // for a while after a password change (supavisor#1142); by a server whose pg_hba.conf is being changed
  "2B": "schema", // dependent privileges
  "2D": "other", // transaction termination
  "2F": "other", // SQL routine
  "34": "other", // cursor name
  "38": "record", // external routine
  "39": "record", // external routine invocation
  "3B": "other", // savepoint
  "3D": "transient", // no such database: also while it is restored under its name
  "3F": "schema", // schema name
  "40": "transient", // rollback by the server: a deadlock, a recovery conflict on a replica
  "42": "schema", // syntax or access rule; an exception below
  "44": "record", // with check option
  "53": "transient", // resources: memory, disk; exceptions below
  "54": "size", // program limit
  "55": "other", // object state; exceptions below
  "57": "transient", // operator's intervention: shut down, starting up (57P0x); an exception below
  "58": "transient", // system error: input and output
  "72": "transient", // snapshot too old
  F0: "other", // configuration file
  HV: "other", // foreign data wrapper; an exception below
  P0: "record", // PL/pgSQL: an exception raised by a trigger
  // Internal error. Supavisor says this of nearly all its own: max clients, checkout time-out, a tenant it does not
  // know (error.ex, read). By a server: a concurrent change of the catalog ("tuple concurrently updated", "cache
  // lookup failed").
  XX: "transient",
};

/** States that are of another category than their class. */
export const STATES: Readonly<Record<string, StateCategory>> = {
  "23503": "parent", // foreign key
  "25006": "transient", // a write on a server that has become a replica, or is read-only for a fail-over
  "25P03": "limit", // idle in transaction for too long: smaller pages are quicker
  "25P04": "limit", // transaction_timeout (17)
  "42P05": "transient", // a prepared statement of that name exists: as 26
  "53200": "limit", // memory
  "53400": "limit", // a configured limit: temp_file_limit
  "55006": "transient", // object in use
  "55P03": "limit", // lock not available: lock_timeout
  "57014": "limit", // cancelled: statement_timeout
  HV00N: "transient", // a foreign server cannot be reached
  XX001: "damage", // data corrupted
  XX002: "damage", // index corrupted
};

/** Classes that the standard leaves to applications: what their triggers raise. PostgreSQL's own among them stand above. */
export const OF_APPLICATIONS = /^[5-9I-Z]/;

/** The category of a SQLSTATE, whoever has said it. */
export function categoryOfState(state: string): StateCategory {
  return STATES[state] ?? CLASSES[state.slice(0, 2) as SqlstateClass] ?? (OF_APPLICATIONS.test(state) ? "record" : "other");
}

/** The category of an error, as describeError() tells it: of what a database has refused, that of the SQLSTATE. */
export function categoryOf({ code, sqlstate }: { readonly code: ErrorCode; readonly sqlstate?: unknown }): Category {
  return CODES[code] === "other" && typeof sqlstate === "string" ? categoryOfState(sqlstate) : CODES[code];
}

/** Longest pause before a failed page is tried again. */
const LONGEST_PAUSE_SECONDS = 300;

/**
 * The pause before a page is tried again that has failed so often before: twice as long each time, and less by
 * chance, up to a half, so that pages which failed together do not come back together.
 */
export function pauseSeconds(failures: number, chance: number = Math.random()): number {
  return Math.ceil(Math.min(LONGEST_PAUSE_SECONDS, 2 ** failures) * (1 - chance / 2));
}

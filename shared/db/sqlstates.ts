/**
 * What a database's refusal means, decided by SQLSTATE and by who says it, never by words.
 * - refused: trying again would not help;
 * - passing: the server, or a pooler before it, cannot for now;
 * - credentials_refused, no_such_database, too_many_connections, pooler_refused: the connection itself is refused. That passes too, since a password is
 *   changed on both sides one after the other, and a database is restored under its name; but the reason is worth telling.
 */
export type Refusal =
  "refused" | "passing" | "credentials_refused" | "no_such_database" | "too_many_connections" | "pooler_refused";

/** What a driver's error tells of a refusal. */
export interface RefusalFacts {
  readonly code: string;
  /** FATAL and PANIC end the connection; some poolers send the severity only in the field that servers translate. */
  readonly severity?: string | undefined;
  readonly severity_local?: string | undefined;
  /** The function of the server that says it. */
  readonly routine?: string | undefined;
}

/**
 * A server names its function with every error. PgBouncer (1.18, run) and Supavisor do not with their own: Supavisor writes severity, code
 * and message, with the untranslated severity (protocol/server.ex, read) or without (error.ex, read).
 */
export function saidBy({ routine }: RefusalFacts): "server" | "pooler" {
  return routine === undefined ? "pooler" : "server";
}

/** What the refusal means. One that ends the connection says nothing about the statement: that passes, whatever its state. */
export function meaningOf(facts: RefusalFacts): Refusal {
  const { code } = facts;
  if (saidBy(facts) === "pooler" && /^(08|XX)/.test(code)) return "pooler_refused";
  const stated = STATES[code] ?? CLASSES[code.slice(0, 2) as SqlstateClass] ?? "refused";
  const fatal = /^(FATAL|PANIC)$/.test(facts.severity ?? facts.severity_local ?? "");
  return fatal && stated === "refused" ? "passing" : stated;
}

type SqlstateClass =
  | ("00" | "01" | "02" | "03" | "08" | "09" | "0A" | "0B" | "0F" | "0L" | "0P" | "0Z" | "10" | "20" | "21" | "22" | "23" | "24")
  | ("25" | "26" | "27" | "28" | "2B" | "2D" | "2F" | "34" | "38" | "39" | "3B" | "3D" | "3F" | "40" | "42" | "44" | "53" | "54")
  | ("55" | "57" | "58" | "72" | "F0" | "HV" | "P0" | "XX");

/** PostgreSQL's classes (its documentation, Appendix A; 72: up to 16). */
const CLASSES: Readonly<Record<SqlstateClass, Refusal>> = {
  "00": "refused", // successful completion
  "01": "refused", // warning
  "02": "refused", // no data
  "03": "refused", // SQL statement not yet complete
  // Connection exception. All of PgBouncer 1.18's own refusals are 08P01: query_wait_timeout, no more connections, no such database, a
  // wrong password, and what the server said to it (run). Supavisor: 08006 when a login takes too long, 08P01 (client_handler/error.ex, read).
  "08": "passing",
  "09": "refused", // triggered action
  "0A": "refused", // feature not supported
  "0B": "refused", // invalid transaction initiation
  "0F": "refused", // locator
  "0L": "refused", // grantor
  "0P": "refused", // role specification
  "0Z": "refused", // diagnostics
  "10": "refused", // XQuery
  "20": "refused", // case not found
  "21": "refused", // cardinality
  "22": "refused", // data
  "23": "refused", // integrity constraint
  "24": "refused", // cursor state
  "25": "refused", // transaction state; exceptions below
  "26": "passing", // unknown prepared statement: a pooler gave the next statement to another server connection (Supavisor's error.ex, read)
  "27": "refused", // triggered data change
  "28": "credentials_refused", // for a while after a password change (supavisor#1142); by a server whose pg_hba.conf is being changed
  "2B": "refused", // dependent privileges
  "2D": "refused", // transaction termination
  "2F": "refused", // SQL routine
  "34": "refused", // cursor name
  "38": "refused", // external routine
  "39": "refused", // external routine invocation
  "3B": "refused", // savepoint
  "3D": "no_such_database", // also while it is restored under its name
  "3F": "refused", // schema name
  "40": "passing", // rollback by the server: a deadlock, a recovery conflict on a replica
  "42": "refused", // syntax or access rule; exceptions below
  "44": "refused", // with check option
  "53": "passing", // resources: memory, disk; exceptions below
  "54": "refused", // program limit
  "55": "refused", // object state; exceptions below
  "57": "passing", // operator's intervention: cancelled, shut down, starting up (57P0x)
  "58": "passing", // system error: input and output
  "72": "passing", // snapshot too old
  F0: "refused", // configuration file
  HV: "refused", // foreign data wrapper; exceptions below
  P0: "refused", // PL/pgSQL: an exception raised by a trigger
  // Internal error. Supavisor says this of nearly all its own: max clients, checkout time-out, a tenant it does not know (error.ex, read).
  // By a server: a concurrent change of the catalog ("tuple concurrently updated", "cache lookup failed").
  XX: "passing",
};

const STATES: Readonly<Partial<Record<string, Refusal>>> = {
  "25006": "passing", // a write on a server that has become a replica, or is read-only for a fail-over
  "25P03": "passing", // idle in transaction for too long: smaller pages are quicker
  "25P04": "passing", // transaction_timeout (17)
  "42P05": "passing", // a prepared statement of that name exists: as 26
  "53300": "too_many_connections",
  "55006": "passing", // object in use
  "55P03": "passing", // lock not available: lock_timeout
  HV00N: "passing", // a foreign server cannot be reached
  XX001: "refused", // data corrupted
  XX002: "refused", // index corrupted
};

/** What to do about a refused connection, where the code's own remedy says too little. */
export const REFUSAL_REMEDIES: Readonly<Record<Refusal, string | undefined>> = {
  refused: undefined,
  passing: undefined,
  credentials_refused:
    "It is tried again, since poolers know a changed password later. If it stays: is the password in the address right, and may the role log in?",
  no_such_database:
    "It is tried again, since a database may be restored. If it stays: is the database's name in the address right?",
  too_many_connections:
    "It is tried again. If it stays: lower ISTHMUS_PARALLEL_PAGES or ISTHMUS_POOL_SIZE, or allow more connections.",
  pooler_refused:
    "It is tried again. If it stays, the pooler's log says why: does it know user, password, project and database of the address, does the server let it in, and does it allow enough clients and connections?",
};

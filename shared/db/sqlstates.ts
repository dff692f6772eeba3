import { categoryOfState } from "../recovery.ts";

/**
 * What a database's refusal means, decided by the category of its SQLSTATE (recovery.ts) and by who says it, never by
 * words.
 * - refused: trying again would not help;
 * - passing: the server, or a pooler before it, cannot for now;
 * - credentials_refused, no_such_database, too_many_connections, pooler_refused: the connection itself is refused.
 * That passes too, since a password is
 *   changed on both sides one after the other, and a database is restored under its name; but the reason is worth
 *   telling.
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
 * A server names its function with every error. PgBouncer (1.18, run) and Supavisor do not with their own: Supavisor
 * writes severity, code and message, with the untranslated severity (protocol/server.ex, read) or without (error.ex,
 * read).
 */
export function saidBy({ routine }: RefusalFacts): "server" | "pooler" {
  return routine === undefined ? "pooler" : "server";
}

/** What the refusal means. One that ends the connection says nothing about the statement: that passes, whatever its state. */
export function meaningOf(facts: RefusalFacts): Refusal {
  const { code } = facts;
  if (saidBy(facts) === "pooler" && /^(08|XX)/.test(code)) return "pooler_refused";
  const told = OF_CONNECTIONS[code] ?? OF_CONNECTIONS[code.slice(0, 2)];
  if (told) return told;
  const fatal = /^(FATAL|PANIC)$/.test(facts.severity ?? facts.severity_local ?? "");
  return fatal || passes(code) ? "passing" : "refused";
}

function passes(code: string): boolean {
  const category = categoryOfState(code);
  return category === "transient" || category === "limit";
}

/** Of what passes, by state or class: what is worth telling of a connection. */
const OF_CONNECTIONS: Readonly<Partial<Record<string, Refusal>>> = {
  "28": "credentials_refused",
  "3D": "no_such_database",
  "53300": "too_many_connections",
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

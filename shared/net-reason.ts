import { codeOfWords } from "./error-words.ts";
import { IsthmusError } from "./errors.ts";

/** Why something does not answer: a code, never what a server or a variable says. */
export type NetReason =
  | "credentials_refused"
  | "no_such_database"
  | "name_not_resolved"
  | "connection_refused"
  | "timeout"
  | "tls_unknown_authority"
  | "tls_other_host"
  | "tls_expired"
  | "tls_not_offered"
  | "tls_refused"
  | "too_many_connections"
  | "unreachable";

/** The reason behind a failed call, by the codes of sockets, TLS, PostgreSQL and HTTP. */
export function reasonOf(error: unknown): NetReason {
  const codes = codesOf(error);
  for (const [pattern, reason] of REASONS) if (codes.some((code) => pattern.test(code))) return reason;
  return "unreachable";
}

const REASONS: readonly (readonly [RegExp, NetReason])[] = [
  [/^28|^40[13]$/, "credentials_refused"],
  [/^3D000$/, "no_such_database"],
  [/^53/, "too_many_connections"],
  [/^(ENOTFOUND|EAI_\w+)$/, "name_not_resolved"],
  [/^ECONNREFUSED$/, "connection_refused"],
  [/TIMEDOUT|CONNECT_TIMEOUT|^TimeoutError$|^AbortError$/, "timeout"],
  // Ours (functions/database-socket.ts), then Node's, which are OpenSSL's.
  [/^TLS_UNKNOWN_AUTHORITY$|SELF_SIGNED|UNABLE_TO/, "tls_unknown_authority"],
  [/^TLS_OTHER_HOST$|ALTNAME/, "tls_other_host"],
  [/^TLS_EXPIRED$|CERT_(HAS_EXPIRED|NOT_YET_VALID)/, "tls_expired"],
  [/^TLS_NOT_OFFERED$/, "tls_not_offered"],
  [/CERT|SSL|TLS/, "tls_refused"],
];

/** Codes and names of an error and of what caused it. */
function codesOf(error: unknown): string[] {
  if (!(error instanceof Error)) return [];
  const { code, status } = error as { code?: unknown; status?: unknown };
  const detail = error instanceof IsthmusError ? [error.detail["sqlstate"], error.detail["reason"]] : [];
  const own = [code, status, error.name, ...detail, codeOfFetch(error)].filter((one) => one !== undefined).map(String);
  return [...own, ...codesOf(error.cause)];
}

/** Deno's fetch tells in words alone why it could not connect: versions after 2.1 always, 2.1 of names and TLS. */
function codeOfFetch({ message }: Error): string | undefined {
  const [, words] = /client error \(Connect\): (.*)/.exec(message) ?? [];
  return words === undefined ? undefined : codeOfWords(words);
}

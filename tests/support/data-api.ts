import type { Sql, TransactionSql } from "postgres";

/** Who comes through the Data API: a role of the database, or a signed-in user with a role of ours. */
export const ROLES = ["anon", "authenticated", "operator", "reviewer", "service_role"] as const;
export type Role = (typeof ROLES)[number];

export function databaseRole(role: Role): string {
  return role === "operator" || role === "reviewer" ? "authenticated" : role;
}

/** As the Data API does it: the role of the token, and its claims. `claims` count before those of the role. */
export function asRole<T>(admin: Sql, role: Role, work: (tx: TransactionSql) => Promise<T>, claims: object = {}): Promise<T> {
  const database = databaseRole(role);
  const all = { role: database, ...(database === role ? {} : { app_metadata: { isthmus_role: role } }), ...claims };
  return admin.begin(async (tx) => {
    await tx`select set_config('request.jwt.claims', ${JSON.stringify(all)}, true)`;
    await tx.unsafe(`set local role ${database}`);
    return work(tx);
  }) as Promise<T>;
}

/** The SQLSTATE with which something was refused, or "allowed". */
export function outcomeOf(work: PromiseLike<unknown>): Promise<string | undefined> {
  return Promise.resolve(work).then(
    () => "allowed",
    (error: unknown) => (error as { code?: string }).code,
  );
}

// Which columns of a source stay there: an installation names them, and no entity file can read them.

/** What an installation says of the columns that must not leave its source, by their names in whatever table. */
export interface Denied {
  /** Columns that never leave the source, whatever an entity file says. */
  readonly secrets: readonly string[];
  /** Columns that stay there too, unless somebody answers for them. Where one may leave, only sensitive fields read it. */
  readonly onRequest: readonly string[];
  /** Column of `onRequest` → why it is needed. */
  readonly optedIn: OptIn;
}
export type OptIn = Readonly<Partial<Record<string, string>>>;

/** Columns that no entity may read: the secrets, and those that nobody has given a reason for. */
export function deniedColumns({ secrets, onRequest, optedIn }: Denied): string[] {
  return [...secrets, ...onRequest.filter((column) => !optedIn[column]?.trim())];
}

/** All columns that are ever denied, as if nobody had given a reason. */
export function everDenied({ secrets, onRequest }: Denied): string[] {
  return [...secrets, ...onRequest];
}

/** Which of the columns that need a reason an SQL expression reads. */
export function onRequest(denied: Denied, sql: string): string[] {
  return denied.onRequest.filter((column) => mentions(sql, column));
}

/** Whether SQL reads a column of this name, however it is written. */
export function mentions(sql: string, column: string): boolean {
  const literal = column.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
  return new RegExp(`(?<![\\w$])${literal}(?![\\w$])`, "i").test(sql);
}

import type { Sql, Transaction } from "./connect.ts";
import { ISOLATION, PINS, type Side } from "./settings.ts";

/**
 * A pool whose `unsafe` and `begin` run with pinned settings (settings.ts); nothing of ours sends a statement by another way. Each
 * connection is a client of its own: statements of one client keep their order, and travel without waiting for each other's answers.
 */
export function pinned(open: (onclose: () => void) => Sql, size: number, side: Side): Sql {
  const connections = Array.from({ length: size }, () => new Connection(open));
  const slots = new Slots(connections);
  const unsafe = (...statement: Parameters<Sql["unsafe"]>) =>
    slots.use(async (connection, done) => run(await connection.ready(), side, statement, done));
  const begin = <Result>(work: (tx: Transaction) => Promise<Result>) =>
    slots.use(async (connection) => {
      const sql = await connection.ready();
      try {
        return await sql.begin(ISOLATION[side], (tx) => {
          // The first statement travels behind the settings. Should they be refused, so is everything after them.
          quietly(tx.unsafe(PINS[side]));
          return work(tx);
        });
      } catch (error) {
        throw await lastWords(sql, error);
      }
    });
  const end = (options?: { timeout?: number }) => Promise.all(connections.map(({ sql }) => sql.end(options)));
  const own: Readonly<Record<string | symbol, unknown>> = { unsafe, begin, end };
  const [first] = connections;
  if (!first) throw new RangeError("A pool needs a connection.");
  return new Proxy(first.sql, { get: (of, name) => own[name] ?? (Reflect.get(of, name) as unknown) });
}

/**
 * One statement in a transaction of its own. BEGIN and the settings travel with the statement. A statement that only reads does not
 * wait for its COMMIT: the next statement travels behind the COMMIT.
 */
async function run(sql: Sql, side: Side, statement: Parameters<Sql["unsafe"]>, done: () => void): Promise<unknown> {
  const begun = sql.unsafe(`begin ${ISOLATION[side]}; ${PINS[side]}`).execute();
  const [first, second] = await Promise.allSettled([begun, sql.unsafe(...statement).execute()]);
  if (first.status === "rejected" || second.status === "rejected") {
    const reason: unknown = (first.status === "rejected" ? first : (second as PromiseRejectedResult)).reason;
    const error = await lastWords(sql, reason);
    // Of a connection that is gone nothing is left to undo.
    if (isServers(reason)) quietly(sql.unsafe("rollback"));
    throw error;
  }
  const ended = sql.unsafe("commit");
  if (side === "target") await ended;
  else {
    quietly(ended);
    done();
  }
  return second.value;
}

/**
 * A server that ends a connection says why (a time limit, an operator), but the driver rejects the statement with
 * CONNECTION_CLOSED, keeps what the server said, and fails the next statement of that connection with it. So a statement that does
 * nothing takes it away, and what the server said is the error.
 */
async function lastWords(sql: Sql, error: unknown): Promise<unknown> {
  if ((error as { code?: unknown } | null)?.code !== "CONNECTION_CLOSED") return error;
  const asked = sql.unsafe("select 1").then(
    () => undefined,
    (words: unknown) => words,
  );
  // Where nobody lets us in again, the driver goes on knocking.
  let late: ReturnType<typeof setTimeout> | undefined;
  const none = new Promise<undefined>((enough) => (late = setTimeout(() => enough(undefined), LAST_WORDS_MS)));
  const left = await Promise.race([asked, none]);
  clearTimeout(late);
  return isServers(left, "FATAL") ? left : error;
}

const LAST_WORDS_MS = 3_000;

/** Whether the server says it, and not the driver or the network. */
function isServers(error: unknown, severity?: string): boolean {
  const { name, severity: has } = (error ?? {}) as Readonly<Record<string, unknown>>;
  return name === "PostgresError" && (severity === undefined || has === severity);
}

/** Sends a statement whose answer nobody waits for: what goes wrong with it, the next one of its connection tells. */
function quietly(statement: { execute(): PromiseLike<unknown> }): void {
  statement.execute().then(
    () => undefined,
    () => undefined,
  );
}

/** One client of the driver, which has one connection, opened when a statement needs it. */
class Connection {
  readonly sql: Sql;
  #state: "new" | "live" | "died" = "new";

  constructor(open: (onclose: () => void) => Sql) {
    this.sql = open(() => (this.#state = "died"));
  }

  /**
   * Opens the connection before anything depends on it: statements behind a BEGIN that failed with its connection the driver would
   * send on another one, without a transaction. Of a connection that the server has ended while it was idle the driver fails the
   * next statement with what the server said then: that is no reason to fail.
   */
  async ready(): Promise<Sql> {
    if (this.#state === "live") return this.sql;
    const look = () => this.sql.unsafe("select 1").then(() => undefined);
    if (this.#state === "new") await look();
    else await look().catch((error: unknown) => (isServers(error, "FATAL") ? look() : Promise.reject(error as Error)));
    this.#state = "live";
    return this.sql;
  }
}

/** Gives each connection to one user at a time, in the order in which they ask. The one that was free last comes first, so that others may close. */
class Slots {
  readonly #free: Connection[];
  readonly #waiting: ((connection: Connection) => void)[] = [];

  constructor(connections: readonly Connection[]) {
    this.#free = [...connections].reverse();
  }

  /** `work` may say that it is done with the connection before it ends. */
  async use<Result>(work: (connection: Connection, done: () => void) => Promise<Result>): Promise<Result> {
    const connection = this.#free.pop() ?? (await new Promise<Connection>((given) => this.#waiting.push(given)));
    let held = true;
    const done = () => {
      if (!held) return;
      held = false;
      const next = this.#waiting.shift();
      if (next) next(connection);
      else this.#free.push(connection);
    };
    try {
      return await work(connection, done);
    } finally {
      done();
    }
  }
}

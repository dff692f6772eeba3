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
    slots.use((connection, done) => run(connection, side, statement, done));
  const begin = <Result>(work: (tx: Transaction) => Promise<Result>) =>
    slots.use(async (connection) => {
      const { sql } = await connection.ready();
      try {
        return await sql.begin(ISOLATION[side], (tx) => {
          // The first statement travels behind the settings. Should they be refused, so is everything after them.
          quietly(tx.unsafe(PINS[side]));
          return work(tx);
        });
      } catch (error) {
        throw await connection.reasonOf(error);
      }
    });
  const end = (options?: { timeout?: number }) => Promise.all(connections.map((connection) => connection.end(options)));
  return { unsafe, begin, end } as unknown as Sql;
}

/**
 * One statement in a transaction of its own. BEGIN and the settings travel with the statement. A statement that only reads does not
 * wait for its COMMIT: the next statement travels behind the COMMIT.
 */
async function run(connection: Connection, side: Side, statement: Parameters<Sql["unsafe"]>, done: () => void): Promise<unknown> {
  const client = await connection.ready();
  const { sql } = client;
  const begun = sql.unsafe(`begin ${ISOLATION[side]}; ${PINS[side]}`).execute();
  const [first, second] = await Promise.allSettled([begun, sql.unsafe(...statement).execute()]);
  const failed = [first, second].find((one) => one.status === "rejected");
  if (failed) {
    // Of a connection that is gone nothing is left to undo.
    if (isServers(failed.reason)) quietly(sql.unsafe("rollback"));
    throw await connection.reasonOf(failed.reason);
  }
  // The driver may send what waited on a new connection, where no transaction was begun.
  if (client.closed) throw Object.assign(new Error("The connection closed under a statement."), { code: LOST });
  const ended = sql.unsafe("commit");
  if (side === "target") {
    try {
      await ended;
    } catch (error) {
      throw await connection.reasonOf(error);
    }
  } else {
    quietly(ended);
    done();
  }
  return (second as PromiseFulfilledResult<unknown>).value;
}

/** The driver's own word for a connection that ended. */
export const LOST = "CONNECTION_CLOSED";

/** Whether the network or the driver says that a connection is gone (ECONNRESET, CONNECTION_CLOSED ...): nothing more may be sent on it. */
export function isLost(error: unknown): boolean {
  const { name, code } = (error ?? {}) as Readonly<Record<string, unknown>>;
  return typeof code === "string" && name !== "PostgresError" && name !== "IsthmusError" && /^(CONNECT|E[A-Z])/.test(code);
}

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

/** A client of the driver with one connection. Once that has closed, nobody uses the client again. */
interface Client {
  readonly sql: Sql;
  closed: boolean;
}

/**
 * One connection, opened when a statement needs it, by a new client every time: a client whose statement was lost with its connection
 * knocks at a server that refuses it until it is let in, however long, and fails no statement that waits for it.
 */
class Connection {
  readonly #open: (onclose: () => void) => Sql;
  #client: Client | undefined;

  constructor(open: (onclose: () => void) => Sql) {
    this.#open = open;
  }

  /**
   * Opens the connection before anything depends on it: statements behind a BEGIN that failed with its connection the driver would
   * send on another one, without a transaction.
   */
  async ready(): Promise<Client> {
    if (this.#client?.closed === false) return this.#client;
    const client: Client = { closed: false, sql: this.#open(() => (client.closed = true)) };
    try {
      await client.sql.unsafe("select 1");
    } catch (error) {
      discard(client);
      throw error;
    }
    return (this.#client = client);
  }

  /**
   * What is to be told of an error. After one that ended the connection, nobody uses the client again.
   *
   * A server that ends a connection says why (a time limit, an operator), but the driver rejects the statement with
   * CONNECTION_CLOSED, keeps what the server said, and fails with that the first statement of its next connection. So, if the server
   * lets us in at all, a statement that does nothing takes it away, and what the server said is the error.
   */
  async reasonOf(error: unknown): Promise<unknown> {
    const client = this.#client;
    if (!client || !isLost(error)) return error;
    client.closed = true;
    try {
      await this.ready();
      const left = await soon(client.sql.unsafe("select 1"));
      return isServers(left, "FATAL") ? left : error;
    } catch {
      return error;
    } finally {
      discard(client);
    }
  }

  async end(options?: { timeout?: number }): Promise<void> {
    await this.#client?.sql.end(options);
  }
}

/** What a statement fails with, if it fails within LAST_WORDS_MS. */
async function soon(statement: PromiseLike<unknown>): Promise<unknown> {
  let late: ReturnType<typeof setTimeout> | undefined;
  const none = new Promise<undefined>((enough) => (late = setTimeout(() => enough(undefined), LAST_WORDS_MS)));
  const said = statement.then(
    () => undefined,
    (words: unknown) => words,
  );
  const words = await Promise.race([said, none]);
  clearTimeout(late);
  return words;
}

const LAST_WORDS_MS = 3_000;

function discard({ sql }: Client): void {
  sql.end({ timeout: 0 }).catch(() => undefined);
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

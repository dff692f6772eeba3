import type postgres from "postgres";
import { Breaker } from "./breaker.ts";
import type { SaidError } from "./last-words.ts";
import { ISOLATION, KEY_ORDER_PINS, PINS, type Side } from "./settings.ts";

/** What a pool offers; every statement has pinned settings. */
export type Sql = Pick<postgres.Sql, "unsafe" | "begin" | "end">;
export type Transaction = postgres.TransactionSql;
export type Queryable = Sql | Transaction;

/** One client of the driver, with one connection. */
export interface Client<Driver = Sql> {
  readonly sql: Driver;
  /** What was said last on its connection, if that was an error. */
  said(): SaidError | undefined;
}

export interface PoolOptions {
  readonly side: Side;
  readonly poolSize: number;
  /** How long to wait until a connection is open, and until a pooler gives it a server. */
  readonly connectTimeoutSeconds: number;
}

/** As the third argument of `unsafe`: the statement walks a table by key (KEY_ORDER_PINS). Within a transaction it means nothing. */
export const IN_KEY_ORDER: NonNullable<Parameters<Sql["unsafe"]>[2]> = {};

/**
 * A pool whose `unsafe` and `begin` run with pinned settings (settings.ts); nothing of ours sends a statement by
 * another way. Each connection is a client of its own: statements of one client keep their order, and travel without
 * waiting for each other's answers.
 */
export function pinned(open: (onclose: () => void) => Client, { side, poolSize, connectTimeoutSeconds }: PoolOptions): Sql {
  const breaker = new Breaker();
  const connections = Array.from({ length: poolSize }, () => new Connection(open, connectTimeoutSeconds * 1_000, breaker));
  const slots = new Slots(connections);
  const unsafe = (...statement: Parameters<Sql["unsafe"]>) =>
    slots.use((connection, done) => run(connection, side, statement, done));
  const begin = <Result>(work: (tx: Transaction) => Promise<Result>) =>
    slots.use((connection) => runTransaction(connection, side, work));
  const end = (options?: { timeout?: number }) => Promise.all(connections.map((connection) => connection.end(options)));
  return { unsafe, begin, end } as unknown as Sql;
}

/**
 * One statement in a transaction of its own. BEGIN and the settings travel with the statement. A statement that only
 * reads does not wait for its COMMIT: the next statement travels behind the COMMIT.
 */
async function run(connection: Connection, side: Side, statement: Parameters<Sql["unsafe"]>, done: () => void): Promise<unknown> {
  const client = await connection.ready();
  const { sql } = client;
  const [text, parameters, how] = statement;
  const pins = how === IN_KEY_ORDER ? `${PINS[side]}; ${KEY_ORDER_PINS}` : PINS[side];
  const begun = sql.unsafe(`begin ${ISOLATION[side]}; ${pins}`).execute();
  const both = Promise.allSettled([begun, sql.unsafe(text, parameters).execute()]);
  await connection.inTime(client, begun);
  const [first, second] = await both;
  const failed = [first, second].find((one) => one.status === "rejected");
  if (failed) {
    // Of a connection that is gone nothing is left to undo.
    if (isServers(failed.reason)) quietly(sql.unsafe("rollback"));
    throw connection.reasonOf(client, failed.reason);
  }
  // The driver may send what waited on a new connection, where no transaction was begun.
  if (client.closed) throw connection.reasonOf(client, lost());
  const ended = sql.unsafe("commit");
  if (side === "target") {
    try {
      await ended;
    } catch (error) {
      throw connection.reasonOf(client, error);
    }
  } else {
    quietly(ended);
    done();
  }
  return (second as PromiseFulfilledResult<unknown>).value;
}

/**
 * Several statements in one transaction. When the connection is lost, the transaction fails at once, and its work is
 * abandoned: the driver would write its next statement, a ROLLBACK or a COMMIT to a socket that is gone, which throws
 * where nobody can catch it and ends the whole process. So abandoned work never gets an answer, and its end is not
 * waited for.
 */
async function runTransaction<Result>(
  connection: Connection,
  side: Side,
  work: (tx: Transaction) => Promise<Result>,
): Promise<Result> {
  const client = await connection.ready();
  const unlessLost = <T>(next: () => PromiseLike<T> | T) => (client.closed ? new Promise<T>(() => undefined) : next());
  let begin: () => void = () => undefined;
  const begun = new Promise<void>((resolve) => (begin = resolve));
  const ended = client.sql.begin(ISOLATION[side], async (tx) => {
    begin();
    // The first statement travels behind the settings. Should they be refused, so is everything after them.
    quietly(tx.unsafe(PINS[side]));
    const unsafe = (...statement: Parameters<Sql["unsafe"]>) => unlessLost(() => tx.unsafe(...statement));
    try {
      const result = await work({ unsafe } as unknown as Transaction);
      return await unlessLost(() => result);
    } catch (error) {
      if (isLost(error)) client.closed = true;
      return await unlessLost(() => Promise.reject(error as Error));
    }
  });
  ended.then(begin, begin);
  await connection.inTime(client, begun);
  try {
    return (await ended) as Result;
  } catch (error) {
    throw connection.reasonOf(client, error);
  }
}

/** In the driver's own words. */
function lost(): Error {
  return Object.assign(new Error("The connection closed under a statement."), { code: "CONNECTION_CLOSED" });
}

/** Whether the network or the driver says that a connection is gone (ECONNRESET, CONNECTION_CLOSED ...): nothing more may be sent on it. */
function isLost(error: unknown): boolean {
  const { name, code } = (error ?? {}) as Readonly<Record<string, unknown>>;
  return typeof code === "string" && name !== "PostgresError" && name !== "IsthmusError" && /^(CONNECT|E[A-Z])/.test(code);
}

/** Whether the server says it, and not the driver or the network. */
function isServers(error: unknown): boolean {
  return (error as { readonly name?: unknown } | null)?.name === "PostgresError";
}

/** Sends a statement whose answer nobody waits for: what goes wrong with it, the next one of its connection tells. */
function quietly(statement: { execute(): PromiseLike<unknown> }): void {
  statement.execute().then(
    () => undefined,
    () => undefined,
  );
}

/**
 * One connection, opened when a statement needs it, by a new client every time: a client whose statement was lost
 * with its connection knocks at a server that refuses it until it is let in, however long, and fails no statement
 * that waits for it.
 */
class Connection {
  readonly #open: (onclose: () => void) => Client;
  readonly #acquireMs: number;
  readonly #breaker: Breaker;
  #client: Used | undefined;

  constructor(open: (onclose: () => void) => Client, acquireMs: number, breaker: Breaker) {
    this.#open = open;
    this.#acquireMs = acquireMs;
    this.#breaker = breaker;
  }

  /**
   * Opens the connection before anything depends on it: statements behind a BEGIN that failed with its connection the
   * driver would send on another one, without a transaction.
   */
  async ready(): Promise<Used> {
    if (this.#client?.closed === false) return this.#client;
    return (this.#client = await this.#breaker.through(() => this.#opened()));
  }

  async #opened(): Promise<Used> {
    const client: Used = { closed: false, ...this.#open(() => (client.closed = true)) };
    try {
      const first = client.sql.unsafe("select 1").execute();
      await this.inTime(client, first);
      await first;
    } catch (error) {
      discard(client);
      throw this.reasonOf(client, error);
    }
    return client;
  }

  /**
   * Waits for the first answer on a connection or in a transaction, as long as for a connection. The driver's own
   * limit ends when a pooler has let the client in. Then the client waits for a server, and a pooler that is full or
   * paused may let it wait for ever.
   */
  async inTime(client: Used, answer: PromiseLike<unknown>): Promise<void> {
    let late: ReturnType<typeof setTimeout> | undefined;
    const tooLate = new Promise<boolean>((enough) => (late = setTimeout(() => enough(true), this.#acquireMs)));
    const answered = answer.then(
      () => false,
      () => false,
    );
    const waited = await Promise.race([answered, tooLate]);
    clearTimeout(late);
    if (!waited) return;
    client.closed = true;
    discard(client);
    throw Object.assign(new Error("No server has answered on the connection in time."), { code: "CONNECT_TIMEOUT" });
  }

  /** What is to be told of an error: of a connection that ended, what was said last. Nobody uses its client again. */
  reasonOf(client: Used, error: unknown): unknown {
    if (!isLost(error)) return error;
    client.closed = true;
    discard(client);
    return client.said() ?? error;
  }

  async end(options?: { timeout?: number }): Promise<void> {
    // The driver would wait for the answers that a closed connection owes.
    if (this.#client?.closed === false) await this.#client.sql.end(options);
  }
}

/** A client whose connection was opened. Once that has closed, nobody uses the client again. */
interface Used extends Client {
  closed: boolean;
}

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

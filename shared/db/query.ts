import type postgres from "postgres";
import { IsthmusError, type ErrorCode } from "../errors.ts";
import type { Queryable, Sql, Transaction } from "./connect.ts";

export type Side = "source" | "target";
type Parameter = string | number | boolean | null;

/**
 * Runs one statement and returns its rows.
 * @throws IsthmusError, decided by SQLSTATE, with the driver's error as cause; never with a value of a row.
 */
export async function query<Row extends object>(
  db: Queryable,
  side: Side,
  text: string,
  parameters: readonly Parameter[] = [],
): Promise<Row[]> {
  try {
    return dense(await db.unsafe<Row[]>(text, parameters as postgres.ParameterOrJSON<never>[]));
  } catch (error) {
    throw toIsthmusError(error, side);
  }
}

/**
 * After a statement that failed when it had sent rows, the driver puts the next rows of the connection behind as many
 * holes (github.com/porsager/postgres/issues/1119), which filter leaves out.
 */
function dense<Row>(rows: Row[]): Row[] {
  return rows.length > 0 && !(0 in rows) ? rows.filter(() => true) : rows;
}

/** The first row of a statement that always has one. */
export async function queryOne<Row extends object>(
  db: Queryable,
  side: Side,
  text: string,
  parameters: readonly Parameter[] = [],
): Promise<Row> {
  const [row] = await query<Row>(db, side, text, parameters);
  if (!row) throw new IsthmusError("INTERNAL", "A statement that always returns a row returned none.");
  return row;
}

/**
 * Runs work in one transaction; an error rolls everything back. When the connection is lost, the transaction fails at
 * once and the work stops at its next statement.
 */
export async function inTransaction<Result>(db: Sql, side: Side, work: (tx: Transaction) => Promise<Result>): Promise<Result> {
  let over = false;
  // The driver would write a statement, a ROLLBACK or a COMMIT of abandoned work to a socket that is gone, which throws
  // where nobody can catch it and ends the whole process. So such work neither returns nor throws: it is dropped.
  const unlessOver = <T>(next: () => T | Promise<T>) => (over ? new Promise<T>(() => undefined) : next());
  try {
    return (await db.begin(async (tx) => {
      const live = { unsafe: (...args: Parameters<Sql["unsafe"]>) => unlessOver(() => tx.unsafe(...args)) };
      try {
        const result = await work(live as unknown as Transaction);
        return await unlessOver(() => result);
      } catch (error) {
        return await unlessOver(() => Promise.reject(error as Error));
      }
    })) as Result;
  } catch (error) {
    throw toIsthmusError(error, side);
  } finally {
    over = true;
  }
}

/** SQLSTATEs raised by our own functions (migrations/), by meaning. */
const OWN_STATES: Readonly<Record<string, ErrorCode>> = {
  IS010: "LEASE_LOST",
  IS021: "TARGET_NOT_EMPTY",
  IS022: "DECISION_REFUSED",
  IS030: "EXECUTION_ACTIVE",
  IS040: "BRAKE_APPLIED",
};

/**
 * Trying again can help: connection (08), rollback by the server such as a deadlock or a recovery conflict (40),
 * lack of resources (53), an operator's intervention or a cancelled statement (57), system errors (58), lock not available.
 */
const TRANSIENT = /^(08|40|53|57|58)|^55P03$|^25006$/;

function toIsthmusError(error: unknown, side: Side): IsthmusError {
  if (error instanceof IsthmusError) return error;
  const { name, code, hint, message, detail } = (error ?? {}) as Readonly<Record<string, unknown>>;
  const state = typeof code === "string" ? code : "";
  const own = OWN_STATES[state];
  if (own) {
    return new IsthmusError(own, typeof message === "string" ? message : undefined, {
      cause: error,
      // Our own functions put what is to be told into DETAIL, as JSON.
      detail: {
        sqlstate: state,
        ...(typeof detail === "string" ? (JSON.parse(detail) as object) : {}),
        ...(typeof hint === "string" ? { hint } : {}),
      },
    });
  }
  // Only the server's own errors carry a SQLSTATE: EPIPE, too, has five letters.
  if (name === "PostgresError" && !TRANSIENT.test(state)) {
    return new IsthmusError(
      side === "source" ? "SOURCE_REFUSED" : "TARGET_REFUSED",
      `The ${side} refused a statement (SQLSTATE ${state}).`,
      {
        cause: error,
        detail: { sqlstate: state },
      },
    );
  }
  if (state === "" && !(error instanceof Error && "errno" in error)) {
    return new IsthmusError("INTERNAL", undefined, { cause: error });
  }
  // A socket error (ECONNREFUSED, CONNECTION_CLOSED ...) or a state that passes.
  return new IsthmusError(side === "source" ? "SOURCE_UNAVAILABLE" : "TARGET_UNAVAILABLE", undefined, {
    cause: error,
    detail: { reason: state },
  });
}

import type postgres from "postgres";
import { IsthmusError, type ErrorCode } from "../errors.ts";
import { categoryOfState } from "../recovery.ts";
import type { Queryable, Sql, Transaction } from "./connect.ts";
import type { Side } from "./settings.ts";
import { namedAt } from "./named-at.ts";
import { OWN_STATES } from "./own-states.ts";
import { IN_KEY_ORDER } from "./pinned.ts";
import { meaningOf, REFUSAL_REMEDIES, saidBy, type RefusalFacts } from "./sqlstates.ts";

type Parameter = string | number | boolean | null;

/** How a statement is planned. */
interface How {
  /** It walks one table in the order of an index up to a limit, outside of any transaction: never by a sort of all that is left. */
  readonly inKeyOrder?: boolean;
}

/**
 * Runs one statement and returns its rows.
 * @throws IsthmusError, decided by SQLSTATE, with the driver's error as cause; never with a value of a row.
 */
export async function query<Row extends object>(
  db: Queryable,
  side: Side,
  text: string,
  parameters: readonly Parameter[] = [],
  how: How = {},
): Promise<Row[]> {
  try {
    const values = parameters as postgres.ParameterOrJSON<never>[];
    return await db.unsafe<Row[]>(text, values, ...(how.inKeyOrder === true ? [IN_KEY_ORDER] : []));
  } catch (error) {
    throw toIsthmusError(error, side, text);
  }
}

/** The first row of a statement that always has one. */
export async function queryOne<Row extends object>(
  db: Queryable,
  side: Side,
  text: string,
  parameters: readonly Parameter[] = [],
  how: How = {},
): Promise<Row> {
  const [row] = await query<Row>(db, side, text, parameters, how);
  if (!row) throw new IsthmusError("INTERNAL", "A statement that always returns a row returned none.");
  return row;
}

/**
 * Runs work in one transaction; an error rolls everything back. When the connection is lost, the transaction fails at
 * once and the work stops at its next statement.
 */
export async function inTransaction<Result>(db: Sql, side: Side, work: (tx: Transaction) => Promise<Result>): Promise<Result> {
  try {
    return (await db.begin(work)) as Result;
  } catch (error) {
    throw toIsthmusError(error, side);
  }
}

/** Whether a limit of the source ended a statement: one that has less to do may come through. */
export function isSourceLimit(error: unknown): boolean {
  return error instanceof IsthmusError && error.code === "SOURCE_LIMIT";
}

function toIsthmusError(error: unknown, side: Side, text = ""): IsthmusError {
  if (error instanceof IsthmusError) return error;
  const { name, code, hint, message, detail, position } = (error ?? {}) as Readonly<Record<string, unknown>>;
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
  if (categoryOfState(state) === "limit") {
    return new IsthmusError(
      side === "source" ? "SOURCE_LIMIT" : "TARGET_LIMIT",
      `A limit of the ${side} ended a statement (SQLSTATE ${state}).`,
      { cause: error, detail: { sqlstate: state } },
    );
  }
  // Only a server's or pooler's own errors carry a SQLSTATE: EPIPE, too, has five letters.
  if (name === "PostgresError") return refusal({ code: state, ...sayerOf(error) }, side, error, namedAt(state, text, position));
  if (state === "" && !(error instanceof Error && "errno" in error)) {
    return new IsthmusError("INTERNAL", undefined, { cause: error });
  }
  // A socket error (ECONNREFUSED, CONNECTION_CLOSED ...).
  return new IsthmusError(unavailable(side), undefined, { cause: error, detail: { reason: state } });
}

function refusal(facts: RefusalFacts, side: Side, cause: unknown, at: string | undefined): IsthmusError {
  const meaning = meaningOf(facts);
  const who = saidBy(facts) === "pooler" ? `A pooler before the ${side}` : `The ${side}`;
  if (meaning === "refused") {
    return new IsthmusError(
      side === "source" ? "SOURCE_REFUSED" : "TARGET_REFUSED",
      `${who} refused a statement (SQLSTATE ${facts.code}${at === undefined ? "" : ` at ${at}`}).`,
      { cause, detail: { sqlstate: facts.code, ...(at === undefined ? {} : { at }) } },
    );
  }
  const hint = REFUSAL_REMEDIES[meaning];
  return new IsthmusError(unavailable(side), `${who} refuses for now (SQLSTATE ${facts.code}).`, {
    cause,
    detail: {
      sqlstate: facts.code,
      reason: meaning === "passing" ? facts.code : meaning,
      ...(hint === undefined ? {} : { hint }),
    },
  });
}

function sayerOf(error: unknown): Omit<RefusalFacts, "code"> {
  const { severity, severity_local, routine } = error as Readonly<Record<string, unknown>>;
  const text = (value: unknown) => (typeof value === "string" ? value : undefined);
  return { severity: text(severity), severity_local: text(severity_local), routine: text(routine) };
}

function unavailable(side: Side): ErrorCode {
  return side === "source" ? "SOURCE_UNAVAILABLE" : "TARGET_UNAVAILABLE";
}

import { setTimeout as sleep } from "node:timers/promises";
import type postgres from "postgres";

/** How the driver and the network say that a connection is gone. */
const LOST = ["CONNECTION_CLOSED", "CONNECTION_DESTROYED", "CONNECTION_ENDED", "ECONNRESET", "EPIPE", "ETIMEDOUT"];

export const isLost = (error: unknown): boolean => LOST.includes(String((error as { code?: unknown } | null)?.code));

/** A transaction whose connection was lost. Other connections of a step are told by their own errors. */
export class LostTransaction extends Error {
  /** As the driver has it: who looks at codes finds the same. */
  readonly code: string;

  constructor(cause: unknown) {
    super("The connection was lost in the middle of a transaction.", { cause });
    this.code = String((cause as { code?: unknown } | null)?.code);
  }
}

/** So long after an error the end of its connection is told at the latest. */
const CLOSING_MS = 1_000;

type Work<T> = (tx: postgres.TransactionSql) => Promise<T>;

/**
 * A client of the driver whose transactions end with their connection. The driver would write the next statement, the
 * ROLLBACK or the COMMIT of such a transaction to a socket that is gone, which throws where nobody can catch it
 * (`TypeError ... nextWrite`). So work whose connection is lost sends nothing more, and gets no answer. `begin`
 * rejects at once, with LostTransaction.
 */
export function abandoningWhatIsLost(open: (onclose: () => void) => postgres.Sql): postgres.Sql {
  let closings = 0;
  const sql = open(() => closings++);
  const begin = async <T>(...given: [string, Work<T>] | [Work<T>]) => {
    const [options, work] = given.length === 2 ? given : ["", given[0]];
    const [atFirst, raised] = [closings, new Set<unknown>()];
    const done = sql.begin(options, async (tx) => {
      const before = closings;
      const refuse = () => {
        if (closings === before) return;
        throw Object.assign(new Error("The connection closed under a statement."), { code: "CONNECTION_CLOSED" });
      };
      try {
        const result = await work(refusing(tx, refuse));
        refuse();
        return result;
      } catch (error) {
        // The work may have lost another connection than this one. The event of this one's end may come after the
        // error.
        for (let waited = 0; isLost(error) && closings === before && waited < CLOSING_MS; waited += 20) await sleep(20);
        if (closings === before) {
          raised.add(error);
          throw error;
        }
        return await new Promise<never>(() => undefined);
      }
    });
    try {
      return await done;
    } catch (error) {
      // What the work itself has raised while this connection stood is another one's.
      if (!isLost(error) || raised.has(error)) throw error;
      for (let waited = 0; closings === atFirst && waited < CLOSING_MS; waited += 20) await sleep(20);
      throw closings === atFirst ? error : new LostTransaction(error);
    }
  };
  return new Proxy(sql, { get: (target, name) => (name === "begin" ? begin : (Reflect.get(target, name) as unknown)) });
}

/** The transaction's handle, which asks before each statement. */
function refusing(tx: postgres.TransactionSql, refuse: () => void): postgres.TransactionSql {
  return new Proxy(tx, {
    apply: (target, self, statement) => {
      refuse();
      const query: unknown = Reflect.apply(target as never, self, statement);
      return query;
    },
    get: (target, name) => {
      if (name === "unsafe") refuse();
      return Reflect.get(target, name) as unknown;
    },
  });
}

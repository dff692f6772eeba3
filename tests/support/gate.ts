import type { Sql, Transaction } from "../../shared/db/connect.ts";
import type { Context } from "../../shared/context.ts";

/** Statements of a page, on both sides, what a scan asks of the source first included: no step of it lies beyond. Its commit is one. */
export const PAGE_STATEMENTS = 8;

/** What it repeats when another page has committed its records meanwhile: versions, read, ids, commit. */
export const REPEATED_STATEMENTS = 4;

/** Lets a page run a number of statements, on either side, and holds it before the next one until it is opened. */
export class Gate {
  readonly #limit: number;
  readonly #opened: Promise<void>;
  #open: () => void = () => undefined;
  #reached: () => void = () => undefined;
  /** Resolves when the page stands before the statement that it may not run yet. */
  readonly reached: Promise<void>;
  passed = 0;

  constructor(limit: number) {
    this.#limit = limit;
    this.#opened = new Promise((open) => (this.#open = open));
    this.reached = new Promise((reached) => (this.#reached = reached));
  }

  open(): void {
    this.#open();
  }

  async pass(): Promise<void> {
    if (this.passed >= this.#limit) {
      this.#reached();
      await this.#opened;
    }
    this.passed += 1;
  }
}

/** The same context, each statement of whose databases goes through the gate. */
export function gated(context: Context, gate: Gate): Context {
  return { ...context, source: gatedSql(context.source, gate), target: gatedSql(context.target, gate) };
}

function gatedSql(sql: Sql, gate: Gate): Sql {
  const through = (db: Sql | Transaction) => ({
    unsafe: async (...args: Parameters<Sql["unsafe"]>) => {
      await gate.pass();
      return db.unsafe(...args);
    },
  });
  return {
    ...through(sql),
    begin: (work: (tx: Transaction) => Promise<unknown>) =>
      sql.begin(async (tx) => {
        const result = await work(through(tx) as unknown as Transaction);
        // Before the COMMIT itself.
        await gate.pass();
        return result;
      }),
  } as unknown as Sql;
}

import type postgres from "postgres";

class TakenBack extends Error {}

/** Does work in a transaction that is then taken back. @returns what the work found. */
export async function tried<T>(owner: postgres.Sql, work: (tx: postgres.TransactionSql) => Promise<T>): Promise<T> {
  let found: { readonly it: T } | undefined;
  try {
    await owner.begin(async (tx) => {
      found = { it: await work(tx) };
      throw new TakenBack();
    });
  } catch (error) {
    if (error instanceof TakenBack && found) return found.it;
    throw error;
  }
  throw new Error("A transaction that was to be taken back has ended without a word.");
}

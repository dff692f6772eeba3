import { connect, type Sql } from "../shared/db/connect.ts";
import { connectionTo } from "./connection.ts";
import type { Environment } from "./settings.ts";

const WHERE = "It is the target's address as isthmus_worker (Connect, Transaction pooler).";

/** Runs work over one connection to the target, as TARGET_DB_URL says. */
export async function onTarget<T>(env: Environment, work: (target: Sql) => Promise<T>): Promise<T> {
  const target = connect(connectionTo(env, "target", "TARGET_DB_URL", WHERE));
  try {
    return await work(target);
  } finally {
    await target.end({ timeout: 5 });
  }
}

import { Client } from "@upstash/qstash";
import { OLD_SCHEDULE_ID, scheduleId } from "../shared/queue/installation.ts";
import { Problem } from "./problem.ts";
import { functionsUrl, required, type Environment } from "./settings.ts";

const EVERY_MINUTE = "* * * * *";

/** A schedule under the name that all installations had once; another installation of the account may live by it. */
export interface OldSchedule {
  readonly destination: string;
  /** It called this installation, and is removed. */
  readonly removed: boolean;
}

export interface Scheduled {
  readonly scheduleId: string;
  readonly destination: string;
  readonly old: OldSchedule | null;
}

/** Creates or updates the QStash schedule that calls this installation's sync-tick. */
export async function createSchedule(env: Environment): Promise<Scheduled> {
  const [id, destination] = names(env);
  const qstash = client(env);
  await asking(() =>
    // No retries: the next minute's call is the retry.
    qstash.schedules.create({ scheduleId: id, destination, cron: EVERY_MINUTE, retries: 0 }),
  );
  return { scheduleId: id, destination, old: await removeOld(qstash, destination) };
}

/** Removes this installation's schedule, and no other one's. */
export async function removeSchedule(env: Environment): Promise<Scheduled & { readonly removed: boolean }> {
  const [id, destination] = names(env);
  const qstash = client(env);
  const removed = (await asking(() => qstash.schedules.list())).some((schedule) => schedule.scheduleId === id);
  if (removed) await asking(() => qstash.schedules.delete(id));
  return { scheduleId: id, destination, removed, old: await removeOld(qstash, destination) };
}

function names(env: Environment): [id: string, destination: string] {
  const url = functionsUrl(env);
  return [scheduleId(url), `${url}/sync-tick`];
}

async function removeOld(qstash: Client, destination: string): Promise<OldSchedule | null> {
  const found = (await asking(() => qstash.schedules.list())).find((schedule) => schedule.scheduleId === OLD_SCHEDULE_ID);
  if (found === undefined) return null;
  const removed = found.destination === destination;
  if (removed) await asking(() => qstash.schedules.delete(OLD_SCHEDULE_ID));
  return { destination: found.destination, removed };
}

function client(env: Environment): Client {
  const token = required(env, "QSTASH_TOKEN", "It stands in the QStash console under the environment variables.");
  const url = env["QSTASH_URL"];
  // One retry: a person is waiting and can run the command again.
  return new Client({ token, retry: { retries: 1 }, ...(url === undefined || url === "" ? {} : { baseUrl: url }) });
}

async function asking<T>(call: () => Promise<T>): Promise<T> {
  try {
    return await call();
  } catch (error) {
    const said = error instanceof Error ? error.message : String(error);
    throw new Problem(
      "QUEUE_UNAVAILABLE",
      `QStash did not take the request: ${said}`,
      "Check QSTASH_TOKEN, QSTASH_URL and FUNCTIONS_URL.",
      {
        cause: error,
      },
    );
  }
}

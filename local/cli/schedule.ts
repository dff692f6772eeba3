import { Client } from "@upstash/qstash";
import { Problem } from "./problem.ts";
import { functionsUrl, required, type Environment } from "./settings.ts";

/** One schedule per installation: creating it again overwrites it. */
export const SCHEDULE_ID = "isthmus-sync-tick";
const EVERY_MINUTE = "* * * * *";

/** Creates or updates the QStash schedule that calls sync-tick. @returns the address it calls. */
export async function createSchedule(env: Environment): Promise<string> {
  const destination = `${functionsUrl(env)}/sync-tick`;
  await asking(() =>
    // No retries: the next minute's call is the retry.
    client(env).schedules.create({ scheduleId: SCHEDULE_ID, destination, cron: EVERY_MINUTE, retries: 0 }),
  );
  return destination;
}

/** @returns whether there was one. */
export async function removeSchedule(env: Environment): Promise<boolean> {
  const qstash = client(env);
  const present = (await asking(() => qstash.schedules.list())).some(({ scheduleId }) => scheduleId === SCHEDULE_ID);
  if (present) await asking(() => qstash.schedules.delete(SCHEDULE_ID));
  return present;
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

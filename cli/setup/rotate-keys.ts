import { callFunction } from "../call-function.ts";
import { Problem } from "../problem.ts";
import type { Environment } from "../settings.ts";
import type { Setup } from "./context.ts";
import { deploy, deployFunctions, teachFunctions } from "./deploy-functions.ts";
import { nextTick } from "./go-live.ts";
import { made, noteMade } from "./made.ts";
import { newMetricsToken } from "./metrics-token.ts";
import { signingKeys } from "./queue-and-cache.ts";
import { scheduler, storeSecret, tickJobs, TICK, untilTicksHaveEnded, withoutTicks } from "./schedule-ticks.ts";
import { deleteOurKeys, makeKey } from "./secret-key.ts";
import { setSecrets } from "./set-secrets.ts";
import type { Found, Step } from "./step.ts";
import { newAddress, setPassword, workerLogin } from "./worker-login.ts";

const TRIES = 60;
const PAUSE_MS = 1_000;
/** Several isolates of a function may answer; all of them are new once so many answers in a row are. */
const IN_A_ROW = 3;

/** A step that is done once in a run, because only the run knows whether it was. */
function once(title: string, due: string, work: (setup: Setup) => Promise<string>): Step<Setup> {
  const said = new WeakMap<Setup, string>();
  return {
    title,
    look: (setup): Promise<Found> => {
      const text = said.get(setup);
      return Promise.resolve(text === undefined ? { state: "due", text: due } : { state: "done", text });
    },
    act: async (setup) => void said.set(setup, await work(setup)),
  };
}

/** What has to have one password. */
const TOGETHER = [workerLogin, setSecrets, deployFunctions];

/** What a run that was broken off has left apart: a role, or functions, without the password that the file has. Ticks would meet that. */
const formerRun: Step<Setup> = {
  title: "former run",
  async look(setup) {
    const due = (await Promise.all(TOGETHER.map((step) => step.look(setup)))).filter(({ state }) => state === "due");
    return due.length === 0
      ? { state: "done", text: "role, file and functions have the same password" }
      : { state: "due", text: `finish it, while no tick is called: ${due.map(({ text }) => text).join("; ")}` };
  },
  async act(setup) {
    await withoutTicks(setup, async () => {
      for (const step of TOGETHER) if ((await step.look(setup)).state === "due") await step.act?.(setup);
      await taken(setup.env());
    });
  },
};

/**
 * The keys that are this installation's alone, one after the other, each in an order in which nobody meets a door
 * that is closed: what is asked learns the new key first, who asks comes second, and the old key goes last. A run
 * that was broken off is repeated: the first step brings role, file and functions together again, with no tick called
 * meanwhile.
 */
export const ROTATE_KEYS: readonly Step<Setup>[] = [
  formerRun,
  once("new secret key", "make one, teach it to functions, scheduler and file, then delete the old one", rotateSecretKey),
  once("new password", "give isthmus_worker one, while no tick is called", rotatePassword),
  once(
    "new metrics token",
    "make one, and teach it to functions and file; scrapers are refused until they have it",
    rotateMetricsToken,
  ),
];

/** QStash's signing keys are its whole account's. Everybody who checks them takes the next one too, so rolling once shuts nobody out; rolling twice does. */
export const ROTATE_SIGNING_KEYS: readonly Step<Setup>[] = [
  setSecrets,
  // Isolates that have not heard of the last roll would refuse what the next one signs.
  deployFunctions,
  once(
    "signing keys",
    "roll the QStash account's; others who use the account need the new pair before it is rolled again",
    rotateSigningKeys,
  ),
];

async function rotateSecretKey(setup: Setup): Promise<string> {
  const { env, keep } = setup;
  const made = await makeKey(setup);
  // The platform gives functions the project's keys when they are deployed.
  await deploy(setup);
  await taken({ ...env(), ISTHMUS_API_KEY: made.value });
  const ticking = (await scheduler(setup)) === "pg_cron";
  if (ticking) await storeSecret(setup, "isthmus_secret_key", made.value);
  keep({ ISTHMUS_API_KEY: made.value });
  if (ticking && (await tickJobs(setup)).get(TICK) === true) {
    await untilTicksHaveEnded(setup);
    await nextTick(setup);
  }
  const deleted = await deleteOurKeys(setup, made.id);
  return `in use; ${deleted === 0 ? "the former was not made by setup: delete it on the dashboard" : `${deleted} deleted`}`;
}

async function rotateMetricsToken(setup: Setup): Promise<string> {
  const METRICS_TOKEN = newMetricsToken();
  // Into the file first: should the rest be broken off, the next run sets what the file has.
  setup.keep({ METRICS_TOKEN });
  if (!made(setup, "secrets").includes("METRICS_TOKEN") && !(await setup.api.secrets()).has("METRICS_TOKEN"))
    noteMade(setup, "secrets", ["METRICS_TOKEN"]);
  await teachFunctions(setup, { METRICS_TOKEN });
  return "in use; give it to what scrapes";
}

async function rotatePassword(setup: Setup): Promise<string> {
  await withoutTicks(setup, async () => {
    // Into the file first: should the rest be broken off, the next run gives the role what the file has.
    setup.keep({ TARGET_DB_URL: await newAddress(setup) });
    await setPassword(setup);
    await teachFunctions(setup, { TARGET_DB_URL: setup.env()["TARGET_DB_URL"] ?? "" });
    await taken(setup.env());
  });
  return "in use; pages that met the old one are delivered again";
}

async function rotateSigningKeys(setup: Setup): Promise<string> {
  const { env, keep } = setup;
  const teach = ({ current, next }: { current: string; next: string }) =>
    teachFunctions(setup, { QSTASH_CURRENT_SIGNING_KEY: current, QSTASH_NEXT_SIGNING_KEY: next });
  const before = await signingKeys(env());
  const known = { current: env()["QSTASH_CURRENT_SIGNING_KEY"], next: env()["QSTASH_NEXT_SIGNING_KEY"] };
  // Rolled twice without a word to the functions, every message would be refused: they first learn the present pair.
  if (before.current !== known.current || before.next !== known.next) await teach(before);
  const after = await signingKeys(env(), true);
  keep({ QSTASH_CURRENT_SIGNING_KEY: after.current, QSTASH_NEXT_SIGNING_KEY: after.next });
  await teach(after);
  return "rolled; messages under way are signed with the key that was next, which is taken";
}

/** What each function says to a call that it takes and that does nothing. */
const CALLS = [
  { path: "sync-trigger", body: undefined, says: undefined },
  { path: "sync-page", body: {}, says: "REQUEST_INVALID" },
  { path: "sync-tick", body: { call: "none" }, says: "REQUEST_INVALID" },
] as const;

/** Waits until every function takes the key and reaches the target. @throws Problem with what they say when they do not within a minute. */
async function taken(env: Environment): Promise<void> {
  let inARow = 0;
  for (let tries = 1; inARow < IN_A_ROW; tries++) {
    const refusal = await firstRefusal(env);
    inARow = refusal === undefined ? inARow + 1 : 0;
    if (refusal !== undefined && tries >= TRIES) {
      throw new Problem(
        "NOT_READY",
        `The functions do not take what is new: ${refusal.message}`,
        "Run the command again: what was done stays done.",
        {
          cause: refusal,
        },
      );
    }
    if (inARow < IN_A_ROW) await new Promise((later) => setTimeout(later, PAUSE_MS));
  }
}

async function firstRefusal(env: Environment): Promise<Problem | undefined> {
  for (const { path, body, says } of CALLS) {
    try {
      await callFunction(env, path, body);
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      if (error.code !== says) return error;
    }
  }
  return undefined;
}

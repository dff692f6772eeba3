import { randomBytes } from "node:crypto";
import { databaseAddress, isPooler } from "../../shared/db/address.ts";
import { ident } from "../../shared/db/ident.ts";
import { queryOne } from "../../shared/db/query.ts";
import { IsthmusError } from "../../shared/errors.ts";
import { onTarget } from "../on-target.ts";
import { Problem } from "../problem.ts";
import { present, type Setup } from "./context.ts";
import { scramVerifier } from "./scram.ts";
import type { Step } from "./step.ts";

const WORKER = "isthmus_worker";
/** A pooler keeps the former password for a while. Supavisor shuts a project out for minutes after ten wrong passwords: fewer. */
const LOGIN_TRIES = 8;
const LOGIN_PAUSE_MS = 5_000;

/** The functions log in as isthmus_worker, through the pooler in transaction mode. */
export const workerLogin: Step<Setup> = {
  title: "worker",
  async look(setup) {
    if (present(setup.env()["TARGET_DB_URL"]) === undefined)
      return { state: "due", text: "give isthmus_worker a password, and write TARGET_DB_URL into the file" };
    workerPassword(setup);
    const problem = await loginProblem(setup);
    if (problem === undefined) return { state: "done", text: "isthmus_worker logs in with TARGET_DB_URL" };
    if (problem === "refused") return { state: "due", text: "give isthmus_worker the password of TARGET_DB_URL" };
    throw problem;
  },
  async act(setup) {
    if (present(setup.env()["TARGET_DB_URL"]) === undefined) setup.keep({ TARGET_DB_URL: await newAddress(setup) });
    await setPassword(setup);
  },
};

/** The address of the target as the worker, with a new password that nobody has typed. */
export async function newAddress({ api, env }: Setup): Promise<string> {
  const password = randomBytes(24).toString("base64url");
  const known = present(env()["TARGET_DB_URL"]);
  if (known !== undefined) return known.replace(/^(postgres(?:ql)?:\/\/[^:@/]+):[^@/]*@/, `$1:${password}@`);
  const { host, port, database } = await api.pooler();
  // Supavisor serves many projects under one name, and knows ours by the part behind the dot; another pooler has its
  // own host name.
  const user = isPooler(host) ? `${WORKER}.${api.ref}` : WORKER;
  return `postgres://${user}:${password}@${host}:${port}/${database}`;
}

/** Gives the role the password that TARGET_DB_URL has, and waits until it opens the door. @throws Problem when it does not within 40 seconds. */
export async function setPassword(setup: Setup): Promise<void> {
  const password = workerPassword(setup);
  await setup.owner.unsafe(`alter role ${ident(WORKER)} with login password '${scramVerifier(password)}'`);
  for (let tries = 0; tries < LOGIN_TRIES; tries++) {
    const problem = await loginProblem(setup);
    if (problem === undefined) return;
    if (problem !== "refused") throw problem;
    await new Promise((later) => setTimeout(later, LOGIN_PAUSE_MS));
  }
  throw new Problem(
    "TARGET_UNAVAILABLE",
    "isthmus_worker has its password, and the pooler still refuses it.",
    "Wait some minutes, then run the command again.",
  );
}

function workerPassword({ env }: Setup): string {
  const url = env()["TARGET_DB_URL"] ?? "";
  const parsed = URL.canParse(url) ? databaseAddress(url) : undefined;
  const password = decodeURIComponent(parsed?.password ?? "");
  if (
    parsed !== undefined &&
    /^isthmus_worker(\.[a-z0-9]+)?$/.test(decodeURIComponent(parsed.username)) &&
    /^[!-~]{12,}$/.test(password)
  )
    return password;
  throw new Problem(
    "CONFIG_INVALID",
    "TARGET_DB_URL is not the target as isthmus_worker with a password of at least 12 ASCII characters.",
    "Delete the line: setup then writes it.",
    { exitCode: 2 },
  );
}

async function loginProblem({ env }: Setup): Promise<Problem | "refused" | undefined> {
  try {
    await onTarget(env(), (target) => queryOne(target, "target", "select 1 as one"));
    return undefined;
  } catch (error) {
    if (error instanceof Problem) return error;
    const cause = error instanceof IsthmusError ? error.cause : error;
    const { code } = (cause ?? {}) as { code?: string };
    // XX000 is what Supavisor says of a role that has no password yet, among others.
    if (code === "28P01" || code === "28000" || code === "XX000") return "refused";
    return new Problem(
      "TARGET_UNAVAILABLE",
      `TARGET_DB_URL leads to no database that answers (${code ?? "no code"}).`,
      "Check its host and port (Connect, Transaction pooler), or delete the line: setup then writes it.",
      { cause: error },
    );
  }
}

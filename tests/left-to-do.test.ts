import { describe, expect, it } from "vitest";
import { installation } from "../clinic/installation.ts";
import type { Check } from "../cli/answers.ts";
import { askFunctions, judged } from "../cli/setup/ask-functions.ts";
import { leftToDo, SETUP } from "../cli/setup/commands.ts";
import type { Setup } from "../cli/setup/context.ts";
import { grantRights } from "../cli/setup/grant-rights.ts";
import { lookAtEntities, lookAtSource } from "../cli/setup/look-around.ts";
import { lookAtQueue } from "../cli/setup/queue-and-cache.ts";
import { sha256 } from "../cli/setup/schema-history.ts";
import { setSecrets } from "../cli/setup/set-secrets.ts";
import type { Found } from "../cli/setup/step.ts";

/** A project in which nothing is, not even the application's tables. */
const empty = (env: Readonly<Record<string, string>>) =>
  ({
    env: () => env,
    owner: () => Promise.resolve([]),
    api: {
      secrets: () => Promise.resolve(new Map(Object.entries(env).map(([name, value]) => [name, sha256(value)]))),
      functions: () => Promise.resolve(["page", "tick", "trigger"].map((name) => ({ slug: `sync-${name}`, status: "ACTIVE" }))),
    },
    entities: [{ name: "offices", target: { table: "offices" } }],
    chosen: false,
  }) as unknown as Setup;

/** The steps that may find that only a person can go on. */
const STEPS = [lookAtSource, lookAtQueue, grantRights, setSecrets, askFunctions];

const actionsOf = (found: readonly Found[]) =>
  leftToDo(
    found.map((one) => ({ title: "", found: one })),
    false,
    "isthmus.env",
  );

describe("what is not ready in the entity files", () => {
  const of = (open: object) => ({
    installation: { ...installation, entities: installation.entities.map((one) => ({ ...one, ...open })) },
  });

  it("ends setup at its first step, which asks nobody else", async () => {
    expect(SETUP[0]).toBe(lookAtEntities);
    expect(await lookAtEntities.look(of({}) as unknown as Setup)).toMatchObject({ state: "done" });
    const look = () => lookAtEntities.look(of({ undecided: ["What?"] }) as unknown as Setup);
    expect(look).toThrow("something in it is undecided: What?");
  });
});

describe("what is left to a person", () => {
  it("is five actions at most where nothing is filled in, each named once", async () => {
    const setup = empty({ ISTHMUS_API_KEY: "sb_secret_x", TARGET_DB_URL: "postgres://isthmus_worker@127.0.0.1/postgres" });
    const seen = [];
    for (const step of STEPS) seen.push(await step.look(setup));
    expect(seen.map(({ state }) => state)).toEqual(STEPS.map(() => "person"));
    const actions = actionsOf(seen);
    expect(actions.map((action) => action.split(/[ ,(]/).slice(0, 2).join(" "))).toEqual([
      "Have the",
      "Make a",
      "Create the",
      "Have it",
    ]);
    for (const name of ["SOURCE_DB_URL", "QSTASH_TOKEN"])
      expect(actions.filter((action) => action.includes(name))).toHaveLength(1);
  });

  it("is five actions at most where the functions find everything wrong", () => {
    const check = {
      ok: false,
      reachable: {
        source: { reachable: false, reason: "tls_other_host" },
        target: { reachable: false, reason: "timeout" },
        redis: { reachable: false, reason: "unreachable" },
        queue: { reachable: false, reason: "unreachable" },
      },
      findings: [{ severity: "fatal", code: "column_missing" }],
      sideEffects: [{ acknowledged: false }],
      error: null,
    } as unknown as Check;
    const tables: Found = { state: "person", text: "", actions: ["Create the application's tables"] };
    const actions = actionsOf([tables, judged(check)]);
    expect(actions).toHaveLength(5);
    for (const action of actions) expect(action).not.toMatch(/\n\s*\d\./);
  });
});

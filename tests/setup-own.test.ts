import { describe, expect, it } from "vitest";
import type { Setup } from "../cli/setup/context.ts";
import { made, noteMade } from "../cli/setup/made.ts";
import type { ApiKey } from "../cli/setup/management-api.ts";
import { sha256 } from "../cli/setup/schema-history.ts";
import { deleteOurKeys, makeKey, ourKeys, secretKey } from "../cli/setup/secret-key.ts";
import { setSecrets } from "../cli/setup/set-secrets.ts";
import type { Step } from "../cli/setup/step.ts";
import { uninstallSteps } from "../cli/setup/uninstall.ts";

interface Given {
  /** What the file has. */
  readonly file?: Readonly<Record<string, string>>;
  readonly secrets?: Readonly<Record<string, string>>;
  readonly keys?: readonly ApiKey[];
  readonly functions?: readonly string[];
  /** Whether our schema is in the database. */
  readonly installed?: boolean;
}

/** A project and a file, both in memory. The platform takes what it is told to take, until it is `down`. */
function project({ file = {}, secrets = {}, keys = [], functions = [], installed = true }: Given) {
  const env: Record<string, string> = { TARGET_DB_URL: "postgres://isthmus_worker@127.0.0.1/postgres", ...file };
  const state = { secrets: new Map(Object.entries(secrets)), keys: [...keys], down: false };
  const change = <T>(work: () => T): Promise<T> =>
    state.down ? Promise.reject(new Error("the platform is down")) : Promise.resolve(work());
  const schema = [{ schema: installed, history: installed, pushed: false }];
  const setup = {
    env: () => env,
    keep: (values: Record<string, string>) => void Object.assign(env, values),
    owner: (text: readonly string[]) => Promise.resolve(text.join("").includes("to_regnamespace('sync')") ? schema : []),
    api: {
      secrets: () => Promise.resolve(new Map([...state.secrets].map(([name, value]) => [name, sha256(value)]))),
      setSecrets: (values: Record<string, string>) =>
        change(() => Object.entries(values).forEach(([name, value]) => state.secrets.set(name, value))),
      unsetSecrets: (names: readonly string[]) => change(() => names.forEach((name) => state.secrets.delete(name))),
      keys: () => Promise.resolve(state.keys),
      createKey: (name: string) =>
        change(() => {
          const one = key(name);
          state.keys.push(one);
          return { id: one.id, value: one.api_key };
        }),
      deleteKey: (id: string) => change(() => (state.keys = state.keys.filter((one) => one.id !== id))),
      functions: () => Promise.resolve(functions.map((slug) => ({ slug, status: "ACTIVE" }))),
    },
  } as unknown as Setup;
  return { setup, state, env };
}

const key = (name: string, type = "secret") => ({ id: `id of ${name}`, name, type, api_key: `sb_${type}_${name}` });

const step = (title: string): Step<Setup> => {
  const found = uninstallSteps("mappings.csv").find((one) => one.title === title);
  if (!found) throw new Error(`uninstall has no step ${title}`);
  return found;
};

describe("the secrets of the functions", () => {
  it("are noted before they are set: of a run that is broken off the next one knows which", async () => {
    const { setup, state } = project({ file: { QSTASH_TOKEN: "ours" } });
    state.down = true;
    await expect(setSecrets.act?.(setup)).rejects.toThrow("down");
    expect([...made(setup, "secrets")].sort()).toEqual(["QSTASH_TOKEN", "TARGET_DB_URL"]);
  });

  it("that were there before are shared, and not noted, with the same value or another", async () => {
    const { setup, state } = project({
      file: { QSTASH_TOKEN: "shared", SOURCE_NAME: "new" },
      secrets: { QSTASH_TOKEN: "shared", SOURCE_NAME: "old" },
    });
    await setSecrets.act?.(setup);
    expect(Object.fromEntries(state.secrets)).toMatchObject({ QSTASH_TOKEN: "shared", SOURCE_NAME: "new" });
    expect(made(setup, "secrets")).toEqual(["TARGET_DB_URL"]);
  });

  it("that the application has set since are not replaced; those that setup has made are", async () => {
    const given = { file: { QSTASH_TOKEN: "ours", SOURCE_NAME: "new" }, secrets: { QSTASH_TOKEN: "ours", SOURCE_NAME: "other" } };
    const { setup } = project(given);
    noteMade(setup, "secrets", ["QSTASH_TOKEN"]);
    await expect(setSecrets.look(setup)).rejects.toMatchObject({
      code: "NAME_TAKEN",
      message: expect.stringMatching(/other values: SOURCE_NAME\.$/) as string,
    });
    noteMade(setup, "secrets", ["SOURCE_NAME"]);
    expect(await setSecrets.look(setup)).toMatchObject({ state: "due", text: "set SOURCE_NAME, TARGET_DB_URL" });
  });

  it("of an installation whose file has no note are replaced as ever: who made them nobody knows", async () => {
    const given = { file: { QSTASH_TOKEN: "new" }, secrets: { QSTASH_TOKEN: "old" } };
    expect(await setSecrets.look(project(given).setup)).toMatchObject({ state: "due" });
    await expect(setSecrets.look(project({ ...given, installed: false }).setup)).rejects.toMatchObject({ code: "NAME_TAKEN" });
  });

  it("are taken back by the note, whatever the file says by now, and those of others stay and are named", async () => {
    const { setup, state } = project({
      file: { QSTASH_TOKEN: "shared" },
      secrets: { QSTASH_TOKEN: "shared", SOURCE_NAME: "ours", PAYMENT_KEY: "the application's" },
    });
    noteMade(setup, "secrets", ["SOURCE_NAME", "SOURCE_DB_CA"]);
    expect(await step("secrets").look(setup)).toEqual({
      state: "due",
      text: "unset SOURCE_NAME; QSTASH_TOKEN stay: setup did not make them",
    });
    await step("secrets").act?.(setup);
    expect([...state.secrets.keys()]).toEqual(["QSTASH_TOKEN", "PAYMENT_KEY"]);
    // What the application makes of that name later is the application's.
    expect(made(setup, "secrets")).toEqual([]);
    expect(await step("secrets").look(setup)).toMatchObject({ state: "done" });
  });
});

describe("the keys of the project", () => {
  const others = [key("isthmus_reports"), key("default"), key("isthmus_0a0a0a0a0a0a", "publishable")];

  it("that setup has made are those of the note, and secret; names say nothing", async () => {
    const { setup, state } = project({ keys: [...others, key("isthmus_0a0a0a0a0a0a"), key("isthmus_0b0b0b0b0b0b")] });
    noteMade(setup, "keys", ["isthmus_0a0a0a0a0a0a", "isthmus_0b0b0b0b0b0b"]);
    const [kept] = (await ourKeys(setup)).map(({ id }) => id ?? undefined);
    expect(await ourKeys(setup)).toEqual([key("isthmus_0a0a0a0a0a0a"), key("isthmus_0b0b0b0b0b0b")]);
    expect(await deleteOurKeys(setup, kept)).toBe(1);
    expect(made(setup, "keys")).toEqual(["isthmus_0a0a0a0a0a0a"]);
    expect(await step("secret key").look(setup)).toEqual({ state: "due", text: "delete isthmus_0a0a0a0a0a0a" });
    // The key that has the same name is another one, of another kind.
    state.keys = state.keys.map((one) => ({ ...one, id: `${one.type} ${one.name}` }));
    await step("secret key").act?.(setup);
    expect(state.keys.map(({ name, type }) => `${type} ${name}`)).toEqual(others.map(({ name, type }) => `${type} ${name}`));
    expect(made(setup, "keys")).toEqual([]);
  });

  it("that are none of setup's keep an uninstall from deleting any", async () => {
    const { setup } = project({ keys: others });
    expect(await step("secret key").look(setup)).toEqual({ state: "done", text: "none that setup made" });
  });

  it("are noted before they are made: the next run takes up what a broken-off one has made, and makes no second", async () => {
    const broken = project({ keys: others });
    broken.state.down = true;
    await expect(makeKey(broken.setup)).rejects.toThrow("down");
    const [name = "", ...more] = made(broken.setup, "keys");
    expect([name, more]).toEqual([expect.stringMatching(/^isthmus_[0-9a-f]{12}$/), []]);

    // The platform had made it, and the answer was lost.
    const next = project({ file: broken.env, keys: [...others, key(name)] });
    expect(await secretKey.look(next.setup)).toMatchObject({ state: "due", text: expect.stringContaining(name) as string });
    await secretKey.act?.(next.setup);
    expect(next.env["ISTHMUS_API_KEY"]).toBe(key(name).api_key);
    expect(next.state.keys).toHaveLength(others.length + 1);
  });

  it("are made where the platform shows the value of none", async () => {
    const hidden = { ...key("isthmus_0a0a0a0a0a0a"), api_key: "sb_sec···" };
    const { setup, state, env } = project({ keys: [...others, hidden] });
    noteMade(setup, "keys", [hidden.name]);
    await secretKey.act?.(setup);
    expect(state.keys).toHaveLength(others.length + 2);
    expect(env["ISTHMUS_API_KEY"]).toBe(state.keys.at(-1)?.api_key);
  });
});

describe("the functions of the project", () => {
  it("that an uninstall deletes are our three: one of the application's whose name begins like theirs stays", async () => {
    const { setup } = project({ functions: ["sync-page", "sync-tick", "sync-calendar", "orders"] });
    expect(await step("functions").look(setup)).toEqual({ state: "due", text: "delete sync-page, sync-tick" });
    const others = project({ functions: ["sync-calendar"] });
    expect(await step("functions").look(others.setup)).toMatchObject({ state: "done" });
  });
});
